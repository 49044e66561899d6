internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// What `obsd fsck` finds, says and mends.
final class FsckTests: EngineTestCase {
    /// A closed store with a segment of each signal for two tenants.
    private func store(_ root: String) throws -> FaultyFileSystem {
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        for tenant in ["x", "y"] {
            try write(engine, (0..<300).map { ("a\($0 % 7)", Int64($0) * 1000, Double($0)) }, tenant: tenant)
            _ = try engine.appendAndWait(logBatch((0..<50).map { (["app": "x\($0 % 3)"], Int64($0), "line \($0)") }), origin: origin(tenant))
            _ = try engine.appendAndWait(spanBatch((0..<20).map { (UInt64($0 % 4), UInt64($0), "s", "op", Int64($0), 5) }), origin: origin(tenant))
        }
        engine.close()
        return disk
    }

    private func segment(_ disk: FaultyFileSystem, _ part: String) throws -> String {
        try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains(part) && !$0.contains("quarantine") })
    }

    func testCleanStore() throws {
        let root = makeRoot()
        let disk = try store(root)
        let report = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(report.findings, [])
        XCTAssertEqual(report.segments, 6)
        XCTAssertEqual(report.segmentRows, 2 * 370)
        XCTAssertEqual(report.logFiles, 3)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk, repair: true).findings, [])
        let listed = try listSegments(root, fileSystem: disk)
        XCTAssertEqual(listed.infos.map(\.tenant.name), ["x", "x", "x", "y", "y", "y"])
        XCTAssertEqual(listed.errors, [])
        for (part, rows) in [("metrics", 300), ("logs", 50), ("traces", 20)] {
            XCTAssertEqual(try firstRows(segment(disk, part), count: 1000, fileSystem: disk).count, rows)
            XCTAssertEqual(try firstRows(segment(disk, part), count: 3, fileSystem: disk).count, 3)
        }
    }

    func testStoreThatCannotBeChecked() throws {
        let root = makeRoot()
        XCTAssertThrowsError(try Fsck.check(root, fileSystem: FaultyFileSystem())) { XCTAssertEqual(($0 as? ObsError)?.code, .notFound) }
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        for check in [{ _ = try Fsck.check(root, fileSystem: disk) }, { _ = try Fsck.rebuildIndex(root, fileSystem: disk) }] {
            XCTAssertThrowsError(try check()) {
                XCTAssertEqual(($0 as? ObsError)?.code, .unavailable)
                XCTAssertTrue("\($0)".contains("running obsd"), "\($0)")
            }
        }
        engine.close()
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
    }

    func testDamagedSegmentsAreNamedAndRepaired() throws {
        let root = makeRoot()
        let disk = try store(root)
        // A frame, a footer, a piece cut off.
        let metrics = try segment(disk, "/x/metrics")
        let logs = try segment(disk, "/x/logs")
        let traces = try segment(disk, "/x/traces")
        disk.damage(metrics) { $0[30] ^= 4 }
        disk.damage(logs) { $0[$0.count - 40] ^= 1 }
        disk.damage(traces) { $0.removeLast(100) }
        let files = disk.paths
        let report = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(report.damage, 3, "\(report.findings)")
        for path in [metrics, logs, traces] {
            let place = try XCTUnwrap(report.findings.first { $0.place.hasPrefix(path + ":") }?.place)
            XCTAssertNotNil(Int(place.dropFirst(path.count + 1)), place)
        }
        XCTAssertEqual(disk.paths, files, "a check changes nothing")
        let repaired = try Fsck.check(root, fileSystem: disk, repair: true)
        XCTAssertGreaterThanOrEqual(repaired.damage, 3)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
        XCTAssertTrue(disk.exists(DiskLayout(root: root).quarantined(logs)))
        let engine = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(try readLogs(engine, tenant: "x").lines, [])
        XCTAssertEqual(try readLogs(engine, tenant: "y").lines.count, 50)
        XCTAssertEqual(try readSpans(engine, tenant: "y").spans.count, 20)
        XCTAssertEqual(try read(engine, tenant: "y").count, 7)
        engine.close()
    }

    func testDamagedLog() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        for time in 0..<10 { try write(engine, [("a", Int64(time), 1)]) }
        let logged = disk.paths.filter { $0.hasSuffix(".wal") }.map { ($0, (try? disk.readAll($0)) ?? []) }
        engine.close()
        for path in disk.paths where path.hasSuffix(".seg") || path.hasSuffix(".wal") { disk.erase(path) }
        for (path, bytes) in logged { try disk.writeAtomically(path, bytes) }
        _ = try Fsck.rebuildIndex(root, fileSystem: disk)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).logRecords, 10)
        let victim = try XCTUnwrap(logged.first { $0.0.contains("/metrics/") }?.0)
        disk.damage(victim) { $0[200] ^= 1 }
        let damaged = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(damaged.logRecords, 9)
        XCTAssertEqual(damaged.damage, 1)
        XCTAssertTrue(damaged.findings[0].place.hasPrefix(victim + ":"), damaged.findings[0].place)
        // A torn tail is no damage.
        disk.damage(victim) {
            $0[200] ^= 1
            $0.removeLast(5)
        }
        let torn = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(torn.findings.map(\.kind), [.note])
        XCTAssertEqual(torn.logRecords, 9)
    }

    func testCatalogueAgainstTheFolders() throws {
        let root = makeRoot()
        let disk = try store(root)
        let catalog = root + "/index/catalog.sqlite"
        try FileManager.default.removeItem(atPath: catalog)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.note])
        XCTAssertFalse(FileManager.default.fileExists(atPath: catalog), "a check makes nothing")
        try Data("garbage that is no database but long enough to have a header".utf8).write(to: URL(fileURLWithPath: catalog))
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.damage])
        XCTAssertEqual(try Fsck.rebuildIndex(root, fileSystem: disk).segments, 6)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
        // A segment that is gone.
        let gone = try segment(disk, "/y/logs")
        let bytes = try disk.readAll(gone)
        disk.erase(gone)
        let missing = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(missing.findings.map(\.place), [gone])
        XCTAssertEqual(missing.damage, 1)
        // A segment nobody knows of.
        _ = try Fsck.rebuildIndex(root, fileSystem: disk)
        try disk.writeAtomically(gone, bytes)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.note])
    }
}
