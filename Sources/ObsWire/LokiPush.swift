// Loki's push, JSON and protobuf, into log columns (contract loki.md §1).
//
// As in Loki a body that is malformed anywhere is refused whole, while a stream with bad labels is left out alone: its lines are counted and the first
// reason is what the 400 says. Rows are `identified`: a second equal (stream, time, line, metadata) is the same record sent again.
//
// Metadata becomes the row's attributes, all of them strings. Three do not stay there: `trace_id` and `span_id`, where they are valid, become columns, and a
// `detected_level` we know becomes the severity; each is given back from there.

package import ObsCore

package enum LokiPush {
    /// - Throws: `.badInput` for JSON that is no push request, `.unprocessable` for one without streams (Loki's 422).
    package static func decodeJSON(_ body: [UInt8], limits: Limits = Limits()) throws(ObsError) -> Decoded<LogBatch> {
        let document = try JSONDocument.parse(body, nestingMax: limits.nestingMax, repairing: true)
        var decoder = LokiDecoder(bytes: body.count)
        guard let streams = document.root["streams"], streams.kind == .array else { throw .noStreams }
        var count = 0
        try streams.forEachElement { (stream) throws(ObsError) in
            count += 1
            try decoder.decode(stream)
        }
        guard count > 0 else { throw .noStreams }
        return try decoder.finish()
    }

    /// - Parameter body: the `PushRequest`, snappy already undone.
    /// - Throws: as `decodeJSON`.
    package static func decodeProtobuf(_ body: [UInt8], limits: Limits = Limits()) throws(ObsError) -> Decoded<LogBatch> {
        var decoder = LokiDecoder(bytes: body.count)
        let count = body.withUnsafeBytes { decoder.decode(ProtobufReader($0)) }
        guard let count else { throw ObsError(.badInput, "invalid push body: not a logproto.PushRequest message") }
        guard count > 0 else { throw .noStreams }
        return try decoder.finish()
    }
}

extension ObsError {
    fileprivate static let noStreams = ObsError(.unprocessable, "error at least one valid stream is required for ingestion")
    fileprivate static let noLabels = ObsError(.badInput, "error at least one label pair is required per stream")

    fileprivate static func push(_ what: String) -> ObsError { ObsError(.badInput, "invalid push request: \(what)") }
}

private struct LokiDecoder: ~Copyable {
    private var rows: LogRowWriter
    private var list: AttributeListBuilder
    private var rejected = 0
    private var reason: String?

    init(bytes: Int) {
        rows = LogRowWriter(bytes: bytes)
        list = AttributeListBuilder(flattensMaps: false, nestingMax: 0)
    }

    consuming func finish() throws(ObsError) -> Decoded<LogBatch> {
        let outcome = (rejected, reason)
        return Decoded(batch: try rows.finish(), rejected: outcome.0, reason: outcome.1)
    }

    private mutating func reject(_ count: Int, _ error: ObsError) {
        rejected += max(1, count)
        if reason == nil { reason = error.message }
    }

    /// The stream of the labels read, or why there is none.
    private mutating func enterStream() -> Result<UInt32, ObsError> {
        rows.labels.removeEmpty()
        if rows.labels.isEmpty { return .failure(.noLabels) }
        guard let index = rows.enterStream() else { return .failure(ObsError(.badInput, "couldn't parse labels: a label name is repeated")) }
        return .success(index)
    }

    // MARK: - JSON

    mutating func decode(_ stream: JSONValue) throws(ObsError) {
        guard stream.kind == .object else { throw .push("a stream is not an object") }
        let values = stream["values"] ?? stream["entries"]
        let index: UInt32
        switch try streamIndex(stream) {
        case .success(let found): index = found
        case .failure(let error):
            reject(values?.count ?? 0, error)
            return
        }
        guard let values, values.kind != .null else { return }
        guard values.kind == .array else { throw .push("the values of a stream are not an array") }
        try values.forEachElement { (value) throws(ObsError) in
            if value.kind == .array { try decodeEntry(value, index) } else { try decodeOldEntry(value, index) }
        }
    }

    /// Reads the label map, or the text of the old shape.
    private mutating func streamIndex(_ stream: JSONValue) throws(ObsError) -> Result<UInt32, ObsError> {
        rows.labels.removeAll()
        if let text = stream["labels"], text.kind == .string, stream["stream"] == nil {
            var failure: ObsError?
            _ = text.withStringBytes { bytes in
                do throws(ObsError) { try StreamLabels.parse(bytes, into: &rows.labels) } catch { failure = error }
            }
            if let failure { return .failure(failure) }
            return enterStream()
        }
        guard let labels = stream["stream"], labels.kind == .object else { return .failure(.noLabels) }
        var badName: String?
        try labels.forEachMember { (name, value) throws(ObsError) in
            guard value.kind == .string else { throw .push("the value of label \(quoted(String(decoding: name, as: UTF8.self))) is not a string") }
            if !StreamLabels.isValidName(name) { badName = String(decoding: name, as: UTF8.self) }
            value.withStringBytes { rows.labels.add(name, $0) }
        }
        if let badName { return .failure(ObsError(.badInput, "couldn't parse labels: invalid label name \(quoted(badName))")) }
        return enterStream()
    }

    /// `["nanoseconds", "line", {metadata}?]`
    private mutating func decodeEntry(_ entry: JSONValue, _ stream: UInt32) throws(ObsError) {
        var row = Row(stream: stream)
        var place = 0
        list.begin(rows.arena)
        var metadata: JSONValue?
        var line: JSONValue?
        try entry.forEachElement { (part) throws(ObsError) in
            switch place {
            case 0:
                guard let nanos = part.withStringBytes({ decimalInteger($0) }) ?? nil else {
                    throw .push("a timestamp has to be a string of nanoseconds")
                }
                row.timeNanos = nanos
            case 1: line = part
            case 2: metadata = part
            default: throw .push("an entry has more than three parts")
            }
            place += 1
        }
        guard let line, line.kind == .string else { throw .push("an entry has to be [\"nanoseconds\", \"line\"]") }
        if let metadata { try decodeMetadata(metadata, &row) }
        line.withStringBytes { append(row, line: $0) }
    }

    private mutating func decodeMetadata(_ metadata: JSONValue, _ row: inout Row) throws(ObsError) {
        if metadata.isNull { return }
        guard metadata.kind == .object else { throw .push("structured metadata is not an object") }
        try metadata.forEachMember { (name, value) throws(ObsError) in
            guard value.kind == .string else {
                throw .push("the value of structured metadata \(quoted(String(decoding: name, as: UTF8.self))) is not a string")
            }
            value.withStringBytes { take(name, $0, &row) }
        }
    }

    /// `{"ts": RFC 3339, "line": …}` of `/api/prom/push`.
    private mutating func decodeOldEntry(_ entry: JSONValue, _ stream: UInt32) throws(ObsError) {
        guard let nanos = entry["ts"]?.withStringBytes({ parseRFC3339($0) }) ?? nil, let line = entry["line"], line.kind == .string else {
            throw .push("an entry has to be [\"nanoseconds\", \"line\"]")
        }
        var row = Row(stream: stream)
        row.timeNanos = nanos
        list.begin(rows.arena)
        line.withStringBytes { append(row, line: $0) }
    }

    // MARK: - protobuf

    /// Number of streams; nil when the message is malformed.
    mutating func decode(_ request: ProtobufReader) -> Int? {
        var reader = request
        var count = 0
        while reader.next() {
            guard reader.tag == .field(1, .length) else {
                reader.skip()
                continue
            }
            count += 1
            var stream = reader.message()
            decodeStream(&stream)
            reader.check(stream)
        }
        return reader.failed ? nil : count
    }

    private mutating func decodeStream(_ reader: inout ProtobufReader) {
        var head = reader
        var text = UnsafeRawBufferPointer(start: nil, count: 0)
        var entries = 0
        while head.next() {
            if head.tag == .field(1, .length) {
                text = head.bytes()
            } else {
                if head.tag == .field(2, .length) { entries += 1 }
                head.skip()
            }
        }
        guard !head.failed else {
            reader.fail()
            return
        }
        var stream: UInt32 = 0
        do throws(ObsError) {
            if text.isEmpty { throw .noLabels }
            try StreamLabels.parse(text, into: &rows.labels)
            stream = try enterStream().get()
        } catch {
            reject(entries, error)
            return
        }
        while reader.next() {
            if reader.tag == .field(2, .length) {
                var entry = reader.message()
                decodeEntry(&entry, stream)
                reader.check(entry)
            } else {
                reader.skip()
            }
        }
    }

    private mutating func decodeEntry(_ reader: inout ProtobufReader, _ stream: UInt32) {
        var row = Row(stream: stream)
        var line = UnsafeRawBufferPointer(start: nil, count: 0)
        list.begin(rows.arena)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): row.timeNanos = timestamp(&reader)
            case .field(2, .length): line = reader.bytes()
            case .field(3, .length):
                var pair = reader.message()
                let (name, value) = namedValue(&pair)
                reader.check(pair)
                take(name, value, &row)
            default: reader.skip()
            }
        }
        if !reader.failed { append(row, line: line) }
    }

    private func timestamp(_ parent: inout ProtobufReader) -> Int64 {
        var reader = parent.message()
        var seconds: Int64 = 0
        var nanos: Int64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): seconds = Int64(bitPattern: reader.varint())
            case .field(2, .varint): nanos = Int64(Int32(truncatingIfNeeded: reader.varint()))
            default: reader.skip()
            }
        }
        parent.check(reader)
        let (total, overflow) = seconds.multipliedReportingOverflow(by: nanosPerSecond)
        if overflow { return seconds < 0 ? .min : .max }
        return total.addingReportingOverflow(nanos).partialValue
    }

    private func namedValue(_ reader: inout ProtobufReader) -> (UnsafeRawBufferPointer, UnsafeRawBufferPointer) {
        var pair = (UnsafeRawBufferPointer(start: nil, count: 0), UnsafeRawBufferPointer(start: nil, count: 0))
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): pair.0 = reader.bytes()
            case .field(2, .length): pair.1 = reader.bytes()
            default: reader.skip()
            }
        }
        return pair
    }

    // MARK: - rows

    private struct Row {
        var stream: UInt32
        var timeNanos: Int64 = 0
        /// Of `detected_level`, then of the stream's labels, then of the metadata's level fields, then of the line.
        var detectedSeverity: UInt8 = 0
        var metadataSeverity: UInt8 = 0
        var trace = TraceID.none
        var span: SpanID = 0

        init(stream: UInt32) { self.stream = stream }
    }

    /// Takes one pair of structured metadata.
    private mutating func take(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ row: inout Row) {
        switch name.count {
        case 8 where equals(name, "trace_id"):
            if let id = traceID(hex: value) {
                row.trace = id
                return
            }
        case 7 where equals(name, "span_id"):
            if let id = spanID(hex: value) {
                row.span = id
                return
            }
        case 14 where equals(name, "detected_level"):
            row.detectedSeverity = LevelDetection.severity(word: value)
            if row.detectedSeverity != 0 { return }
        default:
            if row.metadataSeverity == 0 { row.metadataSeverity = LevelDetection.severity(attributeKey: name, value: value) ?? 0 }
        }
        guard !name.isEmpty else { return }
        var text = AnyValue()
        text.kind = .string
        text.slice = value
        _ = list.append(name, text, to: &rows.arena, depth: 0)
    }

    private mutating func append(_ row: Row, line: UnsafeRawBufferPointer) {
        let attributes = rows.arena.range(from: list.start)
        var severity = row.detectedSeverity
        if severity == 0 { severity = rows.severity(ofStream: row.stream) }
        if severity == 0 { severity = row.metadataSeverity }
        if severity == 0 { severity = LevelDetection.severity(line: line) }
        rows.batch.appendRow(
            stream: row.stream, timeNanos: row.timeNanos, severity: severity, line: rows.arena.intern(line), attributes: attributes, traceID: row.trace,
            spanID: row.span, flags: .identified)
    }
}

/// A whole decimal number, with sign; nil for anything else and past 64 bits.
func decimalInteger(_ text: UnsafeRawBufferPointer) -> Int64? {
    var rest = text[...]
    let isNegative = rest.first == UInt8(ascii: "-")
    if isNegative || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
    guard (1...19).contains(rest.count) else { return nil }
    var value: UInt64 = 0
    for digit in rest {
        guard digit &- UInt8(ascii: "0") <= 9 else { return nil }
        value = value &* 10 &+ UInt64(digit - UInt8(ascii: "0"))
    }
    return isNegative ? Int64(exactly: value).map { -$0 } : Int64(exactly: value)
}
