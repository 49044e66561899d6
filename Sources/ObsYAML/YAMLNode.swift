// YAML as a tree of marked nodes. Configuration is written by people, so what matters here is the error: every node knows its
// line and its path (`scrape_configs[0].scrape_interval`), and nothing is guessed silently (a repeated key is refused, so is a second document).
package import ObsCore

/// One node of a YAML document.
package struct YAMLNode: Sendable {
    package enum Style: Sendable {
        case plain
        /// Quoted or a block scalar: always a string, never null, number or boolean.
        case quoted
    }

    package struct Entry: Sendable {
        package let key: String
        /// Line of the key.
        package let line: Int
        package let value: YAMLNode
    }

    package indirect enum Content: Sendable {
        case scalar(String, Style)
        case sequence([YAMLNode])
        case mapping([Entry])
    }

    package let content: Content
    /// 1-based.
    package let line: Int
    /// 1-based.
    package let column: Int
    /// From the document's root, e.g. `groups[1].rules[0].expr`; empty for the root.
    package let path: String
    /// Nodes of this subtree with aliases expanded, itself included.
    let size: Int

    /// Null as YAML 1.1 has it: nothing, `~` or `null`, unquoted.
    package var isNull: Bool {
        if case .scalar(let text, .plain) = content { return ["", "~", "null", "Null", "NULL"].contains(text) }
        return false
    }

    /// An error about this node: `path (line n): message`.
    package func error(_ message: String) -> ObsError { yamlError(path: path, line: line, message) }
}

func yamlError(path: String, line: Int, _ message: String) -> ObsError {
    ObsError(.badInput, "\(path.isEmpty ? "" : path + " ")\(path.isEmpty ? "line \(line)" : "(line \(line))"): \(message)")
}

// MARK: - Typed values

extension YAMLNode {
    /// The text of a scalar. Numbers and booleans written without quotes are text too, as in Prometheus.
    package func string() throws(ObsError) -> String {
        guard case .scalar(let text, _) = content else { throw error("must be a string, is a \(kind)") }
        return isNull ? "" : text
    }

    package func int() throws(ObsError) -> Int {
        guard case .scalar(let text, .plain) = content, let value = Int(text) else { throw error("must be a whole number, is \(shown)") }
        return value
    }

    package func double() throws(ObsError) -> Double {
        guard case .scalar(let text, .plain) = content, let value = Double(text) else { throw error("must be a number, is \(shown)") }
        return value
    }

    package func bool() throws(ObsError) -> Bool {
        guard case .scalar(let text, .plain) = content else { throw error("must be true or false, is \(shown)") }
        switch text.lowercased() {
        case "true", "yes", "on", "y": return true
        case "false", "no", "off", "n": return false
        default: throw error("must be true or false, is \(shown)")
        }
    }

    /// A Prometheus duration (`1h30m`) in milliseconds.
    package func durationMillis() throws(ObsError) -> Int64 {
        let text = try string()
        guard let millis = parseDurationMillis(text) else { throw error("not a valid duration (such as 30s or 1h30m): \(quoted(text))") }
        return millis
    }

    /// A byte size: a number with an optional unit B KB MB GB TB PB or KiB …; units are powers of 1024 (as in Prometheus).
    package func byteSize() throws(ObsError) -> Int {
        let text = try string()
        guard let bytes = parseBinarySize(text) else { throw error("not a valid size (such as 512KB or 10MB): \(quoted(text))") }
        return bytes
    }

    /// The elements of a sequence; null is the empty one.
    package func sequence() throws(ObsError) -> [YAMLNode] {
        if isNull { return [] }
        guard case .sequence(let elements) = content else { throw error("must be a list, is a \(kind)") }
        return elements
    }

    package func strings() throws(ObsError) -> [String] {
        var result: [String] = []
        for element in try sequence() { result.append(try element.string()) }
        return result
    }

    /// The pairs of a mapping of scalars, in order; null is the empty one.
    package func stringPairs() throws(ObsError) -> [(name: String, value: String)] {
        if isNull { return [] }
        guard case .mapping(let entries) = content else { throw error("must be a mapping, is a \(kind)") }
        var result: [(name: String, value: String)] = []
        for entry in entries { result.append((entry.key, try entry.value.string())) }
        return result
    }

    private var kind: String {
        switch content {
        case .scalar: "single value"
        case .sequence: "list"
        case .mapping: "mapping"
        }
    }

    private var shown: String {
        if case .scalar(let text, _) = content { return quoted(text) }
        return "a \(kind)"
    }
}
