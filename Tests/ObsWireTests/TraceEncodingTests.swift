import CProtobufs
import ObsCore
import ObsWire
import XCTest

final class TraceEncodingTests: XCTestCase {
    private let trace = "0102030405060708090a0b0c0d0e0f10"

    private func decode(_ json: String) throws -> SpanBatch {
        try OTLPTraces.decodeJSON(Array(json.utf8), receivedAtNanos: receivedAt, limits: Limits()).batch
    }

    /// Two spans of two services, all fields in the first.
    private func sample() throws -> SpanBatch {
        try decode(
            #"""
            {"resourceSpans":[{"schemaUrl":"r","resource":{"attributes":[{"key":"service.name","value":{"stringValue":"front"}},{"key":"cpus","value":{"intValue":"8"}}]},
              "scopeSpans":[{"schemaUrl":"s","scope":{"name":"lib","version":"2","attributes":[{"key":"a","value":{"boolValue":true}}]},
                "spans":[{"traceId":"\#(trace)","spanId":"00000000000000a1","parentSpanId":"00000000000000b1","traceState":"x=y","name":"GET /","kind":2,
                  "startTimeUnixNano":"1700000000000001000","endTimeUnixNano":"1700000000000004500","flags":257,
                  "attributes":[{"key":"s","value":{"stringValue":"v"}},{"key":"d","value":{"doubleValue":1.5}},{"key":"y","value":{"bytesValue":"AQI="}},
                    {"key":"l","value":{"arrayValue":{"values":[{"intValue":"1"},{"doubleValue":0.5},{"stringValue":"x"},{"boolValue":true},{}]}}},
                    {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{}}}]}}}],
                  "droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,
                  "events":[{"timeUnixNano":"1700000000000002000","name":"exception","attributes":[{"key":"t","value":{"stringValue":"E"}}]}],
                  "links":[{"traceId":"ffffffffffffffffffffffffffffffff","spanId":"00000000000000c1","flags":1}],
                  "status":{"code":2,"message":"broken"}}]}]},
             {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"back"}}]},
              "scopeSpans":[{"spans":[{"traceId":"\#(trace)","spanId":"00000000000000b1","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000009000"}]}]}]}
            """#)
    }

    private let front =
        #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"front"}},{"key":"cpus","value":{"intValue":"8"}}]},"scopeSpans":["#
        + #"{"scope":{"name":"lib","version":"2","attributes":[{"key":"a","value":{"boolValue":true}}]},"spans":[{"traceId":"AQIDBAUGBwgJCgsMDQ4PEA==","spanId":"AAAAAAAAAKE=","parentSpanId":"AAAAAAAAALE=","#
        + #""traceState":"x=y","flags":257,"name":"GET /","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1700000000000001000","endTimeUnixNano":"1700000000000004500","#
        + #""attributes":[{"key":"s","value":{"stringValue":"v"}},{"key":"d","value":{"doubleValue":1.5}},{"key":"y","value":{"bytesValue":"AQI="}},"#
        + #"{"key":"l","value":{"arrayValue":{"values":[{"intValue":"1"},{"doubleValue":0.5},{"stringValue":"x"},{"boolValue":true},{}]}}},"#
        + #"{"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[]}}}]}}}],"droppedAttributesCount":1,"#
        + #""events":[{"timeUnixNano":"1700000000000002000","name":"exception","attributes":[{"key":"t","value":{"stringValue":"E"}}]}],"droppedEventsCount":2,"#
        + #""links":[{"traceId":"/////////////////////w==","spanId":"AAAAAAAAAME=","flags":1}],"droppedLinksCount":3,"status":{"message":"broken","code":"STATUS_CODE_ERROR"}}],"schemaUrl":"s"}],"schemaUrl":"r"}"#
    private let back =
        #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"back"}}]},"scopeSpans":[{"scope":{},"spans":[{"traceId":"AQIDBAUGBwgJCgsMDQ4PEA==","spanId":"AAAAAAAAALE=","#
        + #""startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000009000","status":{}}]}]}"#

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    func testTempoJSON() throws {
        let batch = try sample()
        XCTAssertEqual(text(TempoEncoding.traceJSON(batch, rows: [0, 1])), #"{"batches":[\#(front),\#(back)]}"#)
        XCTAssertEqual(text(TempoEncoding.traceByIDJSON(batch, rows: [1])), #"{"trace":{"resourceSpans":[\#(back)]},"metrics":{}}"#)
        XCTAssertEqual(text(TempoEncoding.traceByIDJSON(batch, rows: [])), #"{"trace":{},"metrics":{}}"#)
        XCTAssertEqual(
            text(TempoEncoding.traceByIDJSON(batch, rows: [1], partial: "too many spans")),
            #"{"trace":{"resourceSpans":[\#(back)]},"metrics":{},"status":"PARTIAL","message":"too many spans"}"#)
    }

    func testRowsAreGroupedByResourceAndScope() throws {
        let ids = #""traceId":"\#(trace)","spanId":"00000000000000a1""#
        func group(_ service: String, _ scopes: [String]) -> String {
            let list = scopes.map { #"{"scope":{"name":"\#($0)"},"spans":[{\#(ids)}]}"# }.joined(separator: ",")
            return #"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\#(service)"}}]},"scopeSpans":[\#(list)]}"#
        }
        let batch = try decode(#"{"resourceSpans":[\#([group("a", ["x", "y"]), group("b", ["x"]), group("a", ["x"])].joined(separator: ","))]}"#)
        let again = try OTLPTraces.decodeProtobuf(TempoEncoding.traceProtobuf(batch, rows: [0, 1, 2, 3]), receivedAtNanos: 0, limits: Limits()).batch
        XCTAssertEqual(again.resource, [1, 1, 1, 2], "rows 0 and 3 lie in one group")
        XCTAssertEqual(again.scope, [1, 1, 2, 1])
    }

    /// What we answer with is what we would take in: OTLP, Tempo's protobuf and Jaeger v3's JSON are one layout.
    func testProtobufAndOTLPJSONComeBackEqual() throws {
        let batch = try sample()
        let expected = spanTexts(batch)
        let protobuf = TempoEncoding.traceProtobuf(batch, rows: [0, 1])
        XCTAssertEqual(spanTexts(try OTLPTraces.decodeProtobuf(protobuf, receivedAtNanos: 0, limits: Limits()).batch), expected)
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("resourceSpans")
        JaegerEncoding.writeResourceSpans(batch, rows: [0, 1], to: &writer)
        writer.endObject()
        XCTAssertTrue(text(writer.bytes).contains(#""kind":2"#))
        XCTAssertTrue(text(writer.bytes).contains(#""traceId":"\#(trace)""#))
        XCTAssertEqual(spanTexts(try decode(text(writer.bytes))), expected)
    }

    func testRandomSpansComeBackEqual() throws {
        for seed: UInt64 in 1...60 {
            var source = RandomOTLP(random: Seeded(state: seed))
            let batch = try OTLPTraces.decodeProtobuf(source.traces(), receivedAtNanos: receivedAt, limits: Limits()).batch
            let protobuf = TempoEncoding.traceProtobuf(batch, rows: Array(0..<batch.count))
            let again = try OTLPTraces.decodeProtobuf(protobuf, receivedAtNanos: 0, limits: Limits()).batch
            XCTAssertEqual(spanTexts(again).sorted(), spanTexts(batch).sorted(), "seed \(seed)")
            guard let request = obs__export_trace_service_request__unpack(nil, protobuf.count, protobuf) else {
                return XCTFail("protobuf-c refuses seed \(seed)")
            }
            obs__export_trace_service_request__free_unpacked(request, nil)
        }
    }

    func testTraceByIDProtobuf() throws {
        let batch = try sample()
        let whole = TempoEncoding.traceByIDProtobuf(batch, rows: [0, 1])
        let partial = TempoEncoding.traceByIDProtobuf(batch, rows: [0, 1], partial: "cut")
        func fields(_ bytes: [UInt8]) -> [UInt32: [UInt8]] {
            bytes.withUnsafeBytes { all in
                var reader = ProtobufReader(all)
                var result: [UInt32: [UInt8]] = [:]
                while reader.next() {
                    let number = reader.tag.number
                    result[number] = reader.tag == .field(number, .length) ? [UInt8](reader.bytes()) : [UInt8(truncatingIfNeeded: reader.varint())]
                }
                return result
            }
        }
        XCTAssertEqual(fields(whole), [1: TempoEncoding.traceProtobuf(batch, rows: [0, 1]), 2: []])
        XCTAssertEqual(fields(partial), [1: TempoEncoding.traceProtobuf(batch, rows: [0, 1]), 2: [], 3: [1], 4: Array("cut".utf8)])
    }

    func testJaegerTrace() throws {
        var writer = JSONWriter()
        JaegerEncoding.writeTrace(try sample(), rows: [0, 1], to: &writer)
        XCTAssertEqual(
            text(writer.bytes),
            #"{"traceID":"\#(trace)","spans":[{"traceID":"\#(trace)","spanID":"00000000000000a1","flags":1,"operationName":"GET /","references":["#
                + #"{"refType":"CHILD_OF","traceID":"\#(trace)","spanID":"00000000000000b1"},{"refType":"FOLLOWS_FROM","traceID":"ffffffffffffffffffffffffffffffff","spanID":"00000000000000c1"}],"#
                + #""startTime":1700000000000001,"duration":3,"tags":[{"key":"s","type":"string","value":"v"},{"key":"d","type":"float64","value":1.5},{"key":"y","type":"binary","value":"AQI="},"#
                + #"{"key":"l","type":"string","value":"[1,0.5,\"x\",true,null]"},{"key":"m","type":"string","value":"{\"k\":[]}"},{"key":"otel.scope.name","type":"string","value":"lib"},"#
                + #"{"key":"otel.scope.version","type":"string","value":"2"},{"key":"span.kind","type":"string","value":"server"},{"key":"otel.status_code","type":"string","value":"ERROR"},"#
                + #"{"key":"error","type":"bool","value":true},{"key":"otel.status_description","type":"string","value":"broken"},{"key":"w3c.tracestate","type":"string","value":"x=y"}],"#
                + #""logs":[{"timestamp":1700000000000002,"fields":[{"key":"event","type":"string","value":"exception"},{"key":"t","type":"string","value":"E"}]}],"processID":"p1","warnings":null},"#
                + #"{"traceID":"\#(trace)","spanID":"00000000000000b1","operationName":"","references":[],"startTime":1700000000000000,"duration":9,"tags":[],"logs":[],"processID":"p2","warnings":null}],"#
                + #""processes":{"p1":{"serviceName":"front","tags":[{"key":"cpus","type":"int64","value":8}]},"p2":{"serviceName":"back","tags":[]}},"warnings":null}"#
        )
    }
}
