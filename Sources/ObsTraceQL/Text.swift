internal import ObsCore
internal import ObsRegex

extension FieldExpression {
    /// The expression as text, for names such as `by(resource.service.name)`.
    var text: String {
        switch self {
        case .literal(let value): value.text
        case .attribute(let name): name.text
        case .binary(let operation, let a, let b): "\(a.text) \(operation.rawValue) \(b.text)"
        case .match(let inner, let regex, let isNegated): "\(inner.text) \(isNegated ? "!~" : "=~") `\(regex.pattern)`"
        case .not(let inner): "!\(inner.text)"
        case .negate(let inner): "-\(inner.text)"
        }
    }
}

extension AttributeName {
    var text: String {
        switch self {
        case .intrinsic(let intrinsic): intrinsic.rawValue
        case .field(let scope, let name, let ofParent): (ofParent ? "parent." : "") + (scope == .none ? (ofParent ? "" : ".") : scope.rawValue + ".") + name
        }
    }
}

extension StaticValue {
    var text: String {
        switch self {
        case .null: "nil"
        case .string(let text): "`\(text)`"
        case .int(let number): String(number)
        case .float(let number): formatSampleValue(number)
        case .bool(let flag): flag ? "true" : "false"
        case .duration(let nanos): nanos % 1_000_000 == 0 ? formatDuration(millis: nanos / 1_000_000) : "\(nanos)ns"
        case .status(let status): SpanStatus.word(status)
        case .kind(let kind): SpanKind.word(kind)
        }
    }
}
