import ObsCore
import ObsStore
import ObsWire
import ObsYAML
import XCTest

@testable import ObsIngest

final class DeltaHistogramsTests: XCTestCase {
    private func points(schema: Int8 = 0, _ buckets: [UInt64], offset: Int32 = 1, at time: Int64, since start: Int64, bounds: [Double] = []) -> DeltaPoints {
        var points = DeltaPoints()
        let layout = HistogramLayout(
            schema: schema, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: offset, length: UInt32(buckets.count))], negative: [],
            customBounds: bounds)
        points.histograms.append(
            timeMillis: time, startMillis: start, layout: points.histograms.intern(layout), count: buckets.reduce(0, +), zeroCount: 0, sum: 1, buckets: buckets)
        points.histogramLabels = [points.bytes.intern(Labels([("__name__", "h")]).bytes)]
        return points
    }

    private func shown(_ batch: MetricBatch) -> [String] {
        (0..<batch.histograms.count).map { row in
            var buckets: [String] = []
            var at = batch.histograms.bucketRange(row).lowerBound
            batch.histograms.layout(ofRow: row).forEachBucket { _, index in
                buckets.append("\(index):\(batch.histograms.buckets[at])")
                at += 1
            }
            let h = batch.histograms
            return
                "\(h.layout(ofRow: row).schema) \(h.counts[row]) \(h.sums[row]) [\(buckets.joined(separator: " "))] \(h.startsMillis[row])-\(h.timesMillis[row])"
        }
    }

    func testTotalsOfIncrements() throws {
        let totals = DeltaToCumulative()
        func add(_ points: DeltaPoints) throws -> String {
            var batch = MetricBatch()
            let refused = totals.add(points, tenant: .default, to: &batch, monotonicNanos: 0)
            XCTAssertTrue(batch.histograms.count == batch.histogramSeries.count)
            return refused.reason ?? shown(batch).joined()
        }
        XCTAssertEqual(try add(points([1, 2], at: 10, since: 0)), "0 3 1.0 [1:1 2:2] 0-10")
        XCTAssertEqual(try add(points([5], offset: 4, at: 20, since: 10)), "0 8 2.0 [1:1 2:2 4:5] 0-20")
        // A finer one is made as coarse as the total, the total as coarse as a coarser one.
        XCTAssertEqual(try add(points(schema: 1, [1, 1], offset: 3, at: 30, since: 20)), "0 10 3.0 [1:1 2:4 4:5] 0-30")
        XCTAssertEqual(try add(points(schema: -1, [1], offset: 1, at: 40, since: 30)), "-1 11 4.0 [1:6 2:5] 0-40")
        XCTAssertEqual(try add(points([1], at: 40, since: 30)), "delta point at 40 ms of {__name__=\"h\"} is not later than the one before (40 ms)")
        // Who begins anew within what was counted has restarted.
        XCTAssertEqual(try add(points([1], at: 50, since: 35)), "0 1 1.0 [1:1] 35-50")
        XCTAssertEqual(try add(points(schema: -53, [1, 1], offset: 0, at: 60, since: 50, bounds: [1])), "-53 2 1.0 [0:1 1:1] 50-60")
        XCTAssertEqual(try add(points(schema: -53, [1, 1], offset: 0, at: 70, since: 60, bounds: [1])), "-53 4 2.0 [0:2 1:2] 50-70")
        XCTAssertEqual(try add(points(schema: -53, [7, 1], offset: 0, at: 80, since: 70, bounds: [2])), "-53 8 1.0 [0:7 1:1] 70-80")
        XCTAssertEqual(totals.seriesCount, 1)
    }

    func testStartsOfTotals() throws {
        let totals = DeltaToCumulative()
        var points = DeltaPoints()
        points.labels = [points.bytes.intern(Labels([("__name__", "c")]).bytes)]
        points.startsMillis = [5]
        points.increments = [2]
        for time: Int64 in [10, 20] {
            points.timesMillis = [time]
            if time == 20 { points.startsMillis = [10] }
            var batch = MetricBatch()
            batch.append(Labels([("__name__", "g")]), timeMillis: 1, value: 1)
            _ = totals.add(points, tenant: .default, to: &batch, monotonicNanos: 0)
            XCTAssertEqual(batch.startsMillis, [0, 5])
        }
    }

    func testOptions() throws {
        func options(_ yaml: String) throws -> OTLPMetricOptions { try OTLPMetricOptions(YAMLMapping(YAMLNode.parse(yaml))) }
        XCTAssertEqual(try options("{}"), OTLPMetricOptions())
        let all = try options(
            """
            translation_strategy: NoUTF8EscapingWithSuffixes
            promote_resource_attributes: [a, b.c]
            keep_identifying_resource_attributes: true
            promote_scope_metadata: false
            convert_histograms_to_nhcb: true
            label_name_underscore_sanitization: false
            label_name_preserve_multiple_underscores: false
            """)
        XCTAssertEqual(all.naming, .unescapedSuffixes)
        XCTAssertEqual(all.promotedAttributes, ["a", "b.c"])
        XCTAssertTrue(all.keepsIdentity && !all.scopeLabels && all.nativeBounds && !all.labels.prefixesUnderscore && !all.labels.keepsUnderscores)
        XCTAssertEqual(try options("{promote_all_resource_attributes: true, ignore_resource_attributes: [x]}").ignoredAttributes, ["x"])
        func fails(_ yaml: String, _ expected: String, line: UInt = #line) {
            XCTAssertThrowsError(try options(yaml), line: line) { XCTAssertEqual(($0 as? ObsError)?.message, expected, line: line) }
        }
        fails(
            "translation_strategy: x",
            "translation_strategy (line 1): unknown translation strategy \"x\"; known are UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, "
                + "NoUTF8EscapingWithSuffixes, NoTranslation")
        fails("{ignore_resource_attributes: [x]}", "ignore_resource_attributes (line 1): needs promote_all_resource_attributes")
        fails("nonsense: 1", "nonsense (line 1): unknown key \"nonsense\"")
    }
}
