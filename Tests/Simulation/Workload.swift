internal import ObsCore
internal import ObsIngest
internal import ObsStore
internal import ObsTestSupport

/// Makes requests: few names and few values over a few days, so that duplicates, conflicts and late records meet often.
struct Workload {
    private static let formats: [WireFormat] = [.otlpMetricsJSON, .lokiJSON, .jsonLines, .otlpTracesJSON]
    static let tenants = ["default", "other"].compactMap { try? TenantID($0) }
    /// Days back that records may be of.
    var daysMax: Int64 = 5
    private var serial = 0
    /// Bodies sent before, some of which are sent again: a client's retry.
    private var sent: [Request] = []

    /// - Parameter rowsMax: of one request.
    mutating func request(_ random: inout SplitMix, nowNanos: Int64, rowsMax: Int = 12) throws -> Request {
        if !sent.isEmpty, Int.random(in: 0..<5, using: &random) == 0, let old = sent.randomElement(using: &random) {
            return try request(old.tenant, old.origin.request, old.batch, nowNanos)
        }
        serial += 1
        let tenant = Self.tenants[Int.random(in: 0..<4, using: &random) == 0 ? 1 : 0]
        let format = Self.formats[Int.random(in: 0..<Self.formats.count, using: &random)]
        let rows = Int.random(in: 1...rowsMax, using: &random)
        let times = (0..<rows).map { _ in time(&random, nowNanos / nanosPerMilli) }
        let body: String
        switch format {
        case .lokiJSON: body = lokiBody(times, &random)
        case .jsonLines: body = linesBody(times, &random)
        case .otlpTracesJSON: body = tracesBody(times, &random)
        default: body = metricsBody(times, &random)
        }
        let parameters = format == .jsonLines ? "_stream_fields=app&_msg_field=msg&_time_field=ts" : ""
        let raw = RawRequest(format: format, compression: .none, parameters: parameters, body: Array(body.utf8))
        // A part comes as batches without a request, as scrapes do.
        let isBatch = Int.random(in: 0..<4, using: &random) == 0
        let batch = try WireDecoder(limits: Limits()).decode(raw, receivedAtNanos: nowNanos, limits: Limits())
        let request = try request(tenant, isBatch ? nil : raw, batch, nowNanos)
        if sent.count < 40 { sent.append(request) } else { sent[serial % 40] = request }
        return request
    }

    private func request(_ tenant: TenantID, _ raw: RawRequest?, _ batch: DecodedBatch, _ nowNanos: Int64) throws -> Request {
        let origin = WriteOrigin(tenant: tenant, receivedAtNanos: nowNanos, request: raw)
        return Request(
            tenant: tenant, origin: origin,
            batch: try raw.map { try WireDecoder(limits: Limits()).decode($0, receivedAtNanos: nowNanos, limits: Limits()) } ?? batch)
    }

    /// Mostly now, some hours or days late, on a coarse grid.
    private func time(_ random: inout SplitMix, _ nowMillis: Int64) -> Int64 {
        let grid = nowMillis / 15_000 * 15_000 - Int64.random(in: 0..<20, using: &random) * 15_000
        return Int.random(in: 0..<3, using: &random) == 0 ? grid - Int64.random(in: 0..<daysMax, using: &random) * millisPerDay : grid
    }

    private func metricsBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let metrics = times.map { time in
            let value = Int.random(in: 0..<3, using: &random)
            let name = "m\(Int.random(in: 0..<6, using: &random))"
            let label = #"{"key":"host","value":{"stringValue":"h\#(Int.random(in: 0..<3, using: &random))"}}"#
            return #"{"name":"\#(name)","gauge":{"dataPoints":[{"timeUnixNano":"\#(time)000000","asDouble":\#(value).5,"attributes":[\#(label)]}]}}"#
        }
        return #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[\#(metrics.joined(separator: ","))]}]}]}"#
    }

    private func lokiBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let streams = times.enumerated().map { index, time in
            #"{"stream":{"loki":"s\#(Int.random(in: 0..<4, using: &random))"},"values":[["\#(time)000000","line \#(serial) of \#(index % 3)"]]}"#
        }
        return #"{"streams":[\#(streams.joined(separator: ","))]}"#
    }

    private func linesBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        times.enumerated().map { index, time in
            let status = index % 2 == 0 ? "\(200 + index)" : "\"text\""
            return #"{"ts":\#(time),"app":"a\#(Int.random(in: 0..<3, using: &random))","msg":"json \#(serial)","status":\#(status)}"#
        }.joined(separator: "\n")
    }

    private func tracesBody(_ times: [Int64], _ random: inout SplitMix) -> String {
        let spans = times.enumerated().map { index, time in
            let trace = String(repeating: "0", count: 16) + hexString(UInt64(serial))
            let end = time + Int64.random(in: 1..<500, using: &random)
            return
                #"{"traceId":"\#(trace)","spanId":"\#(hexString(UInt64(serial << 16 + index + 1)))","name":"n\#(index % 3)","kind":2,"startTimeUnixNano":"\#(time)000000","endTimeUnixNano":"\#(end)000000"}"#
        }
        let resource = #"{"attributes":[{"key":"service.name","value":{"stringValue":"s\#(serial % 3)"}}]}"#
        return #"{"resourceSpans":[{"resource":\#(resource),"scopeSpans":[{"spans":[\#(spans.joined(separator: ","))]}]}]}"#
    }
}
