internal import ObsCore

/// One native histogram while it is read from a message, field by field; `append` makes it a row of columns. The message's own reader knows the field
/// numbers, which differ between the exposition format and remote write. Used again for the next message after `removeAll`.
struct HistogramRow {
    /// Spans and counts of the buckets to one side of zero. Senders write counts as differences (whole numbers) or as they are (floats).
    struct Side {
        var spans: [BucketSpan] = []
        var deltas: [Int64] = []
        var counts: [Double] = []

        mutating func removeAll() {
            spans.removeAll(keepingCapacity: true)
            deltas.removeAll(keepingCapacity: true)
            counts.removeAll(keepingCapacity: true)
        }

        /// Takes the counts of neighbouring buckets. Three empty ones in a row, and all at the ends, are left out.
        mutating func setDense(_ dense: [UInt64], firstIndex: Int64) {
            removeAll()
            var end: Int64 = 0
            var last: Int64 = 0
            var at = 0
            while let next = dense[at...].firstIndex(where: { $0 != 0 }) {
                let gap = next - at
                if !spans.isEmpty, gap <= 2 {
                    for _ in 0..<gap { deltas.append(-last); last = 0 }
                    spans[spans.count - 1].length += UInt32(gap)
                } else {
                    let index = firstIndex + Int64(next)
                    spans.append(BucketSpan(offset: Int32(clamping: index - end), length: 0))
                }
                var stop = next
                while stop < dense.count, dense[stop] != 0 {
                    let value = Int64(clamping: dense[stop])
                    deltas.append(value &- last)
                    last = value
                    stop += 1
                }
                spans[spans.count - 1].length += UInt32(stop - next)
                end = firstIndex + Int64(stop)
                at = stop
            }
        }

        /// What spans say that there is.
        fileprivate var bucketCount: Int { spans.reduce(0) { $0 + Int($1.length) } }

        /// The counts as columns keep them; nil when there are not as many as buckets or a difference leads below zero.
        fileprivate func columns(isFloat: Bool) -> [UInt64]? {
            guard bucketCount == (isFloat ? counts.count : deltas.count) else { return nil }
            if isFloat { return counts.map(\.bitPattern) }
            var value: Int64 = 0
            var result: [UInt64] = []
            result.reserveCapacity(deltas.count)
            for delta in deltas {
                value &+= delta
                guard value >= 0 else { return nil }
                result.append(UInt64(value))
            }
            return result
        }
    }

    var schema: Int64 = 0
    var isFloat = false
    var count: UInt64 = 0
    var countFloat = 0.0
    var sum = 0.0
    var zeroThreshold = 0.0
    var zeroCount: UInt64 = 0
    var zeroCountFloat = 0.0
    var positive = Side()
    var negative = Side()
    var customBounds: [Double] = []
    var reset = CounterReset.unknown
    var timeMillis: Int64 = 0
    var startMillis: Int64 = 0

    mutating func removeAll() {
        var positive = positive
        var negative = negative
        positive.removeAll()
        negative.removeAll()
        self = HistogramRow()
        self.positive = positive
        self.negative = negative
    }

    var isStale: Bool { SpecialValue.isStale(sum) }

    /// Adds the row.
    /// - Returns: what is wrong with the histogram, which is then not added; nil when all is well.
    func append(to columns: inout HistogramColumns) -> String? {
        if isStale {
            columns.append(
                timeMillis: timeMillis, startMillis: startMillis, layout: columns.intern(HistogramLayout()), reset: reset, count: 0, zeroCount: 0, sum: sum,
                buckets: [])
            return nil
        }
        guard let schema = Int8(exactly: schema) else { return "schema \(schema) is not known" }
        guard let high = positive.columns(isFloat: isFloat), let low = negative.columns(isFloat: isFloat) else {
            return "spans have other buckets than there are counts"
        }
        for spans in [positive.spans, negative.spans] where spans.dropFirst().contains(where: { $0.offset < 0 }) { return "spans of buckets overlap" }
        let layout = HistogramLayout(
            schema: schema, isFloat: isFloat, zeroThreshold: zeroThreshold, positive: positive.spans, negative: negative.spans, customBounds: customBounds)
        if let fault = layout.fault { return fault }
        columns.append(
            timeMillis: timeMillis, startMillis: startMillis, layout: columns.intern(layout), reset: reset,
            count: isFloat ? countFloat.bitPattern : count, zeroCount: isFloat ? zeroCountFloat.bitPattern : zeroCount, sum: sum, buckets: high + low)
        let fault = columns.fault(ofRow: columns.count - 1)
        if fault != nil { columns.removeLast() }
        return fault
    }
}

extension HistogramRow.Side {
    /// Reads the `BucketSpan` the reader stands at.
    mutating func readSpan(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        var span = BucketSpan(offset: 0, length: 0)
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): span.offset = Int32(truncatingIfNeeded: reader.zigzag())
            case .field(2, .varint): span.length = UInt32(truncatingIfNeeded: reader.varint())
            default: reader.skip()
            }
        }
        parent.check(reader)
        spans.append(span)
    }

    mutating func readDeltas(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        while !reader.isAtEnd { deltas.append(reader.zigzag()) }
        parent.check(reader)
    }

    mutating func readCounts(_ parent: inout ProtobufReader) { parent.readDoubles(into: &counts) }
}

extension ProtobufReader {
    /// A packed field of doubles.
    mutating func readDoubles(into values: inout [Double]) {
        var packed = message()
        while !packed.isAtEnd { values.append(packed.double()) }
        check(packed)
    }

    /// The `google.protobuf.Timestamp` the reader stands at, in milliseconds.
    mutating func timestampMillis() -> Int64 {
        var reader = message()
        var seconds: Int64 = 0
        var nanos: Int64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): seconds = Int64(bitPattern: reader.varint())
            case .field(2, .varint): nanos = Int64(Int32(truncatingIfNeeded: reader.varint()))
            default: reader.skip()
            }
        }
        check(reader)
        return seconds &* 1000 &+ nanos / nanosPerMilli
    }
}
