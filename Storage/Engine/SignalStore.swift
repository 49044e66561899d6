// One signal's keeping: the head generations, the log they are written ahead to, the segments they become.
//
// One lock orders everything. `append` decides, applies to the head and hands the record to the log under it, so that head and log have the same order and
// replay repeats it. Readers take a snapshot under it. A flush swaps a generation for its segments under it, so that no reader sees a record twice or not at all.
//
// The life of a generation: *active* (takes appends) → *sealed* (its log files are closed, nothing changes it; still read) → its segments are on disk and in the
// catalogue → swapped → its log files are removed.

internal import CMalloc
internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsIndex
internal import ObsSegment
internal import ObsStore
internal import ObsWAL

final class SignalStore<Head: FlushableHead>: @unchecked Sendable {  // all mutable state is inside `state`
    typealias Segment = SegmentHandle<Head.Reader>
    typealias Completion = @Sendable (Result<AppendOutcome, ObsError>) -> Void

    private struct State {
        var active: Generation<Head>
        /// Generations being flushed, oldest first.
        var sealed: [Generation<Head>] = []
        /// By tenant, oldest first.
        var segments: [TenantID: [Segment]] = [:]
        /// Monotonic time before which a failed flush is not tried again.
        var nextTryNanos = Int64.min
        /// Bytes of segments written by flushes.
        var flushedBytes: Int64 = 0
        /// Bytes of segments dropped.
        var droppedBytes: Int64 = 0
        var isStopping = false
        /// Old log still being read. Until that is done nothing is answered and no newer generation is flushed: the old log is older, and a flush removes what is older.
        var replay: LogReplay<Head>?
        var replayFailure: ObsError?
        var held = HeldAnswers()
        /// What reads met, by path of the segment.
        var damaged: [String: ObsError] = [:]
    }

    /// Readers of segments kept open, per signal: bounds file descriptors.
    private static var openSegmentsMax: Int { 256 }
    private let state: Monitor<State>
    let shared: EngineShared
    private let wal: WALWriter
    /// One flush at a time, oldest generation first. (A number, not Void: to the thread sanitizer an empty state has the address of its Monitor.)
    private let flushing = Monitor(0)
    let expiryWatch = Monitor(ExpiryWatch())

    /// Begins with what recovery found; takes appends at once, answers when `replay` is done.
    init(_ shared: EngineShared, _ recovered: Recovery.Recovered<Head>) throws(ObsError) {
        let active = Generation<Head>(firstSequence: recovered.nextSequence, createdNanos: shared.clock.monotonicNanos())
        self.shared = shared
        let configuration = shared.configuration
        state = Monitor(State(active: active, replay: recovered.replay))
        wal = try WALWriter(
            shared.fileSystem, shared.layout, Head.signal, nextSequence: recovered.nextSequence, files: recovered.files,
            durability: configuration.durability.ofLog,
            queueBytesMax: configuration.walQueueBytesMax, fileBytesMax: configuration.walFileBytesMax,
            markAfterMillis: configuration.maintainsItself ? 1000 : nil)
        state.read { insert(recovered.segments, &$0) }
    }

    // MARK: Appending

    /// - Parameter encode: makes log bytes of the batch where there is no request to keep.
    func append(_ batch: Head.Batch, origin: WriteOrigin, encode: (Head.Batch) -> [UInt8], completion: @escaping Completion) {
        let prepared = Head.prepare(batch, secret: shared.secret)
        let payload = payload(batch, origin.request, encode)
        let floor = floor(receivedAtNanos: origin.receivedAtNanos)
        var hasFilled = false
        let refusal: ObsError? = state.read { state in
            if state.isStopping { return ObsError(.unavailable, "store is stopping", retryAfterSeconds: 5) }
            if let refusal = shared.gate.refusal() { return refusal }
            var record = WALRecord(
                sequence: state.active.endSequence, tenant: origin.tenant, receivedAtNanos: origin.receivedAtNanos, floor: floor, payload: payload)
            guard wal.hasRoom(for: record.byteSize) else {
                let bound = "\(shared.configuration.walQueueBytesMax) bytes (a share of --memory)"
                return ObsError(.overloaded, "more than \(bound) wait for the disk", retryAfterSeconds: 1)
            }
            let before = state.active.usedBytes
            let wasFull = isFull(state.active)
            let outcome = state.active.apply(
                batch, prepared: prepared, tenant: origin.tenant, sequence: record.sequence, floor: floor, limits: shared.configuration.limits)
            state.active.walBytes += record.byteSize
            hasFilled = !wasFull && isFull(state.active)
            shared.gate.log(record.byteSize)
            shared.gate.hold(state.active.usedBytes - before)
            record.configurationEpoch = shared.epochs.current
            record.accepted = outcome.accepted
            record.duplicates = outcome.duplicates
            record.rejected = outcome.rejected
            let sequence = record.sequence
            wal.append(record) { [weak self] result in
                switch result {
                case .success: if self?.hold({ completion(.success(outcome)) }) != true { completion(.success(outcome)) }
                case .failure(let error):
                    self?.withdraw(sequence, origin.tenant)
                    completion(.failure(error))
                }
            }
            return nil
        }
        if let refusal { completion(.failure(refusal)) }
        if hasFilled { shared.isFlushWanted.update { $0 = true } }
    }

    private func isFull(_ generation: Generation<Head>) -> Bool {
        generation.walBytes >= shared.gate.generationWALBytesMax || generation.usedBytes >= shared.configuration.generationBytesMax(Head.signal)
    }

    /// Keeps an answer back while the generation that takes appends is full and the one before it is still being written.
    private func hold(_ answer: @escaping @Sendable () -> Void) -> Bool {
        state.read { state in
            guard state.held.isFlushing, !state.isStopping, state.active.usedBytes >= shared.configuration.generationBytesMax(Head.signal) else { return false }
            state.held.hold(answer)
            return true
        }
    }

    private func payload(_ batch: Head.Batch, _ request: RawRequest?, _ encode: (Head.Batch) -> [UInt8]) -> WALRecord.Payload {
        guard let request else { return .batch(encode(batch)) }
        return .request(format: request.format.rawValue, compression: request.compression, parameters: request.parameters, body: request.body)
    }

    private func withdraw(_ sequence: UInt64, _ tenant: TenantID) {
        state.read { state in
            for generation in state.sealed + [state.active] where generation.contains(sequence) { generation.heads[tenant]?.withdraw(sequence) }
        }
    }

    /// The oldest time (in the signal's unit) a record received then may have.
    func floor(receivedAtNanos: Int64) -> Int64 {
        guard let retention = shared.configuration.retentionMillis else { return .min }
        let millis = floorDivide(receivedAtNanos, nanosPerMilli).subtractingReportingOverflow(retention)
        let ticks = millis.partialValue.multipliedReportingOverflow(by: Head.ticksPerMilli)
        return millis.overflow || ticks.overflow ? .min : ticks.partialValue
    }

    // MARK: Reading

    func locked(_ body: () -> Void) { state.read { _ in body() } }

    /// What a tenant has at this moment, oldest first. `body` runs under the lock and copies what it needs of each head.
    /// - Throws: `.unavailable` while the log is replayed: part of the data would look like all of it.
    func snapshot(_ tenant: TenantID, _ body: (Head) -> Void) throws(ObsError) -> [Segment] {
        let result: Result<[Segment], ObsError> = state.read { state in
            if let refusal = refusal(state) { return .failure(refusal) }
            for generation in state.sealed + [state.active] {
                if let head = generation.heads[tenant] { body(head) }
            }
            return .success(state.segments[tenant] ?? [])
        }
        return try result.get()
    }

    private func refusal(_ state: State) -> ObsError? {
        guard let replay = state.replay else { return nil }
        let share = "\(Int(replay.progress.share * 100)) % of the log of \(Head.signal.rawValue) replayed"
        guard let failure = state.replayFailure else { return ObsError(.unavailable, "the store is starting, \(share)", retryAfterSeconds: 1) }
        return ObsError(.unavailable, "the store cannot start, \(share): \(failure)", retryAfterSeconds: 10)
    }

    // MARK: Replay

    /// Reads the old log; tries again while reading fails, until `stop`.
    func replayPatiently() {
        while let replay = state.read({ $0.replay }), !replay.isCancelled {
            do throws(ObsError) { try replayLog() } catch {
                DiagnosticLog.error("log not replayed, tried again", [("signal", Head.signal.rawValue), ("error", error.description)])
                _ = state.wait(timeoutNanos: 10 * nanosPerSecond, until: { $0.isStopping ? () : nil })
            }
        }
    }

    /// Reads the old log, once; returns early after `stop`.
    func replayLog() throws(ObsError) {
        guard let replay = state.read({ $0.replay }) else { return }
        do throws(ObsError) {
            // What an earlier try could not flush.
            try flushSealed()
            guard let rest = try replay.run(full: keep) else { return }
            shared.gate.log(rest.walBytes)
            state.update { state in
                // Nothing new came: the old generation goes on, as if there had been no stop.
                if state.active.isEmpty { state.active = rest } else { state.sealed.append(rest) }
                state.replay = nil
                state.replayFailure = nil
            }
        } catch {
            state.update { $0.replayFailure = error }
            throw error
        }
    }

    /// Writes a replayed generation as segments. When that fails it waits in memory, as long as there is any.
    private func keep(_ generation: Generation<Head>) throws(ObsError) {
        shared.gate.log(generation.walBytes)
        state.read { $0.sealed.append(generation) }
        do throws(ObsError) { try flushSealed() } catch {
            if shared.gate.isMemoryFull { throw error }
            DiagnosticLog.error("replayed log not flushed, tried again later", [("signal", Head.signal.rawValue), ("error", error.description)])
        }
    }

    var allSegments: [Segment] { state.read { Array($0.segments.values.joined()) } }

    var tenants: [TenantID] { state.read { Array($0.segments.keys) } }

    func segments(of tenant: TenantID) -> [Segment] { state.read { $0.segments[tenant] ?? [] } }

    /// Every log record up to here is in segments.
    var flushedThrough: UInt64 { state.read { ($0.sealed.first ?? $0.active).firstSequence &- 1 } }

    // MARK: Flushing

    /// Seals the active generation when it is big or old enough (`early`: when there is anything in it), and flushes what is sealed.
    func flushIfDue(early: Bool = false) {
        let configuration = shared.configuration
        let now = shared.clock.monotonicNanos()
        let isDue = state.read { state in
            let active = state.active
            if now < state.nextTryNanos || state.replay != nil { return false }
            return !active.isEmpty
                && (early || isFull(active) || now &- active.createdNanos >= configuration.generationAgeMillis &* nanosPerMilli)
                || !state.sealed.isEmpty
        }
        guard isDue else { return }
        do throws(ObsError) { try flush() } catch {
            state.read { $0.nextTryNanos = now &+ 10 * nanosPerSecond }
            DiagnosticLog.error("head not flushed, tried again later", [("signal", Head.signal.rawValue), ("error", error.description)])
        }
    }

    /// Seals the active generation and writes all sealed ones as segments.
    /// - Throws: `.unavailable` while the log is replayed.
    func flush() throws(ObsError) {
        if let refusal = state.read({ refusal($0) }) { throw refusal }
        try flushSealed(after: seal)
        closeUnused()
    }

    /// - Parameter seal: run first, with no other flush in between.
    private func flushSealed(after seal: () -> Void = {}) throws(ObsError) {
        var writtenBytes = 0
        let result: Result<Void, ObsError> = flushing.read { _ in
            state.read { $0.held.beginFlush() }
            defer { for answer in state.read({ $0.held.endFlush() }) { answer() } }
            seal()
            do throws(ObsError) {
                while let generation = state.read({ $0.sealed.first }) {
                    try write(generation)
                    writtenBytes += generation.usedBytes
                }
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
        // Batches of logs and spans are many small pieces, which the allocator keeps: of a big generation they are worth giving back.
        if writtenBytes > 8 << 20 { malloc_trim(1 << 20) }
    }

    private func seal() {
        state.read { state in
            guard !state.active.isEmpty else { return }
            let next = state.active.endSequence
            state.sealed.append(state.active)
            state.active = Generation(firstSequence: next, createdNanos: shared.clock.monotonicNanos())
            wal.rotate(at: next)
        }
    }

    private func write(_ generation: Generation<Head>) throws(ObsError) {
        // Until then a record may still be withdrawn.
        wal.waitSettled(generation.endSequence - 1)
        let last = generation.endSequence - 1
        // The name of the first log file: while it is there, all of the generation's log is. It is a later one when the disk was full as the generation began.
        let first = wal.firstFile(in: generation.firstSequence...last) ?? generation.firstSequence
        let sizes = shared.configuration.partitions
        let parts = generation.heads.sorted { $0.key < $1.key }.flatMap { tenant, head in head.partitions(sizes).map { (tenant, head, $0) } }
        var written: [SegmentInfo] = []
        // Sorted places of rows and the blocks in the making.
        let workBytes = generation.rowCount * 32 + (4 << 20)
        let memory = shared.configuration.limits.memory.segments
        memory.hold(workBytes)
        defer { memory.release(workBytes) }
        do throws(ObsError) {
            for (index, (tenant, head, days)) in parts.enumerated() {
                let group = FlushGroup(signal: Head.signal, firstSequence: first, index: index, count: parts.count)
                let draft = SegmentDraft(id: group.id, tenant: tenant, level: 0, walRanges: [WALRange(first: first, last: last)])
                try shared.fileSystem.makeDirectories(shared.layout.partition(tenant, Head.signal, day: days.lowerBound))
                let path = shared.layout.segment(tenant, Head.signal, day: days.lowerBound, id: group.id)
                written.append(try head.writeSegment(days, shared.fileSystem, path: path, draft: draft))
            }
        } catch {
            // A group without all its members counts for nothing; the next try writes it whole.
            // Durably: a start that replays its log may flush it to other days, and a power cut must not bring these back beside.
            for info in written { try? shared.fileSystem.remove(shared.path(of: info)) }
            for (tenant, _, days) in parts { try? shared.fileSystem.syncDirectory(shared.layout.partition(tenant, Head.signal, day: days.lowerBound)) }
            throw error
        }
        // The catalogue may lag: the next start finds the files and enters them.
        do throws(ObsError) { try shared.record(adding: written) } catch {
            DiagnosticLog.warn("catalogue not told of new segments", [("error", error.description)])
        }
        state.read { state in
            state.sealed.removeFirst()
            state.flushedBytes += written.reduce(0) { $0 + $1.bytes }
            insert(written, &state)
        }
        shared.gate.hold(-generation.usedBytes)
        // The newest file is never removed: the next one must be there first.
        wal.waitRotated(generation.endSequence)
        try wal.remove(through: last)
        shared.gate.flushed(generation.walBytes)
    }

    // MARK: Segments

    private func insert(_ infos: [SegmentInfo], _ state: inout State) {
        for info in infos {
            let path = shared.path(of: info)
            let segment = Segment(
                info: info, path: path, fileSystem: shared.fileSystem,
                open: { [cache = shared.cache] fileSystem, path throws(ObsError) in try Head.openSegment(fileSystem, path, cache: cache) },
                damaged: { [weak self] error, opens in opens ? self?.noteDamage(path, error) : self?.setAside(info, path, error) })
            state.segments[info.tenant, default: []].append(segment)
        }
        for tenant in Set(infos.map(\.tenant)) { state.segments[tenant]?.sort { $0.firstSequence < $1.firstSequence } }
    }

    /// A read met a damaged block; the merge thread makes the segment again.
    private func noteDamage(_ path: String, _ error: ObsError) {
        guard state.read({ $0.damaged.updateValue(error, forKey: path) == nil }) else { return }
        DiagnosticLog.error("a read met damage; what can be read of the segment is saved", [("path", path), ("error", error.description)])
    }

    /// Makes segments in which a read met damage again from what can be read of them.
    func salvageDamaged() {
        let damaged = state.read { state in
            defer { state.damaged = [:] }
            return state.segments.values.flatMap { $0 }.compactMap { segment in state.damaged[segment.path].map { (segment, $0) } }
        }
        for (segment, error) in damaged { _ = salvage(segment, error) }
    }

    /// Puts what can be read of a damaged segment in its place, or sets it aside when nothing can.
    /// - Returns: false when the segment stays as it is.
    func salvage(_ segment: Segment, _ met: ObsError) -> Bool {
        // Not while a flush cleans up or retention drops.
        flushing.read { _ in
            guard state.read({ $0.segments[segment.info.tenant]?.contains { $0 === segment } ?? false }) else { return true }
            do throws(ObsError) {
                switch try Salvage(fileSystem: shared.fileSystem, layout: shared.layout).run(segment.info, met) {
                case .undamaged: return false
                case .unreadable(let error): setAside(segment.info, segment.path, error)
                case .salvaged(let written):
                    shared.gate.countQuarantined()
                    state.read { state in
                        state.segments[segment.info.tenant]?.removeAll { $0 === segment }
                        insert([written], &state)
                    }
                    try shared.record(removing: [segment.info], adding: [written])
                }
                return true
            } catch {
                // The next read that meets the damage brings us here again.
                DiagnosticLog.error("damaged segment not salvaged", [("path", segment.path), ("error", error.description)])
                return false
            }
        }
    }

    private func setAside(_ info: SegmentInfo, _ path: String, _ error: ObsError) {
        let wasThere = state.read { state in
            let count = state.segments[info.tenant]?.count ?? 0
            state.segments[info.tenant]?.removeAll { $0.path == path }
            return count != state.segments[info.tenant]?.count ?? 0
        }
        guard wasThere else { return }
        shared.gate.quarantine(path, shared.layout, error)
        try? shared.record(removing: [info])
    }

    /// Drops the segments that `isChosen` says, whoever reads them keeps them until done.
    func drop(_ reason: String, _ isChosen: (SegmentInfo) -> Bool) {
        // Not while a flush cleans up: a group must be whole until its log is gone.
        let dropped = flushing.read { _ in
            state.read { state in
                var dropped: [Segment] = []
                for tenant in state.segments.keys {
                    let chosen = state.segments[tenant]?.filter { isChosen($0.info) } ?? []
                    guard !chosen.isEmpty else { continue }
                    dropped += chosen
                    state.droppedBytes += chosen.reduce(0) { $0 + $1.info.bytes }
                    let paths = Set(chosen.map(\.path))
                    state.segments[tenant]?.removeAll { paths.contains($0.path) }
                    if state.segments[tenant]?.isEmpty == true { state.segments[tenant] = nil }
                }
                return dropped
            }
        }
        guard !dropped.isEmpty else { return }
        // A flush that found the disk full may have room now.
        state.read { $0.nextTryNanos = .min }
        // Whatever fails from here on, the next start finds the files and they are dropped again.
        do throws(ObsError) { try shared.record(removing: dropped.map(\.info)) } catch {
            DiagnosticLog.warn("catalogue not told of dropped segments", [("error", error.description)])
        }
        for segment in dropped {
            let bytes = segment.info.bytes
            shared.gate.leave(bytes)
            segment.drop { [gate = shared.gate] in gate.leave(-bytes) }
        }
        DiagnosticLog.info("segments \(reason) dropped", [("signal", Head.signal.rawValue), ("segments", "\(dropped.count)")])
    }

    /// Closes the readers of the oldest segments past the bound of open ones.
    private func closeUnused() {
        let open = state.read { $0.segments.values.flatMap { $0 } }.filter(\.isOpen).sorted { $0.info.maxTime < $1.info.maxTime }
        for segment in open.dropLast(Self.openSegmentsMax) { segment.close() }
    }

    // MARK: Merging

    /// Segments that may be merged, by tenant, oldest first: those whose log is gone, so that no restart will want to undo their flush.
    func settledSegments() -> [[Segment]] {
        let logged = wal.firstFile(in: 0 ... .max) ?? 0
        return state.read { state in
            state.segments.sorted { $0.key < $1.key }.map { $0.value.filter { $0.info.walRanges.allSatisfy { $0.last < logged } } }.filter { !$0.isEmpty }
        }
    }

    /// Puts a merged segment, if there is one, in the place of its inputs. `cleanUp` then removes the inputs' files.
    /// - Parameter isCurrent: asked under the lock.
    /// - Returns: false when an input is gone meanwhile or the merge is no longer current; then nothing has changed.
    func replace(_ inputs: [Segment], with merged: SegmentInfo?, if isCurrent: () -> Bool, cleanUp: ([Segment]) -> Void) -> Bool {
        // Not while retention or a flush is at it: what is listed is on disk.
        flushing.read { _ in
            let paths = Set(inputs.map(\.path))
            let tenant = inputs[0].info.tenant
            let isReplaced = state.read { state in
                let present = state.segments[tenant]?.filter { paths.contains($0.path) } ?? []
                guard isCurrent(), present.count == inputs.count else { return false }
                state.segments[tenant]?.removeAll { paths.contains($0.path) }
                if let merged { insert([merged], &state) }
                if state.segments[tenant]?.isEmpty == true { state.segments[tenant] = nil }
                return true
            }
            guard isReplaced else { return false }
            do throws(ObsError) { try shared.record(removing: inputs.map(\.info), adding: merged.map { [$0] } ?? []) } catch {
                DiagnosticLog.warn("catalogue not told of a merge", [("error", error.description)])
            }
            cleanUp(inputs)
            return true
        }
    }

    // MARK: Stopping

    /// Refuses further appends, ends the replay. What was not replayed stays in the log for the next start.
    func stop() {
        state.update { state in
            state.isStopping = true
            state.replay?.cancel()
        }
    }

    func closeLog() { wal.close() }

    var segmentInfos: [SegmentInfo] { state.read { $0.segments.values.flatMap { $0.map(\.info) } } }

    func status() -> StoreStatus.SignalStatus {
        var status = StoreStatus.SignalStatus(signal: Head.signal)
        status.walBytes = Int64(wal.bytes)
        status.pendingDeletions = shared.tombstones.all(Head.signal).count
        state.read { state in
            status.flushedBytes = state.flushedBytes
            status.droppedBytes = state.droppedBytes
            if let replay = state.replay { status.replay = replay.progress }
            for generation in state.sealed + [state.active] {
                status.headRows += Int64(generation.rowCount)
                status.headBytes += Int64(generation.usedBytes)
                status.headSeries += generation.seriesCount
            }
            for segment in state.segments.values.joined() {
                status.segments += 1
                status.segmentBytes += segment.info.bytes
                status.segmentRows += segment.info.rows
            }
        }
        return status
    }
}
