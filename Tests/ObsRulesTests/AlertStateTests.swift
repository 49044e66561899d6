import ObsCore
import XCTest

@testable import ObsRules

final class AlertStateTests: XCTestCase {
    private func labels(_ name: String) -> Labels { Labels([("alertname", "A"), ("x", name)]) }

    private func step(_ state: inout AlertState, _ at: Int64, _ names: [String], hold: Int64 = 0, keep: Int64 = 0, limit: Int = 0) throws -> String {
        let results = names.map { Alert(labels: labels($0), value: Double(at), activeAtMillis: at) }
        try state.update(results, at: at, holdMillis: hold, keepFiringMillis: keep, limit: limit)
        return state.alerts.values.sorted { $0.labels < $1.labels }.map { "\($0.labels["x"] ?? "")=\($0.state.rawValue)@\($0.activeAtMillis)" }.joined(
            separator: " ")
    }

    func testForZeroFiresAtOnce() throws {
        var state = AlertState()
        XCTAssertEqual(try step(&state, 100, ["a"]), "a=firing@100")
        XCTAssertEqual(state.active[0].firedAtMillis, 100)
    }

    func testPendingFiringResolved() throws {
        var state = AlertState()
        XCTAssertEqual(try step(&state, 0, ["a"], hold: 100), "a=pending@0")
        XCTAssertEqual(try step(&state, 99, ["a", "b"], hold: 100), "a=pending@0 b=pending@99")
        XCTAssertEqual(try step(&state, 100, ["a"], hold: 100), "a=firing@0")  // pending b is gone
        XCTAssertEqual(state.active[0].value, 100)
        XCTAssertEqual(try step(&state, 200, [], hold: 100), "a=inactive@0")
        XCTAssertEqual(state.state, .inactive)
        XCTAssertEqual(state.alerts[labels("a")]?.resolvedAtMillis, 200)
        // Reappearing is a new alert.
        XCTAssertEqual(try step(&state, 300, ["a"], hold: 100), "a=pending@300")
        XCTAssertEqual(try step(&state, 350, [], hold: 100), "")
    }

    func testResolvedIsKeptFifteenMinutes() throws {
        var state = AlertState()
        _ = try step(&state, 0, ["a"])
        _ = try step(&state, 1000, [])
        XCTAssertEqual(try step(&state, 1000 + AlertState.resolvedKeptMillis, []), "a=inactive@0")
        XCTAssertEqual(try step(&state, 1001 + AlertState.resolvedKeptMillis, []), "")
    }

    func testKeepFiring() throws {
        var state = AlertState()
        _ = try step(&state, 0, ["a"], keep: 100)
        XCTAssertEqual(try step(&state, 10, [], keep: 100), "a=firing@0")
        XCTAssertEqual(state.active[0].keepFiringSinceMillis, 10)
        XCTAssertEqual(try step(&state, 50, ["a"], keep: 100), "a=firing@0")
        XCTAssertNil(state.active[0].keepFiringSinceMillis)
        XCTAssertEqual(try step(&state, 60, [], keep: 100), "a=firing@0")
        XCTAssertEqual(try step(&state, 159, [], keep: 100), "a=firing@0")
        XCTAssertEqual(try step(&state, 160, [], keep: 100), "a=inactive@0")
    }

    func testErrors() throws {
        var state = AlertState()
        _ = try step(&state, 0, ["a"])
        XCTAssertThrowsError(try step(&state, 1, ["b", "b"]))
        XCTAssertEqual(state.active.count, 1)
        XCTAssertThrowsError(try step(&state, 2, ["a", "b", "c"], limit: 2)) { XCTAssertEqual("\($0)", "exceeded limit of 2 with 3 alerts") }
        XCTAssertEqual(state.active.count, 0)
    }

    func testDue() throws {
        var state = AlertState()
        func due(_ at: Int64) -> [Alert.State] { state.takeDue(at: at, resendMillis: 60_000, intervalMillis: 15_000).map(\.state) }
        _ = try step(&state, 0, ["a"], hold: 10)
        XCTAssertEqual(due(0), [])
        _ = try step(&state, 10, ["a"], hold: 10)
        XCTAssertEqual(due(10), [.firing])
        XCTAssertEqual(state.active[0].validUntilMillis, 240_010)
        XCTAssertEqual(due(60_010), [])
        XCTAssertEqual(due(60_011), [.firing])
        _ = try step(&state, 60_020, [], hold: 10)
        XCTAssertEqual(due(60_020), [.inactive])
        XCTAssertEqual(due(60_030), [])
        XCTAssertEqual(due(120_021), [.inactive])
    }

    func testRestart() throws {
        var before = AlertState()
        _ = try step(&before, 0, ["firing"], hold: 0)
        _ = before.takeDue(at: 0, resendMillis: 60_000, intervalMillis: 15_000)
        _ = try step(&before, 1000, ["firing", "pending"], hold: 100_000)
        let saved = Array(before.alerts.values)

        var after = AlertState()
        after.restore(saved, savedAtMillis: 1000, now: 31_000, intervalMillis: 15_000)
        // Time down is not time held; what fired goes on and is no news.
        XCTAssertEqual(try step(&after, 31_000, ["firing", "pending"], hold: 100_000), "firing=firing@0 pending=pending@31000")
        XCTAssertEqual(after.takeDue(at: 31_000, resendMillis: 60_000, intervalMillis: 15_000), [])
        XCTAssertEqual(try step(&after, 131_000, ["firing", "pending"], hold: 100_000), "firing=firing@0 pending=firing@31000")

        // After a long outage pending is forgotten, and firing gets time for its data to come back.
        var late = AlertState()
        late.restore(saved, savedAtMillis: 1000, now: 7_200_000, intervalMillis: 15_000)
        XCTAssertEqual(try step(&late, 7_200_000, []), "firing=firing@0")
        XCTAssertEqual(try step(&late, 7_200_000 + 120_000, []), "firing=inactive@0")
    }
}
