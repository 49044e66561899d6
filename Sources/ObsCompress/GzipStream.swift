internal import CZlib

/// A gzip member made piece by piece, for answers that leave before they are whole. Not thread-safe.
package final class GzipStream {
    /// At one address for its life: zlib checks.
    private let stream: UnsafeMutablePointer<z_stream>
    private static let pieceBytes = 64 << 10

    package init(level: Int = 1) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        guard obs_deflate_init(stream, Int32(level), 15 + 16) == Z_OK else { fatalError("FATAL: cannot start gzip at level \(level)") }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// What there is of the member after these bytes; often nothing yet.
    package func compress(_ bytes: [UInt8]) -> [UInt8] { run(bytes, Z_NO_FLUSH) }

    /// The rest of the member. Nothing may follow.
    package func finish() -> [UInt8] { run([], Z_FINISH) }

    private func run(_ bytes: [UInt8], _ flush: Int32) -> [UInt8] {
        var packed: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: Self.pieceBytes)
        bytes.withUnsafeBufferPointer { source in
            stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
            stream.pointee.avail_in = uInt(source.count)
            repeat {
                piece.withUnsafeMutableBufferPointer { target in
                    stream.pointee.next_out = target.baseAddress
                    stream.pointee.avail_out = uInt(target.count)
                    // Z_BUF_ERROR says only that there was nothing to do.
                    _ = deflate(stream, flush)
                }
                packed.append(contentsOf: piece.prefix(Self.pieceBytes - Int(stream.pointee.avail_out)))
            } while stream.pointee.avail_out == 0
        }
        return packed
    }
}
