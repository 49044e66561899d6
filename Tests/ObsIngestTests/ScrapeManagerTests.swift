import Foundation
import ObsCore
import ObsNet
import ObsWire
import ObsYAML
import Synchronization
import XCTest

@testable import ObsIngest

private final class CollectingSink: ScrapeSink {
    let batches = Monitor<[MetricBatch]>([])
    func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void) {
        batches.update { $0.append(batch) }
        completion(nil)
    }

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
        XCTAssertEqual(byPool["broken"]?.lastError, "server returned HTTP status 500 Internal Server Error")
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
        let discovery = TargetDiscovery(configuration)
        func addresses() -> [String] {
            discovery.readFiles()
            return discovery.groups().groups.flatMap(\.addresses)
        }
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
    func testTheScheduleIsInOrder() {
        var schedule = ScrapeSchedule()
        func target(_ name: Int) -> ScrapedTarget {
            guard
                case .target(let target) = ScrapeTarget.make(
                    address: "h:\(name)", group: TargetGroup(addresses: [], labels: .empty, source: ""), configuration: ScrapeConfiguration())
            else { preconditionFailure("no target") }
            return ScrapedTarget(target, configuration: ScrapeConfiguration(), nowMillis: 0)
        }
        var state: UInt64 = 7
        var times: [Int64] = []
        for index in 0..<500 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let time = Int64(state >> 40) % 1000
            times.append(time)
            schedule.add(target(index), dueMillis: time)
        }
        XCTAssertEqual(schedule.firstMillis, times.min())
        var taken = 0
        for now in stride(from: Int64(0), through: 1000, by: 100) {
            taken += schedule.take(until: now).count
            XCTAssertEqual(taken, times.count { $0 <= now })
            XCTAssertEqual(schedule.firstMillis, times.filter { $0 > now }.min())
        }
        XCTAssertTrue(schedule.isEmpty)
    }

    private func start(_ handle: @escaping HTTPHandler) throws -> HTTPServer {
        try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: handle)
    }

    func testTargetsOfAnHTTPServer() throws {
        let list = Mutex(#"[{"targets":["a:1","b:1"],"labels":{"x":"y"}}]"#)
        let status = Mutex(200)
        let headers = Mutex<[String: String]>([:])
        let server = try start { request, responder in
            headers.withLock { for header in request.headers { $0[header.name] = header.value } }
            responder.send(
                HTTPResponse(
                    status: status.withLock { $0 }, headers: [("Content-Type", "application/json; charset=utf-8")], body: Array(list.withLock { $0 }.utf8)))
        }
        defer { server.stop(drainMillis: 100) }
        let configuration = try configurations(
            "scrape_configs: [{job_name: j, http_sd_configs: [{url: 'http://\(server.address)/sd', refresh_interval: 1ms, bearer_token: t}]}]")[0]
        let discovery = TargetDiscovery(configuration)
        let network = TargetDiscovery.Network(
            loop: HTTPClientLoop(name: "test-loop"), lookups: WorkerPool(name: "test-sd", threads: 1, queueMax: 10), clock: SystemClock())
        func ask(until wanted: ([TargetGroup]) -> Bool) -> [TargetGroup] {
            let deadline = Date().addingTimeInterval(20)
            while !wanted(discovery.groups().groups), Date() < deadline {
                discovery.ask(network)
                usleep(5000)
            }
            return discovery.groups().groups
        }
        let first = ask { !$0.isEmpty }
        XCTAssertEqual(first.map(\.addresses), [["a:1", "b:1"]])
        XCTAssertEqual("\(first[0].labels)", "{__meta_url=\"http://\(server.address)/sd\", x=\"y\"}")
        XCTAssertEqual(headers.withLock { $0["x-prometheus-refresh-interval-seconds"] }, "0.001")
        XCTAssertEqual(headers.withLock { $0["authorization"] }, "Bearer t")
        // A failure, an answer that is none: the old targets stay. The version does not change for nothing.
        let version = discovery.version
        status.withLock { $0 = 500 }
        list.withLock { $0 = "[]" }
        for _ in 0..<20 {
            discovery.ask(network)
            usleep(5000)
        }
        XCTAssertEqual(discovery.groups().groups, first)
        XCTAssertEqual(discovery.version, version)
        status.withLock { $0 = 200 }
        XCTAssertEqual(ask { $0.isEmpty }, [])
        // After a reload what is known holds until the server is asked again.
        list.withLock { $0 = #"[{"targets":["c:1"]}]"# }
        _ = ask { !$0.isEmpty }
        XCTAssertEqual(TargetDiscovery(configuration, former: discovery).groups().groups.map(\.addresses), [["c:1"]])
        network.loop.stop()
        network.lookups.stop()
    }

    func testTargetsOfRecords() {
        func shown(_ record: DNSRecord, _ type: DNSDiscovery.RecordType) -> String {
            let group = TargetDiscovery.groups([record], of: "n.example", DNSDiscovery(names: [], type: type, port: 80, refreshMillis: 1))[0]
            return "\(group.addresses[0]) \(group.labels)"
        }
        XCTAssertEqual(
            shown(DNSRecord(kind: .srv, target: "a.example.", port: 9100), .srv),
            #"a.example:9100 {__meta_dns_name="n.example", __meta_dns_srv_record_port="9100", __meta_dns_srv_record_target="a.example."}"#)
        XCTAssertEqual(shown(DNSRecord(kind: .a, target: "10.0.0.1"), .a), #"10.0.0.1:80 {__meta_dns_name="n.example"}"#)
        XCTAssertEqual(shown(DNSRecord(kind: .aaaa, target: "::1"), .aaaa), #"[::1]:80 {__meta_dns_name="n.example"}"#)
        XCTAssertEqual(
            shown(DNSRecord(kind: .mx, target: "m.example."), .mx), #"m.example:80 {__meta_dns_mx_record_target="m.example.", __meta_dns_name="n.example"}"#)
    }

    func testDroppedTargetsAreCountedAndSomeShown() throws {
        let manager = ScrapeManager(sink: CollectingSink())
        manager.apply(
            try configurations(
                """
                scrape_configs:
                - job_name: a
                  keep_dropped_targets: 2
                  static_configs: [{targets: [a, b, c, d]}]
                  relabel_configs: [{source_labels: [__address__], regex: '[abc]', action: drop}]
                """))
        XCTAssertEqual(manager.status().dropped.count, 2)
        XCTAssertEqual(manager.status().droppedCounts.map(\.count), [3])
        XCTAssertEqual(manager.status().active.count, 1)
    }

    func testTooManyTargetsFailTheJob() throws {
        let asked = Mutex(0)
        let server = try start { _, responder in
            asked.withLock { $0 += 1 }
            responder.send(HTTPResponse(status: 200, headers: [("Content-Type", "text/plain")], body: Array("m 1\n".utf8)))
        }
        defer { server.stop(drainMillis: 100) }
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink)
        manager.apply(
            try configurations(
                "scrape_configs: [{job_name: j, scrape_interval: 100ms, target_limit: 1, static_configs: [{targets: ['\(server.address)', '127.0.0.1:1']}]}]"))
        manager.start()
        XCTAssertNotNil(sink.wait("up") { $0 == 0 })
        let deadline = Date().addingTimeInterval(20)
        while manager.status().active.contains(where: { $0.health == .unknown }), Date() < deadline { usleep(10_000) }
        XCTAssertEqual(Set(manager.status().active.map(\.lastError)), ["target_limit exceeded (number of targets: 2, limit: 1)"])
        XCTAssertEqual(asked.withLock { $0 }, 0)
        manager.stop()
    }

    func testABodyPastItsLimit() throws {
        let body = Mutex("m 1\n")
        let server = try start { _, responder in
            responder.send(HTTPResponse(status: 200, headers: [("Content-Type", "text/plain")], body: Array(body.withLock { $0 }.utf8)))
        }
        defer { server.stop(drainMillis: 100) }
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink)
        manager.apply(
            try configurations(
                """
                scrape_configs:
                - {job_name: j, scrape_interval: 100ms, body_size_limit: 8B, extra_scrape_metrics: true, static_configs: [{targets: ['\(server.address)']}]}
                """))
        manager.start()
        XCTAssertNotNil(sink.wait("scrape_body_size_bytes") { $0 == 4 })
        // Eight bytes reach the limit.
        for text in ["mm 1234\n", String(repeating: "m 1\n", count: 1000)] {
            body.withLock { $0 = text }
            sink.batches.update { $0 = [] }
            XCTAssertNotNil(sink.wait("scrape_body_size_bytes") { $0 == -1 }, text)
        }
        XCTAssertNotNil(sink.wait("up") { $0 == 0 })
        // An empty body is a target without series.
        body.withLock { $0 = "" }
        XCTAssertNotNil(sink.wait("up") { $0 == 1 })
        manager.stop()
    }

    func testProtobufWithNativeHistograms() throws {
        let accepted = Mutex("")
        var family = ProtobufWriter()
        family.string(1, "h")
        family.varint(3, 4)
        family.message(4) {
            $0.message(7) {
                $0.varint(1, 1)
                $0.message(12) { $0.varint(2, 1) }
                $0.zigzag(13, 1)
            }
        }
        let body = [UInt8(family.bytes.count)] + family.bytes
        let server = try start { request, responder in
            accepted.withLock { $0 = request.header("accept") ?? "" }
            responder.send(
                HTTPResponse(
                    status: 200, headers: [("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")],
                    body: body))
        }
        defer { server.stop(drainMillis: 100) }
        let sink = CollectingSink()
        let manager = ScrapeManager(sink: sink)
        manager.apply(
            try configurations(
                "scrape_configs: [{job_name: j, scrape_interval: 200ms, scrape_native_histograms: true, static_configs: [{targets: ['\(server.address)']}]}]"))
        manager.start()
        let batch = sink.batches.wait(timeoutNanos: 20 * nanosPerSecond) { $0.first { !$0.histograms.isEmpty } }
        XCTAssertEqual(batch?.histograms.buckets, [1])
        XCTAssertTrue(accepted.withLock { $0 }.hasPrefix("application/vnd.google.protobuf;"))
        manager.stop()
    }
}
