// Query text to tokens. Words stay words: whether `sum`, `offset` or `start` is a keyword or a metric depends on where it
// stands, which only the parser knows. The lexer knows two places: inside braces and inside brackets, where ':' is no part of a word.
internal import ObsCore

struct Token {
    enum Kind: Equatable {
        case end, word, number, duration, string
        case leftParen, rightParen, leftBrace, rightBrace, leftBracket, rightBracket, comma, colon, at
        case plus, minus, times, divide, modulo, power
        case equalEqual, notEqual, less, lessEqual, greater, greaterEqual, trim
        /// `=`, `=~`, `!~`: only in label matching.
        case equal, matches, matchesNot
        /// The text is a message; nothing follows.
        case error
    }
    var kind: Kind
    /// As written, or the message of an error.
    var text: String
    var offset: Int
    var end: Int
    /// Of a number; seconds of a duration.
    var number = 0.0
    /// Of a string, escapes resolved. Need not be UTF-8.
    var bytes: [UInt8] = []

    var word: String { kind == .word ? text.lowercased() : "" }

    /// How Prometheus' parser names a token it did not expect.
    var description: String {
        switch kind {
        case .end: return "end of input"
        case .number: return "number \"\(text)\""
        case .duration: return "duration \"\(text)\""
        case .string: return "string \(text.count > 10 ? "\(text.prefix(10))..." : text)"
        case .word:
            if setOperatorWords.contains(word) { return "<op:\(text)>" }
            if AggregationOperator(rawValue: word) != nil { return "<aggr:\(text)>" }
            return keywords.contains(word) ? "<\(text)>" : "identifier \"\(text)\""
        case .plus, .minus, .times, .divide, .modulo, .power, .equalEqual, .notEqual, .less, .lessEqual, .greater, .greaterEqual, .trim, .matches, .matchesNot:
            return "<op:\(text)>"
        default: return "\"\(text)\""
        }
    }
}

let setOperatorWords: Set<String> = ["and", "or", "unless", "atan2"]
let keywords: Set<String> = [
    "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "start", "end", "step", "range", "anchored", "smoothed",
]

struct Lexer {
    private let bytes: [UInt8]
    private var position = 0
    private var tokens: [Token] = []
    private var insideBraces = false
    private var insideBrackets = false
    private var parentheses = 0

    /// All tokens; the last is `.end` or `.error`.
    static func tokens(of text: [UInt8]) -> [Token] {
        var lexer = Lexer(bytes: text)
        while lexer.step() {}
        return lexer.tokens
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private func peek(_ ahead: Int = 0) -> UInt8 { position + ahead < bytes.count ? bytes[position + ahead] : 0 }

    private mutating func emit(_ kind: Token.Kind, _ length: Int) -> Bool {
        tokens.append(Token(kind: kind, text: slice(position, position + length), offset: position, end: position + length))
        position += length
        return true
    }

    private mutating func fail(_ message: String, at offset: Int? = nil) -> Bool {
        tokens.append(Token(kind: .error, text: message, offset: offset ?? position, end: bytes.count))
        return false
    }

    private func slice(_ from: Int, _ to: Int) -> String { String(decoding: bytes[from..<to], as: UTF8.self) }

    private mutating func skipBlanks() {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"): position += 1
            case UInt8(ascii: "#"): while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
            default: return
            }
        }
    }

    /// Reads one token; false at the end.
    private mutating func step() -> Bool {
        skipBlanks()
        guard position < bytes.count else { return finish() }
        let byte = bytes[position]
        if isWordStart(byte) { return word() }
        if isDigit(byte) || (byte == UInt8(ascii: ".") && isDigit(peek(1))) { return number() }
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "'"): return quotedString(byte)
        case UInt8(ascii: "`"): return rawString()
        default: return symbol(byte)
        }
    }

    private mutating func finish() -> Bool {
        if insideBraces { return fail("unexpected end of input inside braces") }
        if insideBrackets { return fail("unexpected end of input in duration expression") }
        if parentheses > 0 { return fail("unclosed left parenthesis") }
        tokens.append(Token(kind: .end, text: "", offset: position, end: position))
        return false
    }

    private mutating func symbol(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "("):
            parentheses += 1
            return emit(.leftParen, 1)
        case UInt8(ascii: ")"):
            parentheses -= 1
            return parentheses < 0 ? fail("unexpected right parenthesis ')'") : emit(.rightParen, 1)
        case UInt8(ascii: "{"):
            if insideBraces { return fail("unexpected left brace '{'") }
            insideBraces = true
            return emit(.leftBrace, 1)
        case UInt8(ascii: "}"):
            if !insideBraces { return fail("unexpected right brace '}'") }
            insideBraces = false
            return emit(.rightBrace, 1)
        case UInt8(ascii: "["):
            if insideBrackets { return fail("unexpected left bracket '['") }
            insideBrackets = true
            return emit(.leftBracket, 1)
        case UInt8(ascii: "]"):
            if !insideBrackets { return fail("unexpected right bracket ']'") }
            insideBrackets = false
            return emit(.rightBracket, 1)
        case UInt8(ascii: ","): return emit(.comma, 1)
        case UInt8(ascii: ":"): return emit(.colon, 1)
        case UInt8(ascii: "@"): return emit(.at, 1)
        case UInt8(ascii: "+"): return emit(.plus, 1)
        case UInt8(ascii: "-"): return emit(.minus, 1)
        case UInt8(ascii: "*"): return emit(.times, 1)
        case UInt8(ascii: "/"): return emit(.divide, 1)
        case UInt8(ascii: "%"): return emit(.modulo, 1)
        case UInt8(ascii: "^"): return emit(.power, 1)
        case UInt8(ascii: "<"):
            if peek(1) == UInt8(ascii: "/") { return emit(.trim, 2) }
            return peek(1) == UInt8(ascii: "=") ? emit(.lessEqual, 2) : emit(.less, 1)
        case UInt8(ascii: ">"):
            if peek(1) == UInt8(ascii: "/") { return emit(.trim, 2) }
            return peek(1) == UInt8(ascii: "=") ? emit(.greaterEqual, 2) : emit(.greater, 1)
        case UInt8(ascii: "="):
            if peek(1) == UInt8(ascii: "~") { return emit(.matches, 2) }
            return peek(1) == UInt8(ascii: "=") && !insideBraces ? emit(.equalEqual, 2) : emit(.equal, 1)
        case UInt8(ascii: "!"):
            if peek(1) == UInt8(ascii: "=") { return emit(.notEqual, 2) }
            if peek(1) == UInt8(ascii: "~") { return emit(.matchesNot, 2) }
            return fail("unexpected character after '!': \(character(at: position + 1))")
        default: return fail("unexpected character\(insideBraces ? " inside braces" : ""): \(character(at: position))")
        }
    }

    private func character(at offset: Int) -> String {
        guard offset < bytes.count, let scalar = slice(offset, min(offset + 4, bytes.count)).unicodeScalars.first else { return "end of input" }
        return "'\(scalar)'"
    }

    private func isWordStart(_ byte: UInt8) -> Bool {
        isLetter(byte) || (byte == UInt8(ascii: ":") && !insideBraces && !insideBrackets)
    }

    private mutating func word() -> Bool {
        var length = 1
        while isWordStart(peek(length)) || isDigit(peek(length)) { length += 1 }
        let lower = slice(position, position + length).lowercased()
        if !insideBraces, lower == "inf" || lower == "nan" {
            let done = emit(.number, length)
            tokens[tokens.count - 1].number = lower == "inf" ? .infinity : .nan
            return done
        }
        return emit(.word, length)
    }

    private mutating func number() -> Bool {
        var length = 0
        while isDigit(peek(length)) || isLetter(peek(length)) || peek(length) == UInt8(ascii: ".") || isExponentSign(length) { length += 1 }
        let text = slice(position, position + length)
        if let value = parseNumber(text) {
            let done = emit(.number, length)
            tokens[tokens.count - 1].number = value
            return done
        }
        if let millis = parseDurationMillis(text) {
            let done = emit(.duration, length)
            tokens[tokens.count - 1].number = Double(millis) / 1000
            return done
        }
        return fail("bad number or duration syntax: \"\(text)\"")
    }

    private func isExponentSign(_ length: Int) -> Bool {
        guard length > 0, peek(length) == UInt8(ascii: "+") || peek(length) == UInt8(ascii: "-") else { return false }
        let hexadecimal = peek(1) == UInt8(ascii: "x") || peek(1) == UInt8(ascii: "X")
        return !hexadecimal && (peek(length - 1) | 0x20) == UInt8(ascii: "e")
    }

    private mutating func rawString() -> Bool {
        var at = position + 1
        while at < bytes.count, bytes[at] != UInt8(ascii: "`") { at += 1 }
        guard at < bytes.count else { return fail("unterminated raw string") }
        let content = Array(bytes[position + 1..<at])
        let done = emit(.string, at + 1 - position)
        tokens[tokens.count - 1].bytes = content
        return done
    }

    private mutating func quotedString(_ quote: UInt8) -> Bool {
        var at = position + 1
        var content: [UInt8] = []
        while true {
            guard at < bytes.count, bytes[at] != UInt8(ascii: "\n") else { return fail("unterminated quoted string") }
            if bytes[at] == quote { break }
            if bytes[at] == UInt8(ascii: "\\") {
                guard appendEscape(&content, &at, quote) else { return fail("unknown escape sequence in string", at: at) }
            } else {
                content.append(bytes[at])
                at += 1
            }
        }
        let done = emit(.string, at + 1 - position)
        tokens[tokens.count - 1].bytes = content
        return done
    }

    /// Resolves the escape at `at` (Go's, as PromQL documents); false when there is no such escape.
    private func appendEscape(_ content: inout [UInt8], _ at: inout Int, _ quote: UInt8) -> Bool {
        guard at + 1 < bytes.count else { return false }
        let kind = bytes[at + 1]
        if let plain = simpleEscapes[kind] ?? (kind == quote ? quote : nil) {
            content.append(plain)
            at += 2
            return true
        }
        let (skip, digits, radix): (Int, Int, UInt32)
        switch kind {
        case UInt8(ascii: "x"): (skip, digits, radix) = (2, 2, 16)
        case UInt8(ascii: "u"): (skip, digits, radix) = (2, 4, 16)
        case UInt8(ascii: "U"): (skip, digits, radix) = (2, 8, 16)
        case UInt8(ascii: "0")...UInt8(ascii: "7"): (skip, digits, radix) = (1, 3, 8)
        default: return false
        }
        guard at + skip + digits <= bytes.count, let value = UInt32(slice(at + skip, at + skip + digits), radix: Int(radix)) else { return false }
        if digits == 4 || digits == 8 {
            guard let scalar = Unicode.Scalar(value) else { return false }
            content.append(contentsOf: String(Character(scalar)).utf8)
        } else {
            guard let byte = UInt8(exactly: value) else { return false }
            content.append(byte)
        }
        at += skip + digits
        return true
    }
}

private let simpleEscapes: [UInt8: UInt8] = [
    UInt8(ascii: "a"): 7, UInt8(ascii: "b"): 8, UInt8(ascii: "f"): 12, UInt8(ascii: "n"): 10, UInt8(ascii: "r"): 13, UInt8(ascii: "t"): 9,
    UInt8(ascii: "v"): 11, UInt8(ascii: "\\"): UInt8(ascii: "\\"),
]

private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
private func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z") || byte == UInt8(ascii: "_") }

/// A decimal or hexadecimal number, underscores between digits allowed; nil for anything else.
func parseNumber(_ text: String) -> Double? {
    guard let first = text.utf8.first, isDigit(first) || first == UInt8(ascii: ".") else { return nil }
    guard !text.contains("__"), !text.hasSuffix("_"), !text.hasPrefix("_") else { return nil }
    let digits = text.contains("_") ? String(text.filter { $0 != "_" }) : text
    if digits.lowercased().hasPrefix("0x") { return UInt64(digits.dropFirst(2), radix: 16).map { Double($0) } }
    guard
        digits.utf8.allSatisfy({ isDigit($0) || [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"), UInt8(ascii: "+"), UInt8(ascii: "-")].contains($0) })
    else { return nil }
    if let value = Double(digits) { return value }
    if digits.hasSuffix(".") { return Double(digits.dropLast()) }
    return nil
}
