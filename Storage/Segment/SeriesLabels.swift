// Label sets of all series of a segment in the making, as numbers.
//
// A label (name and value together, as they lie in the canonical label set) is interned to a number; a series is four bytes a label. Once all are there, `rank`
// replaces the numbers by ranks: labels sorted by name, then value. From then on everything is arithmetic on small integers. Two series compare as
// their ranks do, a value's number in the label index is its rank less that of its name's first, a posting list is a counting sort. So a million
// series with ten labels take some 120 bytes each here, and neither gathering nor sorting ever looks at a whole label set again.

internal import ObsCore
internal import ObsEncoding
internal import ObsHash

/// Gathered by `append`, then `rank`ed once, then read. One thread.
package final class SeriesLabels {
    private var gathered = LabelInterner()
    /// Where each distinct label's value lies, by rank.
    private var places: [ValuePlace] = []
    /// Keeps the bytes of a dictionary made elsewhere.
    private var copies: CopiedBytes?
    /// Labels of all series back to back, as ranks.
    private var labels: [UInt32] = []
    /// End of each series' labels.
    private var ends: [UInt32] = []
    /// Series in label order, by the number they came as; empty when they came in order.
    private var order: [UInt32] = []

    /// Names in order.
    private(set) var names: [[UInt8]] = []
    /// By name: the rank past its last label.
    private(set) var nameEnds: [Int] = []
    /// By rank: series that have the label.
    private(set) var seriesCounts: [UInt32] = []

    package init() {}

    /// For series whose labels come ranked: their ranks are those of a dictionary.
    /// - Parameters:
    ///   - series: at most.
    ///   - labels: at most, of all series together.
    init(_ dictionary: LabelDictionary, series: Int, labels count: Int) {
        names = dictionary.names
        nameEnds = dictionary.nameEnds
        places = dictionary.values
        copies = dictionary.bytes
        seriesCounts = [UInt32](repeating: 0, count: places.count)
        labels.reserveCapacity(count)
        ends.reserveCapacity(series)
    }

    package var count: Int { ends.isEmpty ? gathered.ends.count : ends.count }

    /// Room for about as many series.
    package func reserve(_ series: Int) { gathered.reserve(series) }

    /// Adds a series.
    /// - Parameters:
    ///   - set: canonical label set.
    ///   - stays: whether the bytes stay where they are for as long as this object lives; else they are copied.
    package func append(_ set: UnsafeRawBufferPointer, stays: Bool) { gathered.append(set, stays: stays) }

    /// Adds a series by the ranks of its labels, ascending. Series come in order.
    func append(ranks: ArraySlice<UInt32>) {
        labels.append(contentsOf: ranks)
        ends.append(UInt32(labels.count))
        for rank in ranks { seriesCounts[Int(rank)] += 1 }
    }

    /// Takes labels that no series has out of the dictionary.
    func dropUnused() {
        guard seriesCounts.contains(0) else { return }
        var ranks = [UInt32](repeating: 0, count: places.count)
        var kept = 0
        var keptNames: [[UInt8]] = []
        var keptEnds: [Int] = []
        for name in names.indices {
            for rank in self.ranks(name) where seriesCounts[rank] > 0 {
                ranks[rank] = UInt32(kept)
                places[kept] = places[rank]
                seriesCounts[kept] = seriesCounts[rank]
                kept += 1
            }
            if kept > (keptEnds.last ?? 0) {
                keptNames.append(names[name])
                keptEnds.append(kept)
            }
        }
        names = keptNames
        nameEnds = keptEnds
        places.removeLast(places.count - kept)
        seriesCounts.removeLast(seriesCounts.count - kept)
        for index in labels.indices { labels[index] = ranks[Int(labels[index])] }
    }

    /// Turns numbers into ranks and, unless they came so, finds the label order of the series.
    package func rank(isOrdered: Bool) {
        gathered.forgetHashes()
        let nameOrder = gathered.names.sortedNumbers()
        names = nameOrder.map { Array(gathered.names.bytes[gathered.names.range($0)]) }
        let unranked = gathered.places
        var ranks = [UInt32](repeating: 0, count: unranked.count)
        var ranked: [ValuePlace] = []
        ranked.reserveCapacity(unranked.count)
        for name in nameOrder {
            var numbers = gathered.takeLabels(ofName: name)
            sortByWords(
                &numbers, word: { bigEndianWord(unranked[Int($0)].value, at: $1 * 8) },
                precedes: { compareBytes(unranked[Int($0)].value, unranked[Int($1)].value) < 0 })
            for number in numbers {
                ranks[Int(number)] = UInt32(ranked.count)
                ranked.append(unranked[Int(number)].valuePlace)
            }
            nameEnds.append(ranked.count)
        }
        places = ranked
        (labels, ends) = gathered.takeSeries()
        var counts = [UInt32](repeating: 0, count: places.count)
        labels.withUnsafeMutableBufferPointer { labels in
            for index in labels.indices {
                let rank = ranks[Int(labels[index])]
                labels[index] = rank
                counts[Int(rank)] += 1
            }
        }
        seriesCounts = counts
        if !isOrdered { order = Self.labelOrder(labels, ends) }
    }

    /// The number a series came as, by its place in label order.
    package func number(_ ordinal: Int) -> Int { order.isEmpty ? ordinal : Int(order[ordinal]) }

    /// Walks the series in label order: the place in it, the ranks of the labels, ascending.
    func forEach(_ ordinals: Range<Int>, _ body: (Int, UnsafeBufferPointer<UInt32>) -> Void) {
        labels.withUnsafeBufferPointer { all in
            ends.withUnsafeBufferPointer { ends in
                for ordinal in ordinals {
                    let number = number(ordinal)
                    body(ordinal, UnsafeBufferPointer(rebasing: all[(number == 0 ? 0 : Int(ends[number - 1]))..<Int(ends[number])]))
                }
            }
        }
    }

    /// Ranks of the labels with a name.
    func ranks(_ name: Int) -> Range<Int> { (name == 0 ? 0 : nameEnds[name - 1])..<nameEnds[name] }

    /// The value of a label.
    func value(_ rank: Int) -> UnsafeRawBufferPointer { places[rank].bytes }

    private static func labelOrder(_ labels: [UInt32], _ ends: [UInt32]) -> [UInt32] {
        var order = (0..<UInt32(ends.count)).map { $0 }
        func range(_ series: UInt32) -> Range<Int> { (series == 0 ? 0 : Int(ends[Int(series) - 1]))..<Int(ends[Int(series)]) }
        // Two labels are a word; one more than the rank, since a series that ends comes before one that goes on.
        func key(_ at: Int, _ end: Int) -> UInt64 { at < end ? UInt64(labels[at]) + 1 : 0 }
        sortByWords(
            &order,
            word: { series, depth in
                let range = range(series)
                let at = range.lowerBound + depth * 2
                return key(at, range.upperBound) << 32 | key(at + 1, range.upperBound)
            }, precedes: { labels[range($0)].lexicographicallyPrecedes(labels[range($1)]) })
        return order
    }
}

/// An interned label's bytes: `varint length · name · varint length · value`.
private struct LabelPlace {
    let start: UnsafeRawPointer

    var valuePlace: ValuePlace { ValuePlace(start: start + ValuePlace(start: start).end) }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: valuePlace.start - start + valuePlace.end) }

    var value: UnsafeRawBufferPointer { valuePlace.bytes }
}

/// A text as it lies in memory: `varint length · bytes`. It was whole when it came, so its length is read unchecked.
struct ValuePlace {
    let start: UnsafeRawPointer

    var bytes: UnsafeRawBufferPointer {
        let range = range
        return UnsafeRawBufferPointer(start: start + range.lowerBound, count: range.count)
    }

    /// Bytes with the length before them.
    var end: Int { range.upperBound }

    private var range: Range<Int> {
        var length = 0
        var shift = 0
        var at = 0
        while true {
            let byte = start.load(fromByteOffset: at, as: UInt8.self)
            at &+= 1
            length |= Int(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return at..<at + length }
            shift += 7
        }
    }
}

/// Memory for copies, in blocks that never move, gone with the object.
final class CopiedBytes {
    private static let blockBytes = 256 << 10
    private var blocks: [UnsafeMutableRawBufferPointer] = []
    private var used = 0

    deinit {
        for block in blocks { block.deallocate() }
    }

    func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawPointer {
        if blocks.isEmpty || used + bytes.count > blocks[blocks.count - 1].count {
            blocks.append(.allocate(byteCount: max(bytes.count, Self.blockBytes), alignment: 1))
            used = 0
        }
        let place = UnsafeMutableRawBufferPointer(rebasing: blocks[blocks.count - 1][used..<used + bytes.count])
        place.copyMemory(from: bytes)
        used += bytes.count
        return UnsafeRawPointer(place.baseAddress.unsafelyUnwrapped)
    }
}

/// Numbers labels in the order they first come. A value, so that a series is one access to it and not one a label.
private struct LabelInterner {
    /// By number.
    private(set) var places: [LabelPlace] = []
    private(set) var names = ByteInterner()
    /// Labels of all series back to back, as numbers.
    private var labels: [UInt32] = []
    private(set) var ends: [UInt32] = []
    /// Numbers of the labels with each name.
    private var labelsOfName: [[UInt32]] = []
    /// 32 bits of a label's hash, which also say where to begin looking, over its number + 1; 0 is free. A power of two long, at most three quarters full.
    private var slots = [UInt64](repeating: 0, count: 1024)
    private let copies = CopiedBytes()

    mutating func reserve(_ series: Int) {
        ends.reserveCapacity(series)
        // A guess; what is not used is never touched.
        labels.reserveCapacity(series * 12)
    }

    mutating func append(_ set: UnsafeRawBufferPointer, stays: Bool) {
        var position = 0
        while position < set.count {
            let start = position
            guard let name = readLabelPart(set, &position), readLabelPart(set, &position) != nil else { break }
            labels.append(intern(UnsafeRawBufferPointer(rebasing: set[start..<position]), name: UnsafeRawBufferPointer(rebasing: set[name]), stays: stays))
        }
        ends.append(UInt32(labels.count))
    }

    mutating func forgetHashes() { slots = [] }

    mutating func takeLabels(ofName name: Int) -> [UInt32] {
        defer { labelsOfName[name] = [] }
        return labelsOfName[name]
    }

    mutating func takeSeries() -> (labels: [UInt32], ends: [UInt32]) {
        defer {
            labels = []
            ends = []
            places = []
        }
        return (labels, ends)
    }

    private mutating func intern(_ label: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, stays: Bool) -> UInt32 {
        let tag = hash64(label) >> 32
        let mask = slots.count - 1
        var at = Int(truncatingIfNeeded: tag) & mask
        while slots[at] != 0 {
            if slots[at] >> 32 == tag {
                let number = UInt32(truncatingIfNeeded: slots[at]) - 1
                if compareBytes(places[Int(number)].bytes, label) == 0 { return number }
            }
            at = (at + 1) & mask
        }
        let number = UInt32(places.count)
        // A label is never empty: it has two lengths.
        guard let start = label.baseAddress else { return number }
        slots[at] = tag << 32 | UInt64(number + 1)
        places.append(LabelPlace(start: stays ? start : copies.copy(label)))
        let nameNumber = names.intern(name)
        if nameNumber == labelsOfName.count { labelsOfName.append([]) }
        labelsOfName[nameNumber].append(number)
        if places.count * 4 > slots.count * 3 { slots = doubledSlots(slots) }
        return number
    }
}
