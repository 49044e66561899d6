import ObsCore
import ObsWire
import XCTest

final class LevelDetectionTests: XCTestCase {
    private func level(_ line: String) -> String {
        Array(line.utf8).withUnsafeBytes { Severity.word(LevelDetection.severity(line: $0)) }
    }

    func testLines() {
        let cases: [(String, String)] = [
            (#"{"level":"error","msg":"info"}"#, "error"), (#"{"msg":"x","log":{"level":"WARN"}}"#, "warn"), (#"{"a":{"b":{"level":"error"}}}"#, "unknown"),
            (#"{"severity":"CRITICAL"}"#, "critical"), (#"{"SeverityText":"Information"}"#, "info"), (#"{"level":50}"#, "error"),
            (#"{"msg":"fatal error"}"#, "unknown"),
            (#"{"level":"warn","cut"#, "warn"), (#"{not json but an ERROR}"#, "error"),
            ("level=debug msg=\"an error\"", "debug"), ("ts=1 lvl=\"WRN\" x=y", "warn"), ("a=b c=d", "unknown"), ("x=1 it was an error", "error"),
            ("2024-01-01 INFO no error here", "info"), ("[WARN] careful", "warn"), ("panic: Fatal", "fatal"), ("ERR: x", "error"),
            ("terror mirrors", "unknown"), ("TRACE", "trace"),
            ("", "unknown"), ("   ", "unknown"), ("an informational note", "unknown"),
        ]
        for (line, expected) in cases { XCTAssertEqual(level(line), expected, line) }
        XCTAssertEqual(level(String(repeating: "x ", count: 5 << 20) + "error"), "unknown", "only the head of a line is read")
    }

    func testFields() {
        func field(_ key: String, _ value: String) -> UInt8? {
            Array(key.utf8).withUnsafeBytes { key in Array(value.utf8).withUnsafeBytes { LevelDetection.severity(attributeKey: key, value: $0) } }
        }
        for key in ["level", "LEVEL", "Level", "log.level", "severity", "SEVERITY", "SeverityText", "lvl", "LVL", "severity_text", "Severity_Text"] {
            XCTAssertEqual(field(key, "Warning"), 13, key)
        }
        XCTAssertNil(field("levels", "info"))
        XCTAssertEqual(field("level", "unheard of"), 0)
        XCTAssertEqual(Labels([("a", "b"), ("severity", "fatal")]).bytes.withUnsafeBytes { LevelDetection.severity(labels: $0) }, 21)
    }

    func testServiceNames() {
        let cases: [([(String, String)], String)] = [
            ([], "unknown_service"), ([("x", "y")], "unknown_service"), ([("job", "j"), ("container", "c")], "c"), ([("app", "a"), ("service", "s")], "s"),
            ([("service_name", "n"), ("service", "s")], "n"), ([("k8s_job_name", "k")], "k"),
        ]
        for (pairs, expected) in cases {
            let labels = Labels(pairs.map { (name: $0.0, value: $0.1) })
            XCTAssertEqual(String(decoding: ServiceName.find(in: labels), as: UTF8.self), expected)
            XCTAssertEqual(ServiceName.adding(to: labels)["service_name"], expected)
        }
    }
}
