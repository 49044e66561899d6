// Sorted runs of events into one. Each input holds one block; rows are taken from whichever input is next, for as long as it stays next, and handed to the
// writer before a block makes room for its successor. So memory is one block an input, however big the segments are.

internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsSegment

/// The rows of one input, a block at a time.
protocol EventCursor: AnyObject {
    associatedtype Batch
    /// What rows are ordered by through a segment.
    associatedtype Key: Comparable
    var batch: Batch { get }
    var rowCount: Int { get }
    /// False at the end.
    func readBlock() throws(ObsError) -> Bool
    func key(_ row: Int) -> Key
    func isDeleted(_ row: Int) -> Bool
    /// Nil for a row that may be there twice in its own right.
    func identity(_ row: Int) -> Hash128?
    /// Whether rows with these keys could be the same event.
    static func mayRepeat(_ a: Key, _ b: Key) -> Bool
    var path: String { get }
}

struct EventMerge<Cursor: EventCursor> {
    /// Oldest first.
    private let cursors: [Cursor]
    private let check: () throws(ObsError) -> Void
    private let write: ([Cursor.Batch], [RowPlace]) throws(ObsError) -> Void
    /// The present row of each input.
    private var rows: [Int]
    /// Inputs that are not at their end.
    private var live: [Int] = []
    private var taken: [RowPlace] = []
    private var written = 0
    // The rows last taken that could be one event: the first is hashed when a second comes.
    private var groupKey: Cursor.Key?
    private var groupFirst: RowPlace?
    private var seen: SeenRows?

    /// - Parameters:
    ///   - check: throws when the merge is to end.
    ///   - write: takes rows of the inputs' present blocks.
    init(
        _ cursors: [Cursor], check: @escaping () throws(ObsError) -> Void, write: @escaping ([Cursor.Batch], [RowPlace]) throws(ObsError) -> Void
    ) {
        self.cursors = cursors
        self.check = check
        self.write = write
        rows = [Int](repeating: 0, count: cursors.count)
    }

    /// - Returns: how many rows are in the output.
    mutating func run() throws(ObsError) -> Int {
        for input in cursors.indices where try cursors[input].readBlock() { live.append(input) }
        while let (input, limit) = next() {
            try check()
            try take(input, before: limit)
        }
        try hand()
        return written
    }

    /// The input whose turn it is, and the one after it.
    private func next() -> (input: Int, limit: Int?)? {
        guard var first = live.first else { return nil }
        var second: Int?
        for input in live.dropFirst() {
            if key(input) < key(first) {
                second = first
                first = input
            } else if second.map({ key(input) < key($0) }) ?? true {
                second = input
            }
        }
        return (first, second)
    }

    private func key(_ input: Int) -> Cursor.Key { cursors[input].key(rows[input]) }

    /// Takes rows of an input up to another's turn or the end of the block.
    private mutating func take(_ input: Int, before other: Int?) throws(ObsError) {
        let cursor = cursors[input]
        var key = key(input)
        let limit = other.map { self.key($0) }
        while true {
            if !cursor.isDeleted(rows[input]) { add(RowPlace(source: UInt32(input), row: UInt32(rows[input])), key) }
            rows[input] += 1
            if rows[input] == cursor.rowCount {
                guard try advance(input) else { return }
            }
            let following = cursor.key(rows[input])
            if following < key { throw ObsError(.corrupt, "rows of a segment are out of order", place: "\(cursor.path):0") }
            key = following
            if let limit, let other, limit < key || (limit == key && other < input) { return }
        }
    }

    private mutating func advance(_ input: Int) throws(ObsError) -> Bool {
        try hand()
        // Its row must be known when it is gone.
        if let first = groupFirst, Int(first.source) == input { hashFirst() }
        try check()
        rows[input] = 0
        if try cursors[input].readBlock() { return true }
        live.removeAll { $0 == input }
        return false
    }

    private mutating func add(_ place: RowPlace, _ key: Cursor.Key) {
        if let group = groupKey, Cursor.mayRepeat(group, key) {
            let isAlone = groupFirst == nil && seen == nil
            if isAlone {
                if identity(place) != nil { groupFirst = place }
            } else if let identity = identity(place) {
                hashFirst()
                if seen?.insert(identity) == false { return }
            }
        } else {
            groupKey = key
            groupFirst = place
            seen = nil
        }
        taken.append(place)
    }

    private mutating func hashFirst() {
        guard let first = groupFirst else { return }
        groupFirst = nil
        var rows = seen ?? SeenRows()
        if let identity = identity(first) { _ = rows.insert(identity) }
        seen = rows
    }

    private func identity(_ place: RowPlace) -> Hash128? { cursors[Int(place.source)].identity(Int(place.row)) }

    private mutating func hand() throws(ObsError) {
        guard !taken.isEmpty else { return }
        try write(cursors.map(\.batch), taken)
        written += taken.count
        taken.removeAll(keepingCapacity: true)
    }
}

/// Log records of one segment.
final class LogCursor: EventCursor {
    struct Key: Comparable {
        var stream: UInt32
        var time: Int64
        var arrival: UInt64

        static func < (a: Key, b: Key) -> Bool {
            if a.stream != b.stream { return a.stream < b.stream }
            return a.time != b.time ? a.time < b.time : a.arrival < b.arrival
        }
    }

    let reader: LogSegmentReader
    let path: String
    private let mask: any RowMask
    /// Of the segment's streams, their positions among those of all inputs.
    private let ranks: [UInt32]
    private(set) var batch = LogBatch()
    private var block = 0
    private var firstStream = 0
    /// Of the block's streams.
    private var hidden: [HiddenRows] = []

    init(_ input: MergeInput, _ reader: LogSegmentReader, ranks: [UInt32]) {
        self.reader = reader
        self.ranks = ranks
        path = input.path
        mask = input.mask
    }

    var rowCount: Int { batch.count }

    func readBlock() throws(ObsError) -> Bool {
        guard block < reader.blocks.count else {
            batch = LogBatch()
            return false
        }
        batch = try reader.read(block: block)
        firstStream = reader.blocks[block].firstStream
        block += 1
        hidden = []
        if !mask.isEmpty {
            hidden = batch.streams.map { labels in batch.bytes.withUnsafeBytes { mask.rows(labels: UnsafeRawBufferPointer(rebasing: $0[labels.range])) } }
        }
        return true
    }

    func key(_ row: Int) -> Key {
        Key(stream: ranks[firstStream + Int(batch.stream[row])], time: batch.timeNanos[row], arrival: batch.arrival[row])
    }

    func isDeleted(_ row: Int) -> Bool {
        guard !hidden.isEmpty else { return false }
        return batch.bytes.withUnsafeBytes { hidden[Int(batch.stream[row])].contains(batch.timeNanos[row], line: batch.line[row], in: $0) }
    }

    func identity(_ row: Int) -> Hash128? {
        guard batch.flags[row].contains(.identified) else { return nil }
        return batch.bytes.withUnsafeBytes { RowIdentity.log(batch, row: row, bytes: $0) }
    }

    static func mayRepeat(_ a: Key, _ b: Key) -> Bool { a.stream == b.stream && a.time == b.time }
}

/// Spans of one segment.
final class SpanCursor: EventCursor {
    struct Key: Comparable {
        var trace: TraceID
        var start: Int64

        static func < (a: Key, b: Key) -> Bool { a.trace == b.trace ? a.start < b.start : a.trace < b.trace }
    }

    let path: String
    private let reader: SpanSegmentReader
    private let mask: any RowMask
    private let hasDeleted: Bool
    private(set) var batch = SpanBatch()
    private var block = 0

    init(_ input: MergeInput, _ reader: SpanSegmentReader) {
        self.reader = reader
        path = input.path
        mask = input.mask
        hasDeleted = !input.mask.isEmpty
    }

    var rowCount: Int { batch.count }

    func readBlock() throws(ObsError) -> Bool {
        guard block < reader.blocks.count else {
            batch = SpanBatch()
            return false
        }
        batch = try reader.read(block: block)
        block += 1
        return true
    }

    func key(_ row: Int) -> Key { Key(trace: batch.traceID[row], start: batch.startNanos[row]) }
    func isDeleted(_ row: Int) -> Bool { hasDeleted && mask.isDeleted(batch, row: row) }
    func identity(_ row: Int) -> Hash128? { batch.bytes.withUnsafeBytes { RowIdentity.span(batch, row: row, bytes: $0) } }
    static func mayRepeat(_ a: Key, _ b: Key) -> Bool { a == b }
}
