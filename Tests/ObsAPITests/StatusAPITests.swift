import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class StatusAPITests: XCTestCase {
    func testRuntimeInfo() throws {
        let text = try API().get("/api/v1/status/runtimeinfo").text
        let pattern =
            #"^\{"status":"success","data":\{"startTime":"2023-11-14T22:13:10Z","CWD":"/.+","hostname":".+","serverTime":"2023-11-14T22:13:20Z","reloadConfigSuccess":true,"lastConfigTime":"2023-11-14T22:13:11Z","corruptionCount":0,"goroutineCount":[1-9]\d*,"GOMAXPROCS":[1-9]\d*,"GOMEMLIMIT":1024,"GOGC":"","GODEBUG":"","storageRetention":"30d"\}\}$"#
        XCTAssertNotNil(text.range(of: pattern, options: .regularExpression), text)
    }

    func testSmallOnes() throws {
        let api = try API()
        assertAnswer(api.get("/api/v1/status/flags"), 200, #"{"status":"success","data":{"data":"/d","retention":"30d"}}"#)
        assertAnswer(api.get("/api/v1/status/config"), 200, #"{"status":"success","data":{"yaml":"global: {}\n"}}"#)
        assertAnswer(api.get("/api/v1/status/walreplay"), 200, #"{"status":"success","data":{"min":0,"max":0,"current":0}}"#)
        assertAnswer(
            api.get("/api/v1/alertmanagers"), 200,
            #"{"status":"success","data":{"activeAlertmanagers":[{"url":"http://am:9093/api/v2/alerts"}],"droppedAlertmanagers":[]}}"#)
        assertAnswer(api.get("/api/v1/targets/metadata"), 200, #"{"status":"success","data":[]}"#)
        assertAnswer(
            api.get("/api/v1/targets/metadata?limit=x"), 400, #"{"status":"error","errorType":"bad_data","error":"limit must be a number"}"#)
        XCTAssertEqual(api.get("/api/v1/targets/metadata?match_target=%7B").status, 400)
    }
}
