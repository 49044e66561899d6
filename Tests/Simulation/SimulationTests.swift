internal import Foundation
import XCTest

/// Random schedules. `OBS_SIM_SEED=<seed>` replays one, `OBS_SIM_RUNS` and `OBS_SIM_STEPS` say how many and how long.
final class SimulationTests: XCTestCase {
    /// What the default runs must have met, or they prove nothing.
    private static let wanted = [
        "kill", "strictPowerCut", "powerCut", "EIO on a change", "EIO on a read", "short write", "ENOSPC", "refused by a full disk", "lost unsynced write",
        "lost name", "torn sector", "bit flip found", "merge", "replay under another configuration", "deletion", "deletion completed", "snapshot restored",
        "dropped by age", "dropped by bytes", "dropped by the guard", "rows hidden by a rule",
    ]

    private func setting(_ name: String) -> UInt64? { ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } }

    func testRandomSchedules() throws {
        let steps = Int(setting("OBS_SIM_STEPS") ?? 60)
        let only = setting("OBS_SIM_SEED")
        let first = only ?? 1
        var tally: [String: Int] = [:]
        for seed in first..<first + (only == nil ? setting("OBS_SIM_RUNS") ?? 16 : 1) {
            var simulation: Simulation?
            do {
                simulation = try Simulation(seed: seed)
                try simulation?.run(steps: steps)
                tally.merge(simulation?.tally ?? [:], uniquingKeysWith: +)
            } catch {
                let history = simulation?.log.suffix(only == nil ? 12 : .max).joined(separator: "\n") ?? ""
                return XCTFail(
                    """
                    \((error as? Simulation.Failure)?.text ?? "\(error)")
                    last steps:
                    \(history)
                    files:
                    \(simulation?.files.joined(separator: "\n") ?? "")
                    OBS_SIM_SEED=\(seed)   replay: OBS_SIM_SEED=\(seed) OBS_SIM_STEPS=\(steps) swift test --filter SimulationTests.SimulationTests/testRandomSchedules
                    """)
            }
        }
        print(tally.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", "))
        if only == nil { XCTAssertEqual(Self.wanted.filter { tally[$0, default: 0] == 0 }, [], "never met") }
    }
}
