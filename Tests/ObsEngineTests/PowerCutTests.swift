internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// The laws under fire: writers, readers and flushes at once, power cut at random moments. Nothing acknowledged is missing, nothing is there twice.
final class PowerCutTests: EngineTestCase {
    private struct Acknowledged {
        var samples: [String: [Int64: Double]] = [:]
        var lines: Set<String> = []
        var spans: Set<UInt64> = []
    }

    func testPowerCuts() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk) { $0.walFileBytesMax = 20_000 }
        let acknowledged = Monitor(Acknowledged())
        let running = Monitor((writers: 4, stop: false))
        let clock = clock
        for writer in 0..<4 {
            startThread("writer-\(writer)") {
                var random = SplitMix(state: UInt64(writer))
                var step: Int64 = 0
                while !running.read({ $0.stop }) {
                    step += 1
                    usleep(2000)  // a machine that is not busy with the writers alone
                    Self.write(engine, WriteOrigin(tenant: .default, receivedAtNanos: clock.nowNanos()), writer, step, &random, acknowledged)
                }
                running.update { $0.writers -= 1 }
            }
        }
        var random = SplitMix(state: 99)
        for round in 0..<9 {
            if round % 3 == 1 { try engine.flush() }
            usleep(.random(in: 1000...40_000, using: &random))
            let promised = acknowledged.read { $0 }
            let other = makeRoot()
            let left = disk.afterPowerCut(from: root, to: other, using: &random)
            let again = try open(other, left)
            try check(again, promised, "round \(round)")
            again.close()
            let third = try open(other, left)
            try check(third, promised, "round \(round), after a clean stop")
            third.close()
        }
        running.update { $0.stop = true }
        _ = running.wait(until: { $0.writers == 0 ? () : nil })
        try check(engine, acknowledged.read { $0 }, "at the end")
        engine.close()
    }

    private static func write(
        _ engine: StorageEngine, _ origin: WriteOrigin, _ writer: Int, _ step: Int64, _ random: inout SplitMix, _ acknowledged: Monitor<Acknowledged>
    ) {
        let name = "m\(writer)_\(step % 5)"
        var metrics = MetricBatch()
        let times = (0..<3).map { step * 10 + $0 * 2 + (step % 7 == 0 ? -60 : 0) }
        for time in times { metrics.append(Labels([("__name__", name)]), timeMillis: time, value: Double(time)) }
        let line = "writer \(writer) step \(step)"
        let logs = logBatch([(["w": "\(writer)"], step * 1000, line)], identified: step % 2 == 0)
        let span = UInt64(writer) << 32 | UInt64(step)
        let spans = spanBatch([(span, span, "s", "n", step, 1)])
        guard (try? engine.appendAndWait(metrics, origin: origin)) != nil else { return XCTFail("metrics refused") }
        acknowledged.update { state in for time in times { state.samples[name, default: [:]][time] = Double(time) } }
        guard (try? engine.appendAndWait(logs, origin: origin)) != nil, (try? engine.appendAndWait(spans, origin: origin)) != nil else {
            return XCTFail("refused")
        }
        acknowledged.update { state in
            state.lines.insert(line)
            state.spans.insert(span)
        }
    }

    private func check(_ engine: StorageEngine, _ promised: Acknowledged, _ when: String) throws {
        let samples = try read(engine)
        for (name, wanted) in promised.samples {
            for (time, value) in wanted { XCTAssertEqual(samples[name]?[time], value, "\(when): \(name) at \(time)") }
        }
        let lines = try readLogs(engine).lines
        XCTAssertEqual(Set(lines).count, lines.count, "\(when): a line came twice")
        XCTAssertTrue(promised.lines.isSubset(of: lines), "\(when): a line is missing")
        let spans = try readSpans(engine).spans
        XCTAssertEqual(Set(spans).count, spans.count, "\(when): a span came twice")
        XCTAssertTrue(promised.spans.isSubset(of: spans), "\(when): a span is missing")
    }

    /// The engine against the model, one random step after the other, restarted and flushed in between.
    func testAgainstTheModel() throws {
        for seed in 0..<4 as Range<UInt64> {
            var random = SplitMix(state: seed)
            let root = makeRoot()
            let disk = FaultyFileSystem()
            var engine = try open(root, disk)
            let model = InMemoryStore()
            for step in 0..<120 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0...4:
                    let samples = (0..<Int.random(in: 1...30, using: &random)).map { _ in
                        (
                            name: "m\(Int.random(in: 0..<4, using: &random))", time: Int64.random(in: 0..<50, using: &random) * 20_000_000,
                            value: Double(Int.random(in: 0..<3, using: &random))
                        )
                    }
                    try write(engine, samples)
                    try write(model, samples)
                case 5, 6:
                    let rows = (0..<3).map { _ in
                        (stream: ["app": "\(Int.random(in: 0..<3, using: &random))"], time: Int64.random(in: 0..<100, using: &random), line: "step \(step)")
                    }
                    _ = try engine.appendAndWait(logBatch(rows), origin: origin())
                    _ = try model.appendAndWait(logBatch(rows), origin: origin())
                case 7: try engine.flush()
                case 8:
                    engine.close()
                    engine = try open(root, disk)
                default:
                    let low = Int64.random(in: 0..<800_000_000, using: &random)
                    let matcher = try LabelMatcher("__name__", .matches, "m[0-\(Int.random(in: 0..<4, using: &random))]")
                    XCTAssertEqual(
                        try read(engine, [matcher], low...low + 300_000_000), try read(model, [matcher], low...low + 300_000_000), "seed \(seed) step \(step)")
                    let app = LabelMatcher(equal: "app", "\(Int.random(in: 0..<3, using: &random))")
                    XCTAssertEqual(try readLogs(engine, [app], 20..<70).lines, try readLogs(model, [app], 20..<70).lines, "seed \(seed) step \(step)")
                }
            }
            XCTAssertEqual(try read(engine), try read(model))
            XCTAssertEqual(try readLogs(engine).lines, try readLogs(model).lines)
            engine.close()
        }
    }
}
