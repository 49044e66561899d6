internal import ObsCore
internal import ObsHash
internal import ObsStore

/// What the three heads have in common: one tenant's part of a generation. Changed only under the lock of its `SignalStore`.
protocol SignalHead: AnyObject, SendableMetatype {
    associatedtype Batch: Sendable
    /// What `prepare` makes of a batch before the lock is taken: hashes of its label sets.
    associatedtype Prepared
    static var signal: Signal { get }
    /// Units of the signal's times in one millisecond.
    static var ticksPerMilli: Int64 { get }

    init()
    var usedBytes: Int { get }
    var rowCount: Int { get }
    var seriesCount: Int { get }

    static func prepare(_ batch: Batch, secret: UInt64) -> Prepared
    /// Applies a batch; deterministic, the same again at replay.
    /// - Parameter floor: rows before this time (in the signal's unit) are too old.
    func append(_ batch: Batch, prepared: Prepared, sequence: UInt64, floor: Int64, limits: Limits) -> AppendOutcome
    /// Takes back a batch whose log record could not be written.
    func withdraw(_ sequence: UInt64)
}

private let tooOld = "record is older than the retention allows (retention)"

extension MetricHead: SignalHead {
    static var signal: Signal { .metrics }
    static var ticksPerMilli: Int64 { 1 }
    var rowCount: Int { sampleCount }
    var seriesCount: Int { table.count }

    static func prepare(_ batch: MetricBatch, secret: UInt64) -> [Hash128] { hashes(of: batch.series.lazy.map(\.labels), in: batch.bytes, secret: secret) }

    func append(_ batch: MetricBatch, prepared: [Hash128], sequence: UInt64, floor: Int64, limits: Limits) -> AppendOutcome {
        append(batch, hashes: prepared, floorMillis: floor, limits: limits)
    }

    /// Samples stay: writing them again is harmless, an equal sample is taken once.
    func withdraw(_ sequence: UInt64) {}
}

extension LogHead: SignalHead {
    static var signal: Signal { .logs }
    static var ticksPerMilli: Int64 { nanosPerMilli }
    var seriesCount: Int { streams.count }

    static func prepare(_ batch: LogBatch, secret: UInt64) -> [Hash128] { hashes(of: batch.streams, in: batch.bytes, secret: secret) }

    func append(_ batch: LogBatch, prepared: [Hash128], sequence: UInt64, floor: Int64, limits: Limits) -> AppendOutcome {
        var kept = batch
        var outcome = AppendOutcome(accepted: batch.count)
        if batch.timeNanos.contains(where: { $0 < floor }) {
            let rows = batch.timeNanos.indices.filter { batch.timeNanos[$0] >= floor }
            kept = keeping(rows, of: batch)
            outcome = AppendOutcome(accepted: rows.count, rejected: batch.count - rows.count, reason: tooOld)
        }
        kept.arrival = arrivals(sequence: sequence, count: kept.count)
        append(kept, hashes: prepared, sequence: sequence)
        return outcome
    }
}

extension SpanHead: SignalHead {
    static var signal: Signal { .traces }
    static var ticksPerMilli: Int64 { nanosPerMilli }
    var seriesCount: Int { 0 }

    static func prepare(_ batch: SpanBatch, secret: UInt64) {}

    func append(_ batch: SpanBatch, prepared: Void, sequence: UInt64, floor: Int64, limits: Limits) -> AppendOutcome {
        let rows = batch.startNanos.indices.filter { batch.startNanos[$0] >= floor }
        if rows.count == batch.count {
            append(batch, sequence: sequence)
            return AppendOutcome(accepted: batch.count)
        }
        append(keeping(rows, of: batch), sequence: sequence)
        return AppendOutcome(accepted: rows.count, rejected: batch.count - rows.count, reason: tooOld)
    }
}

/// Arrival numbers of a log record's rows: the record's sequence number and the row within it, so that replay gives the same ones.
func arrivals(sequence: UInt64, count: Int) -> [UInt64] {
    [UInt64](unsafeUninitializedCapacity: count) { buffer, filled in
        for row in 0..<count { buffer[row] = sequence << 20 &+ UInt64(row) }
        filled = count
    }
}

private func hashes(of ranges: some Collection<ByteRange>, in bytes: [UInt8], secret: UInt64) -> [Hash128] {
    bytes.withUnsafeBytes { all in ranges.map { hash128(UnsafeRawBufferPointer(rebasing: all[$0.range]), key: secret) } }
}
