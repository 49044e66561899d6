internal import ObsCore

// What a column of strings is made of, when all of them are of one kind: then numbers are stored, and printing them gives the strings back.
// A kind is only taken when every value comes back byte for byte; `007`, `1e3` and `-0` are no integers.

/// What is known of a column's values before they are looked at.
enum ValueKind {
    case text
    /// Eight bytes each, little endian.
    case int64, float64

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
    /// 0: canonical. Else every value has this many digits, and no sign.
    var width: Int
    /// Of every value: 18 digits fit an Int64 whatever they are.
    static let digitsMax = 18

    /// Values as numbers, nil when one is none.
    static func parse(_ values: [ByteRange], _ bytes: UnsafeRawBufferPointer) -> (IntegerText, [Int64])? {
        guard let first = values.first else { return nil }
        var numbers = [Int64](repeating: 0, count: values.count)
        var isCanonical = true
        let width = Int(first.count)
        var isOneWidth = width <= digitsMax
        for (row, value) in values.enumerated() {
            guard let (number, leadingZero, negative) = integer(bytes, Int(value.offset), Int(value.count)) else { return nil }
            numbers[row] = number
            isOneWidth = isOneWidth && Int(value.count) == width && !negative
            isCanonical = isCanonical && !leadingZero
            if !isCanonical, !isOneWidth { return nil }
        }
        return (IntegerText(width: isCanonical ? 0 : width), numbers)
    }

    @inline(__always)
    static func integer(_ bytes: UnsafeRawBufferPointer, _ from: Int, _ count: Int) -> (Int64, leadingZero: Bool, negative: Bool)? {
        guard count > 0 else { return nil }
        let negative = bytes[from] == UInt8(ascii: "-")
        let start = negative ? from + 1 : from
        let digits = from + count - start
        guard digits > 0, digits <= digitsMax else { return nil }
        var number: Int64 = 0
        for at in start..<from + count {
            let digit = bytes[at] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            number = number &* 10 &+ Int64(digit)
        }
        let leadingZero = bytes[start] == UInt8(ascii: "0") && (digits > 1 || negative)
        return (negative ? -number : number, leadingZero, negative)
    }

    func append(_ number: Int64, to bytes: inout [UInt8]) {
        if width == 0 { return appendInteger(number, to: &bytes) }
        appendPadded(number.magnitude, width, to: &bytes)
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

    static func parse(_ values: [ByteRange], _ bytes: UnsafeRawBufferPointer) -> (DecimalText, [Int64])? {
        var scale = 0
        for value in values {
            let start = Int(value.offset)
            var dot = -1
            for at in start..<start + Int(value.count) {
                let byte = bytes[at]
                if byte == UInt8(ascii: ".") {
                    guard dot < 0 else { return nil }
                    dot = at
                } else if byte &- UInt8(ascii: "0") > 9, byte != UInt8(ascii: "-") || at != start {
                    return nil
                }
            }
            if dot >= 0 { scale = max(scale, start + Int(value.count) - dot - 1) }
            if scale > scaleMax { return nil }
        }
        guard scale > 0 else { return nil }
        var canBe: (fixed: Bool, trimmed: Bool, oneDigit: Bool) = (true, true, true)
        var numbers = [Int64](repeating: 0, count: values.count)
        for (row, value) in values.enumerated() {
            guard let parsed = number(bytes, Int(value.offset), Int(value.count), scale) else { return nil }
            numbers[row] = parsed.number
            let hasZero = parsed.fraction > 0 && bytes[Int(value.offset + value.count) - 1] == UInt8(ascii: "0")
            canBe.fixed = canBe.fixed && parsed.fraction == scale
            canBe.trimmed = canBe.trimmed && !hasZero
            canBe.oneDigit = canBe.oneDigit && parsed.fraction > 0 && (!hasZero || parsed.fraction == 1)
        }
        let ending: Ending? = canBe.fixed ? .fixed : canBe.trimmed ? .trimmed : canBe.oneDigit ? .oneDigit : nil
        return ending.map { (DecimalText(scale: scale, ending: $0), numbers) }
    }

    /// Digits before the dot are canonical; `.5`, `5.` and a minus before zero are none.
    private static func number(_ bytes: UnsafeRawBufferPointer, _ from: Int, _ count: Int, _ scale: Int) -> (number: Int64, fraction: Int)? {
        let end = from + count
        guard count > 0 else { return nil }
        let negative = bytes[from] == UInt8(ascii: "-")
        let start = negative ? from + 1 : from
        var number: Int64 = 0
        var fraction = -1
        // Digits before the dot and `scale` behind it must fit.
        guard start < end, bytes[start] != UInt8(ascii: "."), end - start <= IntegerText.digitsMax + 1 else { return nil }
        if bytes[start] == UInt8(ascii: "0"), start + 1 < end, bytes[start + 1] != UInt8(ascii: ".") { return nil }
        for at in start..<end {
            if bytes[at] == UInt8(ascii: ".") {
                fraction = 0
                continue
            }
            number = number &* 10 &+ Int64(bytes[at] &- UInt8(ascii: "0"))
            if fraction >= 0 { fraction += 1 }
        }
        if fraction == 0 || negative && number == 0 { return nil }
        let whole = fraction < 0 ? end - start : end - start - 1 - fraction
        if whole + scale > IntegerText.digitsMax { return nil }
        for _ in max(fraction, 0)..<scale { number = number &* 10 }
        return (negative ? -number : number, max(fraction, 0))
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

    static func parse(_ values: [ByteRange], _ bytes: UnsafeRawBufferPointer) -> (HexText, [UInt8])? {
        guard let first = values.first, first.count >= digitsMin, first.count <= digitsMax else { return nil }
        let digits = Int(first.count)
        var packed: [UInt8] = []
        packed.reserveCapacity(values.count * (digits + 1) / 2)
        var lower = false
        var upper = false
        for value in values {
            guard value.count == first.count else { return nil }
            let start = Int(value.offset)
            var byte: UInt8 = 0
            for index in 0..<digits {
                let character = bytes[start &+ index]
                var nibble = character &- UInt8(ascii: "0")
                if nibble > 9 {
                    nibble = (character | 0x20) &- UInt8(ascii: "a")
                    guard nibble < 6 else { return nil }
                    nibble &+= 10
                    if character & 0x20 != 0 { lower = true } else { upper = true }
                }
                if index & 1 == 0 { byte = nibble << 4 } else { packed.append(byte | nibble) }
            }
            if digits & 1 == 1 { packed.append(byte) }
        }
        return lower && upper ? nil : (HexText(digits: digits, isUpper: upper), packed)
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
