package import ObsCore

/// Traces as Jaeger's query APIs answer with them. `rows` are the spans of one trace.
package enum JaegerEncoding {
    /// One trace object of the v1 API (`data` of its envelope is a list of them).
    package static func writeTrace(_ batch: SpanBatch, rows: [Int], to writer: inout JSONWriter) {
        JaegerTrace(batch, rows: rows).write(to: &writer)
    }

    /// The list of `ResourceSpans` of the v3 API, in OTLP's JSON.
    package static func writeResourceSpans(_ batch: SpanBatch, rows: [Int], to writer: inout JSONWriter) {
        TraceJSON(dialect: .otlp, batch: batch).write(rows: rows, to: &writer)
    }
}

private struct JaegerTrace {
    let batch: SpanBatch
    let rows: [Int]
    /// Process of each resource, numbered from 1 in the order of appearance.
    private var processes: [UInt32: Int] = [:]
    private var resources: [UInt32] = []

    init(_ batch: SpanBatch, rows: [Int]) {
        self.batch = batch
        self.rows = rows
        for row in rows where processes[batch.resource[row]] == nil {
            resources.append(batch.resource[row])
            processes[batch.resource[row]] = resources.count
        }
    }

    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("traceID", rows.first.map { batch.traceID[$0].description } ?? "")
        writer.key("spans")
        writer.beginArray()
        for row in rows { writeSpan(row, to: &writer) }
        writer.endArray()
        writer.key("processes")
        writer.beginObject()
        for (index, resource) in resources.enumerated() {
            writer.key("p\(index + 1)")
            writeProcess(Int(resource), to: &writer)
        }
        writer.endObject()
        writer.key("warnings")
        writer.null()
        writer.endObject()
    }

    private func writeProcess(_ resource: Int, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("serviceName", batch.bytes.string(batch.services[resource]))
        writer.key("tags")
        writer.beginArray()
        for attribute in attributeList(batch.bytes[batch.resources[resource].range]) where attribute.key != "service.name" {
            writeTag(attribute.key, attribute.value, to: &writer)
        }
        writer.endArray()
        writer.endObject()
    }

    private func writeSpan(_ row: Int, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("traceID", batch.traceID[row].description)
        writer.member("spanID", hexString(batch.spanID[row]))
        // The low byte is W3C's; the others are OTLP's.
        if batch.flags[row] & 0xff != 0 { writer.member("flags", int: batch.flags[row] & 0xff) }
        writer.member("operationName", batch.bytes.string(batch.name[row]))
        writer.key("references")
        writer.beginArray()
        if batch.parentID[row] != 0 { writeReference("CHILD_OF", batch.traceID[row], batch.parentID[row], to: &writer) }
        for link in batch.links(ofRow: row) { writeReference("FOLLOWS_FROM", link.traceID, link.spanID, to: &writer) }
        writer.endArray()
        writer.member("startTime", int: batch.startNanos[row] / 1000)
        writer.member("duration", int: batch.durationNanos[row] / 1000)
        writer.key("tags")
        writer.beginArray()
        for tag in tags(row) { writeTag(tag.key, tag.value, to: &writer) }
        writer.endArray()
        writer.key("logs")
        writer.beginArray()
        for event in batch.events(ofRow: row) { writeLog(event, to: &writer) }
        writer.endArray()
        writer.member("processID", "p\(processes[batch.resource[row]] ?? 1)")
        writer.key("warnings")
        writer.null()
        writer.endObject()
    }

    private func writeReference(_ type: String, _ traceID: TraceID, _ spanID: SpanID, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("refType", type)
        writer.member("traceID", traceID.description)
        writer.member("spanID", hexString(spanID))
        writer.endObject()
    }

    /// The span's attributes, then what Jaeger has no fields for.
    private func tags(_ row: Int) -> [(key: String, value: AttributeValue)] {
        var tags = attributeList(batch.bytes[batch.attributes[row].range])
        let scope = InstrumentationScope(batch.bytes[batch.scopes[Int(batch.scope[row])].range])
        if !scope.name.isEmpty { tags.append(("otel.scope.name", .string(scope.name))) }
        if !scope.version.isEmpty { tags.append(("otel.scope.version", .string(scope.version))) }
        if batch.kind[row] != 0 { tags.append(("span.kind", .string(SpanKind.word(batch.kind[row])))) }
        switch batch.status[row] {
        case 1: tags.append(("otel.status_code", .string("OK")))
        case 2:
            tags.append(("otel.status_code", .string("ERROR")))
            if !tags.contains(where: { $0.key == "error" }) { tags.append(("error", .bool(true))) }
        default: break
        }
        if !batch.statusMessage[row].isEmpty { tags.append(("otel.status_description", .string(batch.bytes.string(batch.statusMessage[row])))) }
        if !batch.traceState[row].isEmpty { tags.append(("w3c.tracestate", .string(batch.bytes.string(batch.traceState[row])))) }
        return tags
    }

    private func writeLog(_ event: SpanEvent, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("timestamp", int: event.timeNanos / 1000)
        writer.key("fields")
        writer.beginArray()
        if !event.name.isEmpty { writeTag("event", .string(event.name), to: &writer) }
        for attribute in event.attributes { writeTag(attribute.key, attribute.value, to: &writer) }
        writer.endArray()
        writer.endObject()
    }

    private func writeTag(_ key: String, _ value: AttributeValue, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("key", key)
        switch value {
        case .string(let text), .list(let text), .map(let text):
            writer.member("type", "string")
            writer.member("value", text)
        case .bool(let flag):
            writer.member("type", "bool")
            writer.member("value", bool: flag)
        case .int(let number):
            writer.member("type", "int64")
            writer.member("value", int: number)
        case .double(let number):
            writer.member("type", "float64")
            writer.key("value")
            writer.double(number)
        case .bytes(let bytes):
            writer.member("type", "binary")
            writer.member("value", base64(bytes))
        }
        writer.endObject()
    }
}
