internal import ObsCore

/// Label pairs in the order a request has them, to be written in canonical form (see `Labels`). Made once per request, emptied per set: no allocation a set.
struct LabelSetBuilder: ~Copyable {
    private struct Pair {
        var offset: Int
        var nameCount: Int
        var valueCount: Int
    }

    private var text = ByteArena(capacity: 1024)
    private var pairs: [Pair] = []

    var isEmpty: Bool { pairs.isEmpty }
    var count: Int { pairs.count }

    mutating func removeAll() {
        text.truncate(to: 0)
        pairs.removeAll(keepingCapacity: true)
    }

    /// Forgets pairs whose value is empty, which equal an absent label.
    mutating func removeEmpty() { pairs.removeAll { $0.valueCount == 0 } }

    mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        beginPair(name)
        appendToValue(value)
    }

    mutating func add(_ name: [UInt8], _ value: [UInt8]) { name.withUnsafeBytes { name in value.withUnsafeBytes { add(name, $0) } } }

    /// Begins a pair whose value comes in pieces.
    mutating func beginPair(_ name: UnsafeRawBufferPointer) {
        pairs.append(Pair(offset: text.count, nameCount: name.count, valueCount: 0))
        text.append(name)
    }

    mutating func appendToValue(_ piece: UnsafeRawBufferPointer) {
        text.append(piece)
        pairs[pairs.count - 1].valueCount += piece.count
    }

    mutating func appendToValue(_ byte: UInt8) {
        text.append(byte)
        pairs[pairs.count - 1].valueCount += 1
    }

    /// The value begun last, in place until the next change.
    var lastValue: UnsafeRawBufferPointer {
        guard let pair = pairs.last else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return text.slice(pair.offset + pair.nameCount..<text.count)
    }

    /// Writes another value in the place of the last one.
    mutating func replaceLastValue(_ value: UnsafeRawBufferPointer) {
        guard let pair = pairs.last else { return }
        text.truncate(to: pair.offset + pair.nameCount)
        pairs[pairs.count - 1].valueCount = 0
        appendToValue(value)
    }

    /// Appends the canonical form: sorted by name, pairs with an empty value left out. False, with nothing appended, when a name is repeated.
    mutating func write(to arena: inout ByteArena) -> Bool {
        let all = text.slice(0..<text.count)
        func name(_ pair: Pair) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: all[pair.offset..<pair.offset + pair.nameCount]) }
        func order(_ a: Int, _ b: Int) -> Int { compareBytes(name(pairs[a]), name(pairs[b])) }
        var isSorted = true
        for at in pairs.indices.dropFirst() where order(at - 1, at) >= 0 {
            isSorted = false
            break
        }
        if !isSorted {
            pairs.sort { compareBytes(name($0), name($1)) < 0 }
            for at in pairs.indices.dropFirst() where order(at - 1, at) == 0 { return false }
        }
        arena.reserve(text.count + pairs.count * 4)
        for pair in pairs where pair.valueCount > 0 {
            let start = pair.offset + pair.nameCount
            arena.appendLabel(name(pair), UnsafeRawBufferPointer(rebasing: all[start..<start + pair.valueCount]))
        }
        return true
    }
}

/// Gives equal label sets of one request one index: the `streams` table of a batch.
struct LabelSetTable {
    private(set) var ranges: [ByteRange] = []
    private var hashes: [UInt64] = []
    /// Index + 1 of a set, 0 where free; at most half full.
    private var slots = [UInt32](repeating: 0, count: 16)
    /// Not to be guessed by who sends label sets that collide.
    private static let seed = UInt64.random(in: 1...UInt64.max) | 1

    /// Index of the set that lies at the arena's end from `start`. One that was there before is taken off the arena again.
    mutating func intern(from start: Int, in arena: inout ByteArena) -> UInt32 {
        let range = arena.range(from: start)
        let bytes = arena.slice(start..<arena.count)
        let hash = Self.hash(bytes)
        var slot = Int(truncatingIfNeeded: hash >> 32) & (slots.count - 1)
        while slots[slot] != 0 {
            let index = Int(slots[slot]) - 1
            if hashes[index] == hash, ranges[index].count == range.count, compareBytes(arena.slice(ranges[index]), bytes) == 0 {
                arena.truncate(to: start)
                return UInt32(index)
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        ranges.append(range)
        hashes.append(hash)
        slots[slot] = UInt32(ranges.count)
        if ranges.count * 2 > slots.count { grow() }
        return UInt32(ranges.count - 1)
    }

    private mutating func grow() {
        var larger = [UInt32](repeating: 0, count: slots.count * 2)
        for (index, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash >> 32) & (larger.count - 1)
            while larger[slot] != 0 { slot = (slot + 1) & (larger.count - 1) }
            larger[slot] = UInt32(index + 1)
        }
        slots = larger
    }

    private static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var state = seed ^ UInt64(bytes.count)
        var at = 0
        while at + 8 <= bytes.count {
            state = mix(state ^ bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            at += 8
        }
        var rest: UInt64 = 0
        while at < bytes.count {
            rest = rest << 8 | UInt64(bytes[at])
            at += 1
        }
        return mix(state ^ rest)
    }

    private static func mix(_ word: UInt64) -> UInt64 {
        let product = word.multipliedFullWidth(by: seed)
        return product.high ^ product.low
    }
}
