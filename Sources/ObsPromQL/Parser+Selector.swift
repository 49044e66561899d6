internal import ObsCore
internal import ObsStore

extension Parser {
    /// `name`, `name{…}` or `{…}`.
    /// - Parameter mayBeEmpty: whether it need not ask for anything.
    mutating func selector(mayBeEmpty: Bool = false) throws(ObsError) -> VectorSelector {
        var selector = VectorSelector(name: nil, matchers: [], offset: nil, at: nil, position: here)
        if token.kind == .word {
            selector.name = token.text
            selector.matchers.append(LabelMatcher(equal: "__name__", token.text))
            advance()
        }
        if take(.leftBrace) {
            while !take(.rightBrace) {
                try matcher(&selector)
                if token.kind != .rightBrace { try expect(.comma, in: "label matching", "\",\" or \"}\"") }
            }
        }
        if !mayBeEmpty, selector.matchers.allSatisfy(\.matchesEmpty) {
            throw error("vector selector must contain at least one non-empty matcher", at: selector.position)
        }
        return selector
    }

    /// `label="value"`, `"quoted label"=~"…"` or a lone `"metric name"`.
    private mutating func matcher(_ selector: inout VectorSelector) throws(ObsError) {
        let position = here
        let label: String
        switch token.kind {
        case .word: label = token.text
        case .string: label = String(decoding: token.bytes, as: UTF8.self)
        default: throw unexpected(in: "label matching", expected: "identifier or \"}\"")
        }
        let quotedName = token.kind == .string
        advance()
        if quotedName, token.kind == .comma || token.kind == .rightBrace {
            if let name = selector.name { throw error("metric name must not be set twice: \"\(name)\" or \"\(label)\"", at: selector.position) }
            selector.name = label
            selector.matchers.append(LabelMatcher(equal: "__name__", label))
            return
        }
        let operation: LabelMatcher.Operation
        switch token.kind {
        case .equal: operation = .equal
        case .notEqual: operation = .notEqual
        case .matches: operation = .matches
        case .matchesNot: operation = .matchesNot
        default: throw unexpected(in: "label matching", expected: "label matching operator")
        }
        advance()
        guard token.kind == .string else { throw unexpected(in: "label matching", expected: "string") }
        let value = String(decoding: token.bytes, as: UTF8.self)
        advance()
        if label == "__name__", operation == .equal, let name = selector.name {
            throw error("metric name must not be set twice: \"\(name)\" or \"\(value)\"", at: selector.position)
        }
        do {
            selector.matchers.append(try LabelMatcher(label, operation, value))
        } catch {
            throw self.error(error.message, at: position)
        }
    }
}
