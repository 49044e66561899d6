import ObsWire
import XCTest

final class ProtobufTests: XCTestCase {
    private func fields(_ bytes: [UInt8]) -> [String]? {
        bytes.withUnsafeBytes { all in
            var reader = ProtobufReader(all)
            var result: [String] = []
            while reader.next() {
                let number = reader.tag.number
                switch reader.tag.wireType {
                case .varint: result.append("\(number)=\(reader.varint())")
                case .fixed64: result.append("\(number)=\(reader.double())")
                case .fixed32: result.append("\(number)=\(reader.fixed32())")
                case .length: result.append("\(number)=\(String(decoding: reader.bytes(), as: UTF8.self))")
                case nil: reader.skip()
                }
            }
            return reader.failed ? nil : result
        }
    }

    func testRoundTrip() {
        var writer = ProtobufWriter()
        writer.varint(1, .max)
        writer.int(2, -1)
        writer.bool(3, true)
        writer.fixed32(4, 7)
        writer.double(5, -0.5)
        writer.string(6, "é")
        writer.bytes(536_870_911, [])
        XCTAssertEqual(
            fields(writer.bytes),
            ["1=18446744073709551615", "2=18446744073709551615", "3=1", "4=7", "5=-0.5", "6=é", "536870911="])
    }

    func testZigzag() {
        for value in [0, -1, 1, 63, -64, .max, .min] as [Int64] {
            var writer = ProtobufWriter()
            writer.zigzag(1, value)
            writer.bytes.withUnsafeBytes {
                var reader = ProtobufReader($0)
                XCTAssertTrue(reader.next())
                XCTAssertEqual(reader.zigzag(), value)
                XCTAssertTrue(reader.isAtEnd)
            }
        }
    }

    func testNestedMessagesOfEveryLengthSize() {
        for count in [0, 1, 127, 128, 129, 16_383, 16_384, 70_000] {
            var writer = ProtobufWriter()
            writer.message(1) { outer in outer.message(2) { $0.bytes(3, [UInt8](repeating: 65, count: count)) } }
            writer.varint(9, 5)
            writer.bytes.withUnsafeBytes {
                var reader = ProtobufReader($0)
                XCTAssertTrue(reader.next())
                var outer = reader.message()
                XCTAssertTrue(outer.next())
                var inner = outer.message()
                XCTAssertTrue(inner.next())
                XCTAssertEqual(inner.bytes().count, count)
                XCTAssertTrue(inner.isAtEnd && outer.isAtEnd)
                XCTAssertTrue(reader.next())
                XCTAssertEqual(reader.tag, .field(9, .varint))
                XCTAssertEqual(reader.varint(), 5)
                XCTAssertFalse(reader.next())
                XCTAssertFalse(reader.failed)
            }
        }
    }

    func testRefuses() {
        let cases: [(String, [UInt8])] = [
            ("tag cut", [0x80]), ("varint cut", [0x08]), ("varint cut after a byte", [0x08, 0x80]),
            ("varint of eleven bytes", [0x08] + [UInt8](repeating: 0x80, count: 10) + [1]),
            ("fixed64 cut", [0x09, 1, 2, 3]), ("fixed32 cut", [0x0d, 1]), ("length past the end", [0x0a, 2, 65]),
            ("length of 2^64-1", [0x0a] + [UInt8](repeating: 0xff, count: 9) + [1]),
            ("field 0", [0x00, 1]), ("group", [0x0b, 0x0c]), ("wire type 6", [0x0e]), ("tag over 32 bits", [0x88, 0x80, 0x80, 0x80, 0x80, 1, 1]),
        ]
        for (title, bytes) in cases { XCTAssertNil(fields(bytes), title) }
        XCTAssertEqual(fields([]), [])
    }
}
