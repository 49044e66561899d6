internal import ObsCore
internal import ObsYAML

/// `obsd.storage` of the configuration file; read at start only.
struct StorageSettings {
    /// All segments together; nil for no bound.
    var retentionBytes: Int64?
    var retentionBytesBySignal: [Signal: Int64] = [:]

    init() {}

    init(_ mapping: YAMLMapping) throws(ObsError) {
        retentionBytes = try Self.size(mapping.optional("retention-bytes"))
        if let bySignal = try mapping.mapping("retention-bytes-by-signal") {
            for signal in Signal.allCases { retentionBytesBySignal[signal] = try Self.size(bySignal.optional(signal.rawValue)) }
            try bySignal.finish()
        }
        try mapping.finish()
    }

    private static func size(_ node: YAMLNode?) throws(ObsError) -> Int64? {
        guard let node, try node.string() != "none" else { return nil }
        let bytes = try node.byteSize()
        guard bytes > 0 else { throw node.error("must be more than nothing") }
        return Int64(bytes)
    }
}
