// Logs and spans of one tenant in one head generation: the batches as they were appended, nothing copied, nothing encoded.
//
// A batch is immutable once it is in. Readers take the list of batches under the signal's lock and read without it.

internal import ObsCore
internal import ObsHash
internal import Synchronization

/// One appended batch.
final class HeadBatch<Batch: Sendable>: Sendable {
    let batch: Batch
    let sequence: UInt64
    /// Nanoseconds, both inclusive.
    let minTime: Int64
    let maxTime: Int64
    /// Id in the generation's stream table of each of the batch's streams; empty for spans.
    let streamIDs: [UInt32]
    /// Whether two identified rows of the batch may be equal.
    let mayRepeat: Bool
    /// Set when its log record could not be written: the sender was told so and nothing of it may be seen.
    private let withdrawn = Atomic<Bool>(false)

    init(batch: Batch, sequence: UInt64, times: [Int64], streamIDs: [UInt32], mayRepeat: Bool) {
        self.batch = batch
        self.sequence = sequence
        minTime = times.min() ?? .max
        maxTime = times.max() ?? .min
        self.streamIDs = streamIDs
        self.mayRepeat = mayRepeat
    }

    var isWithdrawn: Bool { withdrawn.load(ordering: .acquiring) }
    func withdraw() { withdrawn.store(true, ordering: .releasing) }
}

/// A growing list whose snapshots are cheap: an append after a snapshot copies at most one chunk.
struct BatchList<Batch: Sendable> {
    private static var chunkMax: Int { 256 }
    private var full: [[HeadBatch<Batch>]] = []
    private var current: [HeadBatch<Batch>] = []

    mutating func append(_ batch: HeadBatch<Batch>) {
        current.append(batch)
        if current.count == Self.chunkMax {
            full.append(current)
            current = []
        }
    }

    /// In order of arrival.
    func forEach(_ body: (HeadBatch<Batch>) -> Void) {
        for chunk in full { for batch in chunk where !batch.isWithdrawn { body(batch) } }
        for batch in current where !batch.isWithdrawn { body(batch) }
    }

    func withdraw(_ sequence: UInt64) {
        for chunk in full { for batch in chunk where batch.sequence == sequence { batch.withdraw() } }
        for batch in current where batch.sequence == sequence { batch.withdraw() }
    }
}

final class LogHead {
    private(set) var batches = BatchList<LogBatch>()
    /// Streams of the generation, with the times of their rows.
    let streams = SeriesTable()
    private(set) var rowCount = 0
    private var batchBytes = 0
    private(set) var minTime = Int64.max
    private(set) var maxTime = Int64.min

    var usedBytes: Int { streams.usedBytes + batchBytes }

    /// - Parameter batch: rows already cut to those that may be stored, arrival numbers given.
    func append(_ batch: LogBatch, hashes: [Hash128], sequence: UInt64) {
        guard !batch.isEmpty else { return }
        let ids: [UInt32] = batch.bytes.withUnsafeBytes { bytes in
            batch.streams.indices.map { index in
                let labels = UnsafeRawBufferPointer(rebasing: bytes[batch.streams[index].range])
                return UInt32(streams.find(hashes[index]) ?? streams.insert(hashes[index], labels: labels))
            }
        }
        for row in 0..<batch.count {
            let record = streams[Int(ids[Int(batch.stream[row])])]
            let time = batch.timeNanos[row]
            record.pointee.count &+= 1
            if time < record.pointee.minTime { record.pointee.minTime = time }
            if time > record.pointee.maxTime { record.pointee.maxTime = time }
        }
        let entry = HeadBatch(batch: batch, sequence: sequence, times: batch.timeNanos, streamIDs: ids, mayRepeat: mayRepeat(batch))
        minTime = min(minTime, entry.minTime)
        maxTime = max(maxTime, entry.maxTime)
        rowCount += batch.count
        batchBytes += batch.byteSize + batch.count * 8 + headBatchOverheadBytes
        batches.append(entry)
    }

    func withdraw(_ sequence: UInt64) { batches.withdraw(sequence) }
}

final class SpanHead {
    private(set) var batches = BatchList<SpanBatch>()
    private(set) var rowCount = 0
    private var batchBytes = 0
    private(set) var minTime = Int64.max
    private(set) var maxTime = Int64.min

    var usedBytes: Int { batchBytes }

    func append(_ batch: SpanBatch, sequence: UInt64) {
        guard !batch.isEmpty else { return }
        let entry = HeadBatch(batch: batch, sequence: sequence, times: batch.startNanos, streamIDs: [], mayRepeat: true)
        minTime = min(minTime, entry.minTime)
        maxTime = max(maxTime, entry.maxTime)
        rowCount += batch.count
        batchBytes += batch.byteSize + headBatchOverheadBytes
        batches.append(entry)
    }

    func withdraw(_ sequence: UInt64) { batches.withdraw(sequence) }
}

/// What a batch's column arrays cost besides their elements: some twenty allocations.
private let headBatchOverheadBytes = 1200

/// Whether identified rows of a batch may be equal. Senders write each stream once and in time order: then no two times of a stream are equal.
private func mayRepeat(_ batch: LogBatch) -> Bool {
    var closed = Set<UInt32>()
    for row in 1..<max(batch.count, 1) {
        if batch.stream[row] != batch.stream[row - 1] {
            closed.insert(batch.stream[row - 1])
            if closed.contains(batch.stream[row]) { return true }
        } else if batch.timeNanos[row] <= batch.timeNanos[row - 1] {
            return true
        }
    }
    return false
}

/// Keeps the given rows of a batch; its texts and tables stay.
func keeping(_ rows: [Int], of batch: LogBatch) -> LogBatch {
    var kept = batch
    kept.stream = rows.map { batch.stream[$0] }
    kept.timeNanos = rows.map { batch.timeNanos[$0] }
    kept.severity = rows.map { batch.severity[$0] }
    kept.line = rows.map { batch.line[$0] }
    kept.attributes = rows.map { batch.attributes[$0] }
    kept.traceID = rows.map { batch.traceID[$0] }
    kept.spanID = rows.map { batch.spanID[$0] }
    kept.resource = rows.map { batch.resource[$0] }
    kept.scope = rows.map { batch.scope[$0] }
    kept.flags = rows.map { batch.flags[$0] }
    if !batch.arrival.isEmpty { kept.arrival = rows.map { batch.arrival[$0] } }
    return kept
}

func keeping(_ rows: [Int], of batch: SpanBatch) -> SpanBatch {
    var kept = batch
    kept.traceID = rows.map { batch.traceID[$0] }
    kept.spanID = rows.map { batch.spanID[$0] }
    kept.parentID = rows.map { batch.parentID[$0] }
    kept.startNanos = rows.map { batch.startNanos[$0] }
    kept.durationNanos = rows.map { batch.durationNanos[$0] }
    kept.kind = rows.map { batch.kind[$0] }
    kept.status = rows.map { batch.status[$0] }
    kept.flags = rows.map { batch.flags[$0] }
    kept.name = rows.map { batch.name[$0] }
    kept.statusMessage = rows.map { batch.statusMessage[$0] }
    kept.traceState = rows.map { batch.traceState[$0] }
    kept.attributes = rows.map { batch.attributes[$0] }
    kept.events = rows.map { batch.events[$0] }
    kept.links = rows.map { batch.links[$0] }
    kept.dropped = rows.map { batch.dropped[$0] }
    kept.resource = rows.map { batch.resource[$0] }
    kept.scope = rows.map { batch.scope[$0] }
    return kept
}
