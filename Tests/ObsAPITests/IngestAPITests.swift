import ObsCompress
import ObsCore
import ObsNet
import ObsTestSupport
import ObsWire
import XCTest

@testable import ObsAPI

final class IngestAPITests: XCTestCase {
    private let json = "application/json"
    private let protobuf = "application/x-protobuf"

    // MARK: Remote write

    func testRemoteWrite() throws {
        let api = try API()
        let body = remoteWrite([([("__name__", "up")], 1_700_000_000, 1)])
        func check(_ headers: [(String, String)], line: UInt = #line) {
            assertAnswer(api.send("POST", "/api/v1/write", headers, body: body), 204, "", line: line)
        }
        check([("Content-Type", protobuf), ("Content-Encoding", "snappy"), ("X-Prometheus-Remote-Write-Version", "0.1.0")])
        check([("Content-Type", protobuf)])
        check([("Content-Type", protobuf + ";proto=prometheus.WriteRequest")])
        check([])
        XCTAssert(api.get("/api/v1/query?query=up").text.contains(#""value":[1700000000,"1"]"#))
    }

    func testRemoteWriteRefusals() throws {
        let api = try API()
        let body = remoteWrite([([("__name__", "up")], 1_700_000_000, 1)])
        func check(_ type: String, _ encoding: String, _ body: [UInt8], _ status: Int, line: UInt = #line) {
            let response = api.send("POST", "/api/v1/write", [("Content-Type", type), ("Content-Encoding", encoding)], body: body)
            XCTAssertEqual(response.status, status, response.text, line: line)
            XCTAssertEqual(response.type, "text/plain; charset=utf-8", line: line)
        }
        check("text/plain", "snappy", body, 415)
        check(json, "snappy", body, 415)
        check(protobuf + ";proto=io.prometheus.write.v3.Request", "snappy", body, 415)
        check(protobuf, "lz4", body, 415)
        check(protobuf, "snappy", Array("not snappy".utf8), 400)
        check(protobuf, "snappy", snappyCompress(Array("not protobuf".utf8)), 400)
        XCTAssertEqual(api.get("/api/v1/write").status, 405)
        // Another value at the same time is no new sample.
        XCTAssertEqual(api.send("POST", "/api/v1/write", [("Content-Type", protobuf)], body: body).status, 204)
        let other = remoteWrite([([("__name__", "up")], 1_700_000_000, 2)])
        let conflict = api.send("POST", "/api/v1/write", [("Content-Type", protobuf)], body: other)
        XCTAssertEqual(conflict.status, 400)
        XCTAssert(conflict.text.hasPrefix("1 samples rejected"), conflict.text)
    }

    func testRemoteWrite2() throws {
        let api = try API()
        let type = protobuf + "; proto=io.prometheus.write.v2.Request"
        func send(_ batch: MetricBatch, encoding: String = "snappy", raw: [UInt8]? = nil) -> HTTPResponse {
            var encoder = RemoteWriteEncoder(.version2)
            let rows = batch.histogramRows()
            for index in batch.series.indices {
                encoder.add(batch, series: index, rows: rows.isEmpty ? [] : rows[index], exemplars: []) { _ in
                    RemoteWriteFamily(type: .gauge, help: Array("Help.".utf8), unit: [])
                }
            }
            return api.send(
                "POST", "/api/v1/write", [("Content-Type", type), ("Content-Encoding", encoding)], body: raw ?? snappyCompress(encoder.message()))
        }
        func written(_ response: HTTPResponse) -> [String] {
            ["Samples", "Histograms", "Exemplars"].map { part in
                response.headers.filter { $0.name == "X-Prometheus-Remote-Write-\(part)-Written" }.map(\.value).joined(separator: "+")
            }
        }
        var batch = MetricBatch()
        for (name, value) in [("up", 1.0), ("down", 2)] { batch.append(Labels([("__name__", name)]), timeMillis: 1_700_000_000_000, value: value) }
        let good = send(batch)
        XCTAssertEqual(good.status, 204, good.text)
        XCTAssertEqual(written(good), ["2", "0", "0"])
        XCTAssert(api.get("/api/v1/query?query=up").text.contains(#""value":[1700000000,"1"]"#))
        XCTAssert(api.get("/api/v1/metadata").text.contains(#""up":[{"type":"gauge","help":"Help.","unit":""}]"#))
        // A bad part is refused and the rest is written: a series without a name, and another value at a time there is one for.
        var bad = MetricBatch()
        bad.append(Labels([("a", "b")]), timeMillis: 1_700_000_001_000, value: 1)
        bad.append(Labels([("__name__", "up")]), timeMillis: 1_700_000_000_000, value: 7)
        bad.append(Labels([("__name__", "up")]), timeMillis: 1_700_000_001_000, value: 1)
        let partly = send(bad)
        XCTAssertEqual(partly.status, 400)
        XCTAssertTrue(partly.text.hasPrefix("2 samples rejected: a series has no metric name"), partly.text)
        XCTAssertEqual(written(partly), ["1", "0", "0"])
        // What is no request at all writes nothing, and says so.
        XCTAssertEqual(send(batch, raw: Array("nonsense".utf8)).status, 400)
        XCTAssertEqual(written(send(batch, raw: Array("nonsense".utf8))), ["0", "0", "0"])
        XCTAssertEqual(send(batch, encoding: "lz4").status, 415)
        XCTAssertEqual(written(send(MetricBatch())), ["0", "0", "0"])
    }

    func testTooLarge() throws {
        var limits = Limits()
        limits.decodedBytesMax = 1000
        let api = try API(limits: limits)
        let bomb = gzipCompress([UInt8](repeating: 0x20, count: 1 << 20))
        let headers = [("Content-Type", json), ("Content-Encoding", "gzip")]
        for path in ["/loki/api/v1/push", "/insert/jsonline", "/v1/logs"] {
            let response = api.send("POST", path, headers, body: bomb)
            XCTAssertEqual(response.status, 413, path)
        }
        XCTAssert(api.send("POST", "/v1/logs", headers, body: bomb).text.hasPrefix(#"{"code":8,"message":""#))
    }

    // MARK: Loki

    func testLokiPush() throws {
        let api = try API()
        let good = #"{"streams":[{"stream":{"app":"a"},"values":[["1699999990000000000","kept"]]}]}"#
        assertAnswer(api.post("/loki/api/v1/push", json, good), 204, "")
        assertAnswer(api.post("/loki/api/v1/push", json + "; charset=utf-8", good), 204, "")
        assertAnswer(
            api.send("POST", "/loki/api/v1/push", [("Content-Type", json), ("Content-Encoding", "gzip")], body: gzipCompress(Array(good.utf8))), 204, "")
        // Protobuf is a snappy block whatever Content-Encoding says.
        XCTAssertEqual(api.send("POST", "/loki/api/v1/push", [("Content-Encoding", "gzip")], body: lokiProtobuf("by protobuf")).status, 204)
        let lines = api.get("/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D").text
        XCTAssert(lines.contains("kept") && lines.contains("by protobuf"), lines)
    }

    private func lokiProtobuf(_ line: String) -> [UInt8] {
        // PushRequest{streams=1{labels=1, entries=2{timestamp=1{seconds=1}, line=2}}}
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }
        var seconds: UInt64 = 1_699_999_991
        var time: [UInt8] = [8]
        while seconds > 127 {
            time.append(UInt8(seconds & 127) | 128)
            seconds >>= 7
        }
        time.append(UInt8(seconds))
        return snappyCompress(field(1, field(1, Array("{app=\"a\"}".utf8)) + field(2, field(1, time) + field(2, Array(line.utf8)))))
    }

    func testLokiPushRefusals() throws {
        let api = try API()
        func check(_ body: String, _ status: Int, _ text: String, line: UInt = #line) {
            let response = api.post("/loki/api/v1/push", json, body)
            XCTAssertEqual(response.status, status, response.text, line: line)
            XCTAssert(response.text.hasPrefix(text), response.text, line: line)
            XCTAssertEqual(response.type, "text/plain; charset=utf-8", line: line)
        }
        check(#"{"streams":[]}"#, 422, "error at least one valid stream is required for ingestion\n")
        check("{", 400, "")
        check(#"{"streams":[{"stream":{"app":"a"},"values":[[1699999990000000000,"number"]]}]}"#, 400, "")
        check(#"{"streams":[{"stream":{},"values":[["1699999990000000000","x"]]}]}"#, 400, "error at least one label pair is required per stream")
        XCTAssertEqual(api.send("POST", "/loki/api/v1/push", [("Content-Type", "application/x-protobuf")], body: Array("no snappy".utf8)).status, 400)
    }

    /// Loki keeps the good streams of a request it answers 400.
    func testLokiPushKeepsTheGoodStreams() throws {
        let api = try API()
        let body =
            #"{"streams":[{"stream":{},"values":[["1699999990000000000","bad"]]},{"stream":{"app":"a"},"values":[["1699999990000000000","good"]]}]}"#
        assertAnswer(api.post("/loki/api/v1/push", json, body), 400, "error at least one label pair is required per stream\n")
        XCTAssert(api.get("/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D").text.contains("good"))
    }

    // MARK: OTLP

    func testOTLPSuccess() throws {
        let api = try API()
        for base in ["", "/otlp", "/api/v1/otlp"] {
            for signal in ["traces", "logs", "metrics"] {
                let path = "\(base)/v1/\(signal)"
                let text = api.post(path, json + "; charset=utf-8", "{}")
                assertAnswer(text, 200, "{}")
                XCTAssertEqual(text.type, json)
                let binary = api.post(path, protobuf, "")
                assertAnswer(binary, 200, "")
                XCTAssertEqual(binary.type, protobuf)
            }
        }
        assertAnswer(api.post("/v1/logs", json, #"{"resourceLogs":null}"#), 200, "{}")
    }

    func testOTLPPartialSuccess() throws {
        let span = #"{"traceId":"00000000000000000000000000000000","spanId":"a1a2a3a4a5a6a7a8","name":"x"}"#
        let response = try API().post("/v1/traces", json, #"{"resourceSpans":[{"scopeSpans":[{"spans":[\#(span)]}]}]}"#)
        XCTAssertEqual(response.status, 200)
        XCTAssert(response.text.hasPrefix(#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":""#), response.text)
    }

    func testOTLPErrorsInTheRequestsEncoding() throws {
        let api = try API()
        for signal in ["traces", "logs", "metrics"] {
            let text = api.post("/v1/\(signal)", json, "{")
            XCTAssertEqual(text.status, 400)
            XCTAssertEqual(text.type, json)
            XCTAssert(text.text.hasPrefix(#"{"code":3,"message":""#), text.text)
            let binary = api.post("/v1/\(signal)", protobuf, "\u{1}")
            XCTAssertEqual(binary.status, 400)
            XCTAssertEqual(binary.type, protobuf)
            XCTAssertEqual(binary.body.prefix(2), [8, 3])
            for type in ["text/plain", ""] {
                let other = api.post("/v1/\(signal)", type, "x")
                XCTAssertEqual(other.status, 415)
                XCTAssert(other.text.hasPrefix(#"{"code":3,"message":"unsupported content type"#), other.text)
            }
            let encoding = api.post("/v1/\(signal)", json, "{}", [("Content-Encoding", "br")])
            XCTAssertEqual(encoding.status, 415)
            XCTAssert(encoding.text.hasPrefix(#"{"code":3,"message":"unsupported content encoding"#), encoding.text)
            XCTAssertEqual(api.get("/v1/\(signal)").status, 405)
        }
    }

    // MARK: NDJSON

    func testJSONLines() throws {
        let api = try API()
        assertAnswer(
            api.post("/insert/jsonline", "application/x-ndjson", "{\"msg\":\"one\",\"app\":\"a\"}\n{\"msg\":\"two\",\"app\":\"a\"}\n"), 200,
            #"{"accepted":2,"rejected":0}"#)
        assertAnswer(api.post("/insert/jsonline", json, #"[{"msg":"three","app":"a"}]"#), 200, #"{"accepted":1,"rejected":0}"#)
        assertAnswer(
            api.post("/insert/jsonline?_msg_field=text&_stream_fields=host", json, #"{"text":"four","host":"h"}"#), 200, #"{"accepted":1,"rejected":0}"#)
        // They have the time of their arrival.
        api.clock.advance(millis: 1)
        let lines = api.get("/loki/api/v1/query_range?query=\(encoded("{service_name=~\".+\"}"))").text
        for word in ["one", "two", "three", "four"] { XCTAssert(lines.contains(word), lines) }
    }

    func testJSONLinesNameTheBadOnes() throws {
        let api = try API()
        let fields = (0..<65).map { "f\($0)" }.joined(separator: ",")
        assertAnswer(
            api.post("/insert/jsonline?_stream_fields=\(fields)", json, #"{"msg":"one"}"#), 400, #"{"error":"65 _stream_fields are more than 64"}"#)

        let some = api.post("/insert/jsonline", json, "{\"msg\":\"one\"}\nnonsense\n{\"msg\":\"two\"}\n")
        XCTAssertEqual(some.status, 207)
        XCTAssert(some.text.hasPrefix(#"{"accepted":2,"rejected":1,"errors":[{"line":2,"error":""#), some.text)
        let all = api.post("/insert/jsonline", json, "nonsense\n")
        XCTAssertEqual(all.status, 400)
        XCTAssert(all.text.hasPrefix(#"{"accepted":0,"rejected":1,"errors":[{"line":1,"error":""#), all.text)
        XCTAssertEqual(all.type, json)
        let encoding = api.post("/insert/jsonline", json, "{}", [("Content-Encoding", "br")])
        XCTAssertEqual(encoding.status, 415)
        XCTAssert(encoding.text.hasPrefix(#"{"error":"unsupported content encoding"#), encoding.text)
    }
}
