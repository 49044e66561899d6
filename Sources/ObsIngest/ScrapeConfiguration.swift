// `global` and `scrape_configs` of a prometheus.yml, unchanged. Keys of Prometheus that we do not carry out yet warn; keys nobody knows are errors.
package import ObsCore
package import ObsYAML

/// What a prometheus.yml says about scraping, and its `global` part for whoever else needs it.
package struct PrometheusConfiguration: Sendable {
    package struct Global: Sendable {
        package var scrapeIntervalMillis: Int64 = 60_000
        package var scrapeTimeoutMillis: Int64 = 10_000
        package var evaluationIntervalMillis: Int64 = 60_000
        package var ruleQueryOffsetMillis: Int64 = 0
        package var externalLabels: [(name: String, value: String)] = []
        package init() {}
    }

    package var global = Global()
    package var scrapes: [ScrapeConfiguration] = []
    /// Sentences for the log: settings that are understood and have no effect.
    package var warnings: [String] = []

    package init() {}

    /// Reads `global` and `scrape_configs` of the root mapping; the caller reads the rest and calls `finish()`.
    /// - Parameter directory: of the file, for relative paths in it.
    /// - Throws: `.badInput` naming path and line.
    package init(_ root: YAMLMapping, directory: String) throws(ObsError) {
        var reader = ScrapeConfigurationReader(directory: directory)
        if let map = try root.mapping("global") { global = try reader.global(map) }
        reader.defaults = global
        for node in try root.sequence("scrape_configs") {
            let scrape = try reader.scrape(node)
            guard !scrapes.contains(where: { $0.jobName == scrape.jobName }) else { throw node.error("job name \(quoted(scrape.jobName)) is used twice") }
            scrapes.append(scrape)
        }
        reader.warn(root.skip(["remote_write", "remote_read", "storage", "tracing", "scrape_config_files", "otlp", "runtime"]))
        warnings = reader.warnings
    }
}

/// One `scrape_configs` entry.
package struct ScrapeConfiguration: Sendable {
    package var jobName = ""
    package var intervalMillis: Int64 = 60_000
    package var timeoutMillis: Int64 = 10_000
    package var metricsPath = "/metrics"
    package var scheme = "http"
    var parameters: [(name: String, values: [String])] = []
    var honorLabels = false
    var honorTimestamps = true
    var trackTimestampsStaleness = false
    var compression = true
    var fallbackProtocol: String?
    var limits = ScrapeLimits()
    var connection = ScrapeConnection()
    var relabeling: [RelabelRule] = []
    var metricRelabeling: [RelabelRule] = []
    var staticGroups: [TargetGroup] = []
    var fileGlobs: [String] = []
    var httpDiscovery: [HTTPDiscovery] = []
    /// The entry's text in effect: two entries that say the same are equal, so that a reload leaves their targets alone.
    var fingerprint = ""
}

/// Bounds of one scrape; 0 is none. Passing one fails the scrape.
struct ScrapeLimits: Sendable {
    var samplesMax = 0
    var labelsMax = 0
    var labelNameBytesMax = 0
    var labelValueBytesMax = 0
    var bodyBytesMax = 0
    var targetsMax = 0
}

/// How to reach targets.
struct ScrapeConnection: Sendable {
    var user: String?
    var password = ""
    var passwordFile: String?
    /// `Bearer` unless configured.
    var authorizationType = "Bearer"
    var credentials: String?
    var credentialsFile: String?
    var followRedirects = true
    var proxyURL: String?
    var caFile: String?
    var certificateFile: String?
    var keyFile: String?
    var serverName: String?
    var skipsVerification = false
    var headers: [(name: String, value: String)] = []
}

struct HTTPDiscovery: Sendable {
    var url: String
    var refreshMillis: Int64
    var connection: ScrapeConnection
}

/// Reads the YAML; holds what entries inherit.
struct ScrapeConfigurationReader {
    let directory: String
    var defaults = PrometheusConfiguration.Global()
    var warnings: [String] = []
    private var limitDefaults = ScrapeLimits()

    init(directory: String) { self.directory = directory }

    mutating func warn(_ skipped: [(path: String, line: Int)]) {
        for entry in skipped { warnings.append("\(entry.path) (line \(entry.line)) is not supported yet and has no effect") }
    }

    mutating func global(_ map: YAMLMapping) throws(ObsError) -> PrometheusConfiguration.Global {
        var global = PrometheusConfiguration.Global()
        global.scrapeIntervalMillis = try positive(map, "scrape_interval", global.scrapeIntervalMillis)
        global.scrapeTimeoutMillis = try positive(map, "scrape_timeout", min(global.scrapeTimeoutMillis, global.scrapeIntervalMillis))
        if global.scrapeTimeoutMillis > global.scrapeIntervalMillis, let node = map.optional("scrape_timeout") {
            throw node.error("scrape timeout is longer than the scrape interval")
        }
        global.evaluationIntervalMillis = try positive(map, "evaluation_interval", global.evaluationIntervalMillis)
        global.ruleQueryOffsetMillis = try map.durationMillis("rule_query_offset", default: 0)
        global.externalLabels = try map.stringPairs("external_labels")
        limitDefaults = try limits(map)
        warn(
            map.skip([
                "query_log_file", "scrape_failure_log_file", "keep_dropped_targets", "metric_name_validation_scheme", "metric_name_escaping_scheme",
                "runtime", "scrape_protocols", "scrape_native_histograms", "convert_classic_histograms_to_nhcb", "always_scrape_classic_histograms",
                "extra_scrape_metrics",
            ]))
        try map.finish()
        return global
    }

    private func positive(_ map: YAMLMapping, _ key: String, _ value: Int64) throws(ObsError) -> Int64 {
        guard let node = map.optional(key) else { return value }
        let millis = try node.durationMillis()
        guard millis > 0 else { throw node.error("must be longer than 0") }
        return millis
    }

    private func limits(_ map: YAMLMapping) throws(ObsError) -> ScrapeLimits {
        var limits = limitDefaults
        limits.samplesMax = try map.int("sample_limit", default: limits.samplesMax)
        limits.labelsMax = try map.int("label_limit", default: limits.labelsMax)
        limits.labelNameBytesMax = try map.int("label_name_length_limit", default: limits.labelNameBytesMax)
        limits.labelValueBytesMax = try map.int("label_value_length_limit", default: limits.labelValueBytesMax)
        limits.bodyBytesMax = try map.byteSize("body_size_limit", default: limits.bodyBytesMax)
        limits.targetsMax = try map.int("target_limit", default: limits.targetsMax)
        return limits
    }

    mutating func scrape(_ node: YAMLNode) throws(ObsError) -> ScrapeConfiguration {
        let map = try YAMLMapping(node)
        var scrape = ScrapeConfiguration()
        let name = try map.required("job_name")
        scrape.jobName = try name.string()
        guard !scrape.jobName.isEmpty else { throw name.error("job_name is empty") }
        try timing(map, &scrape)
        scrape.metricsPath = try map.string("metrics_path", default: "/metrics")
        scrape.scheme = try map.string("scheme", default: "http").lowercased()
        guard ["http", "https"].contains(scrape.scheme) else { throw (map.optional("scheme") ?? node).error("scheme must be http or https") }
        if let params = try map.mapping("params") { for key in params.keys { scrape.parameters.append((key, try params.strings(key))) } }
        scrape.honorLabels = try map.bool("honor_labels", default: false)
        scrape.honorTimestamps = try map.bool("honor_timestamps", default: true)
        scrape.trackTimestampsStaleness = try map.bool("track_timestamps_staleness", default: false)
        scrape.compression = try map.bool("enable_compression", default: true)
        scrape.fallbackProtocol = try map.optional("fallback_scrape_protocol")?.string()
        scrape.limits = try limits(map)
        scrape.connection = try connection(map)
        scrape.relabeling = try RelabelRule.list(map.sequence("relabel_configs"))
        scrape.metricRelabeling = try RelabelRule.list(map.sequence("metric_relabel_configs"))
        try discovery(map, &scrape)
        unsupported(map)
        try map.finish()
        scrape.fingerprint = "\(node.fingerprint) \(scrape.intervalMillis) \(scrape.timeoutMillis) \(scrape.limits)"
        return scrape
    }

    private func timing(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        scrape.intervalMillis = try positive(map, "scrape_interval", defaults.scrapeIntervalMillis)
        scrape.timeoutMillis = try positive(map, "scrape_timeout", min(defaults.scrapeTimeoutMillis, scrape.intervalMillis))
        if scrape.timeoutMillis > scrape.intervalMillis, let node = map.optional("scrape_timeout") {
            throw node.error("scrape timeout is longer than the scrape interval (\(formatDuration(millis: scrape.intervalMillis)))")
        }
    }

    private mutating func discovery(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        for (index, node) in try map.sequence("static_configs").enumerated() {
            scrape.staticGroups.append(try TargetGroup(node, source: "static/\(index)"))
        }
        for node in try map.sequence("file_sd_configs") {
            let file = try YAMLMapping(node)
            let files = try file.required("files")
            for glob in try files.strings() {
                guard [".json", ".yml", ".yaml"].contains(where: { glob.lowercased().hasSuffix($0) }) else {
                    throw files.error("\(quoted(glob)) must end in .json, .yml or .yaml")
                }
                scrape.fileGlobs.append(ConfigurationFile.resolve(glob, in: directory))
            }
            _ = try file.durationMillis("refresh_interval", default: 0)  // files are looked at every few seconds anyhow
            try file.finish()
        }
        for node in try map.sequence("http_sd_configs") {
            let http = try YAMLMapping(node)
            let discovery = HTTPDiscovery(
                url: try http.required("url").string(), refreshMillis: try positive(http, "refresh_interval", 60_000), connection: try connection(http))
            warn(http.skip(Self.connectionUnsupported))
            try http.finish()
            scrape.httpDiscovery.append(discovery)
        }
    }

    private func connection(_ map: YAMLMapping) throws(ObsError) -> ScrapeConnection {
        var connection = ScrapeConnection()
        if let basic = try map.mapping("basic_auth") {
            connection.user = try basic.string("username")
            connection.password = try basic.string("password")
            connection.passwordFile = try path(basic, "password_file")
            try basic.finish()
        }
        if let authorization = try map.mapping("authorization") {
            connection.authorizationType = try authorization.string("type", default: "Bearer")
            connection.credentials = try authorization.optional("credentials")?.string()
            connection.credentialsFile = try path(authorization, "credentials_file")
            try authorization.finish()
        }
        if let token = try map.optional("bearer_token")?.string() { connection.credentials = token }
        if let file = try path(map, "bearer_token_file") { connection.credentialsFile = file }
        connection.followRedirects = try map.bool("follow_redirects", default: true)
        connection.proxyURL = try map.optional("proxy_url")?.string()
        if let tls = try map.mapping("tls_config") { try self.tls(tls, &connection) }
        if let headers = try map.mapping("http_headers") {
            for name in headers.keys {
                guard let header = try headers.mapping(name) else { continue }
                for value in try header.strings("values") + header.strings("secrets") { connection.headers.append((name, value)) }
                try header.finish()
            }
        }
        return connection
    }

    private func tls(_ tls: YAMLMapping, _ connection: inout ScrapeConnection) throws(ObsError) {
        connection.caFile = try path(tls, "ca_file")
        connection.certificateFile = try path(tls, "cert_file")
        connection.keyFile = try path(tls, "key_file")
        connection.serverName = try tls.optional("server_name")?.string()
        connection.skipsVerification = try tls.bool("insecure_skip_verify", default: false)
        for key in ["ca", "cert", "key", "min_version", "max_version"] {
            if let node = tls.optional(key) { throw node.error("not supported; give a file") }
        }
        try tls.finish()
    }

    private func path(_ map: YAMLMapping, _ key: String) throws(ObsError) -> String? {
        guard let path = try map.optional(key)?.string() else { return nil }
        return ConfigurationFile.resolve(path, in: directory)
    }

    static let connectionUnsupported = ["oauth2", "enable_http2", "no_proxy", "proxy_from_environment", "proxy_connect_header"]

    private mutating func unsupported(_ map: YAMLMapping) {
        // These say nothing different from what we do.
        _ = map.skip(["enable_http2", "metric_name_validation_scheme", "metric_name_escaping_scheme", "keep_dropped_targets"])
        warn(
            map.skip(
                Self.connectionUnsupported + [
                    "scrape_protocols", "scrape_failure_log_file", "scrape_classic_histograms", "always_scrape_classic_histograms",
                    "scrape_native_histograms", "convert_classic_histograms_to_nhcb", "native_histogram_bucket_limit",
                    "native_histogram_min_bucket_factor", "extra_scrape_metrics",
                ]))
        // Its targets would silently never be scraped: a discovery we do not have is worth a warning each.
        warn(map.skip(map.keys.filter { $0.hasSuffix("_sd_configs") && !["file_sd_configs", "http_sd_configs"].contains($0) }))
    }
}

extension YAMLNode {
    /// The node's content as text, marks left out.
    fileprivate var fingerprint: String {
        switch content {
        case .scalar(let text, _): "\"\(escapedForQuotes(text))\""
        case .sequence(let elements): "[" + elements.map(\.fingerprint).joined(separator: ",") + "]"
        case .mapping(let entries): "{" + entries.map { "\($0.key):\($0.value.fingerprint)" }.joined(separator: ",") + "}"
        }
    }
}
