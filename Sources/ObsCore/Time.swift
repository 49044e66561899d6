// Calendar arithmetic without Foundation: proleptic Gregorian, UTC.

/// Days since 1970-01-01 of a date (Howard Hinnant's civil calendar algorithm).
package func daysFromCivil(year: Int, month: Int, day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
}

package func civilFromDays(_ days: Int) -> (year: Int, month: Int, day: Int) {
    let z = days + 719_468
    let era = (z >= 0 ? z : z - 146_096) / 146_097
    let dayOfEra = z - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let m = (5 * dayOfYear + 2) / 153
    let month = m < 10 ? m + 3 : m - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * m + 2) / 5 + 1)
}

package let nanosPerSecond: Int64 = 1_000_000_000
package let nanosPerMilli: Int64 = 1_000_000
package let millisPerDay: Int64 = 86_400_000
package let nanosPerDay: Int64 = 86_400_000_000_000

/// Floor division: the quotient for a negative dividend rounds down, so that times before 1970 fall into the right day.
package func floorDivide(_ a: Int64, _ b: Int64) -> Int64 { a >= 0 ? a / b : -(-(a + 1) / b) - 1 }

/// Sum and difference of times from outside, clamped to what Int64 holds: `end - start` of a request must not trap.
package func clampedSum(_ a: Int64, _ b: Int64) -> Int64 {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? (a < 0 ? .min : .max) : sum
}

package func clampedDifference(_ a: Int64, _ b: Int64) -> Int64 {
    let (difference, overflow) = a.subtractingReportingOverflow(b)
    return overflow ? (a < 0 ? .min : .max) : difference
}

/// `yyyy-mm-dd` of a day number since the epoch.
package func dayName(_ day: Int) -> String {
    let date = civilFromDays(day)
    return "\(padded(date.year, 4))-\(padded(date.month, 2))-\(padded(date.day, 2))"
}

/// RFC 3339 in UTC; trailing zeros of the fraction are left off, no fraction when it is 0.
package func rfc3339(nanos: Int64) -> String {
    let day = floorDivide(nanos, nanosPerDay)
    let inDay = nanos &- day &* nanosPerDay  // the first day of all of time does not begin within Int64
    let seconds = Int(inDay / nanosPerSecond)
    var fraction = ""
    let rest = Int(inDay % nanosPerSecond)
    if rest != 0 {
        fraction = "." + padded(rest, 9)
        while fraction.hasSuffix("0") { fraction.removeLast() }
    }
    return "\(dayName(Int(day)))T\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))\(fraction)Z"
}

package func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(abs(number))
    return (number < 0 ? "-" : "") + String(repeating: "0", count: max(0, width - digits.count)) + digits
}

/// RFC 3339 with `T`, `t` or a space, any number of fraction digits (those past nanoseconds are cut), offset or `Z`; a missing offset is UTC. Nil for anything else.
package func parseRFC3339(_ text: UnsafeRawBufferPointer) -> Int64? {
    func number(_ from: Int, _ count: Int) -> Int? {
        guard from + count <= text.count else { return nil }
        var value = 0
        for index in from..<from + count {
            let digit = text[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }
    func byte(_ at: Int) -> UInt8 { at < text.count ? text[at] : 0 }
    guard let year = number(0, 4), byte(4) == UInt8(ascii: "-"), let month = number(5, 2), byte(7) == UInt8(ascii: "-"), let day = number(8, 2),
        byte(10) | 0x20 == UInt8(ascii: "t") || byte(10) == UInt8(ascii: " "), let hour = number(11, 2), byte(13) == UInt8(ascii: ":"),
        let minute = number(14, 2), byte(16) == UInt8(ascii: ":"), let second = number(17, 2),
        (1...12).contains(month), (1...31).contains(day), hour <= 23, minute <= 59, second <= 60
    else { return nil }
    let days = daysFromCivil(year: year, month: month, day: day)
    guard civilFromDays(days) == (year, month, day) else { return nil }
    var at = 19
    var nanos = 0
    if byte(at) == UInt8(ascii: ".") || byte(at) == UInt8(ascii: ",") {
        at += 1
        var scale = 100_000_000
        let start = at
        while at < text.count, let digit = number(at, 1) {
            nanos += digit * scale
            scale /= 10
            at += 1
        }
        if at == start { return nil }
    }
    var offsetSeconds = 0
    switch byte(at) {
    case UInt8(ascii: "Z"), UInt8(ascii: "z"): at += 1
    case UInt8(ascii: "+"), UInt8(ascii: "-"):
        let sign = byte(at) == UInt8(ascii: "-") ? -1 : 1
        guard let hours = number(at + 1, 2) else { return nil }
        let colon = byte(at + 3) == UInt8(ascii: ":") ? 1 : 0
        guard let minutes = number(at + 3 + colon, 2) else { return nil }
        offsetSeconds = sign * (hours * 3600 + minutes * 60)
        at += 5 + colon
    default: break
    }
    guard at == text.count else { return nil }
    let total = days * 86_400 + hour * 3600 + minute * 60 + second - offsetSeconds
    let (seconds, overflow) = Int64(total).multipliedReportingOverflow(by: nanosPerSecond)
    let (sum, overflowSum) = seconds.addingReportingOverflow(Int64(nanos))
    return overflow || overflowSum ? nil : sum
}

package func parseRFC3339(_ text: String) -> Int64? {
    var copy = text
    return copy.withUTF8 { parseRFC3339(UnsafeRawBufferPointer($0)) }
}

/// A Prometheus duration (`1h30m`; units y w d h m s ms, each once, descending; also `0`) in milliseconds; nil for anything else.
package func parseDurationMillis(_ text: String) -> Int64? {
    if text == "0" { return 0 }
    let units: [(String, Int64)] = [
        ("y", 365 * millisPerDay), ("w", 7 * millisPerDay), ("d", millisPerDay), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]
    var total: Int64 = 0
    var next = 0
    var rest = Substring(text)
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, let count = Int64(digits) else { return nil }
        rest = rest.dropFirst(digits.count)
        let unit = String(rest.prefix { $0.isASCII && $0.isLetter })
        guard let index = units.firstIndex(where: { $0.0 == unit }), index >= next else { return nil }
        let (part, overflow) = count.multipliedReportingOverflow(by: units[index].1)
        let (sum, overflowSum) = total.addingReportingOverflow(part)
        guard !overflow, !overflowSum else { return nil }
        total = sum
        next = index + 1
        rest = rest.dropFirst(unit.count)
    }
    return total
}

/// A Go or Prometheus duration (`1h30m`, `1.5h`, `250ms`, `10us`, `1d`, `-5s`) in nanoseconds; nil for anything else. The number needs a unit, but for `0`.
package func parseGoDuration(_ text: some StringProtocol) -> Double? {
    var rest = Array(text.utf8)[...]
    var sign = 1.0
    if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
        if first == UInt8(ascii: "-") { sign = -1 }
        rest = rest.dropFirst()
    }
    if rest.elementsEqual("0".utf8) { return 0 }
    guard !rest.isEmpty else { return nil }
    var total = 0.0
    while !rest.isEmpty {
        let number = rest.prefix { isDigit($0) || $0 == UInt8(ascii: ".") }
        rest = rest.dropFirst(number.count)
        let unit = rest.prefix { !isDigit($0) && $0 != UInt8(ascii: ".") }
        rest = rest.dropFirst(unit.count)
        // The zeros let `.5s` and `5.s` pass, which Swift's numbers do not.
        guard number.contains(where: isDigit), let value = Double("0\(String(decoding: number, as: UTF8.self))\(number.last == UInt8(ascii: ".") ? "0" : "")"),
            let scale = nanosOfUnit(String(decoding: unit, as: UTF8.self))
        else { return nil }
        total += value * scale
    }
    return total.isFinite ? sign * total : nil
}

private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") <= 9 }

private func nanosOfUnit(_ unit: String) -> Double? {
    switch unit {
    case "ns": 1
    case "us", "µs", "μs": 1e3
    case "ms": 1e6
    case "s": 1e9
    case "m": 60e9
    case "h": 3600e9
    case "d": 86_400e9
    case "w": 604_800e9
    case "y": 31_536_000e9
    default: nil
    }
}

/// The shortest Prometheus spelling of a duration: `1h30m`, `0s`.
package func formatDuration(millis: Int64) -> String {
    if millis == 0 { return "0s" }
    var rest = Int64(clamping: millis.magnitude)
    var text = millis < 0 ? "-" : ""
    // Prometheus' model.Duration uses years, weeks and days only when nothing is left over.
    for (unit, size, exact) in [
        ("y", 365 * millisPerDay, true), ("w", 7 * millisPerDay, true), ("d", millisPerDay, false), ("h", 3_600_000, false), ("m", 60_000, false),
        ("s", 1000, false), ("ms", 1, false),
    ] as [(String, Int64, Bool)] {
        if exact, rest % size != 0 { continue }
        let count = rest / size
        if count > 0 {
            text += "\(count)\(unit)"
            rest -= count * size
        }
    }
    return text
}
