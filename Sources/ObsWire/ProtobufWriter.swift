internal import ObsCore

/// Appends protobuf fields. Every call writes its field, also a default value: leaving defaults out is the caller's (oneofs and `optional` need them).
package struct ProtobufWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package mutating func varint(_ field: UInt32, _ value: UInt64) {
        tag(field, .varint)
        bytes.appendVarint(value)
    }

    /// `int32`, `int64` and enums: negative numbers take ten bytes.
    package mutating func int(_ field: UInt32, _ value: Int64) { varint(field, UInt64(bitPattern: value)) }

    /// `sint32` and `sint64`.
    package mutating func zigzag(_ field: UInt32, _ value: Int64) { varint(field, UInt64(bitPattern: value &<< 1 ^ value >> 63)) }

    package mutating func bool(_ field: UInt32, _ value: Bool) { varint(field, value ? 1 : 0) }

    package mutating func fixed32(_ field: UInt32, _ value: UInt32) {
        tag(field, .fixed32)
        bytes.appendLittleEndian(value)
    }

    package mutating func fixed64(_ field: UInt32, _ value: UInt64) {
        tag(field, .fixed64)
        bytes.appendLittleEndian(value)
    }

    package mutating func double(_ field: UInt32, _ value: Double) { fixed64(field, value.bitPattern) }

    package mutating func bytes(_ field: UInt32, _ value: some Collection<UInt8>) {
        tag(field, .length)
        bytes.appendVarint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    package mutating func string(_ field: UInt32, _ value: String) { bytes(field, value.utf8) }

    /// Fields made elsewhere.
    package mutating func append(_ fields: ProtobufWriter) { bytes.append(contentsOf: fields.bytes) }

    /// An embedded message, or a packed repeated field; what `body` appends becomes its content.
    package mutating func message<E: Error>(_ field: UInt32, _ body: (inout ProtobufWriter) throws(E) -> Void) throws(E) {
        tag(field, .length)
        // The length is known only afterwards. Most take one byte: only content of 128 bytes and more has to move.
        let start = bytes.count
        bytes.append(0)
        try body(&self)
        var length: [UInt8] = []
        length.appendVarint(UInt64(bytes.count - start - 1))
        bytes.replaceSubrange(start...start, with: length)
    }

    /// One element of a packed repeated `fixed64` or `double`.
    package mutating func packed(fixed64 value: UInt64) { bytes.appendLittleEndian(value) }
    /// One element of a packed repeated varint field.
    package mutating func packed(varint value: UInt64) { bytes.appendVarint(value) }

    private mutating func tag(_ field: UInt32, _ type: ProtobufTag.WireType) { bytes.appendVarint(UInt64(ProtobufTag.field(field, type).rawValue)) }
}
