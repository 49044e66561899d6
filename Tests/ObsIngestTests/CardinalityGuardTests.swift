import ObsCore
import ObsStore
import ObsTestSupport
import XCTest

@testable import ObsIngest

final class CardinalityGuardTests: XCTestCase {
    private let clock = ManualClock()

    private func budget(_ valuesMax: Int?, _ overrides: [CardinalityBudget.Override] = []) -> CardinalityBudget {
        var budget = CardinalityBudget()
        budget.valuesMax = valuesMax
        budget.overrides = overrides
        return budget
    }

    /// A guard that folds from the first batch on.
    private func guarding(_ budget: CardinalityBudget, stored: [Labels] = []) -> CardinalityGuard {
        DiagnosticLog.threshold = .error
        let cardinality = CardinalityGuard(clock: clock) { _, _, use in
            for labels in stored { use(labels) }
            return true
        }
        cardinality.set(budget)
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "first")]), timeMillis: 1, value: 1)
        XCTAssertFalse(cardinality.fold(&batch, .default))
        while budget.isOn, !cardinality.isSeeded(.default) { usleep(1000) }
        return cardinality
    }

    private func labels(_ user: Int, _ metric: String = "requests") -> Labels {
        Labels([("__name__", metric), ("instance", "i"), ("job", "web"), ("user", "u\(user)")])
    }

    private func batch(_ users: some Sequence<Int>, _ metric: String = "requests", seconds: Int64 = 1) -> MetricBatch {
        var batch = MetricBatch()
        for user in users { batch.append(labels(user, metric), timeMillis: seconds * 1000, value: Double(user)) }
        return batch
    }

    private func users(_ batch: MetricBatch) -> [String] { batch.series.map { batch.labels(of: $0)["user"] ?? "" } }

    func testValuesPastTheBudgetAreFolded() {
        let cardinality = guarding(budget(3))
        var sent = batch(1...3)
        XCTAssertFalse(cardinality.fold(&sent, .default))
        sent = batch(2...5, seconds: 2)
        XCTAssertTrue(cardinality.fold(&sent, .default))
        // One sample stands for both.
        XCTAssertEqual(users(sent), ["u2", "u3", "__overflow__"])
        XCTAssertEqual(sent.labels(of: sent.series[2]), Labels([("__name__", "requests"), ("instance", "i"), ("job", "web"), ("user", "__overflow__")]))
        XCTAssertEqual(sent.values, [2, 3, 4])
        XCTAssertEqual(sent.timesMillis, [2000, 2000, 2000])
        // Another metric has a budget of its own, and so has another tenant, which is only looked at yet.
        sent = batch(4...6, "other")
        XCTAssertFalse(cardinality.fold(&sent, .default))
        let overflows = cardinality.overflows(.default)
        XCTAssertEqual(
            overflows.map { "\($0.metric) \($0.label) \($0.values) \($0.valuesMax) \($0.foldedSamples) \($0.sinceMillis) \($0.source)" },
            [#"requests user 3 3 2 1700000000000 {instance="i", job="web"}"#])
    }

    func testAnOverflowSeriesHasASampleASecond() {
        let cardinality = guarding(budget(1))
        var sent = batch([1])
        _ = cardinality.fold(&sent, .default)
        var kept: [Int64] = []
        for millis in [5000, 5000, 4000, 5999, 6000, 6500, 7000] as [Int64] {
            var one = MetricBatch()
            one.append(labels(Int(millis)), timeMillis: millis, value: 1)
            XCTAssertTrue(cardinality.fold(&one, .default))
            kept += one.timesMillis
        }
        XCTAssertEqual(kept, [5000, 6000, 7000])
        var ended = MetricBatch()
        ended.append(labels(9), timeMillis: 9000, value: SpecialValue.stale)
        XCTAssertTrue(cardinality.fold(&ended, .default))
        XCTAssertTrue(ended.series.isEmpty)
    }

    func testOtherColumnsOfABatch() {
        let cardinality = guarding(budget(1))
        var sent = batch([1, 2])
        sent.setStarts(77, from: 0)
        var rows = HistogramColumns()
        let layout = rows.intern(HistogramLayout())
        for time in [1, 2] as [Int64] { rows.append(timeMillis: time, layout: layout, count: 0, zeroCount: 0, sum: Double(time), buckets: []) }
        sent.histograms = rows
        sent.histogramSeries = [1, 0]
        let text = sent.bytes.intern(Labels([("trace_id", "a")]).bytes)
        sent.exemplars = [0, 1].map { MetricBatch.Exemplar(series: $0, labels: text, value: Double($0), timeMillis: 5) }
        sent.metadata = [MetricBatch.Metadata(family: text, type: .counter, help: text, unit: text)]
        XCTAssertTrue(cardinality.fold(&sent, .default))
        XCTAssertEqual(users(sent), ["u1", "__overflow__"])
        XCTAssertEqual(sent.startsMillis, [77, 77])
        XCTAssertEqual(sent.histograms.timesMillis, [2])
        XCTAssertEqual(sent.histogramSeries, [0])
        XCTAssertEqual(sent.exemplars.map(\.series), [0])
        XCTAssertEqual(sent.metadata.count, 1)
    }

    func testWhatIsStoredIsKnown() {
        let cardinality = guarding(budget(2), stored: [labels(7), labels(8), labels(9)])
        var sent = batch([7, 9, 10])
        XCTAssertTrue(cardinality.fold(&sent, .default))
        XCTAssertEqual(users(sent), ["u7", "u9", "__overflow__"])
    }

    func testValuesNotSeenForTwoWindowsMakeRoom() {
        let cardinality = guarding(budget(2))
        var sent = batch([1, 2])
        XCTAssertFalse(cardinality.fold(&sent, .default))
        clock.advance(millis: 12 * 3_600_000)
        sent = batch([1, 3])
        XCTAssertTrue(cardinality.fold(&sent, .default))
        XCTAssertEqual(users(sent), ["u1", "__overflow__"])
        clock.advance(millis: 12 * 3_600_000)
        sent = batch([3, 1, 4], seconds: 60)
        XCTAssertTrue(cardinality.fold(&sent, .default))
        XCTAssertEqual(users(sent), ["u3", "u1", "__overflow__"])
    }

    func testOverridesAndWhatIsExempt() {
        let cardinality = guarding(
            budget(
                1,
                [
                    CardinalityBudget.Override(metric: "requests", label: "user", valuesMax: 3),
                    CardinalityBudget.Override(metric: nil, label: "path", valuesMax: nil),
                ]))
        var sent = batch(1...4)
        XCTAssertTrue(cardinality.fold(&sent, .default))
        XCTAssertEqual(users(sent), ["u1", "u2", "u3", "__overflow__"])
        var exempt = MetricBatch()
        for number in 1...4 {
            exempt.append(
                Labels([("__name__", "h_bucket\(number % 2)"), ("le", "\(number)"), ("path", "/\(number)"), ("quantile", "\(number)")]), timeMillis: 1, value: 1
            )
        }
        XCTAssertFalse(cardinality.fold(&exempt, .default))
        let off = guarding(budget(nil))
        sent = batch(1...4)
        XCTAssertFalse(off.fold(&sent, .default))
        XCTAssertFalse(off.isSeeded(.default))
    }
}
