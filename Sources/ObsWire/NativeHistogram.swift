internal import Glibc
internal import ObsCore

/// Remote write's `Histogram` message: exponential buckets (schema −4…8: bounds are powers of 2^(2^−schema)) or custom ones (schema −53: bounds given).
struct NativeHistogram {
    private(set) var isValid = true
    private(set) var count = 0.0
    private(set) var sum = 0.0
    private(set) var timeMillis: Int64 = 0
    private var schema: Int64 = 0
    private var zeroThreshold = 0.0
    private var zeroCount = 0.0
    private var negative: [(index: Int64, count: Double)] = []
    private var positive: [(index: Int64, count: Double)] = []
    private var customBounds: [Double] = []

    var isStale: Bool { SpecialValue.isStale(sum) }

    init(_ message: ProtobufReader) {
        var reader = message
        var negativeSpans: [Span] = []
        var positiveSpans: [Span] = []
        var negativeCounts: [Double] = []
        var positiveCounts: [Double] = []
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): count = Double(reader.varint())
            case .field(2, .fixed64): count = reader.double()
            case .field(3, .fixed64): sum = reader.double()
            case .field(4, .varint): schema = reader.zigzag()
            case .field(5, .fixed64): zeroThreshold = reader.double()
            case .field(6, .varint): zeroCount = Double(reader.varint())
            case .field(7, .fixed64): zeroCount = reader.double()
            case .field(8, .length): negativeSpans.append(Span(&reader))
            case .field(9, .length): Self.readDeltas(&reader, into: &negativeCounts)
            case .field(10, .length): Self.readDoubles(&reader, into: &negativeCounts)
            case .field(11, .length): positiveSpans.append(Span(&reader))
            case .field(12, .length): Self.readDeltas(&reader, into: &positiveCounts)
            case .field(13, .length): Self.readDoubles(&reader, into: &positiveCounts)
            case .field(15, .varint): timeMillis = Int64(bitPattern: reader.varint())
            case .field(16, .length): Self.readDoubles(&reader, into: &customBounds)
            default: reader.skip()
            }
        }
        negative = Self.place(negativeCounts, negativeSpans)
        positive = Self.place(positiveCounts, positiveSpans)
        isValid =
            !reader.failed && negative.count == negativeCounts.count && positive.count == positiveCounts.count
            && (schema == -53 || (-9...52).contains(schema)) && Self.increases(customBounds)
    }

    private static func increases(_ bounds: [Double]) -> Bool { zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 } }

    private struct Span {
        var offset: Int64 = 0
        var length: UInt64 = 0

        init(_ parent: inout ProtobufReader) {
            var reader = parent.message()
            while reader.next() {
                switch reader.tag {
                case .field(1, .varint): offset = reader.zigzag()
                case .field(2, .varint): length = reader.varint()
                default: reader.skip()
                }
            }
            parent.check(reader)
        }
    }

    /// Counts of integer histograms are differences, the first from 0.
    private static func readDeltas(_ parent: inout ProtobufReader, into counts: inout [Double]) {
        var reader = parent.message()
        var value = Int64(exactly: counts.last ?? 0) ?? 0
        while !reader.isAtEnd {
            value &+= reader.zigzag()
            counts.append(Double(value))
        }
        parent.check(reader)
    }

    private static func readDoubles(_ parent: inout ProtobufReader, into values: inout [Double]) {
        var reader = parent.message()
        while !reader.isAtEnd { values.append(reader.double()) }
        parent.check(reader)
    }

    /// Gives each count its bucket index; fewer results than counts when the spans are too short or leave the index range.
    private static func place(_ counts: [Double], _ spans: [Span]) -> [(index: Int64, count: Double)] {
        var placed: [(index: Int64, count: Double)] = []
        var index: Int64 = 0
        for span in spans {
            guard Int64(Int32.min)...Int64(Int32.max) ~= span.offset else { break }
            index += span.offset
            var left = span.length
            while left > 0, placed.count < counts.count {
                placed.append((index, counts[placed.count]))
                index += 1
                left -= 1
            }
            guard left == 0, abs(index) < 1 << 40 else { break }
        }
        return placed
    }

    /// Buckets from the lowest bound up, counts cumulated as classic histograms have them.
    func cumulativeBuckets() -> [(upperBound: Double, count: Double)] {
        var buckets: [(upperBound: Double, count: Double)] = []
        var total = 0.0
        for bucket in negative.reversed() {
            total += bucket.count
            buckets.append((-bound(bucket.index - 1), total))
        }
        if zeroCount > 0 || !negative.isEmpty {
            total += zeroCount
            buckets.append((zeroThreshold, total))
        }
        for bucket in positive {
            total += bucket.count
            buckets.append((bound(bucket.index), total))
        }
        return buckets
    }

    /// Upper bound of the positive bucket of that index.
    private func bound(_ index: Int64) -> Double {
        if schema == -53 { return index >= 0 && index < Int64(customBounds.count) ? customBounds[Int(index)] : .infinity }
        if schema <= 0 { return power(of: Double(index) * Double(1 << min(-schema, 32))) }
        return power(of: Double(index) / Double(1 << schema))
    }

    /// 2^exponent, exact for whole exponents.
    private func power(of exponent: Double) -> Double {
        let whole = exponent.rounded(.down)
        guard abs(whole) <= 2000 else { return whole < 0 ? 0 : .infinity }
        return Double(sign: .plus, exponent: Int(whole), significand: exp2(exponent - whole))
    }
}
