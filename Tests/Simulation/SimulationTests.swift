internal import Foundation
import XCTest

/// Random schedules. `OBS_SIM_SEED=<seed>` replays one, `OBS_SIM_RUNS` and `OBS_SIM_STEPS` say how many and how long.
final class SimulationTests: XCTestCase {
    private func setting(_ name: String) -> UInt64? { ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } }

    func testRandomSchedules() throws {
        let steps = Int(setting("OBS_SIM_STEPS") ?? 60)
        let only = setting("OBS_SIM_SEED")
        let first = only ?? 1
        for seed in first..<first + (only == nil ? setting("OBS_SIM_RUNS") ?? 20 : 1) {
            var simulation: Simulation?
            do {
                simulation = try Simulation(seed: seed)
                try simulation?.run(steps: steps)
            } catch {
                let history = simulation?.log.suffix(only == nil ? 12 : .max).joined(separator: "\n") ?? ""
                return XCTFail(
                    """
                    \((error as? Simulation.Failure)?.text ?? "\(error)")
                    last steps:
                    \(history)
                    OBS_SIM_SEED=\(seed)   replay: OBS_SIM_SEED=\(seed) OBS_SIM_STEPS=\(steps) swift test --filter SimulationTests.SimulationTests/testRandomSchedules
                    """)
            }
        }
    }
}
