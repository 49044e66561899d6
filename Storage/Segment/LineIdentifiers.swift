// Identifiers that stand in their lines.
//
// A line of JSON often says which trace it belongs to, and then the record does too: that is how one gets from a trace to its lines. The line keeps its bytes, so the
// record's column would have sixteen random bytes a second time, a fifth of what such a line takes. It has where they are in the line instead: so many bytes
// after its start or before its end, whichever differs less from row to row, which is mostly the same number for all lines of a program.

internal import ObsCore
internal import ObsEncoding

/// What is written in lines as lower-case hexadecimal digits, all of them.
protocol LineIdentifier: Equatable {
    static var none: Self { get }
    /// Two digits a byte.
    static var bytes: Int { get }
    /// From the first byte, the most significant, on.
    subscript(byte: Int) -> UInt8 { get }
    mutating func append(_ byte: UInt8)
}

extension TraceID: LineIdentifier {
    static var bytes: Int { 16 }
    subscript(byte: Int) -> UInt8 { byte < 8 ? high[byte] : low[byte - 8] }
    mutating func append(_ byte: UInt8) {
        high = high << 8 | low >> 56
        low.append(byte)
    }
}

extension SpanID: LineIdentifier {
    static var none: SpanID { 0 }
    static var bytes: Int { 8 }
    subscript(byte: Int) -> UInt8 { UInt8(truncatingIfNeeded: self >> UInt64(56 - 8 * byte)) }
    mutating func append(_ byte: UInt8) { self = self << 8 | UInt64(byte) }
}

enum LineIdentifiers {
    /// Takes identifiers that stand in their lines out of their column.
    /// - Returns: of each row its place, as `put` wants it; empty when there is none.
    static func take<ID: LineIdentifier>(_ ids: inout [ID], lines: [ByteRange], of bytes: [UInt8]) -> [Int64] {
        guard ids.contains(where: { $0 != .none }) else { return [] }
        var fromStart = [Int64](repeating: 0, count: ids.count)
        var fromEnd = fromStart
        var digits = [UInt8](repeating: 0, count: ID.bytes * 2)
        var isFound = false
        var guess = 0
        bytes.withUnsafeBytes { bytes in
            for row in ids.indices where ids[row] != .none {
                let line = UnsafeRawBufferPointer(rebasing: bytes[lines[row].range])
                write(ids[row], &digits)
                guard let place = find(digits, in: line, guess: line.count - guess) else { continue }
                isFound = true
                guess = line.count - place
                ids[row] = .none
                fromStart[row] = Int64(place) + 1
                fromEnd[row] = Int64(place + digits.count - line.count) - 1
            }
        }
        guard isFound else { return [] }
        return encodedCount(fromStart) < encodedCount(fromEnd) ? fromStart : fromEnd
    }

    private static func encodedCount(_ values: [Int64]) -> Int {
        var bytes: [UInt8] = []
        IntegerCodec.append(values, to: &bytes)
        return bytes.count
    }

    private static func write<ID: LineIdentifier>(_ id: ID, _ digits: inout [UInt8]) {
        for byte in 0..<ID.bytes {
            digits[2 * byte] = digit(id[byte] >> 4)
            digits[2 * byte + 1] = digit(id[byte] & 15)
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10 }

    private static func find(_ digits: [UInt8], in line: UnsafeRawBufferPointer, guess: Int) -> Int? {
        if guess >= 0, guess <= line.count - digits.count, line[guess..<guess + digits.count].elementsEqual(digits) { return guess }
        return ByteSearch(digits).first(in: line)
    }

    /// Puts identifiers back that `take` took out.
    /// - Parameters:
    ///   - places: of each row: 0 for none in the line, n for n - 1 bytes after its start, -n for n - 1 bytes before its end; empty when there is none.
    ///   - lines: of the same rows.
    static func put<ID: LineIdentifier>(_ ids: inout [ID], places: [Int64], lines: [ByteRange], of bytes: [UInt8]) throws(ObsError) {
        for (row, place) in places.enumerated() where place != 0 {
            let line = lines[row].range
            let (offset, width) = (place > 0 ? place - 1 : Int64(line.count - ID.bytes * 2) + place + 1, ID.bytes * 2)
            guard offset >= 0, offset <= Int64(line.count - width), let id = read(ID.self, bytes, line.lowerBound + Int(offset)) else {
                throw ObsError(.corrupt, "no identifier at \(place) of a line of \(line.count) bytes")
            }
            ids[row] = id
        }
    }

    private static func read<ID: LineIdentifier>(_ type: ID.Type, _ bytes: [UInt8], _ start: Int) -> ID? {
        var id = ID.none
        for byte in 0..<ID.bytes {
            guard let high = hexValue(bytes[start + 2 * byte]), let low = hexValue(bytes[start + 2 * byte + 1]) else { return nil }
            id.append(high << 4 | low)
        }
        return id
    }
}
