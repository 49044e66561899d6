// Which blocks of a segment may hold spans of a trace. Blocks are ordered by time, so a trace id tells nothing about where it is, and the search for one asks the
// filters of all blocks: they lie together, in one frame that is read once and kept, and an answer for a segment of two million spans takes microseconds.

internal import ObsCore
internal import ObsEncoding
internal import ObsHash

/// A Bloom filter over the trace ids of one span block: says for certain that an id is not there, wrongly that it may be in 0.05 % of cases.
///
/// Sixteen bits and eleven probes a key: the search for a trace asks hundreds of blocks, and with the usual ten bits (0.8 %) would read a few of them for nothing. An
/// absent id is known as such after two probes on average. Ids are hashed because senders choose them, often badly.
struct TraceFilter {
    private static let bitsPerKey = 16
    private static let probes: UInt8 = 11
    /// Of the filters in blocks of version 2 and before.
    static let probesBefore3: UInt8 = 6

    /// Bits, 64 to a word, words little endian.
    private(set) var bytes: [UInt8]
    let probes: UInt8

    init(_ ids: [TraceID]) {
        var distinct = 0
        forEachTrace(ids) { _ in distinct += 1 }
        var bytes = [UInt8](repeating: 0, count: (distinct * Self.bitsPerKey + 63) / 64 * 8)
        let bits = UInt64(bytes.count) * 8
        forEachTrace(ids) { run in
            var hash = Self.hash(ids[run.lowerBound])
            for _ in 0..<Self.probes {
                let bit = Self.next(&hash, bits)
                bytes[Int(bit >> 3)] |= 1 << UInt8(bit & 7)
            }
        }
        self.bytes = bytes
        probes = Self.probes
    }

    init(bytes: [UInt8], probes: UInt8) throws(ObsError) {
        guard !bytes.isEmpty else { throw ObsError(.corrupt, "empty trace filter") }
        self.bytes = bytes
        self.probes = probes
    }

    static func hash(_ id: TraceID) -> Hash128 { withUnsafeBytes(of: (id.high.bigEndian, id.low.bigEndian)) { hash128($0, key: 0) } }

    func mayContain(_ hash: Hash128) -> Bool { bytes.withUnsafeBytes { Self.mayContain(hash, $0, probes: probes) } }

    static func mayContain(_ hash: Hash128, _ bytes: UnsafeRawBufferPointer, probes: UInt8) -> Bool {
        var hash = hash
        let bits = UInt64(bytes.count) * 8
        for _ in 0..<probes {
            let bit = next(&hash, bits)
            if bytes[Int(bit >> 3)] & 1 << UInt8(bit & 7) == 0 { return false }
        }
        return true
    }

    /// Double hashing (Kirsch and Mitzenmacher): the next bit. The upper half of the product maps the hash evenly to 0..<bits.
    private static func next(_ hash: inout Hash128, _ bits: UInt64) -> UInt64 {
        let bit = hash.low.multipliedFullWidth(by: bits).high
        hash.low &+= hash.high
        return bit
    }
}

/// The filters of all blocks of a segment.
///
/// `(u8 probes · varint bytes) × blocks · bits back to back`
final class TraceFilters: Sendable {
    private let bytes: [UInt8]
    private let places: [(range: Range<Int>, probes: UInt8)]

    init(_ content: [UInt8], blocks: Int) throws(ObsError) {
        places = try decoding(content) { (cursor: inout ByteCursor) throws(ObsError) -> [(range: Range<Int>, probes: UInt8)] in
            var heads: [(bytes: Int, probes: UInt8)] = []
            for _ in 0..<blocks {
                let probes = try cursor.u8()
                heads.append((try cursor.count(max: content.count), probes))
            }
            var places: [(range: Range<Int>, probes: UInt8)] = []
            for head in heads {
                let start = cursor.position
                guard head.bytes > 0 else { throw ObsError(.corrupt, "empty trace filter") }
                _ = try cursor.take(head.bytes)
                places.append((start..<cursor.position, head.probes))
            }
            try cursor.expectEnd()
            return places
        }
        bytes = content
    }

    static func encoded(_ filters: [TraceFilter]) -> [UInt8] {
        var bytes: [UInt8] = []
        for filter in filters {
            bytes.append(filter.probes)
            bytes.appendVarint(UInt64(filter.bytes.count))
        }
        for filter in filters { bytes.append(contentsOf: filter.bytes) }
        return bytes
    }

    func filter(_ block: Int) throws(ObsError) -> TraceFilter { try TraceFilter(bytes: Array(bytes[places[block].range]), probes: places[block].probes) }

    func blocks(mayContaining hash: Hash128) -> [Int] {
        bytes.withUnsafeBytes { bytes in
            places.indices.filter { TraceFilter.mayContain(hash, UnsafeRawBufferPointer(rebasing: bytes[places[$0].range]), probes: places[$0].probes) }
        }
    }
}
