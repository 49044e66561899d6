import Foundation
import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

/// Fields asked of columns, against walks over the texts; and those against objects that were kept as they were before they became text, and Foundation's parser.
final class TextFieldsTests: XCTestCase {
    private func view(_ texts: [[UInt8]], _ source: FieldSource, _ times: [Int64] = []) throws -> TextView {
        var filter: [UInt8] = []
        return try TextView(
            packed(texts, source == .line ? .lines : .attributes, times, filter: &filter), count: texts.count, times: times, bytesMax: 256 << 20)
    }

    private static func text(_ text: String) -> FieldTest.Operand { .text(Array(text.utf8)) }

    /// Questions about values such as those given.
    private func tests(_ values: [[UInt8]], _ samples: inout TextSamples) -> [FieldTest] {
        var tests: [FieldTest] = [.exists, .holds { $0.count % 2 == 1 }]
        let orders: [FieldTest.Order] = [.equal, .less, .lessOrEqual, .greater, .greaterOrEqual]
        for _ in 0..<4 {
            let value = values.isEmpty ? Array("500".utf8) : samples.one(of: values)
            tests.append(.compares(.equal, .text(value)))
            tests.append(.compares(samples.one(of: orders), .text(Array(value.prefix(samples.number(value.count + 1))))))
            if let number = value.withUnsafeBytes({ FieldNumber($0) }) {
                for order in orders { tests.append(.compares(order, .number(number))) }
                if case .integer(let whole) = number { tests.append(.compares(samples.one(of: orders), .number(.double(Double(whole) + 0.5)))) }
            }
        }
        for number in [FieldNumber.integer(500), .integer(0), .integer(.min), .double(0.5), .double(.infinity), .double(.nan), .double(-0x1p64)] {
            tests.append(.compares(samples.one(of: orders), .number(number)))
        }
        tests.append(.compares(.equal, .bool(true)))
        tests.append(.compares(.equal, Self.text("")))
        tests.append(.compares(.equal, Self.text("null")))
        return tests
    }

    private func check(_ name: String, _ texts: [[UInt8]], _ source: FieldSource, _ paths: [FieldPath], _ times: [Int64], _ samples: inout TextSamples) throws {
        let view = try view(texts, source, times)
        for path in paths {
            let values = texts.map { text in text.withUnsafeBytes { path.withValue(in: $0, source) { $0.text($1) } } }
            let known = values.compactMap { $0 }
            for test in tests(known, &samples) {
                var among = RowSet(all: texts.count)
                if samples.number(3) == 0 {
                    let share = samples.one(of: [2, 40])
                    for row in texts.indices where samples.number(share) > 0 { among.remove(row) }
                }
                let found = try view.rows(where: path, of: source, pass: test, among: among)
                let right = texts.indices.filter { row in among.contains(row) && texts[row].withUnsafeBytes { test.passes(path, in: $0, source) } }
                if found.rows != right, let wrong = Set(found.rows).symmetricDifference(right).min() {
                    XCTFail("\(name): \(path.name) \(test) in \(String(decoding: texts[wrong], as: UTF8.self).debugDescription)")
                    return
                }
            }
            let found = try view.values(of: path, source, among: RowSet(all: texts.count))
            for row in texts.indices {
                let value = found.ofRow[row] == 0 ? nil : found.texts[Int(found.ofRow[row]) - 1]
                guard value != values[row] else { continue }
                XCTFail("\(name): value of \(path.name) in \(String(decoding: texts[row], as: UTF8.self).debugDescription)")
                return
            }
        }
    }

    private static let linePaths =
        ["ts", "level", "service", "msg", "request_id", "status", "duration_ms", "trace_id", "o", "absent", ""].map { FieldPath($0) }
        + [FieldPath("o", "n"), FieldPath("o", "l"), FieldPath("status", "x")]
    private static let attributePaths = ["http.method", "http.status_code", "ratio", "cached", "url", "stack", "session.id", "absent"].map { FieldPath($0) }

    func testAgainstTexts() throws {
        var samples = TextSamples(seed: 1)
        for (name, texts, content, times) in samples.all(200) {
            try check(name, texts, content == .lines ? .line : .attributes, content == .lines ? Self.linePaths : Self.attributePaths, times, &samples)
        }
    }

    /// Lines that could be cut wrongly: few of a kind and many, spaces where none are expected, quotes and backslashes at the ends of things.
    func testHostileLines() throws {
        var samples = TextSamples(seed: 21)
        let kinds: [(inout TextSamples) -> String] = [
            { #"{"a":"x\#($0.number(9))","b":\#($0.number(600))}"# }, { #"{"a" : "x\#($0.number(9))", "b" : \#($0.number(600))}"# },
            { #"{"b":\#($0.number(600)),"a":{"b":"\#($0.number(9))"}}"# }, { #"{"a":"\\","b":"\#($0.number(9))\\\"\#($0.number(9))"}"# },
            { #"{"a":"b"\#($0.number(9)),"b":2}"# }, { #"{"a":"b","b":"c\#($0.number(9))"}"# }, { #"{"a\#($0.number(3))":"b","b":"c"}"# },
            { #"{"a":"x\#($0.number(9))","b":\#($0.number(600))}"# + "\n" }, { #"{"a":x_\#($0.number(9)),"b":\#($0.number(600))} tail"# },
            { #"{"a":-\#($0.number(9)),"b":1\#($0.one(of: ["e3", ".50", ".", "_0", "x", ""]))}"# }, { #"{"a":"\#($0.number(9)),"b":"\#($0.number(600))}"# },
            { #"{"a":[\#($0.number(9)),"b"],"b":"\u00e\#($0.number(9))"}"# }, { #"{"a":null,"b":\#($0.one(of: ["null", "true", "false", "nil"]))}"# },
            { #"{"a":"\#($0.one(of: ["007", "1e2", "18446744073709551615", "0.1", "-5", "1.50"]))","b":\#($0.one(of: ["0.10", "0.1", "12.5", "7"]))}"# },
            { "{\"a\":\"took \($0.number(9)) ms\",\"b\":\"\u{0}\($0.number(9))\"}x" }, { #"{"a":{"b":{"c":[{"b":1}]}},"b":\#($0.number(600))}"# },
            { #"{"b":\#($0.number(600)),"b":"second","a":"x"}"# }, { _ in "{}" }, { _ in #"{"a":"# }, { #"  {"a":\#($0.number(600))}"# },
            { "\($0.number(9))" + #"{"a":1}"# },
        ]
        let paths = [FieldPath("a"), FieldPath("b"), FieldPath("a", "b"), FieldPath("a1"), FieldPath("a", "b", "c")]
        for round in 0..<30 {
            // Some kinds often, so that they have shapes and columns of their own.
            let few = round % 2 == 0 ? kinds : (0..<3).map { _ in samples.one(of: kinds) }
            var texts = (0..<240).map { _ in Array(samples.one(of: few)(&samples).utf8) }
            if round % 3 == 0 { texts = samples.mangled(texts) }
            try check("round \(round)", texts, .line, paths, round % 4 == 0 ? TextSamples.times(texts.count) : [], &samples)
        }
    }

    func testHostileAttributes() throws {
        var samples = TextSamples(seed: 22)
        for round in 0..<12 {
            let texts = (0..<240).map { _ in
                var list: [UInt8] = []
                for _ in 0..<samples.number(5) {
                    let value: AttributeValue =
                        switch samples.number(8) {
                        case 0: .int(Int64(samples.number(700)))
                        case 1: .double(Double(samples.number(100)) / 4)
                        case 2: .bool(samples.number(2) == 0)
                        case 3: .bytes([UInt8(samples.number(256))])
                        case 4: .list("[\(samples.number(9))]")
                        case 5: .double(samples.one(of: [.nan, .infinity, -0.0, 1e300]))
                        case 6: .string(samples.hex(8))
                        default: .string("a\(samples.number(700))")
                        }
                    list.appendAttribute(samples.one(of: ["a", "b", "status", ""]).utf8, value)
                }
                return list
            }
            try check(
                "round \(round)", round % 3 == 0 ? samples.mangled(texts) : texts, .attributes, ["a", "b", "status", ""].map { FieldPath($0) }, [], &samples)
        }
    }

    // MARK: Against objects

    private indirect enum Tree {
        case text(String), number(String), word(String), list([Tree]), object([(String, Tree)])
    }

    private func tree(_ samples: inout TextSamples, depth: Int) -> Tree {
        switch samples.number(depth > 2 ? 5 : 8) {
        case 0: return .word(samples.one(of: ["true", "false", "null"]))
        case 1: return .number(samples.one(of: ["\(samples.number(600))", "-1.5e3", "0.\(samples.number(100))", "\(samples.number(1 << 40))"]))
        case 2...4: return .text(samples.one(of: ["", "a", "é\"\\/\n", "\u{1F600}\u{0}", samples.hex(4), "500"]))
        case 5: return .list((0..<samples.number(4)).map { _ in tree(&samples, depth: depth + 1) })
        default: return object(&samples, depth: depth + 1)
        }
    }

    private func object(_ samples: inout TextSamples, depth: Int) -> Tree {
        .object((0..<samples.number(5)).map { _ in (samples.one(of: ["a", "b", "c.d", "é\"", ""]), tree(&samples, depth: depth)) })
    }

    private func write(_ tree: Tree, _ samples: inout TextSamples, loose: Bool) -> String {
        func space(_ samples: inout TextSamples) -> String { loose && samples.number(4) == 0 ? samples.one(of: [" ", "\t", "\r\n", "  "]) : "" }
        func quoted(_ text: String, _ samples: inout TextSamples) -> String {
            var result = "\""
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\"", "\\": result += "\\" + String(scalar)
                case "\n": result += samples.one(of: ["\\n", "\\u000a", "\\u000A"])
                case "\u{0}"..<" ": result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
                case _ where loose && samples.number(6) == 0:
                    for unit in String(scalar).utf16 {
                        result += "\\u" + String(repeating: "0", count: 4 - String(unit, radix: 16).count) + String(unit, radix: 16)
                    }
                default: result += String(scalar)
                }
            }
            return result + "\""
        }
        switch tree {
        case .text(let text): return quoted(text, &samples)
        case .number(let text), .word(let text): return text
        case .list(let parts):
            return "[" + space(&samples) + parts.map { write($0, &samples, loose: loose) + space(&samples) }.joined(separator: ",") + "]"
        case .object(let parts):
            var members: [String] = []
            for (key, value) in parts {
                members.append(space(&samples) + quoted(key, &samples) + space(&samples) + ":" + space(&samples) + write(value, &samples, loose: loose))
            }
            return "{" + members.joined(separator: space(&samples) + ",") + space(&samples) + "}"
        }
    }

    /// The first at the path: its text, `[]` for what has none.
    private func field(_ tree: Tree, _ keys: ArraySlice<String>) -> (isThere: Bool, text: String?) {
        guard case .object(let parts) = tree, let key = keys.first else { return (false, nil) }
        for (name, value) in parts where name.utf8.elementsEqual(key.utf8) {
            if keys.count > 1 {
                let inner = field(value, keys.dropFirst())
                if inner.isThere { return inner }
                continue
            }
            switch value {
            case .text(let text), .number(let text): return (true, text)
            case .word(let text): return (true, text == "null" ? nil : text)
            case .list, .object: return (true, "[]")
            }
        }
        return (false, nil)
    }

    func testAgainstObjects() throws {
        var samples = TextSamples(seed: 31)
        let paths = [["a"], ["b"], ["c.d"], ["é\""], [""], ["a", "b"], ["b", "c.d"], ["a", "a", "a"]]
        for round in 0..<10 {
            // Few different objects, so that there are shapes, or none alike.
            let few = (0..<8).map { _ in object(&samples, depth: 0) }
            let trees = (0..<200).map { _ in round % 2 == 0 ? samples.one(of: few) : object(&samples, depth: 0) }
            let lines = trees.map { Array(write($0, &samples, loose: round % 3 > 0).utf8) }
            let view = try view(lines, .line)
            for keys in paths {
                let path = FieldPath(keys: keys.map { Array($0.utf8) })
                let right = trees.map { field($0, keys[...]).text }
                let all = RowSet(all: lines.count)
                XCTAssertEqual(try view.rows(where: path, of: .line, pass: .exists, among: all).rows, right.indices.filter { right[$0] != nil }, "\(keys)")
                let values = try view.values(of: path, .line, among: all)
                for row in lines.indices where right[row] != "[]" {
                    let found = values.ofRow[row] == 0 ? nil : String(decoding: values.texts[Int(values.ofRow[row]) - 1], as: UTF8.self)
                    XCTAssertEqual(found.map { Array($0.utf8) }, right[row].map { Array($0.utf8) }, String(decoding: lines[row], as: UTF8.self))
                }
            }
            for (tree, line) in zip(trees, lines) { XCTAssertNoThrow(try JSONSerialization.jsonObject(with: Data(line)), "\(tree)") }
        }
    }

    /// What Foundation takes for an object without equal keys has the fields Foundation says.
    func testAgainstFoundation() throws {
        var samples = TextSamples(seed: 32)
        var compared = 0
        for line in samples.mangled(samples.json(3000)) {
            guard let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any], line.last == UInt8(ascii: "}"),
                Set(line.split(separator: UInt8(ascii: "\"")).filter { $0.count > 1 }).count > 3
            else { continue }
            for key in ["level", "msg", "request_id"] {
                guard String(decoding: line, as: UTF8.self).components(separatedBy: "\"\(key)\"").count == 2, let wanted = object[key] as? String else {
                    continue
                }
                let found = line.withUnsafeBytes { FieldPath(key).withValue(in: $0, .line) { String(decoding: $0.text($1), as: UTF8.self) } }
                XCTAssertEqual(found, wanted)
                compared += 1
            }
        }
        XCTAssertGreaterThan(compared, 1000)
    }

    // MARK: How it is found

    /// Of lines as programs write them no text is put together.
    func testShapesSayWhere() throws {
        var samples = TextSamples(seed: 9)
        for (texts, source, paths) in [
            (samples.json(400), FieldSource.line, Self.linePaths), (samples.attributes(400), .attributes, Self.attributePaths),
        ] {
            let view = try view(texts, source)
            let root = try XCTUnwrap(view.root)
            let shapes = try view.shapes(root, view.rows, arena: TextComposer(view))
            for shape in shapes.shapes.indices where shapes.rowsOfShape[shape] >= 8 {
                for path in paths { XCTAssertNotEqual(path.find(in: shapes.text(shape), source), .unknown, path.name) }
            }
            let level = FieldPath(source == .line ? "level" : "http.method")
            guard case .at(let place) = level.find(in: shapes.text(0), source), case .slot = place.value else { return XCTFail("no slot") }
        }
    }

    func testDamageThrows() throws {
        var samples = TextSamples(seed: 10)
        for (_, texts, content, times) in samples.all(200) {
            var filter: [UInt8] = []
            let packed = packed(texts, content, times, filter: &filter)
            let source = content == .lines ? FieldSource.line : .attributes
            for _ in 0..<100 {
                var damaged = packed
                for _ in 0...samples.number(3) { damaged[samples.number(damaged.count)] = UInt8(truncatingIfNeeded: samples.random.next()) }
                guard let view = try? TextView(damaged, count: texts.count, times: times, bytesMax: 1 << 22) else { continue }
                let path = samples.one(of: content == .lines ? Self.linePaths : Self.attributePaths)
                for test in [.exists, .compares(.equal, Self.text("500")), .compares(.less, .number(.integer(500)))] as [FieldTest] {
                    _ = try? view.rows(where: path, of: source, pass: test, among: RowSet(all: texts.count))
                }
                _ = try? view.values(of: path, source, among: RowSet(all: texts.count))
            }
        }
    }
}
