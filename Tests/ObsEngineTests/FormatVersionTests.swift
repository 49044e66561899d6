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
        try assertRefused(root, disk, [root + "/VERSION:0", "store format version 2", "version 1", "newer obsd"])
    }

    func testNewerSegment() throws {
        for signal in ["metrics", "logs", "traces"] {
            let root = makeRoot()
            let (disk, _) = try store(root)
            let path = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains("/\(signal)/") })
            disk.damage(path) {
                $0[6] = 4
                $0[$0.count - 2] = 4
            }
            try assertRefused(root, disk, [path, "version 4", "version 3", "newer obsd"])
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

    /// Met only by a query: the start trusts the catalogue of a big store, or the file was copied in while obsd ran.
    func testNewerSegmentMetByAQuery() throws {
        for signal in ["metrics", "logs", "traces"] {
            let root = makeRoot()
            let (disk, _) = try store(root)
            let engine = try open(root, disk) { $0.maintainsItself = false }
            let path = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains("/\(signal)/") })
            disk.damage(path) {
                $0[6] = 4
                $0[$0.count - 2] = 4
            }
            let bytes = try disk.readAll(path)
            func ask(_ asked: String) throws -> Int {
                switch asked {
                case "metrics": try read(engine).count
                case "logs": try readLogs(engine).lines.count
                default: try readSpans(engine).spans.count
                }
            }
            let counts = ["metrics": 7, "logs": 50, "traces": 20]
            for _ in 0..<2 {
                XCTAssertThrowsError(try ask(signal)) {
                    XCTAssertEqual(($0 as? ObsError)?.code, .unprocessable)
                    for word in [path, "version 4", "version 3", "start the newer obsd"] { XCTAssertTrue("\($0)".contains(word), "\($0)") }
                }
                for (other, count) in counts where other != signal { XCTAssertEqual(try ask(other), count) }
                engine.salvageDamaged()
                try? engine.merge()
            }
            try write(engine, [("later", 1, 1)])
            XCTAssertEqual(engine.status().quarantined, 0)
            engine.close()
            XCTAssertEqual(try disk.readAll(path), bytes)
        }
    }

    /// Changes the content of the first record and makes its checksum right: what a newer program would have written.
    private func reseal(_ bytes: inout [UInt8], _ change: (inout [UInt8]) -> Void) {
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        let length = Int(number(32..<36))
        var content = Array(bytes[44..<44 + length])
        change(&content)
        bytes.replaceSubrange(44..<44 + length, with: content)
        let checksum = content.withUnsafeBytes { hash64($0, seed: number(8..<16)) }
        withUnsafeBytes(of: checksum.littleEndian) { bytes.replaceSubrange(36..<44, with: $0) }
    }

    /// A record that only a newer program can read: refused at the start or, where its content comes late, by a replay that does not end. Never skipped or cut.
    func testNewerRecord() throws {
        // Offsets within the content: type, kind and version of a batch behind an empty tally and the tenant's name, or format and compression of a request.
        let changes: [(what: String, words: String, isMetAtOnce: Bool, change: (inout [UInt8]) -> Void)] = [
            ("type", "log record of type 9", true, { $0[0] = 9 }), ("batch", "logged batch version 2", false, { $0[49] = 2 }),
            (
                "format", "wire format 99", false,
                {
                    $0.replaceSubrange(48..<51, with: [99, 0, 0]); $0[0] = 1
                }
            ),
        ]
        for (what, words, isMetAtOnce, change) in changes {
            let root = makeRoot()
            let (disk, logs) = try store(root)
            for path in disk.paths where path.hasSuffix(".wal") || path.hasSuffix(".seg") && path.contains("/logs/") { disk.erase(path) }
            let log = try XCTUnwrap(logs.first { $0.path.contains("/logs/") })
            try disk.writeAtomically(log.path, log.bytes)
            disk.damage(log.path) { reseal(&$0, change) }
            let bytes = try disk.readAll(log.path)
            XCTAssertThrowsError(try open(root, disk) { $0.maintainsItself = false }, what) {
                XCTAssertEqual(($0 as? ObsError)?.code, .unprocessable, "\($0)")
                for word in [log.path + ":32", words, "newer obsd"] { XCTAssertTrue("\($0)".contains(word), "\($0)") }
            }
            let report = try Fsck.check(root, fileSystem: disk, decoder: TextDecoder())
            XCTAssertTrue(report.findings.contains { $0.kind == .newer && $0.place == log.path + ":32" }, "\(report.findings)")
            XCTAssertEqual(report.damage, 0, "\(report.findings)")
            if !isMetAtOnce {
                let configuration = EngineConfiguration(dataDirectory: root, retentionMillis: nil)
                let engine = try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: TextDecoder(), waitForReplay: false)
                var refusal = ""
                repeat {
                    usleep(1000)
                    XCTAssertThrowsError(try readLogs(engine)) { refusal = "\($0)" }
                } while !refusal.contains("cannot start")
                XCTAssertTrue(refusal.contains(words) && refusal.contains("newer obsd"), refusal)
                XCTAssertEqual(try read(engine).count, 7, "the other signals are served")
                _ = try engine.appendAndWait(logBatch([(["app": "x"], 1, "later")]), origin: origin())
                engine.close()
            }
            XCTAssertEqual(try disk.readAll(log.path), bytes, what)
            XCTAssertFalse(disk.paths.contains { $0.contains("quarantine") }, what)
        }
    }

    func testNewerTombstone() throws {
        let root = makeRoot()
        let (disk, _) = try store(root)
        var magic = Array("OBSDEL02".utf8)
        let hash = magic.withUnsafeBytes { hash64($0) }
        withUnsafeBytes(of: hash.littleEndian) { magic += $0 }
        let path = root + "/tombstones/0000000000000001.del"
        try disk.makeDirectories(root + "/tombstones")
        try disk.writeAtomically(path, magic + Array("whatever comes".utf8))
        try assertRefused(root, disk, [path, "tombstone format version 2", "version 1", "newer obsd"])
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.newer])
        // Only the number changed: damage.
        disk.damage(path) { $0[9] ^= 1 }
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.damage])
        let engine = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(engine.status().quarantined, 1)
        engine.close()
    }

    func testNewerEpochs() throws {
        let root = makeRoot()
        let (disk, _) = try store(root)
        let path = root + "/wal/epochs"
        func content(_ lines: String, _ checksum: String? = nil) -> [UInt8] {
            Array("\(lines)checksum \(checksum ?? hexString(Array(lines.utf8).withUnsafeBytes { hash64($0) }))\n".utf8)
        }
        disk.damage(path) { $0 = content("obs epochs 2\nwhatever comes\n") }
        try assertRefused(root, disk, [path, "epochs format version 2", "version 1", "newer obsd"])
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.newer])
        disk.damage(path) { $0 = content("obs epochs 2\nwhatever comes\n", "0000000000000000") }
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings.map(\.kind), [.damage])
        let engine = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(engine.status().quarantined, 1)
        engine.close()
    }

    /// A bit that fell over in the version is damage, not the future.
    func testDamagedVersionIsDamage() throws {
        let root = makeRoot()
        let (disk, logs) = try store(root)
        let segment = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") && $0.contains("/metrics/") })
        disk.damage(segment) { $0[6] = 4 }
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
