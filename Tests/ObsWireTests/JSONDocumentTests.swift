import ObsCore
import ObsWire
import XCTest

final class JSONDocumentTests: XCTestCase {
    private func parse(_ text: String, nestingMax: Int = 64, repairing: Bool = false) throws -> JSONValue {
        try JSONDocument.parse(Array(text.utf8), nestingMax: nestingMax, repairing: repairing).root
    }

    func testValuesOfEveryKind() throws {
        let root = try parse(#"{"a":1,"b":-9223372036854775808,"c":18446744073709551615,"d":1.50,"e":"x\u00e9\n\u0000y","f":[true,false,null,{}],"a":2}"#)
        XCTAssertEqual(root.kind, .object)
        XCTAssertEqual(root.count, 7)
        XCTAssertEqual(root["a"]?.int64, 2, "the last of a repeated key")
        XCTAssertEqual(root["b"]?.int64, .min)
        XCTAssertEqual(root["c"]?.uint64, .max)
        XCTAssertNil(root["c"]?.int64)
        XCTAssertEqual(root["d"]?.double, 1.5)
        XCTAssertEqual(root["e"]?.string, "xé\n\0y")
        XCTAssertEqual(root["f"]?.count, 4)
        XCTAssertEqual(root["f"]?[0]?.bool, true)
        XCTAssertEqual(root["f"]?[2]?.isNull, true)
        XCTAssertEqual(root["f"]?[3]?.kind, .object)
        XCTAssertNil(root["f"]?[4])
        XCTAssertNil(root["g"])
        var keys = ""
        root.forEachMember { key, _ in keys += String(decoding: key, as: UTF8.self) }
        XCTAssertEqual(keys, "abcdefa")
    }

    func testWritingBack() throws {
        for text in [#"{"a":[1,2.5,"x",null,true,{"b":{}}],"c":""}"#, "[]", "{}", "\"a\\\"b\"", "-3", "[[],[[]]]", "18446744073709552000.0"] {
            var bytes: [UInt8] = []
            try parse(" \(text)\n").appendJSON(to: &bytes)
            XCTAssertEqual(String(decoding: bytes, as: UTF8.self), text)
        }
    }

    func testErrorsTellThePlace() {
        let cases: [(String, String?)] = [
            ("", "offset 0"), ("{", "offset 1"), (#"{"a":}"#, "offset 5"), (#"{"a":1,}"#, "offset 7"), ("[1 2]", "offset 3"), ("{} x", "offset 3"),
            ("[\"a\u{1}\"]", "offset 3"),
            ("[01]", "offset 2"), ("nul", "offset 3"), ("[1e400]", nil),
        ]
        for (text, place) in cases {
            XCTAssertThrowsError(try parse(text), text) {
                XCTAssertEqual(($0 as? ObsError)?.code, .badInput)
                XCTAssertEqual(($0 as? ObsError)?.place, place, "\(text): \($0)")
            }
        }
    }

    func testNestingIsBounded() throws {
        func nested(_ depth: Int) -> String { String(repeating: "[", count: depth) + "1" + String(repeating: "]", count: depth) }
        XCTAssertNoThrow(try parse(nested(8), nestingMax: 8))
        XCTAssertThrowsError(try parse(nested(9), nestingMax: 8)) { XCTAssertTrue("\($0)".contains("nested deeper than 8"), "\($0)") }
        XCTAssertThrowsError(try parse(String(repeating: "[{\"a\":", count: 500_000)))
    }

    func testRepairs() throws {
        XCTAssertThrowsError(try parse(#"["\ud800x"]"#))
        XCTAssertEqual(try parse(#"["\ud800x","\ud83d\ude00"]"#, repairing: true)[0]?.string, "\u{fffd}x")
        XCTAssertEqual(try parse(#"["\ud800x","\ud83d\ude00"]"#, repairing: true)[1]?.string, "😀")
        XCTAssertEqual(
            try parse(#"["12345678901234567890123",12345678901234567890123]"#, repairing: true)[1]?.double ?? 0, 1.2345678901234568e22, accuracy: 1e8)
        XCTAssertEqual(try parse(#"["12345678901234567890123",12345678901234567890123]"#, repairing: true)[0]?.string, "12345678901234567890123")
        let bytes = Array(#"{"a":""#.utf8) + [0xff] + Array(#""}"#.utf8)
        XCTAssertThrowsError(try JSONDocument.parse(bytes))
        XCTAssertEqual(try JSONDocument.parse(bytes, repairing: true).root["a"]?.string, "\u{fffd}")
    }

    func testManyKeysAndBigStrings() throws {
        let many = "{" + (0..<10_000).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}"
        XCTAssertEqual(try parse(many)["k9999"]?.int64, 9999)
        let big = String(repeating: "x", count: 5 << 20)
        XCTAssertEqual(try parse("[\"\(big)\"]")[0]?.string?.utf8.count, 5 << 20)
    }
}
