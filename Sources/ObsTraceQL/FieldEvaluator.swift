internal import Glibc
internal import ObsCore
internal import ObsRegex

/// A value at hand. `view` points into the batch and lives as long as the evaluation of its span.
enum Value {
    case missing
    case view(UnsafeRawBufferPointer)
    case string(String)
    case int(Int64)
    case float(Double)
    case bool(Bool)
    case duration(Int64)
    case status(UInt8)
    case kind(UInt8)
    /// Array attributes, and the values of all events or links of a span.
    case list([Value])

    init(_ value: StaticValue) {
        switch value {
        case .null: self = .missing
        case .string(let text): self = .string(text)
        case .int(let number): self = .int(number)
        case .float(let number): self = .float(number)
        case .bool(let flag): self = .bool(flag)
        case .duration(let nanos): self = .duration(nanos)
        case .status(let status): self = .status(status)
        case .kind(let kind): self = .kind(kind)
        }
    }

    var isMissing: Bool {
        switch self {
        case .missing: true
        case .list(let list): list.isEmpty
        default: false
        }
    }

    var number: Double? {
        switch self {
        case .int(let value), .duration(let value): Double(value)
        case .float(let value): value
        default: nil
        }
    }

    func withText<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R? {
        switch self {
        case .view(let bytes): return body(bytes)
        case .string(let text):
            var copy = text
            return copy.withUTF8 { body(UnsafeRawBufferPointer($0)) }
        default: return nil
        }
    }

    /// For answers; nil for what is missing.
    var attribute: AttributeValue? {
        switch self {
        case .missing: nil
        case .view(let bytes): .string(String(decoding: bytes, as: UTF8.self))
        case .string(let text): .string(text)
        case .int(let number), .duration(let number): .int(number)
        case .float(let number): .double(number)
        case .bool(let flag): .bool(flag)
        case .status(let status): .string(SpanStatus.word(status))
        case .kind(let kind): .string(SpanKind.word(kind))
        case .list(let list): list.first?.attribute
        }
    }
}

/// A span in its batch, and its trace where that is known. `bytes` are the batch's.
struct SpanPlace {
    let batch: SpanSource
    let bytes: UnsafeRawBufferPointer
    var row: Int
    let trace: TraceShape?
}

/// A batch behind a reference, so that passing it on costs nothing.
final class SpanSource {
    let batch: SpanBatch
    init(_ batch: SpanBatch) { self.batch = batch }
}

extension FieldExpression {
    func isTrue(_ span: SpanPlace) -> Bool {
        switch self {
        case .binary(.and, let a, let b): return a.isTrue(span) && b.isTrue(span)
        case .binary(.or, let a, let b): return a.isTrue(span) || b.isTrue(span)
        case .binary(let operation, let a, let b) where operation.isComparison:
            // `x = nil` and `x != nil` ask for presence.
            if case .literal(.null) = b { return a.value(span).isMissing == (operation == .equal) }
            if case .literal(.null) = a { return b.value(span).isMissing == (operation == .equal) }
            return compare(operation, a.value(span), b.value(span))
        case .match(let inner, let regex, let isNegated): return matches(inner.value(span), regex, isNegated: isNegated)
        case .not(let inner):
            // A missing attribute is neither true nor false.
            if case .attribute = inner {
                if case .bool(let flag) = inner.value(span) { return !flag }
                return false
            }
            return !inner.isTrue(span)
        default:
            if case .bool(let flag) = value(span) { return flag }
            return false
        }
    }

    func value(_ span: SpanPlace) -> Value {
        switch self {
        case .literal(let value): return Value(value)
        case .attribute(let name): return span.value(name)
        case .negate(let inner):
            switch inner.value(span) {
            case .int(let number): return .int(0 &- number)
            case .duration(let number): return .duration(0 &- number)
            case .float(let number): return .float(-number)
            default: return .missing
            }
        case .binary(let operation, let a, let b) where !operation.isComparison && !operation.isLogical:
            return arithmetic(operation, a.value(span), b.value(span))
        default: return .bool(isTrue(span))
        }
    }
}

/// Any element suffices, but for `!=`, which no element may contradict.
func compare(_ operation: FieldOperator, _ a: Value, _ b: Value) -> Bool {
    switch (a, b) {
    case (.missing, _), (_, .missing): return false
    case (.list(let list), let other), (let other, .list(let list)):
        if list.isEmpty { return false }
        let listIsLeft = if case .list = a { true } else { false }
        let test = { (element: Value) in listIsLeft ? compareOne(operation, element, other) : compareOne(operation, other, element) }
        return operation == .notEqual ? list.allSatisfy { !compareOne(.equal, $0, other) } : list.contains(where: test)
    default: return compareOne(operation, a, b)
    }
}

private func compareOne(_ operation: FieldOperator, _ a: Value, _ b: Value) -> Bool {
    func holds(_ order: Int) -> Bool {
        switch operation {
        case .equal: order == 0
        case .notEqual: order != 0
        case .less: order < 0
        case .lessOrEqual: order <= 0
        case .greater: order > 0
        case .greaterOrEqual: order >= 0
        default: false
        }
    }
    switch (a, b) {
    case (.int(let x), .int(let y)), (.duration(let x), .duration(let y)), (.int(let x), .duration(let y)), (.duration(let x), .int(let y)):
        return holds(x == y ? 0 : x < y ? -1 : 1)
    case (.bool(let x), .bool(let y)): return holds(x == y ? 0 : 1)
    case (.status(let x), .status(let y)), (.kind(let x), .kind(let y)): return holds(x == y ? 0 : 1)
    default: break
    }
    if let x = a.number, let y = b.number {
        if x.isNaN || y.isNaN { return operation == .notEqual }
        return holds(x == y ? 0 : x < y ? -1 : 1)
    }
    // Types are strict: what does not compare is neither equal nor unequal.
    return a.withText { x in b.withText { y in holds(compareBytes(x, y)) } ?? false } ?? false
}

private func matches(_ value: Value, _ regex: Regex, isNegated: Bool) -> Bool {
    switch value {
    case .list(let list):
        if list.isEmpty { return false }
        let some = list.contains { $0.withText { regex.matchesWhole($0) } ?? false }
        return some != isNegated
    default: return value.withText { regex.matchesWhole($0) != isNegated } ?? false
    }
}

func arithmetic(_ operation: FieldOperator, _ a: Value, _ b: Value) -> Value {
    switch (a, b) {
    case (.int(let x), .int(let y)): return whole(operation, x, y).map { .int($0) } ?? .missing
    case (.duration(let x), .duration(let y)), (.duration(let x), .int(let y)), (.int(let x), .duration(let y)):
        return whole(operation, x, y).map { .duration($0) } ?? .missing
    default: break
    }
    guard let x = a.number, let y = b.number else { return .missing }
    let result: Double
    switch operation {
    case .add: result = x + y
    case .subtract: result = x - y
    case .multiply: result = x * y
    case .divide: result = x / y
    case .modulo: result = fmod(x, y)
    case .power: result = pow(x, y)
    default: return .missing
    }
    let isDuration =
        switch (a, b) {
        case (.duration, _), (_, .duration): true
        default: false
        }
    if isDuration, abs(result) < 9.2e18 { return .duration(Int64(result)) }
    return .float(result)
}

private func whole(_ operation: FieldOperator, _ x: Int64, _ y: Int64) -> Int64? {
    switch operation {
    case .add: return x &+ y
    case .subtract: return x &- y
    case .multiply: return x &* y
    case .divide: return y == 0 ? nil : x.dividedReportingOverflow(by: y).partialValue
    case .modulo: return y == 0 ? nil : x.remainderReportingOverflow(dividingBy: y).partialValue
    case .power:
        let result = pow(Double(x), Double(y))
        return abs(result) < 9.2e18 ? Int64(result) : nil
    default: return nil
    }
}
