import Foundation
import ObsCore
import ObsNet
import ObsWire
import ObsYAML
import XCTest

@testable import ObsIngest

final class ScrapeConfigurationTests: XCTestCase {
    private func parse(_ text: String) throws -> PrometheusConfiguration {
        let root = try YAMLMapping(YAMLNode.parse(text))
        let configuration = try PrometheusConfiguration(root, directory: "/etc/prometheus")
        _ = root.skip(["rule_files", "alerting"])
        try root.finish()
        return configuration
    }

    func testOrdinaryFile() throws {
        let all = try parse(
            """
            global:
              scrape_interval: 15s
              evaluation_interval: 30s
              external_labels: {region: eu}
            rule_files: ["x.yml"]
            scrape_configs:
              - job_name: node
                static_configs: [{targets: ["localhost:9100"], labels: {env: prod}}]
              - job_name: files
                scrape_interval: 5s
                scrape_timeout: 4s
                honor_labels: true
                scheme: https
                metrics_path: /m
                params: {module: [a, b]}
                sample_limit: 10
                body_size_limit: 1MB
                file_sd_configs: [{files: ["t/*.json", "/abs/x.yml"]}]
                kubernetes_sd_configs: [{role: pod}]
                basic_auth: {username: u, password: p}
                tls_config: {ca_file: ca.pem, insecure_skip_verify: true}
            """)
        XCTAssertEqual(all.global.evaluationIntervalMillis, 30_000)
        XCTAssertEqual(all.scrapes.map(\.jobName), ["node", "files"])
        XCTAssertEqual(all.scrapes[0].intervalMillis, 15_000)
        XCTAssertEqual(all.scrapes[0].timeoutMillis, 10_000)
        let files = all.scrapes[1]
        XCTAssertEqual(files.intervalMillis, 5000)
        XCTAssertEqual(files.fileGlobs, ["/etc/prometheus/t/*.json", "/abs/x.yml"])
        XCTAssertEqual(files.limits.samplesMax, 10)
        XCTAssertEqual(files.limits.bodyBytesMax, 1 << 20)
        XCTAssertEqual(files.connection.tls.caFile, "/etc/prometheus/ca.pem")
        XCTAssertEqual(files.connection.user?.text, "u")
        XCTAssertEqual(all.warnings.count, 1)
        XCTAssertTrue(all.warnings.contains { $0.contains("kubernetes_sd_configs") })
    }

    func testTimeoutFollowsShortInterval() throws {
        XCTAssertEqual(try parse("scrape_configs: [{job_name: a, scrape_interval: 5s}]").scrapes[0].timeoutMillis, 5000)
        XCTAssertEqual(try parse("global: {scrape_interval: 3s}").global.scrapeTimeoutMillis, 3000)
    }

    func testErrorsNameTheirPlace() {
        func fails(_ yaml: String, _ expected: String, line: UInt = #line) {
            XCTAssertThrowsError(try parse(yaml), line: line) { XCTAssertEqual(($0 as? ObsError)?.message, expected, line: line) }
        }
        fails("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s", "scrape_configs[0].scrape_intervall (line 3): unknown key \"scrape_intervall\"")
        fails(
            "scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 6s",
            "scrape_configs[0].scrape_timeout (line 4): scrape timeout is longer than the scrape interval (5s)")
        fails("scrape_configs: [{job_name: a}, {job_name: a}]", "scrape_configs[1] (line 1): job name \"a\" is used twice")
        fails("scrape_configs: [{}]", "scrape_configs[0] (line 1): \"job_name\" is missing")
        fails("scrape_configs: [{job_name: a, scheme: ftp}]", "scrape_configs[0].scheme (line 1): scheme must be http or https")
        fails(
            "scrape_configs: [{job_name: a, file_sd_configs: [{files: [x.txt]}]}]",
            "scrape_configs[0].file_sd_configs[0].files (line 1): \"x.txt\" must end in .json, .yml or .yaml")
        fails(
            "scrape_configs:\n- job_name: a\n  scrape_protocols: [PrometheusText0.0.4, Nope]",
            "scrape_configs[0].scrape_protocols[1] (line 3): unknown scrape protocol \"Nope\"; known are PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, "
                + "PrometheusText1.0.0, PrometheusText0.0.4")
        fails(
            "scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto, PrometheusProto]}]",
            "scrape_configs[0].scrape_protocols[1] (line 1): \"PrometheusProto\" is named twice")
        fails("scrape_configs: [{job_name: a, sample_limit: -1}]", "scrape_configs[0].sample_limit (line 1): must not be negative")
        fails(
            "scrape_configs: [{job_name: a, basic_auth: {username: u}, bearer_token: t}]",
            "scrape_configs[0].bearer_token (line 1): at most one of basic_auth, bearer_token can be configured")
        fails(
            "scrape_configs: [{job_name: a, authorization: {credentials: c, credentials_file: f}}]",
            "scrape_configs[0].authorization.credentials (line 1): at most one of credentials and credentials_file can be configured")
        fails(
            "scrape_configs: [{job_name: a, tls_config: {cert_file: f}}]",
            "scrape_configs[0].tls_config (line 1): a client certificate (cert) and its key belong together")
        fails(
            "scrape_configs: [{job_name: a, tls_config: {min_version: TLS9}}]",
            "scrape_configs[0].tls_config.min_version (line 1): unknown TLS version \"TLS9\"; known are TLS10, TLS11, TLS12, TLS13")
        fails("scrape_configs: [{job_name: a, oauth2: {client_id: x}}]", "scrape_configs[0].oauth2 (line 1): \"token_url\" is missing")
        fails(
            "scrape_configs: [{job_name: a, dns_sd_configs: [{names: [x], type: A}]}]",
            "scrape_configs[0].dns_sd_configs[0] (line 1): a port is needed for records of type A")
        fails(
            "scrape_configs: [{job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}]",
            "scrape_configs[0].metric_name_escaping_scheme (line 1): names in UTF-8 are asked for, but name validation is legacy")
        fails(
            "scrape_configs: [{job_name: a, http_sd_configs: [{url: 'ftp://x'}]}]",
            "scrape_configs[0].http_sd_configs[0].url (line 1): must begin with http:// or https://")
        fails("global: {scrape_interval: 0s}", "global.scrape_interval (line 1): must be longer than 0")
        fails("nonsense: 1", "nonsense (line 1): unknown key \"nonsense\"")
    }

    func testWhatEntriesInherit() throws {
        let all = try parse(
            """
            global: {sample_limit: 5, label_limit: 3, body_size_limit: 1KB, extra_scrape_metrics: true, scrape_native_histograms: true, keep_dropped_targets: 7}
            scrape_configs:
            - {job_name: plain}
            - {job_name: own, sample_limit: 6, label_limit: 0, extra_scrape_metrics: false, scrape_protocols: [PrometheusText1.0.0], fallback_scrape_protocol: PrometheusProto}
            - {job_name: legacy, scrape_native_histograms: false, metric_name_validation_scheme: legacy, native_histogram_bucket_limit: 100}
            """)
        let plain = all.scrapes[0]
        XCTAssertEqual([plain.limits.samplesMax, plain.limits.labelsMax, plain.limits.bodyBytesMax, plain.droppedTargetsKept], [5, 3, 1024, 7])
        XCTAssertEqual(plain.protocols, ScrapeProtocol.protobufFirst)
        XCTAssertTrue(plain.hasExtraMetrics)
        let own = all.scrapes[1]
        XCTAssertEqual([own.limits.samplesMax, own.limits.labelsMax], [6, 3])
        XCTAssertEqual(own.protocols, [.text1])
        XCTAssertEqual(own.fallbackProtocol, .prometheusProto)
        XCTAssertFalse(own.hasExtraMetrics)
        let legacy = all.scrapes[2]
        XCTAssertEqual(legacy.protocols, ScrapeProtocol.texts)
        XCTAssertEqual(legacy.escaping, "underscores")
        XCTAssertEqual(legacy.limits.histogramBucketsMax, 100)
    }

    func testOtherFilesOfJobs() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("b.yml")
        try "scrape_configs:\n- job_name: b\n".write(to: file, atomically: true, encoding: .utf8)
        let text = "global: {scrape_interval: 7s}\nscrape_configs: [{job_name: a}]\nscrape_config_files: ['\(folder.path)/*.yml']\n"
        XCTAssertEqual(try parse(text).scrapes.map(\.jobName), ["a", "b"])
        XCTAssertEqual(try parse(text).scrapes[1].intervalMillis, 7000)
        try "scrape_configs:\n- job_name: b\n  nonsense: 1\n".write(to: file, atomically: true, encoding: .utf8)
        XCTAssertThrowsError(try parse(text)) {
            XCTAssertEqual(($0 as? ObsError)?.message, "\(file.path): scrape_configs[0].nonsense (line 3): unknown key \"nonsense\"")
        }
    }

    private func target(_ yaml: String, address: String = "h:1", labels: [(name: String, value: String)] = []) throws -> ScrapeTarget.Outcome {
        let configuration = try parse("scrape_configs:\n- job_name: j\n" + yaml).scrapes[0]
        return ScrapeTarget.make(address: address, group: TargetGroup(addresses: [address], labels: Labels(labels), source: "s"), configuration: configuration)
    }

    func testTargets() throws {
        guard case .target(let plain) = try target("", labels: [("env", "x"), ("__meta_a", "1")]) else { return XCTFail("dropped") }
        XCTAssertEqual("\(plain.labels)", "{env=\"x\", instance=\"h:1\", job=\"j\"}")
        XCTAssertEqual(plain.url, "http://h:1/metrics")
        XCTAssertEqual(
            "\(plain.discovered)",
            "{__address__=\"h:1\", __meta_a=\"1\", __metrics_path__=\"/metrics\", __scheme__=\"http\", __scrape_interval__=\"1m\", __scrape_timeout__=\"10s\", env=\"x\", job=\"j\"}"
        )

        // The blackbox pattern.
        let blackbox = """
              metrics_path: /probe
              params: {module: [http_2xx]}
              relabel_configs:
              - {source_labels: [__address__], target_label: __param_target}
              - {source_labels: [__param_target], target_label: instance}
              - {target_label: __address__, replacement: 'box:9115'}
            """
        guard case .target(let probe) = try target(blackbox, address: "https:x") else { return XCTFail("dropped") }
        XCTAssertEqual(probe.url, "http://box:9115/probe?module=http_2xx&target=https%3Ax")
        XCTAssertEqual(probe.labels["instance"], "https:x")

        guard case .dropped = try target("  relabel_configs: [{source_labels: [job], regex: j, action: drop}]") else { return XCTFail("kept") }
        guard case .invalid(_, "no address") = try target("  relabel_configs: [{target_label: __address__, replacement: ''}]") else { return XCTFail("kept") }
        guard case .invalid = try target("", address: "http://h:1/x") else { return XCTFail("kept") }
    }
}
