package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns of a log block. Raw values are positions on disk: only append.
enum LogColumn: Int, CaseIterable {
    case time = 0, stream, severity, line, attributes, traceID, spanID, resource, scope, flags, arrival, lineFilter, traceIDPlace, spanIDPlace
    case attributeFilter
}

/// Makes a segment of log records. Rows come ordered by (stream labels, time, arrival): where one does not, a block ends, so that it holds within each block.
/// Streams appear first in label order. Blocks go to disk as they fill.
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class LogSegmentWriter {
    private let file: SegmentFileWriter
    /// Rows of the block in the making; its `stream` column holds indices into the segment's streams.
    private var block = LogBatch()
    private var resources = BlockTable()
    private var scopes = BlockTable()
    private var streams: [[UInt8]] = []
    private var blocks: [LogBlockInfo] = []
    private var rows: Int64 = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min
    /// Of the block in the making.
    private var last: (time: Int64, arrival: UInt64) = (.min, 0)

    /// - Parameter path: of the finished segment; its folder is made.
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) {
        file = try SegmentFileWriter(fileSystem: fileSystem, path: path, signal: .logs, draft: draft)
    }

    /// Appends rows of the sources, in the order given.
    package func add(_ sources: [LogBatch], rows places: [RowPlace]) throws(ObsError) {
        for source in sources { precondition(source.arrival.isEmpty || source.arrival.count == source.count, "BUG: a batch with some arrival numbers") }
        var streamNumbers = EntryNumbers(counts: sources.map(\.streams.count))
        var resourceNumbers = EntryNumbers(counts: sources.map(\.resources.count))
        var scopeNumbers = EntryNumbers(counts: sources.map(\.scopes.count))
        /// Rows from here on have their numbers but not their columns yet, and so many bytes of text.
        var pending = 0
        var pendingBytes = 0
        for (index, place) in places.enumerated() {
            let source = Int(place.source)
            let row = Int(place.row)
            let stream = streamNumber(sources, source, Int(sources[source].stream[row]), &streamNumbers)
            let time = sources[source].timeNanos[row]
            let arrival = sources[source].arrival.isEmpty ? 0 : sources[source].arrival[row]
            if mustCut(before: stream, time, arrival, textBytes: block.bytes.count + pendingBytes, rest: places.count - index) {
                fetch(sources, places[pending..<index], textBytes: pendingBytes)
                try cut()
                pending = index
                pendingBytes = 0
                resourceNumbers.removeAll()
                scopeNumbers.removeAll()
            }
            block.stream.append(stream)
            last = (time, arrival)
            block.arrival.append(arrival)
            block.resource.append(
                number(Int(sources[source].resource[row]), &resourceNumbers, source, of: sources[source].resources, sources[source].bytes, &resources))
            block.scope.append(number(Int(sources[source].scope[row]), &scopeNumbers, source, of: sources[source].scopes, sources[source].bytes, &scopes))
            pendingBytes += Int(sources[source].line[row].count) + Int(sources[source].attributes[row].count)
        }
        fetch(sources, places[pending...], textBytes: pendingBytes)
    }

    /// Whether a block is full, or big enough to end with its stream, so that merges copy it, or the row cannot be behind its last one.
    private func mustCut(before stream: UInt32, _ time: Int64, _ arrival: UInt64, textBytes: Int, rest: Int) -> Bool {
        guard let present = block.stream.last else { return false }
        // Streams between a block's first and its last are its own.
        let isBehind = stream == present ? time > last.time || time == last.time && arrival >= last.arrival : stream == present + 1
        if !isBehind { return true }
        return ObsSegment.mustCut(
            rows: block.stream.count, textBytes: textBytes, rest: rest, isApart: stream != present, rowsMin: SegmentLimits.blockRowsMin)
    }

    /// Takes a block of another segment over, its bytes as they are. A small block in the making goes on behind it.
    package func copy(block number: Int, of reader: LogSegmentReader) throws(ObsError) {
        if block.count >= SegmentLimits.blockRowsMin { try cut() }
        var info = reader.blocks[number]
        let frames = try reader.frames(block: number)
        let first = reader.streams[info.firstStream...info.lastStream].map { Int(streamNumber($0.bytes)) }
        precondition(first[first.count - 1] - first[0] == first.count - 1, "BUG: a block copied where others' streams are between its own")
        info.firstStream = first[0]
        info.lastStream = first[first.count - 1]
        info.counts = try reader.counts(block: number)
        info.fields = try reader.fieldBytes(block: number)
        info.places = EventBlockPlaces(offset: frames.bytes.isEmpty ? 0 : try file.append(frames).offset, lengths: info.places.lengths)
        note(info)
    }

    package func finish() throws(ObsError) -> SegmentInfo {
        try cut()
        let streamTable = try file.append(encodedStreams())
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(blocks.count))
        var fields: [UInt8] = []
        for block in blocks.sorted(by: { ($0.firstStream, $0.minNanos, $0.places.offset) < ($1.firstStream, $1.minNanos, $1.places.offset) }) {
            append(block, to: &directory)
            fields.appendText(block.fields)
        }
        let place = try file.append(directory)
        let fieldPlace = try file.append(fields)
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: [], services: services(),
            sections: [(.streams, streamTable), (.eventBlocks, place), (.blockFields, fieldPlace)])
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    /// Number of a source's stream among the segment's.
    private func streamNumber(_ sources: [LogBatch], _ source: Int, _ stream: Int, _ known: inout EntryNumbers) -> UInt32 {
        if let number = known[source, stream] { return number }
        let number = sources[source].bytes.withUnsafeBytes { streamNumber(UnsafeRawBufferPointer(rebasing: $0[sources[source].streams[stream].range])) }
        known[source, stream] = number
        return number
    }

    private func streamNumber(_ labels: [UInt8]) -> UInt32 { labels.withUnsafeBytes { streamNumber($0) } }

    /// Number of a stream; a new one must follow all that came before.
    private func streamNumber(_ labels: UnsafeRawBufferPointer) -> UInt32 {
        // Mostly the last, or a new one.
        var (low, high) = (0, streams.count)
        var middle = streams.count - 1
        while low < high {
            let order = streams[middle].withUnsafeBytes { compareLabels($0, labels) }
            if order == 0 { return UInt32(middle) }
            if order < 0 { low = middle + 1 } else { high = middle }
            middle = (low + high) / 2
        }
        precondition(low == streams.count, "BUG: records written out of stream order")
        streams.append(Array(labels))
        return UInt32(low)
    }

    /// Number of a source's resource or scope in the block's table.
    private func number(
        _ entry: Int, _ known: inout EntryNumbers, _ source: Int, of ranges: [ByteRange], _ bytes: [UInt8], _ table: inout BlockTable
    ) -> UInt32 {
        if let number = known[source, entry] { return number }
        let number = bytes.withUnsafeBytes { table.intern(UnsafeRawBufferPointer(rebasing: $0[ranges[entry].range]), into: &block.bytes).number }
        known[source, entry] = number
        return number
    }

    /// The columns that are taken as they are.
    private func fetch(_ sources: [LogBatch], _ places: ArraySlice<RowPlace>, textBytes: Int) {
        block.bytes.reserveCapacity(block.bytes.count + textBytes)
        block.timeNanos += values(of: \.timeNanos, sources, places)
        block.severity += values(of: \.severity, sources, places)
        block.line += texts(of: \.line, \.bytes, sources, places, into: &block.bytes)
        block.attributes += texts(of: \.attributes, \.bytes, sources, places, into: &block.bytes)
        block.traceID += values(of: \.traceID, sources, places)
        block.spanID += values(of: \.spanID, sources, places)
        block.flags += values(of: \.flags, sources, places)
    }

    /// Writes the block in the making and begins the next.
    private func cut() throws(ObsError) {
        guard let low = block.timeNanos.min(), let high = block.timeNanos.max() else { return }
        let fields = FieldStatisticsWriter()
        let places = try writeColumns(fields)
        note(
            LogBlockInfo(
                rows: block.count, minNanos: low, maxNanos: high, firstStream: Int(block.stream[0]), lastStream: Int(block.stream[block.count - 1]),
                counts: LogBlockCounts(stream: block.stream, severity: block.severity), fields: fields.finish(), places: places))
        block = LogBatch()
        resources = BlockTable()
        scopes = BlockTable()
    }

    /// Enters a written block in the index.
    private func note(_ info: LogBlockInfo) {
        blocks.append(info)
        rows += Int64(info.rows)
        minTime = min(minTime, info.minNanos)
        maxTime = max(maxTime, info.maxNanos)
    }

    private func append(_ info: LogBlockInfo, to index: inout [UInt8]) {
        index.appendVarint(UInt64(info.rows))
        index.appendZigzag(info.minNanos)
        index.appendZigzag(info.maxNanos)
        index.appendVarint(UInt64(info.firstStream))
        index.appendVarint(UInt64(info.lastStream))
        info.places.append(to: &index)
        info.counts?.append(to: &index)
    }

    private func writeColumns(_ fields: FieldStatisticsWriter) throws(ObsError) -> EventBlockPlaces {
        var writer = EventBlockWriter(file)
        let traceIDPlaces = LineIdentifiers.take(&block.traceID, lines: block.line, of: block.bytes)
        let spanIDPlaces = LineIdentifiers.take(&block.spanID, lines: block.line, of: block.bytes)
        var lineFilter: [UInt8] = []
        var attributeFilter: [UInt8] = []
        for column in LogColumn.allCases {
            switch column {
            case .time: try writer.integers(block.timeNanos)
            case .stream: try writer.integers(block.stream)
            case .severity: try writer.integers(block.severity)
            case .line: try writer.texts(block.line, of: block.bytes, as: .lines, times: block.timeNanos, filter: &lineFilter, fields: fields)
            case .attributes:
                try writer.texts(block.attributes, of: block.bytes, as: .attributes, times: block.timeNanos, filter: &attributeFilter, fields: fields)
            case .traceID: try writer.traceIDs(block.traceID)
            case .spanID: try writer.integers(block.spanID)
            case .resource: try writer.table([resources.ranges], of: block.bytes, rows: block.resource)
            case .scope: try writer.table([scopes.ranges], of: block.bytes, rows: block.scope)
            case .flags: try writer.integers(block.flags.map(\.rawValue))
            case .arrival: try writer.integers(block.arrival)
            case .lineFilter: try writer.packed(lineFilter)
            case .traceIDPlace: try writer.integers(traceIDPlaces)
            case .spanIDPlace: try writer.integers(spanIDPlaces)
            case .attributeFilter: try writer.packed(fields.attributesAreTexts && isWorth(attributeFilter) ? attributeFilter : [])
            }
        }
        return writer.places
    }

    /// Whether a filter of attributes may save more than it takes: small blocks are as soon read.
    private func isWorth(_ filter: [UInt8]) -> Bool { block.count >= SegmentLimits.blockRowsMin && filter.count <= block.count * 2 }

    private func encodedStreams() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendVarint(UInt64(streams.count))
        var before: [UInt8] = []
        for stream in streams {
            stream.withUnsafeBytes { stream in before.withUnsafeBytes { appendFrontCoded(stream, after: $0, to: &bytes) } }
            before = stream
        }
        return bytes
    }

    /// Values of `service_name`; none when a stream has no such label: then the list would leave it out.
    private func services() -> [String] {
        var found: Set<String> = []
        for stream in streams {
            guard let service = Labels(canonical: stream)["service_name"] else { return [] }
            found.insert(service)
        }
        return found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
}
