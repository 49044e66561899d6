internal import ObsCore
internal import ObsHash

/// An array for loops that run for every slot of every text: of one owner, never copied, its places checked in debug builds only.
struct Buffer<Element: BitwiseCopyable>: ~Copyable {
    private(set) var base: UnsafeMutablePointer<Element>
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 0) {
        self.capacity = max(capacity, 16)
        base = .allocate(capacity: self.capacity)
    }

    init(repeating element: Element, count: Int) {
        self.init(capacity: count)
        base.initialize(repeating: element, count: count)
        self.count = count
    }

    deinit { base.deallocate() }

    var all: UnsafeBufferPointer<Element> { UnsafeBufferPointer(start: base, count: count) }

    subscript(_ index: Int) -> Element {
        @inline(__always) get {
            assert(index >= 0 && index < count)
            return base[index]
        }
        @inline(__always) nonmutating set {
            assert(index >= 0 && index < count)
            base[index] = newValue
        }
    }

    @inline(__always)
    mutating func append(_ element: Element) {
        if count == capacity { grow(to: count + 1) }
        (base + count).initialize(to: element)
        count &+= 1
    }

    /// Makes it so long, what is in it unknown.
    mutating func resize(_ count: Int) {
        self.count = 0
        if count > capacity { grow(to: count) }
        self.count = count
    }

    @inline(never)
    private mutating func grow(to least: Int) {
        capacity = max(least, capacity * 2)
        let grown = UnsafeMutablePointer<Element>.allocate(capacity: capacity)
        grown.update(from: base, count: count)
        base.deallocate()
        base = grown
    }
}

/// The bytes that texts lie in, read without asking whether they are inside: who reads knows it from the text's range.
struct TextBytes {
    let base: UnsafePointer<UInt8>
    let count: Int

    /// - Parameter bytes: borrowed.
    init(_ bytes: UnsafeRawBufferPointer) {
        count = bytes.count
        // Of no bytes none is read.
        base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? ByteClass.table
    }

    @inline(__always)
    subscript(_ offset: Int) -> UInt8 {
        assert(offset >= 0 && offset < count)
        return base[offset]
    }

    func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + Int(range.offset), count: Int(range.count)) }

    @inline(__always)
    private func word<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: T.Type) -> T {
        assert(offset >= 0 && offset + T.bitWidth / 8 <= count)
        return T(littleEndian: UnsafeRawPointer(base + offset).loadUnaligned(as: T.self))
    }

    /// Eight bytes from here on, the first lowest; only where `hasEight`.
    @inline(__always)
    func eight(_ offset: Int) -> UInt64 { word(offset, as: UInt64.self) }

    @inline(__always)
    func hasEight(_ offset: Int) -> Bool { offset &+ 8 <= count }

    /// Up to eight bytes as a number, the first lowest, zeros behind the last.
    @inline(__always)
    func upToEight(_ offset: Int, _ length: Int) -> UInt64 {
        if length >= 8 { return eight(offset) }
        if length >= 4 { return UInt64(word(offset, as: UInt32.self)) | UInt64(word(offset + length - 4, as: UInt32.self)) << UInt64((length - 4) * 8) }
        if length == 0 { return 0 }
        return UInt64(self[offset]) | UInt64(self[offset + length / 2]) << UInt64(length / 2 * 8) | UInt64(self[offset + length - 1])
            << UInt64((length - 1) * 8)
    }

    /// Whether `length` bytes are the same.
    @inline(__always)
    func isSame(_ a: Int, _ b: Int, _ length: Int) -> Bool {
        if length < 8 { return upToEight(a, length) == upToEight(b, length) }
        var at = 0
        while at &+ 8 <= length {
            if eight(a &+ at) != eight(b &+ at) { return false }
            at &+= 8
        }
        return eight(a &+ length &- 8) == eight(b &+ length &- 8)
    }

    @inline(__always)
    func isSame(_ a: ByteRange, _ b: ByteRange) -> Bool { a.count == b.count && (a.offset == b.offset || isSame(Int(a.offset), Int(b.offset), Int(a.count))) }

    /// A hash of a text. Long ones by XXH3.
    @inline(__always)
    func hash(_ range: ByteRange) -> UInt32 {
        let (offset, length) = (Int(range.offset), Int(range.count))
        guard length <= 16 else { return UInt32(truncatingIfNeeded: hash64(text(range))) }
        let low = upToEight(offset, length)
        let high = length > 8 ? eight(offset &+ length &- 8) : 0
        let product = (low ^ 0x9e37_79b9_7f4a_7c15 ^ UInt64(length)).multipliedFullWidth(by: (high ^ 0xd6e8_feb8_6659_fd93))
        return UInt32(truncatingIfNeeded: (product.high ^ product.low) >> 16)
    }
}
