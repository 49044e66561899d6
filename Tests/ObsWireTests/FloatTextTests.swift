@testable import ObsWire
import XCTest

final class FloatTextTests: XCTestCase {
    private func parse(_ text: String) -> Double? { Array(text.utf8).withUnsafeBytes { parseFloat($0) } }

    func testNumbers() {
        for text in [
            "0", "1", "-1", "+3", "1.5", ".5", "5.", "1e3", "1E-3", "-2.5e+10", "123456789012345678", "1234567890123456789012", "0.1", "3.141592653589793",
            "9007199254740993", "1e22", "1e23", "2.2250738585072014e-308", "5e-324", "1.7976931348623157e308", "0.000001", "00012", "1e-400", "8.3835e-05",
            "0.30000000000000004", "123456789.987654321",
        ] {
            XCTAssertEqual(
                parse(text)?.bitPattern,
                Double(text.hasPrefix(".") || text.hasSuffix(".") ? text.replacingOccurrences(of: "5.", with: "5.0") : text)?.bitPattern, text)
        }
        XCTAssertEqual(parse("-0")?.sign, .minus)
        for text in ["Inf", "+inf", "INF", "infinity"] { XCTAssertEqual(parse(text), .infinity) }
        XCTAssertEqual(parse("-Inf"), -.infinity)
        for text in ["NaN", "nan", "NAN"] { XCTAssertEqual(parse(text)?.isNaN, true) }
    }

    func testRefuses() {
        for text in [
            "", "-", "+", ".", "e5", "1e", "1e+", "1_000", "0x1p3", "0x10", "1.2.3", "1 ", " 1", "12a", "1e400", "-1e400", "infx", "+nan", "na", "--1",
        ] {
            XCTAssertNil(parse(text), text)
        }
    }

    func testOpenMetricsSpelling() {
        let cases: [(Double, String)] = [
            (1, "1.0"), (0, "0.0"), (-1, "-1.0"), (0.5, "0.5"), (1e6, "1e+06"), (123456, "123456.0"), (1_234_567, "1.234567e+06"), (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (2.5e-7, "2.5e-07"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"), (0.1 + 0.2, "0.30000000000000004"), (99999, "99999.0"),
            (1e21, "1e+21"), (10, "10.0"),
        ]
        for (value, text) in cases { XCTAssertEqual(formatOpenMetricsFloat(value), text) }
    }

    /// What the quick look takes for well spelled must be.
    func testWellSpelledNumbersAreLeftAlone() {
        var taken = 0
        for whole in ["0", "00", "1", "10", "99999", "123456", "1234567", "", "-1"] {
            for fraction in [".0", ".00", ".5", ".50", ".05", ".005", ".0005", ".00005", ".25", ".123456789", ".", "", ".5e3"] {
                let text = whole + fraction
                guard Array(text.utf8).withUnsafeBytes({ isSpelledAsOpenMetrics($0) }) else { continue }
                taken += 1
                XCTAssertEqual(parse(text).map { formatOpenMetricsFloat($0) }, text)
            }
        }
        XCTAssertGreaterThan(taken, 20)
    }

    func testEpochs() {
        func epoch(_ text: String) -> Int64? { Array(text.utf8).withUnsafeBytes { parseEpoch($0) } }
        let cases: [(String, Int64?)] = [
            ("1700000000", 1_700_000_000_000_000_000), ("1700000000.123456789", 1_700_000_000_123_456_789), ("1700000000123", 1_700_000_000_123_000_000),
            ("1700000000123.5", 1_700_000_000_123_500_000), ("1700000000123456", 1_700_000_000_123_456_000), ("1700000000123456789", 1_700_000_000_123_456_789),
            ("1.7e9", 1_700_000_000_000_000_000), ("-1", -1_000_000_000), ("0", 0), ("5", 5_000_000_000), ("9223372036854775807", .max),
            ("9223372036854775808", nil),
            ("99999999999999999999", nil), ("", nil), ("x", nil), ("1x", nil), ("1.2.3", nil), ("1e300", nil), ("-", nil),
        ]
        for (text, expected) in cases { XCTAssertEqual(epoch(text), expected, text) }
    }
}
