// The two bodies alerts leave in: Alertmanager's webhook (version 4) and its own API (v2). Contract prometheus.md §7.
package import ObsCore
internal import ObsWire

/// An alert as receivers see it: external labels added, times as they are told.
package struct NotifiedAlert: Sendable, Equatable {
    package var labels: Labels
    package var annotations: [RuleDefinition.Pair]
    /// When it began to fire.
    package var startsAtMillis: Int64
    /// When it ended; while it fires, when to take it for ended if no more is heard.
    package var endsAtMillis: Int64
    package var isResolved: Bool
    package var generatorURL: String

    package init(
        labels: Labels, annotations: [RuleDefinition.Pair], startsAtMillis: Int64, endsAtMillis: Int64, isResolved: Bool, generatorURL: String
    ) {
        self.labels = labels
        self.annotations = annotations
        self.startsAtMillis = startsAtMillis
        self.endsAtMillis = endsAtMillis
        self.isResolved = isResolved
        self.generatorURL = generatorURL
    }

    /// - Parameter expression: of the rule, for the link.
    package init(_ alert: Alert, expression: String, settings: RuleSettings) {
        var builder = LabelsBuilder(alert.labels)
        settings.externalLabels.forEach { name, value in
            let name = String(decoding: name, as: UTF8.self)
            if builder[name] == nil { builder.set(name, String(decoding: value, as: UTF8.self)) }
        }
        labels = builder.labels()
        annotations = alert.annotations
        startsAtMillis = alert.firedAtMillis ?? alert.activeAtMillis
        isResolved = alert.state == .inactive
        endsAtMillis = alert.resolvedAtMillis ?? alert.validUntilMillis
        generatorURL = settings.externalURL + expressionLink(expression, tab: 1)
    }

    package var name: String { labels["alertname"] ?? "" }
    package var fingerprint: String { hexString(labelsFingerprint(labels)) }
}

/// FNV-1a over names and values with 0xff behind each: Prometheus' `LabelSet.Fingerprint`, by which Alertmanager knows an alert.
package func labelsFingerprint(_ labels: Labels) -> UInt64 {
    var hash: UInt64 = 14_695_981_039_346_656_037
    func add(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
    labels.forEach { name, value in
        name.forEach(add)
        add(0xff)
        value.forEach(add)
        add(0xff)
    }
    return hash
}

package enum Notification {
    /// Body of a webhook, version 4, for the alerts of one group (all of one `alertname`).
    package static func webhookBody(alertname: String, alerts: [NotifiedAlert], receiver: String, externalURL: String) -> [UInt8] {
        var json = JSONWriter(reserving: 512 * (alerts.count + 1))
        json.beginObject()
        json.member("version", "4")
        json.member("groupKey", "{}:{alertname=\"\(escapedForQuotes(alertname))\"}")
        json.member("truncatedAlerts", int: 0)
        json.member("status", alerts.contains { !$0.isResolved } ? "firing" : "resolved")
        json.member("receiver", receiver)
        json.key("groupLabels")
        json.labels(Labels([("alertname", alertname)]))
        json.key("commonLabels")
        json.labels(Labels(common(alerts.map { $0.labels.pairs.map { RuleDefinition.Pair(name: $0.name, value: $0.value) } }).map { ($0.name, $0.value) }))
        json.key("commonAnnotations")
        write(common(alerts.map(\.annotations)), &json)
        json.member("externalURL", externalURL)
        json.key("alerts")
        json.beginArray()
        for alert in alerts { write(alert, &json) }
        json.endArray()
        json.endObject()
        return json.bytes
    }

    private static func write(_ alert: NotifiedAlert, _ json: inout JSONWriter) {
        json.beginObject()
        json.member("status", alert.isResolved ? "resolved" : "firing")
        json.key("labels")
        json.labels(alert.labels)
        json.key("annotations")
        write(alert.annotations, &json)
        json.member("startsAt", time(alert.startsAtMillis))
        json.member("endsAt", alert.isResolved ? time(alert.endsAtMillis) : "0001-01-01T00:00:00Z")
        json.member("generatorURL", alert.generatorURL)
        json.member("fingerprint", alert.fingerprint)
        json.endObject()
    }

    /// Body of Alertmanager's `POST /api/v2/alerts`.
    package static func alertmanagerBody(_ alerts: some Collection<NotifiedAlert>) -> [UInt8] {
        var json = JSONWriter(reserving: 512 * (alerts.count + 1))
        json.beginArray()
        for alert in alerts {
            json.beginObject()
            json.key("annotations")
            write(alert.annotations, &json)
            json.member("endsAt", time(alert.endsAtMillis))
            json.member("startsAt", time(alert.startsAtMillis))
            json.member("generatorURL", alert.generatorURL)
            json.key("labels")
            json.labels(alert.labels)
            json.endObject()
        }
        json.endArray()
        return json.bytes
    }

    private static func time(_ millis: Int64) -> String { rfc3339(nanos: millis.multipliedReportingOverflow(by: nanosPerMilli).partialValue) }

    private static func write(_ pairs: [RuleDefinition.Pair], _ json: inout JSONWriter) {
        json.beginObject()
        for pair in pairs { json.member(pair.name, pair.value) }
        json.endObject()
    }

    /// Pairs that all have.
    private static func common(_ all: [[RuleDefinition.Pair]]) -> [RuleDefinition.Pair] {
        guard let first = all.first else { return [] }
        return first.filter { pair in all.dropFirst().allSatisfy { $0.contains(pair) } }
    }
}
