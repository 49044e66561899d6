// The way in: request → decompress → decode → limits → append → (log synced) → tails, answer.
// One station a file: Admission, WireDecoder (with BatchLimits), DeltaToCumulative, TailHub. A request is worked on by its caller's thread up to the append;
// what follows the sync runs on the log's writer thread and only hands over.
package import ObsCore
package import ObsStore
package import ObsWire
internal import Synchronization

/// What became of a request.
package struct IngestSummary: Sendable {
    package var accepted = 0
    /// Equal records that were there already, taken silently.
    package var duplicates = 0
    package var rejected = 0
    /// The first rejection.
    package var reason: String?
    /// Of metrics, in what was decoded: samples that are native histograms, and exemplars.
    package var histograms = 0
    package var exemplars = 0
    /// Other samples in it.
    package var samples = 0
    /// Of `rejected` what the store refused.
    package var storeRejected = 0
    /// Lines of an NDJSON body that are no records, 1-based; a subset of `rejected`, the first of many.
    package var lineErrors: [(line: Int, message: String)] = []

    package init() {}

    mutating func add(_ outcome: AppendOutcome) {
        accepted += outcome.accepted
        duplicates += outcome.duplicates
        rejected += outcome.rejected
        storeRejected += outcome.rejected
        if reason == nil { reason = outcome.reason }
    }
}

package final class IngestPipeline: Sendable {
    private let appender: any Appender
    private let tails: TailHub
    private let clock: any Clock
    private let decoder: WireDecoder
    private let admission: Admission
    private let deltas = DeltaToCumulative()
    private let memory: MemoryAccount
    private let forwarding: Forwarding?
    private let otlp = Mutex(OTLPMetricOptions())
    package let cardinality: CardinalityGuard

    /// - Parameters:
    ///   - forwarding: who gets a copy of the default tenant's metrics.
    ///   - cardinality: nil is one without bounds.
    package init(
        appender: any Appender, tails: TailHub, limits: Limits, clock: any Clock, forwarding: Forwarding? = nil, cardinality: CardinalityGuard? = nil
    ) {
        self.appender = appender
        self.tails = tails
        self.clock = clock
        decoder = WireDecoder(limits: limits)
        memory = limits.memory.ingest
        self.forwarding = forwarding
        self.cardinality = cardinality ?? CardinalityGuard(clock: clock)
        admission = Admission(bytesMax: limits.ingestBytesInFlightMax)
        SelfMetrics.gauge("obs_ingest_bytes_in_flight", help: "Bytes of requests that are decoded or wait for their sync.") { [admission] in
            Double(admission.bytesInFlight)
        }
    }

    /// How metrics of OpenTelemetry are named and labelled from now on.
    package func setOTLP(_ options: OTLPMetricOptions) { otlp.withLock { $0 = options } }

    /// Takes a request in. `completion` runs once, after the data is durable and visible, on the log's writer thread (it hands over and returns),
    /// or at once on the caller's thread when the request fails before that.
    ///
    /// A body of which some records are bad is a success with `rejected` counted; errors are `.badInput` (undecodable), `.tooLarge`, `.unsupportedType`,
    /// and `.overloaded` or `.unavailable`, for which nothing was kept.
    package func ingest(_ request: RawRequest, tenant: TenantID, completion: @escaping @Sendable (Result<IngestSummary, ObsError>) -> Void) {
        let bytes = request.body.count
        do throws(ObsError) {
            try admission.enter(bytes: bytes)
        } catch {
            return completion(.failure(error))
        }
        let leave: @Sendable (Result<IngestSummary, ObsError>) -> Void = { [admission] result in
            admission.leave(bytes: bytes)
            completion(result)
        }
        do throws(ObsError) {
            let now = clock.nowNanos()
            // Held while decoding; what remains after that is the head's, or the listener's, which counts the body as sent.
            let reservation = MemoryReservation(memory)
            defer { reservation.end() }
            let otlp = otlp.withLock { $0 }
            var decoded = try decoder.decodeRequest(request, receivedAtNanos: now, otlp: otlp, reservation: reservation)
            var origin = WriteOrigin(tenant: tenant, receivedAtNanos: now, request: request)
            // Replay knows no options.
            if otlp != OTLPMetricOptions(), request.format == .otlpMetricsProtobuf || request.format == .otlpMetricsJSON { origin.request = nil }
            if !decoded.deltas.isEmpty {
                // Totals depend on what came before: the log must keep them, not the request.
                origin.request = nil
                addUp(&decoded, tenant)
            }
            // Which values there were before decides, too.
            if guarded(&decoded, tenant) { origin.request = nil }
            append(decoded, origin: origin, completion: leave)
        } catch {
            leave(.failure(error))
        }
    }

    private func addUp(_ decoded: inout DecodedRequest, _ tenant: TenantID) {
        guard case .metrics(var batch) = decoded.batch else { return }
        let refused = deltas.add(decoded.deltas, tenant: tenant, to: &batch, monotonicNanos: clock.monotonicNanos())
        decoded.rejected += refused.rejected
        if decoded.reason == nil { decoded.reason = refused.reason }
        decoded.batch = .metrics(batch)
    }

    /// Folds what is past the budgets of labels; true when it changed the batch.
    private func guarded(_ decoded: inout DecodedRequest, _ tenant: TenantID) -> Bool {
        guard case .metrics(var batch) = decoded.batch, cardinality.fold(&batch, tenant) else { return false }
        decoded.batch = .metrics(batch)
        return true
    }

    /// Appends a batch made here (a scrape, a rule's outputs) and waits for the sync.
    package func ingest(_ batch: MetricBatch, tenant: TenantID) throws(ObsError) -> AppendOutcome {
        if batch.isEmpty { return AppendOutcome() }
        var batch = batch
        _ = cardinality.fold(&batch, tenant)
        forward(batch, tenant)
        return try appender.appendAndWait(batch, origin: WriteOrigin(tenant: tenant, receivedAtNanos: clock.nowNanos()))
    }

    /// Appends a batch made here without waiting; `completion` runs as that of a request's.
    package func ingest(_ batch: MetricBatch, tenant: TenantID, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        if batch.isEmpty { return completion(.success(AppendOutcome())) }
        var batch = batch
        _ = cardinality.fold(&batch, tenant)
        forward(batch, tenant)
        appender.append(batch, origin: WriteOrigin(tenant: tenant, receivedAtNanos: clock.nowNanos()), completion: completion)
    }

    /// Before it is stored: nobody sends it again.
    private func forward(_ batch: MetricBatch, _ tenant: TenantID) {
        if tenant == .default { forwarding?.take(batch) }
    }

    private func append(_ decoded: DecodedRequest, origin: WriteOrigin, completion: @escaping @Sendable (Result<IngestSummary, ObsError>) -> Void) {
        var summary = IngestSummary()
        summary.rejected = decoded.rejected
        summary.reason = decoded.reason
        summary.lineErrors = decoded.lineErrors
        if case .metrics(let batch) = decoded.batch {
            (summary.samples, summary.histograms, summary.exemplars) = (batch.timesMillis.count, batch.histograms.count, batch.exemplars.count)
        }
        let answer: @Sendable (Result<AppendOutcome, ObsError>) -> Void = { [summary] result in
            completion(
                result.map { outcome in
                    var total = summary
                    total.add(outcome)
                    return total
                })
        }
        switch decoded.batch {
        case .metrics(let batch):
            if batch.isEmpty { return completion(.success(summary)) }
            guard let forwarding, origin.tenant == .default, forwarding.isActive else {
                return appender.append(batch, origin: origin, completion: answer)
            }
            appender.append(batch, origin: origin) { result in
                if case .failure = result { return answer(result) }
                forwarding.take(batch) { answer(result) }
            }
        case .spans(let batch):
            if batch.isEmpty { return completion(.success(summary)) }
            appender.append(batch, origin: origin, completion: answer)
        case .logs(let batch):
            if batch.isEmpty { return completion(.success(summary)) }
            appender.append(batch, origin: origin) { [tails] result in
                if case .success = result { tails.publish(batch, tenant: origin.tenant) }
                answer(result)
            }
        }
    }
}
