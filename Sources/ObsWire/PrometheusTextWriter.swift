package import ObsCore

/// Writes the text exposition format (0.0.4; names that need quotes as in 1.0.0): our own `/metrics`, federation.
package struct PrometheusTextWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    /// The comment lines that open a family. Empty help is left out.
    package mutating func family(_ name: String, help: String = "", type: MetricType) {
        let name = isBareName(name) ? name : quotedName(name)
        if !help.isEmpty { append("# HELP \(name) \(escapedHelp(help))\n") }
        append("# TYPE \(name) \(type == .unknown ? "untyped" : type.word)\n")
    }

    /// One sample line of the series `name{labels}`.
    package mutating func sample(_ name: String, _ labels: [(String, String)] = [], _ value: Double, timeMillis: Int64? = nil) {
        if isBareName(name) {
            append(name)
            appendLabels(labels.map { "\(labelName($0.0))=\"\(escapedForQuotes($0.1))\"" })
        } else {
            appendLabels([quotedName(name)] + labels.map { "\(labelName($0.0))=\"\(escapedForQuotes($0.1))\"" })
        }
        appendValue(value, timeMillis)
    }

    /// One sample line of a series with its `__name__` among the labels.
    package mutating func sample(_ labels: Labels, _ value: Double, timeMillis: Int64? = nil) {
        sample(labels["__name__"] ?? "", labels.pairs.filter { $0.name != "__name__" }.map { ($0.name, $0.value) }, value, timeMillis: timeMillis)
    }

    private mutating func appendLabels(_ parts: [String]) {
        if !parts.isEmpty { append("{\(parts.joined(separator: ","))}") }
    }

    private mutating func appendValue(_ value: Double, _ timeMillis: Int64?) {
        append(" \(formatSampleValue(value))")
        if let timeMillis { append(" \(timeMillis)") }
        append("\n")
    }

    private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    private func labelName(_ name: String) -> String { isBareName(name) && !name.utf8.contains(UInt8(ascii: ":")) ? name : quotedName(name) }
    private func quotedName(_ name: String) -> String { "\"\(escapedForQuotes(name))\"" }

    private func escapedHelp(_ help: String) -> String {
        var result = ""
        for scalar in help.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private func isBareName(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.enumerated().allSatisfy { at, byte in
                (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ":") || at > 0 && byte &- UInt8(ascii: "0") < 10
            }
    }
}
