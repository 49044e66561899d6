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

    /// A store as a crash leaves it, with its log, and the path of the log of metrics.
    private func crashed(_ body: [UInt8]) throws -> (root: String, disk: FaultyFileSystem, log: String) {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "a")]), timeMillis: 1, value: 1)
        _ = try engine.appendAndWait(batch, origin: origin("default", RawRequest(format: .remoteWrite1, compression: .none, body: body)))
        var random = SplitMix(state: 1)
        let other = makeRoot()
        let left = disk.afterPowerCut(from: root, to: other, using: &random)
        engine.close()
        _ = try Fsck.rebuildIndex(other, fileSystem: left)
        return (other, left, try XCTUnwrap(left.paths.first { $0.hasSuffix(".wal") && $0.contains("/metrics/") }))
    }

    /// Checksums say that a body is as it came; whether rows come of it only its decoder can say.
    func testLogRecordsAreDecoded() throws {
        let (root, disk, _) = try crashed(Array("a 1 1".utf8))
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk, decoder: TextDecoder()).findings, [])
        let (badRoot, bad, log) = try crashed(Array("no sample".utf8))
        XCTAssertEqual(try Fsck.check(badRoot, fileSystem: bad).findings, [], "checksums only")
        let report = try Fsck.check(badRoot, fileSystem: bad, decoder: TextDecoder())
        XCTAssertEqual(report.findings.map(\.kind), [.damage])
        XCTAssertEqual(report.findings[0].place, log + ":32")
        XCTAssertTrue(report.findings[0].what.contains("log record 1 cannot be decoded"), report.findings[0].what)
        XCTAssertEqual(report.logRecords, 1)
    }

    func testDamagedTombstonesAndEpochs() throws {
        let root = makeRoot()
        let disk = try store(root)
        try disk.makeDirectories(root + "/tombstones")
        try disk.writeAtomically(root + "/tombstones/0000000000000001.del", Array("OBSDEL01 and no frame".utf8))
        disk.damage(root + "/wal/epochs") { $0[20] ^= 1 }
        let report = try Fsck.check(root, fileSystem: disk)
        XCTAssertEqual(report.findings.map(\.kind), [.damage, .damage])
        XCTAssertEqual(report.findings.map(\.place), [root + "/wal/epochs", root + "/tombstones/0000000000000001.del"])
    }

    /// The device refuses to read: said as that, with the place, and nothing is repaired.
    func testInputOutputErrorsAreNoDamage() throws {
        let root = makeRoot()
        let disk = try store(root)
        let files = disk.paths
        disk.watch { $0.operation == .read && !$0.path.hasSuffix("/VERSION") ? .inputOutput : nil }
        for repair in [false, true] {
            let report = try Fsck.check(root, fileSystem: disk, decoder: TextDecoder(), repair: repair)
            XCTAssertEqual(report.damage, 0, "\(report.findings)")
            let unread = report.findings.filter { $0.kind == .unread }
            XCTAssertEqual(unread.count, 6 + 3 + 1, "segments, logs, epochs: \(unread)")
            XCTAssertEqual(report.unknown, unread.count)
            for finding in unread {
                XCTAssertTrue(finding.place.hasSuffix(":0") && finding.what.contains("input/output error"), "\(finding)")
                XCTAssertTrue(finding.remedy.contains("device"), finding.remedy)
            }
        }
        XCTAssertEqual(FsckFinding.Kind.unread.rawValue, "I/O error")
        disk.watch(nil)
        XCTAssertEqual(disk.paths, files)
        _ = try Fsck.rebuildIndex(root, fileSystem: disk)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
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
