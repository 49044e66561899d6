internal import ObsCore

/// A running total of native histograms of whole numbers: what increments come to. Where they differ in resolution the coarser one stays, where they differ in
/// bounds the total begins anew.
struct HistogramSum: Sendable {
    private var schema: Int8
    private var zeroThreshold: Double
    private var customBounds: [UInt64]
    private var positive: [Int64: UInt64] = [:]
    private var negative: [Int64: UInt64] = [:]
    private(set) var count: UInt64 = 0
    private(set) var zeroCount: UInt64 = 0
    private(set) var sum = 0.0

    init(_ columns: HistogramColumns, row: Int) {
        let layout = columns.layout(ofRow: row)
        schema = layout.schema
        zeroThreshold = layout.zeroThreshold
        customBounds = layout.customBoundsBits
        add(columns, row: row)
    }

    /// About what it takes in memory.
    var byteSize: Int { 96 + (positive.count + negative.count) * 32 + customBounds.count * 8 }

    /// False, with nothing added, when its buckets are not of the same kind or do not have the same bounds.
    @discardableResult
    mutating func add(_ columns: HistogramColumns, row: Int) -> Bool {
        let layout = columns.layout(ofRow: row)
        let isCustom = layout.schema == HistogramLayout.customSchema
        guard isCustom == (schema == HistogramLayout.customSchema), layout.customBoundsBits == customBounds else { return false }
        if !isCustom, layout.schema < schema { coarsen(to: layout.schema) }
        let steps = isCustom ? 0 : Int64(layout.schema - schema)
        zeroThreshold = max(zeroThreshold, layout.zeroThreshold)
        var at = columns.bucketRange(row).lowerBound
        layout.forEachBucket { isNegative, index in
            let target = isCustom ? index : Self.coarser(index, by: steps)
            if isNegative { negative[target, default: 0] &+= columns.buckets[at] } else { positive[target, default: 0] &+= columns.buckets[at] }
            at += 1
        }
        count &+= columns.counts[row]
        zeroCount &+= columns.zeroCounts[row]
        sum += columns.sums[row]
        return true
    }

    private static func coarser(_ index: Int64, by steps: Int64) -> Int64 { ((index - 1) >> steps) + 1 }

    private mutating func coarsen(to schema: Int8) {
        let steps = Int64(self.schema - schema)
        func merged(_ buckets: [Int64: UInt64]) -> [Int64: UInt64] {
            var merged: [Int64: UInt64] = [:]
            for (index, count) in buckets { merged[Self.coarser(index, by: steps), default: 0] &+= count }
            return merged
        }
        positive = merged(positive)
        negative = merged(negative)
        self.schema = schema
    }

    func append(to columns: inout HistogramColumns, timeMillis: Int64, startMillis: Int64) {
        func side(_ buckets: [Int64: UInt64]) -> (spans: [BucketSpan], counts: [UInt64]) {
            var spans: [BucketSpan] = []
            var counts: [UInt64] = []
            var end: Int64 = 0
            for (index, count) in buckets.sorted(by: { $0.key < $1.key }) {
                spans.append(BucketSpan(offset: Int32(clamping: index - end), length: 1))
                counts.append(count)
                end = index + 1
            }
            return (spans, counts)
        }
        let high = side(positive)
        let low = side(negative)
        let layout = HistogramLayout(
            schema: schema, isFloat: false, zeroThreshold: zeroThreshold, positive: high.spans, negative: low.spans,
            customBounds: customBounds.map { Double(bitPattern: $0) })
        columns.append(
            timeMillis: timeMillis, startMillis: startMillis, layout: columns.intern(layout), count: count, zeroCount: zeroCount, sum: sum,
            buckets: high.counts + low.counts)
    }
}
