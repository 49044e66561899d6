import ObsCore
import ObsIngest
import ObsNet
import ObsYAML
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

    func testRelabelSteps() throws {
        let api = try API()
        let yaml = """
            scrape_configs:
              - job_name: a
                relabel_configs:
                  - {source_labels: [x, y], separator: "-", regex: "(.*)", target_label: z}
                  - {source_labels: [z], modulus: 4, target_label: shard, action: hashmod}
                  - {source_labels: [x], regex: "1", action: drop}
                  - {regex: y, action: labeldrop}
            """
        api.services.scrapes.apply(try PrometheusConfiguration(YAMLMapping(YAMLNode.parse(yaml)), directory: ".").scrapes)
        let first =
            #"{"rule":{"source_labels":["x","y"],"separator":"-","regex":"(.*)","target_label":"z","replacement":"$1","action":"replace"},"output":{"x":"1","y":"2","z":"1-2"},"keep":true}"#
        let answer = api.get("/api/v1/targets/relabel_steps?scrapePool=a&labels=\(encoded(#"{"x":"1","y":"2"}"#))")
        XCTAssertEqual(answer.status, 200)
        XCTAssertTrue(
            answer.text.hasPrefix(
                #"{"status":"success","data":{"steps":[\#(first),{"rule":{"source_labels":["z"],"separator":";","regex":"(.*)","modulus":4,"target_label":"shard","#
            ), answer.text)
        XCTAssertTrue(
            answer.text.hasSuffix(
                #"{"rule":{"source_labels":["x"],"separator":";","regex":"1","replacement":"$1","action":"drop"},"output":{},"keep":false},{"rule":{"separator":";","regex":"y","replacement":"$1","action":"labeldrop"},"output":{},"keep":false}]}}"#
            ),
            answer.text)
        for (parameters, text) in [
            ("", "no scrapePool parameter provided"), ("?scrapePool=a", "no labels parameter provided"),
            ("?scrapePool=b&labels=%7B%7D", "error retrieving scrape config"),
            ("?scrapePool=a&labels=%7B", "error parsing labels"), ("?scrapePool=a&labels=1", "error parsing labels"),
        ] {
            let answer = api.get("/api/v1/targets/relabel_steps" + parameters)
            XCTAssertEqual(answer.status, 400)
            XCTAssertTrue(answer.text.contains(text), answer.text)
        }
    }
}
