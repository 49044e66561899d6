internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Lines `<name> <millis> <value>` for metrics; anything else for other formats is refused.
struct TextDecoder: RequestDecoder {
    func decode(_ request: RawRequest, receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> DecodedBatch {
        let lines = String(decoding: request.body, as: UTF8.self).split(separator: "\n")
        switch request.format {
        case .remoteWrite1:
            var batch = MetricBatch()
            for line in lines {
                let parts = line.split(separator: " ")
                guard parts.count == 3, let time = Int64(parts[1]), let value = Double(parts[2]) else { throw ObsError(.badInput, "no sample") }
                batch.append(Labels([("__name__", String(parts[0]))]), timeMillis: time, value: value)
            }
            return .metrics(batch)
        case .jsonLines:
            return .logs(logBatch(lines.enumerated().map { (["app": request.parameters], receivedAtNanos + Int64($0.offset), String($0.element)) }))
        default: throw ObsError(.badInput, "format not known here")
        }
    }
}

/// An engine on a simulated disk, and what tests ask of it.
class EngineTestCase: XCTestCase {
    let clock = ManualClock()

    func makeRoot() -> String {
        let root = "/tmp/obs-test-\(UInt64.random(in: .min ... .max))"
        // The catalogue is SQLite's and lies on the real disk.
        try? FileManager.default.createDirectory(atPath: root + "/index", withIntermediateDirectories: true)
        addTeardownBlock { try? FileManager.default.removeItem(atPath: root) }
        return root
    }

    func open(_ root: String, _ disk: any FileSystem, retentionMillis: Int64? = nil, _ change: (inout EngineConfiguration) -> Void = { _ in }) throws
        -> StorageEngine
    {
        DiagnosticLog.threshold = .error
        var configuration = EngineConfiguration(dataDirectory: root, retentionMillis: retentionMillis)
        change(&configuration)
        return try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: TextDecoder())
    }

    func origin(_ tenant: String = "default", _ request: RawRequest? = nil) throws -> WriteOrigin {
        WriteOrigin(tenant: try TenantID(tenant), receivedAtNanos: clock.nowNanos(), request: request)
    }

    func context(_ tenant: String = "default") throws -> QueryContext { QueryContext(tenant: try TenantID(tenant)) }

    @discardableResult
    func write(_ engine: any Appender, _ samples: [(name: String, time: Int64, value: Double)], tenant: String = "default") throws -> AppendOutcome {
        var batch = MetricBatch()
        for sample in samples { batch.append(Labels([("__name__", sample.name), ("job", "j")]), timeMillis: sample.time, value: sample.value) }
        return try engine.appendAndWait(batch, origin: origin(tenant))
    }

    func read(
        _ engine: any Reader, _ matchers: [LabelMatcher] = [], _ range: ClosedRange<Int64> = .min ... .max, tenant: String = "default"
    ) throws -> [String: [Int64: Double]] {
        let set = try engine.series(matchers, range: range, context: context(tenant))
        var found: [String: [Int64: Double]] = [:]
        var last: Labels?
        while let series = try set.next() {
            if let last { XCTAssertLessThan(Labels.compare(last, series.labels), 0, "series out of order") }
            last = series.labels
            XCTAssertEqual(series.timesMillis, series.timesMillis.sorted())
            XCTAssertEqual(Set(series.timesMillis).count, series.timesMillis.count)
            found[series.labels["__name__"] ?? ""] = Dictionary(uniqueKeysWithValues: zip(series.timesMillis, series.values))
        }
        return found
    }

    func readLogs(
        _ engine: any Reader, _ matchers: [LabelMatcher] = [], _ range: Range<Int64> = .min ..< .max, contains: [String] = [],
        direction: LogSelection.Direction = .backward, tenant: String = "default"
    ) throws -> LogCollector {
        let sink = LogCollector()
        let selection = LogSelection(
            matchers: matchers, startNanos: range.lowerBound, endNanos: range.upperBound, direction: direction, lines: contains.map { LineFilter(contains: $0) }
        )
        try engine.scanLogs(selection, context: context(tenant), into: sink)
        return sink
    }

    func readSpans(_ engine: any Reader, _ selection: SpanSelection = SpanSelection(), tenant: String = "default") throws -> SpanCollector {
        let sink = SpanCollector()
        try engine.scanSpans(selection, context: context(tenant), into: sink)
        return sink
    }
}
