internal import ObsCore
internal import ObsEncoding

/// A set of series ordinals: a bit for each series of the segment. Posting lists are read into it, so that all set algebra is words; a million series are
/// 125 kB, which costs less to go through than to build any cleverer set.
struct SeriesBits {
    private var words: [UInt64]
    private let count: Int

    init(count: Int, filled: Bool = false) {
        self.count = count
        words = [UInt64](repeating: filled ? .max : 0, count: (count + 63) / 64)
        if filled, count % 64 != 0 { words[words.count - 1] = (1 << UInt64(count % 64)) - 1 }
    }

    var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    mutating func intersect(_ other: SeriesBits) { for index in words.indices { words[index] &= other.words[index] } }
    mutating func subtract(_ other: SeriesBits) { for index in words.indices { words[index] &= ~other.words[index] } }
    mutating func unite(_ other: SeriesBits) { for index in words.indices { words[index] |= other.words[index] } }

    /// Adds a posting list: all the cursor has.
    mutating func insert(_ cursor: inout ByteCursor) throws(ObsError) {
        let values = try cursor.count(max: count)
        if values > 0 { return try insertGaps(try cursor.take(cursor.remaining), values) }
        try RoaringCodec.insert(&cursor, into: &words, count: count)
        try cursor.expectEnd()
    }

    private mutating func insertGaps(_ list: UnsafeRawBufferPointer, _ values: Int) throws(ObsError) {
        var at = 0
        var next = 0
        for _ in 0..<values {
            guard at < list.count else { throw ObsError(.corrupt, "posting list ends early") }
            var gap = Int(list[at])
            if gap < 0x80 {
                at &+= 1
            } else {
                guard let long = readVarint(list, &at), long < UInt64(count) else { throw ObsError(.corrupt, "gap of a posting list is past its bound") }
                gap = Int(long)
            }
            let ordinal = next &+ gap
            guard ordinal < count else { throw ObsError(.corrupt, "series \(ordinal) of \(count) in a posting list") }
            words[ordinal >> 6] |= 1 << UInt64(ordinal & 63)
            next = ordinal &+ 1
        }
        guard at == list.count else { throw ObsError(.corrupt, "posting list of \(list.count) bytes ends after \(at)") }
    }

    var ordinals: [Int] {
        var result: [Int] = []
        result.reserveCapacity(words.reduce(0) { $0 + $1.nonzeroBitCount })
        for (index, word) in words.enumerated() where word != 0 {
            var rest = word
            while rest != 0 {
                result.append(index * 64 + rest.trailingZeroBitCount)
                rest &= rest &- 1
            }
        }
        return result
    }
}
