internal import ObsCore
internal import ObsSegment
internal import ObsStore

typealias MetricSegment = SegmentHandle<MetricSegmentReader>

/// Series of one segment that satisfy the matchers and have samples in the range's reach.
final class SegmentSeries: SeriesSource {
    private let segment: MetricSegment
    private let reader: MetricSegmentReader
    private let range: ClosedRange<Int64>
    private let ordinals: [Int]
    private var position = -1
    private(set) var labels: Labels?

    init(_ segment: MetricSegment, _ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) {
        self.segment = segment
        self.range = range
        reader = try segment.reader()
        context.count(segments: 1)
        var ordinals: [Int] = []
        for ordinal in try reader.select(matchers) where try reader.timeRange(ordinal).overlaps(range) { ordinals.append(ordinal) }
        self.ordinals = ordinals
        try advance()
    }

    func samples() throws(ObsError) -> (times: [Int64], values: [Double]) { try reader.samples(ordinals[position], range: range) }

    func advance() throws(ObsError) {
        position += 1
        labels = position < ordinals.count ? try reader.labels(ordinals[position]) : nil
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
    func labelSets(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) -> [Labels] {
        let reader = try reader()
        var wanted = Set<Int>()
        for selector in selectors.isEmpty ? [[]] : selectors where mayHold(selector) { wanted.formUnion(try reader.select(selector)) }
        var found: [Labels] = []
        for ordinal in wanted where try reader.timeRange(ordinal).overlaps(range) { found.append(try reader.labels(ordinal)) }
        return found
    }
}

extension SegmentHandle<LogSegmentReader> {
    /// As for metrics; a stream counts when a block that reaches into `range` may hold it.
    func labelSets(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) -> [Labels] {
        let reader = try reader()
        var isPresent = [Bool](repeating: false, count: reader.streams.count)
        for block in reader.blocks where block.minNanos <= range.upperBound && block.maxNanos >= range.lowerBound {
            for stream in block.firstStream...block.lastStream { isPresent[stream] = true }
        }
        return reader.streams.indices.compactMap { index in
            guard isPresent[index], selectors.isEmpty || selectors.contains(where: { $0.match(reader.streams[index]) }) else { return nil }
            return reader.streams[index]
        }
    }
}
