internal import ObsCore
internal import ObsHash
internal import Synchronization

/// A target at work: its loop, its schedule, what its last scrape was like. Scraped by one thread at a time.
final class ScrapedTarget: Sendable {
    private struct State {
        var target: ScrapeTarget
        var loop: ScrapeLoop
        var dueMillis: Int64
        var isRunning = false
        var isStopped = false
        var health = TargetStatus.Health.unknown
        var lastError = ""
        var lastScrapeMillis: Int64?
        var lastScrapeSeconds = 0.0
    }

    let identity: String
    private let state: Mutex<State>

    init(_ target: ScrapeTarget, configuration: ScrapeConfiguration, nowMillis: Int64) {
        identity = target.identity
        state = Mutex(
            State(
                target: target, loop: ScrapeLoop(targetLabels: target.labels, configuration: configuration),
                dueMillis: target.nextTick(after: nowMillis)))
    }

    var target: ScrapeTarget { state.withLock { $0.target } }
    var dueMillis: Int64 { state.withLock { $0.dueMillis } }

    func update(_ target: ScrapeTarget) { state.withLock { $0.target.discovered = target.discovered } }
    func reconfigure(_ configuration: ScrapeConfiguration) { state.withLock { $0.loop.reconfigure(configuration) } }
    func stop() { state.withLock { $0.isStopped = true } }

    func resume(nowMillis: Int64) {
        state.withLock {
            $0.isStopped = false
            $0.dueMillis = $0.target.nextTick(after: nowMillis)
        }
    }

    /// The tick to scrape for, when one has come; ticks that a running scrape sleeps through are skipped.
    func takeTick(at now: Int64) -> Int64? {
        state.withLock { state in
            guard state.dueMillis <= now, !state.isStopped else { return nil }
            let interval = state.target.intervalMillis
            let tick = state.dueMillis + (now - state.dueMillis) / interval * interval
            state.dueMillis = tick + interval
            if state.isRunning { return nil }
            state.isRunning = true
            return tick
        }
    }

    func finish() { state.withLock { $0.isRunning = false } }

    /// What to append after a scrape; nothing when the target was taken away meanwhile.
    func take(_ answer: Result<MetricBatch, ObsError>, atMillis now: Int64, seconds: Double) -> MetricBatch? {
        state.withLock { state in
            if state.isStopped { return nil }
            let batch: MetricBatch
            var failure: ObsError?
            switch answer {
            case .success(let scraped): (batch, failure) = state.loop.success(scraped, atMillis: now, durationSeconds: seconds)
            case .failure(let error):
                batch = state.loop.failure(atMillis: now, durationSeconds: seconds)
                failure = error
            }
            state.health = failure == nil ? .up : .down
            state.lastError = failure?.description ?? ""
            state.lastScrapeMillis = now
            state.lastScrapeSeconds = seconds
            return batch
        }
    }

    func end(atMillis now: Int64) -> MetricBatch { state.withLock { $0.loop.end(atMillis: now) } }

    func status(pool: String) -> TargetStatus {
        state.withLock { state in
            TargetStatus(
                pool: pool, discoveredLabels: state.target.discovered, labels: state.target.labels, url: state.target.url, health: state.health,
                lastError: state.lastError, lastScrapeNanos: state.lastScrapeMillis.map { $0 * nanosPerMilli }, lastScrapeSeconds: state.lastScrapeSeconds,
                intervalMillis: state.target.intervalMillis, timeoutMillis: state.target.timeoutMillis)
        }
    }

    func metadata() -> [TargetMetadata] {
        state.withLock { state in
            state.loop.metadata.sorted { $0.key < $1.key }.map {
                TargetMetadata(target: state.target.labels, family: $0.key, type: $0.value.type, help: $0.value.help, unit: $0.value.unit)
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
