import Foundation
import ObsCore
import ObsNet
import ObsSDK
import ObsWire
import XCTest

/// A service's whole use of the SDK, against a live obsd.
final class SDKTests: XCTestCase {
    private struct Broken: Error {}

    func testSpansNestAndTravel() async throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let front = try Obs.start(configuration("front", obsd.otlp))
        let back = try Obs.start(configuration("back", obsd.otlp))
        var headers: [(name: String, value: String)] = []
        var context: ObsSpanContext?
        front.span("GET /cart", kind: .server, ["http.route": "/cart", "items": 3, "vip": true, "share": 0.5]) { outer in
            context = outer.context
            front.logger("checkout").info("cart opened", ["amount": 12.5])
            front.span("ask back", kind: .client) { inner in
                inner.addEvent("retried", ["attempt": 2])
                headers = front.propagationHeaders()
            }
        }
        let received = try XCTUnwrap(ObsSpanContext(traceparent: headers.first { $0.name == "traceparent" }?.value ?? ""))
        do {
            try back.span("SELECT", kind: .server, parent: received) { _ in
                back.logger("db").error("it broke", error: Broken())
                throw Broken()
            }
            XCTFail("the error is passed on")
        } catch is Broken {}
        let flushed = [await front.shutdown(within: .seconds(20)), await back.shutdown(within: .seconds(20))]
        XCTAssertEqual(flushed, [true, true])

        let id = try XCTUnwrap(context).traceID
        let trace = try XCTUnwrap(try obsd.json("/jaeger/api/traces/\(id)")["data"]?[0])
        var spans: [String: JSONValue] = [:]
        var parents: [String: String] = [:]
        trace["spans"]?.forEachElement { span in
            spans[span["operationName"]?.string ?? ""] = span
            parents[span["operationName"]?.string ?? ""] = span["references"]?[0]?["spanID"]?.string ?? ""
        }
        func identity(_ name: String) -> String? { spans[name]?["spanID"]?.string }
        XCTAssertEqual(Set(spans.keys), ["GET /cart", "ask back", "SELECT"])
        XCTAssertEqual(parents["GET /cart"], "")
        XCTAssertEqual(parents["ask back"], identity("GET /cart"))
        XCTAssertEqual(parents["SELECT"], identity("ask back"))
        XCTAssertEqual(received.spanID, identity("ask back"))
        var tags: [String: String] = [:]
        spans["GET /cart"]?["tags"]?.forEachElement { tag in
            var text: [UInt8] = []
            tag["value"]?.appendJSON(to: &text)
            tags[tag["key"]?.string ?? ""] = String(decoding: text, as: UTF8.self)
        }
        XCTAssertEqual(tags["http.route"], "\"/cart\"")
        XCTAssertEqual(tags["items"], "3")
        XCTAssertEqual(tags["vip"], "true")
        XCTAssertEqual(tags["share"], "0.5")
        XCTAssertEqual(spans["ask back"]?["logs"]?.count, 1)
        XCTAssertEqual(spans["SELECT"]?["logs"]?.count, 1, "the exception")
        let failed = try Run(Place.obsq, ["traces", "--errors", "--service", "back", "--addr", obsd.http])
        XCTAssertTrue(failed.output.contains(id), failed.output + failed.errors)

        // Records carry the ids of the span they were written in.
        for (service, line) in [("front", "cart opened"), ("back", "it broke")] {
            XCTAssertEqual(try obsd.logLines("{service_name=\"\(service)\"} | trace_id=\"\(id)\""), [line])
        }
        XCTAssertEqual(try obsd.logLines("{service_name=\"front\"} | amount = 12.5"), ["cart opened"])
        XCTAssertEqual(try obsd.logLines("{service_name=\"back\"} | exception_type = \"Broken\""), ["it broke"])
    }

    func testMetricsAreExact() async throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let obs = try Obs.start(configuration("shop", obsd.otlp))
        let orders = obs.counter("orders", unit: "1")
        let open = obs.upDownCounter("connections.open")
        let load = obs.gauge("load", unit: "1")
        let durations = obs.histogram("request.duration", unit: "s", buckets: [0.1, 1, 10])
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for number in 0..<1000 { orders.add(1, ["method": number % 4 == 0 ? "card" : "cash"]) }
            open.add(Double(thread))
        }
        orders.add(-5, ["method": "card"])
        load.record(3)
        load.record(0.25)
        for value in [0.05, 0.1, 0.5, 5, 50] { durations.record(value, ["route": "/cart"]) }
        let first = await obs.flush(within: .seconds(20))
        XCTAssertTrue(first)
        XCTAssertEqual(try obsd.value("orders_total{method=\"card\"}"), 1000)
        XCTAssertEqual(try obsd.value("sum(orders_total{job=\"shop\"})"), 4000)
        XCTAssertEqual(try obsd.value("connections_open"), 6)
        XCTAssertEqual(try obsd.value("load_ratio"), 0.25)
        XCTAssertEqual(try obsd.value("request_duration_seconds_count{route=\"/cart\"}"), 5)
        XCTAssertEqual(try obsd.value("request_duration_seconds_sum"), 55.65)
        for (bound, count) in [("0.1", 2.0), ("1", 3), ("10", 4), ("+Inf", 5)] {
            XCTAssertEqual(try obsd.value("request_duration_seconds_bucket{le=~\"\(bound == "+Inf" ? "[+]Inf" : bound + "([.]0)?")\"}"), count, bound)
        }
        orders.add(1, ["method": "card"])
        let second = await obs.shutdown(within: .seconds(20))
        XCTAssertTrue(second)
        XCTAssertEqual(try obsd.value("orders_total{method=\"card\"}"), 1001)
    }

    /// A server that is away costs what the queue cannot hold, which is counted, and nothing else.
    func testServerDownThenUp() async throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        var settings = configuration("shop", obsd.otlp)
        settings.logQueueMax = 100
        settings.logBatchMax = 50
        settings.logDelayMillis = 50
        let obs = try Obs.start(settings)
        let logger = obs.logger("shop")
        logger.info("before")
        let flushed = await obs.flush(within: .seconds(20))
        XCTAssertTrue(flushed)
        obsd.crash()
        for number in 0..<1000 { logger.info("during \(number)") }
        let lost = obs.losses.queueFull
        // The queue, and what the sender may have taken from it while it was filled.
        XCTAssertGreaterThan(lost, 0)
        XCTAssertLessThanOrEqual(lost, 900)
        try obsd.start()
        _ = try eventually({ try obsd.logLines("{service_name=\"shop\"} |= \"during\"").count }, until: { $0 + lost >= 1000 })
        logger.info("after")
        let stopped = await obs.shutdown(within: .seconds(20))
        XCTAssertTrue(stopped)
        let lines = try obsd.logLines("{service_name=\"shop\"}")
        XCTAssertEqual(lines.first, "before")
        XCTAssertEqual(lines.last, "after")
        XCTAssertEqual(lines.count, 1002 - obs.losses.queueFull, "losses \(obs.losses)")
        XCTAssertEqual(Set(lines).count, lines.count)
        XCTAssertEqual(obs.losses.refused, 0)
        XCTAssertEqual(try obsd.value("otel_sdk_exporter_dropped_total{reason=\"queue_full\"}"), Double(obs.losses.queueFull))
    }

    /// A flush that nobody takes says so and loses nothing: what it could not send arrives later.
    func testFlushWithoutAServerKeepsTheRecords() async throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let obs = try Obs.start(configuration("shop", obsd.otlp))
        obsd.crash()
        obs.logger("shop").info("kept")
        let flushed = await obs.flush(within: .milliseconds(2500))
        XCTAssertFalse(flushed)
        XCTAssertEqual(obs.losses.refused, 0)
        try obsd.start()
        let stopped = await obs.shutdown(within: .seconds(30))
        XCTAssertTrue(stopped)
        XCTAssertEqual(try obsd.logLines("{service_name=\"shop\"}"), ["kept"])
    }

    /// Shutdown keeps to its bound when nobody is there, and what is lost is counted.
    func testShutdownWithoutAServer() async throws {
        let obs = try Obs.start(configuration("shop", "127.0.0.1:\(freePort())"))
        obs.logger("shop").info("to nobody")
        obs.span("to nobody") { _ in }
        let done = await obs.shutdown(within: .milliseconds(500))
        XCTAssertFalse(done)
        XCTAssertGreaterThanOrEqual(try eventually({ obs.losses.refused }, until: { $0 >= 2 }), 2)
        let again = await obs.shutdown(within: .seconds(20))
        XCTAssertTrue(again)
    }

    private func configuration(_ service: String, _ otlp: String) -> ObsConfiguration {
        var configuration = ObsConfiguration(environment: { name in
            ["OTEL_EXPORTER_OTLP_ENDPOINT": "http://\(otlp)", "OTEL_SERVICE_NAME": service][name]
        })
        configuration.logsToConsole = false
        return configuration
    }
}
