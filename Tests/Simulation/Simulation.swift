// The engine on a disk that forgets, tears and fails and under a clock that moves when told to, one step after the other, against the model.
//
// A crash does not stop the engine: at the call where it is to happen, a copy of the disk (and of the catalogue's folder) is taken as the crash would leave it,
// under a new root. The engine runs on and is closed; what it did after the copy never happened, and the simulation goes on with a new engine on the copy.
// So a crash may be had at any call, on any thread, and the process that "died" leaves nothing behind.
//
// A failed sync of the log stops the daemon (see WALWriter). Here it is a crash at that call.

internal import Foundation
internal import Glibc
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsStore
internal import ObsTestSupport

enum Crash: CaseIterable {
    case kill
    /// What was not synced is lost, all of it.
    case strictPowerCut
    /// What was not synced is there in part.
    case powerCut
}

/// An engine, the disk under it, the folder its catalogue lies in.
final class World: Sendable {
    let root: String
    let disk: FaultyFileSystem

    init(_ disk: FaultyFileSystem = FaultyFileSystem(), root: String = World.freshRoot()) {
        self.root = root
        self.disk = disk
        // The catalogue is SQLite's and lies on the real disk.
        try? FileManager.default.createDirectory(atPath: root + "/index", withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: root) }

    /// In memory where the system has such a place: SQLite syncs often.
    private static let temporaryFolder = access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : NSTemporaryDirectory()

    static func freshRoot() -> String { temporaryFolder + "obs-sim-\(UInt64.random(in: .min ... .max))" }

    func open(_ settings: Settings, _ clock: any Clock) throws -> StorageEngine {
        DiagnosticLog.threshold = .error
        var configuration = EngineConfiguration(dataDirectory: root, retentionMillis: settings.retentionMillis)
        configuration.maintainsItself = false
        configuration.walFileBytesMax = settings.walFileBytesMax
        configuration.limits = settings.limits
        configuration.freeBytesMin = 0
        configuration.cacheBytesMax = 1 << 20
        configuration.merge.fanInMax = 2
        return try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: WireDecoder(limits: settings.limits))
    }

    /// The world as a crash at this moment leaves it.
    func crashed(_ crash: Crash, seed: UInt64 = 0) -> World {
        let other = World.freshRoot()
        let left: MemoryFileSystem
        switch crash {
        case .kill: left = disk.disk.afterKill(from: root, to: other)
        case .strictPowerCut:
            left = disk.disk.afterKill(from: root, to: other)
            left.cutPower()
        case .powerCut:
            var random = SplitMix(state: seed)
            left = disk.disk.afterPowerCut(from: root, to: other, using: &random)
        }
        let world = World(FaultyFileSystem(left), root: other)
        try? FileManager.default.removeItem(atPath: other + "/index")
        try? FileManager.default.copyItem(atPath: root + "/index", toPath: other + "/index")
        return world
    }

    func deleteIndex() {
        try? FileManager.default.removeItem(atPath: root + "/index")
        try? FileManager.default.createDirectory(atPath: root + "/index", withIntermediateDirectories: true)
    }
}

/// What may change between two runs.
struct Settings {
    var retentionMillis: Int64? = 30 * millisPerDay
    var walFileBytesMax = 4000
    var limits = Limits()
}

/// A number drawn for a call from the seed, the call and how often it came: the same whatever other threads do.
func draw(_ seed: UInt64, _ call: DiskCall, _ count: Int, root: String) -> UInt64 {
    var state = seed ^ UInt64(count) &* 0x9e37_79b9_7f4a_7c15
    for byte in call.operation.rawValue.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    for byte in call.path.dropFirst(root.count).utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    var random = SplitMix(state: state)
    return random.next()
}

final class Simulation {
    struct Failure: Error { var text: String }

    /// What the disk's watcher needs, on any thread.
    private struct Weather {
        var counts: [String: Int] = [:]
        /// One call in so many fails; nil for none.
        var faultEvery: UInt64?
        /// The crash comes with this change from now on; nil for never.
        var changesLeft: Int?
        var crash = Crash.kill
        var crashed: World?
    }

    private let seed: UInt64
    private var random: SplitMix
    private let clock = ManualClock()
    private var world = World()
    private var settings = Settings()
    private var engine: StorageEngine
    private var model = Model()
    private var workload = Workload()
    private let weather = Monitor(Weather())
    private(set) var log: [String] = []

    init(seed: UInt64) throws {
        self.seed = seed
        random = SplitMix(state: seed)
        engine = try world.open(settings, clock)
        watch()
    }

    deinit {
        world.disk.watch(nil)
        engine.close()
    }

    func run(steps: Int) throws {
        for step in 0..<steps {
            log.append("\(step):")
            try self.step()
            try survive()
        }
        calm()
        try reopen(.kill)
        try compare("at the end")
    }

    private func choose(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }

    private func note(_ text: String) { log[log.count - 1] += " " + text }

    // MARK: Steps

    private func step() throws {
        switch choose(40) {
        case 0..<20: try append()
        case 20..<24: try flush()
        case 24..<27: try compare("at a step")
        case 27: advance()
        case 28:
            note("retention")
            engine.enforceRetention()
        case 29, 30: try crashNow()
        case 31..<34: arm()
        case 34, 35: faults()
        case 36: fillDisk()
        case 37: try stop()
        default: try append()
        }
        try merge()
    }

    private func append() throws {
        for _ in 0...choose(3) {
            let request = try workload.request(&random, nowNanos: clock.nowNanos())
            note("append")
            let outcome = send(request)
            // What the process said after it died was not heard.
            let isHeard = weather.read { $0.crashed == nil }
            model.enter(request, isHeard ? outcome : nil, floorMillis: floorMillis)
            if outcome == nil { note("refused") }
            if !isHeard { return }
        }
    }

    private func send(_ request: Request) -> AppendOutcome? {
        switch request.batch {
        case .metrics(let batch): try? engine.appendAndWait(batch, origin: request.origin)
        case .logs(let batch): try? engine.appendAndWait(batch, origin: request.origin)
        case .spans(let batch): try? engine.appendAndWait(batch, origin: request.origin)
        }
    }

    private func flush() throws {
        note("flush")
        do { try engine.flush() } catch {
            note("failed (\(error))")
            if weather.read({ $0.faultEvery == nil && $0.crashed == nil }), !isFull { throw Failure(text: "flush failed without a fault: \(error)") }
        }
    }

    /// What the merge thread does now and then.
    private func merge() throws {
        guard choose(8) == 0 else { return }
        note("merge")
        do { try engine.merge() } catch {
            note("failed (\(error))")
            if weather.read({ $0.faultEvery == nil && $0.crashed == nil }), !isFull { throw Failure(text: "merge failed without a fault: \(error)") }
        }
    }

    private func advance() {
        let millis = Int64(choose(3)) * millisPerDay + Int64(choose(7_200_000))
        note("clock +\(millis) ms")
        clock.advance(millis: millis)
    }

    private func faults() {
        let every = [UInt64(3), 10, 40].randomElement(using: &random)
        note("one call in \(every ?? 0) fails")
        weather.update { $0.faultEvery = every }
    }

    private var isFull = false

    private func fillDisk() {
        isFull = true
        let room = choose(3000)
        note("room for \(room) bytes")
        world.disk.setRoom(room)
    }

    private func calm() {
        isFull = false
        weather.update {
            $0.faultEvery = nil
            $0.changesLeft = nil
        }
        world.disk.setRoom(nil)
    }

    // MARK: Crashes

    private func arm() {
        let changes = choose(40)
        let crash = Crash.allCases[choose(3)]
        note("\(crash) in \(changes) changes")
        weather.update {
            $0.changesLeft = changes
            $0.crash = crash
        }
    }

    private func crashNow() throws {
        let crash = Crash.allCases[choose(3)]
        note("\(crash) now")
        calm()
        try reopen(crash)
        try compare("after \(crash)")
    }

    /// A clean stop and a start.
    private func stop() throws {
        note("stop")
        // Whoever stops with a crash to come has it during the stop.
        engine.close()
        try start(weather.update { weather in weather.crashed.take() } ?? world)
    }

    /// Goes on after the crash that came during the step, if one came.
    private func survive() throws {
        guard let crashed = weather.update({ weather in weather.crashed.take() }) else { return }
        note("crashed")
        world.disk.watch(nil)
        calm()
        engine.close()
        try start(crashed)
        try compare("after a crash")
    }

    private func reopen(_ crash: Crash) throws {
        let next = world.crashed(crash, seed: random.next())
        world.disk.watch(nil)
        engine.close()
        try start(next)
    }

    private func start(_ next: World) throws {
        world.disk.watch(nil)
        world = next
        calm()
        if choose(3) == 0 {
            note("without index")
            world.deleteIndex()
        }
        settings.walFileBytesMax = [600, 4000, 1 << 20].randomElement(using: &random) ?? 4000
        settings.limits.labelsMax = 20 + choose(100)
        // A crash may come while the store is opened, too.
        let isArmed = choose(4) == 0
        if isArmed { arm() }
        watch()
        engine = try world.open(settings, clock)
        if isArmed { try survive() }
    }

    private func watch() {
        let seed = seed
        let root = world.root
        let world = world
        world.disk.watch { [weather, weak world] call in
            weather.update { weather in
                guard let world, weather.crashed == nil, call.operation.isChange || weather.faultEvery != nil else { return nil }
                let count = weather.counts[call.description, default: 0]
                weather.counts[call.description] = count + 1
                let number = draw(seed, call, count, root: root)
                if call.operation.isChange, let left = weather.changesLeft {
                    weather.changesLeft = left - 1
                    if left == 0 {
                        weather.crashed = world.crashed(weather.crash, seed: number)
                        return nil
                    }
                }
                guard let every = weather.faultEvery, number % every == 0 else { return nil }
                let isLog = call.path.hasSuffix(DiskLayout.walSuffix)
                if isLog, call.operation == .sync || call.operation == .truncate {
                    weather.crashed = world.crashed(weather.crash, seed: number)
                    return nil
                }
                return [DiskFault.inputOutput, .noSpace, .short][Int(number >> 32) % 3]
            }
        }
    }

    // MARK: Comparing

    private var floorMillis: Int64 { settings.retentionMillis.map { clock.nowNanos() / nanosPerMilli - $0 } ?? .min }

    func compare(_ when: String) throws {
        note("compare")
        for tenant in Workload.tenants {
            let answer: Answer
            do { answer = try Answer(engine, tenant) } catch {
                if weather.read({ $0.faultEvery != nil }) {
                    note("unreadable (\(error))")
                    continue
                }
                throw Failure(text: "\(when), \(tenant): \(error)")
            }
            let faults = model.faults(of: answer, tenant, horizonMillis: floorMillis)
            if !faults.isEmpty { throw Failure(text: "\(when), \(tenant):\n  " + faults.joined(separator: "\n  ")) }
        }
        let quarantined = engine.status().quarantined
        if quarantined > 0 { throw Failure(text: "\(when): \(quarantined) files set aside, though none was damaged") }
    }
}
