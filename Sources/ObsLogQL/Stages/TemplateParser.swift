internal import ObsCore

/// Reads the template text into nodes.
struct TemplateParser {
    private let source: [UInt8]
    private var at = 0
    private var depth = 0
    private static let depthMax = 50

    init(_ text: String) { source = Array(text.utf8) }

    private func failure(_ message: String) -> ObsError { parseError("invalid template: template: \(message)") }

    mutating func template() throws(ObsError) -> [Template.Node] {
        let (nodes, stop) = try body()
        if let stop { throw failure("unexpected {{\(stop)}}") }
        return nodes
    }

    /// Nodes up to the end of the text, or to an `end` or `else` action, which is given back.
    private mutating func body() throws(ObsError) -> (nodes: [Template.Node], stop: String?) {
        var nodes: [Template.Node] = []
        var trimsNext = false
        while true {
            let start = at
            while at < source.count, !source[at...].starts(with: "{{".utf8) { at += 1 }
            var text = Array(source[start..<at])
            let isEnd = at >= source.count
            let trims = !isEnd && at + 3 < source.count && source[at + 2] == UInt8(ascii: "-") && source[at + 3] <= 0x20
            if trims { while let last = text.last, last <= 0x20 { text.removeLast() } }
            if trimsNext { text = Array(text.drop { $0 <= 0x20 }) }
            if !text.isEmpty { nodes.append(.text(text)) }
            if isEnd { return (nodes, nil) }
            at += trims ? 3 : 2
            if source[at...].starts(with: "/*".utf8) {
                while at < source.count, !source[at...].starts(with: "*/".utf8) { at += 1 }
                at = min(at + 2, source.count)
                trimsNext = try close()
                continue
            }
            let tokens = try action()
            trimsNext = actionTrimmedRight
            if let node = try node(tokens, &nodes) { return (nodes, node) }
        }
    }

    private enum Word: Equatable {
        case name(String)
        case field(String)
        case literal(String)
        case number(String)
        case dot, pipe, open, close
        case variable
    }

    private var actionTrimmedRight = false

    private mutating func close() throws(ObsError) -> Bool {
        while at < source.count, source[at] <= 0x20 { at += 1 }
        let trims = at < source.count && source[at] == UInt8(ascii: "-")
        if trims { at += 1 }
        guard source[min(at, source.count)...].starts(with: "}}".utf8) else { throw failure("unclosed action") }
        at += 2
        return trims
    }

    /// Words of an action up to `}}`.
    private mutating func action() throws(ObsError) -> [Word] {
        var words: [Word] = []
        while true {
            while at < source.count, source[at] <= 0x20 { at += 1 }
            guard at < source.count else { throw failure("unclosed action") }
            let byte = source[at]
            if source[at...].starts(with: "}}".utf8) || source[at...].starts(with: "-}}".utf8) {
                actionTrimmedRight = try close()
                return words
            }
            switch byte {
            case UInt8(ascii: "|"):
                words.append(.pipe)
                at += 1
            case UInt8(ascii: "("):
                words.append(.open)
                at += 1
            case UInt8(ascii: ")"):
                words.append(.close)
                at += 1
            case UInt8(ascii: "\""), UInt8(ascii: "`"): words.append(.literal(try string(byte)))
            case UInt8(ascii: "."):
                at += 1
                let name = word()
                words.append(name.isEmpty ? .dot : .field(name))
            case UInt8(ascii: "$"):
                at += 1
                words.append(.variable)
                if at < source.count, source[at] == UInt8(ascii: ".") { words.removeLast() }
            default:
                if isLetter(byte) {
                    words.append(.name(word()))
                } else if isDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") {
                    let start = at
                    at += 1
                    while at < source.count, isDigit(source[at]) || isLetter(source[at]) || source[at] == UInt8(ascii: ".") { at += 1 }
                    words.append(.number(String(decoding: source[start..<at], as: UTF8.self)))
                } else {
                    throw failure("unexpected \(quoted(String(decoding: [byte], as: UTF8.self))) in command")
                }
            }
        }
    }

    private mutating func word() -> String {
        let start = at
        while at < source.count, isLetter(source[at]) || isDigit(source[at]) { at += 1 }
        return String(decoding: source[start..<at], as: UTF8.self)
    }

    private mutating func string(_ quote: UInt8) throws(ObsError) -> String {
        at += 1
        var bytes: [UInt8] = []
        while at < source.count {
            let byte = source[at]
            at += 1
            if byte == quote { return String(decoding: bytes, as: UTF8.self) }
            if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
                guard let escaped = unescape(source, &at) else { throw failure("bad escape in string") }
                bytes += escaped
            } else {
                bytes.append(byte)
            }
        }
        throw failure("unterminated quoted string")
    }

    /// Appends the node of an action; gives back `end`, `else` and `else if` for the caller to act on.
    private mutating func node(_ words: [Word], _ nodes: inout [Template.Node]) throws(ObsError) -> String? {
        guard let first = words.first else { throw failure("missing value for command") }
        switch first {
        case .name("end") where words.count == 1: return "end"
        case .name("else"):
            if words.count == 1 { return "else" }
            pendingElse = Array(words.dropFirst())
            return "else if"
        case .name("if"), .name("with"):
            nodes.append(try block(isWith: first == .name("with"), try expression(Array(words.dropFirst()))))
        case .name("range"), .name("define"), .name("template"), .name("block"), .name("break"), .name("continue"):
            throw failure("this action is not supported in a line or label template")
        case .field(let name) where words.count == 1: nodes.append(.field(Array(name.utf8)))
        case .name("__line__") where words.count == 1: nodes.append(.line)
        default: nodes.append(.action(try expression(words)))
        }
        return nil
    }

    private var pendingElse: [Word] = []

    private mutating func block(isWith: Bool, _ condition: Template.Expression) throws(ObsError) -> Template.Node {
        depth += 1
        defer { depth -= 1 }
        if depth > Self.depthMax { throw failure("nested too deeply") }
        let (then, stop) = try body()
        var otherwise: [Template.Node] = []
        switch stop {
        case "end": break
        case "else":
            let (rest, end) = try body()
            guard end == "end" else { throw failure("expected end") }
            otherwise = rest
        case "else if":
            let words = pendingElse
            guard let first = words.first, first == .name("if") || first == .name("with") else { throw failure("unexpected else") }
            otherwise = [try block(isWith: first == .name("with"), try expression(Array(words.dropFirst())))]
        default: throw failure("unexpected EOF")
        }
        return isWith ? .with(condition, then: then, otherwise: otherwise) : .condition(condition, then: then, otherwise: otherwise)
    }

    private mutating func expression(_ words: [Word]) throws(ObsError) -> Template.Expression {
        var position = 0
        let result = try pipeline(words, &position)
        guard position == words.count else { throw failure("unexpected right paren") }
        return result
    }

    private mutating func pipeline(_ words: [Word], _ position: inout Int) throws(ObsError) -> Template.Expression {
        depth += 1
        defer { depth -= 1 }
        if depth > Self.depthMax { throw failure("nested too deeply") }
        var result = try command(words, &position)
        var count = 0
        while position < words.count, words[position] == .pipe {
            position += 1
            count += 1
            if count > Self.depthMax { throw failure("more than \(Self.depthMax) pipes") }
            let next = try command(words, &position)
            guard case .call = next else { throw failure("non executable command in pipeline stage 2") }
            result = .pipe(result, into: next)
        }
        return result
    }

    private mutating func command(_ words: [Word], _ position: inout Int) throws(ObsError) -> Template.Expression {
        guard position < words.count, words[position] != .pipe, words[position] != .close else { throw failure("missing value for command") }
        if case .name(let name) = words[position], name != "true", name != "false", name != "nil" {
            guard templateFunctionNames.contains(name) else { throw failure("function \"\(name)\" not defined") }
            position += 1
            var arguments: [Template.Expression] = []
            while position < words.count, words[position] != .pipe, words[position] != .close { arguments.append(try operand(words, &position)) }
            return .call(name, arguments)
        }
        let result = try operand(words, &position)
        guard position >= words.count || words[position] == .pipe || words[position] == .close else { throw failure("can't give argument to non-function") }
        return result
    }

    private mutating func operand(_ words: [Word], _ position: inout Int) throws(ObsError) -> Template.Expression {
        let word = words[position]
        position += 1
        switch word {
        case .field(let name): return .field(Array(name.utf8))
        case .literal(let text): return .literal(.string(text))
        case .number(let text):
            if let number = Int64(text) { return .literal(.int(number)) }
            guard let number = Double(text) else { throw failure("bad number syntax: \(quoted(text))") }
            return .literal(.float(number))
        case .dot, .variable: return .dot
        case .name("true"): return .literal(.bool(true))
        case .name("false"): return .literal(.bool(false))
        case .name("nil"): return .literal(.string(""))
        case .name(let name):
            guard templateFunctionNames.contains(name) else { throw failure("function \"\(name)\" not defined") }
            return .call(name, [])
        case .open:
            let inner = try pipeline(words, &position)
            guard position < words.count, words[position] == .close else { throw failure("unclosed left paren") }
            position += 1
            return inner
        case .pipe, .close: throw failure("missing value for command")
        }
    }
}
