// Blocks of logs and of spans as a merge sees them.

internal import ObsCore
internal import ObsHash
internal import ObsSegment

/// A segment of logs to be merged.
final class LogInput {
    let reader: LogSegmentReader
    let path: String
    let position: Int
    /// Of the segment's streams, their positions among those of all inputs.
    let ranks: [UInt32]
    /// Of the segment's streams; empty when nothing is hidden.
    let hidden: [HiddenRows]
    let memory: BlockMemory

    init(_ input: MergeInput, _ reader: LogSegmentReader, position: Int, ranks: [UInt32], memory: BlockMemory) {
        self.reader = reader
        self.position = position
        self.ranks = ranks
        self.memory = memory
        path = input.path
        hidden = input.mask.isEmpty ? [] : reader.streams.map { labels in labels.bytes.withUnsafeBytes { input.mask.rows(labels: $0) } }
    }

    var blocks: [LogBlock] { reader.blocks.indices.map { LogBlock(self, $0) } }
}

final class LogBlock: EventBlock {
    struct Key: Comparable {
        var stream: UInt32
        var time: Int64
        var arrival: UInt64

        static func < (a: Key, b: Key) -> Bool {
            if a.stream != b.stream { return a.stream < b.stream }
            return a.time != b.time ? a.time < b.time : a.arrival < b.arrival
        }
    }

    private let segment: LogInput
    let number: Int
    let rowCount: Int
    let times: ClosedRange<Int64>
    private let firstStream: Int
    private let lastStream: Int
    let streams: ClosedRange<UInt32>
    let isBig: Bool
    var isCopied = false
    private(set) var batch = LogBatch()
    /// Where the rows of each of its streams begin, and the end.
    private var streamStarts: [Int] = []
    private var isComplete = false
    private var heldBytes = 0
    private var leftOut: Set<Int> = []

    init(_ segment: LogInput, _ number: Int) {
        self.segment = segment
        self.number = number
        let info = segment.reader.blocks[number]
        rowCount = info.rows
        times = info.minNanos...info.maxNanos
        firstStream = info.firstStream
        lastStream = info.lastStream
        streams = segment.ranks[info.firstStream]...segment.ranks[info.lastStream]
        // A block's streams are neighbours in its segment: where another input has one in between it cannot be copied.
        isBig = info.isBig && streams.count == info.lastStream - info.firstStream + 1
    }

    var reader: LogSegmentReader { segment.reader }
    var path: String { segment.path }
    var input: Int { segment.position }
    var lowerBound: Key { Key(stream: streams.lowerBound, time: times.lowerBound, arrival: 0) }

    func readKeys() throws(ObsError) {
        guard streamStarts.isEmpty else { return }
        batch = try reader.readKeys(block: number)
        streamStarts = [0]
        for row in 0..<rowCount { while streamStarts.count <= Int(batch.stream[row]) { streamStarts.append(row) } }
        streamStarts.append(rowCount)
    }

    func complete() throws(ObsError) {
        try readKeys()
        guard !isComplete else { return }
        let bytes = try reader.memoryBytes(block: number)
        try segment.memory.take(bytes)
        heldBytes = bytes
        try reader.readRest(block: number, into: &batch)
        isComplete = true
    }

    func close() {
        batch = LogBatch()
        streamStarts = []
        isComplete = false
        segment.memory.give(heldBytes)
        heldBytes = 0
    }

    func hasDeleted() throws(ObsError) -> Bool {
        guard !segment.hidden.isEmpty else { return false }
        let hidden = segment.hidden[firstStream...lastStream]
        let reads = hidden.contains { rows in rows.lines.contains { $0.range.overlaps(times) } }
        guard reads || hidden.contains(where: { rows in rows.times.contains { $0.overlaps(times) } }) else { return false }
        if reads {
            try complete()
            return (0..<rowCount).contains { isDeleted($0) }
        }
        try readKeys()
        return (0..<rowCount).contains { row in
            segment.hidden[firstStream + Int(batch.stream[row])].times.contains { $0.contains(batch.timeNanos[row]) }
        }
    }

    private func isDeleted(_ row: Int) -> Bool {
        guard !segment.hidden.isEmpty else { return false }
        let hidden = segment.hidden[firstStream + Int(batch.stream[row])]
        return !hidden.isEmpty && batch.bytes.withUnsafeBytes { hidden.contains(batch.timeNanos[row], line: batch.line[row], in: $0) }
    }

    func isLeftOut(_ row: Int) -> Bool { isDeleted(row) || !leftOut.isEmpty && leftOut.contains(row) }
    func leaveOut(_ row: Int) { leftOut.insert(row) }
    func identity(_ row: Int) -> Hash128 { batch.bytes.withUnsafeBytes { RowIdentity.log(batch, row: row, bytes: $0) } }

    var groupCount: Int { rowCount }
    func rows(_ group: Int) -> Range<Int> { group..<(group + 1) }
    func key(_ row: Int) -> Key { Key(stream: segment.ranks[firstStream + Int(batch.stream[row])], time: batch.timeNanos[row], arrival: batch.arrival[row]) }

    func overlap(with other: LogBlock) -> BlockOverlap {
        var overlap = BlockOverlap()
        var (here, there) = (0, 0)
        while here < streamStarts.count - 1, there < other.streamStarts.count - 1 {
            let (rank, otherRank) = (segment.ranks[firstStream + here], other.segment.ranks[other.firstStream + there])
            if rank == otherRank {
                compare(streamStarts[here]..<streamStarts[here + 1], other, other.streamStarts[there]..<other.streamStarts[there + 1], &overlap)
            }
            if rank <= otherRank { here += 1 }
            if otherRank <= rank { there += 1 }
        }
        return overlap
    }

    /// Rows of one stream in two blocks.
    private func compare(_ rows: Range<Int>, _ other: LogBlock, _ otherRows: Range<Int>, _ overlap: inout BlockOverlap) {
        guard !rows.isEmpty, !otherRows.isEmpty else { return }
        let (times, others) = (batch.timeNanos, other.batch.timeNanos)
        var here = times.first(in: rows, from: others[otherRows.lowerBound])
        let end = times.first(in: rows, past: others[otherRows.upperBound - 1])
        var there = others.first(in: otherRows, from: times[rows.lowerBound])
        let otherEnd = others.first(in: otherRows, past: times[rows.upperBound - 1])
        overlap.counts.0 += end - here
        overlap.counts.1 += otherEnd - there
        while here < end, there < otherEnd {
            let (time, otherTime) = (times[here], others[there])
            if time == otherTime {
                let (first, otherFirst) = (overlap.equals.0.count, overlap.equals.1.count)
                while here < end, times[here] == time {
                    if batch.flags[here].contains(.identified) { overlap.equals.0.append(here) }
                    here += 1
                }
                while there < otherEnd, others[there] == time {
                    if other.batch.flags[there].contains(.identified) { overlap.equals.1.append(there) }
                    there += 1
                }
                // A row that only one of them has identified has no twin.
                if overlap.equals.0.count == first || overlap.equals.1.count == otherFirst {
                    overlap.equals.0.removeSubrange(first...)
                    overlap.equals.1.removeSubrange(otherFirst...)
                }
            } else if time < otherTime {
                here += 1
            } else {
                there += 1
            }
        }
    }
}

extension [Int64] {
    /// Of ascending values the first that is not less; the end of the range when all are.
    fileprivate func first(in rows: Range<Int>, from value: Int64) -> Int {
        var (low, high) = (rows.lowerBound, rows.upperBound)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low
    }

    fileprivate func first(in rows: Range<Int>, past value: Int64) -> Int { value == .max ? rows.upperBound : first(in: rows, from: value + 1) }
}

/// A segment of spans to be merged.
final class SpanInput {
    let reader: SpanSegmentReader
    let path: String
    let position: Int
    let mask: any RowMask
    let memory: BlockMemory

    init(_ input: MergeInput, _ reader: SpanSegmentReader, position: Int, memory: BlockMemory) {
        self.reader = reader
        self.position = position
        self.memory = memory
        path = input.path
        mask = input.mask
    }

    var blocks: [SpanBlock] { reader.blocks.indices.map { SpanBlock(self, $0) } }
}

final class SpanBlock: EventBlock {
    /// Of a run of spans of one trace: the start of the first.
    struct Key: Comparable {
        var start: Int64
        var trace: TraceID

        static func < (a: Key, b: Key) -> Bool { a.start == b.start ? a.trace < b.trace : a.start < b.start }
    }

    private let segment: SpanInput
    let number: Int
    let rowCount: Int
    let times: ClosedRange<Int64>
    let isBig: Bool
    var isCopied = false
    private(set) var batch = SpanBatch()
    /// Runs of spans of one trace, in order. Blocks of version 2 and before have them in another.
    private var groups: [Range<Int>] = []
    /// Rows by span id; made when the first other block is compared.
    private var byID: [Int] = []
    private var isComplete = false
    private var heldBytes = 0
    private var leftOut: Set<Int> = []

    init(_ segment: SpanInput, _ number: Int) {
        self.segment = segment
        self.number = number
        let info = segment.reader.blocks[number]
        rowCount = info.rows
        times = info.minStartNanos...info.maxStartNanos
        isBig = info.isBig
    }

    var reader: SpanSegmentReader { segment.reader }
    var path: String { segment.path }
    var input: Int { segment.position }
    var streams: ClosedRange<UInt32> { 0...0 }
    var lowerBound: Key { Key(start: times.lowerBound, trace: .none) }

    func readKeys() throws(ObsError) {
        guard groups.isEmpty else { return }
        batch = try reader.readKeys(block: number)
        forEachTrace(batch.traceID) { groups.append($0) }
        for group in 1..<max(groups.count, 1) where key(group) < key(group - 1) {
            groups.sort { key($0) < key($1) }
            break
        }
    }

    func complete() throws(ObsError) {
        try readKeys()
        guard !isComplete else { return }
        let bytes = try reader.memoryBytes(block: number)
        try segment.memory.take(bytes)
        heldBytes = bytes
        try reader.readRest(block: number, into: &batch)
        isComplete = true
    }

    func close() {
        batch = SpanBatch()
        groups = []
        byID = []
        isComplete = false
        segment.memory.give(heldBytes)
        heldBytes = 0
    }

    func hasDeleted() throws(ObsError) -> Bool {
        guard !segment.mask.isEmpty else { return false }
        try complete()
        return (0..<rowCount).contains { segment.mask.isDeleted(batch, row: $0) }
    }

    func isLeftOut(_ row: Int) -> Bool {
        !leftOut.isEmpty && leftOut.contains(row) || !segment.mask.isEmpty && segment.mask.isDeleted(batch, row: row)
    }

    func leaveOut(_ row: Int) { leftOut.insert(row) }
    func identity(_ row: Int) -> Hash128 { batch.bytes.withUnsafeBytes { RowIdentity.span(batch, row: row, bytes: $0) } }

    var groupCount: Int { groups.count }
    func rows(_ group: Int) -> Range<Int> { groups[group] }
    func key(_ group: Int) -> Key { key(groups[group]) }
    private func key(_ group: Range<Int>) -> Key { Key(start: batch.startNanos[group.lowerBound], trace: batch.traceID[group.lowerBound]) }

    /// Equal spans have equal starts: all are within the times that both blocks have.
    func overlap(with other: SpanBlock) -> BlockOverlap {
        var overlap = BlockOverlap()
        let shared = times.clamped(to: other.times)
        overlap.counts = (batch.startNanos.count { shared.contains($0) }, other.batch.startNanos.count { shared.contains($0) })
        let (rows, others) = (rowsByID(), other.rowsByID())
        var (here, there) = (0, 0)
        while here < rows.count, there < others.count {
            let (value, otherValue) = (value(rows[here]), other.value(others[there]))
            if value == otherValue {
                while here < rows.count, self.value(rows[here]) == value {
                    overlap.equals.0.append(rows[here])
                    here += 1
                }
                while there < others.count, other.value(others[there]) == value {
                    overlap.equals.1.append(others[there])
                    there += 1
                }
            } else if value < otherValue {
                here += 1
            } else {
                there += 1
            }
        }
        return overlap
    }

    /// What equal spans have in common, of the columns that are read first.
    private func value(_ row: Int) -> (SpanID, Int64, UInt64, UInt64) {
        (batch.spanID[row], batch.startNanos[row], batch.traceID[row].high, batch.traceID[row].low)
    }

    private func rowsByID() -> [Int] {
        if byID.isEmpty { byID = (0..<rowCount).sorted { value($0) < value($1) } }
        return byID
    }
}
