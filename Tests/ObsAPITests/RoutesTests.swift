import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class RoutesTests: XCTestCase {
    func testUnknownPathsAndMethods() throws {
        let api = try API()
        for path in ["/none", "/api/v1/none", "/loki/api/v1/none", "/api/v1/query/more"] { assertAnswer(api.get(path), 404, "404 page not found\n") }
        XCTAssertEqual(api.send("DELETE", "/api/v1/query").status, 405)
        XCTAssertEqual(api.send("POST", "/api/v1/label/job/values").status, 405)
        XCTAssertEqual(api.send("OPTIONS", "/api/v1/query").status, 204)
        XCTAssertEqual(api.send("HEAD", "/api/v1/labels").status, 200)
    }

    func testHealth() throws {
        let ready = try API()
        assertAnswer(ready.get("/ready"), 200, "ready\n")
        assertAnswer(ready.get("/-/ready"), 200, "obsd is ready.\n")
        assertAnswer(ready.get("/api/echo"), 200, "echo")
        let replaying = try API(notReady: "replaying the log: 50 % done")
        for path in ["/ready", "/-/ready"] {
            let response = replaying.get(path)
            assertAnswer(response, 503, "replaying the log: 50 % done\n")
            XCTAssertEqual(response.header("retry-after"), "1")
        }
        assertAnswer(replaying.get("/-/healthy"), 200, "obsd is healthy.\n")
    }

    func testAdministration() throws {
        let api = try API()
        assertAnswer(api.send("POST", "/-/reload"), 500, "failed to reload config: obsd.yml:3: bad file\n")
        assertAnswer(api.send("PUT", "/-/flush"), 200, "")
        XCTAssertEqual(api.get("/-/reload").status, 405)
        assertAnswer(api.get("/api/status"), 200, #"{"version":"1.2.3","ready":true,"signals":[],"quarantined":0}"#)
        XCTAssertEqual(api.get("/metrics").type, "text/plain; version=0.0.4; charset=utf-8")
        XCTAssert(api.get("/").text.contains("<html"))
        XCTAssertEqual(api.get("/ui/none.js").status, 404)
    }

    /// Numbers at the ends of their types, in every place that takes one: an answer, whatever it is, and no trap.
    func testExtremeParameters() throws {
        let api = try API()
        api.push(#"{"stream":{"app":"a"},"values":[["1699999990000000000","x"]]}"#)
        api.write([([("__name__", "up")], 1_700_000_000, 1)])
        let numbers = [
            "0", "-1", "1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e308", "-1e308", "8999999999999", "-8999999999999", "9e12",
            "NaN", "Inf", "9999999999", "-999999999", "4600000000000000000", "9199999999", "-9199999999", "292y", "-292y", "0.0000001",
            "-292273086-05-16T16:47:06Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z",
        ]
        let targets = [
            "/api/v1/query?query=up", "/api/v1/query?query=rate(up[5m]%20offset%201h)", "/api/v1/query_range?query=up", "/api/v1/labels?",
            "/api/v1/series?match[]=up",
            "/api/v1/metadata?", "/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D", "/loki/api/v1/query_range?query=rate(%7Bapp=%22a%22%7D[5m]%20offset%201h)",
            "/loki/api/v1/query?query=rate(%7Bapp=%22a%22%7D[5m])", "/loki/api/v1/labels?", "/loki/api/v1/series?", "/loki/api/v1/tail?query=%7Bapp=%22a%22%7D",
            "/api/search?q=%7B%7D", "/api/search?tags=a%3Db", "/api/v2/search/tags?", "/api/v2/search/tag/name/values?", "/jaeger/api/traces?service=a",
        ]
        let names = [
            "time", "start", "end", "step", "timeout", "lookback_delta", "limit", "since", "interval", "spss", "minDuration", "maxDuration",
        ]
        for target in targets {
            for number in numbers {
                for name in names { check(api, "\(target)&\(name)=\(encoded(number))") }
                for other in ["-8999999999999", "8999999999999", "-9199999999", "9199999999", "9223372036854775807", "-9223372036854775808"] {
                    check(api, "\(target)&start=\(encoded(number))&end=\(other)&step=9000000")
                    check(api, "\(target)&start=\(other)&end=\(encoded(number))&step=9e11")
                }
            }
        }
    }

    private func check(_ api: API, _ target: String) {
        let status = api.get(target).status
        XCTAssert((100..<600).contains(status) && status != 500, "\(status) for \(target)")
    }
}
