internal import ObsCore
internal import ObsNet
internal import ObsStore

/// Times further from the epoch than this (the year 2115) are taken as this, so that a difference of two never overflows.
private let timeNanosBound: Int64 = 4_600_000_000_000_000_000
/// Seconds Prometheus' times and durations may have: as milliseconds they leave room for arithmetic.
private let secondsBound = 9e12

/// Times and durations as the three APIs spell them. All throw `.badInput` naming the parameter.
extension Parameters {
    /// Prometheus: float Unix seconds or RFC 3339. Milliseconds.
    func prometheusTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let seconds = Double(text), seconds.isFinite {
            guard abs(seconds) < secondsBound else { throw invalid(name, "cannot parse \(quoted(text)) to a valid timestamp") }
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
            guard abs(seconds) < secondsBound else { throw invalid(name, "cannot parse \(quoted(text)) to a valid duration") }
            return Int64((seconds * 1000).rounded())
        }
        if let millis = parseDurationMillis(text) { return millis }
        throw invalid(name, "cannot parse \(quoted(text)) to a valid duration")
    }

    /// Loki: Unix nanoseconds (more than ten digits), Unix seconds, float seconds, RFC 3339. Nanoseconds.
    func lokiTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let whole = Int64(text) {
            let unit = text.utf8.count > 10 ? 1 : nanosPerSecond
            return bounded(Double(whole) * Double(unit)) ?? whole * unit
        }
        if let seconds = Double(text), seconds.isFinite {
            let whole = seconds.rounded(.down)
            return bounded(seconds * 1e9) ?? Int64(whole) * nanosPerSecond + Int64(((seconds - whole) * 1e9).rounded())
        }
        if let nanos = parseRFC3339(text) { return bounded(Double(nanos)) ?? nanos }
        throw invalid(name, "could not parse \(quoted(text)) as a time")
    }

    /// The bound that a time passes; nil for one within.
    private func bounded(_ nanos: Double) -> Int64? {
        abs(nanos) < Double(timeNanosBound) ? nil : nanos < 0 ? -timeNanosBound : timeNanosBound
    }

    /// Go durations (`1h30m`, `1.5s`, `100ms`, `250us`), Prometheus ones (`1d`), or float seconds. Nanoseconds.
    func goDuration(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        if let nanos = parseGoDuration(text) ?? Double(text).map({ $0 * 1e9 }), abs(nanos) < 9.2e18 { return Int64(nanos.rounded()) }
        throw invalid(name, "cannot parse \(quoted(text)) to a valid duration")
    }

    /// Unix seconds (Tempo), whole or float. Nanoseconds.
    func tempoTime(_ name: String) throws(ObsError) -> Int64? {
        guard let text = self[name], !text.isEmpty else { return nil }
        guard let seconds = Double(text), abs(seconds) < 9.2e9 else { throw invalid(name, "cannot parse \(quoted(text)) as Unix seconds") }
        return Int64((seconds * 1e9).rounded())
    }

    /// Unix microseconds (Jaeger). Nanoseconds.
    func jaegerTime(_ name: String) throws(ObsError) -> Int64? {
        guard let micros = try int(name) else { return nil }
        guard abs(Double(micros)) < 9.2e15 else { throw invalid(name, "out of range") }
        return Int64(micros) * 1000
    }

    func int(_ name: String) throws(ObsError) -> Int? {
        guard let text = self[name], !text.isEmpty else { return nil }
        guard let value = Int(text) else { throw invalid(name, "cannot parse \(quoted(text)) as a whole number") }
        return value
    }

    /// How many results at most; 0 is "all" where an API says so.
    func count(_ name: String) throws(ObsError) -> Int? {
        let value = try int(name)
        if let value, value < 0 { throw invalid(name, "\(name) must be non-negative") }
        // Sums of two counts stay whole numbers.
        return value.map { min($0, Int.max / 4) }
    }

    /// How many results at most, one at least.
    func positiveCount(_ name: String) throws(ObsError) -> Int? {
        let value = try count(name)
        if value == 0 { throw invalid(name, "\(name) must be a positive number") }
        return value
    }

    func required(_ name: String) throws(ObsError) -> String {
        guard let text = self[name], !text.isEmpty else { throw invalid(name, "missing") }
        return text
    }

    func invalid(_ name: String, _ reason: String) -> ObsError { ObsError(.badInput, "invalid parameter \"\(name)\": \(reason)") }
}
