// What must survive a restart: alerts with their times, and what each webhook has been told. A JSON file a human can read.
// Losing it costs `for` times and one repeated notification, so a file that cannot be read is set aside with a warning, not an error.
internal import ObsCore
internal import ObsWire

struct AlertStateFile {
    var savedAtMillis: Int64 = 0
    /// By group key, then rule identity.
    var groups: [String: [String: [Alert]]] = [:]
    /// By alert name.
    var webhook: [String: NotificationGroup] = [:]

    // MARK: - Writing

    var bytes: [UInt8] {
        var json = JSONWriter(reserving: 4096)
        json.beginObject()
        json.member("version", int: 1)
        json.member("savedAt", int: savedAtMillis)
        json.key("groups")
        json.beginArray()
        for (key, rules) in groups.sorted(by: { $0.key < $1.key }) {
            for (rule, alerts) in rules.sorted(by: { $0.key < $1.key }) where !alerts.isEmpty {
                json.beginObject()
                json.member("group", key)
                json.member("rule", rule)
                json.key("alerts")
                json.beginArray()
                for alert in alerts { Self.write(alert, &json) }
                json.endArray()
                json.endObject()
            }
        }
        json.endArray()
        json.key("webhook")
        json.beginArray()
        for (name, group) in webhook.sorted(by: { $0.key < $1.key }) { Self.write(name, group, &json) }
        json.endArray()
        json.endObject()
        return json.bytes
    }

    private static func write(_ alert: Alert, _ json: inout JSONWriter) {
        json.beginObject()
        json.key("labels")
        json.labels(alert.labels)
        write(alert.annotations, &json)
        json.member("value", formatSampleValue(alert.value))
        json.member("state", alert.state.rawValue)
        json.member("activeAt", int: alert.activeAtMillis)
        for (name, time) in [
            ("firedAt", alert.firedAtMillis), ("keepFiringSince", alert.keepFiringSinceMillis), ("resolvedAt", alert.resolvedAtMillis),
            ("lastSentAt", alert.lastSentAtMillis), ("validUntil", alert.validUntilMillis),
        ] { if let time { json.member(name, int: time) } }
        json.endObject()
    }

    private static func write(_ annotations: [RuleDefinition.Pair], _ json: inout JSONWriter) {
        json.key("annotations")
        json.beginArray()
        for pair in annotations {
            json.beginArray()
            json.string(pair.name)
            json.string(pair.value)
            json.endArray()
        }
        json.endArray()
    }

    private static func write(_ name: String, _ group: NotificationGroup, _ json: inout JSONWriter) {
        json.beginObject()
        json.member("alertname", name)
        if let told = group.lastToldMillis { json.member("lastToldAt", int: told) }
        json.key("alerts")
        json.beginArray()
        for entry in group.entries.values.sorted(by: { $0.alert.labels < $1.alert.labels }) {
            json.beginObject()
            json.key("labels")
            json.labels(entry.alert.labels)
            write(entry.alert.annotations, &json)
            json.member("startsAt", int: entry.alert.startsAtMillis)
            json.member("endsAt", int: entry.alert.endsAtMillis)
            json.member("resolved", bool: entry.alert.isResolved)
            json.member("generatorURL", entry.alert.generatorURL)
            json.member("told", bool: entry.isTold)
            json.endObject()
        }
        json.endArray()
        json.endObject()
    }

    // MARK: - Reading

    init() {}

    init(_ bytes: [UInt8], now: Int64) throws(ObsError) {
        let root = try JSONDocument.parse(bytes).root
        guard root["version"]?.int64 == 1 else { throw ObsError(.badInput, "alert state has an unknown version") }
        savedAtMillis = root["savedAt"]?.int64 ?? now
        for entry in Self.elements(root["groups"]) {
            guard let group = entry["group"]?.string, let rule = entry["rule"]?.string else { continue }
            groups[group, default: [:]][rule] = Self.elements(entry["alerts"]).compactMap(Self.alert)
        }
        for entry in Self.elements(root["webhook"]) {
            guard let name = entry["alertname"]?.string else { continue }
            webhook[name] = NotificationGroup(
                restored: Self.elements(entry["alerts"]).compactMap(Self.notified), lastToldMillis: entry["lastToldAt"]?.int64,
                keepUntilMillis: now + Self.unheardMillis)
        }
    }

    /// How long after a restart a rule has to speak up for its alerts.
    private static let unheardMillis: Int64 = 10 * 60_000

    private static func elements(_ value: JSONValue?) -> [JSONValue] {
        var list: [JSONValue] = []
        value?.forEachElement { list.append($0) }
        return list
    }

    private static func labels(_ value: JSONValue?) -> Labels {
        var pairs: [(name: String, value: String)] = []
        value?.forEachMember { key, value in pairs.append((String(decoding: key, as: UTF8.self), value.string ?? "")) }
        return Labels(pairs)
    }

    private static func annotations(_ value: JSONValue?) -> [RuleDefinition.Pair] {
        elements(value).compactMap { pair in
            guard let name = pair[0]?.string, let value = pair[1]?.string else { return nil }
            return RuleDefinition.Pair(name: name, value: value)
        }
    }

    private static func alert(_ json: JSONValue) -> Alert? {
        guard let active = json["activeAt"]?.int64, let state = json["state"]?.string.flatMap(Alert.State.init(rawValue:)) else { return nil }
        let value = json["value"]?.string.flatMap { Double($0) } ?? 0
        var alert = Alert(labels: labels(json["labels"]), annotations: annotations(json["annotations"]), value: value, activeAtMillis: active)
        alert.state = state
        alert.firedAtMillis = json["firedAt"]?.int64
        alert.keepFiringSinceMillis = json["keepFiringSince"]?.int64
        alert.resolvedAtMillis = json["resolvedAt"]?.int64
        alert.lastSentAtMillis = json["lastSentAt"]?.int64
        alert.validUntilMillis = json["validUntil"]?.int64 ?? 0
        return alert
    }

    private static func notified(_ json: JSONValue) -> NotificationGroup.Entry? {
        guard let starts = json["startsAt"]?.int64, let ends = json["endsAt"]?.int64 else { return nil }
        let alert = NotifiedAlert(
            labels: labels(json["labels"]), annotations: annotations(json["annotations"]), startsAtMillis: starts, endsAtMillis: ends,
            isResolved: json["resolved"]?.bool ?? false, generatorURL: json["generatorURL"]?.string ?? "")
        return NotificationGroup.Entry(alert: alert, isTold: json["told"]?.bool ?? false)
    }
}
