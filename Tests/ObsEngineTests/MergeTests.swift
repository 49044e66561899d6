internal import ObsCore
internal import ObsDisk
internal import ObsSegment
internal import ObsStore
internal import ObsTestSupport
import XCTest

@testable import ObsEngine

/// Segments become one: the store answers as before, whatever is cut off or damaged in between.
final class MergeTests: EngineTestCase {
    private struct Contents: Equatable {
        var samples: [String: [Int64: Double]]
        var lines: [String]
        var spans: [UInt64]
    }

    private func contents(_ engine: StorageEngine) throws -> Contents {
        Contents(samples: try read(engine), lines: try readLogs(engine).lines.sorted(), spans: try readSpans(engine).spans)
    }

    private func openQuiet(_ root: String, _ disk: any FileSystem) throws -> StorageEngine {
        try open(root, disk) { $0.maintainsItself = false }
    }

    /// Flushes with everything a merge has to see to: instants twice with other values, retried events, events that are meant twice, late data.
    private func fill(_ engine: StorageEngine, flushes: Int) throws {
        for flush in 0..<Int64(flushes) {
            var samples: [(name: String, time: Int64, value: Double)] = []
            for sample in 0..<12 as Range<Int64> { samples.append(("m\(sample % 5)", sample * 10 + flush * 20, Double(flush))) }
            samples.append(("late", flush % 3 * 86_400_000 * 400, Double(flush)))
            try write(engine, samples)
            var identified: [(stream: [String: String], time: Int64, line: String)] = []
            for line in 0..<4 as Range<Int64> {
                let time = line + flush / 2 * 3
                identified.append((["app": "a\(line % 2)"], time, "line \(time)"))
            }
            _ = try engine.appendAndWait(logBatch(identified + [identified[0]], identified: true), origin: origin())
            _ = try engine.appendAndWait(logBatch([(["app": "a\(flush % 3)"], 5, "meant twice")]), origin: origin())
            var spans: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
            for span in 0..<6 as Range<UInt64> { spans.append((span % 3, span + UInt64(flush / 3), "s\(span % 2)", "op", Int64(span), 5)) }
            _ = try engine.appendAndWait(spanBatch(spans), origin: origin())
            try engine.flush()
        }
    }

    func testContentsStay() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        let engine = try openQuiet(root, disk)
        try fill(engine, flushes: 9)
        let before = try contents(engine)
        XCTAssertEqual(engine.status().signals.map(\.segments), [9, 9, 9])
        try engine.merge()
        XCTAssertEqual(engine.status().signals.map(\.segments), [2, 1, 1])
        XCTAssertEqual(engine.status().signals.map(\.merges), [1, 1, 1])
        XCTAssertEqual(engine.status().signals.dropFirst().map(\.mergedRows), engine.status().signals.dropFirst().map(\.segmentRows))
        XCTAssertTrue(engine.status().signals.allSatisfy { $0.copiedRows == 0 && $0.mergeNanos > 0 })
        XCTAssertEqual(engine.status().signals.map { $0.segmentRows }[1], Int64(before.lines.count), "what came twice is there once")
        XCTAssertEqual(engine.status().signals.map { $0.segmentRows }[2], Int64(before.spans.count))
        XCTAssertEqual(try contents(engine), before)
        let ofTrace = try readSpans(engine).rows.filter { $0.trace == 2 }.map(\.span).sorted()
        XCTAssertEqual(try readSpans(engine, SpanSelection(traceIDs: [TraceID(high: 0, low: 2)])).spans, ofTrace)
        XCTAssertFalse(ofTrace.isEmpty)
        try engine.merge()
        XCTAssertEqual(engine.status().signals.map(\.merges), [1, 1, 1], "nothing is due")
        engine.close()
        let again = try openQuiet(root, disk)
        XCTAssertEqual(try contents(again), before)
        XCTAssertEqual(again.status().signals.map(\.segments), [2, 1, 1])
        // Numbers of the log go on past those of merged segments.
        try write(again, [("m0", 0, 99), ("m0", 1, 1)])
        XCTAssertEqual(try read(again)["m0"]?[0], before.samples["m0"]?[0])
        XCTAssertEqual(try read(again)["m0"]?[1], 1)
        again.close()
    }

    /// Of what came in time order nearly all goes over as it is.
    func testMostRowsAreCopied() throws {
        let engine = try openQuiet(makeRoot(), MemoryFileSystem())
        for flush in 0..<16 as Range<Int64> {
            let start = flush * 2_900
            _ = try engine.appendAndWait(
                logBatch((start..<start + 3_000).map { (["app": "a"], $0, "line \($0) of \(flush)") }, identified: true), origin: origin())
            _ = try engine.appendAndWait(
                spanBatch((0..<3_000 as Range<Int64>).map { row in (UInt64(start + row / 3), UInt64(row + start * 7), "s", "op", start + row, 5) }),
                origin: origin())
            try engine.flush()
        }
        try engine.merge()
        for status in engine.status().signals.dropFirst() {
            XCTAssertEqual(status.mergedRows, 48_000, "\(status.signal)")
            XCTAssertEqual(status.copiedRows, 48_000, "\(status.signal)")
        }
        XCTAssertEqual(try readLogs(engine).rows.count, 48_000)
        engine.close()
    }

    func testTenantsStayApart() throws {
        let engine = try openQuiet(makeRoot(), MemoryFileSystem())
        for flush in 0..<4 as Range<Int64> {
            for tenant in ["x", "y"] { try write(engine, [("a", flush, tenant == "x" ? 1 : 2)], tenant: tenant) }
            try engine.flush()
        }
        try engine.merge()
        XCTAssertEqual(engine.status().signals[0].merges, 2)
        XCTAssertEqual(try read(engine, tenant: "x"), ["a": [0: 1, 1: 1, 2: 1, 3: 1]])
        XCTAssertEqual(try read(engine, tenant: "y"), ["a": [0: 2, 1: 2, 2: 2, 3: 2]])
        engine.close()
    }

    /// A query that began before a merge reads the segments it found, though their files are gone.
    func testReadersGoOn() throws {
        let engine = try openQuiet(makeRoot(), MemoryFileSystem())
        try fill(engine, flushes: 8)
        let before = try contents(engine)
        let set = try engine.series([], range: .min ... .max, context: context())
        try engine.merge()
        var found: [String: Int] = [:]
        while let series = try set.next() { found[series.labels["__name__"] ?? ""] = series.timesMillis.count }
        XCTAssertEqual(found, before.samples.mapValues(\.count))
        engine.close()
    }

    // MARK: Crashes

    /// Power is cut at every change of the disk from the first byte of a merge to the last unlink.
    func testPowerCutAtEveryChange() throws {
        try atEveryChange { disk, engine, before, when in
            engine.close()
            disk.cutPower()
        }
    }

    /// One change and all after it fail, then the disk is well again: nothing is lost meanwhile, and nothing by a power cut later.
    func testFailureAtEveryChange() throws {
        try atEveryChange { disk, engine, before, when in
            disk.failChanges(after: .max)
            XCTAssertEqual(try self.contents(engine), before, when)
            try? engine.merge()
            XCTAssertEqual(try self.contents(engine), before, when)
            engine.close()
            disk.cutPower()
        }
    }

    private func atEveryChange(_ crash: (MemoryFileSystem, StorageEngine, Contents, String) throws -> Void) throws {
        var change = 0
        while true {
            let root = makeRoot()
            let disk = MemoryFileSystem()
            let engine = try openQuiet(root, disk)
            try fill(engine, flushes: 8)
            let before = try contents(engine)
            let began = disk.changes
            disk.failChanges(after: change)
            try? engine.merge()
            let isWhole = disk.changes - began < change
            let when = "after \(change) changes"
            XCTAssertEqual(try contents(engine), before, "\(when), still running")
            try crash(disk, engine, before, when)
            if change % 3 == 0 { try? FileManager.default.removeItem(atPath: root + "/index/catalog.sqlite") }
            for round in 0..<2 {
                let again = try openQuiet(root, disk)
                XCTAssertEqual(try contents(again), before, "\(when), start \(round)")
                let files = try segmentFiles(disk, root)
                XCTAssertEqual(files.count, again.status().signals.reduce(0) { $0 + $1.segments }, "\(when): \(files)")
                if round == 1 {
                    try again.merge()
                    XCTAssertEqual(try contents(again), before, "\(when), merged again")
                    XCTAssertEqual(again.status().signals.map(\.segments), [1, 1, 1], when)
                }
                again.close()
            }
            if isWhole { break }
            change += 1
        }
        XCTAssertGreaterThan(change, 36)
    }

    private func segmentFiles(_ disk: MemoryFileSystem, _ root: String) throws -> [String] {
        var found: [String] = []
        for signal in Signal.allCases {
            let folder = "\(root)/tenants/default/\(signal.rawValue)"
            for day in try disk.list(folder) { found += try disk.list("\(folder)/\(day)").map { "\(folder)/\(day)/\($0)" } }
        }
        return found
    }

    func testDamagedInputIsSetAside() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try openQuiet(root, disk)
        for flush in 0..<6 as Range<Int64> {
            try write(engine, [("a", flush, 1)])
            try engine.flush()
        }
        engine.close()
        let victim = try segmentFiles(disk, root)[2]
        var bytes = try XCTUnwrap(disk.content(victim))
        bytes[20] ^= 1
        disk.setContent(victim, bytes)
        engine = try openQuiet(root, disk)
        try engine.merge()
        XCTAssertEqual(engine.status().quarantined, 1)
        XCTAssertEqual(engine.status().signals[0].segments, 1)
        XCTAssertEqual(try read(engine)["a"]?.keys.sorted(), [0, 1, 3, 4, 5])
        engine.close()
    }

    // MARK: Against the model

    func testAgainstTheModel() throws {
        for seed in 0..<6 as Range<UInt64> {
            var random = SplitMix(state: seed)
            let root = makeRoot()
            let disk = MemoryFileSystem()
            var engine = try openQuiet(root, disk)
            let model = InMemoryStore()
            for step in 0..<150 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0...4:
                    let low = Int64.random(in: 0..<50, using: &random)
                    let samples = (0..<Int.random(in: 1...20, using: &random)).map { _ in
                        (
                            name: "m\(Int.random(in: 0..<4, using: &random))", time: (low + Int64.random(in: 0..<5, using: &random)) * 20_000_000,
                            value: Double(Int.random(in: 0..<9, using: &random))
                        )
                    }
                    try write(engine, samples)
                    try write(model, samples)
                    let rows = (0..<3).map { _ in
                        (stream: ["app": "\(Int.random(in: 0..<3, using: &random))"], time: Int64.random(in: 0..<100, using: &random), line: "step \(step)")
                    }
                    _ = try engine.appendAndWait(logBatch(rows), origin: origin())
                    _ = try model.appendAndWait(logBatch(rows), origin: origin())
                case 5...7: try engine.flush()
                case 8: try engine.merge()
                default:
                    engine.close()
                    engine = try openQuiet(root, disk)
                }
                if step % 10 == 0 {
                    XCTAssertEqual(try read(engine), try read(model), "seed \(seed) step \(step)")
                    XCTAssertEqual(try readLogs(engine).lines, try readLogs(model).lines, "seed \(seed) step \(step)")
                }
            }
            XCTAssertEqual(try read(engine), try read(model))
            XCTAssertEqual(try readLogs(engine).lines, try readLogs(model).lines)
            engine.close()
        }
    }

    /// Late data over 20,000 days in many small flushes: few files, and no byte written often.
    func testTrickleOverManyDays() throws {
        let engine = try openQuiet(makeRoot(), MemoryFileSystem())
        var random = SplitMix(state: 7)
        var wanted = 0
        for flush in 0..<48 as Range<Int64> {
            let days = (0..<20).map { _ in Int64.random(in: 0..<20_000, using: &random) }
            var samples: [(name: String, time: Int64, value: Double)] = []
            var lines: [(stream: [String: String], time: Int64, line: String)] = []
            for (number, day) in days.enumerated() {
                samples.append(("m\(number)", day * 86_400_000 + flush, 1))
                lines.append((["app": "\(day % 9)"], day * 86_400_000_000_000 + flush, "late \(number) \(day) \(flush)"))
            }
            try write(engine, samples)
            _ = try engine.appendAndWait(logBatch(lines), origin: origin())
            wanted += days.count
            try engine.flush()
            try engine.merge()
        }
        let status = engine.status().signals
        XCTAssertLessThanOrEqual(status[0].segments, 16)
        XCTAssertLessThanOrEqual(status[1].segments, 16)
        for (signal, bound) in [(status[0], 3), (status[1], 2)] {
            XCTAssertLessThanOrEqual(signal.flushedBytes + signal.mergedBytes, Int64(bound) * signal.flushedBytes)
        }
        XCTAssertEqual(try read(engine).values.reduce(0) { $0 + $1.count }, wanted)
        XCTAssertEqual(try readLogs(engine).lines.count, wanted)
        engine.close()
    }

    // MARK: Deletions

    private struct Mask: RowMask {
        var isEmpty: Bool { false }
        func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] {
            Labels(canonical: Array(labels)).description.contains("gone") ? [0...5, 8...9] : []
        }
        func isDeleted(_ batch: SpanBatch, row: Int) -> Bool { batch.spanID[row] % 2 == 0 }
    }

    private func merged<Head: MergeableHead>(_ head: Head.Type, _ infos: [SegmentInfo], _ disk: MemoryFileSystem, mask: any RowMask) throws -> SegmentInfo? {
        let draft = SegmentDraft(id: "out", tenant: .default, level: 1, replaces: infos.map(\.id))
        return try Head.merge(
            infos.map { MergeInput(info: $0, path: "/d/1970-01-01/\($0.id).seg", mask: mask) }, disk, path: "/d/1970-01-01/out.seg", draft: draft, check: {},
            grow: { _ in }
        ).info
    }

    func testDeletedRowsAreLeftOut() throws {
        let disk = MemoryFileSystem()
        func draft(_ id: String) -> SegmentDraft { SegmentDraft(id: id, tenant: .default) }
        var infos: [SegmentInfo] = []
        for id in ["a", "b"] {
            let writer = try MetricSegmentWriter(fileSystem: disk, path: "/d/1970-01-01/\(id).seg", draft: draft(id))
            try writer.add(labels: Labels([("__name__", "gone")]), times: [1, 5, 6, 8, 10], values: [1, 2, 3, 4, 5])
            try writer.add(labels: Labels([("__name__", "stays")]), times: [1, id == "a" ? 2 : 3], values: [1, 1])
            infos.append(try writer.finish())
        }
        XCTAssertEqual(try XCTUnwrap(merged(MetricHead.self, infos, disk, mask: Mask())).rows, 5)
        XCTAssertEqual(try readReplaced(disk, "/d/1970-01-01/out.seg"), ["a", "b"])
        XCTAssertEqual(try readReplaced(disk, "/d/1970-01-01/a.seg"), [])
        infos = []
        for id in ["c", "d"] {
            let writer = try LogSegmentWriter(fileSystem: disk, path: "/d/1970-01-01/\(id).seg", draft: draft(id))
            var batch = logBatch([(["app": "gone"], 1, "x"), (["app": "gone"], 7, "y"), (["app": "stays"], 1, "z")])
            batch.arrival = [1, 2, 3]
            try writer.add([batch], rows: (0..<3).map { RowPlace(source: 0, row: $0) })
            infos.append(try writer.finish())
        }
        XCTAssertEqual(try XCTUnwrap(merged(LogHead.self, infos, disk, mask: Mask())).rows, 4)
        infos = []
        for id in ["e", "f"] {
            let writer = try SpanSegmentWriter(fileSystem: disk, path: "/d/1970-01-01/\(id).seg", draft: draft(id))
            try writer.add([spanBatch([(1, 1, "s", "n", 1, 1), (1, 2, "s", "n", 2, 1)])], rows: (0..<2).map { RowPlace(source: 0, row: $0) })
            infos.append(try writer.finish())
        }
        XCTAssertEqual(try XCTUnwrap(merged(SpanHead.self, infos, disk, mask: Mask())).rows, 1)
        struct All: RowMask {
            var isEmpty: Bool { false }
            func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] { [.min ... .max] }
            func isDeleted(_ batch: SpanBatch, row: Int) -> Bool { true }
        }
        XCTAssertNil(try merged(SpanHead.self, infos, disk, mask: All()))
        XCTAssertFalse(try disk.list("/d/1970-01-01").contains { $0.hasSuffix(".tmp") })
    }

    /// The output begins a day later than its inputs did: it lies where a start looks for it.
    func testOutputLiesInItsDay() throws {
        let disk = MemoryFileSystem()
        struct First: RowMask {
            var isEmpty: Bool { false }
            func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] { [0...1000] }
            func isDeleted(_ batch: SpanBatch, row: Int) -> Bool { false }
        }
        let writer = try MetricSegmentWriter(fileSystem: disk, path: "/d/1970-01-01/a.seg", draft: SegmentDraft(id: "a", tenant: .default))
        try writer.add(labels: Labels([("__name__", "x")]), times: [1, 86_400_000], values: [1, 2])
        let info = try XCTUnwrap(merged(MetricHead.self, [try writer.finish()], disk, mask: First()))
        XCTAssertEqual(info.day, 1)
        XCTAssertEqual(try readSegmentInfo(disk, "/d/1970-01-02/out.seg"), info)
        XCTAssertFalse(disk.exists("/d/1970-01-01/out.seg"))
    }

    // MARK: Policy

    private func segment(
        _ age: UInt64, days: ClosedRange<Int64> = 0...0, level: Int = 0, megabytes: Int64 = 2, _ signal: Signal = .metrics
    ) -> SegmentInfo {
        let unit = signal == .metrics ? millisPerDay : nanosPerDay
        return SegmentInfo(
            id: "\(age)", tenant: .default, signal: signal, level: level, day: Int(days.lowerBound), minTime: days.lowerBound * unit,
            maxTime: days.upperBound * unit + 5, rows: 1, bytes: megabytes << 20, walRanges: [WALRange(first: age, last: age)], checksum: 0, names: [],
            services: [])
    }

    func testPolicy() {
        let policy = MergePolicy()
        func expect(_ segments: [SegmentInfo], now: Int64? = nil, _ wanted: [Int]?, _ what: String, line: UInt = #line) {
            XCTAssertEqual(policy.next(segments, nowNanos: now.map { $0 * 3_600_000_000_000 }), wanted, what, line: line)
        }
        expect([], nil, "nothing")
        expect((1...3).map { segment($0) }, nil, "too few")
        expect((1...4).map { segment($0) }, [0, 1, 2, 3], "enough of a day")
        expect((1...20).map { segment($0) }, Array(0..<8), "not more than twice enough")
        expect((1...15).map { segment($0, .logs) }, nil, "events are merged once, so more at once")
        expect((1...16).map { segment($0, .logs) }, Array(0..<16), "events")
        expect((1...8).map { segment($0, days: 0...1, .logs) }, Array(0..<8), "events of several days")
        expect((1...20).map { segment($0, level: 1, megabytes: 4, .traces) }, nil, "events are not merged again")
        expect((1...16).map { segment($0, level: 1, megabytes: 3, .traces) }, Array(0..<16), "but crumbs are")
        expect((1...4).map { segment($0, level: 1) }, [0, 1, 2, 3], "metrics are merged twice")
        expect((1...15).map { segment($0, level: 2) }, nil, "and not a third time")
        expect((1...4).map { segment($0, days: Int64($0)...Int64($0)) }, nil, "days with much data stay apart")
        expect((1...4).map { segment($0, days: Int64($0)...Int64($0), megabytes: 0) }, [0, 1, 2, 3], "days with little do not")
        expect((1...4).map { segment($0, days: 0...20_000) }, [0, 1, 2, 3], "late data")
        expect((1...4).map { segment($0, megabytes: 200) }, nil, "too big")
        expect([segment(1, megabytes: 400)] + (2...5).map { segment($0, megabytes: 100) }, [1, 2, 3, 4], "a big one is stepped over")
        let between = [segment(1), segment(2), segment(3), segment(4, level: 1), segment(5)]
        expect(between, [0, 1, 2, 3, 4], "one between the ages goes along, or its samples would lose to younger ones")
        expect((1...16).map { segment($0, level: $0 == 4 ? 1 : 0, .logs) } + [segment(17, .logs)], [0, 1, 2] + Array(4..<17), "events have no such order")
        expect([segment(1), segment(2), segment(3), segment(4, days: 1...1), segment(5)], [0, 1, 2, 4], "another day does not")
        expect([segment(1), segment(2), segment(3), segment(4, level: 1, megabytes: 600), segment(5)], nil, "nor is there a merge when it is too big")
        expect([segment(1), segment(2, level: 1)], now: 26, nil, "the day may not be over")
        expect([segment(1), segment(2, level: 1)], now: 27, [0, 1], "the day is over")
        expect([segment(1, days: -1 ... -1), segment(2, days: -1 ... -1)], now: 3, [0, 1], "before 1970")
        expect([segment(1), segment(2, days: 1...1)], now: 1000, nil, "two days")
        expect([segment(1), segment(2, level: 2)], now: 1000, nil, "merged as often as may be")
        expect([segment(1, .traces), segment(2, level: 1, .traces), segment(3, .traces)], now: 1000, [0, 2], "events")
        expect([segment(1, megabytes: 300), segment(2, megabytes: 300)], now: 1000, nil, "too big together")
        expect((1...3).map { segment($0, megabytes: 0) }, now: 1000, nil, "crumbs are no day")
        let many = (1...8).map { segment($0) }
        XCTAssertEqual(policy.part(of: Array(0..<8), many), [0, 1, 2, 3])
        XCTAssertEqual(policy.part(of: [0, 1, 2, 3], many), [0, 1])
        XCTAssertNil(policy.part(of: [0, 1], many))
        XCTAssertNil(policy.part(of: [0, 1, 2], many))
        let across = (1...4).map { segment($0, days: 0...1) }
        XCTAssertEqual(policy.part(of: [0, 2, 3], across), nil, "a part must not reach over a segment that is not in it")
    }

    /// Thirty days of segments that do not shrink when merged: what is written for each byte that came, and what a day ends as.
    func testDaysEndInFewSegments() {
        for (signal, flushes, megabytes) in [(Signal.metrics, 12, 5), (.metrics, 50, 30), (.logs, 12, 8), (.logs, 100, 20), (.traces, 40, 3)]
            as [(Signal, Int64, Int64)]
        {
            let policy = MergePolicy()
            var segments: [SegmentInfo] = []
            var flushed: Int64 = 0
            var merged: Int64 = 0
            var sequence: UInt64 = 0
            for day in 0..<30 as Range<Int64> {
                for flush in 0..<flushes {
                    sequence += 1
                    segments.append(segment(sequence, days: day...day, megabytes: megabytes, signal))
                    flushed += megabytes << 20
                    let now = day * nanosPerDay + (flush + 1) * nanosPerDay / flushes
                    while let choice = policy.next(segments, nowNanos: now) {
                        var one = segments[choice[0]]
                        one.bytes = choice.reduce(0) { $0 + segments[$1].bytes }
                        one.level = (choice.map { segments[$0].level }.max() ?? 0) + 1
                        one.walRanges = choice.flatMap { segments[$0].walRanges }
                        merged += one.bytes
                        segments = segments.enumerated().filter { !choice.contains($0.offset) }.map(\.element)
                        segments.append(one)
                        segments.sort { $0.firstSequence < $1.firstSequence }
                    }
                }
            }
            let amplification = Double(flushed + merged) / Double(flushed)
            XCTAssertLessThanOrEqual(amplification, signal == .metrics ? 3 : 2, "\(signal)")
            let ended = segments.filter { $0.day < 28 }.count
            // What would fit, and what levels forbid to be written again.
            let least = (flushes * megabytes + 511) / 512 * 28
            print("days: \(signal) \(flushes) × \(megabytes) MiB: \(Double(ended) / 28) segments a day, at least \(least / 28); written \(amplification) times")
            XCTAssertLessThanOrEqual(ended, Int(max(least, flushes <= 16 ? least : (flushes / 16 + 1) * 28)), "\(signal)")
        }
    }
}
