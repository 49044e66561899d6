import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class TracesAPITests: XCTestCase {
    private let known = "0102030405060708090a0b0c0d0e0f10"
    private let unknown = "00000000000000000000000000000abc"

    /// One trace: `front` asks `back`, which fails.
    private func filled() throws -> API {
        let api = try API()
        func spans(_ service: String, _ span: String) -> String {
            #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\#(service)"}}]},"scopeSpans":[{"spans":[{"traceId":"\#(known)",\#(span)}]}]}"#
        }
        let front = #""spanId":"a1a2a3a4a5a6a7a8","name":"GET /","kind":2,"startTimeUnixNano":"1699999990000000000","endTimeUnixNano":"1699999990016000000""#
        let back =
            #""spanId":"b1b2b3b4b5b6b7b8","parentSpanId":"a1a2a3a4a5a6a7a8","name":"SELECT","kind":3,"startTimeUnixNano":"1699999990001000000","endTimeUnixNano":"1699999990011000000","status":{"code":2,"message":"broken"},"attributes":[{"key":"rows","value":{"intValue":"7"}}]"#
        let body = #"{"resourceSpans":[\#(spans("front", front)),\#(spans("back", back))]}"#
        assertAnswer(api.post("/v1/traces", "application/json", body), 200, "{}")
        return api
    }

    // MARK: Tempo

    func testUnknownTrace() throws {
        let api = try filled()
        for prefix in ["", "/tempo"] {
            assertAnswer(api.get("\(prefix)/api/traces/\(unknown)"), 404, "")
            assertAnswer(api.get("\(prefix)/api/v2/traces/\(unknown)"), 200, #"{"trace":{},"metrics":{}}"#)
        }
        let protobuf = api.get("/api/v2/traces/\(unknown)", [("Accept", "application/protobuf")])
        XCTAssertEqual(protobuf.status, 200)
        XCTAssertEqual(protobuf.type, "application/protobuf")
        XCTAssertEqual(api.get("/api/traces/\(unknown)", [("Accept", "application/protobuf")]).status, 404)
    }

    func testTraceByID() throws {
        let api = try filled()
        let first = api.get("/api/traces/\(known.uppercased())")
        XCTAssertEqual(first.status, 200)
        XCTAssert(first.text.hasPrefix(#"{"batches":[{"resource":"#), first.text)
        // Ids are base64 here, kinds are names.
        XCTAssert(first.text.contains(base64([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])), first.text)
        XCTAssert(first.text.contains("SPAN_KIND_SERVER") && first.text.contains("STATUS_CODE_ERROR"), first.text)
        XCTAssert(api.get("/api/v2/traces/\(known)").text.hasPrefix(#"{"trace":{"resourceSpans":[{"resource":"#))
        let protobuf = api.get("/api/v2/traces/\(known)", [("Accept", "application/protobuf")])
        XCTAssertEqual(protobuf.type, "application/protobuf")
        XCTAssertEqual(protobuf.body.first, 0x0a)
    }

    func testBadTraceIDs() throws {
        let api = try filled()
        for path in ["/api/traces/", "/api/v2/traces/"] {
            assertAnswer(api.get(path + "xyz"), 400, "trace IDs can only contain hex characters: \"xyz\"\n")
            XCTAssertEqual(api.get(path + String(repeating: "a", count: 33)).status, 400)
        }
    }

    func testSearch() throws {
        let api = try filled()
        let found = api.get("/api/search?q=\(encoded("{ status = error }"))").text
        XCTAssert(
            found.hasPrefix(
                #"{"traces":[{"traceID":"\#(known)","rootServiceName":"front","rootTraceName":"GET /","startTimeUnixNano":"1699999990000000000","durationMs":16,"spanSet":{"spans":[{"spanID":"b1b2b3b4b5b6b7b8""#
            ), found)
        XCTAssert(found.contains(#""serviceStats":{"back":{"spanCount":1,"errorCount":1},"front":{"spanCount":1}}"#), found)
        let none = api.get("/api/search?q=\(encoded("{ name = \"none\" }"))").text
        XCTAssert(none.hasPrefix(#"{"traces":[],"metrics":{"#), none)
        // Tag searches have no span sets.
        let tagged = api.get("/api/search?tags=\(encoded("rows=7 name=\"sel\""))&minDuration=10ms").text
        XCTAssert(tagged.contains(known) && !tagged.contains("spanSet"), tagged)
        XCTAssertFalse(api.get("/api/search?tags=rows%3D8").text.contains(known))
        XCTAssertFalse(api.get("/api/search?q=%7B%7D&start=1&end=2").text.contains(known))
        XCTAssert(api.get("/api/search?q=%7B%7D&start=1699999990&end=1699999991").text.contains(known))
    }

    func testTags() throws {
        let api = try filled()
        assertAnswer(api.get("/api/v2/search/tags?scope=span"), 200, #"{"scopes":[{"name":"span","tags":["rows"]}],"metrics":{}}"#)
        XCTAssert(api.get("/api/v2/search/tags").text.contains(#"{"name":"intrinsic","tags":["#))
        assertAnswer(
            api.get("/api/v2/search/tag/resource.service.name/values"), 200,
            #"{"tagValues":[{"type":"string","value":"back"},{"type":"string","value":"front"}],"metrics":{}}"#)
        assertAnswer(api.get("/api/search/tag/service.name/values"), 200, #"{"tagValues":["back","front"],"metrics":{}}"#)
        // Grafana's filters are often unfinished.
        XCTAssertEqual(api.get("/api/v2/search/tag/.rows/values?q=%7Bname%3D").status, 200)
        XCTAssertEqual(api.get("/api/v2/search/tags?scope=moon").status, 400)
    }

    func testTempoErrorsArePlainText() throws {
        let api = try filled()
        for target in ["q=%7B", "q=%7B%7D&limit=0", "q=%7B%7D&limit=-1", "q=%7B%7D&spss=-1", "q=%7B%7D&start=2&end=1", "tags=x", "start=x"] {
            let response = api.get("/api/search?" + target)
            XCTAssertEqual(response.status, 400, target)
            XCTAssertEqual(response.type, "text/plain; charset=utf-8", target)
        }
        XCTAssertEqual(api.get("/api/v2/search/tags?limit=-1").status, 400)
        XCTAssertEqual(api.get("/api/v2/search/tag/name/values?limit=-1").status, 400)
    }

    func testLogfmtTags() throws {
        func check(_ text: String, _ expected: [String], line: UInt = #line) throws {
            XCTAssertEqual(try logfmtTags(text).map { "\($0.key)→\($0.value)" }, expected, line: line)
        }
        try check("", [])
        try check("a=b  c=d", ["a→b", "c→d"])
        try check(#"a="b c" d="e\"f" g="open"#, ["a→b c", "d→e\"f", "g→open"])
        try check("a= b=c=d", ["a→", "b→c=d"])
        XCTAssertThrowsError(try logfmtTags("a=b c"))
    }

    // MARK: Jaeger

    func testJaegerLists() throws {
        let api = try filled()
        func check(_ target: String, _ total: Int, _ data: String, line: UInt = #line) {
            assertAnswer(api.get("/jaeger/api" + target), 200, #"{"data":\#(data),"total":\#(total),"limit":0,"offset":0,"errors":null}"#, line: line)
        }
        check("/services", 2, #"["back","front"]"#)
        check("/services/front/operations", 1, #"["GET /"]"#)
        check("/services/none/operations", 0, "[]")
        check("/operations?service=back", 1, #"[{"name":"SELECT","spanKind":"client"}]"#)
        check("/operations?service=back&spanKind=server", 0, "[]")
    }

    func testJaegerTraces() throws {
        let api = try filled()
        let one = api.get("/jaeger/api/traces/\(known)").text
        XCTAssert(one.hasPrefix(#"{"data":[{"traceID":"\#(known)","spans":[{"traceID":"\#(known)","spanID":""#), one)
        let found = [
            "service=front", "service=back&operation=SELECT", "service=back&tags=\(encoded(#"{"rows":"7"}"#))", "service=back&tag=rows:7",
            "service=back&minDuration=10ms&maxDuration=10ms", "traceID=\(known)", "service=front&start=1699999990000000&end=1699999990000000",
        ]
        for target in found { XCTAssert(api.get("/jaeger/api/traces?" + target).text.contains(known), target) }
        let missed = [
            "service=none", "service=back&operation=none", "service=back&tag=rows:8", "service=back&minDuration=11ms", "service=front&start=1&end=2",
        ]
        for target in missed {
            assertAnswer(api.get("/jaeger/api/traces?" + target), 200, #"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#)
        }
    }

    func testJaegerErrors() throws {
        let api = try filled()
        func check(_ target: String, _ status: Int, _ message: String, line: UInt = #line) {
            assertAnswer(
                api.get("/jaeger/api" + target), status, #"{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":\#(status),"msg":"\#(message)"}]}"#,
                line: line)
        }
        check("/traces/\(unknown)", 404, "trace not found")
        check("/traces/xyz", 400, #"trace IDs can only contain hex characters: \"xyz\""#)
        check("/traces", 400, #"invalid parameter \"service\": missing"#)
        check("/operations", 400, #"invalid parameter \"service\": missing"#)
        check("/traces?service=a&limit=-1", 400, #"invalid parameter \"limit\": limit must be non-negative"#)
        check("/traces?service=a&minDuration=x", 400, #"invalid parameter \"minDuration\": cannot parse \"x\" to a valid duration"#)
        check("/traces?service=a&tag=x", 400, #"invalid parameter \"tag\": \"x\" is not key:value"#)
    }
}
