import Foundation
import ObsNet
import XCTest

/// Debian's Prometheus scrapes node-exporter and remote-writes into obsd: both must then hold the same, and promtool must not see a difference.
final class PrometheusClientTests: XCTestCase {
    func testRemoteWriteAndPromtool() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let exporter = "127.0.0.1:\(freePort())"
        var node: Background? = try Background(
            Place.debian("usr/bin/prometheus-node-exporter"), ["--web.listen-address=\(exporter)"], log: folder.path + "/node.log")
        let config = try folder.write(
            "prometheus.yml",
            """
            global: {scrape_interval: 1s, scrape_timeout: 1s}
            scrape_configs: [{job_name: node, static_configs: [{targets: ['\(exporter)'], labels: {zone: "ä b"}}]}]
            remote_write: [{url: 'http://\(obsd.http)/api/v1/write', queue_config: {batch_send_deadline: 200ms}, metadata_config: {send_interval: 1s}}]
            """)
        let theirs = "127.0.0.1:\(freePort())"
        let prometheus = try Background(
            Place.debian("usr/bin/prometheus"),
            ["--config.file=\(config)", "--storage.tsdb.path=\(folder.path)/tsdb", "--web.listen-address=\(theirs)", "--log.level=warn"],
            log: folder.path + "/prometheus.log")
        let client = HTTPClient()
        func ask(_ address: String, _ path: String, _ parameters: [(String, String)]) throws -> JSONTree {
            let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
            // A server that still starts refuses the connection, or answers 503 in plain text.
            guard let answer = try? client.perform(HTTPClientRequest(url: "http://\(address)\(path)?\(query)")), answer.status != 503 else {
                return JSONTree(nil)
            }
            return try JSONTree(answer.body)
        }
        func value(_ address: String, _ query: String, _ time: Double? = nil) throws -> Double {
            try ask(address, "/api/v1/query", [("query", query)] + (time.map { [("time", String(format: "%.3f", $0))] } ?? []))["data"]["result"][0]["value"][1]
                .number
        }

        // Half an interval after a scrape that obsd has too, so that no sample lies on the edge of a window (2.x windows hold their left edge, ours do not).
        let scrapes = try eventually({ try value(theirs, "count_over_time(up[1m])") }, until: { $0 >= 8 })
        XCTAssertGreaterThanOrEqual(scrapes, 8)
        let time = try value(theirs, "timestamp(up)") - 0.5
        _ = try eventually({ try value(obsd.http, "timestamp(up)") }, until: { $0 > time })
        XCTAssertGreaterThan(try value(obsd.http, "timestamp(up)"), time)

        func export(_ address: String) throws -> [String: JSONTree] {
            var series: [String: JSONTree] = [:]
            for found in try ask(address, "/api/v1/query", [("query", #"{__name__=~".+"}[6s]"#), ("time", String(format: "%.3f", time))])["data"]["result"].list
            {
                series[found["metric"].description] = found["values"]
            }
            return series
        }
        let wanted = try export(theirs)
        let found = try export(obsd.http)
        XCTAssertGreaterThan(wanted.count, 300)
        XCTAssertEqual(Set(wanted.keys), Set(found.keys))
        for (labels, values) in wanted { XCTAssertEqual(found[labels], values, labels) }

        let start = String(format: "%.3f", time - 5)
        let end = String(format: "%.3f", time)
        let promtool = try Place.debian("usr/bin/promtool")
        func lines(_ address: String, _ words: [String]) throws -> [String] {
            let place = words.firstIndex(of: "SERVER") ?? 0
            var arguments = ["query"] + words
            arguments[place + 1] = "http://\(address)"
            let run = try Run(promtool, arguments)
            XCTAssertEqual(run.status, 0, run.errors)
            return run.output.split(separator: "\n").map(String.init)
        }
        for expression in [
            "up", "node_load1", "sum(rate(node_cpu_seconds_total[5s])) by (mode)", "1 + 1", "node_memory_MemTotal_bytes / 2 ^ 20",
            "topk(3, node_cpu_seconds_total)",
            #"label_replace(up, "host", "$1", "instance", "(.*):.*")"#, "scrape_samples_scraped", "count({__name__!=\"\"}) by (__name__)", "node_uname_info",
            "absent(nothing)",
            "node_filesystem_avail_bytes > 1e3", "go_gc_duration_seconds", "up[3s]",
        ] {
            let instant = ["instant", "--time=\(end)", "SERVER", expression]
            let expected = try lines(theirs, instant)
            XCTAssertFalse(expected.isEmpty, expression)
            XCTAssertEqual(try lines(obsd.http, instant).sorted(), expected.sorted(), expression)
        }
        for expression in [
            "up", "rate(node_cpu_seconds_total[3s])", "node_load1 * 2", "avg_over_time(node_memory_MemFree_bytes[2s])",
            "sum by (mode) (node_cpu_seconds_total)",
        ] {
            let range = ["range", "--start=\(start)", "--end=\(end)", "--step=1s", "SERVER", expression]
            let expected = try lines(theirs, range)
            XCTAssertFalse(expected.isEmpty, expression)
            XCTAssertEqual(try lines(obsd.http, range), expected, expression)
        }
        for words in [
            ["series", "--match=up", "--match={__name__=~\"node_cpu.*\",cpu=\"0\"}", "--start=\(start)", "--end=\(end)", "SERVER"],
            ["labels", "--start=\(start)", "--end=\(end)", "SERVER", "__name__"], ["labels", "SERVER", "zone"], ["labels", "--match=up", "SERVER", "__name__"],
        ] {
            let expected = try lines(theirs, words)
            XCTAssertFalse(expected.isEmpty, "\(words)")
            XCTAssertEqual(try lines(obsd.http, words).sorted(), expected.sorted(), "\(words)")
        }
        XCTAssertEqual(
            try ask(obsd.http, "/api/v1/labels", [("start", start), ("end", end)])["data"],
            try ask(theirs, "/api/v1/labels", [("start", start), ("end", end)])["data"])

        // A target that goes: stale markers come through remote write.
        node = nil
        XCTAssertNil(node)
        XCTAssertEqual(try eventually({ try value(obsd.http, "up") }, until: { $0 == 0 }), 0)
        XCTAssertEqual(try eventually({ try ask(obsd.http, "/api/v1/query", [("query", "node_load1")])["data"]["result"].list.count }, until: { $0 == 0 }), 0)
        XCTAssertTrue(try value(obsd.http, "node_load1", time).isFinite)
        withExtendedLifetime(prometheus) {}
    }
}
