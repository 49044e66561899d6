package import ObsCore
package import ObsStore

/// Parses a LogQL query. Besides Loki's grammar a log query may leave out its selector (`|= "x"`) or leave it empty (`{}`).
/// - Throws: `.badInput` in Loki's words: `parse error at line L, col C: syntax error: unexpected X, expecting Y`.
package func parseLogQL(_ text: String) throws(ObsError) -> LogQLExpression {
    var parser = Parser(tokens: try Lexer.tokens(text))
    let result = try parser.query()
    try parser.expectEnd()
    return result
}

/// Parses a stream selector alone (`match[]`, `query` of label calls); empty text gives no matchers.
package func parseLogSelector(_ text: String) throws(ObsError) -> [LabelMatcher] {
    var parser = Parser(tokens: try Lexer.tokens(text))
    if parser.peek.kind == .end { return [] }
    let matchers = try parser.selector()
    try parser.expectEnd()
    return matchers
}

/// Recursive descent over the tokens. This file has what all queries share and log queries; metric queries and label filters have files of their own.
struct Parser {
    /// Deeper parentheses are refused before they can exhaust the stack.
    static let depthMax = 100
    /// 64 years: all time since 1970, and still time ± range ± offset fits Int64 (see `timeNanosBound`).
    static let rangeNanosMax = 2.02e18
    /// Operators chain into nested nodes too.
    static let operatorsMax = 1000

    let tokens: [Token]
    var position = 0
    var depth = 0
    var operators = 0

    init(tokens: [Token]) { self.tokens = tokens }

    var peek: Token { tokens[min(position, tokens.count - 1)] }
    func peek(_ offset: Int) -> Token { tokens[min(position + offset, tokens.count - 1)] }

    mutating func advance() -> Token {
        let token = peek
        position += 1
        return token
    }

    func isSymbol(_ text: String, _ offset: Int = 0) -> Bool { peek(offset).kind == .symbol && peek(offset).text == text }
    func isWord(_ text: String, _ offset: Int = 0) -> Bool { peek(offset).kind == .identifier && peek(offset).text == text }

    mutating func take(_ symbol: String) -> Bool {
        guard isSymbol(symbol) else { return false }
        position += 1
        return true
    }

    mutating func takeWord(_ word: String) -> Bool {
        guard isWord(word) else { return false }
        position += 1
        return true
    }

    func unexpected(_ expecting: String...) -> ObsError {
        let wanted = expecting.isEmpty ? "" : ", expecting " + expecting.joined(separator: " or ")
        return parseError("syntax error: unexpected \(peek.name)\(wanted)", line: peek.line, column: peek.column)
    }

    mutating func expect(_ symbol: String) throws(ObsError) {
        guard take(symbol) else { throw unexpected(symbol) }
    }

    mutating func expectEnd() throws(ObsError) {
        guard peek.kind == .end else { throw unexpected() }
    }

    mutating func string() throws(ObsError) -> String {
        guard peek.kind == .string else { throw unexpected("STRING") }
        return advance().text
    }

    mutating func identifier() throws(ObsError) -> String {
        guard peek.kind == .identifier else { throw unexpected("IDENTIFIER") }
        return advance().text
    }

    mutating func descend() throws(ObsError) {
        depth += 1
        if depth > Self.depthMax { throw parseError("nested too deeply, more than \(Self.depthMax) levels", line: peek.line, column: peek.column) }
    }

    // MARK: Queries

    mutating func query() throws(ObsError) -> LogQLExpression {
        // `( {…} | json )` is a log query too: look past the parentheses.
        var past = 0
        while isSymbol("(", past) { past += 1 }
        let first = peek(past)
        if first.kind == .symbol, ["{", "|=", "!=", "|~", "!~", "|>", "!>", "|"].contains(first.text) {
            return .log(try logQuery())
        }
        if first.kind == .end { throw unexpected() }
        return .metric(try metricExpression())
    }

    mutating func logQuery() throws(ObsError) -> LogQuery {
        if take("(") {
            try descend()
            defer { depth -= 1 }
            var query = try logQuery()
            try expect(")")
            query.stages += try stages(inRange: false)
            return query
        }
        let matchers = isSymbol("{") ? try selector() : []
        return LogQuery(matchers: matchers, stages: try stages(inRange: false))
    }

    mutating func selector() throws(ObsError) -> [LabelMatcher] {
        try expect("{")
        var result: [LabelMatcher] = []
        if take("}") { return result }
        while true {
            guard peek.kind == .identifier else { throw unexpected("IDENTIFIER", "}") }
            let name = advance().text
            result.append(try matcher(name))
            if take("}") { return result }
            guard take(",") else { throw unexpected("}", ",") }
            if take("}") { return result }
        }
    }

    /// The operator and value after a label's name.
    mutating func matcher(_ name: String) throws(ObsError) -> LabelMatcher {
        let operation: LabelMatcher.Operation
        if take("=") {
            operation = .equal
        } else if take("!=") {
            operation = .notEqual
        } else if take("=~") {
            operation = .matches
        } else if take("!~") {
            operation = .matchesNot
        } else {
            throw unexpected("=", "!=", "=~", "!~")
        }
        return try LabelMatcher(name, operation, try string())
    }

    // MARK: Stages

    /// - Parameter inRange: within `fn( … [5m])`, where `unwrap` is allowed.
    mutating func stages(inRange: Bool) throws(ObsError) -> [StageExpression] {
        var result: [StageExpression] = []
        while peek.kind == .symbol {
            if LineFilterExpression.Operation(rawValue: peek.text) != nil {
                result.append(.lineFilter(try lineFilter()))
            } else if take("|") {
                result.append(try stage(inRange: inRange))
            } else {
                break
            }
        }
        return result
    }

    private mutating func lineFilter() throws(ObsError) -> LineFilterExpression {
        guard let operation = LineFilterExpression.Operation(rawValue: advance().text) else { throw unexpected() }
        var result = LineFilterExpression(operation: operation, alternatives: [])
        repeat {
            if isWord("ip"), isSymbol("(", 1) {
                guard operation == .contains || operation == .containsNot else { throw parseError("ip() is only allowed with |= and !=") }
                position += 2
                result.alternatives.append(.init(text: try string(), isAddress: true))
                try expect(")")
            } else {
                result.alternatives.append(.init(text: try string()))
            }
        } while takeWord("or")
        return result
    }

    private mutating func stage(inRange: Bool) throws(ObsError) -> StageExpression {
        guard peek.kind == .identifier || isSymbol("(") else { throw unexpected() }
        // A name followed by an operator is a label filter, whatever the name.
        if peek(1).kind == .symbol, ["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="].contains(peek(1).text) { return .labelFilter(try labelFilter()) }
        switch peek.text {
        case "json":
            position += 1
            return .json(try extractions())
        case "logfmt":
            position += 1
            return try logfmt()
        case "regexp":
            position += 1
            return .regexp(try string())
        case "pattern":
            position += 1
            return .pattern(try string())
        case "unpack":
            position += 1
            return .unpack
        case "decolorize":
            position += 1
            return .decolorize
        case "line_format":
            position += 1
            return .lineFormat(try string())
        case "label_format":
            position += 1
            return .labelFormat(try labelFormats())
        case "drop":
            position += 1
            return .drop(try labelChoices())
        case "keep":
            position += 1
            return .keep(try labelChoices())
        case "unwrap":
            guard inRange else { throw unexpected() }
            position += 1
            return try unwrap()
        default: return .labelFilter(try labelFilter())
        }
    }

    private mutating func logfmt() throws(ObsError) -> StageExpression {
        var strict = false
        var keepEmpty = false
        while peek.kind == .flag {
            switch peek.text {
            case "strict": strict = true
            case "keep-empty": keepEmpty = true
            default: throw parseError("unknown flag --\(peek.text)", line: peek.line, column: peek.column)
            }
            position += 1
        }
        return .logfmt(strict: strict, keepEmpty: keepEmpty, try extractions())
    }

    private mutating func extractions() throws(ObsError) -> [StageExpression.Extraction] {
        var result: [StageExpression.Extraction] = []
        guard peek.kind == .identifier else { return result }
        repeat {
            let label = try identifier()
            result.append(.init(label: label, path: take("=") ? try string() : label))
        } while take(",")
        return result
    }

    private mutating func labelFormats() throws(ObsError) -> [StageExpression.LabelFormat] {
        var result: [StageExpression.LabelFormat] = []
        repeat {
            let label = try identifier()
            try expect("=")
            if result.contains(where: { $0.label == label }) { throw parseError("multiple label name '\(label)' not allowed in a single format operation") }
            switch peek.kind {
            case .identifier: result.append(.init(label: label, source: .label(advance().text)))
            case .string: result.append(.init(label: label, source: .template(advance().text)))
            default: throw unexpected("IDENTIFIER", "STRING")
            }
        } while take(",")
        return result
    }

    private mutating func labelChoices() throws(ObsError) -> [StageExpression.LabelChoice] {
        var result: [StageExpression.LabelChoice] = []
        repeat {
            let name = try identifier()
            let conditional = ["=", "!=", "=~", "!~"].contains { isSymbol($0) } && peek(1).kind == .string
            result.append(.init(name: name, matcher: conditional ? try matcher(name) : nil))
        } while take(",")
        return result
    }

    private mutating func unwrap() throws(ObsError) -> StageExpression {
        if isSymbol("(", 1), let conversion = UnwrapConversion(rawValue: peek.text), conversion != .number {
            position += 2
            let label = try identifier()
            try expect(")")
            return .unwrap(label: label, conversion)
        }
        return .unwrap(label: try identifier(), .number)
    }
}
