// Everything recorded goes through here: bounded queues that never block the caller, one thread that sends.
//
// A full queue drops the newest record and counts it by reason; the counts are themselves exported (`otel.sdk.*`), so that a loss is seen at the server and not
// only in a local log. A request that the receiver may take later (429, 502, 503, 504, no connection) is retried with full-jitter back-off, at most `retryTotalNanos`.
// Shutdown flushes within its deadline whatever the network does: the thread is left behind if it hangs, the caller is not.
internal import Glibc
internal import Synchronization

final class Exporter: Sendable {
    let instruments = Mutex<[String: Aggregation]>([:])
    private let configuration: ObsConfiguration
    private let resource: ObsAttributes
    private let signal = Signal()

    private struct Queues {
        var spans: [FinishedSpan] = []
        var logs: [LogRecord] = []
        var spansDue: UInt64 = 0
        var logsDue: UInt64 = 0
        var metricsDue: UInt64 = 0
        var flushesWanted = 0
        var flushesDone = 0
        var stopping = false
        var stopped = false
    }
    private let queues = Mutex(Queues())
    private let droppedQueueFull = Atomic<Int>(0)
    private let droppedRefused = Atomic<Int>(0)
    private let exported = Atomic<Int>(0)
    private static let retryTotalNanos: UInt64 = 300_000_000_000

    init(_ configuration: ObsConfiguration) {
        self.configuration = configuration
        var resource = configuration.resource
        resource["service.name"] = .string(configuration.serviceName)
        resource["telemetry.sdk.name"] = "obs"
        resource["telemetry.sdk.language"] = "swift"
        resource["telemetry.sdk.version"] = .string(Obs.version)
        self.resource = resource
        queues.withLock { $0.metricsDue = monotonicNanos() + UInt64(configuration.metricIntervalMillis) * 1_000_000 }
        if configuration.isDisabled {
            queues.withLock { $0.stopped = true }
        } else {
            detachThread { [self] in run() }
        }
    }

    /// Records lost so far, by reason.
    var losses: (queueFull: Int, refused: Int) { (droppedQueueFull.load(ordering: .relaxed), droppedRefused.load(ordering: .relaxed)) }

    func enqueue(_ span: FinishedSpan) {
        guard configuration.exportsTraces else { return }
        enqueue { queues in
            guard queues.spans.count < configuration.spanQueueMax else { return .full }
            if queues.spans.isEmpty { queues.spansDue = monotonicNanos() + UInt64(configuration.spanDelayMillis) * 1_000_000 }
            queues.spans.append(span)
            return queues.spans.count == 1 || queues.spans.count == configuration.spanQueueMax / 2 ? .wake : .queued
        }
    }

    func enqueue(_ record: LogRecord) {
        guard configuration.exportsLogs else { return }
        enqueue { queues in
            guard queues.logs.count < configuration.logQueueMax else { return .full }
            if queues.logs.isEmpty { queues.logsDue = monotonicNanos() + UInt64(configuration.logDelayMillis) * 1_000_000 }
            queues.logs.append(record)
            return queues.logs.count == 1 || queues.logs.count == configuration.logQueueMax / 2 ? .wake : .queued
        }
    }

    private enum Enqueued { case queued, wake, full }

    private func enqueue(_ add: (inout Queues) -> Enqueued) {
        let result = queues.withLock { queues in queues.stopped ? .full : add(&queues) }
        switch result {
        case .queued: break
        case .wake: signal.wake()
        case .full: droppedQueueFull.wrappingAdd(1, ordering: .relaxed)
        }
    }

    /// Sends everything recorded so far; false when that was not done within the bound.
    func flush(withinNanos: UInt64) -> Bool {
        let ticket: Int? = queues.withLock { queues in
            if queues.stopped { return nil }
            queues.flushesWanted += 1
            return queues.flushesWanted
        }
        guard let ticket else { return true }
        signal.wake()
        let deadline = monotonicNanos() + withinNanos
        while queues.withLock({ $0.flushesDone < ticket }) {
            if monotonicNanos() >= deadline { return false }
            usleep(2000)
        }
        return true
    }

    /// Flushes and ends the thread; idempotent.
    func stop(withinNanos: UInt64) -> Bool {
        let flushed = flush(withinNanos: withinNanos)
        queues.withLock { $0.stopping = true }
        signal.wake()
        return flushed
    }

    // MARK: The sending thread

    private struct Work {
        var spans: [FinishedSpan] = []
        var logs: [LogRecord] = []
        var metrics = false
        var flushed: Int?
        var stop = false
        var waitNanos: UInt64 = 0
    }

    private func run() {
        let transport = Transport(timeoutMillis: configuration.requestTimeoutMillis)
        while true {
            let work = queues.withLock { take(&$0, now: monotonicNanos()) }
            for batch in split(work.spans, configuration.spanBatchMax) {
                send(OTLPEncoder.traces(batch, resource: resource), to: configuration.tracesURL, records: batch.count, transport)
            }
            for batch in split(work.logs, configuration.logBatchMax) {
                send(OTLPEncoder.logs(batch, resource: resource), to: configuration.logsURL, records: batch.count, transport)
            }
            if work.metrics { sendMetrics(transport) }
            if let flushed = work.flushed { queues.withLock { $0.flushesDone = max($0.flushesDone, flushed) } }
            if work.stop { return queues.withLock { $0.stopped = true } }
            if work.waitNanos > 0 { signal.wait(nanos: work.waitNanos) }
        }
    }

    private func take(_ queues: inout Queues, now: UInt64) -> Work {
        var work = Work()
        let flushing = queues.flushesWanted > queues.flushesDone || queues.stopping
        if flushing { work.flushed = queues.flushesWanted }
        if !queues.spans.isEmpty, flushing || now >= queues.spansDue || queues.spans.count >= configuration.spanQueueMax / 2 {
            swap(&work.spans, &queues.spans)
        }
        if !queues.logs.isEmpty, flushing || now >= queues.logsDue || queues.logs.count >= configuration.logQueueMax / 2 { swap(&work.logs, &queues.logs) }
        if configuration.exportsMetrics, flushing || now >= queues.metricsDue {
            work.metrics = true
            queues.metricsDue = now + UInt64(configuration.metricIntervalMillis) * 1_000_000
        }
        work.stop = queues.stopping
        if work.spans.isEmpty, work.logs.isEmpty, !work.metrics, !flushing {
            var next = queues.metricsDue
            if !queues.spans.isEmpty { next = min(next, queues.spansDue) }
            if !queues.logs.isEmpty { next = min(next, queues.logsDue) }
            work.waitNanos = next > now ? next - now : 1
        }
        return work
    }

    private func split<Record>(_ records: [Record], _ size: Int) -> [[Record]] {
        stride(from: 0, to: records.count, by: size).map { Array(records[$0..<min($0 + size, records.count)]) }
    }

    private func sendMetrics(_ transport: Transport) {
        var all = instruments.withLock { Array($0.values) }
        all.append(contentsOf: lossCounters())
        send(OTLPEncoder.metrics(all, resource: resource, nowNanos: wallNanos()), to: configuration.metricsURL, records: 0, transport)
    }

    private func lossCounters() -> [Aggregation] {
        let processed = Aggregation(name: "otel.sdk.exporter.exported", unit: "{record}", help: "Records a receiver accepted.", kind: .counter, seriesMax: 1)
        processed.record(Double(exported.load(ordering: .relaxed)), [:])
        let dropped = Aggregation(name: "otel.sdk.exporter.dropped", unit: "{record}", help: "Records lost, by reason.", kind: .counter, seriesMax: 8)
        let losses = losses
        dropped.record(Double(losses.queueFull), ["reason": "queue_full"])
        dropped.record(Double(losses.refused), ["reason": "refused"])
        return [processed, dropped]
    }

    private func send(_ body: [UInt8], to url: String, records: Int, _ transport: Transport) {
        let start = monotonicNanos()
        var ceilingSeconds = 1.0
        while true {
            switch transport.post(body, to: url, headers: configuration.headers) {
            case .accepted:
                exported.wrappingAdd(records, ordering: .relaxed)
                return
            case .refused:
                droppedRefused.wrappingAdd(records, ordering: .relaxed)
                return
            case .retry(let afterSeconds):
                // A flush that waits gives up at its own bound and loses nothing; the end of the process is the end of trying.
                let ends = queues.withLock { $0.stopping }
                guard !ends, monotonicNanos() - start < Self.retryTotalNanos else {
                    droppedRefused.wrappingAdd(records, ordering: .relaxed)
                    return
                }
                let pause = max(afterSeconds, Double.random(in: 0.05...ceilingSeconds))
                ceilingSeconds = min(ceilingSeconds * 2, 30)
                signal.wait(nanos: UInt64(min(pause, 60) * 1e9))
            }
        }
    }
}

/// A condition that remembers one wake.
private final class Signal: @unchecked Sendable {  // `woken` is under `mutex`
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var woken = false

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        mutex.deallocate()
        condition.deallocate()
    }

    func wake() {
        pthread_mutex_lock(mutex)
        woken = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    func wait(nanos: UInt64) {
        let end = wallNanos() &+ nanos
        var deadline = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
        pthread_mutex_lock(mutex)
        while !woken, pthread_cond_timedwait(condition, mutex, &deadline) == 0 {}
        woken = false
        pthread_mutex_unlock(mutex)
    }
}
