internal import CMicrohttpd
internal import Glibc
internal import ObsCore
internal import Synchronization

/// The server's end of an upgraded connection. `WebSocketLoop` reads and writes the socket; senders only queue.
final class WebSocketConnection: WebSocket, @unchecked Sendable {  // queue and state under `lock`; the rest belongs to the loop's thread
    /// What may wait for a slow client.
    static let queuedBytesMax = 4 << 20
    static let queuedMessagesMax = 10_000
    /// Silence after which the client is asked whether it lives, and after which it is given up.
    static let pingAfterNanos = 20 * nanosPerSecond
    static let lostAfterNanos = 60 * nanosPerSecond
    static let closeWaitNanos = 2 * nanosPerSecond

    private enum Phase {
        case open
        /// Our close frame is queued; the socket closes when the client's has come, or this late.
        case closing(deadlineNanos: Int64)
        /// Whatever is queued is still written, then the socket closes.
        case draining(deadlineNanos: Int64)
        case closed
    }

    let socket: Int32
    private let handle: OpaquePointer
    private let registry: WebSocketRegistry

    private let lock = Mutex<Void>(())
    private var phase = Phase.open
    private var frames: [[UInt8]] = []
    private var nextFrame = 0
    private var nextByte = 0
    private var queuedBytes = 0
    private var closeBodies: [@Sendable () -> Void] = []

    private var reader = WebSocketFrameReader(isMasked: true, payloadBytesMax: 64 << 10)
    private var heardNanos = SystemClock().monotonicNanos()
    private var pingedNanos = SystemClock().monotonicNanos()

    init(socket: Int32, handle: OpaquePointer, early: [UInt8], registry: WebSocketRegistry) {
        self.socket = socket
        self.handle = handle
        self.registry = registry
        early.withUnsafeBytes { reader.append($0) }
    }

    // MARK: Senders, any thread

    func send(text: [UInt8]) -> Bool {
        let frame = WebSocketFrame(opcode: .text, payload: text).encoded()
        let isQueued = lock.withLock { _ in
            guard case .open = phase, frames.count - nextFrame < Self.queuedMessagesMax, queuedBytes + frame.count <= Self.queuedBytesMax || queuedBytes == 0
            else { return false }
            queue(frame)
            return true
        }
        if isQueued { WebSocketLoop.shared.wake() }
        return isQueued
    }

    var queued: Int { lock.withLock { _ in frames.count - nextFrame } }

    var isClosed: Bool {
        lock.withLock { _ in
            if case .open = phase { return false }
            return true
        }
    }

    func close(code: UInt16, reason: String) {
        lock.withLock { _ in
            guard case .open = phase else { return }
            queue(WebSocketFrame.close(code, reason).encoded())
            phase = .closing(deadlineNanos: SystemClock().monotonicNanos() + Self.closeWaitNanos)
        }
        WebSocketLoop.shared.wake()
    }

    func onClose(_ body: @escaping @Sendable () -> Void) {
        let isLate = lock.withLock { _ in
            if case .closed = phase { return true }
            closeBodies.append(body)
            return false
        }
        if isLate { body() }
    }

    /// Closes without a handshake.
    func drop() {
        lock.withLock { _ in
            if case .closed = phase { return }
            phase = .draining(deadlineNanos: 0)
        }
        WebSocketLoop.shared.wake()
    }

    private func queue(_ frame: [UInt8]) {
        frames.append(frame)
        queuedBytes += frame.count
    }

    // MARK: The loop's thread

    var wantsToWrite: Bool { lock.withLock { _ in nextFrame < frames.count } }

    /// Reads what is there, writes what can be written, keeps the time. False when it is over: `release` is next.
    func turn(readable: Bool, now: Int64) -> Bool {
        var isAlive = true
        if readable { isAlive = receive(now) }
        isAlive = isAlive && interpret() && flush()
        return isAlive && keepTime(now)
    }

    func release() {
        obs_mhd_close_upgraded(handle)
        let bodies = lock.withLock { _ in
            phase = .closed
            frames = []
            nextFrame = 0
            queuedBytes = 0
            defer { closeBodies = [] }
            return closeBodies
        }
        registry.remove(self)
        for body in bodies { body() }
    }

    private func receive(_ now: Int64) -> Bool {
        var isOpen = true
        withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { buffer in
            let count = recv(socket, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                heardNanos = now
                reader.append(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            } else {
                isOpen = count < 0 && (errno == EAGAIN || errno == EINTR)
            }
        }
        return isOpen
    }

    private func interpret() -> Bool {
        while true {
            do throws(WebSocketFrameReader.Violation) {
                guard let frame = try reader.next() else { return true }
                switch frame.opcode {
                case .ping: reply(WebSocketFrame(opcode: .pong, payload: frame.payload))
                case .close: return answerClose(frame)
                default: break
                }
            } catch {
                close(code: error.code, reason: error.reason)
                return startDraining()
            }
        }
    }

    private func reply(_ frame: WebSocketFrame) {
        lock.withLock { _ in
            // A client that floods pings without reading gets no more answers than fit.
            if case .open = phase, frames.count - nextFrame < Self.queuedMessagesMax { queue(frame.encoded()) }
        }
    }

    /// The client's close frame: echoed when it came first, the end when it answers ours.
    private func answerClose(_ frame: WebSocketFrame) -> Bool {
        lock.withLock { _ in
            if case .open = phase { queue(WebSocketFrame(opcode: .close, payload: Array(frame.payload.prefix(2))).encoded()) }
        }
        return startDraining()
    }

    private func startDraining() -> Bool {
        lock.withLock { _ in
            if case .closed = phase { return false }
            if case .draining = phase { return true }
            phase = .draining(deadlineNanos: SystemClock().monotonicNanos() + Self.closeWaitNanos)
            return true
        }
    }

    private func flush() -> Bool {
        lock.withLock { _ in
            while nextFrame < frames.count {
                let count = frames[nextFrame].withUnsafeBytes { frame in
                    Glibc.send(socket, frame.baseAddress.map { $0 + nextByte }, frame.count - nextByte, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
                }
                if count < 0 { return errno == EAGAIN || errno == EINTR }
                nextByte += count
                queuedBytes -= count
                guard nextByte == frames[nextFrame].count else { continue }
                frames[nextFrame] = []
                nextFrame += 1
                nextByte = 0
            }
            frames.removeAll(keepingCapacity: true)
            nextFrame = 0
            return true
        }
    }

    private func keepTime(_ now: Int64) -> Bool {
        lock.withLock { _ in
            switch phase {
            case .closed: return false
            case .closing(let deadline): return now < deadline
            case .draining(let deadline): return now < deadline && nextFrame < frames.count
            case .open: break
            }
            if now - heardNanos > Self.lostAfterNanos { return false }
            if now - heardNanos > Self.pingAfterNanos, now - pingedNanos > Self.pingAfterNanos {
                pingedNanos = now
                queue(WebSocketFrame(opcode: .ping, payload: []).encoded())
            }
            return true
        }
    }
}

/// The open WebSockets of a server.
final class WebSocketRegistry: Sendable {
    private struct State {
        var open: [ObjectIdentifier: WebSocketConnection] = [:]
        var isClosed = false
    }
    private let state = Mutex(State())

    var isEmpty: Bool { state.withLock { $0.open.isEmpty } }

    /// False when the server is stopping.
    func add(_ webSocket: WebSocketConnection) -> Bool {
        state.withLock { state in
            guard !state.isClosed else { return false }
            state.open[ObjectIdentifier(webSocket)] = webSocket
            return true
        }
    }

    func remove(_ webSocket: WebSocketConnection) { state.withLock { _ = $0.open.removeValue(forKey: ObjectIdentifier(webSocket)) } }

    func closeAll(code: UInt16, reason: String) {
        for webSocket in close() { webSocket.close(code: code, reason: reason) }
    }

    /// Returns when the loop has let go of every one.
    func dropAll() {
        for webSocket in close() { webSocket.drop() }
        while !isEmpty { usleep(1000) }
    }

    private func close() -> [WebSocketConnection] {
        state.withLock { state in
            state.isClosed = true
            return Array(state.open.values)
        }
    }
}
