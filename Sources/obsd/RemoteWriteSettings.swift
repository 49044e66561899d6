internal import ObsCore
internal import ObsDisk
internal import ObsIngest
internal import ObsQueue
internal import ObsStore
internal import ObsYAML

/// `obsd.remote-write` of the configuration file: what the queues on disk may hold. What Prometheus has of its own is in `remote_write`.
struct RemoteWriteSettings {
    /// Of each receiver's queue; past it the oldest samples go. Takes effect at the next start.
    var queueBytes = 1 << 30
    /// Batches that waited longer are not sent any more; 0 sends all.
    var queueAgeMillis: Int64 = 0

    private static let queueBytesMin = 1 << 20

    init() {}

    init(_ map: YAMLMapping) throws(ObsError) {
        queueBytes = try map.byteSize("queue-bytes", default: queueBytes)
        if queueBytes < Self.queueBytesMin, let node = map.optional("queue-bytes") {
            throw node.error("must be at least \(formatByteSize(Self.queueBytesMin))")
        }
        queueAgeMillis = try map.durationMillis("queue-age", default: 0)
        try map.finish()
    }
}

/// The queues' folder.
struct RemoteWriteQueues: BatchQueues {
    let layout: DiskLayout
    let fileSystem: any FileSystem
    let bytesMax: Int

    func open(_ receiver: String) throws(ObsError) -> any BatchQueue {
        try DiskBatchQueue(fileSystem, folder: layout.remoteWrite(receiver), bytesMax: bytesMax)
    }

    func keep(only receivers: Set<String>) throws(ObsError) {
        for name in try fileSystem.list(layout.remoteWriteRoot) where !receivers.contains(name) {
            let folder = layout.remoteWrite(name)
            for file in try fileSystem.list(folder) { try fileSystem.remove(folder + "/" + file) }
            try fileSystem.removeDirectory(folder)
            DiagnosticLog.info("remote write: the queue of a receiver that is not configured any more is removed", [("folder", folder)])
        }
    }
}
