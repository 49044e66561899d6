/// A typed attribute value as OpenTelemetry has it. Lists and maps are kept as compact JSON text.
package enum AttributeValue: Sendable, Equatable {
    case string(String)
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case bytes([UInt8])
    /// JSON array text.
    case list(String)
    /// JSON object text.
    case map(String)

    /// The value as text: what a label, a LogQL field or a table cell shows. Bytes are base64, doubles shortest round-trip.
    package var text: String {
        switch self {
        case .string(let text), .list(let text), .map(let text): text
        case .bool(let value): value ? "true" : "false"
        case .int(let value): String(value)
        case .double(let value): value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)"
        case .bytes(let value): base64(value)
        }
    }
}

/// Attribute lists travel and lie as bytes: for each entry, in the order it arrived,
/// `varint length · key · type byte · value`, the value being
/// 1 string, 5 bytes, 6 list, 7 map: `varint length · bytes`; 2 bool: one byte; 3 int: 8 bytes little endian; 4 double: 8 bytes, the bit pattern little endian.
package enum AttributeType: UInt8, Sendable {
    case string = 1, bool = 2, int = 3, double = 4, bytes = 5, list = 6, map = 7
}

extension [UInt8] {
    /// Appends one entry of an attribute list.
    package mutating func appendAttribute(_ key: some Collection<UInt8>, _ value: AttributeValue) {
        switch value {
        case .string(let text): appendAttribute(key, type: .string, text: text.utf8)
        case .list(let text): appendAttribute(key, type: .list, text: text.utf8)
        case .map(let text): appendAttribute(key, type: .map, text: text.utf8)
        case .bytes(let raw): appendAttribute(key, type: .bytes, text: raw)
        case .bool(let flag):
            appendKey(key, .bool)
            append(flag ? 1 : 0)
        case .int(let number):
            appendKey(key, .int)
            appendLittleEndian(number)
        case .double(let number):
            appendKey(key, .double)
            appendLittleEndian(number.bitPattern)
        }
    }

    /// Appends an entry whose value is text or bytes, without making a String.
    package mutating func appendAttribute(_ key: some Collection<UInt8>, type: AttributeType, text: some Collection<UInt8>) {
        appendKey(key, type)
        appendVarint(UInt64(text.count))
        append(contentsOf: text)
    }

    private mutating func appendKey(_ key: some Collection<UInt8>, _ type: AttributeType) {
        appendVarint(UInt64(key.count))
        append(contentsOf: key)
        append(type.rawValue)
    }
}

/// One entry of an attribute list, in place. The pointers live as long as the bytes they were read from.
package struct AttributeView {
    package let key: UnsafeRawBufferPointer
    package let type: AttributeType
    /// The value's bytes as laid out for its type, the length prefix left off.
    package let payload: UnsafeRawBufferPointer

    package var value: AttributeValue {
        switch type {
        case .string: .string(String(decoding: payload, as: UTF8.self))
        case .list: .list(String(decoding: payload, as: UTF8.self))
        case .map: .map(String(decoding: payload, as: UTF8.self))
        case .bytes: .bytes([UInt8](payload))
        case .bool: .bool(payload[0] != 0)
        case .int: .int(Int64(littleEndian: payload.loadUnaligned(as: Int64.self)))
        case .double: .double(Double(bitPattern: UInt64(littleEndian: payload.loadUnaligned(as: UInt64.self))))
        }
    }
}

/// Walks an attribute list; `body` returns false to stop. Returns false when the bytes are not an attribute list.
@discardableResult
package func forEachAttribute(_ bytes: UnsafeRawBufferPointer, _ body: (AttributeView) -> Bool) -> Bool {
    var position = 0
    while position < bytes.count {
        guard let key = readLabelPart(bytes, &position), position < bytes.count, let type = AttributeType(rawValue: bytes[position]) else { return false }
        position += 1
        let payload: Range<Int>
        switch type {
        case .string, .bytes, .list, .map:
            guard let text = readLabelPart(bytes, &position) else { return false }
            payload = text
        case .bool, .int, .double:
            let width = type == .bool ? 1 : 8
            guard bytes.count - position >= width else { return false }
            payload = position..<position + width
            position += width
        }
        let view = AttributeView(key: UnsafeRawBufferPointer(rebasing: bytes[key]), type: type, payload: UnsafeRawBufferPointer(rebasing: bytes[payload]))
        if !body(view) { return true }
    }
    return true
}

/// All entries, for edges (encoders of answers, tests).
package func attributeList(_ bytes: some Collection<UInt8>) -> [(key: String, value: AttributeValue)] {
    var result: [(key: String, value: AttributeValue)] = []
    [UInt8](bytes).withUnsafeBytes { all in
        _ = forEachAttribute(all) {
            result.append((String(decoding: $0.key, as: UTF8.self), $0.value))
            return true
        }
    }
    return result
}

private let base64Alphabet = [UInt8]("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

/// Standard base64 with padding (RFC 4648 §4).
package func base64(_ bytes: some Collection<UInt8>) -> String {
    var result: [UInt8] = []
    result.reserveCapacity((bytes.count + 2) / 3 * 4)
    var iterator = bytes.makeIterator()
    while let a = iterator.next() {
        let b = iterator.next()
        let c = b == nil ? nil : iterator.next()
        let group = UInt32(a) << 16 | UInt32(b ?? 0) << 8 | UInt32(c ?? 0)
        result.append(base64Alphabet[Int(group >> 18)])
        result.append(base64Alphabet[Int(group >> 12 & 63)])
        result.append(b == nil ? UInt8(ascii: "=") : base64Alphabet[Int(group >> 6 & 63)])
        result.append(c == nil ? UInt8(ascii: "=") : base64Alphabet[Int(group & 63)])
    }
    return String(decoding: result, as: UTF8.self)
}

/// Decodes standard or URL-safe base64, padded or not; nil for anything else.
package func decodeBase64(_ text: some Collection<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    var group: UInt32 = 0
    var bits = 0
    var padding = false
    for byte in text {
        let digit: UInt32
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit = UInt32(byte - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): digit = UInt32(byte - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt32(byte - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"), UInt8(ascii: "-"): digit = 62
        case UInt8(ascii: "/"), UInt8(ascii: "_"): digit = 63
        case UInt8(ascii: "="):
            padding = true
            continue
        default: return nil
        }
        if padding { return nil }
        group = group << 6 | digit
        bits += 6
        if bits >= 8 {
            bits -= 8
            result.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
        }
    }
    return bits == 6 ? nil : result
}
