internal import ObsCore
internal import ObsEncoding

// What log and span blocks have in common. A block is up to 65,536 rows; each column is a frame of its own, so that a reader decodes the columns it
// needs. A column that has its default in all rows (no trace id, no flags) has no frame at all. Where the frames lie is in the block index in the footer.

/// The frames of one block, in column order: they lie back to back from `offset`.
struct EventBlockPlaces: Sendable {
    var offset: Int
    /// Bytes of each column's frame; 0 for none.
    var lengths: [Int]

    var bytes: Int { lengths.reduce(0, +) }

    func place(_ column: Int) -> FramePlace {
        guard column < lengths.count, lengths[column] > 0 else { return .none }
        return FramePlace(offset: offset + lengths[..<column].reduce(0, +), length: lengths[column])
    }

    func append(to bytes: inout [UInt8]) {
        bytes.appendVarint(UInt64(offset))
        bytes.appendVarint(UInt64(lengths.count))
        for length in lengths { bytes.appendVarint(UInt64(length)) }
    }

    init(offset: Int, lengths: [Int]) {
        self.offset = offset
        self.lengths = lengths
    }

    init(_ cursor: inout ByteCursor, end: Int) throws(ObsError) {
        offset = try cursor.count(max: end)
        lengths = []
        var rest = end - offset
        for _ in 0..<(try cursor.count(max: 255)) {
            lengths.append(try cursor.count(max: rest))
            rest -= lengths[lengths.count - 1]
        }
    }
}

extension EventBlockPlaces {
    /// What columns of texts come to when they are read, about: they hardly are a twentieth of it.
    func textBytes(_ columns: [Int]) -> Int { min(columns.reduce(0) { $0 + place($1).length } * 20, 2 * SegmentLimits.blockBytesMax) }

    /// Blocks from this size on are copied by a merge; smaller ones are joined with others.
    /// - Parameter streams: in the block; one of many small streams is small.
    func isBig(rows: Int, streams: Int = 1) -> Bool {
        let parts = max(2, streams)
        return rows >= parts * SegmentLimits.blockRowsMin / 2 || bytes >= parts * SegmentLimits.blockBytesMax / 32
    }
}

extension SegmentFile {
    /// All frames of a block as they lie.
    func frames(_ places: EventBlockPlaces) throws(ObsError) -> (bytes: [UInt8], checksums: [UInt64]) {
        guard places.bytes > 0 else { return ([], []) }
        let found = try frames(at: FramePlace(offset: places.offset, length: places.bytes))
        guard found.checksums.count == places.lengths.filter({ $0 > 0 }).count else {
            throw ObsError(.corrupt, "frames of a block are not those of the block index", place: "\(path):\(places.offset)")
        }
        return found
    }

    /// Bytes of a block's columns when decompressed.
    func contentBytes(_ places: EventBlockPlaces) throws(ObsError) -> Int {
        var bytes = 0
        for column in places.lengths.indices where places.lengths[column] > 0 { bytes += try contentBytes(places.place(column)) }
        return bytes
    }
}

/// Whether a block ends before the next row.
/// - Parameters:
///   - rest: rows to come: a few of them make the block longer rather than one of their own that each merge would have to join.
///   - isApart: whether the next row begins something that is better read by itself.
func mustCut(rows: Int, textBytes: Int, rest: Int, isApart: Bool, rowsMin: Int) -> Bool {
    if textBytes >= SegmentLimits.blockBytesMax || rows >= SegmentLimits.blockRowsMax + SegmentLimits.blockRowsMin { return true }
    return rest >= SegmentLimits.blockRowsMin && (rows >= SegmentLimits.blockRowsMax || isApart && rows >= rowsMin)
}

/// Writes the columns of one block, in column order.
struct EventBlockWriter {
    let file: SegmentFileWriter
    private(set) var offset = 0
    private(set) var lengths: [Int] = []

    init(_ file: SegmentFileWriter) { self.file = file }

    var places: EventBlockPlaces { EventBlockPlaces(offset: offset, lengths: lengths) }

    mutating func skipColumn() { lengths.append(0) }

    mutating func column(_ encode: (inout [UInt8]) -> Void) throws(ObsError) {
        var content: [UInt8] = []
        encode(&content)
        let place = try file.append(content)
        if offset == 0 { offset = place.offset }
        lengths.append(place.length)
    }

    /// Integers whose default is 0.
    mutating func integers<T: FixedWidthInteger>(_ values: [T]) throws(ObsError) {
        if values.allSatisfy({ $0 == 0 }) { return skipColumn() }
        try column { IntegerCodec.append(converting: values, to: &$0) }
    }

    /// Strings whose default is empty.
    mutating func strings(_ ranges: [ByteRange], of bytes: [UInt8]) throws(ObsError) {
        if ranges.allSatisfy(\.isEmpty) { return skipColumn() }
        try column { StringColumn.append(ranges, of: bytes, to: &$0) }
    }

    /// Texts whose default is empty.
    /// - Parameters:
    ///   - times: of the rows; the reader has the same.
    ///   - filter: becomes what says which bytes are in none of them, a column to be written by itself.
    ///   - fields: is told of their fields.
    mutating func texts(
        _ ranges: [ByteRange], of bytes: [UInt8], as content: TextColumn.Content, times: [Int64] = [], filter: inout [UInt8],
        fields: FieldStatisticsWriter? = nil
    ) throws(ObsError) {
        if ranges.allSatisfy(\.isEmpty) {
            fields?.nothing(content)
            return skipColumn()
        }
        var column = [TextColumn.tag]
        bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: file.level, to: &column, filter: &filter, fields: fields) }
        try packed(column)
    }

    mutating func texts(_ ranges: [ByteRange], of bytes: [UInt8], as content: TextColumn.Content, times: [Int64] = []) throws(ObsError) {
        if ranges.allSatisfy(\.isEmpty) { return skipColumn() }
        var column = [TextColumn.tag]
        bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: file.level, to: &column) }
        try packed(column)
    }

    /// Bytes that compress no more; no frame for none.
    mutating func packed(_ content: [UInt8]) throws(ObsError) {
        if content.isEmpty { return skipColumn() }
        let place = try file.append(content, isPacked: true)
        if offset == 0 { offset = place.offset }
        lengths.append(place.length)
    }

    mutating func traceIDs(_ ids: [TraceID]) throws(ObsError) {
        if ids.allSatisfy(\.isNone) { return skipColumn() }
        try column { TraceIDColumn.append(ids, to: &$0) }
    }

    /// A table of strings whose entry 0 is the empty one, parallel tables, and each row's index into them.
    mutating func table(_ tables: [[ByteRange]], of bytes: [UInt8], rows: [UInt32]) throws(ObsError) {
        if rows.allSatisfy({ $0 == 0 }) { return skipColumn() }
        try column { output in
            output.appendVarint(UInt64(tables[0].count))
            for table in tables { StringColumn.append(table, of: bytes, to: &output) }
            IntegerCodec.append(converting: rows, to: &output)
        }
    }
}

/// Reads columns of one block; counterpart of `EventBlockWriter`.
struct EventBlockReader {
    let file: SegmentFile
    let places: EventBlockPlaces
    let rows: Int

    func integers<T: FixedWidthInteger>(_ column: Int, as type: T.Type) throws(ObsError) -> [T] {
        let place = places.place(column)
        if place.isNone { return [T](repeating: 0, count: rows) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [T] in try IntegerCodec.decode(&cursor, count: rows, as: type) }
    }

    func strings(_ column: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let place = places.place(column)
        if place.isNone { return [ByteRange](repeating: .empty, count: rows) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [ByteRange] in
            try StringColumn.decode(&cursor, count: rows, into: &bytes)
        }
    }

    func texts(_ column: Int, times: [Int64] = [], into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let place = places.place(column)
        if place.isNone { return [ByteRange](repeating: .empty, count: rows) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [ByteRange] in
            // Blocks of version 1 are copied into files of version 2 as they are.
            guard cursor.bytes.first == TextColumn.tag else { return try StringColumn.decode(&cursor, count: rows, into: &bytes) }
            _ = try cursor.u8()
            let column = try cursor.take(cursor.remaining)
            return try TextColumn.decode(column, count: rows, times: times, bytesMax: Frame.rawBytesMax, into: &bytes)
        }
    }

    func traceIDs(_ column: Int) throws(ObsError) -> [TraceID] {
        let place = places.place(column)
        if place.isNone { return [TraceID](repeating: .none, count: rows) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> [TraceID] in try TraceIDColumn.decode(&cursor, count: rows) }
    }

    /// `tables` parallel tables and the indices.
    func table(_ column: Int, tables count: Int, into bytes: inout [UInt8]) throws(ObsError) -> (tables: [[ByteRange]], rows: [UInt32]) {
        let place = places.place(column)
        if place.isNone { return ([[ByteRange]](repeating: [.empty], count: count), [UInt32](repeating: 0, count: rows)) }
        return try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> (tables: [[ByteRange]], rows: [UInt32]) in
            let entries = try cursor.count(max: rows + 1)
            var tables: [[ByteRange]] = []
            for _ in 0..<count { tables.append(try StringColumn.decode(&cursor, count: entries, into: &bytes)) }
            let indices = try IntegerCodec.decode(&cursor, count: rows, as: UInt32.self)
            guard indices.allSatisfy({ Int($0) < entries }) else { throw ObsError(.corrupt, "row points past a table of \(entries)") }
            return (tables, indices)
        }
    }
}

/// Collects the entries of a block's table (resources, scopes): equal bytes, one entry. Entry 0 is the empty one.
struct BlockTable {
    private var interner = ByteInterner()
    /// In `bytes` of the block.
    private(set) var ranges: [ByteRange] = [.empty]

    init() { _ = interner.intern([]) }

    /// Number of the entry, appended to `bytes` if it is new.
    mutating func intern(_ text: UnsafeRawBufferPointer, into bytes: inout [UInt8]) -> (number: UInt32, isNew: Bool) {
        let number = interner.intern(text)
        guard number == ranges.count else { return (UInt32(number), false) }
        ranges.append(bytes.intern(text))
        return (UInt32(number), true)
    }
}
