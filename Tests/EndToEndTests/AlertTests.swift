import Foundation
import ObsCore
import ObsNet
import ObsWire
import XCTest

final class AlertTests: XCTestCase {
    private static let rules = """
        groups:
          - name: shop
            interval: 200ms
            rules:
              - record: shop:load:double
                expr: shop_load * 2
              - alert: HighLoad
                expr: shop_load > 10
                for: 300ms
                labels: {severity: page}
                annotations: {summary: 'load of {{ $labels.host }} is {{ $value }}'}
        """

    func testFiresResolvesAndSurvivesARestartWithoutFlapping() throws {
        let folder = try TemporaryFolder()
        let receiver = try Receiver()
        let config = try configuration(folder)
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config, "--alert-webhook", receiver.url + "/hook"])
        try load(obsd, 1)
        XCTAssertEqual(try eventually({ try obsd.value("shop:load:double") }, until: { $0 == 2 }), 2)
        XCTAssertEqual(try alerts(obsd).count, 0)

        try load(obsd, 42)
        XCTAssertEqual(try eventually({ receiver.bodies.count }, until: { $0 >= 1 }), 1)
        let first = try body(receiver, 0)
        let startsAt = first["alerts"]?[0]?["startsAt"]?.string
        XCTAssertEqual(first["version"]?.string, "4")
        XCTAssertEqual(first["status"]?.string, "firing")
        XCTAssertEqual(first["receiver"]?.string, "webhook")
        XCTAssertEqual(first["groupKey"]?.string, "{}:{alertname=\"HighLoad\"}")
        XCTAssertEqual(first["groupLabels"]?["alertname"]?.string, "HighLoad")
        XCTAssertEqual(first["commonLabels"]?["severity"]?.string, "page")
        XCTAssertEqual(first["commonAnnotations"]?["summary"]?.string, "load of a is 42")
        XCTAssertEqual(first["truncatedAlerts"]?.int64, 0)
        XCTAssertEqual(first["alerts"]?.count, 1)
        XCTAssertEqual(first["alerts"]?[0]?["labels"]?["host"]?.string, "a")
        XCTAssertEqual(first["alerts"]?[0]?["endsAt"]?.string, "0001-01-01T00:00:00Z")
        XCTAssertEqual(first["alerts"]?[0]?["fingerprint"]?.string?.count, 16)
        XCTAssertTrue(first["alerts"]?[0]?["generatorURL"]?.string?.hasPrefix("http://") ?? false)
        XCTAssertNotNil(parseRFC3339(startsAt ?? ""))

        let shown = try alerts(obsd)
        XCTAssertEqual(shown.count, 1)
        XCTAssertEqual(shown[0]?["state"]?.string, "firing")
        XCTAssertEqual(shown[0]?["labels"]?["alertname"]?.string, "HighLoad")
        XCTAssertEqual(shown[0]?["value"]?.string.flatMap(Double.init), 42)
        let activeAt = shown[0]?["activeAt"]?.string
        try checkRules(obsd)
        XCTAssertEqual(try obsd.value("ALERTS{alertname=\"HighLoad\",alertstate=\"firing\",host=\"a\"}"), 1)
        XCTAssertNotNil(try obsd.value("ALERTS_FOR_STATE{alertname=\"HighLoad\"}"))

        // A kill between a delivery and the note of it costs one repetition; what is noted is not repeated.
        let state = folder.path + "/data/state/alerts.json"
        let noted = try eventually({ (try? String(contentsOfFile: state, encoding: .utf8)) ?? "" }, until: { $0.contains(#""told":true"#) })
        XCTAssertTrue(noted.contains(#""told":true"#), noted)

        for restart in ["kill -9", "stop"] {
            if restart == "stop" { XCTAssertEqual(obsd.stop(), 0) } else { obsd.crash() }
            try obsd.start()
            try load(obsd, 43)
            // Evaluated since, and the same alert.
            let again = try eventually({ try alerts(obsd) }, until: { $0[0]?["value"]?.string.flatMap(Double.init) == 43 })
            XCTAssertEqual(again[0]?["state"]?.string, "firing", restart)
            XCTAssertEqual(again[0]?["activeAt"]?.string, activeAt, restart)
            usleep(1_000_000)
            XCTAssertEqual(receiver.bodies.count, 1, "\(restart): \(receiver.bodies)")
        }

        try load(obsd, 1)
        XCTAssertEqual(try eventually({ receiver.bodies.count }, until: { $0 >= 2 }), 2)
        let last = try body(receiver, 1)
        XCTAssertEqual(last["status"]?.string, "resolved")
        XCTAssertEqual(last["alerts"]?[0]?["status"]?.string, "resolved")
        XCTAssertEqual(last["alerts"]?[0]?["startsAt"]?.string, startsAt)
        XCTAssertEqual(last["alerts"]?[0]?["fingerprint"]?.string, first["alerts"]?[0]?["fingerprint"]?.string)
        XCTAssertNotEqual(last["alerts"]?[0]?["endsAt"]?.string, "0001-01-01T00:00:00Z")
        XCTAssertEqual(try eventually({ try alerts(obsd).count }, until: { $0 == 0 }), 0)
        usleep(800_000)
        XCTAssertEqual(receiver.bodies.count, 2)
        XCTAssertNil(try obsd.value("ALERTS{alertname=\"HighLoad\",alertstate=\"firing\"}"))
    }

    func testReceiverThatIsDownGetsItOnceWhenItIsBack() throws {
        let folder = try TemporaryFolder()
        let port = freePort()
        let obsd = try ObsdProcess(
            data: folder.path + "/data", ["--config", try configuration(folder), "--alert-webhook", "http://127.0.0.1:\(port)/hook"])
        try load(obsd, 42)
        XCTAssertTrue(try eventually({ obsd.logText.contains("webhook is to be tried again") }, until: { $0 }))
        let receiver = try Receiver(port: port, failures: 1)
        XCTAssertEqual(try eventually({ receiver.bodies.count }, until: { $0 >= 1 }), 1)
        usleep(1_500_000)
        XCTAssertEqual(receiver.bodies.count, 1)
        XCTAssertEqual(try body(receiver, 0)["status"]?.string, "firing")
    }

    func testUndeliveredIsDeliveredAfterARestart() throws {
        let folder = try TemporaryFolder()
        let port = freePort()
        let obsd = try ObsdProcess(
            data: folder.path + "/data", ["--config", try configuration(folder), "--alert-webhook", "http://127.0.0.1:\(port)/hook"])
        try load(obsd, 42)
        XCTAssertTrue(try eventually({ obsd.logText.contains("webhook is to be tried again") }, until: { $0 }))
        obsd.crash()
        let receiver = try Receiver(port: port)
        try obsd.start()
        XCTAssertEqual(try eventually({ receiver.bodies.count }, until: { $0 >= 1 }), 1)
    }

    /// Alertmanager's API v2 by way of `alerting:`.
    func testAlertmanagerOfTheConfiguration() throws {
        let folder = try TemporaryFolder()
        let receiver = try Receiver()
        let config = try configuration(folder, "alerting: {alertmanagers: [{static_configs: [{targets: ['\(receiver.address)']}]}]}\n")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        try load(obsd, 42)
        _ = try eventually({ receiver.bodies.count }, until: { $0 >= 1 })
        XCTAssertEqual(receiver.paths.first, "/api/v2/alerts")
        let sent = try body(receiver, 0)
        XCTAssertEqual(sent.count, 1)
        XCTAssertEqual(sent[0]?["labels"]?["alertname"]?.string, "HighLoad")
        XCTAssertEqual(sent[0]?["annotations"]?["summary"]?.string, "load of a is 42")
        for name in ["startsAt", "endsAt", "generatorURL"] { XCTAssertNotNil(sent[0]?[name]?.string, name) }
        try load(obsd, 1)
        let last = try eventually({ try body(receiver, receiver.bodies.count - 1) }, until: { isPast($0[0]?["endsAt"]?.string) })
        XCTAssertTrue(isPast(last[0]?["endsAt"]?.string))
    }

    /// Debian's own Alertmanager takes it; it starts only where its package is installed, for a template at a fixed place.
    func testDebiansAlertmanager() throws {
        try XCTSkipUnless(FileManager.default.fileExists(atPath: "/usr/share/prometheus/alertmanager/default.tmpl"), "prometheus-alertmanager is not installed")
        let folder = try TemporaryFolder()
        let program = try Place.debian("usr/bin/prometheus-alertmanager")
        let port = freePort()
        let own = try folder.write("alertmanager.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n")
        let alertmanager = try Background(
            program,
            [
                "--config.file=\(own)", "--storage.path=\(folder.path)/am", "--web.listen-address=127.0.0.1:\(port)", "--cluster.listen-address=",
            ], log: folder.path + "/am.log")
        defer { withExtendedLifetime(alertmanager) {} }
        let config = try configuration(folder, "alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:\(port)']}]}]}\n")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        try load(obsd, 42)
        let client = HTTPClient()
        let text = try eventually(
            {
                let answer = try? client.perform(HTTPClientRequest(url: "http://127.0.0.1:\(port)/api/v2/alerts"))
                return String(decoding: answer?.body ?? [], as: UTF8.self)
            }, until: { $0.contains("HighLoad") })
        XCTAssertTrue(text.contains("load of a is 42"), text)
    }

    // MARK: Parts

    private func isPast(_ time: String?) -> Bool { (parseRFC3339(time ?? "") ?? .max) <= Int64(Date().timeIntervalSince1970 * 1e9) }

    private func configuration(_ folder: TemporaryFolder, _ more: String = "") throws -> String {
        let rules = try folder.write("rules.yml", Self.rules)
        return try folder.write("prometheus.yml", "rule_files: ['\(rules)']\n" + more)
    }

    /// A gauge by OTLP/JSON, the shortest way to write one.
    private func load(_ obsd: ObsdProcess, _ value: Int) throws {
        let now = Int64(Date().timeIntervalSince1970 * 1e9)
        let answer = try obsd.post(
            "/v1/metrics",
            """
            {"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"shop_load","gauge":{"dataPoints":[
            {"timeUnixNano":"\(now)","asDouble":\(value),"attributes":[{"key":"host","value":{"stringValue":"a"}}]}]}}]}]}]}
            """)
        XCTAssertEqual(answer.status, 200)
    }

    private func alerts(_ obsd: ObsdProcess) throws -> JSONValue {
        try XCTUnwrap(try obsd.json("/api/v1/alerts")["data"]?["alerts"])
    }

    private func checkRules(_ obsd: ObsdProcess) throws {
        let group = try obsd.json("/api/v1/rules")["data"]?["groups"]?[0]
        XCTAssertEqual(group?["name"]?.string, "shop")
        XCTAssertEqual(group?["interval"]?.double, 0.2)
        XCTAssertNotNil(group?["file"]?.string)
        XCTAssertNotNil(parseRFC3339(group?["lastEvaluation"]?.string ?? ""))
        let record = group?["rules"]?[0]
        XCTAssertEqual(record?["type"]?.string, "recording")
        XCTAssertEqual(record?["name"]?.string, "shop:load:double")
        XCTAssertEqual(record?["health"]?.string, "ok")
        let alert = group?["rules"]?[1]
        XCTAssertEqual(alert?["type"]?.string, "alerting")
        XCTAssertEqual(alert?["state"]?.string, "firing")
        XCTAssertEqual(alert?["query"]?.string, "shop_load > 10")
        XCTAssertEqual(alert?["duration"]?.double, 0.3)
        XCTAssertEqual(alert?["labels"]?["severity"]?.string, "page")
        XCTAssertEqual(alert?["annotations"]?["summary"]?.string, "load of {{ $labels.host }} is {{ $value }}")
        XCTAssertEqual(alert?["alerts"]?.count, 1)
        XCTAssertEqual(try obsd.json("/api/v1/rules", [("type", "record")])["data"]?["groups"]?[0]?["rules"]?.count, 1)
    }

    private func body(_ receiver: Receiver, _ index: Int) throws -> JSONValue {
        let bodies = receiver.bodies
        guard bodies.indices.contains(index) else { throw Place.Missing(what: "no delivery \(index)") }
        return try JSONDocument.parse(bodies[index]).root
    }
}

/// Keeps what it is sent.
private final class Receiver {
    private struct State {
        var bodies: [[UInt8]] = []
        var paths: [String] = []
        var failures: Int
    }
    private let state: Monitor<State>
    private let server: HTTPServer

    /// - Parameter failures: requests that are answered 503 first; they are not kept.
    init(port: Int = 0, failures: Int = 0) throws {
        let state = Monitor(State(failures: failures))
        self.state = state
        server = try HTTPServer(
            HTTPServerConfiguration(name: "receiver", address: "127.0.0.1:\(port)"),
            handle: { request, responder in
                let fails = state.update { state in
                    if state.failures > 0 {
                        state.failures -= 1
                        return true
                    }
                    state.bodies.append(request.body)
                    state.paths.append(request.path)
                    return false
                }
                responder.send(.text(fails ? 503 : 200, ""))
            })
    }

    var address: String { server.address }
    var url: String { "http://\(server.address)" }
    var bodies: [[UInt8]] { state.read { $0.bodies } }
    var paths: [String] { state.read { $0.paths } }
}
