// Columns of texts: log lines, and the attributes of records and spans.
//
// What writes texts is programs, and a program has few statements that do. So a text is split into what its statement wrote, the *shape*, and what differed, the
// values in its *slots* (`SlotRule`). Shapes are kept once; which shape a row has is a small number; and each slot of a shape is a column of texts of its
// own, of which one asks the same question again: are they all the same? all numbers? hexadecimal? times? few, so that a dictionary pays? or have they shapes
// themselves, as the `msg` of a JSON line has? A line of JSON so becomes columns of numbers and names, its message columns of the words that vary, an
// address in it columns of bytes, and what is left to the entropy coder is little more than what nobody could have known. A date, whatever its format, becomes
// columns of hours, minutes and seconds, and those are mostly the record's time, which is known (`ClockText`).
//
// Three things keep this honest. No choice can lose a byte: slots are cut out and put back, and a kind of value is only taken when all values of the column
// print as they were. Every choice is bounded: shapes that few rows have share their columns, what has no shape is stored as it came, shapes within shapes end at three. And
// all is local to a block: no state outlives it, so blocks can be copied from file to file.
//
// ```
// streams (`Streams.swift`); stream 0 is the plan, a tree of columns in the order written:
// column   form u8 ...
//   0 constant    text
//   1 plain       lengths (stream of integers) · bytes (stream)
//   2 dictionary  varint d · column of the d texts · index of each row (stream of integers)
//   3 integers    varint width, 0 for canonical · stream of integers
//   4 decimals    varint scale · ending u8 · stream of integers
//   5 hex         varint digits · upper u8 · stream of bytes
//   6 times       varint digits · stream of integers: what the instant is after the row's time
//   7 shapes      varint shapes · varint columns · shapes (stream) · shape of each row (stream of integers) · column × columns
//   8 int64       stream of integers: values of 8 bytes, little endian
//   9 float64     stream of floats: likewise
//  10 clock       part u8 · varint digits · varint width · varint scale · stream of integers: what the number is after that part of the row's time
//  11 instants    stream of integers: values of 8 bytes, little endian, less the row's time
// shape    varint slots · (varint column << 1 | whether the value's length, a varint, stands in front of it) × slots
//          varint length of each piece around them × (slots + 1) · pieces
// ```
// The rows of a slot's column are the rows of its shapes that have it, in order, a row's slots from left to right. A stream's number is not stored: streams are
// counted in the order the plan names them.
//
// Packing is half of what a log line costs, so it looks at little: a text that goes on as one before it did is compared, not scanned (`ShapeTable`), and a look at
// some values spread over a column says which kinds its values can be at all (`TextLook`).
internal import ObsCompress
package import ObsCore

package enum TextColumn {
    enum Form: UInt8 { case constant = 0, plain, dictionary, integers, decimals, hex, times, shapes, int64, float64, clock, instants }

    /// Stands before a column where strings (`StringColumn`, whose forms are below it) could be.
    package static let tag: UInt8 = 3

    /// Nesting of columns within columns, dictionaries counted.
    static let depthMax = 8

    /// What the texts are, which is where the search for slots begins.
    package enum Content { case lines, attributes, events, links }

    /// - Parameters:
    ///   - ranges: the texts, of `bytes`.
    ///   - times: of the rows, nanoseconds; the decoder needs the same. None where rows have no time.
    ///   - level: of zstd.
    package static func append(
        _ ranges: [ByteRange], of bytes: UnsafeRawBufferPointer, as content: Content = .lines, times: [Int64] = [], level: Int, to output: inout [UInt8]
    ) {
        write(ranges, of: bytes, as: content, times: times, level: level, to: &output, nil, nil)
    }

    /// Likewise, and gives the bytes of a `TextFilter` in `filter`, and tells `fields` of the texts' fields.
    package static func append(
        _ ranges: [ByteRange], of bytes: UnsafeRawBufferPointer, as content: Content = .lines, times: [Int64] = [], level: Int, to output: inout [UInt8],
        filter: inout [UInt8], fields: FieldStatisticsWriter? = nil
    ) {
        let writer = TextFilterWriter(rows: ranges.count)
        fields?.begin(content)
        write(ranges, of: bytes, as: content, times: times, level: level, to: &output, writer, fields)
        fields?.end()
        filter = writer.finish()
    }

    private static func write(
        _ ranges: [ByteRange], of bytes: UnsafeRawBufferPointer, as content: Content, times: [Int64], level: Int, to output: inout [UInt8],
        _ filter: TextFilterWriter?, _ fields: FieldStatisticsWriter?
    ) {
        precondition(times.isEmpty || times.count == ranges.count, "BUG: \(times.count) times of \(ranges.count) texts")
        let rule: TextRules =
            switch content {
            case .lines: .lines
            case .attributes: .attributes
            case .events: .events
            case .links: .links
            }
        ZstdContext.borrow { zstd in
            ranges.withUnsafeBufferPointer { texts in
                times.withUnsafeBufferPointer { times in
                    TextColumnWriter(bytes, times: times, level: level, zstd, filter: filter, fields: fields).write(texts, rule: rule, into: &output)
                }
            }
        }
    }

    /// Appends the texts to `bytes` and returns where each is.
    ///
    /// - Parameters:
    ///   - count: of rows, known from elsewhere.
    ///   - bytesMax: what `bytes` may grow by: a forged column of few bytes could be of any size.
    package static func decode(
        _ column: UnsafeRawBufferPointer, count: Int, times: [Int64] = [], bytesMax: Int, into bytes: inout [UInt8]
    ) throws(ObsError) -> [ByteRange] {
        let view = try TextView(try StreamReader(column, rawBytesMax: bytesMax), count: count, times: times, bytesMax: bytesMax)
        return try view.texts(of: nil, into: &bytes)
    }
}
