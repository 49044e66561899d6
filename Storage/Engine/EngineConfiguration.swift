package import ObsCore
internal import ObsWAL

/// When an append is answered.
package enum Durability: Sendable, Equatable {
    /// After the log record is synced. The default; the only one that survives a power cut whole.
    case commit
    /// After the record is written; synced this often.
    case interval(millis: Int64)
    /// After the record is written; the system syncs when it likes.
    case os

    var ofLog: WALWriter.Durability {
        switch self {
        case .commit: .commit
        case .interval(let millis): .interval(millis: millis)
        case .os: .os
        }
    }
}

/// Settings of the engine.
package struct EngineConfiguration: Sendable {
    package var dataDirectory: String
    /// How long data is kept; nil keeps for ever and takes samples of any age.
    package var retentionMillis: Int64?
    package var durability = Durability.commit
    /// A log file is closed and a new one begun past this size.
    package var walFileBytesMax = 64 << 20
    /// Log records waiting for the disk, per signal; past it appends are refused with `.overloaded`.
    package var walQueueBytesMax = 64 << 20
    /// A head generation is flushed past this much log: it bounds how long a restart replays.
    package var generationWALBytesMax = 128 << 20
    /// A head generation is flushed at this age.
    package var generationAgeMillis: Int64 = 2 * 3_600_000
    /// Memory of all heads together: appends are refused past it.
    package var headBytesMax = 1 << 30
    /// Memory for decoded blocks of segments.
    package var cacheBytesMax = 128 << 20
    /// What is kept beside that, at the start; see `StorageEngine.setRetention`.
    package var retention = RetentionBounds()
    /// With less free space than this appends are refused and the oldest segments go: what a flush and a merge need to give space back.
    /// Nil takes a share of the file system, see `StoreGate.freeBytesMin(ofTotal:)`; 0 watches nothing.
    package var freeBytesMin: Int64?
    package var limits = Limits()
    /// Whether the engine flushes, merges, drops and watches by itself, on threads of its own; a simulation does these things when its schedule says so.
    package var maintainsItself = true
    /// Threads that help queries with blocks, beside their own. Nil: one fewer than processors, none where the engine does not maintain itself.
    package var scanThreads: Int?
    /// Which days of a flush share a segment.
    package var partitions = PartitionSizes()
    /// Which segments are merged.
    package var merge = MergePolicy()

    /// A generation of events is flushed at this size: more makes no smaller blocks, and merges of small segments copy most of theirs. Twice as much is in memory while
    /// writers are fast. (Samples profit from more: a series' are one chunk.)
    package var eventGenerationBytesMax = 64 << 20

    /// Memory of a signal's generation past which it is flushed, and writers wait for the flush before it.
    func generationBytesMax(_ signal: Signal) -> Int {
        let share = headBytesMax / 4
        return signal == .metrics ? share : min(share, eventGenerationBytesMax)
    }

    package init(dataDirectory: String, retentionMillis: Int64? = 30 * millisPerDay) {
        self.dataDirectory = dataDirectory
        self.retentionMillis = retentionMillis
    }

    /// Takes the engine's shares of a ceiling on memory.
    package mutating func apply(_ shares: MemoryShares) {
        headBytesMax = shares.headBytesMax
        cacheBytesMax = shares.cacheBytesMax
        walQueueBytesMax = shares.walQueueBytesMax
    }
}
