import ObsCore
import ObsLogQL
import ObsStore
import XCTest

final class CompiledLogQueryTests: XCTestCase {
    private func batch(_ lines: [String]) -> LogBatch {
        var batch = LogBatch()
        batch.streams = [batch.bytes.intern(Labels([("app", "a")]).bytes)]
        batch.resources.append(
            batch.bytes.intern(
                {
                    var list: [UInt8] = []
                    list.appendAttribute("k8s.pod".utf8, .string("p"))
                    list.appendAttribute("app".utf8, .string("same name as a stream label"))
                    list.appendAttribute("m".utf8, .map(#"{"x":1,"y":{"z":"w"}}"#))
                    return list
                }()))
        batch.scopes.append(
            batch.bytes.intern(
                {
                    var list: [UInt8] = []
                    list.appendAttribute("name".utf8, .string("lib"))
                    list.appendAttribute("attr.q".utf8, .bool(true))
                    return list
                }()))
        for (index, line) in lines.enumerated() {
            batch.appendRow(stream: 0, timeNanos: Int64(index), severity: 13, line: batch.bytes.intern(line.utf8), spanID: 255, resource: 1, scope: 1)
        }
        return batch
    }

    func testRowsAndTheirLabelGroups() throws {
        let query = try CompiledLogQuery(#"{app="a"} |= "x" | logfmt | label_format n="{{.v}}!""#)
        let batch = batch(["no", "x v=1"])
        XCTAssertNil(query.process(batch, row: 0))
        let found = try XCTUnwrap(query.process(batch, row: 1))
        XCTAssertEqual(found.stream, Labels([("app", "a")]))
        XCTAssertEqual(found.entry.parsed, Labels([("v", "1"), ("n", "1!")]))
        XCTAssertEqual(
            found.entry.structuredMetadata,
            Labels([
                ("detected_level", "warn"), ("k8s_pod", "p"), ("m_x", "1"), ("m_y_z", "w"), ("q", "true"), ("scope_name", "lib"),
                ("span_id", "00000000000000ff"),
            ]))
        XCTAssertEqual(query.matchers.map(\.name), ["app"])
        XCTAssertThrowsError(try CompiledLogQuery(#"rate({app="a"}[1m])"#))
    }

    /// Lines of any bytes go through every parser.
    func testDamagedLines() throws {
        let query = try CompiledLogQuery(
            #"{} | json | logfmt --strict | pattern "<a>=<b> " | regexp `(?P<c>\w+)` | json d="a.b[0]" | unpack | decolorize | line_format "{{.a | upper}} {{__line__}}" | a != "q" or b > 5"#
        )
        let seeds = [
            #"{"a":{"b":[1,{"c":"d\u00e9\ud83d\ude00"}]},"_entry":"x","e":-1.5e3}"#, #"k=v q="a \"b\"" =x y=" z"#, "\u{1b}[31mred\u{1b}[0m",
            String(repeating: "[", count: 3000),
            String(repeating: #"{"a":"#, count: 2000),
        ]
        var generator = SplitMix(seed: 11)
        for round in 0..<3000 {
            var bytes = Array(seeds[round % seeds.count].utf8)
            for _ in 0..<Int.random(in: 0..<4, using: &generator) {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                if Bool.random(using: &generator) { bytes[at] = UInt8.random(in: 0...255, using: &generator) } else { bytes.removeSubrange(at...) }
                if bytes.isEmpty { bytes = [0x7b] }
            }
            var batch = LogBatch()
            batch.streams = [.empty]
            batch.appendRow(stream: 0, timeNanos: 0, severity: 0, line: batch.bytes.intern(bytes))
            XCTAssertNotNil(query.process(batch, row: 0).map { _ in true } ?? true)
        }
    }
}
