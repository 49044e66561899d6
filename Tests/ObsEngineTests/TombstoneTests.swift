internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

final class TombstoneTests: EngineTestCase {
    private let tenant = "default"

    private func open(_ root: String, _ disk: any FileSystem) throws -> StorageEngine { try open(root, disk) { $0.maintainsItself = false } }

    private func delete(_ engine: StorageEngine, _ signal: Signal, _ name: String, _ value: String, _ range: ClosedRange<Int64> = .min ... .max) throws {
        try engine.delete(TenantID(tenant), signal, [[LabelMatcher(equal: name, value)]], range: range)
    }

    private func names(_ engine: StorageEngine, _ signal: Signal, _ name: String) throws -> [String] {
        try engine.labelValues(signal, name, [], range: .min ... .max, context: context())
    }

    func testSamplesAreHiddenAtOnceAndLaterOnesAreNot() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk)
        try write(engine, (1...10).map { ("a", $0, Double($0)) } + (1...10).map { ("b", $0, 1) })
        try engine.flush()
        try write(engine, [("a", 11, 11)])
        try write(engine, [("a", 11, 11)], tenant: "other")
        try delete(engine, .metrics, "__name__", "a", 3...20)
        XCTAssertEqual(try read(engine)["a"], [1: 1, 2: 2])
        XCTAssertEqual(try read(engine)["b"]?.count, 10)
        XCTAssertEqual(try read(engine, tenant: "other")["a"], [11: 11])
        // The same instants again, with other values.
        try write(engine, [("a", 4, 40), ("a", 11, 110)])
        let expected: [Int64: Double] = [1: 1, 2: 2, 4: 40, 11: 110]
        XCTAssertEqual(try read(engine)["a"], expected)
        var random = SplitMix(state: 3)
        let other = makeRoot()
        let cut = try open(other, disk.afterPowerCut(from: root, to: other, using: &random))
        XCTAssertEqual(try read(cut)["a"], expected, "after a power cut, with the rest in the log")
        cut.close()
        engine.close()
        engine = try open(root, disk)
        XCTAssertEqual(try read(engine)["a"], expected)
        engine.close()
    }

    func testMergesLeaveDeletedRowsOutAndTheTombstoneGoes() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk)
        for round in 0..<4 {
            let first = Int64(round * 10)
            try write(engine, (0..<10).map { ("a", first + $0, 1) } + [("b", first, 1)])
            try engine.flush()
            if round == 1 { try delete(engine, .metrics, "__name__", "a", 5...35) }
        }
        let rest = Set((0...4).map { Int64($0) } + (20...39).map { Int64($0) })
        XCTAssertEqual(try read(engine)["a"].map { Set($0.keys) }, rest)
        XCTAssertEqual(try disk.list(root + "/tombstones").count, 1)
        try engine.merge()
        XCTAssertEqual(engine.status().signals[0].segments, 1)
        XCTAssertEqual(engine.status().signals[0].segmentRows, 25 + 4)
        XCTAssertEqual(try read(engine)["a"].map { Set($0.keys) }, rest, "rows written after the deletion stay through a merge with older ones")
        try engine.cleanTombstones()
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        XCTAssertEqual(try read(engine)["a"].map { Set($0.keys) }, rest)
        engine.close()
    }

    func testCleanTombstonesRewritesAndDropsSegments() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk)
        try write(engine, [("a", 1, 1), ("b", 1, 1)])
        try engine.flush()
        try write(engine, [("a", 2, 2)])
        try delete(engine, .metrics, "__name__", "a")
        XCTAssertEqual(try names(engine, .metrics, "__name__"), ["b"])
        XCTAssertEqual(engine.status().signals[0].segments, 2)
        try engine.cleanTombstones()
        XCTAssertEqual(engine.status().signals[0].segments, 1, "nothing was left of one")
        XCTAssertEqual(engine.status().signals[0].segmentRows, 1)
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        XCTAssertEqual(try read(engine), ["b": [1: 1]])
        engine.close()
    }

    func testRecordsAndSpansAreHidden() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk)
        _ = try engine.appendAndWait(
            logBatch([(["app": "a"], 1, "a1"), (["app": "a"], 9, "a9"), (["app": "b"], 2, "b2")], identified: true), origin: origin())
        _ = try engine.appendAndWait(
            spanBatch([(1, 1, "cart", "get", 5, 1), (1, 2, "shop", "get", 6, 1), (2, 3, "shop", "put", 7, 1)]), origin: origin())
        try delete(engine, .logs, "app", "a", 0...5)
        try delete(engine, .traces, "service", "cart")
        try delete(engine, .traces, "trace_id", TraceID(high: 0, low: 2).description)
        for _ in 0..<2 {
            XCTAssertEqual(try readLogs(engine).lines, ["b2", "a9"])
            XCTAssertEqual(try readSpans(engine).spans, [2])
            engine.close()
            engine = try open(root, disk)
        }
        // An equal record written again is a new one.
        _ = try engine.appendAndWait(logBatch([(["app": "a"], 1, "a1")], identified: true), origin: origin())
        XCTAssertEqual(try readLogs(engine).lines, ["a1", "b2", "a9"])
        try engine.cleanTombstones()
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        XCTAssertEqual(try readLogs(engine).lines, ["a1", "b2", "a9"])
        XCTAssertEqual(try readSpans(engine).spans, [2])
        XCTAssertEqual(engine.status().signals.map(\.segmentRows), [0, 2, 1])
        engine.close()
    }

    private func line(_ operation: LabelMatcher.Operation, _ pattern: String) throws -> LabelMatcher { try LabelMatcher(LabelMatcher.line, operation, pattern) }

    func testLinesAreHiddenByWhatTheySay() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk)
        let lines = ["user=17 ok", "user=18 ok", "user=17 failed\nuser=19", "nothing"]
        for app in ["a", "b"] {
            _ = try engine.appendAndWait(logBatch(lines.enumerated().map { (["app": app], Int64($0.offset), "\(app) \($0.element)") }), origin: origin())
        }
        let app = LabelMatcher(equal: "app", "a")
        let id = try TenantID(tenant)
        try engine.delete(id, .logs, [[app, try line(.matches, "user=1[79]"), try line(.matchesNot, "ok")]], range: 0...9)
        let first = ["a nothing", "a user=17 ok", "a user=18 ok"]
        func mine() throws -> [String] { try readLogs(engine, [app]).lines.sorted() }
        XCTAssertEqual(try mine(), first)
        try engine.delete(id, .logs, [[app, try line(.matches, #"user\=18"#)]], range: 0...1)
        try engine.delete(id, .logs, [[app, try line(.matches, "")]], range: 3...3)
        try engine.delete(id, .logs, [[app, try line(.matchesNot, "user")]], range: 0...2)
        XCTAssertEqual(try mine(), ["a user=17 ok"])
        XCTAssertEqual(try names(engine, .logs, "app"), ["a", "b"])
        engine.close()
        engine = try open(root, disk)
        XCTAssertEqual(try mine(), ["a user=17 ok"])
        // Two would not be completed by their selector alone.
        try engine.cleanTombstones()
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        XCTAssertEqual(engine.status().signals[1].segmentRows, 5)
        XCTAssertEqual(try mine(), ["a user=17 ok"])
        XCTAssertEqual(try readLogs(engine).lines.count, 5)
        engine.close()
    }

    func testAfterADayNoMergeIsWaitedFor() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk)
        for round in Int64(0)..<3 {
            try write(engine, [("a", round, 1), ("b", round, 1)])
            _ = try engine.appendAndWait(logBatch([(["app": "a"], round, "a"), (["app": "b"], round, "b")]), origin: origin())
            _ = try engine.appendAndWait(spanBatch([(1, UInt64(round), "a", "n", round, 1), (2, UInt64(round), "b", "n", round, 1)]), origin: origin())
            try engine.flush()
        }
        func rows() -> [Int64] { engine.status().signals.map(\.segmentRows) }
        try delete(engine, .metrics, "__name__", "a", 0...1)
        try delete(engine, .logs, "app", "a", 1...5)
        clock.advance(millis: 3_600_000)
        try delete(engine, .traces, "trace_id", TraceID(high: 0, low: 1).description, 0...0)
        try delete(engine, .traces, "trace_id", TraceID(high: 0, low: 7).description)
        try engine.merge()
        XCTAssertEqual(rows(), [6, 6, 6])
        XCTAssertEqual(engine.status().signals.map(\.pendingDeletions), [1, 1, 2])
        clock.advance(millis: 23 * 3_600_000)
        try engine.merge()
        XCTAssertEqual(rows(), [4, 4, 6])
        clock.advance(millis: 3_600_000)
        try engine.merge()
        XCTAssertEqual(rows(), [4, 4, 5])
        XCTAssertEqual(engine.status().signals.map(\.merges), [2, 2, 1])
        XCTAssertEqual(engine.status().signals.map(\.segments), [3, 3, 3])
        try engine.merge()
        try engine.cleanTombstones()
        XCTAssertEqual(engine.status().signals.map(\.merges), [2, 2, 1])
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        XCTAssertEqual(try read(engine).mapValues(\.count), ["a": 1, "b": 3])
        XCTAssertEqual(try readLogs(engine).lines.count, 4)
        XCTAssertEqual(try readSpans(engine).spans.count, 5)
        engine.close()
    }

    func testADeletionIsListedAndTakenBack() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk)
        let id = try TenantID(tenant)
        func refusal(_ name: String, force: Bool = false, _ signal: Signal = .logs, _ tenant: String = "default") throws -> ObsError.Code? {
            do { try engine.cancelDeletion(TenantID(tenant), signal, id: name, force: force) } catch { return (error as? ObsError)?.code }
            return nil
        }
        for round in Int64(0)..<2 {
            _ = try engine.appendAndWait(logBatch([(["app": "a"], round, "a\(round)"), (["app": "b"], round, "b\(round)")]), origin: origin())
            try engine.flush()
        }
        try engine.delete(id, .logs, [[LabelMatcher(equal: "app", "a"), try line(.matches, #"a\d"#)]], range: 0...5)
        try engine.delete(id, .traces, [[LabelMatcher(equal: "service", "s"), LabelMatcher(equal: "name", "n\"")]], range: 0...5)
        let request = try XCTUnwrap(engine.deletions(id, .logs).first)
        XCTAssertEqual(
            request,
            DeletionRequest(
                id: "0000000000000001", createdNanos: clock.nowNanos(), range: 0...5, queries: [#"{app="a"} |~ "a\\d""#], isCompleted: false))
        XCTAssertEqual(engine.deletions(id, .traces).map(\.queries), [[#"{resource.service.name="s" && name="n\""}"#]])
        XCTAssertEqual(engine.deletions(try TenantID("other"), .logs), [])
        XCTAssertEqual(try readLogs(engine).lines, ["b0", "b1"])
        for (name, signal, tenant) in [("7", Signal.logs, "default"), ("x", .logs, "default"), (request.id, .traces, "default"), (request.id, .logs, "other")] {
            XCTAssertEqual(try refusal(name, signal, tenant), .notFound)
        }
        XCTAssertNil(try refusal(request.id))
        XCTAssertEqual(try readLogs(engine).lines, ["a0", "b0", "a1", "b1"])
        XCTAssertEqual(engine.deletions(id, .logs), [])
        engine.close()
        engine = try open(root, disk)
        XCTAssertEqual(try readLogs(engine).lines, ["a0", "b0", "a1", "b1"])
        // After a start nobody knows whether a merge has left something out.
        let other = try XCTUnwrap(engine.deletions(id, .traces).first)
        XCTAssertEqual(try refusal(other.id, .traces), .badInput)
        XCTAssertNil(try refusal(other.id, force: true, .traces))
        // What is completed stays so.
        try engine.delete(id, .logs, [[LabelMatcher(equal: "app", "a")]], range: 0...5)
        try engine.cleanTombstones()
        let completed = try XCTUnwrap(engine.deletions(id, .logs).first)
        XCTAssertTrue(completed.isCompleted)
        XCTAssertEqual(try refusal(completed.id, force: true), .badInput)
        XCTAssertEqual(try readLogs(engine).lines, ["b0", "b1"])
        engine.close()
    }

    func testRefusals() throws {
        let engine = try open(makeRoot(), MemoryFileSystem())
        for selectors: [[LabelMatcher]] in [[], [[]]] {
            XCTAssertThrowsError(try engine.delete(TenantID(tenant), .metrics, selectors, range: 0...1)) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
        }
        for selector in [[try line(.matches, "x")], [LabelMatcher(equal: "app", "a"), LabelMatcher(equal: LabelMatcher.line, "x")]] {
            XCTAssertThrowsError(try engine.delete(TenantID(tenant), .logs, [selector], range: 0...1)) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
        }
        XCTAssertThrowsError(try delete(engine, .traces, "kind", "server")) { XCTAssertTrue("\($0)".contains("trace_id"), "\($0)") }
        engine.close()
    }

    func testADamagedTombstoneIsSetAside() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk)
        try write(engine, [("a", 1, 1)])
        try delete(engine, .metrics, "__name__", "a")
        engine.close()
        let path = try root + "/tombstones/" + XCTUnwrap(disk.list(root + "/tombstones").first)
        let content = try XCTUnwrap(disk.content(path))
        DiagnosticLog.threshold = .error
        for position in 0..<content.count {
            var damaged = content
            damaged[position] ^= 0x10
            disk.setContent(path, position % 2 == 0 ? damaged : Array(content.prefix(position)))
            engine = try open(root, disk)
            XCTAssertEqual(engine.status().quarantined, 1, "byte \(position)")
            XCTAssertEqual(try read(engine), ["a": [1: 1]])
            engine.close()
        }
        disk.setContent(path, content)
        engine = try open(root, disk)
        XCTAssertEqual(try read(engine), [:])
        engine.close()
    }
}
