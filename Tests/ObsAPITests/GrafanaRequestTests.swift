import ObsCompress
import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

/// What Grafana's Prometheus data source sends, byte for byte in its ways: forms by POST, gzip asked for, times as decimals.
final class GrafanaRequestTests: XCTestCase {
    private let headers = [
        ("User-Agent", "Grafana/11.2.0"), ("Accept-Encoding", "gzip"), ("X-Grafana-Org-Id", "1"), ("X-Dashboard-Uid", "abc"), ("X-Panel-Id", "2"),
        ("FromAlert", "false"),
    ]

    private func filled() throws -> API {
        let api = try API()
        for step in 0..<8 { api.write([([("__name__", "up"), ("job", "a")], 1_699_999_895 + Double(step) * 15, 1)]) }
        return api
    }

    private func post(_ api: API, _ path: String, _ form: String) throws -> String {
        let answer = api.post(path, "application/x-www-form-urlencoded", form, headers)
        XCTAssertEqual(answer.status, 200, answer.text)
        XCTAssertEqual(answer.type, "application/json")
        return answer.text
    }

    /// Save & test: 1+1 at four seconds after the epoch, then what kind of server it is.
    func testHealthCheck() throws {
        let api = try filled()
        XCTAssertEqual(try post(api, "/api/v1/query", "query=1%2B1&time=4"), #"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#)
        let build = api.get("/api/v1/status/buildinfo", headers).text
        XCTAssertTrue(build.hasPrefix(#"{"status":"success","data":{"version":"3."#), build)
        XCTAssertFalse(build.contains("features"))
    }

    func testPanels() throws {
        let api = try filled()
        XCTAssertEqual(
            try post(api, "/api/v1/query_range", "end=1700000000&query=sum%28max_over_time%28up%5B1m0s%5D%29%29&start=1699999940&step=30"),
            #"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1699999940,"1"],[1699999970,"1"],[1700000000,"1"]]}]}}"#)
        XCTAssertEqual(
            try post(api, "/api/v1/query", "query=up&time=1700000000.123"),
            #"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000.123,"1"]}]}}"#)
        XCTAssertEqual(try post(api, "/api/v1/query_exemplars", "end=1700000000&query=up&start=1699996400"), #"{"status":"success","data":[]}"#)
    }

    /// The query editor and variables.
    func testResources() throws {
        let api = try filled()
        let range = "start=1699996400&end=1700000000"
        XCTAssertEqual(try post(api, "/api/v1/labels", "\(range)&match%5B%5D=up"), #"{"status":"success","data":["__name__","job"]}"#)
        XCTAssertEqual(
            try post(api, "/api/v1/series", "\(range)&match%5B%5D=up%7Bjob%3D~%22a.*%22%7D"),
            #"{"status":"success","data":[{"__name__":"up","job":"a"}]}"#)
        for (target, data) in [
            ("/api/v1/label/__name__/values?\(range)&limit=40000", #"["up"]"#), ("/api/v1/label/job/values?\(range)&match%5B%5D=up", #"["a"]"#),
            ("/api/v1/metadata?limit=50", "{}"), ("/api/v1/rules", #"{"groups":[]}"#), ("/api/v1/alerts", #"{"alerts":[]}"#),
        ] {
            assertAnswer(api.get(target, headers), 200, #"{"status":"success","data":\#(data)}"#)
        }
    }
}
