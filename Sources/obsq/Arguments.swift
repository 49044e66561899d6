internal import ObsCore

/// The command line after the command's name: flags anywhere, the rest are words.
struct Arguments {
    private(set) var words: [String] = []
    private var values: [String: String] = [:]

    /// Flags that take a value; every other known one is a switch.
    static let withValue: Set<String> = [
        "addr", "token", "tenant", "output", "since", "from", "to", "at", "step", "limit", "timeout", "color", "service", "name", "min-duration",
        "max-duration", "stream", "path", "query", "batch",
    ]
    static let switches: Set<String> = ["follow", "fail-empty", "utc", "quiet", "stats", "show-query", "slow", "errors", "insecure", "help", "version"]
    private static let short = ["o": "output", "n": "limit", "f": "follow", "q": "quiet", "z": "utc", "h": "help"]

    /// - Throws: `.badInput` for an unknown flag or a missing value.
    init(_ arguments: [String]) throws(ObsError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            if argument == "--" {
                words.append(contentsOf: rest)
                return
            }
            // A word that begins with `-` and a digit is a number, `-` alone is standard input.
            guard argument.hasPrefix("-"), argument.count > 1, !(argument.dropFirst().first?.isNumber ?? false) else {
                words.append(argument)
                continue
            }
            let text = argument.drop { $0 == "-" }
            let equals = text.firstIndex(of: "=")
            var name = String(equals.map { text[..<$0] } ?? text)
            if !argument.hasPrefix("--") { name = Self.short[name] ?? name }
            if Self.switches.contains(name) {
                values[name] = "true"
            } else if Self.withValue.contains(name) {
                if let equals {
                    values[name] = String(text[text.index(after: equals)...])
                } else if let value = rest.popFirst() {
                    values[name] = value
                } else {
                    throw ObsError(.badInput, "flag --\(name) needs a value")
                }
            } else {
                throw ObsError(.badInput, "unknown flag \(argument)")
            }
        }
    }

    subscript(_ name: String) -> String? { values[name] }
    func has(_ name: String) -> Bool { values[name] != nil }

    /// The words as one text; a query may be given without quotes around it.
    var text: String { words.joined(separator: " ") }

    func limit(_ fallback: Int) throws(ObsError) -> Int {
        guard let text = values["limit"] else { return fallback }
        guard let value = Int(text), value > 0 else { throw ObsError(.badInput, "--limit: \(quoted(text)) is no positive whole number") }
        return value
    }

    /// The window asked for, nanoseconds: `--from`/`--to`, else the last `--since`.
    func window(fallback: String, nowNanos: Int64) throws(ObsError) -> Range<Int64> {
        let end = try values["to"].map { text throws(ObsError) in try Self.time(text, nowNanos) } ?? nowNanos
        let start: Int64
        if let from = values["from"] {
            start = try Self.time(from, nowNanos)
        } else {
            let text = values["since"] ?? fallback
            guard let millis = parseDurationMillis(text) else { throw ObsError(.badInput, "--since: \(quoted(text)) is no duration; write one like 15m or 2h") }
            start = Self.before(end, millis: millis)
        }
        guard start < end else { throw ObsError(.badInput, "the window is empty: its start is not before its end") }
        return start..<end
    }

    /// RFC 3339, `now`, `now-2h`, or Unix time in s, ms, µs or ns by magnitude. Nanoseconds.
    static func time(_ text: String, _ nowNanos: Int64) throws(ObsError) -> Int64 {
        if text == "now" { return nowNanos }
        if text.hasPrefix("now-"), let millis = parseDurationMillis(String(text.dropFirst(4))) { return before(nowNanos, millis: millis) }
        if let number = Double(text), number.isFinite {
            switch abs(number) {
            case ..<1e11: if let nanos = Int64(exactly: (number * 1e9).rounded()) { return nanos }
            case ..<1e14: if let nanos = Int64(exactly: (number * 1e6).rounded()) { return nanos }
            case ..<1e17: if let nanos = Int64(exactly: (number * 1e3).rounded()) { return nanos }
            case ..<9.2e18: return Int64(text) ?? Int64(number)
            default: break
            }
        }
        if let nanos = parseRFC3339(text) { return nanos }
        throw ObsError(.badInput, "\(quoted(text)) is no time; write RFC 3339, now-2h or a Unix time")
    }

    /// A time that long before another; the beginning of time when that is further back than there are nanoseconds.
    private static func before(_ nanos: Int64, millis: Int64) -> Int64 {
        let (length, overflow) = millis.multipliedReportingOverflow(by: nanosPerMilli)
        return clampedDifference(nanos, overflow ? .max : length)
    }
}
