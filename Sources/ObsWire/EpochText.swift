/// A decimal number of seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart by magnitude, in nanoseconds: below 10^11 seconds (year 5138),
/// below 10^14 milliseconds, below 10^17 microseconds. A fraction is exact to the nanosecond. Nil for anything that is no number or past the range.
package func parseEpoch(_ text: UnsafeRawBufferPointer) -> Int64? {
    var rest = text[...]
    let isNegative = rest.first == UInt8(ascii: "-")
    if isNegative { rest = rest.dropFirst() }
    var whole: Int64 = 0
    var digits = 0
    while let digit = rest.first, digit &- UInt8(ascii: "0") <= 9 {
        guard digits < 19 else { return nil }
        whole = whole &* 10 &+ Int64(digit - UInt8(ascii: "0"))
        digits += 1
        rest = rest.dropFirst()
    }
    guard digits > 0, whole >= 0 else { return nil }
    if let next = rest.first, next | 0x20 == UInt8(ascii: "e") { return parseExponential(text) }
    // Nanoseconds a unit of the number has.
    var unit: Int64 = whole < 100_000_000_000 ? 1_000_000_000 : whole < 100_000_000_000_000 ? 1_000_000 : whole < 100_000_000_000_000_000 ? 1000 : 1
    let (nanos, overflow) = whole.multipliedReportingOverflow(by: unit)
    if overflow { return nil }
    var fraction: Int64 = 0
    if rest.first == UInt8(ascii: ".") {
        rest = rest.dropFirst()
        while let digit = rest.first, digit &- UInt8(ascii: "0") <= 9 {
            unit /= 10
            fraction &+= Int64(digit - UInt8(ascii: "0")) &* unit
            rest = rest.dropFirst()
        }
        if let next = rest.first, next | 0x20 == UInt8(ascii: "e") { return parseExponential(text) }
    }
    guard rest.isEmpty else { return nil }
    let (total, overflowSum) = nanos.addingReportingOverflow(fraction)
    return overflowSum ? nil : isNegative ? -total : total
}

/// `1.7e9`: read as the number it is, then as if written out.
private func parseExponential(_ text: UnsafeRawBufferPointer) -> Int64? {
    guard let value = parseFloat(text), abs(value) < 9.2e18 else { return nil }
    let magnitude = abs(value)
    let unit = magnitude < 1e11 ? 1e9 : magnitude < 1e14 ? 1e6 : magnitude < 1e17 ? 1e3 : 1
    return Int64(exactly: (value * unit).rounded())
}
