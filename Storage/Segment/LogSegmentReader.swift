package import ObsCore
package import ObsDisk
internal import ObsEncoding
package import ObsStore

package struct LogBlockInfo: Sendable {
    package var rows: Int
    package var minNanos: Int64
    package var maxNanos: Int64
    /// Indices into the segment's `streams`, both inclusive; a block holds no others.
    package var firstStream: Int
    package var lastStream: Int
    /// On disk.
    package var bytes: Int { places.bytes }
    package var isBig: Bool { places.isBig(rows: rows, streams: lastStream - firstStream + 1) }
    /// Nil in segments of version 1 and 2.
    package var counts: LogBlockCounts?
    /// Of its fields, as `FieldStatistics` writes them; only of a block that is being written.
    var fields: [UInt8] = []
    var places: EventBlockPlaces
}

/// How many of a block's rows are of each stream, and of each severity: what is counted without reading the block.
package struct LogBlockCounts: Sendable, Equatable {
    /// From the block's first stream on.
    package var streams: [UInt32]
    /// Those that occur, ascending.
    package var severities: [(severity: UInt8, rows: UInt32)]

    package static func == (a: LogBlockCounts, b: LogBlockCounts) -> Bool {
        a.streams == b.streams && a.severities.elementsEqual(b.severities) { $0 == $1 }
    }

    /// - Parameters:
    ///   - stream: of each row, ascending, at least one.
    ///   - severity: of each row.
    init(stream: [UInt32], severity: [UInt8]) {
        let first = stream[0]
        streams = [UInt32](repeating: 0, count: Int(stream[stream.count - 1] - first) + 1)
        for number in stream { streams[Int(number - first)] += 1 }
        var rows = [UInt32](repeating: 0, count: 256)
        for value in severity { rows[Int(value)] += 1 }
        severities = rows.indices.filter { rows[$0] > 0 }.map { (UInt8($0), rows[$0]) }
    }

    /// `varint rows × (streams - 1)`, the last stream's are the rest, `varint severities · (severity u8 · varint rows) × severities`.
    func append(to bytes: inout [UInt8]) {
        for rows in streams.dropLast() { bytes.appendVarint(UInt64(rows)) }
        bytes.appendVarint(UInt64(severities.count))
        for (severity, rows) in severities {
            bytes.append(severity)
            bytes.appendVarint(UInt64(rows))
        }
    }

    init(_ cursor: inout ByteCursor, streams count: Int, rows: Int) throws(ObsError) {
        var rest = rows
        streams = []
        for _ in 1..<max(count, 1) {
            let part = try cursor.count(max: rest)
            streams.append(UInt32(part))
            rest -= part
        }
        streams.append(UInt32(rest))
        severities = []
        rest = rows
        for _ in 0..<(try cursor.count(max: 256)) {
            let severity = try cursor.u8()
            let part = try cursor.count(max: rest)
            severities.append((severity, UInt32(part)))
            rest -= part
        }
        guard rest == 0 else { throw ObsError(.corrupt, "\(rest) rows of no severity") }
    }
}

/// A segment of log records open for reading. Safe from several threads.
package final class LogSegmentReader: Sendable {
    package var info: SegmentInfo { file.info }
    /// In label order.
    package let streams: [Labels]
    package let blocks: [LogBlockInfo]
    let file: SegmentFile

    /// Reads the footer, the streams and the block index.
    /// - Parameter cache: for what searches open of blocks; the engine's is shared by all readers.
    package static func open(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache = BlockCache(bytesMax: 1 << 20)) throws(ObsError)
        -> LogSegmentReader
    {
        try LogSegmentReader(try SegmentFile(fileSystem, path, cache: cache, expecting: .logs))
    }

    /// A block to be searched.
    package func block(_ number: Int) -> LogBlockView {
        let info = blocks[number]
        return LogBlockView(info, number: number, of: self)
    }

    /// What is known of a block's fields without reading it.
    func fields(block number: Int) throws(ObsError) -> FieldStatistics {
        let bytes = try fieldBytes(block: number)
        if bytes.isEmpty { return FieldStatistics() }
        return try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> FieldStatistics in
            let fields = try FieldStatistics(&cursor, rows: blocks[number].rows)
            try cursor.expectEnd()
            return fields
        }
    }

    /// Nothing where the segment says nothing.
    func fieldBytes(block number: Int) throws(ObsError) -> [UInt8] {
        guard let place = file.footer.sections.first(where: { $0.kind == SectionKind.blockFields.rawValue })?.place else { return [] }
        return try file.cached(place) { () throws(ObsError) -> (value: BlockFields, bytes: Int) in
            let fields = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> BlockFields in try BlockFields(&cursor, blocks: blocks.count) }
            return (fields, fields.byteSize)
        }.blocks[number]
    }

    private init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        let streams = try file.decode(try file.footer.place(.streams)) { (cursor: inout ByteCursor) throws(ObsError) -> [Labels] in
            var bytes: [UInt8] = []
            let ranges = try cursor.frontCoded(count: try cursor.count(max: cursor.remaining), into: &bytes)
            return ranges.map { Labels(canonical: Array(bytes[$0.range])) }
        }
        let place = try file.footer.place(.eventBlocks)
        blocks = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [LogBlockInfo] in
            var blocks: [LogBlockInfo] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                blocks.append(try Self.block(&cursor, version: file.version, streams: streams.count, end: place.offset))
            }
            return blocks
        }
        self.streams = streams
    }

    private static func block(_ cursor: inout ByteCursor, version: Int, streams: Int, end: Int) throws(ObsError) -> LogBlockInfo {
        let rows = try cursor.count(max: SegmentLimits.blockRowsReadMax)
        let low = try cursor.zigzag()
        let high = try cursor.zigzag()
        let first = try cursor.count(max: streams)
        let last = try cursor.count(max: streams)
        guard rows > 0, low <= high, first <= last, last < streams else { throw ObsError(.corrupt, "log block of no rows or streams") }
        let places = try EventBlockPlaces(&cursor, end: end)
        let counts = version < 3 ? nil : try LogBlockCounts(&cursor, streams: last - first + 1, rows: rows)
        return LogBlockInfo(rows: rows, minNanos: low, maxNanos: high, firstStream: first, lastStream: last, counts: counts, places: places)
    }

    /// Rows by stream and severity, from the block index, or counted where it does not say.
    package func counts(block number: Int) throws(ObsError) -> LogBlockCounts {
        if let counts = blocks[number].counts { return counts }
        let reader = EventBlockReader(file: file, places: blocks[number].places, rows: blocks[number].rows)
        return LogBlockCounts(
            stream: try readKeys(block: number).stream, severity: try reader.integers(LogColumn.severity.rawValue, as: UInt8.self))
    }

    /// A block as a batch, rows in (stream labels, time, arrival) order. Its `streams` are those of the block.
    /// - Throws: `.corrupt` with place `file:offset`.
    package func read(block number: Int, columns: LogColumns = .all) throws(ObsError) -> LogBatch {
        var batch = try readKeys(block: number)
        try readRest(block: number, columns: columns, into: &batch)
        return batch
    }

    /// What rows are ordered and told apart by: stream, time, arrival, flags. The other columns come with `readRest`.
    package func readKeys(block number: Int) throws(ObsError) -> LogBatch {
        let info = blocks[number]
        let reader = EventBlockReader(file: file, places: info.places, rows: info.rows)
        var batch = LogBatch()
        batch.timeNanos = try reader.integers(LogColumn.time.rawValue, as: Int64.self)
        batch.stream = try reader.integers(LogColumn.stream.rawValue, as: UInt32.self)
        batch.flags = try reader.integers(LogColumn.flags.rawValue, as: UInt8.self).map { LogBatch.RowFlags(rawValue: $0) }
        batch.arrival = try reader.integers(LogColumn.arrival.rawValue, as: UInt64.self)
        // A block that was copied from another segment counts its streams as they were there.
        let base = batch.stream[0]
        for row in 0..<info.rows { batch.stream[row] &-= base }
        try check(batch, info)
        for stream in info.firstStream...info.lastStream { batch.streams.append(batch.bytes.intern(streams[stream].bytes)) }
        return batch
    }

    /// Adds columns to what `readKeys` gave.
    package func readRest(block number: Int, columns: LogColumns = .all, into batch: inout LogBatch) throws(ObsError) {
        let info = blocks[number]
        let reader = EventBlockReader(file: file, places: info.places, rows: info.rows)
        let rows = info.rows
        for column in LogColumn.allCases {
            switch column {
            case .time, .stream, .flags, .arrival, .lineFilter, .traceIDPlace, .spanIDPlace, .attributeFilter: break
            case .severity:
                batch.severity = columns.contains(.severity) ? try reader.integers(column.rawValue, as: UInt8.self) : .init(repeating: 0, count: rows)
            case .line:
                batch.line =
                    columns.contains(.line)
                    ? try reader.texts(column.rawValue, times: batch.timeNanos, into: &batch.bytes) : .init(repeating: .empty, count: rows)
            case .attributes:
                batch.attributes =
                    columns.contains(.attributes)
                    ? try reader.texts(column.rawValue, times: batch.timeNanos, into: &batch.bytes) : .init(repeating: .empty, count: rows)
            case .traceID: batch.traceID = columns.contains(.identifiers) ? try reader.traceIDs(column.rawValue) : .init(repeating: .none, count: rows)
            case .spanID:
                batch.spanID = columns.contains(.identifiers) ? try reader.integers(column.rawValue, as: UInt64.self) : .init(repeating: 0, count: rows)
            case .resource:
                if columns.contains(.resource) {
                    let read = try reader.table(column.rawValue, tables: 1, into: &batch.bytes)
                    (batch.resources, batch.resource) = (read.tables[0], read.rows)
                } else {
                    batch.resource = .init(repeating: 0, count: rows)
                }
            case .scope:
                if columns.contains(.scope) {
                    let read = try reader.table(column.rawValue, tables: 1, into: &batch.bytes)
                    (batch.scopes, batch.scope) = (read.tables[0], read.rows)
                } else {
                    batch.scope = .init(repeating: 0, count: rows)
                }
            }
        }
        if columns.contains(.identifiers) {
            try reader.putIdentifiers(&batch) { (batch: inout LogBatch) throws(ObsError) in
                if columns.contains(.line) { return batch.line }
                return try reader.texts(LogColumn.line.rawValue, times: batch.timeNanos, into: &batch.bytes)
            }
        }
    }

    /// Memory a decoded block takes, about.
    package func memoryBytes(block number: Int) throws(ObsError) -> Int {
        try blocks[number].rows * 72 + file.contentBytes(blocks[number].places)
            + blocks[number].places.textBytes([LogColumn.line.rawValue, LogColumn.attributes.rawValue])
    }

    func frames(block number: Int) throws(ObsError) -> (bytes: [UInt8], checksums: [UInt64]) { try file.frames(blocks[number].places) }

    /// The writer's promises, from the other side.
    private func check(_ batch: LogBatch, _ info: LogBlockInfo) throws(ObsError) {
        var isRight = Int(batch.stream[info.rows - 1]) == info.lastStream - info.firstStream
        for row in 0..<info.rows {
            isRight = isRight && batch.timeNanos[row] >= info.minNanos && batch.timeNanos[row] <= info.maxNanos
            guard row > 0 else { continue }
            isRight = isRight && batch.stream[row] >= batch.stream[row - 1]
            if batch.stream[row] == batch.stream[row - 1] { isRight = isRight && batch.timeNanos[row] >= batch.timeNanos[row - 1] }
        }
        if !isRight {
            throw ObsError(.corrupt, "rows of a block are out of order or not those of the block index", place: "\(file.path):\(info.places.offset)")
        }
    }
}

/// The section of what is known of blocks' fields: `(varint length · FieldStatistics) × blocks`, in the order of the block index.
final class BlockFields: Sendable {
    let blocks: [[UInt8]]

    init(_ cursor: inout ByteCursor, blocks count: Int) throws(ObsError) {
        var blocks: [[UInt8]] = []
        for _ in 0..<count { blocks.append(Array(try cursor.text())) }
        self.blocks = blocks
    }

    var byteSize: Int { blocks.reduce(64) { $0 + $1.count + 32 } }
}
