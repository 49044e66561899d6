import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

final class FieldStatisticsTests: XCTestCase {
    private func statistics(_ texts: [[UInt8]], _ content: TextColumn.Content, _ times: [Int64] = []) throws -> FieldStatistics {
        let writer = FieldStatisticsWriter()
        var bytes: [UInt8] = []
        let ranges = texts.map { text in text.withUnsafeBytes { bytes.intern($0) } }
        var packed: [UInt8] = []
        var filter: [UInt8] = []
        bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: 1, to: &packed, filter: &filter, fields: writer) }
        let written = writer.finish()
        if written.isEmpty { return FieldStatistics() }
        return try decoding(written) { (cursor: inout ByteCursor) throws(ObsError) -> FieldStatistics in
            let statistics = try FieldStatistics(&cursor, rows: texts.count)
            try cursor.expectEnd()
            return statistics
        }
    }

    /// What is said is so, of every text. Gives how many fields something is said of.
    @discardableResult
    private func check(_ name: String, _ texts: [[UInt8]], _ content: TextColumn.Content, _ times: [Int64] = []) throws -> Int {
        let source = content == .lines ? FieldSource.line : .attributes
        let known = try statistics(texts, content, times).fields(source)
        var said = 0
        for field in known.fields {
            var counts: [[UInt8]: Int] = [:]
            var numbers: [FieldNumber] = []
            for text in texts {
                _ = text.withUnsafeBytes {
                    field.path.withValue(in: $0, source) { form, value in
                        counts[form.text(value), default: 0] += 1
                        if let number = form.number(value) { numbers.append(number) }
                    }
                }
            }
            switch field.values {
            case .unknown: continue
            case .counts(let found):
                XCTAssertEqual(Dictionary(found.map { ($0.text, $0.rows) }, uniquingKeysWith: +), counts, "\(name): \(field.path.name)")
            case .numbers(let least, let greatest):
                for number in numbers where FieldNumber.compare(number, number) != nil {
                    XCTAssertGreaterThanOrEqual(FieldNumber.compare(number, least) ?? -1, 0, "\(name): \(field.path.name)")
                    XCTAssertLessThanOrEqual(FieldNumber.compare(number, greatest) ?? 1, 0, "\(name): \(field.path.name)")
                }
            }
            said += 1
        }
        if known.isComplete {
            for text in texts {
                text.withUnsafeBytes { text in
                    var paths: Set<FieldPath> = []
                    if source == .line {
                        var walk = JSONFieldWalk(ShapedText(text))
                        while walk.next() != nil { paths.insert(walk.path) }
                    } else {
                        var walk = AttributeWalk(ShapedText(text))
                        while walk.next() != nil { paths.insert(FieldPath(keys: [Array(text[walk.key])])) }
                    }
                    XCTAssertTrue(paths.isSubset(of: known.fields.map(\.path)), "\(name): \(paths)")
                }
            }
        }
        return said
    }

    func testWhatIsSaidIsSo() throws {
        for seed in 1...4 as ClosedRange<UInt64> {
            var samples = TextSamples(seed: seed)
            for (name, texts, content, times) in samples.all(400) { try check(name, texts, content, times) }
            let few = samples.json(40)
            try check("repeated", (0..<400).map { _ in samples.one(of: few) }, .lines)
        }
    }

    func testWhatIsSaid() throws {
        var samples = TextSamples(seed: 3)
        func values(_ texts: [[UInt8]], _ path: FieldPath, _ content: TextColumn.Content = .lines) throws -> String {
            let known = try statistics(texts, content)
            switch known.values(of: path, content == .lines ? .line : .attributes) {
            case nil: return "none"
            case .unknown: return "unknown"
            case .counts(let counts): return counts.map { "\(String(decoding: $0.text, as: UTF8.self)) \($0.rows)" }.joined(separator: ", ")
            case .numbers(let least, let greatest): return "\(least) \(greatest)"
            }
        }
        let json = samples.json(2000)
        XCTAssertTrue(try values(json, FieldPath("level")).hasPrefix("debug "))
        XCTAssertTrue(try values(json, FieldPath("status")).hasPrefix("200 "))
        XCTAssertTrue(try values(json, FieldPath("duration_ms")).hasPrefix("double("))
        XCTAssertEqual(try values(json, FieldPath("msg")), "unknown")
        XCTAssertEqual(try values(json, FieldPath("absent")), "none")
        XCTAssertEqual(try values(samples.raw(500), FieldPath("level")), "none")
        let attributes = samples.attributes(2000)
        XCTAssertTrue(try values(attributes, FieldPath("http.status_code"), .attributes).hasPrefix("200 "))
        XCTAssertTrue(try values(attributes, FieldPath("cached"), .attributes).hasPrefix("false 1000, true 1000"))
        func lines(_ write: (Int) -> String) -> [[UInt8]] { (0..<200).map { Array(write($0).utf8) } }
        // Two objects with a key of one name, a key twice, null, numbers and strings in one field.
        XCTAssertEqual(try values(lines { #"{"a":{"id":\#($0 % 3)},"b":{"id":\#($0 % 5)},"n":\#($0)}"# }, FieldPath("a", "id")), "unknown")
        XCTAssertEqual(try values(lines { #"{"a":\#($0 % 2),"a":\#($0 % 5),"n":\#($0)}"# }, FieldPath("a")), "unknown")
        XCTAssertEqual(try values(lines { $0 % 4 == 0 ? #"{"a":null,"n":\#($0)}"# : #"{"a":true,"n":\#($0)}"# }, FieldPath("a")), "true 150")
        XCTAssertEqual(try values(lines { $0 % 2 == 0 ? #"{"a":"5","n":\#($0)}"# : #"{"a":5,"n":\#($0)}"# }, FieldPath("a")), "5 200")
        XCTAssertEqual(try values(lines { #"{"a":\#($0 * 1000 - 7)}"# }, FieldPath("a")), "integer(-7) integer(198993)")
        XCTAssertEqual(try values(lines { _ in #"{"a":"x"}"# }, FieldPath("a")), "x 200")
    }

    func testManyFields() throws {
        var samples = TextSamples(seed: 5)
        let wide = (0..<300).map { row in Array(("{" + (0..<100).map { #""k\#($0)":\#(row % 3)"# }.joined(separator: ",") + "}").utf8) }
        try check("wide", wide, .lines)
        let random = (0..<1000).map { _ in Array(#"{"k\#(samples.hex(4))":1,"k\#(samples.hex(2))":"x"}"#.utf8) }
        try check("random keys", random, .lines)
    }

    func testExclusion() {
        func counts(_ texts: [String]) -> FieldStatistics.Values { .counts(texts.map { (Array($0.utf8), 2) }) }
        let numbers = FieldStatistics.Values.numbers(least: .integer(10), greatest: .double(20.5))
        typealias Test = FieldTest
        for (order, wanted, excluded) in [
            (.equal, 9, true), (.equal, 10, false), (.equal, 21, true), (.less, 10, true), (.less, 11, false), (.lessOrEqual, 9, true),
            (.lessOrEqual, 10, false),
            (.greater, 20, false), (.greater, 21, true), (.greaterOrEqual, 20, false), (.greaterOrEqual, 21, true),
        ] as [(FieldTest.Order, Int64, Bool)] {
            XCTAssertEqual(numbers.excludes(.compares(order, .number(.integer(wanted)))), excluded, "\(order) \(wanted)")
        }
        XCTAssertTrue(numbers.excludes(.compares(.equal, .number(.double(.nan)))))
        XCTAssertFalse(numbers.excludes(.compares(.equal, .text([0x61]))))
        XCTAssertFalse(numbers.excludes(.exists))
        XCTAssertFalse(counts(["200", "x"]).excludes(.compares(.less, .number(.integer(300)))))
        XCTAssertTrue(counts(["200", "x"]).excludes(.compares(.greater, .number(.integer(300)))))
        XCTAssertTrue(counts([]).excludes(.exists))
        XCTAssertEqual(counts(["200", "x"]).counts(.compares(.equal, .text([0x78])))?.passing, 2)
    }

    func testDamageThrows() throws {
        var samples = TextSamples(seed: 6)
        let writer = FieldStatisticsWriter()
        writer.begin(.lines)
        for text in samples.json(200) { text.withUnsafeBytes { writer.text($0, rows: 1) } }
        writer.end()
        let written = writer.finish()
        for _ in 0..<2000 {
            var damaged = written
            for _ in 0...samples.number(3) { damaged[samples.number(damaged.count)] = UInt8(truncatingIfNeeded: samples.random.next()) }
            if samples.number(3) == 0 { damaged.removeLast(samples.number(damaged.count)) }
            _ = try? decoding(damaged) { (cursor: inout ByteCursor) throws(ObsError) -> FieldStatistics in try FieldStatistics(&cursor, rows: 200) }
        }
    }
}
