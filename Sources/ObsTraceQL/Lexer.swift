internal import ObsCore

struct Token {
    enum Kind: Equatable {
        case identifier, string, end
        case integer(Int64)
        case float(Double)
        case duration(Int64)
        /// `span.http.method`; the name with its quotes undone.
        case attribute(AttributeScope, String, ofParent: Bool)
        /// `span:duration`
        case scopedIntrinsic
        case symbol
    }

    var kind: Kind
    /// Source text; of a string its value.
    var text: String
    var line: Int
    var column: Int

    var name: String {
        switch kind {
        case .identifier, .scopedIntrinsic: text.isEmpty ? "IDENTIFIER" : text
        case .string: "STRING"
        case .end: "$end"
        case .integer: "INTEGER"
        case .float: "FLOAT"
        case .duration: "DURATION"
        case .attribute: "attribute \(text)"
        case .symbol: text
        }
    }
}

enum AttributeScope: String, Sendable, CaseIterable {
    case none = ""
    case span, resource, event, link, instrumentation
}

func parseError(_ message: String, _ token: Token) -> ObsError {
    ObsError(.badInput, "parse error at line \(token.line), col \(token.column): \(message)", place: "\(token.line):\(token.column)")
}

/// Cuts a query into tokens. An attribute's name runs to the next blank or one of `{ } ( ) , = ! < > ~ & | ^`: `span.a+1` is one name.
struct Lexer {
    /// Bounds nesting by chains of operators.
    static let tokensMax = 5000

    private let source: [UInt8]
    private var at = 0
    private var line = 1
    private var lineStart = 0

    static func tokens(_ text: String) throws(ObsError) -> [Token] {
        var lexer = Lexer(source: Array(text.utf8))
        var result: [Token] = []
        repeat {
            let token = try lexer.next()
            result.append(token)
            if result.count > tokensMax { throw parseError("query is too long, more than \(tokensMax) words", token) }
        } while result[result.count - 1].kind != .end
        return result
    }

    private init(source: [UInt8]) { self.source = source }

    private func byte(_ offset: Int = 0) -> UInt8 { at + offset < source.count ? source[at + offset] : 0 }

    private mutating func next() throws(ObsError) -> Token {
        while at < source.count, source[at] <= 0x20 {
            if source[at] == UInt8(ascii: "\n") {
                line += 1
                lineStart = at + 1
            }
            at += 1
        }
        var token = Token(kind: .end, text: "", line: line, column: at - lineStart + 1)
        guard at < source.count else { return token }
        let start = at
        let first = source[at]
        if first == UInt8(ascii: "\"") || first == UInt8(ascii: "`") {
            token.kind = .string
            token.text = try string(token)
        } else if isDigit(first) || (first == UInt8(ascii: ".") && isDigit(byte(1))) {
            try number(&token)
        } else if first == UInt8(ascii: ".") {
            at += 1
            token.kind = .attribute(.none, try attributeName(token), ofParent: false)
            token.text = text(from: start)
        } else if isLetter(first) {
            try word(&token)
        } else {
            try symbol(&token)
        }
        return token
    }

    private func text(from start: Int) -> String { String(decoding: source[start..<at], as: UTF8.self) }

    private mutating func word(_ token: inout Token) throws(ObsError) {
        let start = at
        while at < source.count, isLetter(source[at]) || isDigit(source[at]) { at += 1 }
        var word = text(from: start)
        var ofParent = false
        if word == "parent", byte() == UInt8(ascii: ".") {
            ofParent = true
            at += 1
            let inner = at
            while at < source.count, isLetter(source[at]) || isDigit(source[at]) { at += 1 }
            word = text(from: inner)
            if AttributeScope(rawValue: word) == nil || word.isEmpty || byte() != UInt8(ascii: ".") {
                at = inner
                token.kind = .attribute(.none, try attributeName(token), ofParent: true)
                token.text = text(from: start)
                return
            }
        }
        if byte() == UInt8(ascii: "."), let scope = AttributeScope(rawValue: word), scope != .none {
            at += 1
            token.kind = .attribute(scope, try attributeName(token), ofParent: ofParent)
        } else if byte() == UInt8(ascii: ":"), ["span", "trace", "event", "link", "instrumentation"].contains(word) {
            at += 1
            while at < source.count, isLetter(source[at]) { at += 1 }
            token.kind = .scopedIntrinsic
        } else {
            token.kind = .identifier
        }
        token.text = text(from: start)
    }

    private mutating func attributeName(_ token: Token) throws(ObsError) -> String {
        var name: [UInt8] = []
        while at < source.count {
            let c = source[at]
            if c == UInt8(ascii: "\"") {
                name += Array(try string(token).utf8)
            } else if c <= 0x20 || "{}(),=!<>~&|^".utf8.contains(c) {
                break
            } else {
                name.append(c)
                at += 1
            }
        }
        if name.isEmpty { throw parseError("syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER", token) }
        return String(decoding: name, as: UTF8.self)
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
                line += 1
                lineStart = at
            }
            guard c == UInt8(ascii: "\\"), quote == UInt8(ascii: "\""), at < source.count else {
                bytes.append(c)
                continue
            }
            let kind = source[at]
            at += 1
            switch kind {
            case UInt8(ascii: "n"): bytes.append(0x0a)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "r"): bytes.append(0x0d)
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "'"): bytes.append(kind)
            default: throw parseError("invalid char escape", token)
            }
        }
        throw parseError("literal not terminated", token)
    }

    private mutating func number(_ token: inout Token) throws(ObsError) {
        let start = at
        while at < source.count, isDigit(source[at]) || isLetter(source[at]) || source[at] == UInt8(ascii: ".") || source[at] >= 0x80 {
            at += 1
            let exponent = (source[at - 1] | 0x20) == UInt8(ascii: "e") && (byte() == UInt8(ascii: "-") || byte() == UInt8(ascii: "+")) && isDigit(byte(1))
            if exponent { at += 1 }
        }
        token.text = text(from: start)
        if let value = Int64(token.text) {
            token.kind = .integer(value)
        } else if let value = Double(token.text), !token.text.lowercased().hasPrefix("0x") {
            token.kind = .float(value)
        } else if let nanos = parseGoDuration(token.text), nanos < 9.2e18 {
            token.kind = .duration(Int64(nanos.rounded()))
        } else {
            throw parseError("syntax error: unexpected \(quoted(token.text)), not a number or duration", token)
        }
    }

    private mutating func symbol(_ token: inout Token) throws(ObsError) {
        token.kind = .symbol
        for length in [3, 2] where at + length <= source.count {
            let text = String(decoding: source[at..<at + length], as: UTF8.self)
            if ["!>>", "!<<", "&>>", "&<<", "&&", "||", "!=", "!~", "=~", ">=", "<=", ">>", "<<", "!>", "!<", "&>", "&<", "&~"].contains(text) {
                token.text = text
                at += length
                return
            }
        }
        guard "{}(),=<>~!|+-*/%^".utf8.contains(source[at]) else {
            throw parseError("syntax error: unexpected \(quoted(String(decoding: source[at...].prefix(4), as: UTF8.self).prefix(1)))", token)
        }
        token.text = String(decoding: [source[at]], as: UTF8.self)
        at += 1
    }
}

func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= UInt8(ascii: "a") && (byte | 0x20) <= UInt8(ascii: "z") || byte == UInt8(ascii: "_") }
func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
