internal import ObsCore
internal import ObsStore

/// `| status >= 500 and (method = "GET" or size > 1KB)`.
///
/// Against a quantity: an absent label drops the row; a value that is none sets `LabelFilterErr` and keeps it; a row that has an error already passes.
struct LabelFilterStage: Stage {
    private indirect enum Test: Sendable {
        case and(Test, Test)
        case or(Test, Test)
        case text([UInt8], LabelMatcher)
        case quantity([UInt8], Comparison, LabelFilterExpression.Quantity, Double)
        case address([UInt8], negated: Bool, AddressRange)
    }

    private let test: Test

    init(_ expression: LabelFilterExpression) throws(ObsError) { test = try Self.compile(expression) }

    private static func compile(_ expression: LabelFilterExpression) throws(ObsError) -> Test {
        switch expression {
        case .and(let a, let b, _): .and(try compile(a), try compile(b))
        case .or(let a, let b): .or(try compile(a), try compile(b))
        case .text(let matcher): .text(Array(matcher.name.utf8), matcher)
        case .quantity(let name, let comparison, let quantity, let value, _): .quantity(Array(name.utf8), comparison, quantity, value)
        case .address(let name, let negated, let range): .address(Array(name.utf8), negated: negated, try AddressRange(range))
        }
    }

    func process(_ row: Row) -> Bool { holds(test, row) }

    private func holds(_ test: Test, _ row: Row) -> Bool {
        switch test {
        case .and(let a, let b): return holds(a, row) && holds(b, row)
        case .or(let a, let b): return holds(a, row) || holds(b, row)
        case .text(let name, let matcher): return row.withValue(name) { matcher.matches($0) }
        case .quantity(let name, let comparison, let quantity, let wanted):
            if row.hasError { return true }
            guard row.find(name) != nil else { return false }
            guard let value = row.withValue(name, { readQuantity($0, quantity) }) else {
                let text = String(decoding: row.value(name) ?? [], as: UTF8.self)
                row.setError("LabelFilterErr", "cannot convert \(quoted(text)) to a \(quantity)")
                return true
            }
            return comparison.holds(value, wanted)
        case .address(let name, let negated, let range):
            if row.hasError { return true }
            guard row.find(name) != nil else { return false }
            return row.withValue(name) { range.holds($0) } != negated
        }
    }
}

/// A label's text as a number, as nanoseconds or as bytes.
func readQuantity(_ text: UnsafeRawBufferPointer, _ quantity: LabelFilterExpression.Quantity) -> Double? {
    switch quantity {
    case .number: parseNumber(text)
    case .duration: parseGoDuration(String(decoding: text, as: UTF8.self))
    case .bytes: parseByteSize(String(decoding: text, as: UTF8.self))
    }
}
