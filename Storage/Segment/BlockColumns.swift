// Columns of event blocks as searches use them: decoded, or opened, and kept in the cache of decoded blocks.

internal import ObsCore
internal import ObsEncoding

/// A value as the cache holds it.
private final class Cached<Value: Sendable>: Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

extension EventBlockReader {
    /// A column's values, one a row; those of a column without a frame are not worth keeping.
    func cached<Value: Sendable>(_ column: Int, _ decode: () throws(ObsError) -> [Value]) throws(ObsError) -> [Value] {
        let place = places.place(column)
        if place.isNone { return try decode() }
        return try file.cached(place) { () throws(ObsError) -> (value: Cached<[Value]>, bytes: Int) in
            let values = try decode()
            return (Cached(values), values.count * MemoryLayout<Value>.stride)
        }.value
    }

    /// - Parameter times: of the rows.
    func cachedTexts(_ column: Int, _ times: () throws(ObsError) -> [Int64]) throws(ObsError) -> BlockTexts {
        let place = places.place(column)
        if place.isNone { return try BlockTexts(nil, count: rows, times: []) }
        return try file.cached(place) { () throws(ObsError) -> (value: BlockTexts, bytes: Int) in
            let content = try file.read(place)
            let times = try times()
            do throws(ObsError) {
                let texts = try BlockTexts(content, count: rows, times: times)
                return (texts, texts.byteSize)
            } catch { throw error.located("\(file.path):\(place.offset)") }
        }
    }

    func cachedFilter(_ column: Int) throws(ObsError) -> TextFilter? {
        let place = places.place(column)
        if place.isNone { return nil }
        return try file.cached(place) { () throws(ObsError) -> (value: Cached<TextFilter>, bytes: Int) in
            let content = try file.read(place)
            do throws(ObsError) {
                let filter = try TextFilter(content)
                return (Cached(filter), filter.byteSize)
            } catch { throw error.located("\(file.path):\(place.offset)") }
        }.value
    }

    func damaged() -> ObsError { ObsError(.corrupt, "rows of a block are not those of the block index", place: "\(file.path):\(places.offset)") }
}

extension RowSet? {
    /// The set's rows of a column; all for nil.
    func pick<Value>(_ values: [Value]) -> [Value] {
        guard let self else { return values }
        var picked: [Value] = []
        picked.reserveCapacity(self.population)
        self.forEach { picked.append(values[$0]) }
        return picked
    }
}
