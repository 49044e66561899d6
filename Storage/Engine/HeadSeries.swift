internal import ObsCore
internal import ObsSegment
internal import ObsStore

/// Runs its argument under the lock of the signal the head belongs to.
typealias Locked = (() -> Void) -> Void

/// Series of one head generation.
final class HeadSeries: SeriesSource {
    private static let groupSize = 256
    /// A group ends at the series that brings it here: what waits for its turn stays small.
    private static let groupSamplesMax = 1 << 16
    private let head: MetricHead
    private let ids: [Int]
    private let range: ClosedRange<Int64>
    private let expiry: Expiry
    private let locked: Locked
    private let context: QueryContext
    private var position = -1
    private var group: [HeadSamples] = []
    private var groupStart = 0
    private var groupBytes = 0
    private(set) var labels: Labels?

    init(
        _ head: MetricHead, _ matchers: [LabelMatcher], range: ClosedRange<Int64>, expiry: Expiry, context: QueryContext, locked: @escaping Locked
    ) throws(ObsError) {
        self.head = head
        self.range = range
        self.locked = locked
        self.context = context
        var minTime = Int64.max
        locked { minTime = head.minTime }
        self.expiry = expiry.concerning(minTime)
        let selected = head.table.inReach(range, self.expiry, of: head.table.select(any: [matchers], locked: locked), locked: locked)
        // Themselves and what sorting takes.
        try context.charge(bytes: selected.count * 2 * MemoryLayout<Int>.stride)
        ids = selected.sorted { compareLabels(head.table[$0].pointee.labelBytes, head.table[$1].pointee.labelBytes) < 0 }
        try advance()
    }

    func samples() -> SampleColumns {
        let samples = group[position - groupStart].columns(range)
        guard let labels, !expiry.rules.isEmpty else { return samples }
        return samples.leaving(out: DeletedRows(expiry: expiry).deletedTimes(labels))
    }

    var mayHaveHistograms: Bool { group[position - groupStart].histograms != nil }

    func advance() throws(ObsError) {
        position += 1
        guard position < ids.count else {
            labels = nil
            return
        }
        if position == groupStart + group.count { try loadGroup() }
        labels = Labels(canonical: [UInt8](head.table[ids[position]].pointee.labelBytes))
    }

    /// Copies the samples of the next series under the lock, a group at a time: writers never wait long.
    private func loadGroup() throws(ObsError) {
        group.removeAll(keepingCapacity: true)
        context.release(bytes: groupBytes)
        groupStart = position
        var end = position
        var samples = 0
        locked {
            repeat {
                samples += Int(head.table[ids[end]].pointee.count)
                end += 1
            } while end < ids.count && end - position < Self.groupSize && samples < Self.groupSamplesMax
        }
        groupBytes = samples * MemoryLayout<Sample>.stride
        try context.charge(bytes: groupBytes)
        locked {
            for id in ids[position..<end] { group.append(head.content(of: id, range: range)) }
        }
    }
}

extension SeriesTable {
    /// So many series of one metric name are walked; for more there is the label index.
    private static let seriesOfNameWalked = 4096
    /// Records looked at under the lock at once: writers never wait long.
    private static let recordsAtOnce = 4096

    /// Ids of the series that satisfy all matchers of at least one selector (no selector: all), in no order, each once.
    func select(any selectors: [[LabelMatcher]], locked: Locked) -> [Int] {
        var count = 0
        locked { count = self.count }
        if selectors.isEmpty { return Array(0..<count) }
        if selectors.count == 1 { return select(selectors[0], count: count, locked: locked) }
        var isWanted = [Bool](repeating: false, count: count)
        for selector in selectors {
            for id in select(selector, count: count, locked: locked) { isWanted[id] = true }
        }
        return (0..<count).filter { isWanted[$0] }
    }

    private func select(_ matchers: [LabelMatcher], count: Int, locked: Locked) -> [Int] {
        guard let name = matchers.first(where: { $0.name == "__name__" && $0.operation == .equal && !$0.value.isEmpty }) else {
            return index.select(matchers, in: self, count: count)
        }
        var value = name.value
        var series: SeriesOfName?
        value.withUTF8 { bytes in locked { series = self.series(ofName: UnsafeRawBufferPointer(bytes)) } }
        guard let series else { return [] }
        if series.count > Self.seriesOfNameWalked { return index.select(matchers, in: self, count: count) }
        var found: [Int] = []
        var next = series.newest
        while next != Self.none {
            let record = self[Int(next)]
            if Int(next) < count, matchers.match(record.pointee.labelBytes) { found.append(Int(next)) }
            next = record.pointee.previousOfName
        }
        return found
    }

    /// Those of the series that have data within `range` that is not past, roughly: from their first time to their last.
    func inReach(_ range: ClosedRange<Int64>, _ expiry: Expiry, of ids: [Int], locked: Locked) -> [Int] {
        var found: [Int] = []
        var start = 0
        while start < ids.count {
            let end = min(start + Self.recordsAtOnce, ids.count)
            locked {
                for id in ids[start..<end] where self[id].pointee.reaches(range, expiry) { found.append(id) }
            }
            start = end
        }
        return found
    }

    /// The same for all series.
    func isInReach(_ range: ClosedRange<Int64>, _ expiry: Expiry, locked: Locked) -> [Bool] {
        var count = 0
        locked { count = self.count }
        var found = [Bool](repeating: false, count: count)
        var start = 0
        while start < count {
            let end = min(start + Self.recordsAtOnce, count)
            locked {
                for id in start..<end { found[id] = self[id].pointee.reaches(range, expiry) }
            }
            start = end
        }
        return found
    }
}

extension SeriesRecord {
    fileprivate func reaches(_ range: ClosedRange<Int64>, _ expiry: Expiry) -> Bool {
        guard count > 0, minTime <= range.upperBound, maxTime >= range.lowerBound else { return false }
        return !expiry.mayConcern(minTime) || expiry.cutoff(labels: labelBytes) <= min(maxTime, range.upperBound)
    }
}
