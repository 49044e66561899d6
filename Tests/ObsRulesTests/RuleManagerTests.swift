import ObsCore
import ObsPromQL
import ObsStore
import ObsTestSupport
import ObsYAML
import Synchronization
import XCTest

@testable import ObsRules

private struct StoreSink: RuleSampleSink {
    let store: InMemoryStore
    func write(_ batch: MetricBatch) throws(ObsError) { _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0)) }
}

private final class ManualClock: Clock {
    let millis = Atomic<Int64>(0)
    func nowNanos() -> Int64 { millis.load(ordering: .relaxed) * nanosPerMilli }
    func monotonicNanos() -> Int64 { nowNanos() }
}

private final class StateFile: Sendable {
    let bytes = Mutex<[UInt8]?>(nil)
}

/// A receiver that remembers bodies and answers what it is told to.
private final class FakeReceiver: Sendable {
    let bodies = Mutex<[String]>([])
    let status = Atomic<Int>(200)

    var delivery: Delivery {
        { [self] _, body throws(ObsError) in
            let status = status.load(ordering: .relaxed)
            if status == 0 { throw ObsError(.unavailable, "connection refused") }
            bodies.withLock { $0.append(String(decoding: body, as: UTF8.self)) }
            return (status, nil)
        }
    }

    func take() -> [String] {
        bodies.withLock { bodies in
            defer { bodies = [] }
            return bodies
        }
    }
}

final class RuleManagerTests: XCTestCase {
    private let store = InMemoryStore()
    private let clock = ManualClock()
    private let receiver = FakeReceiver()
    private let file = StateFile()

    private let rules = """
        groups:
        - name: g
          rules:
          - {record: up2, expr: up * 2, labels: {extra: x}}
          - {alert: Down, expr: 'up2 == 0', for: 10s, labels: {severity: page}, annotations: {summary: '{{ $labels.job }} is {{ $value }}'}}
        """

    private func querier() -> PromQLQuerier { PromQLQuerier(engine: PromQLEngine(reader: store)) }

    private func parse(_ text: String) throws -> [RuleFile] {
        [try RuleFile.parse(Array(text.utf8), path: "r.yml") { expression throws(ObsError) in try querier().check(expression) }]
    }

    private func manager(_ text: String? = nil) throws -> (RuleManager, WebhookNotifier) {
        let states = AlertStateStore(
            read: { [file] in file.bytes.withLock { $0 } }, write: { [file] bytes throws(ObsError) in file.bytes.withLock { $0 = bytes } })
        let manager = RuleManager(querier: querier(), sink: StoreSink(store: store), store: states, clock: clock)
        let webhook = WebhookNotifier(url: "http://hook", clock: clock, deliver: receiver.delivery)
        manager.apply(try parse(text ?? rules), settings: settings())
        manager.attach(webhook)
        return (manager, webhook)
    }

    private func settings() -> RuleSettings {
        var settings = RuleSettings()
        settings.externalLabels = Labels([("region", "eu"), ("severity", "no")])
        settings.externalURL = "http://obs"
        return settings
    }

    private func up(_ value: Double, at millis: Int64) throws {
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "up"), ("job", "a")]), timeMillis: millis, value: value)
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    /// One evaluation and what was delivered by it.
    private func step(_ manager: RuleManager, _ webhook: WebhookNotifier, at seconds: Int64, up value: Double) throws -> [String] {
        try up(value, at: seconds * 1000)
        clock.millis.store(seconds * 1000, ordering: .relaxed)
        manager.evaluateAll(at: seconds * 1000)
        webhook.deliverDue()
        return receiver.take()
    }

    private func samples(_ selector: String, at seconds: Int64) throws -> [String] {
        try querier().vector(selector, atMillis: seconds * 1000).map { "\($0.labels) \(formatSampleValue($0.value))" }
    }

    func testHistogramsAreRecorded() throws {
        let histogram = FloatHistogram(count: 3, sum: 4, positive: BucketCounts(indices: [1], counts: [3]))
        var batch = MetricBatch()
        var row = HistogramColumns()
        row.append(histogram, timeMillis: 1000)
        batch.append(Labels([("__name__", "h")]), row, row: 0)
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        let (manager, _) = try manager("groups: [{name: g, rules: [{record: 'h:twice', expr: h * 2}, {record: 'h:count', expr: histogram_count(h)}]}]")
        clock.millis.store(2000, ordering: .relaxed)
        manager.evaluateAll(at: 2000)
        XCTAssertEqual(try samples("h:count", at: 2), [#"{__name__="h:count"} 3"#])
        XCTAssertEqual(try samples("histogram_sum({__name__=\"h:twice\"})", at: 2), ["{} 8"])
    }

    func testFromPendingToResolvedOverTheWebhook() throws {
        let (manager, webhook) = try manager()
        XCTAssertEqual(try step(manager, webhook, at: 0, up: 0), [])
        XCTAssertEqual(
            try samples("ALERTS", at: 0),
            ["{__name__=\"ALERTS\", alertname=\"Down\", alertstate=\"pending\", extra=\"x\", job=\"a\", severity=\"page\"} 1"])
        XCTAssertEqual(try step(manager, webhook, at: 5, up: 0), [])
        XCTAssertEqual(
            try step(manager, webhook, at: 10, up: 0),
            [
                #"{"version":"4","groupKey":"{}:{alertname=\"Down\"}","truncatedAlerts":0,"status":"firing","receiver":"webhook","#
                    + #""groupLabels":{"alertname":"Down"},"commonLabels":{"alertname":"Down","extra":"x","job":"a","region":"eu","severity":"page"},"#
                    + #""commonAnnotations":{"summary":"a is 0"},"externalURL":"","alerts":[{"status":"firing","#
                    + #""labels":{"alertname":"Down","extra":"x","job":"a","region":"eu","severity":"page"},"annotations":{"summary":"a is 0"},"#
                    + #""startsAt":"1970-01-01T00:00:10Z","endsAt":"0001-01-01T00:00:00Z","#
                    + #""generatorURL":"http://obs/graph?g0.expr=up2+%3D%3D+0&g0.tab=1","fingerprint":"\#(fingerprint)"}]}"#
            ])
        XCTAssertEqual(try samples("ALERTS{alertstate=\"firing\"}", at: 10).count, 1)
        XCTAssertEqual(try samples("ALERTS{alertstate=\"pending\"}", at: 10), [])  // ended by a stale marker
        XCTAssertEqual(try samples("ALERTS_FOR_STATE", at: 10).map { $0.suffix(2) }, [" 0"])
        // Still firing is no news, until the repeat interval is over.
        XCTAssertEqual(try step(manager, webhook, at: 100, up: 0), [])
        XCTAssertEqual(try step(manager, webhook, at: 10 + 4 * 3600, up: 0).count, 1)
        let resolved = try step(manager, webhook, at: 20 + 4 * 3600, up: 1)
        XCTAssertEqual(resolved.count, 1)
        XCTAssertTrue(resolved[0].contains(#""status":"resolved","receiver""#) && resolved[0].contains(#""endsAt":"1970-01-01T04:00:20Z""#), resolved[0])
        XCTAssertEqual(try samples("ALERTS", at: 20 + 4 * 3600), [])
        // Its resolution is repeated by the rule, not by the webhook.
        XCTAssertEqual(try step(manager, webhook, at: 200 + 4 * 3600, up: 1), [])
    }

    private var fingerprint: String {
        hexString(labelsFingerprint(Labels([("alertname", "Down"), ("extra", "x"), ("job", "a"), ("region", "eu"), ("severity", "page")])))
    }

    func testRetriesWhatIsTrueByThen() throws {
        let (manager, webhook) = try manager()
        _ = try step(manager, webhook, at: 0, up: 0)
        receiver.status.store(0, ordering: .relaxed)
        XCTAssertEqual(try step(manager, webhook, at: 10, up: 0), [])
        receiver.status.store(503, ordering: .relaxed)
        XCTAssertEqual(try step(manager, webhook, at: 11, up: 0).count, 1)
        receiver.status.store(200, ordering: .relaxed)
        XCTAssertEqual(try step(manager, webhook, at: 12, up: 0).count, 0)  // backing off
        XCTAssertEqual(try step(manager, webhook, at: 13, up: 0).count, 1)
        XCTAssertEqual(try step(manager, webhook, at: 14, up: 0).count, 0)
        // A refusal is final until something changes.
        receiver.status.store(400, ordering: .relaxed)
        XCTAssertEqual(try step(manager, webhook, at: 20, up: 1).count, 1)
        XCTAssertEqual(try step(manager, webhook, at: 90, up: 1).count, 0)
    }

    func testRestartNeitherFlapsNorRepeats() throws {
        var (manager, webhook) = try manager()
        _ = try step(manager, webhook, at: 0, up: 0)
        XCTAssertEqual(try step(manager, webhook, at: 10, up: 0).count, 1)
        XCTAssertNotNil(file.bytes.withLock { $0 })

        (manager, webhook) = try self.manager()
        XCTAssertEqual(try step(manager, webhook, at: 40, up: 0), [])
        XCTAssertEqual(try samples("ALERTS{alertstate=\"firing\"}", at: 40).count, 1)
        XCTAssertEqual(manager.status()[0].rules[1].alerts.active.map(\.activeAtMillis), [0])
        XCTAssertEqual(try step(manager, webhook, at: 80, up: 0), [])

        (manager, webhook) = try self.manager()
        let resolved = try step(manager, webhook, at: 90, up: 1)
        XCTAssertEqual(resolved.count, 1)
        XCTAssertTrue(resolved[0].contains(#""startsAt":"1970-01-01T00:00:10Z""#), resolved[0])

        file.bytes.withLock { $0 = Array("{broken".utf8) }
        _ = try self.manager()
    }

    func testReloadKeepsAlertsAndEndsRemovedRules() throws {
        let (manager, webhook) = try manager()
        _ = try step(manager, webhook, at: 0, up: 0)
        _ = try step(manager, webhook, at: 10, up: 0)
        XCTAssertEqual(try samples("up2", at: 10).count, 1)
        let changed = """
            groups:
            - name: g
              rules:
              - {alert: Down, expr: 'up * 2 == 0', labels: {severity: page}}
            """
        manager.apply(try parse(changed), settings: settings())
        XCTAssertEqual(manager.status()[0].rules[0].alerts.active.count, 1)
        _ = try step(manager, webhook, at: 20, up: 1)
        XCTAssertEqual(try samples("up2", at: 20), [])
        _ = try step(manager, webhook, at: 30, up: 0)
        XCTAssertEqual(try samples("ALERTS", at: 30).count, 1)
        clock.millis.store(40_000, ordering: .relaxed)
        manager.apply([], settings: settings())
        XCTAssertEqual(try samples("ALERTS", at: 40), [])
        XCTAssertTrue(manager.status().isEmpty)
    }

    func testErrorsAreTheRulesStatus() throws {
        let (manager, webhook) = try manager(
            """
            groups:
            - name: g
              limit: 1
              rules:
              - {record: bad, expr: 'label_replace(up, "job", "same", "", "") + on() group_left up'}
              - {record: clash, expr: 'up or label_replace(up, "x", "1", "", "")', labels: {x: same}}
              - {record: many, expr: 'up or label_replace(up, "x", "1", "", "")'}
              - {record: good, expr: 'vector(1)'}
            """)
        try up(1, at: 0)
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "up"), ("job", "b")]), timeMillis: 0, value: 1)
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        _ = try step(manager, webhook, at: 1, up: 1)
        let rules = manager.status()[0].rules
        XCTAssertEqual(rules.map(\.health), [.err, .err, .err, .ok])
        XCTAssertEqual(rules[1].lastError, "vector contains metrics with the same labelset after applying rule labels")
        XCTAssertEqual(rules[2].lastError, "exceeded limit of 1 with 4 series")
        XCTAssertEqual(try samples("good", at: 1), ["{__name__=\"good\"} 1"])
    }

    func testSchedule() throws {
        try up(1, at: SystemClock().nowMillis())
        let manager = RuleManager(querier: querier(), sink: StoreSink(store: store))
        manager.apply(try parse("groups: [{name: fast, interval: 50ms, rules: [{record: r, expr: vector(7)}]}]"), settings: RuleSettings())
        manager.start()
        let found = (0..<1000).contains { _ in
            usleep(10_000)
            return ((try? querier().vector("r", atMillis: SystemClock().nowMillis())) ?? []).contains { $0.value == 7 }
        }
        XCTAssertTrue(found)
        manager.stop()
        XCTAssertNotNil(manager.status()[0].lastEvaluationMillis)
    }

    func testAlertmanagerBody() throws {
        let notifier = AlertmanagerNotifier(endpoints: [AlertmanagerEndpoint(url: "http://am/api/v2/alerts")], deliver: receiver.delivery)
        let alert = NotifiedAlert(
            labels: Labels([("alertname", "A")]), annotations: [.init(name: "s", value: "x")], startsAtMillis: 0, endsAtMillis: 60_000, isResolved: false,
            generatorURL: "http://g")
        notifier.receive(Array(repeating: alert, count: 300))
        notifier.deliverDue()
        let bodies = receiver.take()
        XCTAssertEqual(bodies.count, 2)
        notifier.receive([alert])
        notifier.deliverDue()
        XCTAssertEqual(
            receiver.take(),
            [
                #"[{"annotations":{"s":"x"},"endsAt":"1970-01-01T00:01:00Z","startsAt":"1970-01-01T00:00:00Z","generatorURL":"http://g","labels":{"alertname":"A"}}]"#
            ])
    }

    func testAlertingConfiguration() throws {
        let root = try YAMLMapping(
            YAMLNode.parse(
                """
                rule_files: [rules/*.yml]
                alerting:
                  alertmanagers:
                  - static_configs: [{targets: ["am:9093", "am2:9093"]}]
                    path_prefix: /x/
                    basic_auth: {username: u, password: p}
                  - dns_sd_configs: []
                """))
        let configuration = try AlertingConfiguration(root, directory: "/etc/p")
        try root.finish()
        XCTAssertEqual(configuration.ruleFiles, ["/etc/p/rules/*.yml"])
        XCTAssertEqual(configuration.alertmanagers.map(\.url), ["http://am:9093/x/api/v2/alerts", "http://am2:9093/x/api/v2/alerts"])
        XCTAssertEqual(configuration.alertmanagers[0].headers.map(\.value), ["Basic dTpw"])
        XCTAssertEqual(configuration.warnings.count, 1)
    }
}
