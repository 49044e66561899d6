internal import ObsCore

// What a column of strings is made of, when all of them are of one kind: then numbers are stored, and printing them gives the strings back.
// A kind is only taken when every value comes back byte for byte; `007`, `1e3` and `-0` are no integers.

/// What is known of a column's values before they are looked at.
enum ValueKind {
    case text
    /// Eight bytes each, little endian.
    case int64, float64
    /// Nanoseconds, likewise.
    case instant
    /// Attribute lists.
    case attributes
    /// Bytes with nothing in them to look for.
    case opaque

    /// Types of attribute lists.
    init(attributeType: UInt8) {
        switch attributeType {
        case 3: self = .int64
        case 4: self = .float64
        default: self = .text
        }
    }
}

/// Decimal integers in canonical form, or all padded with zeros to one width.
struct IntegerText {
    /// 0: canonical. `unsigned`: canonical, without a sign, up to 2^64. Else every value has this many digits, and no sign.
    var width: Int
    /// Of values of one width: they fit an Int64 whatever they are.
    static let digitsMax = 18
    static let unsigned = 19

    /// Values as numbers, unsigned ones bit for bit; nil when one is none.
    static func parse(_ values: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, into numbers: inout Buffer<Int64>) -> IntegerText? {
        guard let first = values.first else { return nil }
        numbers.resize(values.count)
        let width = Int(first.count)
        var isCanonical = true
        var isOneWidth = width <= digitsMax
        var isSigned = false
        var isPastSigned = false
        var row = 0
        while row < values.count {
            let value = values[row]
            let count = Int(value.count)
            guard let (magnitude, leadingZero, negative) = integer(bytes, Int(value.offset), count) else { return nil }
            numbers[row] = negative ? 0 &- Int64(bitPattern: magnitude) : Int64(bitPattern: magnitude)
            isOneWidth = isOneWidth && count == width && !negative
            isCanonical = isCanonical && !leadingZero
            isSigned = isSigned || negative
            isPastSigned = isPastSigned || magnitude > UInt64(Int64.max)
            if !isCanonical && !isOneWidth || isSigned && isPastSigned { return nil }
            row &+= 1
        }
        return IntegerText(width: !isCanonical ? width : isPastSigned ? unsigned : 0)
    }

    @inline(__always)
    static func integer(_ bytes: TextBytes, _ from: Int, _ count: Int) -> (magnitude: UInt64, leadingZero: Bool, negative: Bool)? {
        guard count > 0 else { return nil }
        let negative = bytes[from] == UInt8(ascii: "-")
        let start = negative ? from &+ 1 : from
        let end = from &+ count
        guard end > start, end &- start <= 20 else { return nil }
        let leadingZero = bytes[start] == UInt8(ascii: "0") && (end &- start > 1 || negative)
        if end &- start <= 8 { return eightDigits(bytes.upToEight(start, end &- start), end &- start).map { ($0, leadingZero, negative) } }
        var number: UInt64 = 0
        var at = start
        while at < end {
            let length = min(end &- at, 8)
            guard let digits = eightDigits(bytes.upToEight(at, length), length) else { return nil }
            at &+= length
            if end &- start == 20, at == end {
                let (scaled, overflow) = number.multipliedReportingOverflow(by: powers[length])
                let (sum, carry) = scaled.addingReportingOverflow(digits)
                guard !overflow, !carry else { return nil }
                number = sum
            } else {
                number = number &* powers[length] &+ digits
            }
        }
        return (number, leadingZero, negative)
    }

    /// Of ten, up to eight.
    private static let powers: [UInt64] = [1, 10, 100, 1000, 10000, 100_000, 1_000_000, 10_000_000, 100_000_000]

    /// Up to eight digits at once, the first in the lowest byte; nil when a byte is none.
    @inline(__always)
    private static func eightDigits(_ text: UInt64, _ count: Int) -> UInt64? {
        // The last digit to the highest byte, zeros before the first.
        let zeros: UInt64 = 0x3030_3030_3030_3030
        let shift = UInt64(8 &- count) &* 8
        let aligned = count == 8 ? text : text &<< shift | zeros &>> (64 &- shift)
        let digits = aligned ^ zeros
        // A byte past 9 has a bit above the lowest four, or gets one by adding 6.
        guard (digits | (digits &+ 0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 == 0 else { return nil }
        let pairs = (digits &* 10 &+ digits &>> 8) & 0x00ff_00ff_00ff_00ff
        let fours = (pairs &* 100 &+ pairs &>> 16) & 0x0000_ffff_0000_ffff
        return (fours &* 10000 &+ fours &>> 32) & 0xffff_ffff
    }

    func append(_ number: Int64, to bytes: inout [UInt8]) {
        switch width {
        case 0: appendInteger(number, to: &bytes)
        case Self.unsigned: appendPadded(UInt64(bitPattern: number), 1, to: &bytes)
        default: appendPadded(number.magnitude, width, to: &bytes)
        }
    }
}

/// Decimal numbers: an integer with a dot `scale` digits from its end.
struct DecimalText {
    enum Ending: UInt8 {
        /// Always `scale` digits behind the dot.
        case fixed = 0
        /// Zeros at the end left out, and the dot when nothing is behind it.
        case trimmed
        /// Zeros at the end left out but for one right behind the dot.
        case oneDigit
    }
    var scale: Int
    var ending: Ending
    static let scaleMax = 9

    static func parse(_ values: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, into numbers: inout Buffer<Int64>) -> DecimalText? {
        var scale = 1
        // Numbers are read with the scale known so far: the first values mostly have it, else all are read anew.
        for value in values.prefix(16) { scale = max(scale, fractionDigits(bytes, value)) }
        numbers.resize(values.count)
        while true {
            guard scale <= scaleMax else { return nil }
            var canBe: (fixed: Bool, trimmed: Bool, oneDigit: Bool) = (true, true, true)
            var row = 0
            var deeper = scale
            while row < values.count {
                let value = values[row]
                guard let parsed = number(bytes, Int(value.offset), Int(value.count), scale) else { return nil }
                if parsed.fraction > scale {
                    deeper = max(deeper, parsed.fraction)
                    break
                }
                numbers[row] = parsed.number
                let hasZero = parsed.fraction > 0 && bytes[value.range.upperBound - 1] == UInt8(ascii: "0")
                canBe.fixed = canBe.fixed && parsed.fraction == scale
                canBe.trimmed = canBe.trimmed && !hasZero
                canBe.oneDigit = canBe.oneDigit && parsed.fraction > 0 && (!hasZero || parsed.fraction == 1)
                row &+= 1
            }
            if deeper == scale {
                let ending: Ending? = canBe.fixed ? .fixed : canBe.trimmed ? .trimmed : canBe.oneDigit ? .oneDigit : nil
                return ending.map { DecimalText(scale: scale, ending: $0) }
            }
            scale = deeper
        }
    }

    private static func fractionDigits(_ bytes: TextBytes, _ value: ByteRange) -> Int {
        for at in value.range where bytes[at] == UInt8(ascii: ".") { return value.range.upperBound - at - 1 }
        return 0
    }

    /// Digits before the dot are canonical; `.5`, `5.` and a minus before zero are none. The number means nothing when it has more digits behind the dot.
    @inline(__always)
    private static func number(_ bytes: TextBytes, _ from: Int, _ count: Int, _ scale: Int) -> (number: Int64, fraction: Int)? {
        let end = from &+ count
        guard count > 0 else { return nil }
        let negative = bytes[from] == UInt8(ascii: "-")
        let start = negative ? from &+ 1 : from
        // Digits before the dot and `scale` behind it must fit.
        guard start < end, bytes[start] != UInt8(ascii: "."), end &- start <= IntegerText.digitsMax + 1 else { return nil }
        if bytes[start] == UInt8(ascii: "0"), start + 1 < end, bytes[start + 1] != UInt8(ascii: ".") { return nil }
        var number: Int64 = 0
        var dot = -1
        var at = start
        while at < end {
            let digit = bytes[at] &- UInt8(ascii: "0")
            if digit <= 9 {
                number = number &* 10 &+ Int64(digit)
            } else {
                guard digit == UInt8(ascii: ".") &- UInt8(ascii: "0"), dot < 0 else { return nil }
                dot = at
            }
            at &+= 1
        }
        let fraction = dot < 0 ? 0 : end &- dot &- 1
        if dot >= 0 && fraction == 0 || negative && number == 0 { return nil }
        if fraction > scale { return (0, fraction) }
        let whole = dot < 0 ? end &- start : dot &- start
        if whole &+ scale > IntegerText.digitsMax { return nil }
        var missing = scale &- fraction
        while missing > 0 {
            number = number &* 10
            missing &-= 1
        }
        return (negative ? -number : number, fraction)
    }

    func append(_ number: Int64, to bytes: inout [UInt8]) {
        var rest = number.magnitude
        var digits = scale
        if ending != .fixed {
            while digits > (ending == .oneDigit ? 1 : 0), rest % 10 == 0 {
                rest /= 10
                digits -= 1
            }
        }
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        var power: UInt64 = 1
        for _ in 0..<digits { power &*= 10 }
        appendPadded(rest / power, 1, to: &bytes)
        if digits > 0 {
            bytes.append(UInt8(ascii: "."))
            appendPadded(rest % power, digits, to: &bytes)
        }
    }
}

/// Hexadecimal digits of one case, the same number of them in every value.
struct HexText {
    var digits: Int
    var isUpper: Bool
    static let digitsMin = 4
    static let digitsMax = 256

    /// Values of every byte as a digit: 16 added for a small letter, 32 for a capital one; 128 when it is none.
    private static let nibbles: [UInt8] = (0..<256).map { byte in
        switch UInt8(byte) {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt8(byte) - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt8(byte) - UInt8(ascii: "a") + 10 + 16
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt8(byte) - UInt8(ascii: "A") + 10 + 32
        default: 128
        }
    }

    /// Fills `packed` with the digits.
    static func parse(_ values: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, into packed: inout Buffer<UInt8>) -> HexText? {
        guard let first = values.first, first.count >= digitsMin, first.count <= digitsMax else { return nil }
        let digits = Int(first.count)
        packed.resize(values.count * ((digits + 1) / 2))
        return nibbles.withUnsafeBufferPointer { nibbles in
            var at = 0
            var seen: UInt8 = 0
            for value in values {
                guard value.count == first.count else { return nil }
                var from = Int(value.offset)
                for _ in 0..<digits / 2 {
                    let high = nibbles[Int(bytes[from])]
                    let low = nibbles[Int(bytes[from &+ 1])]
                    seen |= high | low
                    packed[at] = high &<< 4 | low & 15
                    at &+= 1
                    from &+= 2
                }
                if digits & 1 == 1 {
                    let high = nibbles[Int(bytes[from])]
                    seen |= high
                    packed[at] = high &<< 4
                    at &+= 1
                }
                if seen & 128 != 0 || seen & 48 == 48 { return nil }
            }
            return HexText(digits: digits, isUpper: seen & 32 != 0)
        }
    }

    var byteCount: Int { (digits + 1) / 2 }

    func append(_ packed: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
        let base: UInt8 = (isUpper ? UInt8(ascii: "A") : UInt8(ascii: "a")) - 10
        for index in 0..<digits {
            let byte = packed[index >> 1]
            let nibble = index & 1 == 0 ? byte >> 4 : byte & 15
            bytes.append(nibble < 10 ? nibble + UInt8(ascii: "0") : nibble + base)
        }
    }
}

/// Decimal digits, at least `width` of them.
func appendPadded(_ number: UInt64, _ width: Int, to bytes: inout [UInt8]) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
        var at = 20
        var rest = number
        repeat {
            at -= 1
            digits.initializeElement(at: at, to: UInt8(truncatingIfNeeded: rest % 10) + UInt8(ascii: "0"))
            rest /= 10
        } while rest != 0 || 20 - at < min(width, 20)
        bytes.append(contentsOf: UnsafeMutableBufferPointer(rebasing: digits[at...]))
    }
}

func appendInteger(_ number: Int64, to bytes: inout [UInt8]) {
    if number < 0 { bytes.append(UInt8(ascii: "-")) }
    appendPadded(number.magnitude, 1, to: &bytes)
}
