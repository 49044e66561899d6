import ObsCore
import ObsEngine
import ObsRegex
import ObsStore

/// Scans of the lines of `shared/perf`'s workload of JSON logs.
func scanLogs(_ engine: StorageEngine) throws(ObsError) {
    func selection(_ lines: [LineFilter] = [], matchers: [LabelMatcher] = [], limit: Int? = nil) -> LogSelection {
        LogSelection(matchers: matchers, startNanos: .min, endNanos: .max, lines: lines, limit: limit)
    }
    func count(_ name: String, _ lines: [LineFilter], by label: String? = nil) throws(ObsError) {
        try time(name) { () throws(ObsError) in
            let context = QueryContext(tenant: .default, limits: unbounded)
            let counts = try engine.countLogs(selection(lines), grid: .whole, context: context)
            var groups: [String: Int] = [:]
            for stream in counts { groups[label.flatMap { stream.labels[$0] } ?? "", default: 0] += stream.counts[0] }
            let text = groups.sorted { $0.key < $1.key }.prefix(6).map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            return "\(text); \(context.statistics.blocks) blocks read"
        }
    }
    let newest = try newestLines(engine, selection(limit: 200))
    guard let first = newest.lines.first else { return print("no lines") }
    print("newest: \(first)")
    for label in ["level", "service", "system"] { try count("count by \(label)", [], by: label) }
    for word in ["zyxwvutsrq", "connection refused", "error", "terminated"] { try count("count of '\(word)'", [LineFilter(contains: word)]) }
    for field in ["request_id", "trace_id"] {
        if let id = newest.lines.lazy.compactMap({ value(of: field, in: $0) }).first { try count("\(field) \(id)", [LineFilter(contains: id)]) }
    }
    try scanFields(engine, selection())
    for pattern in ["(?i)connection.*(refused|reset)", "(?i)session opened for user", "[a-z]+_id\":\"[0-9]+\"", "worker[0-9]"] {
        try count("count of /\(pattern)/", [LineFilter([.matches(try Regex(pattern))])])
    }
    for (name, value) in newest.labels.pairs {
        let matcher = LabelMatcher(equal: name, value)
        try time("newest 1,000 lines of \(name)=\(value)") { () throws(ObsError) in
            "\(try newestLines(engine, selection(matchers: [matcher], limit: 1000)).lines.count) lines"
        }
    }
    let stream = newest.labels.pairs.map { LabelMatcher(equal: $0.name, $0.value) }
    try time("newest 1,000 lines of \(newest.labels)") { () throws(ObsError) in
        "\(try newestLines(engine, selection(matchers: stream, limit: 1000)).lines.count) lines"
    }
}

/// Fields of the lines: filters on them, and counts by their values.
private func scanFields(_ engine: StorageEngine, _ selection: LogSelection) throws(ObsError) {
    func text(_ text: String) -> FieldTest { .compares(.equal, .text(Array(text.utf8))) }
    let filters: [(String, FieldFilter)] = [
        ("status >= 500", FieldFilter(.line, FieldPath("status"), .compares(.greaterOrEqual, .number(.integer(500))))),
        ("status = 777", FieldFilter(.line, FieldPath("status"), .compares(.equal, .number(.integer(777))))),
        ("duration_ms > 950", FieldFilter(.line, FieldPath("duration_ms"), .compares(.greater, .number(.integer(950))))),
        ("level = error", FieldFilter(.line, FieldPath("level"), text("error"))),
        ("request_id = 0123456789abcdef", FieldFilter(.line, FieldPath("request_id"), text("0123456789abcdef"))),
        ("absent field", FieldFilter(.line, FieldPath("absent"), .exists)),
    ]
    for (name, filter) in filters {
        var filtered = selection
        filtered.fields = [filter]
        try time("count of \(name)") { () throws(ObsError) in
            let context = QueryContext(tenant: .default, limits: unbounded)
            let counts = try engine.countLogs(filtered, grid: .whole, context: context)
            return "\(counts.reduce(0) { $0 + $1.counts[0] }) lines; \(context.statistics.blocks) blocks read"
        }
    }
    for (name, isByStream) in [("level", false), ("status", false), ("status", true), ("duration_ms", false), ("msg", false)] {
        try time("count by field \(name)\(isByStream ? " and stream" : "")") { () throws(ObsError) in
            let context = QueryContext(tenant: .default, limits: unbounded)
            let counts = try engine.countFieldValues(selection, .line, [FieldPath(name)], isByStream: isByStream, context: context)
            let top = counts.sorted { $0.count > $1.count }.prefix(3).map { "\(String(decoding: $0.value.prefix(30), as: UTF8.self)) \($0.count)" }
            return "\(counts.count) values, \(top.joined(separator: ", ")); \(context.statistics.blocks) blocks read"
        }
    }
}

/// What stands behind a key of a line of JSON.
private func value(of key: String, in line: String) -> String? {
    let parts = line.split(separator: "\"")
    guard let at = parts.firstIndex(of: Substring(key)), at + 2 < parts.count else { return nil }
    return String(parts[at + 2])
}

/// Keeps the newest lines, as a query with a limit does.
private final class NewestSink: LogSink {
    private let limit: Int
    private var kept: [(time: Int64, line: [UInt8])] = []
    private(set) var labels = Labels.empty
    private(set) var wantedNanos = Int64.min..<Int64.max

    init(limit: Int) { self.limit = limit }

    func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
        if let last = rows.last { labels = batch.labels(ofStream: batch.stream[last]) }
        for row in rows where wantedNanos.contains(batch.timeNanos[row]) { kept.append((batch.timeNanos[row], Array(batch.bytes[batch.line[row].range]))) }
        guard kept.count >= limit else { return }
        kept.sort { $0.time > $1.time }
        kept.removeSubrange(limit...)
        wantedNanos = kept[limit - 1].time..<Int64.max
    }

    var lines: [String] { kept.map { String(decoding: $0.line, as: UTF8.self) } }
}

private func newestLines(_ engine: StorageEngine, _ selection: LogSelection) throws(ObsError) -> (lines: [String], labels: Labels) {
    let sink = NewestSink(limit: selection.limit ?? 1)
    try engine.scanLogs(selection, context: QueryContext(tenant: .default, limits: unbounded), into: sink)
    return (sink.lines, sink.labels)
}
