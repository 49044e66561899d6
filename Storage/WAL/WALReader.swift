// Reading a log after a crash. What a crash may leave and what it may not:
//
// A group of records is written and then synced, and only then acknowledged. A power cut in between may keep any of the group's pages and lose others, so behind
// the last sync there may be anything: half a record, zeros, a whole record after a broken one. All of that was promised to nobody and is cut off. Before the last
// sync every byte must be right. A record says how far the file was synced when it was written; so damage is a torn tail exactly when no whole record behind it
// was written later than a sync that covered the damage. Anything else, and any damage in a file that has a successor, is corruption: found, named, never skipped silently.
//
// So that the last records of a quiet log are told apart as well, the writer adds a mark when nothing comes for a while, and when it stops: a record of nothing
// but how far the file was synced.

package import ObsCore
package import ObsDisk
internal import ObsHash

/// A log file by name.
package struct WALFile: Sendable, Equatable {
    package var firstSequence: UInt64
    package var path: String

    /// All log files of a signal, in order.
    package static func list(_ fileSystem: any FileSystem, _ layout: DiskLayout, _ signal: Signal) throws(ObsError) -> [WALFile] {
        try fileSystem.list(layout.walFolder(signal)).compactMap { name in
            DiskLayout.walSequence(name).map { WALFile(firstSequence: $0, path: layout.wal(signal, sequence: $0)) }
        }.sorted { $0.firstSequence < $1.firstSequence }
    }

    /// - Throws: `.unprocessable` for a file of a newer format.
    package func checkVersion(_ fileSystem: any FileSystem) throws(ObsError) {
        let file = try fileSystem.open(path)
        try Self.checkVersion(header: try file.read(at: 0, count: min(WALFormat.headerBytes, file.size)), path)
    }

    static func checkVersion(header: [UInt8], _ path: String) throws(ObsError) {
        guard let version = WALFormat.newerVersion(header) else { return }
        throw newerFormat("log format", version, known: WALFormat.version, place: "\(path):0")
    }
}

/// Streams the records of one log file in bounded memory.
package final class WALReader {
    private static let windowBytes = 1 << 20
    private let file: any ReadableFile
    private let isLast: Bool
    private let seed: UInt64
    /// What is wrong with the header; thrown by the first `next`.
    private var headerDamage: ObsError?
    private var window: [UInt8] = []
    private var windowOffset = 0
    /// Offset behind the last record read: where a torn tail begins.
    package private(set) var position = 0
    /// Where the last record read begins.
    package private(set) var recordPosition = 0
    /// Bytes cut off because the writer was interrupted; 0 until the end is reached.
    package private(set) var tornBytes = 0

    /// A file without a valid header is read by its name, which says the same; the first `next` throws.
    /// - Parameter isLast: whether the writer may have been interrupted in this file.
    package init(_ fileSystem: any FileSystem, _ walFile: WALFile, signal: Signal, isLast: Bool) throws(ObsError) {
        file = try fileSystem.open(walFile.path)
        self.isLast = isLast
        seed = walFile.firstSequence
        let header = try file.read(at: 0, count: min(WALFormat.headerBytes, file.size))
        guard let first = WALFormat.parseHeader(header, signal: signal), first == walFile.firstSequence else {
            try WALFile.checkVersion(header: header, walFile.path)
            // A creation that a crash or a full disk ended leaves no header and no records. More bytes than that would have been synced ones only if the header was.
            if file.size <= WALFormat.headerBytes || isLast && header.allSatisfy({ $0 == 0 }) {
                tornBytes = file.size
                return
            }
            headerDamage = ObsError(.corrupt, "log file has no valid header", place: "\(walFile.path):0")
            return
        }
        position = WALFormat.headerBytes
    }

    package var size: Int { file.size }

    /// The next record; nil at the end, a torn tail included.
    /// - Throws: `.corrupt` with the place of the damage; `skipDamage` may go on behind it. `.unprocessable` for a record of a type that only a newer obsd knows.
    package func next() throws(ObsError) -> WALRecord? {
        if let damage = headerDamage.take() { throw damage }
        while position >= WALFormat.headerBytes, position < file.size, tornBytes == 0 {
            guard let length = try contentLength(at: position) else {
                try endOrDamage()
                return nil
            }
            let isMark = content(at: position, length) { $0[0] == WALFormat.markType }
            let record = isMark ? nil : content(at: position, length) { WALFormat.parse($0)?.record }
            guard isMark || record != nil else { throw ObsError(.corrupt, "log record is not one of any known form", place: "\(file.path):\(position)") }
            recordPosition = position
            position += WALFormat.frameBytes + length
            if let record { return record }
        }
        return nil
    }

    /// What there is in place of a record: a torn tail, from here on; else throws.
    private func endOrDamage() throws(ObsError) {
        if let type = try unknownType(at: position) {
            throw ObsError(
                .unprocessable, "log record of type \(type) was written by a newer obsd; nothing is changed: start the newer obsd again",
                place: "\(file.path):\(position)")
        }
        if isLast, try nextRecord(after: position, syncedPast: position) == nil {
            tornBytes = file.size - position
            return
        }
        throw ObsError(.corrupt, "log record fails its checksum", place: "\(file.path):\(position)")
    }

    /// Moves to the next whole record behind damage. False when there is none.
    package func skipDamage() throws(ObsError) -> Bool {
        guard let found = try nextRecord(after: position, syncedPast: nil) else {
            position = file.size
            return false
        }
        position = found
        return true
    }

    /// Content length of the record at an offset when it is whole and its checksum is right.
    private func contentLength(at offset: Int) throws(ObsError) -> Int? {
        guard try load(offset, WALFormat.frameBytes + WALFormat.contentBytesMin) else { return nil }
        let frame = window.withUnsafeBytes { WALFormat.parseFrame(UnsafeRawBufferPointer(rebasing: $0[(offset - windowOffset)...])) }
        // What cannot be a record is told by its fixed fields, before megabytes are read and hashed for a length that is none.
        let isPlausible = content(at: offset, WALFormat.contentBytesMin) { (1...WALFormat.markType).contains($0[0]) && WALFormat.syncedOffset($0) <= offset }
        guard isPlausible, let frame, try load(offset, WALFormat.frameBytes + frame.length) else { return nil }
        let isWhole = content(at: offset, frame.length) { hash64($0, seed: seed) == frame.checksum }
        return isWhole ? frame.length : nil
    }

    /// The type of a record whose checksum is right but whose type is none of ours: nothing that damage could make.
    private func unknownType(at offset: Int) throws(ObsError) -> UInt8? {
        guard try load(offset, WALFormat.frameBytes + WALFormat.contentBytesMin) else { return nil }
        let frame = window.withUnsafeBytes { WALFormat.parseFrame(UnsafeRawBufferPointer(rebasing: $0[(offset - windowOffset)...])) }
        guard let frame, try load(offset, WALFormat.frameBytes + frame.length) else { return nil }
        return content(at: offset, frame.length) { content in
            (1...WALFormat.markType).contains(content[0]) || hash64(content, seed: seed) != frame.checksum ? nil : content[0]
        }
    }

    private func content<R>(at offset: Int, _ length: Int, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        window.withUnsafeBytes { raw in
            let start = offset - windowOffset + WALFormat.frameBytes
            return body(UnsafeRawBufferPointer(rebasing: raw[start..<start + length]))
        }
    }

    /// Offset of the first whole record behind `offset`; with `syncedPast`, of the first that was written after a sync beyond that offset.
    private func nextRecord(after offset: Int, syncedPast damage: Int?) throws(ObsError) -> Int? {
        var candidate = offset + 1
        while candidate + WALFormat.frameBytes + WALFormat.contentBytesMin <= file.size {
            if let length = try contentLength(at: candidate) {
                guard let damage else { return candidate }
                if content(at: candidate, length, WALFormat.syncedOffset) > damage { return candidate }
                candidate += WALFormat.frameBytes + length
            } else {
                candidate += 1
            }
        }
        return nil
    }

    /// Makes `count` bytes from `offset` lie in the window; false when the file ends before.
    private func load(_ offset: Int, _ count: Int) throws(ObsError) -> Bool {
        guard count <= file.size - offset else { return false }
        if offset >= windowOffset, offset + count <= windowOffset + window.count { return true }
        window = try file.read(at: offset, count: min(max(count, Self.windowBytes), file.size - offset))
        windowOffset = offset
        return true
    }
}
