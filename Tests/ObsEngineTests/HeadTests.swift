internal import ObsCore
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// What the head decides, each case before and after a restart that replays the log.
final class HeadTests: EngineTestCase {
    /// Runs `check` on the live engine and on one opened from what a power cut leaves.
    private func twice(_ fill: (StorageEngine) throws -> Void, _ check: (StorageEngine) throws -> Void) throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        try fill(engine)
        try check(engine)
        var random = SplitMix(state: 1)
        let other = makeRoot()
        let again = try open(other, disk.afterPowerCut(from: root, to: other, using: &random))
        try check(again)
        withExtendedLifetime((engine, again)) {}
    }

    func testDuplicatesAndOrder() throws {
        try twice(
            { engine in
                XCTAssertEqual(try write(engine, [("a", 10, 1), ("a", 30, 3), ("a", 20, 2), ("a", 10, 1)]), AppendOutcome(accepted: 3, duplicates: 1))
                XCTAssertEqual(try write(engine, [("a", 30, 3), ("a", 20, 2), ("a", 5, 0)]), AppendOutcome(accepted: 1, duplicates: 2))
                XCTAssertEqual(
                    try write(engine, [("a", 30, 4), ("a", 20, 9), ("b", 20, .nan)]),
                    AppendOutcome(accepted: 1, rejected: 2, reason: "duplicate sample for timestamp"))
            },
            { engine in
                let all = try read(engine)
                XCTAssertEqual(all["a"], [5: 0, 10: 1, 20: 2, 30: 3])
                XCTAssertEqual(all["b"]?.count, 1)
                XCTAssertEqual(try read(engine, [LabelMatcher(equal: "__name__", "a")], 6...20), ["a": [10: 1, 20: 2]])
                XCTAssertEqual(try read(engine, [LabelMatcher("__name__", .matches, "x|y")]), [:])
            })
    }

    /// More series than are copied at a time, and one longer than a copy is.
    func testManySeriesAndLongOnes() throws {
        let engine = try open(makeRoot(), FaultyFileSystem())
        var batch = MetricBatch()
        for index in 0..<600 { batch.append(Labels([("__name__", "s\(index)")]), timeMillis: Int64(index), value: 1) }
        for time in 0..<70_000 { batch.append(Labels([("__name__", "s300")]), timeMillis: Int64(1000 + time), value: Double(time)) }
        try engine.appendAndWait(batch, origin: origin())
        let all = try read(engine)
        XCTAssertEqual(all.count, 600)
        XCTAssertEqual(all["s300"]?.count, 70_001)
        XCTAssertEqual(all["s599"], [599: 1])

        var limits = Limits()
        limits.memory = MemoryBudget(MemoryShares(ceilingBytes: 64 << 20))
        limits.queryBytesMax = 1 << 20
        let context = QueryContext(tenant: .default, limits: limits)
        do {
            let set = try engine.series([], range: .min ... .max, context: context)
            while try set.next() != nil {}
            XCTFail("70,001 samples fit no megabyte")
        } catch { XCTAssertEqual((error as? ObsError)?.code, .limitExceeded) }
    }

    func testBitsSurvive() throws {
        let special: [Double] = [SpecialValue.stale, SpecialValue.normalNaN, -0.0, .infinity, Double.leastNonzeroMagnitude]
        try twice(
            { engine in
                for (index, value) in special.enumerated() { try write(engine, [("s", Int64(index), value)]) }
            },
            { engine in
                let set = try engine.series([], range: 0...100, context: context())
                XCTAssertEqual(try set.next()?.values.map(\.bitPattern), special.map(\.bitPattern))
            })
    }

    func testManySamplesInRandomOrder() throws {
        var random = SplitMix(state: 3)
        let times = (0..<1500 as Range<Int64>).shuffled(using: &random)
        try twice(
            { engine in
                for chunk in stride(from: 0, to: times.count, by: 100) { try write(engine, times[chunk..<chunk + 100].map { ("r", $0, Double($0)) }) }
                XCTAssertEqual(try write(engine, times.prefix(50).map { ("r", $0, Double($0)) }).duplicates, 50)
            },
            { engine in
                XCTAssertEqual(try read(engine)["r"], Dictionary(uniqueKeysWithValues: times.map { ($0, Double($0)) }))
            })
    }

    func testTooOldAndAnyAge() throws {
        let now = clock.nowMillis()
        let engine = try open(makeRoot(), FaultyFileSystem(), retentionMillis: 1000)
        XCTAssertEqual(try write(engine, [("a", now, 1), ("a", now - 1000, 2), ("a", now - 1001, 3)]).rejected, 1)
        XCTAssertEqual(
            try engine.appendAndWait(logBatch([([:], (now - 2000) * 1_000_000, "old"), ([:], now * 1_000_000, "new")]), origin: origin()).accepted, 1)
        XCTAssertEqual(try readLogs(engine).lines, ["new"])
        try twice(
            { engine in
                XCTAssertEqual(try write(engine, [("a", 0, 1), ("a", -86_400_000_000, 2), ("a", .min, 3), ("a", .max, 4)]).accepted, 2)
            }, { engine in XCTAssertEqual(try read(engine)["a"]?.count, 2) })
    }

    func testLabelLimits() throws {
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.limits.labelsMax = 2 }
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "a"), ("b", "c"), ("d", "e")]), timeMillis: 1, value: 1)
        batch.append(Labels([("__name__", "a")]), timeMillis: 1, value: 1)
        let outcome = try engine.appendAndWait(batch, origin: origin())
        XCTAssertEqual(outcome.accepted, 1)
        XCTAssertEqual(outcome.rejected, 1)
        XCTAssertTrue(outcome.reason?.contains("limits.labels") ?? false)
    }

    func testTenantsAreIsolated() throws {
        try twice(
            { engine in
                try write(engine, [("a", 1, 1)], tenant: "x")
                try write(engine, [("a", 1, 2)], tenant: "y")
                _ = try engine.appendAndWait(logBatch([(["app": "q"], 1, "of x")]), origin: origin("x"))
                _ = try engine.appendAndWait(spanBatch([(1, 1, "s", "n", 1, 1)]), origin: origin("y"))
            },
            { engine in
                XCTAssertEqual(try read(engine, tenant: "x"), ["a": [1: 1]])
                XCTAssertEqual(try read(engine, tenant: "y"), ["a": [1: 2]])
                XCTAssertEqual(try read(engine), [:])
                XCTAssertEqual(try readLogs(engine, tenant: "x").lines, ["of x"])
                XCTAssertEqual(try readLogs(engine, tenant: "y").lines, [])
                XCTAssertEqual(try engine.labelNames(.logs, [], range: 0...9, context: context("x")), ["app"])
                XCTAssertEqual(try engine.labelNames(.logs, [], range: 0...9, context: context("y")), [])
                XCTAssertEqual(try readSpans(engine, tenant: "x").spans, [])
                XCTAssertEqual(try readSpans(engine, tenant: "y").spans, [1])
            })
    }

    func testRawRequestsAreReplayed() throws {
        try twice(
            { engine in
                let samples = RawRequest(format: .remoteWrite1, compression: .none, body: Array("up 5 1\nup 6 0\n".utf8))
                guard case .metrics(let metrics) = try TextDecoder().decode(samples, receivedAtNanos: 0, limits: Limits()) else {
                    return XCTFail("not metrics")
                }
                _ = try engine.appendAndWait(metrics, origin: origin("default", samples))
                let lines = RawRequest(format: .jsonLines, compression: .none, parameters: "shop", body: Array("one\ntwo\n".utf8))
                guard case .logs(let logs) = try TextDecoder().decode(lines, receivedAtNanos: clock.nowNanos(), limits: Limits()) else {
                    return XCTFail("not logs")
                }
                _ = try engine.appendAndWait(logs, origin: origin("default", lines))
            },
            { engine in
                XCTAssertEqual(try read(engine), ["up": [5: 1, 6: 0]])
                let sink = try readLogs(engine, [LabelMatcher(equal: "app", "shop")])
                XCTAssertEqual(sink.lines, ["one", "two"])
                XCTAssertEqual(sink.rows.map(\.time).max(), clock.nowNanos() + 1)
            })
    }

    func testIdentifiedLinesComeOnce() throws {
        try twice(
            { engine in
                for _ in 0..<2 {
                    _ = try engine.appendAndWait(
                        logBatch([(["a": "b"], 5, "same"), (["a": "b"], 6, "other"), (["a": "c"], 5, "same")], identified: true), origin: origin())
                    _ = try engine.appendAndWait(logBatch([(["a": "b"], 5, "twice meant")]), origin: origin())
                }
                _ = try engine.appendAndWait(logBatch([(["a": "b"], 9, "x"), (["a": "b"], 9, "x")], identified: true), origin: origin())
            },
            { engine in
                XCTAssertEqual(try readLogs(engine).lines.sorted(), ["other", "same", "same", "twice meant", "twice meant", "x"])
            })
    }

    func testLogSelection() throws {
        try twice(
            { engine in
                for second in 0..<20 as Range<Int64> {
                    _ = try engine.appendAndWait(
                        logBatch([(["app": "x"], second * 10, "request \(second) done"), (["app": "y"], second * 10 + 1, "error \(second)")]), origin: origin())
                }
            },
            { engine in
                XCTAssertEqual(try readLogs(engine).rows.count, 40)
                XCTAssertEqual(try readLogs(engine, [LabelMatcher(equal: "app", "y")], 50..<71).lines, ["error 5", "error 6"])
                XCTAssertEqual(try readLogs(engine, contains: ["7", "quest"]).lines, ["request 7 done", "request 17 done"])
                XCTAssertEqual(try readLogs(engine).rows.first?.time, 190)
                XCTAssertEqual(try readLogs(engine, direction: .forward).rows.first?.time, 0)
                // A sink that has its fill stops the reading.
                final class First: LogSink {
                    var wantedNanos: Range<Int64> = .min ..< .max
                    var batches = 0
                    func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
                        batches += 1
                        wantedNanos = (batch.timeNanos.max() ?? 0) ..< .max
                    }
                }
                let first = First()
                try engine.scanLogs(LogSelection(matchers: [], startNanos: 0, endNanos: 1000), context: context(), into: first)
                XCTAssertEqual(first.batches, 1)
                XCTAssertEqual(try engine.labelValues(.logs, "app", [], range: 0...1000, context: context()), ["x", "y"])
                XCTAssertEqual(try engine.labelSets(.logs, [[LabelMatcher(equal: "app", "x")]], range: 0...5, context: context()), [Labels([("app", "x")])])
            })
    }

    func testSpanSelection() throws {
        let rows: [(UInt64, UInt64, String, String, Int64, Int64)] = [
            (1, 11, "shop", "GET /", 100, 50), (1, 12, "db", "SELECT", 110, 10), (2, 21, "shop", "POST /", 200, 500),
        ]
        try twice(
            { engine in
                for _ in 0..<2 { _ = try engine.appendAndWait(spanBatch(rows), origin: origin()) }
            },
            { engine in
                XCTAssertEqual(try readSpans(engine).spans, [11, 12, 21])
                XCTAssertEqual(try readSpans(engine, SpanSelection(traceIDs: [TraceID(high: 0, low: 1)])).spans, [11, 12])
                XCTAssertEqual(try readSpans(engine, SpanSelection(services: ["shop"])).spans, [11, 21])
                XCTAssertEqual(try readSpans(engine, SpanSelection(names: ["SELECT"], durationNanosMin: 5)).spans, [12])
                XCTAssertEqual(try readSpans(engine, SpanSelection(startNanos: 110, endNanos: 200)).spans, [12])
                XCTAssertEqual(try readSpans(engine, SpanSelection(durationNanosMin: 51)).spans, [21])
            })
    }

    func testLabelQueries() throws {
        try twice(
            { engine in try write(engine, [("a", 10, 1), ("b", 20, 1), ("c", 30, 1)]) },
            { engine in
                XCTAssertEqual(try engine.labelValues(.metrics, "__name__", [], range: 0...100, context: context()), ["a", "b", "c"])
                XCTAssertEqual(try engine.labelValues(.metrics, "__name__", [], range: 15...25, context: context()), ["b"])
                XCTAssertEqual(
                    try engine.labelNames(.metrics, [[LabelMatcher(equal: "__name__", "a")]], range: 0...100, context: context()), ["__name__", "job"])
                let selectors = [[LabelMatcher(equal: "__name__", "a")], [try LabelMatcher("__name__", .matches, "c|d")]]
                XCTAssertEqual(try engine.labelSets(.metrics, selectors, range: 0...100, context: context()).compactMap { $0["__name__"] }, ["a", "c"])
            })
    }

    func testLimitsOfQueries() throws {
        let engine = try open(makeRoot(), FaultyFileSystem())
        try write(engine, (0..<100).map { ("a", $0, 1) })
        var limits = Limits()
        limits.querySamplesMax = 50
        let set = try engine.series([], range: 0...1000, context: QueryContext(tenant: .default, limits: limits))
        XCTAssertThrowsError(try set.next()) { XCTAssertEqual(($0 as? ObsError)?.code, .limitExceeded) }
        let context = try context()
        context.cancel()
        XCTAssertThrowsError(try engine.series([], range: 0...1000, context: context)) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
    }

    func testLockKeepsOthersOut() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk)
        XCTAssertThrowsError(try open(root, disk)) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
        engine.close()
        XCTAssertThrowsError(try write(engine, [("a", 1, 1)])) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
        try open(root, disk).close()
    }
}
