// `POST /insert/jsonline`: one JSON object a line, or one array of objects.
//
// The rule: **a record's line is its object exactly as sent, byte for byte**, so every field stays queryable (`| json`) and comes back as it was. What is read out of it
// besides is copied, not moved: the time, the stream labels, the level, trace and span id.
//
//   time     first present of `_time_field`, by default _time, @timestamp, timestamp, time, ts: RFC 3339 or `yyyy-MM-dd HH:mm:ss`, or a number (also in a
//            string) of seconds, milliseconds, microseconds or nanoseconds by its magnitude. Absent, empty or 0: the time of receipt. Else the line is refused.
//   stream   the fields of `_stream_fields`, by default service, app, job, host, env, namespace, container; names cleaned to [a-zA-Z0-9_]; and `service_name`.
//   level    the first level field (see LevelDetection) down to depth 2, else the text of the first of `_msg_field`, by default _msg, message, msg, log.
//
// A field's name may be a path: `a.b` means the member of that name, or `b` within `a`. A bad line is refused alone, with its number.
//
// Each object is walked once; only tokens of wanted fields are remembered. Streams are looked up by those tokens, so labels are built once per stream.

internal import Glibc
package import ObsCore

package struct JSONLinesResult: Sendable {
    package var batch: LogBatch
    package var rejected = 0
    /// The first ten refusals; `line` counts from 1, of an array it is the element.
    package var errors: [(line: Int, message: String)] = []
}

package enum JSONLines {
    /// - Parameter receivedAtNanos: time of records that have none.
    /// - Throws: only `.tooLarge`; bad lines are in the result.
    package static func decode(_ body: [UInt8], options: Options, receivedAtNanos: Int64, limits: Limits = Limits()) throws(ObsError) -> JSONLinesResult {
        var decoder = JSONLinesDecoder(bytes: body.count, options, receivedAtNanos, limits)
        body.withUnsafeBytes { decoder.decode($0) }
        return try decoder.finish()
    }

    /// What a request says about its fields.
    package struct Options: Sendable, Equatable {
        package var timeFields = ["_time", "@timestamp", "timestamp", "time", "ts"]
        package var messageFields = ["_msg", "message", "msg", "log"]
        package var streamFields = ["service_name", "service.name", "service", "app", "job", "host", "env", "namespace", "container"]

        package init() {}

        /// - Parameter query: the raw query string; VictoriaLogs' `_time_field`, `_msg_field`, `_stream_fields` (comma lists) are read, the rest is ignored.
        package init(query: String) {
            for pair in query.utf8.split(separator: UInt8(ascii: "&")) {
                let parts = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
                guard parts.count == 2 else { continue }
                let names = decodePercent(parts[1]).split(separator: ",").map(String.init)
                guard !names.isEmpty else { continue }
                switch decodePercent(parts[0]) {
                case "_time_field": timeFields = names
                case "_msg_field": messageFields = names
                case "_stream_fields": streamFields = names
                default: break
                }
            }
        }
    }
}

/// Form decoding: `%XX` and `+`.
private func decodePercent(_ text: Substring.UTF8View.SubSequence) -> String {
    var result: [UInt8] = []
    let bytes = Array(text)
    var at = 0
    while at < bytes.count {
        if bytes[at] == UInt8(ascii: "%"), at + 2 < bytes.count, let high = hexValue(bytes[at + 1]), let low = hexValue(bytes[at + 2]) {
            result.append(high << 4 | low)
            at += 3
        } else {
            result.append(bytes[at] == UInt8(ascii: "+") ? 0x20 : bytes[at])
            at += 1
        }
    }
    return String(decoding: result, as: UTF8.self)
}

private struct JSONLinesDecoder: ~Copyable {
    private var rows: LogRowWriter
    private let fields: WantedFields
    private var found: FoundFields
    /// Stream of each combination of stream tokens seen.
    private var combinations = LabelSetTable()
    private var combinationStream: [UInt32] = []
    private var combinationText = ByteArena(capacity: 1024)
    private var path = ByteArena(capacity: 256)
    private var scratch: [UInt8] = []
    private var rejected = 0
    private var errors: [(line: Int, message: String)] = []
    private let receivedAtNanos: Int64
    private let nestingMax: Int

    init(bytes: Int, _ options: JSONLines.Options, _ receivedAtNanos: Int64, _ limits: Limits) {
        rows = LogRowWriter(bytes: bytes)
        fields = WantedFields(options)
        found = FoundFields(streamFields: options.streamFields.count)
        self.receivedAtNanos = receivedAtNanos
        nestingMax = limits.nestingMax
    }

    consuming func finish() throws(ObsError) -> JSONLinesResult {
        let outcome = (rejected, errors)
        return JSONLinesResult(batch: try rows.finish(), rejected: outcome.0, errors: outcome.1)
    }

    mutating func decode(_ body: UnsafeRawBufferPointer) {
        // A byte order mark is no part of the first line.
        let body = body.starts(with: [0xef, 0xbb, 0xbf]) ? UnsafeRawBufferPointer(rebasing: body[3...]) : body
        if body.first(where: { !isSpace($0) }) == UInt8(ascii: "[") { decodeArray(body) } else { decodeLines(body) }
    }

    private mutating func decodeLines(_ body: UnsafeRawBufferPointer) {
        var number = 1
        var start = 0
        while start < body.count {
            let end = indexOfNewline(body, from: start) ?? body.count
            decode(trimmed(UnsafeRawBufferPointer(rebasing: body[start..<end])), number)
            start = end + 1
            number += 1
        }
    }

    private mutating func decodeArray(_ body: UnsafeRawBufferPointer) {
        var scanner = JSONScanner(body, nestingMax: nestingMax + 1)
        var number = 1
        do throws(ObsError) {
            try scanner.enterArray()
            while try scanner.nextElement() {
                decode(scanner.bytes(try scanner.value()), number)
                number += 1
            }
            try scanner.end()
        } catch {
            reject(number, error)
        }
    }

    private mutating func reject(_ line: Int, _ error: ObsError) {
        rejected += 1
        if errors.count < 10 { errors.append((line, error.description)) }
    }

    private mutating func decode(_ line: UnsafeRawBufferPointer, _ number: Int) {
        if line.isEmpty { return }
        do throws(ObsError) {
            try walk(line)
            let time = try recordTime(line)
            let stream = try stream(line)
            append(line, time, stream)
        } catch {
            reject(number, error)
        }
    }

    // MARK: - finding fields

    private mutating func walk(_ line: UnsafeRawBufferPointer) throws(ObsError) {
        found.reset()
        var scanner = JSONScanner(line, nestingMax: nestingMax)
        guard scanner.peek() == .object else { throw ObsError(.badInput, "a line has to be a JSON object") }
        path.truncate(to: 0)
        try walkMembers(&scanner, depth: 1)
        try scanner.end()
    }

    /// `path` holds the names of the objects around, each with its dot.
    private mutating func walkMembers(_ scanner: inout JSONScanner, depth: Int) throws(ObsError) {
        let outer = path.count
        try scanner.enterObject()
        while let key = try scanner.nextKey() {
            path.truncate(to: outer)
            let name = name(key, scanner)
            let isObject = scanner.peek() == .object
            if isObject, depth < 2 || fields.mayLieWithin(depth) {
                if path.count == outer { path.append(name) }
                path.append(UInt8(ascii: "."))
                try walkMembers(&scanner, depth: depth + 1)
                continue
            }
            let value = try scanner.value()
            if !isObject, value.kind != .array, value.kind != .null { note(name, scanner.bytes(key), value, scanner) }
        }
        path.truncate(to: outer)
    }

    /// A member's name from the top: in place at the top, else written to `path`.
    private mutating func name(_ key: JSONToken, _ scanner: JSONScanner) -> UnsafeRawBufferPointer {
        if path.count == 0, !key.hasEscapes { return scanner.bytes(key) }
        if key.hasEscapes {
            scratch.removeAll(keepingCapacity: true)
            unescapeJSON(scanner.bytes(key), into: &scratch)
            path.append(scratch)
        } else {
            path.append(scanner.bytes(key))
        }
        return path.slice(0..<path.count)
    }

    private mutating func note(_ name: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer, _ value: JSONToken, _ scanner: JSONScanner) {
        if fields.mayMatch(name) {
            for field in fields.names where fields.equals(field, name) { found.note(field.use, value) }
        }
        if found.severity == 0, value.kind != .bool, LevelDetection.isLevelKey(key) || LevelDetection.isLevelKey(name) {
            found.severity = LevelDetection.severity(word: scanner.bytes(value))
        }
    }

    // MARK: - reading them

    private func bytes(_ token: JSONToken, _ line: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer { .init(rebasing: line[token.range]) }

    private func recordTime(_ line: UnsafeRawBufferPointer) throws(ObsError) -> Int64 {
        guard let token = found.time else { return receivedAtNanos }
        let text = trimmed(bytes(token, line))
        if text.isEmpty { return receivedAtNanos }
        guard token.kind != .bool, let nanos = parseEpoch(text) ?? parseRFC3339(text) else {
            throw ObsError(.badInput, "cannot read the time \(quoted(String(decoding: text.prefix(200), as: UTF8.self)))")
        }
        return nanos == 0 ? receivedAtNanos : nanos
    }

    /// The stream of the tokens found, looked up by their text; its labels are made the first time.
    private mutating func stream(_ line: UnsafeRawBufferPointer) throws(ObsError) -> UInt32 {
        let start = combinationText.count
        for token in found.streamTokens {
            combinationText.appendVarint(UInt64((token?.range.count ?? -1) + 1))
            if let token { combinationText.append(bytes(token, line)) }
        }
        let index = Int(combinations.intern(from: start, in: &combinationText))
        if index < combinationStream.count { return combinationStream[index] }
        let stream = makeStream(line)
        combinationStream.append(stream)
        return stream
    }

    private mutating func makeStream(_ line: UnsafeRawBufferPointer) -> UInt32 {
        rows.labels.removeAll()
        var names: Set<[UInt8]> = []
        for (place, token) in found.streamTokens.enumerated() {
            guard let token, !token.range.isEmpty, names.insert(fields.labelNames[place]).inserted else { continue }
            scratch.removeAll(keepingCapacity: true)
            if token.hasEscapes { unescapeJSON(bytes(token, line), into: &scratch) } else { scratch.append(contentsOf: bytes(token, line)) }
            rows.labels.add(fields.labelNames[place], scratch)
        }
        guard let stream = rows.enterStream() else { fatalError("BUG: a label name was added twice") }
        return stream
    }

    private mutating func append(_ line: UnsafeRawBufferPointer, _ timeNanos: Int64, _ stream: UInt32) {
        var severity = found.severity
        if severity == 0 { severity = rows.severity(ofStream: stream) }
        if severity == 0, let message = found.message { severity = LevelDetection.severity(line: bytes(message, line)) }
        rows.batch.appendRow(
            stream: stream, timeNanos: timeNanos, severity: severity, line: rows.arena.intern(line),
            traceID: found.trace.flatMap { trace(bytes($0, line)) } ?? .none, spanID: found.span.flatMap { spanID(hex: bytes($0, line)) } ?? 0)
    }

    /// Trace ids of 64 bits, as Zipkin writes them, are the low half.
    private func trace(_ hex: UnsafeRawBufferPointer) -> TraceID? {
        traceID(hex: hex) ?? spanID(hex: hex).map { TraceID(high: 0, low: $0) }
    }
}

// MARK: - wanted fields

/// What a field is read for.
private enum FieldUse {
    case time(rank: Int), message(rank: Int), stream(place: Int), trace, span
}

/// The names looked for, told from nearly all others by length and first byte before they are compared.
private struct WantedFields {
    struct Name {
        var offset: Int
        var count: Int
        var use: FieldUse
    }

    private(set) var names: [Name] = []
    private var text: [UInt8] = []
    private var lengths: UInt64 = 0
    private var firstBytes: (UInt64, UInt64) = (0, 0)
    private var depthMax = 1
    let labelNames: [[UInt8]]

    init(_ options: JSONLines.Options) {
        labelNames = options.streamFields.map { Self.cleaned($0) }
        for (rank, name) in options.timeFields.enumerated() { add(name, .time(rank: rank)) }
        for (rank, name) in options.messageFields.enumerated() { add(name, .message(rank: rank)) }
        for (place, name) in options.streamFields.enumerated() { add(name, .stream(place: place)) }
        for name in ["trace_id", "traceId", "trace.id", "traceID", "traceid"] { add(name, .trace) }
        for name in ["span_id", "spanId", "span.id", "spanID", "spanid"] { add(name, .span) }
    }

    private mutating func add(_ name: String, _ use: FieldUse) {
        let path = [UInt8](name.utf8)
        guard let first = path.first else { return }
        names.append(Name(offset: text.count, count: path.count, use: use))
        text.append(contentsOf: path)
        depthMax = max(depthMax, path.count { $0 == UInt8(ascii: ".") } + 1)
        lengths |= 1 << UInt64(min(path.count, 63))
        if first < 64 { firstBytes.0 |= 1 << UInt64(first) } else { firstBytes.1 |= 1 << UInt64(first & 63) }
    }

    /// A label name of [a-zA-Z0-9_] that begins with no digit.
    private static func cleaned(_ name: String) -> [UInt8] {
        var result = name.utf8.map { byte -> UInt8 in
            (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte &- UInt8(ascii: "0") < 10 ? byte : UInt8(ascii: "_")
        }
        if let first = result.first, first &- UInt8(ascii: "0") < 10 { result.insert(UInt8(ascii: "_"), at: 0) }
        return result
    }

    /// Whether a wanted path reaches into objects of that depth.
    func mayLieWithin(_ depth: Int) -> Bool { depth < depthMax }

    func mayMatch(_ path: UnsafeRawBufferPointer) -> Bool {
        guard let first = path.first, lengths & 1 << UInt64(min(path.count, 63)) != 0 else { return false }
        return (first < 64 ? firstBytes.0 : firstBytes.1) & 1 << UInt64(first & 63) != 0
    }

    func equals(_ name: Name, _ path: UnsafeRawBufferPointer) -> Bool {
        name.count == path.count
            && text.withUnsafeBytes { compareBytes(UnsafeRawBufferPointer(rebasing: $0[name.offset..<name.offset + name.count]), path) == 0 }
    }
}

/// Where the wanted fields of one line lie.
private struct FoundFields {
    private(set) var time: JSONToken?
    private(set) var message: JSONToken?
    private(set) var trace: JSONToken?
    private(set) var span: JSONToken?
    /// Parallel to the options' stream fields.
    private(set) var streamTokens: [JSONToken?]
    var severity: UInt8 = 0
    private var timeRank = Int.max
    private var messageRank = Int.max

    init(streamFields: Int) { streamTokens = Array(repeating: nil, count: streamFields) }

    mutating func reset() {
        time = nil
        message = nil
        trace = nil
        span = nil
        severity = 0
        timeRank = .max
        messageRank = .max
        for place in streamTokens.indices { streamTokens[place] = nil }
    }

    /// Of a repeated name the first stays.
    mutating func note(_ use: FieldUse, _ value: JSONToken) {
        switch use {
        case .time(let rank):
            if rank < timeRank { (time, timeRank) = (value, rank) }
        case .message(let rank):
            if rank < messageRank, value.kind == .string { (message, messageRank) = (value, rank) }
        case .stream(let place):
            if streamTokens[place] == nil { streamTokens[place] = value }
        case .trace:
            if trace == nil { trace = value }
        case .span:
            if span == nil { span = value }
        }
    }
}

// MARK: - text

private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }

private func trimmed(_ text: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var start = 0
    var end = text.count
    while start < end, isSpace(text[start]) { start += 1 }
    while end > start, isSpace(text[end - 1]) { end -= 1 }
    return UnsafeRawBufferPointer(rebasing: text[start..<end])
}

private func indexOfNewline(_ text: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = text.baseAddress, let found = memchr(base + start, 0x0a, text.count - start) else { return nil }
    return UnsafeRawPointer(found) - base
}
