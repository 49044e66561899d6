import XCTest

@testable import ObsSDK

final class SpanContextTests: XCTestCase {
    /// W3C Trace Context, level 1, §3.2 and its test suite's refusals.
    func testTraceparent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        XCTAssertEqual(ObsSpanContext(traceparent: good)?.traceparent, good)
        XCTAssertEqual(ObsSpanContext(traceparent: "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-later-versions-add")?.isSampled, false)
        for bad in [
            "", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            XCTAssertNil(ObsSpanContext(traceparent: bad), bad)
        }
    }
}

final class ConfigurationTests: XCTestCase {
    private func configuration(_ variables: [String: String]) -> ObsConfiguration { ObsConfiguration(environment: { variables[$0] }) }

    func testEndpoints() {
        XCTAssertEqual(configuration([:]).tracesURL, "http://localhost:4318/v1/traces")
        let base = configuration(["OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1/x/", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://b:2/as-it-is"])
        XCTAssertEqual(base.metricsURL, "http://a:1/x/v1/metrics")
        XCTAssertEqual(base.logsURL, "http://b:2/as-it-is")
    }

    func testServiceNameAndResource() {
        XCTAssertEqual(configuration(["OTEL_RESOURCE_ATTRIBUTES": "service.name=a,k=v%20w"]).serviceName, "a")
        XCTAssertEqual(configuration(["OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"]).serviceName, "b")
        XCTAssertEqual(configuration(["OTEL_RESOURCE_ATTRIBUTES": "k=v%20w,broken"]).resource, ["k": "v w"])
        XCTAssertEqual(configuration(["OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x"]).headers.first?.value, "Bearer x")
    }

    func testBadValuesFallBack() {
        XCTAssertEqual(configuration(["OTEL_BSP_MAX_QUEUE_SIZE": "many"]).spanQueueMax, 2048)
        XCTAssertEqual(configuration(["OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"]).sampledShare, 1)
        XCTAssertEqual(configuration(["OTEL_TRACES_SAMPLER": "always_off"]).sampledShare, 0)
        XCTAssertFalse(configuration(["OTEL_LOGS_EXPORTER": "none"]).exportsLogs)
    }

    func testUnsupportedEndpointIsAnError() {
        var configuration = configuration([:])
        configuration.tracesURL = "https://example.com"
        XCTAssertThrowsError(try Obs.start(configuration))
    }
}

final class InstrumentTests: XCTestCase {
    func testHistogramBuckets() {
        let histogram = Aggregation(name: "h", unit: "s", help: "", kind: .histogram([1, 2]), seriesMax: 10)
        for value in [0.5, 1, 1.5, 5] { histogram.record(value, [:]) }
        XCTAssertEqual(histogram.collect().first?.buckets, [2, 1, 1])
        XCTAssertEqual(histogram.collect().first?.value, 8)
        ObsHistogram(aggregation: histogram).record(.milliseconds(1250), ["a": 1])
        XCTAssertEqual(histogram.collect().first { !$0.attributes.isEmpty }?.value, 1.25)
        XCTAssertEqual((["a": 1, "b": 2] as ObsAttributes).adding(["b": "three"]), ["a": 1, "b": "three"])
    }

    func testSeriesPastTheLimitShareOne() {
        let counter = Aggregation(name: "c", unit: "1", help: "", kind: .counter, seriesMax: 2)
        for index in 0..<10 { counter.record(1, ["i": .int(index)]) }
        let points = counter.collect()
        XCTAssertEqual(points.count, 3)
        XCTAssertEqual(points.first { $0.attributes["otel.metric.overflow"] != nil }?.value, 8)
    }
}

final class ExporterTests: XCTestCase {
    private func unreachable() throws -> Obs {
        var configuration = ObsConfiguration(environment: { _ in nil })
        configuration.tracesURL = "http://127.0.0.1:1/v1/traces"
        configuration.logsURL = configuration.tracesURL
        configuration.metricsURL = configuration.tracesURL
        configuration.spanQueueMax = 10
        configuration.spanDelayMillis = 60_000
        configuration.logsToConsole = false
        return try Obs.start(configuration)
    }

    func testFullQueueDropsAndCounts() throws {
        let obs = try unreachable()
        for _ in 0..<100 { obs.span("x") { _ in } }
        XCTAssertGreaterThan(obs.losses.queueFull, 0)
    }

    func testShutdownKeepsItsDeadline() async throws {
        let obs = try unreachable()
        obs.span("x") { _ in }
        let start = ContinuousClock.now
        await obs.shutdown(within: .seconds(1))
        XCTAssertLessThan(ContinuousClock.now - start, .seconds(8))
    }

    func testReplies() {
        func delivery(_ text: String) -> Delivery? { HTTPReply(Array(text.utf8))?.delivery }
        XCTAssertEqual(delivery("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), .accepted)
        XCTAssertEqual(delivery("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno"), .retry(afterSeconds: 7))
        XCTAssertEqual(delivery("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"), .refused)
        XCTAssertNil(delivery("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"))
        XCTAssertNil(delivery("HTTP/1.1 200 OK\r\nContent-"))
    }

    func testSpansNestAndCarryErrors() throws {
        struct Boom: Error {}
        let obs = try unreachable()
        try obs.span("outer") { outer in
            obs.span("inner") { inner in
                XCTAssertEqual(inner.context.traceID, outer.context.traceID)
                XCTAssertEqual(inner.parentID, outer.context.spanID)
                XCTAssertEqual(obs.propagationHeaders().first?.value, inner.context.traceparent)
            }
            XCTAssertThrowsError(try obs.span("failing") { _ in throw Boom() })
        }
        XCTAssertNil(ObsSpan.current)
    }
}
