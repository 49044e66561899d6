/// CRC-32 by Castagnoli's polynomial (RFC 3720 §12.1), which frames of Prometheus' remote read are guarded by.
package func crc32c(_ bytes: some Sequence<UInt8>) -> UInt32 {
    var sum = UInt32.max
    for byte in bytes { sum = sum >> 8 ^ remainders[Int(UInt8(truncatingIfNeeded: sum) ^ byte)] }
    return ~sum
}

/// Of each byte; 0x82f63b78 is the polynomial with its bits reversed.
private let remainders: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { sum, _ in sum & 1 == 0 ? sum >> 1 : sum >> 1 ^ 0x82f6_3b78 }
}
