// Chunks of samples as Prometheus' TSDB encodes them, which is what its remote read streams (chunk encoding 1, "XOR"; Facebook's Gorilla paper, with Prometheus' own
// widths). A chunk is a count and a string of bits:
//
//     count of samples, 16 bits, big-endian
//     first sample:    time, zigzag varint · value, 64 bits
//     second sample:   time since the first, varint · value
//     further samples: change of that difference (`0`, or `10` 14 bits, `110` 17, `1110` 20, `1111` 64) · value
//     value:           XOR with the one before: `0` when nothing changed, else `1` and either `0` and the bits where the last XOR had some,
//                      or `1`, zeros before them (5 bits), how many bits (6, 0 for 64) and those bits

/// Writes bits, the highest of a byte first.
struct BitWriter {
    private(set) var bytes: [UInt8] = []
    /// Bits of the last byte not used yet.
    private var free = 0

    mutating func bits(_ value: UInt64, _ count: Int) {
        var left = count
        while left > 0 {
            if free == 0 {
                bytes.append(0)
                free = 8
            }
            let taken = min(left, free)
            let part = UInt8(truncatingIfNeeded: (value >> UInt64(left - taken)) & ((1 << UInt64(taken)) - 1))
            bytes[bytes.count - 1] |= part << UInt8(free - taken)
            free -= taken
            left -= taken
        }
    }

    mutating func bit(_ isSet: Bool) { bits(isSet ? 1 : 0, 1) }

    mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bits(rest & 0x7f | 0x80, 8)
            rest >>= 7
        }
        bits(rest, 8)
    }

    mutating func zigzag(_ value: Int64) { varint(UInt64(bitPattern: value &<< 1 ^ value >> 63)) }
}

/// The XOR of neighbours, as one of the value columns of a chunk.
struct XORColumn {
    private var last: UInt64 = 0
    private var leading = -1
    private var trailing = 0
    private var isFirst = true

    mutating func append(_ value: UInt64, to bits: inout BitWriter) {
        defer { last = value }
        if isFirst {
            isFirst = false
            return bits.bits(value, 64)
        }
        let change = value ^ last
        guard change != 0 else { return bits.bit(false) }
        bits.bit(true)
        let newLeading = min(change.leadingZeroBitCount, 31)
        let newTrailing = change.trailingZeroBitCount
        if leading >= 0, newLeading >= leading, newTrailing >= trailing {
            bits.bit(false)
            bits.bits(change >> UInt64(trailing), 64 - leading - trailing)
            return
        }
        leading = newLeading
        trailing = newTrailing
        let count = 64 - leading - trailing
        bits.bit(true)
        bits.bits(UInt64(leading), 5)
        bits.bits(UInt64(count & 63), 6)
        bits.bits(change >> UInt64(trailing), count)
    }
}

/// Times of a chunk.
struct DeltaColumn {
    private var last: Int64 = 0
    private var lastDelta: Int64 = 0
    private var count = 0

    mutating func append(_ time: Int64, to bits: inout BitWriter) {
        defer {
            last = time
            count += 1
        }
        if count == 0 { return bits.zigzag(time) }
        let delta = time &- last
        defer { lastDelta = delta }
        if count == 1 { return bits.varint(UInt64(bitPattern: delta)) }
        let change = delta &- lastDelta
        if change == 0 { return bits.bit(false) }
        for (width, prefix, prefixBits) in [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)] as [(Int, UInt64, Int)]
        where change >= -((1 << (width - 1)) - 1) && change <= 1 << (width - 1) {
            bits.bits(prefix, prefixBits)
            return bits.bits(UInt64(bitPattern: change), width)
        }
        bits.bits(0b1111, 4)
        bits.bits(UInt64(bitPattern: change), 64)
    }
}

package enum XORChunk {
    /// Prometheus' number of it.
    package static let encoding: UInt64 = 1
    /// Samples Prometheus puts in a chunk.
    package static let samplesMax = 120

    /// - Parameter samples: at most 65,535, in time order.
    package static func encode(times: ArraySlice<Int64>, values: ArraySlice<Double>) -> [UInt8] {
        var bits = BitWriter()
        bits.bits(UInt64(times.count), 16)
        var timeColumn = DeltaColumn()
        var valueColumn = XORColumn()
        for (time, value) in zip(times, values) {
            timeColumn.append(time, to: &bits)
            valueColumn.append(value.bitPattern, to: &bits)
        }
        return bits.bytes
    }
}
