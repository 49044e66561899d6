import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class FederationAPITests: XCTestCase {
    private func filled(externalLabels: Labels = .empty) throws -> API {
        let api = try API(externalLabels: externalLabels)
        api.write([
            ([("__name__", "up"), ("job", "a"), ("instance", "i")], 1_699_999_990, 1),
            ([("__name__", "up"), ("job", "a"), ("instance", "i")], 1_699_999_999.5, 0.25),
            ([("__name__", "up"), ("job", "b")], 1_700_000_000, .infinity), ([("__name__", "a.dotted"), ("x-y", "é\"\n")], 1_699_999_980, -1e-9),
            ([("__name__", "old")], 1_699_999_600, 1), ([("__name__", "ended")], 1_699_999_980, 1),
            ([("__name__", "ended")], 1_699_999_990, SpecialValue.stale),
            ([("job", "nameless")], 1_699_999_990, 1), ([("__name__", "future")], 1_700_000_100, 1),
        ])
        return api
    }

    private func check(_ api: API, _ target: String, headers: [(String, String)] = [], _ text: String, line: UInt = #line) {
        assertAnswer(api.get(target, headers), 200, text, line: line)
    }

    func testNewestSamplesByFamily() throws {
        let api = try filled()
        check(
            api, "/federate?match[]=%7Bjob!=%22%22%7D&match[]=up&match[]=old&match[]=ended&match[]=future",
            """
            # TYPE up untyped
            up{instance="i",job="a"} 0.25 1699999999500
            up{job="b",instance=""} +Inf 1700000000000

            """)
        check(
            api, "/federate?match[]=%7B%22a.dotted%22%7D",
            """
            # TYPE a_dotted untyped
            a_dotted{x_y="é\\"\\n",instance=""} -1e-09 1699999980000

            """)
        check(
            api, "/federate?match[]=%7B%22a.dotted%22%7D", headers: [("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4")],
            """
            # TYPE "a.dotted" untyped
            {"a.dotted","x-y"="é\\"\\n",instance=""} -1e-09 1699999980000

            """)
        XCTAssertEqual(api.get("/federate?match[]=up").type, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
    }

    func testExternalLabelsAreAddedWhereAbsent() throws {
        let api = try filled(externalLabels: Labels([("job", "mine"), ("instance", "here"), ("zone", "z")]))
        check(
            api, "/federate?match[]=up",
            """
            # TYPE up untyped
            up{instance="i",job="a",zone="z"} 0.25 1699999999500
            up{job="b",instance="here",zone="z"} +Inf 1700000000000

            """)
    }

    func testNothingSelected() throws {
        let api = try filled()
        check(api, "/federate", "")
        check(api, "/federate?match[]=nothing", "")
        let answer = api.get("/federate?match[]=%7B")
        XCTAssertEqual(answer.status, 400)
        XCTAssertTrue(answer.text.contains("parse error"), answer.text)
    }
}
