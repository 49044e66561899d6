package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns a reader of log blocks wants; what is not read comes as defaults. Stream, time, flags and arrival are always read.
package struct LogColumns: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let severity = LogColumns(rawValue: 1)
    package static let line = LogColumns(rawValue: 2)
    package static let attributes = LogColumns(rawValue: 4)
    /// Trace and span id.
    package static let identifiers = LogColumns(rawValue: 8)
    package static let resource = LogColumns(rawValue: 16)
    package static let scope = LogColumns(rawValue: 32)
    package static let all: LogColumns = [.severity, .line, .attributes, .identifiers, .resource, .scope]
}

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
    var places: EventBlockPlaces
}

/// A segment of log records open for reading. Safe from several threads.
package final class LogSegmentReader: Sendable {
    package var info: SegmentInfo { file.info }
    /// In label order.
    package let streams: [Labels]
    package let blocks: [LogBlockInfo]
    private let file: SegmentFile

    /// Reads the footer, the streams and the block index.
    package static func open(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> LogSegmentReader {
        try LogSegmentReader(try SegmentFile(fileSystem, path, cache: BlockCache(bytesMax: 0), expecting: .logs))
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
            for _ in 0..<(try cursor.count(max: cursor.remaining)) { blocks.append(try Self.block(&cursor, streams: streams.count, end: place.offset)) }
            return blocks
        }
        self.streams = streams
    }

    private static func block(_ cursor: inout ByteCursor, streams: Int, end: Int) throws(ObsError) -> LogBlockInfo {
        let rows = try cursor.count(max: SegmentLimits.blockRowsReadMax)
        let low = try cursor.zigzag()
        let high = try cursor.zigzag()
        let first = try cursor.count(max: streams)
        let last = try cursor.count(max: streams)
        guard rows > 0, low <= high, first <= last, last < streams else { throw ObsError(.corrupt, "log block of no rows or streams") }
        return LogBlockInfo(
            rows: rows, minNanos: low, maxNanos: high, firstStream: first, lastStream: last, places: try EventBlockPlaces(&cursor, end: end))
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
            case .time, .stream, .flags, .arrival: break
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
