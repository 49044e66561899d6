import Foundation
import ObsNet
import XCTest

/// OpenTelemetry's Python SDK, unmodified, into a live obsd; what comes out is compared with what the SDK says it sent.
final class OpenTelemetryTests: XCTestCase {
    private static let count = 60

    private func startAndSend() throws -> (TemporaryFolder, ObsdProcess, JSONTree) {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let sent = try JSONTree(Run.client("otel.py", ["http://\(obsd.otlp)", String(Self.count), "run-1"]))
        return (folder, obsd, sent)
    }

    func testAllSignals() throws {
        let (folder, obsd, sent) = try startAndSend()
        try checkTempo(obsd, sent["traces"])
        try checkSearch(obsd)
        try checkJaeger(obsd, sent["traces"])
        try checkMetrics(obsd)
        try checkLogs(obsd, sent["logs"].list)
        // All of it again, from the files.
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        try checkTempo(obsd, sent["traces"])
        try checkSearch(obsd)
        try checkMetrics(obsd)
        try checkLogs(obsd, sent["logs"].list)
        withExtendedLifetime(folder) {}
    }

    /// Spans of OTLP-like groups, by trace and span id, each with its resource and scope.
    private func spans(_ groups: JSONTree) -> [String: [String: JSONTree]] {
        var found: [String: [String: JSONTree]] = [:]
        for group in groups.list {
            for scope in group["scopeSpans"].list {
                for span in scope["spans"].list {
                    let whole = JSONTree(["resource": group["resource"].value ?? "none", "scope": scope["scope"].value ?? "none", "span": span.value ?? "none"])
                    XCTAssertNil(found[span["traceId"].text]?[span["spanId"].text], "a span came twice")
                    found[span["traceId"].text, default: [:]][span["spanId"].text] = whole
                }
            }
        }
        return found
    }

    private func hex(_ base64: String) -> String { (Data(base64Encoded: base64) ?? Data()).map { String(format: "%02x", $0) }.joined() }

    /// Tempo answers in protobuf's JSON, which is also how the client prints its request: equal to the last member.
    private func checkTempo(_ obsd: ObsdProcess, _ sent: JSONTree) throws {
        let wanted = spans(sent["resourceSpans"])
        XCTAssertEqual(wanted.count, Self.count)
        for (id, trace) in wanted {
            XCTAssertEqual(trace.count, 3)
            XCTAssertEqual(spans(try obsd.tree("/api/traces/\(hex(id))")["batches"])[id], trace)
            XCTAssertEqual(spans(try obsd.tree("/tempo/api/v2/traces/\(hex(id).uppercased())")["trace"]["resourceSpans"])[id], trace)
        }
        let (id, trace) = try XCTUnwrap(wanted.first)
        for path in ["/api/traces/", "/api/v2/traces/"] {
            let answer = try JSONTree(Run.client("tempo_trace.py", ["http://\(obsd.http)\(path)\(hex(id))"]))
            XCTAssertEqual(spans(answer["resourceSpans"])[id], trace, path)
        }
    }

    private func checkSearch(_ obsd: ObsdProcess) throws {
        let all = Self.count
        for (query, count) in [
            ("{}", all), (#"{ resource.service.name = "checkout" && status = error }"#, all / 5), (#"{ name = "POST /order" && span.vip = true }"#, all / 2),
            ("{ span.order.number >= 10 && span.order.number < 15 }", 5), (#"{ kind = client && .peer.service = "bank" }"#, all),
            ("{ status = error } || { span.order.number = 1 }", all / 5 + 1), (#"{ name = "store" } && { status = error }"#, all / 5),
            (#"{ resource.service.name = "other" }"#, 0), ("{ span.ratio = 0.5 }", 1), ("{ duration > 1h }", 0), (#"{ span.items = "tea" }"#, all),
        ] {
            XCTAssertEqual(try obsd.tree("/api/search", [("q", query), ("limit", "1000")])["traces"].list.count, count, query)
        }
        let one = try obsd.tree("/api/search", [("q", "{ span.order.number = 5 }")])["traces"][0]
        XCTAssertEqual(one["rootServiceName"].text, "checkout")
        XCTAssertEqual(one["rootTraceName"].text, "POST /order")
        XCTAssertEqual(one["spanSets"][0]["matched"].number, 1)
        XCTAssertEqual(one["spanSets"][0]["spans"][0]["attributes"].description, #"[{"key":"order.number","value":{"intValue":"5"}}]"#)
        let values = try obsd.tree("/api/v2/search/tag/resource.service.name/values")["tagValues"]
        XCTAssertEqual(values.description, #"[{"type":"string","value":"checkout"}]"#)
    }

    private func checkJaeger(_ obsd: ObsdProcess, _ sent: JSONTree) throws {
        XCTAssertEqual(try obsd.tree("/jaeger/api/services")["data"].texts, ["checkout"])
        XCTAssertEqual(try obsd.tree("/jaeger/api/services/checkout/operations")["data"].texts.sorted(), ["POST /order", "charge card", "store"])
        XCTAssertEqual(
            try obsd.tree("/jaeger/api/traces", [("service", "checkout"), ("tags", #"{"error":"true"}"#), ("limit", "1000")])["data"].list.count, Self.count / 5
        )
        let wanted = spans(sent["resourceSpans"])
        for (id, trace) in wanted {
            let data = try obsd.tree("/jaeger/api/traces/\(hex(id))")["data"]
            XCTAssertEqual(data.list.count, 1)
            XCTAssertEqual(data[0]["spans"].list.count, 3)
            for span in data[0]["spans"].list {
                let key = try XCTUnwrap(trace.keys.first { hex($0) == span["spanID"].text })
                let original = try XCTUnwrap(trace[key])["span"]
                XCTAssertEqual(span["operationName"], original["name"])
                XCTAssertEqual(data[0]["processes"][span["processID"].text]["serviceName"].text, "checkout")
                let start = try XCTUnwrap(Int(original["startTimeUnixNano"].text))
                let end = try XCTUnwrap(Int(original["endTimeUnixNano"].text))
                XCTAssertEqual(span["startTime"].number, Double(start / 1000))
                XCTAssertEqual(span["duration"].number, Double((end - start) / 1000), accuracy: 1)
                XCTAssertEqual(span["logs"].list.count, original["events"].list.count)
                if original["parentSpanId"].exists {
                    XCTAssertEqual(span["references"][0]["refType"].text, "CHILD_OF")
                    XCTAssertEqual(span["references"][0]["spanID"].text, hex(original["parentSpanId"].text))
                }
                let follows = span["references"].list.filter { $0["refType"].text == "FOLLOWS_FROM" }.map { $0["traceID"].text }
                XCTAssertEqual(follows, original["links"].list.map { hex($0["traceId"].text) })
                var tags: [String: JSONTree] = [:]
                for tag in span["tags"].list { tags[tag["key"].text] = tag["value"] }
                XCTAssertEqual(tags["span.kind"]?.text ?? "", original["kind"].text.dropFirst("SPAN_KIND_".count).lowercased())
                XCTAssertEqual(tags["otel.scope.name"]?.text, "shop.checkout")
                if original["status"]["code"].text == "STATUS_CODE_ERROR" {
                    XCTAssertEqual(tags["error"], JSONTree(true))
                    XCTAssertEqual(tags["otel.status_description"]?.text, "card refused")
                } else {
                    XCTAssertNil(tags["error"])
                }
                for attribute in original["attributes"].list where attribute["value"]["intValue"].exists {
                    XCTAssertEqual(tags[attribute["key"].text]?.number, attribute["value"]["intValue"].number)
                }
            }
        }
    }

    private func checkMetrics(_ obsd: ObsdProcess) throws {
        let count = Double(Self.count)
        XCTAssertEqual(
            try obsd.samples("orders_placed_total", by: ["country", "http_status_code", "job", "instance"]),
            [
                "de,200,shop/checkout,run-1": count * 3 / 4, "fr,200,shop/checkout,run-1": count / 4,
            ])
        XCTAssertEqual(try obsd.samples("disk_io_bytes_total"), ["": count * 0x1p40])
        XCTAssertEqual(try obsd.samples("queue_length"), ["": count * 2])
        XCTAssertEqual(try obsd.samples("fill_ratio"), ["": (count - 1) / count])
        // 0…29 twice, bounds 5, 10 and 25 inclusive.
        XCTAssertEqual(try obsd.samples("wait_milliseconds_bucket", by: ["le", "step"]), ["5.0,pay": 12, "10.0,pay": 22, "25.0,pay": 52, "+Inf,pay": 60])
        XCTAssertEqual(try obsd.samples("wait_milliseconds_sum"), ["": 870])
        XCTAssertEqual(try obsd.samples("wait_milliseconds_count"), ["": 60])
        XCTAssertEqual(try obsd.samples("histogram_quantile(0.5, wait_milliseconds_bucket)"), ["": 10 + 15 * 8.0 / 30])
        XCTAssertEqual(
            try obsd.samples("target_info", by: ["job", "deployment_environment_name", "host_cores", "tags"]), [#"shop/checkout,test,8,["a","b"]"#: 1])
    }

    private func checkLogs(_ obsd: ObsdProcess, _ sent: [JSONTree]) throws {
        let found = try obsd.tree("/loki/api/v1/query_range", [("query", #"{service_name="checkout"}"#), ("limit", "5000"), ("direction", "forward")])["data"][
            "result"
        ].list
        var lines: [String: (line: String, labels: JSONTree)] = [:]
        for stream in found {
            for value in stream["values"].list {
                XCTAssertNil(lines[value[0].text], "a line came twice")
                lines[value[0].text] = (value[1].text, stream["stream"])
            }
        }
        XCTAssertEqual(lines.count, Self.count)
        for record in sent {
            let (line, labels) = try XCTUnwrap(lines[record["time"].text])
            XCTAssertEqual(line, record["line"].text)
            for (label, value) in [
                ("trace_id", record["traceId"].text), ("span_id", record["spanId"].text), ("severity_text", record["level"].text),
                ("order_number", record["number"].text),
                ("user_name", "x"), ("scope_name", "shop.log"), ("service_namespace", "shop"), ("service_instance_id", "run-1"),
                ("deployment_environment_name", "test"),
                ("detected_level", record["level"].text.lowercased()), ("host_cores", "8"),
            ] {
                XCTAssertEqual(labels[label].text, value, label)
            }
        }
        for (query, count) in [
            (#"{service_name="checkout"} |= "placed""#, Self.count * 9 / 10), (#"{service_name="checkout"} | severity_text="ERROR""#, Self.count / 3),
            (#"{service_name="checkout"} | json | __error__="" | who_id > 20"#, Self.count / 10 - 2), (#"{service_name="checkout"} | order_number = 7"#, 1),
        ] {
            XCTAssertEqual(try obsd.logLines(query).count, count, query)
        }
    }

    // MARK: OTLP/JSON by hand

    func testJSON() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let now = Int64(Date().timeIntervalSince1970) * 1_000_000_000
        let resource = #""resource":{"attributes":[{"key":"service.name","value":{"stringValue":"hand"}}]}"#
        let traces = """
            {"resourceSpans":[{\(resource),"scopeSpans":[{"scope":{"name":"s"},"spans":[
             {"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","parentSpanId":"","name":"JSON span","kind":2,
              "startTimeUnixNano":"\(now)","endTimeUnixNano":\(now + 5_000_000),"unknownKey":{"a":[1]},
              "attributes":[{"key":"b","value":{"bytesValue":"AQI="}},{"key":"i","value":{"intValue":"9223372036854775807"}},{"key":"d","value":{"doubleValue":"NaN"}}],
              "status":{"code":2,"message":"x"}},
             {"traceId":"00000000000000000000000000000000","spanId":"EEE19B7EC3C1B174","name":"no id"}]}]}]}
            """
        let metrics = """
            {"resourceMetrics":[{\(resource),"scopeMetrics":[{"metrics":[
             {"name":"jobs","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"41","timeUnixNano":"\(now)","attributes":[{"key":"k","value":{"boolValue":true}}]}]}},
             {"name":"heat","unit":"Cel","gauge":{"dataPoints":[{"asDouble":-1.5,"timeUnixNano":\(now)}]}},
             {"name":"bad","sum":{"isMonotonic":true,"dataPoints":[{"asInt":"1","timeUnixNano":"\(now)"}]}}]}]}]}
            """
        let logs = """
            {"resourceLogs":[{\(resource),"scopeLogs":[{"logRecords":[
             {"timeUnixNano":"\(now)","severityNumber":17,"body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":1},{"boolValue":false}]}}}]}}},
             {"observedTimeUnixNano":"\(now + 1)","traceId":"5b8efff798038103d269b633813fc60c","body":{"stringValue":"second"}}]}]}]}
            """
        func send(_ signal: String, _ body: String) throws -> (Int, JSONTree) {
            let answer = try HTTPClient().perform(
                HTTPClientRequest(
                    url: "http://\(obsd.otlp)/v1/\(signal)", method: "POST", headers: [("Content-Type", "application/json; charset=utf-8")],
                    body: Array(body.utf8)))
            XCTAssertEqual(answer.header("content-type"), "application/json")
            return (answer.status, try JSONTree(answer.body))
        }
        let (tracesStatus, tracesAnswer) = try send("traces", traces)
        XCTAssertEqual(tracesStatus, 200)
        XCTAssertEqual(tracesAnswer["partialSuccess"]["rejectedSpans"].number, 1)
        XCTAssertNotEqual(tracesAnswer["partialSuccess"]["errorMessage"].text, "")
        let (metricsStatus, metricsAnswer) = try send("metrics", metrics)
        XCTAssertEqual(metricsStatus, 200)
        XCTAssertEqual(metricsAnswer["partialSuccess"]["rejectedDataPoints"].number, 1)
        let (logsStatus, logsAnswer) = try send("logs", logs)
        XCTAssertEqual(logsStatus, 200)
        XCTAssertEqual(logsAnswer.description, "{}")
        for (signal, body) in [("traces", #"{"resourceSpans":null}"#), ("logs", "{}"), ("metrics", #"{"resourceMetrics":[]}"#)] {
            XCTAssertEqual(try send(signal, body).0, 200)
        }

        let span = try obsd.tree("/api/traces/5b8efff798038103d269b633813fc60c")["batches"][0]["scopeSpans"][0]["spans"][0]
        XCTAssertEqual(span["name"].text, "JSON span")
        XCTAssertEqual(span["kind"].text, "SPAN_KIND_SERVER")
        XCTAssertEqual(span["endTimeUnixNano"].text, String(now + 5_000_000))
        XCTAssertEqual(
            span["attributes"].description,
            #"[{"key":"b","value":{"bytesValue":"AQI="}},{"key":"i","value":{"intValue":"9223372036854775807"}},{"key":"d","value":{"doubleValue":"NaN"}}]"#)
        XCTAssertEqual(span["status"].description, #"{"code":"STATUS_CODE_ERROR","message":"x"}"#)
        XCTAssertEqual(try obsd.samples("jobs_total", by: ["k", "job"]), ["true,hand": 41])
        XCTAssertEqual(try obsd.samples("heat_celsius"), ["": -1.5])
        XCTAssertEqual(try obsd.samples("bad_total"), [:])
        XCTAssertEqual(try obsd.logLines(#"{service_name="hand"}"#), [#"{"a":[1,false]}"#, "second"])
        XCTAssertEqual(try obsd.logLines(#"{service_name="hand"} | trace_id="5b8efff798038103d269b633813fc60c""#), ["second"])
        XCTAssertEqual(try obsd.logLines(#"{service_name="hand"} | detected_level="error""#), [#"{"a":[1,false]}"#])
    }
}
