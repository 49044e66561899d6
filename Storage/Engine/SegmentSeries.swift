internal import ObsCore
internal import ObsSegment
internal import ObsStore

typealias MetricSegment = SegmentHandle<MetricSegmentReader>

/// Series of one segment that satisfy a selector and whose time reaches into the range.
final class SegmentSeries: SeriesSource {
    private let segment: MetricSegment
    private var scan: SeriesScan
    private let mask: DeletedRows
    private let ordinals: [Int]
    private var position = -1
    private(set) var labels: Labels?

    /// - Parameter forLabelsOnly: for who does not look at samples, which would show that all are deleted: series without others, the first so many.
    init(
        _ segment: MetricSegment, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, mask: DeletedRows, context: QueryContext,
        forLabelsOnly limit: Int? = nil
    ) throws(ObsError) {
        self.segment = segment
        self.mask = mask
        let reader = try segment.reader()
        scan = SeriesScan(reader, range: range)
        context.count(segments: 1)
        ordinals = try segment.reading { () throws(ObsError) -> [Int] in
            let found = try segment.ordinals(selectors, range: range, mask: limit == nil ? DeletedRows() : mask)
            return found.map { Array($0.prefix(limit ?? .max)) } ?? Array(0..<min(limit ?? .max, reader.seriesCount))
        }
        try context.charge(bytes: ordinals.count * MemoryLayout<Int>.stride)
        try advance()
    }

    func samples() throws(ObsError) -> SampleColumns {
        let samples = try segment.reading { () throws(ObsError) in try scan.columns(ordinals[position]) }
        guard let labels, !mask.isEmpty else { return samples }
        return samples.leaving(out: mask.deletedTimes(labels))
    }

    var mayHaveHistograms: Bool {
        get throws(ObsError) { try segment.reading { () throws(ObsError) in try scan.mayHaveHistograms(ordinals[position]) } }
    }

    func summary(_ parts: SummaryParts, read: inout Int) throws(ObsError) -> SampleSummary {
        let deleted = labels.map { mask.deletedTimes($0) } ?? []
        return try segment.reading { () throws(ObsError) in try scan.summary(ordinals[position], parts, deleted: deleted, read: &read) }
    }

    func pieces(_ parts: SummaryParts) throws(ObsError) -> [SamplePiece] {
        let deleted = labels.map { mask.deletedTimes($0) } ?? []
        return try segment.reading { () throws(ObsError) in try scan.pieces(ordinals[position], parts, deleted: deleted) }
    }

    func samples(_ piece: SamplePiece) throws(ObsError) -> (times: [Int64], values: [Double]) {
        let deleted = labels.map { mask.deletedTimes($0) } ?? []
        return try segment.reading { () throws(ObsError) in try scan.samples(ordinals[position], piece, deleted: deleted) }
    }

    func advance() throws(ObsError) {
        position += 1
        labels = position < ordinals.count ? try segment.reading { () throws(ObsError) in try scan.labels(ordinals[position]) } : nil
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
    /// Ordinals of the series with data within `range`, ascending, each satisfying all matchers of at least one selector (no selector: all); nil when all of
    /// the segment's do. A series all of whose time from first to last sample is deleted does not count. To be called in `reading`.
    func ordinals(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, mask: DeletedRows) throws(ObsError) -> [Int]? {
        let reader = try reader()
        let isWithin = range.lowerBound <= info.minTime && info.maxTime <= range.upperBound
        var chosen: [Int]?
        if !selectors.isEmpty {
            let possible = selectors.filter { mayHold($0) }
            chosen = possible.isEmpty ? [] : try reader.select(any: possible)
        }
        if !isWithin { chosen = try reader.inReach(range, of: chosen ?? Array(0..<reader.seriesCount)) }
        if mask.isEmpty { return chosen }
        // Only series that a deletion or a rule selects are looked at one by one.
        var isHidden = [Bool](repeating: false, count: reader.seriesCount)
        for ordinal in try reader.select(any: mask.tombstones.flatMap(\.selectors) + mask.expiry.rules.map(\.matchers)) {
            let times = try reader.timeRange(ordinal)
            if times.overlaps(range), mask.covers(times.clamped(to: range), try reader.labels(ordinal)) { isHidden[ordinal] = true }
        }
        return isHidden.contains(true) ? (chosen ?? Array(0..<reader.seriesCount)).filter { !isHidden[$0] } : chosen
    }
}

extension SegmentHandle<LogSegmentReader> {
    /// Streams with data within `range` in order, as for metrics; a stream counts when a block that reaches into `range` may hold it.
    func streams(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, mask: DeletedRows) throws(ObsError) -> [Labels] {
        let reader = try reader()
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
