internal import ObsCompress
package import ObsCore
internal import ObsHash

/// The unit of checksum and compression on disk: every byte of a segment between header and trailer is in one.
///
/// ```
/// checksum u64   XXH3 of all that follows
/// codec u8       0 stored, 1 zstd
/// raw varint     bytes after decompression
/// stored varint  bytes of the payload
/// payload
/// ```
package enum Frame {
    /// Bytes of content a frame may have: damaged or hostile lengths stop here. An event block holds some 8 MiB of text plus one line of at most as much a column.
    package static let rawBytesMax = 256 << 20
    /// Bytes before the payload, at most.
    package static let headerBytesMax = 8 + 1 + 10 + 10

    private static let stored: UInt8 = 0
    private static let zstd: UInt8 = 1

    /// Appends a frame; returns its checksum.
    /// - Parameter level: of zstd; nil stores what is compressed already.
    /// - Throws: `.tooLarge` past `rawBytesMax`.
    @discardableResult
    package static func append(_ raw: UnsafeRawBufferPointer, level: Int?, to output: inout [UInt8]) throws(ObsError) -> UInt64 {
        guard raw.count <= rawBytesMax else { throw ObsError(.tooLarge, "frame of \(raw.count) bytes, at most \(rawBytesMax) fit") }
        let start = output.count
        output.appendLittleEndian(UInt64(0))
        // Below this zstd's own header eats the gain.
        let compressed = raw.count > 24 ? level.map { zstdCompress(raw, level: $0) } ?? [] : []
        if !compressed.isEmpty, compressed.count < raw.count {
            output.append(zstd)
            output.appendVarint(UInt64(raw.count))
            output.appendText(compressed)
        } else {
            output.append(stored)
            output.appendVarint(UInt64(raw.count))
            output.appendText(raw)
        }
        return output.withUnsafeMutableBytes { all in
            let checksum = hash64(UnsafeRawBufferPointer(rebasing: all[(start + 8)...]))
            all.storeBytes(of: checksum.littleEndian, toByteOffset: start, as: UInt64.self)
            return checksum
        }
    }

    @discardableResult
    package static func append(_ raw: [UInt8], level: Int?, to output: inout [UInt8]) throws(ObsError) -> UInt64 {
        let result: Result<UInt64, ObsError> = raw.withUnsafeBytes { bytes in
            do throws(ObsError) { return .success(try append(bytes, level: level, to: &output)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Bytes of the frame that begins with `head` (`headerBytesMax` bytes of it, or the rest of the file). Not checked yet: only `read` tells the truth.
    package static func length(head: UnsafeRawBufferPointer) throws(ObsError) -> Int {
        var cursor = ByteCursor(head)
        _ = try cursor.u64()
        _ = try cursor.u8()
        _ = try cursor.count(max: rawBytesMax)
        let stored = try cursor.count(max: rawBytesMax)
        return cursor.position + stored
    }

    /// Bytes of content of the frame that begins with `head`, likewise.
    package static func contentBytes(head: UnsafeRawBufferPointer) throws(ObsError) -> Int {
        var cursor = ByteCursor(head)
        _ = try cursor.u64()
        _ = try cursor.u8()
        return try cursor.count(max: rawBytesMax)
    }

    /// Takes one frame, checks it, gives its content.
    package static func read(_ cursor: inout ByteCursor) throws(ObsError) -> [UInt8] {
        let opened = try open(&cursor)
        switch opened.codec {
        case stored:
            guard opened.payload.count == opened.rawCount else { throw ObsError(.corrupt, "stored frame of two lengths") }
            return [UInt8](opened.payload)
        case zstd: return try zstdDecompress(opened.payload, exactly: opened.rawCount)
        default: throw ObsError(.corrupt, "unknown frame codec \(opened.codec); written by a newer version?")
        }
    }

    /// Takes one frame and checks it without decompressing; returns its checksum.
    package static func check(_ cursor: inout ByteCursor) throws(ObsError) -> UInt64 { try open(&cursor).checksum }

    /// A frame that is all of `bytes`.
    package static func content(of bytes: [UInt8]) throws(ObsError) -> [UInt8] {
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [UInt8] in
            let content = try read(&cursor)
            try cursor.expectEnd()
            return content
        }
    }

    private static func open(_ cursor: inout ByteCursor) throws(ObsError) -> (checksum: UInt64, codec: UInt8, rawCount: Int, payload: UnsafeRawBufferPointer) {
        let checksum = try cursor.u64()
        let start = cursor.position
        let codec = try cursor.u8()
        let rawCount = try cursor.count(max: rawBytesMax)
        let payload = try cursor.text()
        guard hash64(UnsafeRawBufferPointer(rebasing: cursor.bytes[start..<cursor.position])) == checksum else {
            throw ObsError(.corrupt, "checksum of a frame does not match")
        }
        return (checksum, codec, rawCount, payload)
    }
}
