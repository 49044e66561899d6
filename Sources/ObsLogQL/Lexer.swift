internal import ObsCore

/// A word of a query, with the place it began (both from 1) for error messages.
struct Token {
    enum Kind: Equatable {
        case identifier, string, number, duration, bytes, flag, end
        /// Punctuation, spelled in `text`.
        case symbol
    }

    var kind: Kind
    /// Source text; for strings the decoded value, for flags the name without dashes.
    var text: String
    var line: Int
    var column: Int

    /// How Loki's parser names it.
    var name: String {
        switch kind {
        case .identifier: reservedWords.contains(text) ? text : "IDENTIFIER"
        case .string: "STRING"
        case .number: "NUMBER"
        case .duration: "DURATION"
        case .bytes: "BYTES"
        case .flag: "PARSER_FLAG"
        case .end: "$end"
        case .symbol: text
        }
    }
}

/// Words that are tokens of their own in Loki's grammar, so that an unexpected one is called by its name.
private let reservedWords: Set<String> = [
    "json", "logfmt", "regexp", "pattern", "unpack", "unwrap", "line_format", "label_format", "drop", "keep", "decolorize", "by", "without", "on", "ignoring",
    "bool", "offset", "and", "or", "unless", "group_left", "group_right",
]

func parseError(_ message: String, line: Int, column: Int) -> ObsError {
    ObsError(.badInput, "parse error at line \(line), col \(column): \(message)")
}

/// Errors of meaning, which Loki reports without a place.
func parseError(_ message: String) -> ObsError { ObsError(.badInput, "parse error : \(message)") }

/// Cuts a query into tokens; comments (`# …`) and blanks are dropped.
struct Lexer {
    private let source: [UInt8]
    private var at = 0
    private var line = 1
    private var lineStart = 0

    init(_ text: String) { source = Array(text.utf8) }

    /// Chains (`a and b and …`) become nested nodes: this bounds the stack their evaluation needs.
    static let tokensMax = 10_000

    static func tokens(_ text: String) throws(ObsError) -> [Token] {
        var lexer = Lexer(text)
        var result: [Token] = []
        repeat {
            result.append(try lexer.next())
            if result.count > tokensMax { throw parseError("query is too long, more than \(tokensMax) words") }
        } while result[result.count - 1].kind != .end
        return result
    }

    private func byte(_ offset: Int = 0) -> UInt8 { at + offset < source.count ? source[at + offset] : 0 }

    private mutating func skipBlanks() {
        while at < source.count {
            switch source[at] {
            case UInt8(ascii: "\n"):
                at += 1
                line += 1
                lineStart = at
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): at += 1
            case UInt8(ascii: "#"): while at < source.count, source[at] != UInt8(ascii: "\n") { at += 1 }
            default: return
            }
        }
    }

    private mutating func next() throws(ObsError) -> Token {
        skipBlanks()
        var token = Token(kind: .end, text: "", line: line, column: at - lineStart + 1)
        guard at < source.count else { return token }
        let first = source[at]
        if first == UInt8(ascii: "\"") || first == UInt8(ascii: "`") {
            token.kind = .string
            token.text = try string(token)
        } else if isLetter(first) {
            let start = at
            while at < source.count, isLetter(source[at]) || isDigit(source[at]) || source[at] == UInt8(ascii: ":") || source[at] == UInt8(ascii: ".") {
                at += 1
            }
            token.kind = .identifier
            token.text = String(decoding: source[start..<at], as: UTF8.self)
        } else if isDigit(first) || (first == UInt8(ascii: ".") && isDigit(byte(1))) {
            try number(&token)
        } else if first == UInt8(ascii: "-"), byte(1) == UInt8(ascii: "-"), isLetter(byte(2)) {
            at += 2
            let start = at
            while at < source.count, isLetter(source[at]) || source[at] == UInt8(ascii: "-") { at += 1 }
            token.kind = .flag
            token.text = String(decoding: source[start..<at], as: UTF8.self)
        } else {
            try symbol(&token)
        }
        return token
    }

    private mutating func symbol(_ token: inout Token) throws(ObsError) {
        token.kind = .symbol
        let pair = String(decoding: [byte(0), byte(1)], as: UTF8.self)
        if ["|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<="].contains(pair) {
            token.text = pair
            at += 2
            return
        }
        let single = byte(0)
        guard "{}()[],|=<>+-*/%^".utf8.contains(single) else {
            let rest = String(decoding: source[at...], as: UTF8.self)
            throw parseError("syntax error: unexpected char \(quoted(rest.prefix(1)))", line: token.line, column: token.column)
        }
        token.text = String(decoding: [single], as: UTF8.self)
        at += 1
    }

    /// Numbers, durations and sizes: a run of digits, letters and dots, told apart by what reads it.
    private mutating func number(_ token: inout Token) throws(ObsError) {
        let start = at
        while at < source.count {
            let c = source[at]
            let exponentSign =
                (c == UInt8(ascii: "+") || c == UInt8(ascii: "-")) && at > start && (source[at - 1] | 0x20) == UInt8(ascii: "e") && isDigit(byte(1))
            // µ is C2 B5 or CE BC.
            guard isDigit(c) || isLetter(c) || c == UInt8(ascii: ".") || c >= 0x80 || exponentSign else { break }
            at += 1
        }
        token.text = String(decoding: source[start..<at], as: UTF8.self)
        if Double(token.text) != nil, !token.text.lowercased().hasPrefix("0x") {
            token.kind = .number
        } else if parseGoDuration(token.text) != nil {
            token.kind = .duration
        } else if parseByteSize(token.text) != nil {
            token.kind = .bytes
        } else {
            throw parseError("syntax error: unexpected \(quoted(token.text)), not a number, duration or size", line: token.line, column: token.column)
        }
    }

    private mutating func string(_ token: Token) throws(ObsError) -> String {
        let quote = source[at]
        at += 1
        var bytes: [UInt8] = []
        while at < source.count {
            let c = source[at]
            at += 1
            if c == quote { return String(decoding: bytes, as: UTF8.self) }
            if c == UInt8(ascii: "\n") {
                if quote == UInt8(ascii: "\"") { break }
                line += 1
                lineStart = at
            }
            if c == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
                guard let escaped = unescape(source, &at) else { throw parseError("invalid char escape", line: token.line, column: token.column) }
                bytes += escaped
            } else {
                bytes.append(c)
            }
        }
        throw parseError("literal not terminated", line: token.line, column: token.column)
    }
}

/// One Go escape, `at` being past the backslash; nil when it is none.
func unescape(_ source: [UInt8], _ at: inout Int) -> [UInt8]? {
    guard at < source.count else { return nil }
    let c = source[at]
    at += 1
    func digits(_ count: Int, radix: UInt32) -> UInt32? {
        var value: UInt32 = 0
        guard at + count <= source.count else { return nil }
        for index in at..<at + count {
            guard let digit = hexValue(source[index]), UInt32(digit) < radix else { return nil }
            value = value &* radix &+ UInt32(digit)
        }
        return value
    }
    switch c {
    case UInt8(ascii: "n"): return [0x0a]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "r"): return [0x0d]
    case UInt8(ascii: "a"): return [0x07]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0c]
    case UInt8(ascii: "v"): return [0x0b]
    case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "/"): return [c]
    case UInt8(ascii: "x"):
        guard let value = digits(2, radix: 16) else { return nil }
        at += 2
        return [UInt8(truncatingIfNeeded: value)]
    case UInt8(ascii: "u"), UInt8(ascii: "U"):
        let count = c == UInt8(ascii: "u") ? 4 : 8
        guard let value = digits(count, radix: 16), let scalar = Unicode.Scalar(value) else { return nil }
        at += count
        return Array(String(scalar).utf8)
    case UInt8(ascii: "0")...UInt8(ascii: "7"):
        at -= 1
        guard let value = digits(3, radix: 8), value < 256 else { return nil }
        at += 3
        return [UInt8(value)]
    default: return nil
    }
}

func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z") || byte == UInt8(ascii: "_") }
func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
