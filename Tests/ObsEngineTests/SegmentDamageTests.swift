internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsSegment
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// A bit that fell over, anywhere in a segment: found, named, and the rest goes on being served. Never a crash, never a wrong answer.
final class SegmentDamageTests: EngineTestCase {
    /// What a tenant has, as sets that can be compared.
    private struct Answers: Equatable {
        var samples: Set<String>
        var lines: Set<String>
        var spans: Set<UInt64>
        func contains(_ other: Answers) -> Bool {
            samples.isSuperset(of: other.samples) && lines.isSuperset(of: other.lines) && spans.isSuperset(of: other.spans)
        }
    }

    private func answers(_ engine: StorageEngine, _ tenant: String) throws -> Answers {
        let series = try read(engine, tenant: tenant)
        _ = try read(engine, [LabelMatcher(equal: "__name__", "a1")], tenant: tenant)
        let spans = try readSpans(engine, tenant: tenant).spans
        for trace in 0..<4 { _ = try readSpans(engine, SpanSelection(traceIDs: [TraceID(high: 0, low: UInt64(trace))]), tenant: tenant) }
        var samples: Set<String> = []
        for (name, values) in series { for (time, value) in values { samples.insert("\(name) \(time) \(value)") } }
        return Answers(samples: samples, lines: Set(try readLogs(engine, tenant: tenant).lines), spans: Set(spans))
    }

    private func fill(_ engine: StorageEngine) throws {
        for tenant in ["x", "y"] {
            var random = SplitMix(state: 7)
            try write(engine, (0..<600).map { ("a\($0 % 7)", Int64($0) * 1000, Double.random(in: 0...1, using: &random)) }, tenant: tenant)
            var lines: [(stream: [String: String], time: Int64, line: String)] = []
            for number in 0..<80 { lines.append((["app": "x\(number % 3)"], Int64(number) * 1_000_000, "line \(number) \(random.next())")) }
            _ = try engine.appendAndWait(logBatch(lines), origin: origin(tenant))
            var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
            for number in 0..<60 {
                spans.append((UInt64(number % 4), random.next() >> 1, "s\(number % 2)", "operation \(random.next())", Int64(number) * 1000, 5))
            }
            _ = try engine.appendAndWait(spanBatch(spans), origin: origin(tenant))
        }
    }

    /// A closed store with segments of all signals for two tenants, and what is in it.
    private func filled() throws -> (root: String, disk: FaultyFileSystem, whole: Answers) {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let first = try open(root, disk) { $0.maintainsItself = false }
        try fill(first)
        let whole = try answers(first, "x")
        first.close()
        return (root, disk, whole)
    }

    private func damageEverywhere(_ signal: String) throws {
        let (root, disk, whole) = try filled()
        let path = try XCTUnwrap(disk.paths.first { $0.contains("/x/\(signal)/") && $0.hasSuffix(".seg") })
        let good = try disk.readAll(path)
        var damages: [(inout [UInt8]) -> Void] = []
        for at in stride(from: 0, to: good.count, by: max(1, min(64, good.count / 60))) { damages.append { $0[at] ^= UInt8(1) << UInt8(at / 7 % 8) } }
        for length in stride(from: 0, to: good.count, by: max(1, good.count / 12)) { damages.append { $0.removeLast($0.count - length) } }
        var failures = 0
        for (number, damage) in damages.enumerated() {
            disk.damage(path) {
                $0 = good
                damage(&$0)
            }
            let engine = try open(root, disk) { $0.maintainsItself = false }
            do {
                let found = try answers(engine, "x")
                // Unharmed where no query looks, or set aside at the start.
                XCTAssertTrue(found == whole || engine.status().quarantined == 1 && whole.contains(found), "\(signal) \(number): a wrong answer")
            } catch {
                failures += 1
                let place = (error as? ObsError)?.place ?? ""
                XCTAssertEqual((error as? ObsError)?.code, .corrupt, "\(error)")
                XCTAssertTrue(place.hasPrefix(path), "\(signal) \(number): \(error)")
                engine.salvageDamaged()
                XCTAssertTrue(whole.contains(try answers(engine, "x")), "\(signal) \(number)")
                XCTAssertEqual(engine.status().quarantined, 1)
                XCTAssertTrue(disk.exists(DiskLayout(root: root).quarantined(path)))
            }
            XCTAssertEqual(try answers(engine, "y"), whole, "the neighbours are served")
            let served = try answers(engine, "x")
            engine.close()
            if number % 10 == 0 {
                let again = try open(root, disk) { $0.maintainsItself = false }
                XCTAssertEqual(try answers(again, "x"), served, "as before after a restart")
                again.close()
            }
            disk.erase(DiskLayout(root: root).quarantined(path))
            for left in disk.paths where left.contains("/x/\(signal)/") && left.hasSuffix(".seg") { disk.erase(left) }
            try disk.writeAtomically(path, good)
        }
        XCTAssertGreaterThan(failures, 5, "\(signal): most damage is met by a read")
    }

    func testMetrics() throws { try damageEverywhere("metrics") }
    func testLogs() throws { try damageEverywhere("logs") }
    func testTraces() throws { try damageEverywhere("traces") }

    /// One bad block of several: its neighbours are kept.
    func testSalvageKeepsTheOtherBlocks() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        let count = SegmentLimits.blockRowsMax + 4464
        let batch = logBatch((0..<count).map { (number: Int) in (["app": "a"], Int64(number), "line \(number % 1000)") })
        _ = try engine.appendAndWait(batch, origin: origin())
        try engine.flush()
        let path = try XCTUnwrap(disk.paths.first { $0.hasSuffix(".seg") })
        engine.close()
        disk.damage(path) { $0[20] ^= 1 }
        let again = try open(root, disk) { $0.maintainsItself = false }
        // A range past the first block is served although the segment is damaged.
        XCTAssertEqual(try readLogs(again, [], Int64(count - 4000)..<Int64(count)).rows.count, 4000)
        XCTAssertThrowsError(try readLogs(again, [], 0..<Int64(count))) { XCTAssertTrue("\($0)".hasPrefix("\(path):8: "), "\($0)") }
        again.salvageDamaged()
        XCTAssertEqual(try readLogs(again).rows.count, 4464)
        XCTAssertEqual(again.status().signals.map(\.segmentRows), [0, 4464, 0])
        XCTAssertEqual(again.status().quarantined, 1)
        again.close()
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
        let third = try open(root, disk) { $0.maintainsItself = false }
        XCTAssertEqual(try readLogs(third).rows.count, 4464)
        third.close()
    }

    /// Whoever meets damage is told what is done about it.
    func testTheAnswerSaysWhatToDo() throws {
        let (root, disk, _) = try filled()
        let engine = try open(root, disk) { $0.maintainsItself = false }
        for (signal, ask) in [("metrics", { _ = try self.read(engine, tenant: "x") }), ("logs", { _ = try self.readLogs(engine, tenant: "x") })] {
            let path = try XCTUnwrap(disk.paths.first { $0.contains("/x/\(signal)/") && $0.hasSuffix(".seg") })
            disk.damage(path) { $0[20] ^= 1 }
            XCTAssertThrowsError(try ask()) {
                for word in [path + ":8: ", "checksum", "saved within seconds", "`obsd fsck --repair`"] { XCTAssertTrue("\($0)".contains(word), "\($0)") }
            }
        }
        engine.close()
    }

    /// Each single read of each question, one after the other, fails once.
    func testEachReadMayFail() throws {
        let (root, disk, whole) = try filled()
        let trace = SpanSelection(traceIDs: [TraceID(high: 0, low: 2)])
        let questions: [(what: String, count: Int, ask: (StorageEngine) throws -> Int)] = [
            ("samples", 7, { try self.read($0, tenant: "x").count }),
            ("one series", 1, { try self.read($0, [LabelMatcher(equal: "__name__", "a1")], tenant: "x").count }),
            ("series", 7, { try $0.labelSets(.metrics, [], range: .min ... .max, context: self.context("x")).count }),
            ("lines", 80, { try self.readLogs($0, tenant: "x").lines.count }),
            ("streams", 3, { try $0.labelSets(.logs, [], range: .min ... .max, context: self.context("x")).count }),
            ("spans", 60, { try self.readSpans($0, tenant: "x").spans.count }),
            ("a trace", 15, { try self.readSpans($0, trace, tenant: "x").spans.count }),
        ]
        for (what, count, ask) in questions {
            var reads = 0
            for number in 0... {
                let engine = try open(root, disk) { $0.maintainsItself = false }
                let left = Monitor(number)
                let failed = Monitor<String?>(nil)
                disk.watch { call in
                    guard call.operation == .read || call.operation == .open, call.path.hasSuffix(".seg") else { return nil }
                    guard
                        left.update({
                            $0 -= 1; return $0 == -1
                        })
                    else { return nil }
                    failed.update { $0 = call.operation == .read ? "\(call.path):\(call.offset)" : call.path }
                    return .inputOutput
                }
                var error: ObsError?
                do {
                    let found = try ask(engine)
                    XCTAssertEqual(found, count, what)
                } catch let thrown as ObsError { error = thrown }
                disk.watch(nil)
                let place = failed.read { $0 }
                XCTAssertEqual(error == nil, place == nil, "\(what), read \(number)")
                engine.salvageDamaged()
                XCTAssertEqual(try ask(engine), count, "\(what), when the device is back")
                XCTAssertEqual(engine.status().quarantined, 0)
                if number == 0 { XCTAssertEqual(try answers(engine, "x"), whole) }
                engine.close()
                guard let place, let error else { break }
                reads += 1
                XCTAssertTrue("\(error)".contains(place) && "\(error)".contains("input/output error"), "\(what): \(error) at \(place)")
            }
            XCTAssertGreaterThan(reads, 1, what)
        }
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk).findings, [])
    }

    /// The device refuses to read: that answer fails, nothing is set aside, and it is served again when the device is back.
    func testInputOutputErrorIsNoDamage() throws {
        let (root, disk, whole) = try filled()
        let files = disk.paths
        let engine = try open(root, disk) { $0.maintainsItself = false }
        let error = ObsError(.internalError, "cannot read: input/output error", place: "file:7")
        disk.watch { $0.operation == .read && $0.path.hasSuffix(".seg") ? .other(error) : nil }
        XCTAssertThrowsError(try read(engine, tenant: "x")) { XCTAssertEqual($0 as? ObsError, error) }
        XCTAssertThrowsError(try readLogs(engine, tenant: "x")) { XCTAssertEqual($0 as? ObsError, error) }
        XCTAssertThrowsError(try readSpans(engine, tenant: "x")) { XCTAssertEqual($0 as? ObsError, error) }
        engine.salvageDamaged()
        disk.watch(nil)
        XCTAssertEqual(try answers(engine, "x"), whole)
        XCTAssertEqual(engine.status().quarantined, 0)
        engine.close()
        disk.watch { $0.operation == .read && $0.path.hasSuffix(".seg") ? .other(error) : nil }
        XCTAssertThrowsError(try open(root, disk) { $0.maintainsItself = false }) { XCTAssertEqual($0 as? ObsError, error) }
        disk.watch(nil)
        XCTAssertEqual(disk.paths, files)
    }
}
