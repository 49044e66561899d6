// A parsed query: immutable values, safe to keep and to evaluate from several threads (rules do so for days).
package import ObsStore

/// Line and column, both from 1, columns counted in bytes: how Prometheus locates errors and annotations.
package struct Position: Sendable, Hashable, CustomStringConvertible {
    package var line: Int
    package var column: Int
    package var description: String { "\(line):\(column)" }
}

package enum ValueType: String, Sendable {
    case scalar, vector, matrix, string

    /// The word of Prometheus' documentation and error messages.
    var documented: String {
        switch self {
        case .vector: "instant vector"
        case .matrix: "range vector"
        case .scalar: "scalar"
        case .string: "string"
        }
    }
}

package indirect enum Expression: Sendable {
    case number(NumberLiteral)
    case string(StringLiteral)
    case selector(VectorSelector)
    case range(RangeSelector)
    case subquery(Subquery)
    case call(Call)
    case aggregation(Aggregation)
    case binary(BinaryOperation)
    case unary(UnaryOperation)
    case parentheses(Expression, Position)

    package var type: ValueType {
        switch self {
        case .number: .scalar
        case .string: .string
        case .selector, .aggregation: .vector
        case .range, .subquery: .matrix
        case .call(let call): call.function.returns
        case .binary(let operation): operation.left.type == .scalar && operation.right.type == .scalar ? .scalar : .vector
        case .unary(let operation): operation.operand.type
        case .parentheses(let inner, _): inner.type
        }
    }

    package var position: Position {
        switch self {
        case .number(let node): node.position
        case .string(let node): node.position
        case .selector(let node): node.position
        case .range(let node): node.selector.position
        case .subquery(let node): node.expression.position
        case .call(let node): node.position
        case .aggregation(let node): node.position
        case .binary(let node): node.left.position
        case .unary(let node): node.position
        case .parentheses(_, let position): position
        }
    }

    /// The expression with those selectors marked of whose histograms only count and sum are looked at.
    func markingStatistics(_ isInside: Bool = false) -> Expression {
        switch self {
        case .number, .string, .subquery: return self
        case .selector(var node):
            node.tellsResets = isInside
            return .selector(node)
        case .range(var node):
            node.selector.tellsResets = isInside
            return .range(node)
        case .call(var node):
            if ["histogram_quantile", "histogram_quantiles", "histogram_fraction"].contains(node.function.name) { return self }
            let isStatistic = ["histogram_count", "histogram_sum", "histogram_avg"].contains(node.function.name)
            node.arguments = node.arguments.map { $0.markingStatistics(isInside || isStatistic) }
            return .call(node)
        case .aggregation(var node):
            node.expression = node.expression.markingStatistics(isInside)
            return .aggregation(node)
        case .binary(var node):
            if node.operation.isTrim { return self }
            node.left = node.left.markingStatistics(isInside)
            node.right = node.right.markingStatistics(isInside)
            return .binary(node)
        case .unary(var node):
            node.operand = node.operand.markingStatistics(isInside)
            return .unary(node)
        case .parentheses(let inner, let position): return .parentheses(inner.markingStatistics(isInside), position)
        }
    }

    /// The expression without the parentheses around it.
    var unwrapped: Expression {
        var expression = self
        while case .parentheses(let inner, _) = expression { expression = inner }
        return expression
    }
}

package struct NumberLiteral: Sendable {
    package var value: Double
    /// Written as a duration (`5m`); printed as one.
    package var isDuration = false
    package var position: Position
}

package struct StringLiteral: Sendable {
    /// Escapes resolved; need not be UTF-8.
    package var bytes: [UInt8]
    package var position: Position
    package var value: String { String(decoding: bytes, as: UTF8.self) }
}

/// `@ 1609746000`, `@ start()`, `@ end()`.
package enum AtModifier: Sendable {
    case time(millis: Int64)
    case start, end
}

package struct VectorSelector: Sendable {
    /// The metric name written before the braces or quoted within; also among the matchers.
    package var name: String?
    package var matchers: [LabelMatcher]
    package var offset: DurationExpression?
    package var at: AtModifier?
    package var position: Position
    package var rangeExtension: RangeExtension?
    /// Only count and sum of its histograms are looked at. Prometheus then has each say whether counting began anew, which shows in what is told of sums.
    var tellsResets = false
}

package struct RangeSelector: Sendable {
    package var selector: VectorSelector
    package var range: DurationExpression
}

package struct Subquery: Sendable {
    package var expression: Expression
    package var range: DurationExpression
    /// Nil: the engine's default step.
    package var step: DurationExpression?
    package var offset: DurationExpression?
    package var at: AtModifier?
}

package struct Call: Sendable {
    package var function: Function
    package var arguments: [Expression]
    package var position: Position
}

package enum AggregationOperator: String, Sendable, CaseIterable {
    case sum, avg, count, min, max, group, stddev, stdvar, topk, bottomk, quantile, limitk
    case countValues = "count_values"
    case limitRatio = "limit_ratio"

    /// Type of the parameter before the vector; nil when there is none.
    var parameter: ValueType? {
        switch self {
        case .topk, .bottomk, .quantile, .limitk, .limitRatio: .scalar
        case .countValues: .string
        default: nil
        }
    }
}

package struct Aggregation: Sendable {
    package var operation: AggregationOperator
    package var expression: Expression
    package var parameter: Expression?
    package var grouping: [String]
    package var without: Bool
    package var position: Position
}

package enum BinaryOperator: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case modulo = "%"
    case power = "^"
    case atan2
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessEqual = "<="
    case greater = ">"
    case greaterEqual = ">="
    case and, or, unless
    /// A histogram without its observations above, or below, a value.
    case trimAbove = "</"
    case trimBelow = ">/"

    var isTrim: Bool { self == .trimAbove || self == .trimBelow }

    var isComparison: Bool {
        switch self {
        case .equal, .notEqual, .less, .lessEqual, .greater, .greaterEqual: true
        default: false
        }
    }

    var isSet: Bool { self == .and || self == .or || self == .unless }

    /// Binding strength; higher binds tighter. Only `^` associates to the right.
    var precedence: Int {
        switch self {
        case .or: 1
        case .and, .unless: 2
        case .equal, .notEqual, .less, .lessEqual, .greater, .greaterEqual, .trimAbove, .trimBelow: 3
        case .add, .subtract: 4
        case .multiply, .divide, .modulo, .atan2: 5
        case .power: 6
        }
    }
}

/// How series of the two sides find each other.
package struct VectorMatching: Sendable {
    package enum Cardinality: Sendable { case oneToOne, manyToOne, oneToMany, manyToMany }

    package var cardinality = Cardinality.oneToOne
    package var labels: [String] = []
    /// `on` rather than `ignoring`.
    package var on = false
    /// Labels that `group_left` or `group_right` takes over from the "one" side.
    package var include: [String] = []
    /// Stand-ins for a missing partner on that side.
    package var fillLeft: Double?
    package var fillRight: Double?
}

package struct BinaryOperation: Sendable {
    package var operation: BinaryOperator
    package var left: Expression
    package var right: Expression
    /// Nil unless both sides are vectors.
    package var matching: VectorMatching?
    package var returnsBool: Bool
}

package struct UnaryOperation: Sendable {
    package var negates: Bool
    package var operand: Expression
    package var position: Position
}

/// Arithmetic between `[` and `]` or after `offset`; numbers are seconds.
package indirect enum DurationExpression: Sendable {
    case literal(NumberLiteral)
    /// The query's step and the length of its range, known only when it runs.
    case step, range
    case negated(DurationExpression)
    case binary(BinaryOperator, DurationExpression, DurationExpression)
    case smaller(DurationExpression, DurationExpression)
    case greater(DurationExpression, DurationExpression)
    case parentheses(DurationExpression)

    /// Seconds, given the query's step and range in seconds.
    func seconds(step: Double, range: Double) -> Double {
        switch self {
        case .literal(let literal): return literal.value
        case .step: return step
        case .range: return range
        case .negated(let inner): return -inner.seconds(step: step, range: range)
        case .parentheses(let inner): return inner.seconds(step: step, range: range)
        case .binary(let operation, let left, let right):
            return operation.arithmetic(left.seconds(step: step, range: range), right.seconds(step: step, range: range))
        case .smaller(let left, let right): return min(left.seconds(step: step, range: range), right.seconds(step: step, range: range))
        case .greater(let left, let right): return max(left.seconds(step: step, range: range), right.seconds(step: step, range: range))
        }
    }

    /// Whether the value is known without the query's step and range.
    var isConstant: Bool {
        switch self {
        case .literal: true
        case .step, .range: false
        case .negated(let inner), .parentheses(let inner): inner.isConstant
        case .binary(_, let left, let right), .smaller(let left, let right), .greater(let left, let right): left.isConstant && right.isConstant
        }
    }
}

extension Expression {
    /// Every selector within, in reading order.
    package var selectors: [VectorSelector] {
        switch self {
        case .number, .string: []
        case .selector(let node): [node]
        case .range(let node): [node.selector]
        case .subquery(let node): node.expression.selectors
        case .call(let node): node.arguments.flatMap(\.selectors)
        case .aggregation(let node): (node.parameter?.selectors ?? []) + node.expression.selectors
        case .binary(let node): node.left.selectors + node.right.selectors
        case .unary(let node): node.operand.selectors
        case .parentheses(let inner, _): inner.selectors
        }
    }
}
