internal import Glibc

/// A piece of a batch's `bytes`: batches hold text as ranges into one buffer, never as an object each.
/// What is `@inlinable` in this file is called for every label and text: a call over a module's wall each costs more than the work.
@usableFromInline
package struct ByteRange: Sendable, Equatable, BitwiseCopyable {
    @usableFromInline package var offset: UInt32
    @usableFromInline package var count: UInt32
    package static let empty = ByteRange(offset: 0, count: 0)

    @inlinable package init(offset: UInt32, count: UInt32) {
        self.offset = offset
        self.count = count
    }

    @inlinable package init(_ range: Range<Int>) { self.init(offset: UInt32(range.lowerBound), count: UInt32(range.count)) }
    @inlinable package var isEmpty: Bool { count == 0 }
    @inlinable package var range: Range<Int> { Int(offset)..<Int(offset) + Int(count) }
}

extension [UInt8] {
    /// Appends and returns where the bytes went.
    package mutating func intern(_ text: some Sequence<UInt8>) -> ByteRange {
        let start = count
        append(contentsOf: text)
        return ByteRange(start..<count)
    }

    @inlinable
    package mutating func intern(_ text: UnsafeRawBufferPointer) -> ByteRange {
        let start = count
        append(contentsOf: text)
        return ByteRange(start..<count)
    }

    package func string(_ range: ByteRange) -> String { String(decoding: self[range.range], as: UTF8.self) }

    /// Unsigned LEB128, at most ten bytes.
    @inlinable
    package mutating func appendVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(truncatingIfNeeded: rest))
    }

    package mutating func appendLittleEndian<T: FixedWidthInteger>(_ value: T) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}

/// Reads unsigned LEB128 from `bytes` at `position`, moving it past. Nil when the bytes end early or the value needs more than 64 bits.
@inlinable
package func readVarint(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    var at = position
    while at < bytes.count, shift < 64 {
        let byte = bytes[at]
        at += 1
        if shift == 63, byte > 1 { return nil }
        value |= UInt64(byte & 0x7f) << shift
        if byte < 0x80 {
            position = at
            return value
        }
        shift += 7
    }
    return nil
}

/// Bytewise order, shorter first when one is a prefix of the other.
package func compareBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let shared = min(a.count, b.count)
    if shared > 0, let x = a.baseAddress, let y = b.baseAddress {
        let order = memcmp(x, y, shared)
        if order != 0 { return Int(order) }
    }
    return a.count - b.count
}
