// A day of small bodies over ten thousand streams and keys, a tenth of the records late by up to 20,000 days: what a quiet store with stray senders looks like.
// It must not drown in files, and must end as small as if all had come at once.

internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

final class TrickleTests: EngineTestCase {
    private static let streams: UInt64 = 10_000
    private static let lateDays: UInt64 = 20_000
    /// Bodies of each signal, one every two minutes of the day.
    private static let bodies = 720
    private static let rowsPerBody = 20

    func testADayOfSmallBodiesEndsInFewSmallFiles() throws {
        let trickled = try open(makeRoot(), MemoryFileSystem())
        defer { trickled.close() }
        let bulk = try open(makeRoot(), MemoryFileSystem()) { $0.generationAgeMillis = 100 * millisPerDay }
        defer { bulk.close() }
        var random = SplitMix(state: 3)
        for body in 0..<Self.bodies {
            let (samples, lines, spans) = bodies(&random)
            for engine in [trickled, bulk] {
                _ = try engine.appendAndWait(samples, origin: origin())
                _ = try engine.appendAndWait(lines, origin: origin())
                _ = try engine.appendAndWait(spans, origin: origin())
            }
            clock.advance(millis: 86_400_000 / Int64(Self.bodies))
            // A generation's age at most.
            if body % 60 == 59 {
                try trickled.flush()
                try trickled.merge()
            }
        }
        try bulk.flush()
        for (signal, (few, once)) in zip(Signal.allCases, zip(trickled.status().signals, bulk.status().signals)) {
            XCTAssertEqual(few.segmentRows, once.segmentRows, "\(signal)")
            XCTAssertGreaterThan(few.segmentRows, Int64(Self.bodies * Self.rowsPerBody * 9 / 10), "\(signal)")
            XCTAssertLessThanOrEqual(few.segments, 200, "\(signal)")
            XCTAssertLessThanOrEqual(Double(few.segmentBytes), 1.2 * Double(once.segmentBytes), "\(signal)")
            let amplification = Double(few.flushedBytes + few.mergedBytes) / Double(max(few.flushedBytes, 1))
            XCTAssertGreaterThan(few.merges, 0, "\(signal)")
            XCTAssertLessThanOrEqual(amplification, signal == .metrics ? 3 : 2, "\(signal)")
            print(
                "trickle: \(signal) \(few.segments) segments, \(few.segmentBytes) bytes; at once \(once.segmentBytes); written \(amplification) times")
        }
        XCTAssertEqual(try read(trickled).count, try read(bulk).count)
        XCTAssertEqual(try readLogs(trickled).rows.count, try readLogs(bulk).rows.count)
        XCTAssertEqual(try readSpans(trickled).spans, try readSpans(bulk).spans)
    }

    private func bodies(_ random: inout SplitMix) -> (MetricBatch, LogBatch, SpanBatch) {
        var samples = MetricBatch()
        var lines: [(stream: [String: String], time: Int64, line: String)] = []
        var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
        for row in 0..<Self.rowsPerBody {
            let number = random.next() % Self.streams
            var nanos = clock.nowNanos() + Int64(row)
            if row % 10 == 0 { nanos -= Int64(random.next() % Self.lateDays) * millisPerDay * nanosPerMilli }
            samples.append(Labels([("__name__", "m\(number)"), ("job", "trickle")]), timeMillis: nanos / nanosPerMilli, value: Double(number))
            lines.append((["app": "trickle", "stream": "\(number)"], nanos, "key\(number)=\(random.next() % 1000) came late"))
            spans.append((random.next(), random.next(), "service\(number % 30)", "GET /\(number)", nanos, Int64(random.next() % 1_000_000)))
        }
        var (logs, traces) = (logBatch(lines), spanBatch(spans))
        for row in 0..<Self.rowsPerBody {
            var list: [UInt8] = []
            list.appendAttribute("key\(random.next() % Self.streams)".utf8, row % 2 == 0 ? .int(Int64(row)) : .string("value \(random.next() % 100)"))
            logs.attributes[row] = logs.bytes.intern(list)
            traces.attributes[row] = traces.bytes.intern(list)
        }
        return (samples, logs, traces)
    }
}
