import Foundation
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Label sets, names and values, of heads and segments.
final class LabelLookupTests: EngineTestCase {
    private struct Question {
        var selectors: [[LabelMatcher]]
        var range: ClosedRange<Int64>
        var limit: Int
    }

    /// A hundred label sets with one sample each, some of them twice; few names, so that questions meet several.
    private func batch(_ random: inout SplitMix, _ count: Int) -> MetricBatch {
        var batch = MetricBatch()
        for _ in 0..<count {
            var pairs = [("__name__", "m\(Int.random(in: 0..<5, using: &random))"), ("id", "\(Int.random(in: 0..<60, using: &random))")]
            if Bool.random(using: &random) { pairs.append(("zone", ["a", "b", "ü"].randomElement(using: &random) ?? "")) }
            if Int.random(in: 0..<9, using: &random) == 0 { pairs.removeFirst() }
            batch.append(Labels(pairs), timeMillis: Int64.random(in: 0..<1000, using: &random), value: 1)
        }
        return batch
    }

    private func question(_ random: inout SplitMix) throws -> Question {
        let matchers: [LabelMatcher] = try [
            LabelMatcher(equal: "__name__", "m1"), LabelMatcher("__name__", .matches, "m[23]"), LabelMatcher(equal: "zone", "a"),
            LabelMatcher(equal: "zone", ""),
            LabelMatcher("zone", .notEqual, ""), LabelMatcher("zone", .notEqual, "ü"), LabelMatcher("zone", .matches, "a|b|"),
            LabelMatcher("id", .matches, "1.*"),
            LabelMatcher("id", .matchesNot, "[1-5].*"), LabelMatcher(equal: "id", "7"), LabelMatcher(equal: "nothing", "x"),
            LabelMatcher("nothing", .notEqual, "x"),
        ]
        let selectors = (0..<Int.random(in: 0...2, using: &random)).map { _ in
            Array(matchers.shuffled(using: &random).prefix(Int.random(in: 1...2, using: &random)))
        }
        let start = Int64.random(in: -10..<1000, using: &random)
        let range = Bool.random(using: &random) ? Int64.min ... .max : start...start + Int64.random(in: 0..<400, using: &random)
        return Question(selectors: selectors, range: range, limit: [.max, .max, 0, 1, 3, 20].randomElement(using: &random) ?? 1)
    }

    private func assertSame(_ engine: any Reader, _ model: any Reader, _ signal: Signal, _ question: Question, line: UInt = #line) throws {
        let (selectors, range, limit) = (question.selectors, question.range, question.limit)
        let context = try context()
        XCTAssertEqual(
            try engine.labelSets(signal, selectors, range: range, limit: limit, context: context),
            try model.labelSets(signal, selectors, range: range, limit: limit, context: context), "\(question)", line: line)
        XCTAssertEqual(
            try engine.labelNames(signal, selectors, range: range, limit: limit, context: context),
            try model.labelNames(signal, selectors, range: range, limit: limit, context: context), "\(question)", line: line)
        for name in ["__name__", "id", "zone", "nothing"] {
            XCTAssertEqual(
                try engine.labelValues(signal, name, selectors, range: range, limit: limit, context: context),
                try model.labelValues(signal, name, selectors, range: range, limit: limit, context: context), "\(name) \(question)", line: line)
        }
    }

    func testMetricsAsInAModel() throws {
        var random = SplitMix(state: 11)
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.maintainsItself = false }
        let model = InMemoryStore()
        // A series' time is that from its first to its last sample, so each gets one only.
        var known = Set<Labels>()
        for round in 0..<6 {
            let all = batch(&random, 120)
            var fresh = MetricBatch()
            for series in all.series where known.insert(all.labels(of: series)).inserted {
                fresh.append(all.labels(of: series), timeMillis: all.timesMillis[Int(series.firstSample)], value: 1)
            }
            for store in [engine, model] as [any Appender] { _ = try store.appendAndWait(fresh, origin: origin()) }
            for _ in 0..<60 { try assertSame(engine, model, .metrics, question(&random)) }
            if round % 2 == 0 { try engine.flush() }
        }
        engine.close()
    }

    func testStreamsAsInAModel() throws {
        var random = SplitMix(state: 12)
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.maintainsItself = false }
        let model = InMemoryStore()
        for round in 0..<4 {
            let rows = (0..<40).map { _ in
                (["id": "\(Int.random(in: 0..<9, using: &random))", "zone": Bool.random(using: &random) ? "a" : "b"], Int64(5), "line")
            }
            for store in [engine, model] as [any Appender] { _ = try store.appendAndWait(logBatch(rows), origin: origin()) }
            for _ in 0..<40 {
                var question = try question(&random)
                question.range = .min ... .max
                try assertSame(engine, model, .logs, question)
            }
            if round % 2 == 0 { try engine.flush() }
        }
        engine.close()
    }

    func testDeletedSeriesDoNotCount() throws {
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.maintainsItself = false }
        var batch = MetricBatch()
        for id in 0..<50 {
            for time in [100, 200] as [Int64] { batch.append(Labels([("__name__", "m\(id % 2)"), ("id", "\(10 + id)")]), timeMillis: time, value: 1) }
        }
        _ = try engine.appendAndWait(batch, origin: origin())
        func values(_ name: String, _ range: ClosedRange<Int64>) throws -> [String] {
            let values = try engine.labelValues(.metrics, name, [], range: range, context: context())
            let sets = try engine.labelSets(.metrics, [], range: range, context: context())
            XCTAssertEqual(values, Set(sets.compactMap { $0[name] }).sorted())
            return values
        }
        let tenant = try TenantID("default")
        try engine.delete(tenant, .metrics, [[LabelMatcher(equal: "__name__", "m1")]], range: 0...150)
        XCTAssertEqual(try values("__name__", 0...300), ["m0", "m1"])
        XCTAssertEqual(try values("__name__", 0...150), ["m0"])
        XCTAssertEqual(try values("id", 0...150).count, 25)
        try engine.delete(tenant, .metrics, [[LabelMatcher("id", .matches, "2.")], [LabelMatcher(equal: "id", "11")]], range: 0...300)
        XCTAssertEqual(try values("id", 0...300).count, 50 - 11)
        XCTAssertEqual(try engine.labelNames(.metrics, [[LabelMatcher(equal: "id", "11")]], range: 0...300, context: context()), [])
        // Written after the deletion, so it counts.
        batch = MetricBatch()
        batch.append(Labels([("__name__", "m1"), ("id", "11")]), timeMillis: 250, value: 1)
        _ = try engine.appendAndWait(batch, origin: origin())
        XCTAssertEqual(try values("id", 0...300).count, 50 - 10)
        engine.close()
    }

    /// Many series of one name: found by any label through the head's index, also those that came after it was made.
    func testHeadIndexGrowsWithTheHead() throws {
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.maintainsItself = false }
        let before = engine.status().signals[0].headBytes
        for round in 0..<3 {
            var batch = MetricBatch()
            for id in round * 3000..<(round + 1) * 3000 {
                batch.append(Labels([("__name__", "m"), ("id", "\(100_000 + id)"), ("shard", "\(id % 7)")]), timeMillis: 5, value: Double(id))
            }
            _ = try engine.appendAndWait(batch, origin: origin())
            let count = (round + 1) * 3000
            for id in [0, 1, count - 1] {
                let matchers = [LabelMatcher(equal: "__name__", "m"), LabelMatcher(equal: "id", "\(100_000 + id)")]
                let set = try engine.series(matchers, range: 0...9, context: context())
                XCTAssertEqual(try set.next()?.values, [Double(id)])
                XCTAssertNil(try set.next())
                XCTAssertEqual(try engine.labelValues(.metrics, "shard", [[matchers[1]]], range: 0...9, context: context()), ["\(id % 7)"])
            }
            XCTAssertEqual(
                try engine.labelSets(
                    .metrics, [[LabelMatcher(equal: "shard", "3"), LabelMatcher("id", .notEqual, "100003")]], range: 0...9, context: context()
                )
                .count, (0..<count).filter { $0 % 7 == 3 }.count - 1)
            XCTAssertEqual(try engine.labelValues(.metrics, "id", [], range: 0...9, limit: 3, context: context()), ["100000", "100001", "100002"])
            XCTAssertEqual(try engine.labelValues(.metrics, "id", [], range: 0...9, context: context()).count, count)
            XCTAssertEqual(try engine.labelValues(.metrics, "id", [], range: 6...9, context: context()), [])
        }
        try write(engine, [("other", 5, 1)])
        let held = engine.status().signals[0].headBytes - before
        try engine.flush()
        XCTAssertEqual(engine.status().signals[0].headBytes, 0, "the index went with its generation")
        XCTAssertGreaterThan(held, 9000 * (72 + 24), "series and index entries are counted")
        engine.close()
    }

    /// What a question holds grows with its answer, not with the series there are.
    func testMemoryIsByAnswer() throws {
        let engine = try open(makeRoot(), FaultyFileSystem()) { $0.maintainsItself = false }
        var batch = MetricBatch()
        for id in 0..<20_000 { batch.append(Labels([("__name__", "m"), ("id", "\(100_000 + id)")]), timeMillis: 5, value: 1) }
        _ = try engine.appendAndWait(batch, origin: origin())
        var limits = Limits()
        // Above what ids of all series take meanwhile, below what their labels would.
        limits.queryBytesMax = 500_000
        func context() throws -> QueryContext { QueryContext(tenant: try TenantID("default"), limits: limits) }
        for place in ["head", "segment"] {
            for range in [0...9, Int64(5)...5] as [ClosedRange<Int64>] {
                XCTAssertEqual(try engine.labelNames(.metrics, [], range: range, context: context()), ["__name__", "id"], place)
                XCTAssertEqual(try engine.labelValues(.metrics, "__name__", [], range: range, context: context()), ["m"], place)
                XCTAssertEqual(try engine.labelValues(.metrics, "id", [], range: range, limit: 100, context: context()).last, "100099", place)
                XCTAssertEqual(try engine.labelSets(.metrics, [], range: range, limit: 100, context: context()).last?["id"], "100099", place)
                for ask in [
                    { _ = try engine.labelValues(.metrics, "id", [], range: range, context: context()) },
                    { _ = try engine.labelSets(.metrics, [], range: range, context: context()) },
                ] { XCTAssertThrowsError(try ask(), place) { XCTAssertEqual(($0 as? ObsError)?.code, .limitExceeded) } }
            }
            try engine.flush()
        }
        engine.close()
    }

    /// Law 2: rows of the catalogue grow with segments, never with series.
    func testCatalogueDoesNotGrowWithSeries() throws {
        func catalogueBytes(series: Int) throws -> Int {
            let root = makeRoot()
            let engine = try open(root, FaultyFileSystem()) { $0.maintainsItself = false }
            var batch = MetricBatch()
            for id in 0..<series {
                batch.append(
                    Labels([("__name__", "metric_\(id % 50)"), ("instance", "host-\(id)"), ("pod", "pod-\(id / 3)")]), timeMillis: 5, value: Double(id))
            }
            _ = try engine.appendAndWait(batch, origin: origin())
            try engine.flush()
            XCTAssertEqual(engine.status().signals[0].segments, 1)
            engine.close()
            let files = try FileManager.default.contentsOfDirectory(atPath: root + "/index").map { root + "/index/" + $0 }
            return try files.reduce(0) { $0 + (try FileManager.default.attributesOfItem(atPath: $1)[.size] as? Int ?? 0) }
        }
        let few = try catalogueBytes(series: 1000)
        XCTAssertGreaterThan(few, 0)
        XCTAssertEqual(try catalogueBytes(series: 50_000), few)
    }
}
