// The life of alerts, as a value: results of an evaluation go in with their time, states change, and what changed can be asked. No clock, no I/O: live rules,
// tests and replays over history run this same code. Contract prometheus.md §6; upstream's `rules/alerting.go`.
//
//     new ──> pending ──(held for `for`)──> firing ──(missing, keep_firing_for over)──> inactive, resolved, kept 15 min to be sent again
//                └──(missing)──> gone
package import ObsCore

package struct Alert: Sendable, Equatable {
    package enum State: String, Sendable { case inactive, pending, firing }

    /// Identity: result labels without the name, the rule's expanded labels, `alertname`.
    package var labels: Labels
    package var annotations: [RuleDefinition.Pair]
    package var value: Double
    package var state = State.pending
    package var activeAtMillis: Int64
    package var firedAtMillis: Int64?
    package var keepFiringSinceMillis: Int64?
    package var resolvedAtMillis: Int64?
    package var lastSentAtMillis: Int64?
    /// Set while sending: when a receiver may take the alert for resolved if it hears no more.
    package var validUntilMillis: Int64 = 0

    package init(labels: Labels, annotations: [RuleDefinition.Pair] = [], value: Double, activeAtMillis: Int64) {
        self.labels = labels
        self.annotations = annotations
        self.value = value
        self.activeAtMillis = activeAtMillis
    }

    package static func == (a: Alert, b: Alert) -> Bool {
        a.labels == b.labels && a.annotations == b.annotations && a.value.bitPattern == b.value.bitPattern && a.state == b.state
            && a.activeAtMillis == b.activeAtMillis && a.firedAtMillis == b.firedAtMillis && a.keepFiringSinceMillis == b.keepFiringSinceMillis
            && a.resolvedAtMillis == b.resolvedAtMillis && a.lastSentAtMillis == b.lastSentAtMillis && a.validUntilMillis == b.validUntilMillis
    }
}

/// The alerts of one rule.
package struct AlertState: Sendable {
    /// Pending, firing and recently resolved ones.
    package private(set) var alerts: [Labels: Alert] = [:]
    /// Missing firing alerts stay until then: after a long outage the data they come from is not back at once.
    private var graceUntilMillis: Int64 = .min
    package static let resolvedKeptMillis: Int64 = 15 * 60_000

    package init() {}

    /// One evaluation's results: (labels, annotations, value).
    /// - Throws: `.unprocessable` for two results with one label set (nothing changes), or more than `limit` alerts (all are cleared, as upstream does).
    package mutating func update(_ results: [Alert], at now: Int64, holdMillis: Int64, keepFiringMillis: Int64, limit: Int = 0) throws(ObsError) {
        var found: Set<Labels> = []
        for result in results {
            guard found.insert(result.labels).inserted else {
                throw ObsError(.unprocessable, "vector contains metrics with the same labelset after applying alert labels")
            }
        }
        for result in results {
            if var known = alerts[result.labels], known.state != .inactive {
                known.value = result.value
                known.annotations = result.annotations
                known.keepFiringSinceMillis = nil
                alerts[result.labels] = known
            } else {
                alerts[result.labels] = Alert(labels: result.labels, annotations: result.annotations, value: result.value, activeAtMillis: now)
            }
        }
        for (labels, alert) in alerts where !found.contains(labels) { alerts[labels] = missing(alert, at: now, keepFiringMillis) }
        for (labels, alert) in alerts where alert.state == .pending && now - alert.activeAtMillis >= holdMillis {
            alerts[labels]?.state = .firing
            alerts[labels]?.firedAtMillis = now
        }
        let active = self.active.count
        if limit > 0, active > limit {
            alerts = [:]
            throw ObsError(.unprocessable, "exceeded limit of \(limit) with \(active) alerts")
        }
    }

    /// What becomes of an alert whose series is not in the results.
    private func missing(_ alert: Alert, at now: Int64, _ keepFiringMillis: Int64) -> Alert? {
        var alert = alert
        switch alert.state {
        case .pending: return nil
        case .inactive:
            if let resolved = alert.resolvedAtMillis, now - resolved <= Self.resolvedKeptMillis { return alert }
            return nil
        case .firing:
            if now < graceUntilMillis { return alert }
            if keepFiringMillis > 0 {
                let since = alert.keepFiringSinceMillis ?? now
                alert.keepFiringSinceMillis = since
                if now - since < keepFiringMillis { return alert }
            }
            alert.state = .inactive
            alert.resolvedAtMillis = now
            return alert
        }
    }

    /// Pending and firing alerts, in label order.
    package var active: [Alert] { alerts.values.filter { $0.state != .inactive }.sorted { $0.labels < $1.labels } }

    /// The worst state: what a rule shows.
    package var state: Alert.State {
        if alerts.values.contains(where: { $0.state == .firing }) { return .firing }
        return alerts.values.contains { $0.state == .pending } ? .pending : .inactive
    }

    /// Alerts that receivers must hear about now, marked as sent: newly firing, newly resolved, and every `resendMillis` again.
    package mutating func takeDue(at now: Int64, resendMillis: Int64, intervalMillis: Int64) -> [Alert] {
        var due: [Alert] = []
        for (labels, alert) in alerts where Self.isDue(alert, at: now, resendMillis) {
            var sent = alert
            sent.lastSentAtMillis = now
            // Two failed evaluations or deliveries may pass before a receiver takes it for resolved.
            sent.validUntilMillis = now + 4 * max(resendMillis, intervalMillis)
            alerts[labels] = sent
            due.append(sent)
        }
        return due.sorted { $0.labels < $1.labels }
    }

    private static func isDue(_ alert: Alert, at now: Int64, _ resendMillis: Int64) -> Bool {
        guard alert.state != .pending else { return false }
        guard let last = alert.lastSentAtMillis else { return true }
        if let resolved = alert.resolvedAtMillis, resolved > last { return true }
        return last + resendMillis < now
    }

    /// Takes over alerts of before a restart. Time spent down does not count as time held; pending alerts of long ago are forgotten.
    package mutating func restore(_ saved: [Alert], savedAtMillis: Int64, now: Int64, intervalMillis: Int64) {
        let down = max(0, now - savedAtMillis)
        for var alert in saved {
            if alert.state == .pending {
                if down > Self.pendingOutageMillisMax { continue }
                alert.activeAtMillis += down
            }
            alerts[alert.labels] = alert
        }
        // Shorter outages are bridged by the look-back of selectors.
        if down > Self.lookbackBridgesMillis { graceUntilMillis = now + max(2 * intervalMillis, Self.graceMillisMin) }
    }

    private static let pendingOutageMillisMax: Int64 = 3_600_000
    private static let lookbackBridgesMillis: Int64 = 4 * 60_000
    private static let graceMillisMin: Int64 = 2 * 60_000
}
