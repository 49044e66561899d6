internal import ObsCore

/// Instants as RFC 3339 in UTC with a fixed number of digits behind the second: `2026-11-23T00:00:00.003644672Z`. Most are the time of the record they are in, or a
/// little before it, so what is stored is the difference.
struct TimeText {
    /// 0...9 digits behind the dot; no dot when there are none.
    var digits: Int

    private static let powers: [Int64] = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1]

    /// Instants in units of the last digit; nil when a value is none, or is none of ours.
    static func parse(_ values: [ByteRange], _ bytes: UnsafeRawBufferPointer) -> (TimeText, [Int64])? {
        guard let first = values.first, first.count >= 20, first.count <= 30, first.count != 21 else { return nil }
        let text = TimeText(digits: first.count == 20 ? 0 : Int(first.count) - 21)
        var numbers = [Int64](repeating: 0, count: values.count)
        var printed: [UInt8] = []
        for (row, value) in values.enumerated() {
            guard value.count == first.count else { return nil }
            let piece = UnsafeRawBufferPointer(rebasing: bytes[value.range])
            guard let number = text.number(piece) else { return nil }
            // Whatever was parsed too kindly (a 30th of February) is found here.
            printed.removeAll(keepingCapacity: true)
            text.append(number, to: &printed)
            guard printed.withUnsafeBytes({ compareBytes($0, piece) }) == 0 else { return nil }
            numbers[row] = number
        }
        return (text, numbers)
    }

    /// The record's time in our unit.
    func number(ofNanos nanos: Int64) -> Int64 {
        let unit = Self.powers[digits]
        return nanos / unit - (nanos % unit < 0 ? 1 : 0)
    }

    private func number(_ text: UnsafeRawBufferPointer) -> Int64? {
        func two(_ at: Int) -> Int64? {
            let high = text[at] &- UInt8(ascii: "0")
            let low = text[at + 1] &- UInt8(ascii: "0")
            return high <= 9 && low <= 9 ? Int64(high) * 10 + Int64(low) : nil
        }
        guard let century = two(0), let year = two(2), let month = two(5), let day = two(8), let hour = two(11), let minute = two(14), let second = two(17),
            month >= 1, month <= 12, day >= 1
        else { return nil }
        var number = Int64(daysFromCivil(year: Int(century * 100 + year), month: Int(month), day: Int(day))) * 86400 + hour * 3600 + minute * 60 + second
        for index in 0..<digits {
            let digit = text[20 + index] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            let (scaled, overflow) = number.multipliedReportingOverflow(by: 10)
            guard !overflow else { return nil }
            number = scaled &+ Int64(digit)
        }
        return number
    }

    /// - Parameter number: any; what lies outside the years 0 to 9999 prints something, which no writer wrote.
    func append(_ number: Int64, to bytes: inout [UInt8]) {
        let perSecond = 1_000_000_000 / Self.powers[digits]
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
