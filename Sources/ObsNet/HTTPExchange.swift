internal import CMicrohttpd
internal import Glibc
internal import ObsCore
internal import Synchronization

/// One request and its answer, from the complete head to the last byte sent.
///
/// `headComplete`, `bodyPiece`, `bodyComplete` and `completed` are called by MHD on the connection's thread; the answer may come from any thread, at any time,
/// once. What both sides touch is under `lock`.
final class HTTPExchange: @unchecked Sendable {
    enum Answer {
        case complete(HTTPResponse)
        /// With its body apart; that of the response is empty.
        case large(AnswerBody, HTTPResponse)
        case stream(StreamBody, status: Int, headers: [(name: String, value: String)])
        case upgrade(accept: String, opened: @Sendable (any WebSocket) -> Void)
    }
    /// What the next call of `bodyComplete` does.
    private enum Phase { case gathering, refused(HTTPResponse), handled, sent }

    let server: ServerCore
    let connection: OpaquePointer
    let peer: PeerConnection

    // The connection's thread only.
    private var phase = Phase.gathering
    private var request = HTTPRequest(method: "", path: "")
    private var bodyBytes = 0
    /// Of the account for bodies.
    private var heldBytes = 0
    private var isChunked = false
    /// Bodies up to this are always read: queries and small writes are not what fills memory.
    private static let freeBodyBytes = 64 << 10

    // Under `lock`.
    private let lock = Mutex<Void>(())
    private var answer: Answer?
    private var isAnswered = false
    private var isSuspended = false
    private var isCompleted = false
    private var isCounted = true
    private var stream: StreamBody?
    private var lookedNanos: Int64 = 0
    private var isClientGone = false

    // Set before the handler runs, only read afterwards.
    private var head = HTTPRequest(method: "", path: "")
    private var acceptsGzip = false
    private var webSocketKey: String?

    init(_ server: ServerCore, _ connection: OpaquePointer, _ peer: PeerConnection) {
        self.server = server
        self.connection = connection
        self.peer = peer
        server.exchanges.add(1, ordering: .relaxed)
    }

    // MARK: The request

    func headComplete(method: String) {
        request = readHead(method: method)
        acceptsGzip = request.header("accept-encoding").map { $0.contains("gzip") && !$0.contains("gzip;q=0,") && !$0.hasSuffix("gzip;q=0") } ?? false
        let framing = BodyFraming(request.headers)
        var refusal: HTTPResponse?
        switch framing {
        case .invalid(let reason): refusal = .text(400, reason)
        case .length(let length) where length > server.configuration.bodyBytesMax: refusal = server.tooLarge()
        default: refusal = server.admit(request)
        }
        if refusal == nil, case .length(let length) = framing { refusal = noRoom(for: Int(length)) }
        if case .chunked = framing { isChunked = true }
        guard let refusal else {
            if case .length(0) = framing { return peer.expectNothing() }
            if case .length(let length) = framing { request.body.reserveCapacity(Int(length)) }
            return peer.expect(withinSeconds: server.configuration.bodyTimeoutSeconds)
        }
        peer.expectNothing()
        if case .length(0) = framing {
            phase = .refused(refusal)
        } else {
            // An answer ahead of its body ends the connection, and closing a socket with unread bytes would throw the answer away on the client's side.
            Lingering.shared.keep(peer.socket)
            queue(refusal, closing: true)
        }
    }

    /// False ends the connection.
    func bodyPiece(_ piece: UnsafeRawBufferPointer) -> Bool {
        bodyBytes &+= piece.count
        let limit = server.configuration.bodyBytesMax
        if bodyBytes > limit {
            // MHD takes no answer until the body is complete, so a chunked body over the limit is read on, into nothing, but not for ever.
            request.body = []
            releaseBody()
            phase = .refused(server.tooLarge())
            return bodyBytes - limit <= max(limit, 1 << 20)
        }
        guard case .gathering = phase else { return true }
        if let refusal = hold(piece.count) {
            // As above: the rest is read into nothing.
            request.body = []
            phase = .refused(refusal)
            return true
        }
        request.body.append(contentsOf: piece)
        return true
    }

    /// A body that cannot fit now is refused before it is sent.
    private func noRoom(for bytes: Int) -> HTTPResponse? {
        guard let account = server.configuration.bodyMemory, bytes > Self.freeBodyBytes, !account.hasRoom(for: bytes) else { return nil }
        account.countRefusal()
        return refusal(account, bytes)
    }

    /// Counts a piece of body; the refusal when there is no memory for it.
    private func hold(_ bytes: Int) -> HTTPResponse? {
        guard let account = server.configuration.bodyMemory else { return nil }
        // Without a length the buffer grows by doubling.
        let held = isChunked ? bytes * 2 : bytes
        if bodyBytes <= Self.freeBodyBytes {
            account.hold(held)
        } else if !account.reserve(held) {
            releaseBody()
            return refusal(account, held)
        }
        heldBytes += held
        return nil
    }

    private func refusal(_ account: MemoryAccount, _ bytes: Int) -> HTTPResponse {
        server.configuration.refuse(request, ObsError(.throttled, "\(account.refusalReason(bytes)); retry later", retryAfterSeconds: 1))
    }

    private func releaseBody() {
        server.configuration.bodyMemory?.release(heldBytes)
        heldBytes = 0
    }

    func bodyComplete() {
        switch phase {
        case .sent: return
        case .refused(let response): queue(response, closing: false)
        case .gathering:
            phase = .handled
            peer.expectNothing()
            var complete = HTTPRequest(method: "", path: "")
            swap(&complete, &request)
            head = HTTPRequest(method: complete.method, path: complete.path)
            complete.clientGone = { [self] in clientGone() }
            webSocketKey = webSocketKeyOf(complete)
            server.handle(complete, Responder(self))
            takeAnswer()
        case .handled: takeAnswer()
        }
    }

    /// MHD is done with the request, for whatever reason; `connection` is not to be touched again.
    func completed() {
        releaseBody()
        let stream = lock.withLock { _ in
            isCompleted = true
            isAnswered = true
            answer = nil
            uncount()
            defer { self.stream = nil }  // the stream holds the exchange
            return self.stream
        }
        stream?.end(.gone)
    }

    private func uncount() {
        guard isCounted else { return }
        isCounted = false
        server.exchanges.subtract(1, ordering: .releasing)
    }

    private func readHead(method: String) -> HTTPRequest {
        var target = Substring(peer.target)
        peer.target = ""
        if let scheme = target.range(of: "://", before: "/") {
            // The absolute form that proxies use: only the path matters here.
            target = target[scheme...]
            target = target.firstIndex(of: "/").map { target[$0...] } ?? "/"
        }
        let mark = target.utf8.firstIndex(of: UInt8(ascii: "?"))
        let rawPath = String(mark.map { target[..<$0] } ?? target)
        let query = String(mark.map { target[target.utf8.index(after: $0)...] } ?? "")
        let collector = HeaderCollector()
        obs_mhd_headers(connection, collectHeader, Unmanaged.passUnretained(collector).toOpaque())
        let path = rawPath.utf8.contains(UInt8(ascii: "%")) ? percentDecode(rawPath.utf8) : rawPath
        return HTTPRequest(
            method: method, path: path, rawPath: rawPath, rawQuery: query, headers: collector.headers, peer: peer.address,
            listener: server.configuration.name)
    }

    // MARK: The answer

    /// On the connection's thread: hands the answer to MHD if there is one, else suspends the connection until there is.
    private func takeAnswer() {
        let taken: Answer? = lock.withLock { _ in
            isSuspended = false
            if answer == nil {
                if server.suspensions.suspend(self) {
                    isSuspended = true
                    return nil
                }
                isAnswered = true
                return .complete(.text(503, "server is stopping"))
            }
            defer { answer = nil }
            return answer
        }
        guard let taken else { return }
        switch taken {
        case .complete(let response): queue(response, closing: false)
        case .large(let body, let head): send(body.response(), status: head.status, headers: head.headers, closing: false)
        case .stream(let body, let status, let headers): queue(body, status, headers)
        case .upgrade(let accept, _): queueUpgrade(accept, taken)
        }
    }

    /// From any thread. False when there is an answer already or the connection is gone.
    @discardableResult
    func answer(_ new: Answer) -> Bool {
        lock.withLock { _ in
            guard !isAnswered else { return false }
            isAnswered = true
            answer = new
            if case .stream(let body, _, _) = new { stream = body }
            if isSuspended {
                isSuspended = false
                server.suspensions.resume(self)
            }
            return true
        }
    }

    /// The server ends: whatever waits, waits no longer.
    func end() {
        let stream = lock.withLock { _ in self.stream }
        if let stream { stream.end(.gone) } else { answer(.complete(.text(503, "server is stopping"))) }
    }

    private func clientGone() -> Bool {
        lock.withLock { _ in
            if isCompleted { return true }
            // Only a suspended connection is sure to still have its socket; any other is being served right now.
            guard isSuspended, !isClientGone else { return isClientGone }
            let now = SystemClock().monotonicNanos()
            if now &- lookedNanos > 20 * nanosPerMilli {
                lookedNanos = now
                isClientGone = peerHasClosed(peer.socket)
            }
            return isClientGone
        }
    }

    /// Compresses on the thread that answers, not on the server's.
    private func compressed(_ response: HTTPResponse) -> HTTPResponse {
        guard let compress = server.configuration.compress, acceptsGzip, response.body.count > 1024, isCompressible(response.headers),
            let packed = compress(response.body), packed.count < response.body.count
        else { return response }
        var result = response
        result.body = packed
        result.headers.append(("Content-Encoding", "gzip"))
        result.headers.append(("Vary", "Accept-Encoding"))
        return result
    }

    /// An answer of any size, on the thread that made it.
    func answer(_ response: HTTPResponse) {
        var head = compressed(response)
        guard head.body.count > AnswerBody.copiedBytesMax else { return _ = answer(.complete(head)) }
        do throws(ObsError) {
            let body = try AnswerBody(head.body, server.configuration.answerMemory)
            head.body = []
            answer(.large(body, head))
        } catch { answer(.complete(server.configuration.refuse(self.head, error))) }
    }

    func upgrade(_ opened: @escaping @Sendable (any WebSocket) -> Void) {
        guard let key = webSocketKey else {
            var refusal = HTTPResponse.text(
                400,
                "not a valid WebSocket upgrade: GET with Upgrade: websocket, Connection: Upgrade, Sec-WebSocket-Key and Sec-WebSocket-Version: 13 is needed")
            refusal.headers.append(("Sec-WebSocket-Version", "13"))
            answer(.complete(refusal))
            return
        }
        answer(.upgrade(accept: webSocketAccept(key), opened: opened))
    }

    // MARK: Handing over to MHD, on the connection's thread

    private func queue(_ response: HTTPResponse, closing: Bool) {
        let made = response.body.withUnsafeBytes { obs_mhd_copied_response($0.count, $0.baseAddress) }
        send(made, status: response.status, headers: response.headers, closing: closing)
    }

    private func queue(_ body: StreamBody, _ status: Int, _ headers: [(name: String, value: String)]) {
        let made = obs_mhd_chunked_response(32 << 10, readStream, Unmanaged.passRetained(body).toOpaque(), releaseStream)
        send(made, status: status, headers: headers, closing: false)
    }

    private func queueUpgrade(_ accept: String, _ answer: Answer) {
        lock.withLock { _ in self.answer = answer }
        let made = MHD_create_response_for_upgrade(webSocketOpened, nil)
        send(made, status: 101, headers: [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)], closing: false)
    }

    private func send(_ made: OpaquePointer?, status: Int, headers: [(name: String, value: String)], closing: Bool) {
        phase = .sent
        guard let made else { return }
        for (name, value) in headers where !isFramingHeader(name) { _ = obs_mhd_add_header(made, name, value) }
        if status != 101, closing || server.stopping.load(ordering: .acquiring) { _ = obs_mhd_add_header(made, "Connection", "close") }
        _ = obs_mhd_queue(connection, UInt32(clamping: status), made)
        MHD_destroy_response(made)
    }

    // MARK: Streams and upgrades

    /// The stream has nothing to send. Called under the stream's lock, on the connection's thread. False when the server ends.
    func suspendStream() -> Bool { server.suspensions.suspend(self) }

    /// The stream has something to send again; it was suspended.
    func resumeStream() { server.suspensions.resume(self) }

    /// The client has the 101 and the socket is ours.
    fileprivate func opened(socket: Int32, early: [UInt8], handle: OpaquePointer) {
        let answer = lock.withLock { _ in
            uncount()
            defer { self.answer = nil }
            return self.answer
        }
        let webSocket = WebSocketConnection(socket: socket, handle: handle, early: early, registry: server.webSockets)
        guard case .upgrade(_, let opened) = answer, server.webSockets.add(webSocket) else {
            obs_mhd_close_upgraded(handle)
            return
        }
        WebSocketLoop.shared.add(webSocket)
        opened(webSocket)
    }
}

private func webSocketOpened(
    context: UnsafeMutableRawPointer?, connection: OpaquePointer?, kept: UnsafeMutableRawPointer?, early: UnsafePointer<CChar>?, earlyBytes: Int,
    socket: Int32, handle: OpaquePointer?
) {
    guard let kept, let handle else { return }
    let bytes = Array(UnsafeRawBufferPointer(start: early, count: earlyBytes))
    Unmanaged<HTTPExchange>.fromOpaque(kept).takeUnretainedValue().opened(socket: socket, early: bytes, handle: handle)
}

/// The handler's end of an exchange; dropping it unanswered answers 500.
private final class Responder: HTTPResponder {
    private let exchange: HTTPExchange

    init(_ exchange: HTTPExchange) { self.exchange = exchange }

    deinit { exchange.answer(.complete(.text(500, "the request was not answered"))) }

    func send(_ response: HTTPResponse) { exchange.answer(response) }

    func stream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
        let body = StreamBody(exchange)
        if !exchange.answer(.stream(body, status: status, headers: headers)) { body.end(.gone) }
        return StreamHandle(body)
    }

    func upgradeToWebSocket(opened: @escaping @Sendable (any WebSocket) -> Void) { exchange.upgrade(opened) }
}

// MARK: Heads

/// How a request says where its body ends. What leaves room for two opinions is refused: that is how requests are smuggled past proxies (RFC 9112 §6.3).
enum BodyFraming {
    case length(UInt64)
    case chunked
    case invalid(String)

    init(_ headers: [(name: String, value: String)]) {
        var length: UInt64?
        var chunked = false
        for (name, value) in headers {
            if name == "content-length" {
                guard let number = UInt64(value), value.utf8.allSatisfy({ $0 &- 48 <= 9 }) else {
                    self = .invalid("bad Content-Length \(quoted(value))")
                    return
                }
                if let length, length != number {
                    self = .invalid("two different Content-Length headers")
                    return
                }
                length = number
            } else if name == "transfer-encoding" {
                guard !chunked, value.lowercased() == "chunked" else {
                    self = .invalid("Transfer-Encoding \(quoted(value)) is not supported, only chunked is")
                    return
                }
                chunked = true
            }
        }
        if chunked, length != nil {
            self = .invalid("a request has either Content-Length or Transfer-Encoding, not both")
        } else {
            self = chunked ? .chunked : .length(length ?? 0)
        }
    }
}

extension ServerCore {
    func tooLarge() -> HTTPResponse {
        .text(413, "request body is larger than the limit of \(configuration.bodyBytesMax) bytes")
    }
}

private final class HeaderCollector {
    var headers: [(name: String, value: String)] = []
}

private func collectHeader(
    context: UnsafeMutableRawPointer?, kind: MHD_ValueKind, name: UnsafePointer<CChar>?, nameBytes: Int, value: UnsafePointer<CChar>?, valueBytes: Int
) -> MHD_Result {
    guard let context, let name else { return obs_mhd_no() }
    let lowered = String(unsafeUninitializedCapacity: nameBytes) { buffer in
        for index in 0..<nameBytes {
            let byte = UInt8(bitPattern: name[index])
            buffer[index] = byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
        }
        return nameBytes
    }
    let text = value.map { String(decoding: UnsafeRawBufferPointer(start: $0, count: valueBytes), as: UTF8.self) } ?? ""
    Unmanaged<HeaderCollector>.fromOpaque(context).takeUnretainedValue().headers.append((lowered, text))
    return obs_mhd_yes()
}

/// Framing is the server's business, whatever a handler sets.
private func isFramingHeader(_ name: String) -> Bool {
    let lowered = name.lowercased()
    return lowered == "content-length" || lowered == "transfer-encoding"
}

private func isCompressible(_ headers: [(name: String, value: String)]) -> Bool {
    var isText = false
    for (name, value) in headers {
        switch name.lowercased() {
        case "content-encoding": return false
        case "content-type":
            isText =
                value.hasPrefix("text/") || value.hasPrefix("application/json") || value.hasPrefix("application/x-ndjson")
                || value.hasPrefix("application/javascript")
        default: break
        }
    }
    return isText
}

extension Substring {
    /// The end of `mark`, when it comes before the first `stop` that is not part of it.
    fileprivate func range(of mark: String, before stop: Character) -> Index? {
        guard let first = firstIndex(of: ":"), self[first...].hasPrefix(mark), !self[..<first].contains(stop) else { return nil }
        return index(first, offsetBy: mark.count)
    }
}
