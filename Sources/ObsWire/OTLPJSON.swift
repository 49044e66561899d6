package import ObsCore

// OTLP's JSON encoding, by rewriting it as protobuf along the schema: the signals then have one decoder each, and both encodings mean the same by construction.
// JSON exports come from browsers and scripts, at rates where the second pass costs nothing worth having a second decoder for.
//
// It is not plain protobuf-JSON: ids are hexadecimal, enums are numbers, keys are lowerCamelCase only. Unknown keys are ignored, `null` is absence.

extension OTLPTraces {
    package static func decodeJSON(_ body: [UInt8], receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> Decoded<SpanBatch> {
        try decodeProtobuf(otlpProtobuf(json: body, .tracesRequest, limits), receivedAtNanos: receivedAtNanos, limits: limits)
    }
}

extension OTLPLogs {
    package static func decodeJSON(_ body: [UInt8], receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> Decoded<LogBatch> {
        try decodeProtobuf(otlpProtobuf(json: body, .logsRequest, limits), receivedAtNanos: receivedAtNanos, limits: limits)
    }
}

extension OTLPMetrics {
    package static func decodeJSON(
        _ body: [UInt8], receivedAtNanos: Int64, limits: Limits, options: OTLPMetricOptions = OTLPMetricOptions()
    ) throws(ObsError) -> OTLPMetricsResult {
        try decodeProtobuf(otlpProtobuf(json: body, .metricsRequest, limits), receivedAtNanos: receivedAtNanos, limits: limits, options: options)
    }
}

/// The protobuf form of an OTLP JSON request.
func otlpProtobuf(json body: [UInt8], _ request: OTLPMessage, _ limits: Limits) throws(ObsError) -> [UInt8] {
    // A level of a map value takes four of JSON (`kvlistValue`, `values`, the pair, its `value`); the frame around values takes ten.
    let document = try JSONDocument.parse(body, nestingMax: limits.nestingMax * 4 + 16, repairing: true)
    guard document.root.kind == .object else { throw ObsError(.badInput, "an OTLP request in JSON is an object") }
    var writer = ProtobufWriter()
    try writer.append(document.root, as: request)
    return writer.bytes
}

extension ProtobufWriter {
    fileprivate mutating func append(_ value: JSONValue, as message: OTLPMessage) throws(ObsError) {
        let fields = message.fields
        try value.forEachMember { (key, value) throws(ObsError) in
            guard !value.isNull, let field = fields.first(where: { $0.isNamed(key) }) else { return }
            try append(value, field)
        }
    }

    private mutating func append(_ value: JSONValue, _ field: OTLPField) throws(ObsError) {
        let number = field.number
        switch field.type {
        case .string:
            guard let written: Void = value.withStringBytes({ bytes(number, $0) }) else { throw field.mismatch("text") }
            return written
        case .bool:
            guard let flag = value.bool else { throw field.mismatch("true or false") }
            bool(number, flag)
        case .bytes:
            guard let decoded = value.withStringBytes({ decodeBase64($0) }) ?? nil else { throw field.mismatch("base64 text") }
            bytes(number, decoded)
        case .id:
            guard let written: Void = value.withStringBytes({ bytes(number, idBytes($0)) }) else { throw field.mismatch("hexadecimal text") }
            return written
        case .double: double(number, try field.double(value))
        case .varint: varint(number, try field.integer(value))
        case .zigzag: zigzag(number, Int64(bitPattern: try field.integer(value)))
        case .fixed32: fixed32(number, UInt32(truncatingIfNeeded: try field.integer(value)))
        case .fixed64: fixed64(number, try field.integer(value))
        case .enumeration(let names):
            if let named = value.string.flatMap({ names.number($0) }) { return int(number, Int64(named)) }
            varint(number, try field.integer(value))
        case .message(let type): try append(value, number, type, field)
        case .messages(let type):
            guard value.kind == .array else { throw field.mismatch("a list") }
            try value.forEachElement { (element) throws(ObsError) in
                if !element.isNull { try append(element, number, type, field) }
            }
        case .packedFixed64, .packedDouble, .packedVarint: try appendPacked(value, field)
        }
    }

    private mutating func append(_ value: JSONValue, _ number: UInt32, _ type: OTLPMessage, _ field: OTLPField) throws(ObsError) {
        guard value.kind == .object else { throw field.mismatch("an object") }
        try message(number) { (writer) throws(ObsError) in try writer.append(value, as: type) }
    }

    private mutating func appendPacked(_ value: JSONValue, _ field: OTLPField) throws(ObsError) {
        guard value.kind == .array else { throw field.mismatch("a list of numbers") }
        try message(field.number) { (writer) throws(ObsError) in
            try value.forEachElement { (element) throws(ObsError) in
                switch field.type {
                case .packedDouble: writer.packed(fixed64: try field.double(element).bitPattern)
                case .packedFixed64: writer.packed(fixed64: try field.integer(element))
                default: writer.packed(varint: try field.integer(element))
                }
            }
        }
    }
}

extension OTLPField {
    fileprivate func isNamed(_ key: UnsafeRawBufferPointer) -> Bool {
        key.count == name.utf8CodeUnitCount && compareBytes(key, UnsafeRawBufferPointer(start: name.utf8Start, count: key.count)) == 0
    }

    fileprivate func mismatch(_ wanted: String) -> ObsError { ObsError(.badInput, "field \(name) must be \(wanted)", place: "\(name)") }

    /// A number, or decimal text of one, as the 64 bits protobuf would carry.
    fileprivate func integer(_ value: JSONValue) throws(ObsError) -> UInt64 {
        if let number = value.int64 { return UInt64(bitPattern: number) }
        if let number = value.uint64 { return number }
        if let text = value.string {
            if let number = Int64(text) { return UInt64(bitPattern: number) }
            if let number = UInt64(text) { return number }
        }
        if let number = value.double.flatMap({ Int64(exactly: $0) }) { return UInt64(bitPattern: number) }
        throw mismatch("an integer")
    }

    fileprivate func double(_ value: JSONValue) throws(ObsError) -> Double {
        if let number = value.double { return number }
        switch value.string {
        case "NaN": return .nan
        case "Infinity": return .infinity
        case "-Infinity": return -.infinity
        case let text?:
            if let number = Double(text) { return number }
        case nil: break
        }
        throw mismatch("a number")
    }
}

/// The bytes of a hexadecimal id. Text that is not hexadecimal (base64, as plain protobuf-JSON has it) gives a byte of no valid length, so that its record alone is refused.
private func idBytes(_ text: UnsafeRawBufferPointer) -> [UInt8] {
    var bytes: [UInt8] = []
    guard text.count % 2 == 0 else { return [0] }
    for at in stride(from: 0, to: text.count, by: 2) {
        guard let high = hexValue(text[at]), let low = hexValue(text[at + 1]) else { return [0] }
        bytes.append(high << 4 | low)
    }
    return bytes
}
