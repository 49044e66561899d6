internal import Foundation
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Reads that fail, bits that turn, syncs that fail.
final class DamageTests: XCTestCase {
    private let clock = ManualClock()
    private var model = Model()
    private let settings = Settings(retentionMillis: nil, walFileBytesMax: 1500)

    /// A store with segments of all signals and a log behind them.
    private func makeStore(_ world: World, isFlushed: Bool = false) throws {
        var random = SplitMix(state: 11)
        var workload = Workload()
        let engine = try world.open(settings, clock)
        for number in 0..<24 {
            guard let request = try workload.request(&random, nowNanos: clock.nowNanos(), settings.configuration) else { continue }
            model.enter(request, try engine.append(request), floorMillis: .min)
            if number == 11 { try engine.flush() }
        }
        if isFlushed { try engine.flush() }
    }

    /// The n-th read of a query fails, for every n: that query says which file and where, and the next one is right.
    func testFailedReads() throws {
        let world = World()
        try makeStore(world, isFlushed: true)
        for signal in Signal.allCases {
            var isDone = false
            for failing in 0..<400 where !isDone {
                let copy = world.crashed(.strictPowerCut)
                let engine = try copy.open(settings, clock)
                let reads = Monitor(0)
                let hit = Monitor<DiskCall?>(nil)
                copy.disk.watch { call in
                    guard call.operation == .read else { return nil }
                    let number = reads.update { reads in
                        reads += 1
                        return reads - 1
                    }
                    guard number == failing else { return nil }
                    hit.update { $0 = call }
                    return .inputOutput
                }
                let result = Result { try Answer(engine, .default, [signal]) }
                copy.disk.watch(nil)
                if let call = hit.read({ $0 }) {
                    XCTAssertThrowsError(try result.get(), "\(signal): an answer although \(call) failed") { error in
                        XCTAssertEqual((error as? ObsError)?.place, "\(call.path):\(call.offset)", "\(error)")
                    }
                } else {
                    isDone = true
                    XCTAssertGreaterThan(failing, 2, "\(signal): nothing was read")
                }
                XCTAssertEqual(model.faults(of: try Answer(engine, .default), .default), [], "\(signal), read \(failing) failed before")
                XCTAssertEqual(engine.status().quarantined, 0)
                engine.close()
            }
            XCTAssertTrue(isDone)
        }
    }

    /// One bit of a file at rest turns: nothing false is answered, what is missing was said to be damaged, the rest is there.
    func testTurnedBits() throws {
        let world = World()
        try makeStore(world)
        // Damage of the last write of the last file cannot be told from a write that was torn. After a start the log has a successor, and all can.
        let second = world.crashed(.strictPowerCut)
        let engine = try second.open(settings, clock)
        let left = second.crashed(.strictPowerCut)
        engine.close()
        var random = SplitMix(state: 3)
        let files = left.disk.paths.filter { $0.hasSuffix(DiskLayout.segmentSuffix) || $0.hasSuffix(DiskLayout.walSuffix) }
        XCTAssertTrue(files.contains { $0.hasSuffix(DiskLayout.walSuffix) })
        var found = 0
        for number in 0..<max(60, files.count * 2) {
            let copy = left.crashed(.strictPowerCut)
            let path = copy.root + files[number % files.count].dropFirst(left.root.count)
            let size = try copy.disk.size(path)
            let offset = Int.random(in: 0..<size, using: &random)
            copy.disk.damage(path) { $0[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
            if number % 3 == 0 { copy.deleteIndex() }
            let when = "bit \(offset) of \(size) in \(path.dropFirst(copy.root.count))"
            do { try copy.checkDamaged(path, model, settings, clock) { _ in found += 1 } } catch {
                XCTFail("\(when): \((error as? Simulation.Failure)?.text ?? "\(error)")")
            }
        }
        XCTAssertGreaterThan(found, 20)
    }

    /// The log cannot be synced: the process stops and acknowledges nothing. It must stop for good, so it is a process of its own.
    func testFailedSyncStops() throws {
        let child = "OBS_SIM_FAILED_SYNC"
        if ProcessInfo.processInfo.environment[child] != nil { return try appendWithFailedSync() }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        process.arguments = ["SimulationTests.DamageTests/testFailedSyncStops"]
        process.environment = ProcessInfo.processInfo.environment.merging([child: "1", "SWIFT_BACKTRACE": "enable=no"]) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        XCTAssertEqual(process.terminationReason, .uncaughtSignal, text)
        XCTAssertTrue(text.contains("FATAL: sync of the write-ahead log failed"), text)
        XCTAssertFalse(text.contains("ANSWERED"), text)
    }

    private func appendWithFailedSync() throws {
        let world = World()
        let engine = try world.open(settings, clock)
        world.disk.watch { $0.operation == .sync && $0.path.hasSuffix(DiskLayout.walSuffix) ? .inputOutput : nil }
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "m")]), timeMillis: 1, value: 1)
        let result = Result { try engine.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: clock.nowNanos())) }
        print("ANSWERED \(result)")
    }
}
