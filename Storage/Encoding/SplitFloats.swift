internal import ObsCore

/// True doubles cut in two: the front (sign, exponent, perhaps upper digits), of which a column has few, and the rest, which is noise. The front's number takes the
/// front's place, and what was 64 bits is an integer of seven bytes, or six, as byte planes. See `FloatCodec`, form 4.
///
/// An index column of its own would cost more: zstd codes all bytes of a block by one table, and between planes of noise it finds nothing in a column of three bits.
enum SplitFloats {
    private static let frontsMax = 8
    private static let restBits = 40...63
    private static let probes = 32

    struct Cut {
        /// Bits that stay after the front.
        var restBits: Int
        /// 1, 2, 4 or 8, most frequent first; no more than the column has.
        var fronts: [UInt32]
        var bytes: Int { SplitFloats.bytes(restBits, fronts.count) }
    }

    /// Bytes of a value: the rest and the front's number.
    private static func bytes(_ restBits: Int, _ fronts: Int) -> Int { (restBits + (Int.bitWidth - (fronts - 1).leadingZeroBitCount) + 7) / 8 }

    /// How to cut, by some values spread over the column; nil when the XOR with the value before leaves fewer bytes.
    static func guess(_ values: UnsafeBufferPointer<Double>) -> Cut? {
        let step = max(1, values.count / probes)
        var bits: [UInt64] = []
        var xorBytes = 0
        for index in stride(from: 0, to: values.count, by: step) {
            bits.append(values[index].bitPattern)
            if index > 0 { xorBytes += (71 - (values[index].bitPattern ^ values[index - 1].bitPattern).leadingZeroBitCount) / 8 }
        }
        guard bits.count > 1 else { return nil }
        bits.sort()
        // Nearly as good is good enough: it is decoded without waiting for the value before, and zeros between noise seldom are a gain.
        var best = Double(xorBytes) / Double(bits.count - 1) + 0.25
        var cut: Cut?
        for bytes in [6, 7] {
            for numberBits in 0...3 {
                let rest = bytes * 8 - numberBits
                let fronts = mostFrequent(bits, rest: UInt64(rest), 1 << numberBits)
                let misses = bits.count - fronts.reduce(0) { $0 + $1.count }
                // An exception has its place and its front.
                let cost = Double(bytes) + Double(misses) / Double(bits.count) * 6
                if cost < best { (best, cut) = (cost, Cut(restBits: rest, fronts: fronts.map(\.front))) }
            }
        }
        return cut
    }

    /// - Parameter bits: sorted.
    private static func mostFrequent(_ bits: [UInt64], rest: UInt64, _ countMax: Int) -> ArraySlice<(front: UInt32, count: Int)> {
        var fronts: [(front: UInt32, count: Int)] = []
        for value in bits {
            let front = UInt32(truncatingIfNeeded: value >> rest)
            if fronts.last?.front == front { fronts[fronts.count - 1].count += 1 } else { fronts.append((front, 1)) }
        }
        return fronts.sorted { ($1.count, $0.front) < ($0.count, $1.front) }.prefix(countMax)
    }

    static func append(_ values: UnsafeBufferPointer<Double>, _ cut: Cut, to output: inout [UInt8]) {
        let shift = UInt64(cut.restBits)
        let mask = (UInt64(1) << shift) - 1
        output.append(UInt8(cut.restBits))
        output.appendVarint(UInt64(cut.fronts.count))
        for front in cut.fronts { output.appendLittleEndian(UInt64(front), bytes: 4) }
        var exceptions: [Int] = []
        var joined = [UInt64](repeating: 0, count: values.count)
        var last = 0
        for index in values.indices {
            let bits = values[index].bitPattern
            let front = UInt32(truncatingIfNeeded: bits >> shift)
            if cut.fronts[last] != front {
                if let place = cut.fronts.firstIndex(of: front) {
                    last = place
                } else {
                    exceptions.append(index)
                    last = 0
                }
            }
            joined[index] = UInt64(last) << shift | bits & mask
        }
        output.appendVarint(UInt64(exceptions.count))
        var before = 0
        for index in exceptions {
            output.appendVarint(UInt64(index - before))
            output.appendLittleEndian(values[index].bitPattern >> shift, bytes: 4)
            before = index
        }
        FloatCodec.appendPlanes(cut.bytes, of: values.count, to: &output) { joined[$0] }
    }

    static func decode(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let rest = Int(try cursor.u8())
        let count = try cursor.count(max: frontsMax)
        guard restBits.contains(rest), count > 0, bytes(rest, count) <= 8 else { throw ObsError(.corrupt, "floats cut at bit \(rest) into \(count) fronts") }
        let shift = UInt64(rest)
        // A number is not compared with the count: fronts past it are zero.
        var fronts = [UInt64](repeating: 0, count: frontsMax)
        for place in 0..<count { fronts[place] = UInt64(try cursor.u32()) << shift }
        let exceptions = try cursor.count(max: values.count)
        var exception = cursor
        for _ in 0..<exceptions {
            _ = try cursor.varint()
            _ = try cursor.u32()
        }
        try FloatCodec.decodePlanes(&cursor, count: bytes(rest, count), into: values)
        let mask = (UInt64(1) << shift) - 1
        fronts.withUnsafeBufferPointer { fronts in
            for index in values.indices {
                let bits = values[index].bitPattern
                values[index] = Double(bitPattern: bits & mask | fronts[Int(truncatingIfNeeded: bits >> shift & UInt64(frontsMax - 1))])
            }
        }
        var at = 0
        for _ in 0..<exceptions {
            at += try exception.count(max: values.count)
            let front = UInt64(try exception.u32()) << shift
            guard at < values.count else { throw ObsError(.corrupt, "float exception past the end") }
            values[at] = Double(bitPattern: values[at].bitPattern & mask | front)
        }
    }
}

extension [UInt8] {
    fileprivate mutating func appendLittleEndian(_ value: UInt64, bytes: Int) {
        for byte in 0..<bytes { append(UInt8(truncatingIfNeeded: value >> UInt64(byte * 8))) }
    }
}
