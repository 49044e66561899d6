// From a directory to a running store, whatever the last run left.
//
//  1. Half-written files (`*.tmp`) go.
//  2. The folders say which segments there are; the catalogue says what is in those it knows; the footers of the rest are read. A segment that cannot be read is
//     set aside.
//  3. A flush that was interrupted left some of its segments and all of its log: those segments go, the log is replayed.
//  4. What a crash tore off the end of the last log file is cut away. New records can come from here on, into a file of their own.
//  5. The log is replayed, but for the records that segments hold: their footers say which (LogReplay.swift).
//
// Every step may itself be interrupted and is then done again.

internal import ObsCore
internal import ObsDisk
internal import ObsIndex
internal import ObsSegment
internal import ObsStore
internal import ObsWAL

struct Recovery {
    let shared: EngineShared
    let decoder: any RequestDecoder

    /// Footers are checked at start up to this many segments; in bigger stores when a segment is first read.
    private static let footersCheckedMax = 2000

    // MARK: Segments

    /// All segments of the store, the catalogue in step with them.
    func segments(_ catalog: Catalog) throws(ObsError) -> [SegmentInfo] {
        for signal in Signal.allCases {
            for file in try WALFile.list(shared.fileSystem, shared.layout, signal) { try file.checkVersion(shared.fileSystem) }
        }
        var known: [String: SegmentInfo] = [:]
        for row in catalog.readableRows() { known[row.path] = segmentInfo(row) }
        let listing = try SegmentListing(shared.fileSystem, shared.layout)
        for path in listing.unfinished { try shared.fileSystem.remove(path) }
        let paths = listing.segments
        var infos: [SegmentInfo] = []
        var fresh: [SegmentInfo] = []
        for path in paths {
            let relative = String(path.dropFirst(shared.layout.root.count + 1))
            if let info = known[relative], paths.count > Self.footersCheckedMax, try Int64(shared.fileSystem.size(path)) == info.bytes {
                infos.append(info)
                known[relative] = nil
                continue
            }
            do throws(ObsError) {
                let info = try readPlacedSegmentInfo(shared.fileSystem, shared.layout, path)
                if known[relative] != info { fresh.append(info) }
                infos.append(info)
            } catch {
                // No file descriptor left, no permission, a device that does not read, a newer format: the segment is not damaged, and to go on without it
                // would answer wrongly.
                guard error.code == .corrupt else { throw error }
                shared.gate.quarantine(path, shared.layout, error)
                continue
            }
            known[relative] = nil
        }
        let gone = Array(known.values)
        if !fresh.isEmpty || !gone.isEmpty { catalog.tell(removing: gone.map(shared.relativePath), adding: fresh.map(shared.row)) }
        let isAllKnown = fresh.isEmpty && paths.count > Self.footersCheckedMax
        return try withoutInterrupted(isAllKnown ? infos : withoutReplaced(infos, catalog), catalog)
    }

    /// Removes the inputs of merges whose output is there. With the catalogue in step there are none: it is told before they are removed.
    private func withoutReplaced(_ infos: [SegmentInfo], _ catalog: Catalog) throws(ObsError) -> [SegmentInfo] {
        struct Key: Hashable {
            var tenant: TenantID
            var id: String
        }
        var replaced: Set<Key> = []
        for info in infos where info.level > 0 {
            do throws(ObsError) {
                for id in try readReplaced(shared.fileSystem, shared.path(of: info)) { replaced.insert(Key(tenant: info.tenant, id: id)) }
            } catch {
                guard error.code == .corrupt else { throw error }
                DiagnosticLog.error("merged segment does not say which it replaces", [("error", error.description)])
            }
        }
        // The last run may have been killed between a change of names and the sync of their folder: outputs must be durable before their inputs go, and inputs
        // that are gone before another merge builds on it.
        for folder in Set(infos.filter { $0.level > 0 }.map { shared.layout.signalFolder($0.tenant, $0.signal) }).sorted() {
            for day in try shared.fileSystem.list(folder) where DiskLayout.partitionDay(day) != nil { try shared.fileSystem.syncDirectory("\(folder)/\(day)") }
            try shared.fileSystem.syncDirectory(folder)
        }
        let gone = infos.filter { replaced.contains(Key(tenant: $0.tenant, id: $0.id)) }
        guard !gone.isEmpty else { return infos }
        for info in gone {
            try shared.fileSystem.remove(shared.path(of: info))
            DiagnosticLog.info("segment removed that was merged into another", [("path", shared.path(of: info))])
        }
        for folder in Set(gone.map { DiskLayout.folder(of: shared.path(of: $0)) }) { try shared.fileSystem.syncDirectory(folder) }
        catalog.tell(removing: gone.map(shared.relativePath))
        return infos.filter { !replaced.contains(Key(tenant: $0.tenant, id: $0.id)) }
    }

    /// Removes the segments of flushes that were not finished: some members are missing and the log they came from is still whole.
    private func withoutInterrupted(_ infos: [SegmentInfo], _ catalog: Catalog) throws(ObsError) -> [SegmentInfo] {
        var members: [FlushGroup: [SegmentInfo]] = [:]
        for info in infos where info.level == 0 {
            if var group = FlushGroup(id: info.id) {
                group.index = 0
                members[group, default: []].append(info)
            }
        }
        var removed: [SegmentInfo] = []
        var unsynced: Set<String> = []
        for signal in Signal.allCases {
            let logged = Set(try WALFile.list(shared.fileSystem, shared.layout, signal).map(\.firstSequence))
            // Log files are removed oldest first: the first one's presence means that all are there.
            // A member that was merged is missing too; merging began when the group was whole and its log removed.
            let merged = Covered(infos.filter { $0.signal == signal && $0.level > 0 }.flatMap(\.walRanges))
            for (group, present) in members
            where group.signal == signal && logged.contains(group.firstSequence) && !merged.contains(group.firstSequence) {
                if present.count < group.count {
                    removed += present
                } else {
                    unsynced.formUnion(present.map { DiskLayout.folder(of: shared.path(of: $0)) })
                }
            }
        }
        // The last run may have been killed between a rename and the sync of the folder. The log goes next: the names must be durable before.
        for folder in unsynced.sorted() { try shared.fileSystem.syncDirectory(folder) }
        guard !removed.isEmpty else { return infos }
        for info in removed {
            try shared.fileSystem.remove(shared.path(of: info))
            DiagnosticLog.info("segment of an interrupted flush removed, its log is replayed", [("path", shared.path(of: info))])
        }
        // The log is flushed anew, maybe to other days: a power cut then must not bring these back beside.
        for folder in Set(removed.map { DiskLayout.folder(of: shared.path(of: $0)) }).sorted() { try shared.fileSystem.syncDirectory(folder) }
        catalog.tell(removing: removed.map(shared.relativePath))
        let ids = Set(removed.map(\.id))
        return infos.filter { !ids.contains($0.id) }
    }

    // MARK: Log

    /// A signal as recovery leaves it: what `SignalStore` begins with.
    struct Recovered<Head: FlushableHead> {
        var segments: [SegmentInfo]
        /// Log files that are still there, the oldest first.
        var files: [WALFile]
        /// Number of the first new record; every old one is below.
        var nextSequence: UInt64
        /// What is still to be read; nil when the log holds nothing.
        var replay: LogReplay<Head>?
    }

    /// Looks at the log of a signal and makes it ready for new records; reads none of the old ones into memory.
    /// - Parameters:
    ///   - infos: segments of the whole store.
    ///   - unwrap: the signal's batch out of a decoded request; nil when it is of another signal.
    func log<Head: FlushableHead>(
        _ infos: [SegmentInfo], unwrap: @escaping LogReplay<Head>.Unwrap
    ) throws(ObsError) -> Recovered<Head> {
        let segments = infos.filter { $0.signal == Head.signal }
        let covered = Covered(segments.flatMap(\.walRanges))
        var files = try withoutCovered(try WALFile.list(shared.fileSystem, shared.layout, Head.signal), covered)
        var next = covered.end
        if let last = files.last {
            next = max(next, last.firstSequence)
            let tail = try cutTail(of: last, Head.signal)
            next = max(next, tail.endSequence)
            if !tail.isLeft { files.removeLast() }
        }
        // The last file stays while it has no successor, though segments hold all of it (the disk was full, or the crash came just then). A generation that began
        // with it would be flushed under the names of these segments.
        let isCovered = files.first.map { $0.firstSequence < next && covered.contains($0.firstSequence...(next - 1)) } ?? false
        // What is written from here on is later than every deletion, also where the log is not: in a restored snapshot.
        next = max(next, shared.tombstones.lastThrough(Head.signal) &+ 1)
        let unread = isCovered ? [] : files.filter { $0.firstSequence < next }
        let replay =
            unread.isEmpty
            ? nil
            : LogReplay<Head>(shared, decoder, files: unread, endSequence: next, covered: covered, unwrap: unwrap)
        return Recovered(segments: segments, files: files, nextSequence: next, replay: replay)
    }

    /// Removes files whose records all lie in segments: a flush was interrupted between its last step and its cleaning up.
    private func withoutCovered(_ files: [WALFile], _ covered: Covered) throws(ObsError) -> [WALFile] {
        var rest = files[...]
        while rest.count > 1, let first = rest.first, covered.contains(first.firstSequence...(rest[rest.startIndex + 1].firstSequence - 1)) {
            try shared.fileSystem.remove(first.path)
            rest = rest.dropFirst()
        }
        return Array(rest)
    }

    /// Cuts what a crash tore off the end of the newest file. It has to come before a newer file begins: a torn end is only to be expected in the newest.
    /// - Returns: whether anything of the file is left, and the first number past all its records.
    private func cutTail(of file: WALFile, _ signal: Signal) throws(ObsError) -> (isLeft: Bool, endSequence: UInt64) {
        // No file has more records than this; the answer where damage hides the last one.
        let bound = file.firstSequence &+ WALFormat.recordsMax(fileBytes: try shared.fileSystem.size(file.path))
        let reader = try WALReader(shared.fileSystem, file, signal: signal, isLast: true)
        var end = file.firstSequence
        var isDamaged = false
        while true {
            do throws(ObsError) {
                guard let record = try reader.next() else { break }
                end = max(end, record.sequence &+ 1)
            } catch {
                guard error.code == .corrupt else { throw error }
                isDamaged = true
                guard try reader.skipDamage() else { break }
            }
        }
        if isDamaged { end = max(end, bound) }
        if reader.position == 0 {
            DiagnosticLog.info("write-ahead log file whose creation was interrupted removed", [("path", file.path)])
            try shared.fileSystem.remove(file.path)
            return (false, end)
        }
        if reader.tornBytes > 0 {
            DiagnosticLog.info("write-ahead log ended within an unacknowledged write, cut off", [("path", file.path), ("bytes", "\(reader.tornBytes)")])
            try shared.fileSystem.truncate(file.path, to: reader.position)
        } else if reader.size > WALFormat.headerBytes {
            // A killed process leaves written records unsynced. From here on the file has a successor and is right to the end, also after a power cut.
            try shared.fileSystem.truncate(file.path, to: reader.size)
        }
        return (true, end)
    }
}

/// Log records that segments hold.
struct Covered {
    private var ranges: [ClosedRange<UInt64>] = []

    init(_ walRanges: [WALRange]) {
        for range in walRanges.filter({ $0.first <= $0.last }).sorted(by: { $0.first < $1.first }) {
            if let last = ranges.last, range.first <= last.upperBound &+ 1 {
                ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, range.last)
            } else {
                ranges.append(range.first...range.last)
            }
        }
    }

    func contains(_ sequence: UInt64) -> Bool { contains(sequence...sequence) }

    func contains(_ wanted: ClosedRange<UInt64>) -> Bool { ranges.contains { $0.lowerBound <= wanted.lowerBound && wanted.upperBound <= $0.upperBound } }

    var walRanges: [WALRange] { ranges.map { WALRange(first: $0.lowerBound, last: $0.upperBound) } }

    /// The first number past all.
    var end: UInt64 { (ranges.last?.upperBound ?? 0) + 1 }
}
