import ObsCore
import XCTest

final class FieldWalkTests: XCTestCase {
    /// The text of a field, `{}` for an object or an array, nil when it is missing.
    private func field(_ keys: [String], _ line: String) -> String? {
        var line = Array(line.utf8)
        let path = FieldPath(keys: keys.map { Array($0.utf8) })
        return line.withUnsafeMutableBytes { line in
            let text = UnsafeRawBufferPointer(line)
            guard case .at(let place) = path.find(in: ShapedText(text), .line) else { return nil }
            guard case .bytes(let range) = place.value else { return "{}" }
            let value = UnsafeRawBufferPointer(rebasing: text[range])
            return place.form.isNull(value) ? nil : place.form.withText(value) { String(decoding: $0, as: UTF8.self) }
        }
    }

    func testFieldsOfLines() {
        func f(_ line: String, _ keys: String..., is wanted: String?, at place: UInt = #line) { XCTAssertEqual(field(keys, line), wanted, line, line: place) }
        f(#"{"a":1}"#, "a", is: "1")
        f(#" {"a" : "x" , "b":[1,{"c":2}],"c":{"d":{"e":true}}} "#, "a", is: "x")
        f(#"{"a":"x","b":[1,{"c":2}],"c":{"d":{"e":true}}}"#, "c", "d", "e", is: "true")
        f(#"{"a":"x","b":[1,{"c":2}],"c":3}"#, "c", is: "3")
        f(#"{"b":[{"c":2}]}"#, "b", is: "{}")
        f(#"{"b":[{"c":2}]}"#, "b", "c", is: nil)
        f(#"{"b":[[],[[{"c":2}]]],"c":4}"#, "c", is: "4")
        f(#"{"b":{}}"#, "b", is: "{}")
        // The first counts, null is none.
        f(#"{"a":1,"a":2}"#, "a", is: "1")
        f(#"{"a":null,"a":2}"#, "a", is: nil)
        f(#"{"a":"null"}"#, "a", is: "null")
        f(#"{"a":{"b":1},"a":{"c":2}}"#, "a", "c", is: "2")
        f(#"{"a":1,"a":{"c":2}}"#, "a", "c", is: "2")
        f(#"{"a.b":1,"a":{"b":2}}"#, "a", "b", is: "2")
        f(#"{"a.b":1,"a":{"b":2}}"#, "a.b", is: "1")
        // Escapes, in keys too.
        f(#"{"\u0061\n":"\"q\"\\ \ud83d\ude00 \ud83d \q"}"#, "a\n", is: "\"q\"\\ 😀 \u{fffd} q")
        f(#"{"a":"}\","}"#, "a", is: #"}","#)
        f(#"{"a":"","b":"x"}"#, "a", is: "")
        // What comes before the line stops being JSON is there.
        f(#"{"a":1,"b":"#, "a", is: "1")
        f(#"{"a":1,"b":"#, "b", is: nil)
        f(#"{"a":1"#, "a", is: "1")
        f(#"{"a":"x"#, "a", is: nil)
        f(#"{"a":1;"b":2}"#, "b", is: nil)
        f(#"{"a":1;"b":2}"#, "a", is: "1;")
        f(#"{"a":1,,"b":2}"#, "b", is: nil)
        f(#"{"a" 1,"b":2}"#, "b", is: nil)
        f(#"{"a":1]"b":2}"#, "b", is: nil)
        f(#"{"a":[1},"b":2}"#, "b", is: nil)
        f(#"{"a":{"b":1]}"#, "a", "b", is: "1")
        f(#"{"a":NaN,"b":None}"#, "b", is: "None")
        f(#"{"a":1,}"#, "a", is: "1")
        f(#"{"a":1} {"b":2}"#, "b", is: nil)
        f(#"[{"a":1}]"#, "a", is: nil)
        f(#"x{"a":1}"#, "a", is: nil)
        f("", "a", is: nil)
        f("{", "a", is: nil)
        f(#"{""#, "", is: nil)
        f(#"{"":7}"#, "", is: "7")
        f(#"{"a":\"#, "a", is: "\\")
        let deep = 200
        f(String(repeating: #"{"a":"#, count: deep) + "1" + String(repeating: "}", count: deep), "b", is: nil)
        f(#"{"x":"# + String(repeating: "[", count: deep) + String(repeating: "]", count: deep) + #","b":1}"#, "b", is: nil)
        f(#"{"x":"# + String(repeating: "[", count: 60) + String(repeating: "]", count: 60) + #","b":1}"#, "b", is: "1")
    }

    /// Shapes, with a dot in the middle of the line for a slot.
    func testFieldsOfShapes() {
        func f(_ shape: String, _ key: String, is wanted: FoundField, at place: UInt = #line) {
            let parts = shape.split(separator: "·", omittingEmptySubsequences: false).map { Array($0.utf8) }
            var pieces: [Range<Int>] = []
            for part in parts { pieces.append((pieces.last?.upperBound ?? 0)..<(pieces.last?.upperBound ?? 0) + part.count) }
            Array(parts.joined()).withUnsafeBytes { bytes in
                let text = ShapedText(bytes, pieces: pieces[...], hasLength: .init(repeating: false, count: parts.count - 1))
                XCTAssertEqual(FieldPath(key).find(in: text, .line), wanted, shape, line: place)
            }
        }
        func slot(_ number: Int, _ form: FieldForm) -> FoundField { .at(FieldPlace(value: .slot(number), form: form)) }
        f(#"{"a":·}"#, "a", is: slot(0, .jsonWord))
        f(#"{"a":"·","b":·}"#, "a", is: slot(0, .jsonString))
        f(#"{"a":"·","b":·}"#, "b", is: slot(1, .jsonWord))
        f(#"{"a":[·,"·"],"b": "·"}"#, "b", is: slot(2, .jsonString))
        f(#"{"a":"x · y","b":·}"#, "a", is: .at(FieldPlace(value: .parts, form: .jsonString)))
        f(#"{"a":"x · y","b":·}"#, "b", is: slot(1, .jsonWord))
        f(#"{"a":·,"b":true}"#, "b", is: .at(FieldPlace(value: .bytes(10..<14), form: .jsonWord)))
        f(#"{"a":·,"b":{"c":·}}"#, "b", is: .at(FieldPlace(value: .container, form: .text)))
        f(#"{"a":·}"#, "b", is: .missing)
        for text in ["· x", "x·", #"·{"b":1}"#, #"[·]"#, #"{"a";·,"b":1}"#, "x"] { f(text, "b", is: .missing) }
        for text in [
            // A slot may be the rest of a text, with whatever is in it.
            "·", #"{"a":"·"#, #"{"a":"x·"#, #"{"a":·"#,
            // A backslash takes the slot's first byte.
            #"{"a":"x\·","b":1}"#,
            // Where no value can be, or part of one only.
            #"{·:1,"b":1}"#, #"{"·":1,"b":1}"#, #"{"a"·:1,"b":1}"#, #"{"a":"x"·,"b":1}"#, #"{"a":1·,"b":1}"#, #"{"a":·x,"b":1}"#, #"{"a":··,"b":1}"#,
            #"{"a":[1]·,"b":1}"#, #"{"x\·":1,"b":1}"#,
        ] { f(text, "b", is: .unknown) }
        f(#"{"a":1,"b":··}"#, "b", is: .unknown)
        f(#"{"b":2,"a":··}"#, "b", is: .at(FieldPlace(value: .bytes(5..<6), form: .jsonWord)))
    }

    func testAttributes() {
        var list: [UInt8] = []
        for (key, value) in [
            ("s", .string("x y")), ("b", .bool(true)), ("i", .int(-7)), ("d", .double(0.25)), ("y", .bytes([1, 2])), ("l", .list("[1]")),
            ("s", .string("second")),
        ] as [(String, AttributeValue)] {
            list.appendAttribute(key.utf8, value)
        }
        func text(_ path: FieldPath, _ bytes: [UInt8]) -> String? {
            bytes.withUnsafeBytes { path.withValue(in: $0, .attributes) { String(decoding: $0.text($1), as: UTF8.self) } }
        }
        for (key, wanted) in [("s", "x y"), ("b", "true"), ("i", "-7"), ("d", "0.25"), ("y", "AQI="), ("l", "[1]"), ("z", nil)] as [(String, String?)] {
            XCTAssertEqual(text(FieldPath(key), list), wanted, key)
        }
        XCTAssertNil(text(FieldPath("s", "t"), list))
        XCTAssertEqual(text(FieldPath("s"), Array(list.prefix(7))), "x y")
        for count in 0..<list.count { _ = text(FieldPath("l"), Array(list.prefix(count))) }
    }

    func testNumbers() {
        func number(_ text: String) -> FieldNumber? { Array(text.utf8).withUnsafeBytes { FieldNumber($0) } }
        for (text, wanted) in [
            ("0", .integer(0)), ("-0", .integer(0)), ("007", .integer(7)), ("+5", .integer(5)), ("9223372036854775807", .integer(.max)),
            ("9223372036854775808", .double(0x1p63)), ("-9223372036854775808", .double(-0x1p63)), ("18446744073709551615", .double(0x1p64)),
            ("1.5", .double(1.5)), (".5", .double(0.5)), ("5.", .double(5)), ("1e3", .double(1000)), ("1E-2", .double(0.01)), ("1e+2", .double(100)),
            ("0.1", .double(0.1)), ("123456789012345678901234567890", .double(123456789012345678901234567890)), ("1e400", .double(.infinity)),
            ("0.30000000000000004", .double(0.30000000000000004)), ("000000000000000000000000000001", .integer(1)),
        ] as [(String, FieldNumber)] {
            XCTAssertEqual(number(text), wanted, text)
        }
        for text in ["", "-", ".", "e5", "1e", "1e+", "0x10", "NaN", "inf", "1_000", "1 ", " 1", "1.2.3", "5ms", "--1", "1e5.0", "\u{661}"] {
            XCTAssertNil(number(text), text)
        }
        func order(_ a: FieldNumber, _ b: FieldNumber) -> Int? { FieldNumber.compare(a, b) }
        XCTAssertEqual(order(.integer(9_007_199_254_740_993), .double(9_007_199_254_740_992)), 1)
        XCTAssertEqual(order(.double(9_007_199_254_740_992), .integer(9_007_199_254_740_993)), -1)
        XCTAssertEqual(order(.integer(9_007_199_254_740_993), .integer(9_007_199_254_740_992)), 1)
        XCTAssertEqual(order(.integer(.max), .double(0x1p63)), -1)
        XCTAssertEqual(order(.integer(.min), .double(-0x1p63)), 0)
        XCTAssertEqual(order(.integer(-2), .double(-2.5)), 1)
        XCTAssertEqual(order(.integer(2), .double(2.5)), -1)
        XCTAssertEqual(order(.double(-0.0), .integer(0)), 0)
        XCTAssertNil(order(.integer(1), .double(.nan)))
        XCTAssertEqual(order(.integer(1), .double(-.infinity)), 1)
    }

    func testNames() {
        XCTAssertEqual(FieldPath.named("status"), [FieldPath("status")])
        XCTAssertEqual(FieldPath.named("http.status"), [FieldPath("http.status"), FieldPath("http", "status")])
        XCTAssertEqual(FieldPath("http", "status").name, "http.status")
    }
}
