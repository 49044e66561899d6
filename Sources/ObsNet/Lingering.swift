internal import CMicrohttpd  // the first to include <sys/socket.h>, which makes it the module of its names
internal import Glibc
internal import ObsCore
internal import Synchronization

/// Keeps a connection open for a few seconds after an answer that came before its request's end.
///
/// When a socket is closed with unread bytes in it, the kernel resets the connection, and a client still sending sees "connection reset" instead of the answer that
/// tells it what was wrong. So the socket is duplicated, and what the client still sends is read into nothing until it has closed its side.
final class Lingering: Sendable {
    static let shared = Lingering()
    /// More refused uploads at once than this are cut off the hard way.
    private static let socketsMax = 128
    private static let nanosMax = 5 * nanosPerSecond

    private struct Kept {
        var socket: Int32
        var deadlineNanos: Int64
    }
    private struct State {
        var kept: [Kept] = []
        var isRunning = false
    }
    private let state = Monitor(State())

    func keep(_ socket: Int32) {
        state.update { state in
            guard state.kept.count < Self.socketsMax else { return }
            let copy = fcntl(socket, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else { return }
            state.kept.append(Kept(socket: copy, deadlineNanos: SystemClock().monotonicNanos() + Self.nanosMax))
            guard !state.isRunning else { return }
            state.isRunning = true
            startThread("lingering", stackBytes: 256 << 10) { [self] in run() }
        }
    }

    private func run() {
        while var kept = state.wait(until: { $0.kept.isEmpty ? nil : $0.kept }) {
            var queries = kept.map { pollfd(fd: $0.socket, events: Int16(POLLIN), revents: 0) }
            poll(&queries, nfds_t(queries.count), 100)
            let now = SystemClock().monotonicNanos()
            kept = zip(kept, queries).compactMap { entry, query in
                entry.deadlineNanos < now || (query.revents != 0 && !discard(entry.socket)) ? entry : nil
            }
            let over = kept.map(\.socket)
            for socket in over { close(socket) }
            state.update { state in state.kept.removeAll { over.contains($0.socket) } }
        }
    }

    /// False once the client has closed its side.
    private func discard(_ socket: Int32) -> Bool {
        var isOpen = true
        withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 1) { buffer in
            let count = recv(socket, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            isOpen = count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))
        }
        return isOpen
    }
}
