package import ObsCore

/// A column of texts that is opened but not put together: asked which rows contain something it looks into the columns it is made of, and only the texts of rows
/// that are wanted are put together. Can be kept; safe from several threads.
package final class TextView: Sendable {
    private let column: [UInt8]
    private let times: [Int64]
    private let bytesMax: Int
    /// Rows.
    package let count: Int

    /// - Parameters:
    ///   - column: the bytes after `TextColumn.tag`.
    ///   - times: of the rows; those the column was written with.
    ///   - bytesMax: what all texts may come to: a forged column of few bytes could be of any size.
    /// - Throws: `.corrupt`; so does everything asked of it, since streams are read when they are needed.
    package init(_ column: [UInt8], count: Int, times: [Int64], bytesMax: Int) throws(ObsError) {
        self.column = column
        self.count = count
        self.times = times
        self.bytesMax = bytesMax
        var bytes: [UInt8] = []
        _ = try texts(of: nil, into: &bytes)
    }

    /// Memory, about.
    package var byteSize: Int { column.count }

    /// Appends texts and returns where each is.
    /// - Parameter rows: nil for all; else one range per row of the set, ascending.
    package func texts(of rows: RowSet?, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let all: Result<[ByteRange], ObsError> = column.withUnsafeBytes { column in
            do throws(ObsError) { return .success(try TextColumn.decode(column, count: count, times: times, bytesMax: bytesMax, into: &bytes)) } catch {
                return .failure(error)
            }
        }
        let ranges = try all.get()
        guard let rows else { return ranges }
        return rows.rows.map { ranges[$0] }
    }

    /// The rows of `among` whose text contains `needle`.
    /// - Parameter ignoringCase: of ASCII letters; the needle is in lower case then.
    package func rows(containing needle: [UInt8], ignoringCase: Bool, among: RowSet) throws(ObsError) -> RowSet {
        guard let first = needle.first else { return among }
        return try rows(among: among) { text in
            guard text.count >= needle.count else { return false }
            for start in 0...text.count - needle.count {
                func byte(_ at: Int) -> UInt8 { ignoringCase ? lowerCased(text[at]) : text[at] }
                if byte(start) == first, needle.indices.allSatisfy({ byte(start + $0) == needle[$0] }) { return true }
            }
            return false
        }
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
