import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

@testable import ObsAPI

final class PrometheusAPITests: XCTestCase {
    private let form = "application/x-www-form-urlencoded"

    /// `up` of two jobs, sampled at 1 699 999 940 s and a minute later, and a metric of one.
    private func filled() throws -> API {
        let api = try API()
        for (seconds, value) in [(1_699_999_940.0, 0.0), (1_700_000_000, 1)] {
            api.write([
                ([("__name__", "up"), ("job", "a")], seconds, value), ([("__name__", "up"), ("job", "b\"é")], seconds, 1),
                ([("__name__", "size"), ("job", "a"), ("le", "0.5")], seconds, 1e21),
            ])
        }
        return api
    }

    private func bad(_ text: String) -> String { #"{"status":"error","errorType":"bad_data","error":\#(jsonString(text))}"# }
    private func jsonString(_ text: String) -> String { "\"" + text.replacingOccurrences(of: "\"", with: "\\\"") + "\"" }

    // MARK: Queries

    func testInstantQueries() throws {
        let api = try filled()
        func check(_ query: String, _ data: String, _ more: String = "", line: UInt = #line) {
            let response = api.get("/api/v1/query?query=\(encoded(query))\(more)")
            assertAnswer(response, 200, #"{"status":"success","data":\#(data)}"#, line: line)
            XCTAssertEqual(response.type, "application/json", line: line)
        }
        check("1+1", #"{"resultType":"scalar","result":[4,"2"]}"#, "&time=4")
        check(#""text""#, #"{"resultType":"string","result":[1700000000,"text"]}"#)
        check(
            "up",
            #"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000,"1"]},{"metric":{"__name__":"up","job":"b\"é"},"value":[1700000000,"1"]}]}"#
        )
        check("up{job=\"a\"}", #"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1699999940.500,"0"]}]}"#, "&time=1699999940.5")
        check("vector(1) > 2", #"{"resultType":"vector","result":[]}"#)
        check("sum(size)", #"{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"1e+21"]}]}"#)
        check(
            "up{job=\"a\"}[2m]",
            #"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[1699999940,"0"],[1700000000,"1"]]}]}"#)
        check("vector(1)/0", #"{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"+Inf"]}]}"#)
        check("vector(0)/0", #"{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"NaN"]}]}"#, "&timeout=5s&lookback_delta=1m")
    }

    func testRangeQueries() throws {
        let api = try filled()
        assertAnswer(
            api.get("/api/v1/query_range?query=up%7Bjob%3D%22a%22%7D&start=1699999940&end=2023-11-14T22:13:20Z&step=30s"), 200,
            #"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[1699999940,"0"],[1699999970,"0"],[1700000000,"1"]]}]}}"#
        )
        assertAnswer(
            api.get("/api/v1/query_range?query=vector(1)%3E2&start=1&end=2&step=1"), 200, #"{"status":"success","data":{"resultType":"matrix","result":[]}}"#)
    }

    /// vmalert posts an empty body with everything in the URL and a JSON type; Grafana posts forms.
    func testPOSTMergesURLAndForm() throws {
        let api = try filled()
        let two = #"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
        assertAnswer(api.post("/api/v1/query", form, "query=1%2B1&time=4"), 200, two)
        assertAnswer(api.post("/api/v1/query?time=4", form + "; charset=utf-8", "query=1+%2B+1"), 200, two)
        assertAnswer(api.post("/api/v1/query?query=1%2B1&time=4", "application/json", ""), 200, two)
        // The form wins, as in Go.
        assertAnswer(api.post("/api/v1/query?query=7&time=9", form, "query=1%2B1&time=4"), 200, two)
        let range = #"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"]]}]}}"#
        assertAnswer(api.post("/api/v1/query_range?step=1", form, "query=1&start=1&end=2"), 200, range)
        assertAnswer(api.post("/api/v1/series?match[]=up%7Bjob=%22a%22%7D", form, "match[]=size"), 200, try expectedSeries())
    }

    private func expectedSeries() throws -> String {
        #"{"status":"success","data":[{"__name__":"size","job":"a","le":"0.5"},{"__name__":"up","job":"a"}]}"#
    }

    func testExemplars() throws {
        let api = try API()
        var writer = ProtobufWriter()
        writer.message(1) { series in
            series.labels(1, Labels([("__name__", "seen_total"), ("job", "a")]))
            series.message(2) {
                $0.double(1, 7)
                $0.int(2, 1_700_000_000_000)
            }
            for (trace, value, time) in [("t1", 6.0, 1_699_999_990_479), ("t2", 0.5, 1_699_999_995_000)] as [(String, Double, Int64)] {
                series.message(3) {
                    $0.labels(1, Labels([("trace_id", trace)]))
                    $0.double(2, value)
                    $0.int(3, time)
                }
            }
        }
        XCTAssertEqual(api.send("POST", "/api/v1/write", [("Content-Type", "application/x-protobuf")], body: snappyCompress(writer.bytes)).status, 204)
        let first = #"{"labels":{"trace_id":"t1"},"value":"6","timestamp":1699999990.479}"#
        let second = #"{"labels":{"trace_id":"t2"},"value":"0.5","timestamp":1699999995}"#
        func check(_ target: String, _ exemplars: String, line: UInt = #line) {
            let series = exemplars.isEmpty ? "" : #"{"seriesLabels":{"__name__":"seen_total","job":"a"},"exemplars":[\#(exemplars)]}"#
            assertAnswer(api.get("/api/v1/query_exemplars?query=" + target), 200, #"{"status":"success","data":[\#(series)]}"#, line: line)
        }
        check(encoded("rate(seen_total[5m])"), first + "," + second)
        check("seen_total&start=1699999991&end=1700000000", second)
        check("other", "")
        check("1", "")
        assertAnswer(api.get("/api/v1/query_exemplars?query=up&start=2&end=1"), 400, bad("end timestamp must not be before start timestamp"))
    }

    func testLimitTruncatesWithAWarning() throws {
        let api = try filled()
        assertAnswer(
            api.get("/api/v1/query?query=up&limit=1"), 200,
            #"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000,"1"]}]},"warnings":["results truncated due to limit"]}"#
        )
        assertAnswer(
            api.get("/api/v1/labels?limit=2"), 200, #"{"status":"success","data":["__name__","job"],"warnings":["results truncated due to limit"]}"#)
        XCTAssertFalse(api.get("/api/v1/query?query=up&limit=2").text.contains("warnings"))
        XCTAssertFalse(api.get("/api/v1/query?query=up&limit=0").text.contains("warnings"))
    }

    func testStatistics() throws {
        let api = try filled()
        let pattern =
            #""stats":\{"timings":\{"evalTotalTime":[0-9.e-]+,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":[0-9.e-]+,"execQueueTime":[0-9.e-]+,"execTotalTime":[0-9.e-]+\},"samples":\{"totalQueryableSamples":4,"samplesRead":4,"peakSamples":4\}\}\}\}$"#
        for word in ["true", "all"] {
            let text = api.get("/api/v1/query?query=up&stats=\(word)").text
            XCTAssertNotNil(text.range(of: pattern, options: .regularExpression), text)
        }
        XCTAssertTrue(
            api.get("/api/v1/query?query=up&stats=1").text.hasSuffix(
                #""warnings":["value \"1\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""]}"#))
    }

    // MARK: Series and labels

    func testSeriesAndLabels() throws {
        let api = try filled()
        func check(_ target: String, _ data: String, line: UInt = #line) {
            assertAnswer(api.get("/api/v1" + target), 200, #"{"status":"success","data":\#(data)}"#, line: line)
        }
        assertAnswer(api.get("/api/v1/series?match[]=%7Bjob=%22a%22%7D"), 200, try expectedSeries())
        check("/series?match[]=none", "[]")
        check("/series?match[]=up&start=1&end=2", "[]")
        check("/labels", #"["__name__","job","le"]"#)
        check("/labels?match[]=up", #"["__name__","job"]"#)
        check("/labels?match[]=up&match[]=size", #"["__name__","job","le"]"#)
        check("/labels?match[]=none", "[]")
        check("/labels?start=1&end=2", "[]")
        check("/labels?start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z", #"["__name__","job","le"]"#)
        check("/label/job/values", #"["a","b\"é"]"#)
        check("/label/job/values?match[]=size", #"["a"]"#)
        check("/label/__name__/values", #"["size","up"]"#)
        check("/label/none/values", "[]")
    }

    func testEscapedLabelNames() {
        func check(_ name: String, _ expected: String) { XCTAssertEqual(unescapedLabelName(name), expected) }
        check("job", "job")
        check("U__http_2e_status", "http.status")
        check("U__a__b", "a_b")
        check("U___263a_", "☺")
        check("U__a_zz_", "U__a_zz_")
        check("U__a_2e", "U__a_2e")
        check("U__a_d800_", "U__a_d800_")
    }

    func testOtherAnswers() throws {
        let api = try filled()
        assertAnswer(api.get("/api/v1/format_query?query=sum(up)by(job)"), 200, #"{"status":"success","data":"sum by (job) (up)"}"#)
        assertAnswer(api.get("/api/v1/query_exemplars?query=up"), 200, #"{"status":"success","data":[]}"#)
        assertAnswer(api.get("/api/v1/metadata"), 200, #"{"status":"success","data":{}}"#)
        var metadata = ProtobufWriter()
        for (family, help) in [("size", "old"), ("up", "b"), ("size", "a")] {
            metadata.message(3) {
                $0.varint(1, 2)
                $0.string(2, family)
                $0.string(4, help)
                $0.string(5, "bytes")
            }
        }
        let sent = api.send("POST", "/api/v1/write", [("Content-Type", "application/x-protobuf")], body: snappyCompress(metadata.bytes))
        XCTAssertEqual(sent.status, 204)
        let size = #""size":[{"type":"gauge","help":"a","unit":"bytes"}]"#
        assertAnswer(
            api.get("/api/v1/metadata"), 200, #"{"status":"success","data":{\#(size),"up":[{"type":"gauge","help":"b","unit":"bytes"}]}}"#)
        for query in ["metric=size", "limit=1"] { assertAnswer(api.get("/api/v1/metadata?\(query)"), 200, #"{"status":"success","data":{\#(size)}}"#) }
        assertAnswer(api.get("/api/v1/targets"), 200, #"{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}}"#)
        assertAnswer(api.get("/api/v1/scrape_pools"), 200, #"{"status":"success","data":{"scrapePools":[]}}"#)
        assertAnswer(api.get("/api/v1/rules"), 200, #"{"status":"success","data":{"groups":[]}}"#)
        assertAnswer(api.get("/api/v1/alerts"), 200, #"{"status":"success","data":{"alerts":[]}}"#)
        assertAnswer(api.get("/api/v1/status/config"), 200, #"{"status":"success","data":{"yaml":"global: {}\n"}}"#)
        let build = api.get("/api/v1/status/buildinfo").text
        XCTAssert(build.hasPrefix(#"{"status":"success","data":{"version":"3."#), build)
        // Grafana takes a server with features for Mimir.
        XCTAssertFalse(build.contains("features"))
    }

    // MARK: Errors

    func testBadParameters() throws {
        let api = try filled()
        func check(_ target: String, _ text: String, line: UInt = #line) { assertAnswer(api.get("/api/v1" + target), 400, bad(text), line: line) }
        check("/query", #"invalid parameter "query": unknown position: parse error: no expression found in input"#)
        check("/query?query=1&time=x", #"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#)
        check("/query?query=1&timeout=x", #"invalid parameter "timeout": cannot parse "x" to a valid duration"#)
        check("/query?query=1&limit=-1", #"invalid parameter "limit": limit must be non-negative"#)
        check("/query_range?query=1&end=2&step=1", #"invalid parameter "start": cannot parse "" to a valid timestamp"#)
        check("/query_range?query=1&start=1&step=1", #"invalid parameter "end": cannot parse "" to a valid timestamp"#)
        check("/query_range?query=1&start=1&end=2", #"invalid parameter "step": cannot parse "" to a valid duration"#)
        check("/query_range?query=1&start=2&end=1&step=1", #"invalid parameter "end": end timestamp must not be before start time"#)
        for step in ["0", "-1", "0s"] {
            check(
                "/query_range?query=1&start=1&end=2&step=\(step)",
                #"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#)
        }
        check(
            "/query_range?query=1&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        XCTAssertEqual(api.get("/api/v1/query_range?query=1&start=0&end=11000&step=1").status, 200)
        check("/series", "no match[] parameter provided")
        check("/series?match[]=%7B%7D", #"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#)
        check("/labels?match[]=%7Ba=~%22.*%22%7D", "match[] must contain at least one non-empty matcher")
        check("/label/job/values?end=x", #"invalid parameter "end": invalid time value for 'end': cannot parse "x" to a valid timestamp"#)
        check("/query?query=1&limit=x", #"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#)
        check("/query?query=1&lookback_delta=x", #"error parsing lookback delta duration: cannot parse "x" to a valid duration"#)
        check("/rules?type=x", #"invalid parameter "type": not supported value "x""#)
        check("/metadata?limit=x", "limit must be a number")
        let broken = api.get("/api/v1/labels?match[]=up%7B").text
        XCTAssert(broken.hasPrefix(#"{"status":"error","errorType":"bad_data","error":"1:4: parse error: "#), broken)
        // An end before the start is no mistake to Prometheus.
        for target in ["/labels?start=2&end=1", "/label/job/values?start=2&end=1", "/series?match[]=up&start=2&end=1"] {
            assertAnswer(api.get("/api/v1" + target), 200, #"{"status":"success","data":[]}"#)
        }
    }

    func testBadExpressions() throws {
        let api = try filled()
        for path in ["query?", "query_range?start=1&end=2&step=1&", "format_query?", "query_exemplars?"] {
            let response = api.get("/api/v1/\(path)query=sum(")
            XCTAssertEqual(response.status, 400)
            XCTAssert(
                response.text.hasPrefix(#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: "#), response.text)
        }
    }

    func testEvaluationErrors() throws {
        let api = try filled()
        let manyToMany = api.get("/api/v1/query?query=\(encoded("up + on () up"))")
        XCTAssertEqual(manyToMany.status, 422)
        XCTAssert(manyToMany.text.hasPrefix(#"{"status":"error","errorType":"execution","error":"#), manyToMany.text)
        var limits = Limits()
        limits.querySamplesMax = 1
        let small = try API(limits: limits)
        small.write([([("__name__", "up"), ("n", "1")], 1_700_000_000, 1), ([("__name__", "up"), ("n", "2")], 1_700_000_000, 1)])
        let tooMany = small.get("/api/v1/query?query=up")
        XCTAssertEqual(tooMany.status, 422)
        XCTAssert(tooMany.text.contains("too many samples"), tooMany.text)
    }
}
