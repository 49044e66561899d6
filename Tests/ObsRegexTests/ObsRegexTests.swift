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

    /// What a matching text contains, as sets of which it has one each.
    func testLiterals() throws {
        func check(_ pattern: String, _ literals: [[String]], line: UInt = #line) throws {
            let found = try Regex(pattern).literals.map { $0.map { String(decoding: $0, as: UTF8.self) }.sorted() }.sorted { $0.lexicographicallyPrecedes($1) }
            XCTAssertEqual(found, literals, line: line)
        }
        try check("timeout", [["timeout"]])
        try check("Timeout after [0-9]+ms", [["timeout after "]])
        try check("conn.*refused", [["conn"], ["refused"]])
        try check("refused|timeout", [["refused", "timeout"]])
        try check("(refused|timeout) by peer", [["refused by peer", "timeout by peer"]])
        try check("a.b", [])
        try check("x?", [])
        try check("[a-z]+", [])
        try check("", [])
        // Case folds beyond ASCII: the Kelvin sign is a k, the long s an s.
        try check("(?i)break", [["break", "\u{212A}"].sorted()])
        try check("(?i)ERROR", [["error"]])
        try check("(?i)Disk", [["disk", "\u{17F}", "\u{212A}"].sorted()])
        try check("größe", [])
    }

    /// No text that matches lacks a literal: texts made from the patterns' own words.
    func testLiteralsNeverExclude() throws {
        let words = ["error", "Timeout", "disk", "DISK", "di\u{17F}k", "refused", "brea\u{212A}", "x", " ", "42"]
        let patterns = ["(?i)disk", "(?i)break|error", "Timeout.*refused", "(error|disk) ?42", "(?i)(timeout|refused) x", "e(rr|xx)or", "[Dd]isk"]
        var state: UInt64 = 7
        func next(_ below: Int) -> Int {
            state = state &* 6364136223846793005 &+ 1442695040888963407
            return Int(state >> 33) % below
        }
        var matches = 0
        for pattern in patterns {
            let regex = try Regex(pattern)
            let sets = regex.literals
            XCTAssertFalse(sets.isEmpty, pattern)
            for _ in 0..<1000 {
                let text = (0..<4).map { _ in words[next(words.count)] }.joined()
                guard regex.matchesPart(text) else { continue }
                matches += 1
                let lower = Array(text.utf8).map { $0 >= 0x41 && $0 <= 0x5a ? $0 | 0x20 : $0 }
                for set in sets { XCTAssert(set.contains { contains(lower, $0) }, "\(pattern) matches \(text)") }
            }
        }
        XCTAssertGreaterThan(matches, 500)
    }

    private func contains(_ text: [UInt8], _ needle: [UInt8]) -> Bool {
        guard needle.count <= text.count else { return false }
        return (0...text.count - needle.count).contains { text[$0..<$0 + needle.count].elementsEqual(needle) }
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
