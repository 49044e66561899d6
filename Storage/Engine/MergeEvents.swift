// Segments of events into one, most of their blocks as they are.
//
// The senders of a stream are some seconds apart, so that what one flush wrote ends a little after the next one's began: in a merge nearly every block meets a
// neighbour of another input. Were all blocks that meet decoded, sorted and encoded anew, merging would cost as much as the flush did, and win nothing: who wants
// a minute of the stream reads the one or two blocks that hold it, whether these overlap by a second or not. Therefore blocks of a segment may overlap in time
// (a row within a block comes in order; readers visit blocks by their times), and a block goes over as it is, ordered by its first stream and its earliest time,
// unless something forces its rows to be taken one by one:
//
// - a row of it is deleted, or is the same event as one of another input (an event may come twice; within a segment every row is there once),
// - it is small, or holds many streams with few rows each: joined with others' blocks, a stream is read with fewer blocks,
// - it and another lie across each other: more than a quarter of the rows of both are within the other's times of a shared stream, as when data is loaded in no
//   order. Blocks that remain are then such that, of two over one moment, one has at most a quarter of its rows there, or has them beside the other. A block
//   with one straggler from last week is no reason to write the whole week again, and what is over one moment is little: each next block is some four times as wide.
//
// The plan is made first: it reads the columns that order rows, and only of blocks that meet; in full it reads those in which rows are equal by these
// columns. Then one pass in order takes the rows of what is not copied from whichever of the open blocks is next, and copies the rest in between.

internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsSegment

/// A block of one input.
protocol EventBlock: AnyObject {
    associatedtype Batch
    /// What rows are ordered by in a merge.
    associatedtype Key: Comparable
    var path: String { get }
    /// Position of its segment among the inputs.
    var input: Int { get }
    /// Of its streams, positions among those of all inputs.
    var streams: ClosedRange<UInt32> { get }
    var times: ClosedRange<Int64> { get }
    var rowCount: Int { get }
    /// At most the key of any row.
    var lowerBound: Key { get }
    /// Whether it goes over as it is.
    var isCopied: Bool { get set }
    /// Whether it may, by its size and its streams.
    var isBig: Bool { get }

    /// What is read of it.
    var batch: Batch { get }
    /// Reads what `key` and `overlap` need, unless that was done.
    func readKeys() throws(ObsError)
    /// Reads the rest as well.
    func complete() throws(ObsError)
    /// Forgets what was read.
    func close()

    /// Whether a row is deleted; may have to `complete` it.
    func hasDeleted() throws(ObsError) -> Bool
    /// Rows that lie in the times of another block, and those of which the other may have the same. Of blocks whose keys are read.
    func overlap(with other: Self) -> BlockOverlap
    // Of complete blocks:
    func isLeftOut(_ row: Int) -> Bool
    func leaveOut(_ row: Int)
    func identity(_ row: Int) -> Hash128

    /// Rows that stay together, in order.
    var groupCount: Int { get }
    func key(_ group: Int) -> Key
    func rows(_ group: Int) -> Range<Int>
}

/// What two blocks have to do with each other.
struct BlockOverlap {
    /// How many rows of each lie within the other's times of a shared stream.
    var counts = (0, 0)
    /// Rows of each that the other has rows with equal keys to: they may be the same events.
    var equals: ([Int], [Int]) = ([], [])
}

/// Decides which blocks are copied.
struct EventPlan<Block: EventBlock> {
    private let check: () throws(ObsError) -> Void
    /// Blocks that one yet to come may meet.
    private var active: [Block] = []

    /// Marks blocks as copied or not, and rows of them that are the same event as an earlier one's.
    /// - Parameters:
    ///   - blocks: ordered by their lower bounds.
    ///   - check: throws when the merge is to end.
    /// Blocks are closed after it.
    init(_ blocks: [Block], isAlone: Bool, check: @escaping () throws(ObsError) -> Void) throws(ObsError) {
        self.check = check
        for block in blocks {
            try check()
            // The rewrite of a single segment has nothing to join a small block with.
            block.isCopied = block.isBig || isAlone
            if block.isCopied, try block.hasDeleted() { block.isCopied = false }
            if isAlone {
                block.close()
                continue
            }
            leave(before: block)
            for earlier in active where earlier.input != block.input && earlier.streams.overlaps(block.streams) && earlier.times.overlaps(block.times) {
                try compare(earlier, block)
            }
            active.append(block)
        }
        for block in active { block.close() }
    }

    /// Forgets the blocks that end before a stream or time.
    private mutating func leave(before block: Block) {
        active.removeAll { earlier in
            let isOver =
                earlier.streams.upperBound < block.streams.lowerBound
                || earlier.streams.upperBound == block.streams.lowerBound && earlier.streams.count == 1 && earlier.times.upperBound < block.times.lowerBound
            if isOver { earlier.close() }
            return isOver
        }
    }

    private func compare(_ earlier: Block, _ block: Block) throws(ObsError) {
        try check()
        try earlier.readKeys()
        try block.readKeys()
        let overlap = earlier.overlap(with: block)
        if 4 * overlap.counts.0 > earlier.rowCount, 4 * overlap.counts.1 > block.rowCount {
            earlier.isCopied = false
            block.isCopied = false
        }
        guard !overlap.equals.0.isEmpty else { return }
        try earlier.complete()
        try block.complete()
        var known: Set<Hash128> = []
        for row in overlap.equals.0 where !earlier.isLeftOut(row) { known.insert(earlier.identity(row)) }
        for row in overlap.equals.1 where !block.isLeftOut(row) && known.contains(block.identity(row)) {
            block.leaveOut(row)
            block.isCopied = false
        }
    }
}

/// Rows of a merge's output.
struct MergedRows: Sendable {
    /// In blocks that went over as they were.
    var copied: Int64 = 0
    var rewritten: Int64 = 0

    var rows: Int64 { copied + rewritten }
}

/// Carries a plan out.
struct EventMerge<Block: EventBlock> {
    private let blocks: [Block]
    private let check: () throws(ObsError) -> Void
    private let write: ([Block.Batch], [RowPlace]) throws(ObsError) -> Void
    private let copy: (Block) throws(ObsError) -> Void
    /// Of `blocks`, the next to be opened or copied.
    private var next = 0
    /// Blocks some rows of which were taken, and the group of each that is next.
    private var open: [(block: Block, group: Int)] = []
    private var taken: [RowPlace] = []
    private(set) var merged = MergedRows()

    /// - Parameters:
    ///   - blocks: of all inputs.
    ///   - check: throws when the merge is to end.
    ///   - write: takes rows of batches.
    ///   - copy: takes a block as it is.
    init(
        _ blocks: [Block], inputs: Int, check: @escaping () throws(ObsError) -> Void, write: @escaping ([Block.Batch], [RowPlace]) throws(ObsError) -> Void,
        copy: @escaping (Block) throws(ObsError) -> Void
    ) throws(ObsError) {
        self.blocks = blocks.sorted { $0.lowerBound < $1.lowerBound || $0.lowerBound == $1.lowerBound && $0.input < $1.input }
        self.check = check
        self.write = write
        self.copy = copy
        _ = try EventPlan(self.blocks, isAlone: inputs == 1, check: check)
    }

    mutating func run() throws(ObsError) {
        while true {
            try check()
            let turn = turn()
            let bound = next < blocks.count ? blocks[next].lowerBound : nil
            if let bound, turn.map({ bound < $0.key || bound == $0.key }) ?? true {
                try begin(blocks[next])
                next += 1
            } else if let turn {
                let limit = [turn.limit, bound].compactMap(\.self).min()
                try take(turn.index, to: limit)
            } else {
                return
            }
        }
    }

    /// The open block whose turn it is, and the key up to which it stays so among the open ones.
    private func turn() -> (index: Int, key: Block.Key, limit: Block.Key?)? {
        guard let first = open.first else { return nil }
        var found: (index: Int, key: Block.Key, limit: Block.Key?) = (0, first.block.key(first.group), nil)
        for index in open.indices.dropFirst() {
            let key = open[index].block.key(open[index].group)
            if key < found.key {
                found = (index, key, found.key)
            } else if found.limit.map({ key < $0 }) ?? true {
                found.limit = key
            }
        }
        return found
    }

    private mutating func begin(_ block: Block) throws(ObsError) {
        guard block.isCopied else {
            try block.complete()
            open.append((block, 0))
            return
        }
        try hand()
        try copy(block)
        merged.copied += Int64(block.rowCount)
    }

    /// Takes rows of an open block up to a key, at least one group.
    private mutating func take(_ index: Int, to limit: Block.Key?) throws(ObsError) {
        let block = open[index].block
        var group = open[index].group
        var key = block.key(group)
        while true {
            for row in block.rows(group) where !block.isLeftOut(row) { taken.append(RowPlace(source: UInt32(index), row: UInt32(row))) }
            group += 1
            if group == block.groupCount { break }
            let following = block.key(group)
            if following < key { throw ObsError(.corrupt, "rows of a segment are out of order", place: "\(block.path):0") }
            key = following
            if let limit, limit < key {
                open[index].group = group
                return
            }
        }
        try hand()
        block.close()
        open.remove(at: index)
    }

    private mutating func hand() throws(ObsError) {
        guard !taken.isEmpty else { return }
        try write(open.map(\.block.batch), taken)
        merged.rewritten += Int64(taken.count)
        taken.removeAll(keepingCapacity: true)
    }
}

/// Memory of a merge's open blocks: as much is held as they took at most.
final class BlockMemory {
    private var heldBytes = 0
    private var usedBytes = 0
    private let grow: (Int) throws(ObsError) -> Void

    init(_ grow: @escaping (Int) throws(ObsError) -> Void) { self.grow = grow }

    func take(_ bytes: Int) throws(ObsError) {
        if usedBytes + bytes > heldBytes {
            try grow(usedBytes + bytes - heldBytes)
            heldBytes = usedBytes + bytes
        }
        usedBytes += bytes
    }

    func give(_ bytes: Int) { usedBytes -= bytes }
}
