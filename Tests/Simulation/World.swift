internal import Foundation
internal import Glibc
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsSegment
internal import ObsStore
internal import ObsTestSupport

enum Crash: CaseIterable {
    case kill
    /// What was not synced is lost, all of it.
    case strictPowerCut
    /// What was not synced is there in part.
    case powerCut
}

/// What may change between two runs.
struct Settings {
    var retentionMillis: Int64? = 30 * millisPerDay
    /// Bytes of segments that are kept, of one signal, of one tenant, or of all.
    var bytesMax: (bytes: Int64, signal: Signal?, tenant: TenantID?)?
    /// Some rows are kept for a shorter time.
    var rule: Rule?
    var freeBytesMin: Int64 = 0
    var walFileBytesMax = 4000
    /// Past it a day has segments of its own.
    var dayBytesMin = 1 << 20
    var configuration = Configuration.wide
}

/// An engine, the disk under it, the folder its catalogue lies in.
final class World: Sendable {
    let root: String
    let disk: FaultyFileSystem
    var layout: DiskLayout { DiskLayout(root: root) }

    init(_ disk: FaultyFileSystem = FaultyFileSystem(), root: String = World.freshRoot()) {
        self.root = root
        self.disk = disk
        // The catalogue is SQLite's and lies on the real disk.
        mkdir(root, 0o700)
        mkdir(root + "/index", 0o700)
    }

    deinit { try? FileManager.default.removeItem(atPath: root) }

    /// In memory where the system has such a place: SQLite syncs often.
    private static let temporaryFolder = access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : NSTemporaryDirectory()

    static func freshRoot() -> String { temporaryFolder + "obs-sim-\(UInt64.random(in: .min ... .max))" }

    func open(_ settings: Settings, _ clock: any Clock) throws -> StorageEngine {
        DiagnosticLog.threshold = .error
        var configuration = EngineConfiguration(dataDirectory: root, retentionMillis: settings.retentionMillis)
        configuration.maintainsItself = false
        configuration.walFileBytesMax = settings.walFileBytesMax
        configuration.limits = settings.configuration.limits
        if let (bytes, signal, tenant) = settings.bytesMax {
            if let signal { configuration.retention.bytesBySignal[signal] = bytes }
            if let tenant { configuration.retention.bytesByTenant[tenant] = bytes }
            if signal == nil, tenant == nil { configuration.retention.bytes = bytes }
        }
        if let rule = settings.rule {
            configuration.retention.rules = [try RetentionRule(rule.signal, try rule.matches.map { try $0.matcher() }, keepMillis: rule.keepMillis)]
        }
        configuration.freeBytesMin = settings.freeBytesMin
        configuration.cacheBytesMax = 1 << 20
        configuration.partitions.dayBytesMin = settings.dayBytesMin
        configuration.merge.fanInMax = 2
        configuration.merge.dayBytesMin = Int64(settings.dayBytesMin)
        return try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: WireDecoder(limits: settings.configuration.limits))
    }

    /// The world as a crash at this moment leaves it.
    func crashed(_ crash: Crash, seed: UInt64 = 0) -> World {
        let other = World.freshRoot()
        let left: MemoryFileSystem
        switch crash {
        case .kill: left = disk.disk.afterKill(from: root, to: other)
        case .strictPowerCut:
            left = disk.disk.afterKill(from: root, to: other)
            left.cutPower()
        case .powerCut:
            var random = SplitMix(state: seed)
            left = disk.disk.afterPowerCut(from: root, to: other, using: &random)
        }
        let world = World(FaultyFileSystem(left), root: other)
        world.takeIndex(of: self)
        return world
    }

    /// A copy of a folder of the store that is laid out like a store, as one: what `cp` makes of a snapshot.
    func restored(_ snapshot: String) -> World {
        let other = World.freshRoot()
        let copy = disk.disk.afterKill(from: layout.snapshot(snapshot), to: other)
        for path in copy.paths where !path.hasPrefix(other + "/") { copy.erase(path) }
        return World(FaultyFileSystem(copy), root: other)
    }

    // MARK: Index

    private static let indexFiles = ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"]

    /// Has the catalogue of another world: a power cut may leave one that is behind.
    func takeIndex(of other: World) {
        for name in Self.indexFiles {
            unlink("\(root)/index/\(name)")
            copyFile("\(other.root)/index/\(name)", "\(root)/index/\(name)")
        }
    }

    func deleteIndex() { for name in Self.indexFiles { unlink("\(root)/index/\(name)") } }

    private func copyFile(_ from: String, _ to: String) {
        guard let bytes = FileManager.default.contents(atPath: from) else { return }
        _ = FileManager.default.createFile(atPath: to, contents: bytes)
    }

    // MARK: Files

    /// The segments on the disk, as their footers say.
    func segments() throws -> [SegmentInfo] {
        let plain = disk.disk
        return try plain.paths.filter { $0.hasPrefix(layout.tenantsRoot) && $0.hasSuffix(DiskLayout.segmentSuffix) }.map { try readSegmentInfo(plain, $0) }
    }

    /// A segment that is not on the disk any more.
    func segment(_ path: String, _ bytes: [UInt8]) throws -> SegmentInfo {
        let apart = MemoryFileSystem()
        apart.setContent(path, bytes)
        return try readSegmentInfo(apart, path)
    }

    /// Whether the log a flushed segment was written from is still there: then nothing is lost with it.
    func hasLog(_ path: String) -> Bool {
        let parts = DiskLayout.name(of: path).split(separator: "-")
        guard parts.count == 4, let first = UInt64(parts[1], radix: 16) else { return false }
        let signal = Signal.allCases.first { path.contains("/\($0.rawValue)/") }
        return signal.map { disk.exists(layout.wal($0, sequence: first)) } ?? false
    }

    func path(of info: SegmentInfo) -> String { layout.segment(info.tenant, info.signal, day: info.day, id: info.id) }

    /// What some files of segments hold, by tenant.
    func content(of files: [String: [UInt8]], _ clock: any Clock) throws -> [TenantID: Answer] {
        let alone = World()
        for path in ["/VERSION"] { alone.disk.disk.setContent(alone.root + path, disk.disk.content(root + path) ?? []) }
        for (path, bytes) in files {
            let moved = alone.root + path.dropFirst(root.count)
            try alone.disk.disk.makeDirectories(DiskLayout.folder(of: moved))
            alone.disk.disk.setContent(moved, bytes)
        }
        let engine = try alone.open(Settings(retentionMillis: nil), clock)
        defer { engine.close() }
        return Dictionary(uniqueKeysWithValues: try Workload.tenants.map { ($0, try Answer(engine, $0)) })
    }
}

extension SegmentInfo {
    /// The newest record: what "the oldest first" goes by.
    var newestNanos: Int64 { signal == .metrics ? nanos(maxTime) : maxTime }
}

/// The rule by which segments go when there are too many bytes of them, in the model's own words: the one with the oldest newest record first, whatever its signal
/// and tenant, until it is enough; the last one of a signal stays.
enum OldestFirst {
    /// What is wrong with the choice of segments that went for good.
    static func breach(gone: [SegmentInfo], kept: [SegmentInfo]) -> String? {
        for dropped in gone {
            if !kept.contains(where: { $0.signal == dropped.signal }) { return "no segment of \(dropped.signal) is left, \(dropped.id) was dropped" }
            for other in kept where other.newestNanos < dropped.newestNanos && kept.count(where: { $0.signal == other.signal }) > 1 {
                return "\(dropped.id) was dropped before the older \(other.id)"
            }
        }
        return nil
    }

    /// The same for as many as had to go, and no more, to keep a bound on bytes.
    static func breach(gone: [SegmentInfo], of all: [SegmentInfo], over bytesMax: Int64) -> String? {
        let kept = all.filter { segment in !gone.contains { $0 == segment } }
        if let breach = breach(gone: gone, kept: kept) { return breach }
        let bytes = kept.reduce(0) { $0 + $1.bytes }
        let mayGo = kept.contains { segment in kept.count { $0.signal == segment.signal } > 1 }
        if bytes > bytesMax, mayGo { return "\(bytes) bytes are left, more than \(bytesMax)" }
        guard let youngest = gone.map(\.newestNanos).max() else { return nil }
        let last = gone.filter { $0.newestNanos == youngest }.map(\.bytes).max() ?? 0
        return bytes + last > bytesMax ? nil : "more was dropped than had to be: \(bytes) bytes are left of \(bytesMax)"
    }
}
