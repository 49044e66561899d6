internal import ObsCore
internal import ObsEncoding
internal import ObsStore

// The series table: for each series, in label order, its labels (as numbers of the label index) and its chunks. Columns of a page of 1,024 series each:
// neighbours differ in one label and lie one after the other in the blocks, so most columns are constant or a count.
//
//   seriesTable section   varint series · varint pages · pages × (labels place, chunks place, statistics place)
//   labels page           varint names · names × (varint name, value rank + 1 of each series, 0 where absent)
//   chunks page           chunks of each series · varint chunks in all · columns over those: first time, last - first, samples,
//                         time block, index in it, value block, index in it
//   statistics page       see ChunkStatistics; segments before version 3 have none

struct Chunk: Sendable, Equatable {
    var minTime: Int64
    var maxTime: Int64
    var samples: Int
    var times: ColumnPlace
    var values: ColumnPlace
}

/// Chunks of a page's series back to back.
struct ChunkTable: Sendable {
    var chunks: [Chunk] = []
    /// End of each series' chunks.
    var ends: [Int] = []

    func range(_ series: Int) -> Range<Int> { (series == 0 ? 0 : ends[series - 1])..<ends[series] }
}

/// Writes chunks pages as they fill, labels pages and the directory at the end, when labels have ranks.
struct SeriesTableWriter {
    private var page = ChunkTable()
    /// Of the page's chunks.
    private var statistics: [SampleSummary] = []
    private var places: [(chunks: FramePlace, statistics: FramePlace)] = []

    /// Adds a chunk to the series in work.
    mutating func append(_ chunk: Chunk, _ summary: SampleSummary) {
        page.chunks.append(chunk)
        statistics.append(summary)
    }

    /// Ends the series in work.
    mutating func endSeries(_ file: SegmentFileWriter) throws(ObsError) {
        page.ends.append(page.chunks.count)
        if page.ends.count == SegmentLimits.pageSeriesMax { try flush(file) }
    }

    mutating func write(_ labels: SeriesLabels, _ file: SegmentFileWriter) throws(ObsError) -> FramePlace {
        try flush(file)
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(labels.count))
        directory.appendVarint(UInt64(places.count))
        var columns = LabelColumns(labels)
        for (index, (chunks, statistics)) in places.enumerated() {
            let first = index * SegmentLimits.pageSeriesMax
            directory.appendPlace(try file.append(columns.page(first..<min(first + SegmentLimits.pageSeriesMax, labels.count))))
            directory.appendPlace(chunks)
            directory.appendPlace(statistics)
        }
        return try file.append(directory)
    }

    private mutating func flush(_ file: SegmentFileWriter) throws(ObsError) {
        guard !page.ends.isEmpty else { return }
        var summaries: [UInt8] = []
        ChunkStatistics.append(page.chunks, statistics, to: &summaries)
        places.append((try file.append(chunksPage()), try file.append(summaries)))
        page.chunks.removeAll(keepingCapacity: true)
        page.ends.removeAll(keepingCapacity: true)
        statistics.removeAll(keepingCapacity: true)
    }

    private func chunksPage() -> [UInt8] {
        let chunks = page.chunks
        var bytes: [UInt8] = []
        IntegerCodec.append(page.ends.indices.map { Int64(page.range($0).count) }, to: &bytes)
        bytes.appendVarint(UInt64(chunks.count))
        IntegerCodec.append(chunks.map(\.minTime), to: &bytes)
        IntegerCodec.append(chunks.map { $0.maxTime &- $0.minTime }, to: &bytes)
        IntegerCodec.append(chunks.map { Int64($0.samples) }, to: &bytes)
        IntegerCodec.append(chunks.map { Int64($0.times.block) }, to: &bytes)
        IntegerCodec.append(chunks.map { Int64($0.times.index) }, to: &bytes)
        IntegerCodec.append(chunks.map { Int64($0.values.block) }, to: &bytes)
        IntegerCodec.append(chunks.map { Int64($0.values.index) }, to: &bytes)
        return bytes
    }
}

/// Turns the labels of a page's series into a column a name.
private struct LabelColumns {
    private let labels: SeriesLabels
    /// By name: its column in the page in work, -1 when it has none yet.
    private var columnOfName: [Int]
    /// Value rank + 1 of each series of the page, column after column.
    private var columns: [[Int64]] = []

    init(_ labels: SeriesLabels) {
        self.labels = labels
        columnOfName = [Int](repeating: -1, count: labels.names.count)
    }

    mutating func page(_ series: Range<Int>) -> [UInt8] {
        var names: [Int] = []
        labels.forEach(series) { ordinal, ranks in
            var name = 0
            for rank in ranks {
                // Ranks ascend, and so do their names.
                while labels.nameEnds[name] <= Int(rank) { name += 1 }
                if columnOfName[name] < 0 {
                    columnOfName[name] = names.count
                    names.append(name)
                    if columns.count < names.count { columns.append([]) }
                    columns[names.count - 1].removeAll(keepingCapacity: true)
                    columns[names.count - 1].append(contentsOf: repeatElement(0, count: series.count))
                }
                columns[columnOfName[name]][ordinal - series.lowerBound] = Int64(Int(rank) - labels.ranks(name).lowerBound) + 1
            }
        }
        var page: [UInt8] = []
        page.appendVarint(UInt64(names.count))
        for name in names.sorted() {
            page.appendVarint(UInt64(name))
            IntegerCodec.append(columns[columnOfName[name]], to: &page)
            columnOfName[name] = -1
        }
        return page
    }
}

/// The reading half.
final class SeriesTable: Sendable {
    let seriesCount: Int
    private let file: SegmentFile
    /// Without a place of statistics before version 3.
    private let pages: [(labels: FramePlace, chunks: FramePlace, statistics: FramePlace)]

    init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        let place = try file.footer.place(.seriesTable)
        let hasStatistics = file.version >= 3
        typealias Pages = [(labels: FramePlace, chunks: FramePlace, statistics: FramePlace)]
        (seriesCount, pages) = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> (Int, Pages) in
            let seriesCount = try cursor.count(max: Int(Int32.max))
            let pageCount = (seriesCount + SegmentLimits.pageSeriesMax - 1) / SegmentLimits.pageSeriesMax
            guard try cursor.count(max: cursor.remaining) == pageCount else { throw ObsError(.corrupt, "series table with a wrong number of pages") }
            var pages: Pages = []
            for _ in 0..<pageCount {
                let (labels, chunks) = (try cursor.place(before: place.offset), try cursor.place(before: place.offset))
                pages.append((labels, chunks, hasStatistics ? try cursor.place(before: place.offset) : .none))
            }
            return (seriesCount, pages)
        }
    }

    var pageCount: Int { pages.count }
    /// As stored.
    var statisticsBytes: Int { pages.reduce(0) { $0 + $1.statistics.length } }

    private func seriesIn(_ page: Int) -> Int { min(SegmentLimits.pageSeriesMax, seriesCount - page * SegmentLimits.pageSeriesMax) }

    func labels(_ ordinal: Int, index: LabelIndex) throws(ObsError) -> Labels {
        let page = try labelsPage(ordinal / SegmentLimits.pageSeriesMax)
        let row = ordinal % SegmentLimits.pageSeriesMax
        var bytes: [UInt8] = []
        for (name, ranks) in zip(page.names, page.ranks) where ranks[row] != 0 {
            guard name < index.names.count else { throw ObsError(.corrupt, "label name \(name) does not exist", place: file.path) }
            bytes.appendText(index.names[name].name)
            try index.appendValue(name, rank: Int(ranks[row]) - 1, to: &bytes)
        }
        return Labels(canonical: bytes)
    }

    /// For each value of a label, by rank, whether one of these series has it.
    /// - Parameters:
    ///   - name: position in the label index.
    ///   - ordinals: ascending.
    func hasValue(_ name: Int, valueCount: Int, of ordinals: [Int]) throws(ObsError) -> [Bool] {
        var found = [Bool](repeating: false, count: valueCount)
        try forEachPage(of: ordinals) { (page, rows) throws(ObsError) in
            let labels = try labelsPage(page)
            guard let column = labels.names.firstIndex(of: name) else { return }
            for row in rows where labels.ranks[column][row] != 0 {
                let rank = Int(labels.ranks[column][row]) - 1
                guard rank < valueCount else { throw ObsError(.corrupt, "label value \(rank) does not exist", place: file.path) }
                found[rank] = true
            }
        }
        return found
    }

    /// For each label name of the index whether one of these series has such a label.
    /// - Parameter ordinals: ascending.
    func hasName(nameCount: Int, of ordinals: [Int]) throws(ObsError) -> [Bool] {
        var found = [Bool](repeating: false, count: nameCount)
        try forEachPage(of: ordinals) { (page, rows) throws(ObsError) in
            let labels = try labelsPage(page)
            for (name, ranks) in zip(labels.names, labels.ranks) {
                guard name < nameCount else { throw ObsError(.corrupt, "label name \(name) does not exist", place: file.path) }
                if !found[name] { found[name] = rows.contains { ranks[$0] != 0 } }
            }
        }
        return found
    }

    /// Those of the series whose time from first to last sample reaches into `range`.
    /// - Parameter ordinals: ascending.
    func inReach(_ range: ClosedRange<Int64>, of ordinals: [Int]) throws(ObsError) -> [Int] {
        var found: [Int] = []
        try forEachPage(of: ordinals) { (page, rows) throws(ObsError) in
            let table = try chunksPage(page).table
            for row in rows {
                let chunks = table.range(row)
                if table.chunks[chunks.lowerBound].minTime <= range.upperBound, table.chunks[chunks.upperBound - 1].maxTime >= range.lowerBound {
                    found.append(page * SegmentLimits.pageSeriesMax + row)
                }
            }
        }
        return found
    }

    /// Gives the pages in which series lie, each with the rows of its series.
    private func forEachPage(of ordinals: [Int], _ body: (Int, [Int]) throws(ObsError) -> Void) throws(ObsError) {
        var start = 0
        while start < ordinals.count {
            let page = ordinals[start] / SegmentLimits.pageSeriesMax
            let first = page * SegmentLimits.pageSeriesMax
            var end = start
            while end < ordinals.count, ordinals[end] < first + SegmentLimits.pageSeriesMax { end += 1 }
            try body(page, ordinals[start..<end].map { $0 - first })
            start = end
        }
    }

    func chunks(_ ordinal: Int) throws(ObsError) -> ArraySlice<Chunk> {
        let page = try chunksPage(ordinal / SegmentLimits.pageSeriesMax)
        return page.table.chunks[page.table.range(ordinal % SegmentLimits.pageSeriesMax)]
    }

    /// Labels of a page's series: a column a name, value rank + 1 of each series.
    final class LabelsPage: Sendable {
        let names: [Int]
        let ranks: [[UInt32]]
        init(names: [Int], ranks: [[UInt32]]) {
            self.names = names
            self.ranks = ranks
        }
    }

    final class ChunksPage: Sendable {
        let table: ChunkTable
        init(_ table: ChunkTable) { self.table = table }
    }

    /// What a page's chunks come to, one after the other.
    final class StatisticsPage: Sendable {
        let summaries: [SampleSummary]
        init(_ summaries: [SampleSummary]) { self.summaries = summaries }
    }

    func labelsPage(_ page: Int) throws(ObsError) -> LabelsPage {
        try file.cached(pages[page].labels) { () throws(ObsError) -> (value: LabelsPage, bytes: Int) in
            let labels = try readLabels(page)
            return (labels, labels.names.count * (seriesIn(page) * 4 + 40))
        }
    }

    /// Reads a page past the cache.
    func readLabels(_ page: Int) throws(ObsError) -> LabelsPage {
        let rows = seriesIn(page)
        return try file.decode(pages[page].labels) { (cursor: inout ByteCursor) throws(ObsError) -> LabelsPage in
            var names: [Int] = []
            var ranks: [[UInt32]] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                let name = try cursor.count(max: Int(Int32.max))
                if let last = names.last, last >= name { throw ObsError(.corrupt, "label names out of order") }
                names.append(name)
                ranks.append(try IntegerCodec.decode(&cursor, count: rows, as: UInt32.self))
            }
            return LabelsPage(names: names, ranks: ranks)
        }
    }

    func chunksPage(_ page: Int) throws(ObsError) -> ChunksPage {
        try file.cached(pages[page].chunks) { () throws(ObsError) -> (value: ChunksPage, bytes: Int) in
            let table = try readChunks(page)
            return (ChunksPage(table), table.chunks.count * MemoryLayout<Chunk>.stride + table.ends.count * 8)
        }
    }

    /// Reads a page past the cache.
    func readChunks(_ page: Int) throws(ObsError) -> ChunkTable {
        let rows = seriesIn(page)
        return try file.decode(pages[page].chunks) { (cursor: inout ByteCursor) throws(ObsError) -> ChunkTable in try Self.decode(&cursor, rows: rows) }
    }

    /// - Parameter chunks: of the page.
    func statisticsPage(_ page: Int, _ chunks: [Chunk]) throws(ObsError) -> StatisticsPage {
        if pages[page].statistics.isNone { return StatisticsPage([SampleSummary](repeating: ChunkStatistics.unknown, count: chunks.count)) }
        return try file.cached(pages[page].statistics) { () throws(ObsError) -> (value: StatisticsPage, bytes: Int) in
            (StatisticsPage(try readStatistics(page, chunks)), chunks.count * MemoryLayout<SampleSummary>.stride)
        }
    }

    /// Reads a page past the cache.
    func readStatistics(_ page: Int, _ chunks: [Chunk]) throws(ObsError) -> [SampleSummary] {
        if pages[page].statistics.isNone { return [SampleSummary](repeating: ChunkStatistics.unknown, count: chunks.count) }
        return try file.decode(pages[page].statistics) { (cursor: inout ByteCursor) throws(ObsError) -> [SampleSummary] in
            try ChunkStatistics.decode(&cursor, chunks)
        }
    }

    private static func decode(_ cursor: inout ByteCursor, rows: Int) throws(ObsError) -> ChunkTable {
        var table = ChunkTable()
        var total = 0
        for count in try IntegerCodec.decode(&cursor, count: rows) {
            guard count > 0, count < Int64(Int32.max) else { throw ObsError(.corrupt, "series of \(count) chunks") }
            total += Int(count)
            table.ends.append(total)
        }
        // A chunk takes no byte when all columns are constant, so the bound is not the bytes left but what a block index can hold.
        guard try cursor.count(max: Int(Int32.max)) == total else { throw ObsError(.corrupt, "series table and its chunks disagree") }
        let minTimes = try IntegerCodec.decode(&cursor, count: total)
        let spans = try IntegerCodec.decode(&cursor, count: total)
        let samples = try IntegerCodec.decode(&cursor, count: total)
        let timeBlocks = try IntegerCodec.decode(&cursor, count: total)
        let timeIndices = try IntegerCodec.decode(&cursor, count: total)
        let valueBlocks = try IntegerCodec.decode(&cursor, count: total)
        let valueIndices = try IntegerCodec.decode(&cursor, count: total)
        table.chunks.reserveCapacity(total)
        for row in 0..<total {
            let maxTime = minTimes[row] &+ spans[row]
            guard maxTime >= minTimes[row], (1...Int64(SegmentLimits.chunkSamplesMax)).contains(samples[row]) else {
                throw ObsError(.corrupt, "chunk of \(samples[row]) samples from \(minTimes[row]) to \(maxTime)")
            }
            table.chunks.append(
                Chunk(
                    minTime: minTimes[row], maxTime: maxTime, samples: Int(samples[row]),
                    times: ColumnPlace(block: Int(timeBlocks[row]), index: Int(timeIndices[row])),
                    values: ColumnPlace(block: Int(valueBlocks[row]), index: Int(valueIndices[row]))))
        }
        return table
    }
}
