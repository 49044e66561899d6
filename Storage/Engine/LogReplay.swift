// The log of one signal read back into head generations, while new records already go to newer files.
//
// A generation owns whole log files: its segments name the files' numbers, and once they are on disk the files go. So replay fills a generation file by file,
// and when one has become as big as a live one may, hands it on to be flushed and begins the next. Memory is bounded by one generation and one file, however
// long the log is, and an interrupted replay goes on where the last flush was.

internal import ObsCore
internal import ObsDisk
internal import ObsStore
internal import ObsWAL
internal import Synchronization

final class LogReplay<Head: FlushableHead>: @unchecked Sendable {  // `nextFile` and `lastDiffering` are the replaying thread's own
    typealias Unwrap = @Sendable (DecodedBatch) -> Head.Batch?

    private let shared: EngineShared
    private let decoder: RecordDecoder
    private let files: [(file: WALFile, bytes: Int)]
    private let endSequence: UInt64
    private let covered: Covered
    private let unwrap: Unwrap
    /// The first file of the generation being filled.
    private var nextFile = 0
    /// The file of the last record that was decided differently: once a file is told.
    private var lastDiffering: WALFile?
    private let bytesTotal: Int
    private let bytesDone = Atomic<Int>(0)
    private let cancelled = Atomic<Bool>(false)

    /// - Parameters:
    ///   - files: oldest first; nothing in them is torn.
    ///   - endSequence: the first number past all of them.
    ///   - covered: records to be passed over.
    init(
        _ shared: EngineShared, _ decoder: any RequestDecoder, files: [WALFile], endSequence: UInt64, covered: Covered, unwrap: @escaping Unwrap
    ) {
        self.shared = shared
        self.decoder = RecordDecoder(requests: decoder, signal: Head.signal)
        self.files = files.map { ($0, (try? shared.fileSystem.size($0.path)) ?? 0) }
        self.endSequence = endSequence
        self.covered = covered
        self.unwrap = unwrap
        bytesTotal = self.files.reduce(0) { $0 + $1.bytes }
    }

    var progress: ReplayProgress { ReplayProgress(bytesDone: Int64(bytesDone.load(ordering: .relaxed)), bytesTotal: Int64(bytesTotal)) }
    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }
    func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// Reads all files. After an error it may be called again: it goes on with the first file that was not handed on.
    /// - Parameter full: takes a generation that is as big as may be.
    /// - Returns: the last generation; nil when cancelled.
    func run(full: (Generation<Head>) throws(ObsError) -> Void) throws(ObsError) -> Generation<Head>? {
        var index = nextFile
        var generation = Generation<Head>(firstSequence: first(index), createdNanos: shared.clock.monotonicNanos())
        do throws(ObsError) {
            while index < files.count {
                if isFull(generation) {
                    nextFile = index
                    let done = generation
                    generation = Generation<Head>(firstSequence: first(index), createdNanos: shared.clock.monotonicNanos())
                    try full(done)
                }
                guard try read(index, into: generation) else {
                    shared.gate.hold(-generation.usedBytes)
                    return nil
                }
                index += 1
                generation.skip(to: first(index))
            }
        } catch {
            shared.gate.hold(-generation.usedBytes)
            throw error
        }
        bytesDone.store(bytesTotal, ordering: .relaxed)
        return generation
    }

    /// First sequence number of a file; past the last, of what is new.
    private func first(_ index: Int) -> UInt64 { index < files.count ? files[index].file.firstSequence : endSequence }

    private func isFull(_ generation: Generation<Head>) -> Bool {
        generation.walBytes >= shared.gate.generationWALBytesMax || generation.usedBytes >= shared.configuration.generationBytesMax(Head.signal)
    }

    /// Applies the records of a file, steps over damage. False when cancelled.
    private func read(_ index: Int, into generation: Generation<Head>) throws(ObsError) -> Bool {
        let (file, _) = files[index]
        let before = files[..<index].reduce(0) { $0 + $1.bytes }
        let reader = try WALReader(shared.fileSystem, file, signal: Head.signal, isLast: false)
        while !isCancelled {
            bytesDone.store(before + reader.position, ordering: .relaxed)
            do throws(ObsError) {
                guard let record = try reader.next() else { return true }
                do throws(ObsError) { try take(record, of: index, into: generation) } catch {
                    guard error.code == .corrupt else { throw ObsError(error.code, error.message, place: "\(file.path):\(reader.recordPosition)") }
                    lost(file, error)
                }
            } catch {
                guard error.code == .corrupt else { throw error }
                lost(file, error)
                guard try reader.skipDamage() else { return true }
            }
        }
        return false
    }

    private func take(_ record: WALRecord, of index: Int, into generation: Generation<Head>) throws(ObsError) {
        guard record.sequence >= generation.endSequence, record.sequence < first(index + 1) else {
            throw ObsError(.corrupt, "log record \(record.sequence) is not of this file", place: files[index].file.path)
        }
        generation.skip(to: record.sequence + 1)
        guard !covered.contains(record.sequence) else { return }
        let limits = shared.epochs.limits(of: record.configurationEpoch)
        guard let batch = unwrap(try decoder.decode(record, limits)) else {
            throw ObsError(.corrupt, "log record \(record.sequence) is of another signal")
        }
        let before = generation.usedBytes
        generation.walBytes += record.byteSize
        let outcome = generation.apply(
            batch, prepared: Head.prepare(batch, secret: shared.secret), tenant: record.tenant, sequence: record.sequence, floor: record.floor, limits: limits)
        if !isSame(outcome, record) { differs(record, outcome, files[index].file) }
        shared.gate.hold(generation.usedBytes - before)
    }

    /// Whether a record was decided as it was when it came. Samples of metrics are compared by their sum: what an instant has already depends on where
    /// generations begin, and no answer does.
    private func isSame(_ outcome: AppendOutcome, _ record: WALRecord) -> Bool {
        let isSum = outcome.accepted + outcome.duplicates + outcome.rejected == record.accepted + record.duplicates + record.rejected
        return isSum && (Head.signal == .metrics || outcome.rejected == record.rejected)
    }

    private func differs(_ record: WALRecord, _ outcome: AppendOutcome, _ file: WALFile) {
        outcomeDifferences.add(1)
        guard lastDiffering != file else { return }
        lastDiffering = file
        DiagnosticLog.warn(
            "a log record was decided differently when it came",
            [
                ("path", file.path), ("sequence", "\(record.sequence)"), ("accepted", "\(record.accepted)"), ("duplicates", "\(record.duplicates)"),
                ("rejected", "\(record.rejected)"), ("accepted_now", "\(outcome.accepted)"), ("duplicates_now", "\(outcome.duplicates)"),
                ("rejected_now", "\(outcome.rejected)"),
            ])
    }

    /// Says that records could not be read. The damaged file stays, under a second name, for whoever wants to look; the records around the damage are used.
    private func lost(_ file: WALFile, _ error: ObsError) {
        DiagnosticLog.error("damage in the write-ahead log, records are lost", [("path", file.path), ("error", error.description)])
        let copy = shared.layout.quarantined(file.path)
        guard !shared.fileSystem.exists(copy) else { return }
        shared.gate.countQuarantined()
        try? shared.fileSystem.makeDirectories(shared.layout.quarantine)
        try? shared.fileSystem.hardLink(file.path, to: copy)
    }
}

private let outcomeDifferences = SelfMetrics.counter(
    "obs_replay_outcome_differences_total", help: "Log records of which replay took other rows than were taken when they came.")
