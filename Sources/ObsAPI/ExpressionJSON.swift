// A parsed query as the tree that `/api/v1/parse_query` answers: Prometheus' node types and keys, keys in its order (sorted).
internal import ObsCore
internal import ObsPromQL
internal import ObsStore
internal import ObsWire

extension JSONWriter {
    mutating func expression(_ expression: Expression) {
        switch expression {
        case .number(let node): numberLiteral(node.value)
        case .string(let literal): node("stringLiteral") { $0.member("val", literal.value) }
        case .selector(let selector):
            beginObject()
            selectorHead(selector)
            selectorTail(selector)
            member("type", "vectorSelector")
            endObject()
        case .range(let range):
            beginObject()
            selectorHead(range.selector)
            duration("range", range.range)
            selectorTail(range.selector)
            member("type", "matrixSelector")
            endObject()
        case .subquery(let subquery):
            beginObject()
            key("expr")
            self.expression(subquery.expression)
            duration("offset", subquery.offset)
            duration("range", subquery.range)
            startOrEnd(subquery.at)
            duration("step", subquery.step)
            timestamp(subquery.at)
            member("type", "subquery")
            endObject()
        case .call(let call): self.call(call)
        case .aggregation(let aggregation): self.aggregation(aggregation)
        case .binary(let binary): self.binary(binary)
        case .unary(let unary):
            beginObject()
            key("expr")
            self.expression(unary.operand)
            member("op", unary.negates ? "-" : "+")
            member("type", "unaryExpr")
            endObject()
        case .parentheses(let inner, _):
            beginObject()
            key("expr")
            self.expression(inner)
            member("type", "parenExpr")
            endObject()
        }
    }

    /// A node whose own members come before its type.
    private mutating func node(_ type: String, _ members: (inout JSONWriter) -> Void) {
        beginObject()
        member("type", type)
        members(&self)
        endObject()
    }

    private mutating func numberLiteral(_ value: Double) { node("numberLiteral") { $0.member("val", plainDecimal(value)) } }

    private mutating func call(_ call: Call) {
        beginObject()
        key("args")
        beginArray()
        for argument in call.arguments { expression(argument) }
        endArray()
        key("func")
        beginObject()
        key("argTypes")
        strings(call.function.arguments.map(\.rawValue))
        member("name", call.function.name)
        member("returnType", call.function.returns.rawValue)
        member("variadic", int: call.function.variadic)
        endObject()
        member("type", "call")
        endObject()
    }

    private mutating func aggregation(_ aggregation: Aggregation) {
        beginObject()
        key("expr")
        expression(aggregation.expression)
        key("grouping")
        strings(aggregation.grouping)
        member("op", aggregation.operation.rawValue)
        key("param")
        if let parameter = aggregation.parameter { expression(parameter) } else { null() }
        member("type", "aggregation")
        member("without", bool: aggregation.without)
        endObject()
    }

    private mutating func binary(_ binary: BinaryOperation) {
        beginObject()
        member("bool", bool: binary.returnsBool)
        key("lhs")
        expression(binary.left)
        key("matching")
        if let matching = binary.matching { self.matching(matching) } else { null() }
        member("op", binary.operation.rawValue)
        key("rhs")
        expression(binary.right)
        member("type", "binaryExpr")
        endObject()
    }

    private mutating func matching(_ matching: VectorMatching) {
        beginObject()
        let cardinality =
            switch matching.cardinality {
            case .oneToOne: "one-to-one"
            case .manyToOne: "many-to-one"
            case .oneToMany: "one-to-many"
            case .manyToMany: "many-to-many"
            }
        member("card", cardinality)
        key("fillValues")
        beginObject()
        for (name, value) in [("lhs", matching.fillLeft), ("rhs", matching.fillRight)] {
            key(name)
            if let value { double(value) } else { null() }
        }
        endObject()
        key("include")
        strings(matching.include)
        key("labels")
        strings(matching.labels)
        member("on", bool: matching.on)
        endObject()
    }

    // MARK: Selectors

    private mutating func selectorHead(_ selector: VectorSelector) {
        member("anchored", bool: selector.rangeExtension == .anchored)
        key("matchers")
        beginArray()
        // The name comes last, as Prometheus' parser appends it.
        func isName(_ matcher: LabelMatcher) -> Bool { matcher.name == "__name__" && matcher.operation == .equal && matcher.value == selector.name }
        for matcher in selector.matchers.filter({ !isName($0) }) + selector.matchers.filter(isName) { self.matcher(matcher) }
        endArray()
        member("name", selector.name ?? "")
        duration("offset", selector.offset)
    }

    private mutating func selectorTail(_ selector: VectorSelector) {
        member("smoothed", bool: selector.rangeExtension == .smoothed)
        startOrEnd(selector.at)
        timestamp(selector.at)
    }

    private mutating func matcher(_ matcher: LabelMatcher) {
        let type =
            switch matcher.operation {
            case .equal: "="
            case .notEqual: "!="
            case .matches: "=~"
            case .matchesNot: "!~"
            }
        beginObject()
        member("name", matcher.name)
        member("type", type)
        member("value", matcher.value)
        endObject()
    }

    private mutating func startOrEnd(_ at: AtModifier?) {
        key("startOrEnd")
        switch at {
        case .start: string("start")
        case .end: string("end")
        default: null()
        }
    }

    private mutating func timestamp(_ at: AtModifier?) {
        key("timestamp")
        if case .time(let millis) = at { int(millis) } else { null() }
    }

    // MARK: Durations

    /// `"name":milliseconds,"nameExpr":null`, or 0 and the tree of what is known only when the query runs.
    private mutating func duration(_ name: String, _ expression: DurationExpression?) {
        let literal = expression.flatMap(literalSeconds)
        member(name, int: literal.map { Int64(($0 * 1000).rounded()) } ?? 0)
        key(name + "Expr")
        if let expression, literal == nil { duration(expression, wrapped: false) } else { null() }
    }

    private func literalSeconds(_ expression: DurationExpression) -> Double? {
        switch expression {
        case .literal(let literal): literal.value
        case .negated(let inner): literalSeconds(inner).map { -$0 }
        case .parentheses(let inner): literalSeconds(inner)
        default: nil
        }
    }

    private mutating func duration(_ expression: DurationExpression, wrapped: Bool) {
        switch expression {
        case .literal(let literal):
            beginObject()
            member("duration", bool: literal.isDuration)
            member("type", "numberLiteral")
            member("val", plainDecimal(literal.value))
            endObject()
        case .step: duration("step", nil, nil, wrapped)
        case .range: duration("range", nil, nil, wrapped)
        case .negated(let inner): duration("-", nil, inner, wrapped)
        case .binary(let operation, let left, let right): duration(operation.rawValue, left, right, wrapped)
        case .smaller(let left, let right): duration("min_of", left, right, wrapped)
        case .greater(let left, let right): duration("max_of", left, right, wrapped)
        case .parentheses(let inner): duration(inner, wrapped: true)
        }
    }

    private mutating func duration(_ operation: String, _ left: DurationExpression?, _ right: DurationExpression?, _ wrapped: Bool) {
        beginObject()
        for (name, side) in [("lhs", left), ("rhs", right)] {
            if name == "rhs" { member("op", operation) }
            key(name)
            if let side { duration(side, wrapped: false) } else { null() }
        }
        member("type", "durationExpr")
        member("wrapped", bool: wrapped)
        endObject()
    }
}

/// A number without an exponent, however many digits it takes (Go's `'f'`).
func plainDecimal(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return formatSampleValue(value) }
    let (digits, exponent) = decimalDigits(abs(value))
    let sign = value < 0 ? "-" : ""
    if exponent <= 0 { return sign + "0." + String(repeating: "0", count: -exponent) + digits }
    if exponent >= digits.count { return sign + digits + String(repeating: "0", count: exponent - digits.count) }
    return sign + digits.prefix(exponent) + "." + digits.dropFirst(exponent)
}
