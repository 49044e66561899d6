package import ObsCore
package import ObsDisk
internal import ObsEncoding
package import ObsStore

/// A segment of series open for reading. A series goes by its ordinal, 0..<seriesCount, in label order. Safe from several threads.
///
/// Every call may throw `.corrupt` with place `file:offset`.
package final class MetricSegmentReader: Sendable {
    package var info: SegmentInfo { file.info }
    package var seriesCount: Int { table.seriesCount }
    let file: SegmentFile
    let index: LabelIndex
    let table: SeriesTable
    let timeBlocks: [FramePlace]
    let valueBlocks: [FramePlace]

    /// Reads the footer and its directories, no block and no page.
    /// - Parameter cache: for decoded blocks and pages; the engine's is shared by all readers.
    package static func open(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache = BlockCache(bytesMax: 8 << 20)) throws(ObsError)
        -> MetricSegmentReader
    {
        try MetricSegmentReader(try SegmentFile(fileSystem, path, cache: cache, expecting: .metrics))
    }

    private init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        index = try LabelIndex(file)
        table = try SeriesTable(file)
        guard index.seriesCount == table.seriesCount else { throw ObsError(.corrupt, "label index and series table disagree", place: file.path) }
        let place = try file.footer.place(.chunkBlocks)
        (timeBlocks, valueBlocks) = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> ([FramePlace], [FramePlace]) in
            (try Self.places(&cursor, before: place.offset), try Self.places(&cursor, before: place.offset))
        }
    }

    /// Ordinals of the series that satisfy all matchers, ascending.
    package func select(_ matchers: [LabelMatcher]) throws(ObsError) -> [Int] { try index.select([matchers]) }

    /// Ordinals of the series that satisfy all matchers of at least one selector, ascending.
    package func select(any selectors: [[LabelMatcher]]) throws(ObsError) -> [Int] { try index.select(selectors) }

    /// Those of the series whose time from first to last sample reaches into `range`, milliseconds.
    /// - Parameter ordinals: ascending.
    package func inReach(_ range: ClosedRange<Int64>, of ordinals: [Int]) throws(ObsError) -> [Int] { try table.inReach(range, of: ordinals) }

    /// What is known of metric families; read anew each time.
    package func families() throws(ObsError) -> MetricFamilies {
        guard let section = file.footer.sections.first(where: { $0.kind == SectionKind.metadata.rawValue }) else { return MetricFamilies() }
        return try file.decode(section.place) { (cursor: inout ByteCursor) throws(ObsError) -> MetricFamilies in try MetadataSection.decode(&cursor) }
    }

    package func labels(_ ordinal: Int) throws(ObsError) -> Labels { try table.labels(ordinal, index: index) }

    /// Milliseconds of the first and the last sample.
    package func timeRange(_ ordinal: Int) throws(ObsError) -> ClosedRange<Int64> {
        let chunks = try table.chunks(ordinal)
        guard let first = chunks.first, let last = chunks.last, first.minTime <= last.maxTime else {
            throw ObsError(.corrupt, "series \(ordinal) has chunks out of order", place: file.path)
        }
        return first.minTime...last.maxTime
    }

    /// Samples within `range` (milliseconds), in time order; chunks outside are not read.
    package func samples(_ ordinal: Int, range: ClosedRange<Int64>) throws(ObsError) -> (times: [Int64], values: [Double]) {
        var times: [Int64] = []
        var values: [Double] = []
        for chunk in try table.chunks(ordinal) where chunk.maxTime >= range.lowerBound && chunk.minTime <= range.upperBound {
            let chunkTimes = try self.times(chunk)
            let chunkValues = try self.values(chunk)
            let first = chunk.minTime >= range.lowerBound ? 0 : lowerBound(chunkTimes, range.lowerBound)
            let end = chunk.maxTime <= range.upperBound ? chunkTimes.count : lowerBound(chunkTimes, range.upperBound + 1)
            guard first < end else { continue }
            if times.isEmpty, first == 0, end == chunkTimes.count {
                times = chunkTimes
                values = chunkValues
            } else {
                times.append(contentsOf: chunkTimes[first..<end])
                values.append(contentsOf: chunkValues[first..<end])
            }
        }
        return (times, values)
    }

    /// All samples of a series but those of damaged chunks, and whether there were none such: what a salvage keeps.
    /// - Throws: what the file system throws, and `.corrupt` when the list of chunks is damaged.
    package func readableSamples(_ ordinal: Int) throws(ObsError) -> (times: [Int64], values: [Double], isWhole: Bool) {
        var found: (times: [Int64], values: [Double], isWhole: Bool) = ([], [], true)
        for chunk in try table.chunks(ordinal) {
            do throws(ObsError) {
                let (times, values) = try samples(ordinal, range: chunk.minTime...chunk.maxTime)
                guard found.times.last ?? .min < times.first ?? .max || found.times.isEmpty else { throw ObsError(.corrupt, "chunks out of order") }
                found.times += times
                found.values += values
            } catch {
                guard error.code == .corrupt else { throw error }
                found.isWhole = false
            }
        }
        return found
    }

    /// Number of samples of a series; reads no block.
    package func sampleCount(_ ordinal: Int) throws(ObsError) -> Int { try table.chunks(ordinal).reduce(0) { $0 + $1.samples } }

    /// Sorted.
    package func labelNames() throws(ObsError) -> [String] { index.names.map { String(decoding: $0.name, as: UTF8.self) } }

    /// Names of labels on at least one of these series, sorted.
    /// - Parameter ordinals: ascending.
    package func labelNames(of ordinals: [Int]) throws(ObsError) -> [String] {
        let found = try table.hasName(nameCount: index.names.count, of: ordinals)
        return try labelNames().enumerated().filter { found[$0.offset] }.map(\.element)
    }

    /// Sorted, unique values of a label in the whole segment; empty when no series has it.
    package func labelValues(_ name: String) throws(ObsError) -> [String] {
        var values: [String] = []
        try forEachLabelValue(name, of: nil) {
            values.append(String(decoding: $0, as: UTF8.self))
            return true
        }
        return values
    }

    /// Walks the unique values of a label in order, until `body` returns false.
    /// - Parameter ordinals: ascending; only values on one of these series. Nil: all, read from the index alone.
    package func forEachLabelValue(_ name: String, of ordinals: [Int]?, _ body: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) {
        guard let place = index.names.firstIndex(where: { $0.name.elementsEqual(name.utf8) }) else { return }
        let found = index.names[place]
        guard let ordinals else { return try index.forEachValue(found, where: { _ in true }, body) }
        let wanted = try table.hasValue(place, valueCount: found.valueCount, of: ordinals)
        try index.forEachValue(found, where: { wanted[$0] }, body)
    }

    func times(_ chunk: Chunk) throws(ObsError) -> [Int64] {
        let times = try column(timeBlocks, chunk.times) { (cursor: inout ByteCursor) throws(ObsError) -> [Int64] in
            try IntegerCodec.decode(&cursor, count: chunk.samples)
        }
        // The writer's check, from the other side.
        guard times.first == chunk.minTime, times.last == chunk.maxTime, zip(times, times.dropFirst()).allSatisfy({ $0 < $1 }) else {
            throw ObsError(.corrupt, "times of a chunk are not those of the series table", place: file.path)
        }
        return times
    }

    func values(_ chunk: Chunk) throws(ObsError) -> [Double] { try values(chunk, in: try block(valueBlocks, chunk.values.block)) }

    /// - Parameter block: the one the chunk refers to.
    func values(_ chunk: Chunk, in block: ChunkBlock) throws(ObsError) -> [Double] {
        do throws(ObsError) {
            return try block.column(chunk.values.index) { (cursor: inout ByteCursor) throws(ObsError) -> [Double] in
                try FloatCodec.decode(&cursor, count: chunk.samples)
            }
        } catch { throw error.located("\(file.path):\(valueBlocks[chunk.values.block].offset)") }
    }

    /// A column as it is encoded.
    func encodedColumn(_ places: [FramePlace], _ at: ColumnPlace) throws(ObsError) -> [UInt8] {
        try column(places, at) { (cursor: inout ByteCursor) throws(ObsError) -> [UInt8] in [UInt8](try cursor.take(cursor.remaining)) }
    }

    private func column<R>(_ places: [FramePlace], _ at: ColumnPlace, _ decode: (inout ByteCursor) throws(ObsError) -> R) throws(ObsError) -> R {
        let block = try block(places, at.block)
        do throws(ObsError) { return try block.column(at.index, decode) } catch { throw error.located("\(file.path):\(places[at.block].offset)") }
    }

    func block(_ places: [FramePlace], _ number: Int) throws(ObsError) -> ChunkBlock {
        guard places.indices.contains(number) else { throw ObsError(.corrupt, "block \(number) of \(places.count)", place: file.path) }
        let place = places[number]
        do throws(ObsError) {
            return try file.cached(place) { () throws(ObsError) -> (value: ChunkBlock, bytes: Int) in
                let block = try ChunkBlock(try file.read(place))
                return (block, block.byteSize)
            }
        } catch { throw error.located("\(file.path):\(place.offset)") }
    }

    private static func places(_ cursor: inout ByteCursor, before end: Int) throws(ObsError) -> [FramePlace] {
        // A frame has more than eight bytes, so there cannot be more of them than that.
        let count = try cursor.count(max: end / 8)
        let offsets = try IntegerCodec.decode(&cursor, count: count)
        let lengths = try IntegerCodec.decode(&cursor, count: count)
        var places: [FramePlace] = []
        for (offset, length) in zip(offsets, lengths) {
            guard offset >= 0, length >= 0, offset <= Int64(end), length <= Int64(end) - offset else { throw ObsError(.corrupt, "block outside the data") }
            places.append(FramePlace(offset: Int(offset), length: Int(length)))
        }
        return places
    }
}

/// Index of the first time that is not below `time`.
func lowerBound(_ times: [Int64], _ time: Int64) -> Int {
    var low = 0
    var high = times.count
    while low < high {
        let middle = (low + high) / 2
        if times[middle] < time { low = middle + 1 } else { high = middle }
    }
    return low
}
