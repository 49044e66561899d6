package import ObsCore

/// What a read of series would look at, as known without reading a sample.
package struct ReadEstimate: Sendable, Equatable {
    /// Different label sets.
    package var series = 0
    /// At least those in the range: chunks that reach into it count whole.
    package var samples: Int64 = 0
    /// Chunks in memory, blocks of columns on disk.
    package var blocks = 0
    /// Of samples in memory and of those blocks as stored.
    package var bytes: Int64 = 0
    package var segments = 0
    /// Times of the first and the last sample of these series and segments in the range, as far as chunks tell: none lies outside. Nil when there are none.
    package var times: ClosedRange<Int64>?

    package init() {}

    /// Adds what another part of the store has; of series what is the greater part, until they are counted.
    package mutating func add(_ other: ReadEstimate) {
        samples += other.samples
        blocks += other.blocks
        bytes += other.bytes
        segments += other.segments
        if let range = other.times { add(range) }
    }

    package mutating func add(_ range: ClosedRange<Int64>) {
        times = times.map { min($0.lowerBound, range.lowerBound)...max($0.upperBound, range.upperBound) } ?? range
    }
}

extension Reader {
    /// For stores that have no index: everything is read.
    package func estimate(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> ReadEstimate {
        var estimate = ReadEstimate()
        let set = try series(matchers, range: range, context: context)
        while let series = try set.next() {
            estimate.series += 1
            let times = series.timesMillis + (series.histograms?.timesMillis ?? [])
            estimate.samples += Int64(times.count)
            if let first = times.min(), let last = times.max() { estimate.add(first...last) }
        }
        estimate.bytes = estimate.samples * 16
        return estimate
    }

    /// For stores that have no other way: all label sets are made first.
    package func forEachLabelSet(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext, _ body: (Labels) throws(ObsError) -> Void
    ) throws(ObsError) {
        for labels in try labelSets(signal, selectors, range: range, context: context) { try body(labels) }
    }
}
