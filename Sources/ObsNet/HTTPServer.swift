// The HTTP/1.1 server: libmicrohttpd with its own threads, and what it takes to be safe on top of it.
//
// libmicrohttpd ("MHD") owns the connections that `Acceptor` hands to it. Each of its threads runs an epoll loop over its share of the connections and calls us back: when a connection
// opens, when a request's head is complete, for each piece of body, when the body is complete, when the request is over. We keep one `PeerConnection` per TCP
// connection and one `HTTPExchange` per request. The handler runs on MHD's thread; if the answer is not there when it returns, the connection is *suspended*
// (taken out of the epoll set, no thread held) and *resumed* by whoever answers, which makes MHD call back once more and take the answer. So MHD is asked for a
// response only from its own callback, whichever thread the answer came from.
//
// Three rules of MHD's are enforced here, because breaking one ends the process or corrupts its memory:
// - resume only what is suspended: both happen under the exchange's lock, which knows which of the two holds;
// - never stop the daemon with a connection suspended: `Suspensions` knows them all, and once it is `closed` nothing can be suspended any more;
// - never touch a connection after its `completed` notification: a suspended connection cannot complete, so whoever holds the lock and sees `suspended` may.
internal import CMicrohttpd
internal import Glibc
package import ObsCore
internal import Synchronization

/// Certificate chain and private key as PEM bytes.
package struct TLSIdentity: Sendable {
    package var certificatePEM: [UInt8]
    package var keyPEM: [UInt8]

    package init(certificatePEM: [UInt8], keyPEM: [UInt8]) {
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
    }
}

package struct HTTPServerConfiguration: Sendable {
    /// What requests carry as `listener`, and what threads and errors are named after.
    package var name: String
    /// See `ListenAddress`; port 0 lets the system choose one.
    package var address: String
    package var threads = 2
    /// Bytes of a body as sent; more is answered 413.
    package var bodyBytesMax = Limits().requestBytesMax
    /// Connections at once; more wait in the kernel's queue.
    package var connectionsMax = 4096
    /// A request's head must be complete this long after its connection opened or its first line came. Unlike the idle timeout it does not start again with
    /// every byte, so that a request sent a byte at a time ends too.
    package var headerTimeoutSeconds = 10
    /// And its body this long after the head.
    package var bodyTimeoutSeconds = 600
    /// A connection on which nothing moves this long is closed. Suspended ones (an answer is being made) are exempt.
    package var idleTimeoutSeconds = 60
    package var tls: TLSIdentity?
    /// Where bodies are counted while their request lasts; nil counts nowhere.
    package var bodyMemory: MemoryAccount?
    /// Where answers are counted until they are sent; nil counts nowhere.
    package var answerMemory: MemoryAccount?
    /// The answer to a request for whose body, or answer, there is no memory.
    package var refuse: @Sendable (HTTPRequest, ObsError) -> HTTPResponse = { _, error in
        var response = HTTPResponse.text(503, error.description + "\n")
        response.headers.append(("Retry-After", "1"))
        return response
    }
    /// Gzip, from the module that may link zlib; nil when it fails. Called for JSON and text answers over 1 KiB whose client accepts gzip.
    package var compress: (@Sendable ([UInt8]) -> [UInt8]?)?

    package init(name: String, address: String) {
        self.name = name
        self.address = address
    }
}

package final class HTTPServer: Sendable {
    let core: ServerCore
    private let daemon: Mutex<DaemonHandle?>
    private let acceptor: Acceptor
    private let bound: ListenAddress

    /// Binds, listens and starts answering.
    ///
    /// - Parameters:
    ///   - admit: called when a request's head is complete and before any of its body is read, on a server thread; must be quick. A response refuses the request:
    ///     it is sent at once, the body is never gathered.
    ///   - handle: called when the body is complete, on a server thread; long work belongs on a thread of its own, which answers through the responder.
    /// - Throws: `.badInput` when the address cannot be used or the certificate is none.
    package init(
        _ configuration: HTTPServerConfiguration, admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil }, handle: @escaping HTTPHandler
    ) throws(ObsError) {
        let listener: Int32
        (listener, bound) = try openListener(ListenAddress(parsing: configuration.address))
        core = ServerCore(configuration, admit: admit, handle: handle)
        acceptor = Acceptor(core, listener: listener)
        guard let handle = startDaemon(core) else {
            close(listener)
            let advice = configuration.tls == nil ? "" : "; are certificate and key PEM, and do they belong together?"
            throw ObsError(.badInput, "cannot start the HTTP server \(quoted(configuration.name)) on \(bound.description)\(advice)")
        }
        daemon = Mutex(handle)
        acceptor.start(handle)
    }

    deinit { stop(drainMillis: 0) }

    package var port: UInt16 { bound.port }
    /// As configured, with the port that was chosen.
    package var address: String { bound.description }

    /// Requests being read, handled or answered now.
    package var requestsInFlight: Int { core.exchanges.load(ordering: .relaxed) }

    /// Connections open now, WebSockets included.
    package var connectionsOpen: Int { core.connections.count }

    /// Accepts no more, lets what runs finish within the bound, then answers the rest 503 and closes everything. Returns when all threads are done. Later calls
    /// do nothing.
    package func stop(drainMillis: Int) {
        guard let handle = daemon.withLock({ (handle: inout DaemonHandle?) in handle.take() }) else { return }
        core.stopping.store(true, ordering: .releasing)
        acceptor.stop()
        core.webSockets.closeAll(code: 1001, reason: "server is stopping")
        waitUntilIdle(millis: drainMillis)
        core.suspensions.endAll()
        waitUntilIdle(millis: 500)
        core.webSockets.dropAll()
        MHD_stop_daemon(handle.daemon)
        handle.release()
    }

    private func waitUntilIdle(millis: Int) {
        let end = SystemClock().monotonicNanos() + Int64(millis) * nanosPerMilli
        while core.exchanges.load(ordering: .acquiring) > 0 || !core.webSockets.isEmpty, SystemClock().monotonicNanos() < end { usleep(2000) }
    }
}

/// MHD's daemon and the memory it reads for as long as it runs.
struct DaemonHandle: @unchecked Sendable {  // used under HTTPServer's mutex
    let daemon: OpaquePointer
    let texts: [UnsafeMutablePointer<CChar>]

    func release() { for text in texts { text.deallocate() } }
}

/// What MHD's callbacks are given: the configuration, the two closures, and the books over connections and suspended exchanges.
final class ServerCore: Sendable {
    let configuration: HTTPServerConfiguration
    let admit: @Sendable (HTTPRequest) -> HTTPResponse?
    let handle: HTTPHandler
    let suspensions = Suspensions()
    let connections = PeerConnections()
    let webSockets = WebSocketRegistry()
    let exchanges = Atomic<Int>(0)
    let stopping = Atomic<Bool>(false)

    init(_ configuration: HTTPServerConfiguration, admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse?, handle: @escaping HTTPHandler) {
        self.configuration = configuration
        self.admit = admit
        self.handle = handle
    }
}

/// Every suspended exchange of a server. Once closed, an exchange that would wait is ended instead.
final class Suspensions: Sendable {
    private struct State {
        var waiting: [ObjectIdentifier: HTTPExchange] = [:]
        var closed = false
    }
    private let state = Mutex(State())

    /// Suspends the connection of an exchange, whose lock the caller holds. False when the server ends: the caller must answer now.
    func suspend(_ exchange: HTTPExchange) -> Bool {
        state.withLock { state in
            guard !state.closed else { return false }
            MHD_suspend_connection(exchange.connection)
            state.waiting[ObjectIdentifier(exchange)] = exchange
            return true
        }
    }

    /// Resumes it; the caller holds the exchange's lock and knows it to be suspended.
    func resume(_ exchange: HTTPExchange) {
        state.withLock { state in
            state.waiting[ObjectIdentifier(exchange)] = nil
            MHD_resume_connection(exchange.connection)
        }
    }

    func endAll() {
        let rest = state.withLock { state in
            state.closed = true
            return Array(state.waiting.values)
        }
        for exchange in rest { exchange.end() }
    }
}

private func startDaemon(_ core: ServerCore) -> DaemonHandle? {
    var texts: [UnsafeMutablePointer<CChar>] = []
    func text(_ bytes: [UInt8]?) -> UnsafePointer<CChar>? {
        guard let bytes else { return nil }
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
        for (index, byte) in bytes.enumerated() { copy[index] = CChar(bitPattern: byte) }
        copy[bytes.count] = 0
        texts.append(copy)
        return UnsafePointer(copy)
    }
    var settings = obs_mhd_settings()
    settings.threads = UInt32(clamping: core.configuration.threads)
    // The acceptor keeps the limit. MHD's own is divided among its threads, which fill unevenly, so it is set where it cannot be reached.
    settings.connections_max = UInt32(clamping: (core.configuration.connectionsMax + 1) * max(1, core.configuration.threads))
    settings.idle_timeout_seconds = UInt32(clamping: core.configuration.idleTimeoutSeconds)
    // Holds the head, 32 KiB of it at most, beside the blocks the body is read in; measured fastest at this size.
    settings.connection_memory_bytes = 64 << 10
    settings.certificate_pem = text(core.configuration.tls?.certificatePEM)
    settings.key_pem = text(core.configuration.tls?.keyPEM)
    settings.access = accessHandler
    settings.completed = requestCompleted
    settings.connection_changed = connectionChanged
    settings.target = targetSeen
    settings.unescape = keepEscapes
    settings.context = Unmanaged.passUnretained(core).toOpaque()
    guard let daemon = obs_mhd_start(&settings) else {
        for text in texts { text.deallocate() }
        return nil
    }
    return DaemonHandle(daemon: daemon, texts: texts)
}

// MARK: MHD's callbacks. `context` is the ServerCore, alive until MHD_stop_daemon has returned.

private func core(_ context: UnsafeMutableRawPointer?) -> ServerCore? {
    context.map { Unmanaged<ServerCore>.fromOpaque($0).takeUnretainedValue() }
}

private func peer(_ connection: OpaquePointer?) -> PeerConnection? {
    obs_mhd_connection_context(connection).map { Unmanaged<PeerConnection>.fromOpaque($0).takeUnretainedValue() }
}

private func connectionChanged(
    context: UnsafeMutableRawPointer?, connection: OpaquePointer?, kept: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    code: MHD_ConnectionNotificationCode
) {
    guard let core = core(context), let kept else { return }
    if obs_mhd_is_started(code) != 0 {
        let peer = PeerConnection(
            socket: obs_mhd_socket(connection), address: describe(obs_mhd_peer(connection)), headTimeoutSeconds: core.configuration.headerTimeoutSeconds)
        core.connections.add(peer)
        kept.pointee = Unmanaged.passRetained(peer).toOpaque()
    } else if let pointer = kept.pointee {
        kept.pointee = nil
        core.connections.remove(Unmanaged<PeerConnection>.fromOpaque(pointer).takeRetainedValue())
    }
}

/// Called with the request's target as sent, before the headers are read. What it returns becomes the request's context: none yet, since MHD does not tell us of
/// the end of a request whose head is bad.
private func targetSeen(context: UnsafeMutableRawPointer?, target: UnsafePointer<CChar>?, connection: OpaquePointer?) -> UnsafeMutableRawPointer? {
    guard let core = core(context), let peer = peer(connection), let target else { return nil }
    peer.target = String(cString: target)
    peer.expectHead(withinSeconds: core.configuration.headerTimeoutSeconds)
    return nil
}

/// We decode paths ourselves, from the target as sent.
private func keepEscapes(context: UnsafeMutableRawPointer?, connection: OpaquePointer?, text: UnsafeMutablePointer<CChar>?) -> Int {
    text.map { strlen($0) } ?? 0
}

private func accessHandler(
    context: UnsafeMutableRawPointer?, connection: OpaquePointer?, url: UnsafePointer<CChar>?, method: UnsafePointer<CChar>?,
    version: UnsafePointer<CChar>?, upload: UnsafePointer<CChar>?, uploadBytes: UnsafeMutablePointer<Int>?,
    kept: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let core = core(context), let connection, let kept, let uploadBytes, let method else { return obs_mhd_no() }
    guard let pointer = kept.pointee else {
        guard let peer = peer(connection) else { return obs_mhd_no() }
        let exchange = HTTPExchange(core, connection, peer)
        kept.pointee = Unmanaged.passRetained(exchange).toOpaque()
        exchange.headComplete(method: String(cString: method))
        return obs_mhd_yes()
    }
    let exchange = Unmanaged<HTTPExchange>.fromOpaque(pointer).takeUnretainedValue()
    if uploadBytes.pointee > 0 {
        let piece = UnsafeRawBufferPointer(start: upload, count: uploadBytes.pointee)
        uploadBytes.pointee = 0
        return exchange.bodyPiece(piece) ? obs_mhd_yes() : obs_mhd_no()
    }
    exchange.bodyComplete()
    return obs_mhd_yes()
}

private func requestCompleted(
    context: UnsafeMutableRawPointer?, connection: OpaquePointer?, kept: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, reason: MHD_RequestTerminationCode
) {
    guard let kept, let pointer = kept.pointee else { return }
    kept.pointee = nil
    Unmanaged<HTTPExchange>.fromOpaque(pointer).takeRetainedValue().completed()
}
