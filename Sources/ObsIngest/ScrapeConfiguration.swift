// `global` and `scrape_configs` of a prometheus.yml as values; ScrapeConfigurationReader makes them.
package import ObsCore
internal import ObsWire
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

    /// Reads `global`, `scrape_configs` and `scrape_config_files` of the root mapping; the caller reads the rest and calls `finish()`.
    /// - Parameter directory: of the file, for relative paths in it.
    /// - Throws: `.badInput` naming path and line, and the file where it is another one.
    package init(_ root: YAMLMapping, directory: String) throws(ObsError) {
        var reader = ScrapeConfigurationReader(directory: directory)
        if let map = try root.mapping("global") { global = try reader.global(map) }
        reader.defaults = global
        try add(root.sequence("scrape_configs"), &reader)
        for pattern in try root.strings("scrape_config_files") {
            for path in ConfigurationFile.paths(matching: ConfigurationFile.resolve(pattern, in: directory)) { try addFile(path, &reader) }
        }
        reader.warn(root.skip(["remote_read", "storage", "tracing", "runtime"]))
        warnings = reader.warnings
    }

    private mutating func add(_ nodes: [YAMLNode], _ reader: inout ScrapeConfigurationReader) throws(ObsError) {
        for node in nodes {
            let scrape = try reader.scrape(node)
            guard !scrapes.contains(where: { $0.jobName == scrape.jobName }) else { throw node.error("job name \(quoted(scrape.jobName)) is used twice") }
            scrapes.append(scrape)
        }
    }

    private mutating func addFile(_ path: String, _ reader: inout ScrapeConfigurationReader) throws(ObsError) {
        do throws(ObsError) {
            let map = try YAMLMapping(YAMLNode.parse(ConfigurationFile.read(path)))
            try add(map.sequence("scrape_configs"), &reader)
            try map.finish()
        } catch {
            throw ObsError(error.code, "\(path): \(error.message)", place: error.place)
        }
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
    var protocols = ScrapeProtocol.texts
    var fallbackProtocol: ScrapeProtocol?
    var exposition = ExpositionOptions()
    /// Names may hold nothing but letters, digits, `_` and `:`.
    var hasLegacyNames = false
    /// What targets shall do with names that are not legacy ones.
    var escaping = "allow-utf-8"
    /// Writes `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` too.
    var hasExtraMetrics = false
    /// Targets that relabeling dropped and that are shown; 0 is all.
    var droppedTargetsKept = 0
    var limits = ScrapeLimits()
    var connection = HTTPClientSettings()
    var relabeling: [RelabelRule] = []
    var metricRelabeling: [RelabelRule] = []
    var staticGroups: [TargetGroup] = []
    var fileGlobs: [String] = []
    var httpDiscovery: [HTTPDiscovery] = []
    var dnsDiscovery: [DNSDiscovery] = []
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
    /// Of a native histogram: one of more is made coarser first, and fails the scrape when that does not help.
    var histogramBucketsMax = 0
    /// Finer histograms are made coarser.
    var histogramSchemaMax: Int8?
}

struct HTTPDiscovery: Sendable {
    var url: String
    var refreshMillis: Int64
    var connection: HTTPClientSettings
}

struct DNSDiscovery: Sendable {
    enum RecordType: String, Sendable, CaseIterable {
        case srv = "SRV"
        case a = "A"
        case aaaa = "AAAA"
        case mx = "MX"
        case ns = "NS"
    }

    var names: [String]
    var type: RecordType
    /// Of the targets; SRV records bring their own.
    var port: Int
    var refreshMillis: Int64
}
