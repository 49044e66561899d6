// The label dictionaries of several segments as one, name by name, value page by value page: both are sorted, so nothing is hashed or searched. What comes out
// is every distinct label with its rank, and for each segment the rank of each of its labels. From then on series of all the segments compare as lists of
// small integers (SeriesRanks), and a label's text is not looked at again.

internal import ObsCore
internal import ObsEncoding

/// Every label of several segments, ranked by name and value.
struct LabelDictionary {
    var names: [[UInt8]] = []
    /// By name: the rank past its last label.
    var nameEnds: [Int] = []
    /// By rank.
    var values: [ValuePlace] = []
    /// Where the values lie.
    let bytes = CopiedBytes()

    /// Appends the canonical label set with these ranks, ascending.
    func append(_ ranks: ArraySlice<UInt32>, to output: inout [UInt8]) {
        var name = 0
        for rank in ranks {
            while nameEnds[name] <= Int(rank) { name += 1 }
            output.appendText(names[name])
            output.appendText(values[Int(rank)].bytes)
        }
    }
}

/// The labels of one segment as ranks of a dictionary.
struct LabelRanks {
    /// By name: where its values begin.
    var starts: [Int] = []
    /// Of all values of the segment, name after name.
    var ranks: [UInt32] = []
}

/// - Parameter grow: told of the memory it takes; throws when there is none.
func mergeLabels(
    _ readers: [MetricSegmentReader], grow: (Int) throws(ObsError) -> Void
) throws(ObsError) -> (dictionary: LabelDictionary, ranks: [LabelRanks]) {
    var dictionary = LabelDictionary()
    var ranks: [LabelRanks] = []
    for reader in readers {
        var starts: [Int] = []
        var count = 0
        for (number, name) in reader.index.names.enumerated() {
            if number > 0, !reader.index.names[number - 1].name.lexicographicallyPrecedes(name.name) {
                throw ObsError(.corrupt, "label names of a segment are out of order", place: reader.file.path)
            }
            starts.append(count)
            count += name.valueCount
        }
        try grow(count * 4)
        var one = LabelRanks(starts: starts)
        one.ranks.reserveCapacity(count)
        ranks.append(one)
    }
    var next = [Int](repeating: 0, count: readers.count)
    while true {
        var least: [UInt8]?
        for (input, reader) in readers.enumerated() where next[input] < reader.index.names.count {
            let name = reader.index.names[next[input]].name
            if least.map({ name.lexicographicallyPrecedes($0) }) ?? true { least = name }
        }
        guard let least else { return (dictionary, ranks) }
        var cursors: [ValueCursor] = []
        for (input, reader) in readers.enumerated() where next[input] < reader.index.names.count {
            guard reader.index.names[next[input]].name == least else { continue }
            let cursor = try ValueCursor(reader, input, name: next[input])
            if !cursor.isAtEnd { cursors.append(cursor) }
            next[input] += 1
        }
        try mergeValues(&cursors, into: &dictionary, &ranks, grow)
        dictionary.names.append(least)
        dictionary.nameEnds.append(dictionary.values.count)
    }
}

/// Values between two looks at the memory.
private let valuesPerGrowth = 16_384

private func mergeValues(
    _ cursors: inout [ValueCursor], into dictionary: inout LabelDictionary, _ ranks: inout [LabelRanks], _ grow: (Int) throws(ObsError) -> Void
) throws(ObsError) {
    var text: [UInt8] = []
    var untold = 0
    while var least = cursors.first {
        for cursor in cursors.dropFirst() where cursor.precedes(least) { least = cursor }
        text.removeAll(keepingCapacity: true)
        text.appendText(least.value)
        let place = text.withUnsafeBytes { ValuePlace(start: dictionary.bytes.copy($0)) }
        untold += text.count + 2 * MemoryLayout<ValuePlace>.stride
        let rank = UInt32(dictionary.values.count)
        dictionary.values.append(place)
        if dictionary.values.count % valuesPerGrowth == 0 {
            try grow(untold)
            untold = 0
        }
        var hasEnded = false
        for cursor in cursors where cursor.equals(place.bytes) {
            ranks[cursor.input].ranks.append(rank)
            try cursor.advance()
            hasEnded = hasEnded || cursor.isAtEnd
        }
        if hasEnded { cursors.removeAll { $0.isAtEnd } }
    }
    try grow(untold)
}

/// Values of one name of one segment, in order.
private final class ValueCursor {
    let input: Int
    private let reader: MetricSegmentReader
    private let pages: [LabelIndex.Page]
    private var page = 0
    private var values = LabelIndex.Values(bytes: [], ranges: [])
    private var at = -1

    init(_ reader: MetricSegmentReader, _ input: Int, name: Int) throws(ObsError) {
        self.reader = reader
        self.input = input
        pages = reader.index.names[name].pages
        try advance()
    }

    var isAtEnd: Bool { at == values.ranges.count }

    var value: ArraySlice<UInt8> { values.bytes[values.ranges[at].range] }

    func precedes(_ other: ValueCursor) -> Bool {
        other.values.bytes.withUnsafeBytes { compare(UnsafeRawBufferPointer(rebasing: $0[other.values.ranges[other.at].range])) } < 0
    }

    func equals(_ text: UnsafeRawBufferPointer) -> Bool { compare(text) == 0 }

    private func compare(_ text: UnsafeRawBufferPointer) -> Int {
        values.bytes.withUnsafeBytes { compareBytes(UnsafeRawBufferPointer(rebasing: $0[values.ranges[at].range]), text) }
    }

    func advance() throws(ObsError) {
        at += 1
        guard at == values.ranges.count else {
            return try check(after: values, at - 1)
        }
        while page < pages.count {
            let before = values
            values = try reader.index.readValues(pages[page])
            page += 1
            at = 0
            if values.ranges.isEmpty { continue }
            if !before.ranges.isEmpty { try check(after: before, before.ranges.count - 1) }
            return
        }
    }

    private func check(after before: LabelIndex.Values, _ last: Int) throws(ObsError) {
        let isAscending = before.bytes.withUnsafeBytes { compare(UnsafeRawBufferPointer(rebasing: $0[before.ranges[last].range])) } > 0
        if !isAscending { throw ObsError(.corrupt, "label values of a segment are out of order", place: reader.file.path) }
    }
}
