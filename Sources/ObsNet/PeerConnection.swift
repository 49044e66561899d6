internal import CMicrohttpd  // the first to include <sys/socket.h>, which makes it the module of its names
internal import Glibc
internal import ObsCore
internal import Synchronization

/// One TCP connection of a server. Its requests come one after the other, on one thread.
final class PeerConnection: @unchecked Sendable {  // `target` belongs to the connection's server thread
    let socket: Int32
    let address: String
    /// The target of the request being read, as sent.
    var target = ""
    private let headTimeoutNanos: Int64
    /// When the head being read must be complete; 0 while none is.
    let headDeadlineNanos: Atomic<Int64>

    init(socket: Int32, address: String, headTimeoutNanos: Int64) {
        self.socket = socket
        self.address = address
        self.headTimeoutNanos = headTimeoutNanos
        headDeadlineNanos = Atomic(SystemClock().monotonicNanos() &+ headTimeoutNanos)
    }

    func headBegins() {
        // The first head is timed from the opening of its connection.
        guard headDeadlineNanos.load(ordering: .relaxed) == 0 else { return }
        headDeadlineNanos.store(SystemClock().monotonicNanos() &+ headTimeoutNanos, ordering: .relaxed)
    }

    func headEnds() { headDeadlineNanos.store(0, ordering: .relaxed) }
}

/// The open connections of a server.
final class PeerConnections: Sendable {
    private let open = Mutex<[ObjectIdentifier: PeerConnection]>([:])

    func add(_ peer: PeerConnection) { open.withLock { $0[ObjectIdentifier(peer)] = peer } }

    /// Called before the socket is closed, so that those listed are open.
    func remove(_ peer: PeerConnection) { open.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(peer)) } }

    func closeLateHeads(now: Int64) {
        open.withLock { open in
            for peer in open.values {
                let deadline = peer.headDeadlineNanos.load(ordering: .relaxed)
                if deadline != 0, deadline < now { shutdown(peer.socket, Int32(SHUT_RDWR)) }
            }
        }
    }
}

/// Whether the other end has closed the connection or will send no more. The socket must be open.
func peerHasClosed(_ socket: Int32) -> Bool {
    let readHangUp: Int16 = 0x2000  // POLLRDHUP, hidden by Glibc's module
    var query = pollfd(fd: socket, events: readHangUp, revents: 0)
    return poll(&query, 1, 0) > 0 && query.revents & (readHangUp | Int16(POLLHUP) | Int16(POLLERR)) != 0
}
