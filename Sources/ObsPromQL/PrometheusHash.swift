// The hash by which Prometheus decides what share of series `limit_ratio` keeps, so that ours are the same: XXH64 of the labels, each name and value with its
// length before it in one byte (255 and three bytes more, where that is too few).
internal import ObsCore

func prometheusHash(_ labels: Labels) -> UInt64 {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(labels.bytes.count)
    labels.forEach { name, value in
        for part in [name, value] {
            if part.count < 255 {
                bytes.append(UInt8(part.count))
            } else {
                bytes.append(255)
                for shift in [0, 8, 16] { bytes.append(UInt8(truncatingIfNeeded: part.count >> shift)) }
            }
            bytes.append(contentsOf: part)
        }
    }
    return bytes.withUnsafeBytes { xxHash64($0) }
}

private let primes: (UInt64, UInt64, UInt64, UInt64, UInt64) = (
    0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5
)

private func rotated(_ value: UInt64, _ count: UInt64) -> UInt64 { (value &<< count) | (value &>> (64 &- count)) }
private func round(_ state: UInt64, _ lane: UInt64) -> UInt64 { rotated(state &+ lane &* primes.1, 31) &* primes.0 }

/// Seed 0.
func xxHash64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    func word(_ at: Int) -> UInt64 { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)) }
    var at = 0
    var hash: UInt64
    if bytes.count >= 32 {
        var (a, b, c, d) = (primes.0 &+ primes.1, primes.1, UInt64(0), 0 &- primes.0)
        while at + 32 <= bytes.count {
            (a, b, c, d) = (round(a, word(at)), round(b, word(at + 8)), round(c, word(at + 16)), round(d, word(at + 24)))
            at += 32
        }
        hash = rotated(a, 1) &+ rotated(b, 7) &+ rotated(c, 12) &+ rotated(d, 18)
        for lane in [a, b, c, d] { hash = (hash ^ round(0, lane)) &* primes.0 &+ primes.3 }
    } else {
        hash = primes.4
    }
    hash &+= UInt64(bytes.count)
    while at + 8 <= bytes.count {
        hash = rotated(hash ^ round(0, word(at)), 27) &* primes.0 &+ primes.3
        at += 8
    }
    if at + 4 <= bytes.count {
        let half = UInt64(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
        hash = rotated(hash ^ (half &* primes.0), 23) &* primes.1 &+ primes.2
        at += 4
    }
    while at < bytes.count {
        hash = rotated(hash ^ (UInt64(bytes[at]) &* primes.4), 11) &* primes.0
        at += 1
    }
    hash = (hash ^ (hash &>> 33)) &* primes.1
    hash = (hash ^ (hash &>> 29)) &* primes.2
    return hash ^ (hash &>> 32)
}
