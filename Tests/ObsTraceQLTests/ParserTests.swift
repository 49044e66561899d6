import ObsCore
import ObsTraceQL
import XCTest

final class ParserTests: XCTestCase {
    private let queries = [
        "{}", "{ .a = 1 && span.b != `c` || !(resource.d =~ \"e.*\") }", "{ span:duration > 1.5h && kind = server && status != ok }",
        "({ .a } >> { .b }) &> { .c } | by(.x) | count() + 1 > 2 * 3 | select(.y, span.z) | coalesce()", "{ -.a ^ 2 % 3 < 5 && parent.span.x = nil }",
        "{ event.\"a b\".c = 1 } !~ { link:spanID = \"x\" } with (most_recent=true)",
    ]

    func testLiveFilters() throws {
        var batch = SpanBatch()
        batch.appendRow(
            traceID: TraceID(high: 0, low: 1), spanID: 1, parentID: 0, startNanos: 0, durationNanos: 5, kind: 2, status: 2, name: batch.bytes.intern("n".utf8))
        XCTAssertTrue(try CompiledSpanFilter("{}").matches(batch, row: 0))
        XCTAssertTrue(try CompiledSpanFilter(#"{ name = "n" && status = error && nestedSetParent < 0 }"#).matches(batch, row: 0))
        XCTAssertFalse(try CompiledSpanFilter("{ kind = client }").matches(batch, row: 0))
        XCTAssertThrowsError(try CompiledSpanFilter("{} && {}"))
        XCTAssertThrowsError(try CompiledSpanFilter("{ traceDuration > 1s }"))
    }

    func testNestingIsBounded() {
        for text in [String(repeating: "(", count: 100_000), "{ " + String(repeating: "!", count: 50_000), "{ " + String(repeating: "(", count: 50_000)] {
            XCTAssertThrowsError(try CompiledSpanFilter(text))
        }
        // Long chains parse and are evaluated without exhausting the stack.
        let chain = "{ .a = 1" + String(repeating: " && .a = 1", count: 1000) + " }"
        XCTAssertNoThrow(try CompiledSpanFilter(chain).matches(SpanBatch(), rows: []))
    }

    func testDamagedQueries() {
        var state: UInt64 = 42
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % max(bound, 1)
        }
        for round in 0..<6000 {
            var bytes = Array(queries[round % queries.count].utf8)
            for _ in 0...random(3) where !bytes.isEmpty {
                let at = random(bytes.count)
                switch random(3) {
                case 0: bytes.remove(at: at)
                case 1: bytes.insert(Array("{}()|=~!\"`<>,.5ms:&^-".utf8)[random(21)], at: at)
                default: bytes.removeSubrange(at...)
                }
            }
            _ = try? CompiledSpanFilter(String(decoding: bytes, as: UTF8.self))
        }
    }
}
