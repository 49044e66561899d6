internal import ObsCore
internal import Synchronization

/// The unsent part of a chunked answer, between the thread that writes it and the connection that sends it.
final class StreamBody: @unchecked Sendable {  // all but `exchange` under `lock`
    /// Bytes that may wait for a slow client before `write` refuses more.
    static let queuedBytesMax = 1 << 20

    enum End { case finished, gone }

    private let exchange: HTTPExchange
    private let lock = Mutex<Void>(())
    private var pieces: [[UInt8]] = []
    /// Where in `pieces` the unsent part begins.
    private var nextPiece = 0
    private var nextByte = 0
    private var queuedBytes = 0
    private var ended: End?
    private var isSuspended = false
    private var lookedNanos: Int64 = 0

    init(_ exchange: HTTPExchange) { self.exchange = exchange }

    func write(_ bytes: [UInt8]) -> Bool {
        lock.withLock { _ in
            guard ended == nil, queuedBytes + bytes.count <= Self.queuedBytesMax || queuedBytes == 0 else { return false }
            if isSuspended, clientHasClosed() {
                ended = .gone
                resume()
                return false
            }
            guard !bytes.isEmpty else { return true }
            pieces.append(bytes)
            queuedBytes += bytes.count
            resume()
            return true
        }
    }

    /// What was queued before `.finished` is still sent; `.gone` cuts the connection. The first end counts.
    func end(_ how: End) {
        lock.withLock { _ in
            guard ended == nil else { return }
            ended = how
            if how == .gone {
                pieces = []
                nextPiece = 0
                nextByte = 0
                queuedBytes = 0
            }
            resume()
        }
    }

    private func resume() {
        guard isSuspended else { return }
        isSuspended = false
        exchange.resumeStream()
    }

    /// Nobody else notices: a suspended connection is in no epoll set.
    private func clientHasClosed() -> Bool {
        let now = SystemClock().monotonicNanos()
        guard now &- lookedNanos > 20 * nanosPerMilli else { return false }
        lookedNanos = now
        return peerHasClosed(exchange.peer.socket)
    }

    /// On the connection's thread: fills `buffer`. Zero when the connection was suspended, -1 at the end, -2 when it is to be cut.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        lock.withLock { _ in
            isSuspended = false
            if ended == .gone { return -2 }
            var filled = 0
            while filled < buffer.count, nextPiece < pieces.count {
                let count = pieces[nextPiece].withUnsafeBytes { piece in
                    let count = min(piece.count - nextByte, buffer.count - filled)
                    UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<filled + count]).copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: piece[nextByte..<nextByte + count]))
                    return count
                }
                filled += count
                nextByte += count
                if nextByte == pieces[nextPiece].count {
                    pieces[nextPiece] = []
                    nextPiece += 1
                    nextByte = 0
                }
            }
            if nextPiece == pieces.count {
                pieces.removeAll(keepingCapacity: true)
                nextPiece = 0
            }
            queuedBytes -= filled
            if filled > 0 { return filled }
            if ended == .finished { return -1 }
            guard exchange.suspendStream() else { return -2 }
            isSuspended = true
            return 0
        }
    }
}

/// The handler's end of a stream; dropping it unfinished cuts the connection, so that the client does not take half an answer for a whole one.
final class StreamHandle: HTTPStream {
    private let body: StreamBody

    init(_ body: StreamBody) { self.body = body }

    deinit { body.end(.gone) }

    func write(_ bytes: [UInt8]) -> Bool { body.write(bytes) }
    func finish() { body.end(.finished) }
}

// MHD's callbacks; `context` is the StreamBody, retained by the response.

func readStream(context: UnsafeMutableRawPointer?, position: UInt64, buffer: UnsafeMutablePointer<CChar>?, bytesMax: Int) -> Int {
    guard let context, let buffer else { return -2 }
    return Unmanaged<StreamBody>.fromOpaque(context).takeUnretainedValue().read(into: UnsafeMutableRawBufferPointer(start: buffer, count: bytesMax))
}

func releaseStream(context: UnsafeMutableRawPointer?) {
    if let context { Unmanaged<StreamBody>.fromOpaque(context).release() }
}
