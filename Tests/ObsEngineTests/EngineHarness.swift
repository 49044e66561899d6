internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Seeded random numbers.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Lines `<name> <millis> <value>` for metrics; anything else for other formats is refused.
struct TextDecoder: RequestDecoder {
    func decode(_ request: RawRequest, receivedAtNanos: Int64) throws(ObsError) -> DecodedBatch {
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

func logBatch(_ rows: [(stream: [String: String], time: Int64, line: String)], identified: Bool = false) -> LogBatch {
    var batch = LogBatch()
    var streams: [[String: String]: UInt32] = [:]
    for row in rows {
        let labels = Labels(row.stream.map { ($0.key, $0.value) })
        let stream: UInt32
        if let known = streams[row.stream] {
            stream = known
        } else {
            stream = UInt32(batch.streams.count)
            streams[row.stream] = stream
            batch.streams.append(batch.bytes.intern(labels.bytes))
        }
        batch.appendRow(stream: stream, timeNanos: row.time, severity: 9, line: batch.bytes.intern(row.line.utf8), flags: identified ? .identified : [])
    }
    return batch
}

func spanBatch(_ rows: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)]) -> SpanBatch {
    var batch = SpanBatch()
    for row in rows {
        let service = batch.bytes.intern(row.service.utf8)
        var list: [UInt8] = []
        list.appendAttribute("service.name".utf8, .string(row.service))
        batch.resources.append(batch.bytes.intern(list))
        batch.services.append(service)
        batch.appendRow(
            traceID: TraceID(high: 0, low: row.trace), spanID: row.span, parentID: 0, startNanos: row.start, durationNanos: row.duration, kind: 2, status: 0,
            name: batch.bytes.intern(row.name.utf8), resource: UInt32(batch.resources.count - 1))
    }
    return batch
}

final class LogCollector: LogSink {
    var wantedNanos: Range<Int64> = .min ..< .max
    var rows: [(labels: Labels, time: Int64, line: String, arrival: UInt64)] = []
    var batches = 0
    func consume(_ batch: LogBatch, rows indices: [Int]) throws(ObsError) {
        batches += 1
        for row in indices {
            rows.append((batch.labels(ofStream: batch.stream[row]), batch.timeNanos[row], batch.bytes.string(batch.line[row]), batch.arrival[row]))
        }
    }
    var lines: [String] { rows.sorted { ($0.time, $0.arrival) < ($1.time, $1.arrival) }.map(\.line) }
}

final class SpanCollector: SpanSink {
    var rows: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64)] = []
    func consume(_ batch: SpanBatch, rows indices: [Int]) throws(ObsError) {
        for row in indices {
            rows.append(
                (
                    batch.traceID[row].low, batch.spanID[row], batch.bytes.string(batch.services[Int(batch.resource[row])]),
                    batch.bytes.string(batch.name[row]), batch.startNanos[row]
                ))
        }
    }
    var spans: [UInt64] { rows.map(\.span).sorted() }
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
            matchers: matchers, startNanos: range.lowerBound, endNanos: range.upperBound, direction: direction, lineContains: contains.map { Array($0.utf8) })
        try engine.scanLogs(selection, context: context(tenant), into: sink)
        return sink
    }

    func readSpans(_ engine: any Reader, _ selection: SpanSelection = SpanSelection(), tenant: String = "default") throws -> SpanCollector {
        let sink = SpanCollector()
        try engine.scanSpans(selection, context: context(tenant), into: sink)
        return sink
    }
}
