internal import Glibc
internal import ObsCore
internal import ObsNet
internal import ObsStore

/// Times and durations as the three APIs spell them. All throw `.badInput` naming the parameter.
extension Parameters {
    /// Prometheus: float Unix seconds or RFC 3339. Milliseconds.
    func prometheusTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let seconds = Double(text), seconds.isFinite {
            guard abs(seconds) < 9e15 else { throw invalid(name, "cannot parse \(quoted(text)) to a valid timestamp") }
            return Int64((seconds * 1000).rounded())
        }
        if let nanos = parseRFC3339(text) { return floorDivide(nanos, nanosPerMilli) }
        // The far ends that Prometheus' own clients send for "no bound".
        if text == "-292273086-05-16T16:47:06Z" { return -9_000_000_000_000_000 }
        if text == "292277025-08-18T07:12:54.999999999Z" { return 9_000_000_000_000_000 }
        throw invalid(name, "cannot parse \(quoted(text)) to a valid timestamp")
    }

    /// Prometheus: float seconds or `1h30m`. Milliseconds.
    func prometheusDuration(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let seconds = Double(text), seconds.isFinite {
            guard abs(seconds) < 9e15 else { throw invalid(name, "cannot parse \(quoted(text)) to a valid duration") }
            return Int64((seconds * 1000).rounded())
        }
        if let millis = parseDurationMillis(text) { return millis }
        throw invalid(name, "cannot parse \(quoted(text)) to a valid duration")
    }

    /// Loki: Unix nanoseconds (more than ten digits), Unix seconds, float seconds, RFC 3339. Nanoseconds.
    func lokiTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let whole = Int64(text) {
            if text.utf8.count > 10 { return whole }
            return whole &* nanosPerSecond
        }
        if let seconds = Double(text), seconds.isFinite, abs(seconds) < 9.2e9 {
            let whole = seconds.rounded(.down)
            return Int64(whole) * nanosPerSecond + Int64(((seconds - whole) * 1e9).rounded())
        }
        if let nanos = parseRFC3339(text) { return nanos }
        throw invalid(name, "could not parse \(quoted(text)) as a time")
    }

    /// Go durations (`1h30m`, `1.5s`, `100ms`, `250us`), Prometheus ones (`1d`), or float seconds. Nanoseconds.
    func goDuration(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let nanos = parseGoDuration(text) { return nanos }
        if let seconds = Double(text), seconds.isFinite, abs(seconds) < 9.2e9 { return Int64((seconds * 1e9).rounded()) }
        throw invalid(name, "cannot parse \(quoted(text)) to a valid duration")
    }

    /// Unix seconds (Tempo), whole or float. Nanoseconds.
    func tempoTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        guard let seconds = Double(text), seconds.isFinite, abs(seconds) < 9.2e9 else { throw invalid(name, "cannot parse \(quoted(text)) as Unix seconds") }
        return Int64((seconds * 1e9).rounded())
    }

    func int(_ name: String) throws(ObsError) -> Int? {
        guard let text = self[name], !text.isEmpty else { return nil }
        guard let value = Int(text) else { throw invalid(name, "cannot parse \(quoted(text)) as a whole number") }
        return value
    }

    func required(_ name: String) throws(ObsError) -> String {
        guard let text = self[name], !text.isEmpty else { throw invalid(name, "missing") }
        return text
    }

    func invalid(_ name: String, _ reason: String) -> ObsError { ObsError(.badInput, "invalid parameter \"\(name)\": \(reason)") }
}

/// A Go `time.ParseDuration` text, with Prometheus' d, w and y as well; nanoseconds. Nil for anything else.
func parseGoDuration(_ text: String) -> Int64? {
    let units: [String: Double] = ["ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 6e10, "h": 3.6e12, "d": 8.64e13, "w": 6.048e14, "y": 3.1536e16]
    var rest = Substring(text)
    var negative = false
    if rest.hasPrefix("-") {
        negative = true
        rest.removeFirst()
    }
    guard !rest.isEmpty else { return nil }
    var total = 0.0
    while !rest.isEmpty {
        let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let count = Double(digits) else { return nil }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix { !($0.isASCII && ($0.isNumber || $0 == ".")) }
        guard let size = units[String(unit)] else { return nil }
        total += count * size
        rest = rest.dropFirst(unit.count)
    }
    guard total < 9.2e18 else { return nil }
    return Int64(negative ? -total : total)
}
