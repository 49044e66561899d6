internal import Glibc
internal import ObsCore
internal import ObsWire
internal import ObsYAML

/// Reads `global` and entries of `scrape_configs`, unchanged Prometheus YAML; holds what entries inherit. Keys of Prometheus that have no effect here warn;
/// keys nobody knows are errors.
struct ScrapeConfigurationReader {
    let directory: String
    var defaults = PrometheusConfiguration.Global()
    var warnings: [String] = []
    /// What `global` says for all entries.
    private var inherited = ScrapeConfiguration()
    private var inheritedProtocols: [ScrapeProtocol]?

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
        try common(map, &inherited)
        inheritedProtocols = try protocols(map)
        warn(map.skip(["query_log_file", "scrape_failure_log_file"]))
        try map.finish()
        return global
    }

    private func positive(_ map: YAMLMapping, _ key: String, _ value: Int64) throws(ObsError) -> Int64 {
        guard let node = map.optional(key) else { return value }
        let millis = try node.durationMillis()
        guard millis > 0 else { throw node.error("must be longer than 0") }
        return millis
    }

    mutating func scrape(_ node: YAMLNode) throws(ObsError) -> ScrapeConfiguration {
        let map = try YAMLMapping(node)
        var scrape = inherited
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
        try common(map, &scrape)
        try formats(map, &scrape)
        scrape.connection = try HTTPClientSettings(map, directory: directory)
        scrape.relabeling = try RelabelRule.list(map.sequence("relabel_configs"))
        scrape.metricRelabeling = try RelabelRule.list(map.sequence("metric_relabel_configs"))
        try discovery(map, &scrape)
        // Its targets would silently never be scraped: a discovery we do not have is worth a warning each.
        warn(map.skip(map.keys.filter { $0.hasSuffix("_sd_configs") }.filter { !Self.discoveries.contains($0) } + ["scrape_failure_log_file"]))
        try map.finish()
        scrape.fingerprint =
            "\(node.fingerprint) \(scrape.intervalMillis) \(scrape.timeoutMillis) \(scrape.limits) \(scrape.protocols) \(scrape.exposition) \(scrape.escaping) "
            + "\(scrape.hasLegacyNames) \(scrape.hasExtraMetrics) \(scrape.droppedTargetsKept)"
        return scrape
    }

    private func timing(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        scrape.intervalMillis = try positive(map, "scrape_interval", defaults.scrapeIntervalMillis)
        scrape.timeoutMillis = try positive(map, "scrape_timeout", min(defaults.scrapeTimeoutMillis, scrape.intervalMillis))
        if scrape.timeoutMillis > scrape.intervalMillis, let node = map.optional("scrape_timeout") {
            throw node.error("scrape timeout is longer than the scrape interval (\(formatDuration(millis: scrape.intervalMillis)))")
        }
    }

    // MARK: - What global and entries both say

    private func common(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        try limits(map, &scrape.limits)
        scrape.droppedTargetsKept = try bound(map, "keep_dropped_targets", scrape.droppedTargetsKept)
        scrape.exposition.nativeHistograms = try map.bool("scrape_native_histograms", default: scrape.exposition.nativeHistograms)
        scrape.exposition.convertsClassic = try map.bool("convert_classic_histograms_to_nhcb", default: scrape.exposition.convertsClassic)
        scrape.exposition.keepsClassic = try map.bool("always_scrape_classic_histograms", default: scrape.exposition.keepsClassic)
        scrape.hasExtraMetrics = try map.bool("extra_scrape_metrics", default: scrape.hasExtraMetrics)
        try names(map, &scrape)
    }

    private func limits(_ map: YAMLMapping, _ limits: inout ScrapeLimits) throws(ObsError) {
        limits.samplesMax = try bound(map, "sample_limit", limits.samplesMax)
        limits.labelsMax = try bound(map, "label_limit", limits.labelsMax)
        limits.labelNameBytesMax = try bound(map, "label_name_length_limit", limits.labelNameBytesMax)
        limits.labelValueBytesMax = try bound(map, "label_value_length_limit", limits.labelValueBytesMax)
        limits.targetsMax = try bound(map, "target_limit", limits.targetsMax)
        let bytes = try map.byteSize("body_size_limit", default: 0)
        if bytes > 0 { limits.bodyBytesMax = bytes }
    }

    /// 0 says nothing: the inherited bound holds.
    private func bound(_ map: YAMLMapping, _ key: String, _ inherited: Int) throws(ObsError) -> Int {
        guard let node = map.optional(key) else { return inherited }
        let value = try node.int()
        guard value >= 0 else { throw node.error("must not be negative") }
        return value == 0 ? inherited : value
    }

    private func names(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        let validation = map.optional("metric_name_validation_scheme")
        switch try validation?.string() ?? "" {
        case "": break
        case "legacy": scrape.hasLegacyNames = true
        case "utf8": scrape.hasLegacyNames = false
        case let other: throw (validation ?? map.node).error("unknown name validation \(quoted(other)); known are utf8 and legacy")
        }
        if validation != nil { scrape.escaping = scrape.hasLegacyNames ? "underscores" : "allow-utf-8" }
        guard let node = map.optional("metric_name_escaping_scheme") else { return }
        let escaping = try node.string()
        guard ["allow-utf-8", "underscores", "dots", "values"].contains(escaping) else {
            throw node.error("unknown name escaping \(quoted(escaping)); known are allow-utf-8, underscores, dots and values")
        }
        if escaping == "allow-utf-8", scrape.hasLegacyNames { throw node.error("names in UTF-8 are asked for, but name validation is legacy") }
        scrape.escaping = escaping
    }

    // MARK: - Formats

    private func protocols(_ map: YAMLMapping) throws(ObsError) -> [ScrapeProtocol]? {
        guard let node = map.optional("scrape_protocols") else { return nil }
        var protocols: [ScrapeProtocol] = []
        for entry in try node.sequence() {
            let known = try scrapeProtocol(entry)
            if protocols.contains(known) { throw entry.error("\(quoted(known.rawValue)) is named twice") }
            protocols.append(known)
        }
        guard !protocols.isEmpty else { throw node.error("names no protocol") }
        return protocols
    }

    private func scrapeProtocol(_ node: YAMLNode) throws(ObsError) -> ScrapeProtocol {
        let name = try node.string()
        guard let known = ScrapeProtocol(rawValue: name) else {
            throw node.error("unknown scrape protocol \(quoted(name)); known are \(ScrapeProtocol.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return known
    }

    private func formats(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        let preferred = scrape.exposition.nativeHistograms ? ScrapeProtocol.protobufFirst : ScrapeProtocol.texts
        scrape.protocols = try protocols(map) ?? inheritedProtocols ?? preferred
        if let node = map.optional("fallback_scrape_protocol") { scrape.fallbackProtocol = try scrapeProtocol(node) }
        scrape.limits.histogramBucketsMax = try bound(map, "native_histogram_bucket_limit", 0)
        if let node = map.optional("native_histogram_min_bucket_factor") {
            let factor = try node.double()
            guard factor >= 0 else { throw node.error("must not be negative") }
            scrape.limits.histogramSchemaMax = factor == 0 ? nil : Self.schema(growingBy: factor)
        }
    }

    /// The coarsest schema whose buckets do not grow by more than `factor` from one to the next.
    private static func schema(growingBy factor: Double) -> Int8 {
        let exact = (-log2(log2(max(factor, 1.00271)))).rounded(.down)
        return Int8(min(max(exact, -4), 8))
    }

    // MARK: - Discovery

    private static let discoveries = ["file_sd_configs", "http_sd_configs", "dns_sd_configs"]

    private func discovery(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        for (index, node) in try map.sequence("static_configs").enumerated() {
            scrape.staticGroups.append(try TargetGroup(node, source: "static/\(index)"))
        }
        for node in try map.sequence("file_sd_configs") { try fileDiscovery(YAMLMapping(node), &scrape) }
        for node in try map.sequence("http_sd_configs") {
            let http = try YAMLMapping(node)
            let url = try http.required("url")
            let text = try url.string()
            guard text.hasPrefix("http://") || text.hasPrefix("https://") else { throw url.error("must begin with http:// or https://") }
            scrape.httpDiscovery.append(
                HTTPDiscovery(
                    url: text, refreshMillis: try positive(http, "refresh_interval", 60_000),
                    connection: try HTTPClientSettings(http, directory: directory)))
            try http.finish()
        }
        for node in try map.sequence("dns_sd_configs") { scrape.dnsDiscovery.append(try dnsDiscovery(YAMLMapping(node))) }
    }

    private func fileDiscovery(_ map: YAMLMapping, _ scrape: inout ScrapeConfiguration) throws(ObsError) {
        let files = try map.required("files")
        for glob in try files.strings() {
            guard [".json", ".yml", ".yaml"].contains(where: { glob.lowercased().hasSuffix($0) }) else {
                throw files.error("\(quoted(glob)) must end in .json, .yml or .yaml")
            }
            scrape.fileGlobs.append(ConfigurationFile.resolve(glob, in: directory))
        }
        _ = try map.durationMillis("refresh_interval", default: 0)  // files are looked at every few seconds anyhow
        try map.finish()
    }

    private func dnsDiscovery(_ map: YAMLMapping) throws(ObsError) -> DNSDiscovery {
        let names = try map.required("names")
        let typeName = try map.string("type", default: "SRV").uppercased()
        guard let type = DNSDiscovery.RecordType(rawValue: typeName) else {
            let known = DNSDiscovery.RecordType.allCases.map(\.rawValue).joined(separator: ", ")
            throw (map.optional("type") ?? map.node).error("unknown type of records \(quoted(typeName)); known are \(known)")
        }
        let discovery = DNSDiscovery(
            names: try names.strings(), type: type, port: try map.int("port", default: 0), refreshMillis: try positive(map, "refresh_interval", 30_000))
        if discovery.names.isEmpty { throw names.error("names no name") }
        guard type == .srv || (1...65_535).contains(discovery.port) else { throw map.node.error("a port is needed for records of type \(typeName)") }
        try map.finish()
        return discovery
    }
}

extension YAMLNode {
    /// The node's content as text, marks left out.
    var fingerprint: String {
        switch content {
        case .scalar(let text, _): "\"\(escapedForQuotes(text))\""
        case .sequence(let elements): "[" + elements.map(\.fingerprint).joined(separator: ",") + "]"
        case .mapping(let entries): "{" + entries.map { "\($0.key):\($0.value.fingerprint)" }.joined(separator: ",") + "}"
        }
    }
}
