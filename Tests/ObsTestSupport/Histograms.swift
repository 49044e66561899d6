package import ObsCore

/// Native histograms for tests: valid ones, of few different layouts.
package enum Histograms {
    private static let layouts: [HistogramLayout] = [
        HistogramLayout(schema: 3, isFloat: false, zeroThreshold: 1e-128, positive: [BucketSpan(offset: -2, length: 3)], negative: []),
        HistogramLayout(
            schema: 3, isFloat: false, zeroThreshold: 1e-128, positive: [BucketSpan(offset: -2, length: 4), BucketSpan(offset: 2, length: 1)],
            negative: [BucketSpan(offset: 1, length: 2)]),
        HistogramLayout(schema: 0, isFloat: true, zeroThreshold: 0.001, positive: [BucketSpan(offset: 0, length: 2)], negative: []),
        HistogramLayout(
            schema: HistogramLayout.customSchema, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 0, length: 3)], negative: [],
            customBounds: [0.1, 1]),
    ]

    /// One row.
    package static func any(_ timeMillis: Int64, _ random: inout SplitMix) -> HistogramColumns {
        let layout = layouts.randomElement(using: &random) ?? HistogramLayout()
        var columns = HistogramColumns()
        let index = columns.intern(layout)
        if Int.random(in: 0..<12, using: &random) == 0 { return stale(timeMillis) }
        let counts = (0..<layout.bucketCount).map { _ in UInt64.random(in: 0...4, using: &random) }
        let zeroCount = layout.schema == HistogramLayout.customSchema ? 0 : UInt64.random(in: 0...2, using: &random)
        let total = counts.reduce(zeroCount, +)
        func stored(_ count: UInt64) -> UInt64 { layout.isFloat ? Double(count).bitPattern : count }
        columns.append(
            timeMillis: timeMillis, startMillis: [0, 1000, timeMillis - 5].randomElement(using: &random) ?? 0, layout: index,
            reset: CounterReset(rawValue: .random(in: 0...3, using: &random)) ?? .unknown, count: stored(total), zeroCount: stored(zeroCount),
            sum: Double(total) * 0.5, buckets: counts.map(stored))
        return columns
    }

    package static func stale(_ timeMillis: Int64) -> HistogramColumns {
        var columns = HistogramColumns()
        columns.append(timeMillis: timeMillis, layout: columns.intern(HistogramLayout()), count: 0, zeroCount: 0, sum: SpecialValue.stale, buckets: [])
        return columns
    }

    /// One row of one bucket.
    package static func one(_ timeMillis: Int64, count: UInt64, startMillis: Int64 = 0) -> HistogramColumns {
        var columns = HistogramColumns()
        let layout = HistogramLayout(schema: 2, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 1, length: 1)], negative: [])
        columns.append(
            timeMillis: timeMillis, startMillis: startMillis, layout: columns.intern(layout), count: count, zeroCount: 0, sum: Double(count), buckets: [count])
        return columns
    }
}

extension MetricBatch {
    /// Adds histograms of a series, for tests.
    package mutating func append(_ labels: Labels, histograms rows: HistogramColumns) {
        for row in 0..<rows.count {
            histogramSeries.append(UInt32(series.count))
            histograms.append(rows, row: row)
        }
        series.append(Series(labels: bytes.intern(labels.bytes), firstSample: UInt32(timesMillis.count), sampleCount: 0))
    }

    /// Adds an exemplar of the series added last, for tests.
    package mutating func appendExemplar(_ labels: Labels, value: Double, timeMillis: Int64) {
        exemplars.append(Exemplar(series: UInt32(series.count - 1), labels: bytes.intern(labels.bytes), value: value, timeMillis: timeMillis))
    }

    /// Adds a float with the time its counting began, for tests.
    package mutating func append(_ labels: Labels, timeMillis: Int64, value: Double, startMillis: Int64) {
        let first = timesMillis.count
        append(labels, timeMillis: timeMillis, value: value)
        setStarts(startMillis, from: first)
    }
}
