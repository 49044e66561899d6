/// Spans as columns; see `LogBatch` for the habits.
package struct SpanBatch: Sendable {
    package var bytes: [UInt8] = []

    // Tables
    /// Attribute lists of resources. Entry 0 is always the empty one.
    package var resources: [ByteRange] = [.empty]
    /// Service name of each resource (`service.name`, else `unknown_service`); parallel to `resources`.
    package var services: [ByteRange] = [.empty]
    /// As in `LogBatch.scopes`. Entry 0 is empty.
    package var scopes: [ByteRange] = [.empty]

    // Rows
    package var traceID: [TraceID] = []
    package var spanID: [SpanID] = []
    /// 0 for a root.
    package var parentID: [SpanID] = []
    package var startNanos: [Int64] = []
    /// Never negative: an end before the start is clamped when decoded.
    package var durationNanos: [Int64] = []
    /// 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    package var kind: [UInt8] = []
    /// 0 unset, 1 ok, 2 error.
    package var status: [UInt8] = []
    package var flags: [UInt32] = []
    package var name: [ByteRange] = []
    package var statusMessage: [ByteRange] = []
    package var traceState: [ByteRange] = []
    /// Attribute list.
    package var attributes: [ByteRange] = []
    /// Events, back to back: `8 bytes time LE · varint length, name · varint length, attribute list · varint dropped attributes`.
    package var events: [ByteRange] = []
    /// Links, back to back: `16 bytes trace id BE · 8 bytes span id BE · varint length, trace state · varint length, attribute list · varint dropped · 4 bytes flags LE`.
    package var links: [ByteRange] = []
    /// `varint attributes · varint events · varint links`, empty when all are 0.
    package var dropped: [ByteRange] = []
    package var resource: [UInt32] = []
    package var scope: [UInt32] = []

    package init() {}

    package var count: Int { traceID.count }
    package var isEmpty: Bool { traceID.isEmpty }

    package mutating func appendRow(
        traceID: TraceID, spanID: SpanID, parentID: SpanID, startNanos: Int64, durationNanos: Int64, kind: UInt8, status: UInt8, flags: UInt32 = 0,
        name: ByteRange, statusMessage: ByteRange = .empty, traceState: ByteRange = .empty, attributes: ByteRange = .empty,
        events: ByteRange = .empty, links: ByteRange = .empty, dropped: ByteRange = .empty, resource: UInt32 = 0, scope: UInt32 = 0
    ) {
        self.traceID.append(traceID)
        self.spanID.append(spanID)
        self.parentID.append(parentID)
        self.startNanos.append(startNanos)
        self.durationNanos.append(durationNanos)
        self.kind.append(kind)
        self.status.append(status)
        self.flags.append(flags)
        self.name.append(name)
        self.statusMessage.append(statusMessage)
        self.traceState.append(traceState)
        self.attributes.append(attributes)
        self.events.append(events)
        self.links.append(links)
        self.dropped.append(dropped)
        self.resource.append(resource)
        self.scope.append(scope)
    }

    package var byteSize: Int { bytes.count + count * 122 + (resources.count * 2 + scopes.count) * 8 }
}

/// An event of a span, decoded for edges.
package struct SpanEvent: Sendable {
    package var timeNanos: Int64
    package var name: String
    package var attributes: [(key: String, value: AttributeValue)]
    package var droppedAttributes: UInt32
}

/// A link of a span, decoded for edges.
package struct SpanLink: Sendable {
    package var traceID: TraceID
    package var spanID: SpanID
    package var traceState: String
    package var attributes: [(key: String, value: AttributeValue)]
    package var droppedAttributes: UInt32
    package var flags: UInt32
}

extension SpanBatch {
    package func events(ofRow row: Int) -> [SpanEvent] {
        var result: [SpanEvent] = []
        bytes.withUnsafeBytes { all in
            let text = UnsafeRawBufferPointer(rebasing: all[events[row].range])
            var at = 0
            while at + 8 <= text.count {
                let time = Int64(littleEndian: text.loadUnaligned(fromByteOffset: at, as: Int64.self))
                at += 8
                guard let name = readLabelPart(text, &at), let list = readLabelPart(text, &at), let dropped = readVarint(text, &at) else { return }
                result.append(
                    SpanEvent(
                        timeNanos: time, name: String(decoding: text[name], as: UTF8.self), attributes: attributeList(text[list]),
                        droppedAttributes: UInt32(truncatingIfNeeded: dropped)))
            }
        }
        return result
    }

    package func links(ofRow row: Int) -> [SpanLink] {
        var result: [SpanLink] = []
        bytes.withUnsafeBytes { all in
            let text = UnsafeRawBufferPointer(rebasing: all[links[row].range])
            var at = 0
            while at + 24 <= text.count {
                guard let trace = TraceID(bytes: UnsafeRawBufferPointer(rebasing: text[at..<at + 16])) else { return }
                let span = UInt64(bigEndian: text.loadUnaligned(fromByteOffset: at + 16, as: UInt64.self))
                at += 24
                guard let state = readLabelPart(text, &at), let list = readLabelPart(text, &at), let dropped = readVarint(text, &at), at + 4 <= text.count
                else { return }
                let flags = UInt32(littleEndian: text.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                at += 4
                result.append(
                    SpanLink(
                        traceID: trace, spanID: span, traceState: String(decoding: text[state], as: UTF8.self), attributes: attributeList(text[list]),
                        droppedAttributes: UInt32(truncatingIfNeeded: dropped), flags: flags))
            }
        }
        return result
    }

    /// (attributes, events, links) the sender dropped.
    package func droppedCounts(ofRow row: Int) -> (attributes: UInt32, events: UInt32, links: UInt32) {
        guard !dropped[row].isEmpty else { return (0, 0, 0) }
        return bytes.withUnsafeBytes { all in
            let text = UnsafeRawBufferPointer(rebasing: all[dropped[row].range])
            var at = 0
            let counts = (0..<3).map { _ in UInt32(truncatingIfNeeded: readVarint(text, &at) ?? 0) }
            return (counts[0], counts[1], counts[2])
        }
    }
}

extension [UInt8] {
    package mutating func appendSpanEvent(timeNanos: Int64, name: some Collection<UInt8>, attributeList: some Collection<UInt8>, droppedAttributes: UInt32) {
        appendLittleEndian(timeNanos)
        appendVarint(UInt64(name.count))
        append(contentsOf: name)
        appendVarint(UInt64(attributeList.count))
        append(contentsOf: attributeList)
        appendVarint(UInt64(droppedAttributes))
    }

    package mutating func appendSpanLink(
        traceID: TraceID, spanID: SpanID, traceState: some Collection<UInt8>, attributeList: some Collection<UInt8>,
        droppedAttributes: UInt32, flags: UInt32
    ) {
        append(contentsOf: traceID.bytes)
        append(contentsOf: bigEndianBytes(spanID))
        appendVarint(UInt64(traceState.count))
        append(contentsOf: traceState)
        appendVarint(UInt64(attributeList.count))
        append(contentsOf: attributeList)
        appendVarint(UInt64(droppedAttributes))
        appendLittleEndian(flags)
    }
}

package enum SpanKind {
    package static let words = ["unspecified", "internal", "server", "client", "producer", "consumer"]
    package static func word(_ kind: UInt8) -> String { Int(kind) < words.count ? words[Int(kind)] : "unspecified" }
}

package enum SpanStatus {
    package static let words = ["unset", "ok", "error"]
    package static func word(_ status: UInt8) -> String { Int(status) < words.count ? words[Int(status)] : "unset" }
}
