import ObsCore
import ObsPromQL
import ObsStore
import ObsTestSupport
import XCTest

final class EngineTests: XCTestCase {
    private let store = InMemoryStore()
    private lazy var engine = PromQLEngine(reader: store, options: PromQLOptions())

    override func setUpWithError() throws {
        var batch = MetricBatch()
        for host in ["b", "a", "c"] {
            for minute in 0..<10 {
                batch.append(Labels([("__name__", "m"), ("host", host)]), timeMillis: Int64(minute) * 60_000, value: Double(minute))
            }
        }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    private func context(_ change: (inout Limits) -> Void = { _ in }) -> QueryContext {
        var limits = Limits()
        change(&limits)
        return QueryContext(tenant: .default, limits: limits)
    }

    func testInstantAnswers() throws {
        guard case .vector(let samples) = try engine.instant("m", atMillis: 90_500, context: context()).value else { return XCTFail("no vector") }
        XCTAssertEqual(samples.map { $0.labels["host"] }, ["a", "b", "c"])
        XCTAssertEqual(samples.map(\.timeMillis), [90_500, 90_500, 90_500])
        XCTAssertEqual(samples.map(\.value), [1, 1, 1])
        guard case .scalar(let time, let value) = try engine.instant("1+1", atMillis: 4000, context: context()).value else { return XCTFail("no scalar") }
        XCTAssertEqual(time, 4000)
        XCTAssertEqual(value, 2)
        guard case .string(_, let text) = try engine.instant("\"x\"", atMillis: 0, context: context()).value else { return XCTFail("no string") }
        XCTAssertEqual(text, "x")
        guard case .matrix(let series) = try engine.instant("m{host=\"a\"}[2m] offset 1m", atMillis: 240_000, context: context()).value else {
            return XCTFail("no matrix")
        }
        XCTAssertEqual(series.map(\.timesMillis), [[120_000, 180_000]])
    }

    func testRangeAnswers() throws {
        let result = try engine.range("sum(m)", startMillis: 0, endMillis: 150_000, stepMillis: 60_000, context: context())
        guard case .matrix(let series) = result.value else { return XCTFail("no matrix") }
        XCTAssertEqual(series.count, 1)
        XCTAssertEqual(series.first?.timesMillis, [0, 60_000, 120_000])
        XCTAssertEqual(series.first?.values, [0, 3, 6])
        guard case .matrix(let constant) = try engine.range("2", startMillis: 0, endMillis: 60_000, stepMillis: 60_000, context: context()).value else {
            return XCTFail("no matrix")
        }
        XCTAssertEqual(constant.map(\.values), [[2, 2]])
    }

    func testLookbackCanBeSet() throws {
        guard case .vector(let samples) = try engine.instant("m", atMillis: 570_000, lookbackMillis: 30_000, context: context()).value else {
            return XCTFail("no vector")
        }
        XCTAssertEqual(samples.count, 0, "the sample at 540 s is exactly 30 s old, and the edge is open")
    }

    func testParsedExpressionsCanBeKept() throws {
        let expression = try parsePromQL("max(m)")
        for minute in 1..<4 {
            guard case .vector(let samples) = try engine.instant(expression, atMillis: Int64(minute) * 60_000, context: context()).value else {
                return XCTFail("no vector")
            }
            XCTAssertEqual(samples.map(\.value), [Double(minute)])
        }
    }

    func testErrors() {
        func fails(_ code: ObsError.Code, _ query: String, limits: (inout Limits) -> Void = { _ in }, line: UInt = #line) {
            XCTAssertThrowsError(
                try engine.range(query, startMillis: 0, endMillis: 600_000, stepMillis: 60_000, context: context(limits)), line: line
            ) { XCTAssertEqual(($0 as? ObsError)?.code, code, "\($0)", line: line) }
        }
        fails(.badInput, "m[5m]")
        fails(.badInput, "\"x\"")
        fails(.badInput, "m +")
        fails(.badInput, "m offset (step() * 1e12)")
        fails(.unprocessable, "m + on() m")
        fails(.unprocessable, "label_replace(m, \"host\", \"x\", \"host\", \".*\")")
        fails(.limitExceeded, "m", limits: { $0.querySamplesMax = 10 })
        fails(.limitExceeded, "m", limits: { $0.querySeriesMax = 2 })
        fails(.limitExceeded, "m", limits: { $0.queryBytesMax = 100 })
        fails(.limitExceeded, "sum_over_time(vector(1)[100y:1ms])")
        XCTAssertThrowsError(try engine.range("m", startMillis: 1, endMillis: 0, stepMillis: 1, context: context()))
        XCTAssertThrowsError(try engine.range("m", startMillis: 0, endMillis: 1, stepMillis: 0, context: context()))
        XCTAssertThrowsError(try engine.range("m", startMillis: .min, endMillis: .max, stepMillis: 1, context: context()))
        XCTAssertThrowsError(try engine.instant("m", atMillis: .max, context: context()))
        let cancelled = context()
        cancelled.cancel()
        XCTAssertThrowsError(try engine.instant("m", atMillis: 0, context: cancelled)) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
    }

    /// Columns are given back when a query ends.
    func testMemoryIsReleased() throws {
        let shared = context { $0.queryBytesMax = 2500 }
        for _ in 0..<50 { _ = try engine.range("m", startMillis: 0, endMillis: 600_000, stepMillis: 60_000, context: shared) }
    }

    func testEveryFunctionRunsOnNothing() throws {
        let queries = [
            "abs(x)", "absent(x)", "absent_over_time(x[5m])", "avg_over_time(x[5m])", "changes(x[5m])", "clamp(x,0,1)", "day_of_year(x)", "deriv(x[5m])",
            "double_exponential_smoothing(x[5m],0.5,0.5)", "histogram_quantile(0.5,x)", "histogram_fraction(0,1,x)", "label_join(x,\"a\",\",\",\"b\")",
            "predict_linear(x[5m],1)", "quantile_over_time(0.5,x[5m])", "scalar(x)", "sort(x)", "sort_by_label(x,\"a\")", "timestamp(x)",
            "topk(1,x)", "quantile(0.5,x)", "count_values(\"a\",x)", "x or x", "x + x", "-x", "x[5m:1m]", "histogram_count(x)",
        ]
        for query in queries {
            let value = try engine.instant(query, atMillis: 0, context: context()).value
            if case .vector(let samples) = value, !query.hasPrefix("absent") { XCTAssertEqual(samples.count, 0, query) }
        }
    }

    /// A store of many series, numbers and histograms among them.
    private func manySeries() throws -> InMemoryStore {
        let store = InMemoryStore()
        var random = SplitMix(state: 3)
        var batch = MetricBatch()
        for series in 0..<400 {
            let labels = Labels([("__name__", series % 9 == 0 ? "h" : "c_total"), ("i", "\(series)"), ("g", "\(series % 5)")])
            var total = 0.0
            for row in 0..<90 where Int.random(in: 0..<10, using: &random) > 0 {
                total = Int.random(in: 0..<40, using: &random) == 0 ? 0 : total + Double.random(in: 0...9, using: &random)
                let time = Int64(row) * 15_000 + Int64.random(in: 0..<1000, using: &random)
                if series % 9 == 0 {
                    var histogram = HistogramColumns()
                    histogram.append(
                        FloatHistogram(count: total, sum: total, positive: BucketCounts(indices: [0, Int32(series % 7) + 1], counts: [total / 2, total / 2])),
                        timeMillis: time)
                    batch.append(labels, histogram, row: 0)
                } else {
                    batch.append(labels, timeMillis: time, value: row == 40 ? SpecialValue.stale : total)
                }
            }
        }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        return store
    }

    func testThreadsChangeNothing() throws {
        let store = try manySeries()
        let alone = PromQLEngine(reader: store)
        let helped = PromQLEngine(reader: store, threads: 3)
        for query in [
            "sum by (g) (rate(c_total[5m]))", "c_total", "topk(3, increase(c_total[10m]))", "sum by (g) (rate(h[5m]))",
            "histogram_quantile(0.9, sum(rate(h[2m])))",
            "max_over_time(sum by (g) (c_total)[3m:30s])", "quantile_over_time(0.5, c_total[4m])", "count(c_total) + count(h)", "avg(h) * 2",
            "sum(delta(h[5m]))",
        ] {
            func answer(_ engine: PromQLEngine) throws -> String {
                let result = try engine.range(query, startMillis: 60_000, endMillis: 1_200_000, stepMillis: 20_000, context: context())
                guard case .matrix(let series) = result.value else { return "no matrix" }
                return "\(series) \(result.warnings) \(result.infos)"
            }
            XCTAssertEqual(try answer(alone), try answer(helped), query)
        }
    }

    /// One step at the end of what is read is answered from summaries, a second step from samples.
    func testSummariesEqualSamples() throws {
        let engine = PromQLEngine(reader: try manySeries())
        for function in [
            "count_over_time", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "last_over_time", "first_over_time", "present_over_time",
            "rate",
            "increase", "delta", "ts_of_first_over_time", "ts_of_last_over_time",
        ] {
            let query = "\(function)({__name__=~\"c_total|h\", g=\"1\"}[10m])"
            let at: Int64 = 1_000_000
            guard case .vector(let once) = try engine.instant(query, atMillis: at, context: context()).value,
                case .matrix(let twice) = try engine.range(query, startMillis: at, endMillis: at + 10, stepMillis: 10, context: context()).value
            else { return XCTFail("wrong types") }
            XCTAssertEqual(once.count, twice.count, query)
            for (sample, series) in zip(once, twice) where sample.histogram == nil {
                XCTAssertEqual(sample.labels, series.labels)
                XCTAssertEqual(sample.value, series.values[0], accuracy: abs(sample.value) * 1e-12, query)
            }
        }
        for query in ["c_total", "timestamp(c_total)", "count by (g) (c_total)", "count(h)", "group(c_total)"] {
            for at: Int64 in [10_000, 600_000, 601_000, 1_200_000, 1_500_000] {
                guard case .vector(let once) = try engine.instant(query, atMillis: at, context: context()).value,
                    case .matrix(let twice) = try engine.range(query, startMillis: at, endMillis: at + 1, stepMillis: 1, context: context()).value
                else { return XCTFail("wrong types") }
                let first = twice.filter { $0.timesMillis.first == at }
                XCTAssertEqual(once.map(\.value), first.map { $0.values[0] }, "\(query) at \(at)")
            }
        }
    }

    /// A sum past what a double holds has no mean, its samples have.
    func testMeansOfGreatNumbers() throws {
        let store = InMemoryStore()
        var batch = MetricBatch()
        for time: Int64 in [1000, 2000, 3000] { batch.append(Labels([("__name__", "great")]), timeMillis: time, value: 1.5e308) }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        guard
            case .vector(let samples) = try PromQLEngine(reader: store).instant("avg_over_time(great[5s])", atMillis: 3000, context: context()).value
        else { return XCTFail("no vector") }
        XCTAssertEqual(samples.map(\.value), [1.5e308])
    }

    func testCancellationReachesTheHelpers() throws {
        let context = context()
        context.cancel()
        XCTAssertThrowsError(
            try PromQLEngine(reader: try manySeries(), threads: 2).range(
                "rate(c_total[5m])", startMillis: 0, endMillis: 900_000, stepMillis: 1000, context: context)
        ) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
    }
}
