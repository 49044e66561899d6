// Where a job's targets come from: static groups, files, HTTP, DNS. The scrape manager looks at them every second. Files are read on the spot when they have
// changed; servers are asked beside the manager, so that a slow one holds up no other, and what they say counts once it is there. A source that fails keeps
// its last good answer.
internal import ObsCore
internal import ObsNet
internal import ObsYAML

/// The sources of one `scrape_configs` entry.
final class TargetDiscovery: Sendable {
    private struct WatchedFile {
        var stamp: String?
        var groups: [TargetGroup] = []
    }

    /// A server that is asked now and then.
    private struct Watched {
        var dueNanos: Int64 = 0
        var isAsked = false
        var groups: [TargetGroup] = []
    }

    private struct State {
        var files: [String: WatchedFile] = [:]
        var urls: [Watched]
        /// One for each name of each entry.
        var names: [Watched]
        /// Counts the changes of what is known.
        var version = 1
    }

    /// What asking servers needs.
    struct Network: Sendable {
        var loop: HTTPClientLoop
        /// For what blocks: resolvers.
        var lookups: WorkerPool
        var clock: any Clock
    }

    private let configuration: ScrapeConfiguration
    /// Names of DNS discovery with their entries.
    private let lookups: [(name: String, entry: DNSDiscovery)]
    private let state: Monitor<State>

    private static let failures = Dictionary(
        uniqueKeysWithValues: ["file", "http", "dns"].map { mechanism in
            (
                mechanism,
                SelfMetrics.counter(
                    "obs_discovery_failures_total", help: "Times a source of targets failed and its last good answer was kept.",
                    labels: Labels([("mechanism", mechanism)]))
            )
        })

    /// - Parameter former: of the same job before its configuration changed: what its servers said holds until they are asked again.
    init(_ configuration: ScrapeConfiguration, former: TargetDiscovery? = nil) {
        self.configuration = configuration
        let lookups = configuration.dnsDiscovery.flatMap { entry in entry.names.map { (name: $0, entry: entry) } }
        self.lookups = lookups
        let known = former?.state.read { $0 }
        let urls = configuration.httpDiscovery.map { entry in
            let index = former?.configuration.httpDiscovery.firstIndex { $0.url == entry.url }
            return Watched(groups: index.flatMap { known?.urls[$0].groups } ?? [])
        }
        let names = lookups.map { wanted in
            let index = former?.lookups.firstIndex {
                $0.name == wanted.name && $0.entry.type == wanted.entry.type && $0.entry.port == wanted.entry.port
            }
            return Watched(groups: index.flatMap { known?.names[$0].groups } ?? [])
        }
        state = Monitor(State(urls: urls, names: names))
    }

    /// All groups as of now, with a number that changes when they do.
    func groups() -> (version: Int, groups: [TargetGroup]) {
        state.read { state in
            let files = state.files.sorted { $0.key < $1.key }.flatMap(\.value.groups)
            return (state.version, configuration.staticGroups + files + state.urls.flatMap(\.groups) + state.names.flatMap(\.groups))
        }
    }

    var version: Int { state.read { $0.version } }

    // MARK: - Files

    /// Reads the files that changed.
    func readFiles() {
        guard !configuration.fileGlobs.isEmpty else { return }
        let paths = Set(configuration.fileGlobs.flatMap { ConfigurationFile.paths(matching: $0) })
        var files = state.read { $0.files }
        var isChanged = false
        for path in files.keys where !paths.contains(path) {
            files[path] = nil
            isChanged = true
        }
        for path in paths {
            let stamp = ConfigurationFile.stamp(path)
            if let known = files[path], known.stamp == stamp { continue }
            isChanged = true
            files[path] = read(path, stamp, files[path])
        }
        guard isChanged else { return }
        state.read { [files] state in
            state.files = files
            state.version += 1
        }
    }

    /// Its groups go with a file; a bad content keeps the former ones.
    private func read(_ path: String, _ stamp: String?, _ known: WatchedFile?) -> WatchedFile {
        guard let stamp else { return WatchedFile() }
        var file = known ?? WatchedFile()
        file.stamp = stamp
        do throws(ObsError) {
            file.groups = try TargetGroup.list(ConfigurationFile.read(path), source: path, meta: [("__meta_filepath", path)])
        } catch {
            Self.failed("file", path, error)
        }
        return file
    }

    private static func failed(_ mechanism: String, _ source: String, _ error: ObsError) {
        failures[mechanism]?.add()
        DiagnosticLog.warn("\(mechanism)_sd: keeping the last good targets", [("source", source), ("error", error.message)])
    }

    // MARK: - Servers

    /// Asks the servers whose time has come. Answers come later, and change `version`.
    func ask(_ network: Network) {
        let now = network.clock.monotonicNanos()
        let (urls, names) = state.read { state -> ([Int], [Int]) in
            var urls: [Int] = []
            var names: [Int] = []
            for index in state.urls.indices where state.urls[index].dueNanos <= now && !state.urls[index].isAsked {
                state.urls[index].isAsked = true
                state.urls[index].dueNanos = now + configuration.httpDiscovery[index].refreshMillis * nanosPerMilli
                urls.append(index)
            }
            for index in state.names.indices where state.names[index].dueNanos <= now && !state.names[index].isAsked {
                state.names[index].isAsked = true
                state.names[index].dueNanos = now + lookups[index].entry.refreshMillis * nanosPerMilli
                names.append(index)
            }
            return (urls, names)
        }
        for index in urls { askURL(index, network) }
        for index in names {
            let isTaken = network.lookups.submit { [self] in lookUp(index) }
            if !isTaken { state.read { $0.names[index].isAsked = false } }
        }
    }

    private func askURL(_ index: Int, _ network: Network) {
        let entry = configuration.httpDiscovery[index]
        do throws(ObsError) {
            var request = try entry.connection.request(url: entry.url)
            request.headers.append(("Accept", "application/json"))
            request.headers.append(("User-Agent", "obsd"))
            request.headers.append(("X-Prometheus-Refresh-Interval-Seconds", formatSampleValue(Double(entry.refreshMillis) / 1000)))
            request.timeoutMillis = Int(min(entry.refreshMillis, 30_000))
            request.responseBytesMax = 64 << 20
            request.acceptGzip = true
            entry.connection.send(request, network.loop, clock: network.clock) { [self] result in
                // Parsing may take a while; the loop has others to serve.
                let isTaken = network.lookups.submit { [self] in finishURL(index, result) }
                if !isTaken { state.read { $0.urls[index].isAsked = false } }
            }
        } catch {
            finishURL(index, .failure(error))
        }
    }

    private func finishURL(_ index: Int, _ result: Result<HTTPClientResponse, ObsError>) {
        let url = configuration.httpDiscovery[index].url
        var groups: [TargetGroup]?
        do throws(ObsError) {
            let answer = try result.get()
            guard answer.status == 200 else { throw ObsError(.unavailable, "server returned HTTP status \(answer.status) \(answer.reason)") }
            let type = answer.header("content-type") ?? ""
            guard type.lowercased().hasPrefix("application/json") else { throw ObsError(.badInput, "unsupported content type \(quoted(type))") }
            groups = try TargetGroup.list(answer.body, source: url, meta: [("__meta_url", url)])
        } catch {
            if error.code != .cancelled { Self.failed("http", url, error) }
        }
        state.read { [groups] state in
            state.urls[index].isAsked = false
            guard let groups, groups != state.urls[index].groups else { return }
            state.urls[index].groups = groups
            state.version += 1
        }
    }

    private func lookUp(_ index: Int) {
        let (name, entry) = lookups[index]
        var groups: [TargetGroup]?
        do throws(ObsError) {
            groups = Self.groups(try DNSQuery.records(name, entry.type.kind), of: name, entry)
        } catch {
            Self.failed("dns", name, error)
        }
        state.read { [groups] state in
            state.names[index].isAsked = false
            guard let groups, groups != state.names[index].groups else { return }
            state.names[index].groups = groups
            state.version += 1
        }
    }

    /// One group for each record: its labels are its own.
    static func groups(_ records: [DNSRecord], of name: String, _ entry: DNSDiscovery) -> [TargetGroup] {
        records.enumerated().map { position, record in
            var host = record.target
            var labels = [(name: "__meta_dns_name", value: name)]
            switch record.kind {
            case .srv: labels += [("__meta_dns_srv_record_target", record.target), ("__meta_dns_srv_record_port", String(record.port))]
            case .mx: labels.append(("__meta_dns_mx_record_target", record.target))
            case .ns: labels.append(("__meta_dns_ns_record_target", record.target))
            case .a, .aaaa: break
            }
            while host.utf8.count > 1, host.hasSuffix(".") { host.removeLast() }
            if record.kind == .aaaa { host = "[\(host)]" }
            let port = record.kind == .srv ? Int(record.port) : entry.port
            return TargetGroup(addresses: ["\(host):\(port)"], labels: Labels(labels), source: "dns/\(name):\(position)")
        }
    }
}

extension DNSDiscovery.RecordType {
    fileprivate var kind: DNSRecord.Kind {
        switch self {
        case .srv: .srv
        case .a: .a
        case .aaaa: .aaaa
        case .mx: .mx
        case .ns: .ns
        }
    }
}
