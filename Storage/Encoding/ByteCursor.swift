package import ObsCore

/// A bounds-checked reader of stored bytes. Whatever they hold, it throws `.corrupt` or returns; it never reads outside.
///
/// The cursor borrows the memory: use it within the closure that lent the buffer, see `decoding`.
/// Errors carry no place: who knows file and offset adds them (`ObsError.located`).
package struct ByteCursor {
    package let bytes: UnsafeRawBufferPointer
    package private(set) var position = 0

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    package var remaining: Int { bytes.count - position }
    package var isAtEnd: Bool { position == bytes.count }

    package mutating func u8() throws(ObsError) -> UInt8 {
        guard position < bytes.count else { throw ended() }
        position += 1
        return bytes[position - 1]
    }

    package mutating func u16() throws(ObsError) -> UInt16 { try fixed(UInt16.self) }
    package mutating func u32() throws(ObsError) -> UInt32 { try fixed(UInt32.self) }
    package mutating func u64() throws(ObsError) -> UInt64 { try fixed(UInt64.self) }

    /// Little endian.
    private mutating func fixed<T: FixedWidthInteger>(_ type: T.Type) throws(ObsError) -> T {
        let width = MemoryLayout<T>.size
        guard remaining >= width else { throw ended() }
        defer { position += width }
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: T.self))
    }

    package mutating func varint() throws(ObsError) -> UInt64 {
        guard let value = readVarint(bytes, &position) else { throw ended() }
        return value
    }

    package mutating func zigzag() throws(ObsError) -> Int64 { unzigzag(try varint()) }

    /// A count or length that is at most `limit`: the check that keeps damaged bytes from becoming an allocation.
    package mutating func count(max limit: Int) throws(ObsError) -> Int {
        let value = try varint()
        guard value <= UInt64(limit) else { throw ObsError(.corrupt, "count \(value) is past its bound \(limit)") }
        return Int(value)
    }

    package mutating func take(_ count: Int) throws(ObsError) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else { throw ended() }
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
    }

    /// `varint length · bytes`.
    package mutating func text() throws(ObsError) -> UnsafeRawBufferPointer { try take(try count(max: remaining)) }

    package mutating func string() throws(ObsError) -> String { String(decoding: try text(), as: UTF8.self) }

    /// - Throws: `.corrupt` unless everything was read: the reader's half of every length check.
    package func expectEnd() throws(ObsError) {
        if !isAtEnd { throw ObsError(.corrupt, "\(remaining) bytes too many") }
    }

    private func ended() -> ObsError { ObsError(.corrupt, "bytes end early, at \(position) of \(bytes.count)") }
}

/// Lends an array's bytes to a decoder.
package func decoding<R>(_ bytes: [UInt8], _ body: (inout ByteCursor) throws(ObsError) -> R) throws(ObsError) -> R {
    let result: Result<R, ObsError> = bytes.withUnsafeBytes { raw in
        var cursor = ByteCursor(raw)
        do throws(ObsError) { return .success(try body(&cursor)) } catch { return .failure(error) }
    }
    return try result.get()
}

extension ObsError {
    /// Adds where a corruption is, if that is not known yet.
    package func located(_ place: @autoclosure () -> String) -> ObsError {
        guard code == .corrupt, self.place == nil else { return self }
        var copy = self
        copy.place = place()
        return copy
    }
}

/// Maps small numbers of either sign to small unsigned ones.
@inline(__always)
package func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: (value &<< 1) ^ (value &>> 63)) }

@inline(__always)
package func unzigzag(_ value: UInt64) -> Int64 { Int64(bitPattern: (value &>> 1) ^ (0 &- (value & 1))) }

extension [UInt8] {
    package mutating func appendZigzag(_ value: Int64) { appendVarint(zigzag(value)) }

    /// `varint length · bytes`.
    package mutating func appendText(_ text: UnsafeRawBufferPointer) {
        appendVarint(UInt64(text.count))
        append(contentsOf: text)
    }

    package mutating func appendText(_ text: some Collection<UInt8>) {
        appendVarint(UInt64(text.count))
        append(contentsOf: text)
    }
}
