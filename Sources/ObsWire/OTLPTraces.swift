package import ObsCore

/// Decodes `ExportTraceServiceRequest`.
///
/// A span whose ids are missing, of wrong length or all zero is refused, the others are kept (OTLP: partial success). An end before the start becomes a
/// duration of 0. Resources without `service.name` belong to `unknown_service`.
package enum OTLPTraces {
    package static func decodeProtobuf(_ body: [UInt8], receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> Decoded<SpanBatch> {
        var decoder = SpanDecoder(bytes: body.count, receivedAtNanos: receivedAtNanos, limits: limits)
        let valid = body.withUnsafeBytes { decoder.decode(ProtobufReader($0)) }
        guard valid else { throw .malformedOTLP("ExportTraceServiceRequest") }
        return try decoder.finish()
    }
}

private struct SpanDecoder: ~Copyable {
    private var result = Decoded(batch: SpanBatch())
    private var arena: ByteArena
    /// Events and links of the span at hand; they follow its attributes.
    private var events = ByteArena(capacity: 1024)
    private var links = ByteArena(capacity: 1024)
    /// Attribute list of the event or link at hand; its length stands before it.
    private var inner = ByteArena(capacity: 1024)
    private var tables: OTLPTables
    private var attributes: AttributeListBuilder
    private var innerAttributes: AttributeListBuilder
    private let receivedAtNanos: Int64

    init(bytes: Int, receivedAtNanos: Int64, limits: Limits) {
        arena = ByteArena(capacity: bytes)
        tables = OTLPTables(flattensMaps: false, nestingMax: limits.nestingMax)
        attributes = AttributeListBuilder(flattensMaps: false, nestingMax: limits.nestingMax)
        innerAttributes = attributes
        self.receivedAtNanos = receivedAtNanos
    }

    mutating func decode(_ request: ProtobufReader) -> Bool {
        var reader = request
        while reader.next() {
            if reader.tag == .field(1, .length) {
                var group = reader.message()
                decodeResourceSpans(&group)
                reader.check(group)
            } else {
                reader.skip()
            }
        }
        return !reader.failed
    }

    consuming func finish() throws(ObsError) -> Decoded<SpanBatch> {
        guard arena.fitsRanges else { throw ObsError(.tooLarge, "the spans of one request take more than 4 GiB") }
        result.batch.bytes = arena.array()
        result.batch.resources = tables.resources
        result.batch.scopes = tables.scopes
        return result
    }

    private mutating func decodeResourceSpans(_ reader: inout ProtobufReader) {
        let group = OTLPGroup(reader)
        guard let resource = tables.resource(group.head, &arena) else {
            reader.fail()
            return
        }
        addService(resource)
        while reader.next() {
            guard reader.tag == .field(2, .length) else {
                reader.skip()
                continue
            }
            var spans = reader.message()
            let scopeGroup = OTLPGroup(spans)
            if let scope = tables.scope(scopeGroup, resourceSchemaURL: group.schemaURL, &arena) {
                decodeScopeSpans(&spans, resource: resource, scope: scope)
            } else {
                spans.fail()
            }
            reader.check(spans)
        }
    }

    /// Keeps `services` parallel to `resources`.
    private mutating func addService(_ resource: UInt32) {
        let index = Int(resource)
        if index < result.batch.services.count, !result.batch.services[index].isEmpty { return }
        let service = attributeText("service.name", in: arena.slice(tables.resources[index])).map { [UInt8]($0) } ?? []
        let start = arena.count
        if service.isEmpty { arena.append("unknown_service") } else { arena.append(service) }
        if index == 0 {
            result.batch.services[0] = arena.range(from: start)
        } else {
            result.batch.services.append(arena.range(from: start))
        }
    }

    private mutating func decodeScopeSpans(_ reader: inout ProtobufReader, resource: UInt32, scope: UInt32) {
        while reader.next() {
            if reader.tag == .field(2, .length) {
                var span = reader.message()
                decodeSpan(&span, resource: resource, scope: scope)
                reader.check(span)
            } else {
                reader.skip()
            }
        }
    }

    private mutating func decodeSpan(_ reader: inout ProtobufReader, resource: UInt32, scope: UInt32) {
        var traceBytes = UnsafeRawBufferPointer.nothing
        var spanBytes = UnsafeRawBufferPointer.nothing
        var parentBytes = UnsafeRawBufferPointer.nothing
        var name = UnsafeRawBufferPointer.nothing
        var traceState = UnsafeRawBufferPointer.nothing
        var statusMessage = UnsafeRawBufferPointer.nothing
        var start: UInt64 = 0
        var end: UInt64 = 0
        var kind: UInt64 = 0
        var status: UInt64 = 0
        var flags: UInt32 = 0
        var droppedAttributes: UInt64 = 0
        var droppedEvents: UInt64 = 0
        var droppedLinks: UInt64 = 0
        attributes.begin(arena)
        events.truncate(to: 0)
        links.truncate(to: 0)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): traceBytes = reader.bytes()
            case .field(2, .length): spanBytes = reader.bytes()
            case .field(3, .length): traceState = reader.bytes()
            case .field(4, .length): parentBytes = reader.bytes()
            case .field(5, .length): name = reader.bytes()
            case .field(6, .varint): kind = reader.varint()
            case .field(7, .fixed64): start = reader.fixed64()
            case .field(8, .fixed64): end = reader.fixed64()
            case .field(9, .length): attributes.append(&reader, to: &arena)
            case .field(10, .varint): droppedAttributes = reader.varint()
            case .field(11, .length): decodeEvent(&reader)
            case .field(12, .varint): droppedEvents = reader.varint()
            case .field(13, .length): decodeLink(&reader)
            case .field(14, .varint): droppedLinks = reader.varint()
            case .field(15, .length): decodeStatus(&reader, &status, &statusMessage)
            case .field(16, .fixed32): flags = reader.fixed32()
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        guard let traceID = TraceID(bytes: traceBytes), !traceID.isNone, let spanID = SpanID(spanBytes: spanBytes), spanID != 0 else {
            arena.truncate(to: attributes.start)
            result.reject(1, Self.reason(traceBytes, name))
            return
        }
        let attributeRange = arena.range(from: attributes.start)
        let startNanos = start == 0 ? (end == 0 ? receivedAtNanos : otlpNanos(end)) : otlpNanos(start)
        result.batch.appendRow(
            traceID: traceID, spanID: spanID, parentID: SpanID(spanBytes: parentBytes) ?? 0, startNanos: startNanos,
            durationNanos: end == 0 ? 0 : max(0, otlpNanos(end) - startNanos), kind: kind <= 5 ? UInt8(truncatingIfNeeded: kind) : 0,
            status: status <= 2 ? UInt8(truncatingIfNeeded: status) : 0, flags: flags, name: arena.intern(name), statusMessage: arena.intern(statusMessage),
            traceState: arena.intern(traceState), attributes: attributeRange, events: arena.intern(events.slice(0..<events.count)),
            links: arena.intern(links.slice(0..<links.count)), dropped: internDropped(droppedAttributes, droppedEvents, droppedLinks),
            resource: resource, scope: scope)
    }

    private static func reason(_ trace: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer) -> String {
        let title = "span \(quoted(String(decoding: name.prefix(200), as: UTF8.self)))"
        guard let traceID = TraceID(bytes: trace), !traceID.isNone else {
            return "\(title): trace_id must have 16 bytes (32 hexadecimal digits in JSON), not all zero"
        }
        return "\(title): span_id must have 8 bytes (16 hexadecimal digits in JSON), not all zero"
    }

    private mutating func internDropped(_ attributes: UInt64, _ events: UInt64, _ links: UInt64) -> ByteRange {
        if attributes | events | links == 0 { return .empty }
        let start = arena.count
        arena.appendVarint(UInt64(UInt32(clamping: attributes)))
        arena.appendVarint(UInt64(UInt32(clamping: events)))
        arena.appendVarint(UInt64(UInt32(clamping: links)))
        return arena.range(from: start)
    }

    private func decodeStatus(_ parent: inout ProtobufReader, _ code: inout UInt64, _ message: inout UnsafeRawBufferPointer) {
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(2, .length): message = reader.bytes()
            case .field(3, .varint): code = reader.varint()
            default: reader.skip()
            }
        }
        parent.check(reader)
    }

    private mutating func decodeEvent(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        var time: UInt64 = 0
        var name = UnsafeRawBufferPointer.nothing
        var dropped: UInt64 = 0
        inner.truncate(to: 0)
        innerAttributes.begin(inner)
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): time = reader.fixed64()
            case .field(2, .length): name = reader.bytes()
            case .field(3, .length): innerAttributes.append(&reader, to: &inner)
            case .field(4, .varint): dropped = reader.varint()
            default: reader.skip()
            }
        }
        parent.check(reader)
        events.appendLittleEndian(UInt64(bitPattern: otlpNanos(time)))
        events.appendVarint(UInt64(name.count))
        events.append(name)
        events.appendVarint(UInt64(inner.count))
        events.append(inner)
        events.appendVarint(UInt64(UInt32(clamping: dropped)))
    }

    /// A link without valid ids leads nowhere: it is left out.
    private mutating func decodeLink(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        var traceBytes = UnsafeRawBufferPointer.nothing
        var spanBytes = traceBytes
        var state = traceBytes
        var dropped: UInt64 = 0
        var flags: UInt32 = 0
        inner.truncate(to: 0)
        innerAttributes.begin(inner)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): traceBytes = reader.bytes()
            case .field(2, .length): spanBytes = reader.bytes()
            case .field(3, .length): state = reader.bytes()
            case .field(4, .length): innerAttributes.append(&reader, to: &inner)
            case .field(5, .varint): dropped = reader.varint()
            case .field(6, .fixed32): flags = reader.fixed32()
            default: reader.skip()
            }
        }
        parent.check(reader)
        guard let traceID = TraceID(bytes: traceBytes), let spanID = SpanID(spanBytes: spanBytes) else { return }
        links.appendBigEndian(traceID.high)
        links.appendBigEndian(traceID.low)
        links.appendBigEndian(spanID)
        links.appendVarint(UInt64(state.count))
        links.append(state)
        links.appendVarint(UInt64(inner.count))
        links.append(inner)
        links.appendVarint(UInt64(UInt32(clamping: dropped)))
        links.appendLittleEndian(flags)
    }
}
