internal import ObsCore
internal import ObsEncoding

// What finds series by label, written after the blocks. Nothing here has to be loaded whole: the directory names pages, a page is one frame.
//
//   labelIndex section   the directory: label names in order, for each the first value of each page and where the page's two frames lie
//   value page           sorted values of one label, front-coded: each shares a prefix with the one before
//   postings page        for the same values: ordinals of the series that have them, as gaps or as a Roaring set (docs/adr/004-postings.md)
//
// A value's number is its rank among the values of its label; the series table (SeriesTableWriter) stores these numbers.

struct LabelIndexWriter {
    private let labels: SeriesLabels
    private let file: SegmentFileWriter
    private var postings: PostingLists

    /// - Parameter labels: ranked.
    init(labels: SeriesLabels, file: SegmentFileWriter) {
        self.labels = labels
        self.file = file
        postings = PostingLists(labels)
    }

    /// Writes all pages; returns the place of the directory.
    mutating func write() throws(ObsError) -> FramePlace {
        var directory: [UInt8] = []
        directory.appendVarint(UInt64(labels.count))
        directory.appendVarint(UInt64(labels.names.count))
        for name in labels.names.indices {
            directory.appendText(labels.names[name])
            let pages = try writePages(labels.ranks(name))
            directory.appendVarint(UInt64(labels.ranks(name).count))
            directory.appendVarint(UInt64(pages.count))
            for page in pages {
                directory.appendVarint(UInt64(page.values))
                directory.appendText(labels.value(page.first))
                directory.appendPlace(page.valuesPlace)
                directory.appendPlace(page.postingsPlace)
            }
        }
        return try file.append(directory)
    }

    private struct Page {
        var values: Int
        var first: Int
        var valuesPlace: FramePlace
        var postingsPlace: FramePlace
    }

    private mutating func writePages(_ ranks: Range<Int>) throws(ObsError) -> [Page] {
        var pages: [Page] = []
        var values: [UInt8] = []
        var lists: [UInt8] = []
        var lengths: [Int64] = []
        var first = ranks.lowerBound
        for rank in ranks {
            appendFrontCoded(labels.value(rank), after: rank == first ? UnsafeRawBufferPointer(start: nil, count: 0) : labels.value(rank - 1), to: &values)
            let start = lists.count
            postings.append(rank, to: &lists)
            lengths.append(Int64(lists.count - start))
            let isFull = lengths.count >= SegmentLimits.pageValuesMax || lists.count >= SegmentLimits.pagePostingsBytesMax
            guard isFull || rank + 1 == ranks.upperBound else { continue }
            var content: [UInt8] = []
            IntegerCodec.append(lengths, to: &content)
            content.append(contentsOf: lists)
            pages.append(Page(values: lengths.count, first: first, valuesPlace: try file.append(values), postingsPlace: try file.append(content)))
            values.removeAll(keepingCapacity: true)
            lists.removeAll(keepingCapacity: true)
            lengths.removeAll(keepingCapacity: true)
            first = rank + 1
        }
        return pages
    }
}

/// Ordinals of the series that have a label, for one label after the other. Made for as many labels at a time as a bounded buffer holds, by a walk
/// over all series: a counting sort by rank, stable, so that ordinals ascend.
private struct PostingLists {
    /// Ordinals made at a time; more only where one label has more series.
    private static let ordinalsMax = 4 << 20
    private let labels: SeriesLabels
    private var ranks = 0..<0
    /// Where the lists of `ranks` end in `ordinals`.
    private var ends: [UInt32] = []
    private var ordinals: [UInt32] = []

    init(_ labels: SeriesLabels) { self.labels = labels }

    /// `varint count · first ordinal · gaps`, each gap less one, or `0 · Roaring set` where that is half as long or less: lists of runs and dense ones.
    /// Ranks come in order.
    mutating func append(_ rank: Int, to output: inout [UInt8]) {
        if !ranks.contains(rank) { fill(from: rank) }
        let index = rank - ranks.lowerBound
        let list = (index == 0 ? 0 : Int(ends[index - 1]))..<Int(ends[index])
        let start = output.count
        defer { shorten(list, from: start, in: &output) }
        output.appendVarint(UInt64(list.count))
        var next: UInt32 = 0
        for ordinal in ordinals[list] {
            output.appendVarint(UInt64(ordinal - next))
            next = ordinal + 1
        }
    }

    /// Replaces a list of gaps by a Roaring set where that is half as long or less: zstd makes gaps smaller still, a Roaring set's columns hardly.
    private func shorten(_ list: Range<Int>, from start: Int, in output: inout [UInt8]) {
        // Gaps take a byte each at least, a Roaring set more than this.
        guard list.count >= SegmentLimits.roaringSeriesMin else { return }
        var roaring: [UInt8] = [0]
        let isSmaller = ordinals.withUnsafeBufferPointer {
            RoaringCodec.append(UnsafeBufferPointer(rebasing: $0[list]), bytesMax: (output.count - start) / 2 - 1, to: &roaring)
        }
        if isSmaller { output.replaceSubrange(start..., with: roaring) }
    }

    private mutating func fill(from first: Int) {
        var total = Int(labels.seriesCounts[first])
        var end = first + 1
        while end < labels.seriesCounts.count, total + Int(labels.seriesCounts[end]) <= Self.ordinalsMax {
            total += Int(labels.seriesCounts[end])
            end += 1
        }
        ranks = first..<end
        // Starts, which filling moves on to ends.
        ends.removeAll(keepingCapacity: true)
        var start: UInt32 = 0
        for rank in ranks {
            ends.append(start)
            start += labels.seriesCounts[rank]
        }
        ordinals.removeAll(keepingCapacity: true)
        ordinals.append(contentsOf: repeatElement(0, count: total))
        let low = UInt32(first)
        let high = UInt32(end)
        ordinals.withUnsafeMutableBufferPointer { ordinals in
            ends.withUnsafeMutableBufferPointer { next in
                labels.forEach(0..<labels.count) { ordinal, ranks in
                    for rank in ranks where rank >= low && rank < high {
                        ordinals[Int(next[Int(rank - low)])] = UInt32(ordinal)
                        next[Int(rank - low)] += 1
                    }
                }
            }
        }
    }
}

/// `varint shared prefix · varint length of the rest · rest`.
func appendFrontCoded(_ text: UnsafeRawBufferPointer, after before: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    var shared = 0
    while shared < text.count, shared < before.count, text[shared] == before[shared] { shared += 1 }
    output.appendVarint(UInt64(shared))
    output.appendText(UnsafeRawBufferPointer(rebasing: text[shared...]))
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
