package import ObsCore

/// A column of Int64, any values.
///
/// Neighbours in a column are alike in one of three ways: in value (indices, severities), in step (arrival numbers, counters) or in change of step (timestamps). The
/// codec takes the difference that leaves the fewest significant bits, divides out a common power of 1000 (clocks that tick in micro- or milliseconds store
/// nanoseconds), and lays the result out as *byte planes*: all lowest bytes, then all second bytes, up to the widest value. A plane is what
/// zstd's entropy coder is good at (the high planes are runs of zero), it costs no bit arithmetic, and both loops vectorise. Bit-packing
/// would be smaller without zstd, with it the packed bits look random. But for the highest plane: of values up to 99,999 it has one bit, which as a byte
/// costs an entropy coder no less than a bit, and several when it is coded with others.
///
/// All arithmetic wraps: a difference that overflows comes back by the same overflow.
///
/// ```
/// tag u8: low nibble form, high nibble scale (0: 1, 1: 10^3, 2: 10^6, 3: 10^9)
/// form 0 constant   zigzag value
///      1 plain      zigzag minimum · planes(count, (value - minimum) / scale)
///      2 delta      zigzag first · planes(count - 1, zigzag(delta / scale))
///      3 delta²     zigzag first · zigzag first delta · planes(count - 2, zigzag(change of delta / scale))
/// planes            width u8 (0...8) · width × n bytes; with 16, 32 or 48 added to the width the last plane has 1, 2 or 4 bits a value
/// ```
/// A column of no values takes no bytes. The count is not stored: who stores a column knows it.
package enum IntegerCodec {
    private enum Form: UInt8 { case constant = 0, plain, delta, deltaOfDelta }
    private static let scales: [Int64] = [1, 1000, 1_000_000, 1_000_000_000]

    /// Bytes of each plane and of the last. The planes are what was appended last, and have little in common: who compresses does so plane by plane where that pays.
    package struct Planes {
        package var each = 0
        package var last = 0
    }

    @discardableResult
    package static func append(_ values: UnsafeBufferPointer<Int64>, to output: inout [UInt8]) -> Planes {
        guard let first = values.first else { return Planes() }
        let survey = Survey(values)
        if survey.isConstant {
            output.append(Form.constant.rawValue)
            output.appendZigzag(first)
            return Planes()
        }
        let form = survey.cheapest
        let count = values.count - (form == .plain ? 0 : form == .delta ? 1 : 2)
        return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: count) { rest in
            let scale = fill(rest, values, form, minimum: survey.minimum)
            output.append(form.rawValue | UInt8(scale) << 4)
            switch form {
            case .constant: break
            case .plain: output.appendZigzag(survey.minimum)
            case .delta: output.appendZigzag(first)
            case .deltaOfDelta:
                output.appendZigzag(first)
                output.appendZigzag(values[1] &- first)
            }
            return Planes(each: count, last: appendPlanes(UnsafeBufferPointer(rest), to: &output))
        }
    }

    @discardableResult
    package static func append(_ values: [Int64], to output: inout [UInt8]) -> Planes {
        values.withUnsafeBufferPointer { append($0, to: &output) }
    }

    /// For columns of narrower or unsigned integers; 64-bit ones keep their bits.
    package static func append<T: FixedWidthInteger>(converting values: [T], to output: inout [UInt8]) {
        append(values.map { Int64(truncatingIfNeeded: $0) }, to: &output)
    }

    package static func decode(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Int64>) throws(ObsError) {
        guard !values.isEmpty else { return }
        let tag = try cursor.u8()
        guard let form = Form(rawValue: tag & 15), tag >> 4 < 4 else { throw ObsError(.corrupt, "unknown integer encoding \(tag)") }
        let scale = scales[Int(tag >> 4)]
        let first = try cursor.zigzag()
        switch form {
        case .constant: values.update(repeating: first)
        case .plain:
            try decodePlanes(&cursor, into: values)
            for index in values.indices { values[index] = first &+ values[index] &* scale }
        case .delta:
            try decodePlanes(&cursor, into: UnsafeMutableBufferPointer(rebasing: values[1...]))
            values[0] = first
            var value = first
            var index = 1
            while index < values.count {
                value = value &+ unzigzag(UInt64(bitPattern: values[index])) &* scale
                values[index] = value
                index &+= 1
            }
        case .deltaOfDelta:
            guard values.count >= 2 else { throw ObsError(.corrupt, "second differences of fewer than two values") }
            var delta = try cursor.zigzag()
            try decodePlanes(&cursor, into: UnsafeMutableBufferPointer(rebasing: values[2...]))
            values[0] = first
            var value = first &+ delta
            values[1] = value
            var index = 2
            while index < values.count {
                delta = delta &+ unzigzag(UInt64(bitPattern: values[index])) &* scale
                value = value &+ delta
                values[index] = value
                index &+= 1
            }
        }
    }

    /// - Parameter count: trusted, or bounded by who read it.
    package static func decode(_ cursor: inout ByteCursor, count: Int) throws(ObsError) -> [Int64] {
        var failure: ObsError?
        let values = [Int64](unsafeUninitializedCapacity: count) { buffer, filled in
            let slice = UnsafeMutableBufferPointer(rebasing: buffer[0..<count])
            slice.initialize(repeating: 0)
            filled = count
            do throws(ObsError) { try decode(&cursor, into: slice) } catch { failure = error }
        }
        if let failure { throw failure }
        return values
    }

    /// - Throws: `.corrupt` for a value that does not fit.
    package static func decode<T: FixedWidthInteger>(_ cursor: inout ByteCursor, count: Int, as type: T.Type) throws(ObsError) -> [T] {
        let wide = try decode(&cursor, count: count)
        if T.bitWidth == 64 { return wide.map { T(truncatingIfNeeded: $0) } }
        guard let low = wide.min(), let high = wide.max() else { return [] }
        guard T(exactly: low) != nil, T(exactly: high) != nil else { throw ObsError(.corrupt, "integer out of the range of its column") }
        return wide.map { T(truncatingIfNeeded: $0) }
    }

    /// Finds what the choice of form needs.
    private struct Survey {
        var minimum: Int64
        let isConstant: Bool
        private var plainBits = 0
        private var deltaBits = 0
        private var secondBits = 0
        private let count: Int
        /// Of long columns so many values in a row are looked at, then three times as many passed over.
        private static let run = 64

        init(_ values: UnsafeBufferPointer<Int64>) {
            count = values.count
            let first = values[0]
            var low = first
            var different: Int64 = 0
            for value in values {
                low = min(low, value)
                different |= value ^ first
            }
            minimum = low
            isConstant = different == 0
            if isConstant { return }
            let step = count > 16 * Self.run ? 4 * Self.run : Self.run
            for start in stride(from: 0, to: count, by: step) {
                var previous = start > 0 ? values[start - 1] : first
                var previousDelta = start > 1 ? previous &- values[start - 2] : 0
                for index in start..<min(start + Self.run, count) {
                    let value = values[index]
                    let delta = value &- previous
                    plainBits &+= 64 &- (value &- low).leadingZeroBitCount
                    deltaBits &+= 64 &- zigzag(delta).leadingZeroBitCount
                    secondBits &+= 64 &- zigzag(delta &- previousDelta).leadingZeroBitCount
                    previous = value
                    previousDelta = delta
                }
            }
        }

        var cheapest: Form {
            // Differences amplify noise, so each further one must win clearly: its bits are less alike than their number says.
            let first = deltaBits + deltaBits / 8 < plainBits ? deltaBits : plainBits
            if count > 2, secondBits + secondBits / 8 < first { return .deltaOfDelta }
            return first == plainBits ? .plain : .delta
        }
    }

    /// Fills the residuals, divided by the largest scale that leaves no remainder; returns the scale's index.
    private static func fill(_ rest: UnsafeMutableBufferPointer<UInt64>, _ values: UnsafeBufferPointer<Int64>, _ form: Form, minimum: Int64) -> Int {
        switch form {
        case .constant: return 0
        case .plain: for index in 0..<rest.count { rest[index] = UInt64(bitPattern: values[index] &- minimum) }
        case .delta: for index in 0..<rest.count { rest[index] = UInt64(bitPattern: values[index &+ 1] &- values[index]) }
        case .deltaOfDelta:
            for index in 0..<rest.count {
                rest[index] = UInt64(bitPattern: (values[index &+ 2] &- values[index &+ 1]) &- (values[index &+ 1] &- values[index]))
            }
        }
        let scale = scaleIndex(rest, signed: form != .plain)
        let divisor = scales[scale]
        if form == .plain {
            // The difference to the minimum is unsigned: it may be past Int64.max, and then scale is 1.
            if divisor > 1 { for index in rest.indices { rest[index] /= UInt64(divisor) } }
        } else {
            if divisor > 1 { for index in rest.indices { rest[index] = UInt64(bitPattern: Int64(bitPattern: rest[index]) / divisor) } }
            for index in 0..<rest.count { rest[index] = zigzag(Int64(bitPattern: rest[index])) }
        }
        return scale
    }

    private static func scaleIndex(_ rest: UnsafeMutableBufferPointer<UInt64>, signed: Bool) -> Int {
        var scale = 3
        for bits in rest {
            let value = Int64(bitPattern: bits)
            if !signed, value < 0 { return 0 }
            while scale > 0, value % scales[scale] != 0 { scale -= 1 }
            if scale == 0 { return 0 }
        }
        return scale
    }

    /// - Returns: bytes of the last plane.
    private static func appendPlanes(_ values: UnsafeBufferPointer<UInt64>, to output: inout [UInt8]) -> Int {
        var all: UInt64 = 0
        for value in values { all |= value }
        let width = (64 - all.leadingZeroBitCount + 7) / 8
        let packing = width == 0 ? 0 : packing(highest: all >> UInt64(width * 8 - 8))
        output.append(UInt8(width | packing << 4))
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: values.count) { plane in
            for place in 0..<width {
                let shift = UInt64(place * 8)
                for index in 0..<values.count { plane[index] = UInt8(truncatingIfNeeded: values[index] &>> shift) }
                if place == width - 1, packing > 0 {
                    let bytes = pack(plane, bits: 1 << (packing - 1))
                    output.append(contentsOf: UnsafeBufferPointer(rebasing: plane[..<bytes]))
                    return bytes
                }
                output.append(contentsOf: UnsafeBufferPointer(plane))
            }
            return values.count
        }
    }

    /// How the last plane is packed: 0 not, else its values have 2^(packing - 1) bits.
    private static func packing(highest: UInt64) -> Int { highest < 2 ? 1 : highest < 4 ? 2 : highest < 16 ? 3 : 0 }

    /// Packs values in place, the first in the lowest bits. Gives the bytes they take.
    private static func pack(_ plane: UnsafeMutableBufferPointer<UInt8>, bits: Int) -> Int {
        let perByte = 8 / bits
        let bytes = (plane.count + perByte - 1) / perByte
        for byte in 0..<bytes {
            var packed: UInt8 = 0
            let first = byte &* perByte
            for index in 0..<min(perByte, plane.count &- first) { packed |= plane[first &+ index] &<< UInt8(truncatingIfNeeded: index &* bits) }
            plane[byte] = packed
        }
        return bytes
    }

    private static func decodePlanes(_ cursor: inout ByteCursor, into values: UnsafeMutableBufferPointer<Int64>) throws(ObsError) {
        let tag = try cursor.u8()
        let (width, packing) = (Int(tag & 15), Int(tag >> 4))
        guard width <= 8, packing <= 3, width > 0 || packing == 0 else { throw ObsError(.corrupt, "integers of \(tag) bytes") }
        let count = values.count
        let whole = packing > 0 ? width - 1 : width
        let (total, overflow) = whole.multipliedReportingOverflow(by: count)
        guard !overflow else { throw ObsError(.corrupt, "integer column too long") }
        let planes = try cursor.take(total)
        values.update(repeating: 0)
        for plane in 0..<whole {
            let shift = Int64(plane * 8)
            let base = plane * count
            var index = 0
            while index < count {
                values[index] |= Int64(planes[base &+ index]) &<< shift
                index &+= 1
            }
        }
        guard packing > 0 else { return }
        let (bits, shift) = (1 << (packing - 1), Int64(whole * 8))
        let perByte = 8 / bits
        let packed = try cursor.take(count / perByte + (count % perByte > 0 ? 1 : 0))
        let mask = UInt8(truncatingIfNeeded: 1 << bits - 1)
        var index = 0
        while index < count {
            let byte = packed[index / perByte] &>> UInt8(truncatingIfNeeded: index % perByte &* bits)
            values[index] |= Int64(byte & mask) &<< shift
            index &+= 1
        }
    }
}
