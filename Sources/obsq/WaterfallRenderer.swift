internal import ObsCore
internal import ObsWire

/// A trace as text: the tree of spans at the left, when each ran at the right.
struct WaterfallRenderer {
    private struct Span {
        var id: String
        var parent: String
        var service: String
        var name: String
        var startMicros: Int64
        var durationMicros: Int64
        var failed: Bool
        var status: String
        var events: [(micros: Int64, text: String)]
    }

    private let terminal: Terminal
    private let traceID: String
    private var spans: [Span] = []
    private var children: [String: [Int]] = [:]

    init(_ trace: JSONValue, terminal: Terminal) {
        self.terminal = terminal
        traceID = trace["traceID"]?.string ?? ""
        var services: [String: String] = [:]
        trace["processes"]?.forEachMember { services[String(decoding: $0, as: UTF8.self)] = $1["serviceName"]?.string }
        trace["spans"]?.forEachElement { spans.append(Self.span($0, services)) }
        spans.sort { ($0.startMicros, -$0.durationMicros) < ($1.startMicros, -$1.durationMicros) }
        let known = Set(spans.map(\.id))
        // A span whose parent is not there (late, or lost) stands at the root, so that it is seen.
        for (index, span) in spans.enumerated() {
            children[known.contains(span.parent) && span.parent != span.id ? span.parent : "", default: []].append(index)
        }
    }

    private static func span(_ json: JSONValue, _ services: [String: String]) -> Span {
        var parent = ""
        json["references"]?.forEachElement { if parent.isEmpty, $0["refType"]?.string == "CHILD_OF" { parent = $0["spanID"]?.string ?? "" } }
        var failed = false
        var status = ""
        json["tags"]?.forEachElement { tag in
            switch tag["key"]?.string {
            case "error": failed = tag["value"]?.bool ?? true
            case "http.response.status_code", "http.status_code": status = tag["value"]?.string ?? tag["value"].map(jsonText) ?? ""
            default: break
            }
        }
        var events: [(micros: Int64, text: String)] = []
        json["logs"]?.forEachElement { log in
            var fields: [String] = []
            log["fields"]?.forEachElement { field in
                let value = field["value"]?.string ?? field["value"].map(jsonText) ?? ""
                // The event's name, then what it says; a type of error says little beside its message.
                switch field["key"]?.string {
                case "event": fields.insert(value, at: 0)
                case "exception.message": fields.append(value)
                case "exception.type", "exception.stacktrace": break
                case let key: fields.append("\(key ?? "")=\(value)")
                }
            }
            events.append((log["timestamp"]?.int64 ?? 0, fields.joined(separator: " ")))
        }
        return Span(
            id: json["spanID"]?.string ?? "", parent: parent, service: services[json["processID"]?.string ?? ""] ?? "",
            name: json["operationName"]?.string ?? "",
            startMicros: json["startTime"]?.int64 ?? 0, durationMicros: json["duration"]?.int64 ?? 0, failed: failed, status: status, events: events)
    }

    func render() -> String {
        guard let start = spans.map(\.startMicros).min(), let end = spans.map({ clampedSum($0.startMicros, $0.durationMicros) }).max(), let first = spans.first
        else {
            return ""
        }
        let errors = spans.count { $0.failed }
        let services = Set(spans.map(\.service)).count
        var text =
            terminal.styled(traceID, .bold) + "  \(first.name)  \(terminal.named(first.service))  \(shortDuration(nanos: nanos(clampedDifference(end, start))))"
        text += "  \(spans.count) spans  \(services) services" + (errors == 0 ? "" : "  " + terminal.styled("\(errors) errors", .red)) + "\n"
        let rows = tree()
        let nameWidth = min(max(24, rows.map { $0.prefix.count + spans[$0.span].name.count + spans[$0.span].service.count + 1 }.max() ?? 0), terminal.width / 2)
        let barWidth = max(10, terminal.width - nameWidth - 20)
        for row in rows { text += line(row.prefix, spans[row.span], start, max(1, clampedDifference(end, start)), nameWidth, barWidth) }
        return text
    }

    /// Spans in tree order with the lines that lead to them. Iterative: traces can be as deep as they are long.
    private func tree() -> [(prefix: String, span: Int)] {
        var rows: [(prefix: String, span: Int)] = []
        var stack = (children[""] ?? []).reversed().map { (span: $0, lead: "", branch: "") }
        while let next = stack.popLast() {
            rows.append((next.lead + next.branch, next.span))
            let inner = next.branch.isEmpty ? next.lead : next.lead + (next.branch == "├ " ? "│ " : "  ")
            let below = children[spans[next.span].id] ?? []
            for (place, child) in below.enumerated().reversed() where child != next.span {
                stack.append((child, inner, place == below.count - 1 ? "└ " : "├ "))
            }
        }
        return rows
    }

    private func line(_ prefix: String, _ span: Span, _ start: Int64, _ total: Int64, _ nameWidth: Int, _ barWidth: Int) -> String {
        let room = max(4, nameWidth - prefix.count - span.service.count - 1)
        let name = span.name.count > room ? span.name.prefix(room - 1) + "…" : span.name[...]
        let space = String(repeating: " ", count: max(0, room - name.count))
        // Eighths of a cell, so that short spans still differ in length.
        let scale = Double(barWidth * 8) / Double(total)
        let from = min(barWidth * 8 - 1, Int(Double(clampedDifference(span.startMicros, start)) * scale))
        let length = max(1, Int(Double(span.durationMicros) * scale))
        let full = length / 8
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][length % 8]
        let bar = String(repeating: "█", count: full) + rest
        let gap = String(repeating: " ", count: from / 8)
        let after = String(repeating: " ", count: max(0, barWidth - from / 8 - full - (rest.isEmpty ? 0 : 1)))
        let mark = span.failed ? terminal.styled(" ✖ \(span.status)", .red) : ""
        var text =
            "\(prefix)\(terminal.named(span.service)) \(name)\(space) \(gap)\(terminal.styled(bar, span.failed ? .red : .blue))\(after) \(shortDuration(nanos: nanos(span.durationMicros)))\(mark)\n"
        // The lines of the tree go on beside the events.
        let lead = String(prefix.map { $0 == "├" ? "│" : $0 == "└" ? " " : $0 })
        let below = lead + (children[span.id] == nil ? "  " : "│ ")
        for event in span.events.prefix(5) {
            text +=
                terminal.styled(
                    "\(below)• \(shortDuration(nanos: nanos(clampedDifference(event.micros, span.startMicros)))) \(event.text.prefix(max(0, terminal.width - below.count - 12)))",
                    .dim)
                + "\n"
        }
        return text
    }
}

/// Clamped: what a server sends may be any number.
private func nanos(_ micros: Int64) -> Int64 {
    let (nanos, overflow) = micros.multipliedReportingOverflow(by: 1000)
    return overflow ? (micros < 0 ? .min : .max) : nanos
}
