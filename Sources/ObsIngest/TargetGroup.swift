internal import ObsCore
internal import ObsYAML

/// `{targets: [host:port, …], labels: {…}}`: the one form of static configs, file and HTTP discovery.
struct TargetGroup: Sendable, Equatable {
    var addresses: [String]
    var labels: Labels
    /// Where it came from, unique within its configuration.
    var source: String

    init(addresses: [String], labels: Labels, source: String) {
        self.addresses = addresses
        self.labels = labels
        self.source = source
    }

    init(_ node: YAMLNode, source: String, meta: [(name: String, value: String)] = []) throws(ObsError) {
        let map = try YAMLMapping(node)
        addresses = try map.strings("targets")
        labels = Labels(try map.stringPairs("labels") + meta)
        self.source = source
        try map.finish()
    }

    /// A document of groups, YAML or JSON (which YAML contains).
    static func list(_ bytes: [UInt8], source: String, meta: [(name: String, value: String)]) throws(ObsError) -> [TargetGroup] {
        var groups: [TargetGroup] = []
        for node in try YAMLNode.parse(bytes).sequence() { groups.append(try TargetGroup(node, source: "\(source):\(groups.count)", meta: meta)) }
        return groups
    }
}

/// A target, after relabeling.
struct ScrapeTarget: Sendable {
    /// Labels its series get: no name begins with `__`.
    var labels: Labels
    /// Before relabeling, for `/api/v1/targets`.
    var discovered: Labels
    var url: String
    var intervalMillis: Int64
    var timeoutMillis: Int64

    enum Outcome {
        case target(ScrapeTarget)
        /// A relabel rule dropped it.
        case dropped(discovered: Labels)
        case invalid(discovered: Labels, reason: String)
    }

    /// One target of a group: its own labels and the job's, relabeled (contract prometheus.md §2, "Target labels").
    static func make(address: String, group: TargetGroup, configuration: ScrapeConfiguration) -> Outcome {
        var builder = LabelsBuilder(group.labels)
        builder.set("__address__", address)
        func setIfAbsent(_ name: String, _ value: String) { if builder[name] == nil { builder.set(name, value) } }
        setIfAbsent("job", configuration.jobName)
        setIfAbsent("__scrape_interval__", formatDuration(millis: configuration.intervalMillis))
        setIfAbsent("__scrape_timeout__", formatDuration(millis: configuration.timeoutMillis))
        setIfAbsent("__metrics_path__", configuration.metricsPath)
        setIfAbsent("__scheme__", configuration.scheme)
        for parameter in configuration.parameters { if let first = parameter.values.first { setIfAbsent("__param_" + parameter.name, first) } }
        let discovered = builder.labels()
        guard configuration.relabeling.apply(to: &builder) else { return .dropped(discovered: discovered) }
        do throws(ObsError) {
            return .target(try ScrapeTarget(relabeled: builder, discovered: discovered, configuration: configuration))
        } catch {
            return .invalid(discovered: discovered, reason: error.message)
        }
    }

    private init(relabeled: LabelsBuilder, discovered: Labels, configuration: ScrapeConfiguration) throws(ObsError) {
        var builder = relabeled
        let address = builder["__address__"] ?? ""
        guard !address.isEmpty else { throw ObsError(.badInput, "no address") }
        guard !address.contains("/") else { throw ObsError(.badInput, "\(quoted(address)) is not a valid hostname") }
        intervalMillis = try Self.duration(builder, "__scrape_interval__")
        timeoutMillis = try Self.duration(builder, "__scrape_timeout__")
        guard timeoutMillis <= intervalMillis else { throw ObsError(.badInput, "scrape timeout is longer than the scrape interval") }
        url = Self.url(builder, address, configuration)
        if builder["instance"] == nil { builder.set("instance", address) }
        builder.filter { !$0.hasPrefix("__") }
        labels = builder.labels()
        self.discovered = discovered
    }

    private static func duration(_ labels: LabelsBuilder, _ name: String) throws(ObsError) -> Int64 {
        let text = labels[name] ?? ""
        guard let millis = parseDurationMillis(text), millis > 0 else { throw ObsError(.badInput, "\(name) \(quoted(text)) is not a duration longer than 0") }
        return millis
    }

    private static func url(_ labels: LabelsBuilder, _ address: String, _ configuration: ScrapeConfiguration) -> String {
        var parameters = configuration.parameters
        for pair in labels.labels().pairs where pair.name.hasPrefix("__param_") {
            let name = String(pair.name.dropFirst("__param_".count))
            if let at = parameters.firstIndex(where: { $0.name == name && !$0.values.isEmpty }) {
                parameters[at].values[0] = pair.value
            } else {
                parameters.append((name, [pair.value]))
            }
        }
        let query = parameters.sorted { $0.name < $1.name }.flatMap { parameter in
            parameter.values.map { "\(queryEncode(parameter.name))=\(queryEncode($0))" }
        }.joined(separator: "&")
        var path = labels["__metrics_path__"] ?? ""
        if !path.isEmpty, !path.hasPrefix("/") { path = "/" + path }
        return "\(labels["__scheme__"] ?? "http")://\(address)\(pathEncode(path))" + (query.isEmpty ? "" : "?" + query)
    }

    private static func queryEncode(_ text: String) -> String { encode(text, "-_.~") }
    private static func pathEncode(_ text: String) -> String { encode(text, "-_.~/:@!$&'()*+,;=%") }

    private static func encode(_ text: String, _ kept: String) -> String {
        var result = ""
        for byte in text.utf8 {
            let scalar = Unicode.Scalar(byte)
            if byte < 0x80, scalar.properties.isAlphabetic || scalar.properties.numericType != nil || kept.unicodeScalars.contains(scalar) {
                result.unicodeScalars.append(scalar)
            } else {
                result += "%" + hexString([byte]).uppercased()
            }
        }
        return result
    }
}
