internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// A crash at every change of the disk from the beginning of a flush to the removal of its log, each found by a next run that has its index or not, and its
/// limits or others. The bodies span series, tenants and days, come twice and out of order.
final class CrashMatrixTests: XCTestCase {
    private struct Moment {
        var call: String
        var crash: Crash
        var world: World
    }

    private let clock = ManualClock()
    private var model = Model()

    private func append(_ engine: StorageEngine, _ workload: inout Workload, _ random: inout SplitMix, requests: Int) throws {
        for _ in 0..<requests {
            let request = try workload.request(&random, nowNanos: clock.nowNanos())
            let outcome: AppendOutcome
            switch request.batch {
            case .metrics(let batch): outcome = try engine.appendAndWait(batch, origin: request.origin)
            case .logs(let batch): outcome = try engine.appendAndWait(batch, origin: request.origin)
            case .spans(let batch): outcome = try engine.appendAndWait(batch, origin: request.origin)
            }
            model.enter(request, outcome, floorMillis: .min)
            clock.advance(millis: 15_000)
        }
    }

    private func check(_ engine: StorageEngine, _ when: String) throws {
        for tenant in Workload.tenants {
            let faults = model.faults(of: try Answer(engine, tenant), tenant, horizonMillis: .min)
            if !faults.isEmpty { XCTFail("\(when), \(tenant):\n" + faults.joined(separator: "\n")) }
        }
        XCTAssertEqual(engine.status().quarantined, 0, when)
    }

    /// Runs `body` and takes the world as each kind of crash leaves it, before each change and after the last.
    private func moments(_ world: World, _ body: () throws -> Void) throws -> [Moment] {
        let taken = Monitor<[Moment]>([])
        let take: @Sendable (String) -> Void = { [weak world] call in
            guard let world else { return }
            let number = UInt64(taken.read { $0.count })
            let fresh = Crash.allCases.map { Moment(call: call, crash: $0, world: world.crashed($0, seed: number)) }
            taken.update { $0 += fresh }
        }
        world.disk.watch { call in
            if call.operation.isChange { take(call.description) }
            return nil
        }
        try body()
        take("the end")
        world.disk.watch(nil)
        return taken.read { $0 }
    }

    func testFlush() throws { try crash(flushes: 1) { try $0.flush() } }

    /// From the first byte of a merge to the last unlink, of segments that overlap in time and hold each other's retries.
    func testMerge() throws {
        try crash(flushes: 4) { engine in
            try engine.merge()
            XCTAssertGreaterThan(engine.status().signals.map(\.merges).min() ?? 0, 0)
        }
    }

    private func crash(flushes: Int, during work: (StorageEngine) throws -> Void) throws {
        var random = SplitMix(state: 7)
        var workload = Workload()
        workload.daysMax = 40
        var settings = Settings(retentionMillis: nil, walFileBytesMax: 1500)
        let world = World()
        let engine = try world.open(settings, clock)
        // What was flushed before meets what is flushed now.
        for _ in 0..<flushes {
            try append(engine, &workload, &random, requests: 12)
            try engine.flush()
        }
        try append(engine, &workload, &random, requests: 14)
        let moments = try moments(world) { try work(engine) }
        XCTAssertGreaterThan(moments.count, 100)
        for (number, moment) in moments.enumerated() {
            let when = "\(moment.crash) before \(moment.call) (\(number))"
            for hasIndex in [true, false] {
                if !hasIndex { moment.world.deleteIndex() }
                settings.limits.labelsMax = number % 2 == 0 ? 300 : 30
                try check(moment.world.crashed(.kill), settings, hasIndex ? when : when + " without index", isLong: number % 3 == 0)
            }
        }
        engine.close()
    }

    /// - Parameter isLong: flushes what was replayed, merges, crashes, and looks again.
    private func check(_ world: World, _ settings: Settings, _ when: String, isLong: Bool) throws {
        let engine = try world.open(settings, clock)
        defer { engine.close() }
        try check(engine, when)
        guard isLong else { return }
        try engine.flush()
        try engine.merge()
        try check(engine, when + ", merged")
        let third = world.crashed(.strictPowerCut)
        let again = try third.open(settings, clock)
        try check(again, when + ", flushed, merged and cut from power")
        again.close()
    }
}
