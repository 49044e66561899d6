// The engine on a disk that forgets, tears and fails and under a clock that moves when told to, one step after the other, against the model.
//
// A crash does not stop the engine: at the call where it is to happen, a copy of the disk (and of the catalogue's folder) is taken as the crash would leave it,
// under a new root. The engine runs on and is closed; what it did after the copy never happened, and the simulation goes on with a new engine on the copy.
// So a crash may be had at any call, on any thread, and the process that "died" leaves nothing behind.
//
// A failed sync of the log stops the daemon (see WALWriter). Here it is a crash at that call.
//
// What the engine may lose it loses by rule, and the rule is checked by what lies on the disk: the footers of the segments before and after say whether those
// that went are those that had to go, and the segments that went, opened alone, say which records the model gives up.

internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsSegment
internal import ObsStore
internal import ObsTestSupport

final class Simulation {
    struct Failure: Error { var text: String }

    private var random: SplitMix
    private let clock = ManualClock()
    private var world = World()
    private var settings = Settings()
    private var engine: StorageEngine
    private var model = Model()
    private var workload = Workload()
    private let weather: Weather
    private var isFull = false
    private var snapshots: [(name: String, model: Model)] = []
    private(set) var log: [String] = []

    init(seed: UInt64) throws {
        random = SplitMix(state: seed)
        weather = Weather(seed: seed)
        engine = try world.open(settings, clock)
        weather.watch(world)
    }

    deinit {
        world.disk.watch(nil)
        engine.close()
    }

    /// What lies on the disk.
    var files: [String] {
        let segments = (try? world.segments()) ?? []
        return world.disk.paths.map { path in
            let info = segments.first { world.path(of: $0) == path }
            let what = info.map { " level \($0.level) rows \($0.rows) log \($0.walRanges.map { "\($0.first)...\($0.last)" }.joined(separator: ","))" } ?? ""
            return String(path.dropFirst(world.root.count)) + what
        }
    }

    /// What happened, and how often.
    var tally: [String: Int] { weather.tally }

    func run(steps: Int) throws {
        for step in 0..<steps {
            log.append("\(step):")
            try self.step()
            try survive()
        }
        log.append("end:")
        try crashNow(.kill)
        try flush()
        try merge()
        try clean()
        try compare("at the end, merged")
        try crashNow(.strictPowerCut)
    }

    private func choose(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }

    private func chance(_ bound: Int) -> Bool { choose(bound) == 0 }

    private func note(_ text: String) { log[log.count - 1] += " " + text }

    private func fail(_ text: String) -> Failure { Failure(text: text) }

    private var nowMillis: Int64 { clock.nowNanos() / nanosPerMilli }

    /// Nothing is allowed to fail now.
    private var isWell: Bool { !weather.hasFaults && !weather.hasCrashed && !isFull }

    /// Runs what may only fail when something is wrong.
    /// - Returns: whether it was done, and heard of.
    @discardableResult
    private func attempt(_ what: String, _ body: () throws -> Void) throws -> Bool {
        note(what)
        do {
            try body()
            return !weather.hasCrashed
        } catch {
            note("failed (\(error))")
            if isWell { throw fail("\(what) failed without a fault: \(error)") }
            return false
        }
    }

    // MARK: Steps

    private func step() throws {
        if let rule = settings.rule { weather.count("rows hidden by a rule", model.hide(rule, nowMillis: nowMillis)) }
        switch choose(80) {
        case 0..<36: try append()
        case 36..<43: try flush()
        case 43..<48: try compare("at a step")
        case 48, 49: advance()
        case 50..<53: try retention()
        case 53, 54: try crashNow(Crash.allCases[choose(3)])
        case 55..<60: arm()
        case 60..<63: faults()
        case 63, 64: fillDisk()
        case 65: fairWeather()
        case 66: try makeRoom()
        case 67, 68: try stop()
        case 69..<72: try delete()
        case 72, 73: try clean()
        case 74, 75: try snapshot()
        case 76, 77: try restore()
        case 78: try flipBit()
        default: try append()
        }
        if chance(8) { try merge() }
        // What the maintenance thread does several times a second.
        if isFull, chance(3) { try makeRoom() }
    }

    private func append() throws {
        for _ in 0...choose(3) {
            guard let request = try workload.request(&random, nowNanos: clock.nowNanos(), settings.configuration) else { continue }
            note("append")
            let outcome = try send(request)
            // What the process said after it died was not heard.
            let isHeard = !weather.hasCrashed
            if let wrong = model.enter(request, isHeard ? outcome : nil, floorMillis: floorMillis) { throw fail(wrong) }
            if !isHeard { return }
        }
    }

    private func send(_ request: Request) throws -> AppendOutcome? {
        do { return try engine.append(request) } catch {
            note("refused (\(error))")
            if isWell { throw fail("refused without a fault: \(error)") }
            if isFull { weather.count("refused by a full disk") }
            return nil
        }
    }

    private var floorMillis: Int64 { settings.retentionMillis.map { nowMillis - $0 } ?? .min }

    private func flush() throws { try attempt("flush") { try engine.flush() } }

    private func merge() throws {
        let before = merges
        try attempt("merge") { try engine.merge() }
        weather.count("merge", merges - before)
    }

    private var merges: Int { engine.status().signals.reduce(0) { $0 + $1.merges } }

    private func advance() {
        let millis = Int64(choose(3)) * millisPerDay + Int64(choose(7_200_000))
        note("clock +\(millis) ms")
        clock.advance(millis: millis)
    }

    private func faults() {
        let every: UInt64 = [3, 10, 40].randomElement(using: &random) ?? 10
        note("one call in \(every) fails")
        weather.setFaults(every)
    }

    private func fillDisk() {
        isFull = true
        let room = choose([2000, 20_000][choose(2)])
        note("room for \(room) bytes")
        world.disk.setRoom(room)
    }

    /// All is well again and the process still the same.
    private func fairWeather() {
        note("fair weather")
        calm()
        engine.freeSpace()
    }

    private func calm() {
        isFull = false
        weather.calm()
        world.disk.setRoom(nil)
    }

    // MARK: Deletion

    private func delete() throws {
        let deletion = workload.deletion(&random, nowMillis: nowMillis)
        let isCertain = try attempt("delete \(deletion.signal) \(deletion.selectors.map { $0.map { "\($0.name)\($0.isNegated ? "!" : "")=\($0.values)" } })") {
            try engine.delete(deletion)
        }
        if isCertain { weather.count("deletion") }
        model.delete(deletion, isCertain: isCertain)
    }

    /// Rewrites what holds deleted rows. After it no deletion is left to remember.
    private func clean() throws {
        let before = tombstones
        guard try attempt("clean", { try engine.cleanTombstones() }), !weather.isTroubled, !isFull, try isSettled() else { return }
        weather.count("deletion completed", before - tombstones)
        if tombstones > 0 { throw fail("\(tombstones) tombstones are left after everything was rewritten") }
    }

    private var tombstones: Int { (try? world.disk.disk.list(world.layout.tombstones).count) ?? 0 }

    /// Whether the log of every segment is gone: what has log yet is not rewritten.
    private func isSettled() throws -> Bool {
        let segments = try world.segments()
        return try Signal.allCases.allSatisfy { signal in
            let logged = try world.disk.disk.list(world.layout.walFolder(signal)).compactMap { DiskLayout.walSequence($0) }.min() ?? 0
            return segments.allSatisfy { $0.signal != signal || $0.walRanges.allSatisfy { $0.last < logged } }
        }
    }

    // MARK: Retention and room

    private func retention() throws {
        note("retention")
        let before = try world.segments()
        let removed = weather.watchingRemovals { engine.enforceRetention() }
        if settings.retentionMillis != nil { model.expire(beforeMillis: floorMillis) }
        // With a rule segments are rewritten, too; nothing but what the rule hides is lost then.
        guard settings.rule == nil else { return }
        try giveUp(removed)
        guard !weather.isTroubled else { return }
        let left = Set(try world.segments().map(world.path))
        let old = settings.retentionMillis == nil ? [] : before.filter { $0.newestNanos < nanos(floorMillis) }
        let young = before.filter { segment in !old.contains { $0 == segment } }
        let gone = young.filter { !left.contains(world.path(of: $0)) }
        weather.count("dropped by age", old.count)
        weather.count("dropped by bytes", gone.count)
        if old.contains(where: { left.contains(world.path(of: $0)) }) { throw fail("segments past the retention are left") }
        switch settings.bytesMax {
        case nil: if !gone.isEmpty { throw fail("\(gone.map(\.id)) dropped, though not past the retention") }
        case (let bytesMax, let signal, let tenant)?:
            let bounded = young.filter { (signal ?? $0.signal) == $0.signal && (tenant ?? $0.tenant) == $0.tenant }
            if gone.contains(where: { !bounded.contains($0) }) { throw fail("\(gone.map(\.id)) dropped for the bytes of others") }
            if let breach = OldestFirst.breach(gone: gone, of: bounded, over: bytesMax) { throw fail(breach) }
        }
    }

    private func makeRoom() throws {
        note("make room")
        let free = try world.disk.freeBytes(world.root)
        let logged = world.disk.paths.filter { $0.hasSuffix(DiskLayout.walSuffix) }.reduce(0) { $0 + (world.disk.disk.content($1)?.count ?? 0) }
        var removed = weather.watchingRemovals { engine.freeSpace() }
        let after = try world.segments()
        // A flush that finds no room takes away what it wrote: no loss, the log has it all.
        if !weather.hasFaults { removed = removed.filter { path, _ in !world.hasLog(path) } }
        try giveUp(removed)
        guard !weather.isTroubled else { return }
        weather.count("dropped by the guard", removed.count)
        let gone = try removed.map { path, bytes in try world.segment(path, bytes) }
        if let breach = OldestFirst.breach(gone: gone, kept: after) { throw fail(breach) }
        let reserve = settings.freeBytesMin + Int64(logged)
        if !gone.isEmpty, settings.freeBytesMin == 0 || free > 2 * reserve { throw fail("segments dropped with \(free) bytes free, \(reserve) wanted") }
    }

    /// The model lets go of what dropped segments held.
    private func giveUp(_ files: [String: [UInt8]]) throws {
        guard !files.isEmpty else { return }
        note("(\(files.count) segments go)")
        for (tenant, content) in try world.content(of: files, clock) { model.drop(content, tenant) }
    }

    // MARK: Snapshots

    private func snapshot() throws {
        var name = ""
        guard try attempt("snapshot", { name = try engine.snapshot() }) else { return }
        snapshots.append((name, model))
        if snapshots.count > 3 { snapshots.removeFirst() }
    }

    /// A snapshot, opened as a store, is what the store was when it was made. Sometimes the simulation goes on from there.
    private func restore() throws {
        guard let (name, then) = snapshots.randomElement(using: &random) else { return }
        note("restore")
        let copy = world.restored(name)
        let other = try copy.open(settings, clock)
        for tenant in Workload.tenants {
            let faults = then.faults(of: try Answer(other, tenant), tenant, settings.rule, nowMillis: nowMillis)
            if !faults.isEmpty { throw fail("snapshot, \(tenant):\n  " + faults.joined(separator: "\n  ")) }
        }
        other.close()
        weather.count("snapshot restored")
        guard chance(2), !weather.hasCrashed else { return }
        note("and go on with it")
        world.disk.watch(nil)
        engine.close()
        model = then
        snapshots = []
        try start(copy)
    }

    // MARK: Damage

    /// One bit of a file at rest turns, in a copy of the world: nothing false is answered, and what is missing was said to be damaged.
    private func flipBit() throws {
        // Damage of the last write of the last file cannot be told from a write that was torn. After a start the log has a successor, and all can.
        let second = world.crashed(.kill)
        let engine = try second.open(settings, clock)
        let copy = second.crashed(.strictPowerCut)
        engine.close()
        let newest = Set(try Signal.allCases.compactMap { try copy.disk.list(copy.layout.walFolder($0)).last })
        let files = copy.disk.paths.filter {
            $0.hasPrefix(copy.layout.tenantsRoot) || $0.hasSuffix(DiskLayout.walSuffix) && !newest.contains(DiskLayout.name(of: $0))
        }
        guard let path = files.randomElement(using: &random), let size = copy.disk.disk.content(path)?.count, size > 0 else { return }
        let offset = choose(size)
        let bit = UInt8(1) << UInt8(choose(8))
        copy.disk.damage(path) { $0[offset] ^= bit }
        note("bit \(bit) of byte \(offset) of \(path.dropFirst(copy.root.count)) turns")
        if chance(3) { copy.deleteIndex() }
        try copy.checkDamaged(path, model, settings, clock) { weather.count($0) }
    }

    // MARK: Crashes

    private func arm() {
        let every: UInt64 = [2, 8, 30].randomElement(using: &random) ?? 8
        let crash = Crash.allCases[choose(3)]
        note("\(crash) at one change in \(every)")
        weather.arm(crash, every: every)
    }

    private func crashNow(_ crash: Crash) throws {
        note("\(crash) now")
        calm()
        let next = world.crashed(crash, seed: random.next())
        weather.count("\(crash)")
        weather.count(next.disk.disk.losses)
        world.disk.watch(nil)
        engine.close()
        try start(next)
        try compare("after \(crash)")
    }

    /// A clean stop and a start.
    private func stop() throws {
        note("stop")
        // Whoever stops with a crash to come has it during the stop.
        engine.close()
        try start(weather.takeCrashed() ?? world)
    }

    /// Goes on after the crash that came during the step, if one came.
    private func survive() throws {
        guard let crashed = weather.takeCrashed() else { return }
        note("crashed")
        world.disk.watch(nil)
        engine.close()
        try start(crashed)
        try compare("after a crash")
    }

    private func start(_ next: World) throws {
        world.disk.watch(nil)
        calm()
        world = next
        calm()
        weather.restarted()
        if chance(3) {
            note("without index")
            world.deleteIndex()
        }
        if let rule = settings.rule { model.hide(rule, nowMillis: nowMillis) }
        let before = settings.configuration.description
        changeSettings()
        // A crash may come while the store is opened, too, or reading may fail.
        switch choose(8) {
        case 0, 1: arm()
        case 2: faults()
        default: break
        }
        weather.watch(world)
        do { engine = try world.open(settings, clock) } catch {
            note("start failed (\(error))")
            if isWell { throw fail("start failed without a fault: \(error)") }
            weather.calm()
            weather.restarted()
            if !weather.hasCrashed { engine = try world.open(settings, clock) }
        }
        let hasReplayed = engine.status().signals.contains { $0.headRows > 0 }
        if hasReplayed, before != settings.configuration.description { weather.count("replay under another configuration") }
        try survive()
    }

    private func changeSettings() {
        settings.walFileBytesMax = [600, 4000, 1 << 20].randomElement(using: &random) ?? 4000
        settings.dayBytesMin = [1, 300, 1 << 20].randomElement(using: &random) ?? 300
        settings.retentionMillis = [nil, 30 * millisPerDay, 30 * millisPerDay, 4 * millisPerDay].randomElement(using: &random) ?? nil
        settings.bytesMax = [nil, nil, (8000, nil, nil), (16_000, nil, nil), (3000, .logs, nil), (6000, nil, .default)].randomElement(using: &random) ?? nil
        settings.rule = settings.bytesMax == nil && chance(2) ? workload.rule(&random) : nil
        settings.freeBytesMin = [0, 0, 6000].randomElement(using: &random) ?? 0
        if chance(2) {
            settings.configuration = Configuration.any(&random)
            note("(\(settings.configuration))")
        }
    }

    // MARK: Comparing

    func compare(_ when: String) throws {
        note("compare")
        for tenant in Workload.tenants {
            let answer: Answer
            do { answer = try Answer(engine, tenant) } catch {
                guard weather.hasFaults, (error.place ?? error.message).contains(world.root) else {
                    throw fail("\(when), \(tenant): \(error)")
                }
                note("unreadable (\(error))")
                continue
            }
            let faults = model.faults(of: answer, tenant, settings.rule, nowMillis: nowMillis)
            if !faults.isEmpty { throw fail("\(when), \(tenant):\n  " + faults.joined(separator: "\n  ")) }
        }
        let quarantined = engine.status().quarantined
        if quarantined > 0 { throw fail("\(when): \(quarantined) files set aside, though none was damaged") }
    }
}

extension StorageEngine {
    func append(_ request: Request) throws(ObsError) -> AppendOutcome {
        switch request.batch {
        case .metrics(let batch): try appendAndWait(batch, origin: request.origin)
        case .logs(let batch): try appendAndWait(batch, origin: request.origin)
        case .spans(let batch): try appendAndWait(batch, origin: request.origin)
        }
    }

    func delete(_ deletion: Deletion) throws {
        try delete(deletion.tenant, deletion.signal, try deletion.selectors.map { try $0.map { try $0.matcher() } }, range: deletion.range)
    }
}

extension World {
    /// Opens a store of which one file is damaged.
    /// - Parameter found: told what became of it.
    func checkDamaged(_ path: String, _ model: Model, _ settings: Settings, _ clock: any Clock, found: (String) -> Void) throws {
        let what = "damage in \(path.dropFirst(root.count))"
        func check(_ error: any Error) throws {
            let error = error as? ObsError
            if error?.code == .corrupt, error?.place?.hasPrefix(path) == true { return found("bit flip told by an answer") }
            throw Simulation.Failure(text: "\(what): \(error.map { "\($0)" } ?? "?")")
        }
        let engine: StorageEngine
        do { engine = try open(settings, clock) } catch {
            // Damage that looks like a newer format.
            guard let error = error as? ObsError, error.place?.hasPrefix(path) == true else { throw error }
            return found("bit flip told by the start")
        }
        defer { engine.close() }
        for tenant in Workload.tenants {
            var answer: Answer?
            do { answer = try Answer(engine, tenant) } catch {
                try check(error)
                // What can be read of the segment takes its place.
                engine.salvageDamaged()
                do { answer = try Answer(engine, tenant) } catch { throw Simulation.Failure(text: "\(what), salvaged: \(error)") }
            }
            guard let answer else { continue }
            let isSaid = engine.status().quarantined > 0
            if isSaid { found("bit flip found") }
            let faults = model.faults(of: answer, tenant, settings.rule, nowMillis: clock.nowNanos() / nanosPerMilli, mayMiss: isSaid)
            if !faults.isEmpty { throw Simulation.Failure(text: "\(what), \(tenant):\n  " + faults.joined(separator: "\n  ")) }
        }
    }
}
