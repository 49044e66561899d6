internal import ObsCore
internal import ObsDisk
internal import ObsIndex
internal import ObsSegment

/// What the signals of one store have in common.
final class EngineShared: Sendable {
    let configuration: EngineConfiguration
    let fileSystem: any FileSystem
    let clock: any Clock
    let layout: DiskLayout
    let gate: StoreGate
    let retention: Retention
    let tombstones: Tombstones
    /// Decoded blocks of all open segments.
    let cache: BlockCache
    let workers: ScanWorkers
    /// Keys the hashes of label sets.
    let secret: UInt64
    /// The limits of each configuration the log knows.
    let epochs: Epochs
    /// Whether a generation has become full since the maintenance last looked: it comes at once, fast writers fill another in the meantime.
    let isFlushWanted = Monitor(false)
    private let catalog: Monitor<Catalog>

    init(_ configuration: EngineConfiguration, fileSystem: any FileSystem, clock: any Clock, secret: UInt64, epochs: Epochs, catalog: Catalog) {
        self.configuration = configuration
        self.fileSystem = fileSystem
        self.clock = clock
        layout = DiskLayout(root: configuration.dataDirectory)
        gate = StoreGate(configuration, fileSystem)
        retention = Retention(configuration.retention, clock)
        tombstones = Tombstones(fileSystem, layout, retention)
        let cache = BlockCache(bytesMax: configuration.cacheBytesMax, account: configuration.limits.memory.cache)
        configuration.limits.memory.onPressure { [weak cache] in cache?.removeAll() }
        self.cache = cache
        workers = ScanWorkers(threads: configuration.scanThreads ?? (configuration.maintainsItself ? ScanWorkers.threadsDefault : 0))
        self.secret = secret
        self.epochs = epochs
        if epochs.wasDamaged { gate.countQuarantined() }
        self.catalog = Monitor(catalog)
    }

    func path(of info: SegmentInfo) -> String { layout.segment(info.tenant, info.signal, day: info.day, id: info.id) }

    /// Brings the catalogue in step with segments written and dropped.
    func record(removing: [SegmentInfo] = [], adding: [SegmentInfo] = []) throws(ObsError) {
        try catalog.read { $0 }.replace(removing: removing.map(relativePath), adding: adding.map(row))
    }

    /// Throws the catalogue away and fills it from the given segments.
    func rebuildCatalog(_ infos: [SegmentInfo]) throws(ObsError) {
        let fresh: Result<Void, ObsError> = catalog.update { catalog in
            do throws(ObsError) {
                try catalog.replace(removing: catalog.rows().map(\.path), adding: infos.map(row))
                return .success(())
            } catch { return .failure(error) }
        }
        try fresh.get()
    }

    func relativePath(_ info: SegmentInfo) -> String { String(path(of: info).dropFirst(layout.root.count + 1)) }

    func row(_ info: SegmentInfo) -> CatalogRow { catalogRow(info, layout) }
}

/// A segment as the catalogue lists it.
func catalogRow(_ info: SegmentInfo, _ layout: DiskLayout) -> CatalogRow {
    let path = layout.segment(info.tenant, info.signal, day: info.day, id: info.id)
    return CatalogRow(
        path: String(path.dropFirst(layout.root.count + 1)), id: info.id, tenant: info.tenant.name, signal: info.signal, level: info.level, day: info.day,
        minTime: info.minTime, maxTime: info.maxTime, rows: info.rows, bytes: info.bytes, checksum: info.checksum,
        walRanges: info.walRanges.map { $0.first...max($0.first, $0.last) }, names: info.names, services: info.services)
}

/// A catalogue row as a segment's footer would say it; nil for a row no segment can have.
func segmentInfo(_ row: CatalogRow) -> SegmentInfo? {
    guard let tenant = try? TenantID(row.tenant) else { return nil }
    return SegmentInfo(
        id: row.id, tenant: tenant, signal: row.signal, level: row.level, day: row.day, minTime: row.minTime, maxTime: row.maxTime, rows: row.rows,
        bytes: row.bytes, walRanges: row.walRanges.map { WALRange(first: $0.lowerBound, last: $0.upperBound) }, checksum: row.checksum, names: row.names,
        services: row.services)
}
