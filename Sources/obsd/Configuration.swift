internal import ObsAPI
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsNet
internal import ObsRules
internal import ObsWire
internal import ObsYAML

/// Everything the daemon starts with, checked before anything is opened: flags, then the configuration file.
struct Configuration {
    var flags: Flags
    var limits = Limits()
    /// What each part of the process may hold.
    var memory: MemoryShares
    /// Nil keeps for ever.
    var retentionMillis: Int64?
    var durability: Durability
    var authenticator: Authenticator
    var tls: TLSIdentity?
    /// What `--config` says; the part that a reload reads again.
    var file: FileConfiguration

    init(_ flags: Flags) throws(ObsError) {
        self.flags = flags
        retentionMillis = flags["retention"] == "none" ? nil : try flags.durationMillis("retention")
        durability = try Self.durability(flags)
        guard flags["otlp-grpc"] == "none" else { throw ObsError(.badInput, "flag --otlp-grpc: OTLP/gRPC is not served yet; send OTLP/HTTP to --otlp-http") }
        limits.queryTimeoutMillis = try flags.durationMillis("query-timeout")
        limits.querySamplesMax = try flags.int("query-max-samples")
        limits.queryConcurrency = try flags.int("query-concurrency")
        limits.requestBytesMax = try flags.int("request-bytes-max")
        limits.decodedBytesMax = try flags.int("decoded-bytes-max")
        // Batches hold texts as 32-bit ranges.
        guard limits.decodedBytesMax <= 1 << 30 else { throw ObsError(.badInput, "flag --decoded-bytes-max: at most 1073741824 (1 GiB)") }
        file = try FileConfiguration(path: flags["config"])
        memory = MemoryShares(ceilingBytes: try Self.memoryCeiling(flags, file))
        memory.apply(to: &limits)
        tls = try Self.tlsIdentity(flags)
        authenticator = try Self.authenticator(flags)
        try Self.refuseOpenListeners(flags, tls: tls)
        _ = try retention(of: file)
    }

    /// What a file says of the retention, but for what a flag says.
    func retention(of file: FileConfiguration) throws(ObsError) -> RetentionBounds {
        try file.storage.check(retentionMillis: retentionMillis)
        var bounds = file.storage.retention
        if flags.isGiven("retention-bytes") { bounds.bytes = try flags.byteSize("retention-bytes") }
        return bounds
    }

    private static func memoryCeiling(_ flags: Flags, _ file: FileConfiguration) throws(ObsError) -> Int {
        let ceiling: Int
        let source: String
        if flags.isGiven("memory") {
            guard let bytes = try flags.byteSize("memory") else {
                throw ObsError(.badInput, "flag --memory: there is always a ceiling; leave it out for the default")
            }
            (ceiling, source) = (Int(bytes), "flag --memory: \(quoted(flags["memory"]))")
        } else if let bytes = file.memoryBytes {
            (ceiling, source) = (bytes, "\(flags["config"]): obsd.memory of \(bytes) bytes")
        } else {
            return SystemMemory.defaultCeilingBytes()
        }
        guard ceiling >= MemoryShares.ceilingBytesMin else {
            throw ObsError(.badInput, "\(source) is less than \(formatByteSize(MemoryShares.ceilingBytesMin)), the least obsd works with")
        }
        // No machine has more, and sums stay sums.
        guard ceiling <= 1 << 50 else { throw ObsError(.badInput, "\(source) is more than any machine has") }
        return ceiling
    }

    private static func durability(_ flags: Flags) throws(ObsError) -> Durability {
        switch flags["durability"] {
        case "commit": return .commit
        case "interval": return .interval(millis: 100)
        case "os": return .os
        case let other: throw ObsError(.badInput, "flag --durability: \(quoted(other)) is not commit, interval or os")
        }
    }

    private static func tlsIdentity(_ flags: Flags) throws(ObsError) -> TLSIdentity? {
        switch (flags["tls-cert"], flags["tls-key"]) {
        case ("", ""): return nil
        case ("", _), (_, ""): throw ObsError(.badInput, "--tls-cert and --tls-key belong together")
        case (let certificate, let key):
            return TLSIdentity(certificatePEM: try ConfigurationFile.read(certificate), keyPEM: try ConfigurationFile.read(key))
        }
    }

    private static func authenticator(_ flags: Flags) throws(ObsError) -> Authenticator {
        guard let tenancy = Authenticator.Tenancy(rawValue: flags["tenancy"]) else {
            throw ObsError(.badInput, "flag --tenancy: \(quoted(flags["tenancy"])) is not single or multi")
        }
        let path = flags["auth-tokens"]
        switch (flags.isGiven("auth") ? flags["auth"] : path.isEmpty ? "none" : "tokens", path) {
        case ("none", _): return Authenticator(tokens: nil, tenancy: tenancy)
        case ("tokens", ""): throw ObsError(.badInput, "--auth tokens needs --auth-tokens FILE")
        case ("tokens", _):
            let tokens = try TokenFile(parsing: String(decoding: try ConfigurationFile.read(path), as: UTF8.self), path: path)
            if tokens.isEmpty { throw ObsError(.badInput, "\(path) holds no token; make one with `obsd token NAME SCOPES`") }
            return Authenticator(tokens: tokens, tenancy: tenancy)
        case (let other, _): throw ObsError(.badInput, "flag --auth: \(quoted(other)) is not tokens or none")
        }
    }

    /// What others can reach must know who asks and keep secrets off the wire, unless the operator says that it need not.
    private static func refuseOpenListeners(_ flags: Flags, tls: TLSIdentity?) throws(ObsError) {
        if flags.isGiven("auth"), flags["auth"] == "none" { return }
        let protected = tls != nil && (flags["auth"] == "tokens" || !flags["auth-tokens"].isEmpty)
        for name in ["http", "otlp-http"] {
            guard let address = flags.address(name), !protected, !isLoopback(address) else { continue }
            throw ObsError(
                .badInput,
                "--\(name) \(address) can be reached by others: give --auth-tokens FILE with --tls-cert and --tls-key, or say --auth none if something in front of obsd protects it"
            )
        }
    }
}

/// The configuration file: Prometheus' own syntax at the top level, ours under `obsd:`.
struct FileConfiguration {
    var prometheus = PrometheusConfiguration()
    var alerting = AlertingConfiguration()
    var storage = StorageSettings()
    var remoteWrites = RemoteWriteConfigurations()
    var otlp = OTLPMetricOptions()
    var remoteWriteQueues = RemoteWriteSettings()
    var cardinality = CardinalityBudget()
    /// `obsd.memory`; takes effect at the next start.
    var memoryBytes: Int?
    var text = ""
    /// Settings that are understood and have no effect.
    var warnings: [String] { prometheus.warnings + alerting.warnings + remoteWrites.warnings }

    init(path: String) throws(ObsError) {
        guard !path.isEmpty else { return }
        let bytes = try ConfigurationFile.read(path)
        text = String(decoding: bytes, as: UTF8.self)
        let directory = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        do throws(ObsError) {
            let root = try YAMLMapping(try YAMLNode.parse(bytes))
            prometheus = try PrometheusConfiguration(root, directory: directory)
            alerting = try AlertingConfiguration(root, directory: directory)
            remoteWrites = try RemoteWriteConfigurations(root.sequence("remote_write"), global: prometheus.global, directory: directory)
            for entry in root.skip(["remote_read", "storage", "tracing", "runtime"]) {
                prometheus.warnings.append("\(entry.path) (line \(entry.line)) is not supported yet and has no effect")
            }
            if let map = try root.mapping("otlp") { otlp = try OTLPMetricOptions(map) }
            // Our own section; a misspelt key must not pass in silence.
            if let own = try root.mapping("obsd") {
                if let storage = try own.mapping("storage") { self.storage = try StorageSettings(storage) }
                if let queues = try own.mapping("remote-write") { remoteWriteQueues = try RemoteWriteSettings(queues) }
                if let cardinality = try own.mapping("cardinality") { self.cardinality = try CardinalityBudget(cardinality) }
                memoryBytes = try own.optional("memory")?.byteSize()
                try own.finish()
            }
            try root.finish()
        } catch {
            throw ObsError(error.code, "\(path): \(error.description)")
        }
    }
}
