package import ObsCore

/// The way in. Implemented by the engine; called by the pipeline.
///
/// **Order**: batches of one signal are applied and logged in one order, the same again at replay.
/// **Durability**: `completion` is called once, after the write-ahead record that holds the batch is synced; until then nothing may be acknowledged.
/// **Visibility**: when `completion` runs, every later read sees the batch.
/// **Threads**: `append` may be called from any thread and does not wait for the disk. `completion` runs on the log's writer thread: it hands over and returns.
/// **Errors**: `.overloaded` (head or log queue full, disk nearly full: retry later), `.unavailable` (stopping). Then nothing was kept.
package protocol Appender: Sendable {
    func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void)
    func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void)
    func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void)
}

extension Appender {
    /// Appends and waits for the sync; for callers that own a thread (scrapes, rules, tests).
    package func appendAndWait(_ batch: MetricBatch, origin: WriteOrigin) throws(ObsError) -> AppendOutcome {
        try wait { append(batch, origin: origin, completion: $0) }
    }

    package func appendAndWait(_ batch: LogBatch, origin: WriteOrigin) throws(ObsError) -> AppendOutcome {
        try wait { append(batch, origin: origin, completion: $0) }
    }

    package func appendAndWait(_ batch: SpanBatch, origin: WriteOrigin) throws(ObsError) -> AppendOutcome {
        try wait { append(batch, origin: origin, completion: $0) }
    }

    private func wait(_ start: (@escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) -> Void) throws(ObsError) -> AppendOutcome {
        let box = Monitor<Result<AppendOutcome, ObsError>?>(nil)
        start { result in box.update { $0 = result } }
        guard let result = box.wait(until: { $0 }) else { throw ObsError(.internalError, "append gave no answer") }
        return try result.get()
    }
}

/// Whose bytes a batch was decoded from, and how the log keeps them.
package struct WriteOrigin: Sendable {
    package var tenant: TenantID
    /// Wall clock when the request was complete; what records without a time of their own get.
    package var receivedAtNanos: Int64
    /// The request as it came, for the log: replay is ingest. Nil where there is no faithful request
    /// (scrapes, rules, stateful translations): the log then keeps the batch itself.
    package var request: RawRequest?

    package init(tenant: TenantID, receivedAtNanos: Int64, request: RawRequest? = nil) {
        self.tenant = tenant
        self.receivedAtNanos = receivedAtNanos
        self.request = request
    }
}

/// A request body as sent, with what its decoder needs to know.
package struct RawRequest: Sendable {
    package var format: WireFormat
    package var compression: BodyCompression
    /// What the decoder takes besides the body (the query string of `/insert/jsonline`); often empty.
    package var parameters: String
    package var body: [UInt8]

    package init(format: WireFormat, compression: BodyCompression, parameters: String = "", body: [UInt8]) {
        self.format = format
        self.compression = compression
        self.parameters = parameters
        self.body = body
    }
}

/// Body formats a log record may hold. Raw values are on disk (Storage/FORMAT.md): never renumber.
package enum WireFormat: UInt8, Sendable {
    case remoteWrite1 = 1
    case otlpMetricsProtobuf = 2
    case otlpMetricsJSON = 3
    case remoteWrite2 = 4
    case lokiJSON = 16
    case lokiProtobuf = 17
    case otlpLogsProtobuf = 18
    case otlpLogsJSON = 19
    case jsonLines = 20
    case otlpTracesProtobuf = 32
    case otlpTracesJSON = 33
}

/// What became of a batch.
package struct AppendOutcome: Sendable, Equatable {
    package var accepted = 0
    /// Equal records that were there already, taken silently.
    package var duplicates = 0
    package var rejected = 0
    /// The first rejection, for the answer.
    package var reason: String?
    /// Of `accepted` and `duplicates` together: samples that are native histograms.
    package var histograms = 0
    /// Exemplars that are kept, or were already; they are no records and in none of the other counts.
    package var exemplars = 0

    package init(accepted: Int = 0, duplicates: Int = 0, rejected: Int = 0, reason: String? = nil) {
        self.accepted = accepted
        self.duplicates = duplicates
        self.rejected = rejected
        self.reason = reason
    }
}

/// A batch of any signal, as replay gets it.
package enum DecodedBatch: Sendable {
    case metrics(MetricBatch)
    case logs(LogBatch)
    case spans(SpanBatch)

    package var signal: Signal {
        switch self {
        case .metrics: .metrics
        case .logs: .logs
        case .spans: .traces
        }
    }
}

/// Turns a logged request into a batch again; handed to the engine at start so that the keeping side knows no protocol.
/// Must be deterministic: same request, same receive time, same limits, same batch.
package protocol RequestDecoder: Sendable {
    /// - Parameter limits: what bounded single records when the request was taken; bounds on the whole request do not count any more.
    func decode(_ request: RawRequest, receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> DecodedBatch
}
