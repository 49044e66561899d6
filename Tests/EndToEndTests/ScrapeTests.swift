import Foundation
import ObsNet
import XCTest

/// obsd as the scraper.
final class ScrapeTests: XCTestCase {
    func testNodeExporterByStaticAndFileDiscovery() throws {
        let folder = try TemporaryFolder()
        let address = "127.0.0.1:\(freePort())"
        var node: Background? = try Background(
            Place.debian("usr/bin/prometheus-node-exporter"), ["--web.listen-address=\(address)"], log: folder.path + "/node.log")
        let targets = try folder.write("targets.json", #"[{"targets":["\#(address)"],"labels":{"zone":"z1"}}]"#)
        let config = try folder.write(
            "prometheus.yml",
            """
            global: {scrape_interval: 1s, scrape_timeout: 1s}
            scrape_configs:
              - job_name: static
                static_configs: [{targets: ['\(address)']}]
              - job_name: files
                file_sd_configs: [{files: ['\(folder.path)/*.json'], refresh_interval: 1s}]
            """)
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        for job in ["static", "files"] {
            let times = try eventually({ try obsd.value(#"count_over_time((up{job="\#(job)"} == 1)[1m:1s])"#) ?? 0 }, until: { $0 >= 3 })
            XCTAssertGreaterThanOrEqual(times, 3, job)
            // At one scrape: what the scrape says it saw is what is stored at that time.
            let time = try XCTUnwrap(obsd.value(#"timestamp(up{job="\#(job)"})"#))
            let stored = try obsd.value(#"count({job="\#(job)",__name__!~"up|scrape_.*"})"#, at: time)
            XCTAssertEqual(stored, try obsd.value(#"scrape_samples_scraped{job="\#(job)"}"#, at: time))
            XCTAssertEqual(stored, try obsd.value(#"scrape_samples_post_metric_relabeling{job="\#(job)"}"#, at: time))
            XCTAssertGreaterThan(stored ?? 0, 300)
            XCTAssertEqual(try obsd.samples(#"up{job="\#(job)"}"#, by: ["instance", "zone"]), [address + (job == "files" ? ",z1" : ","): 1])
            XCTAssertEqual(try obsd.value(#"count({job="\#(job)",__name__=~"scrape_duration_seconds|scrape_series_added"})"#, at: time), 2)
        }
        // The kernel's own number, in the middle of everything else.
        let memory = try String(contentsOfFile: "/proc/meminfo", encoding: .utf8).split(separator: "\n")[0].split(whereSeparator: { !$0.isNumber })[0]
        XCTAssertEqual(try obsd.value(#"node_memory_MemTotal_bytes{job="static"}"#), Double(memory).map { $0 * 1024 })

        let listed = try obsd.tree("/api/v1/targets")["data"]
        XCTAssertEqual(Set(listed["activeTargets"].list.map { $0["scrapePool"].text }), ["static", "files"])
        for target in listed["activeTargets"].list {
            XCTAssertEqual(target["scrapeUrl"].text, "http://\(address)/metrics")
            XCTAssertEqual(target["health"].text, "up")
            XCTAssertEqual(target["lastError"].text, "")
            XCTAssertEqual(target["scrapeInterval"].text, "1s")
            XCTAssertEqual(target["labels"]["instance"].text, address)
            XCTAssertEqual(target["discoveredLabels"]["__address__"].text, address)
        }
        XCTAssertEqual(try obsd.tree("/api/v1/scrape_pools")["data"]["scrapePools"].texts.sorted(), ["files", "static"])

        // The file names another target: the first goes stale, the second is down and has its `up`.
        let lost = "127.0.0.1:\(freePort())"
        try #"[{"targets":["\#(lost)"]}]"#.write(toFile: targets, atomically: true, encoding: .utf8)
        let moved = try eventually({ try obsd.samples(#"up{job="files"}"#, by: ["instance"]) }, until: { $0 == [lost: 0] })
        XCTAssertEqual(moved, [lost: 0])
        XCTAssertEqual(try obsd.samples(#"node_load1{job="files"}"#), [:])

        // The exporter dies: up 0, all its series stale, the past still there.
        let before = try XCTUnwrap(obsd.value(#"timestamp(up{job="static"})"#))
        node = nil
        XCTAssertNil(node)
        XCTAssertEqual(try eventually({ try obsd.value(#"up{job="static"}"#) }, until: { $0 == 0 }), 0)
        XCTAssertEqual(try obsd.samples(#"count({job="static",__name__!~"up|scrape_.*"})"#), [:])
        XCTAssertEqual(try obsd.value(#"up{job="static"}"#, at: before), 1)
        XCTAssertNotNil(try obsd.value(#"node_load1{job="static"}"#, at: before))
        let down = try obsd.tree("/api/v1/targets")["data"]["activeTargets"].list
        XCTAssertEqual(down.map { $0["health"].text }, ["down", "down"])
        XCTAssertFalse(down.contains { $0["lastError"].text.isEmpty })
    }

    /// The same target by every protocol: the same series, whatever they came as.
    func testProtocolsAgree() throws {
        let folder = try TemporaryFolder()
        let node = "127.0.0.1:\(freePort())"
        let exporter = try Background(Place.debian("usr/bin/prometheus-node-exporter"), ["--web.listen-address=\(node)"], log: folder.path + "/node.log")
        let theirs = "127.0.0.1:\(freePort())"
        let empty = try folder.write("empty.yml", "global: {}\n")
        let prometheus = try Background(
            Place.debian("usr/bin/prometheus"),
            ["--config.file=\(empty)", "--storage.tsdb.path=\(folder.path)/tsdb", "--web.listen-address=\(theirs)", "--log.level=warn"],
            log: folder.path + "/prometheus.log")
        let protocols = ["PrometheusProto", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"]
        let config = try folder.write(
            "prometheus.yml",
            "global: {scrape_interval: 1s}\nscrape_configs:\n"
                + protocols.map { "- {job_name: \($0), scrape_protocols: [\($0)], static_configs: [{targets: ['\(node)', '\(theirs)']}]}\n" }.joined())
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        for name in protocols {
            XCTAssertEqual(try eventually({ try obsd.value(#"sum(sum_over_time(up{job="\#(name)"}[1m]) > bool 1)"#) ?? 0 }, until: { $0 == 2 }), 2, name)
        }
        // Those that count what is asked, which one protocol's job has asked for and another's not yet.
        let moving = "promhttp_.*|prometheus_http_.*|prometheus_engine_.*|up|scrape_.*"
        func series(_ job: String) throws -> Set<String> {
            let found = try obsd.tree("/api/v1/series", [("match[]", #"{job="\#(job)",__name__!~"\#(moving)"}"#)])["data"].list
            return Set(found.map { $0.description.replacingOccurrences(of: job, with: "JOB") })
        }
        let wanted = try series("PrometheusText0.0.4")
        XCTAssertGreaterThan(wanted.count, 500)
        XCTAssertTrue(wanted.contains { $0.contains("le") && $0.contains("_bucket") })
        for name in protocols {
            let found = try eventually({ try series(name) }, until: { $0 == wanted })
            XCTAssertEqual(found.symmetricDifference(wanted), [], name)
        }
        withExtendedLifetime((exporter, prometheus)) {}
    }

    func testExpositionFormats() throws {
        let folder = try TemporaryFolder()
        let fixtures = try TemporaryFolder()
        _ = try fixtures.write(
            "plain.txt",
            """
            # HELP requests_total Requests, a \\\\ and\\na line.
            # TYPE requests_total counter
            requests_total{code="200",path="C:\\\\x \\"q\\"\\nz"} 1027
              requests_total { code = "400" , } 3
            # TYPE rpc summary
            rpc{quantile="0.5"} 4.5
            rpc_sum 17560473
            rpc_count 2693
            # TYPE lat histogram
            lat_bucket{le="1"} 2
            lat_bucket{le="+Inf"} 5
            lat_sum 7.5
            lat_count 5
            special{v="inf"} +Inf
            special{v="neg"} -Inf
            special{v="small"} 1.458255915e-09
            {"utf.8 näme", "lábel.x"="ü"} 42
            empty{a=""} 1

            """)
        _ = try fixtures.write(
            "open.om",
            """
            # TYPE foo_seconds counter
            # HELP foo_seconds Help \\"me\\".
            # UNIT foo_seconds seconds
            foo_seconds_total{a="b"} 17.0 # {trace_id="5b8efff798038103d269b633813fc60c"} 0.67
            foo_seconds_created{a="b"} 1520872607.123
            # TYPE build info
            build_info{version="1.2"} 1
            # TYPE "my.gauge" gauge
            {"my.gauge","k.1"="v"} -1.5
            # EOF

            """)
        _ = try fixtures.write("cut.om", "# TYPE cut gauge\ncut 1\n")
        _ = try fixtures.write("broken.txt", "good 1\nbad{ 2\n")
        _ = try fixtures.write("page.html", "good 1\n")
        let port = freePort()
        guard FileManager.default.isExecutableFile(atPath: Place.python) else { throw Place.Missing(what: "run `deploy/deps test`") }
        let server = try Background(Place.python, ["\(Place.clients)/exposition.py", String(port), fixtures.path], log: folder.path + "/exposition.log")
        let jobs = ["plain.txt", "open.om", "cut.om", "broken.txt", "page.html", "missing.txt"]
        let config = try folder.write(
            "prometheus.yml",
            "global: {scrape_interval: 1s}\nscrape_configs:\n"
                + jobs.map { "  - {job_name: \($0), metrics_path: /\($0), static_configs: [{targets: ['127.0.0.1:\(port)']}]}\n" }.joined())
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        for job in ["plain.txt", "open.om"] {
            XCTAssertEqual(try eventually({ try obsd.value(#"up{job="\#(job)"}"#) }, until: { $0 == 1 }), 1, job)
        }
        for job in ["cut.om", "broken.txt", "page.html", "missing.txt"] {
            XCTAssertEqual(try eventually({ try obsd.value(#"up{job="\#(job)"}"#) }, until: { $0 == 0 }), 0, job)
            XCTAssertEqual(try obsd.samples(#"{job="\#(job)",__name__!~"up|scrape_.*"}"#), [:], job)
            let target = try obsd.tree("/api/v1/targets", [("scrapePool", job)])["data"]["activeTargets"]
            XCTAssertEqual(target.list.count, 1, job)
            XCTAssertNotEqual(target[0]["lastError"].text, "", job)
        }
        XCTAssertEqual(try obsd.samples("requests_total", by: ["code", "path"]), ["200,C:\\x \"q\"\nz": 1027, "400,": 3])
        XCTAssertEqual(try obsd.samples("rpc", by: ["quantile"]), ["0.5": 4.5])
        XCTAssertEqual(try obsd.samples("rpc_sum / rpc_count"), ["": 17560473.0 / 2693])
        XCTAssertEqual(try obsd.samples("lat_bucket", by: ["le"]), ["1.0": 2, "+Inf": 5])
        XCTAssertEqual(try obsd.samples("special", by: ["v"]), ["inf": .infinity, "neg": -.infinity, "small": 1.458255915e-09])
        XCTAssertEqual(try obsd.samples(#"{"utf.8 näme"}"#, by: ["lábel.x"]), ["ü": 42])
        XCTAssertEqual(try obsd.samples(#"empty{a=""}"#), ["": 1])
        XCTAssertEqual(try obsd.samples(#"scrape_samples_scraped{job="plain.txt"}"#), ["": 14])
        XCTAssertEqual(try obsd.samples("foo_seconds_total", by: ["a"]), ["b": 17])
        XCTAssertEqual(try obsd.samples("build_info", by: ["version"]), ["1.2": 1])
        XCTAssertEqual(try obsd.samples(#"{"my.gauge"}"#, by: ["k.1"]), ["v": -1.5])
        let metadata = try obsd.tree("/api/v1/metadata")["data"]
        XCTAssertEqual(metadata["requests_total"].description, #"[{"help":"Requests, a \\ and\na line.","type":"counter","unit":""}]"#)
        XCTAssertEqual(metadata["my.gauge"][0]["type"].text, "gauge")

        // A series that is gone from the next exposition is stale at once, the others go on.
        _ = try fixtures.write("plain.txt", "rpc_sum 1\n")
        XCTAssertEqual(try eventually({ try obsd.samples("requests_total") }, until: { $0.isEmpty }), [:])
        XCTAssertEqual(try obsd.samples("rpc_sum"), ["": 1])
        withExtendedLifetime(server) {}
    }
}
