internal import ObsCore
internal import ObsDisk
internal import ObsEncoding
internal import ObsHash

/// Writes the container: frames one after the other under a temporary name, then footer and trailer, sync, rename, folder sync.
/// Until `finish` returns there is no segment; after it the segment survives a power cut.
final class SegmentFileWriter {
    let draft: SegmentDraft
    let signal: Signal
    private let fileSystem: any FileSystem
    private let path: String
    private let temporary: String
    private let file: any WritableFile
    private var buffer: [UInt8] = []
    private var written = 0
    private var contentHash: UInt64 = 0
    private var isOpen = true
    let level: Int

    /// Bytes handed to the file system at once.
    private static let bufferBytes = 1 << 20

    init(fileSystem: any FileSystem, path: String, signal: Signal, draft: SegmentDraft) throws(ObsError) {
        self.fileSystem = fileSystem
        self.path = path
        self.signal = signal
        self.draft = draft
        temporary = path + DiskLayout.temporarySuffix
        level = SegmentLayout.compressionLevel(segmentLevel: draft.level)
        try fileSystem.makeDirectories(DiskLayout.folder(of: path))
        file = try fileSystem.create(temporary)
        buffer = SegmentLayout.header(SegmentLayout.version)
    }

    deinit { abandon() }

    /// Appends a frame with this content.
    /// - Parameter isPacked: the content is compressed already.
    func append(_ content: [UInt8], isPacked: Bool = false) throws(ObsError) -> FramePlace {
        precondition(isOpen, "BUG: segment \(path) written after its end")
        let offset = written + buffer.count
        let checksum = try Frame.append(content, level: isPacked ? nil : level, to: &buffer)
        contentHash = chain(contentHash, checksum)
        let place = FramePlace(offset: offset, length: written + buffer.count - offset)
        if buffer.count >= Self.bufferBytes { try flush() }
        return place
    }

    /// Appends frames of another segment as they are; returns their place.
    func append(_ frames: (bytes: [UInt8], checksums: [UInt64])) throws(ObsError) -> FramePlace {
        precondition(isOpen, "BUG: segment \(path) written after its end")
        let place = FramePlace(offset: written + buffer.count, length: frames.bytes.count)
        buffer.append(contentsOf: frames.bytes)
        for checksum in frames.checksums { contentHash = chain(contentHash, checksum) }
        if buffer.count >= Self.bufferBytes { try flush() }
        return place
    }

    func finish(
        minTime: Int64, maxTime: Int64, rows: Int64, names: [String], services: [String], sections: [(SectionKind, FramePlace)]
    ) throws(ObsError) -> SegmentInfo {
        guard rows > 0 else {
            abandon()
            throw ObsError(.internalError, "segment \(path) would be empty")
        }
        var info = SegmentInfo(
            id: draft.id, tenant: draft.tenant, signal: signal, level: draft.level, day: SegmentFooter.day(of: minTime, signal), minTime: minTime,
            maxTime: maxTime, rows: rows, bytes: 0, walRanges: draft.walRanges, checksum: 0, names: bounded(names), services: bounded(services))
        var sections = sections
        if !draft.replaces.isEmpty { sections.append((.replaced, try append(replacedSection()))) }
        let footer = SegmentFooter(info: info, contentHash: contentHash, sections: sections.map { ($0.0.rawValue, $0.1) })
        let offset = written + buffer.count
        var tail: [UInt8] = []
        try Frame.append(footer.encoded(), level: level, to: &tail)
        let length = tail.count
        tail.appendLittleEndian(UInt64(offset))
        tail.appendLittleEndian(UInt64(length))
        info.checksum = tail.withUnsafeBytes { hash64($0) }
        tail.appendLittleEndian(info.checksum)
        tail.append(contentsOf: SegmentLayout.header(SegmentLayout.version))
        buffer.append(contentsOf: tail)
        info.bytes = Int64(written + buffer.count)
        try flush()
        try file.sync()
        try file.close()
        let path = try finalPath(day: info.day)
        try fileSystem.rename(temporary, to: path)
        isOpen = false
        do throws(ObsError) { try fileSystem.syncDirectory(DiskLayout.folder(of: path)) } catch {
            // Neither there for certain nor gone for certain: the caller is told it failed, so it must not turn up as a second copy.
            try? fileSystem.remove(path)
            throw error
        }
        return info
    }

    /// A merge that leaves deleted rows out may begin a day later than its inputs did.
    private func finalPath(day: Int) throws(ObsError) -> String {
        let folder = DiskLayout.folder(of: path)
        guard !draft.replaces.isEmpty, let named = DiskLayout.partitionDay(DiskLayout.name(of: folder)), named != day else { return path }
        let right = DiskLayout.folder(of: folder) + "/" + dayName(day)
        try fileSystem.makeDirectories(right)
        return right + "/" + DiskLayout.name(of: path)
    }

    private func replacedSection() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendVarint(UInt64(draft.replaces.count))
        for id in draft.replaces { bytes.appendText(Array(id.utf8)) }
        return bytes
    }

    /// Removes what was written; what an error or a changed mind calls. Idempotent.
    func abandon() {
        guard isOpen else { return }
        isOpen = false
        try? file.close()
        try? fileSystem.remove(temporary)
    }

    private func flush() throws(ObsError) {
        try file.append(buffer)
        written += buffer.count
        buffer.removeAll(keepingCapacity: true)
    }

    private func bounded(_ names: [String]) -> [String] { names.count <= SegmentLimits.namesMax ? names : [] }
}

/// The next link of the hash over frame checksums.
func chain(_ hash: UInt64, _ checksum: UInt64) -> UInt64 {
    withUnsafeBytes(of: (hash.littleEndian, checksum.littleEndian)) { hash64($0) }
}
