// A stopped store, read whole: every log record down to its rows, every frame of every segment, tombstones, the catalogue against the folders.

package import ObsCore
package import ObsDisk
internal import ObsIndex
package import ObsSegment
package import ObsStore
internal import ObsWAL

/// Something a check of the store found.
package struct FsckFinding: Sendable, Equatable {
    package enum Kind: String, Sendable {
        /// Bytes are not as they were written, or a file is missing.
        case damage
        /// The device refused to read: what is there is not known, and not changed.
        case unread = "I/O error"
        /// A newer obsd wrote it: not to be judged, and not changed.
        case newer = "newer version"
        /// As a crash may leave it, or not to be judged here: nothing is lost.
        case note
    }
    package var kind: Kind
    /// `file:offset`, or the file.
    package var place: String
    package var what: String
    /// What to do, or what was done.
    package var remedy: String
}

package struct FsckReport: Sendable {
    package var findings: [FsckFinding] = []
    package var segments = 0
    package var segmentBytes: Int64 = 0
    package var segmentRows: Int64 = 0
    package var logFiles = 0
    package var logRecords = 0

    package var damage: Int { findings.count { $0.kind == .damage } }
    /// What could not be looked at.
    package var unknown: Int { findings.count { $0.kind == .unread || $0.kind == .newer } }
}

package struct Fsck {
    private let fileSystem: any FileSystem
    private let layout: DiskLayout
    private let lock: any FileLock
    private let decoder: (any RequestDecoder)?
    private var epochs: Epochs?
    private var report = FsckReport()
    private var infos: [SegmentInfo] = []

    /// Checks the store in a folder; holds its lock meanwhile.
    /// - Parameters:
    ///   - decoder: of the requests in the log; without one only their checksums are checked.
    ///   - repair: sets damaged segments aside, keeping what can be read of them in their place, and makes the catalogue again.
    /// - Throws: `.unavailable` when a daemon runs on it, `.notFound` when there is no store, `.unprocessable` when a newer program made it.
    package static func check(
        _ root: String, fileSystem: any FileSystem = LocalFileSystem(), decoder: (any RequestDecoder)? = nil, repair: Bool = false
    ) throws(ObsError) -> FsckReport {
        var check = try Fsck(root, fileSystem, decoder)
        defer { check.lock.release() }
        try check.checkVersion()
        check.checkEpochs()
        try check.checkTombstones()
        for signal in Signal.allCases { try check.checkLog(signal) }
        try check.checkSegments(repair: repair)
        check.checkCatalog(repair: repair)
        if repair { try check.rebuildCatalog() }
        return check.report
    }

    /// Makes the catalogue of a stopped store again from the segments' footers; returns how many there are. Segments whose footer cannot be read are left out.
    package static func rebuildIndex(_ root: String, fileSystem: any FileSystem = LocalFileSystem()) throws(ObsError) -> FsckReport {
        var check = try Fsck(root, fileSystem)
        defer { check.lock.release() }
        try check.checkVersion()
        for path in try SegmentListing(fileSystem, check.layout).segments {
            do throws(ObsError) {
                check.take(try readPlacedSegmentInfo(fileSystem, check.layout, path))
            } catch { check.found(error, path, "run `obsd fsck --repair`") }
        }
        try check.rebuildCatalog()
        return check.report
    }

    private init(_ root: String, _ fileSystem: any FileSystem, _ decoder: (any RequestDecoder)? = nil) throws(ObsError) {
        self.fileSystem = fileSystem
        self.decoder = decoder
        layout = DiskLayout(root: root)
        guard fileSystem.exists(layout.version) else {
            throw ObsError(.notFound, "\(root) holds no store: there is no file VERSION; name its folder with --data")
        }
        do throws(ObsError) { lock = try fileSystem.lock(layout.lock) } catch {
            guard error.code == .unavailable else { throw error }
            throw ObsError(.unavailable, "\(root) is in use by a running obsd, or cannot be written; stop it first (\(error.message))")
        }
    }

    private mutating func checkVersion() throws(ObsError) {
        do throws(ObsError) { _ = try StoreVersion.load(fileSystem, layout) } catch {
            guard error.code == .corrupt else { throw error }
            report.findings.append(
                FsckFinding(
                    kind: .damage, place: error.place ?? layout.version, what: error.message,
                    remedy: "remove the file: the next start writes a new one; nothing stored depends on its content"))
        }
    }

    private mutating func checkEpochs() {
        do throws(ObsError) {
            let epochs = try Epochs.inspect(fileSystem, layout)
            self.epochs = epochs
            guard epochs.wasDamaged else { return }
            found(
                ObsError(.corrupt, "the file of configuration epochs fails its checksum"), layout.epochs,
                "the next start sets it aside and replays the log by the present limits")
        } catch { found(error, layout.epochs, "") }
    }

    private mutating func checkTombstones() throws(ObsError) {
        for name in try fileSystem.list(layout.tombstones) where DiskLayout.tombstoneNumber(name) != nil {
            let path = "\(layout.tombstones)/\(name)"
            do throws(ObsError) { _ = try Tombstone(decoding: try fileSystem.readAll(path), path: path) } catch {
                let isDamage = error.code == .corrupt || error.code == .badInput
                found(
                    isDamage ? ObsError(.corrupt, error.message, place: error.place) : error, path,
                    "the next start sets it aside; what this deletion hid can be seen again")
            }
        }
    }

    // MARK: Log

    private mutating func checkLog(_ signal: Signal) throws(ObsError) {
        let files = try WALFile.list(fileSystem, layout, signal)
        for (index, file) in files.enumerated() {
            report.logFiles += 1
            do throws(ObsError) {
                let reader = try WALReader(fileSystem, file, signal: signal, isLast: index == files.count - 1)
                try checkRecords(reader, file, signal)
            } catch { found(error, file.path, "the next start sets the file aside; its records are lost") }
        }
    }

    private mutating func checkRecords(_ reader: WALReader, _ file: WALFile, _ signal: Signal) throws(ObsError) {
        while true {
            do throws(ObsError) {
                guard let record = try reader.next() else { break }
                report.logRecords += 1
                checkContent(record, signal, "\(file.path):\(reader.recordPosition)")
            } catch {
                guard error.code == .corrupt else { throw error }
                found(error, file.path, "the records there are lost; the next start uses those around them and keeps the file in quarantine/")
                guard try reader.skipDamage() else { break }
            }
        }
        guard reader.tornBytes > 0 else { return }
        report.findings.append(
            FsckFinding(
                kind: .note, place: "\(file.path):\(reader.position)", what: "ends within an unacknowledged write of \(reader.tornBytes) bytes",
                remedy: "nothing to do: the next start cuts it off"))
    }

    /// Whether replay would get rows out of a record.
    private mutating func checkContent(_ record: WALRecord, _ signal: Signal, _ place: String) {
        guard let decoder, let epochs else { return }
        do throws(ObsError) {
            let batch = try RecordDecoder(requests: decoder, signal: signal).decode(record, epochs.limits(of: record.configurationEpoch))
            guard batch.signal != signal else { return }
            throw ObsError(.corrupt, "log record \(record.sequence) holds \(batch.signal.rawValue) in the log of \(signal.rawValue)")
        } catch { found(error, place, "its rows are lost; the next start uses the other records and keeps the file in quarantine/") }
    }

    // MARK: Segments

    private mutating func checkSegments(repair: Bool) throws(ObsError) {
        let listing = try SegmentListing(fileSystem, layout)
        for path in listing.unfinished {
            report.findings.append(
                FsckFinding(kind: .note, place: path, what: "a segment that was never finished", remedy: "nothing to do: the next start removes it"))
        }
        for path in listing.segments {
            var known: SegmentInfo?
            do throws(ObsError) {
                let info = try readPlacedSegmentInfo(fileSystem, layout, path)
                known = info
                try verify(fileSystem, path)
                take(info)
            } catch {
                guard error.code == .corrupt, repair else {
                    found(error, path, "run `obsd fsck --repair`, which keeps what can be read")
                    // Its footer is good: the catalogue rightly lists it.
                    if let known { take(known) }
                    continue
                }
                found(error, path, try mend(path, known, error))
            }
        }
    }

    /// Sets a damaged segment aside and says what was done.
    private mutating func mend(_ path: String, _ info: SegmentInfo?, _ error: ObsError) throws(ObsError) -> String {
        if let info, case .salvaged(let written) = try Salvage(fileSystem: fileSystem, layout: layout).run(info, error) {
            take(written)
            return "repaired: \(written.rows) of \(info.rows) rows kept, the damaged file is \(layout.quarantined(path))"
        }
        try fileSystem.makeDirectories(layout.quarantine)
        try fileSystem.rename(path, to: layout.quarantined(path))
        try fileSystem.syncDirectory(layout.quarantine)
        try fileSystem.syncDirectory(DiskLayout.folder(of: path))
        return "set aside as \(layout.quarantined(path)); \(info.map { "its \($0.rows) rows" } ?? "its rows") are lost"
    }

    private mutating func take(_ info: SegmentInfo) {
        infos.append(info)
        report.segments += 1
        report.segmentBytes += info.bytes
        report.segmentRows += info.rows
    }

    // MARK: Catalogue

    private mutating func checkCatalog(repair: Bool) {
        let remedy = repair ? "made again" : "run `obsd index rebuild`, or just start obsd"
        let rows: [CatalogRow]
        do throws(ObsError) { rows = try Catalog.inspect(layout.catalog) } catch {
            let kind: FsckFinding.Kind = error.code == .notFound ? .note : .damage
            report.findings.append(FsckFinding(kind: kind, place: error.place ?? layout.catalog, what: error.message, remedy: remedy))
            return
        }
        var known: [String: CatalogRow] = [:]
        for row in rows { known[row.path] = row }
        for info in infos {
            let wanted = catalogRow(info, layout)
            if let row = known.removeValue(forKey: wanted.path) {
                if row != wanted { catalogFinding(.damage, wanted.path, "the catalogue says something else about this segment than its footer", remedy) }
            } else {
                catalogFinding(.note, wanted.path, "not in the catalogue, as after a crash", remedy)
            }
        }
        for path in known.keys.sorted() where !fileSystem.exists("\(layout.root)/\(path)") && !fileSystem.exists(layout.quarantined("\(layout.root)/\(path)")) {
            catalogFinding(.damage, path, "the catalogue names this segment, but there is no such file", "restore it from a backup; else \(remedy)")
        }
    }

    private mutating func catalogFinding(_ kind: FsckFinding.Kind, _ path: String, _ what: String, _ remedy: String) {
        report.findings.append(FsckFinding(kind: kind, place: "\(layout.root)/\(path)", what: what, remedy: remedy))
    }

    private func rebuildCatalog() throws(ObsError) {
        try fileSystem.makeDirectories(layout.indexFolder)
        Catalog.remove(layout.catalog)
        try Catalog.open(layout.catalog).replace(adding: infos.map { catalogRow($0, layout) })
    }

    /// Notes what a file's check ended with. Only what is damaged for certain is called so.
    private mutating func found(_ error: ObsError, _ path: String, _ remedy: String) {
        switch error.code {
        case .corrupt: report.findings.append(FsckFinding(kind: .damage, place: error.place ?? path, what: error.message, remedy: remedy))
        case .unprocessable:
            report.findings.append(
                FsckFinding(kind: .newer, place: error.place ?? path, what: error.message, remedy: "use the newer obsd; the file is left as it is"))
        default:
            report.findings.append(
                FsckFinding(
                    kind: .unread, place: error.place ?? path, what: error.message,
                    remedy: "the device refused to read; nothing is changed, see the kernel's log"))
        }
    }
}

/// What a running or stopped store has, from the footers of its segments; those that cannot be read, or went in between, are left out and named.
package func listSegments(_ root: String, fileSystem: any FileSystem = LocalFileSystem()) throws(ObsError) -> (infos: [SegmentInfo], errors: [ObsError]) {
    let layout = DiskLayout(root: root)
    guard fileSystem.exists(layout.version) else { throw ObsError(.notFound, "\(root) holds no store: there is no file VERSION; name its folder with --data") }
    var infos: [SegmentInfo] = []
    var errors: [ObsError] = []
    for path in try SegmentListing(fileSystem, layout).segments {
        do throws(ObsError) { infos.append(try readPlacedSegmentInfo(fileSystem, layout, path)) } catch {
            if error.code != .notFound { errors.append(error) }
        }
    }
    return (infos, errors)
}
