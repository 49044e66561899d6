// Finds series of a head by any label.
//
// Nothing of it is made while data comes in: writers pay nothing for it. A query that needs it indexes what has come since the last such query, a label at a
// time: a label is interned once (its bytes stay where the series table has them), and a series' label is an entry of eight bytes, chained to the one before with
// the same label. So a posting list is a walk from the newest series back, and labels of one name are a chain too. It lies in an arena of its own that goes with
// the generation: 80 bytes for a series of ten labels, and 40 more for each label that no other series has (204 bytes measured on the cardinality benchmark, where
// three labels are so).

internal import ObsCore
internal import ObsEncoding
internal import ObsHash
internal import ObsStore
internal import Synchronization

final class HeadLabelIndex {
    fileprivate static let none = UInt32.max

    /// A series has a label.
    fileprivate struct Entry {
        var series: UInt32
        /// The entry before with the same label.
        var previous: UInt32
    }

    fileprivate struct Label {
        /// Name and value as in the canonical label set.
        var bytes: UnsafeRawPointer
        var bytesCount: UInt32
        /// The value ends the bytes.
        var valueCount: UInt32
        /// Its newest entry.
        var newest: UInt32
        var series: UInt32
        /// The label before with the same name.
        var previousOfName: UInt32

        var all: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: Int(bytesCount)) }
        var value: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: all[(all.count - Int(valueCount))...]) }
    }

    fileprivate struct Name {
        var newest = HeadLabelIndex.none
        var labels = 0
    }

    fileprivate struct State {
        var arena = Arena()
        var entries = ArenaList<Entry>()
        var labels = ArenaList<Label>()
        var names: [Name] = []
        var nameTexts = ByteInterner()
        /// 32 bits of a label's hash, its number + 1; 0 is free. A power of two long, at most three quarters full.
        var slots = [UInt64](repeating: 0, count: 64)
        /// Series below are in.
        var indexed = 0
    }

    private let state = Monitor(State())
    private let used = Atomic<Int>(0)

    /// Safe from any thread.
    var usedBytes: Int { used.load(ordering: .relaxed) }

    /// Ids of the series below `count` that satisfy all matchers, in no order.
    func select(_ matchers: [LabelMatcher], in table: SeriesTable, count: Int) -> [Int] {
        let candidates = reading(table, count) { $0.candidates(matchers) }
        if let candidates { return candidates.map { Int($0) }.filter { $0 < count && matchers.match(table[$0].pointee.labelBytes) } }
        return (0..<count).filter { matchers.match(table[$0].pointee.labelBytes) }
    }

    /// Names of labels of series with data within `range`, in no order.
    func names(in table: SeriesTable, range: ClosedRange<Int64>, expiry: Expiry, locked: Locked) -> [[UInt8]] {
        let isInReach = table.isInReach(range, expiry, locked: locked)
        return reading(table, isInReach.count) { state in
            state.names.indices.filter { state.firstLabel(ofName: $0) { state.hasSeries($0, isInReach) } }
                .map { Array(state.nameTexts.bytes[state.nameTexts.range($0)]) }
        }
    }

    /// Values of a label on series with data within `range`: all in no order, or the first `limit`. They lie in the table.
    func values(_ name: [UInt8], in table: SeriesTable, range: ClosedRange<Int64>, expiry: Expiry, limit: Int, locked: Locked) -> [UnsafeRawBufferPointer] {
        let isInReach = table.isInReach(range, expiry, locked: locked)
        return reading(table, isInReach.count) { state in
            guard let number = state.number(ofName: name) else { return [] }
            var values: [UnsafeRawBufferPointer] = []
            _ = state.firstLabel(ofName: number) { label in
                if state.hasSeries(label, isInReach) { values.append(label.value) }
                return false
            }
            return limit < values.count ? firstSorted(values, limit) { compareBytes($0, $1) < 0 } : values
        }
    }

    private func reading<R>(_ table: SeriesTable, _ count: Int, _ body: (State) -> R) -> R {
        state.read { state in
            state.add(table, upTo: count)
            used.store(state.arena.usedBytes + state.slots.count * 8 + state.nameTexts.bytes.count, ordering: .relaxed)
            return body(state)
        }
    }
}

extension HeadLabelIndex.State {
    // MARK: Asking

    func number(ofName name: [UInt8]) -> Int? {
        names.indices.first { nameTexts.bytes[nameTexts.range($0)].elementsEqual(name) }
    }

    /// Whether a label of the name satisfies `isWanted`, newest first.
    func firstLabel(ofName name: Int, where isWanted: (HeadLabelIndex.Label) -> Bool) -> Bool {
        var next = names[name].newest
        while next != HeadLabelIndex.none {
            let label = labels[Int(next)]
            if isWanted(label) { return true }
            next = label.previousOfName
        }
        return false
    }

    func hasSeries(_ label: HeadLabelIndex.Label, _ isInReach: [Bool]) -> Bool {
        var next = label.newest
        while next != HeadLabelIndex.none {
            let entry = entries[Int(next)]
            if Int(entry.series) < isInReach.count, isInReach[Int(entry.series)] { return true }
            next = entry.previous
        }
        return false
    }

    /// Series of which those that satisfy all matchers are a part: by the matcher that leaves fewest. Nil: no matcher leaves any out cheaply.
    func candidates(_ matchers: [LabelMatcher]) -> [UInt32]? {
        var best: (labels: [HeadLabelIndex.Label], series: Int)?
        func offer(_ labels: [HeadLabelIndex.Label]) {
            let series = labels.reduce(0) { $0 + Int($1.series) }
            if series < best?.series ?? .max { best = (labels, series) }
        }
        for matcher in matchers where matcher.operation == .equal && !matcher.value.isEmpty {
            offer(find(matcher.name, matcher.value).map { [$0] } ?? [])
        }
        // A pattern looks at every value of its label: only where there are fewer of them than series left.
        for matcher in matchers where matcher.operation != .equal && !matcher.matchesEmpty {
            guard let name = number(ofName: [UInt8](matcher.name.utf8)) else { return [] }
            guard names[name].labels < best?.series ?? .max else { continue }
            var found: [HeadLabelIndex.Label] = []
            _ = firstLabel(ofName: name) { label in
                if matcher.matches(label.value) { found.append(label) }
                return false
            }
            offer(found)
        }
        guard let best else { return nil }
        var series: [UInt32] = []
        series.reserveCapacity(best.series)
        for label in best.labels {
            var next = label.newest
            while next != HeadLabelIndex.none {
                let entry = entries[Int(next)]
                series.append(entry.series)
                next = entry.previous
            }
        }
        return series
    }

    private func find(_ name: String, _ value: String) -> HeadLabelIndex.Label? {
        var bytes: [UInt8] = []
        bytes.appendText(name.utf8)
        bytes.appendText(value.utf8)
        return bytes.withUnsafeBytes { bytes in
            let slot = slots[slot(bytes)]
            return slot == 0 ? nil : labels[Int(truncatingIfNeeded: slot & 0xffff_ffff) - 1]
        }
    }

    /// Where a label is, or would go.
    private func slot(_ bytes: UnsafeRawBufferPointer) -> Int {
        let tag = hash64(bytes) >> 32
        let mask = slots.count - 1
        var at = Int(truncatingIfNeeded: tag) & mask
        while slots[at] != 0 {
            if slots[at] >> 32 == tag, compareBytes(labels[Int(truncatingIfNeeded: slots[at] & 0xffff_ffff) - 1].all, bytes) == 0 { return at }
            at = (at + 1) & mask
        }
        return at
    }

    // MARK: Adding

    mutating func add(_ table: SeriesTable, upTo count: Int) {
        while indexed < count {
            let set = table[indexed].pointee.labelBytes
            var position = 0
            while position < set.count {
                let start = position
                guard let name = readLabelPart(set, &position), let value = readLabelPart(set, &position) else { break }
                add(
                    UInt32(indexed), UnsafeRawBufferPointer(rebasing: set[start..<position]), name: UnsafeRawBufferPointer(rebasing: set[name]),
                    valueCount: value.count)
            }
            indexed += 1
        }
    }

    private mutating func add(_ series: UInt32, _ bytes: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, valueCount: Int) {
        let at = slot(bytes)
        let number = slots[at] == 0 ? intern(bytes, name: name, valueCount: valueCount, at) : Int(truncatingIfNeeded: slots[at] & 0xffff_ffff) - 1
        let entry = entries.append(HeadLabelIndex.Entry(series: series, previous: labels[number].newest), arena)
        labels[number].newest = UInt32(entry)
        labels[number].series += 1
    }

    private mutating func intern(_ bytes: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, valueCount: Int, _ at: Int) -> Int {
        // A label is never empty: it has two lengths.
        guard let start = bytes.baseAddress else { fatalError("BUG: a label without bytes") }
        let nameNumber = nameTexts.intern(name)
        if nameNumber == names.count { names.append(HeadLabelIndex.Name()) }
        let label = HeadLabelIndex.Label(
            bytes: start, bytesCount: UInt32(bytes.count), valueCount: UInt32(valueCount), newest: HeadLabelIndex.none, series: 0,
            previousOfName: names[nameNumber].newest)
        let number = labels.append(label, arena)
        names[nameNumber].newest = UInt32(number)
        names[nameNumber].labels += 1
        slots[at] = (hash64(bytes) >> 32) << 32 | UInt64(number + 1)
        if labels.count * 4 > slots.count * 3 { slots = doubledSlots(slots) }
        return number
    }
}

/// A growing list in blocks of an arena.
private struct ArenaList<Element> {
    private static var blockShift: Int { 12 }
    private static var blockMask: Int { (1 << blockShift) - 1 }
    private var blocks: [UnsafeMutablePointer<Element>] = []
    private(set) var count = 0

    subscript(index: Int) -> Element {
        get { blocks[index >> Self.blockShift][index & Self.blockMask] }
        nonmutating _modify { yield &blocks[index >> Self.blockShift][index & Self.blockMask] }
    }

    /// - Returns: the element's index.
    mutating func append(_ element: Element, _ arena: Arena) -> Int {
        let index = count
        if index >> Self.blockShift == blocks.count {
            let bytes = MemoryLayout<Element>.stride << Self.blockShift
            blocks.append(arena.allocate(bytes).bindMemory(to: Element.self, capacity: 1 << Self.blockShift))
        }
        (blocks[index >> Self.blockShift] + (index & Self.blockMask)).initialize(to: element)
        count += 1
        return index
    }
}
