internal import ObsCore

// Go's time layouts, which spell out how the moment Mon Jan 2 15:04:05 2006 would look. UTC only.

private let months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
private let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

/// Longest first where one is the beginning of another.
private let elements = [
    "January", "Jan", "Monday", "Mon", "MST", "2006", "-07:00", "-0700", "Z07:00", "Z0700", "01", "02", "03", "04", "05", "06", "15", "PM", "pm", "_2", "1",
    "2", "3", "4", "5",
]

private func nextElement(_ layout: Substring) -> String? { elements.first { layout.hasPrefix($0) } }

/// Digits of `.000`, `.999` or `,000` at the start of a layout; 0 for none.
private func fractionDigits(_ layout: Substring) -> Int {
    guard let first = layout.first, first == "." || first == "," else { return 0 }
    let rest = layout.dropFirst()
    guard let digit = rest.first, digit == "0" || digit == "9" else { return 0 }
    return rest.prefix { $0 == digit }.count
}

func formatGoTime(_ nanos: Int64, _ layout: String) -> String {
    let day = floorDivide(nanos, nanosPerDay)
    let inDay = nanos &- day &* nanosPerDay  // the first day of all of time does not begin within Int64
    let date = civilFromDays(Int(day))
    let seconds = Int(inDay / nanosPerSecond)
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60)
    let fraction = padded(Int(inDay % nanosPerSecond), 9)
    let hour12 = hour % 12 == 0 ? 12 : hour % 12
    let weekday = weekdays[Int(((day + 4) % 7 + 7) % 7)]
    var result = ""
    var rest = Substring(layout)
    while !rest.isEmpty {
        let digits = min(fractionDigits(rest), 9)
        if digits > 0 {
            let trims = rest.dropFirst().first == "9"
            var shown = String(fraction.prefix(digits))
            if trims { while shown.hasSuffix("0") { shown.removeLast() } }
            if !shown.isEmpty { result += String(rest.prefix(1)) + shown }
            rest = rest.dropFirst(1 + digits)
            continue
        }
        guard let element = nextElement(rest) else {
            result.append(rest.removeFirst())
            continue
        }
        rest = rest.dropFirst(element.count)
        switch element {
        case "January": result += months[date.month - 1]
        case "Jan": result += months[date.month - 1].prefix(3)
        case "Monday": result += weekday
        case "Mon": result += weekday.prefix(3)
        case "MST": result += "UTC"
        case "2006": result += padded(date.year, 4)
        case "06": result += padded(date.year % 100, 2)
        case "-07:00": result += "+00:00"
        case "-0700": result += "+0000"
        case "Z07:00", "Z0700": result += "Z"
        case "01": result += padded(date.month, 2)
        case "1": result += "\(date.month)"
        case "02": result += padded(date.day, 2)
        case "_2": result += date.day < 10 ? " \(date.day)" : "\(date.day)"
        case "2": result += "\(date.day)"
        case "15": result += padded(hour, 2)
        case "03": result += padded(hour12, 2)
        case "3": result += "\(hour12)"
        case "04": result += padded(minute, 2)
        case "4": result += "\(minute)"
        case "05": result += padded(second, 2)
        case "5": result += "\(second)"
        case "PM": result += hour < 12 ? "AM" : "PM"
        default: result += hour < 12 ? "am" : "pm"
        }
    }
    return result
}

/// Nil when the text is not of that layout.
func parseGoTime(_ text: String, _ layout: String) -> Int64? {
    var (year, month, day, hour, minute, second, nanos) = (1, 1, 1, 0, 0, 0, 0)
    var offsetSeconds = 0
    var isAfternoon: Bool?
    var rest = Substring(text)
    var pattern = Substring(layout)

    func takeNumber(_ digitsMin: Int, _ digitsMax: Int) -> Int? {
        let digits = rest.prefix(digitsMax).prefix { $0.isASCII && $0.isNumber }
        guard digits.count >= digitsMin else { return nil }
        rest = rest.dropFirst(digits.count)
        return Int(digits)
    }
    func takeName(_ names: [String], _ length: Int?) -> Int? {
        for (index, name) in names.enumerated() {
            let wanted = length.map { String(name.prefix($0)) } ?? name
            if rest.lowercased().hasPrefix(wanted.lowercased()) {
                rest = rest.dropFirst(wanted.count)
                return index
            }
        }
        return nil
    }
    func takeFraction() {
        guard let first = rest.first, first == "." || first == "," else { return }
        let digits = rest.dropFirst().prefix { $0.isASCII && $0.isNumber }
        nanos = Int((digits + "000000000").prefix(9)) ?? 0
        rest = rest.dropFirst(1 + digits.count)
    }
    func takeOffset() -> Bool {
        if rest.first == "Z" {
            rest = rest.dropFirst()
            return true
        }
        guard let sign = rest.first, sign == "+" || sign == "-" else { return false }
        rest = rest.dropFirst()
        guard let hours = takeNumber(2, 2) else { return false }
        if rest.first == ":" { rest = rest.dropFirst() }
        guard let minutes = takeNumber(2, 2) else { return false }
        offsetSeconds = (sign == "-" ? -1 : 1) * (hours * 3600 + minutes * 60)
        return true
    }

    while !pattern.isEmpty {
        let digits = fractionDigits(pattern)
        if digits > 0 {
            takeFraction()
            pattern = pattern.dropFirst(1 + digits)
            continue
        }
        guard let element = nextElement(pattern) else {
            guard let wanted = pattern.first, rest.first == wanted else { return nil }
            pattern = pattern.dropFirst()
            rest = rest.dropFirst()
            continue
        }
        pattern = pattern.dropFirst(element.count)
        var value: Int?
        switch element {
        case "January": value = takeName(months, nil).map { $0 + 1 }
        case "Jan": value = takeName(months, 3).map { $0 + 1 }
        case "Monday": value = takeName(weekdays, nil)
        case "Mon": value = takeName(weekdays, 3)
        case "MST":
            rest = rest.drop { $0.isLetter }
            value = 0
        case "PM", "pm": value = takeName(["AM", "PM"], nil)
        case "-07:00", "-0700", "Z07:00", "Z0700": value = takeOffset() ? 0 : nil
        case "2006": value = takeNumber(4, 4)
        case "_2":
            rest = rest.drop { $0 == " " }
            value = takeNumber(1, 2)
        case "1", "2", "3", "4", "5": value = takeNumber(1, 2)
        default: value = takeNumber(2, 2)
        }
        guard let value else { return nil }
        switch element {
        case "2006": year = value
        case "06": year = value + (value >= 69 ? 1900 : 2000)
        case "January", "Jan", "01", "1": month = value
        case "02", "2", "_2": day = value
        case "15", "03", "3": hour = value
        case "04", "4": minute = value
        case "05", "5":
            second = value
            // Go reads a fraction after the seconds even where the layout has none.
            if fractionDigits(pattern) == 0 { takeFraction() }
        case "PM", "pm": isAfternoon = value == 1
        default: break
        }
    }
    guard rest.isEmpty, (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second < 60 else { return nil }
    if let isAfternoon { hour = hour % 12 + (isAfternoon ? 12 : 0) }
    let seconds = daysFromCivil(year: year, month: month, day: day) * 86_400 + hour * 3600 + minute * 60 + second - offsetSeconds
    let (result, overflow) = Int64(seconds).multipliedReportingOverflow(by: nanosPerSecond)
    let (sum, overflowSum) = result.addingReportingOverflow(Int64(nanos))
    return overflow || overflowSum ? nil : sum
}
