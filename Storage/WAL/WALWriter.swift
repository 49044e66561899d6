// The write-ahead log of one signal: one thread, group commit.
//
// Appenders put records into a queue under a short lock and go on. The thread takes all that is queued, writes it with one append, syncs once, and then runs the
// completions: while it syncs, the next group gathers, so the slower the disk the bigger the groups. One sync serves all who wait.
//
// A full disk is an answer, not an end: the file is cut back to its last good record and closed, those who wait get `.overloaded`, and the next group tries
// a new file. A failed sync is an end: what the page cache holds is no longer known, going on would acknowledge what may be gone.

package import ObsCore
package import ObsDisk
internal import Glibc

package final class WALWriter: Sendable {
    /// When a record's completion runs.
    package enum Durability: Sendable, Equatable {
        case commit
        /// Completes when written; syncs at most this often.
        case interval(millis: Int64)
        case os
    }

    package typealias Completion = @Sendable (Result<Void, ObsError>) -> Void

    private enum Job: Sendable {
        case record(WALRecord, Completion)
        /// The generation ends: later records go to a new file that begins with this sequence number.
        case rotate(UInt64)
    }

    private struct State {
        var queue: [Job] = []
        var queuedBytes = 0
        /// Every record up to here is written or refused.
        var settled: UInt64
        /// The newest number asked of `rotate` that has been carried out.
        var rotated: UInt64 = 0
        var files: [(file: WALFile, bytes: Int)] = []
        var isStopping = false
        var isStopped = false
    }

    private let state: Monitor<State>
    private let fileSystem: any FileSystem
    private let layout: DiskLayout
    private let signal: Signal
    private let durability: Durability
    private let queueBytesMax: Int
    private let fileBytesMax: Int
    private let markAfterMillis: Int64?

    /// Starts the thread.
    /// - Parameters:
    ///   - nextSequence: what the first record will have.
    ///   - files: files left by an earlier run, for `remove`.
    ///   - markAfterMillis: idle time after which the file is marked as synced to its end; nil for never.
    ///   - queueBytesMax: bytes waiting for the disk, past which `hasRoom` is false.
    package init(
        _ fileSystem: any FileSystem, _ layout: DiskLayout, _ signal: Signal, nextSequence: UInt64, files: [WALFile] = [], durability: Durability = .commit,
        queueBytesMax: Int = 64 << 20, fileBytesMax: Int = 64 << 20, markAfterMillis: Int64? = 1000
    ) throws(ObsError) {
        self.fileSystem = fileSystem
        self.layout = layout
        self.signal = signal
        self.durability = durability
        self.queueBytesMax = queueBytesMax
        self.fileBytesMax = fileBytesMax
        self.markAfterMillis = markAfterMillis
        try fileSystem.makeDirectories(layout.walFolder(signal))
        var state = State(settled: nextSequence - 1, rotated: nextSequence)
        for file in files where file.firstSequence != nextSequence { state.files.append((file, (try? fileSystem.size(file.path)) ?? 0)) }
        self.state = Monitor(state)
        let file = try open(nextSequence)
        startThread("wal-\(signal.rawValue)") { [self] in run(file) }
    }

    /// Whether a record of that size may be queued now.
    package func hasRoom(for bytes: Int) -> Bool { state.read { !$0.isStopping && ($0.queuedBytes == 0 || $0.queuedBytes + bytes <= queueBytesMax) } }

    /// Queues a record; its completion runs once on the writer's thread. Records must come in sequence order: the caller's lock sees to that.
    package func append(_ record: WALRecord, completion: @escaping Completion) {
        let isStopping = state.update { state in
            if state.isStopping { return true }
            state.queue.append(.record(record, completion))
            state.queuedBytes += record.byteSize
            return false
        }
        if isStopping { completion(.failure(ObsError(.unavailable, "store is stopping", retryAfterSeconds: 5))) }
    }

    /// Records from this sequence number on go to a new file.
    package func rotate(at sequence: UInt64) { state.update { if !$0.isStopping { $0.queue.append(.rotate(sequence)) } } }

    /// Waits until every record up to `sequence` has had its completion run.
    package func waitSettled(_ sequence: UInt64) { _ = state.wait(until: { $0.settled >= sequence || $0.isStopped ? () : nil }) }

    /// Waits until `rotate(at: sequence)` has been carried out: the files before it are closed.
    package func waitRotated(_ sequence: UInt64) { _ = state.wait(until: { $0.rotated >= sequence || $0.isStopped ? () : nil }) }

    /// Removes the files whose records all lie at or below `sequence`, oldest first: the oldest file's presence means that all of them are there.
    package func remove(through sequence: UInt64) throws(ObsError) {
        let gone = state.read { state in
            state.files.indices.prefix { $0 + 1 < state.files.count && state.files[$0 + 1].file.firstSequence <= sequence + 1 }.map { state.files[$0].file }
        }
        for (index, file) in gone.enumerated() {
            try fileSystem.remove(file.path)
            state.read { _ = $0.files.removeFirst() }
            if index == 0 || index == gone.count - 1 { try fileSystem.syncDirectory(layout.walFolder(signal)) }
        }
    }

    /// First sequence number of the oldest file that begins within `range`.
    package func firstFile(in range: ClosedRange<UInt64>) -> UInt64? {
        state.read { $0.files.first { range.contains($0.file.firstSequence) }?.file.firstSequence }
    }

    /// Bytes of all files.
    package var bytes: Int { state.read { $0.files.reduce(0) { $0 + $1.bytes } } }

    /// Writes what is queued, syncs, ends the thread.
    package func close() {
        state.update { $0.isStopping = true }
        _ = state.wait(until: { $0.isStopped ? () : nil })
    }

    // MARK: The writer's thread

    private final class OpenFile: @unchecked Sendable {  // made by `init`, then the thread's own
        let file: any WritableFile
        let firstSequence: UInt64
        var syncedBytes: Int
        var hasRecords = false
        /// Whether a mark, or the header, says that all records are synced.
        var isMarked = true
        var lastSequence: UInt64

        init(_ file: any WritableFile, firstSequence: UInt64) {
            self.file = file
            self.firstSequence = firstSequence
            lastSequence = firstSequence
            syncedBytes = file.size
        }
    }

    private func open(_ sequence: UInt64) throws(ObsError) -> OpenFile {
        let path = layout.wal(signal, sequence: sequence)
        do throws(ObsError) {
            let file = try fileSystem.create(path)
            try file.append(WALFormat.header(signal: signal, firstSequence: sequence))
            try file.sync()
            try fileSystem.syncDirectory(layout.walFolder(signal))
            state.read { state in
                state.files.removeAll { $0.file.firstSequence == sequence }
                state.files.append((WALFile(firstSequence: sequence, path: path), WALFormat.headerBytes))
            }
            return OpenFile(file, firstSequence: sequence)
        } catch {
            try? fileSystem.remove(path)
            throw error
        }
    }

    private func run(_ first: OpenFile) {
        var current: OpenFile? = first
        var lastSync = SystemClock().monotonicNanos()
        while let jobs = takeJobs(current) {
            if jobs.isEmpty, let file = current {
                if file.syncedBytes < file.file.size { syncLate(file, &lastSync) }
                if markAfterMillis != nil { mark(&current) }
            }
            var start = 0
            while start < jobs.count {
                if case .rotate(let sequence) = jobs[start] {
                    finish(&current)
                    current = (try? open(sequence))
                    state.update { $0.rotated = sequence }
                    start += 1
                    continue
                }
                let end = jobs[start...].firstIndex { if case .rotate = $0 { true } else { false } } ?? jobs.count
                write(jobs[start..<end], &current, &lastSync)
                start = end
            }
        }
        if let file = current, !file.isMarked, markAfterMillis != nil {
            syncLate(file, &lastSync)
            mark(&current)
        }
        finish(&current)
        state.update { $0.isStopped = true }
    }

    /// All that is queued; nothing after a time in which there is something to do for the file; nil when it is time to end.
    private func takeJobs(_ current: OpenFile?) -> [Job]? {
        let timeout: Int64? =
            switch durability {
            case .interval(let millis): millis * nanosPerMilli
            case .commit: current?.isMarked == false ? markAfterMillis.map { $0 * nanosPerMilli } : nil
            case .os: nil
            }
        let jobs: [Job]?? = state.wait(timeoutNanos: timeout) { state in
            if state.queue.isEmpty { return state.isStopping ? .some(nil) : nil }
            let jobs = state.queue
            state.queue = []
            state.queuedBytes = 0
            return .some(jobs)
        }
        switch jobs {
        case .some(let jobs): return jobs
        case .none: return []
        }
    }

    private func write(_ jobs: ArraySlice<Job>, _ current: inout OpenFile?, _ lastSync: inout Int64) {
        guard let last = jobs.last, case .record(let lastRecord, _) = last, let firstJob = jobs.first, case .record(let firstRecord, _) = firstJob else {
            return
        }
        let result: Result<Void, ObsError>
        do throws(ObsError) {
            if let file = current, file.hasRecords, file.file.size >= fileBytesMax {
                finish(&current)
            }
            let file: OpenFile
            if let open = current { file = open } else { file = try open(firstRecord.sequence) }
            current = file
            try write(jobs, to: file, &lastSync)
            result = .success(())
        } catch {
            DiagnosticLog.error("log record not written", [("signal", signal.rawValue), ("error", error.description)])
            current = nil
            result = .failure(error)
        }
        for case .record(_, let completion) in jobs { completion(result) }
        state.update { state in
            state.settled = lastRecord.sequence
            if let current, !state.files.isEmpty { state.files[state.files.count - 1].bytes = current.file.size }
        }
    }

    private func write(_ jobs: ArraySlice<Job>, to file: OpenFile, _ lastSync: inout Int64) throws(ObsError) {
        var group: [UInt8] = []
        group.reserveCapacity(jobs.reduce(0) { if case .record(let record, _) = $1 { $0 + record.byteSize } else { $0 } })
        for case .record(let record, _) in jobs { WALFormat.append(record, syncedOffset: file.syncedBytes, seed: file.firstSequence, to: &group) }
        let good = file.file.size
        do throws(ObsError) {
            try file.file.append(group)
            file.hasRecords = true
            file.isMarked = false
            if case .record(let record, _)? = jobs.last { file.lastSequence = record.sequence }
        } catch {
            abandon(file, at: good)
            throw error
        }
        switch durability {
        case .commit: try sync(file, good)
        case .interval(let millis): if SystemClock().monotonicNanos() - lastSync >= millis * 1_000_000 { syncLate(file, &lastSync) }
        case .os: break
        }
    }

    private func sync(_ file: OpenFile, _ good: Int) throws(ObsError) {
        do throws(ObsError) {
            try file.file.sync()
            file.syncedBytes = file.file.size
        } catch {
            guard error.code == .overloaded else { syncFailed(error) }
            // No room for what was written (file systems that allocate late): none of it was acknowledged.
            abandon(file, at: good)
            throw error
        }
    }

    /// Writes down that all of the file is synced. Not synced itself: it only matters when it is there.
    private func mark(_ current: inout OpenFile?) {
        guard let file = current, !file.isMarked, file.syncedBytes == file.file.size else { return }
        file.isMarked = true
        let good = file.file.size
        var bytes: [UInt8] = []
        WALFormat.appendMark(nextSequence: file.lastSequence &+ 1, syncedOffset: good, seed: file.firstSequence, to: &bytes)
        do throws(ObsError) { try file.file.append(bytes) } catch {
            abandon(file, at: good)
            current = nil
            return
        }
        state.read { if !$0.files.isEmpty { $0.files[$0.files.count - 1].bytes = file.file.size } }
    }

    /// Syncs records already acknowledged, as the less durable settings have it.
    private func syncLate(_ file: OpenFile, _ lastSync: inout Int64) {
        do throws(ObsError) { try file.file.sync() } catch { syncFailed(error) }
        file.syncedBytes = file.file.size
        lastSync = SystemClock().monotonicNanos()
    }

    private func syncFailed(_ error: ObsError) -> Never {
        fatalError("FATAL: sync of the write-ahead log failed, stopping before anything is acknowledged that may be lost: \(error)")
    }

    /// Cuts a file whose last write failed back to its last good record; nothing more is written to it.
    private func abandon(_ file: OpenFile, at good: Int) {
        try? file.file.close()
        do throws(ObsError) { try fileSystem.truncate(file.file.path, to: good) } catch {
            fatalError("FATAL: the write-ahead log cannot be cut back after a failed write: \(error)")
        }
    }

    private func finish(_ current: inout OpenFile?) {
        guard let file = current else { return }
        do throws(ObsError) {
            if file.syncedBytes < file.file.size { try file.file.sync() }
            try file.file.close()
        } catch {
            syncFailed(error)
        }
        current = nil
    }
}
