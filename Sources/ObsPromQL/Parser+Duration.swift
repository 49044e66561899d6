internal import ObsCore

extension Parser {
    /// Full arithmetic, as between brackets. A constant must be positive; others are checked when the query runs.
    mutating func duration() throws(ObsError) -> DurationExpression {
        let position = here
        let duration = try durationBinary(minimum: 1)
        try checkIsPlain(duration, position)
        if duration.isConstant {
            let seconds = duration.seconds(step: 0, range: 0)
            if !(seconds * 1000 >= 1) { throw error("duration must be greater than 0", at: position) }
            if seconds > durationSecondsMax { throw error("duration out of range", at: position) }
        }
        return duration
    }

    /// After `offset`: a sign and one term; more arithmetic needs parentheses, since it would belong to the query.
    mutating func offsetDuration() throws(ObsError) -> DurationExpression {
        let position = here
        let negates = token.kind == .minus
        if token.kind == .minus || token.kind == .plus { advance() }
        let term = try durationTerm(in: "offset")
        try checkIsPlain(term, position)
        let duration = negates ? DurationExpression.negated(term) : term
        if duration.isConstant, !(abs(duration.seconds(step: 0, range: 0)) <= durationSecondsMax) { throw error("duration out of range", at: position) }
        return duration
    }

    /// Anything but a number or a duration is experimental.
    private func checkIsPlain(_ duration: DurationExpression, _ position: Position) throws(ObsError) {
        if isExperimental { return }
        switch duration {
        case .literal: return
        case .negated(.literal): return
        default: throw error("experimental duration expression is not enabled", at: position)
        }
    }

    private mutating func durationBinary(minimum: Int) throws(ObsError) -> DurationExpression {
        var left = try durationOperand()
        while let operation = durationOperator(), operation.precedence >= minimum {
            advance()
            let next = operation == .power ? operation.precedence : operation.precedence + 1
            let right = try nested { (parser: inout Parser) throws(ObsError) -> DurationExpression in try parser.durationBinary(minimum: next) }
            if operation == .divide || operation == .modulo, right.isConstant, right.seconds(step: 0, range: 0) == 0 {
                throw error(operation == .divide ? "division by zero" : "modulo by zero", at: here)
            }
            left = .binary(operation, left, right)
        }
        return left
    }

    private func durationOperator() -> BinaryOperator? {
        switch token.kind {
        case .plus, .minus, .times, .divide, .modulo, .power: BinaryOperator(rawValue: token.text)
        default: nil
        }
    }

    private mutating func durationOperand() throws(ObsError) -> DurationExpression {
        guard token.kind == .minus || token.kind == .plus else { return try durationTerm(in: "duration") }
        let negates = token.kind == .minus
        advance()
        let operand = try nested { (parser: inout Parser) throws(ObsError) -> DurationExpression in
            try parser.durationBinary(minimum: BinaryOperator.power.precedence)
        }
        return negates ? .negated(operand) : operand
    }

    private mutating func durationTerm(in context: String) throws(ObsError) -> DurationExpression {
        switch token.kind {
        case .number, .duration:
            let literal = NumberLiteral(value: token.number, isDuration: token.kind == .duration, position: here)
            advance()
            return .literal(literal)
        case .leftParen:
            advance()
            let inner = try nested { (parser: inout Parser) throws(ObsError) -> DurationExpression in try parser.durationBinary(minimum: 1) }
            try expect(.rightParen, in: context, "\")\"")
            return .parentheses(inner)
        case .word where following.kind == .leftParen: return try durationCall(in: context)
        default: throw unexpected(in: context, expected: "number, duration, step(), or range()")
        }
    }

    private mutating func durationCall(in context: String) throws(ObsError) -> DurationExpression {
        let name = token.word
        guard ["step", "range", "min_of", "max_of", "min", "max"].contains(name) else {
            throw unexpected(in: context, expected: "number, duration, step(), or range()")
        }
        advance()
        advance()
        if name == "step" || name == "range" {
            try expect(.rightParen, in: context, "\")\"")
            return name == "step" ? .step : .range
        }
        let first = try nested { (parser: inout Parser) throws(ObsError) -> DurationExpression in try parser.durationBinary(minimum: 1) }
        try expect(.comma, in: context, "\",\"")
        let second = try nested { (parser: inout Parser) throws(ObsError) -> DurationExpression in try parser.durationBinary(minimum: 1) }
        try expect(.rightParen, in: context, "\")\"")
        return name.hasPrefix("min") ? .smaller(first, second) : .greater(first, second)
    }
}

/// 2^63 ns in seconds: Prometheus' durations reach no further.
let durationSecondsMax = 9_223_372_036.0
