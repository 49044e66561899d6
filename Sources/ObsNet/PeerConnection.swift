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
    /// When what is being read must be complete; 0 while nothing is.
    private let deadlineNanos: Atomic<Int64>

    init(socket: Int32, address: String, headTimeoutSeconds: Int) {
        self.socket = socket
        self.address = address
        deadlineNanos = Atomic(SystemClock().monotonicNanos() &+ Int64(headTimeoutSeconds) &* nanosPerSecond)
    }

    /// A head begins. The first one is timed from the opening of its connection.
    func expectHead(withinSeconds seconds: Int) {
        if deadlineNanos.load(ordering: .relaxed) == 0 { expect(withinSeconds: seconds) }
    }

    func expect(withinSeconds seconds: Int) {
        deadlineNanos.store(SystemClock().monotonicNanos() &+ Int64(seconds) &* nanosPerSecond, ordering: .relaxed)
    }

    func expectNothing() { deadlineNanos.store(0, ordering: .relaxed) }

    func isLate(_ now: Int64) -> Bool {
        let deadline = deadlineNanos.load(ordering: .relaxed)
        return deadline != 0 && deadline < now
    }
}

/// The open connections of a server.
final class PeerConnections: Sendable {
    private let open = Mutex<[ObjectIdentifier: PeerConnection]>([:])
    private let acceptedCount = Atomic<Int>(0)

    /// Those that are open, and those that were accepted and are about to be.
    var accepted: Int { acceptedCount.load(ordering: .relaxed) }
    func willOpen() { acceptedCount.add(1, ordering: .relaxed) }
    func didNotOpen() { acceptedCount.subtract(1, ordering: .relaxed) }

    func add(_ peer: PeerConnection) { open.withLock { $0[ObjectIdentifier(peer)] = peer } }

    /// Called before the socket is closed, so that those listed are open.
    func remove(_ peer: PeerConnection) {
        open.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(peer)) }
        acceptedCount.subtract(1, ordering: .relaxed)
    }

    var count: Int { open.withLock { $0.count } }

    func closeLate(now: Int64) {
        open.withLock { open in
            for peer in open.values where peer.isLate(now) { shutdown(peer.socket, Int32(SHUT_RDWR)) }
        }
    }
}

/// Whether the other end has closed the connection or will send no more. The socket must be open.
func peerHasClosed(_ socket: Int32) -> Bool {
    let readHangUp: Int16 = 0x2000  // POLLRDHUP, hidden by Glibc's module
    var query = pollfd(fd: socket, events: readHangUp, revents: 0)
    return poll(&query, 1, 0) > 0 && query.revents & (readHangUp | Int16(POLLHUP) | Int16(POLLERR)) != 0
}
