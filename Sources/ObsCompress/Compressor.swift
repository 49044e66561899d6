internal import CSnappy
internal import CZlib

/// A gzip member.
/// - Parameter level: zlib's 1 (fast) to 9.
package func gzipCompress(_ bytes: UnsafeRawBufferPointer, level: Int = 1) -> [UInt8] {
    deflate(bytes, level: level, windowBits: 15 + 16)
}

package func gzipCompress(_ bytes: [UInt8], level: Int = 1) -> [UInt8] { bytes.withUnsafeBytes { gzipCompress($0, level: level) } }

/// A zlib stream, what HTTP calls `deflate`.
package func deflateCompress(_ bytes: [UInt8], level: Int = 1) -> [UInt8] { bytes.withUnsafeBytes { deflate($0, level: level, windowBits: 15) } }

private func deflate(_ bytes: UnsafeRawBufferPointer, level: Int, windowBits: Int32) -> [UInt8] {
    var stream = z_stream()
    guard obs_deflate_init(&stream, Int32(level), windowBits) == Z_OK else { fatalError("FATAL: cannot start deflate at level \(level)") }
    defer { deflateEnd(&stream) }
    return [UInt8](unsafeUninitializedCapacity: Int(deflateBound(&stream, uLong(bytes.count)))) { target, count in
        stream.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
        stream.avail_in = uInt(bytes.count)
        stream.next_out = target.baseAddress
        stream.avail_out = uInt(target.count)
        guard deflate(&stream, Z_FINISH) == Z_STREAM_END else { fatalError("BUG: deflateBound was too small") }
        count = target.count - Int(stream.avail_out)
    }
}

/// A snappy block (not framed).
package func snappyCompress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: snappy_max_compressed_length(bytes.count)) { target, count in
        var written = target.count
        let status = target.withMemoryRebound(to: CChar.self) {
            snappy_compress(bytes.bindMemory(to: CChar.self).baseAddress, bytes.count, $0.baseAddress, &written)
        }
        guard status == SNAPPY_OK else { fatalError("BUG: snappy refused to compress \(bytes.count) bytes") }
        count = written
    }
}

package func snappyCompress(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { snappyCompress($0) } }
