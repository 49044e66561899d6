package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns of a span block. Raw values are positions on disk: only append.
enum SpanColumn: Int, CaseIterable {
    case traceID = 0, spanID, parentID, start, duration, kind, status, flags, name, statusMessage, traceState, attributes, events, links, dropped
    case resource, scope, filter
}

/// Makes a segment of spans. Rows come ordered by (trace id, start) over all calls; blocks go to disk as they fill.
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class SpanSegmentWriter {
    private let file: SegmentFileWriter
    /// Rows of the block in the making.
    private var block = SpanBatch()
    private var resources = BlockTable()
    private var scopes = BlockTable()
    private var services: Set<String> = []
    private var index: [UInt8] = []
    private var blockCount = 0
    private var rows: Int64 = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min
    private var last: (id: TraceID, start: Int64) = (.none, .min)

    /// - Parameter path: of the finished segment; its folder is made.
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) {
        file = try SegmentFileWriter(fileSystem: fileSystem, path: path, signal: .traces, draft: draft)
    }

    /// Appends rows of a batch, in the order given.
    package func add(_ batch: SpanBatch, rows: [Int]) throws(ObsError) {
        var resourceNumbers = [Int32](repeating: -1, count: batch.resources.count)
        var scopeNumbers = [Int32](repeating: -1, count: batch.scopes.count)
        for row in rows {
            let key = (batch.traceID[row], batch.startNanos[row])
            precondition(key >= last, "BUG: spans written out of order")
            last = key
            if isFull {
                try cut()
                for number in resourceNumbers.indices { resourceNumbers[number] = -1 }
                for number in scopeNumbers.indices { scopeNumbers[number] = -1 }
            }
            append(batch, row, resource: &resourceNumbers, scope: &scopeNumbers)
        }
    }

    package func finish() throws(ObsError) -> SegmentInfo {
        try cut()
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(blockCount))
        directory.append(contentsOf: index)
        let blocks = try file.append(directory)
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: [], services: services.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) },
            sections: [(.eventBlocks, blocks)])
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    private var isFull: Bool { block.count >= SegmentLimits.blockRowsMax || block.bytes.count >= SegmentLimits.blockBytesMax }

    private func append(_ batch: SpanBatch, _ row: Int, resource: inout [Int32], scope: inout [Int32]) {
        batch.bytes.withUnsafeBytes { all in
            func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: all[range.range]) }
            func copy(_ range: ByteRange) -> ByteRange { range.isEmpty ? .empty : block.bytes.intern(text(range)) }
            let resourceIndex = Int(batch.resource[row])
            if resource[resourceIndex] < 0 {
                resource[resourceIndex] = Int32(resourceNumber(text(batch.resources[resourceIndex]), service: text(batch.services[resourceIndex])))
            }
            let scopeIndex = Int(batch.scope[row])
            if scope[scopeIndex] < 0 { scope[scopeIndex] = Int32(scopes.intern(text(batch.scopes[scopeIndex]), into: &block.bytes).number) }
            block.appendRow(
                traceID: batch.traceID[row], spanID: batch.spanID[row], parentID: batch.parentID[row], startNanos: batch.startNanos[row],
                durationNanos: batch.durationNanos[row], kind: batch.kind[row], status: batch.status[row], flags: batch.flags[row],
                name: copy(batch.name[row]), statusMessage: copy(batch.statusMessage[row]), traceState: copy(batch.traceState[row]),
                attributes: copy(batch.attributes[row]), events: copy(batch.events[row]), links: copy(batch.links[row]), dropped: copy(batch.dropped[row]),
                resource: UInt32(resource[resourceIndex]), scope: UInt32(scope[scopeIndex]))
        }
    }

    /// A resource determines its service, so the service is stored beside it. The empty resource may still have one (`unknown_service`).
    private func resourceNumber(_ resource: UnsafeRawBufferPointer, service: UnsafeRawBufferPointer) -> UInt32 {
        let (number, isNew) = resources.intern(resource, into: &block.bytes)
        if isNew {
            block.services.append(block.bytes.intern(service))
        } else if number == 0, block.services[0].isEmpty {
            block.services[0] = block.bytes.intern(service)
        }
        return number
    }

    /// Writes the block in the making and begins the next.
    private func cut() throws(ObsError) {
        guard let low = block.startNanos.min(), let high = block.startNanos.max() else { return }
        let places = try writeColumns()
        index.appendVarint(UInt64(block.count))
        index.appendZigzag(low)
        index.appendZigzag(high)
        for id in [block.traceID[0], block.traceID[block.count - 1]] {
            index.appendLittleEndian(id.high.byteSwapped)
            index.appendLittleEndian(id.low.byteSwapped)
        }
        appendServices()
        places.append(to: &index)
        blockCount += 1
        rows += Int64(block.count)
        minTime = min(minTime, low)
        maxTime = max(maxTime, high)
        block = SpanBatch()
        resources = BlockTable()
        scopes = BlockTable()
    }

    private func appendServices() {
        let used = Set(block.resource)
        var names: Set<String> = []
        for resource in used { names.insert(block.bytes.string(block.services[Int(resource)])) }
        services.formUnion(names)
        let listed = names.count <= SegmentLimits.namesMax ? names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } : []
        index.appendVarint(UInt64(listed.count))
        for name in listed { index.appendText(Array(name.utf8)) }
    }

    private func writeColumns() throws(ObsError) -> EventBlockPlaces {
        var writer = EventBlockWriter(file)
        for column in SpanColumn.allCases {
            switch column {
            case .traceID: try writer.traceIDs(block.traceID)
            case .spanID: try writer.integers(block.spanID)
            case .parentID: try writeParents(&writer)
            case .start: try writer.integers(block.startNanos)
            case .duration: try writer.integers(block.durationNanos)
            case .kind: try writer.integers(block.kind)
            case .status: try writer.integers(block.status)
            case .flags: try writer.integers(block.flags)
            case .name: try writer.strings(block.name, of: block.bytes)
            case .statusMessage: try writer.strings(block.statusMessage, of: block.bytes)
            case .traceState: try writer.strings(block.traceState, of: block.bytes)
            case .attributes: try writer.strings(block.attributes, of: block.bytes)
            case .events: try writer.strings(block.events, of: block.bytes)
            case .links: try writer.strings(block.links, of: block.bytes)
            case .dropped: try writer.strings(block.dropped, of: block.bytes)
            case .resource: try writeResources(&writer)
            case .scope: try writer.table([scopes.ranges], of: block.bytes, rows: block.scope)
            case .filter: try writer.column { $0.append(contentsOf: TraceFilter(block.traceID).bytes) }
            }
        }
        return writer.places
    }

    /// Written even when all rows have resource 0, if that has a service.
    private func writeResources(_ writer: inout EventBlockWriter) throws(ObsError) {
        if block.services[0].isEmpty { return try writer.table([resources.ranges, block.services], of: block.bytes, rows: block.resource) }
        try writer.column { output in
            output.appendVarint(UInt64(resources.ranges.count))
            StringColumn.append(resources.ranges, of: block.bytes, to: &output)
            StringColumn.append(block.services, of: block.bytes, to: &output)
            IntegerCodec.append(converting: block.resource, to: &output)
        }
    }

    /// A parent's eight random bytes are mostly those of another span of the trace in the same block: then its row within the trace is enough.
    ///
    /// `references by IntegerCodec: 0 none, 1 the next of the ids that follow, n + 2 row n of the trace · varint ids · ids by IntegerCodec`
    private func writeParents(_ writer: inout EventBlockWriter) throws(ObsError) {
        if block.parentID.allSatisfy({ $0 == 0 }) { return writer.skipColumn() }
        var references = [Int64](repeating: 0, count: block.count)
        var elsewhere: [UInt64] = []
        forEachTrace(block.traceID) { trace in
            let byID = trace.sorted { (block.spanID[$0], $0) < (block.spanID[$1], $1) }
            for row in trace where block.parentID[row] != 0 {
                if let parent = find(block.parentID[row], byID) {
                    references[row] = Int64(parent - trace.lowerBound) + 2
                } else {
                    references[row] = 1
                    elsewhere.append(block.parentID[row])
                }
            }
        }
        try writer.column { output in
            IntegerCodec.append(references, to: &output)
            output.appendVarint(UInt64(elsewhere.count))
            IntegerCodec.append(converting: elsewhere, to: &output)
        }
    }

    /// Binary search over rows sorted by span id.
    private func find(_ id: SpanID, _ rows: [Int]) -> Int? {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if block.spanID[rows[middle]] < id { low = middle + 1 } else { high = middle }
        }
        return low < rows.count && block.spanID[rows[low]] == id ? rows[low] : nil
    }
}

/// Runs of equal trace ids.
func forEachTrace(_ ids: [TraceID], _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < ids.count {
        var end = start + 1
        while end < ids.count, ids[end] == ids[start] { end += 1 }
        body(start..<end)
        start = end
    }
}
