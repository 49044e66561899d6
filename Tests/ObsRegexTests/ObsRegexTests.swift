import ObsCore
import ObsRegex
import XCTest

final class RegexTests: XCTestCase {
    /// Label matchers demand the whole text, line filters a part of it.
    func testWholeAndPart() throws {
        func check(_ pattern: String, _ text: String, whole: Bool, part: Bool, line: UInt = #line) throws {
            let regex = try Regex(pattern)
            XCTAssertEqual(regex.matchesWhole(text), whole, line: line)
            XCTAssertEqual(regex.matchesPart(text), part, line: line)
        }
        try check("a+", "aaa", whole: true, part: true)
        try check("a+", "xaaax", whole: false, part: true)
        try check("", "", whole: true, part: true)
        try check("", "x", whole: false, part: true)
        try check("a|ab", "ab", whole: true, part: true)
        try check("(?i)ERR.*", "error\nline", whole: true, part: true)
        try check("x", "", whole: false, part: false)
    }

    func testCapturesAndNames() throws {
        let regex = try Regex(#"(?P<method>\w+) (\S+)(?: (?P<rest>.*))?"#)
        XCTAssertEqual(regex.groupNames, ["method", nil, "rest"])
        let text = Array("GET /cart".utf8)
        let found = text.withUnsafeBytes { regex.captures(in: $0, anchored: true) }
        XCTAssertEqual(found, [0..<9, 0..<3, 4..<9, nil])
        XCTAssertNil(Array("nothing".utf8).withUnsafeBytes { regex.captures(in: $0, anchored: true) })
    }

    func testRefusals() {
        for pattern in ["(", "a**", "[z-a]", #"(?=look)"#, #"\1"#] {
            XCTAssertThrowsError(try Regex(pattern)) { error in
                XCTAssertEqual((error as? ObsError)?.code, .badInput, pattern)
                XCTAssertTrue("\(error)".contains(pattern), "\(error)")
            }
        }
    }

    /// A pattern that ruins backtracking engines.
    func testTimeIsLinear() throws {
        XCTAssertFalse(try Regex("(a+)+$").matchesWhole(String(repeating: "a", count: 50_000) + "!"))
    }
}
