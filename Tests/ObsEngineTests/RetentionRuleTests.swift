internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Rules that keep some rows for a shorter time than the rest.
final class RetentionRuleTests: EngineTestCase {
    private let hour: Int64 = 3_600_000
    private let day: Int64 = 86_400_000
    private var now: Int64 { clock.nowMillis() }

    private func rule(_ signal: Signal, _ name: String, _ value: String, keep: Int64, priority: Int = 0, tenant: String? = nil) throws -> RetentionRule {
        try RetentionRule(
            signal, tenant: try tenant.map { try TenantID($0) }, [LabelMatcher(equal: name, value)], keepMillis: keep, priority: priority)
    }

    private func open(_ root: String, _ disk: any FileSystem, _ rules: [RetentionRule]) throws -> StorageEngine {
        try open(root, disk) {
            $0.maintainsItself = false
            $0.retention.rules = rules
        }
    }

    private func names(_ engine: StorageEngine, _ signal: Signal, _ name: String, _ range: ClosedRange<Int64> = .min ... .max) throws -> [String] {
        try engine.labelValues(signal, name, [], range: range, context: context())
    }

    private func segments(_ engine: StorageEngine) -> [Int] { engine.status().signals.map(\.segments) }
    private func rows(_ engine: StorageEngine) -> [Int64] { engine.status().signals.map(\.segmentRows) }

    func testRowsAreHiddenAtOnceInHeadsAndSegments() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(
            root, disk,
            [
                try rule(.metrics, "__name__", "short", keep: hour), try rule(.logs, "app", "short", keep: hour),
                try rule(.traces, "service", "short", keep: hour),
            ])
        let cutoff = now - hour
        try write(engine, ["short", "long"].flatMap { [($0, cutoff - 1, 1), ($0, cutoff, 2)] } + [("short", cutoff - day, 3)])
        try write(engine, [("short", cutoff - 1, 1)], tenant: "other")
        let nanos = cutoff * 1_000_000
        _ = try engine.appendAndWait(
            logBatch([(["app": "short"], nanos - 1, "past"), (["app": "short"], nanos, "kept"), (["app": "long"], nanos - 1, "other app")]), origin: origin())
        _ = try engine.appendAndWait(
            spanBatch([(1, 1, "short", "get", nanos - 1, 1), (1, 2, "short", "get", nanos, 1), (2, 3, "long", "get", nanos - 1, 1)]), origin: origin())
        for place in ["head", "segments"] {
            XCTAssertEqual(try read(engine), ["short": [cutoff: 2], "long": [cutoff - 1: 1, cutoff: 2]], place)
            XCTAssertEqual(try read(engine, tenant: "other"), [:], place)
            XCTAssertEqual(try readLogs(engine).lines.sorted(), ["kept", "other app"], place)
            XCTAssertEqual(try readSpans(engine).spans.sorted(), [2, 3], place)
            XCTAssertEqual(try names(engine, .metrics, "__name__"), ["long", "short"], place)
            XCTAssertEqual(try names(engine, .metrics, "__name__", .min...cutoff - 1), ["long"], place)
            try engine.flush()
        }
        clock.advance(millis: 1)
        XCTAssertEqual(try read(engine), ["long": [cutoff - 1: 1, cutoff: 2]])
        XCTAssertEqual(try readLogs(engine).lines, ["other app"])
        XCTAssertEqual(try readSpans(engine).spans, [3])
        XCTAssertEqual(try names(engine, .metrics, "__name__"), ["long"])
        XCTAssertEqual(try names(engine, .logs, "app"), ["long"])
        engine.close()
    }

    func testPriorityThenTheShortestTimeDecides() throws {
        let engine = try open(
            makeRoot(), MemoryFileSystem(),
            [
                try RetentionRule(.metrics, [], keepMillis: 10 * day), try rule(.metrics, "__name__", "a", keep: 2 * hour),
                try rule(.metrics, "__name__", "a", keep: hour), try rule(.metrics, "__name__", "b", keep: hour),
                try rule(.metrics, "__name__", "b", keep: 20 * day, priority: 1), try rule(.metrics, "job", "j", keep: 3 * day, priority: -1),
                try rule(.metrics, "__name__", "c", keep: hour, priority: 5, tenant: "other"),
            ])
        let ages = [hour / 2, 3 * hour / 2, 5 * day, 15 * day, 25 * day]
        for tenant in ["default", "other"] { try write(engine, ["a", "b", "c"].flatMap { name in ages.map { (name, now - $0, 1) } }, tenant: tenant) }
        func kept(_ tenant: String) throws -> [String: Int] { try read(engine, tenant: tenant).mapValues(\.count) }
        XCTAssertEqual(try kept("default"), ["a": 1, "b": 4, "c": 3])
        XCTAssertEqual(try kept("other"), ["a": 1, "b": 4, "c": 1])
        try engine.flush()
        XCTAssertEqual(try kept("default"), ["a": 1, "b": 4, "c": 3])
        // Other rules, at once: what no merge has left out is seen again.
        engine.setRetention(RetentionBounds())
        XCTAssertEqual(try kept("default"), ["a": 5, "b": 5, "c": 5])
        var bounds = RetentionBounds()
        bounds.rules = [try rule(.metrics, "__name__", "c", keep: hour)]
        engine.setRetention(bounds)
        XCTAssertEqual(try kept("default"), ["a": 5, "b": 5, "c": 1])
        engine.close()
    }

    func testASegmentIsWrittenOnceMoreWhenItsNewestRowIsPast() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(
            root, disk,
            [
                try rule(.metrics, "__name__", "short", keep: day), try rule(.logs, "app", "short", keep: day),
                try rule(.traces, "service", "short", keep: day),
            ])
        let first = now
        try write(engine, ["short", "long"].flatMap { name in (0..<20).map { (name, first + $0 * 60_000, Double($0)) } })
        let nanos = first * 1_000_000
        var lines: [(stream: [String: String], time: Int64, line: String)] = []
        for index in Int64(0)..<10 { lines.append((["app": index % 2 == 0 ? "short" : "long"], nanos + index, "line \(index)")) }
        _ = try engine.appendAndWait(logBatch(lines), origin: origin())
        var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
        for id in UInt64(0)..<10 { spans.append((id, id, id % 2 == 0 ? "short" : "long", "get", nanos + Int64(id), 1)) }
        _ = try engine.appendAndWait(spanBatch(spans), origin: origin())
        try engine.flush()
        clock.advance(millis: day + 10 * 60_000)
        XCTAssertEqual(try read(engine)["short"]?.count, 10)
        try engine.merge()
        XCTAssertEqual(rows(engine), [40, 10, 10], "a merge may come yet")
        clock.advance(millis: day - 5 * 60_000)
        try engine.merge()
        XCTAssertEqual(rows(engine), [40, 5, 5], "some samples are young enough yet")
        clock.advance(millis: 15 * 60_000)
        try engine.merge()
        XCTAssertEqual(rows(engine), [20, 5, 5])
        XCTAssertEqual(segments(engine), [1, 1, 1])
        XCTAssertTrue(disk.paths.filter { $0.hasSuffix(".seg") }.allSatisfy { $0.contains("-1-") }, "of the level they would have had")
        let written = engine.status().signals.map(\.mergedBytes)
        clock.advance(millis: day)
        try engine.merge()
        XCTAssertEqual(engine.status().signals.map(\.mergedBytes), written, "nothing is left to leave out")
        XCTAssertEqual(try read(engine).mapValues(\.count), ["long": 20])
        engine.close()
        engine = try open(root, disk, [])
        XCTAssertEqual(try read(engine).mapValues(\.count), ["long": 20], "gone for good")
        XCTAssertEqual(try readLogs(engine).lines.count, 5)
        XCTAssertEqual(try readSpans(engine).spans, [1, 3, 5, 7, 9])
        engine.close()
    }

    func testCleaningTakesAllThatIsPast() throws {
        let engine = try open(
            makeRoot(), MemoryFileSystem(),
            [
                try rule(.metrics, "__name__", "short", keep: hour), try rule(.logs, "app", "short", keep: hour),
                try rule(.traces, "service", "short", keep: hour),
            ])
        let times = [now - hour - 1, now - hour]
        try write(engine, times.flatMap { [("short", $0, 1), ("long", $0, 1)] })
        _ = try engine.appendAndWait(
            logBatch(times.flatMap { [(["app": "short"], $0 * 1_000_000, "a"), (["app": "long"], $0 * 1_000_000, "b")] }), origin: origin())
        _ = try engine.appendAndWait(
            spanBatch([(1, 1, "short", "get", times[0] * 1_000_000, 1), (1, 2, "short", "get", times[1] * 1_000_000, 1)]), origin: origin())
        try engine.flush()
        try engine.merge()
        XCTAssertEqual(rows(engine), [4, 4, 2])
        try engine.cleanTombstones()
        XCTAssertEqual(rows(engine), [3, 3, 1])
        try engine.cleanTombstones()
        XCTAssertEqual(engine.status().signals.map(\.merges), [1, 1, 1])
        engine.close()
    }

    /// Of rows over months, or one with a time of the next century, the newest would be waited for too long.
    func testALongSegmentIsWrittenAgainByDoublings() throws {
        let engine = try open(
            makeRoot(), MemoryFileSystem(),
            [
                try rule(.metrics, "__name__", "short", keep: day), try rule(.logs, "app", "short", keep: day),
                try rule(.traces, "service", "short", keep: day),
            ])
        let first = now
        for age in Int64(0)..<16 { try write(engine, [("short", first + age * day, 1), ("long", first + age * day, 1)]) }
        try write(engine, [("long", first + 40_000 * day, 1)])
        var lines: [(stream: [String: String], time: Int64, line: String)] = []
        var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
        for age in Int64(0)..<16 {
            let nanos = (first + age * day) * 1_000_000
            lines.append((["app": "short"], nanos, "\(age)"))
            lines.append((["app": "long"], nanos, "\(age)"))
            spans.append((UInt64(age), 1, "short", "get", nanos, 1))
            spans.append((UInt64(age), 2, "long", "get", nanos, 1))
        }
        _ = try engine.appendAndWait(logBatch(lines), origin: origin())
        _ = try engine.appendAndWait(spanBatch(spans), origin: origin())
        try engine.flush()
        let before = rows(engine)
        XCTAssertEqual(before, [33, 32, 32])
        var merges: [[Int]] = []
        for _ in 0..<20 {
            clock.advance(millis: day)
            for _ in 0..<3 { try engine.merge() }
            merges.append(engine.status().signals.map(\.merges))
            // Never is more than half of what is on disk of the rule, and three days of waiting, past.
            let past = min(16, max(0, (clock.nowMillis() - day - first) / day))
            for (all, left) in zip(before, rows(engine)) { XCTAssertGreaterThanOrEqual(Int64(all) - Int64(left), past / 2 - 2, "\(past) days past") }
        }
        XCTAssertEqual(rows(engine), [17, 16, 16])
        XCTAssertTrue(merges.last.map { $0.allSatisfy { (1...6).contains($0) } } ?? false, "\(merges)")
        XCTAssertEqual(merges.suffix(2).first, merges.last)
        engine.close()
    }

    func testWhatIsWhollyPastIsDroppedUnread() throws {
        for isCatchAll in [true, false] {
            let root = makeRoot()
            let disk = MemoryFileSystem()
            func rule(_ signal: Signal, _ name: String) throws -> RetentionRule {
                try RetentionRule(signal, isCatchAll ? [] : [LabelMatcher(equal: name, "j")], keepMillis: day)
            }
            let engine = try open(root, disk, [try rule(.metrics, "job"), try rule(.logs, "job"), try rule(.traces, "service")])
            for _ in 0..<2 {
                try write(engine, [("a", now, 1), ("b", now, 1)])
                _ = try engine.appendAndWait(logBatch([(["job": "j"], now * 1_000_000, "x")]), origin: origin())
                _ = try engine.appendAndWait(spanBatch([(UInt64(now), 1, "j", "get", now * 1_000_000, 1)]), origin: origin())
                try engine.flush()
                clock.advance(millis: day / 2 + 1)
            }
            XCTAssertEqual(segments(engine), [2, 2, 2])
            if isCatchAll { engine.enforceRetention() } else { try engine.merge() }
            XCTAssertEqual(segments(engine), [1, 1, 1])
            XCTAssertEqual(engine.status().signals.map(\.mergedBytes), [0, 0, 0])
            XCTAssertEqual(try read(engine).mapValues(\.count), ["a": 1, "b": 1])
            engine.close()
        }
    }

    func testARuleForLongerProtectsFromACatchAll() throws {
        let engine = try open(
            makeRoot(), MemoryFileSystem(),
            [try RetentionRule(.metrics, [], keepMillis: hour), try rule(.metrics, "__name__", "audit", keep: 10 * day, priority: 1)])
        try write(engine, [("audit", now, 1), ("noise", now, 1)])
        try engine.flush()
        clock.advance(millis: 2 * day)
        engine.enforceRetention()
        XCTAssertEqual(segments(engine)[0], 1)
        try engine.merge()
        XCTAssertEqual(rows(engine)[0], 1)
        XCTAssertEqual(try read(engine).keys.sorted(), ["audit"])
        clock.advance(millis: 10 * day)
        engine.enforceRetention()
        XCTAssertEqual(segments(engine)[0], 0)
        engine.close()
    }

    func testMergesLeaveOutWhatIsPastOnTheWay() throws {
        let engine = try open(makeRoot(), MemoryFileSystem(), [try rule(.metrics, "__name__", "short", keep: hour)])
        for _ in 0..<4 {
            try write(engine, [("short", now, 1), ("long", now, 1)])
            try engine.flush()
            clock.advance(millis: 30 * 60_000)
        }
        try engine.merge()
        XCTAssertEqual(segments(engine)[0], 1)
        XCTAssertEqual(try read(engine).mapValues(\.count), ["short": 2, "long": 4])
        XCTAssertEqual(rows(engine)[0], 6)
        engine.close()
    }

    /// A crash at every change of the disk while segments are dropped and written again: what is kept is kept, what is past is not seen.
    func testCrashesLeaveWhatIsKept() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let rules = [
            try rule(.metrics, "__name__", "short", keep: day), try rule(.logs, "app", "short", keep: day), try rule(.traces, "service", "short", keep: day),
        ]
        let engine = try open(root, disk, rules)
        for (round, names) in [["short", "long"], ["short"], ["long"]].enumerated() {
            try write(engine, names.map { ($0, now, Double(round)) })
            let nanos = now * 1_000_000
            _ = try engine.appendAndWait(logBatch(names.map { (["app": $0], nanos, "\($0) \(round)") }), origin: origin())
            var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
            for (index, name) in names.enumerated() { spans.append((UInt64(round), UInt64(round * 2 + index), name, "get", nanos, 1)) }
            _ = try engine.appendAndWait(spanBatch(spans), origin: origin())
            try engine.flush()
            clock.advance(millis: 1000)
        }
        clock.advance(millis: 2 * day)
        func check(_ engine: StorageEngine, _ when: String) throws {
            XCTAssertEqual(try read(engine).mapValues { $0.values.sorted() }, ["long": [0, 2]], when)
            XCTAssertEqual(try readLogs(engine).lines, ["long 0", "long 2"], when)
            XCTAssertEqual(try readSpans(engine).spans, [1, 4], when)
        }
        try check(engine, "before")
        let crashes = Monitor<[(call: String, root: String, disk: FaultyFileSystem)]>([])
        let roots = (0..<200).map { _ in makeRoot() }
        disk.watch { [weak disk] call in
            let number = crashes.read { $0.count }
            guard call.operation.isChange, number < roots.count, let disk else { return nil }
            var random = SplitMix(state: UInt64(number))
            let other = roots[number]
            let left = disk.afterPowerCut(from: root, to: other, using: &random)
            crashes.read { $0.append((call.description, other, left)) }
            return nil
        }
        try engine.merge()
        disk.watch(nil)
        try check(engine, "after")
        XCTAssertEqual(rows(engine), [2, 2, 2])
        engine.close()
        let all = crashes.read { $0 }
        XCTAssertGreaterThan(all.count, 20)
        XCTAssertLessThan(all.count, roots.count)
        for crash in all {
            let again = try open(crash.root, crash.disk, rules)
            try check(again, "crash before \(crash.call)")
            try again.merge()
            try check(again, "crash before \(crash.call), merged")
            XCTAssertEqual(rows(again), [2, 2, 2], crash.call)
            again.close()
        }
    }

    func testBytesOfATenant() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk, [])
        for age in (0..<4).reversed() {
            for tenant in ["default", "big", "small"] {
                try write(engine, (0..<50).map { ("m\(age)", now - Int64(age) * day + $0, 1) }, tenant: tenant)
                _ = try engine.appendAndWait(logBatch([(["app": "a"], (now - Int64(age) * day) * 1_000_000 + 1, "\(age)")]), origin: origin(tenant))
            }
            try engine.flush()
        }
        engine.close()
        let (big, small) = (try TenantID("big"), try TenantID("small"))
        for _ in 0..<2 {
            // A segment of each signal is too many; the newest of each signal stays all the same.
            engine = try open(root, disk) {
                $0.maintainsItself = false
                $0.retention.bytesByTenant = [big: .max, small: 1]
            }
            engine.enforceRetention()
            XCTAssertEqual(try ["default", "big", "small"].map { try read(engine, tenant: $0).count }, [4, 4, 1])
            XCTAssertEqual(try readLogs(engine, tenant: "small").lines, ["0"])
            engine.close()
        }
        engine = try open(root, disk) {
            $0.maintainsItself = false
            $0.retention.bytesByTenant = [big: .max]
            $0.retention.bytesEachTenant = 1
        }
        engine.enforceRetention()
        XCTAssertEqual(try ["default", "big", "small"].map { try read(engine, tenant: $0).count }, [1, 4, 1])
        engine.close()
    }

    func testRefusals() throws {
        XCTAssertThrowsError(try rule(.logs, "app", "a", keep: 0))
        XCTAssertThrowsError(try rule(.traces, "kind", "server", keep: hour)) { XCTAssertTrue("\($0)".contains("trace_id"), "\($0)") }
    }
}
