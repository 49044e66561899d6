internal import Glibc
internal import ObsCore

/// A sample value as Go's `ParseFloat` reads it, without the forms the exposition formats refuse (`_`, hexadecimal `p`): decimal with optional exponent, `Inf`, `NaN`
/// in any case. Nil for anything else, a number past a double's range included.
package func parseFloat(_ text: UnsafeRawBufferPointer) -> Double? {
    var at = 0
    let isNegative = text.first == UInt8(ascii: "-")
    if isNegative || text.first == UInt8(ascii: "+") { at = 1 }
    var mantissa: UInt64 = 0
    var exponent = 0
    var digits = 0
    var significant = 0
    var hasPoint = false
    scan: while at < text.count {
        switch text[at] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            digits += 1
            if mantissa != 0 || text[at] != UInt8(ascii: "0") { significant += 1 }
            if significant <= 19 { mantissa = mantissa &* 10 &+ UInt64(text[at] - UInt8(ascii: "0")) }
            if hasPoint { exponent -= 1 }
        case UInt8(ascii: "."):
            if hasPoint { return nil }
            hasPoint = true
        default: break scan
        }
        at += 1
    }
    guard digits > 0 else { return parseNonFinite(text) }
    if at < text.count {
        guard text[at] | 0x20 == UInt8(ascii: "e"), let power = parsePower(UnsafeRawBufferPointer(rebasing: text[(at + 1)...])) else { return nil }
        exponent += power
    }
    // Both factors exact: one rounding, so the result is the nearest double (Clinger).
    if significant <= 19, mantissa < 1 << 53, (-22...22).contains(exponent) {
        let value = exponent < 0 ? Double(mantissa) / powersOfTen[-exponent] : Double(mantissa) * powersOfTen[exponent]
        return isNegative ? -value : value
    }
    return parseSlowly(text)
}

private let powersOfTen: [Double] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
]

private func parsePower(_ text: UnsafeRawBufferPointer) -> Int? {
    var rest = text[...]
    let isNegative = rest.first == UInt8(ascii: "-")
    if isNegative || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
    if rest.isEmpty { return nil }
    var power = 0
    for digit in rest {
        guard digit &- UInt8(ascii: "0") <= 9 else { return nil }
        power = min(power * 10 + Int(digit - UInt8(ascii: "0")), 100_000)
    }
    return isNegative ? -power : power
}

private func parseNonFinite(_ text: UnsafeRawBufferPointer) -> Double? {
    let isSigned = text.first == UInt8(ascii: "-") || text.first == UInt8(ascii: "+")
    let word = UnsafeRawBufferPointer(rebasing: text[(isSigned ? 1 : 0)...])
    if equalsFolded(word, "inf") || equalsFolded(word, "infinity") { return text.first == UInt8(ascii: "-") ? -.infinity : .infinity }
    return !isSigned && equalsFolded(word, "nan") ? .nan : nil
}

private func parseSlowly(_ text: UnsafeRawBufferPointer) -> Double? {
    let value = withUnsafeTemporaryAllocation(byteCount: text.count + 1, alignment: 1) { copy in
        copy.copyMemory(from: text)
        copy[text.count] = 0
        return copy.withMemoryRebound(to: CChar.self) { $0.baseAddress.map { strtod($0, nil) } ?? .nan }
    }
    return value.isFinite ? value : nil
}

/// Whether a number is surely spelled as `formatOpenMetricsFloat` would: `+Inf`, or a short decimal with a point, such as `0.25` or `10.0`. Bounds mostly are.
func isSpelledAsOpenMetrics(_ text: UnsafeRawBufferPointer) -> Bool {
    if equals(text, "+Inf") { return true }
    guard (3...15).contains(text.count), let point = text.firstIndex(of: UInt8(ascii: ".")), (1...6).contains(point), point + 1 < text.count else {
        return false
    }
    for at in text.indices where at != point && text[at] &- UInt8(ascii: "0") > 9 { return false }
    if text[0] == UInt8(ascii: "0"), point > 1 || text[2] == UInt8(ascii: "0") { return false }
    return text[text.count - 1] != UInt8(ascii: "0") || point + 2 == text.count
}

/// A number as OpenMetrics writes `le` and `quantile`: Go's `%g` with `.0` where neither point nor exponent shows it is a float (`1.0`, `1e+06`, `+Inf`).
package func formatOpenMetricsFloat(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
    let (digits, exponent) = decimalDigits(abs(value))
    let sign = value < 0 ? "-" : ""
    let power = exponent - 1
    if power < -4 || power >= 6 {
        let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
        return "\(sign)\(digits.prefix(1))\(fraction)e\(power < 0 ? "-" : "+")\(padded(abs(power), 2))"
    }
    if exponent <= 0 { return sign + "0." + String(repeating: "0", count: -exponent) + digits }
    if exponent >= digits.count { return sign + digits + String(repeating: "0", count: exponent - digits.count) + ".0" }
    return sign + digits.prefix(exponent) + "." + digits.dropFirst(exponent)
}
