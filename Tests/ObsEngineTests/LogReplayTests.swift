internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// A decoder that lets so many requests through and holds the next.
private final class HeldDecoder: RequestDecoder {
    private let permits: Monitor<Int>
    init(permits: Int) { self.permits = Monitor(permits) }
    func release() { permits.update { $0 = .max } }

    func decode(_ request: RawRequest, receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> DecodedBatch {
        _ = permits.wait { permits -> Void? in
            guard permits > 0 else { return nil }
            permits -= 1
            return ()
        }
        return try TextDecoder().decode(request, receivedAtNanos: receivedAtNanos, limits: limits)
    }
}

/// The log read back: bounded, beside new writes, answered for only when whole.
final class LogReplayTests: EngineTestCase {
    private func segments(_ disk: FaultyFileSystem) -> [String] { disk.paths.filter { $0.hasSuffix(".seg") } }
    private func logFiles(_ disk: FaultyFileSystem, _ signal: Signal = .metrics) -> [String] {
        disk.paths.filter { $0.contains("/wal/\(signal.rawValue)/") }.sorted()
    }

    /// Requests `a <time> <time>`, one record each, and as many log lines; then the power goes.
    private func crashed(_ records: ClosedRange<Int>, _ change: (inout EngineConfiguration) -> Void = { _ in }) throws -> (root: String, disk: FaultyFileSystem)
    {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk, change: change)
        for number in records {
            let body = [UInt8]("a \(number) \(number)".utf8)
            var batch = MetricBatch()
            batch.append(Labels([("__name__", "a")]), timeMillis: Int64(number), value: Double(number))
            _ = try engine.appendAndWait(batch, origin: origin("default", RawRequest(format: .remoteWrite1, compression: .none, body: body)))
            _ = try engine.appendAndWait(logBatch([(["app": "x"], Int64(number), "line \(number)")]), origin: origin())
        }
        var random = SplitMix(state: 1)
        let other = makeRoot()
        let left = disk.afterPowerCut(from: root, to: other, using: &random)
        engine.close()
        return (other, left)
    }

    private func open(_ root: String, _ disk: FaultyFileSystem, change: (inout EngineConfiguration) -> Void = { _ in }) throws -> StorageEngine {
        try open(root, disk, retentionMillis: nil, change)
    }

    private func openAtOnce(_ root: String, _ disk: FaultyFileSystem, _ decoder: HeldDecoder) throws -> StorageEngine {
        DiagnosticLog.threshold = .error
        return try StorageEngine.open(
            EngineConfiguration(dataDirectory: root, retentionMillis: nil), fileSystem: disk, clock: clock, decoder: decoder, waitForReplay: false)
    }

    private func samples(_ numbers: ClosedRange<Int>) -> [Int64: Double] { Dictionary(uniqueKeysWithValues: numbers.map { (Int64($0), Double($0)) }) }

    func testALongLogIsFlushedOnTheWay() throws {
        let (root, disk) = try crashed(1...100) { $0.walFileBytesMax = 1000 }
        let files = logFiles(disk)
        XCTAssertGreaterThan(files.count, 5)
        let engine = try open(root, disk) { $0.generationWALBytesMax = 2000 }
        XCTAssertEqual(try read(engine), ["a": samples(1...100)])
        XCTAssertEqual(try readLogs(engine).lines, (1...100).map { "line \($0)" })
        let status = engine.status().signals[0]
        XCTAssertGreaterThan(status.segments, 2)
        XCTAssertGreaterThan(status.headRows, 0, "the last generation goes on in memory")
        XCTAssertLessThan(status.headRows, 50, "no more than a generation and a file")
        XCTAssertLessThan(logFiles(disk).count, files.count, "the log of what is flushed goes")
        // Once more, from between two of those flushes.
        var random = SplitMix(state: 2)
        let other = makeRoot()
        let again = try open(other, disk.afterPowerCut(from: root, to: other, using: &random)) { $0.generationWALBytesMax = 2000 }
        XCTAssertEqual(try read(again), ["a": samples(1...100)])
        XCTAssertEqual(again.status().signals[0].segmentRows + again.status().signals[0].headRows, 100)
        again.close()
        try write(engine, [("b", 1, 1)])
        engine.close()
        let third = try open(root, disk)
        XCTAssertEqual(try read(third), ["a": samples(1...100), "b": [1: 1]])
        XCTAssertEqual(third.status().signals[0].segmentRows, 101)
        third.close()
    }

    /// As a running daemon flushes more often on a small disk, so does replay.
    func testGenerationsOfASmallDiskAreSmall() throws {
        let (root, left) = try crashed(1...2000) {
            $0.walFileBytesMax = 4000
            $0.freeBytesMin = 0
        }
        let log = logFiles(left).reduce(0) { $0 + (left.disk.content($1)?.count ?? 0) }
        XCTAssertGreaterThan(log, 2 << 16)
        left.disk.setCapacity(bytes: 4 << 20)
        let engine = try open(root, left) {
            $0.walFileBytesMax = 4000
            $0.freeBytesMin = 0
            $0.maintainsItself = false
        }
        XCTAssertGreaterThanOrEqual(engine.status().signals[0].segments, log >> 16)
        XCTAssertEqual(try read(engine)["a"]?.count, 2000)
        engine.close()
    }

    func testAFullDiskDoesNotEndAReplay() throws {
        let (root, disk) = try crashed(1...60) { $0.walFileBytesMax = 1000 }
        DiagnosticLog.threshold = .error
        disk.setRoom(250)
        let engine = try open(root, disk) {
            $0.generationWALBytesMax = 2000
            $0.freeBytesMin = 0
        }
        XCTAssertEqual(segments(disk), [])
        XCTAssertEqual(try read(engine), ["a": samples(1...60)])
        disk.setRoom(nil)
        try engine.flush()
        XCTAssertEqual(try read(engine), ["a": samples(1...60)])
        XCTAssertEqual(engine.status().signals[0].segmentRows, 60)
        engine.close()
    }

    func testWritesAreTakenMeanwhileAndReadsRefused() throws {
        let (root, disk) = try crashed(1...10)
        // What a write in progress left.
        let torn = try XCTUnwrap(logFiles(disk).last)
        disk.damage(torn) { $0 += $0[32..<60] }
        let size = try disk.size(torn)
        let decoder = HeldDecoder(permits: 4)
        let engine = try openAtOnce(root, disk, decoder)
        XCTAssertEqual(try disk.size(torn), size - 28, "the torn end is cut before anything new is written")
        var later = MetricBatch()
        later.append(Labels([("__name__", "a")]), timeMillis: 5, value: 99)
        later.append(Labels([("__name__", "b"), ("job", "j")]), timeMillis: 1, value: 1)
        XCTAssertEqual(try engine.appendAndWait(later, origin: origin()).accepted, 2)
        XCTAssertThrowsError(try read(engine)) { error in
            XCTAssertEqual((error as? ObsError)?.code, .unavailable)
            XCTAssertNotNil((error as? ObsError)?.retryAfterSeconds)
            XCTAssertTrue("\(error)".contains("% of the log of metrics replayed"), "\(error)")
        }
        XCTAssertThrowsError(try engine.labelSets(.metrics, [], range: 0...9, context: context()))
        XCTAssertThrowsError(try engine.flush()) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
        XCTAssertEqual(segments(disk).filter { $0.contains("/metrics/") }, [])
        let progress = try XCTUnwrap(engine.status().replay)
        XCTAssertLessThan(progress.bytesDone, progress.bytesTotal)
        // Power is cut while the old log is read and the new one written: both are there.
        var random = SplitMix(state: 3)
        let other = makeRoot()
        let again = try open(other, disk.afterPowerCut(from: root, to: other, using: &random))
        var expected = ["a": samples(1...10), "b": [1: 1]]
        XCTAssertEqual(try read(again), expected)
        XCTAssertEqual(again.status().quarantined, 0)
        again.close()
        decoder.release()
        XCTAssertTrue(engine.waitReplayed())
        XCTAssertNil(engine.status().replay)
        XCTAssertEqual(try read(engine), expected, "what came first stays, the old log is older")
        XCTAssertEqual(try readLogs(engine).lines.count, 10)
        try write(engine, [("b", 2, 2)])
        try engine.flush()
        expected["b"] = [1: 1, 2: 2]
        XCTAssertEqual(try read(engine), expected)
        XCTAssertEqual(logFiles(disk).count, 1)
        engine.close()
        let third = try open(root, disk)
        XCTAssertEqual(try read(third), expected)
        third.close()
    }

    /// Closes the engine while its replay waits for the decoder.
    private func closeAmidReplay(_ engine: StorageEngine, _ decoder: HeldDecoder) {
        let closed = Monitor(false)
        startThread("close") {
            engine.close()
            closed.update { $0 = true }
        }
        while (try? write(engine, [("c", 1, 1)])) != nil { usleep(1000) }
        decoder.release()
        _ = closed.wait { $0 ? () : nil }
    }

    func testStoppedInTheMiddle() throws {
        let (root, disk) = try crashed(1...10)
        let decoder = HeldDecoder(permits: 4)
        let engine = try openAtOnce(root, disk, decoder)
        try write(engine, [("b", 1, 1)])
        closeAmidReplay(engine, decoder)
        XCTAssertFalse(engine.waitReplayed())
        XCTAssertEqual(segments(disk).filter { $0.contains("/metrics/") }, [])
        XCTAssertThrowsError(try read(engine))
        let again = try open(root, disk)
        XCTAssertEqual(try read(again)["a"], samples(1...10))
        XCTAssertEqual(try read(again)["b"], [1: 1])
        again.close()
    }

    func testDamageIsSaidKeptAndTheRestServed() throws {
        let (root, disk) = try crashed(1...100) { $0.walFileBytesMax = 1000 }
        let files = logFiles(disk)
        // A header, whose records are all there; the first record of a file.
        disk.damage(files[0]) { $0[9] ^= 1 }
        disk.damage(files[2]) { $0[60] ^= 1 }
        DiagnosticLog.threshold = .error
        let engine = try open(root, disk)
        XCTAssertEqual(engine.status().quarantined, 2)
        let left = try XCTUnwrap(try read(engine)["a"])
        XCTAssertEqual(left.count, 99)
        for (time, value) in left { XCTAssertEqual(Double(time), value) }
        XCTAssertEqual(disk.paths.filter { $0.contains("/quarantine/") }.count, 2)
        try write(engine, [("b", 1, 1)])
        try engine.flush()
        XCTAssertEqual(logFiles(disk).count, 1)
        engine.close()
        let again = try open(root, disk)
        XCTAssertEqual(try read(again), ["a": left, "b": [1: 1]])
        again.close()
    }

    /// The device refuses one read of the log, each in turn: the start says where, and the next one finds all.
    func testEachReadOfTheLogMayFail() throws {
        let (root, disk) = try crashed(1...20) { $0.walFileBytesMax = 500 }
        var failures = 0
        for number in 0... {
            let left = Monitor(number)
            let place = Monitor<String?>(nil)
            disk.watch { call in
                guard call.operation == .read, call.path.hasSuffix(".wal") else { return nil }
                let isNext = left.update { left in
                    left -= 1
                    return left == -1
                }
                guard isNext else { return nil }
                place.update { $0 = "\(call.path):\(call.offset)" }
                return .inputOutput
            }
            defer { disk.watch(nil) }
            do {
                let engine = try open(root, disk) { $0.maintainsItself = false }
                XCTAssertNil(place.read { $0 }, "a read failed and nobody said so")
                XCTAssertEqual(try read(engine), ["a": samples(1...20)])
                XCTAssertEqual(try readLogs(engine).lines.count, 20)
                XCTAssertEqual(engine.status().quarantined, 0)
                engine.close()
                break
            } catch {
                failures += 1
                let place = try XCTUnwrap(place.read { $0 }, "\(error)")
                XCTAssertTrue("\(error)".contains(place) && "\(error)".contains("input/output error"), "\(error)")
            }
        }
        XCTAssertGreaterThan(failures, 10)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
    }

    /// A log that was quiet for a while, or left at a stop, knows that its last record was synced.
    func testDamageOfTheLastRecordIsSaid() throws {
        let (root, disk) = try crashed(1...10)
        let decoder = HeldDecoder(permits: 0)
        let engine = try openAtOnce(root, disk, decoder)
        try write(engine, [("b", 1, 1)])
        try write(engine, [("b", 2, 2)])
        closeAmidReplay(engine, decoder)
        let last = try XCTUnwrap(logFiles(disk).last)
        disk.damage(last) { $0[$0.count - 49 - 8] ^= 1 }  // the mark has 49 bytes
        let again = try open(root, disk)
        XCTAssertEqual(again.status().quarantined, 1)
        XCTAssertTrue(disk.paths.contains { $0.contains("/quarantine/") && $0.hasSuffix(last.split(separator: "/").last ?? "") })
        XCTAssertEqual(try read(again)["a"], samples(1...10))
        try write(again, [("d", 1, 1)])
        let found = try read(again)
        again.close()
        let third = try open(root, disk)
        XCTAssertEqual(try read(third), found)
        third.close()
    }
}
