import ObsCore
import ObsWire
import XCTest

final class OTLPLogsTests: XCTestCase {
    private func decode(_ json: String) throws -> LogBatch {
        try OTLPLogs.decodeJSON(Array(json.utf8), receivedAtNanos: receivedAt, limits: Limits()).batch
    }

    private func attributes(_ pairs: [(String, String)]) -> String {
        "[" + pairs.map { #"{"key":"\#($0.0)","value":\#($0.1)}"# }.joined(separator: ",") + "]"
    }

    private func record(_ members: String, resource: [(String, String)] = []) throws -> LogBatch {
        try decode(#"{"resourceLogs":[{"resource":{"attributes":\#(attributes(resource))},"scopeLogs":[{"logRecords":[{\#(members)}]}]}]}"#)
    }

    private func line(_ body: String) throws -> String {
        let batch = try record(#""body":\#(body)"#)
        return batch.bytes.string(batch.line[0])
    }

    func testEveryField() throws {
        let body = #"""
            {"resourceLogs":[{"schemaUrl":"r","resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"k8s.pod.name","value":{"stringValue":"p-1"}},
                {"key":"host.cpu","value":{"intValue":8}},{"key":"os","value":{"kvlistValue":{"values":[{"key":"type","value":{"stringValue":"linux"}}]}}}]},
              "scopeLogs":[{"scope":{"name":"lib","version":"2"},"logRecords":[
                {"timeUnixNano":"10","observedTimeUnixNano":"12","severityNumber":17,"severityText":"Error","body":{"stringValue":"it broke"},"droppedAttributesCount":3,"flags":1,
                 "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"a1a2a3a4a5a6a7a8","eventName":"ev",
                 "attributes":[{"key":"user.id","value":{"intValue":"5"}},{"key":"http","value":{"kvlistValue":{"values":[{"key":"code","value":{"intValue":500}},{"key":"a","value":{"kvlistValue":{"values":[{"key":"b","value":{"boolValue":true}}]}}}]}}}]}]}]}]}
            """#
        XCTAssertEqual(
            logTexts(try decode(body)),
            [
                #"{k8s_pod_name="p-1", service_name="shop"} 10 severity=17 line=it broke attributes=[user.id=5 http.code=500 http.a.b=true observed_timestamp=12 severity_number=17"#
                    + #" severity_text="Error" dropped_attributes_count=3 flags=1 event_name="ev"] trace=0102030405060708090a0b0c0d0e0f10 span=a1a2a3a4a5a6a7a8"#
                    + #" resource=[host.cpu=8 os.type="linux"] scope=[name="lib" version="2" resource_schema_url="r"]"#
            ])
    }

    func testEmptyRequests() throws {
        for body in ["{}", #"{"resourceLogs":null}"#, #"{"resourceLogs":[{"resource":{},"scopeLogs":[{}]}]}"#] { XCTAssertTrue(try decode(body).isEmpty) }
    }

    func testLines() throws {
        let cases: [(String, String)] = [
            (#"{"stringValue":"a\nb"}"#, "a\nb"), ("{}", ""), ("null", ""), (#"{"intValue":"-3"}"#, "-3"), (#"{"doubleValue":2.5}"#, "2.5"),
            (#"{"boolValue":true}"#, "true"),
            (#"{"bytesValue":"AQI="}"#, "AQI="), (#"{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}}]}}"#, #"{"a":1}"#),
            (#"{"arrayValue":{"values":[{"stringValue":"x"},{}]}}"#, #"["x",null]"#), (#"{"arrayValue":{}}"#, "[]"),
        ]
        for (body, expected) in cases { XCTAssertEqual(try line(body), expected) }
        XCTAssertEqual(try record("").line, [.empty])
    }

    func testTimes() throws {
        XCTAssertEqual(try record(#""timeUnixNano":"5","observedTimeUnixNano":"7""#).timeNanos, [5])
        let observed = try record(#""observedTimeUnixNano":"7""#)
        XCTAssertEqual(observed.timeNanos, [7])
        XCTAssertEqual(observed.attributes, [.empty], "the observed time is metadata only beside a time")
        XCTAssertEqual(try record("").timeNanos, [receivedAt])
    }

    func testSeverity() throws {
        let cases: [(String, UInt8)] = [
            (#""severityNumber":9,"severityText":"ERROR""#, 9), (#""severityText":"WARN""#, 13), (#""severityNumber":"SEVERITY_NUMBER_ERROR3""#, 19),
            (#""severityNumber":25"#, 0),
            (#""attributes":[{"key":"level","value":{"stringValue":"debug"}}],"body":{"stringValue":"level=error"}"#, 5),
            (#""body":{"stringValue":"level=error msg=x"}"#, 17), (#""body":{"kvlistValue":{"values":[{"key":"level","value":{"stringValue":"warn"}}]}}"#, 13),
            ("", 0),
        ]
        for (members, severity) in cases { XCTAssertEqual(try record(members).severity, [severity], members) }
    }

    func testIDsOfWrongLengthAreNone() throws {
        let batch = try record(#""traceId":"0102","spanId":"","body":{"stringValue":"kept"}"#)
        XCTAssertEqual(batch.traceID, [.none])
        XCTAssertEqual(batch.spanID, [0])
    }

    func testStreamLabels() throws {
        let cases: [([(String, String)], String)] = [
            ([], #"{service_name="unknown_service"}"#),
            ([("app", #"{"stringValue":"a"}"#), ("container.name", #"{"stringValue":"c"}"#)], #"{container_name="c", service_name="a"}"#),
            ([("k8s.job.name", #"{"stringValue":"j"}"#)], #"{k8s_job_name="j", service_name="j"}"#),
            (
                [("service.name", #"{"stringValue":""}"#), ("service.namespace", #"{"stringValue":"n"}"#)],
                #"{service_name="unknown_service", service_namespace="n"}"#
            ),
            (
                [("deployment.environment", #"{"stringValue":"old"}"#), ("deployment.environment.name", #"{"intValue":7}"#)],
                #"{deployment_environment="old", deployment_environment_name="7", service_name="unknown_service"}"#
            ),
            ([("host.name", #"{"stringValue":"h"}"#)], #"{service_name="unknown_service"}"#),
        ]
        for (resource, expected) in cases {
            let batch = try record("", resource: resource)
            XCTAssertEqual(batch.labels(ofStream: batch.stream[0]).description, expected)
        }
    }

    func testResourcesOfOneStreamShareIt() throws {
        func group(_ host: String) -> String {
            #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},{"key":"host.name","value":{"stringValue":"\#(host)"}}]},"scopeLogs":[{"logRecords":[{}]}]}"#
        }
        let batch = try decode(#"{"resourceLogs":[\#([group("a"), group("b"), group("a")].joined(separator: ","))]}"#)
        XCTAssertEqual(batch.streams.count, 1)
        XCTAssertEqual(batch.stream, [0, 0, 0])
        XCTAssertEqual(batch.resource, [1, 2, 1])
    }
}
