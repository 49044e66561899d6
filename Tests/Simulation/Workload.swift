internal import ObsCore
internal import ObsStore
internal import ObsTestSupport
internal import ObsYAML

@testable import ObsIngest

/// One request of the schedule, as decoded under the configuration of its run: what its sender wanted stored and may have.
struct Request {
    var tenant: TenantID
    var origin: WriteOrigin
    var batch: DecodedBatch
}

/// What a run decides about records with; changes from run to run.
///
/// Bodies are logged as they came and decoded again at replay, by the limits that are in the log's epochs. Relabeling is for scrapes only, which are logged
/// as they were relabeled: no replay does it again.
struct Configuration: CustomStringConvertible {
    var limits = Limits()
    /// One of `relabelings`.
    var relabeling = 0

    static let relabelings = [
        "[]",
        "[{source_labels: [host], regex: 'h(.)', target_label: host, replacement: 'node$1'}]",
        "[{regex: 'extra.*', action: labeldrop}, {target_label: run, replacement: second}]",
        "[{source_labels: [host], regex: 'h0', action: drop}]",
    ]

    /// Nearly everything fits.
    static let wide = Configuration()
    /// Much of what the workload makes does not.
    static var tight: Configuration {
        var tight = Configuration(relabeling: 1)
        tight.limits.labelsMax = 3
        tight.limits.labelNameBytesMax = 14
        tight.limits.labelValueBytesMax = 16
        tight.limits.lineBytesMax = 20
        tight.limits.nestingMax = 16
        return tight
    }

    static func any(_ random: inout SplitMix) -> Configuration {
        var some = Configuration(relabeling: .random(in: 0..<relabelings.count, using: &random))
        some.limits.labelsMax = [2, 3, 256].randomElement(using: &random) ?? 256
        some.limits.labelNameBytesMax = [14, 1024].randomElement(using: &random) ?? 1024
        some.limits.labelValueBytesMax = [16, 1024].randomElement(using: &random) ?? 1024
        some.limits.lineBytesMax = [20, 40, 1024].randomElement(using: &random) ?? 1024
        some.limits.nestingMax = [16, 64].randomElement(using: &random) ?? 64
        return some
    }

    var description: String {
        "labels \(limits.labelsMax) name \(limits.labelNameBytesMax) value \(limits.labelValueBytesMax) line \(limits.lineBytesMax) "
            + "nesting \(limits.nestingMax) relabeling \(relabeling)"
    }

    func rules() throws -> [RelabelRule] { try RelabelRule.list(YAMLNode.parse(Self.relabelings[relabeling]).sequence()) }
}

/// Makes requests: few names and few values over a few days, so that duplicates, conflicts and late records meet often.
struct Workload {
    private static let formats: [WireFormat] = [.otlpMetricsJSON, .lokiJSON, .jsonLines, .otlpTracesJSON]
    static let tenants = ["default", "other"].compactMap { try? TenantID($0) }

    /// Before limits and relabeling: what a client sends, and sends again.
    private enum Source {
        /// - Parameter keepsRequest: false for what comes as a batch, as sums of deltas do.
        case body(RawRequest, keepsRequest: Bool)
        case scrape([(labels: Labels, timeMillis: Int64, value: Double)])
    }

    /// Days back that records may be of.
    var daysMax: Int64 = 5
    /// Different names, hosts, streams.
    var seriesMax = 6
    /// Records of a request.
    var rows = 1...12
    /// One request in so many comes again.
    var retryEvery = 5
    private var serial = 0
    /// Some of what was sent before.
    private var sent: [(tenant: TenantID, source: Source)] = []

    /// The next request; nil when the configuration refuses it whole.
    mutating func request(_ random: inout SplitMix, nowNanos: Int64, _ configuration: Configuration) throws -> Request? {
        if Int.random(in: 0..<retryEvery, using: &random) == 0, let old = sent.randomElement(using: &random) {
            return try request(old.tenant, old.source, nowNanos, configuration)
        }
        serial += 1
        let tenant = Self.tenants[Int.random(in: 0..<4, using: &random) == 0 ? 1 : 0]
        let source = makeSource(&random, nowNanos / nanosPerMilli)
        if sent.count < 40 { sent.append((tenant, source)) } else { sent[serial % 40] = (tenant, source) }
        return try request(tenant, source, nowNanos, configuration)
    }

    /// A request of each kind of signal, one after the other.
    mutating func requests(_ random: inout SplitMix, nowNanos: Int64, _ configuration: Configuration, of tenant: TenantID) throws -> [Request] {
        try (0...Self.formats.count).compactMap { kind in
            serial += 1
            let source = makeSource(&random, nowNanos / nanosPerMilli, kind: kind)
            sent.append((tenant, source))
            return try request(tenant, source, nowNanos, configuration)
        }
    }

    /// All that was sent again, the last first.
    func retries(nowNanos: Int64, _ configuration: Configuration) throws -> [Request] {
        try sent.reversed().compactMap { try request($0.tenant, $0.source, nowNanos, configuration) }
    }

    private func request(_ tenant: TenantID, _ source: Source, _ nowNanos: Int64, _ configuration: Configuration) throws -> Request? {
        switch source {
        case .body(let raw, let keepsRequest):
            let decoder = WireDecoder(limits: configuration.limits)
            guard let batch = try? decoder.decodeRequest(raw, receivedAtNanos: nowNanos).batch else { return nil }
            guard !batch.isEmpty else { return nil }
            return Request(tenant: tenant, origin: WriteOrigin(tenant: tenant, receivedAtNanos: nowNanos, request: keepsRequest ? raw : nil), batch: batch)
        case .scrape(let samples):
            let rules = try configuration.rules()
            var batch = MetricBatch()
            for sample in samples {
                var labels = LabelsBuilder(sample.labels)
                if rules.apply(to: &labels) { batch.append(labels.labels(), timeMillis: sample.timeMillis, value: sample.value) }
            }
            _ = configuration.limits.apply(to: &batch)
            guard !batch.isEmpty else { return nil }
            return Request(tenant: tenant, origin: WriteOrigin(tenant: tenant, receivedAtNanos: nowNanos), batch: .metrics(batch))
        }
    }

    /// - Parameter kind: index of a format, or past them for a scrape; nil for any.
    private func makeSource(_ random: inout SplitMix, _ nowMillis: Int64, kind: Int? = nil) -> Source {
        let kind = kind ?? Int.random(in: 0...Self.formats.count, using: &random)
        let times = (0..<Int.random(in: rows, using: &random)).map { _ in time(&random, nowMillis) }
        guard kind < Self.formats.count else {
            return .scrape(times.map { time in (Labels(labels(&random)), time, Double(Int.random(in: 0..<3, using: &random))) })
        }
        let format = Self.formats[kind]
        let body: String
        switch format {
        case .lokiJSON: body = lokiBody(times, &random)
        case .jsonLines: body = linesBody(times, &random)
        case .otlpTracesJSON: body = tracesBody(times, &random)
        default: body = metricsBody(times, &random)
        }
        let parameters = format == .jsonLines ? "_stream_fields=app&_msg_field=msg&_time_field=ts" : ""
        let raw = RawRequest(format: format, compression: .none, parameters: parameters, body: Array(body.utf8))
        return .body(raw, keepsRequest: Int.random(in: 0..<4, using: &random) > 0)
    }

    /// Mostly now, some hours or days late, on a coarse grid.
    private func time(_ random: inout SplitMix, _ nowMillis: Int64) -> Int64 {
        let grid = nowMillis / 15_000 * 15_000 - Int64.random(in: 0..<20, using: &random) * 15_000
        return Int.random(in: 0..<3, using: &random) == 0 ? grid - Int64.random(in: 0..<daysMax, using: &random) * millisPerDay : grid
    }

    /// Of a series; some have a label, a name or a value more than tight limits allow.
    private func labels(_ random: inout SplitMix) -> [(String, String)] {
        var labels = [("__name__", "m\(Int.random(in: 0..<seriesMax, using: &random))"), ("host", "h\(Int.random(in: 0..<3, using: &random))")]
        switch Int.random(in: 0..<8, using: &random) {
        case 0: labels += [("extra1", "a"), ("extra2", "b")]
        case 1: labels.append(("extra_long_name", "c"))
        case 2: labels.append(("extra", "a rather long value"))
        default: break
        }
        return labels
    }

    private func metricsBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let metrics = times.map { time in
            let value = Int.random(in: 0..<3, using: &random)
            let labels = labels(&random)
            let attributes = labels.dropFirst().map { #"{"key":"\#($0.0)","value":{"stringValue":"\#($0.1)"}}"# }.joined(separator: ",")
            return
                #"{"name":"\#(labels[0].1)","gauge":{"dataPoints":[{"timeUnixNano":"\#(time)000000","asDouble":\#(value).5,"attributes":[\#(attributes)]}]}}"#
        }
        return #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[\#(metrics.joined(separator: ","))]}]}]}"#
    }

    private func lokiBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let streams = times.enumerated().map { index, time in
            let extra = Int.random(in: 0..<6, using: &random) == 0 ? #","extra":"a rather long value""# : ""
            let tail = Int.random(in: 0..<4, using: &random) == 0 ? ", longer than others are" : ""
            return
                #"{"stream":{"loki":"s\#(Int.random(in: 0..<seriesMax, using: &random))"\#(extra)},"values":[["\#(time)000000","line \#(serial) of \#(index % 3)\#(tail)"]]}"#
        }
        return #"{"streams":[\#(streams.joined(separator: ","))]}"#
    }

    private func linesBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        times.enumerated().map { index, time in
            let status = index % 2 == 0 ? "\(200 + index)" : "\"text\""
            let nested =
                Int.random(in: 0..<6, using: &random) == 0 ? #","deep":\#(String(repeating: #"{"a":"#, count: 20))1\#(String(repeating: "}", count: 20))"# : ""
            return #"{"ts":\#(time),"app":"a\#(Int.random(in: 0..<seriesMax, using: &random))","msg":"json \#(serial)","status":\#(status)\#(nested)}"#
        }.joined(separator: "\n")
    }

    private func tracesBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let isNested = Int.random(in: 0..<4, using: &random) == 0
        let spans = times.enumerated().map { index, time in
            let trace = String(repeating: "0", count: 16) + hexString(UInt64(serial))
            let end = time + Int64.random(in: 1..<500, using: &random)
            let attributes = isNested ? #","attributes":[{"key":"deep","value":\#(Self.deepValue)}]"# : ""
            return
                #"{"traceId":"\#(trace)","spanId":"\#(hexString(UInt64(serial << 16 + index + 1)))","name":"n\#(index % 3)","kind":2,"startTimeUnixNano":"\#(time)000000","endTimeUnixNano":"\#(end)000000"\#(attributes)}"#
        }
        let resource = #"{"attributes":[{"key":"service.name","value":{"stringValue":"s\#(serial % 3)"}}]}"#
        return #"{"resourceSpans":[{"resource":\#(resource),"scopeSpans":[{"spans":[\#(spans.joined(separator: ","))]}]}]}"#
    }

    /// A list in a list in a list, deeper than tight limits allow.
    private static let deepValue =
        String(repeating: #"{"arrayValue":{"values":["#, count: 8) + #"{"intValue":"1"}"# + String(repeating: "]}}", count: 8)

    // MARK: Deletions

    func deletion(_ random: inout SplitMix, nowMillis: Int64) -> Deletion {
        let signal = Signal.allCases[Int.random(in: 0..<3, using: &random)]
        let selectors = (0...Int.random(in: 0..<2, using: &random)).map { _ in
            (0...Int.random(in: 0..<2, using: &random)).map { _ in match(signal, &random) }
        }
        let since = Int64.random(in: 0..<daysMax, using: &random) * millisPerDay
        let isAll = Int.random(in: 0..<3, using: &random) == 0
        let range = isAll ? 0...4_000_000_000_000 : nowMillis - since - millisPerDay...nowMillis - since + Int64.random(in: 0..<millisPerDay, using: &random)
        return Deletion(tenant: Self.tenants[Int.random(in: 0..<4, using: &random) == 0 ? 1 : 0], signal: signal, selectors: selectors, millis: range)
    }

    func rule(_ random: inout SplitMix) -> Rule {
        let signal = Signal.allCases[Int.random(in: 0..<3, using: &random)]
        return Rule(signal: signal, matches: [match(signal, &random)], keepMillis: Int64.random(in: 1..<72, using: &random) * 3_600_000)
    }

    private func match(_ signal: Signal, _ random: inout SplitMix) -> Deletion.Match {
        func some(_ prefix: String) -> String { "\(prefix)\(Int.random(in: 0..<3, using: &random))" }
        let isNegated = Int.random(in: 0..<5, using: &random) == 0
        switch (signal, Int.random(in: 0..<3, using: &random)) {
        case (_, 0) where Int.random(in: 0..<4, using: &random) == 0: return Deletion.Match(name: "service", isNegated: true, values: ["nobody"])
        case (.metrics, 0): return Deletion.Match(name: "host", isNegated: isNegated, values: [some("h")])
        case (.metrics, 1): return Deletion.Match(name: "extra", isNegated: isNegated, values: [""])
        case (.metrics, _): return Deletion.Match(name: "__name__", isNegated: isNegated, values: [some("m"), "m5"])
        case (.logs, 0): return Deletion.Match(name: "app", isNegated: isNegated, values: [some("a")])
        case (.logs, _): return Deletion.Match(name: "loki", isNegated: isNegated, values: [some("s"), "s3"])
        case (.traces, 0): return Deletion.Match(name: "service", isNegated: isNegated, values: [some("s")])
        case (.traces, _): return Deletion.Match(name: "name", isNegated: isNegated, values: [some("n")])
        }
    }
}

extension DecodedBatch {
    /// The pipeline does not append a batch of which nothing is left.
    fileprivate var isEmpty: Bool {
        switch self {
        case .metrics(let batch): batch.isEmpty
        case .logs(let batch): batch.isEmpty
        case .spans(let batch): batch.isEmpty
        }
    }
}
