internal import ObsCore
internal import ObsHash
internal import Synchronization

/// A target at work: its loop, its schedule, what its last scrape was like. Scraped once at a time.
final class ScrapedTarget: Sendable {
    /// What the next scrape needs.
    struct Plan: Sendable {
        var target: ScrapeTarget
        var configuration: ScrapeConfiguration
        /// Why the whole job is not scraped.
        var refusal: ObsError?
        /// When the scrape should have begun.
        var tickMillis: Int64 = 0
        /// The time of its samples.
        var timeMillis: Int64 = 0
    }

    private struct State {
        var plan: Plan
        var loop: ScrapeLoop
        var dueMillis: Int64
        var isRunning = false
        var isStopped = false
        var health = TargetStatus.Health.unknown
        var lastError = ""
        var lastScrapeMillis: Int64?
        var lastScrapeSeconds = 0.0
    }

    /// What came of looking whether a tick has come.
    enum Tick {
        /// It is to be scraped now.
        case scrape(Plan)
        /// The scrape before runs still: this one is left out.
        case skipped
        /// Not yet, or never again.
        case none
    }

    let identity: String
    private let state: Mutex<State>

    init(_ target: ScrapeTarget, configuration: ScrapeConfiguration, nowMillis: Int64) {
        identity = target.identity
        state = Mutex(
            State(
                plan: Plan(target: target, configuration: configuration),
                loop: ScrapeLoop(targetLabels: target.labels, configuration: configuration), dueMillis: target.nextTick(after: nowMillis)))
    }

    var target: ScrapeTarget { state.withLock { $0.plan.target } }
    var dueMillis: Int64 { state.withLock { $0.dueMillis } }
    /// Nil once it is stopped.
    var nextMillis: Int64? { state.withLock { $0.isStopped ? nil : $0.dueMillis } }

    func update(_ target: ScrapeTarget) { state.withLock { $0.plan.target.discovered = target.discovered } }
    func refuse(_ reason: ObsError?) { state.withLock { $0.plan.refusal = reason } }
    func stop() { state.withLock { $0.isStopped = true } }

    func reconfigure(_ configuration: ScrapeConfiguration) {
        state.withLock {
            $0.plan.configuration = configuration
            $0.loop.reconfigure(configuration)
        }
    }

    /// Begins anew after a stop, or after the clock was set.
    func resume(nowMillis: Int64) {
        state.withLock {
            $0.isStopped = false
            $0.dueMillis = $0.plan.target.nextTick(after: nowMillis)
        }
    }

    /// Looks whether a tick has come, and moves on to the next; ticks that were slept through are skipped.
    func takeTick(at now: Int64) -> Tick {
        state.withLock { state in
            guard state.dueMillis <= now, !state.isStopped else { return .none }
            let interval = state.plan.target.intervalMillis
            let tick = state.dueMillis + (now - state.dueMillis) / interval * interval
            state.dueMillis = tick + interval
            if state.isRunning { return .skipped }
            state.isRunning = true
            state.plan.tickMillis = tick
            // Samples lie on the grid, which the store packs best, unless the scrape is so late that rates would suffer.
            state.plan.timeMillis = now - tick <= interval / 100 ? tick : now
            return .scrape(state.plan)
        }
    }

    func finish() { state.withLock { $0.isRunning = false } }

    /// What to append after a scrape; nothing when the target was taken away meanwhile.
    func take(_ answer: Result<MetricBatch, ObsError>, _ report: ScrapeLoop.Report) -> (batch: MetricBatch, failure: ObsError?)? {
        state.withLock { state in
            if state.isStopped { return nil }
            let batch: MetricBatch
            var failure: ObsError?
            switch answer {
            case .success(let scraped): (batch, failure) = state.loop.success(scraped, report)
            case .failure(let error):
                batch = state.loop.failure(report)
                failure = error
            }
            state.health = failure == nil ? .up : .down
            state.lastError = failure?.description ?? ""
            state.lastScrapeMillis = report.timeMillis
            state.lastScrapeSeconds = report.durationSeconds
            return (batch, failure)
        }
    }

    func end(atMillis now: Int64) -> MetricBatch { state.withLock { $0.loop.end(atMillis: now) } }

    /// Samples left out since it was asked last: repeated series, times too far ahead.
    func takeDropped() -> (duplicates: Int, tooFarAhead: Int) { state.withLock { $0.loop.takeDropped() } }

    func status(pool: String) -> TargetStatus {
        state.withLock { state in
            let target = state.plan.target
            return TargetStatus(
                pool: pool, discoveredLabels: target.discovered, labels: target.labels, url: target.url, health: state.health,
                lastError: state.lastError, lastScrapeNanos: state.lastScrapeMillis.map { $0 * nanosPerMilli }, lastScrapeSeconds: state.lastScrapeSeconds,
                intervalMillis: target.intervalMillis, timeoutMillis: target.timeoutMillis)
        }
    }

    func metadata() -> [TargetMetadata] {
        state.withLock { state in
            state.loop.metadata.sorted { $0.key < $1.key }.map {
                TargetMetadata(target: state.plan.target.labels, family: $0.key, type: $0.value.type, help: $0.value.help, unit: $0.value.unit)
            }
        }
    }
}

extension ScrapeTarget {
    /// Same labels and same URL: the same target, wherever it was found.
    var identity: String { "\(url) \(labels) \(intervalMillis) \(timeoutMillis)" }

    func nextTick(after now: Int64) -> Int64 {
        var key = identity
        let hash = key.withUTF8 { hash64(UnsafeRawBufferPointer($0)) }
        let offset = Int64(hash % UInt64(intervalMillis))
        return floorDivide(now - offset, intervalMillis) * intervalMillis + offset + intervalMillis
    }
}
