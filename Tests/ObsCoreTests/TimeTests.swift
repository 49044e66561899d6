import ObsCore
import XCTest

final class TimeTests: XCTestCase {
    func testRFC3339() {
        XCTAssertEqual(parseRFC3339("1970-01-01T00:00:01.5Z"), 1_500_000_000)
        XCTAssertEqual(parseRFC3339("1970-01-01T02:00:00+02:00"), 0)
        XCTAssertEqual(parseRFC3339("1969-12-31 23:59:59.999999999"), -1)
        for text in ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-02-30T00:00:00Z", "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00Zx"] {
            XCTAssertNil(parseRFC3339(text), text)
        }
    }

    /// The second in which Int64 ends: whole it fits, with most fractions it does not.
    func testRFC3339AtTheEndOfTime() {
        XCTAssertEqual(parseRFC3339("2262-04-11T23:47:16Z"), 9_223_372_036_000_000_000)
        XCTAssertEqual(parseRFC3339("2262-04-11T23:47:16.854775807Z"), .max)
        XCTAssertNil(parseRFC3339("2262-04-11T23:47:16.854775808Z"))
        XCTAssertNil(parseRFC3339("2262-04-11T23:47:16.9Z"))
        for text in ["2262-04-11T23:47:17Z", "1677-09-21T00:12:43Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"] {
            XCTAssertNil(parseRFC3339(text), text)
        }
    }

    func testClampedArithmetic() {
        XCTAssertEqual(clampedDifference(5, 7), -2)
        XCTAssertEqual(clampedDifference(.max, -1), .max)
        XCTAssertEqual(clampedDifference(.min, 1), .min)
        XCTAssertEqual(clampedDifference(-1, .min), .max)
        XCTAssertEqual(clampedDifference(0, .min), .max)
        XCTAssertEqual(clampedSum(5, 7), 12)
        XCTAssertEqual(clampedSum(.max, 1), .max)
        XCTAssertEqual(clampedSum(.min, -1), .min)
    }

    func testDurations() {
        XCTAssertEqual(formatDuration(millis: 5_400_000), "1h30m")
        XCTAssertEqual(formatDuration(millis: -1000), "-1s")
        XCTAssertTrue(formatDuration(millis: .min).hasPrefix("-"))
        XCTAssertEqual(parseDurationMillis("1h30m"), 5_400_000)
        XCTAssertNil(parseDurationMillis("99999999999999999999y"))
        XCTAssertNil(parseDurationMillis("9223372036854775807y"))
    }
}
