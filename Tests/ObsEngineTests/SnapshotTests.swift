internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

final class SnapshotTests: EngineTestCase {
    func testASnapshotOpensAsAStoreWithTheSameAnswers() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        for round in 0..<5 {
            try write(engine, [("a", Int64(round), 1), ("b", Int64(round), 2)])
            _ = try engine.appendAndWait(logBatch([(["app": "x"], Int64(round), "line \(round)")]), origin: origin("other"))
            if round < 4 { try engine.flush() }
        }
        _ = try engine.appendAndWait(spanBatch([(1, 1, "cart", "get", 5, 1)]), origin: origin())
        try engine.delete(TenantID("default"), .metrics, [[LabelMatcher(equal: "__name__", "a")]], range: 2...9)
        let metrics = try read(engine)
        let lines = try readLogs(engine, tenant: "other").lines
        let name = try engine.snapshot()
        // The store goes on, and takes away what the snapshot links to.
        try write(engine, [("late", 9, 9)])
        try engine.merge()
        try engine.cleanTombstones()
        engine.close()
        XCTAssertEqual(metrics, ["a": [0: 1, 1: 1], "b": [0: 2, 1: 2, 2: 2, 3: 2, 4: 2]])

        let other = makeRoot()
        var random = SplitMix(state: 1)
        let copy = try open(other, disk.afterPowerCut(from: "\(root)/snapshots/\(name)", to: other, using: &random)) { $0.maintainsItself = false }
        XCTAssertEqual(try read(copy), metrics)
        XCTAssertEqual(try readLogs(copy, tenant: "other").lines, lines)
        XCTAssertEqual(try readSpans(copy).spans, [1])
        // A restored store has no log to count on from: new rows must not fall under old deletions.
        try write(copy, [("a", 5, 5)])
        try copy.flush()
        XCTAssertEqual(try read(copy)["a"], [0: 1, 1: 1, 5: 5])
        copy.close()
    }

    func testInterruptedSnapshotsGoAtTheNextStart() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let faulty = FaultyFileSystem(disk)
        var engine = try open(root, faulty) { $0.maintainsItself = false }
        try write(engine, [("a", 1, 1)])
        _ = try engine.appendAndWait(logBatch([(["app": "x"], 1, "line")]), origin: origin())
        let whole = try engine.snapshot()
        // VERSION comes last.
        faulty.watch { $0.operation == .hardLink && $0.path.hasSuffix("VERSION") ? .inputOutput : nil }
        XCTAssertThrowsError(try engine.snapshot())
        faulty.watch(nil)
        try disk.makeDirectories("\(root)/snapshots/of-somebody")
        XCTAssertEqual(try disk.list("\(root)/snapshots").count, 3)
        engine.close()
        engine = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(try disk.list("\(root)/snapshots"), [whole, "of-somebody"])
        XCTAssertEqual(try read(engine), ["a": [1: 1]])
        XCTAssertEqual(try readLogs(engine).lines, ["line"])
        engine.close()
    }
}
