internal import CZstd
package import ObsCore

/// A zstd encoder and decoder that keep their tables from call to call; making them anew costs more than a small block.
/// For one thread at a time: hold one, or `borrow` one.
package final class ZstdContext: @unchecked Sendable {  // used by one thread at a time, see above
    private let encoder: OpaquePointer
    let decoder: OpaquePointer

    package init() {
        guard let encoder = ZSTD_createCCtx(), let decoder = ZSTD_createDCtx() else { fatalError("FATAL: no memory for a zstd context") }
        // A frame names the window its decoder must keep, up to 2 GiB; 8 MiB is the most a Content-Encoding may ask for (RFC 9659).
        ZSTD_DCtx_setParameter(decoder, ZSTD_d_windowLogMax, 23)
        self.encoder = encoder
        self.decoder = decoder
    }

    deinit {
        ZSTD_freeCCtx(encoder)
        ZSTD_freeDCtx(decoder)
    }

    /// Most bytes `compress` can need for so many.
    package static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

    /// Compresses into the caller's buffer; bytes written, nil when it is too small. `bound` bytes always suffice.
    package func compress(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, level: Int) -> Int? {
        let written = ZSTD_compressCCtx(encoder, target.baseAddress, target.count, bytes.baseAddress, bytes.count, Int32(level))
        return ZSTD_isError(written) != 0 ? nil : written
    }

    /// Decompresses whole frames into the caller's buffer; bytes written, nil when they are corrupt or do not fit.
    package func decompress(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int? {
        let written = ZSTD_decompressDCtx(decoder, target.baseAddress, target.count, bytes.baseAddress, bytes.count)
        return ZSTD_isError(written) != 0 ? nil : written
    }

    /// Not a Mutex: the thread sanitizer does not see one lock.
    private static let idle = Monitor<[ZstdContext]>([])

    /// Lends a context of the process for the call.
    package static func borrow<R, E: Error>(_ body: (ZstdContext) throws(E) -> R) throws(E) -> R {
        let context = idle.read { $0.popLast() } ?? ZstdContext()
        defer { idle.read { $0.append(context) } }
        return try body(context)
    }
}

package func zstdCompress(_ bytes: UnsafeRawBufferPointer, level: Int) -> [UInt8] {
    ZstdContext.borrow { context in
        [UInt8](unsafeUninitializedCapacity: ZstdContext.bound(bytes.count)) { target, count in
            guard let written = context.compress(bytes, into: UnsafeMutableRawBufferPointer(target), level: level) else {
                fatalError("BUG: zstd refused to compress \(bytes.count) bytes at level \(level)")
            }
            count = written
        }
    }
}

package func zstdCompress(_ bytes: [UInt8], level: Int) -> [UInt8] { bytes.withUnsafeBytes { zstdCompress($0, level: level) } }

/// Decompresses to a size known beforehand.
/// - Throws: `.badInput` when the bytes are corrupt or give another size; a reader of files turns it into `.corrupt` with its place.
package func zstdDecompress(_ bytes: UnsafeRawBufferPointer, exactly size: Int) throws(ObsError) -> [UInt8] {
    guard let result = decode(bytes, exactly: size) else { throw ObsError(.badInput, "invalid zstd data: corrupt, or not of \(size) bytes") }
    return result
}

package func zstdDecompress(_ bytes: [UInt8], exactly size: Int) throws(ObsError) -> [UInt8] {
    guard let result = bytes.withUnsafeBytes({ decode($0, exactly: size) }) else {
        throw ObsError(.badInput, "invalid zstd data: corrupt, or not of \(size) bytes")
    }
    return result
}

private func decode(_ bytes: UnsafeRawBufferPointer, exactly size: Int) -> [UInt8]? {
    // No block is denser than four bytes for 128 KiB: a forged size does not become an allocation.
    guard size <= (bytes.count / 4 + 1) << 17 else { return nil }
    var written: Int?
    let result = [UInt8](unsafeUninitializedCapacity: max(size, 1)) { target, count in
        let room = UnsafeMutableRawBufferPointer(start: target.baseAddress, count: size)
        written = ZstdContext.borrow { $0.decompress(bytes, into: room) }
        count = written ?? 0
    }
    return written == size ? result : nil
}
