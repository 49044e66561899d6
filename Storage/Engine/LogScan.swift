// The visit of log sources in time order. Work is a heap of sources by their newest (backward) or oldest (forward) time: head batches, segments and, once a
// segment is opened, its blocks. A source is read only when its turn comes, so that a sink that has its fill never opens what lies beyond.

internal import Glibc
internal import ObsCore
internal import ObsSegment
internal import ObsStore

typealias LogSegment = SegmentHandle<LogSegmentReader>

/// The log sources of one tenant at one moment.
struct LogSources {
    /// A generation's batches and its stream table with the count to trust.
    var heads: [(batches: BatchList<LogBatch>, streams: SeriesTable, streamCount: Int)] = []
    var segments: [LogSegment] = []
    var deletions = Deletions()
}

struct LogScan {
    private enum Source {
        case batch(HeadBatch<LogBatch>, head: Int)
        case segment(LogSegment)
        case block(LogSegment, LogSegmentReader, Int, streams: Int)
    }

    private struct Work {
        var first: Int64
        var last: Int64
        var source: Source
    }

    let selection: LogSelection
    let context: QueryContext
    let sink: any LogSink
    private var heap: [Work] = []
    private var zones = OverlapZones([])
    private var seen = SeenRows()
    /// Per head generation: whether each stream satisfies the matchers.
    private var headStreams: [[Bool]] = []
    /// Per opened segment: the same, and what of it is deleted.
    private var segmentStreams: [(matching: [Bool], mask: DeletedRows)] = []
    private var deletions = Deletions()

    init(_ selection: LogSelection, context: QueryContext, sink: any LogSink) {
        self.selection = selection
        self.context = context
        self.sink = sink
    }

    mutating func run(_ sources: LogSources) throws(ObsError) {
        guard selection.startNanos < selection.endNanos else { return }
        deletions = sources.deletions
        collect(sources)
        while let work = pop() {
            try context.check()
            guard isWanted(work.first, work.last) else { continue }
            switch work.source {
            case .batch(let entry, let head): try visit(entry, streams: headStreams[head])
            case .segment(let segment): try open(segment)
            case .block(let segment, let reader, let block, let streams):
                try visit(segment, reader, block, streams: segmentStreams[streams].matching, mask: segmentStreams[streams].mask)
            }
        }
    }

    private mutating func collect(_ sources: LogSources) {
        let range = selection.startNanos...(selection.endNanos - 1)
        var ranges: [ClosedRange<Int64>] = []
        for (index, head) in sources.heads.enumerated() {
            headStreams.append((0..<head.streamCount).map { selection.matchers.match(head.streams[$0].pointee.labelBytes) })
            head.batches.forEach { entry in
                guard entry.minTime <= range.upperBound, entry.maxTime >= range.lowerBound, entry.streamIDs.contains(where: { headStreams[index][Int($0)] })
                else { return }
                push(Work(first: entry.minTime, last: entry.maxTime, source: .batch(entry, head: index)))
                ranges.append(entry.minTime...entry.maxTime)
                if entry.mayRepeat { ranges.append(entry.minTime...entry.maxTime) }
            }
        }
        for segment in sources.segments where segment.overlaps(range) {
            push(Work(first: segment.info.minTime, last: segment.info.maxTime, source: .segment(segment)))
            ranges.append(segment.info.minTime...segment.info.maxTime)
        }
        zones = OverlapZones(ranges)
    }

    private func isWanted(_ first: Int64, _ last: Int64) -> Bool {
        let wanted = sink.wantedNanos
        return first < min(wanted.upperBound, selection.endNanos) && last >= max(wanted.lowerBound, selection.startNanos)
    }

    private mutating func open(_ segment: LogSegment) throws(ObsError) {
        let reader = try segment.reader()
        context.count(segments: 1)
        let matching = reader.streams.map { selection.matchers.match($0) }
        guard matching.contains(true) else { return }
        segmentStreams.append((matching, deletions.mask(of: segment.info)))
        for (index, block) in reader.blocks.enumerated() where matching[block.firstStream...block.lastStream].contains(true) {
            push(Work(first: block.minNanos, last: block.maxNanos, source: .block(segment, reader, index, streams: segmentStreams.count - 1)))
        }
    }

    private mutating func visit(_ entry: HeadBatch<LogBatch>, streams: [Bool]) throws(ObsError) {
        let batch = entry.batch
        let past = DeletedRows(expiry: deletions.expiry.concerning(entry.minTime))
        let hidden = past.isEmpty ? [] : batch.streams.indices.map { past.rows(batch.labels(ofStream: UInt32($0))) }
        try feed(batch, matching: entry.streamIDs.map { streams[Int($0)] }, hidden: hidden)
    }

    private mutating func visit(_ segment: LogSegment, _ reader: LogSegmentReader, _ block: Int, streams: [Bool], mask: DeletedRows) throws(ObsError) {
        let batch = try segment.reading { () throws(ObsError) in try reader.read(block: block) }
        context.count(blocks: 1, bytesRead: reader.blocks[block].bytes)
        try context.charge(bytes: batch.byteSize)
        defer { context.release(bytes: batch.byteSize) }
        // A block's stream table may be the segment's or its own: match what it has.
        let matching =
            batch.streams.count == streams.count ? streams : batch.streams.indices.map { selection.matchers.match(batch.labels(ofStream: UInt32($0))) }
        let hidden = mask.isEmpty ? [] : batch.streams.indices.map { mask.rows(batch.labels(ofStream: UInt32($0))) }
        try feed(batch, matching: matching, hidden: hidden)
    }

    /// - Parameter hidden: for each of the batch's streams; empty when nothing is.
    private mutating func feed(_ batch: LogBatch, matching: [Bool], hidden: [HiddenRows]) throws(ObsError) {
        let wanted = sink.wantedNanos
        let first = max(wanted.lowerBound, selection.startNanos)
        let end = min(wanted.upperBound, selection.endNanos)
        var rows: [Int] = []
        batch.bytes.withUnsafeBytes { bytes in
            for row in 0..<batch.count {
                let time = batch.timeNanos[row]
                guard time >= first, time < end, matching[Int(batch.stream[row])], containsAll(bytes, batch.line[row]) else { continue }
                if !hidden.isEmpty, hidden[Int(batch.stream[row])].contains(time, line: batch.line[row], in: bytes) { continue }
                if batch.flags[row].contains(.identified), zones.contains(time), !seen.insert(RowIdentity.log(batch, row: row, bytes: bytes)) { continue }
                rows.append(row)
            }
        }
        context.count(rows: batch.count)
        if !rows.isEmpty { try sink.consume(batch, rows: rows) }
    }

    private func containsAll(_ bytes: UnsafeRawBufferPointer, _ line: ByteRange) -> Bool {
        for needle in selection.lineContains where !contains(UnsafeRawBufferPointer(rebasing: bytes[line.range]), needle) { return false }
        return true
    }

    // MARK: The heap

    private func precedes(_ a: Work, _ b: Work) -> Bool { selection.direction == .backward ? a.last > b.last : a.first < b.first }

    private mutating func push(_ work: Work) {
        heap.append(work)
        var at = heap.count - 1
        while at > 0, precedes(heap[at], heap[(at - 1) / 2]) {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    private mutating func pop() -> Work? {
        guard let top = heap.first else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var at = 0
        while true {
            var least = at
            for child in [2 * at + 1, 2 * at + 2] where child < heap.count && precedes(heap[child], heap[least]) { least = child }
            if least == at { return top }
            heap.swapAt(at, least)
            at = least
        }
    }
}

/// Whether `needle` occurs in `text`. Candidates by memchr on the first byte, which the C library scans 32 bytes at a time.
func contains(_ text: UnsafeRawBufferPointer, _ needle: [UInt8]) -> Bool {
    guard let first = needle.first else { return true }
    guard needle.count <= text.count, let base = text.baseAddress else { return false }
    return needle.withUnsafeBytes { wanted in
        guard let pattern = wanted.baseAddress else { return true }
        var at = base
        let last = base + (text.count - needle.count)
        while at <= last, let found = memchr(at, Int32(first), last - at + 1) {
            if memcmp(found, pattern, needle.count) == 0 { return true }
            at = UnsafeRawPointer(found) + 1
        }
        return false
    }
}
