internal import ObsCore

/// Instants as RFC 3339 in UTC with a fixed number of digits behind the second: `2026-11-23T00:00:00.003644672Z`. Most are the time of the record they are in, or a
/// little before it, so what is stored is the difference.
struct TimeText {
    /// 0...9 digits behind the dot; no dot when there are none.
    var digits: Int

    private static let powers: [Int64] = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1]
    private static let perSecond: [Int64] = powers.reversed()

    /// Instants in units of the last digit; nil when a value is none, or is none of ours.
    static func parse(_ values: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, into numbers: inout Buffer<Int64>) -> TimeText? {
        guard let first = values.first, first.count >= 20, first.count <= 30, first.count != 21 else { return nil }
        let text = TimeText(digits: first.count == 20 ? 0 : Int(first.count) - 21)
        numbers.resize(values.count)
        /// The day of the value before, whose date is mostly the same, and its seconds.
        var day: (at: Int, seconds: Int64)?
        for (row, value) in values.enumerated() {
            guard value.count == first.count else { return nil }
            let at = Int(value.offset)
            if let known = day, bytes.isSame(known.at, at, 11) {
            } else {
                guard let seconds = secondsOfDate(bytes, at) else { return nil }
                day = (at, seconds)
            }
            guard let day, let number = text.number(bytes, at, day.seconds) else { return nil }
            numbers[row] = number
        }
        return text
    }

    /// The record's time in our unit.
    func number(ofNanos nanos: Int64) -> Int64 {
        let unit = Self.powers[digits]
        return nanos / unit - (nanos % unit < 0 ? 1 : 0)
    }

    @inline(__always)
    private static func two(_ bytes: TextBytes, _ at: Int) -> Int64? {
        let high = bytes[at] &- UInt8(ascii: "0")
        let low = bytes[at &+ 1] &- UInt8(ascii: "0")
        return high <= 9 && low <= 9 ? Int64(high) &* 10 &+ Int64(low) : nil
    }

    /// Of `2026-11-23T`, nil when there is no such day.
    private static func secondsOfDate(_ bytes: TextBytes, _ at: Int) -> Int64? {
        guard let century = two(bytes, at), let ofCentury = two(bytes, at + 2), let month = two(bytes, at + 5), let day = two(bytes, at + 8),
            bytes[at + 4] == UInt8(ascii: "-"), bytes[at + 7] == UInt8(ascii: "-"), bytes[at + 10] == UInt8(ascii: "T"), (1...12).contains(month), day >= 1
        else { return nil }
        let days = daysFromCivil(year: Int(century * 100 + ofCentury), month: Int(month), day: Int(day))
        // A 30th of February comes back as another day.
        return civilFromDays(days).day == day ? Int64(days) * 86400 : nil
    }

    @inline(__always)
    private func number(_ bytes: TextBytes, _ at: Int, _ date: Int64) -> Int64? {
        guard let hour = Self.two(bytes, at &+ 11), let minute = Self.two(bytes, at &+ 14), let second = Self.two(bytes, at &+ 17), hour < 24, minute < 60,
            second < 60, bytes[at &+ 13] == UInt8(ascii: ":"), bytes[at &+ 16] == UInt8(ascii: ":"),
            bytes[at &+ 19] == (digits > 0 ? UInt8(ascii: ".") : UInt8(ascii: "Z"))
        else { return nil }
        let seconds = date &+ hour &* 3600 &+ minute &* 60 &+ second
        guard digits > 0 else { return seconds }
        guard bytes[at &+ 20 &+ digits] == UInt8(ascii: "Z"), let (fraction, _, negative) = IntegerText.integer(bytes, at &+ 20, digits), !negative else {
            return nil
        }
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: Self.perSecond[digits])
        let (number, carry) = scaled.addingReportingOverflow(Int64(fraction))
        return overflow || carry ? nil : number
    }

    /// - Parameter number: any; what lies outside the years 0 to 9999 prints something, which no writer wrote.
    func append(_ number: Int64, to bytes: inout [UInt8]) {
        let perSecond = Self.perSecond[digits]
        let seconds = floorDivide(number, perSecond)
        let days = floorDivide(seconds, 86400)
        let ofDay = seconds - days * 86400
        let date = civilFromDays(Int(days))
        appendPadded(UInt64(clamping: date.year), 4, to: &bytes)
        bytes.append(UInt8(ascii: "-"))
        appendPadded(UInt64(date.month), 2, to: &bytes)
        bytes.append(UInt8(ascii: "-"))
        appendPadded(UInt64(date.day), 2, to: &bytes)
        bytes.append(UInt8(ascii: "T"))
        appendPadded(UInt64(ofDay / 3600), 2, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
        appendPadded(UInt64(ofDay / 60 % 60), 2, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
        appendPadded(UInt64(ofDay % 60), 2, to: &bytes)
        if digits > 0 {
            bytes.append(UInt8(ascii: "."))
            appendPadded(UInt64(number - seconds * perSecond), digits, to: &bytes)
        }
        bytes.append(UInt8(ascii: "Z"))
    }
}
