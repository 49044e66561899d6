internal import ObsCore
internal import ObsSegment
internal import ObsStore

typealias MetricSegment = SegmentHandle<MetricSegmentReader>

/// Series of one segment that satisfy the matchers and have samples in the range's reach.
final class SegmentSeries: SeriesSource {
    private let segment: MetricSegment
    private let reader: MetricSegmentReader
    private let range: ClosedRange<Int64>
    private let mask: DeletedRows
    private let ordinals: [Int]
    private var position = -1
    private(set) var labels: Labels?

    init(_ segment: MetricSegment, _ matchers: [LabelMatcher], range: ClosedRange<Int64>, deletions: Deletions, context: QueryContext) throws(ObsError) {
        self.segment = segment
        mask = deletions.mask(of: segment.info)
        self.range = range
        reader = try segment.reader()
        context.count(segments: 1)
        let reader = reader
        ordinals = try segment.reading { () throws(ObsError) -> [Int] in
            var ordinals: [Int] = []
            for ordinal in try reader.select(matchers) where try reader.timeRange(ordinal).overlaps(range) { ordinals.append(ordinal) }
            return ordinals
        }
        try context.charge(bytes: ordinals.count * MemoryLayout<Int>.stride)
        try advance()
    }

    func samples() throws(ObsError) -> (times: [Int64], values: [Double]) {
        let samples = try segment.reading { () throws(ObsError) in try reader.samples(ordinals[position], range: range) }
        guard let labels, !mask.isEmpty else { return samples }
        let deleted = mask.deletedTimes(labels)
        return deleted.isEmpty ? samples : leaving(out: deleted, samples)
    }

    func advance() throws(ObsError) {
        position += 1
        labels = position < ordinals.count ? try segment.reading { () throws(ObsError) in try reader.labels(ordinals[position]) } : nil
    }
}

extension SegmentHandle {
    /// False when the footer's list of metric names rules the matchers out.
    func mayHold(_ matchers: [LabelMatcher]) -> Bool {
        guard !info.names.isEmpty, let name = matchers.first(where: { $0.name == "__name__" }) else { return true }
        return info.names.contains { name.matches($0) } || name.matchesEmpty
    }
}

extension SegmentHandle<MetricSegmentReader> {
    /// Label sets with data within `range`, each satisfying all matchers of at least one selector (no selector: all).
    /// A series all of whose time from first to last sample is deleted does not count.
    func labelSets(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, deletions: Deletions) throws(ObsError) -> [Labels] {
        let reader = try reader()
        let mask = deletions.mask(of: info)
        return try reading { () throws(ObsError) -> [Labels] in
            var wanted = Set<Int>()
            for selector in selectors.isEmpty ? [[]] : selectors where mayHold(selector) { wanted.formUnion(try reader.select(selector)) }
            var found: [Labels] = []
            for ordinal in wanted {
                let times = try reader.timeRange(ordinal)
                guard times.overlaps(range) else { continue }
                let labels = try reader.labels(ordinal)
                if !mask.isEmpty, mask.covers(times.clamped(to: range), labels) { continue }
                found.append(labels)
            }
            return found
        }
    }
}

extension SegmentHandle<LogSegmentReader> {
    /// As for metrics; a stream counts when a block that reaches into `range` may hold it.
    func labelSets(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, deletions: Deletions) throws(ObsError) -> [Labels] {
        let reader = try reader()
        let mask = deletions.mask(of: info)
        let times = (info.minTime...info.maxTime).clamped(to: range)
        var isPresent = [Bool](repeating: false, count: reader.streams.count)
        for block in reader.blocks where block.minNanos <= range.upperBound && block.maxNanos >= range.lowerBound {
            for stream in block.firstStream...block.lastStream { isPresent[stream] = true }
        }
        return reader.streams.indices.compactMap { index in
            guard isPresent[index], selectors.isEmpty || selectors.contains(where: { $0.match(reader.streams[index]) }) else { return nil }
            return !mask.isEmpty && mask.covers(times, reader.streams[index]) ? nil : reader.streams[index]
        }
    }
}

/// Samples without those in any of the ranges.
func leaving(out deleted: [ClosedRange<Int64>], _ samples: (times: [Int64], values: [Double])) -> (times: [Int64], values: [Double]) {
    var kept: (times: [Int64], values: [Double]) = ([], [])
    for (time, value) in zip(samples.times, samples.values) where !deleted.contains(where: { $0.contains(time) }) {
        kept.times.append(time)
        kept.values.append(value)
    }
    return kept
}
