import ObsCore
import XCTest

@testable import ObsWire

final class PrometheusProtobufTests: XCTestCase {
    /// A delimited `MetricFamily`; `type` is the wire's number.
    private func family(_ name: String, _ type: UInt64, help: String = "", unit: String = "", _ metrics: [(inout ProtobufWriter) -> Void]) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.message(1) { (body: inout ProtobufWriter) in
            body.string(1, name)
            if !help.isEmpty { body.string(2, help) }
            body.varint(3, type)
            for metric in metrics { body.message(4) { metric(&$0) } }
            if !unit.isEmpty { body.string(5, unit) }
        }
        // A length-delimited field without its tag is a delimited message.
        return Array(writer.bytes.dropFirst())
    }

    private func label(_ writer: inout ProtobufWriter, _ name: String, _ value: String, field: UInt32 = 1) {
        writer.message(field) {
            $0.string(1, name)
            $0.string(2, value)
        }
    }

    private func time(_ writer: inout ProtobufWriter, _ field: UInt32, seconds: Int64, nanos: Int64 = 0) {
        writer.message(field) {
            $0.int(1, seconds)
            $0.int(2, nanos)
        }
    }

    /// `{labels} value` of samples, `{labels} count sum …` of histograms, exemplars behind what they belong to.
    private func shown(_ batch: MetricBatch) -> [String] {
        batch.series.indices.map { index in
            let series = batch.series[index]
            var text = "\(batch.labels(of: series))"
            if series.sampleCount > 0 {
                let sample = Int(series.firstSample)
                text += " \(formatSampleValue(batch.values[sample]))"
                if batch.timesMillis[sample] != PrometheusText.noTime { text += " @\(batch.timesMillis[sample])" }
                if !batch.startsMillis.isEmpty, batch.startsMillis[sample] != 0 { text += " since \(batch.startsMillis[sample])" }
            }
            for (row, of) in batch.histogramSeries.enumerated() where of == UInt32(index) { text += " " + shown(batch.histograms, row) }
            for exemplar in batch.exemplars where exemplar.series == UInt32(index) {
                text += " # \(Labels(canonical: Array(batch.bytes[exemplar.labels.range]))) \(formatSampleValue(exemplar.value))"
                if exemplar.timeMillis != PrometheusText.noTime { text += " @\(exemplar.timeMillis)" }
            }
            return text
        }
    }

    private func shown(_ columns: HistogramColumns, _ row: Int) -> String {
        let layout = columns.layout(ofRow: row)
        func count(_ bits: UInt64) -> String { formatSampleValue(layout.isFloat ? Double(bitPattern: bits) : Double(bits)) }
        var buckets: [String] = []
        var at = columns.bucketRange(row).lowerBound
        layout.forEachBucket { isNegative, index in
            buckets.append("\(isNegative ? "-" : "")\(index):\(count(columns.buckets[at]))")
            at += 1
        }
        var text = "h(\(layout.schema)) \(count(columns.counts[row])) \(formatSampleValue(columns.sums[row])) zero \(count(columns.zeroCounts[row]))"
        text += " [\(buckets.joined(separator: " "))]"
        if !layout.customBoundsBits.isEmpty { text += " \(layout.customBounds)" }
        if columns.resets[row] != .unknown { text += " \(columns.resets[row])" }
        if columns.startsMillis[row] != 0 { text += " since \(columns.startsMillis[row])" }
        if columns.timesMillis[row] != PrometheusText.noTime { text += " @\(columns.timesMillis[row])" }
        return text
    }

    private func nativeHistogram(_ writer: inout ProtobufWriter, buckets: Bool = true, exemplars: Bool = false) {
        writer.message(7) { histogram in
            histogram.varint(1, 6)
            histogram.double(2, 12.5)
            if buckets {
                for (bound, count) in [(1.0, UInt64(2)), (5.0, 5)] {
                    histogram.message(3) {
                        $0.varint(1, count)
                        $0.double(2, bound)
                        if bound == 5 {
                            $0.message(3) { exemplar in
                                label(&exemplar, "trace_id", "b")
                                exemplar.double(2, 4)
                                time(&exemplar, 3, seconds: 7)
                            }
                        }
                    }
                }
            }
            histogram.zigzag(5, 1)
            histogram.double(6, 0.001)
            histogram.varint(7, 1)
            histogram.message(12) {
                $0.zigzag(1, -2)
                $0.varint(2, 2)
            }
            histogram.message(12) {
                $0.zigzag(1, 3)
                $0.varint(2, 1)
            }
            histogram.message(13) { for delta: Int64 in [1, 1, -1] { $0.packed(varint: UInt64(bitPattern: delta << 1 ^ delta >> 63)) } }
            histogram.message(9) {
                $0.zigzag(1, 0)
                $0.varint(2, 1)
            }
            histogram.zigzag(10, 1)
            time(&histogram, 15, seconds: 3, nanos: 500_000_000)
            if exemplars {
                for hasTime in [true, false] {
                    histogram.message(16) {
                        label(&$0, "trace_id", "a")
                        $0.double(2, 2)
                        if hasTime { time(&$0, 3, seconds: 9) }
                    }
                }
            }
        }
    }

    func testCountersGaugesUntyped() throws {
        let body =
            family(
                "requests_total", 0, help: "All requests.", unit: "requests",
                [
                    {
                        self.label(&$0, "code", "200")
                        self.label(&$0, "a", "b")
                        $0.message(3) {
                            $0.double(1, 7)
                            $0.message(2) {
                                self.label(&$0, "trace_id", "x"); $0.double(2, 0.5)
                            }
                            self.time(&$0, 3, seconds: 1, nanos: 5_000_000)
                        }
                        $0.int(6, 1234)
                    }, { $0.message(3) { $0.double(1, .nan) } },
                ])
            + family("temp", 1, [{ $0.message(2) { $0.double(1, -1.5) } }]) + family("empty", 1, [])
            + family("any.name", 3, [{ $0.message(5) { $0.double(1, 3) } }])
        let batch = try PrometheusProtobuf.parse(body)
        XCTAssertEqual(
            shown(batch),
            [
                #"{__name__="requests_total", a="b", code="200"} 7 @1234 since 1005 # {trace_id="x"} 0.5"#, #"{__name__="requests_total"} NaN"#,
                #"{__name__="temp"} -1.5"#, #"{__name__="any.name"} 3"#,
            ])
        XCTAssertEqual(batch.values[1].bitPattern, SpecialValue.normalNaNBits)
        XCTAssertEqual(batch.startsMillis.count, batch.values.count)
        XCTAssertEqual(
            batch.metadata.map { "\(batch.bytes.string($0.family)) \($0.type.word) \(batch.bytes.string($0.help)) \(batch.bytes.string($0.unit))" },
            ["requests_total counter All requests. requests", "temp gauge  ", "any.name unknown  "])
    }

    func testSummariesAndClassicHistograms() throws {
        let body =
            family(
                "s", 2,
                [
                    {
                        $0.message(4) {
                            $0.varint(1, 3)
                            $0.double(2, 1.5)
                            for quantile in [0.5, 1] {
                                $0.message(3) {
                                    $0.double(1, quantile)
                                    $0.double(2, quantile * 2)
                                }
                            }
                        }
                    }
                ])
            + family(
                "h", 4,
                [
                    {
                        $0.message(7) {
                            $0.varint(1, 3)
                            $0.double(2, 1.5)
                            $0.message(3) {
                                $0.varint(1, 2)
                                $0.double(2, 1)
                                $0.message(3) {
                                    self.label(&$0, "t", "x"); $0.double(2, 0.5)
                                }
                            }
                        }
                    }
                ])
        XCTAssertEqual(
            shown(try PrometheusProtobuf.parse(body)),
            [
                #"{__name__="s_count"} 3"#, #"{__name__="s_sum"} 1.5"#, #"{__name__="s", quantile="0.5"} 1"#, #"{__name__="s", quantile="1.0"} 2"#,
                #"{__name__="h_count"} 3"#, #"{__name__="h_sum"} 1.5"#, #"{__name__="h_bucket", le="1.0"} 2 # {t="x"} 0.5"#,
                #"{__name__="h_bucket", le="+Inf"} 3"#,
            ])
    }

    func testNativeHistograms() throws {
        let body = family("h", 4, [{ self.nativeHistogram(&$0) }])
        let native = #"{__name__="h"} h(1) 6 12.5 zero 1 [-2:1 -1:2 3:1 -0:1] since 3500 # {trace_id="b"} 4 @7000"#
        let classic = [
            #"{__name__="h_count"} 6 since 3500"#, #"{__name__="h_sum"} 12.5 since 3500"#, #"{__name__="h_bucket", le="1.0"} 2 since 3500"#,
            #"{__name__="h_bucket", le="5.0"} 5 since 3500 # {trace_id="b"} 4 @7000"#, #"{__name__="h_bucket", le="+Inf"} 6 since 3500"#,
        ]
        XCTAssertEqual(shown(try PrometheusProtobuf.parse(body)), classic)
        XCTAssertEqual(shown(try PrometheusProtobuf.parse(body, options: ExpositionOptions(nativeHistograms: true))), [native])
        XCTAssertEqual(shown(try PrometheusProtobuf.parse(body, options: ExpositionOptions(nativeHistograms: true, keepsClassic: true))), [native] + classic)
        // Where its own exemplars are, those of the buckets are not taken; ones without a time neither.
        let own = family("h", 5, [{ self.nativeHistogram(&$0, buckets: false, exemplars: true) }])
        XCTAssertEqual(
            shown(try PrometheusProtobuf.parse(own, options: ExpositionOptions(nativeHistograms: true))),
            [#"{__name__="h"} h(1) 6 12.5 zero 1 [-2:1 -1:2 3:1 -0:1] gauge since 3500 # {trace_id="a"} 2 @9000"#])
    }

    func testFloatHistogramsAndEmptyOnes() throws {
        let body =
            family(
                "f", 4,
                [
                    {
                        $0.message(7) {
                            $0.double(4, 2.5)
                            $0.double(2, 4)
                            $0.double(8, 0.5)
                            $0.message(12) { $0.varint(2, 2) }
                            $0.message(14) {
                                $0.packed(fixed64: (1.5).bitPattern)
                                $0.packed(fixed64: (0.5).bitPattern)
                            }
                        }
                    }
                ]) + family("none", 4, [{ $0.message(7) { $0.message(12) { $0.varint(2, 0) } } }])
        XCTAssertEqual(
            shown(try PrometheusProtobuf.parse(body, options: ExpositionOptions(nativeHistograms: true))),
            [#"{__name__="f"} h(0) 2.5 4 zero 0.5 [0:1.5 1:0.5]"#, #"{__name__="none"} h(0) 0 0 zero 0 []"#])
    }

    func testErrors() {
        func fails(_ body: [UInt8], _ message: String, line: UInt = #line) {
            XCTAssertThrowsError(try PrometheusProtobuf.parse(body, options: ExpositionOptions(nativeHistograms: true)), line: line) {
                XCTAssertEqual(($0 as? ObsError)?.message, message, line: line)
            }
        }
        fails([200, 1], "a metric family is longer than the body")
        fails(family("", 1, [{ $0.message(2) { $0.double(1, 1) } }]), "invalid metric name in metric family \"\"")
        fails(family("a", 9, [{ $0.message(2) { $0.double(1, 1) } }]), "unknown metric type 9 in metric family \"a\"")
        fails(
            family(
                "a", 1,
                [
                    {
                        self.label(&$0, "b", "1"); self.label(&$0, "b", "2"); $0.message(2) { $0.double(1, 1) }
                    }
                ]),
            "a label name is repeated in metric family \"a\"")
        fails(
            family(
                "a", 4,
                [
                    {
                        $0.message(7) {
                            $0.varint(1, 1); $0.message(12) { $0.varint(2, 2) }
                        }
                    }
                ]),
            "invalid histogram (spans have other buckets than there are counts) in metric family \"a\"")
        fails(
            family(
                "a", 4,
                [
                    {
                        $0.message(7) {
                            $0.varint(1, 5); $0.message(12) { $0.varint(2, 1) }; $0.zigzag(13, 1)
                        }
                    }
                ]),
            "invalid histogram (1 observations in buckets, but a count of 5) in metric family \"a\"")
    }

    func testMutationsDoNotCrash() {
        let body =
            family("h", 4, help: "x", [{ self.nativeHistogram(&$0, exemplars: true) }])
            + family(
                "c", 0,
                [
                    {
                        self.label(&$0, "a", "b"); $0.message(3) { $0.double(1, 1) }; $0.int(6, 5)
                    }
                ])
        let options = ExpositionOptions(nativeHistograms: true, convertsClassic: true, keepsClassic: true)
        withMutations(of: body) { _ = try? Exposition.parse($0, format: .protobuf, options: options) }
    }

    // MARK: - Classic histograms made native

    private func converted(_ text: String, keepsClassic: Bool = false) throws -> [String] {
        let options = ExpositionOptions(convertsClassic: true, keepsClassic: keepsClassic)
        return shown(try Exposition.parse(Array(text.utf8), format: text.hasSuffix("# EOF\n") ? .openMetrics : .text, options: options))
    }

    func testClassicHistogramsAreConverted() throws {
        let text = """
            # TYPE h histogram
            h_bucket{a="1",le="0.5"} 1
            h_bucket{a="1",le="2"} 3
            h_bucket{a="1",le="+Inf"} 4
            h_sum{a="1"} 9.5
            h_count{a="1"} 4
            h_bucket{a="2",le="+Inf"} 0
            h_sum{a="2"} 0
            h_count{a="2"} 0
            # TYPE g gauge
            g_count 7

            """
        XCTAssertEqual(
            try converted(text),
            [
                #"{__name__="h", a="1"} h(-53) 4 9.5 zero 0 [0:1 1:2 2:1] [0.5, 2.0]"#, #"{__name__="h", a="2"} h(-53) 0 0 zero 0 [0:0]"#,
                #"{__name__="g_count"} 7"#,
            ])
        XCTAssertEqual(try converted(text, keepsClassic: true).count, 2 + 9)
        // No +Inf bucket, another order, fractions.
        XCTAssertEqual(
            try converted("# TYPE h histogram\nh_count 3.5\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"1\"} 0.5\nh_sum 1\n"),
            [#"{__name__="h"} h(-53) 3.5 1 zero 0 [0:0.5 1:2.5 2:0.5] [1.0, 2.0]"#])
    }

    func testWhatMakesNoHistogramStays() throws {
        for text in [
            "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 2\nh_count 3\n", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 3\n",
            "# TYPE h histogram\nh_bucket{le=\"x\"} 2\n", "h_bucket{le=\"+Inf\"} 2\nh_count 2\n", "# TYPE h histogram\nh_sum 2\n",
        ] {
            let plain = shown(try PrometheusText.parse(Array(text.utf8), format: .text))
            XCTAssertEqual(try converted(text), plain, text)
        }
    }

    func testExemplarsAndStartsGoWithTheHistogram() throws {
        XCTAssertEqual(
            try converted(
                """
                # TYPE h histogram
                h_bucket{le="1.0"} 1 # {t="a"} 0.5 3
                h_bucket{le="+Inf"} 2 # {t="b"} 5
                h_count 2
                h_sum 6
                h_created 17.25
                # EOF

                """),
            [
                #"{__name__="h"} h(-53) 2 6 zero 0 [0:1 1:1] [1.0] since 17250 # {t="a"} 0.5 @3000"#, #"{__name__="h_created"} 17.25"#,
            ])
    }
}
