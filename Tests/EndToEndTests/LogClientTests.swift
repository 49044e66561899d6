import Foundation
import ObsCompress
import ObsNet
import ObsWire
import XCTest

/// Log clients as they come: Loki's push in both encodings, curl with JSON lines, a WebSocket that follows.
final class LogClientTests: XCTestCase {
    private var nowNanos: Int64 { Int64(Date().timeIntervalSince1970 * 1e6) * 1000 }

    func testPythonLoggingLoki() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let printed = try JSONTree(Run.client("loki_push.py", ["http://\(obsd.http)", "40"]))
        XCTAssertEqual(printed["failures"].list.count, 0)
        XCTAssertEqual(try obsd.logLines(#"{app="py"}"#), printed["sent"].texts)
        XCTAssertEqual(try obsd.logLines(#"{severity="error"}"#).count, 10)
        XCTAssertEqual(try obsd.logLines(#"{app="py", shard="1"}"#).count, 20)
        XCTAssertEqual(try obsd.logLines(#"{app="py"} |= "order 7 took""#), [printed["sent"][7].text])
        XCTAssertEqual(try obsd.tree("/loki/api/v1/label/zone/values")["data"].texts, ["ä 1"])
        XCTAssertEqual(try obsd.tree("/loki/api/v1/labels")["data"].texts, ["app", "logger", "service_name", "severity", "shard", "zone"])
        // 20 lines a shard; half of the even ones are errors.
        XCTAssertEqual(
            try obsd.tree("/loki/api/v1/series", [("match[]", #"{app="py", severity="error"}"#)])["data"].list.map { $0["shard"].text }, ["0"])
    }

    func testLokiProtobuf() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let start = nowNanos - 10_000_000_000
        var request = ProtobufWriter()
        for stream in 0..<3 {
            request.message(1) { writer in
                writer.string(1, #"{app="proto", stream="\#(stream)"}"#)
                for line in 0..<100 {
                    let time = start + Int64(line)
                    writer.message(2) { entry in
                        entry.message(1) { stamp in
                            stamp.int(1, time / 1_000_000_000)
                            stamp.int(2, time % 1_000_000_000)
                        }
                        entry.string(2, "stream=\(stream) line=\(line)")
                        entry.message(3) { pair in
                            pair.string(1, "trace_id")
                            pair.string(2, String(format: "%032x", 1 + line))
                        }
                    }
                }
            }
        }
        for _ in 0..<2 {  // sent again: the same records, not more
            let answer = try obsd.post("/loki/api/v1/push", snappyCompress(request.bytes), type: "application/x-protobuf")
            XCTAssertEqual(answer.status, 204, String(decoding: answer.body, as: UTF8.self))
            XCTAssertEqual(answer.body, [])
        }
        for stream in 0..<3 {
            XCTAssertEqual(try obsd.logLines(#"{app="proto", stream="\#(stream)"}"#), (0..<100).map { "stream=\(stream) line=\($0)" })
        }
        XCTAssertEqual(try obsd.logLines(#"{app="proto"} | trace_id="0000000000000000000000000000000a""#).sorted(), (0..<3).map { "stream=\($0) line=9" })
        XCTAssertEqual(try obsd.logLines(#"{app="proto"} | logfmt | line >= 98 | stream_extracted = "2""#), ["stream=2 line=98", "stream=2 line=99"])
        // Nanoseconds survive.
        let first = try obsd.tree(
            "/loki/api/v1/query_range", [("query", #"{stream="0"} |= "line=57""#), ("start", String(start)), ("end", String(start + 1000)), ("limit", "1")])
        XCTAssertEqual(first["data"]["result"][0]["values"][0][0].text, String(start + 57))
        // The end is exclusive, the limit counts over streams, the newest come first.
        func lines(_ parameters: [(String, String)]) throws -> [String] {
            try obsd.tree("/loki/api/v1/query_range", [("query", #"{app="proto"}"#)] + parameters)["data"]["result"].list.flatMap {
                $0["values"].list.map { $0[1].text }
            }
        }
        XCTAssertEqual(try lines([("start", String(start)), ("end", String(start + 10)), ("limit", "5000")]).count, 30)
        XCTAssertEqual(Set(try lines([("start", String(start)), ("end", String(start + 10)), ("limit", "3")])), Set((0..<3).map { "stream=\($0) line=9" }))
    }

    func testCurlWithJSONLines() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let start = Int(nowNanos / 1_000_000_000) - 60
        let records = (0..<50).map { index in
            #"{"_time":\#(start + index),"app":"curl", "level":"\#(index % 5 == 0 ? "error" : "info")","n":\#(index),"deep":{"list":[1,2.50,{"k":"\u00e9 \"x\""}],"none":null,  "yes":true},"msg":"request \#(index)"}"#
        }
        let file = "\(folder.path)/lines.json.gz"
        try Data(gzipCompress(Array(records.joined(separator: "\n").utf8))).write(to: URL(fileURLWithPath: file))
        let run = try Run(
            "/usr/bin/curl",
            [
                "-sS", "-w", " %{http_code}", "-H", "Content-Encoding: gzip", "-H", "Content-Type: application/stream+json", "--data-binary", "@\(file)",
                "http://\(obsd.http)/insert/jsonline?_stream_fields=app&_msg_field=msg&_time_field=_time",
            ])
        XCTAssertEqual(run.output, #"{"accepted":50,"rejected":0} 200"#, run.errors)
        // Byte for byte what was sent, spaces and escapes included.
        XCTAssertEqual(try obsd.logLines(#"{app="curl"}"#), records)
        let untouched: [Int] = (0..<50).filter { !"1234".contains(String($0).prefix(1)) }
        let cases: [(query: String, places: [Int])] = [
            (#"{app="curl"} | json | n >= 48"#, [48, 49]), (#"{app="curl"} | json | level="error" | n < 10"#, [0, 5]),
            (#"{app="curl"} | json | deep_yes="true" != "request 1" != "request 2" != "request 3" != "request 4""#, untouched),
            (#"{app="curl"} | detected_level="error" |~ "request [1-4]5""#, [15, 25, 35, 45]),
        ]
        for (query, places) in cases { XCTAssertEqual(try obsd.logLines(query), places.map { records[$0] }, query) }
        let formatted = try obsd.logLines(#"{app="curl"} | json k="deep.list[2].k" | k=`é "x"` | line_format "{{.k}}" |= "é""#)
        XCTAssertEqual(formatted, [String](repeating: #"é "x""#, count: 50))
        func vector(_ query: String, _ label: String) throws -> [String: Double] {
            var found: [String: Double] = [:]
            for sample in try obsd.tree("/loki/api/v1/query", [("query", query), ("time", String(start + 49))])["data"]["result"].list {
                found[sample["metric"][label].text] = sample["value"][1].number
            }
            return found
        }
        XCTAssertEqual(try vector(#"sum by (level) (count_over_time({app="curl"} | json [50s]))"#, "level"), ["error": 10, "info": 40])
        XCTAssertEqual(try vector(#"sum by (app) (rate({app="curl"}[10s]))"#, "app"), ["curl": 1])
        XCTAssertEqual(try vector(#"sum(sum_over_time({app="curl"} | json | unwrap n [50s]))"#, "none"), ["": 1225])
        XCTAssertEqual(try vector(#"sum(bytes_over_time({app="curl"}[50s]))"#, "none"), ["": Double(records.reduce(0) { $0 + $1.utf8.count })])
        let matrix = try obsd.tree(
            "/loki/api/v1/query_range",
            [
                ("query", #"sum by (level) (count_over_time({app="curl"} | json [10s]))"#), ("start", String(start + 9)), ("end", String(start + 49)),
                ("step", "10"),
            ])["data"]
        XCTAssertEqual(matrix["resultType"].text, "matrix")
        // Steps lie on multiples of ten, wherever the lines began: every line is in exactly one of ten-second windows that cover them.
        XCTAssertEqual(Set(matrix["result"].list.map { $0["metric"]["level"].text }), ["error", "info"])
        for series in matrix["result"].list {
            let error = series["metric"]["level"].text == "error"
            for value in series["values"].list {
                let at = Int(value[0].number) - start
                let wanted = (max(at - 9, 0)...max(at, 0)).filter { $0 < 50 && $0 <= at && ($0 % 5 == 0) == error }.count
                XCTAssertEqual(value[1].number, Double(wanted), "\(at)")
            }
        }
    }

    func testLongLinesAndInvalidText() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let long = #"{"app":"long","msg":"\#(String(repeating: "stack frame ü\\n", count: 5_000_000 / 16))"}"#
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", long).status, 200)
        let answer = try obsd.post(
            "/loki/api/v1/push", #"{"streams":[{"stream":{"app":"long2"},"values":[["\#(nowNanos)","\#(String(repeating: "x", count: 5_000_000))"]]}]}"#)
        XCTAssertEqual(answer.status, 204)
        XCTAssertEqual(try obsd.logLines(#"{app="long"}"#).map(\.utf8.count), [long.utf8.count])
        XCTAssertEqual(try obsd.logLines(#"{app="long"}"#), [long])
        XCTAssertEqual(try obsd.logLines(#"{app="long2"}"#).map(\.utf8.count), [5_000_000])
        XCTAssertEqual(try obsd.logLines(#"{app="long"} |= "frame ü" != "nothing""#).count, 1)
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        XCTAssertEqual(try obsd.logLines(#"{app="long"}"#), [long])
        // Bytes that are no UTF-8 are refused by line, the lines around them kept.
        var body = Array(#"{"app":"utf","msg":"one"}"#.utf8) + [0x0a]
        body += Array(#"{"app":"utf","msg":""#.utf8) + [0xff, 0xc3] + Array(#""}"#.utf8) + [0x0a]
        body += Array(#"{"app":"utf","msg":"three"}"#.utf8)
        let refused = try obsd.post("/insert/jsonline?_stream_fields=app", body, type: "application/json")
        XCTAssertEqual(refused.status, 207)
        let told = try JSONTree(refused.body)
        XCTAssertEqual(told["accepted"].number, 2)
        XCTAssertEqual(told["rejected"].number, 1)
        XCTAssertEqual(told["errors"][0]["line"].number, 2)
        XCTAssertEqual(try obsd.logLines(#"{app="utf"}"#).sorted(), [#"{"app":"utf","msg":"one"}"#, #"{"app":"utf","msg":"three"}"#])
    }

    func testTail() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        guard FileManager.default.isExecutableFile(atPath: Place.python) else { throw Place.Missing(what: "run `deploy/deps test`") }
        let query = percentEncode(#"{app="tail"} |= "yes" | json"#)
        let log = folder.path + "/tail.log"
        let tail = try Background(Place.python, ["\(Place.clients)/tail.py", "ws://\(obsd.http)/loki/api/v1/tail?query=\(query)", "20"], log: log)
        func printed() -> [String] { ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init) }
        XCTAssertEqual(try eventually(printed, until: { $0.first == "connected" }), ["connected"])
        var wanted: [String] = []
        for index in 0..<40 {
            let line = #"{"app":"\#(index % 4 == 3 ? "other" : "tail")","n":\#(index),"msg":"\#(index % 2 == 0 ? "yes" : "no")"}"#
            XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", line).status, 200)
            if index % 2 == 0 { wanted.append(line) }
        }
        let lines = try eventually({ Array(printed().dropFirst()) }, until: { $0.count >= 20 })
        let entries = try lines.map { try JSONTree($0) }
        XCTAssertEqual(entries.map { $0["line"].text }, wanted)
        XCTAssertEqual(entries.map { $0["labels"]["n"].text }, (0..<20).map { String($0 * 2) })
        XCTAssertTrue(entries.allSatisfy { $0["labels"]["app"].text == "tail" })
        withExtendedLifetime(tail) {}
    }
}
