import ObsCore
import ObsWire
import XCTest

final class JSONScannerTests: XCTestCase {
    private func members(_ text: String) throws -> [String] {
        var result: [String] = []
        let bytes = Array(text.utf8)
        try bytes.withUnsafeBytes { buffer in
            var scanner = JSONScanner(buffer)
            try scanner.enterObject()
            while let key = try scanner.nextKey() {
                let value = try scanner.value()
                var unescaped: [UInt8] = []
                if value.kind == .string { unescapeJSON(scanner.bytes(value), into: &unescaped) } else { unescaped = Array(scanner.bytes(value)) }
                result.append("\(String(decoding: scanner.bytes(key), as: UTF8.self)) \(value.kind) \(String(decoding: unescaped, as: UTF8.self))")
            }
            try scanner.end()
        }
        return result
    }

    func testMembersAndWhereTheyLie() throws {
        XCTAssertEqual(
            try members(#" { "a" : 1.50 , "b":"x\ty\u00e9\ud83d\ude00\ud800.","c":[1, {"d":"]"}],"e":{"f":null},"g":true,"h":-1E+9,"i":"" } "#),
            ["a number 1.50", "b string x\tyé😀\u{fffd}.", #"c array [1, {"d":"]"}]"#, #"e object {"f":null}"#, "g bool true", "h number -1E+9", "i string "])
        XCTAssertEqual(try members("{}"), [])
        XCTAssertEqual(try members(#"{"long string of more than eight bytes":123456789012345678901234567890}"#).count, 1)
    }

    func testRefuses() {
        for text in [
            "", "[]", "{", "}", #"{"a"}"#, #"{"a":}"#, #"{"a":1"#, #"{"a":1,}"#, #"{,"a":1}"#, #"{"a" 1}"#, #"{a:1}"#, #"{"a":01}"#, #"{"a":1.}"#, #"{"a":.5}"#,
            #"{"a":+1}"#, #"{"a":-}"#, #"{"a":1e}"#, #"{"a":tru}"#, #"{"a":"\x"}"#, #"{"a":"\u12g4"}"#, #"{"a":"b}"#, "{\"a\":\"b\nc\"}", #"{"a":[1,]}"#,
            #"{"a":[1}"#,
            #"{"a":{]}"#, "{} {}", #"{"a":1}}"#, #"{"a":NaN}"#, "{\"a\":\"1234567\u{0}\"}",
        ] { XCTAssertThrowsError(try members(text), text) }
    }

    private func isValid(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { buffer in
            var scanner = JSONScanner(buffer)
            return (try? (scanner.value(), scanner.end())) != nil
        }
    }

    func testInvalidUTF8IsRefused() {
        for bad: [UInt8] in [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0x80]] {
            XCTAssertFalse(isValid([0x22] + bad + [0x22]), "\(bad)")
            XCTAssertFalse(isValid([0x22] + [UInt8](repeating: 0x61, count: 20) + bad + [UInt8](repeating: 0x61, count: 20) + [0x22]), "\(bad)")
        }
        XCTAssertTrue(isValid(Array(#""größer €uro 😀""#.utf8)))
    }

    func testNestingIsBounded() {
        func nested(_ depth: Int) -> [UInt8] { [UInt8](repeating: 0x5b, count: depth) + [UInt8](repeating: 0x5d, count: depth) }
        XCTAssertTrue(isValid(nested(64)))
        XCTAssertFalse(isValid(nested(65)))
        XCTAssertFalse(isValid([UInt8](repeating: 0x5b, count: 5 << 20)))
    }

    /// The two readers must agree on what is JSON, for whatever bytes.
    func testAgreesWithTheDocumentParser() {
        let source = Array(#"{"a":[1,2.5e3,"x\n\u00e9é€😀",null,true,{"b":{}}],"c":"","message":"a longer text with \"quotes\" in it"}"#.utf8)
        var state: UInt64 = 42
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        let alphabet = Array("{}[]\",:\\u0e-.1truefalsn \n".utf8) + [0, 0x1f, 0x7f, 0x80, 0xc3, 0xff]
        var valid = 0
        for _ in 0..<20_000 {
            var mutated = source
            for _ in 0...next() % 2 {
                let at = next() % mutated.count
                switch next() % 3 {
                case 0: mutated[at] = alphabet[next() % alphabet.count]
                case 1: mutated.remove(at: at)
                default: mutated.insert(alphabet[next() % alphabet.count], at: at)
                }
            }
            let byDocument = (try? JSONDocument.parse(mutated)) != nil
            XCTAssertEqual(isValid(mutated), byDocument, String(decoding: mutated, as: UTF8.self))
            valid += byDocument ? 1 : 0
        }
        XCTAssertGreaterThan(valid, 1000)
        for length in 0..<source.count { XCTAssertFalse(isValid(Array(source.prefix(length)))) }
    }
}
