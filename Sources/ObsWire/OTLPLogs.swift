package import ObsCore

/// Decodes `ExportLogsServiceRequest` into streams as Loki's OTLP receiver forms them.
///
/// A few resource attributes (`indexLabels`) and `service_name` make the stream; the other resource attributes stay in the `resources` table, the scope in `scopes`.
/// What Loki adds as structured metadata from the record (`severity_text`, `observed_timestamp`, `event_name`, …) follows the record's own attributes in its list.
package enum OTLPLogs {
    package static func decodeProtobuf(_ body: [UInt8], receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> Decoded<LogBatch> {
        var decoder = LogDecoder(bytes: body.count, receivedAtNanos: receivedAtNanos, limits: limits)
        let valid = body.withUnsafeBytes { decoder.decode(ProtobufReader($0)) }
        guard valid else { throw .malformedOTLP("ExportLogsServiceRequest") }
        return try decoder.finish()
    }

    /// Resource attributes that become stream labels, dots and all else but letters and digits as `_` (Loki's default list).
    package static let indexLabels: Set<String> = [
        "service.name", "service.namespace", "service.instance.id", "deployment.environment", "deployment.environment.name", "cloud.region",
        "cloud.availability_zone", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "k8s.replicaset.name",
        "k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name", "container.name",
    ]
}

private struct LogDecoder: ~Copyable {
    /// Where the records of one resource belong.
    private struct Home {
        var stream: UInt32
        var resource: UInt32
        var scope: UInt32 = 0
    }

    private var result = Decoded(batch: LogBatch())
    private var arena: ByteArena
    private var tables: OTLPTables
    private var attributes: AttributeListBuilder
    private let receivedAtNanos: Int64
    private let nestingMax: Int
    /// Stream and remaining attributes of each entry of `tables.resources`.
    private var streamOfResource: [UInt32?] = []
    private var remainders: [ByteRange] = []
    private var streamIndex: [Labels: UInt32] = [:]

    init(bytes: Int, receivedAtNanos: Int64, limits: Limits) {
        arena = ByteArena(capacity: bytes)
        tables = OTLPTables(flattensMaps: true, nestingMax: limits.nestingMax)
        attributes = AttributeListBuilder(flattensMaps: true, nestingMax: limits.nestingMax)
        self.receivedAtNanos = receivedAtNanos
        nestingMax = limits.nestingMax
    }

    mutating func decode(_ request: ProtobufReader) -> Bool {
        var reader = request
        while reader.next() {
            if reader.tag == .field(1, .length) {
                var group = reader.message()
                decodeResourceLogs(&group)
                reader.check(group)
            } else {
                reader.skip()
            }
        }
        return !reader.failed
    }

    consuming func finish() throws(ObsError) -> Decoded<LogBatch> {
        guard arena.fitsRanges else { throw ObsError(.tooLarge, "the log records of one request take more than 4 GiB") }
        result.batch.bytes = arena.array()
        if !remainders.isEmpty { result.batch.resources = remainders }
        result.batch.scopes = tables.scopes
        return result
    }

    private mutating func decodeResourceLogs(_ reader: inout ProtobufReader) {
        let group = OTLPGroup(reader)
        guard let resource = tables.resource(group.head, &arena) else {
            reader.fail()
            return
        }
        var home = Home(stream: stream(ofResource: resource), resource: resource)
        while reader.next() {
            guard reader.tag == .field(2, .length) else {
                reader.skip()
                continue
            }
            var records = reader.message()
            let scopeGroup = OTLPGroup(records)
            if let scope = tables.scope(scopeGroup, resourceSchemaURL: group.schemaURL, &arena) {
                home.scope = scope
                decodeScopeLogs(&records, home)
            } else {
                records.fail()
            }
            reader.check(records)
        }
    }

    private mutating func decodeScopeLogs(_ reader: inout ProtobufReader, _ home: Home) {
        while reader.next() {
            if reader.tag == .field(2, .length) {
                var record = reader.message()
                decodeRecord(&record, home)
                reader.check(record)
            } else {
                reader.skip()
            }
        }
    }

    // MARK: - streams

    private mutating func stream(ofResource index: UInt32) -> UInt32 {
        let index = Int(index)
        while streamOfResource.count <= index {
            streamOfResource.append(nil)
            remainders.append(.empty)
        }
        if let known = streamOfResource[index] { return known }
        let (stream, rest) = split(tables.resources[index])
        let streamIndex = internStream(stream)
        streamOfResource[index] = streamIndex
        remainders[index] = rest.withUnsafeBytes { arena.intern($0) }
        return streamIndex
    }

    /// Splits a resource's attributes into stream labels and the rest.
    private func split(_ resource: ByteRange) -> (stream: Labels, rest: [UInt8]) {
        var labels = LabelsBuilder()
        var all = LabelsBuilder()
        var rest: [UInt8] = []
        forEachAttribute(arena.slice(resource)) {
            let label = sanitizedLabelName($0.key)
            let text = [UInt8]($0.value.text.utf8)
            all.set(label, text)
            if OTLPLogs.indexLabels.contains(String(decoding: $0.key, as: UTF8.self)) {
                labels.set(label, text)
            } else {
                rest.appendAttribute($0.key, $0.value)
            }
            return true
        }
        if labels["service_name"] == nil { labels.set(ServiceName.label, ServiceName.find(in: all.labels())) }
        return (labels.labels(), rest)
    }

    private mutating func internStream(_ labels: Labels) -> UInt32 {
        if let known = streamIndex[labels] { return known }
        let index = UInt32(result.batch.streams.count)
        result.batch.streams.append(labels.bytes.withUnsafeBytes { arena.intern($0) })
        streamIndex[labels] = index
        return index
    }

    // MARK: - records

    private mutating func decodeRecord(_ reader: inout ProtobufReader, _ home: Home) {
        var record = LogRecord()
        attributes.begin(arena)
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): record.time = reader.fixed64()
            case .field(2, .varint): record.severityNumber = reader.varint()
            case .field(3, .length): record.severityText = reader.bytes()
            case .field(5, .length): record.body = AnyValue(&reader)
            case .field(6, .length): attributes.append(&reader, to: &arena)
            case .field(7, .varint): record.droppedAttributes = reader.varint()
            case .field(8, .fixed32): record.flags = reader.fixed32()
            case .field(9, .length): record.traceID = TraceID(bytes: reader.bytes()) ?? .none
            case .field(10, .length): record.spanID = SpanID(spanBytes: reader.bytes()) ?? 0
            case .field(11, .fixed64): record.observedTime = reader.fixed64()
            case .field(12, .length): record.eventName = reader.bytes()
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        appendMetadata(of: record)
        let attributeRange = arena.range(from: attributes.start)
        let lineStart = arena.count
        guard record.body.appendText(to: &arena, depth: nestingMax) else {
            reader.fail()
            return
        }
        let line = arena.range(from: lineStart)
        let time = record.time != 0 ? otlpNanos(record.time) : record.observedTime != 0 ? otlpNanos(record.observedTime) : receivedAtNanos
        result.batch.appendRow(
            stream: home.stream, timeNanos: time, severity: severity(of: record, attributeRange, line), line: line, attributes: attributeRange,
            traceID: record.traceID, spanID: record.spanID, resource: home.resource, scope: home.scope)
    }

    private mutating func appendMetadata(of record: LogRecord) {
        if record.observedTime != 0, record.time != 0 { attributes.append("observed_timestamp", int: otlpNanos(record.observedTime), to: &arena) }
        if record.severityNumber != 0 { attributes.append("severity_number", int: Int64(clamping: record.severityNumber), to: &arena) }
        if !record.severityText.isEmpty { attributes.append("severity_text", string: record.severityText, to: &arena) }
        if record.droppedAttributes != 0 { attributes.append("dropped_attributes_count", int: Int64(clamping: record.droppedAttributes), to: &arena) }
        if record.flags != 0 { attributes.append("flags", int: Int64(record.flags), to: &arena) }
        if !record.eventName.isEmpty { attributes.append("event_name", string: record.eventName, to: &arena) }
    }

    /// The sender's number; else what its text, a level attribute or the line tells.
    private func severity(of record: LogRecord, _ list: ByteRange, _ line: ByteRange) -> UInt8 {
        if (1...24).contains(record.severityNumber) { return UInt8(truncatingIfNeeded: record.severityNumber) }
        var found: UInt8 = 0
        // `severity_text` is among the attributes by now, and is a level field.
        forEachAttribute(arena.slice(list)) {
            if $0.type == .string, let severity = LevelDetection.severity(attributeKey: $0.key, value: $0.payload) { found = severity }
            return found == 0
        }
        return found != 0 ? found : LevelDetection.severity(line: arena.slice(line))
    }
}

/// The fields of a `LogRecord` but its attributes, in place.
private struct LogRecord {
    var time: UInt64 = 0
    var observedTime: UInt64 = 0
    var severityNumber: UInt64 = 0
    var severityText = UnsafeRawBufferPointer.nothing
    var body = AnyValue()
    var droppedAttributes: UInt64 = 0
    var flags: UInt32 = 0
    var traceID = TraceID.none
    var spanID: SpanID = 0
    var eventName = UnsafeRawBufferPointer.nothing
}
