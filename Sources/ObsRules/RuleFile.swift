// Prometheus rule files, unchanged (contract prometheus.md §6). A file is taken whole or not at all, and every complaint names its line.
package import ObsCore
internal import ObsYAML

package struct RuleFile: Sendable {
    package var path: String
    package var groups: [RuleGroupDefinition] = []

    /// - Parameter check: parses an expression of the query language and throws what is wrong with it.
    /// - Throws: `.badInput`, the message beginning with the file's path.
    package static func load(_ path: String, check: (String) throws(ObsError) -> Void) throws(ObsError) -> RuleFile {
        try parse(ConfigurationFile.read(path), path: path, check: check)
    }

    package static func parse(_ bytes: [UInt8], path: String, check: (String) throws(ObsError) -> Void) throws(ObsError) -> RuleFile {
        do throws(ObsError) {
            let root = try YAMLMapping(YAMLNode.parse(bytes))
            var file = RuleFile(path: path)
            for node in try root.sequence("groups") {
                let group = try RuleGroupDefinition(node, file: path, check: check)
                guard !file.groups.contains(where: { $0.name == group.name }) else {
                    throw node.error("group name \(quoted(group.name)) is used twice in this file")
                }
                file.groups.append(group)
            }
            try root.finish()
            return file
        } catch {
            throw ObsError(error.code, "\(path): \(error.message)")
        }
    }
}

package struct RuleGroupDefinition: Sendable, Equatable {
    package var name: String
    package var file: String
    /// Nil: the global evaluation interval.
    package var intervalMillis: Int64?
    /// Alerts of an alerting rule or series of a recording rule; 0 is none.
    package var limit = 0
    package var queryOffsetMillis: Int64?
    package var rules: [RuleDefinition] = []

    package static func == (a: Self, b: Self) -> Bool {
        a.name == b.name && a.file == b.file && a.intervalMillis == b.intervalMillis && a.limit == b.limit && a.queryOffsetMillis == b.queryOffsetMillis
            && a.rules == b.rules
    }

    init(_ node: YAMLNode, file: String, check: (String) throws(ObsError) -> Void) throws(ObsError) {
        let map = try YAMLMapping(node)
        name = try map.required("name").string()
        guard !name.isEmpty else { throw node.error("group name is empty") }
        self.file = file
        if let interval = map.optional("interval") {
            let millis = try interval.durationMillis()
            intervalMillis = millis > 0 ? millis : nil
        }
        limit = try map.int("limit", default: 0)
        queryOffsetMillis = try map.optional("query_offset")?.durationMillis()
        let labels = try RuleDefinition.labels(map)
        for rule in try map.sequence("rules") { rules.append(try RuleDefinition(rule, groupLabels: labels, check: check)) }
        try map.finish()
    }
}

/// One rule as written.
package struct RuleDefinition: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        case recording
        case alerting(holdMillis: Int64, keepFiringMillis: Int64)
    }

    package var kind: Kind
    /// Metric name or alert name.
    package var name: String
    package var expression: String
    /// Sorted by name. Of alerting rules, templates; the group's labels included.
    package var labels: [Pair] = []
    /// Templates.
    package var annotations: [Pair] = []

    package struct Pair: Sendable, Equatable {
        package var name: String
        package var value: String
    }

    package var isAlerting: Bool { kind != .recording }

    init(_ node: YAMLNode, groupLabels: [Pair], check: (String) throws(ObsError) -> Void) throws(ObsError) {
        let map = try YAMLMapping(node)
        let record = map.optional("record")
        let alert = map.optional("alert")
        guard let title = record ?? alert, record == nil || alert == nil else { throw node.error("a rule has either \"record\" or \"alert\"") }
        name = try title.string()
        let expression = try map.required("expr")
        self.expression = try expression.string()
        do throws(ObsError) { try check(self.expression) } catch { throw expression.error("could not parse expression: \(error.message)") }
        let own = try Self.labels(map)
        labels = (groupLabels.filter { group in !own.contains { $0.name == group.name } } + own).sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        if record != nil {
            kind = .recording
            guard Self.isMetricName(name) else { throw title.error("invalid recording rule name \(quoted(name))") }
            for key in ["for", "keep_firing_for", "annotations"] {
                if let extra = map.optional(key) { throw extra.error("\(quoted(key)) belongs to alerting rules") }
            }
        } else {
            guard !name.isEmpty else { throw title.error("alert name is empty") }
            kind = .alerting(holdMillis: try map.durationMillis("for", default: 0), keepFiringMillis: try map.durationMillis("keep_firing_for", default: 0))
            for pair in try map.stringPairs("annotations") {
                guard Self.isLabelName(pair.name) else { throw (map.optional("annotations") ?? node).error("invalid annotation name \(quoted(pair.name))") }
                annotations.append(Pair(name: pair.name, value: pair.value))
            }
            for pair in labels { try Self.checkTemplate(pair, map.optional("labels") ?? node) }
            for pair in annotations { try Self.checkTemplate(pair, map.optional("annotations") ?? node) }
        }
        try map.finish()
    }

    private static func checkTemplate(_ pair: Pair, _ node: YAMLNode) throws(ObsError) {
        do throws(ObsError) { _ = try AlertTemplate(pair.value) } catch { throw node.error("template of \(quoted(pair.name)): \(error.message)") }
    }

    static func labels(_ map: YAMLMapping) throws(ObsError) -> [Pair] {
        var pairs: [Pair] = []
        for pair in try map.stringPairs("labels") {
            guard isLabelName(pair.name), pair.name != "__name__" else {
                throw (map.optional("labels") ?? map.node).error("invalid label name \(quoted(pair.name))")
            }
            pairs.append(Pair(name: pair.name, value: pair.value))
        }
        return pairs
    }

    /// UTF-8 names are valid (Prometheus 3); only braces would make a selector of it.
    private static func isMetricName(_ name: String) -> Bool { !name.isEmpty && !name.contains("{") && !name.contains("}") }
    private static func isLabelName(_ name: String) -> Bool { !name.isEmpty }
}
