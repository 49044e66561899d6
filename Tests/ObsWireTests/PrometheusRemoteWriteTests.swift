import ObsCore
import ObsWire
import XCTest

final class PrometheusRemoteWriteTests: XCTestCase {
    private struct Series {
        var labels: [(String, String)]
        var samples: [(Double, Int64)] = []
        var exemplars: [([(String, String)], Double, Int64)] = []
        var histograms: [(inout ProtobufWriter) -> Void] = []
        var labelsLast = false

        func write(_ writer: inout ProtobufWriter) {
            if !labelsLast { write(labels, &writer) }
            for (value, time) in samples {
                writer.message(2) {
                    $0.double(1, value)
                    $0.int(2, time)
                }
            }
            for exemplar in exemplars {
                writer.message(3) {
                    write(exemplar.0, &$0)
                    $0.double(2, exemplar.1)
                    $0.int(3, exemplar.2)
                }
            }
            for histogram in histograms { writer.message(4) { histogram(&$0) } }
            if labelsLast { write(labels, &writer) }
        }

        private func write(_ labels: [(String, String)], _ writer: inout ProtobufWriter) {
            for (name, value) in labels {
                writer.message(1) {
                    $0.string(1, name)
                    $0.string(2, value)
                }
            }
        }
    }

    private func request(_ series: [Series]) -> [UInt8] {
        var writer = ProtobufWriter()
        for one in series { writer.message(1) { one.write(&$0) } }
        return writer.bytes
    }

    private func decode(_ series: [Series]) throws -> Decoded<MetricBatch> { try PrometheusRemoteWrite.decode(request(series), limits: Limits()) }

    private func show(_ batch: MetricBatch) -> [String] {
        batch.series.map { series in
            let samples = (Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)).map {
                "\(formatSampleValue(batch.values[$0]))@\(batch.timesMillis[$0])"
            }
            return "\(batch.labels(of: series)) \(samples.joined(separator: " "))"
        }
    }

    func testSeriesAndSamples() throws {
        let decoded = try decode([
            Series(labels: [("__name__", "up"), ("job", "a")], samples: [(1, 1000), (0, 2000)]),
            Series(labels: [("zone", "b"), ("__name__", "down"), ("empty", ""), ("a", "é")], samples: [(-1.5, -1)]),
            Series(labels: [("__name__", "late"), ("a", "b")], samples: [(7, 1)], labelsLast: true),
            Series(labels: [("Job", "before the name"), ("__name__", "x")], samples: [(2, 2)]),
        ])
        XCTAssertEqual(
            show(decoded.batch),
            [
                #"{__name__="up", job="a"} 1@1000 0@2000"#, #"{__name__="down", a="é", zone="b"} -1.5@-1"#, #"{__name__="late", a="b"} 7@1"#,
                #"{Job="before the name", __name__="x"} 2@2"#,
            ])
        XCTAssertEqual(decoded.rejected, 0)
    }

    func testBitsOfStaleMarkersAndNaNsAreKept() throws {
        let bits: [UInt64] = [SpecialValue.staleBits, SpecialValue.normalNaNBits, 0x7ff8_dead_beef_0001, 0x8000_0000_0000_0000, 0x7ff0_0000_0000_0000]
        let decoded = try decode([Series(labels: [("__name__", "up")], samples: bits.map { (Double(bitPattern: $0), 1) })])
        XCTAssertEqual(decoded.batch.values.map(\.bitPattern), bits)
    }

    func testInvalidSeriesAreSkippedAlone() throws {
        let good = Series(labels: [("__name__", "up")], samples: [(1, 1)])
        let decoded = try decode([
            Series(labels: [("job", "a")], samples: [(1, 1), (2, 2)]), good, Series(labels: [("__name__", "")], samples: [(1, 1)]),
            Series(labels: [("__name__", "a"), ("b", "1"), ("b", "2")], samples: [(3, 3)]), Series(labels: [], samples: []), good,
            Series(labels: [("__name__", "a"), ("", "2")], samples: [(3, 3)]),
        ])
        XCTAssertEqual(show(decoded.batch), [#"{__name__="up"} 1@1"#, #"{__name__="up"} 1@1"#])
        XCTAssertEqual(decoded.rejected, 6)
        XCTAssertEqual(decoded.reason, "a series has no metric name")
        var writer = ProtobufWriter()
        writer.message(1) { series in
            series.message(1) {
                $0.string(1, "__name__")
                $0.bytes(2, [0xff, 0xfe])
            }
            series.message(2) { $0.double(1, 1) }
        }
        XCTAssertEqual(try PrometheusRemoteWrite.decode(writer.bytes, limits: Limits()).rejected, 1)
    }

    func testExemplarsAndMetadata() throws {
        var body = request([
            Series(labels: [("__name__", "a")], samples: [(1, 1)]),
            Series(labels: [("__name__", "b")], samples: [(1, 1)], exemplars: [([("trace_id", "x"), ("a", "y")], 0.5, 99), ([], 2, 3)]),
        ])
        var writer = ProtobufWriter()
        writer.message(3) {
            $0.varint(1, 1)
            $0.string(2, "b")
            $0.string(4, "helps")
            $0.string(5, "seconds")
        }
        writer.message(3) { $0.varint(1, 77) }
        body += writer.bytes
        let batch = try PrometheusRemoteWrite.decode(body, limits: Limits()).batch
        XCTAssertEqual(batch.exemplars.map(\.series), [1, 1])
        XCTAssertEqual(Labels(canonical: Array(batch.bytes[batch.exemplars[0].labels.range])), Labels([("a", "y"), ("trace_id", "x")]))
        XCTAssertEqual(batch.exemplars[0].timeMillis, 99)
        XCTAssertEqual(batch.metadata.count, 1)
        XCTAssertEqual(batch.metadata[0].type, .counter)
        XCTAssertEqual(batch.bytes.string(batch.metadata[0].help) + batch.bytes.string(batch.metadata[0].unit), "helpsseconds")
        XCTAssertTrue(try PrometheusRemoteWrite.decode([], limits: Limits()).batch.isEmpty)
    }

    func testNativeHistogramsBecomeClassicSeries() throws {
        let decoded = try decode([
            Series(
                labels: [("__name__", "lat"), ("job", "a")],
                histograms: [
                    { histogram in
                        histogram.varint(1, 11)
                        histogram.double(3, 18.5)
                        histogram.zigzag(4, 0)
                        histogram.double(5, 0.001)
                        histogram.varint(6, 2)
                        // Indices 0, 1 and 4 with 1, 3 and 2; negative 1 with 3.
                        histogram.message(8) {
                            $0.zigzag(1, 1); $0.varint(2, 1)
                        }
                        histogram.message(9) { $0.packed(varint: 6) }
                        histogram.message(11) {
                            $0.zigzag(1, 0); $0.varint(2, 2)
                        }
                        histogram.message(11) {
                            $0.zigzag(1, 2); $0.varint(2, 1)
                        }
                        histogram.message(12) { for delta: UInt64 in [2, 4, 1] { $0.packed(varint: delta) } }
                        histogram.int(15, 5000)
                    }
                ])
        ])
        XCTAssertEqual(
            show(decoded.batch),
            [
                #"{__name__="lat_count", job="a"} 11@5000"#, #"{__name__="lat_sum", job="a"} 18.5@5000"#,
                #"{__name__="lat_bucket", job="a", le="-1.0"} 3@5000"#,
                #"{__name__="lat_bucket", job="a", le="0.001"} 5@5000"#, #"{__name__="lat_bucket", job="a", le="1.0"} 6@5000"#,
                #"{__name__="lat_bucket", job="a", le="2.0"} 9@5000"#, #"{__name__="lat_bucket", job="a", le="16.0"} 11@5000"#,
                #"{__name__="lat_bucket", job="a", le="+Inf"} 11@5000"#,
            ])
        let custom = try decode([
            Series(
                labels: [("__name__", "c")],
                histograms: [
                    { histogram in
                        histogram.double(2, 3)
                        histogram.double(3, 1)
                        histogram.zigzag(4, -53)
                        histogram.message(11) {
                            $0.zigzag(1, 1); $0.varint(2, 2)
                        }
                        histogram.message(13) { for count in [1.0, 2.0] { $0.packed(fixed64: count.bitPattern) } }
                        histogram.message(16) { for bound in [0.5, 5] { $0.packed(fixed64: bound.bitPattern) } }
                    }
                ])
        ])
        XCTAssertEqual(
            show(custom.batch),
            [
                #"{__name__="c_count"} 3@0"#, #"{__name__="c_sum"} 1@0"#, #"{__name__="c_bucket", le="5.0"} 1@0"#, #"{__name__="c_bucket", le="+Inf"} 3@0"#,
            ])
        let stale = try decode([Series(labels: [("__name__", "s")], histograms: [{ $0.double(3, SpecialValue.stale) }])])
        XCTAssertEqual(stale.batch.values.map(\.bitPattern), Array(repeating: SpecialValue.staleBits, count: 3))
        let broken = try decode([Series(labels: [("__name__", "s")], histograms: [{ $0.message(12) { $0.packed(varint: 1) } }])])
        XCTAssertEqual(broken.rejected, 1)
    }

    func testHistogramsMayNotExpandPastTheBound() {
        var limits = Limits()
        limits.decodedBytesMax = 1 << 20
        let series = Series(
            labels: [("__name__", "a"), ("b", String(repeating: "x", count: 60_000))], histograms: Array(repeating: { $0.varint(1, 1) }, count: 100))
        XCTAssertThrowsError(try PrometheusRemoteWrite.decode(request([series]), limits: limits)) { XCTAssertEqual(($0 as? ObsError)?.code, .tooLarge) }
    }

    func testGarbageIsRefused() {
        for body: [UInt8] in [[0xff], [0x0a, 0x05, 1], Array("not protobuf".utf8), [0x0a, 0x02, 0x0a, 0x05]] {
            XCTAssertThrowsError(try PrometheusRemoteWrite.decode(body, limits: Limits())) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
        }
    }

    func testMutationsDoNotCrash() {
        let body = request([
            Series(
                labels: [("__name__", "lat"), ("job", "a")], samples: [(1, 5)], exemplars: [([("t", "x")], 1, 2)],
                histograms: [
                    { histogram in
                        histogram.varint(1, 5)
                        histogram.message(11) {
                            $0.zigzag(1, 2); $0.varint(2, 2)
                        }
                        histogram.message(12) { for delta: UInt64 in [2, 4] { $0.packed(varint: delta) } }
                    }
                ]), Series(labels: [("b", "é"), ("__name__", "x")], samples: [(1, 5), (2, 6)]),
        ])
        withMutations(of: body) { mutated in
            guard let batch = try? PrometheusRemoteWrite.decode(mutated, limits: Limits()).batch else { return }
            XCTAssertEqual(batch.timesMillis.count, batch.values.count)
            for series in batch.series { XCTAssertLessThanOrEqual(Int(series.firstSample) + Int(series.sampleCount), batch.values.count) }
        }
    }
}
