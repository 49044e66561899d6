// The visit of log sources in time order. Work is a heap of sources by their newest (backward) or oldest (forward) time: head batches, segments and, once a
// segment is opened, its blocks. A source is read only when its turn comes, so that a sink that has its fill never opens what lies beyond.

internal import ObsCore
internal import ObsEncoding
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
        case block(LogSegment, LogBlockView, matching: ArraySlice<Bool>, segment: Int)
    }

    private struct Work {
        var first: Int64
        var last: Int64
        var source: Source
    }

    let selection: LogSelection
    let context: QueryContext
    let sink: any LogSink
    private let workers: ScanWorkers
    private var heap: [Work] = []
    private var zones = OverlapZones([])
    private var seen = SeenRows()
    /// Per head generation: whether each stream satisfies the matchers.
    private var headStreams: [[Bool]] = []
    /// Per opened segment: what of it is deleted.
    private var masks: [DeletedRows] = []
    private var deletions = Deletions()
    /// Blocks read at a time: more while the sink goes on wanting them.
    private var window = 1
    private static let windowMax = 32

    init(_ selection: LogSelection, context: QueryContext, workers: ScanWorkers, sink: any LogSink) {
        self.selection = selection
        self.context = context
        self.workers = workers
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
            case .block: try visit(blocks(from: work))
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

    /// Times that both the selection and the sink want.
    private var wantedNanos: Range<Int64> {
        let wanted = sink.wantedNanos
        let first = max(wanted.lowerBound, selection.startNanos)
        return first..<max(first, min(wanted.upperBound, selection.endNanos))
    }

    private func isWanted(_ first: Int64, _ last: Int64) -> Bool {
        let wanted = wantedNanos
        return first < wanted.upperBound && last >= wanted.lowerBound
    }

    private mutating func open(_ segment: LogSegment) throws(ObsError) {
        let reader = try segment.reader()
        context.count(segments: 1)
        let matching = reader.streams.map { selection.matchers.match($0) }
        guard matching.contains(true) else { return }
        masks.append(deletions.mask(of: segment.info))
        for (number, info) in reader.blocks.enumerated() where matching[info.firstStream...info.lastStream].contains(true) {
            let source = Source.block(segment, reader.block(number), matching: matching[info.firstStream...info.lastStream], segment: masks.count - 1)
            push(Work(first: info.minNanos, last: info.maxNanos, source: source))
        }
    }

    // MARK: Heads

    private mutating func visit(_ entry: HeadBatch<LogBatch>, streams: [Bool]) throws(ObsError) {
        let batch = entry.batch
        let past = DeletedRows(expiry: deletions.expiry.concerning(entry.minTime))
        let hidden = past.isEmpty ? [] : batch.streams.indices.map { past.rows(batch.labels(ofStream: UInt32($0))) }
        let matching = entry.streamIDs.map { streams[Int($0)] }
        let wanted = wantedNanos
        let rows = batch.bytes.withUnsafeBytes { bytes in
            (0..<batch.count).filter { row in
                let time = batch.timeNanos[row]
                guard wanted.contains(time), matching[Int(batch.stream[row])] else { return false }
                let line = UnsafeRawBufferPointer(rebasing: bytes[batch.line[row].range])
                guard selection.lines.allSatisfy({ $0.passes(line) }),
                    selection.fields.pass(line: batch.line[row], attributes: batch.attributes[row], in: bytes)
                else { return false }
                return hidden.isEmpty || !hidden[Int(batch.stream[row])].contains(time, line: batch.line[row], in: bytes)
            }
        }
        context.count(rows: batch.count)
        try feed(batch, rows: rows)
    }

    // MARK: Blocks

    /// A block, and those that come next, as far as they are known.
    private mutating func blocks(from first: Work) -> [Work] {
        var run = [first]
        while run.count < window, let next = heap.first, case .block = next.source {
            _ = pop()
            if isWanted(next.first, next.last) { run.append(next) }
        }
        window = min(window * 2, Self.windowMax)
        return run
    }

    /// A block's rows that are wanted, and the first portion of them, read.
    private struct Portion: Sendable {
        var block: LogBlockView
        var segment: LogSegment
        var rest: RowSet
        var batch: LogBatch?
    }

    private mutating func visit(_ run: [Work]) throws(ObsError) {
        let (selection, context, masks, wanted) = (selection, context, masks, wantedNanos)
        let needed = run.map { neededColumns($0.first, $0.last) }
        let portions = try workers.map(run.count) { index throws(ObsError) -> Portion in
            try context.check()
            guard case .block(let segment, let block, let matching, let number) = run[index].source else { throw ObsError(.internalError, "no block") }
            let hidden = masks[number].isEmpty ? [] : block.streams.map { masks[number].rows($0) }
            return try segment.reading { () throws(ObsError) in
                let rows = try selection.rows(of: block, matching: matching, times: wanted, hidden: hidden)
                context.count(blocks: 1, bytesRead: block.info.bytes, rows: block.rows)
                return try Self.next(Portion(block: block, segment: segment, rest: rows), selection, needed[index], context)
            }
        }
        for (index, portion) in portions.enumerated() {
            var portion = portion
            while let batch = portion.batch {
                defer { context.release(bytes: batch.byteSize) }
                try feed(batch, rows: Array(0..<batch.count))
                if portion.rest.isEmpty { break }
                try context.check()
                let wanted = wantedNanos
                guard portion.block.info.minNanos < wanted.upperBound, portion.block.info.maxNanos >= wanted.lowerBound else { break }
                portion = try portion.segment.reading { () throws(ObsError) in
                    let times = try portion.block.times()
                    for row in portion.rest.rows where !wanted.contains(times[row]) { portion.rest.remove(row) }
                    return try Self.next(portion, selection, needed[index], context)
                }
            }
        }
    }

    /// Reads the next rows of a portion's rest.
    private static func next(
        _ portion: Portion, _ selection: LogSelection, _ columns: LogColumns, _ context: QueryContext
    ) throws(ObsError) -> Portion {
        var portion = portion
        portion.batch = nil
        if portion.rest.isEmpty { return portion }
        let rows = try best(portion, selection)
        portion.rest.subtract(rows)
        let batch = try portion.block.batch(of: rows, columns: columns)
        try context.charge(bytes: batch.byteSize)
        portion.batch = batch
        return portion
    }

    /// As many rows as the sink means to keep, of those at the wanted end.
    private static func best(_ portion: Portion, _ selection: LogSelection) throws(ObsError) -> RowSet {
        guard let limit = selection.limit, portion.rest.population > max(limit, 1) else { return portion.rest }
        let times = try portion.block.times()
        var numbers = portion.rest.rows
        if portion.block.streams.count > 1 { numbers.sort { (times[$0], $0) < (times[$1], $1) } }
        var rows = RowSet(count: portion.rest.count)
        for row in selection.direction == .backward ? numbers.suffix(max(limit, 1)) : numbers.prefix(max(limit, 1)) { rows.insert(row) }
        return rows
    }

    /// What is read of rows of those times: what makes a row the same as another, where there may be two.
    private func neededColumns(_ first: Int64, _ last: Int64) -> LogColumns {
        zones.overlaps(first...last) ? selection.columns.union([.line, .attributes, .identifiers]) : selection.columns
    }

    /// Hands rows out that satisfy everything, those that came twice once.
    private mutating func feed(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
        var kept: [Int] = []
        kept.reserveCapacity(rows.count)
        batch.bytes.withUnsafeBytes { bytes in
            for row in rows {
                if batch.flags[row].contains(.identified), zones.contains(batch.timeNanos[row]),
                    !seen.insert(RowIdentity.log(batch, row: row, bytes: bytes))
                {
                    continue
                }
                kept.append(row)
            }
        }
        if !kept.isEmpty { try sink.consume(batch, rows: kept) }
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
