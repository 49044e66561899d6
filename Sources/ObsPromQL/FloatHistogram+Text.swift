internal import ObsCore

extension FloatHistogram: CustomStringConvertible {
    /// As Prometheus prints a histogram, for `count_values` among others: `{count:4, sum:5, (1,2]:3, (2,4]:1}`.
    package var description: String {
        var parts = ["count:\(formatGeneral(count))", "sum:\(formatGeneral(sum))"]
        for place in negative.counts.indices.reversed() where negative.counts[place] != 0 { parts.append(negativeBucket(place).description) }
        if zeroCount != 0 { parts.append(zeroBucket.description) }
        for place in positive.counts.indices where positive.counts[place] != 0 { parts.append(positiveBucket(place).description) }
        return "{\(parts.joined(separator: ", "))}"
    }
}

extension HistogramBucket: CustomStringConvertible {
    package var description: String {
        "\(includesLower ? "[" : "(")\(formatGeneral(lower)),\(formatGeneral(upper))\(includesUpper ? "]" : ")"):\(formatGeneral(count))"
    }
}

/// A number as Go's `%g` prints it: the shortest digits that tell it, in exponent form below 1e-4 and from 1e6; with `digits` given rounded to so many, and
/// in exponent form from 10^digits.
func formatGeneral(_ value: Double, digits: Int? = nil) -> String {
    guard value.isFinite, value != 0 else { return formatSampleValue(value) }
    var (text, exponent) = decimalDigits(abs(value))
    if let digits, text.count > digits { (text, exponent) = rounded(text, exponent, digits) }
    let sign = value < 0 ? "-" : ""
    if exponent - 1 < -4 || exponent - 1 >= digits ?? 6 {
        let fraction = text.count > 1 ? "." + text.dropFirst() : ""
        return "\(sign)\(text.prefix(1))\(fraction)e\(exponent - 1 < 0 ? "-" : "+")\(padded(abs(exponent - 1), 2))"
    }
    if exponent <= 0 { return "\(sign)0.\(String(repeating: "0", count: -exponent))\(text)" }
    if exponent >= text.count { return sign + text + String(repeating: "0", count: exponent - text.count) }
    return "\(sign)\(text.prefix(exponent)).\(text.dropFirst(exponent))"
}

/// Decimal digits rounded to fewer.
private func rounded(_ text: String, _ exponent: Int, _ count: Int) -> (String, Int) {
    var digits = text.utf8.prefix(count + 1).map { Int($0) - 48 }
    let up = digits.removeLast() >= 5
    var exponent = exponent
    var at = digits.count - 1
    if up {
        while at >= 0, digits[at] == 9 {
            digits[at] = 0
            at -= 1
        }
        if at >= 0 {
            digits[at] += 1
        } else {
            digits = [1] + digits.dropLast()
            exponent += 1
        }
    }
    while digits.count > 1, digits.last == 0 { digits.removeLast() }
    return (digits.map(String.init).joined(), exponent)
}
