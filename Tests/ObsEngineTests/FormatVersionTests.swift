internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsHash
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// FORMAT.md, "Versions": files of a newer format are refused with both versions named, and are left exactly as they are.
final class FormatVersionTests: EngineTestCase {
    private func store(_ root: String) throws -> (disk: FaultyFileSystem, logs: [(path: String, bytes: [UInt8])]) {
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        try write(engine, (0..<300).map { ("a\($0 % 7)", Int64($0) * 1000, Double($0)) })
        _ = try engine.appendAndWait(logBatch((0..<50).map { (["app": "x"], Int64($0), "line \($0)") }), origin: origin())
        _ = try engine.appendAndWait(spanBatch((0..<20).map { (UInt64($0 % 4), UInt64($0), "s", "op", Int64($0), 5) }), origin: origin())
        let logs = disk.paths.filter { $0.hasSuffix(".wal") }.map { ($0, (try? disk.readAll($0)) ?? []) }
        engine.close()
        return (disk, logs)
    }

    /// Opening and checking are refused and change no file.
    private func assertRefused(_ root: String, _ disk: FaultyFileSystem, _ words: [String], line: UInt = #line) throws {
        func content() -> [String: [UInt8]] { Dictionary(uniqueKeysWithValues: disk.paths.map { ($0, disk.disk.content($0) ?? []) }) }
        let before = content()
        XCTAssertThrowsError(try open(root, disk), line: line) {
            XCTAssertEqual(($0 as? ObsError)?.code, .unprocessable, "\($0)", line: line)
            for word in words { XCTAssertTrue("\($0)".contains(word), "\($0)", line: line) }
        }
        _ = try? Fsck.check(root, fileSystem: disk, repair: true)
        XCTAssertEqual(content(), before, line: line)
    }

    func testNewerStore() throws {
        let root = makeRoot()
        let (disk, _) = try store(root)
        disk.damage(root + "/VERSION") { $0 = Array("obs store 2\nsecret 0123456789abcdef\n".utf8) }
        try assertRefused(root, disk, ["store format 2", "knows 1"])
    }

    func testNewerSegment() throws {
        for signal in ["metrics", "logs", "traces"] {
            let root = makeRoot()
            let (disk, _) = try store(root)
            let path = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains("/\(signal)/") })
            disk.damage(path) {
                $0[6] = 2
                $0[$0.count - 2] = 2
            }
            try assertRefused(root, disk, [path, "version 2", "version 1", "newer obsd"])
        }
    }

    func testNewerLog() throws {
        let root = makeRoot()
        let (disk, logs) = try store(root)
        for path in disk.paths where path.hasSuffix(".seg") && path.contains("/logs/") { disk.erase(path) }
        for (path, bytes) in logs { try disk.writeAtomically(path, bytes) }
        let path = try XCTUnwrap(logs.first { $0.path.contains("/logs/") }?.path)
        disk.damage(path) { bytes in
            bytes.replaceSubrange(6..<8, with: "02".utf8)
            let checksum = bytes.prefix(24).withUnsafeBytes { hash64($0) }
            withUnsafeBytes(of: checksum.littleEndian) { bytes.replaceSubrange(24..<32, with: $0) }
        }
        let before = try disk.readAll(path)
        XCTAssertThrowsError(try open(root, disk) { $0.maintainsItself = false }) {
            XCTAssertEqual(($0 as? ObsError)?.code, .unprocessable)
            for word in [path, "version 2", "version 1", "newer obsd"] { XCTAssertTrue("\($0)".contains(word), "\($0)") }
        }
        let report = try Fsck.check(root, fileSystem: disk, repair: true)
        XCTAssertTrue(report.findings.contains { $0.place == path + ":0" && $0.remedy.contains("newer obsd") }, "\(report.findings)")
        XCTAssertEqual(try disk.readAll(path), before)
        XCTAssertFalse(disk.paths.contains { $0.contains("quarantine") })
    }

    /// A bit that fell over in the version is damage, not the future.
    func testDamagedVersionIsDamage() throws {
        let root = makeRoot()
        let (disk, logs) = try store(root)
        let segment = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains("/metrics/") })
        disk.damage(segment) { $0[6] = 2 }
        let again = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(again.status().quarantined, 1)
        again.close()
        let log = try XCTUnwrap(logs.first { $0.path.contains("/logs/") })
        try disk.writeAtomically(log.path, log.bytes)
        disk.damage(log.path) { $0[7] = UInt8(ascii: "2") }
        let third = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(try readLogs(third).lines.count, 50, "its records are in a segment")
        third.close()
    }
}
