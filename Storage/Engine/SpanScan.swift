internal import ObsCore
internal import ObsEncoding
internal import ObsSegment
internal import ObsStore

typealias SpanSegment = SegmentHandle<SpanSegmentReader>

/// The span sources of one tenant at one moment.
struct SpanSources {
    var heads: [BatchList<SpanBatch>] = []
    var segments: [SpanSegment] = []
    var deletions = Deletions()
}

struct SpanScan {
    let selection: SpanSelection
    let context: QueryContext
    let sink: any SpanSink
    private let services: [[UInt8]]?
    private let names: [[UInt8]]?
    private var zones = OverlapZones([])
    private var seen = SeenRows()

    init(_ selection: SpanSelection, context: QueryContext, sink: any SpanSink) {
        self.selection = selection
        self.context = context
        self.sink = sink
        services = selection.services.map { $0.map { [UInt8]($0.utf8) } }
        names = selection.names.map { $0.map { [UInt8]($0.utf8) } }
    }

    mutating func run(_ sources: SpanSources) throws(ObsError) {
        guard selection.startNanos < selection.endNanos else { return }
        let range = selection.startNanos...(selection.endNanos - 1)
        var entries: [HeadBatch<SpanBatch>] = []
        for head in sources.heads {
            head.forEach { if $0.minTime <= range.upperBound, $0.maxTime >= range.lowerBound { entries.append($0) } }
        }
        let segments = sources.segments.filter { $0.overlaps(range) && mayHold($0.info) }
        let ranges = entries.map { $0.minTime...$0.maxTime }
        zones = OverlapZones(ranges + ranges + segments.map { $0.info.minTime...$0.info.maxTime })
        for entry in entries {
            try context.check()
            context.count(rows: entry.batch.count)
            try feed(entry.batch, mask: DeletedRows(expiry: sources.deletions.expiry.concerning(entry.minTime)), attributes: selection.attributes)
        }
        for segment in segments { try visit(segment, mask: sources.deletions.mask(of: segment.info)) }
    }

    private func mayHold(_ info: SegmentInfo) -> Bool {
        guard let wanted = selection.services, !info.services.isEmpty else { return true }
        return info.services.contains { wanted.contains($0) }
    }

    private mutating func visit(_ segment: SpanSegment, mask: DeletedRows) throws(ObsError) {
        try context.check()
        let reader = try segment.reader()
        context.count(segments: 1)
        let candidates = try segment.reading { () throws(ObsError) -> Set<Int>? in
            guard let ids = selection.traceIDs else { return nil }
            var candidates: Set<Int> = []
            for id in ids { candidates.formUnion(try reader.blocks(mayContaining: id)) }
            return candidates
        }
        for (index, block) in reader.blocks.enumerated() where candidates?.contains(index) ?? true && isWanted(block) {
            try context.check()
            let view = reader.block(index)
            let batch = try segment.reading { () throws(ObsError) -> SpanBatch? in
                let rows = try rows(of: view)
                return rows.isEmpty ? nil : try view.batch(of: rows)
            }
            context.count(blocks: 1, bytesRead: block.bytes, rows: block.rows)
            guard let batch else { continue }
            try context.charge(bytes: batch.byteSize)
            defer { context.release(bytes: batch.byteSize) }
            try feed(batch, mask: mask)
        }
    }

    /// Rows of a block that are wanted, found by as few columns as will do.
    private func rows(of block: SpanBlockView) throws(ObsError) -> RowSet {
        var rows = RowSet(all: block.rows)
        if let wanted = selection.traceIDs {
            let ids = try block.traceIDs()
            for row in 0..<block.rows where !wanted.contains(ids[row]) { rows.remove(row) }
        }
        if !rows.isEmpty, block.info.minStartNanos < selection.startNanos || block.info.maxStartNanos >= selection.endNanos {
            let starts = try block.starts()
            for row in 0..<block.rows where starts[row] < selection.startNanos || starts[row] >= selection.endNanos { rows.remove(row) }
        }
        if !rows.isEmpty, selection.durationNanosMin > 0 {
            let durations = try block.durations()
            for row in 0..<block.rows where durations[row] < selection.durationNanosMin { rows.remove(row) }
        }
        if !rows.isEmpty, let services {
            let found = try block.services()
            let isWanted = found.names.map { services.contains($0) }
            for row in 0..<block.rows where !isWanted[Int(found.rows[row])] { rows.remove(row) }
        }
        if !rows.isEmpty, let names { rows = try block.names().rows(among: rows) { isOne(of: names, $0) } }
        for attribute in selection.attributes where !rows.isEmpty {
            switch attribute.scope {
            case .span: rows = try attribute.filter.rows(of: try block.attributes(), among: rows)
            case .resource:
                let found = try block.resources()
                let isWanted = found.lists.map { list in list.withUnsafeBytes { attribute.filter.passes($0) } }
                for row in 0..<block.rows where !isWanted[Int(found.rows[row])] { rows.remove(row) }
            }
        }
        return rows
    }

    private func isWanted(_ block: SpanBlockInfo) -> Bool {
        guard block.minStartNanos < selection.endNanos, block.maxStartNanos >= selection.startNanos else { return false }
        guard let wanted = selection.services, !block.services.isEmpty else { return true }
        return block.services.contains { wanted.contains($0) }
    }

    /// - Parameter attributes: conditions that were not asked of the rows yet.
    private mutating func feed(_ batch: SpanBatch, mask: DeletedRows, attributes: [SpanAttributeFilter] = []) throws(ObsError) {
        var rows: [Int] = []
        batch.bytes.withUnsafeBytes { bytes in
            func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[range.range]) }
            let resources = batch.services.map { service in services.map { isOne(of: $0, text(service)) } ?? true }
            for row in 0..<batch.count {
                let start = batch.startNanos[row]
                guard start >= selection.startNanos, start < selection.endNanos, batch.durationNanos[row] >= selection.durationNanosMin,
                    selection.traceIDs?.contains(batch.traceID[row]) ?? true, resources[Int(batch.resource[row])],
                    names.map({ isOne(of: $0, text(batch.name[row])) }) ?? true,
                    attributes.allSatisfy({ $0.passes(batch, row: row, bytes: bytes) })
                else { continue }
                if !mask.isEmpty, mask.isDeleted(batch, row: row) { continue }
                if zones.contains(start), !seen.insert(RowIdentity.span(batch, row: row, bytes: bytes)) { continue }
                rows.append(row)
            }
        }
        if !rows.isEmpty { try sink.consume(batch, rows: rows) }
    }
}

private func isOne(of wanted: [[UInt8]], _ text: UnsafeRawBufferPointer) -> Bool {
    wanted.contains { candidate in candidate.withUnsafeBytes { compareBytes($0, text) == 0 } }
}
