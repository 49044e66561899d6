internal import Glibc

/// Searches one text in many lines: looks for the needle's rarest byte with `memchr`, then compares.
package struct ByteSearch: Sendable {
    package let needle: [UInt8]
    private let rareAt: Int

    package init(_ needle: [UInt8]) {
        self.needle = needle
        rareAt = needle.indices.min { Self.commonness(needle[$0]) < Self.commonness(needle[$1]) } ?? 0
    }

    /// Rough rank of how often a byte occurs in log lines.
    private static func commonness(_ byte: UInt8) -> Int {
        switch byte {
        case UInt8(ascii: " "), UInt8(ascii: "e"), UInt8(ascii: "t"), UInt8(ascii: "a"), UInt8(ascii: "o"), UInt8(ascii: "i"), UInt8(ascii: "n"),
            UInt8(ascii: "s"),
            UInt8(ascii: "r"), UInt8(ascii: "\""):
            6
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt8(ascii: "z") == byte || byte == UInt8(ascii: "q") || byte == UInt8(ascii: "x") ? 2 : 5
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "."), UInt8(ascii: ","), UInt8(ascii: "-"): 4
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "="), UInt8(ascii: "/"), UInt8(ascii: "_"): 3
        default: 1
        }
    }

    /// Offset of the first occurrence at or after `from`; no bytes occur everywhere.
    package func first(in text: UnsafeRawBufferPointer, from: Int = 0) -> Int? {
        let count = needle.count
        guard count > 0 else { return from <= text.count ? from : nil }
        guard let base = text.baseAddress, from >= 0, text.count - from >= count else { return nil }
        return needle.withUnsafeBytes { wanted in
            guard let wantedBase = wanted.baseAddress else { return nil }
            let rare = Int32(wanted[rareAt])
            var at = from + rareAt
            let end = text.count - count + rareAt + 1
            while at < end, let hit = memchr(base + at, rare, end - at) {
                let start = UnsafeRawPointer(hit) - base - rareAt
                if memcmp(base + start, wantedBase, count) == 0 { return start }
                at = start + rareAt + 1
            }
            return nil
        }
    }

    package func isIn(_ text: UnsafeRawBufferPointer) -> Bool { first(in: text) != nil }
}
