import Foundation
import ObsCompress
import ObsNet
import ObsWire
import XCTest

/// What no client should send. Every case gets its protocol's status and error shape, and the process goes on as if nothing had been.
final class BadInputTests: XCTestCase {
    private enum Shape { case any, prometheus, text, status, statusProtobuf, native, jaeger }

    private var folder: TemporaryFolder!
    private var obsd: ObsdProcess!
    private var processID: Int32 = 0

    override func setUpWithError() throws {
        folder = try TemporaryFolder()
        obsd = try ObsdProcess(data: folder.path + "/data", ["--request-bytes-max", "100000", "--decoded-bytes-max", "200000"])
        processID = obsd.processID
    }

    override func tearDownWithError() throws {
        // Alive, the same process, and still of use.
        XCTAssertEqual(obsd.processID, processID)
        XCTAssertEqual(try obsd.get("/-/healthy").status, 200)
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"after","msg":"still here"}"#).status, 200)
        XCTAssertEqual(try obsd.logLines(#"{app="after"}"#).count, 1)
        XCTAssertEqual(obsd.stop(), 0)
        obsd = nil
        folder = nil
    }

    private func check(_ answer: HTTPClientResponse, _ status: Int, _ shape: Shape, _ what: String, line: UInt = #line) {
        let text = String(decoding: answer.body, as: UTF8.self)
        XCTAssertEqual(answer.status, status, "\(what): \(text)", line: line)
        let tree = (try? JSONTree(answer.body)) ?? JSONTree(nil)
        let type = answer.header("content-type") ?? ""
        switch shape {
        case .any: break
        case .prometheus:
            XCTAssertEqual(tree["status"].text, "error", "\(what): \(text)", line: line)
            XCTAssertEqual(tree["errorType"].text, [400: "bad_data", 422: "execution", 404: "not_found"][status], what, line: line)
            XCTAssertFalse(tree["error"].text.isEmpty, what, line: line)
        case .text:
            XCTAssertTrue(type.hasPrefix("text/plain"), "\(what): \(type)", line: line)
            XCTAssertFalse(text.isEmpty, what, line: line)
            XCTAssertFalse(text.hasPrefix("{"), "\(what): \(text)", line: line)
        case .status:
            XCTAssertEqual(type, "application/json", what, line: line)
            XCTAssertFalse(tree["message"].text.isEmpty, "\(what): \(text)", line: line)
            XCTAssertGreaterThan(tree["code"].number, 0, what, line: line)
        case .statusProtobuf:
            XCTAssertEqual(type, "application/x-protobuf", what, line: line)
            XCTAssertEqual(answer.body.first, 0x08, "\(what): no google.rpc.Status", line: line)
        case .native: XCTAssertFalse(tree["error"].text.isEmpty, "\(what): \(text)", line: line)
        case .jaeger: XCTAssertEqual(tree["errors"][0]["code"].number, Double(status), "\(what): \(text)", line: line)
        }
    }

    private static let sample: [UInt8] = {
        var writer = ProtobufWriter()
        for index in 0..<20 {
            writer.message(1) { series in
                for (name, value) in [("__name__", "m"), ("i", "\(index)")] {
                    series.message(1) { label in
                        label.string(1, name)
                        label.string(2, value)
                    }
                }
                series.message(2) { sample in
                    sample.double(1, 1)
                    sample.int(2, Int64(Date().timeIntervalSince1970 * 1000))
                }
            }
        }
        return writer.bytes
    }()

    func testBodies() throws {
        let protobuf = "application/x-protobuf"
        let json = "application/json"
        let write = Self.sample
        let wrapped: [UInt8] = {  // field 1 of OTLP and Loki requests: a message whose length is more than there is
            [0x0a, 0x7f, 0x0a, 0x05]
        }()
        let jsonLine = Array(#"{"app":"a","msg":"\#(String(repeating: "x", count: 500))"}"#.utf8)
        let bomb = [UInt8](repeating: 0x20, count: 5_000_000)
        let cases: [(path: String, type: String, encoding: String?, body: [UInt8], status: Int, shape: Shape)] = [
            // Malformed
            ("/loki/api/v1/push", json, nil, Array(#"{"streams":[{"#.utf8), 400, .text), ("/loki/api/v1/push", json, nil, Array("nonsense".utf8), 400, .text),
            ("/loki/api/v1/push", json, nil, Array(#"{"streams":[{"stream":{"a":"b"},"values":[[1,"number as time"]]}]}"#.utf8), 400, .text),
            ("/loki/api/v1/push", json, nil, Array(#"{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000000","x",{"n":1}]]}]}"#.utf8), 400, .text),
            ("/loki/api/v1/push", json, nil, Array(#"{"streams":[]}"#.utf8), 422, .text),
            ("/loki/api/v1/push", json, nil, Array(#"{"streams":[{"stream":{},"values":[["1700000000000000000","x"]]}]}"#.utf8), 400, .text),
            ("/loki/api/v1/push", json, nil, Array(String(repeating: "[", count: 50000).utf8), 400, .text),
            ("/loki/api/v1/push", protobuf, nil, snappyCompress(wrapped), 400, .text),
            ("/loki/api/v1/push", protobuf, nil, Array("not snappy".utf8), 400, .text),
            ("/loki/api/v1/push", json, "gzip", Array("not gzip".utf8), 400, .text),
            ("/api/v1/write", protobuf, "snappy", snappyCompress(Array(write.dropLast(7))), 400, .text),
            ("/api/v1/write", protobuf, "snappy", Array(snappyCompress(write).dropLast(5)), 400, .text),
            ("/api/v1/write", protobuf, "snappy", write, 400, .text), ("/api/v1/write", protobuf, "snappy", [], 400, .any),
            ("/api/v1/write", protobuf, "zstd", Array(zstdCompress(write, level: 1).dropLast(6)), 400, .text),
            ("/api/v1/write", protobuf, "gzip", Array(gzipCompress(write).dropLast(9)), 400, .text),
            ("/insert/jsonline", json, nil, Array("{broken".utf8), 400, .any), ("/insert/jsonline", json, nil, Array("1\n\"two\"\n[3".utf8), 400, .any),
            ("/insert/jsonline", json, "gzip", Array(gzipCompress(jsonLine).dropLast(12)), 400, .native),
            ("/insert/jsonline", json, "zstd", Array(zstdCompress(jsonLine, level: 1).dropLast(4)), 400, .native),
            // Wrong type or encoding
            ("/api/v1/write", json, "snappy", snappyCompress(write), 415, .text), ("/api/v1/write", protobuf, "br", write, 415, .text),
            ("/api/v1/write", "application/x-protobuf;proto=io.prometheus.write.v9.Request", "snappy", snappyCompress(write), 415, .text),
            ("/insert/jsonline", json, "br", jsonLine, 415, .native), ("/v1/logs", "text/plain", nil, jsonLine, 415, .any),
            // Too large, as sent and as decoded
            ("/api/v1/write", protobuf, "snappy", [UInt8](repeating: 7, count: 100_001), 413, .any), ("/insert/jsonline", json, nil, bomb, 413, .any),
            ("/loki/api/v1/push", json, nil, bomb, 413, .any),
            ("/insert/jsonline", json, "gzip", gzipCompress(bomb), 413, .native),
            ("/insert/jsonline", json, "zstd", zstdCompress(bomb, level: 1), 413, .native),
            ("/loki/api/v1/push", json, "gzip", gzipCompress(bomb), 413, .text), ("/api/v1/write", protobuf, "gzip", gzipCompress(bomb), 413, .text),
            ("/api/v1/write", protobuf, "snappy", [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00], 413, .text),
        ]
        for (path, type, encoding, body, status, shape) in cases {
            let answer = try obsd.post(path, body, type: type, headers: encoding.map { [("Content-Encoding", $0)] } ?? [])
            check(answer, status, shape, "\(path) \(type) \(encoding ?? "") \(String(decoding: body.prefix(40), as: UTF8.self))")
        }
        for signal in ["traces", "metrics", "logs"] {
            let name = signal == "traces" ? "resourceSpans" : "resource\(signal.capitalized)"
            for (type, encoding, body, status) in [
                (json, nil, Array("{".utf8), 400), (json, nil, Array("[]x".utf8), 400), (protobuf, nil, wrapped, 400), (protobuf, nil, [0x0a], 400),
                (protobuf, "gzip", Array("no".utf8), 400), (json, "gzip", gzipCompress(bomb), 413), (protobuf, "zstd", zstdCompress(bomb, level: 1), 413),
                (json, "br", [0x7b, 0x7d], 415),
                (json, nil, Array(#"{"\#(name)":"#.utf8) + [UInt8](repeating: 0x5b, count: 5000), 400),
            ] as [(String, String?, [UInt8], Int)] {
                for base in ["", "/otlp"] {
                    let answer = try obsd.post("\(base)/v1/\(signal)", body, type: type, headers: encoding.map { [("Content-Encoding", $0)] } ?? [])
                    check(answer, status, type == json ? .status : .statusProtobuf, "\(signal) \(type) \(encoding ?? "") \(body.prefix(8))")
                }
            }
        }
        XCTAssertEqual(try obsd.samples("m"), [:])
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#), [])
    }

    /// A body without a length is read up to the bound and no further.
    func testOversizeBodyInChunks() throws {
        let file = try folder.write("big.json", String(repeating: #"{"app":"a","msg":"x"}"# + "\n", count: 50_000))
        for arguments in [["-T", file, "-X", "POST"], ["--data-binary", "@\(file)"]] {
            let run = try Run(
                "/usr/bin/curl",
                [
                    "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", arguments[0] == "-T" ? "Transfer-Encoding: chunked" : "X-A: b", "-H",
                    "Content-Type: application/json",
                ] + arguments
                    + ["http://\(obsd.http)/insert/jsonline"])
            XCTAssertEqual(run.output, "413", "\(arguments) \(run.errors)")
        }
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#), [])
    }

    func testBadQueries() throws {
        let cases: [(path: String, parameters: [(String, String)], status: Int, shape: Shape)] = [
            ("/api/v1/query", [], 400, .prometheus), ("/api/v1/query", [("query", "up{")], 400, .prometheus),
            ("/api/v1/query", [("query", "rate(up)")], 400, .prometheus),
            ("/api/v1/query", [("query", "up"), ("time", "tomorrow")], 400, .prometheus),
            ("/api/v1/query", [("query", "up"), ("timeout", "-")], 400, .prometheus),
            ("/api/v1/query", [("query", #"{a=~"("}"#)], 400, .prometheus), ("/api/v1/query", [("query", #"{a=""}"#)], 400, .prometheus),
            ("/api/v1/query", [("query", String(repeating: "(", count: 5000))], 400, .prometheus),
            ("/api/v1/query", [("query", "nosuch(up)")], 400, .prometheus),
            ("/api/v1/query_range", [("query", "up"), ("start", "0"), ("end", "10")], 400, .prometheus),
            ("/api/v1/query_range", [("query", "up"), ("start", "10"), ("end", "0"), ("step", "1")], 400, .prometheus),
            ("/api/v1/query_range", [("query", "up"), ("start", "0"), ("end", "10"), ("step", "0")], 400, .prometheus),
            ("/api/v1/query_range", [("query", "up"), ("start", "0"), ("end", "11001"), ("step", "1")], 400, .prometheus),
            ("/api/v1/query_range", [("query", "up[5m]"), ("start", "0"), ("end", "10"), ("step", "1")], 400, .prometheus),
            ("/api/v1/series", [], 400, .prometheus),
            ("/api/v1/series", [("match[]", "{}")], 400, .prometheus), ("/api/v1/labels", [("match[]", "up{")], 400, .prometheus),
            ("/loki/api/v1/query_range", [], 400, .text), ("/loki/api/v1/query_range", [("query", "{")], 400, .text),

            ("/loki/api/v1/query_range", [("query", #"{a="b"} | nosuch"#)], 400, .text),
            ("/loki/api/v1/query_range", [("query", #"{a="b"} |~ "(""#)], 400, .text),
            ("/loki/api/v1/query_range", [("query", #"{a="b"}"#), ("limit", "5001")], 400, .text),
            ("/loki/api/v1/query_range", [("query", #"{a="b"}"#), ("limit", "0")], 400, .text),
            ("/loki/api/v1/query_range", [("query", #"{a="b"}"#), ("start", "200"), ("end", "100")], 400, .text),
            ("/loki/api/v1/query_range", [("query", #"{a="b"}"#), ("start", "yesterday")], 400, .text),
            ("/loki/api/v1/query", [("query", #"{a="b"}"#)], 400, .text),
            ("/loki/api/v1/query", [("query", #"sum_over_time({a="b"}[5m])"#)], 400, .text), ("/loki/api/v1/tail", [("query", #"{a="b"}"#)], 400, .text),
            ("/api/search", [("q", "{")], 400, .text), ("/api/search", [("q", "{ nosuch = 1 }")], 400, .text),
            ("/api/search", [("q", "{}"), ("limit", "x")], 400, .text),
            ("/api/search", [("q", #"{ .a =~ "(" }"#)], 400, .text), ("/api/traces/xyz", [], 400, .text), ("/api/traces/ab", [], 404, .any),
            ("/api/traces/\(String(repeating: "a", count: 33))", [], 400, .text),
            ("/jaeger/api/traces", [], 400, .jaeger), ("/jaeger/api/traces/ab", [], 404, .jaeger),
            ("/jaeger/api/traces", [("service", "a"), ("minDuration", "x")], 400, .jaeger),
            ("/nothing", [], 404, .any), ("/api/v1/nothing", [], 404, .any), ("/loki/api/v1/nothing", [], 404, .any), ("/../etc/passwd", [], 404, .any),
            ("/ui/..%2f..%2fetc%2fpasswd", [], 404, .any),
        ]
        for (path, parameters, status, shape) in cases { check(try obsd.get(path, parameters), status, shape, "\(path) \(parameters)".prefix(200).description) }
        XCTAssertEqual(try obsd.tree("/api/v2/traces/ab").description, #"{"metrics":{},"trace":{}}"#)
        for (method, path) in [
            ("GET", "/api/v1/write"), ("GET", "/v1/traces"), ("GET", "/loki/api/v1/push"), ("PUT", "/insert/jsonline"), ("DELETE", "/api/v1/query"),
            ("POST", "/api/v1/targets"), ("POST", "/api/search"), ("GET", "/-/reload"),
        ] {
            let answer = try HTTPClient().perform(HTTPClientRequest(url: "http://\(obsd.http)\(path)", method: method))
            XCTAssertEqual(answer.status, 405, "\(method) \(path)")
            XCTAssertNotNil(answer.header("allow"), "\(method) \(path)")
        }
        // An error of evaluation is not one of the query.
        let now = Int(Date().timeIntervalSince1970 * 1e9)
        let push = #"{"streams":[{"stream":{"a":"b"},"values":[["\#(now)","no json"]]}]}"#
        XCTAssertEqual(try obsd.post("/loki/api/v1/push", push).status, 204)
        check(try obsd.get("/loki/api/v1/query", [("query", #"sum by (x) (count_over_time({a="b"} | json [5m]))"#)]), 400, .text, "pipeline error")
    }

    func testMixedBatches() throws {
        let now = Int(Date().timeIntervalSince1970 * 1e9)
        // Loki: 400, the good stream is kept.
        let push = """
            {"streams":[{"stream":{"app":"good"},"values":[["\(now)","one"],["\(now + 1)","two"]]},{"stream":{"bad-name!":"x"},"values":[["\(now)","lost"]]},
             {"stream":{"app":"good2"},"values":[["\(now)","three"]]}]}
            """
        check(try obsd.post("/loki/api/v1/push", push), 400, .text, "Loki")
        XCTAssertEqual(try obsd.logLines(#"{app=~"good.*"}"#).sorted(), ["one", "three", "two"])

        // JSON lines: 207, refusals by line.
        let lines =
            #"{"app":"nd","n":1}"# + "\n{broken\n" + #"{"app":"nd","n":2}"# + "\n\n[1]\n" + #"{"app":"nd","_time":"never"}"# + "\n" + #"{"app":"nd","n":3}"#
        let answer = try obsd.post("/insert/jsonline?_stream_fields=app", lines)
        XCTAssertEqual(answer.status, 207)
        let told = try JSONTree(answer.body)
        XCTAssertEqual(told["accepted"].number, 3)
        XCTAssertEqual(told["rejected"].number, 3)
        XCTAssertEqual(told["errors"].list.map { $0["line"].number }, [2, 5, 6])
        XCTAssertEqual(try obsd.logLines(#"{app="nd"}"#).sorted(), (1...3).map { #"{"app":"nd","n":\#($0)}"# })

        // OTLP: 200, counted in partialSuccess.
        let resource = #""resource":{"attributes":[{"key":"service.name","value":{"stringValue":"mixed"}}]}"#
        let spans = """
            {"resourceSpans":[{\(resource),"scopeSpans":[{"spans":[
             {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"good","startTimeUnixNano":"\(now)","endTimeUnixNano":"\(now - 5)"},
             {"traceId":"5b8e","spanId":"eee19b7ec3c1b175","name":"short id","startTimeUnixNano":"\(now)"},
             {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"0000000000000000","name":"no span id","startTimeUnixNano":"\(now)"}]}]}]}
            """
        let traces = try obsd.post("/v1/traces", spans)
        XCTAssertEqual(traces.status, 200)
        XCTAssertEqual(try JSONTree(traces.body)["partialSuccess"]["rejectedSpans"].number, 2)
        let kept = try obsd.tree("/jaeger/api/traces/5b8efff798038103d269b633813fc60c")["data"][0]["spans"].list
        XCTAssertEqual(kept.map { $0["operationName"].text }, ["good"])
        XCTAssertEqual(kept.map { $0["duration"].number }, [0])

        let metrics = """
            {"resourceMetrics":[{\(resource),"scopeMetrics":[{"metrics":[
             {"name":"fine","gauge":{"dataPoints":[{"asDouble":2,"timeUnixNano":"\(now)"}]}},
             {"name":"wrong","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"3","bucketCounts":["1","2","3"],"explicitBounds":[1],"timeUnixNano":"\(now)"}]}}]}]}]}
            """
        let points = try obsd.post("/v1/metrics", metrics)
        XCTAssertEqual(points.status, 200)
        XCTAssertEqual(try JSONTree(points.body)["partialSuccess"]["rejectedDataPoints"].number, 1)
        XCTAssertEqual(try obsd.samples("fine"), ["": 2])
        XCTAssertEqual(try obsd.samples(#"{__name__=~"wrong.*"}"#), [:])

        // Remote write 1.0: a series without a name is passed over, as the reference does; the good one is kept.
        var writer = ProtobufWriter()
        for name in ["named", nil] {
            writer.message(1) { series in
                series.message(1) { label in
                    label.string(1, name == nil ? "x" : "__name__")
                    label.string(2, name ?? "y")
                }
                series.message(2) { sample in
                    sample.double(1, 5)
                    sample.int(2, Int64(now / 1_000_000))
                }
            }
        }
        let written = try obsd.post("/api/v1/write", snappyCompress(writer.bytes), type: "application/x-protobuf", headers: [("Content-Encoding", "snappy")])
        XCTAssertEqual(written.status, 204)
        XCTAssertEqual(try obsd.samples("named"), ["": 5])
        XCTAssertEqual(try obsd.samples(#"{x="y"}"#), [:])
    }

    /// Bytes that are not HTTP.
    func testGarbageOnTheSocket() throws {
        for text in [
            "\u{0}\u{1}\u{2}garbage\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST /v1/logs HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            "GET " + String(repeating: "/a", count: 200_000) + " HTTP/1.1\r\n\r\n",
        ] {
            let answer = exchange(text)
            XCTAssertFalse(answer.hasPrefix("HTTP/1.1 200"), "\(text.prefix(20)): \(answer)")
        }
    }

    /// Writes bytes as they are to a connection and reads what comes until it ends.
    private func exchange(_ text: String) -> String {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(file, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(obsd.http.split(separator: ":").last ?? "")?.bigEndian ?? 0
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let connected = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        XCTAssertEqual(connected, 0)
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { break }
            sent += count
        }
        shutdown(file, Int32(SHUT_WR))
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(file, &buffer, buffer.count, 0)
            if count <= 0 { break }
            answer += buffer[..<count]
        }
        return String(decoding: answer, as: UTF8.self)
    }
}
