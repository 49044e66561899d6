internal import ObsCore

extension Parser {
    mutating func metricExpression(_ precedenceMin: Int = 1) throws(ObsError) -> MetricExpression {
        try descend()
        defer { depth -= 1 }
        var left = try metricOperand()
        while let operation = peekOperator, operation.precedence >= precedenceMin {
            let place = advance()
            operators += 1
            if operators > Self.operatorsMax {
                throw parseError("more than \(Self.operatorsMax) operators", line: place.line, column: place.column)
            }
            var binary = BinaryOperation(operation: operation, left: left, right: .number(0))
            try modifiers(&binary)
            // `^` groups to the right, the others to the left.
            binary.right = try metricExpression(operation == .power ? operation.precedence : operation.precedence + 1)
            if operation.isSet {
                for (side, name) in [(binary.left, "left"), (binary.right, "right")] {
                    guard case .number = side else { continue }
                    throw parseError(
                        "unexpected literal for \(name) leg of logical/set binary operation (\(operation.rawValue))", line: place.line, column: place.column)
                }
            }
            left = .binary(binary)
        }
        return left
    }

    private var peekOperator: BinaryOperation.Operator? {
        guard peek.kind == .symbol || peek.kind == .identifier else { return nil }
        return BinaryOperation.Operator(rawValue: peek.text)
    }

    private mutating func modifiers(_ binary: inout BinaryOperation) throws(ObsError) {
        if isWord("bool") {
            guard binary.operation.comparison != nil else { throw unexpected() }
            position += 1
            binary.returnsBool = true
        }
        guard isWord("on") || isWord("ignoring") else { return }
        var matching = BinaryOperation.Matching(on: advance().text == "on")
        matching.labels = try labelList()
        if isWord("group_left") || isWord("group_right") {
            if binary.operation.isSet { throw unexpected() }
            matching.cardinality = advance().text == "group_left" ? .manyToOne : .oneToMany
            if isSymbol("(") { matching.include = try labelList() }
        }
        binary.matching = matching
    }

    private mutating func labelList() throws(ObsError) -> [String] {
        try expect("(")
        var result: [String] = []
        if take(")") { return result }
        while true {
            result.append(try identifier())
            if take(")") { return result }
            guard take(",") else { throw unexpected(",", ")") }
            if take(")") { return result }
        }
    }

    private mutating func metricOperand() throws(ObsError) -> MetricExpression {
        if take("(") {
            let inner = try metricExpression()
            try expect(")")
            return inner
        }
        if isSymbol("-") || isSymbol("+") || peek.kind == .number { return .number(try signedNumber()) }
        guard peek.kind == .identifier else { throw unexpected() }
        if let function = RangeAggregation.Function(rawValue: peek.text) { return .range(try rangeAggregation(function)) }
        if let function = VectorAggregation.Function(rawValue: peek.text) { return .vector(try vectorAggregation(function)) }
        switch peek.text {
        case "vector":
            position += 1
            try expect("(")
            let value = try signedNumber()
            try expect(")")
            return .constantVector(value)
        case "label_replace": return .labelReplace(try labelReplace())
        default: throw unexpected()
        }
    }

    private mutating func signedNumber() throws(ObsError) -> Double {
        let negative = take("-")
        if !negative { _ = take("+") }
        guard peek.kind == .number, let value = Double(peek.text) else { throw unexpected("NUMBER") }
        position += 1
        return negative ? -value : value
    }

    // MARK: Range aggregations

    private mutating func rangeAggregation(_ function: RangeAggregation.Function) throws(ObsError) -> RangeAggregation {
        position += 1
        try expect("(")
        var parameter: Double?
        if peek.kind == .number || isSymbol("-") || isSymbol("+") {
            parameter = try signedNumber()
            try expect(",")
        }
        var result = RangeAggregation(function: function, parameter: parameter, query: LogQuery(matchers: []), rangeNanos: 0)
        try logRange(&result)
        try expect(")")
        if isWord("by") || isWord("without") { result.grouping = try grouping() }
        try validate(result)
        return result
    }

    /// `{…} | … [5m] offset 1h`, the range also right after the selector, the whole in parentheses if so liked.
    private mutating func logRange(_ result: inout RangeAggregation, parenthesised: Bool = false) throws(ObsError) {
        if take("(") {
            try descend()
            defer { depth -= 1 }
            try logRange(&result, parenthesised: true)
            try expect(")")
            result.query.stages += try stages(inRange: true)
            try rangeIfPresent(&result)
        } else {
            guard isSymbol("{") || isSymbol("|") || LineFilterExpression.Operation(rawValue: peek.text) != nil else { throw unexpected("{", "(") }
            if isSymbol("{") { result.query.matchers = try selector() }
            try rangeIfPresent(&result)
            result.query.stages = try stages(inRange: true)
            try rangeIfPresent(&result)
        }
        if result.rangeNanos == 0, !parenthesised { throw unexpected("RANGE") }
    }

    private mutating func rangeIfPresent(_ result: inout RangeAggregation) throws(ObsError) {
        guard result.rangeNanos == 0, take("[") else { return }
        let token = peek
        guard token.kind == .duration, let nanos = parseGoDuration(token.text), nanos >= 1, nanos <= Self.rangeNanosMax else { throw unexpected("DURATION") }
        position += 1
        try expect("]")
        result.rangeNanos = Int64(nanos)
        guard takeWord("offset") else { return }
        let negative = take("-")
        guard peek.kind == .duration, let offset = parseGoDuration(peek.text), offset <= Self.rangeNanosMax else { throw unexpected("DURATION") }
        position += 1
        result.offsetNanos = negative ? -Int64(offset) : Int64(offset)
    }

    private func validate(_ range: RangeAggregation) throws(ObsError) {
        let name = range.function.rawValue
        switch range.function {
        case .countOverTime, .bytesOverTime, .bytesRate:
            if range.unwraps { throw parseError("invalid aggregation \(name) with unwrap") }
        case .rate, .absentOverTime: break
        default:
            if !range.unwraps { throw parseError("invalid aggregation \(name) without unwrap") }
        }
        if range.grouping != nil {
            switch range.function {
            case .avgOverTime, .maxOverTime, .minOverTime, .stddevOverTime, .stdvarOverTime, .quantileOverTime, .firstOverTime, .lastOverTime:
                break
            default: throw parseError("grouping not allowed for \(name) aggregation")
            }
        }
        if range.function == .quantileOverTime, range.parameter == nil { throw parseError("parameter required for operation \(name)") }
        if range.function != .quantileOverTime, range.parameter != nil {
            throw parseError("parameter \(formatSampleValue(range.parameter ?? 0)) not supported for operation \(name)")
        }
        var unwrapped = false
        for stage in range.query.stages {
            if unwrapped {
                guard case .labelFilter = stage else { throw parseError("only label filters may follow unwrap") }
            }
            if case .unwrap = stage { unwrapped = true }
        }
    }

    // MARK: Vector aggregations

    private mutating func vectorAggregation(_ function: VectorAggregation.Function) throws(ObsError) -> VectorAggregation {
        position += 1
        var groups: Grouping?
        if isWord("by") || isWord("without") { groups = try grouping() }
        try expect("(")
        var parameter: Int?
        if function.takesParameter {
            let token = peek
            guard peek.kind == .number || isSymbol("-") else { throw parseError("parameter required for operation \(function.rawValue)") }
            let value = try signedNumber()
            guard let count = Int(exactly: value), count > 0 else {
                throw parseError("invalid parameter (must be greater than 0) \(function.rawValue)(\(token.text)", line: token.line, column: token.column)
            }
            parameter = count
            try expect(",")
        }
        let operand = try metricExpression()
        if isSymbol(",") { throw parseError("unsupported parameter for operation \(function.rawValue)(") }
        try expect(")")
        if groups == nil, isWord("by") || isWord("without") { groups = try grouping() }
        if groups != nil, function == .sort || function == .sortDesc { throw parseError("grouping not allowed for \(function.rawValue) operation") }
        return VectorAggregation(function: function, parameter: parameter, grouping: groups, operand: operand)
    }

    private mutating func grouping() throws(ObsError) -> Grouping {
        let without = advance().text == "without"
        return Grouping(without: without, labels: try labelList())
    }

    private mutating func labelReplace() throws(ObsError) -> LabelReplace {
        position += 1
        try expect("(")
        let operand = try metricExpression()
        try expect(",")
        let destination = try string()
        try expect(",")
        let replacement = try string()
        try expect(",")
        let source = try string()
        try expect(",")
        let pattern = try string()
        try expect(")")
        return LabelReplace(operand: operand, destination: destination, replacement: replacement, source: source, pattern: pattern)
    }
}
