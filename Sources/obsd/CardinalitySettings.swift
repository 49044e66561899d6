internal import ObsCore
internal import ObsIngest
internal import ObsYAML

extension CardinalityBudget {
    /// `obsd.cardinality` of the configuration file.
    init(_ mapping: YAMLMapping) throws(ObsError) {
        self.init()
        valuesMax = try Self.valuesMax(mapping.optional("label-values-max"))
        if let node = mapping.optional("window") {
            windowMillis = try node.durationMillis()
            guard windowMillis >= 60_000 else { throw node.error("must be a minute at least") }
        }
        for node in try mapping.sequence("overrides") {
            let entry = try YAMLMapping(node)
            let override = Override(
                metric: try entry.optional("metric")?.string(), label: try entry.optional("label")?.string(),
                valuesMax: try Self.valuesMax(try entry.required("label-values-max")))
            try entry.finish()
            overrides.append(override)
        }
        try mapping.finish()
    }

    private static func valuesMax(_ node: YAMLNode?) throws(ObsError) -> Int? {
        guard let node, try node.string() != "none" else { return nil }
        let count = try node.int()
        guard count > 0 else { throw node.error("must be more than 0, or none") }
        return count
    }
}
