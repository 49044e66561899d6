internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

final class RetentionTests: EngineTestCase {
    private let day: Int64 = 86_400_000
    private var now: Int64 { clock.nowMillis() }

    /// A segment of metrics and one of logs for each of `days` days, the oldest first.
    private func fill(_ engine: StorageEngine, days: Int64) throws {
        for age in (0..<days).reversed() {
            try write(engine, (0..<50).map { ("m\(age)", now - age * day + $0, Double($0)) })
            try engine.flush()
            _ = try engine.appendAndWait(logBatch([(["app": "a"], (now - age * day) * 1_000_000 + 1, "day \(age)")]), origin: origin())
            try engine.flush()
        }
    }

    func testBytesOfTheWholeStoreDropTheOldestOfAnySignal() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try open(root, disk) { $0.maintainsItself = false }
        try fill(engine, days: 4)
        let bytes = engine.status().signals.map(\.segmentBytes).reduce(0, +)
        engine.close()
        engine = try open(root, disk) {
            $0.retention.bytes = bytes / 2
            $0.maintainsItself = false
        }
        engine.enforceRetention()
        XCTAssertLessThanOrEqual(engine.status().signals.map(\.segmentBytes).reduce(0, +), bytes / 2)
        XCTAssertEqual(try read(engine).keys.sorted(), ["m0", "m1"])
        XCTAssertEqual(try readLogs(engine).lines, ["day 1", "day 0"])
        engine.close()
        // The bound is too small for anything: a signal's newest segment stays.
        engine = try open(root, disk) {
            $0.retention.bytes = 1
            $0.maintainsItself = false
        }
        engine.enforceRetention()
        XCTAssertEqual(try read(engine).keys.sorted(), ["m0"])
        XCTAssertEqual(try readLogs(engine).lines, ["day 0"])
        engine.close()
    }

    func testBytesOfOneSignalLeaveTheOthers() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) {
            $0.retention.bytesBySignal = [.logs: 1]
            $0.maintainsItself = false
        }
        try fill(engine, days: 3)
        engine.enforceRetention()
        XCTAssertEqual(try read(engine).count, 3)
        XCTAssertEqual(try readLogs(engine).lines, ["day 0"])
        engine.close()
    }

    func testASegmentBeingReadIsCountedAsLeaving() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk) {
            $0.freeBytesMin = 1 << 20
            $0.maintainsItself = false
        }
        try fill(engine, days: 6)
        let set = try engine.series([], range: .min ... .max, context: context())
        // Short of a few bytes: one segment is enough, and it does not go more often because a query still holds it.
        disk.setCapacity(bytes: disk.usedBytes + (1 << 20) + (1 << 18) - 1)
        for _ in 0..<10 { engine.freeSpace() }
        let held = engine.status().signals.reduce(0) { $0 + $1.segments }
        XCTAssertLessThan(held, 12)
        for _ in 0..<10 { engine.freeSpace() }
        XCTAssertEqual(engine.status().signals.reduce(0) { $0 + $1.segments }, held)
        XCTAssertNotNil(try set.next())
        engine.close()
    }

    func testAFullDiskDropsTheOldestOfAnySignal() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try open(root, disk) {
            $0.freeBytesMin = 1 << 20
            $0.maintainsItself = false
        }
        try fill(engine, days: 6)
        var held = 12
        while held > 2 {
            disk.setCapacity(bytes: disk.usedBytes + (1 << 20) + (1 << 18) - 1)
            engine.freeSpace()
            let left = engine.status().signals.reduce(0) { $0 + $1.segments }
            XCTAssertLessThan(left, held)
            held = left
            let days = try read(engine).keys.compactMap { Int($0.dropFirst()) }.max() ?? -1
            let lines = try readLogs(engine).lines.compactMap { Int($0.dropFirst(4)) }.max() ?? -1
            // The records of a day are younger than its samples.
            XCTAssertTrue(lines == days || lines == days + 1, "samples of \(days) days, records of \(lines)")
        }
        // A signal's newest segment stays, whatever is short.
        disk.setCapacity(bytes: disk.usedBytes)
        engine.freeSpace()
        XCTAssertEqual(try read(engine).keys.sorted(), ["m0"])
        XCTAssertEqual(try readLogs(engine).lines, ["day 0"])
        engine.close()
    }

    /// A file system of 300 MiB takes 3 GiB, a hundredth in size.
    func testASmallDiskTakesTenTimesItsSize() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let capacity = 3 << 20
        disk.setCapacity(bytes: capacity)
        let engine = try open(root, disk)
        DiagnosticLog.threshold = .error
        var random = SplitMix(state: 7)
        var written = 0
        var refused = 0
        var taken = 0
        while written < 10 * capacity {
            clock.advance(millis: 60_000)
            let time = clock.nowNanos()
            let lines = (0..<64).map { index in
                ([("app"): "a"], time + Int64(index), "\(taken) " + (0..<32).map { _ in String(random.next(), radix: 36) }.joined())
            }
            let batch = logBatch(lines)
            do {
                _ = try engine.appendAndWait(batch, origin: origin())
                written += batch.bytes.count
                taken += 1
                refused = 0
                _ = try? write(engine, [("up", clock.nowMillis(), Double(taken))])
            } catch {
                XCTAssertEqual((error as? ObsError)?.code, .overloaded)
                XCTAssertNotNil((error as? ObsError)?.retryAfterSeconds)
                refused += 1
                XCTAssertLessThan(refused, 20, "space does not come back: \(error)")
                if refused >= 20 { break }
                engine.freeSpace()
            }
            XCTAssertLessThanOrEqual(disk.usedBytes, capacity)
        }
        let lines = try readLogs(engine).lines
        let batches = Set(lines.compactMap { $0.split(separator: " ").first.flatMap { Int($0) } }).sorted()
        XCTAssertEqual(batches.last, taken - 1, "the newest is there")
        // A tenth of what was written would fit without a log, a reserve and merges.
        XCTAssertGreaterThan(batches.count, taken / 20, "no more is dropped than has to be")
        XCTAssertEqual(batches, Array((taken - batches.count)..<taken), "the oldest went first, without holes")
        XCTAssertEqual(lines.count, batches.count * 64)
        engine.close()
        let again = try open(root, disk)
        let reopened = try readLogs(again).lines
        // What was flushed at the end may have cost some of the oldest once more.
        XCTAssertGreaterThan(reopened.count, lines.count / 2)
        XCTAssertTrue(lines.suffix(reopened.count).elementsEqual(reopened))
        again.close()
    }

    func testADiskThatFillsUpDuringAFlushLosesNothing() throws {
        for room in stride(from: 0, to: 6000, by: 250) {
            let root = makeRoot()
            let disk = MemoryFileSystem()
            let engine = try open(root, disk) { $0.freeBytesMin = 0 }
            try write(engine, (0..<300).map { ("m\($0)", now + Int64($0), Double($0) * 1.7) })
            _ = try engine.appendAndWait(logBatch((0..<50).map { (["app": "a"], Int64($0), "line \($0)") }), origin: origin())
            let metrics = try read(engine)
            let lines = try readLogs(engine).lines
            disk.setCapacity(bytes: disk.usedBytes + room)
            var failed = false
            do { try engine.flush() } catch {
                XCTAssertEqual((error as? ObsError)?.code, .overloaded, "\(error)")
                failed = true
            }
            if room == 0 { XCTAssertTrue(failed) }
            XCTAssertEqual(try read(engine), metrics)
            XCTAssertEqual(try readLogs(engine).lines, lines)
            disk.setCapacity(bytes: .max)
            try engine.flush()
            engine.close()
            let again = try open(root, disk)
            XCTAssertEqual(try read(again), metrics)
            XCTAssertEqual(try readLogs(again).lines, lines)
            again.close()
        }
    }
}
