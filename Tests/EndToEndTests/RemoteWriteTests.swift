import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// What one obsd takes goes on to another and to Debian's Prometheus, whatever of them is killed in between.
final class RemoteWriteTests: XCTestCase {
    private let client = HTTPClient()

    private func ask(_ address: String, _ path: String, _ parameters: [(String, String)]) -> JSONTree {
        let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
        guard let answer = try? client.perform(HTTPClientRequest(url: "http://\(address)\(path)?\(query)")), answer.status == 200 else { return JSONTree(nil) }
        return (try? JSONTree(answer.body)) ?? JSONTree(nil)
    }

    private func count(_ address: String, _ query: String, at time: Double) -> Int {
        let value = ask(address, "/api/v1/query", [("query", query), ("time", String(format: "%.3f", time))])["data"]["result"][0]["value"][1].number
        return value.isFinite ? Int(value) : 0
    }

    /// All samples of the last minutes, series by series.
    private func export(_ address: String, _ matchers: String, at time: Double) -> [String: JSONTree] {
        var series: [String: JSONTree] = [:]
        for found in ask(address, "/api/v1/query", [("query", "\(matchers)[10m]"), ("time", String(format: "%.3f", time))])["data"]["result"].list {
            series[found["metric"].description] = found["values"]
        }
        return series
    }

    /// Writes a sample of three series, again and again until it is taken.
    private func write(_ address: String, _ value: Int, at timeMillis: Int64) throws {
        var batch = MetricBatch()
        for name in ["a", "b", "c"] { batch.append(Labels([("__name__", "test_\(name)"), ("job", "test")]), timeMillis: timeMillis, value: Double(value)) }
        var encoder = RemoteWriteEncoder(.version1)
        for index in batch.series.indices { encoder.add(batch, series: index, rows: [], exemplars: []) }
        var request = HTTPClientRequest(url: "http://\(address)/api/v1/write", method: "POST", body: snappyCompress(encoder.message()))
        request.headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")]
        request.timeoutMillis = 5000
        let status = try eventually({ (try? client.perform(request).status) ?? 0 }, until: { $0 == 204 })
        guard status == 204 else { throw Place.Missing(what: "an answer to a write: \(status)") }
    }

    func testNothingIsLost() throws {
        let folder = try TemporaryFolder()
        let far = try ObsdProcess(data: folder.path + "/far")
        let theirs = "127.0.0.1:\(freePort())"
        let empty = try folder.write("prometheus.yml", "global: {}\n")
        let prometheus = try Background(
            Place.debian("usr/bin/prometheus"),
            [
                "--config.file=\(empty)", "--storage.tsdb.path=\(folder.path)/tsdb", "--web.listen-address=\(theirs)", "--log.level=warn",
                "--web.enable-remote-write-receiver",
            ], log: folder.path + "/prometheus.log")
        let exporter = "127.0.0.1:\(freePort())"
        let node = try Background(Place.debian("usr/bin/prometheus-node-exporter"), ["--web.listen-address=\(exporter)"], log: folder.path + "/node.log")
        let queue = "queue_config: {batch_send_deadline: 100ms, max_backoff: 500ms, max_samples_per_send: 500}"
        let config = try folder.write(
            "obsd.yml",
            """
            global: {scrape_interval: 500ms, scrape_timeout: 400ms}
            scrape_configs: [{job_name: node, static_configs: [{targets: ['\(exporter)']}]}]
            remote_write:
            - {name: far, url: 'http://\(far.http)/api/v1/write', protobuf_message: io.prometheus.write.v2.Request, \(queue)}
            - {name: prometheus, url: 'http://\(theirs)/api/v1/write', \(queue)}
            """)
        let near = try ObsdProcess(data: folder.path + "/near", ["--config", config])
        _ = try eventually({ count(theirs, "vector(1)", at: Date().timeIntervalSince1970) }, until: { $0 == 1 })

        let began = Date().timeIntervalSince1970
        var written = 0
        func writeSome(_ count: Int) throws {
            for _ in 0..<count {
                written += 1
                try write(near.http, written, at: Int64(Date().timeIntervalSince1970 * 1000))
                usleep(5000)
            }
        }
        try writeSome(100)
        XCTAssertEqual(try eventually({ self.count(far.http, "count_over_time(test_a[10m])", at: Date().timeIntervalSince1970) }, until: { $0 >= 100 }), 100)
        // A receiver that is away, the sender killed meanwhile, and once more while both receivers are there.
        far.crash()
        try writeSome(100)
        near.crash()
        try near.start()
        try writeSome(100)
        try far.start()
        try writeSome(100)
        near.crash()
        try near.start()
        try writeSome(100)
        let end = Date().timeIntervalSince1970 + 1
        for address in [far.http, theirs] {
            for name in ["a", "b", "c"] {
                let query = "count_over_time(test_\(name)[10m])"
                XCTAssertEqual(try eventually({ self.count(address, query, at: end) }, until: { $0 >= written }), written, "\(address) \(name)")
            }
        }
        let mine = export(near.http, #"{job="test"}"#, at: end)
        XCTAssertEqual(mine.count, 3)
        for address in [far.http, theirs] { XCTAssertEqual(export(address, #"{job="test"}"#, at: end), mine, address) }

        // Scrapes, as far as they are behind us.
        let upTo = began + 2
        let scraped = export(near.http, #"{job="node"}"#, at: upTo)
        XCTAssertGreaterThan(scraped.count, 300)
        for address in [far.http, theirs] {
            let found = export(address, #"{job="node"}"#, at: upTo)
            XCTAssertEqual(Set(found.keys), Set(scraped.keys), address)
            for (labels, values) in scraped { XCTAssertEqual(found[labels], values, "\(address) \(labels)") }
        }
        let metrics = String(decoding: try near.get("/metrics").body, as: UTF8.self)
        XCTAssertTrue(metrics.contains("obs_remote_write_samples_total{remote_name=\"far\""), metrics)
        withExtendedLifetime((prometheus, node)) {}
    }
}
