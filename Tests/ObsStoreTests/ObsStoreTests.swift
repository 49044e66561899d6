import ObsCore
import ObsStore
import XCTest

final class LabelMatcherTests: XCTestCase {
    /// An absent label counts as "".
    func testMatchers() throws {
        let labels = Labels([("app", "web"), ("env", "prod")])
        func check(_ name: String, _ operation: LabelMatcher.Operation, _ value: String, _ expected: Bool, line: UInt = #line) throws {
            XCTAssertEqual([try LabelMatcher(name, operation, value)].match(labels), expected, line: line)
        }
        try check("app", .equal, "web", true)
        try check("app", .equal, "we", false)
        try check("none", .equal, "", true)
        try check("none", .notEqual, "", false)
        try check("app", .notEqual, "api", true)
        try check("app", .matches, "w.b", true)
        try check("app", .matches, "w", false)
        try check("none", .matches, ".*", true)
        try check("none", .matches, ".+", false)
        try check("env", .matchesNot, "dev|test", true)
        XCTAssertFalse([LabelMatcher(equal: "app", "web"), LabelMatcher(equal: "env", "dev")].match(labels))
    }

    func testMatchesEmpty() throws {
        XCTAssertTrue(try LabelMatcher("a", .matches, ".*").matchesEmpty)
        XCTAssertFalse(try LabelMatcher("a", .matches, ".+").matchesEmpty)
        XCTAssertThrowsError(try LabelMatcher("a", .matches, "("))
    }
}

final class QueryContextTests: XCTestCase {
    func testBudgetsNameTheirLimit() throws {
        var limits = Limits()
        limits.querySamplesMax = 10
        limits.querySeriesMax = 2
        // Ten samples are 160 bytes.
        limits.queryBytesMax = 260
        let context = QueryContext(tenant: .default, limits: limits)
        try context.charge(samples: 10)
        try context.charge(series: 2)
        try context.charge(bytes: 100)
        for (words, charge) in [
            ("query.max-samples", { () throws in try context.charge(samples: 1) }), ("query.max-series", { () throws in try context.charge(series: 1) }),
            ("query.max-bytes", { () throws in try context.charge(bytes: 1) }),
        ] as [(String, () throws -> Void)] {
            XCTAssertThrowsError(try charge()) { error in
                XCTAssertEqual((error as? ObsError)?.code, .limitExceeded)
                XCTAssertTrue("\(error)".contains(words), "\(error)")
            }
        }
        context.release(bytes: 101)
        XCTAssertNoThrow(try context.charge(bytes: 100))
        XCTAssertEqual(context.statistics.samples, 11)
    }

    func testEnds() throws {
        let cancelled = QueryContext(tenant: .default)
        try cancelled.check()
        cancelled.cancel()
        XCTAssertThrowsError(try cancelled.check()) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
        XCTAssertThrowsError(try QueryContext(tenant: .default, timeoutMillis: -1).check()) { XCTAssertEqual(($0 as? ObsError)?.code, .timeout) }
        XCTAssertThrowsError(try QueryContext(tenant: .default, clientGone: { true }).check()) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
    }
}
