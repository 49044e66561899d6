package import ObsCore
internal import ObsEncoding
package import ObsStore

// Series of a segment one after the other. What neighbours share is decoded once and kept in hand: the pages of the series table, the value block, the time
// column of a scrape (all series of a host have it, and are given the same array), the values of each label, and of a label set what comes before
// the first label that differs. What is left a series is the allocation of its values and of its labels.

/// A stretch of one series that one source holds, within the asked range: what is needed to tell whether others overlap it.
package struct SamplePiece {
    package var minTime: Int64
    package var maxTime: Int64
    /// What its samples come to, if that is known.
    package var summary: SampleSummary?
    /// Where its source finds its samples: a chunk of a segment.
    package var row: Int

    package init(minTime: Int64, maxTime: Int64, summary: SampleSummary? = nil, row: Int = 0) {
        self.minTime = minTime
        self.maxTime = maxTime
        self.summary = summary
        self.row = row
    }
}

/// Fastest with ordinals that ascend. One thread; errors as `MetricSegmentReader`'s.
package struct SeriesScan {
    /// What decoded time columns may take.
    private static let timesBytesMax = 2 << 20
    private let reader: MetricSegmentReader
    private let range: ClosedRange<Int64>
    private var labels: LabelScan
    private var times: DecodedTimes
    private var page = -1
    private var chunks: SeriesTable.ChunksPage?
    private var statistics: SeriesTable.StatisticsPage?
    private var block = -1
    private var valueBlock: ChunkBlock?

    /// - Parameter range: of the samples wanted, milliseconds.
    package init(_ reader: MetricSegmentReader, range: ClosedRange<Int64>) {
        self.reader = reader
        self.range = range
        labels = LabelScan(reader)
        times = DecodedTimes(reader, bytesMax: Self.timesBytesMax)
    }

    package mutating func labels(_ ordinal: Int) throws(ObsError) -> Labels { try labels.labels(ordinal) }

    /// Samples within the range, in time order; chunks outside are not read.
    package mutating func samples(_ ordinal: Int) throws(ObsError) -> (times: [Int64], values: [Double]) {
        let (page, rows) = try rows(ordinal)
        guard let first = rows.first else { return ([], []) }
        if rows.count == 1 { return try samples(page.table.chunks[first]) }
        var all: (times: [Int64], values: [Double]) = ([], [])
        let count = rows.reduce(0) { $0 + page.table.chunks[$1].samples }
        all.times.reserveCapacity(count)
        all.values.reserveCapacity(count)
        for row in rows {
            let one = try samples(page.table.chunks[row])
            all.times += one.times
            all.values += one.values
        }
        return all
    }

    /// What those samples come to, from the statistics of chunks where those are wholly within the range and say enough.
    /// - Parameters:
    ///   - deleted: times whose samples do not count.
    ///   - read: grows by the samples decoded.
    package mutating func summary(
        _ ordinal: Int, _ parts: SummaryParts, deleted: [ClosedRange<Int64>], read: inout Int
    ) throws(ObsError) -> SampleSummary {
        let (page, rows) = try rows(ordinal)
        let statistics = try statistics(page.table)
        var summary = SampleSummary()
        // Of the newest sample the last chunk tells that has any.
        for row in parts.contains(.newest) ? Array(rows.reversed()) : Array(rows) {
            if parts.contains(.newest), !summary.isEmpty { break }
            let chunk = page.table.chunks[row]
            if let known = reader.summary(chunk, statistics.summaries[row], parts, range, deleted) {
                summary.append(known)
            } else {
                let samples = try samples(chunk)
                read += samples.times.count
                let kept = deleted.isEmpty ? samples : leaving(out: deleted, samples)
                summary.append(timesMillis: kept.times, values: kept.values)
            }
        }
        return summary
    }

    /// The same in pieces, not put together yet.
    package mutating func pieces(_ ordinal: Int, _ parts: SummaryParts, deleted: [ClosedRange<Int64>]) throws(ObsError) -> [SamplePiece] {
        let (page, rows) = try rows(ordinal)
        let statistics = try statistics(page.table)
        var pieces: [SamplePiece] = []
        pieces.reserveCapacity(rows.count)
        for row in rows {
            let chunk = page.table.chunks[row]
            let known = reader.summary(chunk, statistics.summaries[row], parts, range, deleted)
            let times = (max(chunk.minTime, range.lowerBound), min(chunk.maxTime, range.upperBound))
            pieces.append(SamplePiece(minTime: times.0, maxTime: times.1, summary: known, row: row))
        }
        return pieces
    }

    /// Samples of a piece of a series.
    package mutating func samples(_ ordinal: Int, _ piece: SamplePiece, deleted: [ClosedRange<Int64>]) throws(ObsError) -> (times: [Int64], values: [Double]) {
        let samples = try samples(try chunks(ordinal / SegmentLimits.pageSeriesMax).table.chunks[piece.row])
        return deleted.isEmpty ? samples : leaving(out: deleted, samples)
    }

    /// Chunks of a series that reach into the range.
    private mutating func rows(_ ordinal: Int) throws(ObsError) -> (SeriesTable.ChunksPage, Range<Int>) {
        let page = try chunks(ordinal / SegmentLimits.pageSeriesMax)
        let all = page.table.range(ordinal % SegmentLimits.pageSeriesMax)
        var (first, end) = (all.lowerBound, all.upperBound)
        while first < end, page.table.chunks[first].maxTime < range.lowerBound { first += 1 }
        while first < end, page.table.chunks[end - 1].minTime > range.upperBound { end -= 1 }
        return (page, first..<end)
    }

    private mutating func chunks(_ number: Int) throws(ObsError) -> SeriesTable.ChunksPage {
        if number == page, let chunks { return chunks }
        let found = try reader.table.chunksPage(number)
        (page, chunks, statistics) = (number, found, nil)
        return found
    }

    private mutating func statistics(_ table: ChunkTable) throws(ObsError) -> SeriesTable.StatisticsPage {
        if let statistics { return statistics }
        let found = try reader.table.statisticsPage(page, table.chunks)
        statistics = found
        return found
    }

    private mutating func samples(_ chunk: Chunk) throws(ObsError) -> (times: [Int64], values: [Double]) {
        let chunkTimes = try times.times(chunk)
        if chunk.values.block != block || valueBlock == nil {
            valueBlock = try reader.block(reader.valueBlocks, chunk.values.block)
            block = chunk.values.block
        }
        guard let valueBlock else { return ([], []) }
        let values = try reader.values(chunk, in: valueBlock)
        return range.lowerBound <= chunk.minTime && chunk.maxTime <= range.upperBound ? (chunkTimes, values) : clipped(chunkTimes, values, to: range)
    }
}

extension MetricSegmentReader {
    /// What is known of a chunk, if that is all that is asked.
    fileprivate func summary(
        _ chunk: Chunk, _ summary: SampleSummary, _ parts: SummaryParts, _ range: ClosedRange<Int64>, _ deleted: [ClosedRange<Int64>]
    ) -> SampleSummary? {
        guard summary.count > 0, summary.known.isSuperset(of: parts.subtracting(.newest)), chunk.maxTime <= range.upperBound else { return nil }
        guard range.lowerBound <= chunk.minTime || parts.contains(.newest) else { return nil }
        return deleted.contains { $0.lowerBound <= chunk.maxTime && $0.upperBound >= chunk.minTime } ? nil : summary
    }
}

private func clipped(_ times: [Int64], _ values: [Double], to range: ClosedRange<Int64>) -> (times: [Int64], values: [Double]) {
    let first = lowerBound(times, range.lowerBound)
    let end = range.upperBound == .max ? times.count : lowerBound(times, range.upperBound + 1)
    return first == 0 && end == times.count ? (times, values) : first < end ? (Array(times[first..<end]), Array(values[first..<end])) : ([], [])
}

/// Samples without those in any of the ranges.
package func leaving(out deleted: [ClosedRange<Int64>], _ samples: (times: [Int64], values: [Double])) -> (times: [Int64], values: [Double]) {
    var kept: (times: [Int64], values: [Double]) = ([], [])
    for (time, value) in zip(samples.times, samples.values) where !deleted.contains(where: { $0.contains(time) }) {
        kept.times.append(time)
        kept.values.append(value)
    }
    return kept
}

/// Makes label sets of series in a row.
private struct LabelScan {
    /// A label name of the page in hand.
    private struct Column {
        var name: Int
        /// As it stands in a label set.
        var text: [UInt8]
    }
    private let reader: MetricSegmentReader
    private var page = -1
    private var columns: [Column] = []
    /// Ranks + 1 of the page's series, one series after the other; 0 where it has no such label.
    private var table: [UInt32] = []
    /// By name: values looked up last.
    private var values: [(first: Int, values: LabelIndex.Values)?]
    /// The label set in hand; where each column's label ends, and its rank.
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var ranks: [UInt32] = []

    init(_ reader: MetricSegmentReader) {
        self.reader = reader
        values = [(first: Int, values: LabelIndex.Values)?](repeating: nil, count: reader.index.names.count)
    }

    mutating func labels(_ ordinal: Int) throws(ObsError) -> Labels {
        if ordinal / SegmentLimits.pageSeriesMax != page { try open(ordinal / SegmentLimits.pageSeriesMax) }
        let start = ordinal % SegmentLimits.pageSeriesMax * columns.count
        var column = 0
        while column < ends.count, table[start + column] == ranks[column] { column += 1 }
        bytes.removeSubrange((column == 0 ? 0 : ends[column - 1])...)
        ends.removeSubrange(column...)
        ranks.removeSubrange(column...)
        while column < columns.count {
            let rank = table[start + column]
            if rank != 0 { try append(columns[column], rank: Int(rank) - 1) }
            ends.append(bytes.count)
            ranks.append(rank)
            column += 1
        }
        // A copy of its own: the next set is made in the same place.
        return Labels(canonical: bytes.withUnsafeBytes { [UInt8]($0) })
    }

    private mutating func append(_ column: Column, rank: Int) throws(ObsError) {
        bytes.append(contentsOf: column.text)
        if let known = values[column.name], known.values.append(rank - known.first, to: &bytes) { return }
        let found = try reader.index.values(column.name, rank: rank)
        values[column.name] = found
        guard found.values.append(rank - found.first, to: &bytes) else {
            throw ObsError(.corrupt, "label value \(rank) does not exist", place: reader.file.path)
        }
    }

    private mutating func open(_ number: Int) throws(ObsError) {
        let found = try reader.table.labelsPage(number)
        columns.removeAll(keepingCapacity: true)
        for name in found.names {
            guard name < reader.index.names.count else { throw ObsError(.corrupt, "label name \(name) does not exist", place: reader.file.path) }
            var text: [UInt8] = []
            text.appendText(reader.index.names[name].name)
            columns.append(Column(name: name, text: text))
        }
        page = number
        let rows = found.ranks.first?.count ?? 0
        table = [UInt32](repeating: 0, count: rows * columns.count)
        for (column, ranks) in found.ranks.enumerated() {
            for row in 0..<rows { table[row * columns.count + column] = ranks[row] }
        }
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        ranks.removeAll(keepingCapacity: true)
    }
}

extension LabelIndex.Values {
    /// Appends a value as it stands in a label set; false when there is none of that number.
    fileprivate func append(_ index: Int, to output: inout [UInt8]) -> Bool {
        guard ranges.indices.contains(index) else { return false }
        let range = ranges[index].range
        bytes.withUnsafeBytes { output.appendText(UnsafeRawBufferPointer(rebasing: $0[range])) }
        return true
    }
}
