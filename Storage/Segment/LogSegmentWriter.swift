package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns of a log block. Raw values are positions on disk: only append.
enum LogColumn: Int, CaseIterable {
    case time = 0, stream, severity, line, attributes, traceID, spanID, resource, scope, flags, arrival
}

/// Makes a segment of log records. Rows come ordered by (stream labels, time, arrival) over all calls; blocks go to disk as they fill.
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class LogSegmentWriter {
    private let file: SegmentFileWriter
    /// Rows of the block in the making; its `stream` column holds indices into the segment's streams.
    private var block = LogBatch()
    private var resources = BlockTable()
    private var scopes = BlockTable()
    private var streams: [[UInt8]] = []
    private var index: [UInt8] = []
    private var blockCount = 0
    private var rows: Int64 = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min
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
            if mustCut(before: sources, place, textBytes: block.bytes.count + pendingBytes) {
                fetch(sources, places[pending..<index], textBytes: pendingBytes)
                try cut()
                pending = index
                pendingBytes = 0
                resourceNumbers.removeAll()
                scopeNumbers.removeAll()
            }
            let source = Int(place.source)
            let row = Int(place.row)
            block.stream.append(streamNumber(sources, source, Int(sources[source].stream[row]), &streamNumbers))
            let time = sources[source].timeNanos[row]
            let arrival = sources[source].arrival.isEmpty ? 0 : sources[source].arrival[row]
            precondition(time > last.time || time == last.time && arrival >= last.arrival, "BUG: records written out of order within a stream")
            last = (time, arrival)
            block.arrival.append(arrival)
            block.resource.append(
                number(Int(sources[source].resource[row]), &resourceNumbers, source, of: sources[source].resources, sources[source].bytes, &resources))
            block.scope.append(number(Int(sources[source].scope[row]), &scopeNumbers, source, of: sources[source].scopes, sources[source].bytes, &scopes))
            pendingBytes += Int(sources[source].line[row].count) + Int(sources[source].attributes[row].count)
        }
        fetch(sources, places[pending...], textBytes: pendingBytes)
    }

    /// Whether a block is full, or big enough to end with its stream: then it lies between others' blocks of the stream when segments are merged, and is copied.
    private func mustCut(before sources: [LogBatch], _ place: RowPlace, textBytes: Int) -> Bool {
        let rows = block.stream.count
        if rows >= SegmentLimits.blockRowsMax || textBytes >= SegmentLimits.blockBytesMax { return true }
        guard rows >= SegmentLimits.blockRowsMin, let stream = streams.last else { return false }
        let source = sources[Int(place.source)]
        let labels = source.streams[Int(source.stream[Int(place.row)])]
        return source.bytes.withUnsafeBytes { all in
            stream.withUnsafeBytes { compareBytes($0, UnsafeRawBufferPointer(rebasing: all[labels.range])) != 0 }
        }
    }

    /// Takes a block of another segment over, its bytes as they are. All its rows follow those that came before.
    /// - Parameter last: time and arrival of its last row.
    package func copy(block number: Int, of reader: LogSegmentReader, last: (time: Int64, arrival: UInt64)) throws(ObsError) {
        try cut()
        var info = reader.blocks[number]
        let frames = try reader.frames(block: number)
        for labels in reader.streams[info.firstStream...info.lastStream] {
            let order = streams.last.map { last in last.withUnsafeBytes { last in labels.bytes.withUnsafeBytes { compareLabels(last, $0) } } } ?? -1
            precondition(order < 0 || order == 0 && labels == reader.streams[info.firstStream], "BUG: a block copied out of stream order")
            if order < 0 { streams.append(labels.bytes) }
        }
        // All streams between its first and its last are its own, so they follow each other here as they did there.
        let lastStream = streams.count - 1
        info.firstStream += lastStream - info.lastStream
        info.lastStream = lastStream
        info.places = EventBlockPlaces(offset: frames.bytes.isEmpty ? 0 : try file.append(frames).offset, lengths: info.places.lengths)
        note(info)
        self.last = last
    }

    package func finish() throws(ObsError) -> SegmentInfo {
        try cut()
        let streamTable = try file.append(encodedStreams())
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(blockCount))
        directory.append(contentsOf: index)
        let blocks = try file.append(directory)
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: [], services: services(), sections: [(.streams, streamTable), (.eventBlocks, blocks)])
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    /// Number of a source's stream among the segment's; a new one must follow all that came before.
    private func streamNumber(_ sources: [LogBatch], _ source: Int, _ stream: Int, _ known: inout EntryNumbers) -> UInt32 {
        if let number = known[source, stream] {
            precondition(Int(number) == streams.count - 1, "BUG: records written out of stream order")
            return number
        }
        sources[source].bytes.withUnsafeBytes { all in
            let labels = UnsafeRawBufferPointer(rebasing: all[sources[source].streams[stream].range])
            let order = streams.last.map { last in last.withUnsafeBytes { compareLabels($0, labels) } } ?? -1
            precondition(order <= 0, "BUG: records written out of stream order")
            if order < 0 {
                streams.append(Array(labels))
                last = (.min, 0)
            }
        }
        known[source, stream] = UInt32(streams.count - 1)
        return UInt32(streams.count - 1)
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
        note(
            LogBlockInfo(
                rows: block.count, minNanos: low, maxNanos: high, firstStream: Int(block.stream[0]), lastStream: Int(block.stream[block.count - 1]),
                places: try writeColumns()))
        block = LogBatch()
        resources = BlockTable()
        scopes = BlockTable()
    }

    /// Enters a written block in the index.
    private func note(_ info: LogBlockInfo) {
        index.appendVarint(UInt64(info.rows))
        index.appendZigzag(info.minNanos)
        index.appendZigzag(info.maxNanos)
        index.appendVarint(UInt64(info.firstStream))
        index.appendVarint(UInt64(info.lastStream))
        info.places.append(to: &index)
        blockCount += 1
        rows += Int64(info.rows)
        minTime = min(minTime, info.minNanos)
        maxTime = max(maxTime, info.maxNanos)
    }

    private func writeColumns() throws(ObsError) -> EventBlockPlaces {
        var writer = EventBlockWriter(file)
        for column in LogColumn.allCases {
            switch column {
            case .time: try writer.integers(block.timeNanos)
            case .stream: try writer.integers(block.stream)
            case .severity: try writer.integers(block.severity)
            case .line: try writer.texts(block.line, of: block.bytes, as: .lines, times: block.timeNanos)
            case .attributes: try writer.texts(block.attributes, of: block.bytes, as: .attributes, times: block.timeNanos)
            case .traceID: try writer.traceIDs(block.traceID)
            case .spanID: try writer.integers(block.spanID)
            case .resource: try writer.table([resources.ranges], of: block.bytes, rows: block.resource)
            case .scope: try writer.table([scopes.ranges], of: block.bytes, rows: block.scope)
            case .flags: try writer.integers(block.flags.map(\.rawValue))
            case .arrival: try writer.integers(block.arrival)
            }
        }
        return writer.places
    }

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
