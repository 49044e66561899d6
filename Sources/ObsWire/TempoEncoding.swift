package import ObsCore

/// Traces as Tempo's query API answers with them. `rows` are the spans of one trace.
package enum TempoEncoding {
    /// `GET /api/traces/{id}`, JSON.
    package static func traceJSON(_ batch: SpanBatch, rows: [Int]) -> [UInt8] {
        var writer = JSONWriter(reserving: rows.count * 512)
        writer.beginObject()
        writer.key("batches")
        TraceJSON(dialect: .protobuf, batch: batch).write(rows: rows, to: &writer)
        writer.endObject()
        return writer.bytes
    }

    /// `GET /api/traces/{id}`, protobuf `Trace`.
    package static func traceProtobuf(_ batch: SpanBatch, rows: [Int]) -> [UInt8] {
        var writer = ProtobufWriter()
        TraceProtobuf(batch: batch).write(rows: rows, to: &writer)
        return writer.bytes
    }

    /// `GET /api/v2/traces/{id}`, JSON. No rows: an empty trace, as for an unknown id.
    /// - Parameter partial: why the trace is incomplete; nil when it is whole.
    package static func traceByIDJSON(_ batch: SpanBatch, rows: [Int], partial: String? = nil) -> [UInt8] {
        var writer = JSONWriter(reserving: rows.count * 512)
        writer.beginObject()
        writer.key("trace")
        writer.beginObject()
        if !rows.isEmpty {
            writer.key("resourceSpans")
            TraceJSON(dialect: .protobuf, batch: batch).write(rows: rows, to: &writer)
        }
        writer.endObject()
        writer.key("metrics")
        writer.beginObject()
        writer.endObject()
        if let partial {
            writer.member("status", "PARTIAL")
            writer.member("message", partial)
        }
        writer.endObject()
        return writer.bytes
    }

    /// `GET /api/v2/traces/{id}`, protobuf `TraceByIDResponse`.
    package static func traceByIDProtobuf(_ batch: SpanBatch, rows: [Int], partial: String? = nil) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.message(1) { TraceProtobuf(batch: batch).write(rows: rows, to: &$0) }
        writer.message(2) { _ in }
        if let partial {
            writer.varint(3, 1)
            writer.string(4, partial)
        }
        return writer.bytes
    }

    /// `"attributes":[…]` of a search's spans; nothing when there are none.
    package static func writeAttributes(_ attributes: [(key: String, value: AttributeValue)], to writer: inout JSONWriter) {
        TraceJSON(dialect: .protobuf, batch: SpanBatch()).writeAttributes(attributes, to: &writer)
    }
}
