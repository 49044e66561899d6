// Sorting a million label sets or label values by comparing them whole is a walk from one cache miss to the next. Here each item brings eight bytes of its key
// along, next to its number; only items whose eight bytes are equal bring the next eight.

/// An item with the part of its key it is being sorted by.
private struct Keyed {
    var word: UInt64
    var item: UInt32
}

/// Runs up to this long are compared whole.
private let shortRun = 8
/// Keys equal for so many words are compared whole from there on: long shared prefixes must not cost a recursion each.
private let wordsMax = 12

/// Sorts items whose keys are strings of words. `word(item, n)` is the n-th word of the key, 0 past its end; `precedes` is the whole order, which words must agree with.
func sortByWords(_ items: inout [UInt32], word: (UInt32, Int) -> UInt64, precedes: (UInt32, UInt32) -> Bool) {
    var keyed = items.map { Keyed(word: word($0, 0), item: $0) }
    keyed.withUnsafeMutableBufferPointer { sort($0, depth: 0, word: word, precedes: precedes) }
    for index in items.indices { items[index] = keyed[index].item }
}

private func sort(_ run: UnsafeMutableBufferPointer<Keyed>, depth: Int, word: (UInt32, Int) -> UInt64, precedes: (UInt32, UInt32) -> Bool) {
    var run = run
    run.sort { $0.word < $1.word }
    var start = 0
    while start < run.count {
        var end = start + 1
        while end < run.count, run[end].word == run[start].word { end += 1 }
        if end - start > 1 {
            var equal = UnsafeMutableBufferPointer(rebasing: run[start..<end])
            if equal.count <= shortRun || depth + 1 == wordsMax {
                equal.sort { precedes($0.item, $1.item) }
            } else {
                for index in equal.indices { equal[index].word = word(equal[index].item, depth + 1) }
                sort(equal, depth: depth + 1, word: word, precedes: precedes)
            }
        }
        start = end
    }
}

/// Eight bytes from `offset` on, the first the most significant, zeros past the end: words compare as their bytes do.
func bigEndianWord(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> UInt64 {
    if offset + 8 <= bytes.count { return UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
    var word: UInt64 = 0
    for index in 0..<8 { word = word << 8 | (offset + index < bytes.count ? UInt64(bytes[offset + index]) : 0) }
    return word
}
