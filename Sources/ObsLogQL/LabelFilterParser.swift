internal import ObsCore
internal import ObsStore

extension Parser {
    /// `a or b`, with `and`, `,` and a blank binding tighter.
    mutating func labelFilter() throws(ObsError) -> LabelFilterExpression {
        var left = try labelFilterTerm()
        while takeWord("or") { left = .or(left, try labelFilterTerm()) }
        return left
    }

    private mutating func labelFilterTerm() throws(ObsError) -> LabelFilterExpression {
        var left = try labelFilterFactor()
        while true {
            if takeWord("and") {
                left = .and(left, try labelFilterFactor(), spelling: " and ")
            } else if isSymbol(",") {
                position += 1
                left = .and(left, try labelFilterFactor(), spelling: ", ")
            } else if isSymbol("(") || (peek.kind == .identifier && !isWord("or") && peek(1).kind == .symbol) {
                left = .and(left, try labelFilterFactor(), spelling: " and ")
            } else {
                return left
            }
        }
    }

    private mutating func labelFilterFactor() throws(ObsError) -> LabelFilterExpression {
        if take("(") {
            try descend()
            defer { depth -= 1 }
            let inner = try labelFilter()
            try expect(")")
            return inner
        }
        let name = try identifier()
        guard peek.kind == .symbol else { throw unexpected() }
        let symbol = peek.text
        if peek(1).kind == .string { return .text(try matcher(name)) }
        if isWord("ip", 1), isSymbol("(", 2) {
            guard symbol == "=" || symbol == "!=" else { throw unexpected("=", "!=") }
            position += 3
            let range = try string()
            try expect(")")
            return .address(name: name, negated: symbol == "!=", range)
        }
        guard let comparison = Comparison(rawValue: symbol == "=" ? "==" : symbol) else {
            if symbol == "=~" || symbol == "!~" {
                position += 1
                throw unexpected("STRING")
            }
            throw unexpected()
        }
        position += 1
        return try quantity(name, comparison)
    }

    private mutating func quantity(_ name: String, _ comparison: Comparison) throws(ObsError) -> LabelFilterExpression {
        let sign = take("-") ? -1.0 : 1.0
        if sign > 0 { _ = take("+") }
        let token = peek
        let value: Double?
        let quantity: LabelFilterExpression.Quantity
        switch token.kind {
        case .number: (value, quantity) = (Double(token.text), .number)
        case .duration: (value, quantity) = (parseGoDuration(token.text), .duration)
        case .bytes: (value, quantity) = (parseByteSize(token.text), .bytes)
        default: throw unexpected("STRING", "NUMBER", "DURATION", "BYTES")
        }
        if name == "__error__" || name == "__error_details__" {
            throw parseError("label filter on \(name) must compare with a string", line: token.line, column: token.column)
        }
        guard let value else { throw unexpected() }
        position += 1
        return .quantity(name: name, comparison, quantity, sign * value, literal: (sign < 0 ? "-" : "") + token.text)
    }
}
