// Rows of many batches on their way into one segment: the caller says which row comes next, the writer fetches it column by column. Nothing is copied in between.

internal import ObsCore

/// A row of one of several batches.
package struct RowPlace: Sendable {
    /// Index of the batch.
    package var source: UInt32
    package var row: UInt32

    package init(source: UInt32, row: UInt32) {
        self.source = source
        self.row = row
    }
}

/// A column's values at the places, in their order.
func values<Batch, Value>(of column: (Batch) -> [Value], _ sources: [Batch], _ places: ArraySlice<RowPlace>) -> [Value] {
    let columns = sources.map(column)
    var values: [Value] = []
    values.reserveCapacity(places.count)
    for place in places { values.append(columns[Int(place.source)][Int(place.row)]) }
    return values
}

/// Copies a column's texts into `bytes`; the ranges are of the copies.
func texts<Batch>(
    of column: (Batch) -> [ByteRange], _ bytesOf: (Batch) -> [UInt8], _ sources: [Batch], _ places: ArraySlice<RowPlace>, into bytes: inout [UInt8]
) -> [ByteRange] {
    let columns = sources.map(column)
    let buffers = sources.map(bytesOf)
    var ranges: [ByteRange] = []
    ranges.reserveCapacity(places.count)
    for place in places {
        let range = columns[Int(place.source)][Int(place.row)]
        if range.isEmpty {
            ranges.append(.empty)
        } else {
            ranges.append(buffers[Int(place.source)].withUnsafeBytes { bytes.intern(UnsafeRawBufferPointer(rebasing: $0[range.range])) })
        }
    }
    return ranges
}

/// What a writer calls the entries of its sources' tables; nil until it was asked for one.
struct EntryNumbers {
    private var numbers: [[Int32]]

    /// - Parameter counts: entries of each source's table.
    init(counts: [Int]) { numbers = counts.map { [Int32](repeating: -1, count: $0) } }

    subscript(source: Int, entry: Int) -> UInt32? {
        get { numbers[source][entry] < 0 ? nil : UInt32(numbers[source][entry]) }
        set { numbers[source][entry] = newValue.map(Int32.init) ?? -1 }
    }

    mutating func removeAll() {
        for source in numbers.indices { for entry in numbers[source].indices { numbers[source][entry] = -1 } }
    }
}
