// A native histogram as queries reckon with it: all counts are doubles, whatever they were stored as, since a rate or a quotient of counts is no whole number.
//
// Each side keeps its buckets as two arrays, the indices that are populated and their counts. So one rule serves all operations on two histograms: bring both
// to the coarser schema, to the wider zero bucket, to the union of their indices, and go over the counts. Histograms of one series mostly have the same
// buckets; their index arrays are then one array that is shared, and nothing has to be merged.
//
// Bucket i of an exponential schema s holds values in (2^((i-1)·2^-s), 2^(i·2^-s)], on the negative side mirrored; each step down in schema joins two
// neighbours. Of custom bounds bucket i ends at bound i, the one past the last bound at infinity. Semantics, bound for bound, are those of Prometheus 3.
package import ObsCore

/// Counts of one side of a histogram, by bucket. A bucket may be there with a count of 0: which ones are there is part of a histogram's identity.
package struct BucketCounts: Sendable {
    /// Ascending.
    package var indices: [Int32]
    package var counts: [Double]

    package init(indices: [Int32] = [], counts: [Double] = []) {
        self.indices = indices
        self.counts = counts
    }

    /// Neighbouring buckets from `offset` on.
    package init(offset: Int32, counts: [Double]) { self.init(indices: counts.indices.map { offset &+ Int32($0) }, counts: counts) }

    package var isEmpty: Bool { counts.isEmpty }
    var isPopulated: Bool { counts.contains { $0 != 0 } }
}

extension BucketCounts: Equatable {
    /// The same buckets with the same counts, bit by bit.
    package static func == (a: BucketCounts, b: BucketCounts) -> Bool {
        a.indices == b.indices && zip(a.counts, b.counts).allSatisfy { $0.bitPattern == $1.bitPattern }
    }
}

package struct FloatHistogram: Sendable {
    package var schema: Int8
    package var reset: CounterReset
    /// The zero bucket reaches this far to either side.
    package var zeroThreshold: Double
    package var zeroCount: Double
    package var count: Double
    package var sum: Double
    package var positive: BucketCounts
    package var negative: BucketCounts
    /// Upper bounds, ascending, of buckets that are no powers; the last bucket has none.
    package var bounds: [Double]

    package init(
        schema: Int8 = 0, reset: CounterReset = .unknown, zeroThreshold: Double = 0, zeroCount: Double = 0, count: Double = 0, sum: Double = 0,
        positive: BucketCounts = BucketCounts(), negative: BucketCounts = BucketCounts(), bounds: [Double] = []
    ) {
        self.schema = schema
        self.reset = reset
        self.zeroThreshold = zeroThreshold
        self.zeroCount = zeroCount
        self.count = count
        self.sum = sum
        self.positive = positive
        self.negative = negative
        self.bounds = bounds
    }

    package var hasCustomBounds: Bool { schema == HistogramLayout.customSchema }

    package var bucketCount: Int { positive.counts.count + negative.counts.count }

    /// About what it takes in memory.
    var byteSize: Int { 96 + (positive.counts.count + negative.counts.count) * 12 + bounds.count * 8 }

    /// Drops buckets that count nothing.
    package mutating func compact() {
        positive.compact()
        negative.compact()
    }

    package func compacted() -> FloatHistogram {
        var copy = self
        copy.compact()
        return copy
    }

    // MARK: scaling

    /// Every count and the sum times a number. What is scaled by less than nothing counts no more.
    package mutating func multiply(by factor: Double) {
        scale { $0 * factor }
        if factor < 0 { reset = .gauge }
    }

    /// As `multiply`; a division by 0 leaves no buckets.
    package mutating func divide(by divisor: Double) {
        scale { $0 / divisor }
        if divisor == 0 { (positive, negative) = (BucketCounts(), BucketCounts()) }
        if divisor < 0 { reset = .gauge }
    }

    private mutating func scale(_ body: (Double) -> Double) {
        (zeroCount, count, sum) = (body(zeroCount), body(count), body(sum))
        for index in positive.counts.indices { positive.counts[index] = body(positive.counts[index]) }
        for index in negative.counts.indices { negative.counts[index] = body(negative.counts[index]) }
    }

    func multiplied(by factor: Double) -> FloatHistogram {
        var copy = self
        copy.multiply(by: factor)
        return copy
    }

    func divided(by divisor: Double) -> FloatHistogram {
        var copy = self
        copy.divide(by: divisor)
        return copy
    }

    /// Whether some count is past what a double holds.
    var hasOverflow: Bool {
        zeroCount.isInfinite || count.isInfinite || sum.isInfinite || positive.counts.contains(where: \.isInfinite)
            || negative.counts.contains(where: \.isInfinite)
    }
}

extension FloatHistogram: Equatable {
    /// The same data: layout, counts and sum bit by bit; what they say of counter resets does not matter.
    package static func == (a: FloatHistogram, b: FloatHistogram) -> Bool {
        a.schema == b.schema && a.count.bitPattern == b.count.bitPattern && a.sum.bitPattern == b.sum.bitPattern && a.zeroThreshold == b.zeroThreshold
            && a.zeroCount.bitPattern == b.zeroCount.bitPattern && a.positive == b.positive && a.negative == b.negative
            && (!a.hasCustomBounds || a.bounds == b.bounds)
    }
}

// MARK: columns

/// A histogram sample of a range vector.
struct HistogramPoint: Sendable {
    var timeMillis: Int64
    /// When counting began, 0 where unknown.
    var startMillis: Int64 = 0
    var histogram: FloatHistogram
}

/// Takes rows out of columns; buckets and bounds of a layout are worked out once.
package struct HistogramDecoder {
    private struct Layout {
        var positive: [Int32] = []
        var negative: [Int32] = []
        var bounds: [Double] = []
        /// Buckets ascend.
        var isSound = true
    }
    private let columns: HistogramColumns
    private var layouts: [Layout?]

    package init(_ columns: HistogramColumns) {
        self.columns = columns
        layouts = [Layout?](repeating: nil, count: columns.layouts.count)
    }

    package mutating func histogram(_ row: Int) -> FloatHistogram {
        let layout = columns.layouts[Int(columns.layout[row])]
        let known = decoded(Int(columns.layout[row]), layout)
        let range = columns.bucketRange(row)
        let middle = range.lowerBound + layout.positiveCount
        guard known.isSound else { return FloatHistogram(schema: layout.schema, sum: columns.sums[row], bounds: known.bounds) }
        func value(_ bits: UInt64) -> Double { layout.isFloat ? Double(bitPattern: bits) : Double(bits) }
        return FloatHistogram(
            schema: layout.schema, reset: columns.resets[row], zeroThreshold: layout.zeroThreshold, zeroCount: value(columns.zeroCounts[row]),
            count: value(columns.counts[row]), sum: columns.sums[row],
            positive: BucketCounts(indices: known.positive, counts: columns.buckets[range.lowerBound..<middle].map(value)),
            negative: BucketCounts(indices: known.negative, counts: columns.buckets[middle..<range.upperBound].map(value)), bounds: known.bounds)
    }

    private mutating func decoded(_ index: Int, _ layout: HistogramLayout) -> Layout {
        if let known = layouts[index] { return known }
        var decoded = Layout(bounds: layout.customBounds)
        layout.forEachBucket { isNegative, bucket in
            if isNegative { decoded.negative.append(Int32(clamping: bucket)) } else { decoded.positive.append(Int32(clamping: bucket)) }
        }
        // What is taken in is checked; sums rely on it.
        for side in [decoded.positive, decoded.negative] where zip(side, side.dropFirst()).contains(where: { $0 >= $1 }) { decoded.isSound = false }
        layouts[index] = decoded
        return decoded
    }
}

extension HistogramColumns {
    /// Adds a row of doubles.
    package mutating func append(_ histogram: FloatHistogram, timeMillis: Int64, startMillis: Int64 = 0) {
        let layout = HistogramLayout(
            schema: histogram.schema, isFloat: true, zeroThreshold: histogram.zeroThreshold, positive: histogram.positive.spans,
            negative: histogram.negative.spans, customBounds: histogram.bounds)
        append(
            timeMillis: timeMillis, startMillis: startMillis, layout: intern(layout), reset: histogram.reset, count: histogram.count.bitPattern,
            zeroCount: histogram.zeroCount.bitPattern, sum: histogram.sum, buckets: (histogram.positive.counts + histogram.negative.counts).map(\.bitPattern))
    }
}

extension BucketCounts {
    fileprivate var spans: [BucketSpan] {
        var spans: [BucketSpan] = []
        var next: Int32 = 0
        for index in indices {
            if index == next, let last = spans.indices.last {
                spans[last].length += 1
            } else {
                spans.append(BucketSpan(offset: index &- next, length: 1))
            }
            next = index &+ 1
        }
        return spans
    }
}
