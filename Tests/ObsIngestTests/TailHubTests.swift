import ObsCore
import ObsLogQL
import Synchronization
import XCTest

@testable import ObsIngest

final class TailHubTests: XCTestCase {
    private func batch(_ lines: [String], app: String = "a") -> LogBatch {
        var batch = LogBatch()
        batch.streams = [batch.bytes.intern(Labels([("app", app)]).bytes)]
        for (index, line) in lines.enumerated() {
            batch.appendRow(stream: 0, timeNanos: Int64(index), severity: 0, line: batch.bytes.intern(line.utf8))
        }
        return batch
    }

    private func lines(_ tail: TailSubscription) -> [String] { tail.take().entries.map { String(decoding: $0.entry.line, as: UTF8.self) } }

    func testMatchesStreamsThenLines() throws {
        let hub = TailHub()
        let wakes = Atomic<Int>(0)
        let tail = try hub.subscribe(CompiledLogQuery("{app=\"a\"} |= \"err\""), tenant: .default, queueMax: 10) { wakes.add(1, ordering: .relaxed) }
        hub.publish(batch(["err 1", "ok", "err 2"]), tenant: .default)
        hub.publish(batch(["err 3"], app: "b"), tenant: .default)
        hub.publish(batch(["err 4"]), tenant: try TenantID("other"))
        hub.drain()
        XCTAssertEqual(lines(tail), ["err 1", "err 2"])
        XCTAssertEqual(wakes.load(ordering: .relaxed), 1)
        hub.publish(batch(["err 5"]), tenant: .default)
        hub.drain()
        XCTAssertEqual(lines(tail), ["err 5"])
        XCTAssertEqual(wakes.load(ordering: .relaxed), 2)
        hub.unsubscribe(tail)
        hub.publish(batch(["err 6"]), tenant: .default)
        hub.drain()
        XCTAssertEqual(lines(tail), [])
        XCTAssertEqual(hub.count, 0)
        hub.stop()
    }

    func testSlowTailsDropTheOldestAndCount() throws {
        let hub = TailHub()
        let tail = try hub.subscribe(CompiledLogQuery("{app=\"a\"}"), tenant: .default, queueMax: 3) {}
        hub.publish(batch((0..<5).map { "l\($0)" }), tenant: .default)
        hub.publish(batch(["l5"]), tenant: .default)
        hub.drain()
        let taken = tail.take()
        XCTAssertEqual(taken.entries.map { String(decoding: $0.entry.line, as: UTF8.self) }, ["l3", "l4", "l5"])
        XCTAssertEqual(taken.dropped.count, 3)
        XCTAssertEqual(taken.dropped.entries.map(\.timeNanos), [0, 1, 2])
        XCTAssertEqual(tail.take().dropped.count, 0)
        hub.stop()
    }

    func testTailsAreBoundedInBytesAndCountThem() throws {
        var limits = Limits()
        limits.memory = MemoryBudget(MemoryShares(ceilingBytes: 64 << 20))
        limits.tailQueueBytesMax = 100_000
        let hub = TailHub(limits)
        let tail = try hub.subscribe(CompiledLogQuery("{app=\"a\"}"), tenant: .default, queueMax: 1000) {}
        let long = String(repeating: "x", count: 40_000)
        hub.publish(batch((0..<5).map { "\($0)" + long }), tenant: .default)
        hub.drain()
        XCTAssertEqual(limits.memory.ingest.usedBytes, 0)
        XCTAssertTrue((80_000..<100_000).contains(limits.memory.queries.usedBytes), "\(limits.memory.queries.usedBytes)")
        let taken = tail.take()
        XCTAssertEqual(taken.entries.map { $0.entry.line.first }, [UInt8(ascii: "3"), UInt8(ascii: "4")])
        XCTAssertEqual(taken.dropped.count, 3)
        XCTAssertEqual(limits.memory.queries.usedBytes, 0)
        // One that is longer than the bound waits alone.
        hub.publish(batch([long + long + long]), tenant: .default)
        hub.drain()
        XCTAssertEqual(tail.take().entries.count, 1)
        // And what finds no memory is missed, and told.
        limits.memory.queries.hold(limits.memory.queries.bytesMax)
        hub.publish(batch(["short"]), tenant: .default)
        hub.drain()
        let refused = tail.take()
        XCTAssertEqual(refused.entries.count, 0)
        XCTAssertEqual(refused.dropped.count, 1)
        limits.memory.queries.release(limits.memory.queries.bytesMax)
        hub.publish(batch(["left behind"]), tenant: .default)
        hub.drain()
        hub.unsubscribe(tail)
        XCTAssertEqual(limits.memory.queries.usedBytes, 0)
        hub.stop()
    }

    func testOpenTailsAreBounded() throws {
        var limits = Limits()
        limits.tailsMax = 1
        let hub = TailHub(limits)
        let tail = try hub.subscribe(CompiledLogQuery("{app=\"a\"}"), tenant: .default, queueMax: 3) {}
        XCTAssertThrowsError(try hub.subscribe(CompiledLogQuery("{app=\"a\"}"), tenant: .default, queueMax: 3) {}) {
            XCTAssertEqual(($0 as? ObsError)?.code, .overloaded)
        }
        hub.unsubscribe(tail)
        hub.unsubscribe(tail)
        _ = try hub.subscribe(CompiledLogQuery("{app=\"a\"}"), tenant: .default, queueMax: 3) {}
        XCTAssertEqual(hub.count, 1)
        hub.stop()
    }

    private struct Stuck: TailFilter {
        let gate: Monitor<Bool>
        func wantsStream(_ labels: UnsafeRawBufferPointer) -> Bool { true }
        func entry(_ batch: LogBatch, row: Int) -> TailEntry? {
            _ = gate.wait(until: { $0 ? () : nil })
            return nil
        }
    }

    func testMatchingThatFallsBehindIsCountedNotWaitedFor() throws {
        let hub = TailHub(queueBytesMax: 1)
        let gate = Monitor(false)
        let tail = try hub.subscribe(Stuck(gate: gate), tenant: .default, queueMax: 3) {}
        // One is matched and stuck or waits, one may wait behind it; of the rest every record counts as missed.
        for _ in 0..<10 { hub.publish(batch(["a", "b"]), tenant: .default) }
        let missed = tail.take().dropped.count
        XCTAssertTrue([16, 18].contains(missed), "\(missed)")
        gate.update { $0 = true }
        hub.stop()
    }
}
