internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Summed up from statistics, series are what their samples sum up to.
final class SummaryTests: EngineTestCase {
    /// Of every series of a range, both ways.
    @discardableResult
    private func assertEqual(_ engine: StorageEngine, _ range: ClosedRange<Int64>, _ parts: SummaryParts, _ message: String) throws -> Int {
        let samples = try engine.series([], range: range, context: context())
        let context = try context()
        let summaries = try engine.series([], range: range, context: context)
        while let series = try samples.next() {
            let found = try XCTUnwrap(try summaries.nextSummary(parts), "\(message): series missing")
            XCTAssertEqual(found.labels, series.labels, message)
            var expected = SampleSummary()
            expected.append(timesMillis: series.timesMillis, values: series.values)
            assertSame(found.samples, expected, parts, "\(message) \(series.labels) \(range)")
        }
        XCTAssertNil(try summaries.nextSummary(parts), message)
        return context.statistics.samples
    }

    func testFlushesMergesLateSamplesDeletions() throws {
        for seed in 0..<8 as Range<UInt64> {
            var random = SplitMix(state: seed)
            let root = makeRoot()
            let disk = MemoryFileSystem()
            var engine = try open(root, disk) { $0.maintainsItself = false }
            var clocks = [Int64](repeating: 0, count: 6)
            for step in 0..<60 {
                switch Int.random(in: 0..<12, using: &random) {
                case 0...5:
                    let name = Int.random(in: 0..<6, using: &random)
                    let count = Int.random(in: 1...400, using: &random)
                    let values = (0..<count).map { sampleValue(kind: name, clocks[name] + Int64($0), &random) }
                    try write(engine, values.enumerated().map { ("m\(name)", (clocks[name] + Int64($0.offset)) * 10, $0.element) })
                    clocks[name] += Int64(count)
                case 6:
                    // Late, between and upon samples that are there.
                    let name = Int.random(in: 0..<6, using: &random)
                    let first = Int64.random(in: 0...max(1, clocks[name]), using: &random) * 10
                    try write(engine, (0..<5).map { ("m\(name)", first + Int64($0) * 5, sampleValue(kind: name, $0, &random)) })
                case 7, 8: try engine.flush()
                case 9: try engine.merge()
                case 10:
                    let first = Int64.random(in: 0...5000, using: &random)
                    let name = "m\(Int.random(in: 0..<6, using: &random))"
                    try engine.delete(.default, .metrics, [[LabelMatcher(equal: "__name__", name)]], range: first...first + 300)
                default:
                    engine.close()
                    engine = try open(root, disk) { $0.maintainsItself = false }
                }
                if step % 6 == 0 {
                    let first = Int64.random(in: -10...6000, using: &random)
                    for range in [.min ... .max, first...first + Int64.random(in: 0...9000, using: &random)] as [ClosedRange<Int64>] {
                        for parts in [[], .values, .all, .newest, [.newest, .values]] as [SummaryParts] {
                            try assertEqual(engine, range, parts, "seed \(seed) step \(step)")
                        }
                    }
                }
            }
            engine.close()
        }
    }

    /// What lies wholly within the range is not read; a late sample within a chunk's times makes that chunk read, and no other.
    func testOnlyWhatMustBeIsRead() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        try write(engine, (0..<3000).map { ("a", Int64($0) * 10, Double($0)) } + (0..<3000).map { ("b", Int64($0) * 10, 0.25) })
        try engine.flush()
        XCTAssertEqual(try assertEqual(engine, .min ... .max, .all, "all"), 0)
        XCTAssertEqual(try assertEqual(engine, 1...100_000, .all, "first chunk partly"), 2 * 1023)
        XCTAssertEqual(try assertEqual(engine, 25_000...29_995, [.newest, .values], "the newest of a chunk that is cut"), 0)
        XCTAssertEqual(try assertEqual(engine, 25_000...29_000, .newest, "what comes after the range"), 2 * 401)
        try write(engine, [("a", 10_241, 7)])
        XCTAssertEqual(try assertEqual(engine, .min ... .max, .all, "late in the head"), 1025)
        try engine.flush()
        XCTAssertEqual(try assertEqual(engine, .min ... .max, .all, "late in a segment"), 1025)
        try engine.delete(.default, .metrics, [[LabelMatcher(equal: "__name__", "b")]], range: 5...15)
        XCTAssertEqual(try assertEqual(engine, .min ... .max, .all, "deleted"), 1025 + 1024)
    }

    /// Rules of NaNs and infinities, whichever way they come.
    func testSpecialValues() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        let tails: [(String, [Double])] = [
            ("stale", [SpecialValue.stale]), ("nan", [.nan, 1]), ("infinite", [.infinity, 3]), ("both", [.infinity, -.infinity]), ("zeros", [0, -0.0, 0]),
            ("denormal", [5e-324, -5e-324]), ("huge", [1e308, 1e308, -1e308]), ("reset", [1e15, 0.1, 0.3]),
        ]
        for (name, tail) in tails {
            for (kind, values) in [("tail", [Double](repeating: 2, count: 30) + tail), ("head", tail + [Double](repeating: 2, count: 30)), ("all", tail)] {
                try write(engine, values.enumerated().map { ("\(name)_\(kind)", Int64($0.offset), $0.element) })
            }
        }
        try assertEqual(engine, .min ... .max, .all, "head")
        try engine.flush()
        for parts in [[], .values, .resets, .all] as [SummaryParts] { try assertEqual(engine, .min ... .max, parts, "segment") }
    }
}

/// Values as series of a kind have them, now and then special.
private func sampleValue(kind: Int, _ index: Int64, _ random: inout SplitMix) -> Double {
    switch (kind, Int.random(in: 0..<300, using: &random)) {
    case (0...3, 0): return SpecialValue.stale
    case (1, 1): return .nan
    case (1, 2): return .infinity
    case (2, 1...4): return 0
    default: break
    }
    switch kind {
    case 0: return Double(index * 7 + Int64.random(in: 0..<3, using: &random))
    case 1: return Double(Int64.random(in: -500...500, using: &random)) / 100
    case 2: return Double(index * 1_000_003) / 1000
    case 3: return 1.5
    case 4: return Double.random(in: -1...1, using: &random)
    default: return index % 500 < 300 ? 0 : -0.0
    }
}

/// - Parameter parts: those that must be the same.
func assertSame(_ found: SampleSummary, _ expected: SampleSummary, _ parts: SummaryParts, _ message: String) {
    func same(_ a: Double, _ b: Double) -> Bool { a.bitPattern == b.bitPattern || a.isNaN && b.isNaN }
    if parts.contains(.newest) {
        XCTAssertEqual(found.endsStale, expected.endsStale, "end of \(message)")
        if expected.endsStale { return }
        XCTAssertEqual(found.lastMillis, expected.lastMillis, "newest time of \(message)")
        XCTAssertTrue(!parts.contains(.values) || same(found.last, expected.last), "newest value of \(message)")
        XCTAssertGreaterThan(found.count, 0, message)
        return
    }
    XCTAssertTrue(found.known.isSuperset(of: parts), message)
    XCTAssertEqual(found.count, expected.count, "count of \(message)")
    XCTAssertEqual(found.staleCount, expected.staleCount, "stale markers of \(message)")
    XCTAssertEqual(found.endsStale, expected.endsStale, "end of \(message)")
    XCTAssertEqual([found.firstMillis, found.lastMillis], [expected.firstMillis, expected.lastMillis], "times of \(message)")
    if parts.contains(.values) {
        XCTAssertTrue(same(found.first, expected.first) && same(found.last, expected.last), "first or last of \(message)")
        for (a, b) in [(found.smallest, expected.smallest), (found.greatest, expected.greatest)] {
            XCTAssertTrue(a == b || a.isNaN && b.isNaN, "\(a) instead of \(b), an extreme of \(message)")
        }
        XCTAssertTrue(
            found.total == expected.total || found.total.isNaN && expected.total.isNaN, "\(found.total) instead of \(expected.total), sum of \(message)")
    }
    if parts.contains(.resets) {
        XCTAssertEqual(found.resets, expected.resets, "resets of \(message)")
        let differs = abs(found.resetDrop - expected.resetDrop) > 1e-12 * abs(expected.resetDrop)
        XCTAssertFalse(differs, "\(found.resetDrop) instead of \(expected.resetDrop), drop of \(message)")
    }
}
