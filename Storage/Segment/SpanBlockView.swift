package import ObsCore
package import ObsEncoding

/// One block of spans under search, as `LogBlockView` is of log records.
package struct SpanBlockView: Sendable {
    package let info: SpanBlockInfo
    private let columns: EventBlockReader

    init(_ info: SpanBlockInfo, of file: SegmentFile) {
        self.info = info
        columns = EventBlockReader(file: file, places: info.places, rows: info.rows)
    }

    package var rows: Int { info.rows }

    package func traceIDs() throws(ObsError) -> [TraceID] {
        try columns.cached(SpanColumn.traceID.rawValue) { () throws(ObsError) in try columns.traceIDs(SpanColumn.traceID.rawValue) }
    }

    /// Nanoseconds, of each row.
    package func starts() throws(ObsError) -> [Int64] {
        try columns.cached(SpanColumn.start.rawValue) { () throws(ObsError) -> [Int64] in
            let starts = try columns.integers(SpanColumn.start.rawValue, as: Int64.self)
            guard starts.allSatisfy({ $0 >= info.minStartNanos && $0 <= info.maxStartNanos }) else { throw columns.damaged() }
            return starts
        }
    }

    package func durations() throws(ObsError) -> [Int64] { try integers(.duration, as: Int64.self) }

    package func names() throws(ObsError) -> BlockTexts { try texts(.name) }

    /// The service of each row, by its number among those of the block.
    package func services() throws(ObsError) -> (names: [[UInt8]], rows: [UInt32]) {
        var bytes: [UInt8] = []
        let read = try columns.table(SpanColumn.resource.rawValue, tables: 2, into: &bytes)
        return (read.tables[1].map { Array(bytes[$0.range]) }, read.rows)
    }

    package func attributes() throws(ObsError) -> BlockTexts { try texts(.attributes) }

    /// The resource of each row, by its number among those of the block, attribute lists.
    package func resources() throws(ObsError) -> (lists: [[UInt8]], rows: [UInt32]) {
        var bytes: [UInt8] = []
        let read = try columns.table(SpanColumn.resource.rawValue, tables: 2, into: &bytes)
        return (read.tables[0].map { Array(bytes[$0.range]) }, read.rows)
    }

    /// Rows as a batch of their own, in the block's order, with all columns.
    /// - Parameter rows: nil for all.
    package func batch(of rows: RowSet?) throws(ObsError) -> SpanBatch {
        let some = rows.flatMap { $0.isAll ? nil : $0 }
        let traceIDs = try traceIDs()
        let spanIDs = try integers(.spanID, as: UInt64.self)
        let parents = try columns.cached(SpanColumn.parentID.rawValue) { () throws(ObsError) in
            try columns.parents(SpanColumn.parentID.rawValue, traceIDs: traceIDs, spanIDs: spanIDs)
        }
        var batch = SpanBatch()
        batch.traceID = some.pick(traceIDs)
        batch.spanID = some.pick(spanIDs)
        batch.parentID = some.pick(parents)
        batch.startNanos = some.pick(try starts())
        batch.durationNanos = some.pick(try durations())
        batch.kind = some.pick(try integers(.kind, as: UInt8.self))
        batch.status = some.pick(try integers(.status, as: UInt8.self))
        batch.flags = some.pick(try integers(.flags, as: UInt32.self))
        batch.name = try texts(.name).texts(of: some, into: &batch.bytes)
        batch.statusMessage = try texts(.statusMessage).texts(of: some, into: &batch.bytes)
        batch.traceState = try texts(.traceState).texts(of: some, into: &batch.bytes)
        batch.attributes = try texts(.attributes).texts(of: some, into: &batch.bytes)
        batch.events = try texts(.events).texts(of: some, into: &batch.bytes)
        batch.links = try texts(.links).texts(of: some, into: &batch.bytes)
        batch.dropped = try texts(.dropped).texts(of: some, into: &batch.bytes)
        let resources = try columns.table(SpanColumn.resource.rawValue, tables: 2, into: &batch.bytes)
        (batch.resources, batch.services, batch.resource) = (resources.tables[0], resources.tables[1], some.pick(resources.rows))
        let scopes = try columns.table(SpanColumn.scope.rawValue, tables: 1, into: &batch.bytes)
        (batch.scopes, batch.scope) = (scopes.tables[0], some.pick(scopes.rows))
        return batch
    }

    private func integers<T: FixedWidthInteger & Sendable>(_ column: SpanColumn, as type: T.Type) throws(ObsError) -> [T] {
        try columns.cached(column.rawValue) { () throws(ObsError) in try columns.integers(column.rawValue, as: type) }
    }

    private func texts(_ column: SpanColumn) throws(ObsError) -> BlockTexts { try columns.cachedTexts(column.rawValue, starts) }
}
