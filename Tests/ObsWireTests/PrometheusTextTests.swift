import ObsCore
import ObsWire
import XCTest

final class PrometheusTextTests: XCTestCase {
    /// One line a sample: `labels value [time] [# exemplar]`.
    private func show(_ batch: MetricBatch) -> [String] {
        batch.series.enumerated().map { index, series in
            let time = batch.timesMillis[Int(series.firstSample)]
            var text = "\(batch.labels(of: series)) \(formatSampleValue(batch.values[Int(series.firstSample)]))"
            if time != PrometheusText.noTime { text += " \(time)" }
            for exemplar in batch.exemplars where exemplar.series == UInt32(index) {
                text += " # \(Labels(canonical: Array(batch.bytes[exemplar.labels.range]))) \(formatSampleValue(exemplar.value))"
                if exemplar.timeMillis != PrometheusText.noTime { text += " \(exemplar.timeMillis)" }
            }
            return text
        }
    }

    private func parse(_ text: String, _ format: ScrapeFormat = .text) throws -> MetricBatch { try PrometheusText.parse(Array(text.utf8), format: format) }

    private func assert(_ text: String, _ format: ScrapeFormat, gives expected: [String], line: UInt = #line) {
        XCTAssertEqual(try show(parse(text, format)), expected, line: line)
    }

    func testText() {
        assert(
            """
            # HELP go_gc A summary with \\\\ and \\n.
            # TYPE go_gc summary
            go_gc{quantile="0"} 4.9351e-05
            go_gc{quantile="0.25",} 7.424100000000001e-05
            go_gc { quantile = "1" , a="b" } 8.3835e-05
            go_gc_count 99
            some:aggregate:rate5m{a_b="c"} 1 1234
            # any comment, also
            #HELP nothing

            \t spaced{a="b"}\t 1 \t 5\t
            null_byte{a="abc\u{0}"} 1
            escaped{path="C:\\\\DIR\\n\\"q\\" \\q",empty=""} +Inf
            _a:b Nan
            {"my.metric","a.b"="v",c="d"} -Inf
            {"only.name"} 2
            {c="d","late.name"} 3

            """, .text,
            gives: [
                #"{__name__="go_gc", quantile="0.0"} 0.000049351"#, #"{__name__="go_gc", quantile="0.25"} 0.00007424100000000001"#,
                #"{__name__="go_gc", a="b", quantile="1.0"} 0.000083835"#, #"{__name__="go_gc_count"} 99"#,
                #"{__name__="some:aggregate:rate5m", a_b="c"} 1 1234"#, #"{__name__="spaced", a="b"} 1 5"#, "{__name__=\"null_byte\", a=\"abc\u{0}\"} 1",
                #"{__name__="escaped", path="C:\\DIR\n\"q\" \\q"} +Inf"#, #"{__name__="_a:b"} NaN"#, #"{__name__="my.metric", a.b="v", c="d"} -Inf"#,
                #"{__name__="only.name"} 2"#, #"{__name__="late.name", c="d"} 3"#,
            ])
    }

    func testOpenMetrics() {
        assert(
            """
            # HELP http requests \\"total\\"
            # TYPE http counter
            # UNIT written_bytes bytes
            http_total 17.0 # {trace_id="abc"} 0.67
            http_total{a="b"} 5 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.5
            http_created 1520872607.123
            # TYPE "my.hist" histogram
            {"my.hist_bucket",le="1"} 3 # {} 4
            {"my.hist_bucket",le="1e6"} 3
            {"my.hist_bucket",le="+Inf"} 3
            # EOF

            """, .openMetrics,
            gives: [
                #"{__name__="http_total"} 17 # {trace_id="abc"} 0.67"#,
                #"{__name__="http_total", a="b"} 5 1520879607789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607500"#, #"{__name__="http_created"} 1520872607.123"#,
                #"{__name__="my.hist_bucket", le="1.0"} 3 # {} 4"#, #"{__name__="my.hist_bucket", le="1e+06"} 3"#, #"{__name__="my.hist_bucket", le="+Inf"} 3"#,
            ])
    }

    func testMetadata() throws {
        func show(_ batch: MetricBatch) -> [String] {
            batch.metadata.map { "\(batch.bytes.string($0.family)) \($0.type.word) \(batch.bytes.string($0.help)) \(batch.bytes.string($0.unit))" }
        }
        XCTAssertEqual(
            try show(parse("# HELP a x \\\\ \\n \\\" y\n# TYPE a gauge\na 1\n# TYPE b untyped\n# HELP c\n# HELP a again\n# UNIT a ignored\n")),
            ["a gauge again ", "b unknown  ", "c unknown  "])
        XCTAssertEqual(
            try show(parse("# TYPE a_bytes stateset\n# UNIT a_bytes bytes\n# HELP a_bytes x \\\"y\\\"\n# EOF", .openMetrics)),
            ["a_bytes stateset x \"y\" bytes"])
    }

    func testEveryNaNBecomesTheNormalOne() throws {
        XCTAssertEqual(try parse("a nan\nb NaN\n").values.map(\.bitPattern), [SpecialValue.normalNaNBits, SpecialValue.normalNaNBits])
    }

    func testTextErrorsNameTheLine() {
        let cases: [(String, String)] = [
            ("a 1", "line 1"), ("a\n", "line 1"), ("a 1\nb\n", "line 2"), ("a 1\n\n# x\nb 1 2 3\n", "line 4"), ("a{b=\"c\"\n", "line 1"),
            ("a{b=c} 1\n", "line 1"),
            ("a{b='c'} 1\n", "line 1"), ("a{b=\"c} 1\n", "line 1"), ("a{b=\"c\" d=\"e\"} 1\n", "line 1"), ("a{1b=\"c\"} 1\n", "line 1"),
            ("a{b:c=\"c\"} 1\n", "line 1"),
            ("a 0x1p-3\n", "line 1"), ("a 1_2\n", "line 1"), ("a 1 -5\n", "line 1"), ("a 1 1.5\n", "line 1"), ("a one\n", "line 1"),
            ("a{b=\"1\",b=\"2\"} 1\n", "line 1"),
            ("a{b=\"\",b=\"2\"} 1\n", "line 1"), ("{a=\"b\"} 1\n", "line 1"), ("{\"a\",\"b\"} 1\n", "line 1"), ("a{\"b\"} 1\n", "line 1"), ("a1\n", "line 1"),
            ("1a 1\n", "line 1"),
            ("# TYPE a b\n", "line 1"), ("# TYPE a\n", "line 1"), ("# TYPE a info\n", "line 1"), ("# HELP\n", "line 1"), ("a 1 # {a=\"b\"} 1\n", "line 1"),
            ("a 1\r\n", "line 1"),
            ("{\"\"} 1\n", "line 1"), ("a{,} 1\n", "line 1"),
        ]
        for (text, place) in cases {
            XCTAssertThrowsError(try parse(text), text) { XCTAssertEqual(($0 as? ObsError)?.place, place, text) }
        }
        let invalid = Array("a{b=\"".utf8) + [0xff] + Array("\"} 1\n".utf8)
        XCTAssertThrowsError(try PrometheusText.parse(invalid, format: .text)) { XCTAssertTrue("\($0)".contains("UTF-8")) }
    }

    func testOpenMetricsErrors() {
        for text in [
            "", "a 1\n", "a 1\n# EOF\nb 1\n", "# EOF\n\n", "\n# EOF\n", "a  1\n# EOF\n", "a 1 \n# EOF\n", " a 1\n# EOF\n", "a\t1\n# EOF\n",
            "a{b=\"c\", d=\"e\"} 1\n# EOF\n",
            "# comment\n# EOF\n", "#EOF\n", "# TYPE a untyped\n# EOF\n", "# UNIT a_seconds bytes\n# EOF\n", "# UNIT a b\n# EOF\n", "a 1 x\n# EOF\n",
            "a 1 # {a=\"b\"}\n# EOF\n",
            "a 1 # x\n# EOF\n", "a 1 NaN\n# EOF\n", "a 1 # {a=\"b\"} 1 2 3\n# EOF\n", "a 1 # {\"n\"} 1\n# EOF\n", "a{b=\"c\"}  1\n# EOF\n", "# EOF \n",
        ] { XCTAssertThrowsError(try parse(text, .openMetrics), text) }
    }

    func testAnExemplarOfTooManyCharactersIsLeftOut() {
        let long = String(repeating: "é", count: 128)
        assert(
            "a 1 # {t=\"\(long)\"} 1\nb 1 # {t=\"\(long.dropLast())\"} 2\n# EOF\n", .openMetrics,
            gives: [
                "{__name__=\"a\"} 1", "{__name__=\"b\"} 1 # {t=\"\(long.dropLast())\"} 2",
            ])
    }

    func testCreatedIsWhenCountingBegan() throws {
        let text = """
            # TYPE a counter
            a_total{x="1"} 1
            a_created{x="1"} 10.5
            a_total{x="2"} 2
            # TYPE h histogram
            h_bucket{le="1.0"} 1
            h_bucket{le="+Inf"} 1
            h_count 1
            h_created 20
            h_sum 3
            # TYPE g gauge
            g 1
            g_created 5
            # TYPE s summary
            s{quantile="0.5"} 1
            s_count 2
            s_created 30
            # EOF

            """
        let batch = try parse(text, .openMetrics)
        XCTAssertEqual(batch.startsMillis, [10_500, 0, 0, 20_000, 20_000, 20_000, 0, 20_000, 0, 0, 30_000, 30_000, 0])
        XCTAssertEqual(batch.series.count, 13)
        XCTAssertEqual(try parse("# TYPE a counter\na_total 1\n# EOF\n", .openMetrics).startsMillis, [])
        // The text format knows no such thing.
        XCTAssertEqual(try parse("# TYPE a counter\na 1\na_created 5\n", .text).startsMillis, [])
    }

    func testAccept() {
        // Prometheus' own header, byte for byte.
        XCTAssertEqual(
            ScrapeProtocol.accept(ScrapeProtocol.texts, escaping: "allow-utf-8"),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
                + "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
        XCTAssertEqual(
            ScrapeProtocol.accept([.prometheusProto, .text1], escaping: "underscores"),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.5,"
                + "*/*;q=0.4")
    }

    func testContentTypes() {
        XCTAssertEqual(
            ScrapeFormat(contentType: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; q=0.1"), .protobuf)
        XCTAssertEqual(ScrapeFormat(contentType: "text/plain; version=0.0.4; charset=utf-8"), .text)
        XCTAssertEqual(ScrapeFormat(contentType: "Application/OpenMetrics-Text;version=1.0.0"), .openMetrics)
        for other in ["", "text/html", "application/vnd.google.protobuf", "application/vnd.google.protobuf; proto=x; encoding=delimited", "text/plainx"] {
            XCTAssertNil(ScrapeFormat(contentType: other))
        }
    }

    func testMutationsDoNotCrash() {
        let text = "# TYPE a histogram\n# HELP a b\\n\na_bucket{le=\"0.5\",b=\"\\\"é\"} 1.5e3 17 \n{\"x.y\",z=\"\"} NaN\n"
        withMutations(of: Array(text.utf8)) { _ = try? PrometheusText.parse($0, format: .text) }
        let strict = "# TYPE a histogram\n# UNIT a_s s\na_bucket{le=\"0.5\"} 1.5e3 17.5 # {a=\"b\"} 1 2\n{\"x.y\",z=\"\"} NaN\n# EOF\n"
        withMutations(of: Array(strict.utf8)) { _ = try? PrometheusText.parse($0, format: .openMetrics) }
    }

    func testManySeriesAndLabels() throws {
        let labels = (0..<10_000).map { "l\($0)=\"\($0)\"" }.joined(separator: ",")
        XCTAssertEqual(try parse("a{\(labels)} 1\n").labels(of: parse("a{\(labels)} 1\n").series[0]).pairs.count, 10_001)
        let many = (0..<20_000).map { "m{i=\"\($0)\"} \($0)\n" }.joined()
        XCTAssertEqual(try parse(many).values.reduce(0, +), 199_990_000)
    }
}

final class PrometheusTextWriterTests: XCTestCase {
    func testWhatItWritesIsReadBack() throws {
        var writer = PrometheusTextWriter()
        writer.family("obs_requests_total", help: "Requests\nby \\ path.", type: .counter)
        writer.sample("obs_requests_total", [("path", "a\"b\\c\nd"), ("utf-8 name", "é")], 1.5)
        writer.sample("my.metric", [], .infinity, timeMillis: 5)
        writer.sample(Labels([("__name__", "x"), ("a", "b")]), .nan)
        XCTAssertEqual(
            String(decoding: writer.bytes, as: UTF8.self),
            """
            # HELP obs_requests_total Requests\\nby \\\\ path.
            # TYPE obs_requests_total counter
            obs_requests_total{path="a\\"b\\\\c\\nd","utf-8 name"="é"} 1.5
            {"my.metric"} +Inf 5
            x{a="b"} NaN

            """)
        let batch = try PrometheusText.parse(writer.bytes, format: .text)
        XCTAssertEqual(batch.labels(of: batch.series[0])["path"], "a\"b\\c\nd")
        XCTAssertEqual(batch.labels(of: batch.series[1])["__name__"], "my.metric")
        XCTAssertEqual(batch.bytes.string(batch.metadata[0].help), "Requests\nby \\ path.")
    }
}
