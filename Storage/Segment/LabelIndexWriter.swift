internal import ObsCore
internal import ObsEncoding

// What finds series by label, written after the blocks. Nothing here has to be loaded whole: the directory names pages, a page is one frame.
//
//   labelIndex section   the directory: label names in order, for each the first value of each page and where the page's two frames lie
//   value page           sorted values of one label, front-coded: each shares a prefix with the one before
//   postings page        for the same values: ordinals of the series that have them, as gaps
//
// A value's number is its rank among the values of its label; the series table (SeriesTableWriter) stores these numbers.

/// Gathers the labels of all series, in order.
struct LabelGatherer {
    var names = ByteInterner()
    /// By number of the name.
    var values: [ByteInterner] = []
    /// Of all series back to back: number of the name, number of the value among that name's.
    var pairNames: [UInt32] = []
    var pairValues: [UInt32] = []
    /// End of each series' pairs.
    var ends: [Int] = []

    mutating func append(_ labels: UnsafeRawBufferPointer) {
        var position = 0
        while position < labels.count, let name = readLabelPart(labels, &position), let value = readLabelPart(labels, &position) {
            let nameNumber = names.intern(UnsafeRawBufferPointer(rebasing: labels[name]))
            if nameNumber == values.count { values.append(ByteInterner()) }
            pairNames.append(UInt32(nameNumber))
            pairValues.append(UInt32(values[nameNumber].intern(UnsafeRawBufferPointer(rebasing: labels[value]))))
        }
        ends.append(pairNames.count)
    }
}

/// A gatherer with all numbers turned into ranks.
struct RankedLabels {
    /// Names in order.
    let names: [[UInt8]]
    /// By rank of the name: its values, sorted.
    private let valuesInOrder: [[Int]]
    private let interners: [ByteInterner]
    let pairNames: [UInt32]
    let pairValues: [UInt32]
    let ends: [Int]

    init(_ gathered: LabelGatherer) {
        let nameOrder = gathered.names.sortedNumbers()
        let valueOrders = gathered.values.map { $0.sortedNumbers() }
        let nameRanks = Self.ranks(nameOrder)
        let valueRanks = valueOrders.map { Self.ranks($0) }
        names = nameOrder.map { Array(gathered.names.bytes[gathered.names.range($0)]) }
        interners = nameOrder.map { gathered.values[$0] }
        valuesInOrder = nameOrder.map { valueOrders[$0] }
        var rankedNames = gathered.pairNames
        var rankedValues = gathered.pairValues
        for pair in rankedNames.indices {
            let name = Int(gathered.pairNames[pair])
            rankedNames[pair] = nameRanks[name]
            rankedValues[pair] = valueRanks[name][Int(gathered.pairValues[pair])]
        }
        pairNames = rankedNames
        pairValues = rankedValues
        ends = gathered.ends
    }

    var seriesCount: Int { ends.count }
    func valueCount(_ name: Int) -> Int { valuesInOrder[name].count }

    func value(_ name: Int, _ rank: Int) -> ArraySlice<UInt8> {
        let interner = interners[name]
        return interner.bytes[interner.range(valuesInOrder[name][rank])]
    }

    func pairs(_ series: Int) -> Range<Int> { (series == 0 ? 0 : ends[series - 1])..<ends[series] }

    private static func ranks(_ order: [Int]) -> [UInt32] {
        var ranks = [UInt32](repeating: 0, count: order.count)
        for (rank, number) in order.enumerated() { ranks[number] = UInt32(rank) }
        return ranks
    }
}

struct LabelIndexWriter {
    let labels: RankedLabels
    let file: SegmentFileWriter

    /// Writes all pages; returns the place of the directory.
    func write() throws(ObsError) -> FramePlace {
        let byName = seriesByName()
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(labels.seriesCount))
        directory.appendVarint(UInt64(labels.names.count))
        for name in labels.names.indices {
            directory.appendText(labels.names[name])
            let pages = try writePages(name, byName[name])
            directory.appendVarint(UInt64(labels.valueCount(name)))
            directory.appendVarint(UInt64(pages.count))
            for page in pages {
                directory.appendVarint(UInt64(page.values))
                directory.appendText(page.first)
                directory.appendPlace(page.valuesPlace)
                directory.appendPlace(page.postingsPlace)
            }
        }
        return try file.append(directory)
    }

    private struct Page {
        var values: Int
        var first: ArraySlice<UInt8>
        var valuesPlace: FramePlace
        var postingsPlace: FramePlace
    }

    /// Series and value rank of each pair, by name; in series order.
    private func seriesByName() -> [[(series: UInt32, value: UInt32)]] {
        var result = [[(series: UInt32, value: UInt32)]](repeating: [], count: labels.names.count)
        for series in 0..<labels.seriesCount {
            for pair in labels.pairs(series) { result[Int(labels.pairNames[pair])].append((UInt32(series), labels.pairValues[pair])) }
        }
        return result
    }

    private func writePages(_ name: Int, _ pairs: [(series: UInt32, value: UInt32)]) throws(ObsError) -> [Page] {
        let (starts, ordinals) = sortedByValue(pairs, valueCount: labels.valueCount(name))
        var pages: [Page] = []
        var values: [UInt8] = []
        var postings: [UInt8] = []
        var lengths: [Int64] = []
        var first = 0
        for value in 0..<labels.valueCount(name) {
            appendFrontCoded(labels.value(name, value), after: value == first ? [] : labels.value(name, value - 1), to: &values)
            let start = postings.count
            appendGaps(ordinals[starts[value]..<starts[value + 1]], to: &postings)
            lengths.append(Int64(postings.count - start))
            let isFull = lengths.count >= SegmentLimits.pageValuesMax || postings.count >= SegmentLimits.pagePostingsBytesMax
            guard isFull || value + 1 == labels.valueCount(name) else { continue }
            var content: [UInt8] = []
            IntegerCodec.append(lengths, to: &content)
            content.append(contentsOf: postings)
            pages.append(
                Page(
                    values: lengths.count, first: labels.value(name, first), valuesPlace: try file.append(values),
                    postingsPlace: try file.append(content)))
            values.removeAll(keepingCapacity: true)
            postings.removeAll(keepingCapacity: true)
            lengths.removeAll(keepingCapacity: true)
            first = value + 1
        }
        return pages
    }

    /// Counting sort by value; stable, so ordinals of a value stay ascending.
    private func sortedByValue(_ pairs: [(series: UInt32, value: UInt32)], valueCount: Int) -> (starts: [Int], ordinals: [UInt32]) {
        var starts = [Int](repeating: 0, count: valueCount + 1)
        for pair in pairs { starts[Int(pair.value) + 1] += 1 }
        for value in 0..<valueCount { starts[value + 1] += starts[value] }
        var next = starts
        var ordinals = [UInt32](repeating: 0, count: pairs.count)
        for pair in pairs {
            ordinals[next[Int(pair.value)]] = pair.series
            next[Int(pair.value)] += 1
        }
        return (starts, ordinals)
    }

    /// `varint count · first ordinal · gaps`, each gap less one: a run of neighbours is a run of zeros.
    private func appendGaps(_ ordinals: ArraySlice<UInt32>, to output: inout [UInt8]) {
        output.appendVarint(UInt64(ordinals.count))
        var next: UInt32 = 0
        for ordinal in ordinals {
            output.appendVarint(UInt64(ordinal - next))
            next = ordinal + 1
        }
    }
}

/// `varint shared prefix · varint length of the rest · rest`.
func appendFrontCoded(_ text: ArraySlice<UInt8>, after before: ArraySlice<UInt8>, to output: inout [UInt8]) {
    var shared = 0
    for (a, b) in zip(text, before) {
        if a != b { break }
        shared += 1
    }
    output.appendVarint(UInt64(shared))
    output.appendText(text.dropFirst(shared))
}

extension ByteCursor {
    /// Front-coded strings into `bytes`, as ranges. Prefixes repeat, so a bound keeps a small frame from becoming a large buffer.
    mutating func frontCoded(count: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        var ranges: [ByteRange] = []
        ranges.reserveCapacity(min(count, remaining))
        var before = 0..<0
        for _ in 0..<count {
            let shared = try self.count(max: before.count)
            let rest = try text()
            guard bytes.count + shared + rest.count <= Frame.rawBytesMax else { throw ObsError(.corrupt, "front-coded strings are too long") }
            let start = bytes.count
            bytes.append(contentsOf: bytes[before.lowerBound..<before.lowerBound + shared])
            bytes.append(contentsOf: rest)
            before = start..<bytes.count
            ranges.append(ByteRange(before))
        }
        return ranges
    }
}
