internal import ObsCore

/// Writes spans as OTLP's `ResourceSpans` in protobuf.
///
/// By our own writer and not protobuf-c, as other answers are: a trace of 10⁵ spans would first become as many C structs.
struct TraceProtobuf {
    let batch: SpanBatch

    /// Repeated `ResourceSpans` in field 1: a Tempo `Trace`, an OTLP request.
    func write(rows: [Int], to writer: inout ProtobufWriter) {
        for group in TraceGroups(batch, rows: rows).resources { writer.message(1) { writeResource(group, to: &$0) } }
    }

    private func writeResource(_ group: TraceGroups.Resource, to writer: inout ProtobufWriter) {
        writer.message(1) { writeAttributes(1, batch.resources[group.resource], to: &$0) }
        for scope in group.scopes { writer.message(2) { writeScope(scope.scope, rows: scope.rows, to: &$0) } }
        if !group.schemaURL.isEmpty { writer.string(3, group.schemaURL) }
    }

    private func writeScope(_ scope: InstrumentationScope, rows: [Int], to writer: inout ProtobufWriter) {
        writer.message(1) { writer in
            if !scope.name.isEmpty { writer.string(1, scope.name) }
            if !scope.version.isEmpty { writer.string(2, scope.version) }
            writeAttributes(3, scope.attributes, to: &writer)
            if scope.droppedAttributes != 0 { writer.int(4, scope.droppedAttributes) }
        }
        for row in rows { writer.message(2) { writeSpan(row, to: &$0) } }
        if !scope.schemaURL.isEmpty { writer.string(3, scope.schemaURL) }
    }

    private func writeSpan(_ row: Int, to writer: inout ProtobufWriter) {
        writer.bytes(1, batch.traceID[row].bytes)
        writer.bytes(2, bigEndianBytes(batch.spanID[row]))
        writeText(3, batch.traceState[row], to: &writer)
        if batch.parentID[row] != 0 { writer.bytes(4, bigEndianBytes(batch.parentID[row])) }
        writeText(5, batch.name[row], to: &writer)
        writeCount(6, UInt32(batch.kind[row]), to: &writer)
        writer.fixed64(7, UInt64(bitPattern: batch.startNanos[row]))
        writer.fixed64(8, UInt64(bitPattern: batch.startNanos[row] &+ batch.durationNanos[row]))
        writeAttributes(9, batch.attributes[row], to: &writer)
        let dropped = batch.droppedCounts(ofRow: row)
        writeCount(10, dropped.attributes, to: &writer)
        if !batch.events[row].isEmpty { for event in batch.events(ofRow: row) { writer.message(11) { writeEvent(event, to: &$0) } } }
        writeCount(12, dropped.events, to: &writer)
        if !batch.links[row].isEmpty { for link in batch.links(ofRow: row) { writer.message(13) { writeLink(link, to: &$0) } } }
        writeCount(14, dropped.links, to: &writer)
        writer.message(15) { writer in
            writeText(2, batch.statusMessage[row], to: &writer)
            writeCount(3, UInt32(batch.status[row]), to: &writer)
        }
        if batch.flags[row] != 0 { writer.fixed32(16, batch.flags[row]) }
    }

    private func writeEvent(_ event: SpanEvent, to writer: inout ProtobufWriter) {
        writer.fixed64(1, UInt64(bitPattern: event.timeNanos))
        if !event.name.isEmpty { writer.string(2, event.name) }
        writeAttributes(3, event.attributes, to: &writer)
        writeCount(4, event.droppedAttributes, to: &writer)
    }

    private func writeLink(_ link: SpanLink, to writer: inout ProtobufWriter) {
        writer.bytes(1, link.traceID.bytes)
        writer.bytes(2, bigEndianBytes(link.spanID))
        if !link.traceState.isEmpty { writer.string(3, link.traceState) }
        writeAttributes(4, link.attributes, to: &writer)
        writeCount(5, link.droppedAttributes, to: &writer)
        if link.flags != 0 { writer.fixed32(6, link.flags) }
    }

    // MARK: - pieces

    private func writeText(_ field: UInt32, _ range: ByteRange, to writer: inout ProtobufWriter) {
        if !range.isEmpty { writer.bytes(field, batch.bytes[range.range]) }
    }

    private func writeCount(_ field: UInt32, _ count: UInt32, to writer: inout ProtobufWriter) {
        if count != 0 { writer.varint(field, UInt64(count)) }
    }

    private func writeAttributes(_ field: UInt32, _ range: ByteRange, to writer: inout ProtobufWriter) {
        if !range.isEmpty { writeAttributes(field, attributeList(batch.bytes[range.range]), to: &writer) }
    }

    private func writeAttributes(_ field: UInt32, _ attributes: [(key: String, value: AttributeValue)], to writer: inout ProtobufWriter) {
        for attribute in attributes {
            writer.message(field) { writer in
                writer.string(1, attribute.key)
                writer.message(2) { writeValue(attribute.value, to: &$0) }
            }
        }
    }

    private func writeValue(_ value: AttributeValue, to writer: inout ProtobufWriter) {
        switch value {
        case .string(let text): writer.string(1, text)
        case .bool(let flag): writer.bool(2, flag)
        case .int(let number): writer.int(3, number)
        case .double(let number): writer.double(4, number)
        case .bytes(let bytes): writer.bytes(7, bytes)
        case .list(let text), .map(let text):
            if let parsed = parsedJSON(text) { writeValue(parsed, to: &writer) } else { writer.string(1, text) }
        }
    }

    private func writeValue(_ value: JSONValue, to writer: inout ProtobufWriter) {
        switch value.kind {
        case .string: writer.string(1, value.string ?? "")
        case .bool: writer.bool(2, value.bool ?? false)
        case .int64: writer.int(3, value.int64 ?? 0)
        case .uint64, .double: writer.double(4, value.double ?? 0)
        case .null: break
        case .array: writer.message(5) { writer in value.forEachElement { element in writer.message(1) { writeValue(element, to: &$0) } } }
        case .object:
            writer.message(6) { writer in
                value.forEachMember { key, member in
                    writer.message(1) { writer in
                        writer.bytes(1, key)
                        writer.message(2) { writeValue(member, to: &$0) }
                    }
                }
            }
        }
    }
}
