internal import ObsCore

/// Sends alerts to Alertmanagers (API v2), at most 256 a request, each to all of them. A failed request is not tried again: what fires is sent anew every
/// `resendMillis`, and what resolved for 15 minutes.
package final class AlertmanagerNotifier: AlertReceiver {
    private struct State {
        var queue: [NotifiedAlert] = []
        var isStopping = false
        var isRunning = false
    }

    private static let batchMax = 256
    /// Prometheus' `--alertmanager.notification-queue-capacity`; the oldest go first.
    private static let queueMax = 10_000

    private let endpoints: [AlertmanagerEndpoint]
    private let deliver: Delivery
    private let state = Monitor(State())
    private let dropped = SelfMetrics.counter("obs_alertmanager_dropped_total", help: "Alerts dropped because no Alertmanager took them or the queue was full.")
    private let failed = SelfMetrics.counter("obs_alertmanager_failed_total", help: "Requests to Alertmanagers that failed.")

    /// - Parameter deliver: for tests; nil is HTTP with each endpoint's credentials and timeout.
    package init(endpoints: [AlertmanagerEndpoint], deliver: Delivery? = nil) {
        self.endpoints = endpoints
        let client = HTTPClientBox()
        // Not `??`: the compiler crashes on a typed-throwing closure in an autoclosure.
        if let deliver {
            self.deliver = deliver
        } else {
            self.deliver = { url, body throws(ObsError) in
                let endpoint = endpoints.first { $0.url == url }
                return try client.post(url, body, timeoutMillis: Int(endpoint?.timeoutMillis ?? 10_000), headers: endpoint?.headers ?? [])
            }
        }
    }

    package var urls: [String] { endpoints.map(\.url) }

    package func start() {
        let starts = state.update { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { startThread("alertmanager") { [self] in run() } }
    }

    package func receive(_ alerts: [NotifiedAlert]) {
        let lost = state.update { state in
            state.queue += alerts
            let excess = max(0, state.queue.count - Self.queueMax)
            state.queue.removeFirst(excess)
            return excess
        }
        if lost > 0 { dropped.add(lost) }
    }

    package func stop() {
        state.update { $0.isStopping = true }
        _ = state.wait(timeoutNanos: 15 * nanosPerSecond) { $0.isRunning ? nil : () }
    }

    private func run() {
        while let batch = state.wait(until: { Self.next(&$0) }), !batch.isEmpty { send(batch) }
        state.update { $0.isRunning = false }
    }

    /// Nil while there is nothing to send; empty at the end.
    private static func next(_ state: inout State) -> [NotifiedAlert]? {
        if state.isStopping { return [] }
        if state.queue.isEmpty { return nil }
        defer { state.queue.removeFirst(min(batchMax, state.queue.count)) }
        return Array(state.queue.prefix(batchMax))
    }

    /// Sends what waits; for tests.
    package func deliverDue() {
        while let batch = state.read({ Self.next(&$0) }), !batch.isEmpty { send(batch) }
    }

    private func send(_ alerts: [NotifiedAlert]) {
        let body = Notification.alertmanagerBody(alerts)
        var isTaken = false
        for endpoint in endpoints {
            do throws(ObsError) {
                let answer = try deliver(endpoint.url, body)
                if (200..<300).contains(answer.status) {
                    isTaken = true
                    continue
                }
                DiagnosticLog.warn("alertmanager refused alerts", [("url", endpoint.url), ("status", String(answer.status))])
            } catch {
                DiagnosticLog.warn("alertmanager cannot be reached", [("url", endpoint.url), ("error", error.message)])
            }
            failed.add()
        }
        if !isTaken { dropped.add(alerts.count) }
    }
}
