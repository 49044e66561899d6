// A streaming reader of the protobuf wire format: a pair of pointers, nothing allocated, nothing built.
//
// A message is read as a loop over raw tags:
//
//     while reader.next() {
//         switch reader.tag {
//         case .field(1, .length): name = reader.bytes()
//         case .field(2, .fixed64): time = reader.fixed64()
//         default: reader.skip()
//         }
//     }
//     if reader.failed { … }
//
// A known field with an unexpected wire type therefore lands in `default`, as an unknown one does. Errors are sticky: at the first length that
// reaches past the end, varint of more than 64 bits or illegal tag the reader marks itself failed and stands at its end, so that loops end and only the
// outermost caller has to look. A sub-reader's failure is its own; `check(sub)` hands it to the parent.

package struct ProtobufReader {
    private var cursor: UnsafeRawPointer
    private let end: UnsafeRawPointer
    /// Field number and wire type of the field `next` stopped at.
    package private(set) var tag: ProtobufTag = .none
    /// Whether something read so far was malformed.
    package private(set) var failed = false

    /// The reader is valid as long as the bytes are.
    package init(_ bytes: UnsafeRawBufferPointer) {
        // An empty buffer may have no address; any address will do, since nothing is read from it.
        cursor = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1).unsafelyUnwrapped
        end = cursor + bytes.count
    }

    package var isAtEnd: Bool { cursor == end }
    private var remaining: Int { end - cursor }

    /// Moves to the next field; false at the end or after a failure. The field's value must then be read or skipped.
    package mutating func next() -> Bool {
        guard cursor < end else { return false }
        let raw = varint()
        guard raw >= 8, raw <= UInt64(UInt32.max) else {
            fail()
            return false
        }
        tag = ProtobufTag(rawValue: UInt32(truncatingIfNeeded: raw))
        return true
    }

    package mutating func varint() -> UInt64 {
        guard cursor < end else { return fail() }
        let first = cursor.load(as: UInt8.self)
        if first < 0x80 {
            cursor += 1
            return UInt64(first)
        }
        var value = UInt64(first & 0x7f)
        var shift: UInt64 = 7
        var at = cursor + 1
        while at < end, shift < 64 {
            let byte = at.load(as: UInt8.self)
            at += 1
            // The tenth byte has room for one bit; protobuf readers drop the rest.
            value |= UInt64(byte & 0x7f) &<< shift
            if byte < 0x80 {
                cursor = at
                return value
            }
            shift &+= 7
        }
        return fail()
    }

    /// A `sint32` or `sint64`.
    package mutating func zigzag() -> Int64 {
        let raw = varint()
        return Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
    }

    package mutating func fixed32() -> UInt32 {
        guard remaining >= 4 else { return UInt32(truncatingIfNeeded: fail()) }
        defer { cursor += 4 }
        return UInt32(littleEndian: cursor.loadUnaligned(as: UInt32.self))
    }

    package mutating func fixed64() -> UInt64 {
        guard remaining >= 8 else { return fail() }
        defer { cursor += 8 }
        return UInt64(littleEndian: cursor.loadUnaligned(as: UInt64.self))
    }

    package mutating func double() -> Double { Double(bitPattern: fixed64()) }

    /// The value of a length-delimited field, in place.
    package mutating func bytes() -> UnsafeRawBufferPointer {
        let length = varint()
        guard !failed, length <= UInt64(remaining) else {
            fail()
            return .nothing
        }
        defer { cursor += Int(length) }
        return UnsafeRawBufferPointer(start: cursor, count: Int(length))
    }

    /// A reader of an embedded message or of a packed repeated field.
    package mutating func message() -> ProtobufReader { ProtobufReader(bytes()) }

    package mutating func skip() {
        switch tag.wireType {
        case .varint: _ = varint()
        case .fixed64: _ = fixed64()
        case .length: _ = bytes()
        case .fixed32: _ = fixed32()
        case nil: fail()  // groups, long deprecated, and the two unused codes
        }
    }

    /// Takes over the failure of a sub-reader.
    package mutating func check(_ sub: ProtobufReader) {
        if sub.failed { fail() }
    }

    @discardableResult
    package mutating func fail() -> UInt64 {
        failed = true
        cursor = end
        return 0
    }
}

/// A field number with its wire type, as it stands on the wire.
package struct ProtobufTag: RawRepresentable, Equatable, Sendable {
    package enum WireType: UInt32, Sendable {
        case varint = 0
        case fixed64 = 1
        case length = 2
        case fixed32 = 5
    }

    package let rawValue: UInt32
    package static let none = ProtobufTag(rawValue: 0)

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static func field(_ number: UInt32, _ type: WireType) -> ProtobufTag { ProtobufTag(rawValue: number << 3 | type.rawValue) }
    package var number: UInt32 { rawValue >> 3 }
    package var wireType: WireType? { WireType(rawValue: rawValue & 7) }
}

/// Lets `switch reader.tag` name its fields: `case .field(1, .length)`.
package func ~= (pattern: ProtobufTag, tag: ProtobufTag) -> Bool { pattern.rawValue == tag.rawValue }

extension UnsafeRawBufferPointer {
    /// No bytes.
    package static var nothing: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}
