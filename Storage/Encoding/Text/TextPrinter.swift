internal import ObsCore

// Numbers printed straight to where they belong; what `ValueKind.swift` and its neighbours read.

/// `00` to `99`.
private nonisolated(unsafe) let digitPairs: UnsafePointer<UInt8> = {
    let pairs = UnsafeMutablePointer<UInt8>.allocate(capacity: 200)
    for number in 0..<100 {
        pairs[number * 2] = UInt8(ascii: "0") + UInt8(number / 10)
        pairs[number * 2 + 1] = UInt8(ascii: "0") + UInt8(number % 10)
    }
    return UnsafePointer(pairs)
}()

@inline(__always)
func digitCount(_ number: UInt64) -> Int {
    var count = 1
    var rest = number
    while rest >= 10000 {
        rest /= 10000
        count &+= 4
    }
    return count &+ (rest >= 1000 ? 3 : rest >= 100 ? 2 : rest >= 10 ? 1 : 0)
}

/// The last `count` digits, zeros in front.
@inline(__always)
func putDigits(_ number: UInt64, _ count: Int, at target: UnsafeMutablePointer<UInt8>) {
    var rest = number
    var at = count
    while at >= 2 {
        let pair = Int(truncatingIfNeeded: rest % 100) &* 2
        rest /= 100
        at &-= 2
        target[at] = digitPairs[pair]
        target[at &+ 1] = digitPairs[pair &+ 1]
    }
    if at == 1 { target[0] = UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: rest % 10) }
}

extension IntegerText {
    @inline(__always)
    func put(_ number: Int64, at target: UnsafeMutablePointer<UInt8>) -> Int {
        if width == Self.unsigned {
            let number = UInt64(bitPattern: number)
            let digits = digitCount(number)
            putDigits(number, digits, at: target)
            return digits
        }
        let digits = max(digitCount(number.magnitude), min(width, 20))
        if width == 0, number < 0 {
            target[0] = UInt8(ascii: "-")
            putDigits(number.magnitude, digits, at: target + 1)
            return digits &+ 1
        }
        putDigits(number.magnitude, digits, at: target)
        return digits
    }
}

extension DecimalText {
    func put(_ number: Int64, at target: UnsafeMutablePointer<UInt8>) -> Int {
        var rest = number.magnitude
        var behind = scale
        if ending != .fixed {
            while behind > (ending == .oneDigit ? 1 : 0), rest % 10 == 0 {
                rest /= 10
                behind -= 1
            }
        }
        var at = 0
        if number < 0 {
            target[0] = UInt8(ascii: "-")
            at = 1
        }
        var power: UInt64 = 1
        for _ in 0..<behind { power &*= 10 }
        let whole = behind == 0 ? rest : rest / power
        let digits = digitCount(whole)
        putDigits(whole, digits, at: target + at)
        at += digits
        guard behind > 0 else { return at }
        target[at] = UInt8(ascii: ".")
        putDigits(rest % power, behind, at: target + at + 1)
        return at + 1 + behind
    }
}

extension HexText {
    /// Both digits of every byte, small letters.
    private nonisolated(unsafe) static let pairs: (lower: UnsafePointer<UInt8>, upper: UnsafePointer<UInt8>) = (table("abcdef"), table("ABCDEF"))

    private static func table(_ letters: String) -> UnsafePointer<UInt8> {
        let digits = Array("0123456789".utf8) + Array(letters.utf8)
        let pairs = UnsafeMutablePointer<UInt8>.allocate(capacity: 512)
        for byte in 0..<256 {
            pairs[byte * 2] = digits[byte >> 4]
            pairs[byte * 2 + 1] = digits[byte & 15]
        }
        return UnsafePointer(pairs)
    }

    @inline(__always)
    func put(_ packed: UnsafePointer<UInt8>, at target: UnsafeMutablePointer<UInt8>) -> Int {
        let pairs = isUpper ? Self.pairs.upper : Self.pairs.lower
        let whole = digits / 2
        for index in 0..<whole {
            let pair = Int(packed[index]) &* 2
            target[index &* 2] = pairs[pair]
            target[index &* 2 &+ 1] = pairs[pair &+ 1]
        }
        if digits & 1 == 1 { target[digits &- 1] = pairs[Int(packed[whole]) &* 2] }
        return digits
    }
}

extension TimeText {
    var width: Int { digits > 0 ? 21 + digits : 20 }

    /// What lies outside the years 0 to 9999 prints something of the same length, which no writer wrote.
    func put(_ number: Int64, at target: UnsafeMutablePointer<UInt8>) -> Int {
        let seconds = floorDivide(number, perSecond)
        let days = floorDivide(seconds, 86400)
        putDate(days, at: target)
        putClock(UInt64(seconds &- days &* 86400), UInt64(number &- seconds &* perSecond), at: target + 11)
        return width
    }

    /// All of them, each `width` bytes. Neighbours mostly have one date, which is made once then.
    func put(_ numbers: UnsafeBufferPointer<Int64>, at target: UnsafeMutablePointer<UInt8>) {
        let perSecond = perSecond
        var days = Int64.min
        var firstSecond: Int64 = 0
        var at = 0
        for number in numbers {
            let seconds = floorDivide(number, perSecond)
            if days == .min || UInt64(bitPattern: seconds &- firstSecond) >= 86400 {
                days = floorDivide(seconds, 86400)
                firstSecond = days &* 86400
                putDate(days, at: target + at)
            } else {
                (target + at).update(from: target + (at - width), count: 11)
            }
            putClock(UInt64(seconds &- firstSecond), UInt64(number &- seconds &* perSecond), at: target + (at + 11))
            at &+= width
        }
    }

    private func putDate(_ days: Int64, at target: UnsafeMutablePointer<UInt8>) {
        let date = civilFromDays(Int(days))
        putDigits(UInt64(clamping: date.year), 4, at: target)
        target[4] = UInt8(ascii: "-")
        putDigits(UInt64(date.month), 2, at: target + 5)
        target[7] = UInt8(ascii: "-")
        putDigits(UInt64(date.day), 2, at: target + 8)
        target[10] = UInt8(ascii: "T")
    }

    @inline(__always)
    private func putClock(_ ofDay: UInt64, _ fraction: UInt64, at target: UnsafeMutablePointer<UInt8>) {
        putDigits(ofDay / 3600, 2, at: target)
        target[2] = UInt8(ascii: ":")
        putDigits(ofDay / 60 % 60, 2, at: target + 3)
        target[5] = UInt8(ascii: ":")
        putDigits(ofDay % 60, 2, at: target + 6)
        var at = 8
        if digits > 0 {
            target[8] = UInt8(ascii: ".")
            putDigits(fraction, digits, at: target + 9)
            at = 9 &+ digits
        }
        target[at] = UInt8(ascii: "Z")
    }

    private var perSecond: Int64 {
        var power: Int64 = 1
        for _ in 0..<digits { power &*= 10 }
        return power
    }
}

extension NumberText {
    @inline(__always)
    func put(_ number: Int64, at target: UnsafeMutablePointer<UInt8>) -> Int {
        switch self {
        case .integer(let format): return format.put(number, at: target)
        case .decimal(let format): return format.put(number, at: target)
        case .time(let format): return format.put(number, at: target)
        case .clock(_, let integer, let decimal): return decimal.scale == 0 ? integer.put(number, at: target) : decimal.put(number, at: target)
        case .int64, .float64, .instant:
            UnsafeMutableRawPointer(target).storeBytes(of: number.littleEndian, as: Int64.self)
            return 8
        }
    }

    /// Bytes of one of the numbers, at most.
    func bytesMax(_ numbers: Slice<UnsafeMutableBufferPointer<Int64>>) -> Int {
        var all: UInt64 = 0
        for number in numbers { all |= number.magnitude }
        // Up to the next power of two all may occur.
        let digits = digitCount(all == 0 ? 0 : UInt64.max >> UInt64(all.leadingZeroBitCount)) + 1
        return switch self {
        case .integer(let format): format.width == IntegerText.unsigned ? 20 : max(digits, min(format.width, 20))
        case .decimal(let format): max(digits, format.scale + 2) + 1
        case .clock(_, let integer, let decimal): integer.width == IntegerText.unsigned ? 32 : max(digits, integer.width, decimal.scale + 2) + 1
        case .time(let format): format.width
        case .int64, .float64, .instant: 8
        }
    }
}
