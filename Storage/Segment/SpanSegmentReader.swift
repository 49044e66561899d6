package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns a reader of span blocks wants; what is not read comes as defaults. Ids, parent, start, duration, kind and status are always read.
package struct SpanColumns: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let name = SpanColumns(rawValue: 1)
    package static let attributes = SpanColumns(rawValue: 2)
    package static let events = SpanColumns(rawValue: 4)
    package static let links = SpanColumns(rawValue: 8)
    /// Status message, trace state, dropped counts, flags.
    package static let rest = SpanColumns(rawValue: 16)
    /// With the services.
    package static let resource = SpanColumns(rawValue: 32)
    package static let scope = SpanColumns(rawValue: 64)
    package static let all: SpanColumns = [.name, .attributes, .events, .links, .rest, .resource, .scope]
}

package struct SpanBlockInfo: Sendable {
    package var rows: Int
    package var minStartNanos: Int64
    package var maxStartNanos: Int64
    /// Sorted; empty when there are more than `SegmentLimits.namesMax`: then any may be inside.
    package var services: [String]
    /// On disk.
    package var bytes: Int { places.bytes }
    package var isBig: Bool { places.isBig(rows: rows) }
    var places: EventBlockPlaces
}

/// A segment of spans open for reading. Safe from several threads.
package final class SpanSegmentReader: Sendable {
    package var info: SegmentInfo { file.info }
    package let blocks: [SpanBlockInfo]
    private let file: SegmentFile

    /// Reads the footer and the block index.
    /// - Parameter cache: for trace filters; the engine's is shared by all readers.
    package static func open(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache = BlockCache(bytesMax: 1 << 20)) throws(ObsError)
        -> SpanSegmentReader
    {
        try SpanSegmentReader(try SegmentFile(fileSystem, path, cache: cache, expecting: .traces))
    }

    private init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        let place = try file.footer.place(.eventBlocks)
        blocks = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [SpanBlockInfo] in
            var blocks: [SpanBlockInfo] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                blocks.append(try Self.block(&cursor, version: file.version, end: place.offset))
            }
            return blocks
        }
    }

    private static func block(_ cursor: inout ByteCursor, version: Int, end: Int) throws(ObsError) -> SpanBlockInfo {
        let rows = try cursor.count(max: SegmentLimits.blockRowsReadMax)
        let low = try cursor.zigzag()
        let high = try cursor.zigzag()
        // Blocks of older versions are ordered by trace id, and their first and last follow.
        if version < 3 { for _ in 0..<4 { _ = try cursor.u64() } }
        guard rows > 0, low <= high else { throw ObsError(.corrupt, "span block of no rows") }
        var services: [String] = []
        for _ in 0..<(try cursor.count(max: SegmentLimits.namesMax)) { services.append(try cursor.string()) }
        return SpanBlockInfo(
            rows: rows, minStartNanos: low, maxStartNanos: high, services: services, places: try EventBlockPlaces(&cursor, end: end))
    }

    /// False only when the segment holds no span of the trace. Reads the filters.
    package func mayContain(_ id: TraceID) throws(ObsError) -> Bool { try !blocks(mayContaining: id).isEmpty }

    /// Blocks that may hold spans of the trace.
    package func blocks(mayContaining id: TraceID) throws(ObsError) -> [Int] {
        let hash = TraceFilter.hash(id)
        if file.version >= 3 { return try filters().blocks(mayContaining: hash) }
        var result: [Int] = []
        for number in blocks.indices where try filter(block: number).mayContain(hash) { result.append(number) }
        return result
    }

    private func filters() throws(ObsError) -> TraceFilters {
        let place = try file.footer.place(.traceFilters)
        return try file.cached(place) { () throws(ObsError) -> (value: TraceFilters, bytes: Int) in
            let content = try file.read(place)
            do throws(ObsError) { return (try TraceFilters(content, blocks: blocks.count), content.count + 24 * blocks.count) } catch {
                throw error.located("\(file.path):\(place.offset)")
            }
        }
    }

    func filter(block number: Int) throws(ObsError) -> TraceFilter {
        if file.version >= 3 { return try filters().filter(number) }
        let place = blocks[number].places.place(SpanColumn.filter.rawValue)
        let bytes = try file.cached(place) { () throws(ObsError) -> (value: Block, bytes: Int) in
            let bytes = try file.read(place)
            return (Block(bytes), bytes.count)
        }
        do throws(ObsError) { return try TraceFilter(bytes: bytes.bytes, probes: TraceFilter.probesBefore3) } catch {
            throw error.located("\(file.path):\(place.offset)")
        }
    }

    /// A block to be searched.
    package func block(_ number: Int) -> SpanBlockView { SpanBlockView(blocks[number], of: file) }

    /// A block as a batch, spans of a trace one after the other, by start; a trace may be there in several runs.
    /// - Throws: `.corrupt` with place `file:offset`.
    package func read(block number: Int, columns: SpanColumns = .all) throws(ObsError) -> SpanBatch {
        var batch = try readKeys(block: number)
        try readRest(block: number, columns: columns, into: &batch)
        return batch
    }

    /// What rows are ordered and told apart by: trace id, start, span id. The other columns come with `readRest`.
    package func readKeys(block number: Int) throws(ObsError) -> SpanBatch {
        let info = blocks[number]
        let reader = EventBlockReader(file: file, places: info.places, rows: info.rows)
        var batch = SpanBatch()
        batch.traceID = try reader.traceIDs(SpanColumn.traceID.rawValue)
        batch.startNanos = try reader.integers(SpanColumn.start.rawValue, as: Int64.self)
        batch.spanID = try reader.integers(SpanColumn.spanID.rawValue, as: UInt64.self)
        try check(batch, info)
        return batch
    }

    /// Adds columns to what `readKeys` gave.
    package func readRest(block number: Int, columns: SpanColumns = .all, into batch: inout SpanBatch) throws(ObsError) {
        let info = blocks[number]
        let reader = EventBlockReader(file: file, places: info.places, rows: info.rows)
        batch.parentID = try reader.parents(SpanColumn.parentID.rawValue, traceIDs: batch.traceID, spanIDs: batch.spanID)
        batch.durationNanos = try reader.integers(SpanColumn.duration.rawValue, as: Int64.self)
        batch.kind = try reader.integers(SpanColumn.kind.rawValue, as: UInt8.self)
        batch.status = try reader.integers(SpanColumn.status.rawValue, as: UInt8.self)
        batch.flags = columns.contains(.rest) ? try reader.integers(SpanColumn.flags.rawValue, as: UInt32.self) : .init(repeating: 0, count: info.rows)
        batch.name = try texts(reader, .name, wanted: columns.contains(.name), &batch)
        batch.statusMessage = try texts(reader, .statusMessage, wanted: columns.contains(.rest), &batch)
        batch.traceState = try strings(reader, .traceState, wanted: columns.contains(.rest), &batch.bytes)
        batch.attributes = try texts(reader, .attributes, wanted: columns.contains(.attributes), &batch)
        batch.events = try texts(reader, .events, wanted: columns.contains(.events), &batch)
        batch.links = try texts(reader, .links, wanted: columns.contains(.links), &batch)
        batch.dropped = try strings(reader, .dropped, wanted: columns.contains(.rest), &batch.bytes)
        batch.resource = .init(repeating: 0, count: info.rows)
        batch.scope = .init(repeating: 0, count: info.rows)
        if columns.contains(.resource) {
            let read = try reader.table(SpanColumn.resource.rawValue, tables: 2, into: &batch.bytes)
            (batch.resources, batch.services, batch.resource) = (read.tables[0], read.tables[1], read.rows)
        }
        if columns.contains(.scope) {
            let read = try reader.table(SpanColumn.scope.rawValue, tables: 1, into: &batch.bytes)
            (batch.scopes, batch.scope) = (read.tables[0], read.rows)
        }
    }

    /// Memory a decoded block takes, about.
    package func memoryBytes(block number: Int) throws(ObsError) -> Int {
        try blocks[number].rows * 136 + file.contentBytes(blocks[number].places)
            + blocks[number].places.textBytes([SpanColumn.name, .statusMessage, .attributes, .events, .links].map(\.rawValue))
    }

    func frames(block number: Int) throws(ObsError) -> (bytes: [UInt8], checksums: [UInt64]) { try file.frames(blocks[number].places) }

    private func strings(_ reader: EventBlockReader, _ column: SpanColumn, wanted: Bool, _ bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        wanted ? try reader.strings(column.rawValue, into: &bytes) : [ByteRange](repeating: .empty, count: reader.rows)
    }

    private func texts(_ reader: EventBlockReader, _ column: SpanColumn, wanted: Bool, _ batch: inout SpanBatch) throws(ObsError) -> [ByteRange] {
        wanted
            ? try reader.texts(column.rawValue, times: batch.startNanos, into: &batch.bytes) : [ByteRange](repeating: .empty, count: reader.rows)
    }

    /// The writer's promises, from the other side.
    private func check(_ batch: SpanBatch, _ info: SpanBlockInfo) throws(ObsError) {
        guard batch.startNanos.allSatisfy({ $0 >= info.minStartNanos && $0 <= info.maxStartNanos }) else {
            throw ObsError(.corrupt, "rows of a block are not those of the block index", place: "\(file.path):\(info.places.offset)")
        }
    }
}

extension EventBlockReader {
    /// Parents of the rows, each by its id or as a row of its trace.
    func parents(_ column: Int, traceIDs: [TraceID], spanIDs: [SpanID]) throws(ObsError) -> [SpanID] {
        let place = places.place(column)
        guard !place.isNone else { return [SpanID](repeating: 0, count: rows) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [SpanID] in
            let references = try IntegerCodec.decode(&cursor, count: rows)
            let elsewhere = try IntegerCodec.decode(&cursor, count: try cursor.count(max: rows), as: UInt64.self)
            var result = [SpanID](repeating: 0, count: rows)
            var next = 0
            var isRight = true
            forEachTrace(traceIDs) { trace in
                for row in trace {
                    switch references[row] {
                    case 0: break
                    case 1 where next < elsewhere.count:
                        result[row] = elsewhere[next]
                        next += 1
                    case 2..<Int64(trace.count) + 2: result[row] = spanIDs[trace.lowerBound + Int(references[row]) - 2]
                    default: isRight = false
                    }
                }
            }
            guard isRight, next == elsewhere.count else { throw ObsError(.corrupt, "parent outside its trace") }
            return result
        }
    }
}
