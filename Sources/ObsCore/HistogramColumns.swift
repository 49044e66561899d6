// Native histograms as columns.
//
// A native histogram is counts of observations by bucket, where the buckets are either powers of 2^(2^-schema) (schema −4…8, bucket i holds values up to
// 2^(i · 2^-schema)) or have bounds of their own (schema −53), plus a zero bucket around 0. Which buckets a histogram has counts for is its *layout*; samples of
// a series share one until a bucket is hit for the first time. So a sample is a row of numbers and the index of its layout, and no object.
//
// Counts are kept as 64 bits: whole numbers, or for histograms of floats (sums of rates, say) the bit pattern of a Double. A layout says which.

/// Neighbouring buckets.
package struct BucketSpan: Hashable, Sendable {
    /// From the end of the span before, of the first span: the bucket's index.
    package var offset: Int32
    package var length: UInt32

    package init(offset: Int32, length: UInt32) {
        self.offset = offset
        self.length = length
    }
}

/// Which buckets a histogram has.
package struct HistogramLayout: Hashable, Sendable {
    /// Schema of histograms whose bounds are given.
    package static let customSchema: Int8 = -53
    package static let exponentialSchemas: ClosedRange<Int8> = -4...8

    package var schema: Int8 = 0
    /// Whether counts are bit patterns of Doubles.
    package var isFloat = false
    /// Bit pattern of the width of the zero bucket to either side.
    package var zeroThresholdBits: UInt64 = 0
    /// None of them empty, offsets of all but the first above 0.
    package private(set) var positive: [BucketSpan] = []
    package private(set) var negative: [BucketSpan] = []
    /// Upper bounds, ascending; the last bucket, up to infinity, has none. Bit patterns.
    package var customBoundsBits: [UInt64] = []
    /// Positive buckets; the negative ones follow them.
    package private(set) var positiveCount = 0
    package private(set) var negativeCount = 0

    package init() {}

    package init(schema: Int8, isFloat: Bool, zeroThreshold: Double, positive: [BucketSpan], negative: [BucketSpan], customBounds: [Double] = []) {
        self.schema = schema
        self.isFloat = isFloat
        zeroThresholdBits = zeroThreshold.bitPattern
        customBoundsBits = customBounds.map(\.bitPattern)
        setSpans(positive: positive, negative: negative)
    }

    /// Sets the spans, in the one form there is of them: neither empty ones nor two without a gap between.
    package mutating func setSpans(positive: [BucketSpan], negative: [BucketSpan]) {
        (self.positive, positiveCount) = Self.joined(positive)
        (self.negative, negativeCount) = Self.joined(negative)
    }

    private static func joined(_ spans: [BucketSpan]) -> ([BucketSpan], Int) {
        var joined: [BucketSpan] = []
        var total = 0
        var gap: Int64 = 0
        for span in spans {
            gap += Int64(span.offset)
            guard span.length > 0 else { continue }
            if gap == 0, let last = joined.indices.last {
                joined[last].length &+= span.length
            } else {
                joined.append(BucketSpan(offset: Int32(clamping: gap), length: span.length))
            }
            gap = 0
            total += Int(span.length)
        }
        return (joined, total)
    }

    package var zeroThreshold: Double { Double(bitPattern: zeroThresholdBits) }
    package var customBounds: [Double] { customBoundsBits.map { Double(bitPattern: $0) } }
    package var bucketCount: Int { positiveCount + negativeCount }
    /// About what it takes in memory.
    package var byteSize: Int { 96 + (positive.count + negative.count + customBoundsBits.count) * 8 }

    /// Indices of the buckets in the order of a row's counts: positive ones ascending, then negative ones ascending.
    package func forEachBucket(_ body: (_ isNegative: Bool, _ index: Int64) -> Void) {
        for (spans, isNegative) in [(positive, false), (negative, true)] {
            var index: Int64 = 0
            for span in spans {
                index += Int64(span.offset)
                for _ in 0..<span.length {
                    body(isNegative, index)
                    index += 1
                }
            }
        }
    }

    /// What no histogram can have; nil when all is well.
    package var fault: String? {
        guard schema == Self.customSchema || Self.exponentialSchemas.contains(schema) else { return "schema \(schema) is not known" }
        for spans in [positive, negative] where spans.dropFirst().contains(where: { $0.offset < 0 }) { return "spans of buckets overlap" }
        guard zeroThreshold.isFinite, zeroThreshold >= 0 else { return "zero threshold \(zeroThreshold) is no width" }
        if schema == Self.customSchema { return customFault }
        return customBoundsBits.isEmpty ? nil : "exponential buckets with bounds of their own"
    }

    private var customFault: String? {
        let bounds = customBounds
        if !negative.isEmpty { return "custom buckets have no negative ones" }
        if zeroThresholdBits != 0 { return "custom buckets have no zero bucket" }
        if bounds.contains(where: { $0.isNaN || $0 == .infinity }) || zip(bounds, bounds.dropFirst()).contains(where: { $0 >= $1 }) {
            return "bounds are not ascending numbers"
        }
        let reach = positive.reduce(Int64(0)) { $0 + Int64($1.offset) + Int64($1.length) }
        guard (positive.first?.offset ?? 0) >= 0, reach <= Int64(bounds.count) + 1 else { return "buckets past the \(bounds.count) bounds" }
        return nil
    }
}

/// What a histogram says of the one before it in its series.
package enum CounterReset: UInt8, Sendable {
    case unknown = 0, reset, noReset
    /// It is no counter at all.
    case gauge
}

/// Histogram samples of a series or batch. All columns but `buckets` have `count` rows.
package struct HistogramColumns: Sendable {
    package private(set) var layouts: [HistogramLayout] = []
    private var layoutIndices: [HistogramLayout: UInt32] = [:]
    package private(set) var timesMillis: [Int64] = []
    /// When counting began, 0 where unknown.
    package private(set) var startsMillis: [Int64] = []
    /// Index into `layouts`.
    package private(set) var layout: [UInt32] = []
    package private(set) var resets: [CounterReset] = []
    /// Observations, as the layout says.
    package private(set) var counts: [UInt64] = []
    package private(set) var zeroCounts: [UInt64] = []
    /// Bits matter: a stale marker has its NaN here.
    package private(set) var sums: [Double] = []
    /// Counts of all rows, row after row.
    package private(set) var buckets: [UInt64] = []
    /// Where each row's counts end in `buckets`.
    package private(set) var bucketEnds: [Int] = []

    package init() {}

    package var count: Int { timesMillis.count }
    package var isEmpty: Bool { timesMillis.isEmpty }
    /// About what it takes in memory.
    package var byteSize: Int { count * 64 + buckets.count * 8 + layouts.reduce(0) { $0 + $1.byteSize } }

    package func bucketRange(_ row: Int) -> Range<Int> { (row == 0 ? 0 : bucketEnds[row - 1])..<bucketEnds[row] }
    package func layout(ofRow row: Int) -> HistogramLayout { layouts[Int(layout[row])] }
    /// "This series ended here."
    package func isStale(_ row: Int) -> Bool { SpecialValue.isStale(sums[row]) }

    package mutating func intern(_ layout: HistogramLayout) -> UInt32 {
        if let known = layoutIndices[layout] { return known }
        let index = UInt32(layouts.count)
        layouts.append(layout)
        layoutIndices[layout] = index
        return index
    }

    /// Adds a row.
    /// - Parameter buckets: as many as the layout has.
    package mutating func append(
        timeMillis: Int64, startMillis: Int64 = 0, layout: UInt32, reset: CounterReset = .unknown, count: UInt64, zeroCount: UInt64, sum: Double,
        buckets: some Collection<UInt64>
    ) {
        precondition(buckets.count == layouts[Int(layout)].bucketCount, "BUG: a histogram has not as many counts as buckets")
        timesMillis.append(timeMillis)
        startsMillis.append(startMillis)
        self.layout.append(layout)
        resets.append(reset)
        counts.append(count)
        zeroCounts.append(zeroCount)
        sums.append(sum)
        self.buckets.append(contentsOf: buckets)
        bucketEnds.append(self.buckets.count)
    }

    /// Adds a row of others.
    package mutating func append(_ other: HistogramColumns, row: Int) {
        append(
            timeMillis: other.timesMillis[row], startMillis: other.startsMillis[row], layout: intern(other.layout(ofRow: row)), reset: other.resets[row],
            count: other.counts[row], zeroCount: other.zeroCounts[row], sum: other.sums[row], buckets: other.buckets[other.bucketRange(row)])
    }

    package mutating func append(_ other: HistogramColumns, rows: some Sequence<Int>) {
        var known = [UInt32?](repeating: nil, count: other.layouts.count)
        for row in rows {
            let layout = known[Int(other.layout[row])] ?? intern(other.layout(ofRow: row))
            known[Int(other.layout[row])] = layout
            append(
                timeMillis: other.timesMillis[row], startMillis: other.startsMillis[row], layout: layout, reset: other.resets[row], count: other.counts[row],
                zeroCount: other.zeroCounts[row], sum: other.sums[row], buckets: other.buckets[other.bucketRange(row)])
        }
    }

    /// All rows in time order; of equal times the first stays.
    package func sortedByTime() -> HistogramColumns {
        if zip(timesMillis, timesMillis.dropFirst()).allSatisfy({ $0 < $1 }) { return self }
        var last: Int64?
        return keeping(
            (0..<count).sorted { (timesMillis[$0], $0) < (timesMillis[$1], $1) }.filter { row in
                defer { last = timesMillis[row] }
                return timesMillis[row] != last
            })
    }

    /// Two of one series as one, both in time order; of equal times the first's row stays.
    package static func merged(_ a: HistogramColumns, _ b: HistogramColumns) -> HistogramColumns {
        guard !b.isEmpty else { return a }
        guard !a.isEmpty else { return b }
        var both = a
        both.append(b, rows: 0..<b.count)
        return both.sortedByTime()
    }

    package func keeping(_ rows: some Sequence<Int>) -> HistogramColumns {
        var kept = HistogramColumns()
        kept.append(self, rows: rows)
        return kept
    }

    package mutating func removeAll() { self = HistogramColumns() }

    /// Takes the row added last back; its layout stays known.
    package mutating func removeLast() {
        buckets.removeSubrange(bucketRange(count - 1))
        bucketEnds.removeLast()
        timesMillis.removeLast()
        startsMillis.removeLast()
        layout.removeLast()
        resets.removeLast()
        counts.removeLast()
        zeroCounts.removeLast()
        sums.removeLast()
    }

    /// Whether two rows count the same; when they were counted, and since when, is not looked at.
    package func isEqual(_ row: Int, to other: HistogramColumns, row otherRow: Int) -> Bool {
        counts[row] == other.counts[otherRow] && sums[row].bitPattern == other.sums[otherRow].bitPattern && zeroCounts[row] == other.zeroCounts[otherRow]
            && layout(ofRow: row) == other.layout(ofRow: otherRow) && buckets[bucketRange(row)] == other.buckets[other.bucketRange(otherRow)]
    }

    /// What is wrong with a row's counts, as Prometheus checks them; nil when nothing is.
    package func fault(ofRow row: Int) -> String? {
        // A stale marker counts nothing.
        if isStale(row) { return nil }
        let layout = layout(ofRow: row)
        if let fault = layout.fault { return fault }
        if layout.schema == HistogramLayout.customSchema, zeroCounts[row] != 0 { return "custom buckets have no zero bucket" }
        return layout.isFloat ? floatFault(row) : integerFault(row)
    }

    private func integerFault(_ row: Int) -> String? {
        var total = zeroCounts[row]
        for index in bucketRange(row) {
            guard Int64(bitPattern: buckets[index]) >= 0 else { return "a bucket has a negative count" }
            let (sum, overflow) = total.addingReportingOverflow(buckets[index])
            if overflow { return "counts are past 64 bits" }
            total = sum
        }
        // Observations of NaN are in no bucket.
        return total == counts[row] || (sums[row].isNaN && total < counts[row]) ? nil : "\(total) observations in buckets, but a count of \(counts[row])"
    }

    private func floatFault(_ row: Int) -> String? {
        let all = [counts[row], zeroCounts[row]] + buckets[bucketRange(row)]
        // NaN is no count either.
        return all.allSatisfy { Double(bitPattern: $0) >= 0 } ? nil : "a count is negative or none"
    }
}

extension HistogramColumns: Equatable {
    /// Whether all rows are the same, bit by bit.
    package static func == (a: HistogramColumns, b: HistogramColumns) -> Bool {
        a.timesMillis == b.timesMillis && a.startsMillis == b.startsMillis && a.resets == b.resets && (0..<a.count).allSatisfy { a.isEqual($0, to: b, row: $0) }
    }
}
