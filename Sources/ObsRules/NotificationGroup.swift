// What a webhook's receiver knows about one group of alerts (all of one `alertname`), and when it is to be told something, as a value.
//
// Told: that an alert fires, at once; that it resolved, at once, if it was told that it fires; and that it still fires, every `repeatMillis`. A delivery that
// fails leaves things as they were, to be tried again with what is true by then.
internal import ObsCore

struct NotificationGroup: Sendable {
    struct Entry: Sendable {
        var alert: NotifiedAlert
        /// The receiver has been told that it fires.
        var isTold = false
    }

    private(set) var entries: [Labels: Entry] = [:]
    private(set) var lastToldMillis: Int64?
    private(set) var failures = 0
    private var notBeforeMillis: Int64 = .min

    init() {}

    init(restored entries: [Entry], lastToldMillis: Int64?, keepUntilMillis: Int64) {
        for var entry in entries {
            // Nobody could be heard while we were down.
            if !entry.alert.isResolved { entry.alert.endsAtMillis = max(entry.alert.endsAtMillis, keepUntilMillis) }
            self.entries[entry.alert.labels] = entry
        }
        self.lastToldMillis = lastToldMillis
    }

    mutating func update(_ alert: NotifiedAlert) {
        var entry = entries[alert.labels] ?? Entry(alert: alert)
        // The rule repeats a resolved alert for a while; once told it is forgotten.
        if alert.isResolved, !entry.isTold {
            entries[alert.labels] = nil
            return
        }
        entry.alert = alert
        entries[alert.labels] = entry
    }

    /// Alerts of which nothing was heard until their end are over: their rule is gone.
    mutating func expire(at now: Int64) {
        for (labels, entry) in entries where !entry.alert.isResolved && entry.alert.endsAtMillis < now {
            if entry.isTold { entries[labels]?.alert.isResolved = true } else { entries[labels] = nil }
        }
    }

    private func hasNews(at now: Int64, repeatMillis: Int64) -> Bool {
        if entries.isEmpty { return false }
        if entries.values.contains(where: { $0.alert.isResolved || !$0.isTold }) { return true }
        return lastToldMillis.map { now - $0 >= repeatMillis } ?? true
    }

    /// What to tell now, firing first then by labels; nil when there is nothing, or the receiver is to be left alone for a while.
    func due(at now: Int64, repeatMillis: Int64) -> [NotifiedAlert]? {
        guard now >= notBeforeMillis, hasNews(at: now, repeatMillis: repeatMillis) else { return nil }
        return entries.values.map(\.alert).sorted { $0.isResolved != $1.isResolved ? !$0.isResolved : $0.labels < $1.labels }
    }

    /// When `due` may be asked again; nil while there is nothing to wait for.
    func nextMillis(at now: Int64, repeatMillis: Int64) -> Int64? {
        if entries.isEmpty { return nil }
        if hasNews(at: now, repeatMillis: repeatMillis) { return max(now, notBeforeMillis) }
        let ends = entries.values.filter { !$0.alert.isResolved }.map(\.alert.endsAtMillis).min() ?? .max
        return min(max(notBeforeMillis, (lastToldMillis ?? now) + repeatMillis), ends == .max ? ends : ends + 1)
    }

    mutating func told(_ alerts: [NotifiedAlert], at now: Int64) {
        for alert in alerts {
            guard let entry = entries[alert.labels] else { continue }
            if alert.isResolved, entry.alert.isResolved { entries[alert.labels] = nil } else { entries[alert.labels]?.isTold = !alert.isResolved }
        }
        lastToldMillis = now
        failures = 0
        notBeforeMillis = .min
    }

    /// Waits 1, 2, 4 … 60 s, or as long as the receiver asks.
    mutating func failed(at now: Int64, retryAfterSeconds: Int?) {
        failures += 1
        let backoff = min(60, 1 << min(failures - 1, 6))
        notBeforeMillis = now + Int64(max(backoff, min(retryAfterSeconds ?? 0, 3600))) * 1000
    }
}
