internal import ObsCore

// How OpenTelemetry names become Prometheus names (OpenTelemetry's "Prometheus compatibility", Prometheus' OTLP receiver with "underscore escaping with suffixes").

/// How metric names are translated; raw values are Prometheus' `translation_strategy`.
package enum MetricNaming: String, Sendable, CaseIterable {
    /// `http.server.duration` in ms → `http_server_duration_milliseconds`.
    case suffixes = "UnderscoreEscapingWithSuffixes"
    /// `http.server.duration` → `http_server_duration`.
    case noSuffixes = "UnderscoreEscapingWithoutSuffixes"
    /// `http.server.duration` in ms → `http.server.duration_milliseconds`.
    case unescapedSuffixes = "NoUTF8EscapingWithSuffixes"
    /// As it came; Prometheus 3 can query `{"http.server.duration"}`.
    case unchanged = "NoTranslation"

    /// Whether names of metrics and labels keep what is no letter, digit or `_`.
    package var keepsUTF8: Bool { self == .unescapedSuffixes || self == .unchanged }
}

/// How attribute keys become label names.
package struct LabelNaming: Sendable, Equatable {
    /// As they came.
    package var isUnchanged = false
    /// A leading single `_` gets `key` before it (`label_name_underscore_sanitization`).
    package var prefixesUnderscore = true
    /// Several `_` in a row stay (`label_name_preserve_multiple_underscores`).
    package var keepsUnderscores = true

    package init() {}

    func name(_ key: UnsafeRawBufferPointer) -> [UInt8] {
        if isUnchanged { return [UInt8](key) }
        var name: [UInt8] = []
        name.reserveCapacity(key.count + 4)
        appendSanitized(key, to: &name)
        // Names of Prometheus' own begin and end with two.
        let isReserved = name.starts(with: [underscore, underscore]) && name.suffix(2).elementsEqual([underscore, underscore])
        if !keepsUnderscores, !isReserved {
            var last: UInt8 = 0
            name.removeAll { byte in
                defer { last = byte }
                return byte == underscore && last == underscore
            }
        }
        if let first = name.first, isDigit(first) {
            name.insert(contentsOf: "key_".utf8, at: 0)
        } else if prefixesUnderscore, name.first == underscore, name.count == 1 || name[1] != underscore {
            name.insert(contentsOf: "key".utf8, at: 0)
        }
        return name
    }
}

private let underscore = UInt8(ascii: "_")

package enum PrometheusNames {
    package enum MetricShape: Sendable { case monotonicSum, gauge, other }

    /// The metric's name; empty when nothing of it can be kept.
    package static func metric(_ name: String, unit: String, shape: MetricShape, naming: MetricNaming = .suffixes) -> String {
        if naming == .unchanged { return name }
        if naming == .unescapedSuffixes { return unescaped(name, unit, shape) }
        var tokens = name.utf8.split { !isTokenByte($0) }.map { String(decoding: $0, as: UTF8.self) }
        if naming == .suffixes {
            addUnit(unit, to: &tokens)
            if shape == .monotonicSum { moveToEnd("total", &tokens) }
            if shape == .gauge, unit == "1" { moveToEnd("ratio", &tokens) }
        }
        let joined = tokens.joined(separator: "_")
        guard let first = joined.utf8.first else { return "" }
        return isDigit(first) ? "_" + joined : joined
    }

    /// The name as it came, with what `suffixes` adds behind it.
    private static func unescaped(_ name: String, _ unit: String, _ shape: MetricShape) -> String {
        guard !name.isEmpty else { return "" }
        let last = shape == .monotonicSum ? "total" : shape == .gauge && unit == "1" ? "ratio" : nil
        var result = name
        if let last, result.hasSuffix(last) {
            // Its delimiter goes with it, whatever it is.
            let rest = result.utf8.dropLast(last.utf8.count)
            if rest.isEmpty {
                result = ""
            } else if let byte = rest.last, !isLetterOrDigit(byte) {
                result = String(decoding: rest.dropLast(), as: UTF8.self)
            }
        }
        let tokens = result.utf8.split { !isLetterOrDigit($0) }.map { String(decoding: $0, as: UTF8.self) }
        let (main, per) = unitWords(unit)
        let suffixes = [
            main.isEmpty || tokens.contains(main) ? nil : main, per.isEmpty || tokens.contains(per) ? nil : "per_" + per, last,
        ]
        return ([result].filter { !$0.isEmpty } + suffixes.compactMap { $0 }).joined(separator: "_")
    }

    /// The unit in words: `By/s` → `bytes_per_second`; empty when it has none.
    package static func unit(_ unit: String) -> String {
        let (main, per) = unitWords(unit)
        return [main, per.isEmpty ? "" : "per_" + per].filter { !$0.isEmpty }.joined(separator: "_")
    }

    private static func addUnit(_ unit: String, to tokens: inout [String]) {
        let (main, per) = unitWords(unit)
        let addsMain = !main.isEmpty && !tokens.contains(main)
        let addsPer = !per.isEmpty && !tokens.contains(per)
        if addsMain { tokens.append(main) }
        if addsPer { tokens += ["per", per] }
    }

    private static func moveToEnd(_ word: String, _ tokens: inout [String]) {
        tokens.removeAll { $0 == word }
        tokens.append(word)
    }

    /// Words of the unit before and after the first `/`. Annotations (`{requests}`) are no units.
    private static func unitWords(_ unit: String) -> (main: String, per: String) {
        let parts = unit.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        func word(_ index: Int, _ known: [String: String]) -> String {
            guard index < parts.count else { return "" }
            let part = parts[index].trimmingSpaces
            if part.isEmpty || part.utf8.contains(where: { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "}") }) { return "" }
            return known[part] ?? part.utf8.split { !isLetterOrDigit($0) }.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "_")
        }
        return (word(0, mainUnits), word(1, perUnits))
    }

    private static let mainUnits = [
        "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "By": "bytes",
        "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tebibytes", "kBy": "kilobytes", "KBy": "kilobytes", "MBy": "megabytes",
        "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
        "Hz": "hertz", "%": "percent", "1": "",
    ]
    private static let perUnits = ["s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"]

    private static func isTokenByte(_ byte: UInt8) -> Bool { isLetterOrDigit(byte) || byte == UInt8(ascii: ":") }
}

/// An attribute key as a label name: each character but letters, digits and `_` becomes `_`, a leading digit gets `key_` before it, a leading single `_` gets `key`.
package func sanitizedLabelName(_ key: UnsafeRawBufferPointer) -> [UInt8] { LabelNaming().name(key) }

/// One `_` for each character that is no letter, digit or `_`: continuation bytes of UTF-8 add nothing.
func appendSanitized(_ key: UnsafeRawBufferPointer, to name: inout [UInt8]) {
    for byte in key where byte & 0xc0 != 0x80 { name.append(isLetterOrDigit(byte) ? byte : UInt8(ascii: "_")) }
}

private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }
private func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) &- UInt8(ascii: "a") < 26 }
private func isLetterOrDigit(_ byte: UInt8) -> Bool { isLetter(byte) || isDigit(byte) }

extension Substring {
    fileprivate var trimmingSpaces: String {
        var rest = self
        while rest.first == " " { rest.removeFirst() }
        while rest.last == " " { rest.removeLast() }
        return String(rest)
    }
}
