internal import ObsCore

/// Writes spans as the JSON of OTLP's `ResourceSpans`, in one of the two dialects the trace APIs speak.
struct TraceJSON {
    enum Dialect {
        /// Standard protobuf-JSON (Tempo): ids in base64, enums by name.
        case protobuf
        /// OTLP's own (Jaeger v3): ids hexadecimal, enums as numbers.
        case otlp
    }

    let dialect: Dialect
    let batch: SpanBatch

    /// A list of `ResourceSpans`. Default values are left out; `status` stands always, as Tempo has it.
    func write(rows: [Int], to writer: inout JSONWriter) {
        writer.beginArray()
        for group in TraceGroups(batch, rows: rows).resources { writeResource(group, to: &writer) }
        writer.endArray()
    }

    private func writeResource(_ group: TraceGroups.Resource, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("resource")
        writer.beginObject()
        writeAttributes(attributeList(batch.bytes[batch.resources[group.resource].range]), to: &writer)
        writer.endObject()
        writer.key("scopeSpans")
        writer.beginArray()
        for scope in group.scopes { writeScope(scope.scope, rows: scope.rows, to: &writer) }
        writer.endArray()
        if !group.schemaURL.isEmpty { writer.member("schemaUrl", group.schemaURL) }
        writer.endObject()
    }

    private func writeScope(_ scope: InstrumentationScope, rows: [Int], to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("scope")
        writer.beginObject()
        if !scope.name.isEmpty { writer.member("name", scope.name) }
        if !scope.version.isEmpty { writer.member("version", scope.version) }
        writeAttributes(scope.attributes, to: &writer)
        writeDropped("droppedAttributesCount", scope.droppedAttributes, to: &writer)
        writer.endObject()
        writer.key("spans")
        writer.beginArray()
        for row in rows { writeSpan(row, to: &writer) }
        writer.endArray()
        if !scope.schemaURL.isEmpty { writer.member("schemaUrl", scope.schemaURL) }
        writer.endObject()
    }

    private func writeSpan(_ row: Int, to writer: inout JSONWriter) {
        let dropped = batch.droppedCounts(ofRow: row)
        writer.beginObject()
        writer.member("traceId", id(batch.traceID[row].bytes))
        writer.member("spanId", id(bigEndianBytes(batch.spanID[row])))
        if batch.parentID[row] != 0 { writer.member("parentSpanId", id(bigEndianBytes(batch.parentID[row]))) }
        writeText("traceState", batch.traceState[row], to: &writer)
        if batch.flags[row] != 0 { writer.member("flags", int: batch.flags[row]) }
        writeText("name", batch.name[row], to: &writer)
        if batch.kind[row] != 0 { writeEnumeration("kind", .spanKind, batch.kind[row], to: &writer) }
        writer.member("startTimeUnixNano", String(batch.startNanos[row]))
        writer.member("endTimeUnixNano", String(batch.startNanos[row] &+ batch.durationNanos[row]))
        writeAttributes(attributeList(batch.bytes[batch.attributes[row].range]), to: &writer)
        writeDropped("droppedAttributesCount", Int64(dropped.attributes), to: &writer)
        writeEvents(row, to: &writer)
        writeDropped("droppedEventsCount", Int64(dropped.events), to: &writer)
        writeLinks(row, to: &writer)
        writeDropped("droppedLinksCount", Int64(dropped.links), to: &writer)
        writer.key("status")
        writer.beginObject()
        writeText("message", batch.statusMessage[row], to: &writer)
        if batch.status[row] != 0 { writeEnumeration("code", .statusCode, batch.status[row], to: &writer) }
        writer.endObject()
        writer.endObject()
    }

    private func writeEvents(_ row: Int, to writer: inout JSONWriter) {
        guard !batch.events[row].isEmpty else { return }
        writer.key("events")
        writer.beginArray()
        for event in batch.events(ofRow: row) {
            writer.beginObject()
            writer.member("timeUnixNano", String(event.timeNanos))
            if !event.name.isEmpty { writer.member("name", event.name) }
            writeAttributes(event.attributes, to: &writer)
            writeDropped("droppedAttributesCount", Int64(event.droppedAttributes), to: &writer)
            writer.endObject()
        }
        writer.endArray()
    }

    private func writeLinks(_ row: Int, to writer: inout JSONWriter) {
        guard !batch.links[row].isEmpty else { return }
        writer.key("links")
        writer.beginArray()
        for link in batch.links(ofRow: row) {
            writer.beginObject()
            writer.member("traceId", id(link.traceID.bytes))
            writer.member("spanId", id(bigEndianBytes(link.spanID)))
            if !link.traceState.isEmpty { writer.member("traceState", link.traceState) }
            writeAttributes(link.attributes, to: &writer)
            writeDropped("droppedAttributesCount", Int64(link.droppedAttributes), to: &writer)
            if link.flags != 0 { writer.member("flags", int: link.flags) }
            writer.endObject()
        }
        writer.endArray()
    }

    // MARK: - pieces

    private func id(_ bytes: [UInt8]) -> String { dialect == .otlp ? hexString(bytes) : base64(bytes) }

    private func writeText(_ name: String, _ range: ByteRange, to writer: inout JSONWriter) {
        if !range.isEmpty { writer.member(name, batch.bytes.string(range)) }
    }

    private func writeDropped(_ name: String, _ count: Int64, to writer: inout JSONWriter) {
        if count != 0 { writer.member(name, int: count) }
    }

    private func writeEnumeration(_ name: String, _ names: OTLPEnumeration, _ number: UInt8, to writer: inout JSONWriter) {
        if dialect == .otlp || Int(number) >= names.words.count {
            writer.member(name, int: number)
        } else {
            writer.member(name, names.prefix + names.words[Int(number)])
        }
    }

    /// `"attributes":[…]`; nothing when there are none.
    func writeAttributes(_ attributes: [(key: String, value: AttributeValue)], to writer: inout JSONWriter) {
        guard !attributes.isEmpty else { return }
        writer.key("attributes")
        writer.beginArray()
        for attribute in attributes {
            writer.beginObject()
            writer.member("key", attribute.key)
            writer.key("value")
            writeValue(attribute.value, to: &writer)
            writer.endObject()
        }
        writer.endArray()
    }

    private func writeValue(_ value: AttributeValue, to writer: inout JSONWriter) {
        if case .list(let text) = value, let parsed = parsedJSON(text) { return writeValue(parsed, to: &writer) }
        if case .map(let text) = value, let parsed = parsedJSON(text) { return writeValue(parsed, to: &writer) }
        writer.beginObject()
        switch value {
        case .string(let text), .list(let text), .map(let text): writer.member("stringValue", text)
        case .bool(let flag): writer.member("boolValue", bool: flag)
        case .int(let number): writer.member("intValue", String(number))
        case .double(let number): writeDouble(number, to: &writer)
        case .bytes(let bytes): writer.member("bytesValue", base64(bytes))
        }
        writer.endObject()
    }

    /// A value within a list or map, which are kept as JSON text.
    private func writeValue(_ value: JSONValue, to writer: inout JSONWriter) {
        writer.beginObject()
        switch value.kind {
        case .string: writer.member("stringValue", value.string ?? "")
        case .bool: writer.member("boolValue", bool: value.bool ?? false)
        case .int64: writer.member("intValue", String(value.int64 ?? 0))
        case .uint64, .double: writeDouble(value.double ?? 0, to: &writer)
        case .null: break
        case .array:
            beginValues("arrayValue", to: &writer)
            value.forEachElement { writeValue($0, to: &writer) }
            endValues(to: &writer)
        case .object:
            beginValues("kvlistValue", to: &writer)
            value.forEachMember { key, member in
                writer.beginObject()
                writer.member("key", String(decoding: key, as: UTF8.self))
                writer.key("value")
                writeValue(member, to: &writer)
                writer.endObject()
            }
            endValues(to: &writer)
        }
        writer.endObject()
    }

    private func beginValues(_ name: String, to writer: inout JSONWriter) {
        writer.key(name)
        writer.beginObject()
        writer.key("values")
        writer.beginArray()
    }

    private func endValues(to writer: inout JSONWriter) {
        writer.endArray()
        writer.endObject()
    }

    private func writeDouble(_ number: Double, to writer: inout JSONWriter) {
        writer.key("doubleValue")
        if number.isFinite { writer.double(number) } else { writer.string(number.isNaN ? "NaN" : number < 0 ? "-Infinity" : "Infinity") }
    }
}

/// The JSON of a list or map attribute; nil should it not be JSON.
func parsedJSON(_ text: String) -> JSONValue? {
    (try? JSONDocument.parse([UInt8](text.utf8), nestingMax: 1000))?.root
}
