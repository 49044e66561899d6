internal import ObsCore
internal import ObsDisk
import XCTest

@testable import ObsWAL

/// A folder of its own for a test, removed at the end.
func makeFolder(_ test: XCTestCase) -> String {
    let path = "/tmp/obs-test-\(UInt64.random(in: .min ... .max))"
    try? LocalFileSystem().makeDirectories(path)
    test.addTeardownBlock { try? FileManager.default.removeItem(atPath: path) }
    return path
}

final class WALTests: XCTestCase {
    private let files = LocalFileSystem()

    private func record(_ sequence: UInt64, _ size: Int = 20) -> WALRecord {
        let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(sequence)) }
        let payload: WALRecord.Payload =
            sequence % 2 == 0 ? .batch(body) : .request(format: 16, compression: .gzip, parameters: "a=\(sequence)", body: body)
        var record = WALRecord(sequence: sequence, tenant: .default, receivedAtNanos: Int64(sequence) * 1000, floor: -5, payload: payload)
        record.accepted = Int(sequence)
        record.rejected = 300
        record.configurationEpoch = 7
        return record
    }

    private func write(_ root: String, _ records: [WALRecord], rotateAt: UInt64? = nil) throws {
        let layout = DiskLayout(root: root)
        let writer = try WALWriter(files, layout, .logs, nextSequence: records.first?.sequence ?? 1)
        for record in records {
            if record.sequence == rotateAt { writer.rotate(at: record.sequence) }
            writer.append(record) { if case .failure(let error) = $0 { XCTFail("\(error)") } }
            writer.waitSettled(record.sequence)
        }
        writer.close()
    }

    private func readAll(_ file: WALFile, isLast: Bool = true) throws -> (records: [WALRecord], torn: Int, position: Int) {
        let reader = try WALReader(files, file, signal: .logs, isLast: isLast)
        var records: [WALRecord] = []
        while let record = try reader.next() { records.append(record) }
        return (records, reader.tornBytes, reader.position)
    }

    func testRecordsComeBack() throws {
        let root = makeFolder(self)
        let records = (1...40).map { record(UInt64($0), $0 * 100) } + [record(41, 3_000_000)]
        try write(root, records, rotateAt: 20)
        let list = try WALFile.list(files, DiskLayout(root: root), .logs)
        XCTAssertEqual(list.map(\.firstSequence), [1, 20])
        XCTAssertEqual(try list.flatMap { try readAll($0, isLast: false).records }, records)
    }

    /// Log files of every version ever released stay readable: those in `Fixtures/store/<version>`, which StoreFixtureTests writes. This version writes the same bytes.
    func testFixtures() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/store/v1"
        var forms: [Signal: [String]] = [:]
        for signal in Signal.allCases {
            for file in try WALFile.list(files, DiskLayout(root: root), signal) {
                let bytes = try files.readAll(file.path)
                var written = WALFormat.header(signal: signal, firstSequence: file.firstSequence)
                let reader = try WALReader(files, file, signal: signal, isLast: false)
                while let record = try reader.next() {
                    switch record.payload {
                    case .request(let format, let compression, let parameters, let body):
                        XCTAssertFalse(body.isEmpty)
                        forms[signal, default: []].append("\(format) \(compression)\(parameters.isEmpty ? "" : " with parameters")")
                    case .batch: forms[signal, default: []].append("batch")
                    }
                    XCTAssertEqual(record.configurationEpoch, 1)
                    XCTAssertEqual([record.accepted, record.duplicates, record.rejected], [record.accepted, 0, 0])
                    let content = bytes[(reader.recordPosition + WALFormat.frameBytes)..<reader.position]
                    let synced = Array(content).withUnsafeBytes { WALFormat.syncedOffset($0) }
                    WALFormat.append(record, syncedOffset: synced, seed: file.firstSequence, to: &written)
                }
                XCTAssertEqual(reader.position, bytes.count)
                XCTAssertEqual(bytes.count - written.count, WALFormat.frameBytes + WALFormat.contentBytesMin, "a mark at the end")
                XCTAssertEqual(Array(bytes.prefix(written.count)), written)
            }
        }
        XCTAssertEqual(
            forms,
            [
                .metrics: ["1 snappy", "3 deflate", "batch"], .logs: ["16 gzip", "20 none with parameters", "19 zstd", "batch", "batch"],
                .traces: ["33 none", "batch"],
            ])
    }

    func testTornTailAtEveryByte() throws {
        let root = makeFolder(self)
        try write(root, (1...4).map { record($0) })
        let file = try XCTUnwrap(WALFile.list(files, DiskLayout(root: root), .logs).first)
        let whole = try files.readAll(file.path)
        var ends: [Int] = []
        let reader = try WALReader(files, file, signal: .logs, isLast: true)
        ends.append(reader.position)
        while try reader.next() != nil { ends.append(reader.position) }
        XCTAssertEqual(ends.count, 5)
        for cut in 0..<whole.count {
            try files.writeAtomically(file.path, Array(whole[..<cut]))
            let result = try readAll(file)
            let expected = ends.dropFirst().filter { $0 <= cut }.count
            XCTAssertEqual(result.records.count, expected, "cut at \(cut)")
            XCTAssertEqual(result.torn > 0, !ends.contains(cut) && cut > 0, "cut at \(cut)")
            // Zeros behind the cut, as a file system may leave them.
            if cut >= WALFormat.headerBytes {
                try files.writeAtomically(file.path, Array(whole[..<cut]) + [UInt8](repeating: 0, count: 500))
                XCTAssertGreaterThanOrEqual(try readAll(file).records.count, expected)
            }
        }
    }

    func testDamageBeforeASyncIsCorruptionAndSkippable() throws {
        let root = makeFolder(self)
        try write(root, (1...4).map { record($0) })  // each record synced by itself
        let file = try XCTUnwrap(WALFile.list(files, DiskLayout(root: root), .logs).first)
        let whole = try files.readAll(file.path)
        let probe = try WALReader(files, file, signal: .logs, isLast: true)
        _ = try probe.next()
        let start = probe.position
        _ = try probe.next()
        for at in start..<probe.position {
            var damaged = whole
            damaged[at] ^= 0x10
            try files.writeAtomically(file.path, damaged)
            let reader = try WALReader(files, file, signal: .logs, isLast: true)
            XCTAssertEqual(try reader.next()?.sequence, 1)
            XCTAssertThrowsError(try reader.next()) { error in
                XCTAssertEqual((error as? ObsError)?.code, .corrupt)
                XCTAssertEqual((error as? ObsError)?.place, "\(file.path):\(start)")
            }
            XCTAssertTrue(try reader.skipDamage())
            XCTAssertEqual(try reader.next()?.sequence, 3)
        }
        var damaged = whole
        damaged[3] ^= 1
        try files.writeAtomically(file.path, damaged)
        XCTAssertThrowsError(try readAll(file, isLast: false))
    }

    /// Every bit of a log of three records, written, synced, and stopped. What is not there was said to be damaged, and what is there is right.
    func testEveryBit() throws {
        let disk = MemoryFileSystem()
        let layout = DiskLayout(root: "/r")
        let writer = try WALWriter(disk, layout, .logs, nextSequence: 1)
        let records = (1...3).map { record($0) }
        for record in records {
            writer.append(record) { _ in }
            writer.waitSettled(record.sequence)
        }
        writer.close()
        let file = WALFile(firstSequence: 1, path: layout.wal(.logs, sequence: 1))
        let whole = try disk.readAll(file.path)
        let mark = whole.count - WALFormat.frameBytes - WALFormat.contentBytesMin
        for bit in 0..<whole.count * 8 {
            var damaged = whole
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            disk.setContent(file.path, damaged)
            for isLast in [true, false] {
                let when = "bit \(bit % 8) of byte \(bit / 8), \(isLast)"
                let reader = try WALReader(disk, file, signal: .logs, isLast: isLast)
                var found: [WALRecord] = []
                var places: [String] = []
                while true {
                    do throws(ObsError) {
                        guard let record = try reader.next() else { break }
                        found.append(record)
                    } catch {
                        XCTAssertEqual(error.code, .corrupt, when)
                        places.append(error.place ?? "")
                        guard try reader.skipDamage() else { break }
                    }
                }
                let isMark = bit / 8 >= mark
                XCTAssertEqual(found, bit / 8 < WALFormat.headerBytes || isMark ? records : found.filter(records.contains), when)
                XCTAssertGreaterThanOrEqual(found.count, 2, when)
                XCTAssertEqual(places.count, isMark && isLast ? 0 : 1, when)
                XCTAssertTrue(places.allSatisfy { $0.hasPrefix("\(file.path):") }, when)
                XCTAssertEqual(reader.tornBytes > 0, isMark && isLast, when)
            }
        }
    }

    func testAQuietLogIsMarked() throws {
        let disk = MemoryFileSystem()
        let layout = DiskLayout(root: "/r")
        for durability in [WALWriter.Durability.commit, .interval(millis: 5)] {
            let writer = try WALWriter(disk, layout, .logs, nextSequence: 1, durability: durability, markAfterMillis: 5)
            writer.append(record(1)) { _ in }
            writer.waitSettled(1)
            let path = layout.wal(.logs, sequence: 1)
            var written = WALFormat.header(signal: .logs, firstSequence: 1)
            WALFormat.append(record(1), syncedOffset: 0, seed: 1, to: &written)
            for _ in 0..<10_000 where try disk.size(path) <= written.count { usleep(1000) }
            XCTAssertEqual(try disk.size(path), written.count + WALFormat.frameBytes + WALFormat.contentBytesMin)
            let size = try disk.size(path)
            usleep(50_000)
            XCTAssertEqual(try disk.size(path), size, "once")
            XCTAssertEqual(writer.bytes, size)
            writer.append(record(2)) { _ in }
            writer.waitSettled(2)
            writer.close()
            let reader = try WALReader(disk, WALFile(firstSequence: 1, path: path), signal: .logs, isLast: true)
            XCTAssertEqual([try reader.next(), try reader.next(), try reader.next()], [record(1), record(2), nil])
            XCTAssertEqual(reader.tornBytes, 0)
        }
    }

    func testDamageInTheLastGroupIsATornTail() throws {
        let root = makeFolder(self)
        // One group: no record knows of a sync behind the header.
        var bytes = WALFormat.header(signal: .logs, firstSequence: 1)
        for sequence in 1...3 { WALFormat.append(record(UInt64(sequence)), syncedOffset: WALFormat.headerBytes, seed: 1, to: &bytes) }
        bytes[WALFormat.headerBytes + 20] ^= 1
        let layout = DiskLayout(root: root)
        try files.makeDirectories(layout.walFolder(.logs))
        try files.writeAtomically(layout.wal(.logs, sequence: 1), bytes)
        let result = try readAll(WALFile(firstSequence: 1, path: layout.wal(.logs, sequence: 1)))
        XCTAssertEqual(result.records.count, 0)
        XCTAssertEqual(result.position, WALFormat.headerBytes)
        XCTAssertThrowsError(try readAll(WALFile(firstSequence: 1, path: layout.wal(.logs, sequence: 1)), isLast: false))
    }

    func testMutationsNeverCrash() throws {
        let root = makeFolder(self)
        try write(root, (1...6).map { record($0) })
        let file = try XCTUnwrap(WALFile.list(files, DiskLayout(root: root), .logs).first)
        let whole = try files.readAll(file.path)
        var random = SplitMix(state: 42)
        for _ in 0..<300 {
            var damaged = whole
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                damaged[Int.random(in: 0..<damaged.count, using: &random)] = .random(in: 0...255, using: &random)
            }
            damaged = Array(damaged.prefix(Int.random(in: 0...damaged.count, using: &random)))
            try files.writeAtomically(file.path, damaged)
            guard let reader = try? WALReader(files, file, signal: .logs, isLast: Bool.random(using: &random)) else { continue }
            while true {
                do { guard try reader.next() != nil else { break } } catch { guard try reader.skipDamage() else { break } }
            }
        }
    }

    func testFilesRotateBySizeAndAreRemovedWhole() throws {
        let root = makeFolder(self)
        let layout = DiskLayout(root: root)
        let writer = try WALWriter(files, layout, .logs, nextSequence: 1, fileBytesMax: 1000)
        for sequence in 1...20 as ClosedRange<UInt64> {
            writer.append(record(sequence, 400)) { _ in }
            writer.waitSettled(sequence)
        }
        let before = try WALFile.list(files, layout, .logs)
        XCTAssertGreaterThan(before.count, 5)
        XCTAssertEqual(writer.bytes, try before.reduce(0) { try $0 + files.size($1.path) })
        try writer.remove(through: 10)
        let left = try WALFile.list(files, layout, .logs)
        XCTAssertEqual(left, before.filter { file in before.first { $0.firstSequence > file.firstSequence }.map { $0.firstSequence > 11 } ?? true })
        XCTAssertLessThanOrEqual(try XCTUnwrap(left.first).firstSequence, 11)
        writer.close()
        writer.append(record(21)) { result in if case .success = result { XCTFail("appended after close") } }
    }

    func testGroupsCompleteInOrder() throws {
        let root = makeFolder(self)
        for durability in [WALWriter.Durability.commit, .interval(millis: 5), .os] {
            let writer = try WALWriter(files, DiskLayout(root: root), .logs, nextSequence: 1, durability: durability)
            let done = Monitor<[UInt64]>([])
            for sequence in 1...500 as ClosedRange<UInt64> { writer.append(record(sequence)) { _ in done.update { $0.append(sequence) } } }
            writer.waitSettled(500)
            XCTAssertEqual(done.read { $0 }, Array(1...500))
            writer.close()
            XCTAssertEqual(try readAll(WALFile(firstSequence: 1, path: DiskLayout(root: root).wal(.logs, sequence: 1))).records.count, 500)
        }
    }
}

/// Seeded random numbers.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
