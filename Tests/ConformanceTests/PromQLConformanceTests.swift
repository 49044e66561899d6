import Foundation
import ObsCore
import ObsPromQL
import ObsStore
import ObsTestSupport
import XCTest

/// Runs files of PromQL cases: our own under Tests/Fixtures/promql, and Prometheus' where OBS_PROMQLTEST_DIR says they are.
final class PromQLConformanceTests: XCTestCase {
    func testOwnCases() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Fixtures/promql").standardized
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".test") }.sorted()
        var evaluations = 0
        for file in files { evaluations += try run(folder.appendingPathComponent(file)).evaluations }
        XCTAssertGreaterThanOrEqual(evaluations, 60, "the cases are not where they are looked for: \(folder.path)")
    }

    /// Files of Prometheus' own suite that pass, but for cases of native histograms.
    private static let passing = [
        "literals", "selectors", "staleness", "collision", "aggregators", "operators", "at_modifier", "range_queries", "limit", "fill-modifier",
        "duration_expression",
    ]

    func testPrometheusCases() throws {
        guard let folder = ProcessInfo.processInfo.environment["OBS_PROMQLTEST_DIR"] else { throw XCTSkip("OBS_PROMQLTEST_DIR is not set") }
        let only = ProcessInfo.processInfo.environment["OBS_PROMQLTEST_FILES"]?.split(separator: ",").map(String.init)
        for name in only ?? Self.passing {
            let summary = try run(URL(fileURLWithPath: folder).appendingPathComponent("\(name).test"))
            print("\(name).test: \(summary.evaluations) evaluations, \(summary.skipped) skipped (native histograms)")
        }
    }

    private func run(_ file: URL) throws -> (evaluations: Int, skipped: Int) {
        // Prometheus runs its own files with names removed late; ours hold either way unless named so.
        var result = (evaluations: 0, skipped: 0)
        for late in [true, false] where late || !file.lastPathComponent.contains("name_") {
            result = try run(file, PromQLTestRunner(removesNamesLate: late))
        }
        return result
    }

    private func run(_ file: URL, _ runner: PromQLTestRunner) throws -> (evaluations: Int, skipped: Int) {
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
        return (runner.evaluations, runner.skipped)
    }
}

/// A store, an engine, and the judgement whether a case holds.
final class PromQLTestRunner {
    private let store = InMemoryStore()
    private let engine: PromQLEngine
    private var histograms: [Labels] = []
    private(set) var evaluations = 0
    private(set) var skipped = 0

    init(removesNamesLate: Bool = false) {
        var options = PromQLOptions()
        options.removesNamesLate = removesNamesLate
        engine = PromQLEngine(reader: store, options: options)
    }

    func clear() {
        store.clear()
        histograms = []
    }

    func load(_ series: [PromQLTestFile.Series], withHistograms: Bool = false) throws {
        for labels in series.map(\.labels) where withHistograms {
            guard let name = labels["__name__"], name.hasSuffix("_bucket") else { continue }
            var builder = LabelsBuilder(labels)
            builder.set("__name__", String(name.dropLast(7)))
            builder.remove("le")
            histograms.append(builder.labels())
        }
        var batch = MetricBatch()
        // Of a series given twice the last counts.
        let last = Dictionary(series.enumerated().map { ($0.element.labels, $0.offset) }, uniquingKeysWith: max)
        for (place, series) in series.enumerated() where last[series.labels] == place {
            if series.hasHistograms { histograms.append(series.labels) }
            for (index, value) in series.values.enumerated() {
                if let value { batch.append(series.labels, timeMillis: Int64(index) * series.stepMillis, value: value) }
            }
        }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    /// What is wrong with a case; nil when it holds. A case that native histograms take part in counts as skipped when it does not hold.
    func problem(of evaluation: PromQLTestFile.Evaluation) -> String? {
        evaluations += 1
        guard let problem = judge(evaluation) else { return nil }
        if evaluation.series.contains(where: \.hasHistograms) || touchesHistograms(evaluation.expression) {
            skipped += 1
            return nil
        }
        return problem
    }

    private func touchesHistograms(_ query: String) -> Bool {
        guard !histograms.isEmpty, let expression = try? parsePromQL(query) else { return false }
        return expression.selectors.contains { selector in histograms.contains { selector.matchers.match($0) } }
    }

    private func judge(_ evaluation: PromQLTestFile.Evaluation) -> String? {
        let result: PromQLResult
        do { result = try evaluate(evaluation) } catch {
            guard let wanted = evaluation.fails else { return "failed: \(error.message)" }
            return matches(wanted, error.message) ? nil : "failed with \(error.message)"
        }
        if evaluation.fails != nil { return "did not fail but gave \(result.value)" }
        if let problem = annotationProblem(evaluation, result) { return problem }
        if let problem = valueProblem(evaluation, result.value) { return problem }
        return evaluation.stepMillis == 0 ? rangeProblem(evaluation, result.value) : nil
    }

    private func evaluate(_ evaluation: PromQLTestFile.Evaluation) throws(ObsError) -> PromQLResult {
        let context = QueryContext(tenant: .default)
        if evaluation.stepMillis == 0 { return try engine.instant(evaluation.expression, atMillis: evaluation.startMillis, context: context) }
        return try engine.range(
            evaluation.expression, startMillis: evaluation.startMillis, endMillis: evaluation.endMillis, stepMillis: evaluation.stepMillis, context: context)
    }

    /// An instant query must equal the middle step of a range query around it.
    private func rangeProblem(_ evaluation: PromQLTestFile.Evaluation, _ value: PromQLValue) -> String? {
        let at = evaluation.startMillis
        let context = QueryContext(tenant: .default)
        // What depends on the query's own bounds rightly differs.
        if ["step()", "range()", "start()", "end()"].contains(where: evaluation.expression.lowercased().contains) { return nil }
        var wanted: [Labels: Double] = [:]
        switch value {
        case .vector(let samples): for sample in samples { wanted[sample.labels] = sample.value }
        case .scalar(_, let value): wanted[.empty] = value
        case .string, .matrix: return nil
        }
        do {
            let range = try engine.range(evaluation.expression, startMillis: at - 60_000, endMillis: at + 60_000, stepMillis: 60_000, context: context)
            guard case .matrix(let matrix) = range.value else { return "range query gave no matrix" }
            var found: [Labels: Double] = [:]
            for series in matrix {
                if let index = series.timesMillis.firstIndex(of: at) { found[series.labels] = series.values[index] }
            }
            let same = found.count == wanted.count && wanted.allSatisfy { label, value in found[label].map { isAlmost($0, value) } ?? false }
            return same ? nil : "as a range query gave \(found)"
        } catch {
            // A neighbouring step may clash where this one does not.
            return nil
        }
    }

    private func annotationProblem(_ evaluation: PromQLTestFile.Evaluation, _ result: PromQLResult) -> String? {
        for wanted in evaluation.warns where !result.warnings.contains(where: { matches(wanted, $0) }) { return "no such warning in \(result.warnings)" }
        for wanted in evaluation.informs where !result.infos.contains(where: { matches(wanted, $0) }) { return "no such info in \(result.infos)" }
        if evaluation.noWarnings, !result.warnings.isEmpty { return "warned \(result.warnings)" }
        if evaluation.noInfos, !result.infos.isEmpty { return "informed \(result.infos)" }
        return nil
    }

    private func valueProblem(_ evaluation: PromQLTestFile.Evaluation, _ value: PromQLValue) -> String? {
        switch value {
        case .string(_, let text): return evaluation.string == text ? nil : "gave string \(text)"
        case .scalar(_, let number):
            guard let wanted = evaluation.scalar else { return "gave scalar \(number)" }
            return isAlmost(wanted, number) ? nil : "gave \(number), expected \(wanted)"
        case .vector(let samples): return vectorProblem(evaluation, samples)
        case .matrix(let series): return matrixProblem(evaluation, series)
        }
    }

    private func vectorProblem(_ evaluation: PromQLTestFile.Evaluation, _ samples: [VectorSample]) -> String? {
        if evaluation.scalar != nil || evaluation.string != nil { return "gave a vector" }
        let wanted = evaluation.series.map { ($0.labels, ($0.values.first ?? nil) ?? .nan) }
        let shown = samples.map { "\($0.labels) \($0.value)" }.joined(separator: "; ")
        guard wanted.count == samples.count else { return "gave \(samples.count) samples, expected \(wanted.count): \(shown)" }
        for (place, (labels, value)) in wanted.enumerated() {
            guard let index = samples.firstIndex(where: { $0.labels == labels }) else { return "has no \(labels) in \(shown)" }
            if evaluation.ordered, index != place { return "is not in order: \(shown)" }
            if !isAlmost(samples[index].value, value) { return "gave \(samples[index].value) for \(labels), expected \(value)" }
        }
        return nil
    }

    private func matrixProblem(_ evaluation: PromQLTestFile.Evaluation, _ matrix: [SeriesSamples]) -> String? {
        let start = evaluation.matrix?.startMillis ?? evaluation.startMillis
        let step = evaluation.matrix?.stepMillis ?? evaluation.stepMillis
        if let scalar = evaluation.scalar { return matrix.allSatisfy { $0.values.allSatisfy { isAlmost($0, scalar) } } ? nil : "gave other scalars" }
        let shown = matrix.map { "\($0.labels) \(zip($0.timesMillis, $0.values).map { "\($0.1)@\($0.0)" })" }.joined(separator: "; ")
        let wanted = evaluation.series.filter { $0.values.contains { $0 != nil } }
        guard wanted.count == matrix.count else { return "gave \(matrix.count) series, expected \(wanted.count): \(shown)" }
        for series in wanted {
            guard let found = matrix.first(where: { $0.labels == series.labels }) else { return "has no \(series.labels) in \(shown)" }
            let points = series.values.enumerated().compactMap { index, value in value.map { (start + Int64(index) * step, $0) } }
            let same =
                points.count == found.values.count
                && zip(points, zip(found.timesMillis, found.values)).allSatisfy { $0.0 == $1.0 && isAlmost($0.1, $1.1) }
            if !same { return "differs for \(series.labels): \(shown)" }
        }
        return nil
    }

    private func matches(_ wanted: PromQLTestFile.Text, _ text: String) -> Bool {
        switch wanted {
        case .any: true
        case .exact(let exact): text == exact
        case .pattern(let pattern): text.range(of: pattern, options: .regularExpression) != nil
        }
    }

    private func isAlmost(_ a: Double, _ b: Double) -> Bool {
        if a == b || (a.isNaN && b.isNaN) { return true }
        let difference = abs(a - b)
        if a == 0 || b == 0 { return difference < 1e-12 }
        return difference / (abs(a) + abs(b)) < 1e-6
    }
}
