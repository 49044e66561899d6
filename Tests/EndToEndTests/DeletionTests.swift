import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// Deletion and snapshots as clients ask for them.
final class DeletionTests: XCTestCase {
    private let now = Int64(Date().timeIntervalSince1970)

    /// 200 series of 30 samples, a second apart, the last one now.
    private func write(_ obsd: ObsdProcess) throws {
        var random = SystemRandomNumberGenerator()
        var writer = ProtobufWriter()
        for index in 0..<200 {
            writer.message(1) { series in
                for (name, value) in [
                    ("__name__", index % 2 == 0 ? "debug" : "kept"), ("job", "j"), ("kind", index % 2 == 0 ? "debug" : "kept"), ("n", "\(index)"),
                ] {
                    series.message(1) {
                        $0.string(1, name)
                        $0.string(2, value)
                    }
                }
                for age in (0..<30).reversed() {
                    series.message(2) {
                        $0.double(1, Double(random.next() >> 11))
                        $0.int(2, (now - Int64(age)) * 1000)
                    }
                }
            }
        }
        let answer = try obsd.post("/api/v1/write", snappyCompress(writer.bytes), type: "application/x-protobuf", headers: [("Content-Encoding", "snappy")])
        XCTAssertEqual(answer.status, 204)
    }

    private func push(_ obsd: ObsdProcess, _ app: String, _ lines: [String]) throws {
        let values = lines.enumerated().map { "[\"\(now - 100 + Int64($0.offset))000000000\",\"\($0.element)\"]" }.joined(separator: ",")
        XCTAssertEqual(try obsd.post("/loki/api/v1/push", #"{"streams":[{"stream":{"app":"\#(app)"},"values":[\#(values)]}]}"#).status, 204)
    }

    private func send(_ obsd: ObsdProcess, _ method: String, _ path: String, _ parameters: [(String, String)] = []) throws -> HTTPClientResponse {
        let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
        return try HTTPClient().perform(HTTPClientRequest(url: "http://\(obsd.http)\(path)\(query.isEmpty ? "" : "?" + query)", method: method))
    }

    private func expect(
        _ status: Int, _ text: String? = nil, _ answer: @autoclosure () throws -> HTTPClientResponse, file: StaticString = #filePath, line: UInt = #line
    ) throws {
        let answer = try answer()
        let body = String(decoding: answer.body, as: UTF8.self)
        XCTAssertEqual(answer.status, status, body, file: file, line: line)
        if let text { XCTAssertTrue(body.contains(text), body, file: file, line: line) }
    }

    private func counts(_ obsd: ObsdProcess) throws -> [String: Double] {
        try obsd.samples(#"sum by (kind) (count_over_time({job="j"}[1h]))"#, by: ["kind"], at: Double(now))
    }

    private func segmentBytes(_ obsd: ObsdProcess) throws -> [Double] { try obsd.tree("/api/status")["signals"].list.map { $0["segmentBytes"].number } }

    func testDeletedSeriesAreGoneAtOnceAndFromDiskAfterCleaning() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        try write(obsd)
        XCTAssertEqual(try counts(obsd), ["debug": 3000, "kept": 3000])
        try expect(400, "no match[] parameter provided", send(obsd, "POST", "/api/v1/admin/tsdb/delete_series"))
        try expect(400, #"invalid parameter \"match[]\""#, send(obsd, "POST", "/api/v1/admin/tsdb/delete_series", [("match[]", "{")]))
        try expect(405, nil, send(obsd, "GET", "/api/v1/admin/tsdb/delete_series", [("match[]", "debug")]))
        try expect(
            204, nil,
            send(
                obsd, "POST", "/api/v1/admin/tsdb/delete_series",
                [("match[]", #"{__name__="debug",n=~"1?.*"}"#), ("match[]", "nothing"), ("start", "\(now - 9)"), ("end", "\(now)")]))
        XCTAssertEqual(try counts(obsd), ["debug": 2000, "kept": 3000])
        // As a form, and for all of time.
        try expect(
            204, nil,
            obsd.post("/api/v1/admin/tsdb/delete_series", "match%5B%5D=debug", type: "application/x-www-form-urlencoded"))
        XCTAssertEqual(try counts(obsd), ["kept": 3000])
        XCTAssertEqual(try obsd.tree("/api/v1/label/__name__/values")["data"].texts, ["kept"])
        XCTAssertEqual(try obsd.tree("/api/v1/series", [("match[]", "debug")])["data"].list, [])
        let before = try segmentBytes(obsd)[0]
        try expect(204, nil, send(obsd, "PUT", "/api/v1/admin/tsdb/clean_tombstones"))
        XCTAssertEqual(try counts(obsd), ["kept": 3000])
        XCTAssertLessThan(try segmentBytes(obsd)[0], before * 0.6)
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: obsd.data + "/tombstones"), [])
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        XCTAssertEqual(try counts(obsd), ["kept": 3000])
        XCTAssertLessThan(try segmentBytes(obsd)[0], before * 0.6)
    }

    func testASnapshotIsAStoreWithTheSameAnswers() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        try write(obsd)
        try push(obsd, "a", ["one", "two"])
        try expect(204, nil, send(obsd, "POST", "/api/v1/admin/tsdb/delete_series", [("match[]", "debug"), ("start", "\(now - 4)")]))
        let answer = try JSONTree(send(obsd, "POST", "/api/v1/admin/tsdb/snapshot").body)
        XCTAssertEqual(answer["status"].text, "success")
        let name = answer["data"]["name"].text
        XCTAssertNotNil(name.wholeMatch(of: try Regex("[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}")), name)
        try push(obsd, "a", ["after"])
        let copy = try ObsdProcess(data: "\(obsd.data)/snapshots/\(name)")
        for one in [obsd, copy] { XCTAssertEqual(try counts(one), ["debug": 2500, "kept": 3000]) }
        for query in ["debug", "sum by (n) (kept)"] {
            XCTAssertEqual(
                try obsd.tree("/api/v1/query", [("query", query), ("time", "\(now - 5)")]),
                try copy.tree("/api/v1/query", [("query", query), ("time", "\(now - 5)")]))
        }
        XCTAssertEqual(try copy.logLines(#"{app="a"}"#), ["one", "two"])
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#).count, 3)
        XCTAssertEqual(copy.stop(), 0)
    }

    func testLogsAreDeletedAsLokiDeletesThem() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        try push(obsd, "a", ["user=1 in", "user=2 in", "user=1 out"])
        try push(obsd, "b", ["user=1 in"])
        let path = "/loki/api/v1/delete"
        try expect(400, "query not set", send(obsd, "POST", path))
        try expect(400, "start time not set", send(obsd, "POST", path, [("query", #"{app="a"}"#)]))
        try expect(204, nil, send(obsd, "POST", path, [("query", #"{app="a"} |= "user=1""#), ("start", "\(now - 1000)")]))
        XCTAssertEqual(try obsd.logLines(#"{app=~".+"}"#), ["user=1 in", "user=2 in"])
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#), ["user=2 in"])
        let request = try obsd.tree(path)[0]
        XCTAssertEqual(request["query"].text, #"{app="a"} |~ "user\\=1""#)
        XCTAssertEqual(request["start_time"].number, Double(now - 1000))
        XCTAssertEqual(request["status"].text, "received")
        try expect(404, "could not find delete request with given id", send(obsd, "DELETE", path, [("request_id", "77")]))
        try expect(204, nil, send(obsd, "DELETE", path, [("request_id", request["request_id"].text)]))
        XCTAssertEqual(try obsd.logLines(#"{app="a"}"#).count, 3)
        try expect(204, nil, send(obsd, "PUT", path, [("query", #"{app="a"} |= "user=1""#), ("start", "0")]))
        try expect(204, nil, send(obsd, "POST", "/api/v1/admin/tsdb/clean_tombstones"))
        XCTAssertEqual(try obsd.tree(path)[0]["status"].text, "processed")
        try expect(
            400, "already processed is not allowed", send(obsd, "DELETE", path, [("request_id", try obsd.tree(path)[0]["request_id"].text)]))
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        XCTAssertEqual(try obsd.logLines(#"{app=~".+"}"#), ["user=1 in", "user=2 in"])
    }

    func testSpansAreDeletedByServiceNameAndTrace() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        for (index, (service, name)) in [("cart", "get"), ("cart", "put"), ("shop", "get"), ("shop", "put")].enumerated() {
            let id = String(repeating: "\(index + 1)", count: 32)
            let body =
                #"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\#(service)"}}]},"scopeSpans":[{"spans":[{"traceId":"\#(id)","spanId":"00000000000000a\#(index)","name":"\#(name)","kind":2,"startTimeUnixNano":"\#(now)000000000","endTimeUnixNano":"\#(now)000001000"}]}]}]}"#
            XCTAssertEqual(try obsd.post("/v1/traces", body).status, 200)
        }
        func traces() throws -> [Int] { try (1...4).filter { try obsd.get("/api/traces/" + String(repeating: "\($0)", count: 32)).status == 200 } }
        XCTAssertEqual(try traces(), [1, 2, 3, 4])
        let path = "/api/v1/admin/traces/delete"
        try expect(400, "no match[] or trace_id", send(obsd, "POST", path))
        try expect(400, "resource.service.name", send(obsd, "POST", path, [("match[]", "{ kind = server }")]))
        try expect(204, nil, send(obsd, "POST", path, [("match[]", #"{ resource.service.name = "cart" && name = "get" }"#)]))
        try expect(204, nil, send(obsd, "POST", path, [("match[]", #"{ resource.service.name = "cart" }"#), ("end", "\(now - 1)")]))
        try expect(204, nil, send(obsd, "POST", path, [("trace_id", String(repeating: "4", count: 32))]))
        XCTAssertEqual(try traces(), [2, 3])
        XCTAssertEqual(try obsd.tree(path)["data"].list.count, 3)
        try expect(204, nil, send(obsd, "POST", "/api/v1/admin/tsdb/clean_tombstones"))
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        XCTAssertEqual(try traces(), [2, 3])
    }
}
