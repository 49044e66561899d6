internal import ObsCore
internal import ObsDisk
internal import Synchronization

/// What all signals share: whether writes may come in, and how much memory the heads hold.
/// A write is refused before the disk is full: the free space must always hold a reserve and, besides, all that is only in the log yet, since a log goes only
/// after its rows were written a second time, as segments. Between two looks at the disk what was logged is subtracted.
final class StoreGate: Sendable {
    private let configuration: EngineConfiguration
    private let fileSystem: any FileSystem
    private let freeBytesMin: Int64
    /// A generation is flushed past this much log, less than configured on a small file system.
    let generationWALBytesMax: Int
    private let heldBytes = Atomic<Int>(0)
    /// Free space at the last look at it.
    private let freeBytes = Atomic<Int64>(.max)
    /// Bytes logged since.
    private let loggedBytes = Atomic<Int64>(0)
    /// Log of rows that no segment holds.
    private let unflushedBytes = Atomic<Int64>(0)
    /// Bytes of segments that were dropped but have readers yet.
    private let leavingBytes = Atomic<Int64>(0)
    private let wasLow = Atomic<Bool>(false)
    private let quarantinedCount = Atomic<Int>(0)

    init(_ configuration: EngineConfiguration, _ fileSystem: any FileSystem) {
        self.configuration = configuration
        self.fileSystem = fileSystem
        let total = (try? fileSystem.totalBytes(configuration.dataDirectory)) ?? .max
        freeBytesMin = configuration.freeBytesMin ?? Self.freeBytesMin(ofTotal: total)
        generationWALBytesMax = min(configuration.generationWALBytesMax, max(1 << 16, Int(clamping: total / 64)))
    }

    /// The reserve on a file system of that size: a twentieth, at least 16 MiB and at most 1 GiB, never more than a fifth.
    static func freeBytesMin(ofTotal total: Int64) -> Int64 { min(1 << 30, max(16 << 20, total / 20), total / 5) }

    /// Counts head memory taken (or, negative, given back).
    func hold(_ bytes: Int) {
        heldBytes.wrappingAdd(bytes, ordering: .relaxed)
        configuration.limits.memory.head.hold(bytes)
    }

    /// Whether the heads hold all the memory they may.
    var isMemoryFull: Bool { heldBytes.load(ordering: .relaxed) > configuration.headBytesMax }

    /// Counts log written.
    func log(_ bytes: Int) {
        loggedBytes.wrappingAdd(Int64(bytes), ordering: .relaxed)
        unflushedBytes.wrappingAdd(Int64(bytes), ordering: .relaxed)
    }

    /// Counts log whose rows are in segments now.
    func flushed(_ bytes: Int) { unflushedBytes.wrappingSubtract(Int64(bytes), ordering: .relaxed) }

    /// Counts a segment that was dropped (negative: whose file is gone).
    func leave(_ bytes: Int64) { leavingBytes.wrappingAdd(bytes, ordering: .relaxed) }

    /// Whether enough log waits that writing it as segments makes room worth the trouble.
    var isFlushWorthwhile: Bool { unflushedBytes.load(ordering: .relaxed) > freeBytesMin / 4 }

    /// What must be free; 0 when nobody watches.
    private var reserve: Int64 { freeBytesMin <= 0 ? 0 : clampedSum(freeBytesMin, unflushedBytes.load(ordering: .relaxed)) }

    /// Whether that much may be written by what can wait.
    func hasRoom(_ bytes: Int64) -> Bool { freeBytes.load(ordering: .relaxed) - loggedBytes.load(ordering: .relaxed) - bytes >= reserve }

    /// Why an append cannot be taken now; nil when it can.
    func refusal() -> ObsError? {
        if freeBytes.load(ordering: .relaxed) - loggedBytes.load(ordering: .relaxed) < reserve {
            let bound = "\(freeBytesMin) bytes (obsd.storage.free-bytes-min) and the unflushed log"
            return ObsError(.overloaded, "less free disk space than \(bound); old data makes room, or free space", retryAfterSeconds: 5)
        }
        let held = heldBytes.load(ordering: .relaxed)
        if held > configuration.headBytesMax {
            configuration.limits.memory.head.countRefusal()
            let bound = "\(configuration.headBytesMax) bytes (a share of --memory)"
            return ObsError(
                .overloaded, "data not yet written to segments holds \(held) bytes of memory, more than \(bound); the disk may be too slow",
                retryAfterSeconds: 5)
        }
        return nil
    }

    /// Looks at the free space; called often, it costs one system call.
    /// - Returns: bytes that should go, what already leaves counted; 0 or less while there is room.
    @discardableResult
    func checkDisk() -> Int64 {
        // What was logged a moment ago may not have reached the disk.
        let recent = loggedBytes.exchange(0, ordering: .relaxed)
        guard let free = try? fileSystem.freeBytes(configuration.dataDirectory) else { return 0 }
        freeBytes.store(free - recent, ordering: .relaxed)
        let reserve = reserve
        let isLow = free < reserve
        if wasLow.exchange(isLow, ordering: .relaxed) != isLow {
            let fields = [("free_bytes", "\(free)"), ("free_bytes_min", "\(freeBytesMin)")]
            if isLow { DiagnosticLog.warn("disk nearly full, writes are refused", fields) } else { DiagnosticLog.info("disk space is back", fields) }
        }
        // Room is made before writes have to be refused, and not byte by byte.
        guard free < clampedSum(reserve, reserve / 4) else { return 0 }
        return clampedSum(reserve, reserve / 2) - free - leavingBytes.load(ordering: .relaxed)
    }

    /// Files set aside since the start.
    var quarantined: Int { quarantinedCount.load(ordering: .relaxed) }

    func countQuarantined() { quarantinedCount.wrappingAdd(1, ordering: .relaxed) }

    /// Sets a file aside that cannot be read, and counts it.
    func quarantine(_ path: String, _ layout: DiskLayout, _ error: ObsError) {
        countQuarantined()
        DiagnosticLog.error("damaged file set aside", [("path", path), ("error", error.description)])
        do throws(ObsError) {
            try fileSystem.makeDirectories(layout.quarantine)
            try fileSystem.rename(path, to: layout.quarantined(path))
            try fileSystem.syncDirectory(layout.quarantine)
        } catch {
            DiagnosticLog.error("cannot set a damaged file aside", [("path", path), ("error", error.description)])
        }
    }
}
