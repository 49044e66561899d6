internal import Glibc
package import ObsCore

/// A column of texts that is opened but not put together: asked which rows contain something it looks into the columns it is made of, and only the texts of rows
/// that are wanted are put together. Can be kept; safe from several threads.
package final class TextView: Sendable {
    let streams: StreamReader
    /// None when there are no rows.
    let root: TextNode?
    private let times: [Int64]
    let bytesMax: Int
    /// Rows.
    package let count: Int
    /// Of the nodes that have shapes, once they were asked for.
    private let opened: Monitor<[TextShapes?]>

    /// - Parameters:
    ///   - column: the bytes after `TextColumn.tag`.
    ///   - times: of the rows; those the column was written with.
    ///   - bytesMax: what all texts may come to: a forged column of few bytes could be of any size.
    /// - Throws: `.corrupt`; so does everything asked of it, since streams are read when they are needed.
    package convenience init(_ column: [UInt8], count: Int, times: [Int64], bytesMax: Int) throws(ObsError) {
        let streams: Result<StreamReader, ObsError> = column.withUnsafeBytes { column in
            do throws(ObsError) { return .success(try StreamReader(column, rawBytesMax: bytesMax)) } catch { return .failure(error) }
        }
        try self.init(try streams.get(), count: count, times: times, bytesMax: bytesMax)
    }

    init(_ streams: StreamReader, count: Int, times: [Int64], bytesMax: Int) throws(ObsError) {
        self.streams = streams
        self.count = count
        self.times = times
        self.bytesMax = min(bytesMax, Int(UInt32.max))
        var plan = TextPlan(streams)
        root = try plan.read(count: count)
        opened = Monitor([TextShapes?](repeating: nil, count: plan.nodes))
    }

    /// Memory, about, once all of it was asked for.
    package var byteSize: Int { streams.byteSize + count * 16 + 1024 }

    var rows: ColumnRows { ColumnRows(count: count, times: times.isEmpty ? .none : .rows(times)) }

    /// The shapes of a node that has some.
    func shapes(_ node: TextNode, _ rows: ColumnRows, arena composer: TextComposer) throws(ObsError) -> TextShapes {
        if let known = opened.read({ $0[node.number] }) { return known }
        guard case .shapes(let shapeCount, let pieces, let stream, let columns) = node.form else { preconditionFailure("BUG: a column of no shapes") }
        let numbers = try composer.indices(stream, count: rows.count, below: shapeCount)
        guard shapeCount <= rows.count else { throw ObsError(.corrupt, "\(shapeCount) shapes of \(rows.count) texts") }
        let shapeOf = [UInt32](unsafeUninitializedCapacity: rows.count) { shapeOf, filled in
            for row in 0..<rows.count { shapeOf[row] = UInt32(truncatingIfNeeded: numbers[row]) }
            filled = rows.count
        }
        let shapes = try TextShapes(try streams.stream(pieces), shapeCount: shapeCount, columnCount: columns.count, shapeOf: shapeOf)
        return opened.read { opened in
            if let known = opened[node.number] { return known }
            opened[node.number] = shapes
            return shapes
        }
    }

    /// Appends texts and returns where each is.
    /// - Parameter rows: nil for all; else one range per row of the set, ascending.
    package func texts(of rows: RowSet?, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        guard let root else { return [] }
        if let rows { precondition(rows.count == count, "BUG: rows of \(rows.count), of \(count)") }
        let composer = TextComposer(self)
        var picks: UnsafeBufferPointer<UInt32>?
        if let rows, !rows.isAll {
            let picked = composer.arena.array(of: UInt32.self, count: rows.population)
            var next = 0
            rows.forEach { row in
                picked[next] = UInt32(row)
                next += 1
            }
            if picked.isEmpty { return [] }
            picks = UnsafeBufferPointer(picked)
        }
        return try texts(root, composer, picks, into: &bytes)
    }

    private func texts(
        _ root: TextNode, _ composer: TextComposer, _ picks: UnsafeBufferPointer<UInt32>?, into bytes: inout [UInt8]
    ) throws(ObsError) -> [ByteRange] {
        let base = bytes.count
        guard base <= Int(UInt32.max) - bytesMax else { throw ObsError(.corrupt, "texts of more than \(UInt32.max) bytes") }
        if case .shapes = root.form {
            let parts = try composer.parts(root, rows, picks)
            var written = 0
            bytes.append(contentsOf: repeatElement(0, count: parts.bytesMax))
            let ranges = bytes.withUnsafeMutableBytes { bytes in
                [ByteRange](unsafeUninitializedCapacity: max(picks?.count ?? count, 1)) { ranges, filled in
                    guard let target = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), let first = ranges.baseAddress else { return }
                    written = parts.put(picks, base: base, target + base, first)
                    filled = picks?.count ?? count
                }
            }
            bytes.removeLast(parts.bytesMax - written)
            return ranges
        }
        let texts = try composer.ranges(root, rows, picks)
        let end = texts.ranges.reduce(0) { max($0, Int($1.offset) + Int($1.count)) }
        guard end <= bytesMax else { throw ObsError(.corrupt, "texts of more than \(bytesMax) bytes") }
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: texts.bytes, count: end))
        return texts.ranges.map { ByteRange(offset: UInt32(base) + $0.offset, count: $0.count) }
    }

    /// The rows of `among` whose text contains `needle`.
    /// - Parameter ignoringCase: of ASCII letters; the needle is in lower case then.
    package func rows(containing needle: [UInt8], ignoringCase: Bool, among: RowSet) throws(ObsError) -> RowSet {
        guard let root, !needle.isEmpty, !among.isEmpty else { return among }
        precondition(among.count == count, "BUG: rows of \(among.count), of \(count)")
        let search = TextSearch(self, needle, foldsCase: ignoringCase)
        return try search.rows(root, rows, among: among).intersection(among)
    }

    /// The rows of `among` whose text passes `test`.
    package func rows(among: RowSet, where test: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) -> RowSet {
        var bytes: [UInt8] = []
        let ranges = try texts(of: among, into: &bytes)
        var result = RowSet(count: count)
        var next = 0
        bytes.withUnsafeBytes { bytes in
            among.forEach { row in
                if test(UnsafeRawBufferPointer(rebasing: bytes[ranges[next].range])) { result.insert(row) }
                next += 1
            }
        }
        return result
    }
}

/// ASCII only.
@inline(__always)
func lowerCased(_ byte: UInt8) -> UInt8 { byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte }
