// Keeps every target of every job scraped: one thread looks at the clock and at the sources of targets, a pool of threads waits on the network.
//
// A target's scrapes lie at `offset + k · interval`, the offset a hash of what it is: load is spread, and the same after a restart. A target is known by its labels
// and URL, so a reload or a rewritten target file leaves those alone that stay. One that goes is waited for a while (it may only move from one file to
// another), then its series end at the first scrape that did not happen.
package import ObsCore
internal import ObsHash
package import ObsNet
internal import ObsWire
internal import Synchronization

/// Where scraped samples go: the pipeline.
package protocol ScrapeSink: Sendable {
    func write(_ batch: MetricBatch) throws(ObsError)
}

/// A target for `/api/v1/targets`.
package struct TargetStatus: Sendable {
    package enum Health: String, Sendable {
        case unknown, up, down
    }

    package var pool: String
    package var discoveredLabels: Labels
    package var labels: Labels
    package var url: String
    package var health: Health
    package var lastError: String
    /// Nil before the first scrape.
    package var lastScrapeNanos: Int64?
    package var lastScrapeSeconds: Double
    package var intervalMillis: Int64
    package var timeoutMillis: Int64
}

package struct ScrapeStatus: Sendable {
    package var active: [TargetStatus] = []
    /// What relabeling dropped.
    package var dropped: [(pool: String, discoveredLabels: Labels)] = []
    package var pools: [String] = []
    package init() {}
}

/// What a target says of a metric family.
package struct TargetMetadata: Sendable {
    package var target: Labels
    package var family: String
    package var type: MetricType
    package var help: String
    package var unit: String
}

package final class ScrapeManager: Sendable {
    private struct Pool {
        var configuration: ScrapeConfiguration
        var discovery: TargetDiscovery
        var groups: [TargetGroup] = []
        var targets: [String: ScrapedTarget] = [:]
        var dropped: [Labels] = []
        var overTargetLimit = false
    }

    /// A target that went away: its series end unless it comes back.
    private struct Ending {
        var target: ScrapedTarget
        /// Of the first scrape that did not happen.
        var missedMillis: Int64
        var dueMillis: Int64
    }

    private struct State {
        var pools: [Pool] = []
        var endings: [Ending] = []
        var isStopping = false
        var isRunning = false
    }

    private let sink: any ScrapeSink
    private let clock: any Clock
    private let client: HTTPClient
    private let userAgent: String
    /// Where answers are counted while they are received and decoded.
    private let memory: MemoryAccount
    private let state = Monitor(State())
    /// Only one thread discovers at a time; it may wait for the network.
    private let discovering = Mutex(())

    private static let threads = 32
    private static let droppedShownMax = 1000
    private static let discoveryMillis: Int64 = 5000

    package init(
        sink: any ScrapeSink, clock: any Clock = SystemClock(), client: HTTPClient = HTTPClient(), userAgent: String = "obsd",
        memory: MemoryAccount = MemoryBudget.unbounded.ingest
    ) {
        self.sink = sink
        self.clock = clock
        self.client = client
        self.userAgent = userAgent
        self.memory = memory
    }

    // MARK: - Configuration

    /// Puts jobs in force. A job whose entry did not change keeps everything; of others, targets that stay keep their series.
    package func apply(_ configurations: [ScrapeConfiguration]) {
        state.update { state in
            var old = Dictionary(state.pools.map { ($0.configuration.jobName, $0) }, uniquingKeysWith: { a, _ in a })
            state.pools = configurations.map { configuration in
                guard var pool = old.removeValue(forKey: configuration.jobName) else {
                    return Pool(configuration: configuration, discovery: TargetDiscovery(configuration))
                }
                if pool.configuration.fingerprint != configuration.fingerprint {
                    pool.configuration = configuration
                    pool.discovery = TargetDiscovery(configuration)
                    for target in pool.targets.values { target.reconfigure(configuration) }
                }
                return pool
            }
            for pool in old.values { for target in pool.targets.values { retire(target, &state) } }
        }
        discover()
    }

    /// Asks all sources for their targets and follows what changed.
    private func discover() {
        discovering.withLock { _ in
            let pools = state.read { $0.pools }
            for pool in pools {
                // Outside the lock: files and HTTP may take their time.
                var discovery = pool.discovery
                let groups = discovery.groups(client: client, monotonicNanos: clock.monotonicNanos())
                state.update { state in
                    guard
                        let index = state.pools.firstIndex(where: {
                            $0.configuration.fingerprint == pool.configuration.fingerprint && $0.configuration.jobName == pool.configuration.jobName
                        })
                    else { return }
                    state.pools[index].discovery = discovery
                    follow(groups, index, &state)
                }
            }
        }
    }

    private func follow(_ groups: [TargetGroup], _ index: Int, _ state: inout State) {
        let configuration = state.pools[index].configuration
        var wanted: [String: ScrapedTarget] = [:]
        var dropped: [Labels] = []
        for group in groups {
            for address in group.addresses {
                switch ScrapeTarget.make(address: address, group: group, configuration: configuration) {
                case .target(let target):
                    let key = target.identity
                    if wanted[key] != nil { continue }
                    wanted[key] = existing(key, index, &state) ?? ScrapedTarget(target, configuration: configuration, nowMillis: clock.nowMillis())
                    wanted[key]?.update(target)
                case .dropped(let discovered): dropped.append(discovered)
                case .invalid(let discovered, let reason):
                    if groups != state.pools[index].groups {
                        DiagnosticLog.warn("target is not scraped", [("job", configuration.jobName), ("target", "\(discovered)"), ("error", reason)])
                    }
                }
            }
        }
        for (key, target) in state.pools[index].targets where wanted[key] == nil { retire(target, &state) }
        state.pools[index].groups = groups
        state.pools[index].targets = wanted
        state.pools[index].dropped = dropped
        let limit = configuration.limits.targetsMax
        state.pools[index].overTargetLimit = limit > 0 && wanted.count > limit
    }

    /// A target that is there already, or was until a moment ago.
    private func existing(_ key: String, _ index: Int, _ state: inout State) -> ScrapedTarget? {
        if let target = state.pools[index].targets[key] { return target }
        guard let at = state.endings.firstIndex(where: { $0.target.identity == key }) else { return nil }
        let target = state.endings.remove(at: at).target
        target.reconfigure(state.pools[index].configuration)
        target.resume(nowMillis: clock.nowMillis())
        return target
    }

    private func retire(_ target: ScrapedTarget, _ state: inout State) {
        let missed = target.dueMillis
        let interval = target.target.intervalMillis
        target.stop()
        state.endings.append(Ending(target: target, missedMillis: missed, dueMillis: missed + interval + interval / 10))
    }

    // MARK: - Schedule

    package func start() {
        let starts = state.update { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        guard starts else { return }
        startThread("scrape-sched") { [self] in schedule() }
        startThread("discovery") { [self] in
            while state.wait(timeoutNanos: Self.discoveryMillis * nanosPerMilli, until: { $0.isStopping ? () : nil }) == nil { discover() }
        }
    }

    /// Lets running scrapes end (each within its timeout). No stale markers: the targets are not gone, we are.
    package func stop() {
        state.update { $0.isStopping = true }
        _ = state.wait(timeoutNanos: 30 * nanosPerSecond) { $0.isRunning ? nil : () }
    }

    private func schedule() {
        let pool = WorkerPool(name: "scrape", threads: Self.threads, queueMax: 100_000, stackBytes: 1 << 20)
        while !state.read({ $0.isStopping }) {
            let now = clock.nowMillis()
            var next = now + 1000
            let pools = state.read { $0.pools }
            for entry in pools {
                for target in entry.targets.values {
                    if let tick = target.takeTick(at: now) {
                        let submitted = pool.submit { [self] in scrape(target, entry.configuration, atMillis: tick, overTargetLimit: entry.overTargetLimit) }
                        if !submitted { target.finish() }
                    }
                    next = min(next, target.dueMillis)
                }
            }
            endTargets(at: now)
            _ = state.wait(timeoutNanos: max(1, next - now) * nanosPerMilli) { $0.isStopping ? () : nil }
        }
        pool.stop()
        state.update { $0.isRunning = false }
    }

    private func endTargets(at now: Int64) {
        let due = state.read { state -> [Ending] in
            let due = state.endings.filter { $0.dueMillis <= now }
            if due.isEmpty { return [] }
            state.endings.removeAll { $0.dueMillis <= now }
            // Another target that writes the same series goes on with them.
            let live = Set(state.pools.flatMap { $0.targets.values.map(\.target.labels) })
            return due.filter { !live.contains($0.target.target.labels) }
        }
        for ending in due { write(ending.target.end(atMillis: ending.missedMillis), of: ending.target.target) }
    }

    // MARK: - Scrape

    private func scrape(_ target: ScrapedTarget, _ configuration: ScrapeConfiguration, atMillis tick: Int64, overTargetLimit: Bool) {
        defer { target.finish() }
        let start = clock.monotonicNanos()
        var answer: Result<MetricBatch, ObsError>
        do throws(ObsError) {
            if overTargetLimit { throw ObsError(.limitExceeded, "target_limit exceeded (limit is \(configuration.limits.targetsMax))") }
            answer = .success(try fetch(target.target, configuration))
        } catch {
            answer = .failure(error)
        }
        let seconds = Double(clock.monotonicNanos() - start) / 1e9
        if let batch = target.take(answer, atMillis: tick, seconds: seconds) { write(batch, of: target.target) }
    }

    private func fetch(_ target: ScrapeTarget, _ configuration: ScrapeConfiguration) throws(ObsError) -> MetricBatch {
        var request = try configuration.connection.request(url: target.url)
        request.headers.append(("Accept", ScrapeFormat.accept))
        request.headers.append(("User-Agent", userAgent))
        request.headers.append(("X-Prometheus-Scrape-Timeout-Seconds", formatSampleValue(Double(target.timeoutMillis) / 1000)))
        request.acceptGzip = configuration.compression
        if !configuration.compression { request.headers.append(("Accept-Encoding", "identity")) }
        request.timeoutMillis = Int(target.timeoutMillis)
        request.connectTimeoutMillis = Int(target.timeoutMillis)
        request.responseBytesMax = configuration.limits.bodyBytesMax > 0 ? configuration.limits.bodyBytesMax : Limits().decodedBytesMax
        let held = MemoryReservation(memory)
        defer { held.end() }
        request.memory = held
        let answer = try client.perform(request)
        guard answer.status == 200 else { throw ObsError(.unavailable, "server returned HTTP status \(answer.status)") }
        let type = answer.header("content-type") ?? ""
        guard let format = ScrapeFormat(contentType: type) ?? configuration.fallbackProtocol.flatMap({ ScrapeFormat(fallbackProtocol: $0) }) else {
            throw ObsError(
                .unsupportedType,
                type.isEmpty
                    ? "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                    : "received unsupported Content-Type \(quoted(type)) and no fallback_scrape_protocol specified for target")
        }
        // What decoding holds beside the text.
        try held.grow(answer.body.count * (MemoryShares.decodingFactor - 1))
        return try PrometheusText.parse(answer.body, format: format)
    }

    private func write(_ batch: MetricBatch, of target: ScrapeTarget) {
        do throws(ObsError) { try sink.write(batch) } catch {
            DiagnosticLog.warn("a scrape was not stored", [("target", target.url), ("error", error.message)])
        }
    }

    // MARK: - Status

    package func status() -> ScrapeStatus {
        state.read { state in
            var status = ScrapeStatus()
            for pool in state.pools {
                status.pools.append(pool.configuration.jobName)
                let targets = pool.targets.values.sorted {
                    $0.target.url != $1.target.url ? $0.target.url < $1.target.url : $0.target.labels < $1.target.labels
                }
                for target in targets { status.active.append(target.status(pool: pool.configuration.jobName)) }
                for labels in pool.dropped.prefix(Self.droppedShownMax) { status.dropped.append((pool.configuration.jobName, labels)) }
            }
            return status
        }
    }

    /// Metadata of all targets as last scraped.
    package func metadata() -> [TargetMetadata] { state.read { $0.pools.flatMap { $0.targets.values } }.flatMap { $0.metadata() } }
}
