package import ObsCore
internal import ObsNet
internal import Synchronization

/// Who hears of alerts.
package protocol AlertReceiver: Sendable {
    /// Takes firing and resolved alerts over; never waits for the network.
    func receive(_ alerts: [NotifiedAlert])
    func stop()
}

/// How a body gets to its receiver; a test puts its own in place of the network.
package typealias Delivery = @Sendable (_ url: String, _ body: [UInt8]) throws(ObsError) -> (status: Int, retryAfterSeconds: Int?)

package func httpDelivery(client: HTTPClientBox = HTTPClientBox(), timeoutMillis: Int = 10_000) -> Delivery {
    { url, body throws(ObsError) in try client.post(url, body, timeoutMillis: timeoutMillis) }
}

/// Delivers alerts to webhooks in Alertmanager's version 4 shape, one group per alert name, on a thread of its own.
///
/// Retried: network errors, 5xx, 429. Any other status is the receiver's last word: logged, counted, not repeated until something changes.
package final class WebhookNotifier: AlertReceiver {
    package static let repeatMillisDefault: Int64 = 4 * 3_600_000

    private struct State {
        /// By alert name.
        var groups: [String: NotificationGroup] = [:]
        var isStopping = false
        var isRunning = false
        var changes = 0
    }

    private let url: String
    private let receiver: String
    private let externalURL: String
    private let repeatMillis: Int64
    private let clock: any Clock
    private let deliver: Delivery
    private let state = Monitor(State())
    /// Called, from the delivery thread, when what a restart must know has changed.
    private let onChange = Mutex<(@Sendable () -> Void)?>(nil)
    private let sent = SelfMetrics.counter("obs_notifications_total", help: "Webhook notifications delivered.")
    private let failed = SelfMetrics.counter("obs_notifications_failed_total", help: "Webhook notifications that failed, attempts counted.")

    package init(
        url: String, receiver: String = "webhook", externalURL: String = "", repeatMillis: Int64 = WebhookNotifier.repeatMillisDefault,
        clock: any Clock = SystemClock(), deliver: @escaping Delivery = httpDelivery()
    ) {
        self.url = url
        self.receiver = receiver
        self.externalURL = externalURL
        self.repeatMillis = repeatMillis
        self.clock = clock
        self.deliver = deliver
    }

    package func start() {
        let starts = state.update { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { startThread("webhook") { [self] in run() } }
    }

    package func whenChanged(_ body: @escaping @Sendable () -> Void) { onChange.withLock { $0 = body } }

    package func receive(_ alerts: [NotifiedAlert]) {
        state.update { state in
            for alert in alerts { state.groups[alert.name, default: NotificationGroup()].update(alert) }
            state.changes += 1
        }
    }

    /// Ends the thread after the delivery at hand; what is undelivered is in `saved()`.
    package func stop() {
        state.update { $0.isStopping = true }
        _ = state.wait(timeoutNanos: 15 * nanosPerSecond) { $0.isRunning ? nil : () }
    }

    private func run() {
        var handled = -1
        while true {
            let next = deliverDue()
            let wait = next.map { max(0, $0 - clock.nowMillis()) } ?? 60_000
            let stops = state.wait(timeoutNanos: min(wait, 60_000) * nanosPerMilli) { state -> Bool? in
                if state.isStopping { return true }
                guard state.changes != handled else { return nil }
                handled = state.changes
                return false
            }
            if stops == true { break }
        }
        state.update { $0.isRunning = false }
    }

    /// Delivers all that is due and gives back when to look again. Called by the thread, and by tests.
    @discardableResult
    package func deliverDue() -> Int64? {
        let names = state.read { $0.groups.keys.sorted() }
        for name in names {
            let now = clock.nowMillis()
            let due = state.read { state in
                state.groups[name]?.expire(at: now)
                return state.groups[name]?.due(at: now, repeatMillis: repeatMillis)
            }
            if let due { deliver(due, of: name) }
        }
        let now = clock.nowMillis()
        return state.read { state in
            for (name, group) in state.groups where group.entries.isEmpty { state.groups[name] = nil }
            return state.groups.values.compactMap { $0.nextMillis(at: now, repeatMillis: repeatMillis) }.min()
        }
    }

    private func deliver(_ alerts: [NotifiedAlert], of name: String) {
        let body = Notification.webhookBody(alertname: name, alerts: alerts, receiver: receiver, externalURL: externalURL)
        var retryAfter: Int?
        do throws(ObsError) {
            let answer = try deliver(url, body)
            switch answer.status {
            case 200..<300:
                sent.add()
                return finish(alerts, name)
            case 429, 500...: retryAfter = answer.retryAfterSeconds
            default:
                failed.add()
                DiagnosticLog.error("webhook refused a notification", [("url", url), ("alert", name), ("status", String(answer.status))])
                return finish(alerts, name)
            }
            DiagnosticLog.warn("webhook is to be tried again", [("url", url), ("alert", name), ("status", String(answer.status))])
        } catch {
            DiagnosticLog.warn("webhook is to be tried again", [("url", url), ("alert", name), ("error", error.message)])
        }
        failed.add()
        let now = clock.nowMillis()
        state.read { $0.groups[name]?.failed(at: now, retryAfterSeconds: retryAfter) }
    }

    private func finish(_ alerts: [NotifiedAlert], _ name: String) {
        let now = clock.nowMillis()
        state.read { $0.groups[name]?.told(alerts, at: now) }
        if let changed = onChange.withLock({ $0 }) { changed() }
    }

    // MARK: - Restart

    func saved() -> [String: NotificationGroup] { state.read { $0.groups } }

    func restore(_ groups: [String: NotificationGroup]) { state.update { $0.groups.merge(groups) { $1 } } }
}

/// Keeps the client out of signatures: ObsNet stays an implementation detail of delivery.
package final class HTTPClientBox: Sendable {
    private let client = HTTPClient(idleMax: 4)

    package init() {}

    func post(_ url: String, _ body: [UInt8], timeoutMillis: Int, headers: [(name: String, value: String)] = []) throws(ObsError) -> (
        status: Int, retryAfterSeconds: Int?
    ) {
        var request = HTTPClientRequest(
            url: url, method: "POST", headers: [("Content-Type", "application/json"), ("User-Agent", "obsd")] + headers, body: body)
        request.timeoutMillis = timeoutMillis
        request.responseBytesMax = 1 << 20
        let answer = try client.perform(request)
        return (answer.status, answer.header("retry-after").flatMap { Int($0) })
    }
}
