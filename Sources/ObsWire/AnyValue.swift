internal import ObsCore

/// An OTLP `AnyValue` in place: the last member of its oneof, unread if it has parts.
struct AnyValue {
    enum Kind { case empty, string, bool, int, double, array, map, bytes }

    var kind = Kind.empty
    /// Text, bytes, or the message of an array or map.
    var slice = UnsafeRawBufferPointer.nothing
    /// Bool (0 or 1), integer or the bit pattern of a double.
    var bits: UInt64 = 0

    init() {}

    /// Reads the message the reader stands at. Failure is the reader's.
    init(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): set(.string, reader.bytes())
            case .field(2, .varint): set(.bool, reader.varint() == 0 ? 0 : 1)
            case .field(3, .varint): set(.int, reader.varint())
            case .field(4, .fixed64): set(.double, reader.fixed64())
            case .field(5, .length): set(.array, reader.bytes())
            case .field(6, .length): set(.map, reader.bytes())
            case .field(7, .length): set(.bytes, reader.bytes())
            default: reader.skip()
            }
        }
        parent.check(reader)
    }

    private mutating func set(_ kind: Kind, _ slice: UnsafeRawBufferPointer) {
        self.kind = kind
        self.slice = slice
    }

    private mutating func set(_ kind: Kind, _ bits: UInt64) {
        self.kind = kind
        self.bits = bits
    }

    var int: Int64 { Int64(bitPattern: bits) }
    var double: Double { Double(bitPattern: bits) }

    /// Appends the value as text: strings as they are, numbers and booleans in words, bytes base64, arrays and maps as compact JSON, empty as nothing.
    /// False when a nested part is malformed or lies deeper than `depth`.
    func appendText(to arena: inout ByteArena, depth: Int) -> Bool {
        switch kind {
        case .empty: break
        case .string: arena.append(slice)
        case .bool: arena.append(bits != 0 ? "true" : "false")
        case .int: arena.append([UInt8](String(int).utf8))
        case .double: arena.append([UInt8](AttributeValue.double(double).text.utf8))
        case .bytes: arena.append([UInt8](base64(slice).utf8))
        case .array, .map:
            guard let json = json(depth: depth) else { return false }
            arena.append(json)
        }
        return true
    }

    /// Compact JSON text; nil when malformed or deeper than `depth`.
    func json(depth: Int) -> [UInt8]? {
        var writer = JSONWriter(reserving: slice.count + 16)
        return writeJSON(&writer, depth: depth) ? writer.bytes : nil
    }

    private func writeJSON(_ writer: inout JSONWriter, depth: Int) -> Bool {
        switch kind {
        case .empty: writer.null()
        case .string: writer.string(slice)
        case .bool: writer.bool(bits != 0)
        case .int: writer.int(int)
        case .double: writer.double(double)
        case .bytes: writer.string(base64(slice))
        case .array: return writeArray(&writer, depth: depth)
        case .map: return writeMap(&writer, depth: depth)
        }
        return true
    }

    private func writeArray(_ writer: inout JSONWriter, depth: Int) -> Bool {
        guard depth > 0 else { return false }
        writer.beginArray()
        var reader = ProtobufReader(slice)
        while reader.next() {
            if reader.tag == .field(1, .length) {
                guard AnyValue(&reader).writeJSON(&writer, depth: depth - 1) else { return false }
            } else {
                reader.skip()
            }
        }
        writer.endArray()
        return !reader.failed
    }

    private func writeMap(_ writer: inout JSONWriter, depth: Int) -> Bool {
        guard depth > 0 else { return false }
        writer.beginObject()
        var reader = ProtobufReader(slice)
        while reader.next() {
            if reader.tag == .field(1, .length) {
                let pair = KeyValue(&reader)
                writer.key(String(decoding: pair.key, as: UTF8.self))
                guard pair.value.writeJSON(&writer, depth: depth - 1) else { return false }
            } else {
                reader.skip()
            }
        }
        writer.endObject()
        return !reader.failed
    }
}

/// An OTLP `KeyValue` in place.
struct KeyValue {
    var key = UnsafeRawBufferPointer.nothing
    var value = AnyValue()

    /// Reads the message the reader stands at. Failure is the reader's.
    init(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): key = reader.bytes()
            case .field(2, .length): value = AnyValue(&reader)
            default: reader.skip()
            }
        }
        parent.check(reader)
    }
}
