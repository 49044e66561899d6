import ObsCore
import ObsNet
import ObsPromQL
import XCTest

@testable import ObsAPI

final class EmptyAnswerTests: XCTestCase {
    private func filled() throws -> API {
        let api = try API()
        var samples: [(labels: [(String, String)], seconds: Double, value: Double)] = []
        for path in ["/", "/a", "/b", "/c", "/d", "/e"] {
            samples.append(([("__name__", "http_requests_total"), ("job", "web"), ("path", path)], 1_699_999_990, 1))
        }
        samples.append(([("__name__", "http_requests_total"), ("job", "api"), ("path", "/x")], 1_699_999_000, 1))
        samples.append(([("__name__", "http_request_size"), ("job", "web")], 1_699_999_990, 1))
        api.write(samples)
        return api
    }

    private func infos(_ api: API, _ target: String) throws -> [String] {
        let answer = api.get("/api/v1/" + target)
        XCTAssertEqual(answer.status, 200, answer.text)
        let tree = try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any]
        return tree?["infos"] as? [String] ?? []
    }

    private func check(_ query: String, _ reasons: [String], _ more: String = "", line: UInt = #line) throws {
        XCTAssertEqual(try infos(filled(), "query?query=\(encoded(query))\(more)"), reasons, line: line)
    }

    func testNames() throws {
        try check(
            "http_request_total",
            ["no answer from http_request_total: no metric of that name was ever stored; near it are http_requests_total, http_request_size"])
        try check("cpu", ["no answer from cpu: no metric of that name was ever stored"])
    }

    func testMatchers() throws {
        try check(
            #"http_requests_total{job="web",path=~"/z.*"}"#,
            [
                #"no answer from http_requests_total{job="web",path=~"/z.*"}: no series of http_requests_total has path=~"/z.*"; path is "/", "/a", "/b", "/c", "/d", …"#
            ])
        try check(
            #"sum(http_requests_total{job="api",path="/a"})"#,
            [#"no answer from http_requests_total{job="api",path="/a"}: no series of http_requests_total with job="api" has path="/a"; path is "/x""#])
        try check(
            #"http_requests_total{zone="a"}"#,
            [#"no answer from http_requests_total{zone="a"}: no series of http_requests_total has zone="a"; there is no label zone"#])
        try check(#"{job="none"}"#, [#"no answer from {job="none"}: no series has job="none"; job is "api", "web""#])
    }

    func testTimes() throws {
        try check(
            #"http_requests_total{job="api"}"#,
            [
                #"no answer from http_requests_total{job="api"}: last seen at 2023-11-14T21:56:40Z, 16m40s before the end of the range, further back than the lookback of 5m"#
            ])
        try check(
            #"rate(http_requests_total{job="api"}[2m] offset 1m)"#,
            [#"no answer from http_requests_total{job="api"} offset 1m: last seen at 2023-11-14T21:56:40Z, 15m40s before the end of the range"#])
        try check("http_request_size", ["no answer from http_request_size: its series have samples only after the range"], "&time=1699990000")
        try check(
            "http_request_size", ["no answer from http_request_size: the range ends before what is kept begins (retention is 30d)"], "&time=1690000000")
        let range = try infos(filled(), "query_range?query=http_request_size&start=1699990000&end=1699991000&step=10")
        XCTAssertEqual(range, ["no answer from http_request_size: its series have samples only after the range"])
    }

    func testWhatOperatorsLeaveNothingOf() throws {
        let nothing = "its series have samples in the range, of which nothing is left: they ended, or operators and functions leave none"
        try check("http_request_size > 5", ["no answer from http_request_size: \(nothing)"])
        try check(
            "http_request_size and cpu",
            ["no answer from http_request_size: \(nothing)", "no answer from cpu: no metric of that name was ever stored"])
        // Each selector once, and only where there is no answer.
        try check("cpu + cpu", ["no answer from cpu: no metric of that name was ever stored"])
        try check("http_request_size", [])
        try check("1", [])
        try check("vector(1) > 2", [])
    }

    func testDistances() {
        for (a, b, distance) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("up", "up", 0), ("ab", "ba", 2)] {
            XCTAssertEqual(editDistance(Array(a.utf8), Array(b.utf8), atMost: 9), distance)
        }
        XCTAssertGreaterThan(editDistance(Array("aaaaaaaa".utf8), Array("bbbbbbbb".utf8), atMost: 2), 2)
    }

    // MARK: explain

    func testExplain() throws {
        let api = try filled()
        assertAnswer(
            api.get("/api/v1/query?explain=1&query=\(encoded(#"sum(http_requests_total{job="web"}) / http_request_size offset 1m"#))"), 200,
            #"{"status":"success","data":{"explain":{"selectors":["#
                + #"{"selector":"http_requests_total{job=\"web\"}","start":1699999700.001,"end":1700000000,"series":6,"samples":6,"blocks":0,"bytes":96,"segments":0},"#
                + #"{"selector":"http_request_size offset 1m","start":1699999640.001,"end":1699999940,"series":0,"samples":0,"blocks":0,"bytes":0,"segments":0}],"#
                + #""series":6,"samples":6,"blocks":0,"bytes":96,"segments":0,"samplesMax":50000000,"seriesMax":2000000}}}"#)
        XCTAssertEqual(api.get("/api/v1/query_range?explain=1&query=up&start=1&end=2&step=0").status, 400)
    }

    func testWindows() throws {
        func check(_ query: String, _ expected: [ClosedRange<Int64>], line: UInt = #line) throws {
            let windows = try parsePromQL(query).windows(startMillis: 1_000_000, endMillis: 2_000_000, stepMillis: 10_000, lookbackMillis: 300_000)
            XCTAssertEqual(windows.map(\.range), expected, line: line)
        }
        try check("up", [700_001...2_000_000])
        try check("up offset 1m + up offset -1m", [640_001...1_940_000, 760_001...2_060_000])
        try check("rate(up[2m])", [880_001...2_000_000])
        try check("up @ 1500 + up @ start() + up @ end() offset 10s", [1_200_001...1_500_000, 700_001...1_000_000, 1_690_001...1_990_000])
        try check("max_over_time(rate(up[1m])[10m:1m] offset 1m)", [280_002...1_940_000])
        try check("topk(scalar(a), -(b))", [700_001...2_000_000, 700_001...2_000_000])
        try check("1 + 1", [])
    }
}
