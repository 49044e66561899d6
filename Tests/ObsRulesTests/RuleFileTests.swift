import ObsCore
import ObsPromQL
import ObsYAML
import XCTest

@testable import ObsRules

final class RuleFileTests: XCTestCase {
    private func parse(_ text: String) throws -> RuleFile {
        try RuleFile.parse(Array(text.utf8), path: "r.yml") { expression throws(ObsError) in _ = try parsePromQL(expression) }
    }

    func testOrdinaryFile() throws {
        let file = try parse(
            """
            groups:
            - name: a
              interval: 30s
              limit: 10
              query_offset: 5s
              labels: {team: x, severity: low}
              rules:
              - record: job:up:sum
                expr: sum by (job) (up)
              - alert: Down
                expr: up == 0
                for: 5m
                keep_firing_for: 1m
                labels: {severity: page}
                annotations: {summary: "{{ $labels.job }} is down"}
            - name: b
            """)
        XCTAssertEqual(file.groups.map(\.name), ["a", "b"])
        XCTAssertEqual(file.groups[0].intervalMillis, 30_000)
        XCTAssertEqual(file.groups[0].queryOffsetMillis, 5000)
        XCTAssertEqual(file.groups[0].rules[0].kind, .recording)
        XCTAssertEqual(file.groups[0].rules[1].kind, .alerting(holdMillis: 300_000, keepFiringMillis: 60_000))
        XCTAssertEqual(file.groups[0].rules[1].labels.map { "\($0.name)=\($0.value)" }, ["severity=page", "team=x"])
        XCTAssertEqual(try parse("").groups.count, 0)
    }

    func testErrorsNameTheirLine() {
        func fails(_ text: String, _ expected: String, line: UInt = #line) {
            XCTAssertThrowsError(try parse("groups:\n- name: a\n  rules:\n" + text), line: line) {
                XCTAssertTrue((($0 as? ObsError)?.message ?? "").hasPrefix("r.yml: " + expected), "\($0)", line: line)
            }
        }
        fails("  - {record: x, expr: up, foor: 1m}", "groups[0].rules[0].foor (line 4): unknown key \"foor\"")
        fails("  - record: x\n    expr: 'sum('", "groups[0].rules[0].expr (line 5): could not parse expression: 1:5: parse error: ")
        fails("  - {record: x, alert: y, expr: up}", "groups[0].rules[0] (line 4): a rule has either")
        fails("  - {expr: up}", "groups[0].rules[0] (line 4): a rule has either")
        fails("  - {alert: x}", "groups[0].rules[0] (line 4): \"expr\" is missing")
        fails("  - {record: x, expr: up, for: 1m}", "groups[0].rules[0].for (line 4): \"for\" belongs to alerting rules")
        fails("  - {record: 'a{', expr: up}", "groups[0].rules[0].record (line 4): invalid recording rule name")
        fails("  - {alert: x, expr: up, for: soon}", "groups[0].rules[0].for (line 4): not a valid duration")
        fails("  - {alert: x, expr: up, labels: {__name__: y}}", "groups[0].rules[0].labels (line 4): invalid label name")
        fails("  - {alert: x, expr: up, annotations: {a: '{{ if }}'}}", "groups[0].rules[0].annotations (line 4): template of \"a\": missing value")
        fails("- name: a", "groups[1] (line 4): group name \"a\" is used twice in this file")
    }
}
