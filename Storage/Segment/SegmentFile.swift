package import ObsCore
package import ObsDisk
internal import ObsEncoding
internal import ObsHash
internal import Synchronization

/// A finished segment open for reading: one descriptor, pread, the footer in memory. Safe from several threads.
final class SegmentFile: Sendable {
    let footer: SegmentFooter
    /// Of the format.
    let version: Int
    private let file: any ReadableFile
    private let cache: BlockCache
    /// Tells this opening apart in the cache.
    private let identity: UInt64
    /// Offset of the footer.
    let dataEnd: Int

    var path: String { file.path }
    var info: SegmentInfo { footer.info }

    private static let identities = Atomic<UInt64>(0)

    /// - Throws: `.corrupt` for anything that is not a finished segment of a known version.
    init(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache) throws(ObsError) {
        file = try fileSystem.open(path)
        self.cache = cache
        identity = Self.identities.wrappingAdd(1, ordering: .relaxed).newValue
        (version, footer, dataEnd) = try Self.readFooter(file)
    }

    /// As `init`, also refusing another signal's segment.
    convenience init(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache, expecting signal: Signal) throws(ObsError) {
        try self.init(fileSystem, path, cache: cache)
        guard info.signal == signal else { throw ObsError(.corrupt, "a segment of \(info.signal.rawValue), not of \(signal.rawValue)", place: "\(path):0") }
    }

    private static func readFooter(_ file: any ReadableFile) throws(ObsError) -> (Int, SegmentFooter, Int) {
        let size = file.size
        guard size >= SegmentLayout.headerBytes + SegmentLayout.trailerBytes else {
            throw ObsError(.corrupt, "too short for a segment, \(size) bytes", place: "\(file.path):\(size)")
        }
        let header = try file.read(at: 0, count: SegmentLayout.headerBytes)
        guard let version = SegmentLayout.version(header: header) else { throw ObsError(.corrupt, "not a segment", place: "\(file.path):0") }
        guard (1...SegmentLayout.version).contains(version) else { throw try foreign(file, header, Int(version)) }
        let tailStart = max(0, size - SegmentLayout.tailBytes)
        let tail = try file.read(at: tailStart, count: size - tailStart)
        let trailerStart = size - SegmentLayout.trailerBytes
        let place = "\(file.path):\(trailerStart)"
        guard Array(tail.suffix(SegmentLayout.headerBytes)) == header else {
            throw ObsError(.corrupt, "no trailer: the segment was not finished or was cut", place: place)
        }
        let trailer = Array(tail.suffix(SegmentLayout.trailerBytes))
        do throws(ObsError) {
            let (offset, length, checksum) = try decoding(trailer) { (cursor: inout ByteCursor) throws(ObsError) -> (Int, Int, UInt64) in
                let offset = try cursor.u64()
                let length = try cursor.u64()
                guard offset >= UInt64(SegmentLayout.headerBytes), offset <= UInt64(trailerStart), length == UInt64(trailerStart) - offset else {
                    throw ObsError(.corrupt, "trailer points outside the file")
                }
                return (Int(offset), Int(length), try cursor.u64())
            }
            let checked = offset >= tailStart ? Array(tail[(offset - tailStart)..<(tail.count - 16)]) : try file.read(at: offset, count: length + 16)
            guard checked.withUnsafeBytes({ hash64($0) }) == checksum else { throw ObsError(.corrupt, "checksum of the footer does not match") }
            let content = try Frame.content(of: Array(checked.prefix(length)))
            let footer = try decoding(content) { (cursor: inout ByteCursor) throws(ObsError) -> SegmentFooter in
                try SegmentFooter(&cursor, fileBytes: size, checksum: checksum, end: offset)
            }
            return (Int(version), footer, offset)
        } catch { throw error.located(place) }
    }

    /// Why a header is not ours. A whole file of a newer version says so at both its ends; a version that only one end names is damage.
    private static func foreign(_ file: any ReadableFile, _ header: [UInt8], _ version: Int) throws(ObsError) -> ObsError {
        let place = "\(file.path):0"
        let end = try file.read(at: file.size - SegmentLayout.headerBytes, count: SegmentLayout.headerBytes)
        guard version > SegmentLayout.version, end == header else { return ObsError(.corrupt, "header damaged: it says version \(version)", place: place) }
        return newerFormat("segment format", version, known: Int(SegmentLayout.version), place: place)
    }

    /// Decodes a frame's content; all of it must be used.
    func decode<R>(_ place: FramePlace, _ body: (inout ByteCursor) throws(ObsError) -> R) throws(ObsError) -> R {
        let content = try read(place)
        do throws(ObsError) {
            return try decoding(content) { (cursor: inout ByteCursor) throws(ObsError) -> R in
                let result = try body(&cursor)
                try cursor.expectEnd()
                return result
            }
        } catch { throw error.located("\(path):\(place.offset)") }
    }

    /// Frames as they lie, back to back, each checked, and their checksums.
    func frames(at place: FramePlace) throws(ObsError) -> (bytes: [UInt8], checksums: [UInt64]) {
        let bytes = try raw(place)
        do throws(ObsError) {
            let checksums = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [UInt64] in
                var checksums: [UInt64] = []
                while !cursor.isAtEnd { checksums.append(try Frame.check(&cursor)) }
                return checksums
            }
            return (bytes, checksums)
        } catch { throw error.located("\(path):\(place.offset)") }
    }

    /// Bytes of a frame's content, as its head says, unchecked.
    func contentBytes(_ place: FramePlace) throws(ObsError) -> Int {
        let head = try raw(FramePlace(offset: place.offset, length: min(place.length, Frame.headerBytesMax)))
        do throws(ObsError) {
            return try decoding(head) { (cursor: inout ByteCursor) throws(ObsError) -> Int in try Frame.contentBytes(head: cursor.bytes) }
        } catch { throw error.located("\(path):\(place.offset)") }
    }

    /// A frame's content, checked.
    func read(_ place: FramePlace) throws(ObsError) -> [UInt8] {
        let bytes = try raw(place)
        do throws(ObsError) { return try Frame.content(of: bytes) } catch { throw error.located("\(path):\(place.offset)") }
    }

    private func raw(_ place: FramePlace) throws(ObsError) -> [UInt8] {
        guard place.offset >= SegmentLayout.headerBytes, place.length <= dataEnd - place.offset else {
            throw ObsError(.corrupt, "frame outside the data", place: "\(path):\(place.offset)")
        }
        return try file.read(at: place.offset, count: place.length)
    }

    /// What `make` decodes from the frame at `place`, from the cache if it is there. `bytes` says what the result holds.
    func cached<T: AnyObject & Sendable>(_ place: FramePlace, _ make: () throws(ObsError) -> (value: T, bytes: Int)) throws(ObsError) -> T {
        let key = BlockCache.Key(file: identity, offset: place.offset)
        if let found = cache.find(key) as? T { return found }
        let made = try make()
        cache.insert(key, made.value, bytes: made.bytes)
        return made.value
    }

    /// Ids of the segments this one replaces.
    func replaced() throws(ObsError) -> [String] {
        guard footer.sections.contains(where: { $0.kind == SectionKind.replaced.rawValue }) else { return [] }
        return try decode(try footer.place(.replaced)) { (cursor: inout ByteCursor) throws(ObsError) -> [String] in
            var ids: [String] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) { ids.append(try cursor.string()) }
            return ids
        }
    }

    /// Walks all frames up to the footer and compares the chained hash.
    func verify() throws(ObsError) {
        var offset = SegmentLayout.headerBytes
        var hash: UInt64 = 0
        while offset < dataEnd {
            do throws(ObsError) {
                let head = try file.read(at: offset, count: min(Frame.headerBytesMax, dataEnd - offset))
                let length = try decoding(head) { (cursor: inout ByteCursor) throws(ObsError) -> Int in try Frame.length(head: cursor.bytes) }
                guard length <= dataEnd - offset else { throw ObsError(.corrupt, "frame runs into the footer") }
                let checksum = try decoding(try file.read(at: offset, count: length)) { (cursor: inout ByteCursor) throws(ObsError) -> UInt64 in
                    try Frame.check(&cursor)
                }
                hash = chain(hash, checksum)
                offset += length
            } catch { throw error.located("\(path):\(offset)") }
        }
        guard hash == footer.contentHash else { throw ObsError(.corrupt, "frames are not those the footer was written for", place: "\(path):\(offset)") }
    }
}

/// The day of a segment whose first record has that time: days since the epoch.
package func segmentDay(of time: Int64, _ signal: Signal) -> Int { SegmentFooter.day(of: time, signal) }

/// Reads the footer only; what recovery and `index rebuild` do with every file.
package func readSegmentInfo(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> SegmentInfo {
    try SegmentFile(fileSystem, path, cache: BlockCache(bytesMax: 0)).info
}

/// Ids of the segments that this one was merged from; none for a segment that came from a flush.
package func readReplaced(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> [String] {
    try SegmentFile(fileSystem, path, cache: BlockCache(bytesMax: 0)).replaced()
}

/// Checks every checksum of the file.
/// - Throws: `.corrupt` with place `file:offset`.
package func verify(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) {
    try SegmentFile(fileSystem, path, cache: BlockCache(bytesMax: 0)).verify()
}
