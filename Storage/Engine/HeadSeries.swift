internal import ObsCore
internal import ObsStore

/// Runs its argument under the lock of the signal the head belongs to.
typealias Locked = (() -> Void) -> Void

/// Ids of the series (or streams) of a table that satisfy all matchers, below `count`.
func select(_ matchers: [LabelMatcher], in table: SeriesTable, count: Int, locked: Locked) -> [Int] {
    var found: [Int] = []
    let name = matchers.first { $0.name == "__name__" && $0.operation == .equal && !$0.value.isEmpty }
    if let name {
        var value = name.value
        var next: UInt32?
        value.withUTF8 { bytes in locked { next = table.newest(ofName: UnsafeRawBufferPointer(bytes)) } }
        while let id = next, id != SeriesTable.none {
            let record = table[Int(id)]
            if Int(id) < count, matchers.match(record.pointee.labelBytes) { found.append(Int(id)) }
            next = record.pointee.previousOfName
        }
    } else {
        for id in 0..<count where matchers.match(table[id].pointee.labelBytes) { found.append(id) }
    }
    return found
}

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
    private var group: [(times: [Int64], values: [Double])] = []
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
        var count = 0
        var minTime = Int64.max
        locked {
            count = head.table.count
            minTime = head.minTime
        }
        self.expiry = expiry.concerning(minTime)
        let selected = select(matchers, in: head.table, count: count, locked: locked)
        // Themselves and what sorting takes.
        try context.charge(bytes: selected.count * 2 * MemoryLayout<Int>.stride)
        ids = selected.sorted { compareLabels(head.table[$0].pointee.labelBytes, head.table[$1].pointee.labelBytes) < 0 }
        try advance()
    }

    func samples() -> (times: [Int64], values: [Double]) {
        let samples = group[position - groupStart]
        guard let labels, !expiry.rules.isEmpty else { return samples }
        return leaving(out: DeletedRows(expiry: expiry).deletedTimes(labels), samples)
    }

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
            for id in ids[position..<end] {
                var times: [Int64] = []
                var values: [Double] = []
                head.samples(of: id, range: range, times: &times, values: &values)
                group.append((times, values))
            }
        }
    }
}

extension SeriesTable {
    /// Label sets with data within `range`, each satisfying all matchers of at least one selector (no selector: all).
    func labelSets(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, expiry: Expiry, locked: Locked) -> [Labels] {
        var count = 0
        locked { count = self.count }
        var wanted = [Bool](repeating: selectors.isEmpty, count: count)
        for selector in selectors {
            for id in select(selector, in: self, count: count, locked: locked) { wanted[id] = true }
        }
        locked {
            for id in 0..<count where wanted[id] {
                let record = self[id].pointee
                wanted[id] = record.minTime <= range.upperBound && record.maxTime >= range.lowerBound
                if wanted[id], expiry.mayConcern(record.minTime) {
                    wanted[id] = expiry.cutoff(labels: record.labelBytes) <= min(record.maxTime, range.upperBound)
                }
            }
        }
        return (0..<count).filter { wanted[$0] }.map { Labels(canonical: [UInt8](self[$0].pointee.labelBytes)) }
    }
}
