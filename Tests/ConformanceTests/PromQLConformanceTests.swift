import Foundation
import XCTest

/// Runs files of PromQL cases: our own under Tests/Fixtures/promql, and Prometheus' where OBS_PROMQLTEST_DIR says they are.
final class PromQLConformanceTests: XCTestCase {
    func testOwnCases() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Fixtures/promql").standardized
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".test") }.sorted()
        var evaluations = 0
        for file in files {
            // Names go early or late; but for cases named so, that is the same.
            for late in [true, false] where late || !file.contains("name_") {
                evaluations += try run(folder.appendingPathComponent(file), PromQLTestRunner(removesNamesLate: late, threads: late ? 0 : 2))
            }
        }
        XCTAssertGreaterThanOrEqual(evaluations, 120, "the cases are not where they are looked for: \(folder.path)")
    }

    /// All files of Prometheus' own suite that are there.
    func testPrometheusCases() throws {
        guard let folder = ProcessInfo.processInfo.environment["OBS_PROMQLTEST_DIR"] else { throw XCTSkip("OBS_PROMQLTEST_DIR is not set") }
        let all = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".test") }.map { String($0.dropLast(5)) }.sorted()
        XCTAssertFalse(all.isEmpty, "no cases in \(folder)")
        let only = ProcessInfo.processInfo.environment["OBS_PROMQLTEST_FILES"]?.split(separator: ",").map(String.init)
        for name in only ?? all {
            // Prometheus runs its own files with names removed late.
            let evaluations = try run(URL(fileURLWithPath: folder).appendingPathComponent("\(name).test"), PromQLTestRunner(removesNamesLate: true))
            print("\(name).test: \(evaluations) evaluations")
        }
    }

    private func run(_ file: URL, _ runner: PromQLTestRunner) throws -> Int {
        for command in try PromQLTestFile(String(contentsOf: file, encoding: .utf8)).commands {
            switch command {
            case .clear: runner.clear()
            case .load(let series, let withHistograms): try runner.load(series, withHistograms: withHistograms)
            case .eval(let evaluation):
                if let problem = runner.problem(of: evaluation) {
                    XCTFail("\(file.lastPathComponent):\(evaluation.line): \(evaluation.expression): \(problem)")
                }
            }
        }
        return runner.evaluations
    }
}
