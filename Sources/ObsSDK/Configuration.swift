internal import Glibc

/// What `Obs.start` runs with. Made from the `OTEL_*` environment variables of the OpenTelemetry specification; every member can be set by code.
/// A variable that cannot be understood is ignored with one warning on stderr, as the specification asks.
public struct ObsConfiguration: Sendable {
    /// `OTEL_SDK_DISABLED`: nothing is recorded or sent.
    public var isDisabled = false
    /// `OTEL_SERVICE_NAME`, else `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, else `unknown_service:<program>`.
    public var serviceName = ""
    /// `OTEL_RESOURCE_ATTRIBUTES`, and what is set here.
    public var resource: ObsAttributes = [:]
    /// Full URL each signal is posted to: `OTEL_EXPORTER_OTLP_<SIGNAL>_ENDPOINT` as it is, else `OTEL_EXPORTER_OTLP_ENDPOINT` with `/v1/<signal>` appended
    /// (default `http://localhost:4318`).
    public var tracesURL = ""
    /// See `tracesURL`.
    public var metricsURL = ""
    /// See `tracesURL`.
    public var logsURL = ""
    /// `OTEL_EXPORTER_OTLP_HEADERS`: `key=value,…`, values percent-decoded.
    public var headers: [(name: String, value: String)] = []
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`, milliseconds of one request.
    public var requestTimeoutMillis = 10_000
    /// `OTEL_TRACES_SAMPLER(_ARG)`: share of root traces that are recorded, 0...1. A parent's decision is followed.
    public var sampledShare = 1.0
    /// `OTEL_TRACES_EXPORTER=none` turns spans off.
    public var exportsTraces = true
    /// `OTEL_METRICS_EXPORTER=none` turns metrics off.
    public var exportsMetrics = true
    /// `OTEL_LOGS_EXPORTER=none` turns the sending of logs off; they still go to the console.
    public var exportsLogs = true
    /// `OTEL_BSP_SCHEDULE_DELAY`, milliseconds an ended span waits for others at most.
    public var spanDelayMillis = 5000
    /// `OTEL_BLRP_SCHEDULE_DELAY`, milliseconds a log record waits for others at most.
    public var logDelayMillis = 1000
    /// `OTEL_METRIC_EXPORT_INTERVAL`, milliseconds.
    public var metricIntervalMillis = 60_000
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: spans that wait; more are dropped and counted.
    public var spanQueueMax = 2048
    /// `OTEL_BLRP_MAX_QUEUE_SIZE`: log records that wait; more are dropped and counted.
    public var logQueueMax = 2048
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`: spans of one request.
    public var spanBatchMax = 512
    /// `OTEL_BLRP_MAX_EXPORT_BATCH_SIZE`: log records of one request.
    public var logBatchMax = 512
    /// Series one instrument may have; measurements past it go to a series marked `otel.metric.overflow`.
    public var seriesMax = 2000
    /// Log records are also written to stderr: pretty on a terminal, JSON lines otherwise.
    public var logsToConsole = true

    /// The configuration of the environment.
    public init() { self.init(environment: { name in getenv(name).map { String(cString: $0) } }) }

    /// The configuration of the given variables.
    public init(environment: @escaping (String) -> String?) {
        let reader = EnvironmentReader(environment)
        isDisabled = reader.text("OTEL_SDK_DISABLED")?.lowercased() == "true"
        resource = Self.pairs(reader.text("OTEL_RESOURCE_ATTRIBUTES") ?? "").reduce(into: [:]) { $0[$1.name] = .string($1.value) }
        if let name = reader.text("OTEL_SERVICE_NAME") {
            serviceName = name
        } else if case .string(let name)? = resource["service.name"] {
            serviceName = name
        } else {
            serviceName = "unknown_service:" + (CommandLine.arguments.first?.split(separator: "/").last.map(String.init) ?? "swift")
        }
        var base = reader.text("OTEL_EXPORTER_OTLP_ENDPOINT") ?? "http://localhost:4318"
        while base.hasSuffix("/") { base.removeLast() }
        tracesURL = reader.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") ?? base + "/v1/traces"
        metricsURL = reader.text("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") ?? base + "/v1/metrics"
        logsURL = reader.text("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") ?? base + "/v1/logs"
        headers = Self.pairs(reader.text("OTEL_EXPORTER_OTLP_HEADERS") ?? "")
        if let wanted = reader.text("OTEL_EXPORTER_OTLP_PROTOCOL"), wanted != "http/protobuf" {
            reader.warn("OTEL_EXPORTER_OTLP_PROTOCOL=\(wanted) is not supported; http/protobuf is used")
        }
        requestTimeoutMillis = reader.number("OTEL_EXPORTER_OTLP_TIMEOUT", requestTimeoutMillis)
        sampledShare = reader.sampledShare()
        exportsTraces = reader.exports("OTEL_TRACES_EXPORTER")
        exportsMetrics = reader.exports("OTEL_METRICS_EXPORTER")
        exportsLogs = reader.exports("OTEL_LOGS_EXPORTER")
        spanDelayMillis = reader.number("OTEL_BSP_SCHEDULE_DELAY", spanDelayMillis)
        logDelayMillis = reader.number("OTEL_BLRP_SCHEDULE_DELAY", logDelayMillis)
        metricIntervalMillis = reader.number("OTEL_METRIC_EXPORT_INTERVAL", metricIntervalMillis)
        spanQueueMax = reader.number("OTEL_BSP_MAX_QUEUE_SIZE", spanQueueMax)
        logQueueMax = reader.number("OTEL_BLRP_MAX_QUEUE_SIZE", logQueueMax)
        spanBatchMax = reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", spanBatchMax)
        logBatchMax = reader.number("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", logBatchMax)
    }

    /// `key=value,key=value`, percent-decoded; pieces without `=` are skipped.
    static func pairs(_ text: String) -> [(name: String, value: String)] {
        text.split(separator: ",").compactMap { piece in
            guard let equals = piece.firstIndex(of: "=") else { return nil }
            let name = piece[..<equals].filter { $0 != " " }
            guard !name.isEmpty else { return nil }
            return (percentDecoded(name), percentDecoded(trimmed(piece[piece.index(after: equals)...])))
        }
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }

    private static func percentDecoded(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

private struct EnvironmentReader {
    private let environment: (String) -> String?
    init(_ environment: @escaping (String) -> String?) { self.environment = environment }

    /// An empty variable counts as unset.
    func text(_ name: String) -> String? { environment(name).flatMap { $0.isEmpty ? nil : $0 } }

    func number(_ name: String, _ fallback: Int) -> Int {
        guard let text = text(name) else { return fallback }
        guard let value = Int(text), value > 0 else {
            warn("\(name)=\(text) is no positive whole number; \(fallback) is used")
            return fallback
        }
        return value
    }

    func exports(_ name: String) -> Bool {
        switch text(name) {
        case nil, "otlp": return true
        case "none": return false
        case let other?:
            warn("\(name)=\(other) is not supported; otlp is used")
            return true
        }
    }

    func sampledShare() -> Double {
        switch text("OTEL_TRACES_SAMPLER") {
        case nil, "always_on", "parentbased_always_on": return 1
        case "always_off", "parentbased_always_off": return 0
        case "traceidratio", "parentbased_traceidratio":
            guard let share = Double(text("OTEL_TRACES_SAMPLER_ARG") ?? "1"), (0...1).contains(share) else {
                warn("OTEL_TRACES_SAMPLER_ARG is no number between 0 and 1; 1 is used")
                return 1
            }
            return share
        case let other?:
            warn("OTEL_TRACES_SAMPLER=\(other) is not supported; parentbased_always_on is used")
            return 1
        }
    }

    func warn(_ message: String) { writeToStandardError("obs: \(message)\n") }
}

func writeToStandardError(_ text: String) {
    var bytes = Array(text.utf8)
    _ = write(2, &bytes, bytes.count)
}
