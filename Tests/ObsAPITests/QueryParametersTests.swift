import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class QueryParametersTests: XCTestCase {
    private func parameters(_ value: String) -> Parameters { Parameters(pairs: [("p", value)]) }

    private func assertRefused<R>(_ body: @autoclosure () throws -> R, _ text: String, line: UInt = #line) {
        XCTAssertThrowsError(try body(), text, line: line) { error in
            XCTAssertEqual((error as? ObsError)?.code, .badInput, line: line)
            XCTAssert("\(error)".hasPrefix("invalid parameter \"p\": "), "\(error)", line: line)
        }
    }

    func testPrometheusTimes() throws {
        func check(_ text: String, _ millis: Int64?, line: UInt = #line) { XCTAssertEqual(try parameters(text).prometheusTime("p"), millis, text, line: line) }
        check("", nil)
        check("4", 4000)
        check("1435781451.781", 1_435_781_451_781)
        check("1435781451.7816", 1_435_781_451_782)
        check("-1.5", -1500)
        check("1e9", 1_000_000_000_000)
        check("2015-07-01T20:10:51.781Z", 1_435_781_451_781)
        check("2015-07-01T22:10:51+02:00", 1_435_781_451_000)
        check("-292273086-05-16T16:47:06Z", -9_000_000_000_000_000)
        check("292277025-08-18T07:12:54.999999999Z", 9_000_000_000_000_000)
        XCTAssertNil(try parameters("4").prometheusTime("other"))
        for bad in ["x", "NaN", "Inf", "-Inf", "1e16", "9e12", "2015-07-01", "2015-13-01T00:00:00Z", "1 2"] {
            assertRefused(try parameters(bad).prometheusTime("p"), bad)
        }
    }

    func testPrometheusDurations() throws {
        func check(_ text: String, _ millis: Int64?, line: UInt = #line) {
            XCTAssertEqual(try parameters(text).prometheusDuration("p"), millis, text, line: line)
        }
        check("", nil)
        check("15", 15_000)
        check("0.5", 500)
        check("1h30m", 5_400_000)
        check("1d", millisPerDay)
        check("250ms", 250)
        check("-1", -1000)
        for bad in ["x", "1.5h", "30m1h", "1h1h", "NaN", "1e300", "5S"] { assertRefused(try parameters(bad).prometheusDuration("p"), bad) }
    }

    func testLokiTimes() throws {
        func check(_ text: String, _ nanos: Int64?, line: UInt = #line) { XCTAssertEqual(try parameters(text).lokiTime("p"), nanos, text, line: line) }
        check("", nil)
        check("1700000000000000001", 1_700_000_000_000_000_001)
        check("1700000000", 1_700_000_000_000_000_000)
        check("4", 4_000_000_000)
        check("1700000000.5", 1_700_000_000_500_000_000)
        check("-1.5", -1_500_000_000)
        check("2023-11-14T22:13:20.000000001Z", 1_700_000_000_000_000_001)
        for bad in ["x", "NaN", "inf", "2023-11-14"] { assertRefused(try parameters(bad).lokiTime("p"), bad) }
    }

    /// Times are clamped, so that no difference of two overflows.
    func testFarLokiTimes() throws {
        for far in ["9223372036854775807", "9999999999", "99999999999999999999", "1e300", "2200-01-01T00:00:00Z"] {
            XCTAssertEqual(try parameters(far).lokiTime("p"), 4_600_000_000_000_000_000, far)
        }
        for far in ["-9223372036854775808", "-999999999", "-1e300"] {
            let time = try XCTUnwrap(try parameters(far).lokiTime("p"))
            XCTAssertFalse(Int64(4_600_000_000_000_000_000).subtractingReportingOverflow(time).overflow, far)
        }
    }

    func testGoDurations() throws {
        func check(_ text: String, _ nanos: Int64?, line: UInt = #line) { XCTAssertEqual(try parameters(text).goDuration("p"), nanos, text, line: line) }
        check("", nil)
        check("15s", 15_000_000_000)
        check("1.5h", 5_400_000_000_000)
        check("100ms", 100_000_000)
        check("250us", 250_000)
        check("1d", nanosPerDay)
        check("-5s", -5_000_000_000)
        check("0.25", 250_000_000)
        check("30", 30_000_000_000)
        for bad in ["x", "1x", "NaN", "inf", "1e300", "400y"] { assertRefused(try parameters(bad).goDuration("p"), bad) }
    }

    func testTempoAndJaegerTimes() throws {
        XCTAssertEqual(try parameters("1700000000").tempoTime("p"), 1_700_000_000_000_000_000)
        XCTAssertEqual(try parameters("0.5").tempoTime("p"), 500_000_000)
        for bad in ["x", "NaN", "1e10", "-1e300"] { assertRefused(try parameters(bad).tempoTime("p"), bad) }
        XCTAssertEqual(try parameters("1700000000000001").jaegerTime("p"), 1_700_000_000_000_001_000)
        for bad in ["x", "1.5", "9223372036854775807", "-9223372036854775808"] { assertRefused(try parameters(bad).jaegerTime("p"), bad) }
    }

    func testCounts() throws {
        XCTAssertNil(try parameters("").count("p"))
        XCTAssertEqual(try parameters("0").count("p"), 0)
        XCTAssertEqual(try parameters("20").positiveCount("p"), 20)
        // Room for sums.
        XCTAssertLessThan(try XCTUnwrap(try parameters("9223372036854775807").count("p")), Int.max / 2)
        for bad in ["-1", "x", "1.5", "9223372036854775808", "-9223372036854775808"] { assertRefused(try parameters(bad).count("p"), bad) }
        assertRefused(try parameters("0").positiveCount("p"), "0")
        assertRefused(try parameters("").required("p"), "")
    }
}
