internal import ObsCore
internal import ObsNet
internal import ObsWire

/// One line as the APIs give it.
struct LogLine {
    var timeNanos: Int64
    var labels: [(name: String, value: String)]
    var line: String

    func label(_ name: String) -> String? { labels.first { $0.name == name }?.value }

    /// The lines of a `streams` array, in the order they came.
    static func lines(_ streams: JSONValue?) -> [LogLine] {
        var lines: [LogLine] = []
        streams?.forEachElement { stream in
            var labels: [(name: String, value: String)] = []
            stream["stream"]?.forEachMember { labels.append((String(decoding: $0, as: UTF8.self), $1.string ?? "")) }
            stream["values"]?.forEachElement { entry in
                lines.append(LogLine(timeNanos: Int64(entry[0]?.string ?? "") ?? 0, labels: labels, line: entry[1]?.string ?? ""))
            }
        }
        return lines
    }
}

/// Writes lines: aligned and coloured on a terminal, a JSON object a line when piped, or the bare line.
struct LogRenderer {
    let terminal: Terminal

    func write(_ line: LogLine) { terminal.print(text(line) + "\n") }

    func text(_ line: LogLine) -> String {
        switch terminal.format {
        case .raw: return line.line
        case .jsonl:
            var writer = JSONWriter()
            writer.beginObject()
            writer.member("time", rfc3339(nanos: line.timeNanos))
            writer.member("line", line.line)
            writer.key("labels")
            writer.beginObject()
            for (name, value) in line.labels { writer.member(name, value) }
            writer.endObject()
            writer.endObject()
            return String(decoding: writer.bytes, as: UTF8.self)
        case .pretty:
            let service = line.label("service_name") ?? line.label("app") ?? ""
            let (message, inner) = Self.parts(line.line)
            let fields = inner.isEmpty ? Self.metadata(line.labels) : inner
            let level = line.label("detected_level") ?? "unknown"
            return
                "\(terminal.styled(terminal.clock(nanos: line.timeNanos), .dim)) \(terminal.level(level == "unknown" ? "" : level)) \(terminal.named(service)) \(message)"
                + (fields.isEmpty ? "" : " " + terminal.styled(fields, .dim))
        }
    }

    /// What a line that is only a message says beside it: OpenTelemetry's attributes, Loki's structured metadata. What is the same on every line is left out.
    static func metadata(_ labels: [(name: String, value: String)]) -> String {
        let hidden: Set<String> = [
            "service_name", "service", "service_namespace", "app", "job", "detected_level", "level", "severity_number", "severity_text",
            "observed_timestamp", "scope_name", "scope_version", "span_id", "flags",
        ]
        return labels.filter { !hidden.contains($0.name) && !$0.name.hasPrefix("telemetry_") }.map { "\($0.name)=\($0.value)" }.joined(separator: " ")
    }

    /// A JSON line's message and its other fields as `key=value`; any other line as it is.
    static func parts(_ line: String) -> (message: String, fields: String) {
        guard line.hasPrefix("{"), let document = try? JSONDocument.parse(Array(line.utf8)), document.root.kind == .object else { return (line, "") }
        var message: String?
        var fields: [String] = []
        let hidden: Set<String> = ["level", "severity", "ts", "time", "timestamp", "@timestamp", "_time"]
        document.root.forEachMember { key, value in
            let key = String(decoding: key, as: UTF8.self)
            if message == nil, ["_msg", "message", "msg", "log"].contains(key), let text = value.string {
                message = text
            } else if !hidden.contains(key) {
                fields.append("\(key)=\(value.string ?? jsonText(value))")
            }
        }
        return message.map { ($0, fields.joined(separator: " ")) } ?? (line, "")
    }
}

/// Bare words become line filters, `k=v` and its kin field filters; text that begins with `{` is LogQL as it is.
func logQuery(_ words: [String]) -> String {
    let text = words.joined(separator: " ")
    if text.hasPrefix("{") { return text }
    var lines = ""
    var fields = ""
    for word in words {
        guard let (field, operation, value) = fieldFilter(word) else {
            lines += " |= \"\(escapedForQuotes(word))\""
            continue
        }
        let number = Double(value) != nil && operation != "=" && operation != "=~"
        fields += " | \(field) \(number && operation == "=" ? "==" : operation) \(number ? value : "\"\(escapedForQuotes(value))\"")"
    }
    // Fields may be inside the line: both common encodings are tried, as Grafana does.
    return "{}" + lines + (fields.isEmpty ? "" : " | json | logfmt | drop __error__, __error_details__" + fields)
}

private func fieldFilter(_ word: String) -> (field: String, operation: String, value: String)? {
    for (spelling, operation) in [("!=", "!="), (">=", ">="), ("<=", "<="), ("=~", "=~"), ("=", "="), ("~", "=~"), (">", ">"), ("<", "<")] {
        guard let range = word.firstRange(of: spelling), range.lowerBound > word.startIndex else { continue }
        let field = word[..<range.lowerBound]
        guard
            field.utf8.allSatisfy({
                $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39)
            })
        else { continue }
        // The level that was found wherever a record kept it, in one spelling.
        let name = field == "level" ? "detected_level" : String(field.map { $0 == "." ? "_" : $0 })
        return (name, operation, String(word[range.upperBound...]))
    }
    return nil
}

/// `obsq logs`: a search, newest lines last on a terminal so that they stand above the prompt.
struct LogsCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run(nowNanos: Int64) throws(ObsError) -> Exit {
        let query = logQuery(arguments.words)
        if arguments.has("show-query") { terminal.note(query) }
        if arguments.has("follow") {
            return try TailCommand(arguments: arguments, server: server, terminal: terminal).run(query: query, past: try arguments.limit(10))
        }
        let window = try arguments.window(fallback: "1h", nowNanos: nowNanos)
        let answer = try server.get(
            "/loki/api/v1/query_range",
            [
                ("query", query), ("start", String(window.lowerBound)), ("end", String(window.upperBound)), ("limit", String(try arguments.limit(200))),
                ("direction", "backward"),
            ])
        guard let data = answer.root["data"], data["resultType"]?.string == "streams" else {
            throw ObsError(.badInput, "this is a metric query; logs shows lines")
        }
        terminal.note("\(terminal.date(nanos: window.lowerBound)) to \(terminal.date(nanos: window.upperBound))")
        let lines = LogLine.lines(data["result"])
        let order = lines.indices.sorted { (lines[$0].timeNanos, $1) < (lines[$1].timeNanos, $0) }
        let renderer = LogRenderer(terminal: terminal)
        for index in order { renderer.write(lines[index]) }
        if lines.isEmpty {
            terminal.note("no lines")
            return arguments.has("fail-empty") ? .no : .ok
        }
        return .ok
    }
}

/// `obsq tail`: lines as they are acknowledged. A lost connection is taken up again.
struct TailCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run() throws(ObsError) -> Exit { try run(query: logQuery(arguments.words), past: arguments["limit"] == nil ? 0 : try arguments.limit(10)) }

    func run(query: String, past: Int) throws(ObsError) -> Exit {
        let renderer = LogRenderer(terminal: terminal)
        var printed = PrintedLines(sinceNanos: SystemClock().nowNanos())
        // The first connection may fail for good: a wrong query, a wrong address.
        var socket = try server.webSocket("/loki/api/v1/tail", [("query", query), ("limit", String(past))])
        terminal.note("tailing \(query)")
        while true {
            while let message = try? socket.receive() {
                guard let frame = try? JSONDocument.parse(message) else { continue }
                for line in LogLine.lines(frame.root["streams"]) where printed.isNew(line) { renderer.write(line) }
                if let dropped = frame.root["dropped_total"]?.int64 { terminal.note("\(dropped) lines skipped: this terminal is too slow for them") }
            }
            terminal.note("connection lost; trying again")
            socket = try reconnect(query, from: printed.overlapNanos)
            printed.beginRepeat()
            terminal.note("connected again")
        }
    }

    /// Until the server is back: a tail is left running through restarts. What it refuses for good ends it.
    private func reconnect(_ query: String, from nanos: Int64) throws(ObsError) -> WebSocketClient {
        var waitMillis = 100
        while true {
            pause(millis: waitMillis)
            waitMillis = min(waitMillis * 2, 2000)
            do throws(ObsError) {
                return try server.webSocket("/loki/api/v1/tail", [("query", query), ("start", String(nanos)), ("limit", String(PrintedLines.kept))])
            } catch {
                if [.badInput, .unauthenticated, .forbidden, .notFound].contains(error.code) { throw error }
            }
        }
    }
}

/// What was printed last. After a lost connection the server is asked for a while more than is missing, since lines need not come in the order of their times,
/// and what stands on the terminal already is left out: as often as it stands there, because equal lines are different records.
struct PrintedLines {
    /// Lines remembered, and asked for again.
    static let kept = 5000
    private static let overlap = 60 * nanosPerSecond

    private var recent: [String] = []
    private var next = 0
    /// How often each remembered line is still to be left out; empty before the first lost connection.
    private var repeated: [String: Int] = [:]
    private let sinceNanos: Int64
    private var newestNanos: Int64

    init(sinceNanos: Int64) {
        self.sinceNanos = sinceNanos
        newestNanos = sinceNanos
    }

    /// From when on to ask again.
    var overlapNanos: Int64 { max(sinceNanos, newestNanos - Self.overlap) }

    mutating func beginRepeat() { repeated = recent.reduce(into: [:]) { $0[$1, default: 0] += 1 } }

    /// False for a line that was printed before the connection was lost.
    mutating func isNew(_ line: LogLine) -> Bool {
        let identity = "\(line.timeNanos) \(line.labels.map { "\($0.name)=\($0.value)" }.sorted()) \(line.line)"
        if let count = repeated[identity] {
            repeated[identity] = count > 1 ? count - 1 : nil
            return false
        }
        newestNanos = max(newestNanos, line.timeNanos)
        if recent.count < Self.kept {
            recent.append(identity)
        } else {
            recent[next] = identity
            next = (next + 1) % Self.kept
        }
        return true
    }
}

/// `obsq push`: standard input, a record a line, sent as NDJSON. Lines that are no JSON objects are wrapped as messages; `--service` names the service of records
/// that do not name one themselves.
struct PushCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal
    let input: LineReader

    func run() throws(ObsError) -> Exit {
        var parameters: [(String, String)] = []
        if let stream = arguments["stream"] { parameters.append(("_stream_fields", stream)) }
        let batchBytesMax = 1 << 20
        let clock = SystemClock()
        var batch: [UInt8] = []
        var rejected = 0
        // A batch goes out when it is full or its first line has waited a moment, so that `tail -f | obsq push` is live however busy the log is.
        let patienceNanos: Int64 = 200 * nanosPerMilli
        var dueNanos: Int64 = 0
        while true {
            let wait = batch.isEmpty ? nil : Int(max(0, dueNanos - clock.monotonicNanos()) / nanosPerMilli)
            switch input.next(waitMillis: wait) {
            case .line(let line):
                if batch.isEmpty { dueNanos = clock.monotonicNanos() + patienceNanos }
                append(line, to: &batch)
                if batch.count < batchBytesMax, clock.monotonicNanos() < dueNanos { continue }
            case .nothingYet: break
            case .end:
                rejected += try send(batch, parameters)
                return rejected == 0 ? .ok : .partial
            }
            rejected += try send(batch, parameters)
            batch.removeAll(keepingCapacity: true)
        }
    }

    private func append(_ line: [UInt8], to batch: inout [UInt8]) {
        if line.isEmpty { return }
        // What only looks like JSON is a message too: no line is lost.
        if line.first == UInt8(ascii: "{"), let document = try? JSONDocument.parse(line) {
            if let service = arguments["service"], let opening = Self.opening(document.root, service) {
                batch.append(contentsOf: opening)
                batch.append(contentsOf: line.dropFirst())
            } else {
                batch.append(contentsOf: line)
            }
        } else {
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("_msg")
            line.withUnsafeBytes { writer.string($0) }
            if let service = arguments["service"] { writer.member("service", service) }
            writer.endObject()
            batch.append(contentsOf: writer.bytes)
        }
        batch.append(UInt8(ascii: "\n"))
    }

    /// What an object that names no service of its own begins with instead of its brace; nil when it is to stay as it is.
    private static func opening(_ object: JSONValue, _ service: String) -> [UInt8]? {
        var isEmpty = true
        object.forEachMember { _, _ in isEmpty = false }
        guard ["service_name", "service.name", "service", "app"].allSatisfy({ object[$0] == nil }) else { return nil }
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("service", service)
        return writer.bytes + (isEmpty ? [] : [UInt8(ascii: ",")])
    }

    /// Number of lines refused. A server that is away for a moment is waited for: the records are not lost.
    private func send(_ batch: [UInt8], _ parameters: [(String, String)]) throws(ObsError) -> Int {
        if batch.isEmpty { return 0 }
        for attempt in 0... {
            do throws(ObsError) {
                let response = try server.post("/insert/jsonline", parameters, contentType: "application/x-ndjson", body: batch)
                let answer = try JSONDocument.parse(response.body)
                let rejected = Int(answer.root["rejected"]?.int64 ?? 0)
                answer.root["errors"]?.forEachElement { terminal.note("refused: \($0["error"]?.string ?? "")") }
                return rejected
            } catch {
                guard error.code == .unavailable || error.code == .overloaded, attempt < 60 else { throw error }
                pause(millis: min(5000, 100 << min(attempt, 6)))
            }
        }
        return 0
    }
}
