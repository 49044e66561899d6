package import ObsCore
package import ObsEncoding

/// A column of texts of one block, as it is kept to be searched: opened, but not put together. Safe from several threads.
package final class BlockTexts: Sendable {
    private enum Form: Sendable {
        /// No row has a text.
        case empty
        case opened(TextView)
        /// Of the time before text columns.
        case strings([ByteRange], of: [UInt8])
    }
    private let form: Form
    package let count: Int

    /// - Parameters:
    ///   - column: a frame's content; nil when there is no frame.
    ///   - times: of the rows.
    init(_ column: [UInt8]?, count: Int, times: [Int64]) throws(ObsError) {
        self.count = count
        guard let column else {
            form = .empty
            return
        }
        if column.first == TextColumn.tag {
            form = .opened(try TextView(Array(column.dropFirst()), count: count, times: times, bytesMax: Frame.rawBytesMax))
        } else {
            var bytes: [UInt8] = []
            let ranges = try decoding(column) { (cursor: inout ByteCursor) throws(ObsError) -> [ByteRange] in
                let ranges = try StringColumn.decode(&cursor, count: count, into: &bytes)
                try cursor.expectEnd()
                return ranges
            }
            form = .strings(ranges, of: bytes)
        }
    }

    /// Memory, about.
    package var byteSize: Int {
        switch form {
        case .empty: 0
        case .opened(let view): view.byteSize
        case .strings(let ranges, let bytes): ranges.count * 8 + bytes.count
        }
    }

    /// Appends texts and returns where each is.
    /// - Parameter rows: nil for all; else one range per row of the set, ascending.
    package func texts(of rows: RowSet?, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        switch form {
        case .empty: return [ByteRange](repeating: .empty, count: rows?.population ?? count)
        case .opened(let view): return try view.texts(of: rows, into: &bytes)
        case .strings(let ranges, let all):
            return all.withUnsafeBytes { all in
                (rows?.rows ?? Array(0..<count)).map { row in bytes.intern(UnsafeRawBufferPointer(rebasing: all[ranges[row].range])) }
            }
        }
    }

    /// The rows of `among` whose text contains the bytes.
    /// - Parameter ignoringCase: of ASCII letters; the bytes are in lower case then.
    package func rows(containing search: ByteSearch, ignoringCase: Bool, among: RowSet) throws(ObsError) -> RowSet {
        if search.needle.isEmpty { return among }
        switch form {
        case .empty: return RowSet(count: count)
        case .opened(let view): return try view.rows(containing: search.needle, ignoringCase: ignoringCase, among: among)
        case .strings:
            if !ignoringCase { return try rows(among: among) { search.isIn($0) } }
            var folded: [UInt8] = []
            return try rows(among: among) { text in
                folded.removeAll(keepingCapacity: true)
                for byte in text { folded.append(byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte) }
                return folded.withUnsafeBytes { search.isIn($0) }
            }
        }
    }

    /// The rows of `among` whose text passes.
    package func rows(among: RowSet, where test: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) -> RowSet {
        switch form {
        case .empty: return test(UnsafeRawBufferPointer(start: nil, count: 0)) ? among : RowSet(count: count)
        case .opened(let view): return try view.rows(among: among, where: test)
        case .strings(let ranges, let bytes):
            var found = RowSet(count: count)
            bytes.withUnsafeBytes { bytes in
                among.forEach { row in if test(UnsafeRawBufferPointer(rebasing: bytes[ranges[row].range])) { found.insert(row) } }
            }
            return found
        }
    }

    /// The rows of `among` whose field passes a test.
    package func rows(where path: FieldPath, of source: FieldSource, pass test: FieldTest, among: RowSet) throws(ObsError) -> RowSet {
        switch form {
        case .empty: return RowSet(count: count)
        case .opened(let view): return try view.rows(where: path, of: source, pass: test, among: among)
        case .strings: return try rows(among: among) { test.passes(path, in: $0, source) }
        }
    }

    /// The values of a field; of rows that are not of `among` they may be missing.
    package func values(of path: FieldPath, _ source: FieldSource, among: RowSet) throws(ObsError) -> FieldValues {
        switch form {
        case .empty: return FieldValues(count: count)
        case .opened(let view): return try view.values(of: path, source, among: among)
        case .strings(let ranges, let bytes):
            var values = FieldValues(count: count)
            var texts = ByteInterner()
            bytes.withUnsafeBytes { bytes in
                among.forEach { row in
                    let number = path.withValue(in: UnsafeRawBufferPointer(rebasing: bytes[ranges[row].range]), source) { form, value in
                        form.withText(value) { texts.intern($0) + 1 }
                    }
                    values.ofRow[row] = UInt32(number ?? 0)
                }
            }
            values.texts = (0..<texts.count).map { Array(texts.bytes[texts.range($0)]) }
            return values
        }
    }
}
