import ObsCore
import ObsWire
import XCTest

final class JSONLinesTests: XCTestCase {
    private let received: Int64 = 42

    private func decode(_ text: String, _ query: String = "") throws -> JSONLinesResult {
        try JSONLines.decode(Array(text.utf8), options: JSONLines.Options(query: query), receivedAtNanos: received)
    }

    private func rows(_ text: String, _ query: String = "") throws -> [String] { try show(decode(text, query).batch) }

    func testLinesStayAsTheyWere() throws {
        let first = #"{"_time":"2023-11-14T22:13:20.123456789Z", "message" : "größer\n1.50", "n":1.50, "service":"api", "level":"WARN"}"#
        let second = #"{"a":{"b":[1,{"c":null}]},"host":"h\u00e9","msg":"an error","trace.id":"0123456789abcdef0123456789abcdef","span_id":"00000000000000ff"}"#
        let result = try decode("\(first)\r\n\n  \(second)  \n")
        XCTAssertEqual(
            show(result.batch),
            [
                #"{service="api", service_name="api"} 1700000000123456789 warn "# + first,
                #"{host="hé", service_name="unknown_service"} 42 error "# + second + " 0123456789abcdef0123456789abcdef 00000000000000ff",
            ])
        XCTAssertEqual(result.rejected, 0)
        XCTAssertTrue(result.batch.flags.allSatisfy { $0.isEmpty }, "two equal lines are two records")
    }

    func testAnArrayOfObjects() throws {
        XCTAssertEqual(
            try rows(" [ {\"app\":\"a\", \"x\":1} ,\n{\"app\":\"b\"}\n]\n"),
            [#"{app="a", service_name="a"} 42 unknown {"app":"a", "x":1}"#, #"{app="b", service_name="b"} 42 unknown {"app":"b"}"#])
        XCTAssertEqual(try rows("[]"), [])
        let cut = try decode(#"[{"app":"a"},5,{"app":"b"},{"app""#)
        XCTAssertEqual(cut.batch.count, 2)
        XCTAssertEqual(cut.rejected, 2)
        XCTAssertEqual(cut.errors.map(\.line), [2, 4])
    }

    func testTimes() throws {
        let cases: [(String, Int64)] = [
            (#""_time":"2023-11-14T22:13:20Z""#, 1_700_000_000_000_000_000), (#""time":"2023-11-14 22:13:20.5""#, 1_700_000_000_500_000_000),
            (#""ts":"2023-11-14T23:13:20+01:00""#, 1_700_000_000_000_000_000), (#""ts":1700000000"#, 1_700_000_000_000_000_000),
            (#""ts":1700000000.25"#, 1_700_000_000_250_000_000), (#""ts":"1700000000123""#, 1_700_000_000_123_000_000),
            (#""timestamp":1700000000123456"#, 1_700_000_000_123_456_000), (#""@timestamp":1700000000123456789"#, 1_700_000_000_123_456_789),
            (#""ts":1,"_time":2"#, 2_000_000_000), (#""_time":3,"ts":1"#, 3_000_000_000), (#""x":1"#, 42), (#""time":"""#, 42), (#""time":"0""#, 42),
            (#""time":0"#, 42),
            (#""time":null"#, 42), (#""time":{"a":1}"#, 42),
        ]
        for (member, expected) in cases { XCTAssertEqual(try decode("{\(member)}").batch.timeNanos, [expected], member) }
        for member in [#""time":"yesterday""#, #""time":true"#, #""time":"2023-13-14T22:13:20Z""#, #""time":99999999999999999999"#] {
            let result = try decode("{\(member)}\n{}")
            XCTAssertEqual(result.batch.count, 1, member)
            XCTAssertTrue(result.errors[0].message.hasPrefix("cannot read the time"), member)
        }
    }

    func testOptions() throws {
        let line = #"{"t":"5","ts":1,"body":"fatal","kubernetes":{"pod":{"name":"p"},"1ns":"n"},"a.b":"c","stream":true,"n":3}"#
        let query = "x=y&_time_field=t&_msg_field=body&_stream_fields=kubernetes.pod.name,a.b%2Ckubernetes.1ns,stream,n,missing&debug"
        XCTAssertEqual(
            try rows(line, query),
            [#"{a_b="c", kubernetes_1ns="n", kubernetes_pod_name="p", n="3", service_name="unknown_service", stream="true"} 5000000000 fatal "# + line])
        XCTAssertEqual(JSONLines.Options(query: ""), JSONLines.Options())
        XCTAssertEqual(JSONLines.Options(query: "_stream_fields=&_time_field"), JSONLines.Options())
        XCTAssertEqual(JSONLines.Options(query: "_msg_field=a+b%zz").messageFields, ["a b%zz"])
    }

    func testLevels() throws {
        let cases: [(String, String)] = [
            (#""severity":"ERR""#, "error"), (#""log":{"level":"debug"},"msg":"error"#, "debug"), (#""log.level":"info"#, "info"),
            (#""level":30,"msg":"error"#, "info"),
            (#""msg":"level=warn x"#, "warn"), (#""message":"x","msg":"error"#, "unknown"), (#""a":{"b":{"level":"error"}},"c":"fatal"#, "unknown"),
        ]
        for (members, level) in cases {
            let line = members.hasSuffix("\"") || members.hasSuffix("}") ? members : members + "\""
            XCTAssertEqual(try Severity.word(decode("{\(line)}").batch.severity[0]), level, members)
        }
    }

    func testBadLinesAreRefusedAlone() throws {
        let bad = [
            "{", "[1]", "5", "\"x\"", "{\"a\":1}}", "{\"a\":1} {\"b\":2}", "{\"a\":\"\u{1}\"}", "nonsense", "{\"a\":01}",
            String(repeating: "{\"a\":", count: 1000),
        ]
        for line in bad {
            let result = try decode("{\"app\":\"x\"}\n\(line)\n{\"app\":\"x\"}")
            XCTAssertEqual(result.batch.count, 2, line)
            XCTAssertEqual(result.rejected, 1, line)
            XCTAssertEqual(result.errors.map(\.line), [2], line)
        }
        let invalid = try JSONLines.decode(Array("{\"a\":\"".utf8) + [0xff] + Array("\"}\n{}".utf8), options: .init(), receivedAtNanos: 1)
        XCTAssertEqual(invalid.batch.count, 1)
        XCTAssertTrue(invalid.errors[0].message.contains("not valid UTF-8"), invalid.errors[0].message)
        XCTAssertEqual(try decode(String(repeating: "x\n", count: 50)).errors.count, 10)
        XCTAssertEqual(try decode(String(repeating: "x\n", count: 50)).rejected, 50)
        XCTAssertTrue(try decode("").batch.isEmpty)
    }

    func testHugeAndOddInputs() throws {
        let keys = "{" + (0..<10_000).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}"
        XCTAssertEqual(try decode(keys).batch.bytes.string(decode(keys).batch.line[0]), keys)
        let big = "{\"msg\":\"\(String(repeating: "x", count: 5 << 20))\"}"
        XCTAssertEqual(try decode(big).batch.line[0].count, UInt32(big.utf8.count))
        for line in [#"{"n":123456789012345678901234567890,"e":1e400}"#, #"{"a":"\u0000","\u0061pp":"x"}"#, #"{"":""}"#, #"{"app":""}"#, #"{"a":"\ud800"}"#] {
            XCTAssertEqual(try decode(line).rejected, 0, line)
        }
        XCTAssertEqual(try decode(#"{"\u0061pp":"x"}"#).batch.labels(ofStream: 0)["app"], "x", "a key with escapes is still the key")
        let services = try decode(#"{"service.name":"a","service_name":"b"}"# + "\n" + #"{"service":{"name":"c"}}"#).batch
        XCTAssertEqual(services.streams.indices.map { services.labels(ofStream: UInt32($0))["service_name"] }, ["b", "c"])
    }

    func testManyStreams() throws {
        let text = (0..<5000).map { "{\"app\":\"a\($0 % 1000)\",\"host\":\"h\"}\n" }.joined()
        let batch = try decode(text).batch
        XCTAssertEqual(batch.streams.count, 1000)
        XCTAssertEqual(batch.labels(ofStream: batch.stream[4999])["app"], "a999")
    }

    func testMutationsDoNotCrash() {
        let text =
            "{\"_time\":\"2023-11-14T22:13:20Z\",\"app\":\"a\",\"log\":{\"level\":\"info\"},\"m\":[1.5e3,\"\\u00e9\"]}\n{\"ts\":1700000000.5,\"service\":{\"name\":\"é\"}}\n"
        for source in [text, "[" + text.replacingOccurrences(of: "}\n{", with: "},{") + "]"] {
            withMutations(of: Array(source.utf8)) { mutated in
                guard let result = try? JSONLines.decode(mutated, options: .init(), receivedAtNanos: 1) else { return XCTFail("only size is an error") }
                XCTAssertEqual(show(result.batch).count, result.batch.count)
            }
        }
    }
}
