internal import ObsCore
internal import ObsRegex

/// - Throws: `.badInput`: `parse error at line L, col C: …`.
func parseTraceQL(_ text: String) throws(ObsError) -> TraceQuery {
    var parser = Parser(tokens: try Lexer.tokens(text))
    let query = try parser.pipeline()
    try parser.hints()
    guard parser.peek.kind == .end else { throw parser.unexpected() }
    return query
}

/// Recursive descent over the tokens: pipelines and span sets here, field expressions below.
struct Parser {
    static let depthMax = 100

    let tokens: [Token]
    private var position = 0
    private var depth = 0

    init(tokens: [Token]) { self.tokens = tokens }

    var peek: Token { tokens[min(position, tokens.count - 1)] }

    private func isSymbol(_ text: String, _ offset: Int = 0) -> Bool {
        let token = tokens[min(position + offset, tokens.count - 1)]
        return token.kind == .symbol && token.text == text
    }

    private mutating func take(_ symbol: String) -> Bool {
        guard isSymbol(symbol) else { return false }
        position += 1
        return true
    }

    func unexpected(_ expecting: String...) -> ObsError {
        parseError("syntax error: unexpected \(peek.name)" + (expecting.isEmpty ? "" : ", expecting " + expecting.joined(separator: " or ")), peek)
    }

    private mutating func expect(_ symbol: String) throws(ObsError) {
        guard take(symbol) else { throw unexpected(symbol) }
    }

    private mutating func descend() throws(ObsError) {
        depth += 1
        if depth > Self.depthMax { throw parseError("nested too deeply, more than \(Self.depthMax) levels", peek) }
    }

    // MARK: Pipelines

    mutating func pipeline() throws(ObsError) -> TraceQuery {
        try descend()
        defer { depth -= 1 }
        var query = TraceQuery(first: try spanset())
        while take("|") { query.stages.append(try stage()) }
        return query
    }

    /// `with (most_recent=true)`: taken and ignored, they ask for what we always do.
    mutating func hints() throws(ObsError) {
        guard peek.kind == .identifier, peek.text == "with", isSymbol("(", 1) else { return }
        position += 2
        while !take(")") {
            guard peek.kind == .identifier else { throw unexpected("IDENTIFIER") }
            position += 1
            try expect("=")
            switch peek.kind {
            case .symbol, .end: throw unexpected("literal")
            default: position += 1
            }
            _ = take(",")
        }
    }

    private static let metricsFunctions: Set<String> = [
        "rate", "count_over_time", "min_over_time", "max_over_time", "avg_over_time", "sum_over_time", "quantile_over_time", "histogram_over_time", "compare",
        "topk", "bottomk",
    ]

    private mutating func stage() throws(ObsError) -> PipelineStage {
        if isSymbol("{") { return .spanset(try spanset()) }
        if isSymbol("(") {
            // `({…})` or `(count() + 1) > 2`: tell by what follows the parentheses.
            var ahead = 0
            while isSymbol("(", ahead) { ahead += 1 }
            if isSymbol("{", ahead) { return .spanset(try spanset()) }
            return try scalarFilter()
        }
        guard peek.kind == .identifier else { return try scalarFilter() }
        switch peek.text {
        case "by":
            position += 1
            try expect("(")
            let field = try fieldExpression()
            try expect(")")
            return .by(field)
        case "coalesce":
            position += 1
            try expect("(")
            try expect(")")
            return .coalesce
        case "select":
            position += 1
            try expect("(")
            var fields: [FieldExpression] = []
            repeat { fields.append(try fieldExpression()) } while take(",")
            try expect(")")
            for field in fields {
                guard case .attribute = field else { throw parseError("select() takes attributes only", peek) }
            }
            return .select(fields)
        case let word where Self.metricsFunctions.contains(word):
            throw parseError("\(word)() makes a metrics query, which a search cannot answer", peek)
        default: return try scalarFilter()
        }
    }

    private mutating func scalarFilter() throws(ObsError) -> PipelineStage {
        let left = try scalar()
        guard peek.kind == .symbol, let comparison = FieldOperator(rawValue: peek.text), comparison.isComparison, comparison != .matches,
            comparison != .matchesNot
        else { throw unexpected("=", "!=", "<", "<=", ">", ">=") }
        position += 1
        return .scalarFilter(left, comparison, try scalar())
    }

    private mutating func scalar(_ precedenceMin: Int = 3) throws(ObsError) -> ScalarExpression {
        try descend()
        defer { depth -= 1 }
        var left = try scalarOperand()
        while peek.kind == .symbol, let operation = FieldOperator(rawValue: peek.text), operation.precedence >= precedenceMin {
            position += 1
            left = .arithmetic(operation, left, try scalar(operation == .power ? operation.precedence : operation.precedence + 1))
        }
        return left
    }

    private mutating func scalarOperand() throws(ObsError) -> ScalarExpression {
        if take("(") {
            let inner = try scalar()
            try expect(")")
            return inner
        }
        if peek.kind == .identifier {
            let word = peek.text
            if word == "count" {
                position += 1
                try expect("(")
                try expect(")")
                return .count
            }
            if let aggregate = ScalarExpression.Aggregate(rawValue: word) {
                position += 1
                try expect("(")
                let field = try fieldExpression()
                try expect(")")
                return .aggregate(aggregate, field)
            }
        }
        let isNegative = take("-")
        guard let value = literal() else { throw unexpected() }
        guard isNegative else { return .literal(value) }
        switch value {
        case .int(let number): return .literal(.int(0 &- number))
        case .float(let number): return .literal(.float(-number))
        case .duration(let number): return .literal(.duration(0 &- number))
        default: throw unexpected()
        }
    }

    // MARK: Span sets

    private mutating func spanset(_ precedenceMin: Int = 1) throws(ObsError) -> SpansetExpression {
        var left = try spansetOperand()
        while peek.kind == .symbol, let operation = SpansetOperator(peek.text), operation.precedence >= precedenceMin {
            position += 1
            left = .combined(operation, left, try spanset(operation.precedence + 1))
        }
        return left
    }

    private mutating func spansetOperand() throws(ObsError) -> SpansetExpression {
        if take("(") {
            let inner = try pipeline()
            try expect(")")
            return inner.stages.isEmpty ? inner.first : .pipeline(inner)
        }
        guard take("{") else { throw unexpected("{", "(") }
        if take("}") { return .filter(nil) }
        let start = peek
        let field = try fieldExpression()
        try expect("}")
        let type = try check(field, start)
        guard type == .bool || type == .any else { throw parseError("span filter field expressions must resolve to a boolean", start) }
        return .filter(field)
    }

    // MARK: Field expressions

    mutating func fieldExpression(_ precedenceMin: Int = 1) throws(ObsError) -> FieldExpression {
        try descend()
        defer { depth -= 1 }
        var left = try unary()
        while peek.kind == .symbol, let operation = FieldOperator(rawValue: peek.text), operation.precedence >= precedenceMin {
            let token = peek
            position += 1
            let right = try fieldExpression(operation == .power ? operation.precedence : operation.precedence + 1)
            if operation == .matches || operation == .matchesNot {
                guard case .literal(.string(let pattern)) = right else { throw parseError("\(operation.rawValue) takes a string", token) }
                left = .match(left, try Regex(pattern), isNegated: operation == .matchesNot)
            } else {
                left = .binary(operation, left, right)
            }
        }
        return left
    }

    private mutating func unary() throws(ObsError) -> FieldExpression {
        try descend()
        defer { depth -= 1 }
        if take("!") { return .not(try fieldExpression(4)) }
        if take("-") {
            switch try fieldExpression(4) {
            case .literal(.int(let value)): return .literal(.int(0 &- value))
            case .literal(.float(let value)): return .literal(.float(-value))
            case .literal(.duration(let value)): return .literal(.duration(0 &- value))
            case let other: return .negate(other)
            }
        }
        if take("(") {
            let inner = try fieldExpression()
            try expect(")")
            return inner
        }
        if case .attribute(let scope, let name, let ofParent) = peek.kind {
            position += 1
            return .attribute(.field(scope, name, ofParent: ofParent))
        }
        if peek.kind == .identifier || peek.kind == .scopedIntrinsic, let intrinsic = Intrinsic(spelling: peek.text) {
            position += 1
            return .attribute(.intrinsic(intrinsic))
        }
        guard let value = literal() else { throw unexpected() }
        return .literal(value)
    }

    private mutating func literal() -> StaticValue? {
        let token = peek
        let value: StaticValue
        switch token.kind {
        case .string: value = .string(token.text)
        case .integer(let number): value = .int(number)
        case .float(let number): value = .float(number)
        case .duration(let number): value = .duration(number)
        case .identifier:
            switch token.text {
            case "true": value = .bool(true)
            case "false": value = .bool(false)
            case "nil": value = .null
            case "minInt": value = .int(.min)
            case "maxInt": value = .int(.max)
            case "unset": value = .status(0)
            case "ok": value = .status(1)
            case "error": value = .status(2)
            default:
                guard let kind = SpanKind.words.firstIndex(of: token.text) else { return nil }
                value = .kind(UInt8(kind))
            }
        default: return nil
        }
        position += 1
        return value
    }
}
