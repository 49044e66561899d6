// Accepts a server's connections and hands them to libmicrohttpd.
//
// MHD could accept by itself, but not stop doing so: its `MHD_quiesce_daemon` takes the listening socket out of a worker's epoll set while the worker may be doing
// the same, and the one that comes second ends the process (0.9.75, seen once in a few hundred stops under load). With a thread of our own, stopping is closing our
// own socket; connections over the limit wait in the kernel's queue; and deadlines have a clock.
internal import CMicrohttpd
internal import Glibc
internal import ObsCore
internal import Synchronization

final class Acceptor: Sendable {
    private let core: ServerCore
    private let listener: Int32
    private let pipe = WakePipe()
    private let isStopping = Atomic<Bool>(false)
    private let isOver = Monitor(false)

    /// Takes the listening socket over.
    init(_ core: ServerCore, listener: Int32) {
        self.core = core
        self.listener = listener
    }

    func start(_ daemon: DaemonHandle) {
        startThread("\(core.configuration.name)-accept", stackBytes: 256 << 10) { [self] in
            run(daemon)
            close(listener)
            isOver.update { $0 = true }
        }
    }

    /// Returns when the listening socket is closed and nothing more is handed over.
    func stop() {
        isStopping.store(true, ordering: .releasing)
        pipe.wake()
        _ = isOver.wait { $0 ? () : nil }
    }

    private func run(_ daemon: DaemonHandle) {
        var isPausing = false
        var checkedNanos: Int64 = 0
        while !isStopping.load(ordering: .acquiring) {
            // Over the limit, or without a free file descriptor, the listener is left alone for a moment.
            let isFull = isPausing || core.connections.accepted >= core.configuration.connectionsMax
            var queries = [
                pollfd(fd: pipe.reader, events: Int16(POLLIN), revents: 0), pollfd(fd: isFull ? -1 : listener, events: Int16(POLLIN), revents: 0),
            ]
            poll(&queries, 2, isFull ? 20 : 1000)
            isPausing = false
            if queries[1].revents != 0 { isPausing = !acceptWaiting(daemon) }
            let now = SystemClock().monotonicNanos()
            if now - checkedNanos >= nanosPerSecond {
                checkedNanos = now
                core.connections.closeLate(now: now)
            }
        }
    }

    /// False when no connection can be taken for want of resources.
    private func acceptWaiting(_ daemon: DaemonHandle) -> Bool {
        while core.connections.accepted < core.configuration.connectionsMax {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let isTaken: Bool? = withUnsafeMutablePointer(to: &storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    let socket = accept(listener, address, &length)
                    guard socket >= 0 else { return nil }
                    _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
                    core.connections.willOpen()
                    // Closes the socket when it fails.
                    return obs_mhd_add(daemon.daemon, socket, address, length) != 0
                }
            }
            switch isTaken {
            case true?: continue
            case false?:
                core.connections.didNotOpen()
                return false
            case nil:
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EMFILE, ENFILE, ENOBUFS, ENOMEM: return false
                default: return true
                }
            }
        }
        return true
    }
}
