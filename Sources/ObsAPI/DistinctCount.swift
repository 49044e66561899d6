internal import Glibc

/// How many different values there are, by their hashes: exact up to `exactMax`, then estimated by HyperLogLog in 4 KiB (standard error 1.6 %).
struct DistinctCount {
    static let exactMax = 1024
    private static let indexBits: UInt64 = 12
    private var hashes: Set<UInt64> = []
    private var registers: [UInt8] = []

    /// - Parameter hash: evenly spread.
    mutating func add(_ hash: UInt64) {
        if !registers.isEmpty { return note(hash) }
        hashes.insert(hash)
        guard hashes.count > Self.exactMax else { return }
        registers = [UInt8](repeating: 0, count: 1 << Int(Self.indexBits))
        for hash in hashes { note(hash) }
        hashes = []
    }

    private mutating func note(_ hash: UInt64) {
        let index = Int(hash >> (64 - Self.indexBits))
        let rank = UInt8((hash << Self.indexBits | 1 << (Self.indexBits - 1)).leadingZeroBitCount + 1)
        if registers[index] < rank { registers[index] = rank }
    }

    var isExact: Bool { registers.isEmpty }

    var count: Int {
        guard !registers.isEmpty else { return hashes.count }
        let size = Double(registers.count)
        var sum = 0.0
        var zeros = 0
        for rank in registers {
            sum += Double(sign: .plus, exponent: -Int(rank), significand: 1)
            if rank == 0 { zeros += 1 }
        }
        let raw = 0.7213 / (1 + 1.079 / size) * size * size / sum
        // Few values leave registers empty, which tells more (Flajolet et al., 2007).
        return Int((raw <= 2.5 * size && zeros > 0 ? size * log(size / Double(zeros)) : raw).rounded())
    }
}
