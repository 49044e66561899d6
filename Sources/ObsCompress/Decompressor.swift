// The one door through which compressed bytes from outside come in. Every way through it knows the bound on the decoded size before it
// allocates: a declared size is compared with the bound first, an undeclared one is decoded into a buffer that may not grow past it.
// So a bomb costs its sender a clear refusal and us at most `decodedBytesMax` bytes for the time of one call.

internal import CSnappy
internal import CZlib
internal import CZstd
package import ObsCore

/// Asked before memory is taken.
package typealias Reserve = (Int) throws(ObsError) -> Void

/// Decodes a request body.
/// - Parameters:
///   - decodedBytesMax: bound on the result, `Limits.decodedBytesMax` for requests.
///   - reserve: asked before that many bytes more are taken for the result; it throws to refuse them.
/// - Throws: what `reserve` throws, `.tooLarge` past the bound, `.badInput` for bytes that are not of that compression or end early.
package func decompress(
    _ body: [UInt8], _ compression: BodyCompression, decodedBytesMax: Int, reserve: Reserve = { _ in }
) throws(ObsError) -> [UInt8] {
    switch compression {
    case .none:
        guard body.count <= decodedBytesMax else { throw tooLarge(decodedBytesMax) }
        return body
    case .gzip: return try inflate(body, windowBits: 15 + 16, "gzip", decodedBytesMax, reserve)
    // RFC 9110 says zlib; some clients send the bare stream.
    case .deflate: return try inflate(body, windowBits: startsWithZlibHeader(body) ? 15 : -15, "deflate", decodedBytesMax, reserve)
    case .zstd: return try decodeZstd(body, decodedBytesMax, reserve)
    case .snappy: return try decodeSnappy(body, decodedBytesMax, reserve)
    }
}

private func tooLarge(_ bytesMax: Int) -> ObsError {
    ObsError(.tooLarge, "decompressed body is larger than \(bytesMax) bytes, the bound decoded-bytes-max; send smaller batches or raise it")
}

private func invalid(_ name: String, _ why: String) -> ObsError { ObsError(.badInput, "invalid \(name) body: \(why)") }

// MARK: - zlib

private func startsWithZlibHeader(_ body: [UInt8]) -> Bool {
    body.count >= 2 && body[0] & 0x0f == 8 && (Int(body[0]) << 8 | Int(body[1])) % 31 == 0
}

private func inflate(_ body: [UInt8], windowBits: Int32, _ name: String, _ bytesMax: Int, _ reserve: Reserve) throws(ObsError) -> [UInt8] {
    var stream = z_stream()
    guard obs_inflate_init(&stream, windowBits) == Z_OK else { throw ObsError(.internalError, "cannot start inflate") }
    defer { inflateEnd(&stream) }
    var output = try GrowingOutput(expecting: body.count * 4, bytesMax: bytesMax, reserve)
    var consumed = 0
    while true {
        try output.grow(reserve)
        let status = output.fill(from: body, &consumed) { input, target in
            stream.next_in = UnsafeMutablePointer(mutating: input.bindMemory(to: UInt8.self).baseAddress)
            stream.avail_in = uInt(clamping: input.count)
            stream.next_out = target.bindMemory(to: UInt8.self).baseAddress
            stream.avail_out = uInt(clamping: target.count)
            let given = (stream.avail_in, stream.avail_out)
            let status = inflate(&stream, Z_NO_FLUSH)
            return (status, Int(given.0 - stream.avail_in), Int(given.1 - stream.avail_out))
        }
        switch status {
        case Z_STREAM_END:
            // A gzip body may be several members, and be padded with zeros.
            if windowBits < 16 || body[consumed...].allSatisfy({ $0 == 0 }) { return try output.finish(or: tooLarge(bytesMax)) }
            guard inflateReset(&stream) == Z_OK else { throw invalid(name, "cannot start the next member") }
        case Z_OK, Z_BUF_ERROR:
            if output.isOverBound { throw tooLarge(bytesMax) }
            if output.hasRoom && consumed == body.count { throw invalid(name, "it ends early") }
        default: throw invalid(name, stream.msg.map { String(cString: $0) } ?? "corrupt data")
        }
    }
}

// MARK: - zstd

private func decodeZstd(_ body: [UInt8], _ bytesMax: Int, _ reserve: Reserve) throws(ObsError) -> [UInt8] {
    let (declared, frameBytes) = body.withUnsafeBytes {
        (ZSTD_getFrameContentSize($0.baseAddress, $0.count), ZSTD_findFrameCompressedSize($0.baseAddress, $0.count))
    }
    // Above these two are "unknown" and "error".
    if declared < UInt64.max - 1 {
        guard declared <= UInt64(bytesMax) else { throw tooLarge(bytesMax) }
        if ZSTD_isError(frameBytes) == 0, frameBytes == body.count {
            try reserve(Int(declared))
            return try zstdDecompress(body, exactly: Int(declared))
        }
    }
    return try ZstdContext.borrow { (context) throws(ObsError) in try context.decodeStream(body, bytesMax, reserve) }
}

extension ZstdContext {
    fileprivate func decodeStream(_ body: [UInt8], _ bytesMax: Int, _ reserve: Reserve) throws(ObsError) -> [UInt8] {
        ZSTD_DCtx_reset(decoder, ZSTD_reset_session_only)
        var output = try GrowingOutput(expecting: body.count * 4, bytesMax: bytesMax, reserve)
        var consumed = 0
        while true {
            try output.grow(reserve)
            let status = output.fill(from: body, &consumed) { input, target in
                var from = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
                var into = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
                let status = ZSTD_decompressStream(decoder, &into, &from)
                return (status, from.pos, into.pos)
            }
            if ZSTD_isError(status) != 0 { throw invalid("zstd", String(cString: ZSTD_getErrorName(status))) }
            if output.isOverBound { throw tooLarge(bytesMax) }
            guard consumed == body.count, output.hasRoom else { continue }
            if status == 0 { return try output.finish(or: tooLarge(bytesMax)) }
            throw invalid("zstd", "it ends early")
        }
    }
}

// MARK: - snappy

private func decodeSnappy(_ body: [UInt8], _ bytesMax: Int, _ reserve: Reserve) throws(ObsError) -> [UInt8] {
    var declared = 0
    let header = body.withUnsafeBytes { snappy_uncompressed_length($0.bindMemory(to: CChar.self).baseAddress, $0.count, &declared) }
    guard header == SNAPPY_OK else { throw invalid("snappy", "no length at its start (the block format is expected, not the framed one)") }
    guard declared <= bytesMax else { throw tooLarge(bytesMax) }
    // Three bytes stand for 64 at most.
    guard declared <= body.count * 22 + 64 else { throw invalid("snappy", "it declares \(declared) bytes, more than \(body.count) can hold") }
    if declared == 0 { return [] }
    try reserve(declared)
    var status = SNAPPY_INVALID_INPUT
    let result = [UInt8](unsafeUninitializedCapacity: declared) { target, count in
        var written = declared
        status = body.withUnsafeBytes {
            snappy_uncompress(
                $0.bindMemory(to: CChar.self).baseAddress, $0.count, UnsafeMutableRawBufferPointer(target).bindMemory(to: CChar.self).baseAddress, &written)
        }
        count = status == SNAPPY_OK ? written : 0
    }
    guard status == SNAPPY_OK else { throw invalid("snappy", "corrupt data") }
    return result
}

// MARK: - output of unknown size

/// A buffer that doubles until it is one byte over its bound.
private struct GrowingOutput {
    private var bytes: [UInt8]
    private var filled = 0
    private let bytesMax: Int

    init(expecting count: Int, bytesMax: Int, _ reserve: Reserve) throws(ObsError) {
        self.bytesMax = bytesMax
        let size = min(max(count, 4096), bytesMax + 1)
        try reserve(size)
        bytes = [UInt8](repeating: 0, count: size)
    }

    /// Makes room when there is none.
    mutating func grow(_ reserve: Reserve) throws(ObsError) {
        guard filled == bytes.count, filled <= bytesMax else { return }
        let more = min(bytes.count, bytesMax + 1 - bytes.count)
        try reserve(more)
        bytes.append(contentsOf: repeatElement(0, count: more))
    }

    var isOverBound: Bool { filled > bytesMax }
    /// The last call left room: the decoder had no more to give.
    var hasRoom: Bool { filled < bytes.count }

    /// Lets `decode` take from the unread input and write to the free part; it says what it read and wrote.
    mutating func fill<Status>(
        from body: [UInt8], _ consumed: inout Int, _ decode: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) -> (Status, read: Int, written: Int)
    ) -> Status {
        let result = body.withUnsafeBytes { input in
            bytes.withUnsafeMutableBytes { target in
                decode(UnsafeRawBufferPointer(rebasing: input[consumed...]), UnsafeMutableRawBufferPointer(rebasing: target[filled...]))
            }
        }
        consumed += result.read
        filled += result.written
        return result.0
    }

    consuming func finish(or error: ObsError) throws(ObsError) -> [UInt8] {
        if isOverBound { throw error }
        bytes.removeLast(bytes.count - filled)
        return bytes
    }
}
