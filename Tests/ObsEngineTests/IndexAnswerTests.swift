internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

final class IndexAnswerTests: EngineTestCase {
    /// Of segments and head what is read of them; never less.
    func testEstimatesBoundWhatIsRead() throws {
        let engine = try open(makeRoot(), MemoryFileSystem())
        defer { engine.close() }
        var expected: Set<Labels> = []
        for part in 0..<3 {
            var batch = MetricBatch()
            for number in 0..<30 {
                let labels = Labels([("__name__", "m\(number % 2)"), ("id", "\(number + part * 10)")])
                if number % 2 == 0 { expected.insert(labels) }
                for step in 0..<20 { batch.append(labels, timeMillis: Int64(part * 1_000_000 + step * 15_000), value: Double(step)) }
            }
            try engine.appendAndWait(batch, origin: origin())
            if part < 2 { try engine.flush() }
        }
        let matchers = [LabelMatcher(equal: "__name__", "m0")]
        let all = try engine.estimate(matchers, range: 0...3_000_000, context: context())
        XCTAssertEqual(all.series, expected.count)
        XCTAssertEqual(all.samples, 3 * 15 * 20)
        XCTAssertEqual(all.segments, 2)
        XCTAssertEqual(all.times, 0...2_285_000)
        XCTAssertGreaterThan(all.blocks, 2 * 2)
        XCTAssertGreaterThan(all.bytes, 15 * 20 * 16)
        let head = try engine.estimate(matchers, range: 2_000_000...2_100_000, context: context())
        XCTAssertEqual(head.series, 15)
        XCTAssertEqual(head.segments, 0)
        XCTAssertEqual(head.times, 2_000_000...2_100_000)
        XCTAssertGreaterThanOrEqual(head.samples, 15 * 7)
        let segment = try engine.estimate(matchers, range: 100_000...200_000, context: context())
        XCTAssertEqual(segment.series, 15)
        XCTAssertEqual(segment.segments, 1)
        XCTAssertGreaterThanOrEqual(segment.samples, 15 * 6)
        XCTAssertEqual(try engine.estimate([LabelMatcher(equal: "__name__", "no")], range: 0...3_000_000, context: context()), ReadEstimate())
    }

    func testLabelSetsOneByOne() throws {
        let engine = try open(makeRoot(), MemoryFileSystem())
        defer { engine.close() }
        for part in 0..<2 {
            for number in 0..<40 { try write(engine, [("m\(number / (part + 1))", Int64(part * 1000 + number), 1)]) }
            if part == 0 { try engine.flush() }
        }
        for (selectors, range) in [([], 0...2000), ([[try LabelMatcher("__name__", .matches, "m1.*")]], 0...2000), ([], 1000...1010)]
            as [([[LabelMatcher]], ClosedRange<Int64>)]
        {
            var found: [Labels] = []
            try engine.forEachLabelSet(.metrics, selectors, range: range, context: context()) { found.append($0) }
            XCTAssertEqual(found, try engine.labelSets(.metrics, selectors, range: range, context: context()))
            XCTAssertFalse(found.isEmpty)
        }
        struct Enough: Error {}
        var count = 0
        do {
            try engine.forEachLabelSet(.metrics, [], range: 0...2000, context: context()) { (_: Labels) throws(ObsError) in
                count += 1
                if count == 3 { throw ObsError(.cancelled, "enough") }
            }
            XCTFail("went on")
        } catch { XCTAssertEqual((error as? ObsError)?.code, .cancelled) }
        XCTAssertEqual(count, 3)
    }
}
