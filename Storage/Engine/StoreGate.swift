internal import ObsCore
internal import ObsDisk
internal import Synchronization

/// What all signals share: whether writes may come in, and how much memory the heads hold.
final class StoreGate: Sendable {
    private let configuration: EngineConfiguration
    private let fileSystem: any FileSystem
    private let heldBytes = Atomic<Int>(0)
    private let isDiskLow = Atomic<Bool>(false)
    private let quarantinedCount = Atomic<Int>(0)

    init(_ configuration: EngineConfiguration, _ fileSystem: any FileSystem) {
        self.configuration = configuration
        self.fileSystem = fileSystem
    }

    /// Counts head memory taken (or, negative, given back).
    func hold(_ bytes: Int) { heldBytes.wrappingAdd(bytes, ordering: .relaxed) }

    /// Whether the heads hold all the memory they may.
    var isMemoryFull: Bool { heldBytes.load(ordering: .relaxed) > configuration.headBytesMax }

    /// Why an append cannot be taken now; nil when it can.
    func refusal() -> ObsError? {
        if isDiskLow.load(ordering: .relaxed) {
            let bound = "\(configuration.freeBytesMin) bytes (storage.free-bytes-min)"
            return ObsError(.overloaded, "less free disk space than \(bound); free space or lower the retention", retryAfterSeconds: 60)
        }
        if heldBytes.load(ordering: .relaxed) > configuration.headBytesMax {
            let bound = "\(configuration.headBytesMax) bytes (storage.head-bytes-max)"
            return ObsError(.overloaded, "data not yet written to segments holds more memory than \(bound); the disk may be too slow", retryAfterSeconds: 5)
        }
        return nil
    }

    /// Looks at the free space; called now and then.
    func checkDisk() {
        guard let free = try? fileSystem.freeBytes(configuration.dataDirectory) else { return }
        let isLow = free < configuration.freeBytesMin
        if isDiskLow.exchange(isLow, ordering: .relaxed) != isLow {
            let fields = [("free_bytes", "\(free)"), ("free_bytes_min", "\(configuration.freeBytesMin)")]
            if isLow { DiagnosticLog.warn("disk nearly full, writes are refused", fields) } else { DiagnosticLog.info("disk space is back", fields) }
        }
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
