package import ObsCore
internal import ObsWire
package import ObsYAML

/// One entry of `remote_write`: a server that gets what is written here.
package struct RemoteWriteConfiguration: Sendable {
    /// Of the entry; empty unless configured.
    package var name = ""
    package var url = ""
    var timeoutMillis = 30_000
    var headers: [(name: String, value: String)] = []
    var relabeling: [RelabelRule] = []
    var sendsExemplars = false
    var sendsHistograms = false
    var version = RemoteWriteVersion.version1
    var queue = Queue()
    var metadata = Metadata()
    var connection = HTTPClientSettings()
    /// Added to series that have no such label.
    var externalLabels: [(name: String, value: String)] = []
    /// The entry's text in effect.
    var fingerprint = ""

    struct Queue: Sendable {
        var shardsMin = 1
        var shardsMax = 50
        /// Of one request.
        var samplesMax = 2000
        /// A request of fewer samples waits this long for more.
        var deadlineMillis: Int64 = 5000
        var backoffMinMillis: Int64 = 30
        var backoffMaxMillis: Int64 = 5000
        var retriesRateLimits = false
        /// Older samples are not sent any more; 0 sends all.
        var sampleAgeMillis: Int64 = 0
    }

    struct Metadata: Sendable {
        var isSent = true
        var intervalMillis: Int64 = 60_000
        var familiesMax = 2000
    }

    /// What its queue is known by: a change of anything else leaves it what it holds.
    package var identity: String { name.isEmpty ? url : name }
    /// What metrics and logs call it.
    var title: String { name.isEmpty ? url : name }
}

/// What `remote_write` says.
package struct RemoteWriteConfigurations: Sendable {
    package var entries: [RemoteWriteConfiguration] = []
    package var warnings: [String] = []

    package init() {}

    /// - Throws: `.badInput` naming path and line.
    package init(_ nodes: [YAMLNode], global: PrometheusConfiguration.Global, directory: String) throws(ObsError) {
        for node in nodes {
            let entry = try RemoteWriteConfiguration(node, global, directory, &warnings)
            guard !entries.contains(where: { $0.identity == entry.identity }) else {
                throw node.error("\(quoted(entry.identity)) is written to by another entry; give each a name of its own")
            }
            entries.append(entry)
        }
    }
}

extension RemoteWriteConfiguration {
    /// Set by us, or by what a request is.
    private static let reservedHeaders: Set<String> = [
        "authorization", "host", "content-encoding", "content-length", "content-type", "user-agent", "connection", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "www-authenticate", "accept-encoding", "x-prometheus-remote-write-version", "x-prometheus-remote-read-version",
    ]
    private static let unsupported = ["round_robin_dns", "failed_request_logging", "sigv4", "azuread", "google_iam"]

    init(_ node: YAMLNode, _ global: PrometheusConfiguration.Global, _ directory: String, _ warnings: inout [String]) throws(ObsError) {
        let map = try YAMLMapping(node)
        let address = try map.required("url")
        url = try address.string()
        guard url.hasPrefix("http://") || url.hasPrefix("https://") else { throw address.error("must begin with http:// or https://") }
        name = try map.string("name")
        timeoutMillis = Int(try positive(map, "remote_timeout", 30_000))
        if let given = try map.mapping("headers") {
            for entry in try given.node.stringPairs() {
                guard !Self.reservedHeaders.contains(entry.name.lowercased()) else { throw given.node.error("header \(quoted(entry.name)) cannot be set here") }
                headers.append(entry)
            }
        }
        relabeling = try RelabelRule.list(map.sequence("write_relabel_configs"))
        sendsExemplars = try map.bool("send_exemplars", default: false)
        sendsHistograms = try map.bool("send_native_histograms", default: false)
        if let message = map.optional("protobuf_message") {
            guard let known = RemoteWriteVersion(rawValue: try message.string()) else {
                throw message.error("unknown message \(quoted(try message.string())); known are prometheus.WriteRequest and io.prometheus.write.v2.Request")
            }
            version = known
        }
        if let queue = try map.mapping("queue_config") { self.queue = try Queue(queue) }
        if let metadata = try map.mapping("metadata_config") {
            self.metadata.isSent = try metadata.bool("send", default: true)
            self.metadata.intervalMillis = try positive(metadata, "send_interval", 60_000)
            self.metadata.familiesMax = try positive(metadata, "max_samples_per_send", 2000)
            try metadata.finish()
        }
        connection = try HTTPClientSettings(map, directory: directory, http2: false)
        externalLabels = global.externalLabels
        for entry in map.skip(Self.unsupported) { warnings.append("\(entry.path) (line \(entry.line)) is not supported yet and has no effect") }
        try map.finish()
        fingerprint = "\(node.fingerprint) \(externalLabels)"
    }
}

extension RemoteWriteConfiguration.Queue {
    fileprivate init(_ map: YAMLMapping) throws(ObsError) {
        _ = try positive(map, "capacity", 10_000)  // of a queue in memory; ours is on disk
        shardsMin = try positive(map, "min_shards", 1)
        shardsMax = try positive(map, "max_shards", 50)
        if shardsMax < shardsMin, let node = map.optional("max_shards") ?? map.optional("min_shards") { throw node.error("max_shards is less than min_shards") }
        samplesMax = try positive(map, "max_samples_per_send", 2000)
        deadlineMillis = try positive(map, "batch_send_deadline", 5000)
        backoffMinMillis = try positive(map, "min_backoff", 30)
        backoffMaxMillis = max(backoffMinMillis, try positive(map, "max_backoff", 5000))
        retriesRateLimits = try map.bool("retry_on_http_429", default: false)
        sampleAgeMillis = try map.durationMillis("sample_age_limit", default: 0)
        try map.finish()
    }
}

private func positive(_ map: YAMLMapping, _ key: String, _ value: Int64) throws(ObsError) -> Int64 {
    guard let node = map.optional(key) else { return value }
    let millis = try node.durationMillis()
    guard millis > 0 else { throw node.error("must be longer than 0") }
    return millis
}

private func positive(_ map: YAMLMapping, _ key: String, _ value: Int) throws(ObsError) -> Int {
    guard let node = map.optional(key) else { return value }
    let number = try node.int()
    guard number > 0 else { throw node.error("must be more than 0") }
    return number
}
