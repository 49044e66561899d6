// Keeps every target of every job scraped. One thread looks at the clock, one waits for all answers at once, a few read them: however many targets are slow, or
// never answer, or send too much, the others are scraped when it is their time. One more thread looks for targets.
//
// A target's scrapes lie at `offset + k · interval`, the offset a hash of what it is: load is spread, and the same after a restart. A target is known by its labels
// and URL, so a reload or a rewritten target file leaves those alone that stay. One that goes is waited for a while (it may only move from one file to
// another), then its series end at the first scrape that did not happen.
package import ObsCore
internal import ObsHash
internal import ObsNet
internal import Synchronization

/// Where scraped samples go: the pipeline.
package protocol ScrapeSink: Sendable {
    /// `completion` runs once: when the samples are stored, or with why they are not. It hands over and returns.
    func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void)
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
    /// How many each job dropped: `dropped` may have fewer (`keep_dropped_targets`).
    package var droppedCounts: [(pool: String, count: Int)] = []
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
        /// Of the discovery's groups that are followed.
        var version = 0
        var targets: [String: ScrapedTarget] = [:]
        var dropped: [Labels] = []
        var droppedCount = 0
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
        var schedule = ScrapeSchedule()
        var endings: [Ending] = []
        var isStopping = false
        var isRunning = false
        var running = 0
        var network: TargetDiscovery.Network?
    }

    private let sink: any ScrapeSink
    private let clock: any Clock
    private let userAgent: String
    /// Where answers are counted while they are received and decoded.
    private let memory: MemoryAccount
    private let state = Monitor(State())
    /// Only one thread follows sources at a time; files may take their time.
    private let discovering = Mutex(())
    private let metrics = ScrapeMetrics()

    private static let readers = 4
    private static let discoveryMillis: Int64 = 1000
    private static let stopMillis: Int64 = 5000

    package init(
        sink: any ScrapeSink, clock: any Clock = SystemClock(), userAgent: String = "obsd", memory: MemoryAccount = MemoryBudget.unbounded.ingest
    ) {
        self.sink = sink
        self.clock = clock
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
                    pool.discovery = TargetDiscovery(configuration, former: pool.discovery)
                    pool.version = 0
                    for target in pool.targets.values { target.reconfigure(configuration) }
                }
                return pool
            }
            for pool in old.values { for target in pool.targets.values { retire(target, &state) } }
        }
        discover()
    }

    /// Looks at all sources and follows what changed.
    private func discover() {
        discovering.withLock { _ in
            for pool in state.read({ $0.pools }) {
                pool.discovery.readFiles()
                guard pool.discovery.version != pool.version else { continue }
                let (version, groups) = pool.discovery.groups()
                let found = Self.targets(groups, pool.configuration)
                state.update { state in
                    guard let index = state.pools.firstIndex(where: { $0.discovery === pool.discovery }) else { return }
                    state.pools[index].version = version
                    follow(found, index, &state)
                }
            }
        }
    }

    /// What groups come to, relabeled.
    private static func targets(_ groups: [TargetGroup], _ configuration: ScrapeConfiguration) -> (targets: [ScrapeTarget], dropped: [Labels]) {
        var targets: [ScrapeTarget] = []
        var dropped: [Labels] = []
        for group in groups {
            for address in group.addresses {
                switch ScrapeTarget.make(address: address, group: group, configuration: configuration) {
                case .target(let target): targets.append(target)
                case .dropped(let discovered): dropped.append(discovered)
                case .invalid(let discovered, let reason):
                    DiagnosticLog.warn("target is not scraped", [("job", configuration.jobName), ("target", "\(discovered)"), ("error", reason)])
                }
            }
        }
        return (targets, dropped)
    }

    private func follow(_ found: (targets: [ScrapeTarget], dropped: [Labels]), _ index: Int, _ state: inout State) {
        let configuration = state.pools[index].configuration
        let now = clock.nowMillis()
        var wanted: [String: ScrapedTarget] = [:]
        for target in found.targets {
            let key = target.identity
            if wanted[key] == nil { wanted[key] = existing(key, index, &state) ?? started(target, configuration, now, &state) }
            wanted[key]?.update(target)
        }
        for (key, target) in state.pools[index].targets where wanted[key] == nil { retire(target, &state) }
        state.pools[index].targets = wanted
        let kept = configuration.droppedTargetsKept
        state.pools[index].dropped = kept > 0 ? Array(found.dropped.prefix(kept)) : found.dropped
        state.pools[index].droppedCount = found.dropped.count
        let limit = configuration.limits.targetsMax
        let refusal =
            limit > 0 && wanted.count > limit
            ? ObsError(.limitExceeded, "target_limit exceeded (number of targets: \(wanted.count), limit: \(limit))") : nil
        if refusal != nil { metrics.targetLimit.add() }
        for target in wanted.values { target.refuse(refusal) }
    }

    private func started(_ target: ScrapeTarget, _ configuration: ScrapeConfiguration, _ now: Int64, _ state: inout State) -> ScrapedTarget {
        let started = ScrapedTarget(target, configuration: configuration, nowMillis: now)
        state.schedule.add(started, dueMillis: started.dueMillis)
        return started
    }

    /// A target that is there already, or was until a moment ago.
    private func existing(_ key: String, _ index: Int, _ state: inout State) -> ScrapedTarget? {
        if let target = state.pools[index].targets[key] { return target }
        guard let at = state.endings.firstIndex(where: { $0.target.identity == key }) else { return nil }
        let target = state.endings.remove(at: at).target
        target.reconfigure(state.pools[index].configuration)
        target.resume(nowMillis: clock.nowMillis())
        state.schedule.add(target, dueMillis: target.dueMillis)
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
        let network = TargetDiscovery.Network(
            loop: HTTPClientLoop(name: "scrape-net"), lookups: WorkerPool(name: "discovery", threads: 4, queueMax: 10_000, stackBytes: 1 << 20), clock: clock)
        let starts = state.update { state in
            guard !state.isRunning else { return false }
            state.isRunning = true
            state.network = network
            return true
        }
        guard starts else { return }
        startThread("scrape-sched") { [self] in schedule(network) }
        startThread("discovery") { [self] in
            repeat {
                for pool in state.read({ $0.pools }) { pool.discovery.ask(network) }
                discover()
            } while state.wait(timeoutNanos: Self.discoveryMillis * nanosPerMilli, until: { $0.isStopping ? () : nil }) == nil
        }
    }

    /// Lets running scrapes end, for a while. No stale markers: the targets are not gone, we are.
    package func stop() {
        state.update { $0.isStopping = true }
        _ = state.wait(timeoutNanos: 2 * Self.stopMillis * nanosPerMilli) { $0.isRunning ? nil : () }
    }

    private func schedule(_ network: TargetDiscovery.Network) {
        let readers = WorkerPool(name: "scrape", threads: Self.readers, queueMax: 1_000_000, stackBytes: 1 << 20)
        var lastMillis = clock.nowMillis()
        while true {
            let now = clock.nowMillis()
            let isSetBack = now < lastMillis - 1000
            lastMillis = now
            let due = state.read { state -> (targets: [ScrapedTarget], endings: [Ending])? in
                if state.isStopping { return nil }
                if isSetBack { reschedule(now, &state) }
                let endings = takeEndings(at: now, &state)
                return (state.schedule.take(until: now), endings)
            }
            guard let due else { break }
            for target in due.targets { begin(target, at: now, network, readers) }
            for ending in due.endings { write(ending.target.end(atMillis: ending.missedMillis), of: ending.target.target.url) {} }
            waitForNext(now)
        }
        _ = state.wait(timeoutNanos: Self.stopMillis * nanosPerMilli) { $0.running == 0 ? () : nil }
        network.loop.stop()
        network.lookups.stop()
        readers.stop()
        state.update { $0.isRunning = false }
    }

    private func waitForNext(_ now: Int64) {
        let next = state.read { min($0.schedule.firstMillis ?? .max, $0.endings.map(\.dueMillis).min() ?? .max, now + 1000) }
        let nanos = next * nanosPerMilli - clock.nowNanos()
        guard nanos > 0 else { return }
        _ = state.wait(timeoutNanos: nanos) { $0.isStopping || ($0.schedule.firstMillis ?? .max) < next ? () : nil }
    }

    /// Puts all targets on the clock as it is now.
    private func reschedule(_ now: Int64, _ state: inout State) {
        for target in state.schedule.takeAll() where target.nextMillis != nil {
            target.resume(nowMillis: now)
            state.schedule.add(target, dueMillis: target.dueMillis)
        }
    }

    private func takeEndings(at now: Int64, _ state: inout State) -> [Ending] {
        guard state.endings.contains(where: { $0.dueMillis <= now }) else { return [] }
        let due = state.endings.filter { $0.dueMillis <= now }
        state.endings.removeAll { $0.dueMillis <= now }
        // Another target that writes the same series goes on with them.
        let live = Set(state.pools.flatMap { $0.targets.values.map(\.target.labels) })
        return due.filter { !live.contains($0.target.target.labels) }
    }

    // MARK: - Scrape

    private func begin(_ target: ScrapedTarget, at now: Int64, _ network: TargetDiscovery.Network, _ readers: WorkerPool) {
        let tick = target.takeTick(at: now)
        if let next = target.nextMillis { state.read { $0.schedule.add(target, dueMillis: next) } }
        switch tick {
        case .none: return
        case .skipped: return metrics.skipped.add()
        case .scrape(let plan):
            metrics.began(lateMillis: now - plan.tickMillis)
            state.read { $0.running += 1 }
            let scrape = Scrape(target: target, plan: plan, startNanos: clock.monotonicNanos(), memory: MemoryReservation(memory))
            do throws(ObsError) {
                if let refusal = plan.refusal { throw refusal }
                var request = try scrape.request(userAgent: userAgent)
                request.memory = scrape.memory
                plan.configuration.connection.send(request, network.loop, clock: clock) { [self] answer in hand(scrape, answer, readers) }
            } catch {
                hand(scrape, .failure(error), readers)
            }
        }
    }

    private func hand(_ scrape: Scrape, _ answer: Result<HTTPClientResponse, ObsError>, _ readers: WorkerPool) {
        // What we broke off says nothing about the target.
        if case .failure(let error) = answer, error.code == .cancelled { return finish(scrape) }
        if !readers.submit({ [self] in take(scrape, answer) }) { finish(scrape) }
    }

    private func take(_ scrape: Scrape, _ answer: Result<HTTPClientResponse, ObsError>) {
        var scrape = scrape
        var parsed: Result<MetricBatch, ObsError>
        do throws(ObsError) { parsed = .success(try scrape.parse(answer.get())) } catch {
            parsed = .failure(error)
            scrape.note(error)
        }
        if case .failure(let error) = answer { scrape.note(error) }
        let taken = scrape.target.take(parsed, scrape.report(clock))
        scrape.memory.end()
        guard let (batch, failure) = taken else { return finish(scrape) }
        metrics.ended(failure, dropped: scrape.target.takeDropped())
        write(batch, of: scrape.plan.target.url) { [self, scrape] in finish(scrape) }
    }

    private func finish(_ scrape: Scrape) {
        scrape.memory.end()
        scrape.target.finish()
        state.update { $0.running -= 1 }
    }

    private func write(_ batch: MetricBatch, of url: String, _ done: @escaping @Sendable () -> Void) {
        sink.write(batch) { error in
            if let error { DiagnosticLog.warn("a scrape was not stored", [("target", url), ("error", error.message)]) }
            done()
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
                for labels in pool.dropped { status.dropped.append((pool.configuration.jobName, labels)) }
                status.droppedCounts.append((pool.configuration.jobName, pool.droppedCount))
            }
            return status
        }
    }

    /// What each of a pool's rules makes of a target's labels; nil when there is no such pool.
    package func relabelSteps(_ pool: String, _ labels: Labels) -> [RelabelStep]? {
        state.read { $0.pools.first { $0.configuration.jobName == pool }?.configuration.relabeling }?.steps(labels)
    }

    /// Metadata of all targets as last scraped.
    package func metadata() -> [TargetMetadata] { state.read { $0.pools.flatMap { $0.targets.values } }.flatMap { $0.metadata() } }
}
