internal import ObsCore
internal import ObsStore

/// Series of one segment in order, a page at a time: their labels as ranks of a dictionary that other segments share, and their chunks.
final class SeriesRanks {
    let reader: MetricSegmentReader
    private let ranks: LabelRanks
    private var page = -1
    private var row = -1
    /// Of the page's series, back to back.
    private var labels: [UInt32] = []
    private var labelEnds: [Int] = [0]
    private var table = ChunkTable()
    private let withStatistics: Bool
    private var statistics: [SampleSummary] = []

    /// Stands at the first series.
    init(_ reader: MetricSegmentReader, _ ranks: LabelRanks, withStatistics: Bool) throws(ObsError) {
        self.reader = reader
        self.ranks = ranks
        self.withStatistics = withStatistics
        try advance()
    }

    var isAtEnd: Bool { row == table.ends.count }
    /// Ascending.
    var current: ArraySlice<UInt32> { labels[labelEnds[row]..<labelEnds[row + 1]] }
    var chunks: ArraySlice<Chunk> { table.chunks[table.range(row)] }
    /// Of those chunks; none when they were not asked for.
    var summaries: ArraySlice<SampleSummary> { withStatistics ? statistics[table.range(row)] : [] }

    func advance() throws(ObsError) {
        row += 1
        if row < table.ends.count {
            if Self.compare(labels, labelEnds[row - 1]..<labelEnds[row], labels, labelEnds[row]..<labelEnds[row + 1]) >= 0 { throw outOfOrder() }
            return
        }
        page += 1
        guard page < reader.table.pageCount else { return }
        let last = row > 0 ? Array(labels[labelEnds[row - 1]..<labelEnds[row]]) : []
        try read()
        row = 0
        if page > 0, Self.compare(last, last.indices, labels, 0..<labelEnds[1]) >= 0 { throw outOfOrder() }
    }

    /// Negative when this series comes before the other's.
    func compare(_ other: SeriesRanks) -> Int {
        Self.compare(labels, labelEnds[row]..<labelEnds[row + 1], other.labels, other.labelEnds[other.row]..<other.labelEnds[other.row + 1])
    }

    private static func compare(_ a: [UInt32], _ x: Range<Int>, _ b: [UInt32], _ y: Range<Int>) -> Int {
        let shared = min(x.count, y.count)
        return a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
                var index = 0
                while index < shared {
                    let left = a[x.lowerBound &+ index]
                    let right = b[y.lowerBound &+ index]
                    if left != right { return left < right ? -1 : 1 }
                    index &+= 1
                }
                return x.count - y.count
            }
        }
    }

    private func outOfOrder() -> ObsError { ObsError(.corrupt, "series of a segment are out of order", place: "\(reader.file.path):0") }

    private func read() throws(ObsError) {
        let columns = try reader.table.readLabels(page)
        table = try reader.table.readChunks(page)
        if withStatistics { statistics = try reader.table.readStatistics(page, table.chunks) }
        labels.removeAll(keepingCapacity: true)
        labelEnds.removeAll(keepingCapacity: true)
        labelEnds.append(0)
        // Where each column's ranks begin in the segment's, less one: a column has rank + 1.
        var bases: [Int] = []
        for (column, name) in columns.names.enumerated() {
            guard name < ranks.starts.count else { throw ObsError(.corrupt, "label name \(name) does not exist", place: reader.file.path) }
            bases.append(ranks.starts[name] - 1)
            let end = name + 1 < ranks.starts.count ? ranks.starts[name + 1] : ranks.ranks.count
            guard columns.ranks[column].allSatisfy({ Int($0) <= end - ranks.starts[name] }) else {
                throw ObsError(.corrupt, "label value does not exist", place: reader.file.path)
            }
        }
        for row in table.ends.indices {
            for column in bases.indices where columns.ranks[column][row] != 0 {
                labels.append(ranks.ranks[bases[column] + Int(columns.ranks[column][row])])
            }
            labelEnds.append(labels.count)
        }
    }
}
