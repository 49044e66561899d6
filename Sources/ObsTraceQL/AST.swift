internal import ObsRegex

/// A parsed query: a pipeline of span sets.
struct TraceQuery: Sendable {
    var first: SpansetExpression
    var stages: [PipelineStage] = []
}

enum PipelineStage: Sendable {
    /// `| { … }`: filters what is there.
    case spanset(SpansetExpression)
    case scalarFilter(ScalarExpression, FieldOperator, ScalarExpression)
    case by(FieldExpression)
    case coalesce
    case select([FieldExpression])
}

indirect enum SpansetExpression: Sendable {
    /// Nil for `{}`.
    case filter(FieldExpression?)
    case combined(SpansetOperator, SpansetExpression, SpansetExpression)
    /// `( {…} | count() > 2 )`
    case pipeline(TraceQuery)
}

struct SpansetOperator: Sendable, Equatable {
    enum Relation: Sendable, Equatable { case and, or, child, descendant, parent, ancestor, sibling }
    var relation: Relation
    /// `!>`: right spans without such a left span.
    var isNegated = false
    /// `&>`: both sides.
    var keepsBoth = false

    init?(_ text: String) {
        switch text {
        case "&&": relation = .and
        case "||": relation = .or
        default:
            var rest = Substring(text)
            if rest.first == "!" {
                isNegated = true
                rest = rest.dropFirst()
            } else if rest.first == "&" {
                keepsBoth = true
                rest = rest.dropFirst()
            }
            switch rest {
            case ">": relation = .child
            case ">>": relation = .descendant
            case "<": relation = .parent
            case "<<": relation = .ancestor
            case "~": relation = .sibling
            default: return nil
            }
        }
    }

    /// `&&` and `||` bind looser than the structural ones.
    var precedence: Int { relation == .and || relation == .or ? 1 : 2 }
}

indirect enum ScalarExpression: Sendable {
    case literal(StaticValue)
    case count
    case aggregate(Aggregate, FieldExpression)
    case arithmetic(FieldOperator, ScalarExpression, ScalarExpression)

    enum Aggregate: String, Sendable { case avg, min, max, sum }
}

enum FieldOperator: String, Sendable {
    case or = "||"
    case and = "&&"
    case equal = "="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case matches = "=~"
    case matchesNot = "!~"
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case modulo = "%"
    case power = "^"

    var precedence: Int {
        switch self {
        case .or, .and: 1
        case .equal, .notEqual, .less, .lessOrEqual, .greater, .greaterOrEqual, .matches, .matchesNot: 2
        case .add, .subtract: 3
        case .multiply, .divide, .modulo: 5
        case .power: 6
        }
    }

    var isComparison: Bool { precedence == 2 }
    var isLogical: Bool { precedence == 1 }
}

indirect enum FieldExpression: Sendable {
    case literal(StaticValue)
    case attribute(AttributeName)
    case binary(FieldOperator, FieldExpression, FieldExpression)
    /// `=~` and `!~` with their pattern compiled, anchored at both ends.
    case match(FieldExpression, Regex, isNegated: Bool)
    case not(FieldExpression)
    case negate(FieldExpression)
}

enum StaticValue: Sendable, Equatable {
    case null
    case string(String)
    case int(Int64)
    case float(Double)
    case bool(Bool)
    case duration(Int64)
    case status(UInt8)
    case kind(UInt8)
}

enum AttributeName: Sendable, Equatable {
    case field(AttributeScope, String, ofParent: Bool)
    case intrinsic(Intrinsic)

    /// Key under which a matched span shows it.
    var key: String {
        switch self {
        case .field(_, let name, _): name
        case .intrinsic(let intrinsic): intrinsic.rawValue
        }
    }
}

/// Raw values are the short names where there is one.
enum Intrinsic: String, Sendable, CaseIterable {
    case name, status, statusMessage, kind, duration, rootName, rootServiceName, traceDuration, nestedSetLeft, nestedSetRight, nestedSetParent
    case spanID = "span:id"
    case spanParentID = "span:parentID"
    case childCount = "span:childCount"
    case traceID = "trace:id"
    case eventName = "event:name"
    case eventTimeSinceStart = "event:timeSinceStart"
    case linkTraceID = "link:traceID"
    case linkSpanID = "link:spanID"
    case instrumentationName = "instrumentation:name"
    case instrumentationVersion = "instrumentation:version"

    /// Takes both spellings: `duration` and `span:duration`.
    init?(spelling: String) {
        switch spelling {
        case "span:name": self = .name
        case "span:status": self = .status
        case "span:statusMessage": self = .statusMessage
        case "span:kind": self = .kind
        case "span:duration": self = .duration
        case "trace:rootName": self = .rootName
        case "trace:rootService": self = .rootServiceName
        case "trace:duration": self = .traceDuration
        default:
            guard let known = Intrinsic(rawValue: spelling) else { return nil }
            self = known
        }
    }

    /// Whether the span alone does not tell it.
    var needsTrace: Bool {
        switch self {
        case .rootName, .rootServiceName, .traceDuration, .nestedSetLeft, .nestedSetRight, .nestedSetParent, .childCount: true
        default: false
        }
    }
}

extension FieldExpression {
    /// Attributes named anywhere in the expression, each once.
    func collectAttributes(_ result: inout [AttributeName]) {
        switch self {
        case .literal: break
        case .attribute(let name): if !result.contains(name) { result.append(name) }
        case .binary(_, let a, let b):
            a.collectAttributes(&result)
            b.collectAttributes(&result)
        case .match(let inner, _, _), .not(let inner), .negate(let inner): inner.collectAttributes(&result)
        }
    }

    /// Whether the span alone does not decide it.
    var needsTrace: Bool {
        var names: [AttributeName] = []
        collectAttributes(&names)
        return names.contains { name in
            switch name {
            case .field(_, _, let ofParent): ofParent
            case .intrinsic(let intrinsic): intrinsic.needsTrace
            }
        }
    }

    /// Terms joined by `&&` at the top.
    var conjuncts: [FieldExpression] {
        if case .binary(.and, let a, let b) = self { return a.conjuncts + b.conjuncts }
        return [self]
    }
}
