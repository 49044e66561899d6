// Numbers as Go's fmt prints them: templates and alert values are read by people and tools that expect it.
internal import Glibc
internal import ObsCore

/// Go's `%v` of a float64: shortest digits, in exponent form below 1e-4 and from 1e6 on (`1e+06`, `1.234567e+06`).
func goText(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return formatSampleValue(value) }
    let (digits, exponent) = decimalDigits(abs(value))
    let power = exponent - 1
    if power >= -4, power < 6 { return formatSampleValue(value) }
    let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
    return "\(value < 0 ? "-" : "")\(digits.prefix(1))\(fraction)e\(power < 0 ? "-" : "+")\(padded(abs(power), 2))"
}

/// A C (and Go) float format such as `%.4g` or `%e`; infinities and NaN as Go spells them.
func formatFloat(_ format: String, _ value: Double) -> String {
    guard value.isFinite else { return formatSampleValue(value) }
    var buffer = [CChar](repeating: 0, count: 512)
    let count = withVaList([value]) { vsnprintf(&buffer, buffer.count, format, $0) }
    return String(decoding: buffer.prefix(max(0, min(Int(count), buffer.count - 1))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
