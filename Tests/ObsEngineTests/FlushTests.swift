internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsSegment
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Heads become segments: what was readable before is readable after, once, wherever it lies and whatever is restarted in between.
final class FlushTests: EngineTestCase {
    private func segments(_ disk: FaultyFileSystem) -> [String] { disk.paths.filter { $0.hasSuffix(".seg") } }
    private func logFiles(_ disk: FaultyFileSystem) -> [String] { disk.paths.filter { $0.hasSuffix(".wal") } }

    func testFlushMovesEverything() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        try write(engine, (0..<200).map { ("a\($0 % 7)", Int64($0) * 1000, Double($0)) }.shuffled())
        _ = try engine.appendAndWait(logBatch((0..<50).map { (["app": "x\($0 % 3)"], Int64($0), "line \($0)") }), origin: origin())
        _ = try engine.appendAndWait(spanBatch((0..<20).map { (UInt64($0 % 4), UInt64($0), "s\($0 % 2)", "op", Int64($0), 5) }), origin: origin())
        let before = (try read(engine), try readLogs(engine).lines, try readSpans(engine).spans)
        try engine.flush()
        XCTAssertEqual(segments(disk).count, 3)
        XCTAssertEqual(logFiles(disk).count, 3, "one empty file a signal, whose name keeps the numbering")
        for engine in [engine] {
            XCTAssertEqual(try read(engine), before.0)
            XCTAssertEqual(try readLogs(engine).lines, before.1)
            XCTAssertEqual(try readSpans(engine).spans, before.2)
            XCTAssertEqual(try readSpans(engine, SpanSelection(traceIDs: [TraceID(high: 0, low: 3)])).spans, [3, 7, 11, 15, 19])
            XCTAssertEqual(try engine.labelValues(.metrics, "__name__", [], range: 0...5000, context: context()), (0..<6).map { "a\($0)" })
            XCTAssertEqual(try engine.labelValues(.logs, "app", [], range: 0...5000, context: context()), ["x0", "x1", "x2"])
        }
        let status = engine.status().signals
        XCTAssertEqual(status.map(\.segmentRows), [200, 50, 20])
        XCTAssertEqual(status.map(\.headRows), [0, 0, 0])
        try write(engine, [("a0", 0, 99), ("a0", 5, 5)])  // the first value of an instant stays
        XCTAssertEqual(try read(engine, [LabelMatcher(equal: "__name__", "a0")])["a0"]?[0], 0)
        XCTAssertEqual(try read(engine, [LabelMatcher(equal: "__name__", "a0")])["a0"]?[5], 5)
        engine.close()
        let again = try open(root, disk)
        XCTAssertEqual(try readLogs(again).lines, before.1)
        XCTAssertEqual(try read(again)["a1"], before.0["a1"])
        XCTAssertEqual(try read(again, [LabelMatcher(equal: "__name__", "a0")])["a0"]?[0], 0)
        again.close()
    }

    func testRetriesAcrossAFlushComeOnce() throws {
        let engine = try open(makeRoot(), FaultyFileSystem())
        let logs = logBatch([(["a": "b"], 5, "same"), (["a": "b"], 6, "other"), (["a": "b"], 6, "other")], identified: true)
        let spans = spanBatch([(1, 1, "s", "n", 10, 1), (1, 2, "s", "n", 10, 1)])
        for _ in 0..<3 {
            for _ in 0..<2 {
                _ = try engine.appendAndWait(logs, origin: origin())
                _ = try engine.appendAndWait(spans, origin: origin())
                try write(engine, [("m", 1, 1)])
            }
            XCTAssertEqual(try readLogs(engine).lines, ["same", "other"])
            XCTAssertEqual(try readSpans(engine).spans, [1, 2])
            XCTAssertEqual(try read(engine), ["m": [1: 1]])
            try engine.flush()
        }
        XCTAssertEqual(engine.status().signals.map(\.segmentRows), [3, 6, 6])
        engine.close()
    }

    /// Rows of one stream, written in turn by a few big writers and many small ones.
    private func manyOrigins(_ count: Int, from first: Int) -> LogBatch {
        var batch = logBatch((0..<count).map { (["app": "one"], Int64(first + $0), "line \(first + $0)") })
        for writer in 0..<60 {
            var list: [UInt8] = []
            list.appendAttribute("host".utf8, .string("h\(writer % 12)"))
            batch.resources.append(batch.bytes.intern(list))
            list = []
            list.appendAttribute("name".utf8, .string("logger\(writer / 12)"))
            batch.scopes.append(batch.bytes.intern(list))
        }
        for row in 0..<count {
            let writer = row % 3 == 0 ? 7 : row % 3 == 1 ? 31 : row / 3 % 60
            batch.resource[row] = UInt32(1 + writer)
            batch.scope[row] = UInt32(1 + writer)
        }
        return batch
    }

    func testBigStreamsAreDividedByWhoWrote() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        let count = 3 * SegmentLimits.blockRowsMax
        _ = try engine.appendAndWait(manyOrigins(count / 2, from: 0), origin: origin())
        _ = try engine.appendAndWait(manyOrigins(count / 2, from: count / 2), origin: origin())
        try engine.flush()
        XCTAssertEqual(try readLogs(engine).lines, (0..<count).map { "line \($0)" })
        XCTAssertEqual(try readLogs(engine, [], 100..<200).lines, (100..<200).map { "line \($0)" })
        let newest = LogCollector()
        try engine.scanLogs(
            LogSelection(matchers: [], startNanos: .min, endNanos: .max, direction: .backward, limit: 10), context: context(), into: newest)
        XCTAssertTrue(Set(newest.lines).isSuperset(of: (count - 10..<count).map { "line \($0)" }))
        engine.close()
        for path in segments(disk) {
            let reader = try LogSegmentReader.open(disk, path)
            // Two thirds of the rows are of two writers; a block of one of them has few others.
            let own = try reader.blocks.indices.filter { block in
                let batch = try reader.read(block: block)
                let writers = batch.resource.indices.map { UInt64(batch.resource[$0]) << 32 | UInt64(batch.scope[$0]) }
                return Dictionary(grouping: writers) { $0 }.values.contains { $0.count * 4 > writers.count * 3 }
            }
            XCTAssertGreaterThanOrEqual(own.reduce(0) { $0 + reader.blocks[$1].rows }, count / 2)
        }
    }

    func testDaysAndTenantsGetTheirSegments() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        // A backfill of fifty years shares a segment; a day with much data has its own.
        try write(engine, (0..<600).map { ("a", Int64($0) * 30 * 86_400_000, 1) }, tenant: "x")
        var big = MetricBatch()
        let labels = Labels([("__name__", "big")])
        big.series.append(MetricBatch.Series(labels: big.bytes.intern(labels.bytes), firstSample: 0, sampleCount: 1_300_000))
        big.timesMillis = (0..<1_300_000).map { $0 * 100 }
        big.values = big.timesMillis.map { Double($0) }
        XCTAssertEqual(try engine.appendAndWait(big, origin: origin("y")).accepted, 1_300_000)
        try engine.flush()
        XCTAssertEqual(
            segments(disk).map { String($0.dropFirst(root.count)) },
            [
                "/tenants/x/metrics/1970-01-01/m-0000000000000001-0000-0003.seg",
                "/tenants/y/metrics/1970-01-01/m-0000000000000001-0001-0003.seg",
                "/tenants/y/metrics/1970-01-02/m-0000000000000001-0002-0003.seg",
            ])
        XCTAssertEqual(try read(engine, tenant: "x")["a"]?.count, 600)
        XCTAssertEqual(try read(engine, [], 86_399_900...86_400_100, tenant: "y")["big"]?.count, 3)
        engine.close()
    }

    func testInterruptedFlushIsUndoneAndReplayed() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        for tenant in ["x", "y", "z"] { try write(engine, [("a", 1, 1)], tenant: tenant) }
        _ = try engine.appendAndWait(logBatch([([:], 1, "one")]), origin: origin())
        let logged = disk.paths.filter { $0.hasSuffix(".wal") }.map { ($0, (try? disk.readAll($0)) ?? []) }
        try engine.flush()
        engine.close()
        let members = segments(disk).filter { $0.contains("/metrics/") }
        XCTAssertEqual(members.count, 3)
        // The state between two renames: some members, the whole log, and no row in the catalogue (or even rows).
        for missing in 0...3 {
            for path in members.prefix(missing) { disk.erase(path) }
            for (path, bytes) in logged { try disk.writeAtomically(path, bytes) }
            let again = try open(root, disk)
            for tenant in ["x", "y", "z"] { XCTAssertEqual(try read(again, tenant: tenant), ["a": [1: 1]], "\(missing) members missing") }
            XCTAssertEqual(try readLogs(again).lines, ["one"])
            XCTAssertEqual(again.status().signals.map { $0.headRows + $0.segmentRows }, [3, 1, 0])
            again.close()
            XCTAssertEqual(segments(disk).filter { $0.contains("/metrics/") }, members)
        }
        // Whole groups, and the file that was flushed is the newest there is: its records are passed over one by one.
        for path in logFiles(disk) { disk.erase(path) }
        for (path, bytes) in logged { try disk.writeAtomically(path, bytes) }
        let again = try open(root, disk)
        XCTAssertEqual(try readLogs(again).lines, ["one"])
        XCTAssertEqual(again.status().signals.map { $0.headRows + $0.segmentRows }, [3, 1, 0])
        again.close()
    }

    func testCatalogueIsDerived() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        try write(engine, [("a", 1, 1)])
        engine.close()
        let catalog = root + "/index/catalog.sqlite"
        for damage in [Data?.none, Data("garbage that is no database but long enough to have a header".utf8), Data()] {
            try? FileManager.default.removeItem(atPath: catalog)
            try damage?.write(to: URL(fileURLWithPath: catalog))
            let again = try open(root, disk)
            XCTAssertEqual(try read(again), ["a": [1: 1]])
            try again.rebuildIndex()
            again.close()
            XCTAssertGreaterThan(try FileManager.default.contentsOfDirectory(atPath: root + "/index").count, 0)
        }
        // A row whose file is gone is forgotten.
        for path in segments(disk) { disk.erase(path) }
        let empty = try open(root, disk)
        XCTAssertEqual(try read(empty), [:])
        XCTAssertEqual(empty.status().signals.map(\.segments), [0, 0, 0])
        empty.close()
    }

    /// Out of descriptors, or started once as another user: the segments are well and stay where they are.
    func testSegmentThatCannotBeOpenedIsNoDamage() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        try write(engine, [("a", 1, 1)])
        engine.close()
        for code in [ObsError.Code.overloaded, .unavailable] {
            disk.setOpenError(ObsError(code, "cannot open"))
            XCTAssertThrowsError(try open(root, disk)) { XCTAssertEqual(($0 as? ObsError)?.code, code) }
        }
        disk.setOpenError(nil)
        XCTAssertFalse(disk.paths.contains { $0.hasPrefix(root + "/quarantine/") })
        let again = try open(root, disk)
        XCTAssertEqual(try read(again), ["a": [1: 1]])
        again.close()
    }

    func testDamagedSegmentIsSetAsideAndTheRestServes() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        try write(engine, [("a", 1, 1)], tenant: "x")
        try write(engine, [("a", 1, 2)], tenant: "y")
        engine.close()
        let victim = try XCTUnwrap(segments(disk).first { $0.contains("/x/") })
        disk.damage(victim) { $0.removeLast(10) }
        DiagnosticLog.threshold = .error
        let again = try open(root, disk)
        XCTAssertEqual(again.status().quarantined, 1)
        XCTAssertEqual(try read(again, tenant: "x"), [:])
        XCTAssertEqual(try read(again, tenant: "y"), ["a": [1: 2]])
        XCTAssertFalse(disk.exists(victim))
        XCTAssertTrue(disk.paths.contains { $0.hasPrefix(root + "/quarantine/") })
        // A segment that breaks while we run: that read fails with the place, the next does not see it.
        let other = try XCTUnwrap(segments(disk).first { $0.contains("/y/") })
        again.close()
        let third = try open(root, disk)
        disk.damage(other) { $0[$0.count - 40] ^= 1 }
        XCTAssertThrowsError(try read(third, tenant: "y")) { XCTAssertEqual(($0 as? ObsError)?.code, .corrupt) }
        XCTAssertEqual(try read(third, tenant: "y"), [:])
        XCTAssertEqual(third.status().quarantined, 1)
        third.close()
    }

    func testRetentionDropsWholeSegmentsOnceUnread() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk, retentionMillis: 2 * 86_400_000)
        let now = clock.nowMillis()
        try write(engine, [("a", now, 1)])
        _ = try engine.appendAndWait(logBatch([([:], now * 1_000_000, "old")]), origin: origin())
        try engine.flush()
        XCTAssertEqual(segments(disk).count, 2)
        clock.advance(millis: 86_400_000)
        try write(engine, [("a", clock.nowMillis(), 2)])
        try engine.flush()
        engine.enforceRetention()
        XCTAssertEqual(segments(disk).count, 3)
        clock.advance(millis: 86_400_000 + 1)
        // Held by a read in progress, the file stays until it is done.
        var set: (any SeriesSet)? = try engine.series([], range: .min ... .max, context: context())
        engine.enforceRetention()
        XCTAssertEqual(segments(disk).count, 2)
        XCTAssertEqual(try set?.next()?.values, [1, 2])
        set = nil
        XCTAssertEqual(segments(disk).count, 1)
        XCTAssertEqual(try read(engine)["a"]?.count, 1)
        XCTAssertEqual(try readLogs(engine).lines, [])
        engine.close()
        let again = try open(root, disk, retentionMillis: 2 * 86_400_000)
        XCTAssertEqual(try read(again)["a"]?.count, 1)
        again.close()
    }

    func testFullDiskRefusesAndRecovers() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.freeBytesMin = 0 }
        try write(engine, [("a", 1, 1)])
        disk.setRoom(10)
        DiagnosticLog.threshold = .error
        XCTAssertThrowsError(try write(engine, [("b", 2, 2)])) { XCTAssertEqual(($0 as? ObsError)?.code, .overloaded) }
        XCTAssertThrowsError(try engine.appendAndWait(logBatch([([:], 1, "refused")]), origin: origin()))
        XCTAssertEqual(try readLogs(engine).lines, [], "what was refused is not seen")
        XCTAssertThrowsError(try engine.flush())
        XCTAssertEqual(try read(engine)["a"], [1: 1])
        disk.setRoom(nil)
        try write(engine, [("b", 2, 2)])
        _ = try engine.appendAndWait(logBatch([([:], 1, "taken")]), origin: origin())
        var random = SplitMix(state: 5)
        let other = makeRoot()
        let replayed = try open(other, disk.afterPowerCut(from: root, to: other, using: &random))
        XCTAssertEqual(try read(replayed), ["a": [1: 1], "b": [2: 2]])
        XCTAssertEqual(try readLogs(replayed).lines, ["taken"])
        replayed.close()
        try engine.flush()
        XCTAssertEqual(try read(engine), ["a": [1: 1], "b": [2: 2]])
        XCTAssertEqual(try readLogs(engine).lines, ["taken"])
        engine.close()
        let low = try open(makeRoot(), disk) { $0.freeBytesMin = .max }
        XCTAssertThrowsError(try write(low, [("a", 1, 1)])) { XCTAssertTrue("\($0)".contains("storage.free-bytes-min"), "\($0)") }
        low.close()
    }

    func testHeadMemoryIsBounded() throws {
        let disk = FaultyFileSystem()
        let engine = try open(makeRoot(), disk) { $0.headBytesMax = 2 << 20 }
        disk.setRoom(nil)
        var refused = false
        for round in 0..<3000 {
            do {
                try write(engine, (0..<50).map { ("m\(round)_\($0)", 1, 1) })
            } catch {
                XCTAssertEqual((error as? ObsError)?.code, .overloaded)
                refused = true
                break
            }
        }
        // Either the flushes kept up or the bound was named; never more memory than the bound and one batch.
        XCTAssertLessThan(engine.status().signals[0].headBytes, 4 << 20)
        _ = refused
        engine.close()
    }
}
