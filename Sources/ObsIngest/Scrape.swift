internal import ObsCore
internal import ObsNet
internal import ObsWire

/// One scrape under way: from the request to what its answer says.
struct Scrape: Sendable {
    let target: ScrapedTarget
    let plan: ScrapedTarget.Plan
    let startNanos: Int64
    /// Holds the answer while it is received and read.
    let memory: MemoryReservation
    private var bodyBytes = 0

    init(target: ScrapedTarget, plan: ScrapedTarget.Plan, startNanos: Int64, memory: MemoryReservation) {
        self.target = target
        self.plan = plan
        self.startNanos = startNanos
        self.memory = memory
    }

    func request(userAgent: String) throws(ObsError) -> HTTPClientRequest {
        let configuration = plan.configuration
        var request = try configuration.connection.request(url: plan.target.url)
        request.headers.append(("Accept", ScrapeProtocol.accept(configuration.protocols, escaping: configuration.escaping)))
        request.headers.append(("User-Agent", userAgent))
        request.headers.append(("X-Prometheus-Scrape-Timeout-Seconds", formatSampleValue(Double(plan.target.timeoutMillis) / 1000)))
        request.acceptGzip = configuration.compression
        if !configuration.compression { request.headers.append(("Accept-Encoding", "identity")) }
        request.timeoutMillis = Int(plan.target.timeoutMillis)
        request.connectTimeoutMillis = Int(plan.target.timeoutMillis)
        request.responseBytesMax = configuration.limits.bodyBytesMax > 0 ? configuration.limits.bodyBytesMax : Limits().decodedBytesMax
        return request
    }

    mutating func parse(_ answer: HTTPClientResponse) throws(ObsError) -> MetricBatch {
        guard answer.status == 200 else {
            throw ObsError(.unavailable, "server returned HTTP status \(answer.status)\(answer.reason.isEmpty ? "" : " " + answer.reason)")
        }
        let limit = plan.configuration.limits.bodyBytesMax
        if limit > 0, answer.body.count >= limit { throw ObsError(.tooLarge, "body size limit exceeded") }
        bodyBytes = answer.body.count
        // An empty body is a target without series, whatever it calls itself.
        if answer.body.isEmpty { return MetricBatch() }
        let type = answer.header("content-type") ?? ""
        guard let format = ScrapeFormat(contentType: type) ?? plan.configuration.fallbackProtocol?.format else {
            throw ObsError(
                .unsupportedType,
                type.isEmpty
                    ? "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                    : "received unsupported Content-Type \(quoted(type)) and no fallback_scrape_protocol specified for target")
        }
        // What decoding holds beside the text.
        try memory.grow(answer.body.count * (MemoryShares.decodingFactor - 1))
        return try Exposition.parse(answer.body, format: format, options: plan.configuration.exposition)
    }

    /// A body past its bound is reported as -1 bytes long.
    mutating func note(_ failure: ObsError) {
        if failure.code == .tooLarge { bodyBytes = -1 }
    }

    func report(_ clock: any Clock) -> ScrapeLoop.Report {
        ScrapeLoop.Report(
            timeMillis: plan.timeMillis, durationSeconds: Double(clock.monotonicNanos() - startNanos) / 1e9, timeoutMillis: plan.target.timeoutMillis,
            bodyBytes: bodyBytes)
    }
}
