import Foundation
import ObsCore
import ObsLogQL
import ObsStore
import XCTest

final class DeletionQueryTests: XCTestCase {
    func testSelectorsWithLineFilters() throws {
        for (text, wanted) in [
            (#"{app="a"}"#, ["app equal a"]), (#"{app=~"a|b", env!="x"}"#, ["app matches a|b", "env notEqual x"]),
            (#"{app="a"} |= "1.5 $" != "b" or "c""#, ["app equal a", #"__line__ matches 1\.5 \$"#, "__line__ matchesNot b|c"]),
            (#"{app="a"} |~ "x|y" or "z" !~ "(?i)q""#, ["app equal a", "__line__ matches (?:x|y)|(?:z)", "__line__ matchesNot (?i)q"]),
        ] {
            XCTAssertEqual(try parseLogDeletion(text).map { "\($0.name) \($0.operation) \($0.value)" }, wanted, text)
        }
    }

    func testAQuotedTextMatchesItselfOnly() throws {
        for text in ["a.b*c", #"\d[x]{2}^$|?+()"#, "ü—日本", "tab\tnew\nline", "\0nul", "-/:;<=>@'`~!#%&, ."] {
            var escaped = ""
            for character in text { escaped += character == "\"" || character == "\\" ? "\\\(character)" : "\(character)" }
            escaped = escaped.replacingOccurrences(of: "\n", with: "\\n").replacingOccurrences(of: "\0", with: "\\x00")
            let matcher = try XCTUnwrap(parseLogDeletion("{app=\"a\"} |= \"\(escaped)\"").last)
            XCTAssertTrue(try LabelMatcher("x", .matches, ".*(?:\(matcher.value)).*").matches("before \(text) after"), text)
            XCTAssertFalse(try LabelMatcher("x", .matches, ".*(?:\(matcher.value)).*").matches("before \(text.dropLast()) after"), text)
        }
    }

    func testRefusals() {
        for (text, words) in [
            ("{}", "empty-compatible"), (#"{app=~".*"}"#, "empty-compatible"), (#"|= "x""#, "empty-compatible"), (#"{app="a"} | json"#, "line filters"),
            (#"{app="a"} | level="x""#, "line filters"), (#"{app="a"} |= ip("10.0.0.0/8")"#, "line filters"), (#"{app="a"} |> "<_>""#, "line filters"),
            (#"rate({app="a"}[5m])"#, "log query"), (#"{app="a""#, "parse error"), (#"{app="a"} |~ "(""#, "regexp"), ("", "parse error"),
        ] {
            XCTAssertThrowsError(try parseLogDeletion(text), text) {
                XCTAssertEqual(($0 as? ObsError)?.code, .badInput)
                XCTAssertTrue("\($0)".contains(words), "\(text): \($0)")
            }
        }
    }
}
