package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// Columns of a span block. Raw values are positions on disk: only append.
enum SpanColumn: Int, CaseIterable {
    case traceID = 0, spanID, parentID, start, duration, kind, status, flags, name, statusMessage, traceState, attributes, events, links, dropped
    /// The filter is a column in blocks of version 2 and before.
    case resource, scope, filter
}

/// Makes a segment of spans. Spans of a trace come one after the other, traces in the order of their first starts; blocks go to disk as they fill, and end with a
/// trace where that can be.
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class SpanSegmentWriter {
    private let file: SegmentFileWriter
    /// Rows of the block in the making.
    private var block = SpanBatch()
    private var resources = BlockTable()
    private var scopes = BlockTable()
    private var services: Set<String> = []
    /// Whether a copied block has more services than its index lists.
    private var hasUnlistedServices = false
    private var blocks: [(info: SpanBlockInfo, filter: TraceFilter)] = []
    private var rows: Int64 = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min
    /// Of the last row.
    private var lastTrace = TraceID.none

    /// - Parameter path: of the finished segment; its folder is made.
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) {
        file = try SegmentFileWriter(fileSystem: fileSystem, path: path, signal: .traces, draft: draft)
    }

    /// Appends rows of the sources, in the order given.
    package func add(_ sources: [SpanBatch], rows places: [RowPlace]) throws(ObsError) {
        var resourceNumbers = EntryNumbers(counts: sources.map(\.resources.count))
        var scopeNumbers = EntryNumbers(counts: sources.map(\.scopes.count))
        /// Rows from here on have their numbers but not their columns yet, and so many bytes of text.
        var pending = 0
        var pendingBytes = 0
        for (index, place) in places.enumerated() {
            let source = Int(place.source)
            let row = Int(place.row)
            let trace = sources[source].traceID[row]
            let mustCut = mustCut(
                rows: block.resource.count, textBytes: block.bytes.count + pendingBytes, rest: places.count - index, isApart: trace != lastTrace,
                rowsMin: SegmentLimits.blockRowsMax / 8 * 7)
            lastTrace = trace
            if mustCut, !block.resource.isEmpty {
                fetch(sources, places[pending..<index], textBytes: pendingBytes)
                try cut()
                pending = index
                pendingBytes = 0
                resourceNumbers.removeAll()
                scopeNumbers.removeAll()
            }
            block.resource.append(resourceNumber(sources, source, Int(sources[source].resource[row]), &resourceNumbers))
            block.scope.append(scopeNumber(sources, source, Int(sources[source].scope[row]), &scopeNumbers))
            pendingBytes += Int(sources[source].name[row].count) + Int(sources[source].attributes[row].count) + Int(sources[source].events[row].count)
            pendingBytes += Int(sources[source].links[row].count) + Int(sources[source].statusMessage[row].count) + Int(sources[source].traceState[row].count)
            pendingBytes += Int(sources[source].dropped[row].count)
        }
        fetch(sources, places[pending...], textBytes: pendingBytes)
    }

    /// Takes a block of another segment over, its bytes as they are. A small block in the making goes on behind it.
    package func copy(block number: Int, of reader: SpanSegmentReader) throws(ObsError) {
        if block.count >= SegmentLimits.blockRowsMin { try cut() }
        var info = reader.blocks[number]
        let frames = try reader.frames(block: number)
        info.places = EventBlockPlaces(offset: frames.bytes.isEmpty ? 0 : try file.append(frames).offset, lengths: info.places.lengths)
        services.formUnion(info.services)
        hasUnlistedServices = hasUnlistedServices || info.services.isEmpty
        note(info, try reader.filter(block: number))
    }

    package func finish() throws(ObsError) -> SegmentInfo {
        try cut()
        blocks.sort { ($0.info.minStartNanos, $0.info.places.offset) < ($1.info.minStartNanos, $1.info.places.offset) }
        // Bits of a good filter are half ones: nothing to compress.
        let filters = try file.append(TraceFilters.encoded(blocks.map(\.filter)), isPacked: true)
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(blocks.count))
        for block in blocks { append(block.info, to: &directory) }
        let place = try file.append(directory)
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: [],
            services: hasUnlistedServices ? [] : services.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) },
            sections: [(.eventBlocks, place), (.traceFilters, filters)])
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    /// Number of a source's resource in the block's table. A resource determines its service, so the service is stored beside it.
    /// The empty resource may still have one (`unknown_service`).
    private func resourceNumber(_ sources: [SpanBatch], _ source: Int, _ entry: Int, _ known: inout EntryNumbers) -> UInt32 {
        if let number = known[source, entry] { return number }
        return sources[source].bytes.withUnsafeBytes { all in
            let service = UnsafeRawBufferPointer(rebasing: all[sources[source].services[entry].range])
            let (number, isNew) = resources.intern(UnsafeRawBufferPointer(rebasing: all[sources[source].resources[entry].range]), into: &block.bytes)
            if isNew {
                block.services.append(block.bytes.intern(service))
            } else if number == 0, block.services[0].isEmpty {
                block.services[0] = block.bytes.intern(service)
            }
            known[source, entry] = number
            return number
        }
    }

    private func scopeNumber(_ sources: [SpanBatch], _ source: Int, _ entry: Int, _ known: inout EntryNumbers) -> UInt32 {
        if let number = known[source, entry] { return number }
        return sources[source].bytes.withUnsafeBytes { all in
            let number = scopes.intern(UnsafeRawBufferPointer(rebasing: all[sources[source].scopes[entry].range]), into: &block.bytes).number
            known[source, entry] = number
            return number
        }
    }

    /// The columns that are taken as they are.
    private func fetch(_ sources: [SpanBatch], _ places: ArraySlice<RowPlace>, textBytes: Int) {
        block.bytes.reserveCapacity(block.bytes.count + textBytes)
        block.traceID += values(of: \.traceID, sources, places)
        block.spanID += values(of: \.spanID, sources, places)
        block.parentID += values(of: \.parentID, sources, places)
        block.startNanos += values(of: \.startNanos, sources, places)
        block.durationNanos += values(of: \.durationNanos, sources, places)
        block.kind += values(of: \.kind, sources, places)
        block.status += values(of: \.status, sources, places)
        block.flags += values(of: \.flags, sources, places)
        block.name += texts(of: \.name, \.bytes, sources, places, into: &block.bytes)
        block.statusMessage += texts(of: \.statusMessage, \.bytes, sources, places, into: &block.bytes)
        block.traceState += texts(of: \.traceState, \.bytes, sources, places, into: &block.bytes)
        block.attributes += texts(of: \.attributes, \.bytes, sources, places, into: &block.bytes)
        block.events += texts(of: \.events, \.bytes, sources, places, into: &block.bytes)
        block.links += texts(of: \.links, \.bytes, sources, places, into: &block.bytes)
        block.dropped += texts(of: \.dropped, \.bytes, sources, places, into: &block.bytes)
    }

    /// Writes the block in the making and begins the next.
    private func cut() throws(ObsError) {
        guard let low = block.startNanos.min(), let high = block.startNanos.max() else { return }
        let used = Set(block.resource)
        var names: Set<String> = []
        for resource in used { names.insert(block.bytes.string(block.services[Int(resource)])) }
        services.formUnion(names)
        note(
            SpanBlockInfo(
                rows: block.count, minStartNanos: low, maxStartNanos: high,
                services: names.count <= SegmentLimits.namesMax ? names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } : [],
                places: try writeColumns()),
            TraceFilter(block.traceID))
        block = SpanBatch()
        resources = BlockTable()
        scopes = BlockTable()
    }

    /// Enters a written block in the index.
    private func note(_ info: SpanBlockInfo, _ filter: TraceFilter) {
        blocks.append((info, filter))
        rows += Int64(info.rows)
        minTime = min(minTime, info.minStartNanos)
        maxTime = max(maxTime, info.maxStartNanos)
    }

    private func append(_ info: SpanBlockInfo, to index: inout [UInt8]) {
        index.appendVarint(UInt64(info.rows))
        index.appendZigzag(info.minStartNanos)
        index.appendZigzag(info.maxStartNanos)
        index.appendVarint(UInt64(info.services.count))
        for name in info.services { index.appendText(Array(name.utf8)) }
        info.places.append(to: &index)
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
            case .name: try writer.texts(block.name, of: block.bytes, as: .lines, times: block.startNanos)
            case .statusMessage: try writer.texts(block.statusMessage, of: block.bytes, as: .lines, times: block.startNanos)
            case .traceState: try writer.strings(block.traceState, of: block.bytes)
            case .attributes: try writer.texts(block.attributes, of: block.bytes, as: .attributes, times: block.startNanos)
            case .events: try writer.texts(block.events, of: block.bytes, as: .events, times: block.startNanos)
            case .links: try writer.texts(block.links, of: block.bytes, as: .links, times: block.startNanos)
            case .dropped: try writer.strings(block.dropped, of: block.bytes)
            case .resource: try writeResources(&writer)
            case .scope: try writer.table([scopes.ranges], of: block.bytes, rows: block.scope)
            case .filter: break
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
package func forEachTrace(_ ids: [TraceID], _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < ids.count {
        var end = start + 1
        while end < ids.count, ids[end] == ids[start] { end += 1 }
        body(start..<end)
        start = end
    }
}
