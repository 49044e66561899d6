internal import ObsCore
internal import ObsDisk
internal import ObsSegment

/// What is hidden in the store: by tombstones, files in `tombstones/` with a copy in memory, and by the rules of the retention.
final class Tombstones: MergeFilter {
    private struct Lane: Hashable {
        var tenant: TenantID
        var signal: Signal
    }

    private struct State {
        /// By file number.
        var all: [UInt64: Tombstone] = [:]
        var last: UInt64 = 0
        /// A segment (path) known to hold rows of a tombstone.
        var holders: [UInt64: String] = [:]
        /// Segments (paths) known to hold no row of a tombstone.
        var clean: [UInt64: Set<String>] = [:]
        var cleanCount = 0
        var versions: [Lane: UInt64] = [:]
        /// Those of which a merge may have left rows out; after a start nobody knows of the ones before it.
        var begun: Set<UInt64> = []
        /// Those of which nothing is left to hide, the newest since the start.
        var completed: [(number: UInt64, tombstone: Tombstone)] = []

        mutating func forget(_ number: UInt64) -> Tombstone? {
            holders[number] = nil
            cleanCount -= clean.removeValue(forKey: number)?.count ?? 0
            begun.remove(number)
            return all.removeValue(forKey: number)
        }
    }

    private static let completedMax = 1000
    /// What is forgotten is read again.
    private static let cleanMax = 100_000

    private let fileSystem: any FileSystem
    private let layout: DiskLayout
    private let retention: Retention
    private let state = Monitor(State())

    init(_ fileSystem: any FileSystem, _ layout: DiskLayout, _ retention: Retention) {
        self.fileSystem = fileSystem
        self.layout = layout
        self.retention = retention
    }

    /// Reads the files, at start. A damaged one is set aside: what it hid is seen again, and the log says so. One of a newer version stops the start.
    func load(_ gate: StoreGate) throws(ObsError) {
        var found = State()
        for name in try fileSystem.list(layout.tombstones) {
            let path = "\(layout.tombstones)/\(name)"
            if DiskLayout.isTemporary(name) {
                try fileSystem.remove(path)
                continue
            }
            guard let number = DiskLayout.tombstoneNumber(name) else { continue }
            found.last = max(found.last, number)
            do throws(ObsError) { found.all[number] = try Tombstone(decoding: try fileSystem.readAll(path), path: path) } catch {
                guard error.code == .corrupt || error.code == .badInput else { throw error }
                gate.quarantine(path, layout, ObsError(.corrupt, "\(error.message); what this deletion hid can be seen again", place: path))
            }
        }
        // What hides rows from now on must still do so after a power cut, also when the start before this one could not make it durable.
        if !found.all.isEmpty { try fileSystem.syncDirectory(layout.tombstones) }
        found.begun = Set(found.all.keys)
        let loaded = found
        state.read { $0 = loaded }
    }

    /// Makes a deletion last; it hides from the moment this returns, and whatever happens then.
    func add(_ tombstone: Tombstone) throws(ObsError) {
        let number = state.read { state in
            state.last += 1
            return state.last
        }
        try fileSystem.makeDirectories(layout.tombstones)
        try fileSystem.writeAtomically(layout.tombstone(number), try tombstone.encoded())
        state.read { state in
            state.all[number] = tombstone
            state.versions[Lane(tenant: tombstone.tenant, signal: tombstone.signal), default: 0] += 1
        }
    }

    /// Forgets one that hides nothing any more.
    func remove(_ number: UInt64) throws(ObsError) {
        try fileSystem.remove(layout.tombstone(number))
        state.read { state in
            guard let tombstone = state.forget(number) else { return }
            state.completed.append((number, tombstone))
            if state.completed.count > Self.completedMax { state.completed.removeFirst() }
        }
    }

    /// Takes a deletion back.
    /// - Throws: `.notFound`, `.badInput` when it is completed, or begun and not forced.
    func cancel(_ number: UInt64, _ tenant: TenantID, _ signal: Signal, force: Bool) throws(ObsError) {
        let refusal: ObsError? = state.read { state in
            guard let tombstone = state.all[number], tombstone.tenant == tenant, tombstone.signal == signal else {
                let isCompleted = state.completed.contains { $0.number == number && $0.tombstone.tenant == tenant && $0.tombstone.signal == signal }
                return isCompleted
                    ? ObsError(.badInput, "deletion of request which is in process or already processed is not allowed")
                    : ObsError(.notFound, "could not find delete request with given id")
            }
            guard state.begun.contains(number), !force else { return nil }
            return ObsError(.badInput, "Unable to cancel partially completed delete request. To force, use the ?force query parameter")
        }
        if let refusal { throw refusal }
        try fileSystem.remove(layout.tombstone(number))
        try fileSystem.syncDirectory(layout.tombstones)
        state.read { state in
            _ = state.forget(number)
            // A merge that leaves its rows out yet is thrown away.
            state.versions[Lane(tenant: tenant, signal: signal), default: 0] += 1
        }
    }

    /// Oldest first.
    func requests(_ tenant: TenantID, _ signal: Signal) -> [(number: UInt64, tombstone: Tombstone, isCompleted: Bool)] {
        let all = state.read { state in
            state.completed.map { (number: $0.number, tombstone: $0.tombstone, isCompleted: true) }
                + state.all.map { (number: $0.key, tombstone: $0.value, isCompleted: false) }
        }
        return all.filter { $0.tombstone.tenant == tenant && $0.tombstone.signal == signal }.sorted { $0.number < $1.number }
    }

    func holder(_ number: UInt64) -> String? { state.read { $0.holders[number] } }

    func setHolder(_ number: UInt64, _ path: String) { state.read { $0.holders[number] = path } }

    func isClean(_ number: UInt64, _ path: String) -> Bool { state.read { $0.clean[number]?.contains(path) ?? false } }

    func noteClean(_ number: UInt64, _ path: String) {
        state.read { state in
            guard state.all[number] != nil else { return }
            if state.cleanCount >= Self.cleanMax { (state.clean, state.cleanCount) = ([:], 0) }
            if state.clean[number, default: []].insert(path).inserted { state.cleanCount += 1 }
        }
    }

    func deletions(_ tenant: TenantID, _ signal: Signal) -> Deletions {
        let tombstones = state.read { state in state.all.values.filter { $0.tenant == tenant && $0.signal == signal } }
        return Deletions(tombstones: tombstones, expiry: retention.expiry(tenant, signal))
    }

    func all(_ signal: Signal) -> [(number: UInt64, tombstone: Tombstone)] {
        state.read { state in state.all.filter { $0.value.signal == signal }.map { ($0.key, $0.value) } }.sorted { $0.number < $1.number }
    }

    /// The last log record that a deletion concerns.
    func lastThrough(_ signal: Signal) -> UInt64 { state.read { state in state.all.values.filter { $0.signal == signal }.map(\.through).max() ?? 0 } }

    // MARK: MergeFilter

    func mask(of segment: SegmentInfo) -> any RowMask {
        state.read { state in
            for (number, tombstone) in state.all where tombstone.concerns(segment) { state.begun.insert(number) }
        }
        return deletions(segment.tenant, segment.signal).mask(of: segment)
    }

    func version(_ tenant: TenantID, _ signal: Signal) -> UInt64 {
        retention.version &+ state.read { $0.versions[Lane(tenant: tenant, signal: signal), default: 0] }
    }
}
