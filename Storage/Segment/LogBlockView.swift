// One block of log records under search. What is asked of it is read when it is asked: a count by stream reads the block index, a filter the streams of the text
// column it looks into, and rows that are wanted come as a batch of their own, put together from the columns that are wanted. What is likely to be asked again
// (times, streams, texts as they are opened) stays in the cache of decoded blocks.

package import ObsCore
package import ObsEncoding
package import ObsStore

package struct LogBlockView: Sendable {
    package let info: LogBlockInfo
    /// Label sets of the block's streams.
    package let streams: ArraySlice<Labels>
    private let columns: EventBlockReader
    private let number: Int
    private let segment: LogSegmentReader

    init(_ info: LogBlockInfo, number: Int, of segment: LogSegmentReader) {
        self.info = info
        self.number = number
        self.segment = segment
        streams = segment.streams[info.firstStream...info.lastStream]
        columns = EventBlockReader(file: segment.file, places: info.places, rows: info.rows)
    }

    /// What is known of its fields: of all its rows, from the segment's footer.
    package func fields() throws(ObsError) -> FieldStatistics { try segment.fields(block: number) }

    package var rows: Int { info.rows }

    /// Nanoseconds, of each row.
    package func times() throws(ObsError) -> [Int64] {
        try columns.cached(LogColumn.time.rawValue) { () throws(ObsError) -> [Int64] in
            let times = try columns.integers(LogColumn.time.rawValue, as: Int64.self)
            guard times.allSatisfy({ $0 >= info.minNanos && $0 <= info.maxNanos }) else { throw columns.damaged() }
            return times
        }
    }

    /// Of each row, its number among `streams`, from 0.
    package func streamNumbers() throws(ObsError) -> [UInt32] {
        try columns.cached(LogColumn.stream.rawValue) { () throws(ObsError) -> [UInt32] in
            var numbers = try columns.integers(LogColumn.stream.rawValue, as: UInt32.self)
            // A block that was copied from another segment counts its streams as they were there.
            let base = numbers[0]
            for row in numbers.indices { numbers[row] &-= base }
            guard numbers.allSatisfy({ Int($0) < streams.count }) else { throw columns.damaged() }
            return numbers
        }
    }

    package func lines() throws(ObsError) -> BlockTexts { try columns.cachedTexts(LogColumn.line.rawValue, times) }
    package func attributes() throws(ObsError) -> BlockTexts { try columns.cachedTexts(LogColumn.attributes.rawValue, times) }

    /// What is in no line for certain; nil when the block says nothing about it.
    package func lineFilter() throws(ObsError) -> TextFilter? { try columns.cachedFilter(LogColumn.lineFilter.rawValue) }

    /// What is in no attribute that is a string, for certain, where no other attribute's text has letters but for literals; nil when the block says nothing about it.
    package func attributeFilter() throws(ObsError) -> TextFilter? { try columns.cachedFilter(LogColumn.attributeFilter.rawValue) }

    /// Rows as a batch of their own, in the block's order. Its streams are `streams`.
    /// - Parameter rows: nil for all.
    package func batch(of rows: RowSet?, columns wanted: LogColumns) throws(ObsError) -> LogBatch {
        let some = rows.flatMap { $0.isAll ? nil : $0 }
        let count = some?.population ?? info.rows
        var batch = LogBatch()
        for labels in streams { batch.streams.append(batch.bytes.intern(labels.bytes)) }
        batch.timeNanos = some.pick(try times())
        batch.stream = some.pick(try streamNumbers())
        batch.flags = some.pick(try columns.integers(LogColumn.flags.rawValue, as: UInt8.self).map { LogBatch.RowFlags(rawValue: $0) })
        batch.arrival = some.pick(try columns.integers(LogColumn.arrival.rawValue, as: UInt64.self))
        batch.severity =
            wanted.contains(.severity) ? some.pick(try columns.integers(LogColumn.severity.rawValue, as: UInt8.self)) : .init(repeating: 0, count: count)
        batch.line = wanted.contains(.line) ? try lines().texts(of: some, into: &batch.bytes) : .init(repeating: .empty, count: count)
        batch.attributes = wanted.contains(.attributes) ? try attributes().texts(of: some, into: &batch.bytes) : .init(repeating: .empty, count: count)
        if wanted.contains(.identifiers) {
            batch.traceID = some.pick(try columns.traceIDs(LogColumn.traceID.rawValue))
            batch.spanID = some.pick(try columns.integers(LogColumn.spanID.rawValue, as: UInt64.self))
            try columns.putIdentifiers(&batch, of: some) { (batch: inout LogBatch) throws(ObsError) in
                wanted.contains(.line) ? batch.line : try lines().texts(of: some, into: &batch.bytes)
            }
        } else {
            batch.traceID = .init(repeating: .none, count: count)
            batch.spanID = .init(repeating: 0, count: count)
        }
        batch.resource = .init(repeating: 0, count: count)
        batch.scope = .init(repeating: 0, count: count)
        if wanted.contains(.resource) {
            let read = try columns.table(LogColumn.resource.rawValue, tables: 1, into: &batch.bytes)
            (batch.resources, batch.resource) = (read.tables[0], some.pick(read.rows))
        }
        if wanted.contains(.scope) {
            let read = try columns.table(LogColumn.scope.rawValue, tables: 1, into: &batch.bytes)
            (batch.scopes, batch.scope) = (read.tables[0], some.pick(read.rows))
        }
        return batch
    }
}

extension EventBlockReader {
    /// Adds the identifiers that stand in their lines.
    /// - Parameters:
    ///   - batch: some rows, with the identifiers that do not.
    ///   - rows: which; nil for all.
    ///   - lines: gives their lines, in the batch's bytes; asked only when there are such.
    func putIdentifiers(
        _ batch: inout LogBatch, of rows: RowSet? = nil, lines: (inout LogBatch) throws(ObsError) -> [ByteRange]
    ) throws(ObsError) {
        let traceIDs = try linePlaces(.traceIDPlace, rows)
        let spanIDs = try linePlaces(.spanIDPlace, rows)
        if traceIDs.isEmpty, spanIDs.isEmpty { return }
        let lines = try lines(&batch)
        do throws(ObsError) {
            try LineIdentifiers.put(&batch.traceID, places: traceIDs, lines: lines, of: batch.bytes)
            try LineIdentifiers.put(&batch.spanID, places: spanIDs, lines: lines, of: batch.bytes)
        } catch { throw error.located("\(file.path):\(places.offset)") }
    }

    private func linePlaces(_ column: LogColumn, _ rows: RowSet?) throws(ObsError) -> [Int64] {
        places.place(column.rawValue).isNone ? [] : rows.pick(try integers(column.rawValue, as: Int64.self))
    }
}
