import ObsCore
import ObsYAML
import XCTest

@testable import ObsIngest

final class RelabelingTests: XCTestCase {
    private func rules(_ yaml: String) throws -> [RelabelRule] { try RelabelRule.list(YAMLNode.parse(yaml).sequence()) }

    /// `a=1,b=2` in and out; nil out is dropped.
    private func check(_ yaml: String, _ input: String, _ expected: String?, line: UInt = #line) throws {
        var builder = LabelsBuilder(labels(input))
        let kept = try rules(yaml).apply(to: &builder)
        XCTAssertEqual(kept ? builder.labels() : nil, expected.map(labels), line: line)
    }

    private func labels(_ text: String) -> Labels {
        Labels(
            text.split(separator: ",").map {
                let parts = $0.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return (String(parts[0]), String(parts[1]))
            })
    }

    func testReplace() throws {
        try check("[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]", "a=foo,b=bar", "a=foo,b=bar,d=choo-choo")
        try check("[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}]", "a=foo,b=bar", "a=boobam,b=bar")
        try check("[{source_labels: [a], regex: 'no', target_label: d}]", "a=foo", "a=foo")
        try check("[{source_labels: [a], regex: 'o', target_label: d}]", "a=foo", "a=foo")  // anchored
        try check("[{source_labels: [a], target_label: d}]", "a=foo", "a=foo,d=foo")
        try check("[{source_labels: [missing], target_label: d}]", "a=foo,d=x", "a=foo")  // empty result deletes
        try check("[{target_label: d, replacement: ''}]", "a=foo,d=x", "a=foo")
        try check("[{target_label: d, replacement: fixed}]", "a=foo", "a=foo,d=fixed")
        try check("[{source_labels: [a], regex: '(?P<first>.)(.*)', target_label: '${first}x', replacement: '$2'}]", "a=foo", "a=foo,fx=oo")
        try check("[{source_labels: [a], target_label: d, replacement: '$1x'}]", "a=foo,d=y", "a=foo")  // the group named 1x: nothing
        try check("[{source_labels: [a], target_label: d, replacement: 'a$$b$'}]", "a=foo", "a=foo,d=a$b$")
        try check("[{source_labels: [a], regex: 'x(.)?', target_label: '$1', replacement: y}]", "a=x", "a=x")  // no target name: nothing
        try check("[{source_labels: [a, b], separator: '', target_label: c}]", "a=1,b=2", "a=1,b=2,c=12")
    }

    func testKeepAndDrop() throws {
        try check("[{source_labels: [a], regex: foo, action: keep}]", "a=foo", "a=foo")
        try check("[{source_labels: [a], regex: fo, action: keep}]", "a=foo", nil)
        try check("[{source_labels: [a], regex: 'f.*', action: Drop}]", "a=foo", nil)
        try check("[{source_labels: [b], regex: '', action: drop}]", "a=foo", nil)
        try check("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=1", "a=1,b=1")
        try check("[{source_labels: [a], target_label: b, action: keepequal}]", "a=1,b=2", nil)
        try check("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=1", nil)
        try check("[{source_labels: [a], target_label: b, action: dropequal}]", "a=1,b=2", "a=1,b=2")
    }

    func testNamesAndCase() throws {
        try check("[{regex: 'b.*', action: labeldrop}]", "a=1,b1=2,b2=3", "a=1")
        try check("[{regex: 'b.*', action: labelkeep}]", "a=1,b1=2,b2=3", "b1=2,b2=3")
        try check("[{regex: '__meta_(my.*)', action: labelmap}]", "__meta_my_bar=aa,a=1", "__meta_my_bar=aa,a=1,my_bar=aa")
        try check("[{regex: 'a(.*)', replacement: 'bar_${1}', action: labelmap}]", "a1=x,a2=y", "a1=x,a2=y,bar_1=x,bar_2=y")
        try check("[{source_labels: [a], target_label: b, action: lowercase}]", "a=FoO", "a=FoO,b=foo")
        try check("[{source_labels: [a], target_label: a, action: uppercase}]", "a=FoO", "a=FOO")
    }

    func testHashmodTakesMD5Tail() throws {
        // From Prometheus' own tests.
        try check("[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]", "a=foo,b=bar,c=baz", "a=foo,b=bar,c=baz,d=976")
        try check("[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]", "c=foo\nbar", "c=foo\nbar,d=734")
    }

    func testWrongRulesAreErrors() {
        func fails(_ yaml: String, _ part: String, line: UInt = #line) {
            XCTAssertThrowsError(try rules(yaml), line: line) { XCTAssertTrue("\($0)".contains(part), "\($0)", line: line) }
        }
        fails("[{source_labels: [a], regex: '(', target_label: b}]", "error parsing regexp")
        fails("[{source_labels: [a]}]", "needs a target_label")
        fails("[{source_labels: [a], target_label: b, action: hashmod}]", "modulus")
        fails("[{action: explode}]", "unknown relabel action")
        fails("[{action: labeldrop, regex: a, target_label: b}]", "takes regex only")
        fails("[{action: keepequal, source_labels: [a], target_label: b, regex: x}]", "only")
        fails("[{action: lowercase, source_labels: [a], target_label: b, replacement: x}]", "replacement cannot be set")
        fails("[{target_label: b, replacment: x}]", "[0].replacment (line 1): unknown key")
    }
}
