/// A byte size: a whole number with an optional unit B KB MB GB TB PB or KiB …; units are powers of 1024 (as in Prometheus). Nil for anything else.
package func parseBinarySize(_ text: String) -> Int? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    var unit = text.dropFirst(digits.count).uppercased()
    if unit.hasSuffix("IB"), unit.count == 3 { unit = "\(unit.prefix(1))B" }
    let shifts = ["": 0, "B": 0, "KB": 10, "MB": 20, "GB": 30, "TB": 40, "PB": 50]
    guard let count = Int(digits), let shift = shifts[unit] else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << shift)
    return overflow ? nil : bytes
}

/// A sample value as Prometheus prints it: shortest round-trip decimal, exponent form only below 1e-6 or from 1e21, `NaN`, `+Inf`, `-Inf`.
package func formatSampleValue(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == 0 { return value.sign == .minus ? "-0" : "0" }
    // Swift prints the shortest digits that round-trip; only the layout differs from Go's 'f'.
    let (digits, exponent) = decimalDigits(abs(value))
    let sign = value < 0 ? "-" : ""
    let magnitude = abs(value)
    if magnitude < 1e-6 || magnitude >= 1e21 {
        let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
        let power = exponent - 1
        return "\(sign)\(digits.prefix(1))\(fraction)e\(power < 0 ? "-" : "+")\(padded(abs(power), 2))"
    }
    if exponent <= 0 { return sign + "0." + String(repeating: "0", count: -exponent) + digits }
    if exponent >= digits.count { return sign + digits + String(repeating: "0", count: exponent - digits.count) }
    return sign + digits.prefix(exponent) + "." + digits.dropFirst(exponent)
}

/// Shortest digits d and exponent e with value = 0.d × 10^e, no leading or trailing zeros.
package func decimalDigits(_ value: Double) -> (digits: String, exponent: Int) {
    var text = "\(value)"
    var exponent = 0
    if let at = text.firstIndex(of: "e") {
        exponent = Int(text[text.index(after: at)...]) ?? 0
        text = String(text[..<at])
    }
    let point = text.firstIndex(of: ".") ?? text.endIndex
    let whole = text[..<point]
    let fraction = point < text.endIndex ? text[text.index(after: point)...] : ""
    exponent += whole.count
    var digits = String(whole + fraction)
    let leading = digits.prefix { $0 == "0" }.count
    digits.removeFirst(leading)
    exponent -= leading
    while digits.hasSuffix("0"), digits.count > 1 { digits.removeLast() }
    return (digits, exponent)
}
