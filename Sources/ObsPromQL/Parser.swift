// Recursive descent over Prometheus' grammar. Precedence climbs in `binary`; the modifiers of selectors (range, offset, @) bind
// tightest and are read in `postfix`; a sign binds like `*`, so `-2^2` is -4. Types are checked as nodes are made,
// with Prometheus' own messages, each located at the node it concerns.
package import ObsCore
package import ObsStore

/// Parses and type-checks a query.
/// - Throws: `.badInput`, message `line:column: parse error: …` as Prometheus words it.
/// - Parameter experimental: whether `anchored`, `smoothed` and arithmetic with durations are understood.
package func parsePromQL(_ text: String, experimental: Bool = true) throws(ObsError) -> Expression {
    var parser = Parser(text, experimental: experimental)
    return try parser.wholeQuery().markingStatistics()
}

/// Parses a series selector (`match[]`): a vector selector without modifiers.
/// - Throws: `.badInput`.
package func parseSelector(_ text: String) throws(ObsError) -> [LabelMatcher] {
    var parser = Parser(text)
    guard case .selector(let selector) = try parser.wholeQuery(), selector.offset == nil, selector.at == nil else {
        throw ObsError(.badInput, "1:1: parse error: expected a series selector, got \(quoted(text))")
    }
    return selector.matchers
}

/// Instants further away are refused, so that a few durations more or less never overflow their milliseconds.
let secondsMax = 4e15

struct Parser {
    /// Parentheses, calls and signs within each other: deeper ones would exhaust the stack of who walks the tree.
    private static let nestingMax = 128
    /// Operators in a row; each is a level of the tree, too.
    private static let operatorsMax = 1000

    /// Offsets at which lines begin.
    private let lines: [Int]
    let tokens: [Token]
    private(set) var index = 0
    private var depth = 0
    private var operators = 0

    /// Whether experimental syntax is understood.
    let isExperimental: Bool

    init(_ text: String, experimental: Bool = true) {
        isExperimental = experimental
        let bytes = Array(text.utf8)
        lines = [0] + bytes.indices.filter { bytes[$0] == UInt8(ascii: "\n") }.map { $0 + 1 }
        tokens = Lexer.tokens(of: bytes)
    }

    // MARK: tokens

    var token: Token { tokens[index] }
    var following: Token { tokens[min(index + 1, tokens.count - 1)] }

    mutating func advance() { if index < tokens.count - 1 { index += 1 } }

    mutating func take(_ kind: Token.Kind) -> Bool {
        guard token.kind == kind else { return false }
        advance()
        return true
    }

    mutating func expect(_ kind: Token.Kind, in context: String, _ expected: String) throws(ObsError) {
        if !take(kind) { throw unexpected(in: context, expected: expected) }
    }

    func position(_ offset: Int) -> Position {
        let line = lines.lastIndex { $0 <= offset } ?? 0
        return Position(line: line + 1, column: offset - lines[line] + 1)
    }

    var here: Position { position(token.offset) }

    func error(_ message: String, at position: Position) -> ObsError {
        ObsError(.badInput, "\(position): parse error: \(message)")
    }

    func unexpected(in context: String = "", expected: String = "") -> ObsError {
        if token.kind == .error { return error(token.text, at: here) }
        return error("unexpected \(token.description)\(context.isEmpty ? "" : " in \(context)")\(expected.isEmpty ? "" : ", expected \(expected)")", at: here)
    }

    mutating func nested<T>(_ body: (inout Parser) throws(ObsError) -> T) throws(ObsError) -> T {
        depth += 1
        guard depth <= Self.nestingMax else { throw error("expression is nested deeper than \(Self.nestingMax)", at: here) }
        let result = try body(&self)
        depth -= 1
        return result
    }

    // MARK: expressions

    mutating func wholeQuery() throws(ObsError) -> Expression {
        if token.kind == .end { throw error("no expression found in input", at: here) }
        let expression = try self.expression()
        guard token.kind == .end else { throw unexpected() }
        return expression
    }

    mutating func expression() throws(ObsError) -> Expression { try binary(minimum: 1) }

    /// Operands joined by operators that bind at least as tightly as `minimum`.
    private mutating func binary(minimum: Int) throws(ObsError) -> Expression {
        var left = try operand()
        while let operation = binaryOperator(), operation.precedence >= minimum {
            operators += 1
            guard operators <= Self.operatorsMax else { throw error("expression has more than \(Self.operatorsMax) operators", at: here) }
            let operatorPosition = here
            advance()
            var matching = VectorMatching()
            let modifiers = try self.modifiers(&matching, operation)
            let next = operation == .power ? operation.precedence : operation.precedence + 1
            let right = try nested { (parser: inout Parser) throws(ObsError) -> Expression in try parser.binary(minimum: next) }
            let node = BinaryOperation(operation: operation, left: left, right: right, matching: matching, returnsBool: modifiers.bool)
            left = .binary(try checked(node, matchingGiven: modifiers.matching, at: operatorPosition))
        }
        return left
    }

    private func binaryOperator() -> BinaryOperator? {
        switch token.kind {
        case .plus, .minus, .times, .divide, .modulo, .power, .equalEqual, .notEqual, .less, .lessEqual, .greater, .greaterEqual, .trim:
            return BinaryOperator(rawValue: token.text)
        case .word: return setOperatorWords.contains(token.word) ? BinaryOperator(rawValue: token.word) : nil
        default: return nil
        }
    }

    /// A sign and what it applies to, or an expression with its modifiers.
    private mutating func operand() throws(ObsError) -> Expression {
        guard token.kind == .plus || token.kind == .minus else { return try postfix() }
        let position = here
        let negates = token.kind == .minus
        advance()
        let operand = try nested { (parser: inout Parser) throws(ObsError) -> Expression in try parser.binary(minimum: BinaryOperator.power.precedence) }
        if case .number(var literal) = operand {
            literal.value = negates ? -literal.value : literal.value
            literal.position = position
            return .number(literal)
        }
        guard operand.type == .scalar || operand.type == .vector else {
            throw error("unary expression only allowed on expressions of type scalar or instant vector, got \"\(operand.type.documented)\"", at: position)
        }
        return .unary(UnaryOperation(negates: negates, operand: operand, position: position))
    }

    private mutating func primary() throws(ObsError) -> Expression {
        let position = here
        switch token.kind {
        case .number, .duration:
            let literal = NumberLiteral(value: token.number, isDuration: token.kind == .duration, position: position)
            advance()
            return .number(literal)
        case .string:
            let literal = StringLiteral(bytes: token.bytes, position: position)
            advance()
            return .string(literal)
        case .leftParen:
            advance()
            let inner = try nested { (parser: inout Parser) throws(ObsError) -> Expression in try parser.expression() }
            try expect(.rightParen, in: "", "")
            return .parentheses(inner, position)
        case .leftBrace: return .selector(try selector())
        case .word: return try word(position)
        default: throw unexpected()
        }
    }

    /// An aggregation, a call or a metric, by what follows the word.
    private mutating func word(_ position: Position) throws(ObsError) -> Expression {
        let next = following
        if let operation = AggregationOperator(rawValue: token.word), next.kind == .leftParen || next.word == "by" || next.word == "without" {
            advance()
            return .aggregation(try aggregation(operation, position))
        }
        if ["on", "ignoring", "group_left", "group_right", "bool", "atan2"].contains(token.word) { throw unexpected() }
        if next.kind == .leftParen { return .call(try call(position)) }
        return .selector(try selector())
    }

    private mutating func call(_ position: Position) throws(ObsError) -> Call {
        guard let function = functionTable[token.text] else { throw error("unknown function with name \"\(token.text)\"", at: position) }
        advance()
        let arguments = try self.arguments(labelSelectorsAllowed: function.name == "info")
        try check(arguments, of: function, at: position)
        return Call(function: function, arguments: arguments, position: position)
    }

    /// - Parameter labelSelectorsAllowed: whether from the second on a selector may be one that every series satisfies.
    private mutating func arguments(labelSelectorsAllowed: Bool = false) throws(ObsError) -> [Expression] {
        try expect(.leftParen, in: "aggregation", "")
        var arguments: [Expression] = []
        if take(.rightParen) { return arguments }
        repeat {
            if token.kind == .rightParen { throw error("trailing commas not allowed in function call args", at: here) }
            if labelSelectorsAllowed, !arguments.isEmpty, token.kind == .leftBrace {
                arguments.append(.selector(try selector(mayBeEmpty: true)))
                continue
            }
            arguments.append(try nested { (parser: inout Parser) throws(ObsError) -> Expression in try parser.expression() })
        } while take(.comma)
        try expect(.rightParen, in: "", "")
        return arguments
    }

    private mutating func aggregation(_ operation: AggregationOperator, _ position: Position) throws(ObsError) -> Aggregation {
        var grouping = try self.grouping()
        let arguments = try self.arguments()
        if grouping == nil { grouping = try self.grouping() }
        let wanted = operation.parameter == nil ? 1 : 2
        if arguments.isEmpty { throw error("no arguments for aggregate expression provided", at: position) }
        guard arguments.count == wanted, let vector = arguments.last else {
            throw error("wrong number of arguments for aggregate expression provided, expected \(wanted), got \(arguments.count)", at: position)
        }
        let context = "aggregation expression"
        if vector.type != .vector {
            throw error("expected type instant vector in \(context), got \(vector.type.documented)", at: vector.position)
        }
        if let type = operation.parameter, let parameter = arguments.first, parameter.type != type {
            throw error("expected type \(type.documented) in aggregation parameter, got \(parameter.type.documented)", at: parameter.position)
        }
        return Aggregation(
            operation: operation, expression: vector, parameter: wanted == 2 ? arguments.first : nil, grouping: grouping?.labels ?? [],
            without: grouping?.without ?? false, position: position)
    }

    private mutating func grouping() throws(ObsError) -> (labels: [String], without: Bool)? {
        guard token.word == "by" || token.word == "without" else { return nil }
        let without = token.word == "without"
        advance()
        return (try labelList(), without)
    }

    /// `(a, b, "quoted.name",)`
    private mutating func labelList() throws(ObsError) -> [String] {
        try expect(.leftParen, in: "grouping opts", "\"(\"")
        var labels: [String] = []
        while !take(.rightParen) {
            switch token.kind {
            case .word where !token.text.contains(":"): labels.append(token.text)
            case .string: labels.append(String(decoding: token.bytes, as: UTF8.self))
            default: throw unexpected(in: "grouping opts", expected: "label")
            }
            advance()
            if token.kind != .rightParen { try expect(.comma, in: "grouping opts", "\",\" or \")\"") }
        }
        return labels
    }

    // MARK: operator modifiers

    /// `bool`, `on`/`ignoring`, `group_left`/`group_right`, `fill…`, between operator and right side.
    private mutating func modifiers(_ matching: inout VectorMatching, _ operation: BinaryOperator) throws(ObsError) -> (bool: Bool, matching: Bool) {
        var bool = false
        var given = false
        if token.word == "bool" {
            bool = true
            if !operation.isComparison { throw error("bool modifier can only be used on comparison operators", at: here) }
            advance()
        }
        if operation.isSet { matching.cardinality = .manyToMany }
        if token.word == "on" || token.word == "ignoring" {
            matching.on = token.word == "on"
            advance()
            matching.labels = try labelList()
            given = true
            try grouping(&matching, operation)
        }
        while ["fill", "fill_left", "fill_right"].contains(token.word), following.kind == .leftParen {
            try fill(&matching, operation)
        }
        return (bool, given)
    }

    private mutating func grouping(_ matching: inout VectorMatching, _ operation: BinaryOperator) throws(ObsError) {
        guard token.word == "group_left" || token.word == "group_right" else { return }
        let position = here
        if operation.isSet { throw error("no grouping allowed for \"\(operation.rawValue)\" operation", at: position) }
        matching.cardinality = token.word == "group_left" ? .manyToOne : .oneToMany
        advance()
        if token.kind == .leftParen { matching.include = try labelList() }
        if matching.on, let both = matching.include.first(where: matching.labels.contains) {
            throw error("label \"\(both)\" must not occur in ON and GROUP clause at once", at: position)
        }
    }

    private mutating func fill(_ matching: inout VectorMatching, _ operation: BinaryOperator) throws(ObsError) {
        let position = here
        let side = token.word
        if operation.isSet { throw error("filling in missing series not allowed for set operators", at: position) }
        advance()
        advance()
        var sign = 1.0
        if token.kind == .minus { sign = -1 }
        if token.kind == .minus || token.kind == .plus { advance() }
        guard token.kind == .number || token.kind == .duration else { throw unexpected(in: "fill modifier", expected: "number") }
        let value = sign * token.number
        advance()
        try expect(.rightParen, in: "fill modifier", "\")\"")
        if side != "fill_right" { matching.fillLeft = value }
        if side != "fill_left" { matching.fillRight = value }
    }

    // MARK: range, offset and @

    private mutating func postfix() throws(ObsError) -> Expression {
        var expression = try primary()
        while true {
            switch token.kind {
            case .leftBracket: expression = try range(of: expression)
            case .at: expression = try at(expression)
            case .word where token.word == "offset": expression = try offset(expression)
            case .word:
                guard let rangeExtension = RangeExtension(rawValue: token.word) else { return expression }
                expression = try extended(expression, rangeExtension)
            default: return expression
            }
        }
    }

    private mutating func range(of expression: Expression) throws(ObsError) -> Expression {
        let position = here
        advance()
        let range = try duration()
        if take(.colon) {
            let step: DurationExpression? = token.kind == .rightBracket ? nil : try duration()
            try expect(.rightBracket, in: "subquery selector", "\"]\"")
            guard expression.type == .vector else {
                throw error("subquery is only allowed on instant vector, got \(expression.type.rawValue) instead", at: expression.position)
            }
            return .subquery(Subquery(expression: expression, range: range, step: step, offset: nil, at: nil))
        }
        try expect(.rightBracket, in: "subquery or range selector", "\"]\"")
        guard case .selector(let selector) = expression else { throw error("ranges only allowed for vector selectors", at: position) }
        if selector.offset != nil { throw error("no offset modifiers allowed before range", at: position) }
        if selector.at != nil { throw error("no @ modifiers allowed before range", at: position) }
        return .range(RangeSelector(selector: selector, range: range))
    }

    private mutating func extended(_ expression: Expression, _ rangeExtension: RangeExtension) throws(ObsError) -> Expression {
        let word = rangeExtension.rawValue
        guard isExperimental else { throw error("\(word) modifier is experimental and not enabled", at: expression.position) }
        advance()
        switch expression {
        case .selector(var node):
            try extend(&node, rangeExtension)
            return .selector(node)
        case .range(var node):
            try extend(&node.selector, rangeExtension)
            return .range(node)
        case .subquery: throw error("\(word) modifier is not supported for subqueries", at: expression.position)
        default: throw error("\(word) modifier not implemented", at: expression.position)
        }
    }

    private func extend(_ selector: inout VectorSelector, _ rangeExtension: RangeExtension) throws(ObsError) {
        if let known = selector.rangeExtension, known != rangeExtension {
            throw error("anchored and smoothed modifiers cannot be used together", at: selector.position)
        }
        selector.rangeExtension = rangeExtension
    }

    private mutating func offset(_ expression: Expression) throws(ObsError) -> Expression {
        let position = here
        advance()
        let offset = try offsetDuration()
        let repeated = error("offset may not be set multiple times", at: position)
        switch expression {
        case .selector(var node):
            if node.offset != nil { throw repeated }
            node.offset = offset
            return .selector(node)
        case .range(var node):
            if node.selector.offset != nil { throw repeated }
            node.selector.offset = offset
            return .range(node)
        case .subquery(var node):
            if node.offset != nil { throw repeated }
            node.offset = offset
            return .subquery(node)
        default:
            throw error("offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", at: expression.position)
        }
    }

    private mutating func at(_ expression: Expression) throws(ObsError) -> Expression {
        let position = here
        advance()
        let at = try atTime()
        let repeated = error("@ <timestamp> may not be set multiple times", at: position)
        switch expression {
        case .selector(var node):
            if node.at != nil { throw repeated }
            node.at = at
            return .selector(node)
        case .range(var node):
            if node.selector.at != nil { throw repeated }
            node.selector.at = at
            return .range(node)
        case .subquery(var node):
            if node.at != nil { throw repeated }
            node.at = at
            return .subquery(node)
        default:
            throw error("@ modifier must be preceded by an instant vector selector or range vector selector or a subquery", at: expression.position)
        }
    }

    private mutating func atTime() throws(ObsError) -> AtModifier {
        if token.word == "start" || token.word == "end", following.kind == .leftParen {
            let start = token.word == "start"
            advance()
            advance()
            try expect(.rightParen, in: "@", "\")\"")
            return start ? .start : .end
        }
        var sign = 1.0
        if token.kind == .minus { sign = -1 }
        if token.kind == .minus || token.kind == .plus { advance() }
        guard token.kind == .number || token.kind == .duration else { throw unexpected(in: "@", expected: "timestamp") }
        let seconds = sign * token.number
        guard seconds.isFinite, abs(seconds) < secondsMax else {
            throw error("timestamp out of bounds for @ modifier: \(formatSampleValue(seconds))", at: here)
        }
        advance()
        return .time(millis: Int64((seconds * 1000).rounded()))
    }
}
