import ObsCore
import ObsWire
import ObsYAML
import XCTest

@testable import ObsIngest

final class ScrapeLoopTests: XCTestCase {
    private func loop(_ yaml: String = "") throws -> ScrapeLoop {
        let root = try YAMLMapping(YAMLNode.parse("scrape_configs:\n- job_name: j\n" + yaml))
        let configuration = try PrometheusConfiguration(root, directory: ".").scrapes[0]
        return ScrapeLoop(targetLabels: Labels([("instance", "h:1"), ("job", "j")]), configuration: configuration)
    }

    /// `series@time value`, sorted; labels of the target left out, the synthetic series only where asked.
    private func shown(_ batch: MetricBatch, synthetic: Bool = false) -> [String] {
        let names = ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"]
        return batch.series.compactMap { series -> String? in
            var builder = LabelsBuilder(batch.labels(of: series))
            let name = builder["__name__"] ?? ""
            if names.contains(name) != synthetic { return nil }
            builder.remove("__name__")
            if builder["instance"] == "h:1" { builder.remove("instance") }
            if builder["job"] == "j" { builder.remove("job") }
            let value = batch.values[Int(series.firstSample)]
            return
                "\(name)\(builder.labels())@\(batch.timesMillis[Int(series.firstSample)]) \(SpecialValue.isStale(value) ? "stale" : formatSampleValue(value))"
        }.sorted()
    }

    private func scrape(_ loop: inout ScrapeLoop, _ text: String, at time: Int64 = 1000, synthetic: Bool = false) throws -> [String] {
        let result = loop.success(try PrometheusText.parse(Array(text.utf8), format: .text), ScrapeLoop.Report(timeMillis: time, durationSeconds: 0.5))
        if let failure = result.failure { return ["failure: \(failure.message)"] + shown(result.batch, synthetic: synthetic) }
        return shown(result.batch, synthetic: synthetic)
    }

    func testStaleWhenASeriesIsMissing() throws {
        var loop = try loop()
        XCTAssertEqual(try scrape(&loop, "a 1\nb{x=\"y\"} 2\n", at: 1000), ["a{}@1000 1", "b{x=\"y\"}@1000 2"])
        XCTAssertEqual(try scrape(&loop, "a 1\n", at: 2000), ["a{}@2000 1", "b{x=\"y\"}@2000 stale"])
        XCTAssertEqual(try scrape(&loop, "a 1\n", at: 3000), ["a{}@3000 1"])
        XCTAssertEqual(try scrape(&loop, "b{x=\"y\"} 3\n", at: 4000), ["a{}@4000 stale", "b{x=\"y\"}@4000 3"])
    }

    func testAllStaleWhenAScrapeFails() throws {
        var loop = try loop()
        _ = try scrape(&loop, "a 1\nb 2\n", at: 1000)
        let failed = loop.failure(ScrapeLoop.Report(timeMillis: 2000, durationSeconds: 0.1))
        XCTAssertEqual(shown(failed), ["a{}@2000 stale", "b{}@2000 stale"])
        XCTAssertEqual(shown(failed, synthetic: true).last, "up{}@2000 0")
        XCTAssertEqual(shown(loop.failure(ScrapeLoop.Report(timeMillis: 3000, durationSeconds: 0.1))), [])
        XCTAssertEqual(try scrape(&loop, "a 1\n", at: 4000), ["a{}@4000 1"])
    }

    func testAllAndSyntheticStaleWhenTheTargetGoes() throws {
        var loop = try loop()
        _ = try scrape(&loop, "a 1\n", at: 1000)
        let end = loop.end(atMillis: 2000)
        XCTAssertEqual(shown(end), ["a{}@2000 stale"])
        XCTAssertEqual(shown(end, synthetic: true).count, 5)
        XCTAssertTrue(shown(end, synthetic: true).allSatisfy { $0.hasSuffix("@2000 stale") })
    }

    func testOwnTimestampsAreNotMarked() throws {
        var loop = try loop()
        XCTAssertEqual(try scrape(&loop, "a 1 500\n", at: 1000), ["a{}@500 1"])
        XCTAssertEqual(try scrape(&loop, "b 1\n", at: 2000), ["b{}@2000 1"])
        var tracked = try self.loop("  track_timestamps_staleness: true\n")
        _ = try scrape(&tracked, "a 1 500\n", at: 1000)
        XCTAssertEqual(try scrape(&tracked, "b 1\n", at: 2000), ["a{}@2000 stale", "b{}@2000 1"])
        var ignoring = try self.loop("  honor_timestamps: false\n")
        XCTAssertEqual(try scrape(&ignoring, "a 1 500\n", at: 1000), ["a{}@1000 1"])
        // More than ten minutes ahead is dropped, which is no failure.
        XCTAssertEqual(try scrape(&loop, "a 1 700000\nc 1\n", at: 1000), ["b{}@1000 stale", "c{}@1000 1"])
    }

    func testSyntheticSeries() throws {
        var loop = try loop("  metric_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}]\n")
        XCTAssertEqual(
            try scrape(&loop, "a 1\nb 1\ndropped 1\n", synthetic: true),
            [
                "scrape_duration_seconds{}@1000 0.5", "scrape_samples_post_metric_relabeling{}@1000 2", "scrape_samples_scraped{}@1000 3",
                "scrape_series_added{}@1000 2", "up{}@1000 1",
            ])
        XCTAssertEqual(try scrape(&loop, "a 1\nc 1\n", synthetic: true)[3], "scrape_series_added{}@1000 1")
        XCTAssertEqual(try scrape(&loop, "a 1\nb 1\n", synthetic: true)[3], "scrape_series_added{}@1000 1")
    }

    func testClashesWithTargetLabels() throws {
        var loop = try loop()
        XCTAssertEqual(
            try scrape(&loop, "a{job=\"other\",exported_job=\"x\",instance=\"i\"} 1\n"),
            ["a{exported_exported_job=\"other\", exported_instance=\"i\", exported_job=\"x\"}@1000 1"])
        var honoring = try self.loop("  honor_labels: true\n")
        XCTAssertEqual(try scrape(&honoring, "a{job=\"other\"} 1\n"), ["a{job=\"other\"}@1000 1"])
    }

    func testDuplicatesKeepTheFirst() throws {
        var loop = try loop()
        XCTAssertEqual(try scrape(&loop, "a 1\na 2\n"), ["a{}@1000 1"])
        XCTAssertEqual(loop.duplicates, 1)
        XCTAssertEqual(try scrape(&loop, "a 1 100\na 2 200\n"), ["a{}@100 1", "a{}@200 2"])  // other times are other samples
    }

    func testLimitsFailTheScrape() throws {
        var samples = try loop("  sample_limit: 2\n")
        _ = try scrape(&samples, "a 1\nb 1\n", at: 1000)
        XCTAssertEqual(
            try scrape(&samples, "a 1\nb 1\nc 1\n", at: 2000),
            ["failure: sample limit exceeded (sample_limit is 2)", "a{}@2000 stale", "b{}@2000 stale"])
        XCTAssertEqual(try scrape(&samples, "a 1\nb 1\nc 1\n", synthetic: true).suffix(1), ["up{}@1000 0"])
        XCTAssertEqual(try scrape(&samples, "a 1\n", at: 3000), ["a{}@3000 1"])

        var labels = try loop("  label_limit: 4\n")
        XCTAssertEqual(try scrape(&labels, "a{x=\"1\"} 1\n"), ["a{x=\"1\"}@1000 1"])
        XCTAssertTrue(try scrape(&labels, "a{x=\"1\",y=\"2\"} 1\n")[0].hasPrefix("failure: label_limit exceeded"))
        var names = try loop("  label_name_length_limit: 8\n")
        XCTAssertTrue(try scrape(&names, "a{toolongname=\"1\"} 1\n")[0].hasPrefix("failure: label_name_length_limit exceeded"))
        var values = try loop("  label_value_length_limit: 3\n")
        XCTAssertTrue(try scrape(&values, "a{x=\"1234\"} 1\n")[0].hasPrefix("failure: label_value_length_limit exceeded"))
    }

    func testMetadataAndExemplars() throws {
        var loop = try loop()
        let text = "# HELP a_total help\n# TYPE a_total counter\na_total 1\n"
        let first = loop.success(try PrometheusText.parse(Array(text.utf8), format: .text), ScrapeLoop.Report(timeMillis: 1, durationSeconds: 0)).batch
        XCTAssertEqual(first.metadata.map { first.bytes.string($0.help) }, ["help"])
        XCTAssertTrue(
            loop.success(try PrometheusText.parse(Array(text.utf8), format: .text), ScrapeLoop.Report(timeMillis: 2, durationSeconds: 0)).batch.metadata.isEmpty
        )
        XCTAssertEqual(loop.metadata["a_total"]?.type, .counter)
        let open = "# TYPE b counter\nb_total 1 # {trace_id=\"x\"} 0.5\n# EOF\n"
        let batch = loop.success(try PrometheusText.parse(Array(open.utf8), format: .openMetrics), ScrapeLoop.Report(timeMillis: 3, durationSeconds: 0)).batch
        XCTAssertEqual(batch.exemplars.map(\.timeMillis), [3])
        XCTAssertEqual(batch.exemplars.map { batch.labels(of: batch.series[Int($0.series)])["__name__"] }, ["b_total"])
    }

    func testChurnIsForgotten() throws {
        var loop = try loop()
        for round in 0..<20 {
            let text = (0..<200).map { "a{x=\"\(round)-\($0)\"} 1\n" }.joined()
            let lines = try scrape(&loop, text, at: Int64(round) * 1000)
            XCTAssertEqual(lines.count, round == 0 ? 200 : 400)
        }
    }
    func testEverythingIsCountedPastASampleLimit() throws {
        var loop = try loop("  sample_limit: 1\n  metric_relabel_configs: [{source_labels: [__name__], regex: drop.*, action: drop}]\n")
        let lines = try scrape(&loop, "a 1\nb 1\ndropped 1\nc 1\n", synthetic: true)
        XCTAssertEqual(
            lines[2...], ["scrape_samples_post_metric_relabeling{}@1000 3", "scrape_samples_scraped{}@1000 4", "scrape_series_added{}@1000 1", "up{}@1000 0"])
    }

    func testSeriesAreNotNewAfterAFailure() throws {
        var loop = try loop("  sample_limit: 2\n")
        func added(_ text: String) throws -> String { try scrape(&loop, text, synthetic: true).first { $0.contains("series_added") } ?? "" }
        XCTAssertEqual(try added("a 1\nb 1\n"), "scrape_series_added{}@1000 2")
        XCTAssertEqual(try added("a 1\nb 1\nc 1\n"), "scrape_series_added{}@1000 0")
        XCTAssertEqual(try added("a 1\nb 1\n"), "scrape_series_added{}@1000 0")
        XCTAssertEqual(try added("a 1\nd 1\n"), "scrape_series_added{}@1000 1")
    }

    func testExtraSeries() throws {
        var loop = try loop("  sample_limit: 9\n  extra_scrape_metrics: true\n")
        let scraped = try PrometheusText.parse(Array("a 1\n".utf8), format: .text)
        let report = ScrapeLoop.Report(timeMillis: 1000, durationSeconds: 0.5, timeoutMillis: 1500, bodyBytes: 4)
        func extras(_ batch: MetricBatch) -> [String] {
            batch.series.suffix(3).map { series in
                let value = batch.values[Int(series.firstSample)]
                return "\(batch.labels(of: series)["__name__"] ?? "") \(SpecialValue.isStale(value) ? "stale" : formatSampleValue(value))"
            }
        }
        XCTAssertEqual(extras(loop.success(scraped, report).batch), ["scrape_timeout_seconds 1.5", "scrape_sample_limit 9", "scrape_body_size_bytes 4"])
        var tooLarge = report
        tooLarge.bodyBytes = -1
        XCTAssertEqual(extras(loop.failure(tooLarge)).last, "scrape_body_size_bytes -1")
        XCTAssertEqual(extras(loop.end(atMillis: 2000)), ["scrape_timeout_seconds stale", "scrape_sample_limit stale", "scrape_body_size_bytes stale"])
    }

    func testNothingEndsThatNeverBegan() throws {
        var loop = try loop()
        XCTAssertTrue(loop.end(atMillis: 1000).isEmpty)
    }

    func testNamesMustBeLegacyWhereConfigured() throws {
        var loop = try loop("  metric_name_validation_scheme: legacy\n")
        XCTAssertEqual(try scrape(&loop, "a:b{_c=\"é\"} 1\n"), ["a:b{_c=\"é\"}@1000 1"])
        for text in ["{\"a.b\"} 1\n", "a{\"c.d\"=\"x\"} 1\n", "a{\"c:d\"=\"x\"} 1\n", "{\"1a\"} 1\n"] {
            XCTAssertTrue(try scrape(&loop, text)[0].hasPrefix("failure: invalid metric name or label names: "), text)
        }
        var any = try self.loop()
        XCTAssertEqual(try scrape(&any, "{\"a.b\"} 1\n"), ["a.b{}@1000 1"])
    }

    // MARK: - Native histograms

    private func histogram(schema: Int8 = 0, buckets: [UInt64] = [1, 2], at time: Int64 = PrometheusText.noTime, start: Int64 = 0) -> MetricBatch {
        var batch = MetricBatch()
        let layout = HistogramLayout(
            schema: schema, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 1, length: UInt32(buckets.count))], negative: [])
        batch.histograms.append(
            timeMillis: time, startMillis: start, layout: batch.histograms.intern(layout), count: buckets.reduce(0, +), zeroCount: 0, sum: 4, buckets: buckets)
        batch.histogramSeries = [0]
        batch.series = [.init(labels: batch.bytes.intern(Labels([("__name__", "h"), ("job", "x")]).bytes), firstSample: 0, sampleCount: 0)]
        batch.exemplars = [.init(series: 0, labels: batch.bytes.intern(Labels([("t", "1")]).bytes), value: 1, timeMillis: 5)]
        return batch
    }

    func testHistogramsTakeTheSameWay() throws {
        var loop = try loop()
        let first = loop.success(histogram(start: 7), ScrapeLoop.Report(timeMillis: 1000, durationSeconds: 0)).batch
        XCTAssertEqual(first.histograms.timesMillis, [1000])
        XCTAssertEqual(first.histograms.startsMillis, [7])
        XCTAssertEqual("\(first.labels(of: first.series[Int(first.histogramSeries[0])]))", #"{__name__="h", exported_job="x", instance="h:1", job="j"}"#)
        XCTAssertEqual(first.exemplars.map(\.series), first.histogramSeries)
        XCTAssertEqual(first.values.count, 5)
        // Its end is a histogram's, too.
        let second = loop.success(MetricBatch(), ScrapeLoop.Report(timeMillis: 2000, durationSeconds: 0)).batch
        XCTAssertEqual(second.histograms.timesMillis, [2000])
        XCTAssertTrue(second.histograms.isStale(0))
        XCTAssertEqual(second.values.count, 5)
        XCTAssertTrue(loop.failure(ScrapeLoop.Report(timeMillis: 3000, durationSeconds: 0)).histograms.isEmpty)
    }

    func testHistogramsKeepToTheirLimits() throws {
        func scraped(_ yaml: String, _ batch: MetricBatch) throws -> (schema: Int8?, buckets: [UInt64], failure: String?) {
            var loop = try loop(yaml)
            let (batch, failure) = loop.success(batch, ScrapeLoop.Report(timeMillis: 1000, durationSeconds: 0))
            return (batch.histograms.isEmpty ? nil : batch.histograms.layout(ofRow: 0).schema, batch.histograms.buckets, failure?.message)
        }
        let fine = histogram(schema: 3, buckets: [1, 2, 3, 4, 5])
        // Buckets 1...5 are 1, 1, 2, 2, 3 of the next schema, and 1, 1, 1, 1, 2 of the one after.
        let limited = try scraped("  native_histogram_bucket_limit: 3\n", fine)
        XCTAssertEqual(limited.schema, 2)
        XCTAssertEqual(limited.buckets, [3, 7, 5])
        let coarser = try scraped("  native_histogram_bucket_limit: 2\n", fine)
        XCTAssertEqual(coarser.schema, 1)
        XCTAssertEqual(coarser.buckets, [10, 5])
        XCTAssertEqual(try scraped("  native_histogram_min_bucket_factor: 1.4\n", fine).schema, 1)
        XCTAssertEqual(try scraped("  native_histogram_min_bucket_factor: 1.0001\n", fine).schema, 3)
        let wide = histogram(schema: -4, buckets: [1, 0, 1, 1, 1])
        let refused = try scraped("  native_histogram_bucket_limit: 2\n", wide)
        XCTAssertEqual(refused.failure, "histogram bucket limit exceeded (native_histogram_bucket_limit is 2)")
        XCTAssertNil(refused.schema)
    }
}
