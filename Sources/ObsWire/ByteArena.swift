package import ObsCore

/// The `bytes` of a batch while it is being written: a growing buffer behind a bare pointer.
///
/// Attributes are written in pieces of a few bytes; `Array.append` checks uniqueness and capacity for each. The arena checks once per entry (`reserve`),
/// then stores. `array()` copies the whole once at the end.
package struct ByteArena: ~Copyable {
    private var base: UnsafeMutableRawPointer
    private var capacity: Int
    package private(set) var count = 0

    package init(capacity: Int) {
        self.capacity = max(64, capacity)
        base = .allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    /// Makes room for `extra` more bytes, which the `append`s that follow may then fill.
    package mutating func reserve(_ extra: Int) {
        if extra > capacity - count { grow(by: extra) }
    }

    @inline(never)
    private mutating func grow(by extra: Int) {
        let larger = max(capacity * 2, count + extra)
        let fresh = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
        fresh.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = fresh
        capacity = larger
    }

    package mutating func append(_ byte: UInt8) {
        reserve(1)
        base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count += 1
    }

    package mutating func append(_ slice: UnsafeRawBufferPointer) {
        guard let source = slice.baseAddress else { return }
        reserve(slice.count)
        (base + count).copyMemory(from: source, byteCount: slice.count)
        count += slice.count
    }

    package mutating func append(_ text: StaticString) { append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

    package mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

    package mutating func append(_ other: borrowing ByteArena) { append(other.slice(0..<other.count)) }

    package mutating func appendVarint(_ value: UInt64) {
        reserve(10)
        if value < 0x80 {
            base.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: count, as: UInt8.self)
            count += 1
            return
        }
        var rest = value
        while rest >= 0x80 {
            base.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: count, as: UInt8.self)
            count += 1
            rest >>= 7
        }
        base.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: count, as: UInt8.self)
        count += 1
    }

    package mutating func appendLittleEndian(_ value: UInt64) {
        reserve(8)
        base.storeBytes(of: value.littleEndian, toByteOffset: count, as: UInt64.self)
        count += 8
    }

    package mutating func appendLittleEndian(_ value: UInt32) {
        reserve(4)
        base.storeBytes(of: value.littleEndian, toByteOffset: count, as: UInt32.self)
        count += 4
    }

    package mutating func appendBigEndian(_ value: UInt64) { appendLittleEndian(value.byteSwapped) }

    /// Appends and returns where the bytes went.
    package mutating func intern(_ slice: UnsafeRawBufferPointer) -> ByteRange {
        let start = count
        append(slice)
        return range(from: start)
    }

    package mutating func truncate(to count: Int) { self.count = min(count, self.count) }

    /// The range from `start` to the end; empty ranges are all equal. `array()` must have been found to fit 32 bits, see `fitsRanges`.
    package func range(from start: Int) -> ByteRange {
        start == count ? .empty : ByteRange(offset: UInt32(truncatingIfNeeded: start), count: UInt32(truncatingIfNeeded: count - start))
    }

    /// Whether every range handed out is true: ranges have 32 bits.
    package var fitsRanges: Bool { count <= Int(UInt32.max) }

    /// Bytes in place, valid until the next append.
    package func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count) }

    package func slice(_ range: ByteRange) -> UnsafeRawBufferPointer { slice(range.range) }

    package func array() -> [UInt8] { [UInt8](slice(0..<count)) }
}

/// Bytes of a request used as a key of a table, in place. The table must not outlive the request.
struct Slice: Hashable {
    let bytes: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    static func == (a: Slice, b: Slice) -> Bool { a.bytes.count == b.bytes.count && compareBytes(a.bytes, b.bytes) == 0 }
    func hash(into hasher: inout Hasher) { hasher.combine(bytes: bytes) }
}
