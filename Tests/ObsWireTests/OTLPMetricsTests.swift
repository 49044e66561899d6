import ObsCore
import ObsWire
import XCTest

final class OTLPMetricsTests: XCTestCase {
    private func decode(_ json: String, _ options: OTLPMetricOptions = OTLPMetricOptions()) throws -> OTLPMetricsResult {
        try OTLPMetrics.decodeJSON(Array(json.utf8), receivedAtNanos: receivedAt, limits: Limits(), options: options)
    }

    private func attributes(_ pairs: [(String, String)]) -> String {
        "[" + pairs.map { #"{"key":"\#($0.0)","value":{"stringValue":"\#($0.1)"}}"# }.joined(separator: ",") + "]"
    }

    /// One metric under a resource and scope.
    private func metric(
        _ metric: String, resource: [(String, String)] = [], scope: String = "{}", options: OTLPMetricOptions = OTLPMetricOptions()
    ) throws -> OTLPMetricsResult {
        try decode(
            #"{"resourceMetrics":[{"resource":{"attributes":\#(attributes(resource))},"scopeMetrics":[{"scope":\#(scope),"metrics":[\#(metric)]}]}]}"#, options)
    }

    private func gauge(_ point: String) -> String { #"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":"1",\#(point)}]}}"# }

    // MARK: - names

    func testMetricNames() {
        typealias Case = (name: String, unit: String, shape: PrometheusNames.MetricShape, expected: String)
        let cases: [Case] = [
            ("http.server.duration", "ms", .other, "http_server_duration_milliseconds"), ("requests.total", "1", .monotonicSum, "requests_total"),
            ("mem.usage", "By", .gauge, "mem_usage_bytes"), ("disk.io", "By", .monotonicSum, "disk_io_bytes_total"),
            ("cpu.utilization", "1", .gauge, "cpu_utilization_ratio"),
            ("net", "By/s", .gauge, "net_bytes_per_second"), ("total.requests", "", .monotonicSum, "requests_total"),
            ("a.total.b", "s", .monotonicSum, "a_b_seconds_total"),
            ("ratio.x", "1", .gauge, "x_ratio"), ("x", "1", .other, "x"), ("queue", "{items}", .gauge, "queue"), ("rate", "{req}/s", .gauge, "rate_per_second"),
            ("req.per.second", "1/s", .gauge, "req_per_second"), ("foo_bytes", "By", .gauge, "foo_bytes"), ("a", "foo/bar", .gauge, "a_foo_per_bar"),
            ("a", "°F", .gauge, "a_F"),
            ("2xx", "", .gauge, "_2xx"), ("a--b__c", "", .gauge, "a_b_c"), ("job:rate", "", .gauge, "job:rate"), ("温度", "", .gauge, ""),
            ("", "s", .gauge, "seconds"),
            ("speed", "m/s", .gauge, "speed_meters_per_second"), ("a", "By/", .gauge, "a_bytes"), ("a", " ms ", .gauge, "a_milliseconds"),
            ("d", "d", .gauge, "d_days"),
            ("t", "%", .gauge, "t_percent"), ("t", "KiBy/mo", .gauge, "t_kibibytes_per_month"), ("l", "s", .monotonicSum, "l_seconds_total"),
        ]
        for item in cases { XCTAssertEqual(PrometheusNames.metric(item.name, unit: item.unit, shape: item.shape), item.expected, "\(item.name) \(item.unit)") }
        XCTAssertEqual(PrometheusNames.metric("a.b", unit: "s", shape: .monotonicSum, naming: .noSuffixes), "a_b")
        XCTAssertEqual(PrometheusNames.metric("a.b", unit: "s", shape: .monotonicSum, naming: .unchanged), "a.b")
    }

    func testNamesThatKeepUTF8() {
        typealias Case = (name: String, unit: String, shape: PrometheusNames.MetricShape, expected: String)
        let cases: [Case] = [
            ("http.server.duration", "ms", .other, "http.server.duration_milliseconds"), ("requests.total", "1", .monotonicSum, "requests_total"),
            ("requests", "1", .monotonicSum, "requests_total"), ("disk.io", "By", .monotonicSum, "disk.io_bytes_total"),
            ("cpu.utilization", "1", .gauge, "cpu.utilization_ratio"), ("cpu.ratio", "1", .gauge, "cpu_ratio"),
            ("net.bytes", "By/s", .gauge, "net.bytes_per_second"), ("温度", "Cel", .gauge, "温度_celsius"), ("2xx", "", .gauge, "2xx"),
            ("total", "", .monotonicSum, "total"), ("subtotal", "", .monotonicSum, "subtotal_total"), ("", "s", .gauge, ""),
        ]
        for item in cases {
            XCTAssertEqual(
                PrometheusNames.metric(item.name, unit: item.unit, shape: item.shape, naming: .unescapedSuffixes), item.expected, "\(item.name) \(item.unit)")
        }
    }

    func testLabelNamesByOptions() throws {
        func labels(_ change: (inout OTLPMetricOptions) -> Void) throws -> String {
            var options = OTLPMetricOptions()
            change(&options)
            let keys = [("a.b", "1"), ("_c", "2"), ("d..e", "3"), ("é", "4"), ("a", "5")]
            let batch = try metric(gauge(#""attributes":\#(attributes(keys))"#), resource: [("host.name", "h")], options: options).batch
            return "\(batch.labels(of: batch.series[0]))"
        }
        XCTAssertEqual(try labels { _ in }, #"{__name__="g", a="5", a_b="1", d__e="3", host_name="h", key_="4", key_c="2"}"#)
        XCTAssertEqual(
            try labels {
                $0.labels.prefixesUnderscore = false
                $0.labels.keepsUnderscores = false
            }, #"{_="4", __name__="g", _c="2", a="5", a_b="1", d_e="3", host_name="h"}"#)
        XCTAssertEqual(try labels { $0.naming = .unchanged }, #"{__name__="g", _c="2", a="5", a.b="1", d..e="3", host.name="h", é="4"}"#)
        XCTAssertEqual(
            try labels {
                $0.promotedAttributes = ["*"]
                $0.ignoredAttributes = ["host.name"]
            }, #"{__name__="g", a="5", a_b="1", d__e="3", key_="4", key_c="2"}"#)
    }

    func testLabelNames() {
        let cases = [
            ("http.method", "http_method"), ("1a", "key_1a"), ("_a", "key_a"), ("__a", "__a"), (".a", "key_a"), ("..a", "__a"), ("a-b:c", "a_b_c"),
            ("é", "key_"), ("a温b", "a_b"), ("_", "key_"),
        ]
        for (key, expected) in cases {
            XCTAssertEqual(Array(key.utf8).withUnsafeBytes { String(decoding: sanitizedLabelName($0), as: UTF8.self) }, expected, key)
        }
    }

    // MARK: - labels

    func testIdentityPromotionAndScope() throws {
        let resource = [("service.name", "shop"), ("service.namespace", "eu"), ("service.instance.id", "i-1"), ("k8s.pod.name", "p"), ("os.type", "linux")]
        let scope = #"{"name":"lib","version":"2","attributes":[{"key":"x.y","value":{"intValue":1}}]}"#
        let result = try metric(
            gauge(#""attributes":\#(attributes([("zone", "a"), ("k8s.pod.name", "mine"), ("job", "other")]))"#), resource: resource, scope: scope)
        XCTAssertEqual(
            sampleTexts(result.batch),
            [
                #"g{instance="i-1",job="eu/shop",k8s_pod_name="mine",otel_scope_name="lib",otel_scope_version="2",otel_scope_x_y="1",service_instance_id="i-1",service_name="shop",service_namespace="eu",zone="a"} 1 @1"#,
                #"target_info{instance="i-1",job="eu/shop",k8s_pod_name="p",os_type="linux"} 1 @1"#,
            ])
        var plain = OTLPMetricOptions()
        plain.promotedAttributes = []
        plain.scopeLabels = false
        plain.targetInfo = false
        XCTAssertEqual(
            sampleTexts(try metric(gauge(#""attributes":[]"#), resource: resource, scope: scope, options: plain).batch),
            [#"g{instance="i-1",job="eu/shop"} 1 @1"#])
    }

    func testAttributeLabels() throws {
        let cases: [(String, String)] = [
            (
                #"[{"key":"a.b","value":{"stringValue":"2"}},{"key":"a-b","value":{"stringValue":"1"}},{"key":"a-b","value":{"stringValue":"0"}}]"#,
                #"a_b="1;2""#
            ),
            (
                #"[{"key":"B","value":{"boolValue":true}},{"key":"a","value":{"arrayValue":{"values":[{"intValue":1}]}}},{"key":"d","value":{"doubleValue":2.5}}]"#,
                #"B="true",a="[1]",d="2.5""#
            ),
            (#"[{"key":"e","value":{"stringValue":""}},{"key":"__name__","value":{"stringValue":"x"}},{"key":"le","value":{"stringValue":"1"}}]"#, #"le="1""#),
            (#"[]"#, ""),
        ]
        for (list, labels) in cases { XCTAssertEqual(sampleTexts(try metric(gauge(#""attributes":\#(list)"#)).batch), ["g{\(labels)} 1 @1"]) }
    }

    func testCanonicalOrder() throws {
        // Capitals sort before `__name__`, which sorts before the others.
        let result = try metric(gauge(#""attributes":\#(attributes([("z", "1"), ("A", "2"), ("a", "3")]))"#))
        XCTAssertEqual(result.batch.labels(of: result.batch.series[0]), Labels([("A", "2"), ("__name__", "g"), ("a", "3"), ("z", "1")]))
    }

    func testTargetInfo() throws {
        func times(_ points: [Int64], resource: [(String, String)], copies: Int = 1) throws -> [String] {
            let list = points.map { #"{"timeUnixNano":"\#($0)000000","asInt":1}"# }.joined(separator: ",")
            let group =
                #"{"resource":{"attributes":\#(attributes(resource))},"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[\#(list)]}}]}]}"#
            let all = [String](repeating: group, count: copies).joined(separator: ",")
            return sampleTexts(try decode(#"{"resourceMetrics":[\#(all)]}"#).batch).filter { $0.hasPrefix("target_info") }
        }
        let full = [("service.name", "s"), ("a.b", "1"), ("a_b", "2")]
        XCTAssertEqual(try times([5], resource: full), [#"target_info{a_b="1;2",job="s"} 1 @5"#])
        XCTAssertEqual(try times([400_000, 5], resource: full).map { String($0.split(separator: "@")[1]) }, ["5", "150005", "300005", "400000"])
        XCTAssertEqual(try times([5], resource: full, copies: 3).count, 1, "one sample per label set and instant")
        XCTAssertEqual(try times([1, 4_000_000_000_000], resource: full).count, 1, "no filling of years")
        XCTAssertEqual(try times([5], resource: [("service.name", "s"), ("service.instance.id", "i")]), [], "nothing but identity")
        XCTAssertEqual(try times([5], resource: [("a", "1")]), [], "no identity")
        XCTAssertEqual(try times([], resource: full), [], "no points")
    }

    // MARK: - kinds

    func testSums() throws {
        func sum(_ members: String, _ point: String = #""asDouble":2.5"#) throws -> OTLPMetricsResult {
            try metric(
                #"{"name":"hits","unit":"1","description":"d","sum":{\#(members),"dataPoints":[{"startTimeUnixNano":"1000000","timeUnixNano":"2999999",\#(point)}]}}"#
            )
        }
        let counter = try sum(#""aggregationTemporality":2,"isMonotonic":true"#)
        XCTAssertEqual(sampleTexts(counter.batch), ["hits_total{} 2.5 @2"])
        XCTAssertEqual(metadataTexts(counter.batch), ["hits_total counter [] d"])
        let upDown = try sum(#""aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE""#, #""asInt":"-7""#)
        XCTAssertEqual(sampleTexts(upDown.batch), ["hits{} -7 @2"])
        XCTAssertEqual(metadataTexts(upDown.batch), ["hits gauge [] d"])
        let delta = try sum(#""aggregationTemporality":1,"isMonotonic":true"#)
        XCTAssertTrue(delta.batch.series.isEmpty)
        XCTAssertEqual(deltaTexts(delta.deltas), ["hits_total{} +2.5 1..2"])
        for temporality in ["0", "3"] {
            let refused = try sum(#""aggregationTemporality":\#(temporality)"#)
            XCTAssertEqual(refused.rejected, 1)
            XCTAssertTrue(refused.batch.isEmpty && refused.deltas.isEmpty)
            XCTAssertTrue(refused.reason?.contains("temporality") ?? false)
        }
    }

    func testPointsThatCannotBeTaken() throws {
        let cases: [(String, String)] = [
            (#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1"}]}}"#, "without a value"),
            (#"{"name":"温","gauge":{"dataPoints":[{"asInt":1}]}}"#, "no letter"),
            (
                #"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"1","bucketCounts":["1"],"explicitBounds":[1]}]}}"#,
                "1 bucket counts for 1 bounds"
            ),
            (#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"1","explicitBounds":[1]}]}}"#, "0 bucket counts for 1 bounds"),
            (#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"bucketCounts":[1,2,3],"explicitBounds":[2,1]}]}}"#, "ascending"),
            (#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"bucketCounts":[1,2],"explicitBounds":["NaN"]}]}}"#, "NaN"),
            (#"{"name":"h","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":"1","zeroThreshold":-1}]}}"#, "zero threshold"),
        ]
        for (text, reason) in cases {
            let result = try metric(text)
            XCTAssertEqual(result.rejected, 1, text)
            XCTAssertTrue(result.batch.series.isEmpty, text)
            XCTAssertTrue(result.reason?.contains(reason) ?? false, "\(text): \(result.reason ?? "")")
        }
        let mixed = try metric(#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1"},{"asInt":3}]}}"#)
        XCTAssertEqual(mixed.rejected, 1)
        XCTAssertEqual(sampleTexts(mixed.batch), ["g{} 3 @1700000000000"], "a point without time is of now")
        XCTAssertTrue(try metric(#"{"name":"none"}"#).batch.isEmpty)
    }

    func testHistogram() throws {
        let points = #"""
            {"startTimeUnixNano":"1000000","timeUnixNano":"2000000","count":"6","sum":12.5,"bucketCounts":["1","2","3"],"explicitBounds":[1,1000000],"attributes":[{"key":"z","value":{"stringValue":"1"}},{"key":"a","value":{"stringValue":"2"}}],
             "exemplars":[{"timeUnixNano":"1500000","asDouble":1,"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"a1a2a3a4a5a6a7a8","filteredAttributes":[{"key":"trace_id","value":{"stringValue":"no"}},{"key":"k","value":{"intValue":1}}]},
                {"asInt":"2000000"}]}
            """#
        let cumulative = try metric(#"{"name":"lat","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[\#(points)]}}"#)
        XCTAssertEqual(
            sampleTexts(cumulative.batch),
            [
                #"lat_seconds_bucket{a="2",le="1.0",z="1"} 1 @2"#, #"lat_seconds_bucket{a="2",le="1e+06",z="1"} 3 @2"#,
                #"lat_seconds_bucket{a="2",le="+Inf",z="1"} 6 @2"#,
                #"lat_seconds_sum{a="2",z="1"} 12.5 @2"#, #"lat_seconds_count{a="2",z="1"} 6 @2"#,
            ])
        XCTAssertEqual(
            exemplarTexts(cumulative.batch),
            [
                #"lat_seconds_bucket{a="2",le="1.0",z="1"} # {k="1", span_id="a1a2a3a4a5a6a7a8", trace_id="0102030405060708090a0b0c0d0e0f10"} 1 @1"#,
                #"lat_seconds_bucket{a="2",le="+Inf",z="1"} # {} 2000000 @2"#,
            ])
        XCTAssertEqual(metadataTexts(cumulative.batch), ["lat_seconds histogram [seconds] "])
        let delta = try metric(#"{"name":"lat","unit":"s","histogram":{"aggregationTemporality":1,"dataPoints":[\#(points)]}}"#)
        XCTAssertTrue(delta.batch.series.isEmpty)
        XCTAssertEqual(
            deltaTexts(delta.deltas),
            [
                #"lat_seconds_bucket{a="2",le="1.0",z="1"} +1 1..2"#, #"lat_seconds_bucket{a="2",le="1e+06",z="1"} +3 1..2"#,
                #"lat_seconds_bucket{a="2",le="+Inf",z="1"} +6 1..2"#,
                #"lat_seconds_sum{a="2",z="1"} +12.5 1..2"#, #"lat_seconds_count{a="2",z="1"} +6 1..2"#,
            ])
        XCTAssertEqual(delta.deltas.exemplars.map(\.series), [0, 2])
    }

    func testHistogramWithoutBucketsOrSum() throws {
        let result = try metric(#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000","count":"4"}]}}"#)
        XCTAssertEqual(sampleTexts(result.batch), [#"h_bucket{le="+Inf"} 4 @1"#, "h_count{} 4 @1"], "a sum that is absent is not 0")
    }

    func testSummary() throws {
        let points = #"{"timeUnixNano":"1000000","count":"4","sum":8,"quantileValues":[{"quantile":0.5,"value":2},{"quantile":1,"value":3}]}"#
        let result = try metric(#"{"name":"s","unit":"s","summary":{"dataPoints":[\#(points)]}}"#)
        XCTAssertEqual(
            sampleTexts(result.batch),
            [#"s_seconds{quantile="0.5"} 2 @1"#, #"s_seconds{quantile="1.0"} 3 @1"#, "s_seconds_sum{} 8 @1", "s_seconds_count{} 4 @1"])
        XCTAssertEqual(metadataTexts(result.batch), ["s_seconds summary [seconds] "])
    }

    func testNoRecordedValue() throws {
        let cases: [(String, [String])] = [
            (#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","flags":1}]}}"#, ["g{} stale @1"]),
            (
                #"{"name":"c","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1000000","flags":3,"asInt":"5"}]}}"#,
                ["c_total{} stale @1"]
            ),
            (
                #"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000","flags":1,"explicitBounds":[5]}]}}"#,
                [#"h_bucket{le="5.0"} stale @1"#, #"h_bucket{le="+Inf"} stale @1"#, "h_sum{} stale @1", "h_count{} stale @1"]
            ),
            (#"{"name":"s","summary":{"dataPoints":[{"timeUnixNano":"1000000","flags":1}]}}"#, ["s_sum{} stale @1", "s_count{} stale @1"]),
        ]
        for (text, expected) in cases { XCTAssertEqual(sampleTexts(try metric(text).batch), expected) }
    }

    // MARK: - exponential histograms

    private func exponential(_ members: String) throws -> [String] {
        let text = #"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000",\#(members)}]}}"#
        return sampleTexts(try metric(text).batch).map { $0.replacingOccurrences(of: " @1", with: "") }
    }

    func testExponentialBuckets() throws {
        XCTAssertEqual(
            try exponential(
                #""count":"10","sum":3,"scale":0,"zeroCount":"1","positive":{"offset":0,"bucketCounts":["2","0","3"]},"negative":{"offset":-1,"bucketCounts":[1,3]}"#
            ),
            [
                #"e_bucket{le="-2.0"} 0"#, #"e_bucket{le="-1.0"} 3"#, #"e_bucket{le="-0.5"} 4"#, #"e_bucket{le="0.0"} 5"#, #"e_bucket{le="1.0"} 5"#,
                #"e_bucket{le="2.0"} 7"#,
                #"e_bucket{le="4.0"} 7"#, #"e_bucket{le="8.0"} 10"#, #"e_bucket{le="+Inf"} 10"#, "e_sum{} 3", "e_count{} 10",
            ])
        XCTAssertEqual(
            try exponential(#""count":"1","scale":1,"positive":{"offset":1,"bucketCounts":["1"]}"#),
            [#"e_bucket{le="1.4142135623730951"} 0"#, #"e_bucket{le="2.0"} 1"#, #"e_bucket{le="+Inf"} 1"#, "e_count{} 1"],
            "a bucket holds values up to 2^(2^-scale · (index + 1))")
        XCTAssertEqual(try exponential(#""count":"0","scale":20"#), [#"e_bucket{le="+Inf"} 0"#, "e_count{} 0"])
        XCTAssertEqual(
            try exponential(#""count":"2","scale":-11,"positive":{"offset":0,"bucketCounts":["2"]}"#),
            [#"e_bucket{le="1.0"} 0"#, #"e_bucket{le="+Inf"} 2"#, "e_count{} 2"],
            "a bound past all numbers is +Inf")
    }

    func testExponentialBucketsAreMerged() throws {
        let counts = [String](repeating: "1", count: 320).joined(separator: ",")
        let lines = try exponential(#""count":"320","scale":4,"positive":{"offset":-160,"bucketCounts":[\#(counts)]}"#)
        let buckets = lines.filter { $0.hasPrefix("e_bucket") }
        XCTAssertEqual(buckets.count, 160 + 2, "160 of scale 3, the lower bound and +Inf")
        XCTAssertEqual(buckets.first, #"e_bucket{le="0.0009765625"} 0"#)
        XCTAssertEqual(buckets[80], #"e_bucket{le="1.0"} 160"#)
        XCTAssertEqual(buckets[160], #"e_bucket{le="1024.0"} 320"#)
        let bounds = buckets.dropLast().map { Double($0.split(separator: "\"")[1]) ?? .nan }
        XCTAssertTrue(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 })
    }

    func testExponentialExtremes() throws {
        for offset in ["-2147483648", "2147483647", "0"] {
            for scale in ["-2147483648", "2147483647", "-10", "20"] {
                let lines = try exponential(
                    #""count":"18446744073709551615","scale":\#(scale),"positive":{"offset":\#(offset),"bucketCounts":["18446744073709551615","2"]},"negative":{"offset":\#(offset),"bucketCounts":["1"]}"#
                )
                XCTAssertEqual(lines.last, "e_count{} 18446744073709552000", "scale \(scale) offset \(offset)")
            }
        }
    }

    // MARK: - bounds

    func testExemplarLabelsStayWithin128Characters() throws {
        let long = String(repeating: "é", count: 120)
        let filtered = attributes([("long", long), ("k", "v"), ("more", String(repeating: "x", count: 10))])
        let result = try metric(gauge(#""exemplars":[{"asDouble":1,"spanId":"a1a2a3a4a5a6a7a8","filteredAttributes":\#(filtered)}]"#))
        XCTAssertEqual(exemplarTexts(result.batch), [#"g{} # {k="v", more="xxxxxxxxxx", span_id="a1a2a3a4a5a6a7a8"} 1 @1"#])
    }

    func testExpansionIsBounded() {
        var limits = Limits()
        limits.decodedBytesMax = 10_000
        let bounds = (0..<400).map { "\($0)" }.joined(separator: ",")
        let counts = [String](repeating: "1", count: 401).joined(separator: ",")
        let label = String(repeating: "x", count: 1000)
        let text =
            #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"401","bucketCounts":[\#(counts)],"explicitBounds":[\#(bounds)],"attributes":[{"key":"a","value":{"stringValue":"\#(label)"}}]}]}}]}]}]}"#
        XCTAssertThrowsError(try OTLPMetrics.decodeJSON(Array(text.utf8), receivedAtNanos: 0, limits: limits)) {
            XCTAssertEqual(($0 as? ObsError)?.code, .tooLarge)
        }
    }

    func testEmptyRequests() throws {
        for body in ["{}", #"{"resourceMetrics":null}"#, #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[]}]}]}"#] {
            XCTAssertTrue(try decode(body).batch.isEmpty)
        }
    }

    func testStartsOfWhatCounts() throws {
        func starts(_ data: String) throws -> [Int64] { try metric(#"{"name":"m",\#(data)}"#).batch.startsMillis }
        let point = #""startTimeUnixNano":"5000000","timeUnixNano":"9000000""#
        XCTAssertEqual(
            try starts(#""sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{\#(point),"asInt":"1"},{"timeUnixNano":"9000000","asInt":"1"}]}"#),
            [5, 0])
        XCTAssertEqual(try starts(#""sum":{"aggregationTemporality":2,"dataPoints":[{\#(point),"asInt":"1"}]}"#), [])
        XCTAssertEqual(try starts(#""gauge":{"dataPoints":[{\#(point),"asInt":"1"}]}"#), [])
        XCTAssertEqual(try starts(#""histogram":{"aggregationTemporality":2,"dataPoints":[{\#(point),"count":"1","sum":1}]}"#), [5, 5, 5])
        XCTAssertEqual(try starts(#""summary":{"dataPoints":[{\#(point),"count":"1","sum":1}]}"#), [5, 5])
        // What comes behind it in the batch says nothing.
        let result = try metric(
            #"{"name":"m","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{\#(point),"asInt":"1"}]}}"#,
            resource: [("service.name", "s"), ("x", "y")])
        XCTAssertEqual(result.batch.startsMillis, [5, 0])
    }

    func testTargetInfoWithItsIdentity() throws {
        var options = OTLPMetricOptions()
        options.keepsIdentity = true
        let batch = try metric(gauge(#""attributes":[]"#), resource: [("service.name", "s"), ("service.instance.id", "i"), ("x", "y")], options: options).batch
        XCTAssertEqual(
            batch.series.map { "\(batch.labels(of: $0))" }.last,
            #"{__name__="target_info", instance="i", job="s", service_instance_id="i", service_name="s", x="y"}"#)
        XCTAssertEqual(batch.metadata.map { batch.bytes.string($0.family) }, ["g", "target_info"])
    }

    // MARK: - Native histograms

    /// `labels schema count sum zero [index:count …]`, bounds where there are own ones.
    private func native(_ columns: HistogramColumns) -> [String] {
        (0..<columns.count).map { row in
            let layout = columns.layout(ofRow: row)
            if columns.isStale(row) { return "stale" }
            var buckets: [String] = []
            var at = columns.bucketRange(row).lowerBound
            layout.forEachBucket { isNegative, index in
                buckets.append("\(isNegative ? "-" : "")\(index):\(columns.buckets[at])")
                at += 1
            }
            let bounds = layout.customBoundsBits.isEmpty ? "" : " \(layout.customBounds)"
            return
                "\(layout.schema) \(columns.counts[row]) \(columns.sums[row]) \(columns.zeroCounts[row]) [\(buckets.joined(separator: " "))]\(bounds) \(columns.startsMillis[row])-\(columns.timesMillis[row])"
        }
    }

    private func nativeExponential(_ members: String, temporality: Int = 2) throws -> OTLPMetricsResult {
        var options = OTLPMetricOptions()
        options.nativeHistograms = true
        return try metric(
            #"{"name":"h","exponentialHistogram":{"aggregationTemporality":\#(temporality),"dataPoints":[{"startTimeUnixNano":"1000000","timeUnixNano":"2000000",\#(members)}]}}"#,
            options: options)
    }

    func testExponentialHistogramsAsNativeOnes() throws {
        let result = try nativeExponential(
            #""count":"11","sum":5,"scale":1,"zeroCount":"1","positive":{"offset":-3,"bucketCounts":["1","0","2","0","0","0","3"]},"negative":{"offset":2,"bucketCounts":["4"]}"#
        )
        XCTAssertEqual(result.rejected, 0, result.reason ?? "")
        XCTAssertEqual(native(result.batch.histograms), ["1 11 5.0 1 [-2:1 -1:0 0:2 4:3 -3:4] 1-2"])
        XCTAssertEqual(result.batch.histograms.layout(ofRow: 0).zeroThreshold, 1e-128)
        XCTAssertEqual("\(result.batch.labels(of: result.batch.series[0]))", #"{__name__="h"}"#)
        XCTAssertEqual(result.batch.values, [])
        // Finer than the finest: pairs of buckets merge. Bucket i of scale 9 lies in bucket i / 2 of scale 8.
        XCTAssertEqual(
            native(try nativeExponential(#""count":"10","scale":9,"positive":{"offset":1,"bucketCounts":["1","2","3","4"]}"#).batch.histograms),
            ["8 10 0.0 0 [1:1 2:5 3:4] 1-2"])
        XCTAssertEqual(
            native(try nativeExponential(#""count":"1","scale":2000000000,"positive":{"offset":7,"bucketCounts":["1"]}"#).batch.histograms),
            ["8 1 0.0 0 [1:1] 1-2"])
        XCTAssertEqual(native(try nativeExponential(#""count":"0","scale":0"#).batch.histograms), ["0 0 0.0 0 [] 1-2"])
        XCTAssertEqual(native(try nativeExponential(#""count":"0","flags":1"#).batch.histograms), ["stale"])
        let coarse = try nativeExponential(#""count":"1","scale":-5,"positive":{"bucketCounts":["1"]}"#)
        XCTAssertEqual(coarse.reason, "histogram \"h\": scale -5 is coarser than -4")
        let wrong = try nativeExponential(#""count":"2","scale":0,"positive":{"bucketCounts":["1"]}"#)
        XCTAssertEqual(wrong.reason, "histogram \"h\": 1 observations in buckets, but a count of 2")
        XCTAssertTrue(wrong.batch.series.isEmpty)
    }

    func testHistogramsWithTheirBounds() throws {
        var options = OTLPMetricOptions()
        options.nativeBounds = true
        func bounds(_ members: String) throws -> OTLPMetricsResult {
            try metric(#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"2000000",\#(members)}]}}"#, options: options)
        }
        XCTAssertEqual(
            native(try bounds(#""count":"6","sum":5,"explicitBounds":[1,2],"bucketCounts":["1","2","3"]"#).batch.histograms),
            ["-53 6 5.0 0 [0:1 1:2 2:3] [1.0, 2.0] 0-2"])
        XCTAssertEqual(
            native(try bounds(#""count":"3","explicitBounds":[1,2],"bucketCounts":["0","0","3"]"#).batch.histograms), ["-53 3 0.0 0 [2:3] [1.0, 2.0] 0-2"])
        XCTAssertEqual(native(try bounds(#""count":"3","sum":2"#).batch.histograms), ["-53 3 2.0 0 [0:3] 0-2"])
        let exemplar = #""exemplars":[{"timeUnixNano":"1000000","asDouble":1.5,"traceId":"01020304050607080102030405060708"}]"#
        let batch = try bounds(#""count":"1","explicitBounds":[1],"bucketCounts":["0","1"],\#(exemplar)"#).batch
        XCTAssertEqual(batch.exemplars.map(\.series), [0])
        XCTAssertEqual(batch.histogramSeries, [0])
    }

    func testIncrementsOfNativeHistograms() throws {
        let result = try nativeExponential(#""count":"1","scale":0,"positive":{"offset":0,"bucketCounts":["1"]}"#, temporality: 1)
        XCTAssertTrue(result.batch.series.isEmpty)
        XCTAssertEqual(native(result.deltas.histograms), ["0 1 0.0 0 [1:1] 1-2"])
        XCTAssertEqual("\(Labels(canonical: Array(result.deltas.bytes[result.deltas.histogramLabels[0].range])))", #"{__name__="h"}"#)
        XCTAssertFalse(result.deltas.isEmpty)
    }
}
