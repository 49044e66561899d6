package import ObsCore

/// A column of byte strings, given and taken as ranges of one buffer.
///
/// ```
/// form u8
///   0 constant    varint length · bytes
///   1 plain       lengths by IntegerCodec · bytes of all, back to back
///   2 dictionary  varint distinct · lengths · bytes (in order of first appearance) · indices by IntegerCodec
/// ```
package enum StringColumn {
    private enum Form: UInt8 { case constant = 0, plain, dictionary }

    package static func append(_ ranges: [ByteRange], of bytes: UnsafeRawBufferPointer, to output: inout [UInt8]) {
        guard let first = ranges.first else { return }
        let text = UnsafeRawBufferPointer(rebasing: bytes[first.range])
        if ranges.allSatisfy({ $0 == first || ($0.count == first.count && compareBytes(UnsafeRawBufferPointer(rebasing: bytes[$0.range]), text) == 0) }) {
            output.append(Form.constant.rawValue)
            output.appendText(text)
        } else if let (dictionary, indices) = dictionary(ranges, bytes) {
            output.append(Form.dictionary.rawValue)
            output.appendVarint(UInt64(dictionary.count))
            IntegerCodec.append((0..<dictionary.count).map { Int64(dictionary.range($0).count) }, to: &output)
            output.append(contentsOf: dictionary.bytes)
            IntegerCodec.append(indices, to: &output)
        } else {
            output.append(Form.plain.rawValue)
            IntegerCodec.append(ranges.map { Int64($0.count) }, to: &output)
            output.reserveCapacity(output.count + ranges.reduce(0) { $0 + Int($1.count) })
            for range in ranges { output.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[range.range])) }
        }
    }

    package static func append(_ ranges: [ByteRange], of bytes: [UInt8], to output: inout [UInt8]) {
        bytes.withUnsafeBytes { append(ranges, of: $0, to: &output) }
    }

    /// Appends the strings to `bytes` (repeated ones once) and returns where each is.
    package static func decode(_ cursor: inout ByteCursor, count: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        guard count > 0 else { return [] }
        let tag = try cursor.u8()
        switch Form(rawValue: tag) {
        case .constant:
            let text = try cursor.text()
            try checkRoom(bytes, text.count)
            return [ByteRange](repeating: bytes.intern(text), count: count)
        case .plain: return try decodeStrings(&cursor, count: count, into: &bytes)
        case .dictionary:
            let distinct = try cursor.count(max: count)
            let strings = try decodeStrings(&cursor, count: distinct, into: &bytes)
            let indices = try IntegerCodec.decode(&cursor, count: count)
            var ranges: [ByteRange] = []
            ranges.reserveCapacity(count)
            for index in indices {
                guard index >= 0, index < distinct else { throw ObsError(.corrupt, "dictionary index \(index) of \(distinct)") }
                ranges.append(strings[Int(index)])
            }
            return ranges
        case nil: throw ObsError(.corrupt, "unknown string encoding \(tag)")
        }
    }

    private static func decodeStrings(_ cursor: inout ByteCursor, count: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let lengths = try IntegerCodec.decode(&cursor, count: count)
        var total = 0
        for length in lengths {
            guard length >= 0, length <= Int64(cursor.remaining - total) else { throw ObsError(.corrupt, "string of \(length) bytes past the end") }
            total += Int(length)
        }
        try checkRoom(bytes, total)
        var start = UInt32(bytes.count)
        bytes.append(contentsOf: try cursor.take(total))
        var ranges: [ByteRange] = []
        ranges.reserveCapacity(count)
        for length in lengths {
            ranges.append(ByteRange(offset: start, count: UInt32(length)))
            start += UInt32(length)
        }
        return ranges
    }

    private static func checkRoom(_ bytes: [UInt8], _ more: Int) throws(ObsError) {
        guard bytes.count + more <= Int(UInt32.max) else { throw ObsError(.corrupt, "strings of more than 4 GiB") }
    }

    /// Nil when the strings repeat too little for the indices to pay.
    private static func dictionary(_ ranges: [ByteRange], _ bytes: UnsafeRawBufferPointer) -> (ByteInterner, [Int64])? {
        var dictionary = ByteInterner()
        var indices = [Int64](repeating: 0, count: ranges.count)
        for (row, range) in ranges.enumerated() {
            indices[row] = Int64(dictionary.intern(UnsafeRawBufferPointer(rebasing: bytes[range.range])))
            // Give up early on columns that are all different, late on those that only begin so.
            if row == 1023 || row == ranges.count / 4, dictionary.count * 4 > (row + 1) * 3 { return nil }
        }
        return dictionary.count * 2 <= ranges.count ? (dictionary, indices) : nil
    }
}

/// A column of trace ids: most are absent or repeat.
///
/// `varint distinct · distinct × 16 bytes · indices by IntegerCodec`; ids most significant byte first, in order of first appearance.
package enum TraceIDColumn {
    package static func append(_ ids: [TraceID], to output: inout [UInt8]) {
        guard !ids.isEmpty else { return }
        var numbers = TraceIDNumbers(capacity: ids.count)
        var indices = [Int64](repeating: 0, count: ids.count)
        for (row, id) in ids.enumerated() { indices[row] = row > 0 && id == ids[row - 1] ? indices[row - 1] : Int64(numbers.number(of: id)) }
        let distinct = numbers.distinct
        output.appendVarint(UInt64(distinct.count))
        for id in distinct {
            output.appendLittleEndian(id.high.byteSwapped)
            output.appendLittleEndian(id.low.byteSwapped)
        }
        IntegerCodec.append(indices, to: &output)
    }

    package static func decode(_ cursor: inout ByteCursor, count: Int) throws(ObsError) -> [TraceID] {
        guard count > 0 else { return [] }
        let distinct = try cursor.count(max: min(count, cursor.remaining / 16))
        var ids: [TraceID] = []
        ids.reserveCapacity(distinct)
        for _ in 0..<distinct { ids.append(TraceID(high: try cursor.u64().byteSwapped, low: try cursor.u64().byteSwapped)) }
        let indices = try IntegerCodec.decode(&cursor, count: count)
        var result: [TraceID] = []
        result.reserveCapacity(count)
        for index in indices {
            guard index >= 0, index < distinct else { throw ObsError(.corrupt, "trace id index \(index) of \(distinct)") }
            result.append(ids[Int(index)])
        }
        return result
    }
}

/// Gives equal ids equal numbers, counted from 0 in the order they first came. A table of its own since the standard dictionary was a tenth of a flush.
private struct TraceIDNumbers {
    private(set) var distinct: [TraceID] = []
    /// Number + 1; 0 is free. A power of two long, at most half full.
    private var slots: [UInt32]
    /// Not to be guessed by who sends ids that collide.
    private static let seed = (UInt64.random(in: 0 ... .max), UInt64.random(in: 0 ... .max))
    private let seed = Self.seed

    /// - Parameter capacity: ids at most.
    init(capacity: Int) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        slots = [UInt32](repeating: 0, count: size)
    }

    mutating func number(of id: TraceID) -> Int {
        let product = (id.high ^ seed.0).multipliedFullWidth(by: id.low ^ seed.1)
        var slot = Int(truncatingIfNeeded: product.high ^ product.low) & (slots.count - 1)
        while slots[slot] != 0 {
            let number = Int(slots[slot]) - 1
            if distinct[number].high == id.high, distinct[number].low == id.low { return number }
            slot = (slot + 1) & (slots.count - 1)
        }
        distinct.append(id)
        slots[slot] = UInt32(distinct.count)
        return distinct.count - 1
    }
}
