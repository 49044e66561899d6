// Sends one receiver what its queue holds, in rounds: read as much as all shards can send at once, spread it over them, send, and when every request has been
// taken or refused for good, tell the queue that this is done with. A receiver that is away costs nothing but the queue on disk; a kill in between sends
// a round again, which receivers take for what they have.
//
// What a receiver answers decides: 2xx done; 5xx, no answer, and 429 where configured, again after a pause that doubles, or after as long as it says; any other
// 4xx never again, since it would be refused for ever, and counted. A receiver that does not know 2.0 (415) gets 1.0 from then on.
internal import ObsCore
internal import ObsNet
internal import ObsStore
internal import ObsWire
internal import Synchronization

final class RemoteWriteSender: Sendable {
    /// A shard's requests on their way.
    private struct Lane {
        var requests: [RemoteWriteRequest]
        var at = 0
        var attempt = 0
        var isSent = false
        /// Monotonic.
        var notBeforeNanos: Int64 = 0
    }

    private struct State {
        var isStopping = false
        var isRunning = true
        var lanes: [Lane] = []
        /// The receiver knows only this.
        var version: RemoteWriteVersion
        var lastError: String?
    }

    let configuration: RemoteWriteConfiguration
    let queue: any BatchQueue
    private let families: ForwardedFamilies
    private let loop: HTTPClientLoop
    private let clock: any Clock
    private let userAgent: String
    /// Batches that waited longer are not sent any more; 0 sends all.
    private let queueAgeMillis: Int64
    private let metrics: RemoteWriteMetrics
    private let state: Monitor<State>

    init(
        _ configuration: RemoteWriteConfiguration, queue: any BatchQueue, queueAgeMillis: Int64, families: ForwardedFamilies, loop: HTTPClientLoop,
        clock: any Clock,
        userAgent: String
    ) {
        self.configuration = configuration
        self.queue = queue
        self.queueAgeMillis = queueAgeMillis
        self.families = families
        self.loop = loop
        self.clock = clock
        self.userAgent = userAgent
        metrics = RemoteWriteMetrics(configuration, queue: queue, clock: clock)
        state = Monitor(State(version: configuration.version))
        startThread("remote-write") { [self] in run() }
    }

    var counts: RemoteWriteMetrics { metrics }

    /// Breaks off what is on its way. Nothing is lost: what was not answered is in the queue.
    func interrupt() {
        state.update { $0.isStopping = true }
        queue.interrupt()
    }

    /// Waits for the end after `interrupt`; the queue is the caller's again.
    func join() { _ = state.wait(timeoutNanos: Int64(configuration.timeoutMillis + 5000) * nanosPerMilli) { $0.isRunning ? nil : () } }

    // MARK: - Rounds

    private func run() {
        var lastMetadataNanos = clock.monotonicNanos() - configuration.metadata.intervalMillis * nanosPerMilli
        while !state.read({ $0.isStopping }) {
            if configuration.metadata.isSent, clock.monotonicNanos() - lastMetadataNanos >= configuration.metadata.intervalMillis * nanosPerMilli {
                if sendMetadata() { lastMetadataNanos = clock.monotonicNanos() }
            }
            let status = queue.status
            let waits = waitMillis(status)
            if waits > 0 { queue.wait(for: status.nextNumber, timeoutMillis: min(waits, 1000)) } else { round(status) }
        }
        state.update { $0.isRunning = false }
    }

    /// How long a request may wait for more samples; more than 0 when there are none at all.
    private func waitMillis(_ status: BatchQueueStatus) -> Int64 {
        guard let oldest = status.oldestMillis else { return 1000 }
        if status.samples >= configuration.queue.samplesMax { return 0 }
        // A clock that was set back must not hold them up until it is there again.
        let age = clock.nowMillis() - oldest
        return age < 0 ? 0 : configuration.queue.deadlineMillis - age
    }

    private func round(_ status: BatchQueueStatus) {
        let settings = configuration.queue
        let shards = max(settings.shardsMin, min(settings.shardsMax, (status.samples + settings.samplesMax - 1) / settings.samplesMax))
        metrics.setShards(shards)
        do throws(ObsError) {
            var read = try queue.read(from: status.firstNumber, samplesMax: shards * settings.samplesMax)
            if read.next == status.firstNumber { return try queue.remove(through: status.nextNumber - 1) }
            if status.sendingNumber >= status.firstNumber, status.sendingNumber < read.next - 1 {
                // Left from a process that was killed over it: the receiver may have it, and then refuse a request whole that has more.
                read = (read.batches.filter { $0.number <= status.sendingNumber }, status.sendingNumber + 1)
            }
            try queue.begin(through: read.next - 1)
            let now = clock.nowMillis()
            let version = state.read { $0.version }
            var requests = RemoteWriteRequests(
                version, shards: shards, samplesMax: settings.samplesMax, oldestMillis: settings.sampleAgeMillis > 0 ? now - settings.sampleAgeMillis : .min,
                family: { [families, configuration] name in configuration.metadata.isSent ? families.family(ofSeries: name) : nil })
            for batch in read.batches {
                if queueAgeMillis > 0, batch.timeMillis < now - queueAgeMillis {
                    metrics.dropped(batch.batch.sampleCount, .tooOld)
                } else {
                    requests.add(batch.batch)
                }
            }
            let lanes = requests.take()
            metrics.dropped(requests.tooOld, .tooOld)
            if deliver(lanes, version) { try queue.remove(through: read.next - 1) }
        } catch {
            note("its queue fails: \(error.description)")
            _ = state.wait(timeoutNanos: nanosPerSecond) { $0.isStopping ? () : nil }
        }
    }

    /// Sends requests until each is done with. False when there is a stop, or the receiver wants another version, first.
    private func deliver(_ requests: [[RemoteWriteRequest]], _ version: RemoteWriteVersion) -> Bool {
        state.read { $0.lanes = requests.map { Lane(requests: $0) } }
        while true {
            let now = clock.monotonicNanos()
            let (due, isDone, isOver, waits) = state.read { state -> ([Int], Bool, Bool, Int64) in
                let isEnding = state.isStopping || state.version != version
                var due: [Int] = []
                var next = Int64.max
                for index in state.lanes.indices where !state.lanes[index].isSent && state.lanes[index].at < state.lanes[index].requests.count {
                    if state.lanes[index].notBeforeNanos > now {
                        next = min(next, state.lanes[index].notBeforeNanos)
                    } else if !isEnding {
                        state.lanes[index].isSent = true
                        due.append(index)
                    }
                }
                let isDone = state.lanes.allSatisfy { $0.at == $0.requests.count }
                return (due, isDone, isEnding && !state.lanes.contains { $0.isSent }, next == .max ? nanosPerSecond : min(nanosPerSecond, next - now))
            }
            if isDone { return true }
            if isOver { return false }
            for index in due { send(index, version) }
            if due.isEmpty { waitForLanes(until: waits) }
        }
    }

    private func waitForLanes(until nanos: Int64) {
        let before = state.read { state in state.lanes.count { $0.isSent } }
        _ = state.wait(timeoutNanos: max(1, nanos)) { state in state.isStopping || state.lanes.count { $0.isSent } < before ? () : nil }
    }

    // MARK: - Requests

    private func send(_ index: Int, _ version: RemoteWriteVersion) {
        let (request, attempt) = state.read { ($0.lanes[index].requests[$0.lanes[index].at], $0.lanes[index].attempt) }
        let began = clock.monotonicNanos()
        do throws(ObsError) {
            let message = try self.message(request.body, version, attempt: attempt)
            metrics.sending(bytes: request.body.count)
            configuration.connection.send(message, loop, clock: clock) { [self] result in
                settle(index, request, version, RemoteWriteAnswer(result, version, request, retriesRateLimits: configuration.queue.retriesRateLimits), began)
            }
        } catch {
            settle(index, request, version, .again(afterMillis: nil, error.message), began)
        }
    }

    private func message(_ body: [UInt8], _ version: RemoteWriteVersion, attempt: Int) throws(ObsError) -> HTTPClientRequest {
        var message = try configuration.connection.request(url: configuration.url)
        message.method = "POST"
        message.body = body
        message.headers += configuration.headers
        message.headers += [
            ("Content-Encoding", "snappy"), ("Content-Type", version.contentType), ("User-Agent", userAgent),
            ("X-Prometheus-Remote-Write-Version", version.number),
        ]
        if attempt > 0 { message.headers.append(("Retry-Attempt", String(attempt))) }
        message.timeoutMillis = configuration.timeoutMillis
        message.connectTimeoutMillis = configuration.timeoutMillis
        message.responseBytesMax = 1 << 20
        message.isCancelled = { [state] in state.read { $0.isStopping } }
        return message
    }

    private func settle(_ index: Int, _ request: RemoteWriteRequest, _ version: RemoteWriteVersion, _ answer: RemoteWriteAnswer, _ beganNanos: Int64) {
        let now = clock.monotonicNanos()
        switch answer {
        case .done(let refused, let reason):
            metrics.sent(request, refused: refused, nanos: now - beganNanos)
            if let reason { note(reason) }
        case .never(let reason):
            metrics.failed(request)
            note("\(request.samples + request.histograms) samples are refused for good: \(reason)")
        case .again(_, let reason):
            metrics.retried(request)
            note("is tried again: \(reason)")
        case .otherVersion: DiagnosticLog.warn("remote write: the receiver does not know 2.0; it gets 1.0", [("receiver", configuration.title)])
        }
        state.update { state in
            state.lanes[index].isSent = false
            switch answer {
            case .done, .never:
                state.lanes[index].at += 1
                state.lanes[index].attempt = 0
                if case .done = answer { state.lastError = nil }
            case .again(let after, _):
                let doubled = configuration.queue.backoffMinMillis << Int64(min(state.lanes[index].attempt, 20))
                let pause = after ?? min(doubled, configuration.queue.backoffMaxMillis)
                state.lanes[index].attempt += 1
                state.lanes[index].notBeforeNanos = now + pause * nanosPerMilli
            case .otherVersion: state.version = .version1
            }
        }
    }

    /// Tells the log, once as long as it stays the same.
    private func note(_ reason: String) {
        let isNew = state.read { state in
            defer { state.lastError = reason }
            return state.lastError != reason
        }
        if isNew { DiagnosticLog.warn("remote write", [("receiver", configuration.title), ("reason", reason)]) }
    }

    // MARK: - Metadata

    /// Sends what is known of families, to receivers of 1.0; 2.0 has it with the series. False while nothing is known.
    private func sendMetadata() -> Bool {
        guard state.read({ $0.version }) == .version1 else { return true }
        let known = families.all()
        guard !known.isEmpty else { return false }
        for start in stride(from: 0, to: known.count, by: configuration.metadata.familiesMax) {
            let part = known[start..<min(start + configuration.metadata.familiesMax, known.count)]
            var request = RemoteWriteRequests.metadata(part)
            do throws(ObsError) {
                let message = try message(request.body, .version1, attempt: 0)
                request.body = []
                configuration.connection.send(message, loop, clock: clock) { [metrics] result in
                    if case .success(let answer) = result, (200..<300).contains(answer.status) {
                        metrics.sentMetadata(part.count)
                    } else {
                        metrics.failedMetadata(part.count)
                    }
                }
            } catch {
                metrics.failedMetadata(part.count)
            }
        }
        return true
    }
}

/// What a receiver's answer means for a request.
enum RemoteWriteAnswer: Sendable {
    /// Taken, but for some of it.
    case done(refused: Int, String?)
    case never(String)
    case again(afterMillis: Int64?, String)
    case otherVersion

    init(_ result: Result<HTTPClientResponse, ObsError>, _ version: RemoteWriteVersion, _ request: RemoteWriteRequest, retriesRateLimits: Bool) {
        let answer: HTTPClientResponse
        switch result {
        case .failure(let error):
            self = error.code == .badInput ? .never(error.message) : .again(afterMillis: nil, error.message)
            return
        case .success(let complete): answer = complete
        }
        let words = String(decoding: answer.body.prefix(512), as: UTF8.self)
        let reason = "server returned HTTP status \(answer.status)\(answer.reason.isEmpty ? "" : " " + answer.reason): \(words)"
        switch answer.status {
        case 200..<300: self = Self.taken(answer, version, request)
        case 415 where version == .version2: self = .otherVersion
        case 429 where retriesRateLimits, 500..<600: self = .again(afterMillis: Self.retryAfterMillis(answer), reason)
        default:
            // Of a request that is bad in part 2.0 says how much is written.
            if version == .version2, let written = Self.written(answer), written > 0 {
                self = .done(refused: max(0, request.samples + request.histograms - written), reason)
            } else {
                self = .never(reason)
            }
        }
    }

    private static func taken(_ answer: HTTPClientResponse, _ version: RemoteWriteVersion, _ request: RemoteWriteRequest) -> RemoteWriteAnswer {
        guard version == .version2 else { return .done(refused: 0, nil) }
        // A server that does not say that it has written anything has not: it took 2.0 for something else.
        let total = request.samples + request.histograms
        let written = written(answer) ?? 0
        return written >= total
            ? .done(refused: 0, nil) : .done(refused: total - written, "sent \(total) samples, but the answer's headers say that \(written) were written")
    }

    private static func written(_ answer: HTTPClientResponse) -> Int? {
        let samples = answer.header("x-prometheus-remote-write-samples-written").flatMap { Int($0) }
        let histograms = answer.header("x-prometheus-remote-write-histograms-written").flatMap { Int($0) }
        return samples == nil && histograms == nil ? nil : (samples ?? 0) + (histograms ?? 0)
    }

    /// Of seconds; a date is a pause like any other. An hour is the longest.
    private static func retryAfterMillis(_ answer: HTTPClientResponse) -> Int64? {
        guard let seconds = answer.header("retry-after").flatMap({ Int64($0) }), seconds > 0 else { return nil }
        return min(seconds, 3600) * 1000
    }
}
