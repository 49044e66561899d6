internal import Foundation
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// A crash at every change of the disk: while requests are logged, from the beginning of a flush to the removal of its log, from the beginning of a merge to the last unlink, from a deletion to
/// the removal of its tombstone; of each kind; each found by a next run, whose catalogue is as it was, gone or behind, and whose limits and relabeling are the
/// same, looser or others still. What is written before has one of the shapes below.
///
/// `OBS_SIM_MATRIX=all` has every combination of these at every call. Else bodies are wide or come twice, and a crash of each kind at each call meets one of the
/// nine combinations of catalogue and configuration, in turn.
final class CrashMatrixTests: XCTestCase {
    /// What the bodies are like.
    private enum Shape: CaseIterable {
        case plain
        /// One body of each kind, over many series and days, each day in a segment of its own.
        case wide
        /// Every body comes again, the last first, under another configuration.
        case repeated
        case wideAndRepeated

        var isWide: Bool { self == .wide || self == .wideAndRepeated }
        var isRepeated: Bool { self == .repeated || self == .wideAndRepeated }
    }

    private enum Index: CaseIterable { case there, deleted, behind }

    private struct Moment {
        var call: String
        var crash: Crash
        var world: World
        /// What must be there.
        var model: Model
    }

    /// The first run's, the second's, which crashes, and the third's.
    private static let configurations: [(name: String, configuration: Configuration)] = {
        var other = Configuration(relabeling: 3)
        other.limits.labelsMax = 2
        return [("tight", .tight), ("wide", .wide), ("other", other)]
    }()

    private let isAll = ProcessInfo.processInfo.environment["OBS_SIM_MATRIX"] == "all"
    private let clock = ManualClock()
    private let model = Monitor(Model())
    private var settings = Settings(retentionMillis: nil, walFileBytesMax: 1500)

    /// Requests on their way into the log: whole or not at all, and whole once they are answered.
    func testAppend() throws {
        try crash(.plain) { engine in
            var random = SplitMix(state: 8)
            var workload = Workload()
            for _ in 0..<12 {
                guard let request = try workload.request(&random, nowNanos: clock.nowNanos(), settings.configuration) else { continue }
                let still = model.read { $0 }
                model.read { _ = $0.enter(request, nil, floorMillis: .min) }
                let outcome = try engine.append(request)
                model.read { model in
                    model = still
                    model.enter(request, outcome, floorMillis: .min)
                }
            }
        }
    }

    func testFlush() throws { for shape in isAll ? Shape.allCases : [.wide, .repeated] { try crash(shape) { try $0.flush() } } }

    /// Of segments that overlap in time and hold each other's retries.
    func testMerge() throws { for shape in isAll ? Shape.allCases : [.wide, .repeated] { try crash(shape, flushed: true, during: merge) } }

    private func merge(_ engine: StorageEngine) throws {
        try engine.merge()
        XCTAssertEqual(engine.status().signals.filter { $0.merges == 0 }.map(\.signal), [], "not merged")
    }

    func testDeletion() throws {
        try crash(.plain, flushed: true, longEvery: 15) { engine in
            let before = model.read { $0 }
            // All spans go: then nothing but the tombstone remembers how far the log had come.
            let all = Deletion.Match(name: "service", isNegated: true, values: ["nobody"])
            let some = [Deletion.Match(name: "__name__", values: ["m1", "m2", "m3"]), Deletion.Match(name: "loki", values: ["s1", "s2"]), all]
            for (signal, match) in zip(Signal.allCases, some) {
                for tenant in signal == .traces ? Workload.tenants : [.default] {
                    let deletion = Deletion(tenant: tenant, signal: signal, selectors: [[match]], millis: 0...4_000_000_000_000)
                    let still = model.read { $0 }
                    model.read { $0.delete(deletion, isCertain: false) }
                    try engine.delete(deletion)
                    model.read { model in
                        model = still
                        model.delete(deletion, isCertain: true)
                    }
                }
            }
            try engine.cleanTombstones()
            XCTAssertNotEqual(before.faults(of: try Answer(engine, .default), .default), [], "nothing was deleted")
        }
    }

    // MARK: The matrix

    /// - Parameters:
    ///   - flushed: whether what was written is in segments when the work begins.
    ///   - longEvery: one crash in so many is followed by more than a look.
    ///   - work: what is crashed, call by call.
    private func crash(_ shape: Shape, flushed: Bool = false, longEvery: Int = 29, during work: (StorageEngine) throws -> Void) throws {
        model.read { $0 = Model() }
        var random = SplitMix(state: 7)
        var workload = Workload()
        settings.dayBytesMin = shape.isWide ? 1 : 1 << 20
        workload.daysMax = shape.isWide ? 3 : 40
        workload.seriesMax = shape.isWide ? 20 : 4
        if !shape.isWide { workload.rows = 1...6 }
        if shape.isWide { workload.rows = 7...8 }
        let first = World()
        settings.configuration = .wide
        var engine = try first.open(settings, clock)
        try append(engine, shape, &workload, &random)
        if flushed { try engine.flush() }
        // The next run decides by other limits, about records that meet those of the first in the log.
        let world = first.crashed(.kill)
        engine.close()
        settings.configuration = .tight
        engine = try world.open(settings, clock)
        try append(engine, shape, &workload, &random)
        if flushed {
            try engine.flush()
            try append(engine, shape, &workload, &random)
            try engine.flush()
        }
        let behind = world.crashed(.kill)
        let moments = try moments(world) { try work(engine) }
        engine.close()
        XCTAssertGreaterThan(moments.count, 50)
        for (number, moment) in moments.enumerated() {
            for combination in 0..<9 where isAll || combination == (number + number / 9) % 9 {
                let index = Index.allCases[combination % 3]
                let (name, configuration) = Self.configurations[combination / 3]
                let copy = moment.world.crashed(.kill)
                switch index {
                case .there: break
                case .deleted: copy.deleteIndex()
                case .behind: copy.takeIndex(of: behind)
                }
                settings.configuration = configuration
                let when = "\(shape), \(moment.crash) before \(moment.call) (\(number)), index \(index), configuration \(name)"
                let isLong = number % longEvery == 0
                try check(copy, moment.model, workload, when, isLong: isLong)
                // What the next run found it must have made durable before it removed the log.
                guard !isLong, moment.crash == .kill, moment.call.hasPrefix("syncDirectory") else { continue }
                let cut = copy.crashed(.strictPowerCut)
                try check(cut, moment.model, workload, when + ", cut from power after the start")
            }
        }
    }

    private func append(_ engine: StorageEngine, _ shape: Shape, _ workload: inout Workload, _ random: inout SplitMix) throws {
        var requests = try workload.requests(&random, nowNanos: clock.nowNanos(), settings.configuration, of: .default)
        if !shape.isWide {
            for _ in 0..<5 {
                if let request = try workload.request(&random, nowNanos: clock.nowNanos(), settings.configuration) { requests.append(request) }
            }
        }
        if shape.isRepeated { requests += try workload.retries(nowNanos: clock.nowNanos(), settings.configuration) }
        for request in requests {
            let outcome = try engine.append(request)
            let wrong = model.read { $0.enter(request, outcome, floorMillis: .min) }
            XCTAssertNil(wrong)
        }
        clock.advance(millis: 15_000)
    }

    /// Runs `body` and takes the world as each kind of crash leaves it, before each change and after the last.
    private func moments(_ world: World, _ body: () throws -> Void) throws -> [Moment] {
        let taken = Monitor<[Moment]>([])
        let take: @Sendable (String) -> Void = { [weak world, model] call in
            guard let world else { return }
            let number = UInt64(taken.read { $0.count })
            let present = model.read { $0 }
            let fresh = Crash.allCases.map { Moment(call: call, crash: $0, world: world.crashed($0, seed: number), model: present) }
            taken.read { $0 += fresh }
        }
        world.disk.watch { call in
            if call.operation.isChange { take(call.description) }
            return nil
        }
        try body()
        world.disk.watch(nil)
        take("the end")
        return taken.read { $0 }
    }

    // MARK: The next run

    /// - Parameter isLong: makes a snapshot and sends all again to it; then here, flushes what was replayed, merges, crashes, and looks again.
    private func check(_ world: World, _ model: Model, _ workload: Workload, _ when: String, isLong: Bool = false) throws {
        let engine = try world.open(settings, clock)
        defer {
            // What the last flush would write is of no interest any more.
            world.disk.watch { $0.operation == .create && $0.path.hasPrefix(world.layout.tenantsRoot) ? .inputOutput : nil }
            engine.close()
            world.disk.watch(nil)
        }
        try check(engine, model, when)
        guard isLong else { return }
        var model = model
        var restored = model
        let copy = world.restored(try engine.snapshot())
        let other = try copy.open(settings, clock)
        for request in try workload.retries(nowNanos: clock.nowNanos(), settings.configuration) {
            restored.enter(request, try other.append(request), floorMillis: .min)
            model.enter(request, try engine.append(request), floorMillis: .min)
        }
        try check(other, restored, when + ", restored and sent again")
        other.close()
        try engine.flush()
        try engine.merge()
        try check(engine, model, when + ", sent again and merged")
        let third = world.crashed(.strictPowerCut)
        let again = try third.open(settings, clock)
        try check(again, model, when + ", sent again, merged and cut from power")
        again.close()
    }

    private func check(_ engine: StorageEngine, _ model: Model, _ when: String) throws {
        for tenant in Workload.tenants {
            let faults = model.faults(of: try Answer(engine, tenant), tenant)
            if !faults.isEmpty { XCTFail("\(when), \(tenant):\n" + faults.joined(separator: "\n")) }
        }
        XCTAssertEqual(engine.status().quarantined, 0, when)
    }
}
