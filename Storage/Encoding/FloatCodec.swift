package import ObsCore

/// A column of Doubles, bit for bit: stale markers, NaN payloads, ±0 and denormals come back as they were.
///
/// Most metrics are decimal numbers that were rounded once to the nearest double: counts, seconds with three digits, percentages. Such a value is `integer / 10^e`
/// for a small e, and division by a power of ten up to 10^22 is exact to the last bit, so the integer gives the double back. Integers then go through
/// `IntegerCodec`, where counters become small deltas. What is not decimal (a stale marker in a series of counts) is an exception, kept whole. A column
/// that is not decimal at all keeps the XOR with its predecessor as byte planes: sign, exponent and upper digits seldom change.
///
/// ```
/// form u8
///   0 constant  u64 bits
///   1 decimal   exponent u8 · varint exceptions · exceptions × (varint gap from the one before, u64 bits) · integers by IntegerCodec
///   2 xor       8 × n bytes: planes of bits ^ bits before, lowest byte first
/// ```
package enum FloatCodec {
    private enum Form: UInt8 { case constant = 0, decimal, xor }

    /// 10^0...10^15; doubles hold them exactly.
    private static let powers: [Double] = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15]
    package static var exponentMax: Int { powers.count - 1 }
    package static func power(_ exponent: Int) -> Double { powers[exponent] }

    /// The integer that over 10^exponent is exactly this value; nil when there is none (-0, NaN, an infinity, too many digits).
    package static func integer(_ value: Double, _ exponent: Int) -> Int64? { scaled(value, powers[exponent]) }
    package static func value(_ integer: Int64, _ exponent: Int) -> Double { Double(integer) / powers[exponent] }

    /// Integers up to here are doubles themselves.
    private static let exactMax: Double = 9_007_199_254_740_992
    /// Values looked at to guess the exponent.
    private static let probes = 32

    package static func append(_ values: UnsafeBufferPointer<Double>, to output: inout [UInt8]) {
        guard let first = values.first else { return }
        if values.allSatisfy({ $0.bitPattern == first.bitPattern }) {
            output.append(Form.constant.rawValue)
            output.appendLittleEndian(first.bitPattern)
            return
        }
        if let exponent = exponentGuess(values), appendDecimal(values, exponent, to: &output) { return }
        appendXOR(values, to: &output)
    }

    package static func append(_ values: [Double], to output: inout [UInt8]) {
        values.withUnsafeBufferPointer { append($0, to: &output) }
    }

    package static func decode(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        guard !values.isEmpty else { return }
        let tag = try cursor.u8()
        switch Form(rawValue: tag) {
        case .constant: values.update(repeating: Double(bitPattern: try cursor.u64()))
        case .decimal: try decodeDecimal(&cursor, into: values)
        case .xor: try decodeXOR(&cursor, into: values)
        case nil: throw ObsError(.corrupt, "unknown float encoding \(tag)")
        }
    }

    package static func decode(_ cursor: inout ByteCursor, count: Int) throws(ObsError) -> [Double] {
        var failure: ObsError?
        let values = [Double](unsafeUninitializedCapacity: count) { buffer, filled in
            let slice = UnsafeMutableBufferPointer(rebasing: buffer[0..<count])
            slice.initialize(repeating: 0)
            filled = count
            do throws(ObsError) { try decode(&cursor, into: slice) } catch { failure = error }
        }
        if let failure { throw failure }
        return values
    }

    /// The integer whose quotient by the power is exactly `value`; nil when there is none.
    @inline(__always)
    private static func scaled(_ value: Double, _ power: Double) -> Int64? {
        let product = (value * power).rounded()
        guard product.magnitude <= exactMax else { return nil }  // NaN fails too
        guard (product / power).bitPattern == value.bitPattern else { return nil }  // -0 fails, its integer is +0
        let integer = Int64(product)
        return integer == 0 && value.bitPattern != 0 ? nil : integer
    }

    /// The smallest exponent that fits most of a few values spread over the column; nil when none does.
    private static func exponentGuess(_ values: UnsafeBufferPointer<Double>) -> Int? {
        let step = max(1, values.count / probes)
        var best: (exponent: Int, hits: Int)?
        let looked = (values.count + step - 1) / step
        for exponent in powers.indices {
            var hits = 0
            for index in stride(from: 0, to: values.count, by: step) where scaled(values[index], powers[exponent]) != nil { hits += 1 }
            if hits == looked { return exponent }
            if hits > best?.hits ?? 0 { best = (exponent, hits) }
        }
        guard let best, best.hits * 8 >= looked * 7 else { return nil }
        return best.exponent
    }

    /// False, with nothing appended, when there are too many exceptions or the digits are longer than the double.
    private static func appendDecimal(_ values: UnsafeBufferPointer<Double>, _ exponent: Int, to output: inout [UInt8]) -> Bool {
        let start = output.count
        let power = powers[exponent]
        var exceptions: [Int] = []
        var last: Int64 = 0
        let exceptionsMax = values.count / 8 + 1
        var integers = [Int64](repeating: 0, count: values.count)
        for index in values.indices {
            if let integer = scaled(values[index], power) {
                last = integer
            } else {
                exceptions.append(index)
                if exceptions.count > exceptionsMax { return false }
            }
            integers[index] = last
        }
        // Exceptions at the head would otherwise be far from the first real value.
        if let first = exceptions.first, first == 0 {
            let lead = exceptions.enumerated().prefix { $0.offset == $0.element }.count
            if lead < integers.count { for index in 0..<lead { integers[index] = integers[lead] } }
        }
        output.append(Form.decimal.rawValue)
        output.append(UInt8(exponent))
        output.appendVarint(UInt64(exceptions.count))
        var before = 0
        for index in exceptions {
            output.appendVarint(UInt64(index - before))
            output.appendLittleEndian(values[index].bitPattern)
            before = index
        }
        IntegerCodec.append(integers, to: &output)
        guard exponent > 12, output.count - start > values.count * 6 else { return true }
        output.removeLast(output.count - start)
        return false
    }

    private static func decodeDecimal(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let exponent = Int(try cursor.u8())
        guard exponent < powers.count else { throw ObsError(.corrupt, "decimal exponent \(exponent)") }
        let exceptions = try cursor.count(max: values.count)
        let list = cursor
        var skipping = exceptions
        while skipping > 0 {
            _ = try cursor.varint()
            _ = try cursor.u64()
            skipping -= 1
        }
        let power = powers[exponent]
        // The integers are decoded where the doubles will be: same width, one buffer.
        try values.withMemoryRebound(toInt64: { integers throws(ObsError) in try IntegerCodec.decode(&cursor, into: integers) })
        for index in values.indices { values[index] = Double(Int64(bitPattern: values[index].bitPattern)) / power }
        var at = 0
        var exception = list
        for _ in 0..<exceptions {
            let gap = try exception.count(max: values.count)
            at += gap
            guard at < values.count else { throw ObsError(.corrupt, "float exception past the end") }
            values[at] = Double(bitPattern: try exception.u64())
        }
    }

    private static func appendXOR(_ values: UnsafeBufferPointer<Double>, to output: inout [UInt8]) {
        output.append(Form.xor.rawValue)
        let count = values.count
        let start = output.count
        output.append(contentsOf: repeatElement(0, count: 8 * count))
        output.withUnsafeMutableBytes { bytes in
            var before: UInt64 = 0
            var index = 0
            while index < count {
                let bits = values[index].bitPattern
                var difference = bits ^ before
                before = bits
                var at = start &+ index
                for _ in 0..<8 {
                    bytes[at] = UInt8(truncatingIfNeeded: difference)
                    difference &>>= 8
                    at &+= count
                }
                index &+= 1
            }
        }
    }

    private static func decodeXOR(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let count = values.count
        let planes = try cursor.take(count * 8)
        var before: UInt64 = 0
        var index = 0
        while index < count {
            var bits: UInt64 = 0
            var at = index
            for plane in 0..<UInt64(8) {
                bits |= UInt64(planes[at]) &<< (plane &* 8)
                at &+= count
            }
            before ^= bits
            values[index] = Double(bitPattern: before)
            index &+= 1
        }
    }
}

extension UnsafeMutableBufferPointer<Double> {
    fileprivate func withMemoryRebound(toInt64 body: (UnsafeMutableBufferPointer<Int64>) throws(ObsError) -> Void) throws(ObsError) {
        var failure: ObsError?
        withMemoryRebound(to: Int64.self) { integers in
            do throws(ObsError) { try body(integers) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
