internal import ObsCore

/// A native histogram with fewer, wider buckets: each step of the schema makes one of two neighbours.
struct HistogramResolution {
    private(set) var layout: HistogramLayout
    private(set) var buckets: [UInt64]

    init(_ columns: HistogramColumns, row: Int) {
        layout = columns.layout(ofRow: row)
        buckets = Array(columns.buckets[columns.bucketRange(row)])
    }

    /// Keeps to a schema and a number of buckets.
    /// - Returns: false when no schema has so few buckets, or the bounds are given and cannot be merged.
    mutating func keep(schemaMax: Int8?, bucketsMax: Int) -> Bool {
        let isExponential = layout.schema != HistogramLayout.customSchema
        if isExponential, let schemaMax, layout.schema > schemaMax { reduce(by: Int(layout.schema - schemaMax)) }
        guard bucketsMax > 0 else { return true }
        while buckets.count > bucketsMax {
            guard isExponential, layout.schema > HistogramLayout.exponentialSchemas.lowerBound else { return false }
            reduce(by: 1)
        }
        return true
    }

    private mutating func reduce(by steps: Int) {
        var positive: [BucketSpan] = []
        var negative: [BucketSpan] = []
        var merged: [UInt64] = []
        var last: (isNegative: Bool, index: Int64)?
        var at = 0
        layout.forEachBucket { isNegative, index in
            // Bucket i of a schema ends where bucket (i - 1) / 2 + 1 of the next coarser one does, or before.
            let target = ((index - 1) >> Int64(steps)) + 1
            defer { at += 1 }
            if let last, last == (isNegative, target) {
                merged[merged.count - 1] = sum(merged[merged.count - 1], buckets[at])
                return
            }
            let end = last.flatMap { $0.isNegative == isNegative ? $0.index + 1 : nil } ?? 0
            // Neighbours become one span when the layout takes them.
            let span = BucketSpan(offset: Int32(clamping: target - end), length: 1)
            if isNegative { negative.append(span) } else { positive.append(span) }
            merged.append(buckets[at])
            last = (isNegative, target)
        }
        layout.schema -= Int8(steps)
        layout.setSpans(positive: positive, negative: negative)
        buckets = merged
    }

    private func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
        layout.isFloat ? (Double(bitPattern: a) + Double(bitPattern: b)).bitPattern : a &+ b
    }
}
