internal import ObsCore
internal import ObsEncoding

// A chunk is at most `chunkSamplesMax` consecutive samples of one series: a time column and a value column, encoded apart and kept in different blocks.
//
// Time columns are shared: all series of a scrape have the same timestamps, so the writer keeps each distinct column once and chunks refer to it. For a
// thousand series a scrape this makes time nearly free. Sorted by labels, such series do not lie together, so sharing spans the segment and not just a block.
//
// Block content: `varint chunks · chunks × varint length · encoded columns back to back`.

/// Where a column lies: the block's index among its kind, the column's index in the block.
struct ColumnPlace: Sendable, Equatable {
    var block: Int
    var index: Int
}

/// Gathers encoded columns into blocks.
struct ChunkBlockBuilder {
    private var data: [UInt8] = []
    private var lengths: [Int] = []
    private var samples = 0
    /// Number of the block in the making; blocks copied meanwhile have those after it.
    private var number = 0
    private(set) var places: [FramePlace] = []

    mutating func append(samples count: Int, _ encode: (inout [UInt8]) -> Void, to file: SegmentFileWriter) throws(ObsError) -> ColumnPlace {
        if lengths.isEmpty {
            number = places.count
            places.append(.none)
        }
        let place = ColumnPlace(block: number, index: lengths.count)
        let start = data.count
        encode(&data)
        lengths.append(data.count - start)
        samples += count
        if samples >= SegmentLimits.blockSamplesMax || lengths.count >= SegmentLimits.blockChunksMax { try flush(to: file) }
        return place
    }

    /// Takes a block of another segment over as it is; returns its number.
    mutating func copy(_ frames: (bytes: [UInt8], checksums: [UInt64]), to file: SegmentFileWriter) throws(ObsError) -> Int {
        places.append(try file.append(frames))
        return places.count - 1
    }

    mutating func flush(to file: SegmentFileWriter) throws(ObsError) {
        guard !lengths.isEmpty else { return }
        var content: [UInt8] = []
        content.reserveCapacity(data.count + lengths.count * 2 + 10)
        content.appendVarint(UInt64(lengths.count))
        for length in lengths { content.appendVarint(UInt64(length)) }
        content.append(contentsOf: data)
        places[number] = try file.append(content)
        data.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        samples = 0
    }
}

/// A decompressed block with the starts of its columns.
final class ChunkBlock: Sendable {
    private let bytes: [UInt8]
    /// One more than there are columns.
    private let starts: [Int]

    var byteSize: Int { bytes.count + starts.count * 8 }

    init(_ bytes: [UInt8]) throws(ObsError) {
        self.bytes = bytes
        starts = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [Int] in
            var ends: [Int] = [0]
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                ends.append(ends[ends.count - 1] + (try cursor.count(max: cursor.bytes.count)))
            }
            guard ends[ends.count - 1] == cursor.remaining else { throw ObsError(.corrupt, "block and the lengths of its columns disagree") }
            return ends.map { $0 + cursor.position }
        }
    }

    /// Decodes one column; all of its bytes must be used.
    func column<R>(_ index: Int, _ decode: (inout ByteCursor) throws(ObsError) -> R) throws(ObsError) -> R {
        guard index >= 0, index + 1 < starts.count else { throw ObsError(.corrupt, "column \(index) of \(starts.count - 1)") }
        let range = starts[index]..<starts[index + 1]
        let result: Result<R, ObsError> = bytes.withUnsafeBytes { all in
            var cursor = ByteCursor(UnsafeRawBufferPointer(rebasing: all[range]))
            do throws(ObsError) {
                let value = try decode(&cursor)
                try cursor.expectEnd()
                return .success(value)
            } catch { return .failure(error) }
        }
        return try result.get()
    }
}

/// Finds time columns that were written before. Remembers the columns themselves, so that equal means equal, within a bound; past it it starts afresh.
struct TimeColumnTable {
    private var times: [Int64] = []
    private var entries: [UInt64: [(start: Int, count: Int, place: ColumnPlace)]] = [:]

    func find(_ column: UnsafeBufferPointer<Int64>, hash: UInt64) -> ColumnPlace? {
        guard let candidates = entries[hash] else { return nil }
        return candidates.first { $0.count == column.count && times[$0.start..<$0.start + $0.count].elementsEqual(column) }?.place
    }

    mutating func remember(_ column: UnsafeBufferPointer<Int64>, hash: UInt64, at place: ColumnPlace) {
        if times.count + column.count > SegmentLimits.rememberedTimesMax {
            times.removeAll(keepingCapacity: true)
            entries.removeAll(keepingCapacity: true)
        }
        entries[hash, default: []].append((times.count, column.count, place))
        times.append(contentsOf: column)
    }
}
