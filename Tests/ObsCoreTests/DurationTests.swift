import ObsCore
import XCTest

final class DurationTests: XCTestCase {
    func testGoDurations() {
        func check(_ text: String, _ nanos: Double?, line: UInt = #line) { XCTAssertEqual(parseGoDuration(text), nanos, text, line: line) }
        check("0", 0)
        check("1h30m", 5400e9)
        check("1.5s", 1.5e9)
        check(".5s", 0.5e9)
        check("5.s", 5e9)
        check("250ms", 250e6)
        check("10us10µs10μs", 30e3)
        check("1d", 86_400e9)
        check("1w", 604_800e9)
        check("1y", 31_536_000e9)
        check("-5s", -5e9)
        check("+5ns", 5)
        for bad in ["", "-", "5", "s", "1x", "1h30", ".s", "1 s", "1..5s", "٣s", "1e3s", "NaN", "inf"] { check(bad, nil) }
    }
}
