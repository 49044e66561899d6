/// Some of a block's rows: one bit each. What a filter leaves for the next one to ask about.
package struct RowSet: Sendable, Equatable {
    /// Rows there are, in the set or not.
    package let count: Int
    /// Row 64·w + b is bit b of word w; bits past `count` are 0.
    package private(set) var words: [UInt64]

    /// None of `count` rows.
    package init(count: Int) {
        self.count = count
        words = [UInt64](repeating: 0, count: (count + 63) / 64)
    }

    /// All of `count` rows.
    package init(all count: Int) {
        self.count = count
        words = [UInt64](repeating: .max, count: (count + 63) / 64)
        clearPast()
    }

    private mutating func clearPast() { if count & 63 != 0 { words[words.count - 1] &= (1 << UInt64(count & 63)) - 1 } }

    package var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    /// Rows in the set.
    package var population: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    package var isAll: Bool { population == count }

    package func contains(_ row: Int) -> Bool { words[row >> 6] & 1 << UInt64(row & 63) != 0 }

    package mutating func insert(_ row: Int) { words[row >> 6] |= 1 << UInt64(row & 63) }

    package mutating func remove(_ row: Int) { words[row >> 6] &= ~(1 << UInt64(row & 63)) }

    package mutating func insert(_ rows: Range<Int>) {
        guard !rows.isEmpty else { return }
        precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "BUG: rows \(rows) of \(count)")
        let (first, last) = (rows.lowerBound >> 6, (rows.upperBound - 1) >> 6)
        let head = UInt64.max << UInt64(rows.lowerBound & 63)
        let tail = UInt64.max >> UInt64(63 - (rows.upperBound - 1) & 63)
        if first == last {
            words[first] |= head & tail
            return
        }
        words[first] |= head
        for word in first + 1..<last { words[word] = .max }
        words[last] |= tail
    }

    package mutating func formUnion(_ other: RowSet) {
        precondition(other.count == count, "BUG: rows of two blocks")
        for word in words.indices { words[word] |= other.words[word] }
    }

    package mutating func formIntersection(_ other: RowSet) {
        precondition(other.count == count, "BUG: rows of two blocks")
        for word in words.indices { words[word] &= other.words[word] }
    }

    package mutating func subtract(_ other: RowSet) {
        precondition(other.count == count, "BUG: rows of two blocks")
        for word in words.indices { words[word] &= ~other.words[word] }
    }

    package func union(_ other: RowSet) -> RowSet {
        var result = self
        result.formUnion(other)
        return result
    }

    package func intersection(_ other: RowSet) -> RowSet {
        var result = self
        result.formIntersection(other)
        return result
    }

    package func subtracting(_ other: RowSet) -> RowSet {
        var result = self
        result.subtract(other)
        return result
    }

    /// Ascending.
    package func forEach(_ body: (Int) -> Void) {
        for (index, word) in words.enumerated() {
            var rest = word
            while rest != 0 {
                body(index << 6 | rest.trailingZeroBitCount)
                rest &= rest &- 1
            }
        }
    }

    /// Ascending.
    package var rows: [Int] {
        var rows: [Int] = []
        rows.reserveCapacity(population)
        forEach { rows.append($0) }
        return rows
    }
}
