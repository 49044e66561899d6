// Sorted runs of events into one. Each input holds one block; rows are taken from whichever input is next, for as long as it stays next, and handed to the
// writer before a block makes room for its successor. So memory is one block an input, however big the segments are.
//
// A block of which nothing is deleted and that no other input has a row between goes over as it is, not decoded but for the columns that say so. What came twice
// is looked for where inputs meet only: within a segment every row is there once.

internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsSegment

/// The rows of one input, a block at a time.
protocol EventCursor: AnyObject {
    associatedtype Batch
    /// What rows are ordered by through a segment.
    associatedtype Key: Comparable
    /// Of the present block: what `key` needs, after `complete` all.
    var batch: Batch { get }
    var rowCount: Int { get }
    /// The present block.
    var block: Int { get }
    /// Whether the present block is big enough to be left as it is.
    var isBig: Bool { get }
    /// Goes to the next block and reads what `key` needs; false at the end.
    func readBlock() throws(ObsError) -> Bool
    /// Reads the rest of the block, unless that was done.
    func complete() throws(ObsError)
    func key(_ row: Int) -> Key
    /// Whether a row of the block is deleted; may have to `complete` it.
    func hasDeleted() throws(ObsError) -> Bool
    // Of complete blocks:
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
    private let copy: (Cursor) throws(ObsError) -> Void
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
    ///   - copy: takes an input's present block as it is.
    init(
        _ cursors: [Cursor], check: @escaping () throws(ObsError) -> Void, write: @escaping ([Cursor.Batch], [RowPlace]) throws(ObsError) -> Void,
        copy: @escaping (Cursor) throws(ObsError) -> Void
    ) {
        self.cursors = cursors
        self.check = check
        self.write = write
        self.copy = copy
        rows = [Int](repeating: 0, count: cursors.count)
    }

    /// - Returns: how many rows are in the output.
    mutating func run() throws(ObsError) -> Int {
        for input in cursors.indices where try cursors[input].readBlock() { live.append(input) }
        while let (input, limit) = next() {
            try check()
            if rows[input] == 0, try mayCopy(input, before: limit) {
                try copyBlock(input)
            } else {
                try cursors[input].complete()
                try take(input, before: limit)
            }
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

    /// Whether all rows of an input's block stay, come before all others' and are none of the events last taken.
    private func mayCopy(_ input: Int, before other: Int?) throws(ObsError) -> Bool {
        let cursor = cursors[input]
        // The rewrite of a single segment has nothing to join a small block with.
        guard cursor.isBig || cursors.count == 1 else { return false }
        if let group = groupKey, Cursor.mayRepeat(group, cursor.key(0)) { return false }
        let last = cursor.key(cursor.rowCount - 1)
        if let other {
            let limit = key(other)
            guard last < limit, !Cursor.mayRepeat(last, limit) else { return false }
        }
        return try !cursor.hasDeleted()
    }

    private mutating func copyBlock(_ input: Int) throws(ObsError) {
        let cursor = cursors[input]
        for row in 1..<max(cursor.rowCount, 1) where cursor.key(row) < cursor.key(row - 1) { throw outOfOrder(cursor) }
        try hand()
        try copy(cursor)
        written += cursor.rowCount
        groupKey = nil
        groupFirst = nil
        seen = nil
        try advance(input)
    }

    /// Takes rows of an input up to another's turn or the end of the block.
    private mutating func take(_ input: Int, before other: Int?) throws(ObsError) {
        let cursor = cursors[input]
        var key = key(input)
        let limit = other.map { self.key($0) }
        while true {
            if !cursor.isDeleted(rows[input]) { add(RowPlace(source: UInt32(input), row: UInt32(rows[input])), key) }
            rows[input] += 1
            if rows[input] == cursor.rowCount { return try advance(input) }
            let following = cursor.key(rows[input])
            if following < key { throw outOfOrder(cursor) }
            key = following
            if let limit, let other, limit < key || (limit == key && other < input) { return }
        }
    }

    private func outOfOrder(_ cursor: Cursor) -> ObsError { ObsError(.corrupt, "rows of a segment are out of order", place: "\(cursor.path):0") }

    /// Goes to an input's next block.
    private mutating func advance(_ input: Int) throws(ObsError) {
        try hand()
        // Its row must be known when it is gone.
        if let first = groupFirst, Int(first.source) == input { hashFirst() }
        try check()
        let last = cursors[input].key(cursors[input].rowCount - 1)
        rows[input] = 0
        if try cursors[input].readBlock() {
            if cursors[input].key(0) < last { throw outOfOrder(cursors[input]) }
        } else {
            live.removeAll { $0 == input }
        }
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
    private let memory: CursorMemory
    private(set) var batch = LogBatch()
    private(set) var block = -1
    private var firstStream = 0
    private var isComplete = false
    /// Of the block's streams.
    private var hidden: [HiddenRows] = []

    init(_ input: MergeInput, _ reader: LogSegmentReader, ranks: [UInt32], grow: @escaping (Int) throws(ObsError) -> Void) {
        self.reader = reader
        self.ranks = ranks
        memory = CursorMemory(grow)
        path = input.path
        mask = input.mask
    }

    var rowCount: Int { batch.timeNanos.count }
    var isBig: Bool { reader.blocks[block].isBig }

    func readBlock() throws(ObsError) -> Bool {
        block += 1
        batch = LogBatch()
        guard block < reader.blocks.count else { return false }
        batch = try reader.readKeys(block: block)
        isComplete = false
        firstStream = reader.blocks[block].firstStream
        hidden = []
        if !mask.isEmpty {
            hidden = batch.streams.map { labels in batch.bytes.withUnsafeBytes { mask.rows(labels: UnsafeRawBufferPointer(rebasing: $0[labels.range])) } }
        }
        return true
    }

    func complete() throws(ObsError) {
        guard !isComplete else { return }
        try memory.hold(try reader.memoryBytes(block: block))
        try reader.readRest(block: block, into: &batch)
        isComplete = true
    }

    func key(_ row: Int) -> Key {
        Key(stream: ranks[firstStream + Int(batch.stream[row])], time: batch.timeNanos[row], arrival: batch.arrival[row])
    }

    func hasDeleted() throws(ObsError) -> Bool {
        guard hidden.contains(where: { !$0.isEmpty }) else { return false }
        let times = reader.blocks[block].minNanos...reader.blocks[block].maxNanos
        if hidden.contains(where: { rows in rows.lines.contains { $0.range.overlaps(times) } }) {
            try complete()
            return (0..<rowCount).contains { isDeleted($0) }
        }
        return (0..<rowCount).contains { row in hidden[Int(batch.stream[row])].times.contains { $0.contains(batch.timeNanos[row]) } }
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

    let reader: SpanSegmentReader
    let path: String
    private let mask: any RowMask
    private let mayHoldDeleted: Bool
    private let memory: CursorMemory
    private(set) var batch = SpanBatch()
    private(set) var block = -1
    private var isComplete = false

    init(_ input: MergeInput, _ reader: SpanSegmentReader, grow: @escaping (Int) throws(ObsError) -> Void) {
        self.reader = reader
        memory = CursorMemory(grow)
        path = input.path
        mask = input.mask
        mayHoldDeleted = !input.mask.isEmpty
    }

    var rowCount: Int { batch.traceID.count }
    var isBig: Bool { reader.blocks[block].isBig }

    func readBlock() throws(ObsError) -> Bool {
        block += 1
        batch = SpanBatch()
        guard block < reader.blocks.count else { return false }
        batch = try reader.readKeys(block: block)
        isComplete = false
        return true
    }

    func complete() throws(ObsError) {
        guard !isComplete else { return }
        try memory.hold(try reader.memoryBytes(block: block))
        try reader.readRest(block: block, into: &batch)
        isComplete = true
    }

    func hasDeleted() throws(ObsError) -> Bool {
        guard mayHoldDeleted else { return false }
        try complete()
        return (0..<rowCount).contains { isDeleted($0) }
    }

    func key(_ row: Int) -> Key { Key(trace: batch.traceID[row], start: batch.startNanos[row]) }
    func isDeleted(_ row: Int) -> Bool { mayHoldDeleted && mask.isDeleted(batch, row: row) }
    func identity(_ row: Int) -> Hash128? { batch.bytes.withUnsafeBytes { RowIdentity.span(batch, row: row, bytes: $0) } }
    static func mayRepeat(_ a: Key, _ b: Key) -> Bool { a == b }
}

/// Memory of an input's present block: what the biggest so far took.
private final class CursorMemory {
    private var heldBytes = 0
    private let grow: (Int) throws(ObsError) -> Void

    init(_ grow: @escaping (Int) throws(ObsError) -> Void) { self.grow = grow }

    func hold(_ bytes: Int) throws(ObsError) {
        guard bytes > heldBytes else { return }
        try grow(bytes - heldBytes)
        heldBytes = bytes
    }
}
