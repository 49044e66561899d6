internal import ObsCore
import XCTest

@testable import ObsWAL

final class BatchCodecTests: XCTestCase {
    func testMetrics() throws {
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "up"), ("job", "a")]), timeMillis: -5, value: SpecialValue.stale)
        batch.append(Labels([("__name__", "down")]), timeMillis: .max, value: -0.0)
        let label = batch.bytes.intern(Labels([("trace_id", "x")]).bytes)
        batch.exemplars = [MetricBatch.Exemplar(series: 1, labels: label, value: 3, timeMillis: 9)]
        batch.metadata = [MetricBatch.Metadata(family: label, type: .histogram, help: .empty, unit: label)]
        let back = try BatchCodec.decodeMetrics(BatchCodec.encode(batch))
        XCTAssertEqual(back.bytes, batch.bytes)
        XCTAssertEqual(back.values.map(\.bitPattern), batch.values.map(\.bitPattern))
        XCTAssertEqual(back.timesMillis, batch.timesMillis)
        XCTAssertEqual(back.series.map { back.labels(of: $0) }, batch.series.map { batch.labels(of: $0) })
        XCTAssertEqual(back.exemplars.map(\.labels), [label])
        XCTAssertEqual(back.metadata.map(\.type), [.histogram])
        fuzz(BatchCodec.encode(batch)) { _ = try BatchCodec.decodeMetrics($0) }
    }

    func testHistogramsAndStarts() throws {
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "latency")]), timeMillis: 5, value: 1)
        batch.append(Labels([("__name__", "requests_total")]), timeMillis: 5, value: 2)
        batch.setStarts(3, from: 1)
        XCTAssertEqual(batch.startsMillis, [0, 3])
        let layout = batch.histograms.intern(
            HistogramLayout(
                schema: 3, isFloat: false, zeroThreshold: 1e-128, positive: [BucketSpan(offset: -7, length: 2)], negative: [BucketSpan(offset: 1, length: 1)]))
        batch.histograms.append(timeMillis: 6, startMillis: 4, layout: layout, reset: .reset, count: 10, zeroCount: 1, sum: .nan, buckets: [2, 3, 4])
        batch.histograms.append(
            timeMillis: 7, layout: batch.histograms.intern(HistogramLayout()), count: 0, zeroCount: 0, sum: SpecialValue.stale, buckets: [])
        batch.histogramSeries = [0, 0]
        let back = try BatchCodec.decodeMetrics(BatchCodec.encode(batch))
        XCTAssertEqual(back.startsMillis, batch.startsMillis)
        XCTAssertEqual(back.histograms, batch.histograms)
        XCTAssertEqual(back.histogramSeries, [0, 0])
        XCTAssertTrue(back.histograms.isStale(1))
        XCTAssertEqual(BatchCodec.encode(batch)[1], 2)
        fuzz(BatchCodec.encode(batch)) { _ = try BatchCodec.decodeMetrics($0) }
    }

    func testLogs() throws {
        var batch = LogBatch()
        batch.streams = [batch.bytes.intern(Labels([("app", "x")]).bytes)]
        let line = batch.bytes.intern("hello".utf8)
        batch.appendRow(stream: 0, timeNanos: 7, severity: 9, line: line, traceID: TraceID(high: 1, low: 2), spanID: 3, flags: .identified)
        batch.appendRow(stream: 0, timeNanos: .min, severity: 0, line: .empty)
        let back = try BatchCodec.decodeLogs(BatchCodec.encode(batch))
        XCTAssertEqual(back.timeNanos, batch.timeNanos)
        XCTAssertEqual(back.line, batch.line)
        XCTAssertEqual(back.traceID, batch.traceID)
        XCTAssertEqual(back.flags, batch.flags)
        XCTAssertEqual(back.labels(ofStream: 0), batch.labels(ofStream: 0))
        fuzz(BatchCodec.encode(batch)) { _ = try BatchCodec.decodeLogs($0) }
    }

    func testSpans() throws {
        var batch = SpanBatch()
        let name = batch.bytes.intern("GET /".utf8)
        batch.appendRow(traceID: TraceID(high: 1, low: 2), spanID: 3, parentID: 4, startNanos: 5, durationNanos: 6, kind: 2, status: 1, flags: 8, name: name)
        let back = try BatchCodec.decodeSpans(BatchCodec.encode(batch))
        XCTAssertEqual(back.startNanos, [5])
        XCTAssertEqual(back.name, [name])
        XCTAssertEqual(back.flags, [8])
        XCTAssertEqual(back.parentID, [4])
        fuzz(BatchCodec.encode(batch)) { _ = try BatchCodec.decodeSpans($0) }
        XCTAssertThrowsError(try BatchCodec.decodeLogs(BatchCodec.encode(batch)))
    }

    private func fuzz(_ bytes: [UInt8], _ decode: ([UInt8]) throws -> Void) {
        var random = SplitMix(state: 7)
        for _ in 0..<500 {
            var damaged = bytes
            damaged[Int.random(in: 0..<damaged.count, using: &random)] = .random(in: 0...255, using: &random)
            if Bool.random(using: &random) { damaged.removeLast(Int.random(in: 0..<damaged.count, using: &random)) }
            try? decode(damaged)
        }
        for cut in 0..<bytes.count { XCTAssertThrowsError(try decode(Array(bytes.prefix(cut)))) }
    }
}
