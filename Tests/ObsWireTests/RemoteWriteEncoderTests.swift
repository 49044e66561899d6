import ObsCore
import XCTest

@testable import ObsWire

final class RemoteWriteEncoderTests: XCTestCase {
    /// Floats, histograms of whole numbers, of floats and with bounds, a stale one, exemplars, starts.
    private func batch() -> MetricBatch {
        var batch = MetricBatch()
        func series(_ name: String, _ samples: Int = 0) {
            batch.series.append(
                .init(
                    labels: batch.bytes.intern(Labels([("__name__", name), ("é", "ü"), ("job", "a")]).bytes), firstSample: UInt32(batch.timesMillis.count),
                    sampleCount: UInt32(samples)))
        }
        series("a_total", 3)
        batch.timesMillis += [-1, 1000, 2000]
        batch.values += [1, SpecialValue.stale, .infinity]
        batch.startsMillis = [0, 500, 500]
        batch.exemplars = [.init(series: 0, labels: batch.bytes.intern(Labels([("trace_id", "x"), ("job", "a")]).bytes), value: 0.25, timeMillis: 1500)]
        func row(
            _ layout: HistogramLayout, _ time: Int64, _ count: UInt64, zero: UInt64 = 0, _ sum: Double, _ buckets: [UInt64], start: Int64 = 0,
            reset: CounterReset = .unknown
        ) {
            batch.histogramSeries.append(UInt32(batch.series.count - 1))
            batch.histograms.append(
                timeMillis: time, startMillis: start, layout: batch.histograms.intern(layout), reset: reset, count: count, zeroCount: zero, sum: sum,
                buckets: buckets)
        }
        series("h")
        let spans = [BucketSpan(offset: -3, length: 2), BucketSpan(offset: 4, length: 1)]
        row(
            HistogramLayout(schema: 3, isFloat: false, zeroThreshold: 0.001, positive: spans, negative: [BucketSpan(offset: 7, length: 1)]), 1000, 15, zero: 1,
            2.5,
            [7, 1, 4, 2], start: 10, reset: .noReset)
        row(HistogramLayout(), 2000, 0, SpecialValue.stale, [])
        series("f")
        row(
            HistogramLayout(schema: -2, isFloat: true, zeroThreshold: 0, positive: [BucketSpan(offset: 0, length: 2)], negative: []), 1000, (4.5).bitPattern,
            -1,
            [(1.25).bitPattern, (3.25).bitPattern], reset: .gauge)
        series("c")
        row(
            HistogramLayout(
                schema: HistogramLayout.customSchema, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 1, length: 2)], negative: [],
                customBounds: [0.5, 1, 2]), 1000, 5, 6, [2, 3])
        return batch
    }

    private func encoded(_ batch: MetricBatch, _ version: RemoteWriteVersion, family: ([UInt8]) -> RemoteWriteFamily? = { _ in nil }) -> [UInt8] {
        var encoder = RemoteWriteEncoder(version)
        let rows = batch.histogramRows()
        let exemplars = batch.exemplarIndices()
        for index in batch.series.indices {
            encoder.add(batch, series: index, rows: rows.isEmpty ? [] : rows[index], exemplars: exemplars.isEmpty ? [] : exemplars[index], family: family)
        }
        return encoder.message()
    }

    private func exemplars(_ batch: MetricBatch) -> [String] {
        batch.exemplars.map { "\($0.series) \(Labels(canonical: Array(batch.bytes[$0.labels.range]))) \($0.value) \($0.timeMillis)" }
    }

    func testVersion2ComesBackWhole() throws {
        let given = batch()
        let back = try PrometheusRemoteWrite2.decode(encoded(given, .version2), limits: Limits())
        XCTAssertEqual(back.rejected, 0, back.reason ?? "")
        XCTAssertEqual(back.batch.series.map { back.batch.labels(of: $0) }, given.series.map { given.labels(of: $0) })
        XCTAssertEqual(back.batch.timesMillis, given.timesMillis)
        XCTAssertEqual(back.batch.values.map(\.bitPattern), given.values.map(\.bitPattern))
        XCTAssertEqual(back.batch.startsMillis, given.startsMillis)
        XCTAssertEqual(back.batch.histogramSeries, given.histogramSeries)
        XCTAssertEqual(back.batch.histograms.timesMillis, given.histograms.timesMillis)
        XCTAssertEqual(back.batch.histograms.resets, given.histograms.resets)
        XCTAssertEqual(back.batch.histograms.startsMillis, given.histograms.startsMillis)
        for row in 0..<given.histograms.count where !given.histograms.isStale(row) {
            XCTAssertTrue(back.batch.histograms.isEqual(row, to: given.histograms, row: row))
        }
        XCTAssertTrue(back.batch.histograms.isStale(1))
        XCTAssertEqual(exemplars(back.batch), exemplars(given))
        XCTAssertTrue(back.batch.metadata.isEmpty)
    }

    func testVersion1ComesBack() throws {
        var given = batch()
        given.histograms = HistogramColumns()
        given.histogramSeries = []
        let back = try PrometheusRemoteWrite.decode(encoded(given, .version1), limits: Limits())
        XCTAssertEqual(back.rejected, 0)
        XCTAssertEqual(back.batch.timesMillis, given.timesMillis)
        XCTAssertEqual(back.batch.values.map(\.bitPattern), given.values.map(\.bitPattern))
        XCTAssertEqual(exemplars(back.batch), exemplars(given))
        XCTAssertEqual(back.batch.labels(of: back.batch.series[0]), given.labels(of: given.series[0]))
    }

    func testHistogramsOfVersion1() throws {
        let given = batch()
        let back = try PrometheusRemoteWrite.decode(encoded(given, .version1), limits: Limits(), nativeHistograms: true)
        XCTAssertEqual(back.rejected, 0, back.reason ?? "")
        XCTAssertEqual(back.batch.series.map { back.batch.labels(of: $0) }, given.series.map { given.labels(of: $0) })
        XCTAssertEqual(back.batch.histogramSeries, given.histogramSeries)
        XCTAssertEqual(back.batch.histograms.timesMillis, given.histograms.timesMillis)
        for row in 0..<given.histograms.count where !given.histograms.isStale(row) {
            XCTAssertTrue(back.batch.histograms.isEqual(row, to: given.histograms, row: row))
        }
        XCTAssertEqual(exemplars(back.batch), exemplars(given))
        withMutations(of: encoded(given, .version1)) { _ = try? PrometheusRemoteWrite.decode($0, limits: Limits(), nativeHistograms: true) }
    }

    func testMetadataOfVersion2() throws {
        var given = MetricBatch()
        for name in ["h_bucket", "h_sum", "g"] { given.append(Labels([("__name__", name)]), timeMillis: 1, value: 1) }
        let message = encoded(given, .version2) { name in
            name == Array("g".utf8)
                ? RemoteWriteFamily(type: .gauge, help: Array("Help.".utf8), unit: Array("bytes".utf8))
                : RemoteWriteFamily(type: .histogram, help: [], unit: [])
        }
        let back = try PrometheusRemoteWrite2.decode(message, limits: Limits()).batch
        XCTAssertEqual(
            back.metadata.map { "\(back.bytes.string($0.family)) \($0.type.word) \(back.bytes.string($0.help)) \(back.bytes.string($0.unit))" },
            ["h histogram  ", "g gauge Help. bytes"])
    }

    func testMetadataOfVersion1() throws {
        let message = RemoteWriteEncoder.metadata([(name: Array("g".utf8), family: RemoteWriteFamily(type: .gauge, help: Array("Help.".utf8), unit: []))])
        let back = try PrometheusRemoteWrite.decode(message, limits: Limits()).batch
        XCTAssertEqual(back.metadata.map { "\(back.bytes.string($0.family)) \($0.type.word) \(back.bytes.string($0.help))" }, ["g gauge Help."])
    }

    // MARK: - What 2.0 refuses

    private func request(_ symbols: [String], _ series: [(inout ProtobufWriter) -> Void]) -> [UInt8] {
        var writer = ProtobufWriter()
        for symbol in symbols { writer.string(4, symbol) }
        for one in series { writer.message(5) { one(&$0) } }
        return writer.bytes
    }

    private func labels(_ references: [UInt64]) -> (inout ProtobufWriter) -> Void {
        { $0.message(1) { for reference in references { $0.packed(varint: reference) } } }
    }

    func testSeriesAreRefusedOneByOne() throws {
        let symbols = ["", "__name__", "a", "b", "c"]
        let sample: (inout ProtobufWriter) -> Void = {
            $0.message(2) {
                $0.double(1, 1); $0.int(2, 5)
            }
        }
        func decode(_ parts: [(inout ProtobufWriter) -> Void]) throws -> Decoded<MetricBatch> {
            let good: (inout ProtobufWriter) -> Void = {
                self.labels([1, 2])(&$0); sample(&$0)
            }
            return try PrometheusRemoteWrite2.decode(request(symbols, [{ for part in parts { part(&$0) } }, good]), limits: Limits())
        }
        for references: [UInt64] in [[1], [1, 9], [3, 4], [1, 2, 3, 4, 3, 4], [1, 0], []] {
            let decoded = try decode([labels(references), sample])
            XCTAssertEqual(decoded.rejected, 1, "\(references)")
            XCTAssertEqual(decoded.batch.series.count, 1)
        }
        XCTAssertEqual(try decode([labels([1, 3])]).reason, "a series has neither samples nor histograms")
        // An empty value is no label, an unsorted set is sorted.
        XCTAssertEqual(try decode([labels([3, 0, 1, 2]), sample]).rejected, 0)
        let unsorted = try decode([labels([3, 4, 1, 2]), sample]).batch
        XCTAssertEqual("\(unsorted.labels(of: unsorted.series[0]))", #"{__name__="a", b="c"}"#)
        let histogram = try decode([labels([1, 3]), { $0.message(3) { $0.varint(1, 7) } }])
        XCTAssertEqual(histogram.reason, "a native histogram is none: 0 observations in buckets, but a count of 7")
        // References need not be packed.
        let loose = try decode([{ for reference: UInt64 in [1, 3] { $0.varint(1, reference) } }, sample])
        XCTAssertEqual(loose.batch.series.count, 2)
        XCTAssertThrowsError(try PrometheusRemoteWrite2.decode(request(["x"], []), limits: Limits()), "the first symbol is the empty one")
        XCTAssertTrue(try PrometheusRemoteWrite2.decode([], limits: Limits()).batch.isEmpty)
    }

    func testRepeatedTextsAreBounded() {
        let long = String(repeating: "x", count: 1000)
        let series: (inout ProtobufWriter) -> Void = {
            self.labels([1, 2])(&$0); $0.message(2) { $0.int(2, 1) }
        }
        let body = request(["", "__name__", long], [(inout ProtobufWriter) -> Void](repeating: series, count: 1000))
        var limits = Limits()
        limits.decodedBytesMax = 100_000
        XCTAssertThrowsError(try PrometheusRemoteWrite2.decode(body, limits: limits)) { XCTAssertEqual(($0 as? ObsError)?.code, .tooLarge) }
    }

    func testMutationsDoNotCrash() {
        withMutations(of: encoded(batch(), .version2)) { _ = try? PrometheusRemoteWrite2.decode($0, limits: Limits()) }
    }
}
