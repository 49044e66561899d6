internal import ObsCore
internal import ObsStore
internal import Synchronization

/// What one receiver's sender tells of itself at `/metrics`: what Prometheus calls `prometheus_remote_storage_…`.
final class RemoteWriteMetrics: Sendable {
    enum DropReason: String { case tooOld = "too_old", queueFull = "queue_full", queueFailed = "queue_failed" }

    private let samples: SelfMetrics.Counter
    private let histograms: SelfMetrics.Counter
    private let exemplars: SelfMetrics.Counter
    private let metadata: SelfMetrics.Counter
    private let samplesFailed: SelfMetrics.Counter
    private let histogramsFailed: SelfMetrics.Counter
    private let exemplarsFailed: SelfMetrics.Counter
    private let metadataFailed: SelfMetrics.Counter
    private let samplesRetried: SelfMetrics.Counter
    private let histogramsRetried: SelfMetrics.Counter
    private let tooOld: SelfMetrics.Counter
    private let queueFailed: SelfMetrics.Counter
    private let requests: SelfMetrics.Counter
    private let bytes: SelfMetrics.Counter
    private let sendNanos = Atomic<Int>(0)
    private let shards = Atomic<Int>(0)
    private let highestSentMillis = Atomic<Int>(0)
    private let highestMillis = Atomic<Int>(0)

    init(_ configuration: RemoteWriteConfiguration, queue: any BatchQueue, clock: any Clock) {
        let labels = Labels([("remote_name", configuration.title), ("url", withoutUser(configuration.url))])
        func counter(_ name: String, _ help: String) -> SelfMetrics.Counter {
            SelfMetrics.counter("obs_remote_write_\(name)_total", help: help, labels: labels)
        }
        func dropped(_ reason: DropReason) -> Labels { Labels(labels.pairs + [("reason", reason.rawValue)]) }
        let droppedHelp = "Samples that were given up before they were sent."
        samples = counter("samples", "Samples the receiver has taken.")
        histograms = counter("histograms", "Native histograms the receiver has taken.")
        exemplars = counter("exemplars", "Exemplars the receiver has taken.")
        metadata = counter("metadata", "Families whose metadata the receiver has taken.")
        samplesFailed = counter("samples_failed", "Samples the receiver has refused for good.")
        histogramsFailed = counter("histograms_failed", "Native histograms the receiver has refused for good.")
        exemplarsFailed = counter("exemplars_failed", "Exemplars the receiver has refused for good.")
        metadataFailed = counter("metadata_failed", "Families whose metadata the receiver has not taken.")
        samplesRetried = counter("samples_retried", "Samples sent again because the receiver was not able to take them.")
        histogramsRetried = counter("histograms_retried", "Native histograms sent again because the receiver was not able to take them.")
        requests = counter("requests", "Requests the receiver has taken.")
        bytes = counter("bytes", "Bytes of samples sent, compressed.")
        tooOld = SelfMetrics.counter("obs_remote_write_samples_dropped_total", help: droppedHelp, labels: dropped(.tooOld))
        queueFailed = SelfMetrics.counter("obs_remote_write_samples_dropped_total", help: droppedHelp, labels: dropped(.queueFailed))
        SelfMetrics.counter("obs_remote_write_samples_dropped_total", help: droppedHelp, labels: dropped(.queueFull)) { [weak queue] in
            Double(queue?.status.droppedSamples ?? 0)
        }
        register(labels, queue, clock)
    }

    private func register(_ labels: Labels, _ queue: any BatchQueue, _ clock: any Clock) {
        func gauge(_ name: String, _ help: String, _ read: @escaping @Sendable () -> Double) {
            SelfMetrics.gauge("obs_remote_write_\(name)", help: help, labels: labels, read: read)
        }
        gauge("samples_pending", "Samples in the queue.") { [weak queue] in Double(queue?.status.samples ?? 0) }
        gauge("queue_bytes", "Size of the queue's files.") { [weak queue] in Double(queue?.status.bytes ?? 0) }
        gauge("lag_seconds", "How long the oldest batch in the queue has waited.") { [weak queue] in
            guard let oldest = queue?.status.oldestMillis else { return 0 }
            return Double(max(0, clock.nowMillis() - oldest)) / 1000
        }
        gauge("shards", "Shards of the latest round.") { [weak self] in Double(self?.shards.load(ordering: .relaxed) ?? 0) }
        gauge("queue_highest_timestamp_seconds", "Newest time of a sample in the queue or before.") { [weak self] in
            Double(self?.highestMillis.load(ordering: .relaxed) ?? 0) / 1000
        }
        gauge("queue_highest_sent_timestamp_seconds", "Newest time of a sample the receiver has taken.") { [weak self] in
            Double(self?.highestSentMillis.load(ordering: .relaxed) ?? 0) / 1000
        }
        SelfMetrics.counter("obs_remote_write_request_duration_seconds_total", help: "Time that requests took, all together.", labels: labels) { [weak self] in
            Double(self?.sendNanos.load(ordering: .relaxed) ?? 0) / 1e9
        }
    }

    func queued(newestMillis: Int64) { highestMillis.max(Int(newestMillis), ordering: .relaxed) }
    func setShards(_ count: Int) { shards.store(count, ordering: .relaxed) }
    func sending(bytes count: Int) { bytes.add(count) }
    func sentMetadata(_ count: Int) { metadata.add(count) }
    func failedMetadata(_ count: Int) { metadataFailed.add(count) }

    /// - Parameter refused: samples and histograms of it that the receiver did not write.
    func sent(_ request: RemoteWriteRequest, refused: Int, nanos: Int64) {
        requests.add()
        let refusedSamples = min(refused, request.samples)
        samples.add(request.samples - refusedSamples)
        samplesFailed.add(refusedSamples)
        histograms.add(request.histograms - (refused - refusedSamples))
        histogramsFailed.add(refused - refusedSamples)
        exemplars.add(request.exemplars)
        sendNanos.wrappingAdd(Int(nanos), ordering: .relaxed)
        highestSentMillis.max(Int(request.newestMillis), ordering: .relaxed)
    }

    func failed(_ request: RemoteWriteRequest) {
        samplesFailed.add(request.samples)
        histogramsFailed.add(request.histograms)
        exemplarsFailed.add(request.exemplars)
    }

    func retried(_ request: RemoteWriteRequest) {
        samplesRetried.add(request.samples)
        histogramsRetried.add(request.histograms)
    }

    func dropped(_ count: Int, _ reason: DropReason) {
        switch reason {
        case .tooOld: tooOld.add(count)
        case .queueFailed: queueFailed.add(count)
        case .queueFull: break  // the queue counts them
        }
    }

    var sentSamples: Int { samples.value }
    var failedSamples: Int { samplesFailed.value }
    var retriedSamples: Int { samplesRetried.value }
    var droppedSamples: Int { tooOld.value + queueFailed.value }
}

/// Passwords do not belong into metrics.
private func withoutUser(_ url: String) -> String {
    let scheme = url.hasPrefix("https://") ? "https://" : "http://"
    let rest = url.dropFirst(scheme.count)
    guard url.hasPrefix(scheme), let at = rest.prefix(while: { $0 != "/" }).lastIndex(of: "@") else { return url }
    return scheme + rest[rest.index(after: at)...]
}
