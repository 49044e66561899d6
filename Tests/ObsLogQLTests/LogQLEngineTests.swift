import ObsCore
import ObsLogQL
import ObsStore
import ObsTestSupport
import XCTest

final class LogQLEngineTests: XCTestCase {
    private lazy var context = QueryContext(tenant: .default)

    private func range(_ engine: LogQLEngine, _ query: String, _ start: Int64, _ end: Int64, step: Int64?) throws -> LogQLResult {
        try engine.range(query, startNanos: start, endNanos: end, stepNanos: step, intervalNanos: 0, limit: 10, direction: .backward, context: context)
    }

    /// Times at the ends of Int64 give answers or errors, never a trap.
    func testExtremeTimes() throws {
        let store = InMemoryStore()
        var batch = LogBatch()
        batch.streams = [batch.bytes.intern(Labels([("a", "b")]).bytes)]
        for time in [Int64.min, -1, 0, .max] { batch.appendRow(stream: 0, timeNanos: time, severity: 0, line: batch.bytes.intern("x".utf8)) }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        let engine = LogQLEngine(reader: store)
        for (start, end) in [(Int64.min, Int64.max), (.max, .max), (.min, .min), (0, .max), (-5, 5)] {
            for query in [
                #"{a="b"} | line_format `{{__timestamp__}} {{__timestamp__ | unixEpoch}}`"#, #"count_over_time({a="b"}[60y] offset -60y)"#,
                #"rate({a="b"}[60y] offset 60y)"#,
            ] {
                for step in [nil, 1, Int64.max] as [Int64?] { _ = try? range(engine, query, start, end, step: step) }
            }
            _ = try? engine.instant(#"rate({a="b"}[60y])"#, atNanos: start, limit: 1, direction: .backward, context: context)
        }
    }

    func testBounds() throws {
        let engine = LogQLEngine(reader: InMemoryStore())
        XCTAssertThrowsError(try range(engine, "vector(1)", 0, 12_000 * 1_000_000_000, step: 1_000_000_000))
        XCTAssertThrowsError(try range(engine, "vector(1)", 10, 0, step: 1))
        XCTAssertThrowsError(try range(engine, "vector(1)", 0, 10, step: 0))
        XCTAssertThrowsError(try engine.instant(#"{a="b"}"#, atNanos: 0, limit: 1, direction: .backward, context: context))
        // Without a step: a 250th of the range, a second at least; start and end are moved down to multiples.
        guard case .matrix(let series) = try range(engine, "vector(1)", 7_000_000_001, 507_900_000_000, step: nil) else { return XCTFail("not a matrix") }
        XCTAssertEqual(series.first?.timesMillis.prefix(2), [6000, 8000])
        XCTAssertEqual(series.first?.timesMillis.last, 506_000)
        context.cancel()
        XCTAssertThrowsError(try range(engine, "vector(1)", 0, 10, step: 1))
    }
}
