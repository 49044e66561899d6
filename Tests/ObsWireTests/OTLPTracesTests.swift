import ObsCore
import ObsWire
import XCTest

final class OTLPTracesTests: XCTestCase {
    private func decode(_ json: String) throws -> Decoded<SpanBatch> {
        try OTLPTraces.decodeJSON(Array(json.utf8), receivedAtNanos: receivedAt, limits: Limits())
    }

    /// A request of one span with valid ids and the given further members.
    private func span(_ members: String, resource: String = "{}") -> String {
        let ids = #""traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"a1a2a3a4a5a6a7a8""#
        return #"{"resourceSpans":[{"resource":\#(resource),"scopeSpans":[{"spans":[{\#(ids)\#(members.isEmpty ? "" : ",")\#(members)}]}]}]}"#
    }

    private func one(_ members: String, resource: String = "{}") throws -> String {
        let decoded = try decode(span(members, resource: resource))
        XCTAssertEqual(decoded.rejected, 0)
        return try XCTUnwrap(spanTexts(decoded.batch).first)
    }

    func testEveryField() throws {
        let body = #"""
            {"resourceSpans":[{"schemaUrl":"https://r","unknown":{"a":[1]},
              "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"front"}},{"key":"host.cpu","value":{"intValue":"8"}}]},
              "scopeSpans":[{"schemaUrl":"https://s","scope":{"name":"lib","version":"1.2","attributes":[{"key":"a","value":{"boolValue":true}}],"droppedAttributesCount":4},
                "spans":[{"traceId":"0102030405060708090A0B0C0D0E0F10","spanId":"a1a2a3a4a5a6a7a8","parentSpanId":"00000000000000b1","traceState":"x=y","name":"GET /",
                  "kind":2,"startTimeUnixNano":"1000","endTimeUnixNano":2500,"flags":257,
                  "attributes":[{"key":"s","value":{"stringValue":"é"}},{"key":"b","value":{"boolValue":false}},{"key":"i","value":{"intValue":"-9223372036854775808"}},
                    {"key":"j","value":{"intValue":7}},{"key":"d","value":{"doubleValue":1.5}},{"key":"n","value":{"doubleValue":"NaN"}},{"key":"y","value":{"bytesValue":"AQI="}},{"key":"e","value":{}},
                    {"key":"l","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x\"y"},{"arrayValue":{"values":[{"boolValue":true},{}]}},{"bytesValue":"AQI="}]}}},
                    {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":0.5}},{"key":"","value":{"kvlistValue":{}}}]}}}],
                  "droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,
                  "events":[{"timeUnixNano":"1500","name":"exception","attributes":[{"key":"t","value":{"stringValue":"E"}}],"droppedAttributesCount":9},{"timeUnixNano":"1600"}],
                  "links":[{"traceId":"ffffffffffffffffffffffffffffffff","spanId":"00000000000000c1","traceState":"l","attributes":[{"key":"r","value":{"intValue":"1"}}],"droppedAttributesCount":5,"flags":1}],
                  "status":{"code":2,"message":"broken"}}]}]}]}
            """#
        XCTAssertEqual(
            spanTexts(try decode(body).batch),
            [
                #"0102030405060708090a0b0c0d0e0f10 a1a2a3a4a5a6a7a8 parent=00000000000000b1 name=GET / kind=server start=1000 duration=1500 status=error message=broken state=x=y flags=257"#
                    + #" dropped=(attributes: 1, events: 2, links: 3) attributes=[s="é" b=false i=-9223372036854775808 j=7 d=1.5d n=nand y=bAQI= e="""#
                    + #" l=[1,"x\"y",[true,null],"AQI="] m={"k":0.5,"":{}}]"#
                    + #" event(1500 exception [t="E"] 9) event(1600  [] 0) link(ffffffffffffffffffffffffffffffff 00000000000000c1 l [r=1] 5 1)"#
                    + #" service=front resource=[service.name="front" host.cpu=8]"#
                    + #" scope=[name="lib" version="1.2" schema_url="https://s" resource_schema_url="https://r" dropped_attributes_count=4 attr.a=true]"#
            ])
    }

    func testEmptyRequests() throws {
        for body in [
            "{}", #"{"resourceSpans":null}"#, #"{"resourceSpans":[]}"#, #"{"resourceSpans":[{}]}"#, #"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#,
        ] {
            let decoded = try decode(body)
            XCTAssertTrue(decoded.batch.isEmpty)
            XCTAssertEqual(decoded.rejected, 0)
        }
        XCTAssertTrue(try OTLPTraces.decodeProtobuf([], receivedAtNanos: receivedAt, limits: Limits()).batch.isEmpty)
    }

    func testTimes() throws {
        let cases: [(String, String)] = [
            (#""startTimeUnixNano":"5","endTimeUnixNano":"3""#, "start=5 duration=0"),
            (#""startTimeUnixNano":"5""#, "start=5 duration=0"),
            (#""endTimeUnixNano":"9""#, "start=9 duration=0"),
            ("", "start=\(receivedAt) duration=0"),
            (#""startTimeUnixNano":"18446744073709551615","endTimeUnixNano":"18446744073709551615""#, "start=9223372036854775807 duration=0"),
            (#""startTimeUnixNano":1e18,"endTimeUnixNano":"1000000000000000007""#, "start=1000000000000000000 duration=7"),
        ]
        for (members, expected) in cases { XCTAssertTrue(try one(members).contains(" \(expected) "), members) }
    }

    func testEnums() throws {
        let cases: [(String, String)] = [
            (#""kind":"SPAN_KIND_CLIENT""#, "kind=client"), (#""kind":5"#, "kind=consumer"), (#""kind":6"#, "kind=unspecified"),
            (#""kind":-1"#, "kind=unspecified"),
            (#""kind":null"#, "kind=unspecified"), (#""status":{"code":"STATUS_CODE_OK"}"#, "status=ok"), (#""status":{"code":7}"#, "status=unset"),
            (#""status":null"#, "status=unset"),
        ]
        for (members, expected) in cases { XCTAssertTrue(try one(members).contains(" \(expected) "), members) }
    }

    func testServiceName() throws {
        XCTAssertTrue(try one("").contains("service=unknown_service resource=[]"))
        XCTAssertTrue(try one("", resource: #"{"attributes":[{"key":"a","value":{"intValue":1}}]}"#).contains("service=unknown_service resource=[a=1]"))
        XCTAssertTrue(try one("", resource: #"{"attributes":[{"key":"service.name","value":{"stringValue":""}}]}"#).contains("service=unknown_service"))
    }

    func testRepeatedKeysKeepTheFirst() throws {
        let pairs = [("a", "1"), ("b", "2"), ("a", "3"), ("", "9")].map { #"{"key":"\#($0.0)","value":{"stringValue":"\#($0.1)"}}"# }
        XCTAssertTrue(try one(#""attributes":[\#(pairs.joined(separator: ","))]"#).contains(#"attributes=[a="1" b="2"]"#))
    }

    func testManyAttributesKeepTheFirstToo() throws {
        let pairs = (0..<500).map { #"{"key":"k\#($0 % 200)","value":{"intValue":\#($0)}}"# }
        let batch = try decode(span(#""attributes":[\#(pairs.joined(separator: ","))]"#)).batch
        let list = attributeList(batch.bytes[batch.attributes[0].range])
        XCTAssertEqual(list.map(\.key), (0..<200).map { "k\($0)" })
        XCTAssertEqual(list.map(\.value), (0..<200).map { .int($0) })
    }

    func testSpansWithoutValidIDsAreRefusedAlone() throws {
        let trace = #""traceId":"0102030405060708090a0b0c0d0e0f10""#
        let spanID = #""spanId":"a1a2a3a4a5a6a7a8""#
        let bad = [
            spanID, trace, #"\#(trace),"spanId":"0000000000000000""#, #""traceId":"00000000000000000000000000000000",\#(spanID)"#,
            #"\#(trace),"spanId":"a1a2""#,
            #""traceId":"AQIDBAUGBwgJCgsMDQ4PEA==",\#(spanID)"#, #""traceId":"zz02030405060708090a0b0c0d0e0f10",\#(spanID)"#,
            #""traceId":"0102030405060708090a0b0c0d0e0f1",\#(spanID)"#,
        ]
        for (index, members) in bad.enumerated() {
            let decoded = try decode(
                #"{"resourceSpans":[{"scopeSpans":[{"spans":[{\#(members),"name":"bad","attributes":[{"key":"a","value":{"intValue":1}}]},{\#(trace),\#(spanID),"name":"good"}]}]}]}"#
            )
            XCTAssertEqual(decoded.rejected, 1, members)
            XCTAssertEqual(decoded.batch.count, 1, members)
            XCTAssertTrue(spanTexts(decoded.batch)[0].contains("name=good"))
            XCTAssertTrue(
                decoded.reason?.contains(index == 0 || index == 3 || index > 4 ? "trace_id" : "span_id") ?? false, "\(members): \(decoded.reason ?? "")")
        }
    }

    func testEqualResourcesAndScopesShareAnEntry() throws {
        let ids = #""traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"a1a2a3a4a5a6a7a8""#
        func group(_ service: String, _ scope: String) -> String {
            #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\#(service)"}}]},"scopeSpans":[{"scope":{"name":"\#(scope)"},"spans":[{\#(ids)},{\#(ids)}]}]}"#
        }
        let groups = [group("a", "x"), group("b", "x"), group("a", "y"), group("a", "x")]
        let batch = try decode(#"{"resourceSpans":[\#(groups.joined(separator: ","))]}"#).batch
        XCTAssertEqual(batch.resources.count, 3)
        XCTAssertEqual(batch.services.count, 3)
        XCTAssertEqual(batch.scopes.count, 3)
        XCTAssertEqual(batch.resource, [1, 1, 2, 2, 1, 1, 1, 1])
        XCTAssertEqual(batch.scope, [1, 1, 1, 1, 2, 2, 1, 1])
    }

    func testRefuses() {
        let deep = String(repeating: #"{"arrayValue":{"values":["#, count: 70) + String(repeating: "]}}", count: 70)
        let cases: [(String, ObsError.Code)] = [
            ("", .badInput), ("[]", .badInput), ("{", .badInput), (#"{"resourceSpans":{}}"#, .badInput), (#"{"resourceSpans":[1]}"#, .badInput),
            (span(#""name":1"#), .badInput),
            (span(#""startTimeUnixNano":"x""#), .badInput), (span(#""startTimeUnixNano":1.5"#), .badInput),
            (span(#""attributes":[{"key":"a","value":\#(deep)}]"#), .badInput),
        ]
        for (body, code) in cases {
            XCTAssertThrowsError(try decode(body), body) { XCTAssertEqual(($0 as? ObsError)?.code, code, body) }
        }
    }

    func testNestingUpToTheLimit() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: #"{"kvlistValue":{"values":[{"key":"k","value":"#, count: depth) + #"{"intValue":1}"# + String(repeating: "}]}}", count: depth)
        }
        XCTAssertNoThrow(try decode(span(#""attributes":[{"key":"a","value":\#(nested(Limits().nestingMax))}]"#)))
        XCTAssertThrowsError(try decode(span(#""attributes":[{"key":"a","value":\#(nested(Limits().nestingMax + 1))}]"#)))
    }
}
