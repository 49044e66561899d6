internal import Glibc
internal import ObsCore

/// True doubles cut in two: the front (sign, exponent, upper digits), of which a column has few, and the rest, which is noise. See `FloatCodec`, form 4.
enum SplitFloats {
    static let frontsMax = 8
    private static let restBits = 48...63
    private static let probes = 64

    struct Cut {
        /// Bits that stay after the front.
        var restBits: Int
        /// Most frequent first.
        var fronts: [UInt16]
    }

    /// How to cut, by some values spread over the column; nil when the XOR with the value before leaves fewer bits.
    static func guess(_ values: UnsafeBufferPointer<Double>) -> Cut? {
        let step = max(1, values.count / probes)
        var bits: [UInt64] = []
        var xorBits = 0
        for index in stride(from: 0, to: values.count, by: step) {
            bits.append(values[index].bitPattern)
            if index > 0 { xorBits += 64 - (values[index].bitPattern ^ values[index - 1].bitPattern).leadingZeroBitCount }
        }
        guard bits.count > 1 else { return nil }
        // The number of zeros in front differs from value to value, and must be told too.
        let xorCost = Double(xorBits) / Double(bits.count - 1) + 1
        var best = Double.infinity
        var cut: Cut?
        // Of cuts that are as good the shortest front: a sample makes many fronts look better than they are.
        // And a rest of more than 56 bits saves no byte.
        for rest in (48...56).reversed() {
            var counts: [UInt16: Int] = [:]
            for value in bits { counts[UInt16(value >> UInt64(rest)), default: 0] += 1 }
            let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            var cost = Double(rest)
            for (rank, front) in sorted.enumerated() {
                let share = Double(front.value) / Double(bits.count)
                // An exception has its place and its front.
                cost += share * (rank < frontsMax ? -log2(share) : 24)
            }
            if sorted.count > 1 { cost += 0.5 }
            if cost < best - 0.25 { (best, cut) = (cost, Cut(restBits: rest, fronts: sorted.prefix(frontsMax).map(\.key))) }
        }
        // As good is good enough: it is decoded without waiting for the value before.
        return best < xorCost + 0.25 ? cut : nil
    }

    static func append(_ values: UnsafeBufferPointer<Double>, _ cut: Cut, to output: inout [UInt8]) {
        let shift = UInt64(cut.restBits)
        output.append(UInt8(cut.restBits))
        output.appendVarint(UInt64(cut.fronts.count))
        for front in cut.fronts { output.append(contentsOf: [UInt8(truncatingIfNeeded: front), UInt8(front >> 8)]) }
        var exceptions: [Int] = []
        var indices = [UInt8](repeating: 0, count: values.count)
        for index in values.indices {
            let front = UInt16(values[index].bitPattern >> shift)
            if let place = cut.fronts.firstIndex(of: front) { indices[index] = UInt8(place) } else { exceptions.append(index) }
        }
        output.appendVarint(UInt64(exceptions.count))
        var before = 0
        for index in exceptions {
            let front = UInt16(values[index].bitPattern >> shift)
            output.appendVarint(UInt64(index - before))
            output.append(contentsOf: [UInt8(truncatingIfNeeded: front), UInt8(front >> 8)])
            before = index
        }
        if cut.fronts.count > 1 { output.append(contentsOf: indices) }
        let mask = (UInt64(1) << shift) - 1
        FloatCodec.appendPlanes((cut.restBits + 7) / 8, of: values.count, to: &output) { values[$0].bitPattern & mask }
    }

    static func decode(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let rest = Int(try cursor.u8())
        let count = try cursor.count(max: frontsMax)
        guard restBits.contains(rest), count > 0 else { throw ObsError(.corrupt, "floats cut at bit \(rest) into \(count) fronts") }
        let shift = UInt64(rest)
        // An index is not checked against the number of fronts; those past it are zero.
        var fronts = [UInt64](repeating: 0, count: 256)
        for place in 0..<count { fronts[place] = UInt64(try cursor.u16()) << shift }
        let exceptions = try cursor.count(max: values.count)
        var exception = cursor
        for _ in 0..<exceptions {
            _ = try cursor.varint()
            _ = try cursor.u16()
        }
        let indices = count > 1 ? try cursor.take(values.count) : nil
        try FloatCodec.decodePlanes(&cursor, count: (rest + 7) / 8, into: values)
        let mask = (UInt64(1) << shift) - 1
        if let indices {
            fronts.withUnsafeBufferPointer { fronts in
                for index in values.indices {
                    values[index] = Double(bitPattern: values[index].bitPattern & mask | fronts[Int(indices[index])])
                }
            }
        } else {
            let front = fronts[0]
            for index in values.indices { values[index] = Double(bitPattern: values[index].bitPattern & mask | front) }
        }
        var at = 0
        for _ in 0..<exceptions {
            at += try exception.count(max: values.count)
            let front = UInt64(try exception.u16()) << shift
            guard at < values.count else { throw ObsError(.corrupt, "float exception past the end") }
            values[at] = Double(bitPattern: values[at].bitPattern & mask | front)
        }
    }
}
