import ObsCompress
import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

/// Objects whose keys are many, or look like values: no column, shape or byte too many, and every byte given back. What counts as many is compared with zstd over the lines.
final class RareKeysTests: XCTestCase {
    private func check(_ name: String, _ texts: [[UInt8]], ratio: Double, at place: UInt = #line) throws {
        var filter: [UInt8] = []
        let packed = packed(texts, .lines, [], filter: &filter)
        let view = try TextView(packed, count: texts.count, times: [], bytesMax: 256 << 20)
        var bytes: [UInt8] = []
        let ranges = try view.texts(of: nil, into: &bytes)
        XCTAssertEqual(ranges.count, texts.count, line: place)
        for (range, text) in zip(ranges, texts) where !bytes[range.range].elementsEqual(text) { return XCTFail("\(name): not as it was", line: place) }
        let lines = Array(texts.joined(separator: [0x0a]))
        let plain = ZstdContext.borrow { zstd in
            lines.withUnsafeBytes { lines in
                withUnsafeTemporaryAllocation(byteCount: ZstdContext.bound(lines.count), alignment: 1) {
                    zstd.compress(lines, into: $0, level: 1) ?? lines.count
                }
            }
        }
        let share = Double(packed.count) / Double(max(plain, 1))
        XCTAssertLessThan(filter.count, max(packed.count / 3, texts.count * 4, 64), name, line: place)
        XCTAssertLessThan(share, ratio, "\(name): \(packed.count) bytes and \(filter.count) of filter, zstd \(plain) of \(lines.count)", line: place)
        XCTAssertLessThan(view.streams.count, 4096, name, line: place)
    }

    func testManyKeys() throws {
        var samples = TextSamples(seed: 41)
        let names = (0..<10_000).map { "key_\($0)" }
        try check(
            "10,000 keys",
            (0..<3000).map { _ in Array(#"{"level":"info","\#(samples.one(of: names))":\#(samples.number(1000)),"\#(samples.one(of: names))":"x"}"#.utf8) },
            ratio: 1.1)
        try check(
            "ids as keys", (0..<3000).map { _ in Array(#"{"users":{"\#(samples.hex(16))":{"n":\#(samples.number(9))}},"level":"info"}"#.utf8) }, ratio: 1.1)
        try check("short keys", (0..<3000).map { _ in Array(#"{"\#(samples.hex(2))":1}"#.utf8) }, ratio: 1.1)
        let wide = "{" + names.map { #""\#($0)":\#(samples.number(1000))"# }.joined(separator: ",") + "}"
        try check("an object of 10,000 keys", [Array(wide.utf8)], ratio: 1.1)
        let some = (0..<200).map { _ in Array(#"{"level":"info","n":\#(samples.number(1000))}"#.utf8) }
        try check("an object of 10,000 keys among others", some + [Array(wide.utf8)] + some, ratio: 1.1)
        let keys = (0..<40).map { _ in (0..<300).map { _ in samples.one(of: names) } }
        try check(
            "objects of 300 keys", keys.map { keys in Array(("{" + keys.map { #""\#($0)":\#(samples.number(100))"# }.joined(separator: ",") + "}").utf8) },
            ratio: 1.1)
        let kinds = names.prefix(300).map { #","\#($0)":7"# }
        try check(
            "any of 300 keys", (0..<2000).map { _ in Array((#"{"level":"info""# + kinds.filter { _ in samples.number(20) == 0 }.joined() + "}").utf8) },
            ratio: 1.1)
    }

    func testTypesAndBytes() throws {
        var samples = TextSamples(seed: 42)
        let values = ["1", "\"1\"", "true", "null", "[1,2]", "{\"b\":1}", "1.5", "\"x y\"", "-7e3", "\"\\u0000\""]
        try check("type changes", (0..<3000).map { _ in Array(#"{"a":\#(samples.one(of: values)),"n":\#(samples.number(100_000))}"#.utf8) }, ratio: 1.1)
        let hostile: [[UInt8]] = (0..<1500).map { _ in
            var line = Array(#"{"a":"x","n":\#(samples.number(1000)),"b":"y"}"#.utf8)
            line.insert(contentsOf: [[0], [0xff, 0xfe], [0xc3], [0, 0, 0]][samples.number(4)], at: samples.number(line.count))
            return line
        }
        try check("NUL bytes and invalid UTF-8", hostile, ratio: 1.25)
        try check("random bytes", (0..<300).map { _ in (0..<200).map { _ in UInt8(truncatingIfNeeded: samples.random.next()) } }, ratio: 1.1)
    }

    func testLongLines() throws {
        var samples = TextSamples(seed: 43)
        let pattern = (0..<1000).map { _ in UInt8(truncatingIfNeeded: samples.random.next()) }
        let long: [UInt8] = Array(repeating: pattern, count: 5000).flatMap { $0 }
        let words = Array(Array(repeating: #"{"msg":"word 17 word 18","n":1},"#, count: 160_000).joined().utf8)
        let lines = (0..<20).map { Array(#"{"level":"info","n":\#($0)}"#.utf8) }
        try check("5 MB of bytes", lines + [long] + lines, ratio: 1.3)
        try check("5 MB of objects", lines + [words] + lines, ratio: 1.3)
    }
}
