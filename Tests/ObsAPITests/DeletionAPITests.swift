import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class DeletionAPITests: XCTestCase {
    private func asked(_ api: API, _ body: () -> Void) -> [String] {
        guard let store = api.services.store as? NoStore else { return [] }
        store.forget()
        body()
        return store.deletions
    }

    func testLogs() throws {
        let api = try API()
        let selector = encoded(#"{app="a",env!="x"}"#)
        for (method, target, wanted) in [
            ("POST", "?query=\(selector)&start=1600000000&end=1600000001.5", "app a,env x 1600000000000000000...1600000001500000000"),
            ("PUT", "?query=\(selector)&start=1600000000000000000", "app a,env x 1600000000000000000...1700000000000000000"),
            ("POST", "?query=\(encoded(#"{app="a"} |= "b.c""#))&start=0&max_interval=1h", #"app a,__line__ b\.c 0...1700000000000000000"#),
            ("POST", "?query=\(selector)&start=2020-09-13T12:26:40Z", "app a,env x 1600000000000000000...1700000000000000000"),
        ] {
            XCTAssertEqual(asked(api) { assertAnswer(api.send(method, "/loki/api/v1/delete" + target), 204, "") }, ["default logs " + wanted], target)
        }
        let form = "query=\(selector)&start=0&end=1"
        XCTAssertEqual(
            asked(api) { XCTAssertEqual(api.post("/loki/api/v1/delete", "application/x-www-form-urlencoded", form).status, 204) },
            ["default logs app a,env x 0...1000000000"])
    }

    func testLogRefusals() throws {
        let api = try API()
        let selector = encoded(#"{app="a"}"#)
        for (target, words) in [
            ("", "query not set"), ("?query=", "query not set"), ("?query=\(selector)", "start time not set"),
            ("?query=\(selector)&start=x", "invalid start time: require unix seconds or RFC3339 format"),
            ("?query=\(selector)&start=0&end=1600000000000", "invalid end time: require unix seconds or RFC3339 format"),
            ("?query=\(selector)&start=1600000000000000", "invalid start time: require unix seconds or RFC3339 format"),
            ("?query=\(selector)&start=0&end=x", "invalid end time: require unix seconds or RFC3339 format"),
            ("?query=\(selector)&start=0&end=1700000001", "deletes in the future are not allowed"),
            ("?query=\(selector)&start=2&end=1", "start time can't be greater than end time"), ("?query=\(encoded("{}"))&start=0", "empty-compatible"),
            ("?query=\(encoded(#"{app="a"} | json"#))&start=0", "line filters"), ("?query=\(encoded("{app="))&start=0", "parse error"),
            ("?query=\(encoded(#"rate({app="a"}[1m])"#))&start=0", "log query"),
        ] {
            XCTAssertEqual(
                asked(api) {
                    let answer = api.send("POST", "/loki/api/v1/delete" + target)
                    XCTAssertEqual(answer.status, 400, target)
                    XCTAssertTrue(answer.text.contains(words), "\(target): \(answer.text)")
                    XCTAssertEqual(answer.type, "text/plain; charset=utf-8")
                }, [], target)
        }
    }

    func testListAndCancel() throws {
        let api = try API()
        let list =
            #"[{"request_id":"0000000000000001","start_time":1600000000,"end_time":1600000001.250,"query":"{app=\"a\"} |~ \"x\"","status":"received","created_at":1700000000.500},{"request_id":"0000000000000002","start_time":0,"end_time":0,"query":"{a=\"b\"} or {c=\"d\"}","status":"processed","created_at":0}]"#
        assertAnswer(api.get("/loki/api/v1/delete"), 200, list)
        let spans = api.get("/api/v1/admin/traces/delete")
        XCTAssertEqual(spans.status, 200)
        XCTAssertTrue(spans.text.hasPrefix(#"{"status":"success","data":[{"request_id":"0000000000000001""#), spans.text)
        XCTAssertEqual(
            asked(api) {
                assertAnswer(api.send("DELETE", "/loki/api/v1/delete?request_id=1"), 204, "")
                assertAnswer(api.send("DELETE", "/loki/api/v1/delete?request_id=1&force=true"), 204, "")
                assertAnswer(api.send("DELETE", "/api/v1/admin/traces/delete?request_id=2"), 204, "")
                assertAnswer(api.send("DELETE", "/loki/api/v1/delete"), 400, "request_id not set\n")
                assertAnswer(api.send("DELETE", "/loki/api/v1/delete?request_id=9"), 404, "could not find delete request with given id\n")
                assertAnswer(
                    api.send("DELETE", "/api/v1/admin/traces/delete?request_id=9"), 404,
                    #"{"status":"error","errorType":"not_found","error":"could not find delete request with given id"}"#)
            }, ["cancel default logs 1 false", "cancel default logs 1 true", "cancel default traces 2 false"])
    }

    func testSpans() throws {
        let api = try API()
        let selector = encoded(#"{ resource.service.name = "cart" && name =~ "get.*" }"#)
        for (target, wanted) in [
            ("match[]=\(selector)", "service cart,name get.* \(Int64.min)...\(Int64.max)"),
            ("match[]=\(selector)&start=1600000000&end=1600000001", "service cart,name get.* 1600000000000000000...1600000001000999999"),
            ("trace_id=ab&match[]=\(selector)&end=1", "service cart,name get.*;trace_id 000000000000000000000000000000ab \(Int64.min)...1000999999"),
            (
                "match[]=\(selector)&start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z",
                "service cart,name get.* \(Int64.min)...\(Int64.max)"
            ),
        ] {
            XCTAssertEqual(
                asked(api) { assertAnswer(api.send("POST", "/api/v1/admin/traces/delete?" + target), 204, "") }, ["default traces " + wanted], target)
        }
        for (target, words) in [
            ("", "no match[] or trace_id"), ("match[]={}", "every span"), ("match[]={kind=server}", "resource.service.name"), ("trace_id=xy", "hexadecimal"),
            ("match[]=\(selector)&start=2&end=1", "end timestamp"), ("match[]=\(selector)&start=x", "start"),
        ] {
            let answer = api.send("POST", "/api/v1/admin/traces/delete?" + target)
            XCTAssertEqual(answer.status, 400, target)
            XCTAssertTrue(answer.text.hasPrefix(#"{"status":"error","errorType":"bad_data","error":""#) && answer.text.contains(words), answer.text)
        }
    }

    func testPrometheusAdminRoutes() throws {
        let api = try API()
        XCTAssertEqual(
            asked(api) {
                assertAnswer(api.send("POST", "/api/v1/admin/tsdb/delete_series?match[]=up&match[]=%7Bjob%3D%22x%22%7D&start=1&end=2"), 204, "")
                assertAnswer(api.send("PUT", "/api/v1/admin/tsdb/clean_tombstones"), 204, "")
                assertAnswer(
                    api.send("POST", "/api/v1/admin/tsdb/snapshot?skip_head=false"), 200,
                    #"{"status":"success","data":{"name":"20231114T221320Z-0123456789abcdef"}}"#)
            }, ["default metrics __name__ up;job x 1000...2000", "clean"])
        for (target, words) in [
            ("", "no match[] parameter provided"), ("?match[]=", #"invalid parameter \"match[]\""#),
            ("?match[]=rate(up[5m])", #"invalid parameter \"match[]\""#),
            ("?match[]=up&start=x", #"invalid parameter \"start\""#), ("?match[]=up&start=2&end=1", "end timestamp must not be before start time"),
            ("?match[]=%7B%7D", "match[]"),
        ] {
            let answer = api.send("POST", "/api/v1/admin/tsdb/delete_series" + target)
            XCTAssertEqual(answer.status, 400, target)
            XCTAssertTrue(answer.text.hasPrefix(#"{"status":"error","errorType":"bad_data","error":""#) && answer.text.contains(words), answer.text)
        }
        for path in ["tsdb/delete_series", "tsdb/clean_tombstones", "tsdb/snapshot"] { XCTAssertEqual(api.get("/api/v1/admin/\(path)").status, 405, path) }
    }

    func testOnlyAdministratorsMay() throws {
        let api = try API(tokens: AuthenticationTests.tokens)
        for (method, path) in [
            ("POST", "/loki/api/v1/delete"), ("GET", "/loki/api/v1/delete"), ("DELETE", "/loki/api/v1/delete"), ("POST", "/api/v1/admin/traces/delete"),
            ("GET", "/api/v1/admin/traces/delete"), ("DELETE", "/api/v1/admin/traces/delete"), ("POST", "/api/v1/admin/tsdb/delete_series"),
            ("POST", "/api/v1/admin/tsdb/clean_tombstones"), ("POST", "/api/v1/admin/tsdb/snapshot"),
        ] {
            XCTAssertEqual(api.send(method, path).status, 401, path)
            XCTAssertEqual(api.send(method, path, [("Authorization", "Bearer r3ad")]).status, 403, path)
            XCTAssertFalse([401, 403, 404, 405].contains(api.send(method, path, [("Authorization", "Bearer r00t")]).status), path)
        }
    }
}
