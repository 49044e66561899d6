package import ObsCore

/// A column of Doubles, bit for bit: stale markers, NaN payloads, ±0 and denormals come back as they were.
///
/// Most metrics are decimal numbers that were rounded once to the nearest double: counts, seconds with three digits, percentages, bytes in round millions. Such a
/// value is an integer over (or times) a power of ten. A power of ten up to 10^22 is a double itself, so one IEEE division or multiplication gives the double
/// nearest to the decimal, which is the one it was: the integer says it all. This is what ALP does with two exponents, one to scale up and one to take the zeros
/// away again; it needs the second since it multiplies by inverse powers and rounds twice. One exact operation needs one signed exponent and fails less
/// often. Integers then go through `IntegerCodec`, where counters become small deltas. What is not decimal (a stale marker in a series of counts) is an
/// exception, kept whole; the integer before it stands in its place, and exceptions that are all the same are written once.
///
/// Values that are no decimals have bits as random as measured data is, but for the front: sign, exponent and a few digits. Either these are the same few
/// throughout: then the front is cut off and its number among up to eight takes its place (ALP-RD). Or each is near the one before it:
/// then the XOR of the two begins with zeros. Both lie as byte planes, for zstd to find what is regular.
///
/// Which form it is is guessed from some values spread over the column. The exponent is the smallest that makes all of them (but one in eight) integers; the others
/// are weighed in bits a value.
///
/// ```
/// form u8
///   0 constant  u64 bits
///   1 decimal   as 3, but exponent 0...15 and exceptions: varint x · x × (varint gap from the one before, u64 bits); no longer written
///   2 xor       8 × n bytes: planes of bits ^ bits before, lowest byte first
///   3 decimal   exponent u8: 0...15 integer / 10^e, 129...150 integer × 10^(e - 128) · varint (2 x + same) · exceptions · integers by IntegerCodec
///               exceptions: when same, and x is not 0, u64 bits · x × varint gap; else x × (varint gap, u64 bits)
///   4 split     bits of the rest r u8 (40...63) · varint d (1...8) · d × u32 front · varint x · x × (varint gap, u32 front) ·
///               planes of (front's number << r | rest), lowest byte first: as many as these bits take
/// ```
package enum FloatCodec {
    private enum Form: UInt8 { case constant = 0, decimalBefore, xor, decimal, split }

    /// 10^0...10^22; doubles hold them exactly.
    private static let powers: [Double] = [
        1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ]
    package static let exponentMax = 15
    package static func power(_ exponent: Int) -> Double { powers[exponent] }

    /// The integer that over 10^exponent is exactly this value; nil when there is none (-0, NaN, an infinity, too many digits).
    package static func integer(_ value: Double, _ exponent: Int) -> Int64? { integer(value, Scale(exponent)) }
    package static func value(_ integer: Int64, _ exponent: Int) -> Double { Double(integer) / powers[exponent] }

    /// Integers up to here are doubles themselves.
    private static let exactMax: Double = 9_007_199_254_740_992
    /// Values looked at for a guess.
    private static let probes = 32

    package static func append(_ values: UnsafeBufferPointer<Double>, to output: inout [UInt8]) {
        guard let first = values.first else { return }
        var index = 1
        while index < values.count, values[index].bitPattern == first.bitPattern { index &+= 1 }
        if index == values.count {
            output.append(Form.constant.rawValue)
            output.appendLittleEndian(first.bitPattern)
            return
        }
        if let scale = scaleGuess(values), appendDecimal(values, scale, to: &output) { return }
        if let cut = SplitFloats.guess(values) {
            output.append(Form.split.rawValue)
            SplitFloats.append(values, cut, to: &output)
        } else {
            appendXOR(values, to: &output)
        }
    }

    package static func append(_ values: [Double], to output: inout [UInt8]) {
        values.withUnsafeBufferPointer { append($0, to: &output) }
    }

    package static func decode(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        guard !values.isEmpty else { return }
        let tag = try cursor.u8()
        switch Form(rawValue: tag) {
        case .constant: values.update(repeating: Double(bitPattern: try cursor.u64()))
        case .decimalBefore, .decimal: try decodeDecimal(&cursor, form: tag, into: values)
        case .xor: try decodeXOR(&cursor, into: values)
        case .split: try SplitFloats.decode(&cursor, into: values)
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

    // MARK: Decimals

    /// A power of ten that integers are divided by or multiplied with.
    private struct Scale {
        /// Negative: multiplied.
        var exponent: Int
        var power: Double

        init(_ exponent: Int) {
            self.exponent = exponent
            power = powers[abs(exponent)]
        }

        var byte: UInt8 { exponent < 0 ? UInt8(128 - exponent) : UInt8(exponent) }

        init?(_ byte: UInt8) {
            switch byte {
            case 0...15: self.init(Int(byte))
            case 129...150: self.init(128 - Int(byte))
            default: return nil
            }
        }
    }

    @inline(__always)
    private static func integer(_ value: Double, _ scale: Scale) -> Int64? {
        let product = scale.exponent < 0 ? value / scale.power : value * scale.power
        guard product.magnitude <= exactMax else { return nil }  // NaN fails too
        // Adding 1.5 × 2^52 rounds what is below 2^51 to an integer, without a call as `rounded` is one on the least of the processors this runs on.
        let whole = product.magnitude < 0x1p51 ? (product + 0x1.8p52) - 0x1.8p52 : product.rounded()
        let back = scale.exponent < 0 ? whole * scale.power : whole / scale.power
        // -0 fails by its sign: its integer is +0.
        return back.bitPattern == value.bitPattern && (whole != 0 || value.bitPattern == 0) ? Int64(whole) : nil
    }

    /// The smallest exponent that makes integers of most of a few values spread over the column; nil when none does.
    private static func scaleGuess(_ values: UnsafeBufferPointer<Double>) -> Scale? {
        let step = max(1, values.count / probes)
        let looked = (values.count + step - 1) / step
        func misses(_ scale: Scale) -> Int {
            var misses = 0
            for index in stride(from: 0, to: values.count, by: step) where integer(values[index], scale) == nil { misses += 1 }
            return misses
        }
        // What is a decimal of few digits is one of more, unless it is too big then: so one walk finds the exponent of nearly all columns.
        var scale = Scale(0)
        var greatest = 0.0
        for index in stride(from: 0, to: values.count, by: step) where integer(values[index], scale) == nil {
            if values[index].isFinite { greatest = max(greatest, values[index].magnitude) }
            var exponent = scale.exponent + 1
            while exponent <= exponentMax, integer(values[index], Scale(exponent)) == nil { exponent += 1 }
            if exponent <= exponentMax { scale = Scale(exponent) }
        }
        if misses(scale) * 8 <= looked { return scale }
        for exponent in 0...exponentMax where misses(Scale(exponent)) * 8 <= looked { return Scale(exponent) }
        // Too big for integers: round numbers all the same?
        guard greatest > exactMax, let exponent = (1...22).first(where: { greatest / powers[$0] <= exactMax }) else { return nil }
        return misses(Scale(-exponent)) * 8 <= looked ? Scale(-exponent) : nil
    }

    /// False, with nothing appended, when there are too many exceptions or the digits are longer than the double.
    private static func appendDecimal(_ values: UnsafeBufferPointer<Double>, _ scale: Scale, to output: inout [UInt8]) -> Bool {
        let start = output.count
        var exceptions: [Int] = []
        let exceptionsMax = values.count / 8 + 1
        let integers = [Int64](unsafeUninitializedCapacity: values.count) { integers, filled in
            var last: Int64 = 0
            var index = 0
            while index < values.count {
                if let integer = integer(values[index], scale) {
                    last = integer
                } else {
                    exceptions.append(index)
                    if exceptions.count > exceptionsMax { break }
                }
                integers.initializeElement(at: index, to: last)
                index &+= 1
            }
            filled = index
            // Exceptions at the head would otherwise be far from the first real value.
            var lead = 0
            while lead < exceptions.count, exceptions[lead] == lead { lead += 1 }
            if lead < filled { for index in 0..<lead { integers[index] = integers[lead] } }
        }
        if integers.count < values.count { return false }
        output.append(Form.decimal.rawValue)
        output.append(scale.byte)
        let isSame = exceptions.allSatisfy { values[$0].bitPattern == values[exceptions[0]].bitPattern }
        output.appendVarint(UInt64(exceptions.count * 2 + (isSame ? 1 : 0)))
        if isSame, let first = exceptions.first { output.appendLittleEndian(values[first].bitPattern) }
        var before = 0
        for index in exceptions {
            output.appendVarint(UInt64(index - before))
            if !isSame { output.appendLittleEndian(values[index].bitPattern) }
            before = index
        }
        IntegerCodec.append(integers, to: &output)
        guard scale.exponent > 12, output.count - start > values.count * 6 else { return true }
        output.removeLast(output.count - start)
        return false
    }

    private static func decodeDecimal(_ cursor: inout ByteCursor, form: UInt8, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let byte = try cursor.u8()
        guard let scale = Scale(byte), byte < 128 || form == Form.decimal.rawValue else { throw ObsError(.corrupt, "decimal exponent \(byte)") }
        var exceptions = try cursor.count(max: values.count * 2 + 1)
        var same: UInt64?
        if form == Form.decimal.rawValue {
            if exceptions > 1, exceptions & 1 == 1 { same = try cursor.u64() }
            exceptions >>= 1
        }
        guard exceptions <= values.count else { throw ObsError(.corrupt, "\(exceptions) float exceptions of \(values.count) values") }
        var exception = cursor
        for _ in 0..<exceptions {
            _ = try cursor.varint()
            if same == nil { _ = try cursor.u64() }
        }
        // The integers are decoded where the doubles will be: same width, one buffer.
        try values.withMemoryRebound(toInt64: { integers throws(ObsError) in try IntegerCodec.decode(&cursor, into: integers) })
        let power = scale.power
        if scale.exponent == 0 {
            for index in values.indices { values[index] = Double(Int64(bitPattern: values[index].bitPattern)) }
        } else if scale.exponent > 0 {
            for index in values.indices { values[index] = Double(Int64(bitPattern: values[index].bitPattern)) / power }
        } else {
            for index in values.indices { values[index] = Double(Int64(bitPattern: values[index].bitPattern)) * power }
        }
        var at = 0
        for _ in 0..<exceptions {
            at += try exception.count(max: values.count)
            guard at < values.count else { throw ObsError(.corrupt, "float exception past the end") }
            if let same { values[at] = Double(bitPattern: same) } else { values[at] = Double(bitPattern: try exception.u64()) }
        }
    }

    // MARK: XOR

    private static func appendXOR(_ values: UnsafeBufferPointer<Double>, to output: inout [UInt8]) {
        output.append(Form.xor.rawValue)
        var before: UInt64 = 0
        appendPlanes(8, of: values.count, to: &output) { index in
            let bits = values[index].bitPattern
            defer { before = bits }
            return bits ^ before
        }
    }

    private static func decodeXOR(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        try decodePlanes(&cursor, count: 8, into: values)
        var before: UInt64 = 0
        var index = 0
        while index < values.count {
            before ^= values[index].bitPattern
            values[index] = Double(bitPattern: before)
            index &+= 1
        }
    }

    /// Bit patterns from their lowest so many bytes, plane after plane.
    static func decodePlanes(_ cursor: inout ByteCursor, count: Int, into values: UnsafeMutableBufferPointer<Double>) throws(ObsError) {
        let planes = try cursor.take(count * values.count)
        values.update(repeating: 0)
        for plane in 0..<count {
            let shift = UInt64(plane * 8)
            let base = plane * values.count
            var index = 0
            while index < values.count {
                values[index] = Double(bitPattern: values[index].bitPattern | UInt64(planes[base &+ index]) &<< shift)
                index &+= 1
            }
        }
    }

    /// The lowest so many bytes of each, plane after plane.
    static func appendPlanes(_ count: Int, of size: Int, to output: inout [UInt8], _ bits: (Int) -> UInt64) {
        let start = output.count
        output.append(contentsOf: repeatElement(0, count: count * size))
        output.withUnsafeMutableBytes { bytes in
            for index in 0..<size {
                var rest = bits(index)
                var at = start &+ index
                for _ in 0..<count {
                    bytes[at] = UInt8(truncatingIfNeeded: rest)
                    rest &>>= 8
                    at &+= size
                }
            }
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
