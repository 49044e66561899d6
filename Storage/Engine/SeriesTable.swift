internal import Glibc
internal import ObsCore
internal import ObsHash

/// What the head knows of one series (or log stream): 72 bytes, in blocks that never move.
struct SeriesRecord {
    var hash: Hash128
    /// Canonical label set in the table's arena.
    var labels: UnsafeRawPointer
    var labelsCount: UInt32
    /// Samples of a series, rows of a stream.
    var count: UInt32 = 0
    var minTime = Int64.max
    var maxTime = Int64.min
    /// Bits of the value at `maxTime`, if a float is there: what a repeated sample is compared with.
    var lastBits: UInt64 = 0
    /// The chunk samples are added to; see `MetricHead`.
    var tail: UnsafeMutablePointer<SampleChunk>?
    /// The series before this one with the same metric name, `SeriesTable.none` at the end.
    var previousOfName: UInt32
    /// The lower bits: 1 + where `MetricHead.extras` has more of the series, 0 for nothing. The highest: whether it is unordered.
    private var more: UInt32 = 0

    private static let unorderedBit: UInt32 = 1 << 31

    /// Whether a sample ever came that was older than the one before it.
    var isUnordered: Bool {
        get { more & Self.unorderedBit != 0 }
        set { more = newValue ? more | Self.unorderedBit : more & ~Self.unorderedBit }
    }

    /// Where `MetricHead.extras` has more of the series; nil when it has floats alone.
    var extras: Int? {
        get { more & ~Self.unorderedBit == 0 ? nil : Int(more & ~Self.unorderedBit) - 1 }
        set { more = more & Self.unorderedBit | UInt32((newValue ?? -1) + 1) }
    }

    init(hash: Hash128, labels: UnsafeRawPointer, labelsCount: UInt32, previousOfName: UInt32) {
        self.hash = hash
        self.labels = labels
        self.labelsCount = labelsCount
        self.previousOfName = previousOfName
    }

    var labelBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: labels, count: Int(labelsCount)) }
}

/// Series that have the same metric name.
struct SeriesOfName {
    var newest = SeriesTable.none
    var count = 0

    /// - Returns: the newest until now.
    mutating func add(_ id: UInt32) -> UInt32 {
        defer { newest = id }
        count += 1
        return newest
    }
}

/// Label sets of one tenant in one generation, interned to small integers.
///
/// Open addressing over 8-byte slots (32 bits of the hash, 32 bits of id + 1); the full 128-bit keyed hash in the record is the identity, so a hit costs
/// two cache misses and compares no labels. Writers hold the signal's lock. Readers take `count` under that lock and may then walk the records
/// below it without: labels, hash and `previousOfName` never change, records never move. All other fields are read under the lock.
final class SeriesTable {
    static let none = UInt32.max
    private static let blockShift = 8
    private static let blocksMax = 1 << 18
    let arena = Arena()
    private(set) var count = 0
    private var slots: UnsafeMutablePointer<UInt64>
    private var slotCount = 64
    private let blocks: UnsafeMutablePointer<UnsafeMutablePointer<SeriesRecord>?>
    /// By the hash of a metric name.
    private var seriesOfName: [UInt64: SeriesOfName] = [:]
    /// For who looks for labels other than the metric name.
    let index = HeadLabelIndex()
    private static let nameLabel = [UInt8]("__name__".utf8)

    init() {
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: 0, count: slotCount)
        // Virtual until used: calloc of this size is a fresh mapping.
        blocks = UnsafeMutableRawPointer(calloc(Self.blocksMax, 8)).assumingMemoryBound(to: UnsafeMutablePointer<SeriesRecord>?.self)
    }

    deinit {
        slots.deallocate()
        free(blocks)
    }

    var usedBytes: Int { arena.usedBytes + slotCount * 8 + index.usedBytes }

    subscript(id: Int) -> UnsafeMutablePointer<SeriesRecord> {
        guard let block = blocks[id >> Self.blockShift] else { fatalError("BUG: series \(id) of \(count) has no record") }
        return block + (id & ((1 << Self.blockShift) - 1))
    }

    func find(_ hash: Hash128) -> Int? {
        let mask = slotCount - 1
        let tag = hash.high >> 32
        var at = Int(truncatingIfNeeded: hash.low) & mask
        while true {
            let slot = slots[at]
            if slot == 0 { return nil }
            if slot >> 32 == tag {
                let id = Int(truncatingIfNeeded: slot & 0xffff_ffff) - 1
                let known = self[id].pointee.hash
                if known.low == hash.low, known.high == hash.high { return id }
            }
            at = (at + 1) & mask
        }
    }

    /// Adds a label set that `find` did not find.
    func insert(_ hash: Hash128, labels: UnsafeRawBufferPointer) -> Int {
        if (count + 1) * 4 > slotCount * 3 { grow() }
        let id = count
        precondition(id >> Self.blockShift < Self.blocksMax, "FATAL: more than \(Self.blocksMax << Self.blockShift) series in one head generation")
        if blocks[id >> Self.blockShift] == nil {
            let bytes = MemoryLayout<SeriesRecord>.stride << Self.blockShift
            blocks[id >> Self.blockShift] = arena.allocate(bytes).bindMemory(to: SeriesRecord.self, capacity: 1 << Self.blockShift)
        }
        let copy = arena.allocate(max(labels.count, 1))
        if let source = labels.baseAddress { copy.copyMemory(from: source, byteCount: labels.count) }
        self[id].initialize(
            to: SeriesRecord(hash: hash, labels: UnsafeRawPointer(copy), labelsCount: UInt32(labels.count), previousOfName: link(id, labels)))
        place(hash, id)
        count += 1
        return id
    }

    /// The series of a metric name: the newest, the rest by `previousOfName`.
    func series(ofName name: UnsafeRawBufferPointer) -> SeriesOfName? { seriesOfName[hash64(name)] }

    private func link(_ id: Int, _ labels: UnsafeRawBufferPointer) -> UInt32 {
        let name = Self.nameLabel.withUnsafeBytes { find($0, in: labels) }
        guard let name else { return Self.none }
        return seriesOfName[hash64(UnsafeRawBufferPointer(rebasing: labels[name])), default: SeriesOfName()].add(UInt32(id))
    }

    private func find(_ name: UnsafeRawBufferPointer, in labels: UnsafeRawBufferPointer) -> Range<Int>? { ObsCore.find(name, in: labels) }

    private func place(_ hash: Hash128, _ id: Int) {
        let mask = slotCount - 1
        var at = Int(truncatingIfNeeded: hash.low) & mask
        while slots[at] != 0 { at = (at + 1) & mask }
        slots[at] = (hash.high >> 32) << 32 | UInt64(id + 1)
    }

    private func grow() {
        slots.deallocate()
        slotCount *= 2
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: 0, count: slotCount)
        for id in 0..<count { place(self[id].pointee.hash, id) }
    }
}
