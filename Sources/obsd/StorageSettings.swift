internal import ObsCore
internal import ObsEngine
internal import ObsLogQL
internal import ObsPromQL
internal import ObsStore
internal import ObsTraceQL
internal import ObsYAML

/// `obsd.storage` of the configuration file.
struct StorageSettings {
    /// Put in force by a reload.
    var retention = RetentionBounds()
    /// See `EngineConfiguration.freeBytesMin`; takes effect at the next start.
    var freeBytesMin: Int64?

    init() {}

    init(_ mapping: YAMLMapping) throws(ObsError) {
        retention.bytes = try Self.size(mapping.optional("retention-bytes"))
        if let bySignal = try mapping.mapping("retention-bytes-by-signal") {
            for signal in Signal.allCases { retention.bytesBySignal[signal] = try Self.size(bySignal.optional(signal.rawValue)) }
            try bySignal.finish()
        }
        retention.bytesEachTenant = try Self.size(mapping.optional("retention-bytes-each-tenant"))
        if let byTenant = try mapping.mapping("retention-bytes-by-tenant") {
            for name in byTenant.keys {
                guard let node = byTenant.optional(name) else { continue }
                do throws(ObsError) { retention.bytesByTenant[try TenantID(name)] = try Self.size(node) ?? .max } catch {
                    throw error.message.hasPrefix("invalid tenant") ? node.error(error.message) : error
                }
            }
            try byTenant.finish()
        }
        if let node = mapping.optional("free-bytes-min") { freeBytesMin = try Self.size(node) ?? 0 }
        for node in try mapping.sequence("retention-rules") { retention.rules.append(try Self.rule(node)) }
        try mapping.finish()
    }

    private static func rule(_ node: YAMLNode) throws(ObsError) -> RetentionRule {
        let mapping = try YAMLMapping(node)
        let name = try mapping.required("signal")
        guard let signal = Signal(rawValue: try name.string()) else { throw name.error("must be metrics, logs or traces, is \(quoted(try name.string()))") }
        let keep = try mapping.required("keep").durationMillis()
        let priority = try mapping.int("priority", default: 0)
        let tenant = mapping.optional("tenant")
        let selector = mapping.optional("selector")
        try mapping.finish()
        do throws(ObsError) {
            return try RetentionRule(
                signal, tenant: try tenant.map { node throws(ObsError) in try TenantID(try node.string()) },
                try selector.map { node throws(ObsError) in try matchers(signal, try node.string()) } ?? [], keepMillis: keep, priority: priority)
        } catch { throw node.error(error.description) }
    }

    /// In the language of the signal; `{}` governs every row.
    private static func matchers(_ signal: Signal, _ text: String) throws(ObsError) -> [LabelMatcher] {
        if text.filter({ $0 != " " }) == "{}" { return [] }
        switch signal {
        case .metrics: return try parseSelector(text)
        case .logs: return try parseLogSelector(text)
        case .traces: return try parseSpanSelector(text)
        }
    }

    /// - Throws: `.badInput` for a rule that keeps for longer than everything is kept.
    func check(retentionMillis: Int64?) throws(ObsError) {
        guard let retentionMillis, let rule = retention.rules.first(where: { $0.keepMillis > retentionMillis }) else { return }
        throw ObsError(
            .badInput,
            "obsd.storage.retention-rules: a rule keeps \(rule.signal.rawValue) for \(rule.keepMillis / 1000) s, longer than --retention, which is \(retentionMillis / 1000) s and bounds all"
        )
    }

    private static func size(_ node: YAMLNode?) throws(ObsError) -> Int64? {
        guard let node, try node.string() != "none" else { return nil }
        let bytes = try node.byteSize()
        guard bytes > 0 else { throw node.error("must be more than nothing") }
        return Int64(bytes)
    }
}
