internal import ObsCore
internal import ObsHash

/// A Bloom filter over the trace ids of one span block: says for certain that an id is not there, wrongly that it may be in 0.8 % of cases.
///
/// Ten bits and six probes a key. One filter a block, read only when an id lies between the block's first and last: the search for a trace reads some
/// kilobytes of a segment, whatever its size. Ids are hashed because senders choose them, often badly.
struct TraceFilter {
    private static let bitsPerKey = 10
    private static let probes: UInt64 = 6

    /// Bits, 64 to a word, words little endian.
    private(set) var bytes: [UInt8]

    init(_ ids: [TraceID]) {
        var distinct = 0
        for (row, id) in ids.enumerated() where row == 0 || id != ids[row - 1] { distinct += 1 }
        bytes = [UInt8](repeating: 0, count: (distinct * Self.bitsPerKey + 63) / 64 * 8)
        for (row, id) in ids.enumerated() where row == 0 || id != ids[row - 1] {
            Self.forEachBit(id, of: UInt64(bytes.count) * 8) { bit in
                bytes[Int(bit >> 3)] |= 1 << UInt8(bit & 7)
                return true
            }
        }
    }

    init(bytes: [UInt8]) throws(ObsError) {
        guard !bytes.isEmpty else { throw ObsError(.corrupt, "empty trace filter") }
        self.bytes = bytes
    }

    func mayContain(_ id: TraceID) -> Bool {
        var all = true
        Self.forEachBit(id, of: UInt64(bytes.count) * 8) { bit in
            all = bytes[Int(bit >> 3)] & 1 << UInt8(bit & 7) != 0
            return all
        }
        return all
    }

    /// Double hashing (Kirsch and Mitzenmacher); `body` returns false to stop.
    private static func forEachBit(_ id: TraceID, of bits: UInt64, _ body: (UInt64) -> Bool) {
        let hash = withUnsafeBytes(of: (id.high.bigEndian, id.low.bigEndian)) { hash128($0, key: 0) }
        var position = hash.low
        for _ in 0..<probes {
            // The upper half of the product maps the hash evenly to 0..<bits.
            if !body(position.multipliedFullWidth(by: bits).high) { return }
            position &+= hash.high
        }
    }
}
