internal import ObsCore
internal import ObsEncoding

// The series table: for each series, in label order, its labels (as numbers of the label index) and its chunks. Columns of a page of 1,024 series each:
// neighbours differ in one label and lie one after the other in the blocks, so most columns are constant or a count.
//
//   seriesTable section   varint series · varint pages · pages × (labels place, chunks place)
//   labels page           varint names · names × (varint name, value rank + 1 of each series, 0 where absent)
//   chunks page           chunks of each series · varint chunks in all · columns over those: first time, last - first, samples,
//                         time block, index in it, value block, index in it

struct Chunk: Sendable, Equatable {
    var minTime: Int64
    var maxTime: Int64
    var samples: Int
    var times: ColumnPlace
    var values: ColumnPlace
}

/// Chunks of all series back to back.
struct ChunkTable: Sendable {
    var chunks: [Chunk] = []
    /// End of each series' chunks.
    var ends: [Int] = []

    func range(_ series: Int) -> Range<Int> { (series == 0 ? 0 : ends[series - 1])..<ends[series] }
}

struct SeriesTableWriter {
    let labels: RankedLabels
    let table: ChunkTable
    let file: SegmentFileWriter

    func write() throws(ObsError) -> FramePlace {
        var places: [FramePlace] = []
        for first in stride(from: 0, to: labels.seriesCount, by: SegmentLimits.pageSeriesMax) {
            let series = first..<min(first + SegmentLimits.pageSeriesMax, labels.seriesCount)
            places.append(try file.append(labelsPage(series)))
            places.append(try file.append(chunksPage(series)))
        }
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(labels.seriesCount))
        directory.appendVarint(UInt64(places.count / 2))
        for place in places { directory.appendPlace(place) }
        return try file.append(directory)
    }

    private func labelsPage(_ series: Range<Int>) -> [UInt8] {
        var columns: [UInt32: [Int64]] = [:]
        for ordinal in series {
            for pair in labels.pairs(ordinal) {
                columns[labels.pairNames[pair], default: [Int64](repeating: 0, count: series.count)][ordinal - series.lowerBound] =
                    Int64(labels.pairValues[pair]) + 1
            }
        }
        var page: [UInt8] = []
        page.appendVarint(UInt64(columns.count))
        for name in columns.keys.sorted() {
            page.appendVarint(UInt64(name))
            IntegerCodec.append(columns[name] ?? [], to: &page)
        }
        return page
    }

    private func chunksPage(_ series: Range<Int>) -> [UInt8] {
        let chunks = table.chunks[table.range(series.lowerBound).lowerBound..<table.ends[series.upperBound - 1]]
        var page: [UInt8] = []
        IntegerCodec.append(series.map { Int64(table.range($0).count) }, to: &page)
        page.appendVarint(UInt64(chunks.count))
        IntegerCodec.append(chunks.map(\.minTime), to: &page)
        IntegerCodec.append(chunks.map { $0.maxTime &- $0.minTime }, to: &page)
        IntegerCodec.append(chunks.map { Int64($0.samples) }, to: &page)
        IntegerCodec.append(chunks.map { Int64($0.times.block) }, to: &page)
        IntegerCodec.append(chunks.map { Int64($0.times.index) }, to: &page)
        IntegerCodec.append(chunks.map { Int64($0.values.block) }, to: &page)
        IntegerCodec.append(chunks.map { Int64($0.values.index) }, to: &page)
        return page
    }
}

/// The reading half.
final class SeriesTable: Sendable {
    let seriesCount: Int
    private let file: SegmentFile
    private let pages: [(labels: FramePlace, chunks: FramePlace)]

    init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        let place = try file.footer.place(.seriesTable)
        (seriesCount, pages) = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> (Int, [(labels: FramePlace, chunks: FramePlace)]) in
            let seriesCount = try cursor.count(max: Int(Int32.max))
            let pageCount = (seriesCount + SegmentLimits.pageSeriesMax - 1) / SegmentLimits.pageSeriesMax
            guard try cursor.count(max: cursor.remaining) == pageCount else { throw ObsError(.corrupt, "series table with a wrong number of pages") }
            var pages: [(labels: FramePlace, chunks: FramePlace)] = []
            for _ in 0..<pageCount { pages.append((try cursor.place(before: place.offset), try cursor.place(before: place.offset))) }
            return (seriesCount, pages)
        }
    }

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

    func chunks(_ ordinal: Int) throws(ObsError) -> ArraySlice<Chunk> {
        let page = try chunksPage(ordinal / SegmentLimits.pageSeriesMax)
        return page.table.chunks[page.table.range(ordinal % SegmentLimits.pageSeriesMax)]
    }

    private final class LabelsPage: Sendable {
        let names: [Int]
        let ranks: [[UInt32]]
        init(names: [Int], ranks: [[UInt32]]) {
            self.names = names
            self.ranks = ranks
        }
    }

    private final class ChunksPage: Sendable {
        let table: ChunkTable
        init(_ table: ChunkTable) { self.table = table }
    }

    private func labelsPage(_ page: Int) throws(ObsError) -> LabelsPage {
        let place = pages[page].labels
        let rows = seriesIn(page)
        return try file.cached(place) { () throws(ObsError) -> (value: LabelsPage, bytes: Int) in
            try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> (value: LabelsPage, bytes: Int) in
                var names: [Int] = []
                var ranks: [[UInt32]] = []
                for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                    let name = try cursor.count(max: Int(Int32.max))
                    if let last = names.last, last >= name { throw ObsError(.corrupt, "label names out of order") }
                    names.append(name)
                    ranks.append(try IntegerCodec.decode(&cursor, count: rows, as: UInt32.self))
                }
                return (LabelsPage(names: names, ranks: ranks), names.count * (rows * 4 + 40))
            }
        }
    }

    private func chunksPage(_ page: Int) throws(ObsError) -> ChunksPage {
        let place = pages[page].chunks
        let rows = seriesIn(page)
        return try file.cached(place) { () throws(ObsError) -> (value: ChunksPage, bytes: Int) in
            let table = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> ChunkTable in try Self.decode(&cursor, rows: rows) }
            return (ChunksPage(table), table.chunks.count * MemoryLayout<Chunk>.stride + table.ends.count * 8)
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
