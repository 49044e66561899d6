internal import Glibc
internal import ObsCore

/// Where output goes: data on stdout, all else on stderr; pretty on a terminal, one record a line when piped.
struct Terminal {
    enum Format: String { case pretty, raw, jsonl }

    let format: Format
    let colours: Bool
    let quiet: Bool
    let utc: Bool
    /// Columns of the terminal; of `COLUMNS` where there is none, else 80.
    let width: Int

    init(_ arguments: Arguments) throws(ObsError) {
        let isTerminal = isatty(1) == 1
        let wanted = arguments["output"] ?? (isTerminal ? "pretty" : "jsonl")
        guard let format = Format(rawValue: wanted == "json" ? "jsonl" : wanted) else {
            throw ObsError(.badInput, "--output: \(quoted(wanted)) is not pretty, raw or jsonl")
        }
        self.format = format
        switch arguments["color"] ?? "auto" {
        case "always": colours = true
        case "never": colours = false
        case "auto": colours = Server.environment("CLICOLOR_FORCE") != nil || (isTerminal && Server.environment("NO_COLOR") == nil)
        case let other: throw ObsError(.badInput, "--color: \(quoted(other)) is not auto, always or never")
        }
        quiet = arguments.has("quiet")
        utc = arguments.has("utc")
        var size = winsize()
        let columns = Server.environment("COLUMNS").flatMap { Int($0) } ?? 80
        width = ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 20 ? Int(size.ws_col) : min(max(columns, 40), 1000)
    }

    /// Data. A reader that went away ends the program quietly.
    func print(_ text: String) { if !writeAll(1, text) { exit(0) } }

    func note(_ text: String) { if !quiet { _ = writeAll(2, text + "\n") } }

    enum Style: String {
        case bold = "1", dim = "2", red = "31", green = "32", yellow = "33", blue = "34", magenta = "35", cyan = "36"
    }

    func styled(_ text: String, _ style: Style) -> String { colours ? "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m" : text }

    /// The same colour for the same name, always.
    func named(_ text: String) -> String {
        let palette: [Style] = [.cyan, .magenta, .blue, .green, .yellow]
        let place = text.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xffff }
        return styled(text, palette[place % palette.count])
    }

    func level(_ word: String) -> String {
        let padded = word.uppercased().prefix(5) + String(repeating: " ", count: max(0, 5 - word.count))
        switch word {
        case "error", "fatal", "critical": return styled(String(padded), .red)
        case "warn": return styled(String(padded), .yellow)
        case "info": return styled(String(padded), .green)
        default: return styled(String(padded), .dim)
        }
    }

    /// `15:04:05.123`, local unless `--utc`.
    func clock(nanos: Int64) -> String {
        var seconds = time_t(floorDivide(nanos, nanosPerSecond))
        var parts = tm()
        if utc { gmtime_r(&seconds, &parts) } else { localtime_r(&seconds, &parts) }
        let millis = Int((nanos &- Int64(seconds) &* nanosPerSecond) / nanosPerMilli)
        return "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2)):\(padded(Int(parts.tm_sec), 2)).\(padded(millis, 3))"
    }

    func date(nanos: Int64) -> String {
        var seconds = time_t(floorDivide(nanos, nanosPerSecond))
        var parts = tm()
        if utc { gmtime_r(&seconds, &parts) } else { localtime_r(&seconds, &parts) }
        return "\(Int(parts.tm_year) + 1900)-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2)) \(clock(nanos: nanos))"
    }
}

/// False when the other side is gone.
func writeAll(_ file: Int32, _ text: String) -> Bool {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
        if count <= 0 { return false }
        bytes = bytes.dropFirst(count)
    }
    return true
}

/// A duration for people: `950µs`, `12.3ms`, `1.24s`.
func shortDuration(nanos: Int64) -> String {
    let value = Double(nanos)
    func number(_ scaled: Double) -> String {
        let digits = scaled < 10 ? 2 : scaled < 100 ? 1 : 0
        let power = [1.0, 10, 100][digits]
        let whole = Int((scaled * power).rounded())
        return digits == 0 ? "\(whole)" : "\(whole / Int(power)).\(padded(whole % Int(power), digits))"
    }
    switch value {
    case ..<1e3: return "\(nanos)ns"
    case ..<1e6: return number(value / 1e3) + "µs"
    case ..<1e9: return number(value / 1e6) + "ms"
    default: return number(value / 1e9) + "s"
    }
}
