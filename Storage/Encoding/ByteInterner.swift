internal import ObsCore
internal import ObsHash

/// Gives equal byte strings equal numbers, counted from 0 in the order they first came: what dictionaries of columns and label tables are built with.
///
/// Open addressing over one arena: no object, no allocation per string. Strings are compared, not only their hashes.
package struct ByteInterner {
    /// All strings back to back.
    package private(set) var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var hashes: [UInt32] = []
    /// Number + 1; 0 is free. A power of two long, at most half full.
    private var slots: [UInt32] = []

    package init() {}

    package var count: Int { ends.count }

    package mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        hashes.removeAll(keepingCapacity: true)
        for index in slots.indices { slots[index] = 0 }
    }

    package func range(_ number: Int) -> Range<Int> { (number == 0 ? 0 : ends[number - 1])..<ends[number] }

    package mutating func intern(_ text: UnsafeRawBufferPointer) -> Int {
        if ends.count * 2 >= slots.count { grow() }
        let hash = UInt32(truncatingIfNeeded: hash64(text))
        let mask = slots.count - 1
        var slot = Int(hash) & mask
        while slots[slot] != 0 {
            let number = Int(slots[slot]) - 1
            if hashes[number] == hash, equals(number, text) { return number }
            slot = (slot + 1) & mask
        }
        slots[slot] = UInt32(ends.count + 1)
        bytes.append(contentsOf: text)
        ends.append(bytes.count)
        hashes.append(hash)
        return ends.count - 1
    }

    package mutating func intern(_ text: [UInt8]) -> Int { text.withUnsafeBytes { intern($0) } }

    /// Numbers in bytewise order of their strings.
    package func sortedNumbers() -> [Int] {
        bytes.withUnsafeBytes { all in
            (0..<count).sorted { compareBytes(UnsafeRawBufferPointer(rebasing: all[range($0)]), UnsafeRawBufferPointer(rebasing: all[range($1)])) < 0 }
        }
    }

    private func equals(_ number: Int, _ text: UnsafeRawBufferPointer) -> Bool {
        let range = range(number)
        guard range.count == text.count else { return false }
        return bytes.withUnsafeBytes { compareBytes(UnsafeRawBufferPointer(rebasing: $0[range]), text) == 0 }
    }

    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: max(16, slots.count * 2))
        let mask = slots.count - 1
        for (number, hash) in hashes.enumerated() {
            var slot = Int(hash) & mask
            while slots[slot] != 0 { slot = (slot + 1) & mask }
            slots[slot] = UInt32(number + 1)
        }
    }
}

/// The slots of an open-addressing table, twice as many: each 32 bits of a hash over 32 bits of a number, 0 when free; the hash says where it goes.
package func doubledSlots(_ old: [UInt64]) -> [UInt64] {
    var slots = [UInt64](repeating: 0, count: old.count * 2)
    let mask = slots.count - 1
    for slot in old where slot != 0 {
        var at = Int(truncatingIfNeeded: slot >> 32) & mask
        while slots[at] != 0 { at = (at + 1) & mask }
        slots[at] = slot
    }
    return slots
}
