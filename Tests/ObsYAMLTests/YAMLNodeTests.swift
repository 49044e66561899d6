import ObsCore
import XCTest

@testable import ObsYAML

final class YAMLNodeTests: XCTestCase {
    private func mapping(_ text: String) throws -> YAMLMapping { try YAMLMapping(YAMLNode.parse(text)) }

    private func failure(_ text: String, _ read: (YAMLMapping) throws -> Void = { try $0.finish() }) -> String {
        do {
            try read(mapping(text))
            return "no error"
        } catch let error as ObsError {
            return error.message
        } catch {
            return "\(error)"
        }
    }

    func testReadsTypedValues() throws {
        let map = try mapping(
            """
            global: {scrape_interval: 15s, on: yes, size: 10MB, exact: 2KiB, count: -3}
            list: [a, "b", 3]
            labels: {a: 1, b: true}
            text: |
              one
              two
            nothing: ~
            quotednull: "null"
            """)
        let global = try XCTUnwrap(map.mapping("global"))
        XCTAssertEqual(try global.durationMillis("scrape_interval", default: 1), 15_000)
        XCTAssertEqual(try global.bool("on", default: false), true)
        XCTAssertEqual(try global.byteSize("size", default: 0), 10 << 20)
        XCTAssertEqual(try global.byteSize("exact", default: 0), 2048)
        XCTAssertEqual(try global.int("count", default: 0), -3)
        XCTAssertEqual(try global.string("absent", default: "x"), "x")
        try global.finish()
        XCTAssertEqual(try map.strings("list"), ["a", "b", "3"])
        XCTAssertEqual(try map.stringPairs("labels").map { "\($0.name)=\($0.value)" }, ["a=1", "b=true"])
        XCTAssertEqual(try map.string("text"), "one\ntwo\n")
        XCTAssertNil(map.optional("nothing"))
        XCTAssertEqual(try map.string("quotednull"), "null")
        try map.finish()
    }

    func testEmptyDocumentIsNull() throws {
        XCTAssertTrue(try YAMLNode.parse("").isNull)
        XCTAssertTrue(try YAMLNode.parse("# nothing\n").isNull)
        try YAMLMapping(YAMLNode.parse("")).finish()
    }

    func testAnchorsAndMerges() throws {
        let map = try mapping("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\nagain: *b\n")
        let more = try XCTUnwrap(map.mapping("more"))
        XCTAssertEqual(try more.int("x", default: 0), 1)
        XCTAssertEqual(try more.int("y", default: 0), 3)
        XCTAssertEqual(map.optional("again")?.path, "again")
    }

    func testErrorsNamePathAndLine() {
        let scrape = "scrape_configs:\n  - job_name: a\n    scrape_interval: soon\n"
        XCTAssertEqual(
            failure(scrape) { map throws in _ = try YAMLMapping(map.sequence("scrape_configs")[0]).durationMillis("scrape_interval", default: 0) },
            "scrape_configs[0].scrape_interval (line 3): not a valid duration (such as 30s or 1h30m): \"soon\"")
        XCTAssertEqual(failure("a: 1\nb: 2\n"), "a (line 1): unknown key \"a\"")
        XCTAssertEqual(failure("a: 1\nb: 2\na: 3\n"), "a (line 3): key \"a\" is given twice (first on line 1)")
        XCTAssertEqual(
            failure("a: {c: [1, x]}") { _ = try YAMLMapping($0.required("a")).sequence("c")[1].int() }, "a.c[1] (line 1): must be a whole number, is \"x\"")
        XCTAssertEqual(failure("a: 1") { _ = try $0.required("b") }, "line 1: \"b\" is missing")
        XCTAssertEqual(failure("a: [1]") { _ = try $0.string("a") }, "a (line 1): must be a string, is a list")
        XCTAssertEqual(failure("- 1"), "line 1: must be a mapping")
        XCTAssertEqual(failure("a: *nope"), "a (line 1): unknown alias \"nope\"")
        XCTAssertEqual(failure("a: 1\n---\nb: 2\n"), "line 2: only one YAML document is allowed")
        XCTAssertTrue(failure("a: [1, 2\nb: 3").hasPrefix("line 2: "))
        XCTAssertEqual(failure("a: 1") { _ = try $0.bool("a", default: true) }, "a (line 1): must be true or false, is \"1\"")
    }

    func testBombsAreRefused() {
        var bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        for (name, before) in zip("bcdefghij", "abcdefghi") {
            bomb += "\(name): &\(name) [" + Array(repeating: "*\(before)", count: 10).joined(separator: ", ") + "]\n"
        }
        XCTAssertTrue(failure(bomb).contains("more than 2000000 nodes"), failure(bomb))
        XCTAssertTrue(failure("a: " + String(repeating: "[", count: 500) + String(repeating: "]", count: 500)).contains("nested deeper than 64"))
        XCTAssertTrue(failure("a: &a [*a]").contains("unknown alias"))
        var limits = YAMLLimits()
        limits.bytesMax = 3
        XCTAssertThrowsError(try YAMLNode.parse("a: 1", limits: limits))
    }

    func testMutatedDocumentsDoNotCrash() {
        let seed = Array("a: &x {b: [1, \"two\", 'three'], c: |\n  text\n}\nd: *x\n<<: *x\n? k\n: v\n".utf8)
        var state: UInt64 = 42
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for _ in 0..<3000 {
            var bytes = seed
            for _ in 0..<1 + random(4) { bytes[random(bytes.count)] = UInt8(random(256)) }
            if random(3) == 0 { bytes.removeLast(random(bytes.count)) }
            _ = try? YAMLMapping(YAMLNode.parse(bytes)).finish()
        }
    }
}
