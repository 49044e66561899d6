import ObsCore
import ObsWire
import XCTest

/// `{stream} time level line attributes trace span` of each row.
func show(_ batch: LogBatch) -> [String] {
    (0..<batch.count).map { row in
        var text = "\(batch.labels(ofStream: batch.stream[row])) \(batch.timeNanos[row]) \(Severity.word(batch.severity[row])) "
        text += batch.bytes.string(batch.line[row])
        for entry in attributeList(batch.bytes[batch.attributes[row].range]) { text += " \(entry.key)=\(entry.value.text)" }
        if !batch.traceID[row].isNone { text += " \(batch.traceID[row])" }
        if batch.spanID[row] != 0 { text += " \(hexString(batch.spanID[row]))" }
        return text
    }
}

final class LokiPushTests: XCTestCase {
    private func json(_ text: String) throws -> Decoded<LogBatch> { try LokiPush.decodeJSON(Array(text.utf8)) }

    private func assertFails(_ text: String, _ code: ObsError.Code, _ message: String, line: UInt = #line) {
        XCTAssertThrowsError(try json(text), line: line) {
            XCTAssertEqual(($0 as? ObsError)?.code, code, line: line)
            XCTAssertTrue("\($0)".contains(message), "\($0)", line: line)
        }
    }

    func testJSON() throws {
        let decoded = try json(
            #"""
            {"streams":[
              {"stream":{"job":"j","app":"web"},"values":[["1700000000000000000","line one"],
                ["1700000000000000001","an error \"é\"\n",{"trace_id":"0123456789ABCDEF0123456789abcdef","span_id":"00000000000000ff","user":"7","empty":""}],
                ["-5","x",{"trace_id":"abc","detected_level":"WARN"}],["3","level=debug",{"level":"fatal","detected_level":"odd"}]]},
              {"values":[["1","y",null]],"stream":{"service_name":"s","level":"info"}},
              {"stream":{"app":"web","job":"j"},"values":[["2","same stream"]]},
              {"stream":{"app":"web"},"values":[]}]}
            """#)
        XCTAssertEqual(
            show(decoded.batch),
            [
                #"{app="web", job="j", service_name="web"} 1700000000000000000 unknown line one"#,
                #"{app="web", job="j", service_name="web"} 1700000000000000001 error an error "é""# + "\n"
                    + " user=7 empty= 0123456789abcdef0123456789abcdef 00000000000000ff",
                #"{app="web", job="j", service_name="web"} -5 warn x trace_id=abc"#,
                #"{app="web", job="j", service_name="web"} 3 fatal level=debug level=fatal detected_level=odd"#,
                #"{level="info", service_name="s"} 1 info y"#, #"{app="web", job="j", service_name="web"} 2 unknown same stream"#,
            ])
        XCTAssertEqual(decoded.batch.streams.count, 3)
        XCTAssertTrue(decoded.batch.flags.allSatisfy { $0.contains(.identified) })
        XCTAssertEqual(decoded.rejected, 0)
    }

    func testStreamsWithoutAServiceBelongToTheUnknownOne() throws {
        XCTAssertEqual(
            try show(json(#"{"streams":[{"stream":{"x":"y","service_name":""},"values":[["1","a"]]}]}"#).batch),
            [#"{service_name="unknown_service", x="y"} 1 unknown a"#])
    }

    func testTheOldShape() throws {
        XCTAssertEqual(
            try show(json(#"{"streams":[{"labels":"{app=\"web\"}","entries":[{"ts":"2023-11-14T22:13:20.5Z","line":"a"}]}]}"#).batch),
            [#"{app="web", service_name="web"} 1700000000500000000 unknown a"#])
    }

    func testBadStreamsAreLeftOutAlone() throws {
        let good = #"{"stream":{"app":"a"},"values":[["1","a"]]}"#
        let cases: [(String, Int, String)] = [
            (#"{"stream":{},"values":[["1","x"],["2","y"]]}"#, 2, "error at least one label pair is required per stream"),
            (#"{"stream":{"a":""},"values":[["1","x"]]}"#, 1, "error at least one label pair is required per stream"),
            (#"{"values":[["1","x"]]}"#, 1, "error at least one label pair is required per stream"),
            (#"{"stream":{"a-b":"c"},"values":[["1","x"]]}"#, 1, "couldn't parse labels: invalid label name \"a-b\""),
            (#"{"stream":{"a":"b","a":"c"},"values":[["1","x"]]}"#, 1, "couldn't parse labels: a label name is repeated"),
            (#"{"labels":"{a=~\"b\"}","entries":[]}"#, 1, "couldn't parse labels: "),
        ]
        for (stream, rejected, reason) in cases {
            let decoded = try json("{\"streams\":[\(stream),\(good)]}")
            XCTAssertEqual(decoded.batch.count, 1, stream)
            XCTAssertEqual(decoded.rejected, rejected, stream)
            XCTAssertTrue(decoded.reason?.hasPrefix(reason) ?? false, "\(stream): \(decoded.reason ?? "")")
        }
    }

    func testMalformedBodiesAreRefusedWhole() {
        assertFails(#"{"streams":[]}"#, .unprocessable, "error at least one valid stream is required for ingestion")
        assertFails("{}", .unprocessable, "error at least one valid stream is required for ingestion")
        for (text, message) in [
            ("", "invalid JSON"), ("{\"streams\":[", "invalid JSON"), (#"{"streams":[1]}"#, "a stream is not an object"),
            (#"{"streams":[{"stream":{"a":1},"values":[]}]}"#, "label \"a\" is not a string"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[[1700000000,"x"]]}]}"#, "a timestamp has to be a string of nanoseconds"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["1.5","x"]]}]}"#, "a timestamp has to be a string of nanoseconds"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["99999999999999999999","x"]]}]}"#, "a timestamp has to be a string of nanoseconds"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#, "an entry has to be"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["1",5]]}]}"#, "an entry has to be"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"n":5}]]}]}"#, "structured metadata \"n\" is not a string"),
            (#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",[]]]}]}"#, "structured metadata is not an object"),
            (#"{"streams":[{"stream":{"a":"b"},"values":{}}]}"#, "not an array"),
        ] { assertFails(text, .badInput, message) }
    }

    // MARK: - protobuf

    private func push(_ streams: [(labels: String, entries: [(Int64, Int64, [UInt8], [(String, String)])])]) -> [UInt8] {
        var writer = ProtobufWriter()
        for stream in streams {
            writer.message(1) { message in
                message.string(1, stream.labels)
                for (seconds, nanos, line, metadata) in stream.entries {
                    message.message(2) { entry in
                        entry.message(1) {
                            $0.int(1, seconds)
                            $0.int(2, nanos)
                        }
                        entry.bytes(2, line)
                        for (name, value) in metadata {
                            entry.message(3) {
                                $0.string(1, name)
                                $0.string(2, value)
                            }
                        }
                    }
                }
                message.varint(3, 99)
            }
        }
        return writer.bytes
    }

    func testProtobuf() throws {
        let decoded = try LokiPush.decodeProtobuf(
            push([
                ("{app=\"web\", env=`p\\`}", [(1, 5, Array("a".utf8), []), (-1, 1, [], [("k", "v"), ("k", "w"), ("span_id", "0000000000000001")])]),
                ("{a=~\"b\"}", [(1, 1, [], []), (1, 1, [], [])]), ("", [(1, 1, [], [])]),
            ]))
        XCTAssertEqual(
            show(decoded.batch),
            [
                #"{app="web", env="p\\", service_name="web"} 1000000005 unknown a"#,
                #"{app="web", env="p\\", service_name="web"} -999999999 unknown  k=v 0000000000000001"#,
            ])
        XCTAssertEqual(decoded.rejected, 3)
        XCTAssertTrue(decoded.reason?.hasPrefix("couldn't parse labels: \"{a=~") ?? false, decoded.reason ?? "")
        XCTAssertThrowsError(try LokiPush.decodeProtobuf([])) { XCTAssertEqual(($0 as? ObsError)?.code, .unprocessable) }
        XCTAssertThrowsError(try LokiPush.decodeProtobuf([0x0a, 9])) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
    }

    func testLabelTexts() throws {
        func labels(_ text: String) -> String? {
            let decoded = try? LokiPush.decodeProtobuf(push([(text, [(0, 0, [], [])])]))
            return decoded.flatMap { $0.batch.isEmpty ? nil : $0.batch.labels(ofStream: 0)["a"] }
        }
        let good: [(String, String)] = [
            (#"{a="b"}"#, "b"), (#" { a = "b" , c="d", } "#, "b"), (#"{a="\"\\\n\t\x41\u00e9\U0001F600\101"}"#, "\"\\\n\tAé😀A"), ("{a=`\\n\"`}", "\\n\""),
            (#"{a="}"}"#, "}"),
            (#"{c="",a="é"}"#, "é"),
        ]
        for (text, value) in good { XCTAssertEqual(labels(text), value, text) }
        for text in [
            "{}", "{", "a", "{a}", "{a=}", "{a=b}", #"{a="b"#, #"{a="b" c="d"}"#, #"{a="b",,c="d"}"#, #"{a="b"} x"#, #"{a="\q"}"#, #"{a="\x4"}"#, #"{a!="b"}"#,
            #"{1a="b"}"#,
            #"{a="b",a="c"}"#, #"{a="\777"}"#, #"{a="\ud800"}"#, #"{a=""}"#, "{a=`b}", #"{a="\"#, #"{,}"#,
        ] { XCTAssertNil(labels(text), text) }
    }

    func testHugeAndOddInputs() throws {
        let line = String(repeating: "x", count: 5 << 20)
        XCTAssertEqual(try json("{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"\(line)\"]]}]}").batch.line[0].count, 5 << 20)
        let metadata = "{" + (0..<10_000).map { "\"k\($0)\":\"v\"" }.joined(separator: ",") + "}"
        let decoded = try json("{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"a\\u0000b\",\(metadata)]]}]}")
        XCTAssertEqual(attributeList(decoded.batch.bytes[decoded.batch.attributes[0].range]).count, 10_000)
        XCTAssertEqual(decoded.batch.bytes.string(decoded.batch.line[0]), "a\0b")
        XCTAssertThrowsError(try json(String(repeating: "{\"streams\":[", count: 100_000)))
    }

    func testMutationsDoNotCrash() {
        let text =
            #"{"streams":[{"stream":{"a":"b","c":"é"},"values":[["17","line \u00e9",{"trace_id":"0123456789abcdef0123456789abcdef","k":"v"}],["18","x"]]}]}"#
        withMutations(of: Array(text.utf8)) { _ = try? LokiPush.decodeJSON($0) }
        let body = push([("{app=\"w\\n\", env=`p`}", [(1, 5, Array("a".utf8), [("k", "v")]), (2, 1, [], [])])])
        withMutations(of: body) { mutated in
            guard let batch = try? LokiPush.decodeProtobuf(mutated).batch else { return }
            XCTAssertEqual(show(batch).count, batch.count)
        }
    }
}
