internal import ObsCore
internal import ObsDisk
internal import ObsTestSupport

/// A number drawn for a call from the seed, the call and how often it came: the same whatever other threads do.
func draw(_ seed: UInt64, _ call: DiskCall, _ count: Int, _ name: String) -> UInt64 {
    var state = seed ^ UInt64(count) &* 0x9e37_79b9_7f4a_7c15
    for byte in call.operation.rawValue.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    for byte in name.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    var random = SplitMix(state: state)
    return random.next()
}

/// What the disk does to the store, call by call, on whatever thread; and how often it did.
final class Weather: Sendable {
    private struct State {
        var counts: [String: Int] = [:]
        /// One call in so many fails; nil for none.
        var faultEvery: UInt64?
        /// The crash comes with one change in so many; nil for never.
        var crashEvery: UInt64?
        var crash = Crash.kill
        var crashed: World?
        /// Whether anything failed since the start.
        var isTroubled = false
        /// Segments whose removal was asked for, by path, when they are watched.
        var removed: [String: [UInt8]]?
        var tally: [String: Int] = [:]
    }

    private let seed: UInt64
    private let state = Monitor(State())

    init(seed: UInt64) { self.seed = seed }

    // MARK: What the schedule says

    func setFaults(_ every: UInt64?) { state.read { $0.faultEvery = every } }

    func arm(_ crash: Crash, every: UInt64) {
        state.read { state in
            state.crashEvery = every
            state.crash = crash
        }
    }

    func calm() {
        state.read { state in
            state.faultEvery = nil
            state.crashEvery = nil
        }
    }

    func restarted() { state.read { $0.isTroubled = false } }

    // MARK: What happened

    var hasFaults: Bool { state.read { $0.faultEvery != nil } }
    var hasCrashed: Bool { state.read { $0.crashed != nil } }
    var isTroubled: Bool { state.read { $0.isTroubled || $0.faultEvery != nil || $0.crashed != nil } }
    func takeCrashed() -> World? { state.read { $0.crashed.take() } }
    func count(_ what: String, _ times: Int = 1) { if times > 0 { state.read { $0.tally[what, default: 0] += times } } }
    var tally: [String: Int] { state.read { $0.tally } }

    /// Segments that were removed while `body` ran.
    func watchingRemovals(_ body: () throws -> Void) rethrows -> [String: [UInt8]] {
        state.read { $0.removed = [:] }
        try body()
        return state.read { $0.removed.take() ?? [:] }
    }

    // MARK: The disk's calls

    func watch(_ world: World) {
        world.disk.watch { [self, weak world] call in
            guard let world else { return nil }
            return state.read { meet(call, world, &$0) }
        }
    }

    private func meet(_ call: DiskCall, _ world: World, _ state: inout State) -> DiskFault? {
        guard state.crashed == nil, call.operation.isChange || state.faultEvery != nil else { return nil }
        if call.operation == .remove, call.path.hasSuffix(DiskLayout.segmentSuffix), state.removed != nil {
            state.removed?[call.path] = world.disk.disk.content(call.path)
        }
        // Snapshots have names nobody can foresee.
        var name = call.path.dropFirst(world.root.count)
        if name.hasPrefix("/snapshots/") { name = name.dropFirst(44) }
        let key = "\(call.operation.rawValue) \(name)"
        let count = state.counts[key, default: 0]
        state.counts[key] = count + 1
        let number = draw(seed, call, count, String(name))
        // Most is lost, and torn, before a sync.
        if call.operation.isChange, let every = state.crashEvery, (number >> 8) % (call.operation == .sync ? max(1, every / 8) : every) == 0 {
            crash(world, number, &state)
            return nil
        }
        guard let every = state.faultEvery, number % every == 0 else { return nil }
        state.isTroubled = true
        let isLog = call.path.hasSuffix(DiskLayout.walSuffix)
        if isLog, call.operation == .sync || call.operation == .truncate {
            // The daemon stops.
            crash(world, number, &state)
            return nil
        }
        let fault: DiskFault
        let what: String
        switch (call.operation, (number >> 32) % 3) {
        case (.append, 0): (fault, what) = (.short, "short write")
        case (let operation, 0...1) where operation.isChange: (fault, what) = (.noSpace, "ENOSPC")
        default: (fault, what) = (.inputOutput, call.operation.isChange ? "EIO on a change" : "EIO on a read")
        }
        state.tally[what, default: 0] += 1
        return fault
    }

    private func crash(_ world: World, _ number: UInt64, _ state: inout State) {
        let left = world.crashed(state.crash, seed: number)
        state.crashed = left
        state.tally["\(state.crash)", default: 0] += 1
        tally(left.disk.disk.losses, &state.tally)
    }

    /// Counts what a power cut took.
    func count(_ losses: MemoryFileSystem.Losses) { state.read { tally(losses, &$0.tally) } }

    private func tally(_ losses: MemoryFileSystem.Losses, _ tally: inout [String: Int]) {
        for (what, count) in [("lost unsynced write", losses.unsynced), ("lost name", losses.names), ("torn sector", losses.tornSectors)] where count > 0 {
            tally[what, default: 0] += count
        }
    }
}
