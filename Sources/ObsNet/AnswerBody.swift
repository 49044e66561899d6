internal import CMicrohttpd
internal import ObsCore

/// The body of a complete answer until its last byte is sent: counted, so that slow clients cannot hold more than all queries may, and not copied once more.
final class AnswerBody: Sendable {
    /// Smaller ones are copied into the connection and not counted.
    static let copiedBytesMax = 64 << 10
    let bytes: [UInt8]
    private let account: MemoryAccount?

    /// - Throws: `.overloaded` when queries and unsent answers have no memory left.
    init(_ bytes: [UInt8], _ account: MemoryAccount?) throws(ObsError) {
        if let account, !account.reserve(bytes.count) {
            throw ObsError(.overloaded, "\(account.refusalReason(bytes.count)); retry when other answers are sent", retryAfterSeconds: 2)
        }
        self.account = account
        self.bytes = bytes
    }

    deinit { account?.release(bytes.count) }

    /// On the connection's thread.
    func response() -> OpaquePointer? {
        obs_mhd_sized_response(UInt64(bytes.count), 32 << 10, readAnswer, Unmanaged.passRetained(self).toOpaque(), releaseAnswer)
    }
}

// MHD's callbacks; `context` is the AnswerBody, retained by the response.

private func readAnswer(context: UnsafeMutableRawPointer?, position: UInt64, buffer: UnsafeMutablePointer<CChar>?, bytesMax: Int) -> Int {
    guard let context, let buffer else { return -2 }
    return Unmanaged<AnswerBody>.fromOpaque(context).takeUnretainedValue().bytes.withUnsafeBytes { bytes in
        guard let from = Int(exactly: position), from < bytes.count else { return -1 }
        let piece = bytes[from..<min(bytes.count, from + bytesMax)]
        UnsafeMutableRawBufferPointer(start: buffer, count: piece.count).copyMemory(from: UnsafeRawBufferPointer(rebasing: piece))
        return piece.count
    }
}

private func releaseAnswer(context: UnsafeMutableRawPointer?) {
    if let context { Unmanaged<AnswerBody>.fromOpaque(context).release() }
}
