internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
internal import Synchronization
import XCTest

/// Everything at once on the real disk: writers of all signals, readers, flushes, merges, retention, deletions, snapshots. Small among the ordinary tests;
/// `make tsan` runs it larger under the thread sanitizer. The counts are exact: nothing acknowledged may be missing or there twice, at any moment and after the
/// next start.
final class StressTests: EngineTestCase {
    func testEverythingAtOnce() throws {
        let rounds = ProcessInfo.processInfo.environment["OBS_STRESS_ROUNDS"].flatMap { Int($0) } ?? 40
        let root = makeRoot()
        func change(_ configuration: inout EngineConfiguration) {
            configuration.walFileBytesMax = 64 << 10
            configuration.generationWALBytesMax = 128 << 10
            configuration.freeBytesMin = 0
        }
        let engine = try open(root, LocalFileSystem(), retentionMillis: 2 * millisPerDay, change)
        let course = StressCourse(engine, clock, rounds: rounds)
        for writer in 0..<StressCourse.writers { try course.write(writer, round: 0, at: course.oldMillis) }
        try engine.flush()
        XCTAssertEqual(try course.rows(from: .min, to: course.newMillis).map(\.count), [Int](repeating: StressCourse.rowsPerRound, count: StressCourse.writers))

        let threads = Monitor(0)
        func start(_ what: String, _ body: @escaping @Sendable () throws -> Void) {
            threads.update { $0 += 1 }
            _ = startThread("stress", stackBytes: 8 << 20) {
                do { try body() } catch { course.fail("\(what): \(error)") }
                threads.update { $0 -= 1 }
            }
        }
        for writer in 0..<StressCourse.writers { start("write") { try course.writeAll(writer) } }
        for _ in 0..<2 { start("read") { while course.isWriting { try course.checkAcknowledged() } } }
        start("flush") { while course.isWriting { try engine.flush() } }
        start("retention") { course.keepRetention() }
        start("delete") {
            for _ in 0..<3 {
                try engine.delete(.default, .logs, [[LabelMatcher(equal: "app", "nobody's")]], range: .min ... .max)
                try engine.cleanTombstones()
            }
        }
        start("snapshot") { for _ in 0..<3 { _ = try engine.snapshot() } }
        _ = threads.wait(until: { $0 == 0 ? () : nil })
        XCTAssertEqual(course.failures, [])

        let expected = [Int](repeating: rounds * StressCourse.rowsPerRound, count: StressCourse.writers)
        engine.enforceRetention()
        XCTAssertEqual(try course.rows(from: course.newMillis, to: .max).map(\.count), expected, "all that is new")
        // A segment goes when all of it is old: a merge of old and new keeps both.
        let old = try course.rows(from: .min, to: course.newMillis).map(\.count)
        XCTAssertTrue(old.allSatisfy { $0 == 0 || $0 == StressCourse.rowsPerRound }, "\(old)")
        engine.close()
        let again = try open(root, LocalFileSystem(), retentionMillis: 2 * millisPerDay, change)
        let next = StressCourse(again, clock, rounds: rounds)
        XCTAssertEqual(try next.rows(from: course.newMillis, to: .max).map(\.count), expected, "after the next start")
        XCTAssertEqual(try next.rows(from: .min, to: course.newMillis).map(\.count), old, "after the next start")
        again.close()
    }
}

/// What the threads share. Writers 0 and 1 write metrics, 2 and 3 logs, 4 and 5 spans: rows numbered from 0, one a millisecond.
private final class StressCourse: Sendable {
    static let writers = 6
    static let rowsPerRound = 10

    let engine: StorageEngine
    let oldMillis: Int64
    /// Past the retention of what is old, once the clock is moved here.
    let newMillis: Int64
    private let clock: ManualClock
    private let rounds: Int
    private let writing = Atomic(StressCourse.writers)
    private let acknowledged = Monitor([Int](repeating: 0, count: StressCourse.writers))
    private let failed = Monitor<[String]>([])

    init(_ engine: StorageEngine, _ clock: ManualClock, rounds: Int) {
        self.engine = engine
        self.clock = clock
        self.rounds = rounds
        oldMillis = clock.nowMillis()
        newMillis = oldMillis + 3 * millisPerDay
    }

    var isWriting: Bool { writing.load(ordering: .acquiring) > 0 }
    var failures: [String] { failed.read { $0 } }
    func fail(_ why: String) { failed.read { $0.append(why) } }

    func writeAll(_ writer: Int) throws {
        defer { writing.subtract(1, ordering: .acquiringAndReleasing) }
        for round in 0..<rounds {
            try write(writer, round: round, at: newMillis)
            acknowledged.read { $0[writer] = (round + 1) * Self.rowsPerRound }
        }
    }

    func write(_ writer: Int, round: Int, at start: Int64) throws {
        let numbers = (0..<Self.rowsPerRound).map { round * Self.rowsPerRound + $0 }
        let origin = WriteOrigin(tenant: .default, receivedAtNanos: clock.nowNanos())
        let outcome: AppendOutcome
        switch writer / 2 {
        case 0:
            var batch = MetricBatch()
            for number in numbers { batch.append(Labels([("__name__", "writer\(writer)")]), timeMillis: start + Int64(number), value: Double(number)) }
            outcome = try engine.appendAndWait(batch, origin: origin)
        case 1:
            let rows = numbers.map { (stream: ["app": "writer\(writer)"], time: (start + Int64($0)) * nanosPerMilli, line: "\($0)") }
            outcome = try engine.appendAndWait(logBatch(rows), origin: origin)
        default:
            let rows = numbers.map {
                (
                    trace: UInt64(writer) << 32 | UInt64($0), span: UInt64($0) + 1, service: "writer\(writer)", name: "n",
                    start: (start + Int64($0)) * nanosPerMilli, duration: Int64(1)
                )
            }
            outcome = try engine.appendAndWait(spanBatch(rows), origin: origin)
        }
        if outcome != AppendOutcome(accepted: Self.rowsPerRound) { fail("writer \(writer): \(outcome)") }
    }

    /// Numbers of the rows between two times, by writer, ascending.
    func rows(from: Int64, to: Int64) throws -> [[Int]] {
        var rows = [[Int]](repeating: [], count: Self.writers)
        let context = QueryContext(tenant: .default)
        let set = try engine.series([], range: from...(to == .max ? to : to - 1), context: context)
        while let series = try set.next() { rows[Self.writer(series.labels["__name__"])] = series.values.map { Int($0) } }
        let nanos = (from == .min ? from : from * nanosPerMilli)..<(to == .max ? to : to * nanosPerMilli)
        let logs = LogCollector()
        logs.wantedNanos = nanos
        try engine.scanLogs(LogSelection(matchers: [], startNanos: nanos.lowerBound, endNanos: nanos.upperBound), context: context, into: logs)
        for row in logs.rows { rows[Self.writer(row.labels["app"])].append(Int(row.line) ?? -1) }
        let spans = SpanCollector()
        var selection = SpanSelection()
        selection.startNanos = nanos.lowerBound
        selection.endNanos = nanos.upperBound
        try engine.scanSpans(selection, context: context, into: spans)
        for row in spans.rows { rows[Self.writer(row.service)].append(Int(row.span) - 1) }
        return rows.map { $0.sorted() }
    }

    private static func writer(_ name: String?) -> Int { name.flatMap { Int($0.suffix(1)) } ?? 0 }

    /// A read sees at least what was acknowledged before it began, and each row once.
    func checkAcknowledged() throws {
        let known = acknowledged.read { $0 }
        for (writer, found) in try rows(from: newMillis, to: .max).enumerated() where found != Array(0..<found.count) || found.count < known[writer] {
            fail("writer \(writer): \(found.count) rows of \(known[writer]) acknowledged, last \(found.last ?? -1)")
        }
    }

    /// Time passes at half-way, and from then on what is old goes.
    func keepRetention() {
        var isLater = false
        while isWriting || !isLater {
            if !isLater, acknowledged.read({ $0.allSatisfy { $0 >= rounds * Self.rowsPerRound / 2 } }) || !isWriting {
                clock.advance(millis: 3 * millisPerDay)
                isLater = true
            }
            engine.enforceRetention()
            _ = engine.status()
        }
    }
}
