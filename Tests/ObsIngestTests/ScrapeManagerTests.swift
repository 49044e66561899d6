import Foundation
import ObsCore
import ObsNet
import ObsYAML
import Synchronization
import XCTest

@testable import ObsIngest

private final class CollectingSink: ScrapeSink {
    let batches = Monitor<[MetricBatch]>([])
    func write(_ batch: MetricBatch) throws(ObsError) { batches.update { $0.append(batch) } }

    /// Waits for a sample of `name` with a value that satisfies `isWanted`.
    func wait(_ name: String, seconds: Int64 = 20, _ isWanted: @escaping (Double) -> Bool) -> Labels? {
        batches.wait(timeoutNanos: seconds * nanosPerSecond) { batches in
            for batch in batches {
                for series in batch.series {
                    let labels = batch.labels(of: series)
                    if labels["__name__"] == name, isWanted(batch.values[Int(series.firstSample)]) { return labels }
                }
            }
            return nil
        }
    }
}

final class ScrapeManagerTests: XCTestCase {
    private func configurations(_ yaml: String) throws -> [ScrapeConfiguration] {
        try PrometheusConfiguration(YAMLMapping(YAMLNode.parse(yaml)), directory: ".").scrapes
    }

    func testScrapesARealServer() throws {
        let seen = Mutex<[String: String]>([:])
        let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")) { request, responder in
            seen.withLock { seen in for header in request.headers { seen[header.name] = header.value } }
            if request.path == "/metrics" {
                responder.send(HTTPResponse(status: 200, headers: [("Content-Type", "text/plain; version=0.0.4")], body: Array("# TYPE m gauge\nm 42\n".utf8)))
            } else {
                responder.send(.text(500, "broken"))
            }
        }
        defer { server.stop(drainMillis: 100) }
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("t.json")
        try #"[{"targets":["\#(server.address)"],"labels":{"from":"file"}}]"#.write(to: file, atomically: true, encoding: .utf8)
        manager.apply(
            try configurations(
                """
                scrape_configs:
                - job_name: good
                  scrape_interval: 200ms
                  file_sd_configs: [{files: ["\(folder.path)/*.json"]}]
                - job_name: broken
                  scrape_interval: 200ms
                  metrics_path: /none
                  static_configs: [{targets: ["\(server.address)"]}]
                - job_name: absent
                  scrape_interval: 200ms
                  static_configs: [{targets: ["127.0.0.1:1"]}]
                  relabel_configs: [{source_labels: [__address__], regex: '.*', action: replace, target_label: x, replacement: y}]
                """))
        manager.start()
        let labels = sink.wait("m") { $0 == 42 }
        XCTAssertEqual(labels?["from"], "file")
        XCTAssertEqual(labels?["job"], "good")
        XCTAssertEqual(labels?["instance"], server.address)
        XCTAssertNotNil(sink.wait("up") { $0 == 0 })
        XCTAssertNotNil(sink.wait("scrape_samples_scraped") { $0 == 1 })
        for name in ["accept", "x-prometheus-scrape-timeout-seconds", "user-agent", "accept-encoding"] { XCTAssertNotNil(seen.withLock { $0[name] }, name) }
        XCTAssertEqual(seen.withLock { $0["x-prometheus-scrape-timeout-seconds"] }, "0.2")
        XCTAssertEqual(seen.withLock { $0["accept-encoding"] }, "gzip")

        // Every target has been seen.
        let deadline = Date().addingTimeInterval(20)
        while manager.status().active.contains(where: { $0.health == .unknown }), Date() < deadline { usleep(10_000) }
        let status = manager.status()
        XCTAssertEqual(status.pools, ["good", "broken", "absent"])
        let byPool = Dictionary(uniqueKeysWithValues: status.active.map { ($0.pool, $0) })
        XCTAssertEqual(byPool["good"]?.health, .up)
        XCTAssertEqual(byPool["good"]?.lastError, "")
        XCTAssertEqual(byPool["good"]?.discoveredLabels["__meta_filepath"], file.path)
        XCTAssertEqual(byPool["broken"]?.health, .down)
        XCTAssertEqual(byPool["broken"]?.lastError, "server returned HTTP status 500")
        XCTAssertEqual(byPool["absent"]?.health, .down)
        XCTAssertEqual(manager.metadata().map(\.family), ["m"])

        // A job that goes ends its series, once it has been missed for a while.
        manager.apply([])
        XCTAssertNotNil(sink.wait("m") { SpecialValue.isStale($0) })
        XCTAssertTrue(manager.status().active.isEmpty)
        manager.stop()
    }

    func testAnAnswerThatFindsNoMemoryFailsItsScrape() throws {
        let memory = MemoryBudget(MemoryShares(ceilingBytes: 64 << 20)).ingest
        let large = Array("# ".utf8) + [UInt8](repeating: UInt8(ascii: "x"), count: memory.bytesMax) + Array("\nm 1\n".utf8)
        let isLarge = Mutex(true)
        let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")) { _, responder in
            let body = isLarge.withLock { $0 } ? large : Array("m 1\n".utf8)
            responder.send(HTTPResponse(status: 200, headers: [("Content-Type", "text/plain; version=0.0.4")], body: body))
        }
        defer { server.stop(drainMillis: 100) }
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink, memory: memory)
        manager.apply(try configurations("scrape_configs: [{job_name: j, scrape_interval: 2s, static_configs: [{targets: ['\(server.address)']}]}]"))
        manager.start()
        XCTAssertNotNil(sink.wait("up") { $0 == 0 })
        let deadline = Date().addingTimeInterval(20)
        while manager.status().active.first?.lastError.isEmpty ?? true, Date() < deadline { usleep(10_000) }
        let error = manager.status().active.first?.lastError ?? ""
        XCTAssert(error.contains("memory for ingest"), error)
        isLarge.withLock { $0 = false }
        XCTAssertNotNil(sink.wait("up") { $0 == 1 })
        manager.stop()
        XCTAssertEqual(memory.usedBytes, 0)
    }

    func testDiscoveryKeepsTheLastGoodFile() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("t.yml")
        let configuration = try configurations(
            "scrape_configs: [{job_name: j, file_sd_configs: [{files: ['\(folder.path)/*.yml']}], static_configs: [{targets: [s]}]}]")[0]
        var discovery = TargetDiscovery(configuration)
        func addresses() -> [String] { discovery.groups(client: HTTPClient(), monotonicNanos: 0).flatMap(\.addresses) }
        XCTAssertEqual(addresses(), ["s"])
        try "- targets: [a, b]\n".write(to: file, atomically: true, encoding: .utf8)
        XCTAssertEqual(addresses(), ["s", "a", "b"])
        try "- targets: [a\n".write(to: file, atomically: true, encoding: .utf8)
        XCTAssertEqual(addresses(), ["s", "a", "b"])
        try "- targets: [c]\n".write(to: file, atomically: true, encoding: .utf8)
        XCTAssertEqual(addresses(), ["s", "c"])
        try FileManager.default.removeItem(at: file)
        XCTAssertEqual(addresses(), ["s"])
    }

    func testReloadLeavesTargetsAlone() throws {
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink)
        let one = "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]}]"
        manager.apply(try configurations(one))
        XCTAssertEqual(manager.status().active.count, 2)
        manager.apply(try configurations("scrape_configs: [{job_name: a, sample_limit: 5, static_configs: [{targets: ['127.0.0.1:2', '127.0.0.1:2']}]}]"))
        XCTAssertEqual(manager.status().active.map(\.url), ["http://127.0.0.1:2/metrics"])
        manager.apply(
            try configurations(
                "scrape_configs: [{job_name: a, static_configs: [{targets: [x]}], relabel_configs: [{action: drop, source_labels: [job], regex: a}]}]"))
        XCTAssertEqual(manager.status().active.count, 0)
        XCTAssertEqual(manager.status().dropped.count, 1)
    }
}
