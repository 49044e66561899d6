import ObsCore
import ObsStore
import XCTest

final class QueryMemoryTests: XCTestCase {
    private func limits(_ change: (inout Limits) -> Void = { _ in }) -> Limits {
        var limits = Limits()
        MemoryShares(ceilingBytes: 256 << 20).apply(to: &limits)
        change(&limits)
        return limits
    }

    func testSamplesAreBytesAndAllGoesBackAtTheEnd() throws {
        let limits = limits()
        var context: QueryContext? = QueryContext(tenant: .default, limits: limits)
        try context?.charge(samples: 100_000)
        XCTAssertGreaterThanOrEqual(limits.memory.queries.usedBytes, 1_600_000)
        context?.release(samples: 100_000)
        // What was given stays the query's: the next series takes no second grant.
        let given = limits.memory.queries.usedBytes
        try context?.charge(samples: 100_000)
        XCTAssertEqual(limits.memory.queries.usedBytes, given)
        context = nil
        XCTAssertEqual(limits.memory.queries.usedBytes, 0)
        XCTAssertEqual(limits.memory.usedBytes, 0)
    }

    func testOneQueryTooBig() {
        let limits = limits()
        do {
            let context = QueryContext(tenant: .default, limits: limits)
            XCTAssertThrowsError(try context.charge(samples: 10_000_000)) {
                let error = $0 as? ObsError
                XCTAssertEqual(error?.code, .limitExceeded)
                XCTAssertEqual(
                    error?.message,
                    "query needs 160000000 bytes of memory, more than 39321600 (query.max-bytes, a share of memory, 268435456 bytes); narrow its range or its selectors"
                )
            }
        }
        XCTAssertEqual(limits.memory.queries.refusals, 1)
        XCTAssertEqual(limits.memory.usedBytes, 0)
    }

    func testAllQueriesTogetherTooBig() throws {
        let limits = limits()
        let contexts = (0..<2).map { _ in QueryContext(tenant: .default, limits: limits) }
        for context in contexts { try context.charge(bytes: 37 << 20) }
        let late = QueryContext(tenant: .default, limits: limits)
        try late.charge(bytes: 1 << 20)
        XCTAssertThrowsError(try late.charge(bytes: 1 << 20)) {
            let error = $0 as? ObsError
            XCTAssertEqual(error?.code, .overloaded)
            XCTAssertEqual(error?.retryAfterSeconds, 2)
            XCTAssertTrue(error?.message.contains("over the memory for queries") == true, error?.message ?? "")
            XCTAssertTrue(error?.message.contains("268435456") == true, error?.message ?? "")
        }
        withExtendedLifetime(contexts) {}
    }
}
