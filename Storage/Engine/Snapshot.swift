// A copy of the store at one moment: hard links, so that it costs next to no time and no space until the originals go.
//
// `snapshots/<name>/` is laid out like a data folder. All rows are in segments when it is made, so it has no log; the catalogue is made again at its first start.
// VERSION comes last: a snapshot without it was interrupted.

internal import ObsCore
internal import ObsDisk
internal import ObsSegment

struct Snapshot {
    let shared: EngineShared
    let target: DiskLayout

    init(_ shared: EngineShared, name: String) {
        self.shared = shared
        target = DiskLayout(root: shared.layout.snapshot(name))
    }

    /// Tombstones, which come before the segments they concern: one may be spent, and gone, as soon as its segments are.
    func linkTombstones() throws(ObsError) {
        let files = shared.fileSystem
        try files.makeDirectories(target.tombstones)
        for name in try files.list(shared.layout.tombstones) where DiskLayout.tombstoneNumber(name) != nil {
            do throws(ObsError) { try files.hardLink("\(shared.layout.tombstones)/\(name)", to: "\(target.tombstones)/\(name)") } catch {
                // Spent meanwhile.
                guard error.code == .notFound else { throw error }
            }
        }
        try files.syncDirectory(target.tombstones)
    }

    /// - Parameter infos: segments whose files stay until this returns.
    func link(_ infos: [SegmentInfo]) throws(ObsError) {
        var folders = Set<String>()
        for info in infos {
            let folder = target.partition(info.tenant, info.signal, day: info.day)
            if folders.insert(folder).inserted { try shared.fileSystem.makeDirectories(folder) }
            try shared.fileSystem.hardLink(shared.path(of: info), to: target.segment(info.tenant, info.signal, day: info.day, id: info.id))
        }
        for folder in folders { try shared.fileSystem.syncDirectory(folder) }
    }

    /// Removes what interrupted snapshots left, at start.
    static func removeUnfinished(_ files: any FileSystem, _ layout: DiskLayout) throws(ObsError) {
        for name in try files.list(layout.snapshots) where isName(name) {
            let left = DiskLayout(root: layout.snapshot(name))
            guard files.isDirectory(left.root), !files.exists(left.version) else { continue }
            // What is left of a copy is no reason not to start; the next start tries again.
            do throws(ObsError) {
                try removeTree(files, left.root)
                DiagnosticLog.info("unfinished snapshot removed", [("path", left.root)])
            } catch { DiagnosticLog.warn("unfinished snapshot not removed", [("path", left.root), ("error", error.description)]) }
        }
    }

    /// Other folders there are somebody's own.
    private static func isName(_ name: String) -> Bool {
        let parts = name.utf8.split(separator: UInt8(ascii: "-"))
        return parts.count == 2 && parts[0].count == 16 && parts[1].count == 16 && parts[0].last == UInt8(ascii: "Z")
            && parts[1].allSatisfy { hexValue($0) != nil }
    }

    private static func removeTree(_ files: any FileSystem, _ folder: String) throws(ObsError) {
        for name in try files.list(folder) {
            let path = "\(folder)/\(name)"
            if files.isDirectory(path) { try removeTree(files, path) } else { try files.remove(path) }
        }
        try files.removeDirectory(folder)
    }

    func finish() throws(ObsError) {
        try shared.fileSystem.hardLink(shared.layout.version, to: target.version)
        try shared.fileSystem.syncDirectory(target.root)
    }
}
