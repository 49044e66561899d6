import Foundation
import ObsNet
import XCTest

/// `obsd.storage` of the configuration file.
final class RetentionTests: XCTestCase {
    private func storage(_ text: String) -> String { "obsd:\n  storage:\n" + text.split(separator: "\n").map { "    \($0)\n" }.joined() }

    func testWhatTheFileMaySay() throws {
        let folder = try TemporaryFolder()
        let config = try folder.write(
            "obsd.yml",
            storage(
                """
                retention-bytes: 500GB
                retention-bytes-by-signal: {logs: 100GB, metrics: none}
                retention-bytes-by-tenant: {acme: 50GB, free: none}
                retention-bytes-each-tenant: 10GB
                free-bytes-min: 32MB
                retention-rules:
                  - {signal: logs, selector: '{namespace="dev"}', keep: 24h}
                  - {signal: logs, selector: '{namespace="dev", app="audit"}', keep: 20d, priority: 1}
                  - {signal: metrics, selector: '{__name__=~"debug_.*"}', keep: 2h, tenant: acme}
                  - {signal: traces, selector: '{resource.service.name="probe" && name=~"GET /health.*"}', keep: 1d}
                  - {signal: traces, keep: 7d, priority: -1}
                  - {signal: metrics, selector: '{}', keep: 30d}
                """))
        let run = try Run(Place.obsd, ["check", "--config", config])
        XCTAssertEqual(run.status, 0, run.errors)
        XCTAssertNotEqual(try Run(Place.obsd, ["check", "--config", config, "--retention", "20d"]).status, 0)
        XCTAssertEqual(try Run(Place.obsd, ["check", "--config", config, "--retention", "none"]).status, 0)
    }

    func testWhatItMayNotSay() throws {
        let folder = try TemporaryFolder()
        for (text, words) in [
            ("retention-byte: 1GB", "retention-byte"), ("retention-bytes: 0", "more than nothing"), ("retention-bytes: much", "not a valid size"),
            ("retention-bytes-by-signal: {smoke: 1GB}", "smoke"), ("free-bytes-min: 0", "more than nothing"),
            ("retention-bytes-by-tenant: {'a/b': 1GB}", "invalid tenant id"),
            ("retention-bytes-by-tenant: {a: x}", "not a valid size"), ("retention-rules: {signal: logs}", "must be a list"),
            ("retention-rules: [{signal: smoke, keep: 1d}]", "metrics, logs or traces"), ("retention-rules: [{signal: logs}]", "keep"),
            ("retention-rules: [{keep: 1d}]", "signal"), ("retention-rules: [{signal: logs, keep: soon}]", "not a valid duration"),
            ("retention-rules: [{signal: logs, keep: 0s}]", "some time"), ("retention-rules: [{signal: logs, keep: 1d, selektor: '{}'}]", "selektor"),
            ("retention-rules: [{signal: logs, keep: 1d, selector: '{app='}]", "retention-rules[0]"),
            ("retention-rules: [{signal: metrics, keep: 1d, selector: 'rate(a[5m])'}]", "selector"),
            ("retention-rules: [{signal: traces, keep: 1d, selector: '{kind=server}'}]", "resource.service.name"),
            ("retention-rules: [{signal: logs, keep: 1d, tenant: 'a b'}]", "invalid tenant id"),
            ("retention-rules: [{signal: logs, keep: 31d}]", "longer than --retention"),
        ] {
            let run = try Run(Place.obsd, ["check", "--config", try folder.write("obsd.yml", storage(text))])
            XCTAssertNotEqual(run.status, 0, text)
            XCTAssertTrue((run.errors + run.output).contains(words), "\(text): \(run.errors)\(run.output)")
        }
    }

    func testTheStoreTellsItsFigures() throws {
        let folder = try TemporaryFolder()
        // More than any disk has: writes are refused, and the answer names the setting.
        let config = try folder.write("obsd.yml", storage("free-bytes-min: 1024PB"))
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        let line = #"{"app":"a","msg":"kept"}"#
        let refused = try obsd.post("/insert/jsonline?_stream_fields=app", line)
        XCTAssertEqual(refused.status, 503)
        XCTAssertTrue(String(decoding: refused.body, as: UTF8.self).contains("obsd.storage.free-bytes-min"))
        XCTAssertEqual(obsd.stop(), 0)
        _ = try folder.write("obsd.yml", storage("free-bytes-min: none"))
        try obsd.start()
        func figures() throws -> [String: Double] {
            var found: [String: Double] = [:]
            for line in String(decoding: try obsd.get("/metrics").body, as: UTF8.self).split(separator: "\n") where line.contains(#"{signal="logs"}"#) {
                let parts = line.split(separator: " ")
                found[String(parts[0].prefix { $0 != "{" })] = Double(parts[1])
            }
            return found
        }
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", line).status, 200)
        var now = try figures()
        XCTAssertEqual(now["obs_head_rows"], 1)
        XCTAssertEqual(now["obs_segments"], 0)
        XCTAssertGreaterThan(now["obs_wal_bytes"] ?? 0, 50)
        XCTAssertGreaterThan(now["obs_head_bytes"] ?? 0, 50)
        XCTAssertEqual(try obsd.post("/-/flush", "").status, 200)
        now = try figures()
        XCTAssertEqual(now["obs_head_rows"], 0)
        XCTAssertEqual(now["obs_segments"], 1)
        XCTAssertEqual(now["obs_segment_rows"], 1)
        XCTAssertGreaterThan(now["obs_segment_bytes"] ?? 0, 50)
        XCTAssertEqual(now["obs_flushed_bytes_total"], now["obs_segment_bytes"])
        XCTAssertEqual(now["obs_merges_total"], 0)
        XCTAssertEqual(now["obs_merged_bytes_total"], 0)
        XCTAssertEqual(now["obs_dropped_bytes_total"], 0)
        XCTAssertEqual(now["obs_pending_deletions"], 0)
        XCTAssertEqual(try obsd.post("/loki/api/v1/delete?start=0&query=%7Bapp%3D%22a%22%7D", "").status, 204)
        XCTAssertEqual(try figures()["obs_pending_deletions"], 1)
        let bytes = now["obs_segment_bytes"]
        _ = try folder.write("obsd.yml", storage("retention-rules: [{signal: logs, keep: 1ms}]"))
        XCTAssertEqual(try obsd.post("/-/reload", "").status, 200)
        XCTAssertEqual(try eventually({ try figures()["obs_dropped_bytes_total"] }, until: { $0 == bytes }), bytes)
        XCTAssertEqual(try figures()["obs_segments"], 0)
    }

    func testAReloadPutsRulesInForce() throws {
        let folder = try TemporaryFolder()
        let config = try folder.write("obsd.yml", "")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        let now = Int64(Date().timeIntervalSince1970)
        for (app, age) in [("dev", 7200), ("dev", 60), ("shop", 7200)] {
            let body = #"{"streams":[{"stream":{"app":"\#(app)"},"values":[["\#(now - Int64(age))000000000","\#(app) \#(age)"]]}]}"#
            XCTAssertEqual(try obsd.post("/loki/api/v1/push", body).status, 204)
        }
        func lines() throws -> [String] { try obsd.logLines(#"{app=~".+"}"#, since: 10_000) }
        XCTAssertEqual(try lines().sorted(), ["dev 60", "dev 7200", "shop 7200"])
        _ = try folder.write("obsd.yml", storage(#"retention-rules: [{signal: logs, selector: '{app="dev"}', keep: 1h}]"#))
        XCTAssertEqual(try obsd.post("/-/reload", "").status, 200)
        XCTAssertEqual(try lines().sorted(), ["dev 60", "shop 7200"])
        _ = try folder.write("obsd.yml", storage(#"retention-rules: [{signal: logs, selector: '{app="dev"', keep: 1h}]"#))
        XCTAssertEqual(try obsd.post("/-/reload", "").status, 500)
        XCTAssertEqual(try lines().sorted(), ["dev 60", "shop 7200"], "the former rules stay in force")
        XCTAssertEqual(obsd.stop(), 0)
        _ = try folder.write("obsd.yml", storage(#"retention-rules: [{signal: logs, keep: 1h, priority: 1}]"#))
        try obsd.start()
        XCTAssertEqual(try lines(), ["dev 60"])
    }
}
