import Foundation
import ObsNet
import ObsWire
import XCTest

final class LifecycleTests: XCTestCase {
    func testStartAnswerStop() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        for path in ["/-/healthy", "/-/ready", "/ready", "/metrics", "/", "/ui/app.js", "/ui/style.css", "/api/echo"] {
            XCTAssertEqual(try obsd.get(path).status, 200, path)
        }
        XCTAssertEqual(try obsd.get("/nothing/here").status, 404)
        XCTAssertEqual(try obsd.get("/insert/jsonline").status, 405)
        XCTAssertEqual(obsd.stop(), 0)
    }

    func testWhatWasWrittenIsThereAfterAStop() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"a","msg":"kept"}"#).status, 200)
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#), [#"{"app":"a","msg":"kept"}"#])
    }

    func testSecondDaemonOnTheSameFolderIsRefused() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let second = try Run(Place.obsd, ["--data", obsd.data, "--http", "127.0.0.1:0", "--otlp-http", "none"])
        XCTAssertEqual(second.status, 1)
        XCTAssertTrue(second.errors.contains("LOCK"), second.errors)
    }

    func testWrongUsage() throws {
        for (arguments, words) in [
            (["--nonsense"], "unknown flag --nonsense"), (["--retenton", "1d"], "did you mean --retention?"), (["--retention", "soon"], "no duration"),
            (["--http", "0.0.0.0:0"], "--auth none"), (["--http", "1.2.3.4.5:x", "--auth", "none"], "address"), (["--config", "/nowhere.yml"], "/nowhere.yml"),
            (["--tls-cert", "x"], "belong together"), (["frobnicate"], "unknown command"),
        ] {
            let folder = try TemporaryFolder()
            let run = try Run(Place.obsd, arguments + ["--data", folder.path])
            XCTAssertNotEqual(run.status, 0, "\(arguments)")
            XCTAssertTrue(run.errors.contains(words), "\(arguments): \(run.errors)")
        }
    }

    func testReloadIsAllOrNothing() throws {
        let folder = try TemporaryFolder()
        let config = try folder.write("prometheus.yml", "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}]\n")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        func jobs() throws -> [String] {
            var jobs: [String] = []
            try obsd.json("/api/v1/targets")["data"]?["activeTargets"]?.forEachElement { jobs.append($0["labels"]?["job"]?.string ?? "") }
            return jobs
        }
        XCTAssertEqual(try jobs(), ["a"])
        _ = try folder.write("prometheus.yml", "scrape_configs: [{job_name: b, no_such_key: 1}]\n")
        let refused = try obsd.post("/-/reload", "")
        XCTAssertEqual(refused.status, 500)
        XCTAssertTrue(String(decoding: refused.body, as: UTF8.self).contains("no_such_key"))
        XCTAssertEqual(try jobs(), ["a"])
        _ = try folder.write("prometheus.yml", "scrape_configs: [{job_name: b, static_configs: [{targets: ['127.0.0.1:1']}]}]\n")
        obsd.signal(SIGHUP)
        XCTAssertEqual(try eventually(jobs, until: { $0 == ["b"] }), ["b"])
    }

    func testCheck() throws {
        let folder = try TemporaryFolder()
        let rules = try folder.write("rules.yml", "groups: [{name: g, rules: [{alert: A, expr: 'up == 0'}]}]\n")
        let good = try folder.write("good.yml", "rule_files: [\(rules)]\nscrape_configs: [{job_name: a}]\nremote_read: [{url: 'http://x'}]\n")
        let run = try Run(Place.obsd, ["check", "--config", good])
        XCTAssertEqual(run.status, 0, run.errors)
        XCTAssertTrue(run.output.contains("1 scrape jobs, 1 rule files"), run.output)
        XCTAssertTrue(run.errors.contains("remote_read"), run.errors)
        _ = try folder.write("rules.yml", "groups: [{name: g, rules: [{alert: A, expr: 'up =='}]}]\n")
        XCTAssertNotEqual(try Run(Place.obsd, ["check", "--config", good]).status, 0)
    }

    func testFlagsPageIsTheProgramsOwn() throws {
        let page = try String(contentsOf: Place.root.appendingPathComponent("docs/flags.md"), encoding: .utf8)
        XCTAssertEqual(try Run(Place.obsd, ["flags"]).output, page, "run `.build/debug/obsd flags > docs/flags.md`")
    }
}
