internal import ObsAPI
internal import ObsCompress
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsLogQL
internal import ObsNet
internal import ObsPromQL
internal import ObsRules
internal import ObsStore
internal import ObsTraceQL
internal import Synchronization

/// The running whole. Parts start in the order of the data path, keeping side first, and stop in the reverse order:
/// doors close before what they feed, and the engine, which flushes, is last.
final class Daemon: Sendable {
    private let configuration: Configuration
    private let engine: StorageEngine
    private let tails: TailHub
    private let scrapes: ScrapeManager
    private let forwarding: Forwarding
    private let pipeline: IngestPipeline
    private let rules: RuleManager
    private let queries: WorkerPool
    private let operations: WorkerPool
    private let file: Mutex<FileConfiguration>
    /// When the configuration in force was read, and whether the last try to read it succeeded.
    private let configured = Mutex<(millis: Int64, isCurrent: Bool)>((0, true))
    private let startedMillis: Int64
    /// Reloads one at a time, whoever asks.
    private let reloading = Mutex(())
    private let servers = Mutex<[HTTPServer]>([])

    /// Milliseconds that running requests get to finish when the daemon stops.
    private static let drainMillis = 5000

    init(_ configuration: Configuration) throws(ObsError) {
        let clock = SystemClock()
        let started = clock.monotonicNanos()
        let limits = configuration.limits
        self.configuration = configuration
        let now = clock.nowMillis()
        startedMillis = now
        configured.withLock { $0.millis = now }
        file = Mutex(configuration.file)

        engine = try StorageEngine.open(
            try Self.engineConfiguration(configuration), fileSystem: LocalFileSystem(), clock: clock, decoder: WireDecoder(limits: limits),
            waitForReplay: false)
        tails = TailHub(limits)
        forwarding = Forwarding(
            queues: RemoteWriteQueues(
                layout: DiskLayout(root: configuration.flags["data"]), fileSystem: LocalFileSystem(), bytesMax: configuration.file.remoteWriteQueues.queueBytes),
            clock: clock, userAgent: "obsd/\(Obsd.build.version)")
        let cardinality = CardinalityGuard(clock: clock, stored: Self.storedLabels(engine, limits))
        pipeline = IngestPipeline(appender: engine, tails: tails, limits: limits, clock: clock, forwarding: forwarding, cardinality: cardinality)
        let sink = SampleSink(pipeline: pipeline)
        let promQL = PromQLEngine(
            reader: engine, options: configuration.flags.isOn("promql-experimental") ? .experimental : PromQLOptions(), threads: ScanWorkers.threadsDefault)
        operations = WorkerPool(name: "operation", threads: 1, queueMax: 16)
        queries = WorkerPool(name: "query", threads: limits.queryConcurrency, queueMax: limits.queryQueueMax)
        scrapes = ScrapeManager(sink: sink, clock: clock, userAgent: "obsd/\(Obsd.build.version)", memory: limits.memory.ingest)
        rules = RuleManager(
            querier: PromQLQuerier(engine: promQL, limits: limits, clock: clock), sink: sink, store: Self.alertStateStore(configuration.flags["data"]),
            clock: clock)
        let services = Services(
            clock: clock, limits: limits, authenticator: configuration.authenticator, pipeline: pipeline, tails: tails, reader: engine, store: engine,
            promQL: promQL,
            logQL: LogQLEngine(reader: engine), traceQL: TraceQLEngine(reader: engine), rules: rules, scrapes: scrapes, queries: queries,
            operations: operations,
            lifecycle: lifecycle(),
            build: Obsd.build)
        ProcessMetrics.register(store: engine, build: Obsd.build.version)
        limits.memory.registerMetrics()
        Self.tell(configuration.memory, limits)
        try apply(configuration.file)
        scrapes.start()
        startThread("rules-start") { [engine, rules] in
            // Over half of the data a rule would say what is not so.
            guard engine.waitReplayed() else { return }
            rules.start()
            DiagnosticLog.info("ready", [("took_ms", String((clock.monotonicNanos() - started) / nanosPerMilli))])
        }
        try listen(Routes(services))
        DiagnosticLog.info("started", [("took_ms", String((clock.monotonicNanos() - started) / nanosPerMilli)), ("version", Obsd.build.version)])
    }

    // MARK: Start

    /// Label sets of a tenant since a time, for the guard. False while the log is replayed.
    private static func storedLabels(_ engine: StorageEngine, _ limits: Limits) -> @Sendable (TenantID, Int64, (Labels) -> Void) -> Bool {
        { [engine] tenant, since, use in
            do throws(ObsError) {
                let context = QueryContext(tenant: tenant, limits: limits)
                try engine.forEachLabelSet(.metrics, [], range: since...Int64.max, context: context) { use($0) }
                return true
            } catch {
                if error.code == .unavailable { return false }
                DiagnosticLog.warn("labels of the store not counted; the guard on cardinality begins with none", [("error", error.description)])
                return true
            }
        }
    }

    private static func engineConfiguration(_ configuration: Configuration) throws(ObsError) -> EngineConfiguration {
        var engine = EngineConfiguration(dataDirectory: configuration.flags["data"], retentionMillis: configuration.retentionMillis)
        engine.retention = try configuration.retention(of: configuration.file)
        engine.freeBytesMin = configuration.file.storage.freeBytesMin
        engine.durability = configuration.durability
        engine.limits = configuration.limits
        engine.apply(configuration.memory)
        return engine
    }

    private static func tell(_ shares: MemoryShares, _ limits: Limits) {
        DiagnosticLog.info(
            "memory",
            [
                ("ceiling_bytes", "\(shares.ceilingBytes)"), ("head_bytes_max", "\(shares.headBytesMax)"), ("ingest_bytes_max", "\(shares.ingestBytesMax)"),
                ("queries_bytes_max", "\(shares.queriesBytesMax)"), ("request_bytes_max", "\(limits.requestBytesMax)"),
                ("decoded_bytes_max", "\(limits.decodedBytesMax)"),
            ])
        if let available = SystemMemory.availableBytes(), shares.ceilingBytes > available {
            DiagnosticLog.warn("memory is more than there is", [("ceiling_bytes", "\(shares.ceilingBytes)"), ("available_bytes", "\(available)")])
        }
    }

    /// Alert state is one small file, replaced whole.
    private static func alertStateStore(_ data: String) -> AlertStateStore {
        let folder = DiskLayout(root: data).state
        let path = "\(folder)/alerts.json"
        let disk = LocalFileSystem()
        return AlertStateStore(
            read: { try? disk.readAll(path) },
            write: { bytes throws(ObsError) in
                try disk.makeDirectories(folder)
                try disk.writeAtomically(path, bytes)
            })
    }

    private func lifecycle() -> Lifecycle {
        Lifecycle(
            notReady: { [engine] in
                let status = engine.status()
                guard let progress = status.replay else { return nil }
                let parts = status.signals.map { signal in
                    guard let replay = signal.replay else { return "\(signal.signal.rawValue) done" }
                    return "\(signal.signal.rawValue) \(replay.bytesDone) of \(replay.bytesTotal) bytes"
                }
                return "replaying the log: \(Int(progress.share * 100)) % done (\(parts.joined(separator: ", ")))"
            },
            reload: { [weak self] in self?.reload() },
            configuration: { [weak self] in self?.file.withLock(\.text) ?? "" },
            runtime: { [weak self] in self?.runtimeInfo() ?? RuntimeInfo() },
            externalLabels: { [weak self] in Labels(self?.file.withLock(\.prometheus.global.externalLabels) ?? []) },
            alertmanagers: { [weak self] in self?.file.withLock { $0.alerting.alertmanagers.map(\.url) } ?? [] })
    }

    private func runtimeInfo() -> RuntimeInfo {
        var info = RuntimeInfo()
        info.startedMillis = startedMillis
        (info.configuredMillis, info.isConfigurationCurrent) = configured.withLock { $0 }
        info.retentionMillis = configuration.retentionMillis
        info.memoryBytesMax = configuration.memory.ceilingBytes
        info.flags = configuration.flags.inForce
        let bytes = file.withLock { try? configuration.retention(of: $0).bytes }
        let bounds = [configuration.retentionMillis.map { formatDuration(millis: $0) }, bytes.map { formatByteSize(Int($0)) }]
        info.retention = bounds.compactMap { $0 }.joined(separator: " or ")
        return info
    }

    private func listen(_ routes: Routes) throws(ObsError) {
        for (name, router) in [("http", routes.main()), ("otlp-http", routes.otlpListener())] {
            guard let address = configuration.flags.address(name) else { continue }
            var settings = HTTPServerConfiguration(name: name, address: address)
            settings.bodyBytesMax = configuration.limits.requestBytesMax
            settings.connectionsMax = configuration.memory.connectionsMax
            settings.bodyMemory = configuration.limits.memory.ingest
            settings.answerMemory = configuration.limits.memory.queries
            settings.refuse = { routes.refuse($0, $1) }
            settings.tls = configuration.tls
            settings.compress = { gzipCompress($0) }
            let server = try HTTPServer(settings, admit: { routes.admit($0) }, handle: { router.dispatch($0, $1) })
            servers.withLock { $0.append(server) }
            DiagnosticLog.info("listening", [("listener", name), ("address", server.address)])
        }
    }

    // MARK: Reload

    /// Reads the configuration file again: all of it takes effect, or nothing and the error says why.
    func reload() -> ObsError? {
        reloading.withLock { _ in
            do throws(ObsError) {
                let file = try FileConfiguration(path: configuration.flags["config"])
                try apply(file)
                self.file.withLock { $0 = file }
                configured.withLock { $0 = (SystemClock().nowMillis(), true) }
                DiagnosticLog.info("configuration reloaded")
                return nil
            } catch {
                configured.withLock { $0.isCurrent = false }
                DiagnosticLog.error("configuration not reloaded; the former one stays in force", [("error", error.description)])
                return error
            }
        }
    }

    private func apply(_ file: FileConfiguration) throws(ObsError) {
        // What can fail comes first, so that a failure changes nothing.
        try forwarding.apply(file.remoteWrites.entries, queueAgeMillis: file.remoteWriteQueues.queueAgeMillis)
        let ruleFiles = try rules.load(file.alerting.ruleFiles)
        let retention = try configuration.retention(of: file)
        for warning in file.warnings { DiagnosticLog.warn(warning) }
        let settings = ruleSettings(file.prometheus.global)
        let webhook = configuration.flags["alert-webhook"]
        rules.deliver(
            webhook: webhook.isEmpty ? nil : WebhookNotifier(url: webhook, externalURL: settings.externalURL),
            alertmanager: file.alerting.alertmanagers.isEmpty ? nil : AlertmanagerNotifier(endpoints: file.alerting.alertmanagers))
        rules.apply(ruleFiles, settings: settings)
        pipeline.setOTLP(file.otlp)
        scrapes.apply(file.prometheus.scrapes)
        engine.setRetention(retention)
        pipeline.cardinality.set(file.cardinality)
    }

    private func ruleSettings(_ global: PrometheusConfiguration.Global) -> RuleSettings {
        var settings = RuleSettings()
        settings.externalLabels = Labels(global.externalLabels)
        settings.evaluationIntervalMillis = global.evaluationIntervalMillis
        settings.queryOffsetMillis = global.ruleQueryOffsetMillis
        let given = configuration.flags["external-url"]
        let address = configuration.flags.address("http") ?? ""
        settings.externalURL = given.isEmpty ? "\(configuration.tls == nil ? "http" : "https")://\(address)" : given
        while settings.externalURL.hasSuffix("/") { settings.externalURL.removeLast() }
        return settings
    }

    // MARK: Stop

    /// Closes the doors, lets running requests finish, flushes.
    func stop() {
        DiagnosticLog.info("stopping")
        scrapes.stop()
        rules.stop()
        tails.stop()
        for server in servers.withLock({ $0 }) { server.stop(drainMillis: Self.drainMillis) }
        forwarding.stop()
        queries.stop()
        operations.stop()
        engine.close()
        DiagnosticLog.info("stopped")
    }
}

/// Scrapes and rules write like everyone: through the pipeline.
private struct SampleSink: ScrapeSink, RuleSampleSink {
    let pipeline: IngestPipeline

    func write(_ batch: MetricBatch) throws(ObsError) { _ = try pipeline.ingest(batch, tenant: .default) }

    func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void) {
        pipeline.ingest(batch, tenant: .default) { result in
            if case .failure(let error) = result { completion(error) } else { completion(nil) }
        }
    }
}
