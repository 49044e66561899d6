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

    /// Appends rows of a batch, in the order given.
    package func add(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
        var streamNumbers = [Int32](repeating: -1, count: batch.streams.count)
        var resourceNumbers = [Int32](repeating: -1, count: batch.resources.count)
        var scopeNumbers = [Int32](repeating: -1, count: batch.scopes.count)
        precondition(batch.arrival.isEmpty || batch.arrival.count == batch.count, "BUG: a batch with some arrival numbers")
        for row in rows {
            if isFull {
                try cut()
                for number in resourceNumbers.indices { resourceNumbers[number] = -1 }
                for number in scopeNumbers.indices { scopeNumbers[number] = -1 }
            }
            let stream = streamNumber(batch, Int(batch.stream[row]), &streamNumbers)
            let time = batch.timeNanos[row]
            let arrival = batch.arrival.isEmpty ? 0 : batch.arrival[row]
            precondition((time, arrival) >= last, "BUG: records written out of order within a stream")
            last = (time, arrival)
            append(batch, row, stream: stream, resource: &resourceNumbers, scope: &scopeNumbers)
            block.arrival.append(arrival)
        }
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

    private var isFull: Bool { block.count >= SegmentLimits.blockRowsMax || block.bytes.count >= SegmentLimits.blockBytesMax }

    /// Index of a batch's stream among the segment's; a new one must follow all that came before.
    private func streamNumber(_ batch: LogBatch, _ stream: Int, _ known: inout [Int32]) -> Int {
        if known[stream] >= 0 {
            precondition(Int(known[stream]) == streams.count - 1, "BUG: records written out of stream order")
            return Int(known[stream])
        }
        batch.bytes.withUnsafeBytes { all in
            let labels = UnsafeRawBufferPointer(rebasing: all[batch.streams[stream].range])
            let order = streams.last.map { last in last.withUnsafeBytes { compareLabels($0, labels) } } ?? -1
            precondition(order <= 0, "BUG: records written out of stream order")
            if order < 0 {
                streams.append(Array(labels))
                last = (.min, 0)
            }
        }
        known[stream] = Int32(streams.count - 1)
        return streams.count - 1
    }

    private func append(_ batch: LogBatch, _ row: Int, stream: Int, resource: inout [Int32], scope: inout [Int32]) {
        batch.bytes.withUnsafeBytes { all in
            func number(_ index: Int, _ known: inout [Int32], _ ranges: [ByteRange], _ table: inout BlockTable) -> UInt32 {
                if known[index] < 0 {
                    known[index] = Int32(table.intern(UnsafeRawBufferPointer(rebasing: all[ranges[index].range]), into: &block.bytes).number)
                }
                return UInt32(known[index])
            }
            let line = block.bytes.intern(UnsafeRawBufferPointer(rebasing: all[batch.line[row].range]))
            let attributes = block.bytes.intern(UnsafeRawBufferPointer(rebasing: all[batch.attributes[row].range]))
            block.appendRow(
                stream: UInt32(stream), timeNanos: batch.timeNanos[row], severity: batch.severity[row], line: line, attributes: attributes,
                traceID: batch.traceID[row], spanID: batch.spanID[row],
                resource: number(Int(batch.resource[row]), &resource, batch.resources, &resources),
                scope: number(Int(batch.scope[row]), &scope, batch.scopes, &scopes), flags: batch.flags[row])
        }
    }

    /// Writes the block in the making and begins the next.
    private func cut() throws(ObsError) {
        guard let low = block.timeNanos.min(), let high = block.timeNanos.max() else { return }
        let places = try writeColumns()
        index.appendVarint(UInt64(block.count))
        index.appendZigzag(low)
        index.appendZigzag(high)
        index.appendVarint(UInt64(block.stream[0]))
        index.appendVarint(UInt64(block.stream[block.count - 1]))
        places.append(to: &index)
        blockCount += 1
        rows += Int64(block.count)
        minTime = min(minTime, low)
        maxTime = max(maxTime, high)
        block = LogBatch()
        resources = BlockTable()
        scopes = BlockTable()
    }

    private func writeColumns() throws(ObsError) -> EventBlockPlaces {
        var writer = EventBlockWriter(file)
        for column in LogColumn.allCases {
            switch column {
            case .time: try writer.integers(block.timeNanos)
            case .stream: try writer.integers(block.stream)
            case .severity: try writer.integers(block.severity)
            case .line: try writer.strings(block.line, of: block.bytes)
            case .attributes: try writer.strings(block.attributes, of: block.bytes)
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
        var before: ArraySlice<UInt8> = []
        for stream in streams {
            appendFrontCoded(stream[...], after: before, to: &bytes)
            before = stream[...]
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
