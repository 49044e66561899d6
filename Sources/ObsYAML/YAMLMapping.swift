package import ObsCore

/// Reads a mapping key by key and knows which keys nobody asked for: `finish()` reports them, so that a misspelt setting is an error and not silence.
/// A key whose value is null counts as absent.
package final class YAMLMapping {
    package let node: YAMLNode
    private let entries: [YAMLNode.Entry]
    private var read: Set<String> = []

    /// - Throws: `.badInput` unless the node is a mapping; null is the empty one.
    package init(_ node: YAMLNode) throws(ObsError) {
        self.node = node
        switch node.content {
        case .mapping(let entries): self.entries = entries
        case .scalar where node.isNull: entries = []
        default: throw node.error("must be a mapping")
        }
    }

    /// The value of a key, marked as read.
    package func optional(_ key: String) -> YAMLNode? {
        read.insert(key)
        guard let value = entries.first(where: { $0.key == key })?.value, !value.isNull else { return nil }
        return value
    }

    /// - Throws: when the key is absent.
    package func required(_ key: String) throws(ObsError) -> YAMLNode {
        guard let value = optional(key) else { throw node.error("\(quoted(key)) is missing") }
        return value
    }

    package var keys: [String] { entries.map(\.key) }

    package func string(_ key: String, default value: String = "") throws(ObsError) -> String { try optional(key)?.string() ?? value }
    package func int(_ key: String, default value: Int) throws(ObsError) -> Int { try optional(key)?.int() ?? value }
    package func bool(_ key: String, default value: Bool) throws(ObsError) -> Bool { try optional(key)?.bool() ?? value }
    package func durationMillis(_ key: String, default value: Int64) throws(ObsError) -> Int64 { try optional(key)?.durationMillis() ?? value }
    package func byteSize(_ key: String, default value: Int) throws(ObsError) -> Int { try optional(key)?.byteSize() ?? value }
    package func sequence(_ key: String) throws(ObsError) -> [YAMLNode] { try optional(key)?.sequence() ?? [] }
    package func strings(_ key: String) throws(ObsError) -> [String] { try optional(key)?.strings() ?? [] }
    package func stringPairs(_ key: String) throws(ObsError) -> [(name: String, value: String)] { try optional(key)?.stringPairs() ?? [] }

    package func mapping(_ key: String) throws(ObsError) -> YAMLMapping? {
        guard let node = optional(key) else { return nil }
        return try YAMLMapping(node)
    }

    /// Marks keys as known without reading them, and gives back those that are there: what is understood but not supported yet, for a warning.
    package func skip(_ keys: [String]) -> [(path: String, line: Int)] {
        var present: [(path: String, line: Int)] = []
        for entry in entries where keys.contains(entry.key) {
            read.insert(entry.key)
            present.append((entry.value.path, entry.line))
        }
        return present
    }

    /// - Throws: `.badInput` naming the first key that nobody read.
    package func finish() throws(ObsError) {
        guard let unknown = entries.first(where: { !read.contains($0.key) }) else { return }
        throw yamlError(path: unknown.value.path, line: unknown.line, "unknown key \(quoted(unknown.key))")
    }
}
