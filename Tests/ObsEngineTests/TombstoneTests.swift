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

    func testRefusals() throws {
        let engine = try open(makeRoot(), MemoryFileSystem())
        for selectors: [[LabelMatcher]] in [[], [[]]] {
            XCTAssertThrowsError(try engine.delete(TenantID(tenant), .metrics, selectors, range: 0...1)) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
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
