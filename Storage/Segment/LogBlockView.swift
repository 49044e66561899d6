// One block of log records under search. What is asked of it is read when it is asked: a count by stream reads the block index, a filter the streams of the text
// column it looks into, and rows that are wanted come as a batch of their own, put together from the columns that are wanted. What is likely to be asked again
// (times, streams, texts as they are opened) stays in the cache of decoded blocks.

package import ObsCore
package import ObsEncoding
package import ObsStore

/// A column as the cache holds it.
private final class CachedColumn<Value: Sendable>: Sendable {
    let values: [Value]
    init(_ values: [Value]) { self.values = values }
}

package struct LogBlockView: Sendable {
    package let info: LogBlockInfo
    /// Label sets of the block's streams.
    package let streams: ArraySlice<Labels>
    private let file: SegmentFile
    private let columns: EventBlockReader

    init(_ info: LogBlockInfo, streams: ArraySlice<Labels>, of file: SegmentFile) {
        self.info = info
        self.streams = streams
        self.file = file
        columns = EventBlockReader(file: file, places: info.places, rows: info.rows)
    }

    package var rows: Int { info.rows }

    /// Nanoseconds, of each row.
    package func times() throws(ObsError) -> [Int64] {
        try cached(.time) { () throws(ObsError) -> [Int64] in
            let times = try columns.integers(LogColumn.time.rawValue, as: Int64.self)
            guard times.allSatisfy({ $0 >= info.minNanos && $0 <= info.maxNanos }) else { throw damaged() }
            return times
        }
    }

    /// Of each row, its number among `streams`, from 0.
    package func streamNumbers() throws(ObsError) -> [UInt32] {
        try cached(.stream) { () throws(ObsError) -> [UInt32] in
            var numbers = try columns.integers(LogColumn.stream.rawValue, as: UInt32.self)
            // A block that was copied from another segment counts its streams as they were there.
            let base = numbers[0]
            for row in numbers.indices { numbers[row] &-= base }
            guard numbers.allSatisfy({ Int($0) < streams.count }) else { throw damaged() }
            return numbers
        }
    }

    package func lines() throws(ObsError) -> BlockTexts { try texts(.line) }
    package func attributes() throws(ObsError) -> BlockTexts { try texts(.attributes) }

    /// What is in no line for certain; nil when the block says nothing about it.
    package func lineFilter() throws(ObsError) -> TextFilter? {
        let place = info.places.place(LogColumn.lineFilter.rawValue)
        guard !place.isNone else { return nil }
        return try file.cached(place) { () throws(ObsError) -> (value: CachedFilter, bytes: Int) in
            let filter = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> TextFilter in
                try TextFilter(Array(try cursor.take(cursor.remaining)))
            }
            return (CachedFilter(filter), filter.byteSize)
        }.filter
    }

    /// Rows as a batch of their own, in the block's order. Its streams are `streams`.
    /// - Parameter rows: nil for all.
    package func batch(of rows: RowSet?, columns wanted: LogColumns) throws(ObsError) -> LogBatch {
        let numbers = rows.flatMap { $0.isAll ? nil : $0.rows }
        let count = numbers?.count ?? info.rows
        func pick<Value>(_ values: [Value]) -> [Value] { numbers.map { $0.map { values[$0] } } ?? values }
        var batch = LogBatch()
        for labels in streams { batch.streams.append(batch.bytes.intern(labels.bytes)) }
        batch.timeNanos = pick(try times())
        batch.stream = pick(try streamNumbers())
        batch.flags = pick(try columns.integers(LogColumn.flags.rawValue, as: UInt8.self).map { LogBatch.RowFlags(rawValue: $0) })
        batch.arrival = pick(try columns.integers(LogColumn.arrival.rawValue, as: UInt64.self))
        batch.severity =
            wanted.contains(.severity) ? pick(try columns.integers(LogColumn.severity.rawValue, as: UInt8.self)) : .init(repeating: 0, count: count)
        let some = numbers == nil ? nil : rows
        batch.line = wanted.contains(.line) ? try lines().texts(of: some, into: &batch.bytes) : .init(repeating: .empty, count: count)
        batch.attributes = wanted.contains(.attributes) ? try attributes().texts(of: some, into: &batch.bytes) : .init(repeating: .empty, count: count)
        if wanted.contains(.identifiers) {
            batch.traceID = pick(try columns.traceIDs(LogColumn.traceID.rawValue))
            batch.spanID = pick(try columns.integers(LogColumn.spanID.rawValue, as: UInt64.self))
        } else {
            batch.traceID = .init(repeating: .none, count: count)
            batch.spanID = .init(repeating: 0, count: count)
        }
        batch.resource = .init(repeating: 0, count: count)
        batch.scope = .init(repeating: 0, count: count)
        if wanted.contains(.resource) {
            let read = try columns.table(LogColumn.resource.rawValue, tables: 1, into: &batch.bytes)
            (batch.resources, batch.resource) = (read.tables[0], pick(read.rows))
        }
        if wanted.contains(.scope) {
            let read = try columns.table(LogColumn.scope.rawValue, tables: 1, into: &batch.bytes)
            (batch.scopes, batch.scope) = (read.tables[0], pick(read.rows))
        }
        return batch
    }

    private func texts(_ column: LogColumn) throws(ObsError) -> BlockTexts {
        let place = info.places.place(column.rawValue)
        if place.isNone { return try BlockTexts(nil, count: info.rows, times: []) }
        return try file.cached(place) { () throws(ObsError) -> (value: BlockTexts, bytes: Int) in
            let content = try file.read(place)
            let times = try times()
            do throws(ObsError) {
                let texts = try BlockTexts(content, count: info.rows, times: times)
                return (texts, texts.byteSize)
            } catch { throw error.located("\(file.path):\(place.offset)") }
        }
    }

    private func cached<Value: Sendable>(_ column: LogColumn, _ decode: () throws(ObsError) -> [Value]) throws(ObsError) -> [Value] {
        let place = info.places.place(column.rawValue)
        if place.isNone { return try decode() }
        return try file.cached(place) { () throws(ObsError) -> (value: CachedColumn<Value>, bytes: Int) in
            let values = try decode()
            return (CachedColumn(values), values.count * MemoryLayout<Value>.stride)
        }.values
    }

    private func damaged() -> ObsError {
        ObsError(.corrupt, "rows of a block are not those of the block index", place: "\(file.path):\(info.places.offset)")
    }
}

final class CachedFilter: Sendable {
    let filter: TextFilter
    init(_ filter: TextFilter) { self.filter = filter }
}
