import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class LokiAPITests: XCTestCase {
    private let api = "/loki/api/v1"

    /// Two streams; the second has a line with metadata. Times are 1 699 999 990 s and nanoseconds after it.
    private func filled() throws -> API {
        let api = try API()
        api.push(#"{"stream":{"app":"web"},"values":[["1699999990000000000","level=info n=1"],["1699999990000000001","level=info n=2"]]}"#)
        api.push(#"{"stream":{"app":"db"},"values":[["1699999990000000002","level=error slow",{"trace":"t1"}]]}"#)
        return api
    }

    private func data(_ response: HTTPResponse, line: UInt = #line) -> String {
        XCTAssertEqual(response.status, 200, response.text, line: line)
        XCTAssertEqual(response.type, "application/json", line: line)
        let prefix = #"{"status":"success","data":"#
        XCTAssert(response.text.hasPrefix(prefix), response.text, line: line)
        let text = String(response.text.dropFirst(prefix.count).dropLast())
        guard let stats = text.range(of: #","stats":{"summary":{"#) else { return text }
        return String(text[..<stats.lowerBound]) + "}"
    }

    // MARK: Queries

    func testLogQueryMergesAllLabels() throws {
        let target = api + "/query_range?query=\(encoded("{app=~\".+\"}"))"
        XCTAssertEqual(
            data(try filled().get(target + "&direction=forward")),
            #"{"resultType":"streams","result":[{"stream":{"app":"db","detected_level":"error","service_name":"db","trace":"t1"},"values":[["1699999990000000002","level=error slow"]]},{"stream":{"app":"web","detected_level":"info","service_name":"web"},"values":[["1699999990000000000","level=info n=1"],["1699999990000000001","level=info n=2"]]}]}"#
        )
        XCTAssertEqual(
            data(try filled().get(target + "&limit=2")),
            #"{"resultType":"streams","result":[{"stream":{"app":"db","detected_level":"error","service_name":"db","trace":"t1"},"values":[["1699999990000000002","level=error slow"]]},{"stream":{"app":"web","detected_level":"info","service_name":"web"},"values":[["1699999990000000001","level=info n=2"]]}]}"#
        )
    }

    func testCategorizedLabels() throws {
        XCTAssertEqual(
            data(
                try filled().get(
                    api + "/query_range?query=\(encoded("{app=~\".+\"} | logfmt | line_format \"x\" | drop n"))",
                    [("X-Loki-Response-Encoding-Flags", "other,categorize-labels")])),
            #"{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[{"stream":{"app":"db","service_name":"db"},"values":[["1699999990000000002","x",{"structuredMetadata":{"detected_level":"error","trace":"t1"},"parsed":{"level":"error"}}]]},{"stream":{"app":"web","service_name":"web"},"values":[["1699999990000000001","x",{"structuredMetadata":{"detected_level":"info"},"parsed":{"level":"info"}}],["1699999990000000000","x",{"structuredMetadata":{"detected_level":"info"},"parsed":{"level":"info"}}]]}]}"#
        )
    }

    func testEndIsExclusive() throws {
        let api = try filled()
        func lines(_ start: Int64, _ end: Int64) -> Int {
            let text = api.get("\(self.api)/query_range?query=\(encoded("{app=\"web\"}"))&start=\(start)&end=\(end)").text
            return text.components(separatedBy: "level=info").count - 1
        }
        let time: Int64 = 1_699_999_990_000_000_000
        XCTAssertEqual(lines(time, time + 2), 2)
        XCTAssertEqual(lines(time, time + 1), 1)
        XCTAssertEqual(lines(time + 1, time + 2), 1)
        XCTAssertEqual(lines(time - 1, time), 0)
    }

    func testMetricQueries() throws {
        let api = try filled()
        // Steps are multiples of a minute; the line at …990 is in the window of the second.
        let byApp = encoded("sum by (app) (count_over_time({app=~\".+\"}[1m]))")
        XCTAssertEqual(
            data(api.get("\(self.api)/query_range?query=\(byApp)&start=1700000000&end=1700000060&step=60")),
            #"{"resultType":"matrix","result":[{"metric":{"app":"db"},"values":[[1700000040,"1"]]},{"metric":{"app":"web"},"values":[[1700000040,"2"]]}]}"#)
        XCTAssertEqual(
            data(api.get("\(self.api)/query?query=\(encoded("sum(count_over_time({app=~\".+\"}[1m]))"))")),
            #"{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"3"]}]}"#)
        // Grafana's health check.
        XCTAssertEqual(
            data(api.get("\(self.api)/query?query=vector(1)%2Bvector(1)&time=4000000000")),
            #"{"resultType":"vector","result":[{"metric":{},"value":[4000000000,"2"]}]}"#)
        XCTAssertEqual(data(api.get("\(self.api)/query?query=1%2B1&time=4")), #"{"resultType":"scalar","result":[4,"2"]}"#)
        XCTAssertEqual(data(api.post("\(self.api)/query?time=4", "application/x-www-form-urlencoded", "query=2")), #"{"resultType":"scalar","result":[4,"2"]}"#)
    }

    func testSummaryCountsWhatWasRead() throws {
        let text = try filled().get(api + "/query_range?query=%7Bapp=%22web%22%7D").text
        for member in ["bytesProcessedPerSecond", "linesProcessedPerSecond", "totalBytesProcessed", "totalLinesProcessed", "execTime", "queueTime"] {
            XCTAssert(text.contains("\"\(member)\":"), text)
        }
        XCTAssert(text.contains("\"totalEntriesReturned\":2"), text)
    }

    // MARK: Labels and series

    func testLabelsAndSeries() throws {
        let api = try filled()
        func check(_ target: String, _ expected: String, line: UInt = #line) {
            XCTAssertEqual(data(api.get(self.api + target), line: line), expected, line: line)
        }
        check("/labels", #"["app","service_name"]"#)
        check("/label", #"["app","service_name"]"#)
        check("/labels?start=1&end=2", "[]")
        check("/labels?since=5s", "[]")
        check("/labels?since=11s", #"["app","service_name"]"#)
        check("/label/app/values", #"["db","web"]"#)
        check("/label/app/values?query=\(encoded("{app=~\"w.*\"}"))", #"["web"]"#)
        check("/label/none/values", "[]")
        check("/series", #"[{"app":"db","service_name":"db"},{"app":"web","service_name":"web"}]"#)
        check("/series?match[]=\(encoded("{app=\"web\"}"))", #"[{"app":"web","service_name":"web"}]"#)
        // logcli's spelling.
        check(
            "/series?match=\(encoded("{app=\"web\"}"))&match=\(encoded("{app=\"db\"}"))",
            #"[{"app":"db","service_name":"db"},{"app":"web","service_name":"web"}]"#)
        check("/series?match[]=\(encoded("{app=\"none\"}"))", "[]")
    }

    func testFormatQuery() throws {
        let api = try filled()
        XCTAssertEqual(data(api.get("\(self.api)/format_query?query=\(encoded("{a=\"b\"}|=\"c\""))")), #""{a=\"b\"} |= \"c\"""#)
        let bad = api.get("\(self.api)/format_query?query=%7B")
        XCTAssertEqual(bad.status, 400)
        XCTAssert(bad.text.hasPrefix(#"{"status":"invalid-query","error":"parse error"#), bad.text)
    }

    func testBuildInfoHasNoEnvelope() throws { XCTAssert(try API().get(api + "/status/buildinfo").text.hasPrefix(#"{"version":""#)) }

    // MARK: Errors

    func testErrorsArePlainText() throws {
        let api = try filled()
        func check(_ target: String, _ text: String, line: UInt = #line) {
            let response = api.get(self.api + target)
            assertAnswer(response, 400, text + "\n", line: line)
            XCTAssertEqual(response.type, "text/plain; charset=utf-8", line: line)
        }
        let logs = "query=%7Bapp=%22web%22%7D"
        check("/query_range", #"invalid parameter "query": missing"#)
        check("/query_range?\(logs)&start=2&end=1", "end timestamp must not be before or equal to start time")
        check("/query_range?\(logs)&start=1&end=1", "end timestamp must not be before or equal to start time")
        check("/labels?start=1&end=1", "end timestamp must not be before or equal to start time")
        check("/query_range?\(logs)&limit=0", "limit must be a positive value")
        check("/query_range?\(logs)&limit=-1", "limit must be a positive value")
        check("/query_range?\(logs)&limit=5001", "max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)")
        check("/query_range?\(logs)&direction=up", #"invalid direction "up", must be either forward or backward"#)
        check("/query_range?\(logs)&interval=-1s", "interval must be >= 0")
        for step in ["0", "-5s"] {
            check("/query_range?\(logs)&step=\(step)", "zero or negative query resolution step widths are not accepted. Try a positive integer")
        }
        check(
            "/query_range?\(logs)&start=1&end=20000&step=1",
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter")
        check("/query?\(logs)", "log queries are not supported as an instant query type, please change your query to a range query type")
        XCTAssertEqual(api.get("\(self.api)/query_range?\(logs)&limit=5000").status, 200)
        let broken = api.get("\(self.api)/query_range?query=%7Bapp")
        XCTAssertEqual(broken.status, 400)
        XCTAssert(broken.text.hasPrefix("parse error at line 1, col 5: syntax error: unexpected"), broken.text)
    }

    func testPipelineErrorsAre400() throws {
        let api = try filled()
        let response = api.get("\(self.api)/query?query=\(encoded("sum_over_time({app=\"web\"} | logfmt | unwrap level [1m])"))")
        XCTAssertEqual(response.status, 400)
        XCTAssert(response.text.hasPrefix("pipeline error: 'SampleExtractionErr'"), response.text)
    }

    func testTailRefusals() throws {
        let api = try API()
        XCTAssertEqual(api.get("\(self.api)/tail?query=%7Ba=%22b%22%7D").status, 101)
        assertAnswer(api.get("\(self.api)/tail?query=vector(1)"), 400, "only log queries can be tailed\n")
        assertAnswer(api.get("\(self.api)/tail"), 400, "invalid parameter \"query\": missing\n")
        XCTAssertEqual(api.get("\(self.api)/tail?query=%7Ba=%22b%22%7D&limit=5001").status, 400)
    }
}
