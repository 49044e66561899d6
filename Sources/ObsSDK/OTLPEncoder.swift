// OTLP requests as protobuf, by hand: the SDK needs no library. Field numbers are opentelemetry-proto's.

/// Appends protobuf fields.
struct ProtobufMessage {
    private(set) var bytes: [UInt8] = []

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    private mutating func tag(_ field: Int, _ wire: UInt64) { varint(UInt64(field) << 3 | wire) }

    mutating func uint(_ field: Int, _ value: UInt64) {
        if value == 0 { return }
        tag(field, 0)
        varint(value)
    }

    /// A member of a oneof: present also when it is 0.
    mutating func present(_ field: Int, int value: Int) {
        tag(field, 0)
        varint(UInt64(bitPattern: Int64(value)))
    }

    mutating func fixed64(_ field: Int, _ value: UInt64) {
        tag(field, 1)
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func double(_ field: Int, _ value: Double) { fixed64(field, value.bitPattern) }

    mutating func string(_ field: Int, _ text: String) { if !text.isEmpty { data(field, Array(text.utf8)) } }

    mutating func data(_ field: Int, _ value: [UInt8]) {
        tag(field, 2)
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    mutating func message(_ field: Int, _ build: (inout ProtobufMessage) -> Void) {
        var inner = ProtobufMessage()
        build(&inner)
        data(field, inner.bytes)
    }
}

enum OTLPEncoder {
    static func traces(_ spans: [FinishedSpan], resource: ObsAttributes) -> [UInt8] {
        request(resource) { scope in for span in spans { scope.message(2) { encode(span, &$0) } } }
    }

    static func logs(_ records: [LogRecord], resource: ObsAttributes) -> [UInt8] {
        request(resource) { scope in for record in records { scope.message(2) { encode(record, &$0) } } }
    }

    static func metrics(_ instruments: [Aggregation], resource: ObsAttributes, nowNanos: UInt64) -> [UInt8] {
        request(resource) { scope in for instrument in instruments { scope.message(2) { encode(instrument, nowNanos, &$0) } } }
    }

    /// Resource{…} → Scope{…} → records: the three requests have the same field numbers.
    private static func request(_ resource: ObsAttributes, _ records: (inout ProtobufMessage) -> Void) -> [UInt8] {
        var request = ProtobufMessage()
        request.message(1) { perResource in
            perResource.message(1) { attributes(1, resource, &$0) }
            perResource.message(2) { perScope in
                perScope.message(1) {
                    $0.string(1, "obs-swift")
                    $0.string(2, Obs.version)
                }
                records(&perScope)
            }
        }
        return request.bytes
    }

    private static func attributes(_ field: Int, _ attributes: ObsAttributes, _ message: inout ProtobufMessage) {
        for (key, value) in attributes.sorted(by: { $0.key < $1.key }) {
            message.message(field) { pair in
                pair.string(1, key)
                pair.message(2) { encode(value, &$0) }
            }
        }
    }

    private static func encode(_ value: ObsValue, _ message: inout ProtobufMessage) {
        switch value {
        case .string(let text): message.data(1, Array(text.utf8))
        case .sensitive: message.data(1, Array("***".utf8))
        case .bool(let flag): message.present(2, int: flag ? 1 : 0)
        case .int(let number): message.present(3, int: number)
        case .double(let number): message.double(4, number)
        case .array(let values): message.message(5) { list in for value in values { list.message(1) { encode(value, &$0) } } }
        }
    }

    private static func encode(_ span: FinishedSpan, _ message: inout ProtobufMessage) {
        message.data(1, hexBytes(span.context.traceID))
        message.data(2, hexBytes(span.context.spanID))
        message.string(3, span.context.traceState)
        if !span.parentID.isEmpty { message.data(4, hexBytes(span.parentID)) }
        message.string(5, span.name)
        message.uint(6, UInt64(span.kind.rawValue))
        message.fixed64(7, span.startNanos)
        message.fixed64(8, max(span.endNanos, span.startNanos))
        attributes(9, span.state.attributes, &message)
        for event in span.state.events {
            message.message(11) {
                $0.fixed64(1, event.timeNanos)
                $0.string(2, event.name)
                attributes(3, event.attributes, &$0)
            }
        }
        if span.state.statusCode != 0 {
            message.message(15) {
                $0.string(2, span.state.statusMessage)
                $0.uint(3, UInt64(span.state.statusCode))
            }
        }
    }

    private static func encode(_ record: LogRecord, _ message: inout ProtobufMessage) {
        message.fixed64(1, record.timeNanos)
        message.uint(2, UInt64(record.level.rawValue))
        message.string(3, record.level.word)
        message.message(5) { $0.data(1, Array(record.message.utf8)) }
        attributes(6, record.logger.isEmpty ? record.attributes : record.attributes.merging(["logger": .string(record.logger)]) { own, _ in own }, &message)
        if let context = record.context {
            message.data(9, hexBytes(context.traceID))
            message.data(10, hexBytes(context.spanID))
        }
        message.fixed64(11, record.timeNanos)
    }

    private static func encode(_ instrument: Aggregation, _ nowNanos: UInt64, _ message: inout ProtobufMessage) {
        message.string(1, instrument.name)
        message.string(2, instrument.help)
        message.string(3, instrument.unit)
        let points = instrument.collect()
        func number(_ data: inout ProtobufMessage) {
            for point in points {
                data.message(1) {
                    attributes(7, point.attributes, &$0)
                    $0.fixed64(2, instrument.startNanos)
                    $0.fixed64(3, nowNanos)
                    $0.double(4, point.value)
                }
            }
        }
        let cumulative: UInt64 = 2
        switch instrument.kind {
        case .gauge: message.message(5) { number(&$0) }
        case .counter, .upDownCounter:
            message.message(7) {
                number(&$0)
                $0.uint(2, cumulative)
                if case .counter = instrument.kind { $0.uint(3, 1) }
            }
        case .histogram(let bounds):
            message.message(9) { data in
                for point in points { data.message(1) { histogram(point, bounds, instrument.startNanos, nowNanos, &$0) } }
                data.uint(2, cumulative)
            }
        }
    }

    private static func histogram(_ point: Aggregation.Point, _ bounds: [Double], _ startNanos: UInt64, _ nowNanos: UInt64, _ message: inout ProtobufMessage) {
        attributes(9, point.attributes, &message)
        message.fixed64(2, startNanos)
        message.fixed64(3, nowNanos)
        message.fixed64(4, point.count)
        message.double(5, point.value)
        for bucket in point.buckets { message.fixed64(6, bucket) }
        for bound in bounds { message.double(7, bound) }
        message.double(11, point.least)
        message.double(12, point.most)
    }

    static func hexBytes(_ text: String) -> [UInt8] {
        var result: [UInt8] = []
        var digits = Array(text.utf8)[...]
        while digits.count >= 2 {
            result.append(UInt8(String(decoding: digits.prefix(2), as: UTF8.self), radix: 16) ?? 0)
            digits = digits.dropFirst(2)
        }
        return result
    }
}
