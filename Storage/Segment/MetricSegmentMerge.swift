// Several metric segments as one. Series are matched by the ranks of their labels (LabelMerge, SeriesRanks) in two walks over the series tables:
//
//   1. plan     which chunks are copied and which are joined follows from their times alone, so what becomes of each block is known before any is read
//   2. write    blocks all of whose chunks are copied go over as they are, with their checksums; other copied chunks go over encoded; the rest is decoded.
//              Statistics go with their chunks
//
// Memory: the dictionary and a number a label of the output, a page of the series table and a few blocks an input. It is announced before it is taken.

package import ObsCore
package import ObsDisk
internal import ObsEncoding
internal import ObsStore

package final class MetricSegmentMerge {
    /// Deleted times of a series, given its canonical labels; nil when nothing is.
    package typealias Deleted = (UnsafeRawBufferPointer) -> [ClosedRange<Int64>]

    /// What an input may take for decoded blocks, and the same for times.
    private static let inputCacheBytes = 2 << 20
    /// Times the writer remembers, blocks and bytes on their way.
    private static let outputBytesMax = 12 << 20
    /// Lists of series by label in the making, see `LabelIndexWriter`.
    private static let postingsBytesMax = 16 << 20

    private let readers: [MetricSegmentReader]
    private let deleted: [Deleted?]
    private let check: () throws(ObsError) -> Void
    private let grow: (Int) throws(ObsError) -> Void

    private var dictionary = LabelDictionary()
    private var ranks: [LabelRanks] = []
    private var timeUse: [BlockUse]
    private var valueUse: [BlockUse]
    private var decodedTimes: [DecodedTimes]
    /// By input: where its time columns are in the output.
    private var copiedTimes: [[Int: ColumnPlace]]
    private var plan = ChunkPlan()
    /// Of the present series, by input.
    private var masks: [[ClosedRange<Int64>]]
    private var labels: [UInt8] = []

    /// - Parameters:
    ///   - inputs: oldest first: of two samples for one instant the first segment's stays.
    ///   - deleted: by input.
    ///   - check: called now and then; throws when the merge is to end.
    ///   - grow: told of memory before it is taken; throws when there is none.
    package init(
        _ inputs: [String], _ fileSystem: any FileSystem, deleted: [Deleted?], check: @escaping () throws(ObsError) -> Void,
        grow: @escaping (Int) throws(ObsError) -> Void
    ) throws(ObsError) {
        var readers: [MetricSegmentReader] = []
        for path in inputs { readers.append(try MetricSegmentReader.open(fileSystem, path, cache: BlockCache(bytesMax: Self.inputCacheBytes))) }
        // Small segments need little.
        let unpacked = readers.map { Int(min(Int64(Self.outputBytesMax), $0.info.bytes * 8)) }
        try grow(min(Self.outputBytesMax, unpacked.reduce(0, +)) + unpacked.reduce(0) { $0 + min($1, 2 * Self.inputCacheBytes) })
        self.readers = readers
        self.deleted = deleted
        self.check = check
        self.grow = grow
        timeUse = readers.map { BlockUse(count: $0.timeBlocks.count) }
        valueUse = readers.map { BlockUse(count: $0.valueBlocks.count) }
        decodedTimes = readers.map { DecodedTimes($0, bytesMax: Self.inputCacheBytes) }
        copiedTimes = readers.map { _ in [:] }
        masks = readers.map { _ in [] }
    }

    /// Writes the merged segment; nil when no sample is left.
    package func write(_ fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) -> SegmentInfo? {
        (dictionary, ranks) = try mergeLabels(readers, grow: grow)
        var series = 0
        var labels = 0
        try forEachSeries(withStatistics: false) { (ranks: ArraySlice<UInt32>) throws(ObsError) in
            series += 1
            labels += ranks.count
            for run in plan.runs {
                let isCopied = plan.isCopied(run)
                for one in plan.chunks[run] {
                    timeUse[one.input].note(one.chunk.times, samples: one.chunk.samples, isCopied: isCopied)
                    valueUse[one.input].note(one.chunk.values, samples: one.chunk.samples, isCopied: isCopied)
                }
            }
        }
        try grow(labels * 4 + series * 4 + dictionary.values.count * 4 + min(Self.postingsBytesMax, labels * 4))
        let gathered = SeriesLabels(dictionary, series: series, labels: labels)
        let writer = try MetricSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            try forEachSeries(withStatistics: true) { (ranks: ArraySlice<UInt32>) throws(ObsError) in
                for run in plan.runs {
                    if plan.isCopied(run) { try copy(plan.chunks[run.lowerBound], writer) } else { try join(run, writer) }
                }
                if try writer.endSeries() { gathered.append(ranks: ranks) }
            }
            guard gathered.count > 0 else {
                writer.abandon()
                return nil
            }
            ranks = []
            gathered.dropUnused()
            for reader in readers { writer.families.add(try reader.families()) }
            return try writer.finish(gathered)
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Walks the merged series in order, their chunks planned.
    private func forEachSeries(withStatistics: Bool, _ body: (ArraySlice<UInt32>) throws(ObsError) -> Void) throws(ObsError) {
        var cursors: [SeriesRanks] = []
        for (reader, ranks) in zip(readers, ranks) { cursors.append(try SeriesRanks(reader, ranks, withStatistics: withStatistics)) }
        var live = cursors.indices.filter { !cursors[$0].isAtEnd }
        var same: [Int] = []
        var untilCheck = 0
        while let first = live.first {
            if untilCheck == 0 {
                try check()
                untilCheck = 256
            }
            untilCheck -= 1
            same.removeAll(keepingCapacity: true)
            same.append(first)
            for input in live.dropFirst() {
                let order = cursors[input].compare(cursors[same[0]])
                if order < 0 { same.removeAll(keepingCapacity: true) }
                if order <= 0 { same.append(input) }
            }
            let ranks = cursors[same[0]].current
            plan.removeAll()
            for input in same {
                if deleted[input] != nil { masks[input] = deletedTimes(input, ranks) }
                try plan.add(input, cursors[input].chunks, cursors[input].summaries, deleted: masks[input], path: readers[input].file.path)
            }
            plan.make()
            try body(ranks)
            var hasEnded = false
            for input in same {
                try cursors[input].advance()
                hasEnded = hasEnded || cursors[input].isAtEnd
            }
            if hasEnded { live.removeAll { cursors[$0].isAtEnd } }
        }
    }

    private func deletedTimes(_ input: Int, _ ranks: ArraySlice<UInt32>) -> [ClosedRange<Int64>] {
        guard let deleted = deleted[input] else { return [] }
        labels.removeAll(keepingCapacity: true)
        dictionary.append(ranks, to: &labels)
        return labels.withUnsafeBytes { deleted($0) }
    }

    private func copy(_ source: SourceChunk, _ writer: MetricSegmentWriter) throws(ObsError) {
        let reader = readers[source.input]
        let isAlone = readers.count == 1
        var chunk = source.chunk
        if timeUse[source.input].isWhole(chunk.times.block, isAlone: isAlone) {
            chunk.times.block = try block(chunk.times.block, &timeUse[source.input]) { (block: Int) throws(ObsError) -> Int in
                try writer.copyTimeBlock(try reader.file.frames(at: reader.timeBlocks[block]))
            }
        } else {
            chunk.times = try timeColumn(source, writer)
        }
        if valueUse[source.input].isWhole(chunk.values.block, isAlone: isAlone) {
            chunk.values.block = try block(chunk.values.block, &valueUse[source.input]) { (block: Int) throws(ObsError) -> Int in
                try writer.copyValueBlock(try reader.file.frames(at: reader.valueBlocks[block]))
            }
        } else {
            chunk.values = try writer.copyValues(try reader.encodedColumn(reader.valueBlocks, chunk.values), samples: chunk.samples)
        }
        writer.add(chunk, source.summary)
    }

    private func block(_ block: Int, _ use: inout BlockUse, _ copy: (Int) throws(ObsError) -> Int) throws(ObsError) -> Int {
        if let number = use.number(block) { return number }
        let number = try copy(block)
        use.set(block, number: number)
        return number
    }

    /// Series of a scrape share their times: once copied, all refer to the copy.
    private func timeColumn(_ source: SourceChunk, _ writer: MetricSegmentWriter) throws(ObsError) -> ColumnPlace {
        let key = source.chunk.times.block << 16 | source.chunk.times.index
        if let known = copiedTimes[source.input][key] { return known }
        let reader = readers[source.input]
        let place = try writer.copyTimes(try reader.encodedColumn(reader.timeBlocks, source.chunk.times), samples: source.chunk.samples)
        if copiedTimes[source.input].count == DecodedTimes.columnsMax { copiedTimes[source.input].removeAll(keepingCapacity: true) }
        copiedTimes[source.input][key] = place
        return place
    }

    /// Decodes a run, merges what overlaps, leaves the deleted out, and cuts it into chunks of one size.
    private func join(_ run: Range<Int>, _ writer: MetricSegmentWriter) throws(ObsError) {
        var times: [Int64] = []
        var values: [Double] = []
        var cluster = run.lowerBound
        while cluster < run.upperBound {
            let end = plan.clusterEnd(cluster)
            if end == cluster + 1 {
                try append(plan.chunks[cluster], to: &times, &values)
            } else {
                var merged: (times: [Int64], values: [Double]) = ([], [])
                for input in Set(plan.chunks[cluster..<end].map(\.input)).sorted() {
                    var one: (times: [Int64], values: [Double]) = ([], [])
                    for chunk in plan.chunks[cluster..<end] where chunk.input == input { try append(chunk, to: &one.times, &one.values) }
                    merged = mergeSamples(merged, one)
                }
                times += merged.times
                values += merged.values
            }
            cluster = end
        }
        guard !times.isEmpty else { return }
        let pieces = (times.count + SegmentLimits.chunkSamplesMax - 1) / SegmentLimits.chunkSamplesMax
        let size = (times.count + pieces - 1) / pieces
        var start = 0
        while start < times.count {
            let range = start..<min(start + size, times.count)
            let result: Result<Void, ObsError> = times.withUnsafeBufferPointer { times in
                values.withUnsafeBufferPointer { values in
                    do throws(ObsError) {
                        return .success(try writer.addChunk(UnsafeBufferPointer(rebasing: times[range]), UnsafeBufferPointer(rebasing: values[range])))
                    } catch { return .failure(error) }
                }
            }
            try result.get()
            start = range.upperBound
        }
    }

    private func append(_ source: SourceChunk, to times: inout [Int64], _ values: inout [Double]) throws(ObsError) {
        let chunkTimes = try decodedTimes[source.input].times(source.chunk)
        let chunkValues = try readers[source.input].values(source.chunk)
        guard source.isMasked else {
            times += chunkTimes
            values += chunkValues
            return
        }
        let mask = masks[source.input]
        for (time, value) in zip(chunkTimes, chunkValues) where !mask.contains(where: { $0.contains(time) }) {
            times.append(time)
            values.append(value)
        }
    }
}

/// Time columns decoded lately: series of a scrape share them.
struct DecodedTimes {
    static let columnsMax = 65_536
    private let reader: MetricSegmentReader
    private let countMax: Int
    private var count = 0
    private var columns: [Int: [Int64]] = [:]

    init(_ reader: MetricSegmentReader, bytesMax: Int) {
        self.reader = reader
        countMax = bytesMax / MemoryLayout<Int64>.stride
    }

    mutating func times(_ chunk: Chunk) throws(ObsError) -> [Int64] {
        let key = chunk.times.block << 16 | chunk.times.index
        if let known = columns[key], known.count == chunk.samples, known.first == chunk.minTime, known.last == chunk.maxTime { return known }
        let times = try reader.times(chunk)
        // A column's own costs come on top of its samples.
        count += times.count + 16
        if count > countMax {
            columns.removeAll(keepingCapacity: true)
            count = times.count + 16
        }
        columns[key] = times
        return times
    }
}
