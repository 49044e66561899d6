import ObsCompress
import ObsCore
import ObsLogQL
import ObsStore
import ObsTestSupport
import ObsWire
import Synchronization
import XCTest

@testable import ObsIngest

/// Remembers the origins of what it passes on.
private final class RecordingAppender: Appender {
    let store = InMemoryStore()
    let requests = Mutex<[WireFormat?]>([])
    let held = Mutex<[@Sendable () -> Void]>([])
    let holds: Bool

    init(holds: Bool = false) { self.holds = holds }

    func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        requests.withLock { $0.append(origin.request?.format) }
        store.append(batch, origin: origin, completion: completion)
    }
    func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        requests.withLock { $0.append(origin.request?.format) }
        let run: @Sendable () -> Void = { [store] in store.append(batch, origin: origin, completion: completion) }
        if holds { held.withLock { $0.append(run) } } else { run() }
    }
    func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        store.append(batch, origin: origin, completion: completion)
    }
}

private struct FixedClock: Clock {
    func nowNanos() -> Int64 { 1_700_000_000_000_000_000 }
    func monotonicNanos() -> Int64 { 0 }
}

final class IngestPipelineTests: XCTestCase {
    private let loki = #"{"streams":[{"stream":{"app":"a"},"values":[["1700000000000000000","hello"],["1700000000000000001","world"]]}]}"#

    private func pipeline(_ appender: any Appender, tails: TailHub = TailHub(), limits: Limits = Limits()) -> IngestPipeline {
        IngestPipeline(appender: appender, tails: tails, limits: limits, clock: FixedClock())
    }

    private func ingest(_ pipeline: IngestPipeline, _ request: RawRequest) -> Result<IngestSummary, ObsError> {
        let box = Monitor<Result<IngestSummary, ObsError>?>(nil)
        pipeline.ingest(request, tenant: .default) { result in box.update { $0 = result } }
        return box.wait(until: { $0 }) ?? .failure(ObsError(.internalError, "no answer"))
    }

    /// What was folded depends on what came before: the log gets the batch.
    func testAFoldedRequestIsLoggedAsItsBatch() throws {
        DiagnosticLog.threshold = .error
        let appender = RecordingAppender()
        let cardinality = CardinalityGuard(clock: FixedClock())
        var budget = CardinalityBudget()
        budget.valuesMax = 1
        cardinality.set(budget)
        let pipeline = IngestPipeline(appender: appender, tails: TailHub(), limits: Limits(), clock: FixedClock(), cardinality: cardinality)
        func write(_ user: String) throws {
            var writer = ProtobufWriter()
            writer.timeSeries(1, Labels([("__name__", "m"), ("user", user)]), times: [1_700_000_000_000], values: [1])
            _ = try ingest(pipeline, RawRequest(format: .remoteWrite1, compression: .none, body: writer.bytes)).get()
        }
        try write("a")
        while !cardinality.isSeeded(.default) { usleep(1000) }
        try write("a")
        try write("b")
        var scraped = MetricBatch()
        scraped.append(Labels([("__name__", "m"), ("user", "c")]), timeMillis: 1_700_000_005_000, value: 1)
        _ = try pipeline.ingest(scraped, tenant: .default)
        XCTAssertEqual(appender.requests.withLock { $0 }, [.remoteWrite1, .remoteWrite1, nil, nil])
        XCTAssertEqual(
            try appender.store.labelValues(.metrics, "user", [], range: .min ... .max, context: QueryContext(tenant: .default)), ["__overflow__", "a"])
    }

    func testLogsAreStoredThenTailed() throws {
        let appender = RecordingAppender()
        let tails = TailHub()
        let tail = try tails.subscribe(CompiledLogQuery("{app=\"a\"} |= \"wor\""), tenant: .default, queueMax: 10) {}
        let body = gzipCompress(Array(loki.utf8))
        let summary = try ingest(pipeline(appender, tails: tails), RawRequest(format: .lokiJSON, compression: .gzip, body: body)).get()
        XCTAssertEqual(summary.accepted, 2)
        XCTAssertEqual(summary.rejected, 0)
        XCTAssertEqual(appender.requests.withLock { $0 }, [.lokiJSON])
        tails.drain()
        XCTAssertEqual(tail.take().entries.map { String(decoding: $0.entry.line, as: UTF8.self) }, ["world"])
        tails.stop()
    }

    func testReplayGivesWhatIngestGave() throws {
        let request = RawRequest(format: .lokiJSON, compression: .none, body: Array(loki.utf8))
        guard case .logs(let batch) = try WireDecoder(limits: Limits()).decode(request, receivedAtNanos: 1, limits: Limits()) else { return XCTFail("no logs") }
        XCTAssertEqual(batch.count, 2)
    }

    /// Replay knows no options: what was named by others than the defaults is logged as it was named.
    func testMetricsNamedByOptionsAreLoggedAsBatches() throws {
        let body =
            #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a.b","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"1"}]}}]}]}]}"#
        let request = RawRequest(format: .otlpMetricsJSON, compression: .none, body: Array(body.utf8))
        let appender = RecordingAppender()
        let pipeline = pipeline(appender)
        _ = try ingest(pipeline, request).get()
        var options = OTLPMetricOptions()
        options.naming = .unchanged
        pipeline.setOTLP(options)
        _ = try ingest(pipeline, request).get()
        // Logs do not care.
        _ = try ingest(pipeline, RawRequest(format: .lokiJSON, compression: .none, body: Array(loki.utf8))).get()
        XCTAssertEqual(appender.requests.withLock { $0 }, [.otlpMetricsJSON, nil, .lokiJSON])
    }

    /// What a lowered bound would refuse today was acknowledged yesterday.
    func testReplayIsNotBoundByALoweredLimit() throws {
        var limits = Limits()
        limits.decodedBytesMax = 8
        let request = RawRequest(format: .lokiJSON, compression: .gzip, body: gzipCompress(Array(loki.utf8)))
        XCTAssertThrowsError(try WireDecoder(limits: limits).decodeRequest(request, receivedAtNanos: 1))
        guard case .logs(let batch) = try WireDecoder(limits: limits).decode(request, receivedAtNanos: 1, limits: limits) else { return XCTFail("no logs") }
        XCTAssertEqual(batch.count, 2)
    }

    func testBadLinesAreCountedGoodOnesKept() throws {
        let body = "{\"_msg\":\"one\"}\nnot json\n{\"_msg\":\"two\"}\n"
        let summary = try ingest(pipeline(RecordingAppender()), RawRequest(format: .jsonLines, compression: .none, body: Array(body.utf8))).get()
        XCTAssertEqual(summary.accepted, 2)
        XCTAssertEqual(summary.rejected, 1)
        XCTAssertEqual(summary.lineErrors.map(\.line), [2])
        XCTAssertNotNil(summary.reason)
    }

    func testUndecodableBodiesAreErrors() {
        func code(_ format: WireFormat, _ compression: BodyCompression, _ body: String) -> ObsError.Code? {
            guard case .failure(let error) = ingest(pipeline(RecordingAppender()), RawRequest(format: format, compression: compression, body: Array(body.utf8)))
            else { return nil }
            return error.code
        }
        XCTAssertEqual(code(.lokiJSON, .none, "nope"), .badInput)
        XCTAssertEqual(code(.lokiProtobuf, .snappy, "nope"), .badInput)
        XCTAssertEqual(code(.remoteWrite1, .none, "nope"), .badInput)
        XCTAssertEqual(code(.otlpTracesProtobuf, .gzip, "nope"), .badInput)
    }

    func testTooManyBytesInFlightAreRefused() throws {
        let appender = RecordingAppender(holds: true)
        var limits = Limits()
        limits.ingestBytesInFlightMax = loki.utf8.count + 10
        let pipeline = pipeline(appender, limits: limits)
        let request = RawRequest(format: .lokiJSON, compression: .none, body: Array(loki.utf8))
        let first = Monitor<Int?>(nil)
        pipeline.ingest(request, tenant: .default) { result in first.update { $0 = try? result.get().accepted } }
        guard case .failure(let error) = ingest(pipeline, request) else { return XCTFail("admitted") }
        XCTAssertEqual(error.code, .overloaded)
        XCTAssertEqual(error.retryAfterSeconds, 1)
        appender.held.withLock { $0 }.forEach { $0() }
        XCTAssertEqual(first.wait(timeoutNanos: nanosPerSecond, until: { $0 }), 2)
        pipeline.ingest(request, tenant: .default) { _ in }
        XCTAssertEqual(appender.held.withLock { $0.count }, 2)
    }

    func testRecordLimits() throws {
        var limits = Limits()
        limits.lineBytesMax = 4
        let summary = try ingest(pipeline(RecordingAppender(), limits: limits), RawRequest(format: .lokiJSON, compression: .none, body: Array(loki.utf8))).get()
        XCTAssertEqual(summary.accepted, 0)
        XCTAssertEqual(summary.rejected, 2)
        XCTAssertEqual(summary.reason, "line of 5 bytes is longer than 4 (ingest.line-bytes-max)")

        var batch = MetricBatch()
        batch.append(Labels([("__name__", "a")]), timeMillis: 1, value: 1)
        batch.append(Labels([("__name__", "b"), ("x", String(repeating: "v", count: 100))]), timeMillis: 1, value: 2)
        batch.append(Labels([("__name__", "c")]), timeMillis: 2, value: 3)
        batch.exemplars = [.init(series: 1, labels: .empty, value: 1, timeMillis: 1), .init(series: 2, labels: .empty, value: 9, timeMillis: 1)]
        limits.labelValueBytesMax = 50
        let rejections = limits.apply(to: &batch)
        XCTAssertEqual(rejections.count, 1)
        XCTAssertEqual(batch.series.map { batch.labels(of: $0)["__name__"] }, ["a", "c"])
        XCTAssertEqual(batch.values, [1, 3])
        XCTAssertEqual(batch.exemplars.map(\.series), [1])
        limits.labelsMax = 0
        XCTAssertEqual(limits.apply(to: &batch).count, 2)
    }

    func testScrapesWait() throws {
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "a")]), timeMillis: 1, value: 1)
        XCTAssertEqual(try pipeline(RecordingAppender()).ingest(batch, tenant: .default).accepted, 1)
        XCTAssertEqual(try pipeline(RecordingAppender()).ingest(MetricBatch(), tenant: .default), AppendOutcome())
    }
}

final class DeltaToCumulativeTests: XCTestCase {
    private func points(_ list: [(String, start: Int64, time: Int64, Double)]) -> DeltaPoints {
        var points = DeltaPoints()
        for (name, start, time, value) in list {
            points.labels.append(points.bytes.intern(Labels([("__name__", name)]).bytes))
            points.startsMillis.append(start)
            points.timesMillis.append(time)
            points.increments.append(value)
        }
        return points
    }

    func testAddsUpResetsAndForgets() {
        let totals = DeltaToCumulative(seriesMax: 2, idleMillis: 1000)
        var batch = MetricBatch()
        var refused = totals.add(
            points([("a", 0, 10, 1), ("a", 10, 20, 2), ("b", 0, 10, 5), ("a", 20, 20, 9), ("c", 0, 1, 1)]), tenant: .default, to: &batch, monotonicNanos: 0)
        XCTAssertEqual(batch.values, [1, 3, 5])
        XCTAssertEqual(batch.timesMillis, [10, 20, 10])
        XCTAssertEqual(refused.rejected, 2)  // not later than the one before; too many series
        // It starts over inside what was counted: a reset.
        batch = MetricBatch()
        refused = totals.add(points([("a", 15, 30, 4), ("b", 10, 20, 1)]), tenant: .default, to: &batch, monotonicNanos: 100_000_000)
        XCTAssertEqual(batch.values, [4, 6])
        // Idle series go, others take their place.
        batch = MetricBatch()
        refused = totals.add(points([("c", 0, 1, 7)]), tenant: .default, to: &batch, monotonicNanos: 2_000_000_000)
        XCTAssertEqual(batch.values, [7])
        XCTAssertEqual(refused.rejected, 0)
        XCTAssertEqual(totals.seriesCount, 1)
    }
}
