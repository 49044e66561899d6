package import ObsStore

/// A parsed query.
package enum LogQLExpression: Sendable {
    case log(LogQuery)
    case metric(MetricExpression)

    package var isMetricQuery: Bool {
        if case .metric = self { return true }
        return false
    }

    /// Matchers of the first stream selector; empty for a query without one (`vector(1)`).
    package var matchers: [LabelMatcher] {
        switch self {
        case .log(let query): query.matchers
        case .metric(let expression): expression.firstQuery?.matchers ?? []
        }
    }
}

/// A stream selector and the stages its records run through.
package struct LogQuery: Sendable {
    package var matchers: [LabelMatcher]
    var stages: [StageExpression] = []
}

enum StageExpression: Sendable {
    case lineFilter(LineFilterExpression)
    case json([Extraction])
    case logfmt(strict: Bool, keepEmpty: Bool, [Extraction])
    case regexp(String)
    case pattern(String)
    case unpack
    case labelFilter(LabelFilterExpression)
    case lineFormat(String)
    case labelFormat([LabelFormat])
    case decolorize
    case drop([LabelChoice])
    case keep([LabelChoice])
    case unwrap(label: String, UnwrapConversion)

    /// `label="path"` of `json` and `logfmt`.
    struct Extraction: Sendable {
        var label: String
        var path: String
    }

    struct LabelFormat: Sendable {
        var label: String
        var source: Source
        enum Source: Sendable {
            case label(String)
            case template(String)
        }
    }

    /// A name of `drop` and `keep`, with a condition on its value where one is given.
    struct LabelChoice: Sendable {
        var name: String
        var matcher: LabelMatcher?
    }
}

enum UnwrapConversion: String, Sendable {
    case number, duration, bytes
    case durationSeconds = "duration_seconds"
}

struct LineFilterExpression: Sendable {
    enum Operation: String, Sendable {
        case contains = "|="
        case containsNot = "!="
        case matches = "|~"
        case matchesNot = "!~"
        case pattern = "|>"
        case patternNot = "!>"
        var isNegative: Bool { self == .containsNot || self == .matchesNot || self == .patternNot }
    }

    struct Alternative: Sendable {
        var text: String
        var isAddress = false
    }

    var operation: Operation
    /// Joined by `or`; never empty.
    var alternatives: [Alternative]
}

indirect enum LabelFilterExpression: Sendable {
    case and(LabelFilterExpression, LabelFilterExpression, spelling: String)
    case or(LabelFilterExpression, LabelFilterExpression)
    case text(LabelMatcher)
    /// Against a number, nanoseconds or bytes; `literal` is the source text.
    case quantity(name: String, Comparison, Quantity, Double, literal: String)
    case address(name: String, negated: Bool, String)

    enum Quantity: Sendable { case number, duration, bytes }
}

enum Comparison: String, Sendable {
    case equal = "=="
    case notEqual = "!="
    case greater = ">"
    case greaterOrEqual = ">="
    case less = "<"
    case lessOrEqual = "<="

    func holds(_ a: Double, _ b: Double) -> Bool {
        switch self {
        case .equal: a == b
        case .notEqual: a != b
        case .greater: a > b
        case .greaterOrEqual: a >= b
        case .less: a < b
        case .lessOrEqual: a <= b
        }
    }
}

package indirect enum MetricExpression: Sendable {
    case range(RangeAggregation)
    case vector(VectorAggregation)
    case binary(BinaryOperation)
    case labelReplace(LabelReplace)
    case constantVector(Double)
    case number(Double)

    var firstQuery: LogQuery? {
        switch self {
        case .range(let range): range.query
        case .vector(let vector): vector.operand.firstQuery
        case .binary(let binary): binary.left.firstQuery ?? binary.right.firstQuery
        case .labelReplace(let replace): replace.operand.firstQuery
        case .constantVector, .number: nil
        }
    }
}

struct Grouping: Sendable, Equatable {
    var without: Bool
    var labels: [String]
}

package struct RangeAggregation: Sendable {
    enum Function: String, Sendable, CaseIterable {
        case rate
        case countOverTime = "count_over_time"
        case rateCounter = "rate_counter"
        case bytesOverTime = "bytes_over_time"
        case bytesRate = "bytes_rate"
        case absentOverTime = "absent_over_time"
        case sumOverTime = "sum_over_time"
        case avgOverTime = "avg_over_time"
        case maxOverTime = "max_over_time"
        case minOverTime = "min_over_time"
        case firstOverTime = "first_over_time"
        case lastOverTime = "last_over_time"
        case stddevOverTime = "stddev_over_time"
        case stdvarOverTime = "stdvar_over_time"
        case quantileOverTime = "quantile_over_time"
    }

    var function: Function
    /// φ of `quantile_over_time`.
    var parameter: Double?
    var query: LogQuery
    var rangeNanos: Int64
    var offsetNanos: Int64 = 0
    var grouping: Grouping?

    var unwraps: Bool {
        query.stages.contains {
            if case .unwrap = $0 { return true }
            return false
        }
    }
}

package struct VectorAggregation: Sendable {
    enum Function: String, Sendable, CaseIterable {
        case sum, avg, min, max, count, stddev, stdvar, topk, bottomk, sort
        case approxTopk = "approx_topk"
        case sortDesc = "sort_desc"
        var takesParameter: Bool { self == .topk || self == .bottomk || self == .approxTopk }
    }

    var function: Function
    /// k of `topk` and `bottomk`.
    var parameter: Int?
    var grouping: Grouping?
    var operand: MetricExpression
}

package struct BinaryOperation: Sendable {
    enum Operator: String, Sendable {
        case or, and, unless
        case equal = "=="
        case notEqual = "!="
        case greater = ">"
        case greaterOrEqual = ">="
        case less = "<"
        case lessOrEqual = "<="
        case add = "+"
        case subtract = "-"
        case multiply = "*"
        case divide = "/"
        case modulo = "%"
        case power = "^"

        var comparison: Comparison? { Comparison(rawValue: rawValue) }
        var isSet: Bool { self == .or || self == .and || self == .unless }
        var precedence: Int {
            switch self {
            case .or: 1
            case .and, .unless: 2
            case .equal, .notEqual, .greater, .greaterOrEqual, .less, .lessOrEqual: 3
            case .add, .subtract: 4
            case .multiply, .divide, .modulo: 5
            case .power: 6
            }
        }
    }

    struct Matching: Sendable {
        enum Cardinality: Sendable { case oneToOne, manyToOne, oneToMany }
        var on = false
        var labels: [String] = []
        var cardinality = Cardinality.oneToOne
        /// Labels taken over from the "one" side.
        var include: [String] = []
    }

    var operation: Operator
    var returnsBool = false
    var matching: Matching?
    var left: MetricExpression
    var right: MetricExpression
}

package struct LabelReplace: Sendable {
    var operand: MetricExpression
    var destination: String
    var replacement: String
    var source: String
    var pattern: String
}
