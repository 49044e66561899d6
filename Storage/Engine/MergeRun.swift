// Merging one signal's segments in the background.
//
// A merge never loses or doubles a row, whenever it is cut off: the output names its inputs in its footer and appears in one rename, synced. Before that the inputs
// count and the output is a temporary file; after it the output counts, and whatever is left of the inputs is removed, now or by the next start. Readers
// see either, since the list changes in one step. Only segments whose log is gone are merged: until then their flush may still have to be undone.

internal import Glibc
internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsSegment

/// What merges did since the start.
struct MergeStatistics: Sendable {
    var merges = 0
    var writtenBytes: Int64 = 0
    var rows: Int64 = 0
    /// Of these, rows in blocks that went over as they were.
    var copiedRows: Int64 = 0
    /// Processor time, that of merges that came to nothing included.
    var processorNanos: Int64 = 0
}

final class SegmentMerger<Head: MergeableHead>: Sendable {
    private struct State {
        var statistics = MergeStatistics()
        /// Monotonic time before which a failed merge is not tried again.
        var nextTryNanos = Int64.min
        var isStopping = false
        /// After a failure that leaves open which files a power cut would leave: the next start looks, until then nothing is built on them.
        var isOff = false
    }
    private let state = Monitor(State())
    private let store: SignalStore<Head>
    private let shared: EngineShared
    private let filter: any MergeFilter
    /// One merge at a time in the store.
    private let turn: Monitor<Int>

    init(_ store: SignalStore<Head>, _ shared: EngineShared, turn: Monitor<Int>, filter: any MergeFilter = NothingDeleted()) {
        self.store = store
        self.shared = shared
        self.turn = turn
        self.filter = filter
    }

    /// A merge if one is due; errors are logged and it is tried again later.
    func mergeIfDue() {
        let now = shared.clock.monotonicNanos()
        guard state.read({ now >= $0.nextTryNanos }) else { return }
        do throws(ObsError) { while try mergeNext() {} } catch {
            guard error.code != .cancelled else { return }
            state.read { $0.nextTryNanos = now &+ 60 * nanosPerSecond }
            DiagnosticLog.error("segments not merged, tried again later", [("signal", Head.signal.rawValue), ("error", error.description)])
        }
    }

    /// Merges until nothing is due.
    func merge() throws(ObsError) {
        while try mergeNext() {}
    }

    /// Writes each segment again that holds deleted rows, or rows of a rule that all its rows are past by.
    func rewriteDeleted() throws(ObsError) {
        let result: Result<Void, ObsError> = turn.read { _ in
            do throws(ObsError) {
                while try rewriteNext(patienceMillis: 0) {}
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Ends a merge that is running; none begins any more.
    func stop() { state.read { $0.isStopping = true } }

    var statistics: MergeStatistics { state.read { $0.statistics } }

    private func check() throws(ObsError) {
        if state.read({ $0.isStopping }) { throw ObsError(.cancelled, "store is stopping") }
    }

    /// False when nothing was due.
    private func mergeNext() throws(ObsError) -> Bool {
        let result: Result<Bool, ObsError> = turn.read { _ in
            do throws(ObsError) {
                var refusal: ObsError?
                for segments in store.settledSegments() {
                    let infos = segments.map(\.info)
                    var choice = shared.configuration.merge.next(infos, nowNanos: shared.clock.nowNanos())
                    while let chosen = choice {
                        if state.read({ $0.isStopping || $0.isOff }) { return .success(false) }
                        // Both the inputs and the output are there for a while.
                        guard shared.gate.hasRoom(chosen.reduce(0) { $0 + segments[$1].info.bytes }) else { break }
                        let part = shared.configuration.merge.part(of: chosen, infos)
                        do throws(ObsError) {
                            try run(chosen.map { segments[$0] }, mayBorrow: part == nil)
                            return .success(true)
                        } catch {
                            guard error.code == .throttled else { throw error }
                            refusal = error
                            choice = part
                        }
                    }
                }
                if try rewriteNext(patienceMillis: shared.configuration.merge.patienceMillis) { return .success(true) }
                if let refusal { throw refusal }
                return .success(false)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Writes a segment again without its hidden rows. False when none has waited that long.
    private func rewriteNext(patienceMillis: Int64) throws(ObsError) -> Bool {
        if state.read({ $0.isStopping || $0.isOff }) { return false }
        let segments = store.settledSegments()
        var next = try store.nextPast(segments, patienceMillis: patienceMillis)
        if next == nil { next = try store.nextDeleted(segments, patienceMillis: patienceMillis) }
        guard let next else { return false }
        try run([next], mayBorrow: true)
        return true
    }

    /// - Parameter mayBorrow: whether memory that nobody has now may be taken past the share of flushes and merges, when that is not enough.
    /// - Throws: `.throttled` when there is not enough memory for these segments together.
    private func run(_ segments: [SegmentHandle<Head.Reader>], mayBorrow: Bool) throws(ObsError) {
        let tenant = segments[0].info.tenant
        let began = threadNanos()
        defer { state.read { $0.statistics.processorNanos += threadNanos() - began } }
        let version = filter.version(tenant, Head.signal)
        let inputs = segments.map { MergeInput(info: $0.info, path: $0.path, mask: filter.mask(of: $0.info)) }
        let draft = draft(inputs.map(\.info))
        let path = shared.layout.segment(tenant, Head.signal, day: inputs.map(\.info.day).min() ?? 0, id: draft.id)
        let memory = MergeMemory(shared.configuration.limits.memory.segments, mayBorrow: mayBorrow)
        let output: MergeOutput
        do throws(ObsError) {
            output = try Head.merge(
                inputs, shared.fileSystem, path: path, draft: draft, check: { () throws(ObsError) in try self.check() },
                grow: { (bytes: Int) throws(ObsError) in try memory.grow(bytes) })
        } catch {
            // The output may have had its name already: it must be gone for certain before its inputs are merged otherwise.
            settle([path])
            if error.code == .corrupt, let index = inputs.firstIndex(where: { error.place?.hasPrefix($0.path) ?? false }) {
                if store.salvage(segments[index], error) { return }
            }
            throw error
        }
        let merged = output.info
        let isCurrent = { [filter] in filter.version(tenant, Head.signal) == version }
        let isDone = store.replace(segments, with: merged, if: isCurrent) { gone in
            for segment in gone {
                do throws(ObsError) { try segment.unlink() } catch { failed(error) }
            }
            settle(gone.map(\.path))
            for segment in gone { try? shared.fileSystem.removeDirectory(DiskLayout.folder(of: segment.path)) }
        }
        if isDone {
            state.read { state in
                state.statistics.merges += 1
                state.statistics.writtenBytes += merged?.bytes ?? 0
                state.statistics.rows += merged?.rows ?? 0
                state.statistics.copiedRows += output.copiedRows
            }
        } else if let merged {
            let path = shared.path(of: merged)
            do throws(ObsError) { try shared.fileSystem.remove(path) } catch { failed(error) }
            settle([path])
        }
    }

    /// What the output says of itself.
    private func draft(_ inputs: [SegmentInfo]) -> SegmentDraft {
        let ids = inputs.map(\.id)
        // What is written again without hidden rows is merged as it would have been; level 0 is for what a flush wrote.
        let level = inputs.count == 1 ? max(1, inputs[0].level) : min(255, (inputs.map(\.level).max() ?? 0) + 1)
        // The same inputs make the same name: a second try replaces what a first one may have left.
        let hash = Array(ids.joined(separator: " ").utf8).withUnsafeBytes { hash64($0) }
        let id = "merged-\(Head.signal.rawValue)-\(hexString(inputs.map(\.firstSequence).min() ?? 0))-\(level)-\(hexString(hash))"
        return SegmentDraft(id: id, tenant: inputs[0].tenant, level: level, walRanges: Covered(inputs.flatMap(\.walRanges)).walRanges, replaces: ids)
    }

    /// Makes removals durable.
    private func settle(_ paths: [String]) {
        for folder in Set(paths.map(DiskLayout.folder)) where shared.fileSystem.isDirectory(folder) {
            do throws(ObsError) { try shared.fileSystem.syncDirectory(folder) } catch { failed(error) }
        }
    }

    private func failed(_ error: ObsError) {
        state.read { $0.isOff = true }
        DiagnosticLog.error(
            "cannot clean up after a merge; no more merges until the next start", [("signal", Head.signal.rawValue), ("error", error.description)])
    }
}

/// What a merge has of the memory for flushes and merges; it goes back with the object.
private final class MergeMemory {
    private let account: MemoryAccount
    private let mayBorrow: Bool
    private var heldBytes = 0

    init(_ account: MemoryAccount, mayBorrow: Bool) {
        self.account = account
        self.mayBorrow = mayBorrow
    }

    deinit { account.release(heldBytes) }

    func grow(_ bytes: Int) throws(ObsError) {
        guard account.reserve(bytes) || mayBorrow && account.borrow(bytes) else {
            throw ObsError(.throttled, "a merge waits for memory: \(account.refusalReason(bytes))", retryAfterSeconds: 60)
        }
        heldBytes += bytes
    }
}

/// Processor time of this thread.
private func threadNanos() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * nanosPerSecond + Int64(time.tv_nsec)
}
