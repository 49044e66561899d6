internal import Glibc

/// Finds bytes in bytes. Candidates come from memchr, which the C library does 32 and more bytes at a time, asked for the needle's byte that texts have least of.
struct ByteSearch {
    /// How common bytes are in logs, from what is most: a guess that costs only time.
    private static let ranks: [UInt8] = {
        var ranks = [UInt8](repeating: 0, count: 256)
        for byte in UInt8(ascii: "!")...UInt8(ascii: "~") { ranks[Int(byte)] = 20 }
        for byte in UInt8(ascii: "A")...UInt8(ascii: "Z") { ranks[Int(byte)] = 30 }
        for (index, byte) in " e0ta1oirns2\"d.3:lc5-4,u6/mp78h9_fgbw=kvyx".utf8.enumerated() { ranks[Int(byte)] = UInt8(200 - index * 3) }
        return ranks
    }()
    private let needle: UnsafeRawBufferPointer
    /// Of the byte that is looked for.
    private let rare: Int

    /// - Parameter needle: borrowed; one byte at least.
    init(_ needle: UnsafeRawBufferPointer) {
        self.needle = needle
        rare = needle.indices.min { Self.ranks[Int(needle[$0])] < Self.ranks[Int(needle[$1])] } ?? 0
    }

    /// Where the needle is first, from `start` on.
    func first(in text: UnsafeRawBufferPointer, from start: Int = 0) -> Int? {
        guard let base = text.baseAddress, let bytes = needle.baseAddress, text.count >= needle.count else { return nil }
        var at = start
        let last = text.count &- needle.count
        while at <= last, let found = memchr(base + (at &+ rare), Int32(needle[rare]), last &- at &+ 1) {
            at = UnsafeRawPointer(found) - base &- rare
            if memcmp(base + at, bytes, needle.count) == 0 { return at }
            at &+= 1
        }
        return nil
    }
}
