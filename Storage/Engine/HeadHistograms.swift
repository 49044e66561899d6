internal import ObsCore
internal import ObsEncoding

/// Native histograms of one series in a head generation, as they came.
///
/// A row of twenty buckets takes some 200 bytes as columns and ten encoded, so only the newest few are columns, the rest are encoded in runs. A copy is a
/// snapshot, and cheap: it shares the runs.
struct HeadHistograms: Sendable {
    struct Run: Sendable {
        var minTime: Int64
        var maxTime: Int64
        var rows: Int
        var bytes: [UInt8]
    }

    /// Rows after which the newest become a run, and buckets.
    private static let runRows = 32
    private static let runBuckets = 8192
    private(set) var runs: [Run] = []
    private var newest = HistogramColumns()
    private(set) var count = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min
    private var isUnordered = false
    private var runBytes = 0

    /// About what it takes in memory; columns grow by doubling.
    var usedBytes: Int { MemoryLayout<HeadHistograms>.stride + runBytes + newest.byteSize * 3 / 2 }

    mutating func append(_ batch: HistogramColumns, row: Int) {
        let time = batch.timesMillis[row]
        newest.append(batch, row: row)
        count += 1
        if time <= maxTime { isUnordered = true }
        minTime = min(minTime, time)
        maxTime = max(maxTime, time)
        if newest.count >= Self.runRows || newest.buckets.count >= Self.runBuckets { encodeNewest() }
    }

    private mutating func encodeNewest() {
        var bytes: [UInt8] = []
        HistogramCodec.appendChunk(newest, rows: 0..<newest.count, to: &bytes)
        runs.append(
            Run(minTime: newest.timesMillis.min() ?? .max, maxTime: newest.timesMillis.max() ?? .min, rows: newest.count, bytes: bytes))
        runBytes += bytes.count + MemoryLayout<Run>.stride + 32
        newest = HistogramColumns()
    }

    /// Whether the row at that instant, if there is one, counts the same as another; nil when there is none.
    func isEqual(to other: HistogramColumns, row: Int) -> Bool? {
        let time = other.timesMillis[row]
        guard let (columns, place) = find(time) else { return nil }
        return columns.isEqual(place, to: other, row: row)
    }

    /// Whether the row at that instant, if there is one, is a stale marker; nil when there is none.
    func isStale(at time: Int64) -> Bool? { find(time).map { $0.columns.isStale($0.row) } }

    private func find(_ time: Int64) -> (columns: HistogramColumns, row: Int)? {
        guard time >= minTime, time <= maxTime else { return nil }
        if let row = newest.timesMillis.lastIndex(of: time) { return (newest, row) }
        for run in runs where run.minTime <= time && time <= run.maxTime {
            let columns = decoded(run)
            if let row = columns.timesMillis.lastIndex(of: time) { return (columns, row) }
        }
        return nil
    }

    func hasRows(_ range: ClosedRange<Int64>) -> Bool {
        guard count > 0, minTime <= range.upperBound, maxTime >= range.lowerBound else { return false }
        if range.contains(minTime) || range.contains(maxTime) { return true }
        if newest.timesMillis.contains(where: range.contains) { return true }
        return runs.contains { run in
            guard run.minTime <= range.upperBound, run.maxTime >= range.lowerBound else { return false }
            return range.contains(run.minTime) || range.contains(run.maxTime) || decoded(run).timesMillis.contains(where: range.contains)
        }
    }

    /// Rows within `range` in time order.
    func rows(_ range: ClosedRange<Int64>) -> HistogramColumns {
        var found = HistogramColumns()
        func add(_ columns: HistogramColumns) {
            found.append(columns, rows: (0..<columns.count).filter { range.contains(columns.timesMillis[$0]) })
        }
        for run in runs where run.minTime <= range.upperBound && run.maxTime >= range.lowerBound { add(decoded(run)) }
        add(newest)
        return isUnordered ? found.sortedByTime() : found
    }

    /// Calls `body` for the times of all rows.
    func forEachTime(_ body: (Int64) -> Void) {
        for run in runs { decoded(run).timesMillis.forEach(body) }
        newest.timesMillis.forEach(body)
    }

    private func decoded(_ run: Run) -> HistogramColumns {
        var columns = HistogramColumns()
        do throws(ObsError) {
            try decoding(run.bytes) { (cursor: inout ByteCursor) throws(ObsError) in
                try HistogramCodec.decodeChunk(&cursor, count: run.rows, into: &columns)
            }
        } catch { fatalError("BUG: histograms of the head cannot be decoded: \(error)") }
        return columns
    }
}
