internal import CMicrohttpd  // the first to include <sys/socket.h>, which makes it the module of its names
internal import Glibc
internal import ObsCore
internal import Synchronization

/// The one thread that reads and writes every WebSocket of the process. There are hundreds at most (`Limits.tailsMax`), which `poll` serves well.
final class WebSocketLoop: Sendable {
    static let shared = WebSocketLoop()

    private struct State {
        var open: [WebSocketConnection] = []
        /// One was added; it may have come with bytes that no poll will announce.
        var hasNew = false
    }
    private let state = Mutex(State())
    private let pipe = WakePipe()

    private init() { startThread("websockets") { [self] in run() } }

    func add(_ webSocket: WebSocketConnection) {
        state.withLock { state in
            state.open.append(webSocket)
            state.hasNew = true
        }
        wake()
    }

    func wake() { pipe.wake() }

    private func run() {
        var queries: [pollfd] = []
        while true {
            let (webSockets, hasNew) = state.withLock { state in
                defer { state.hasNew = false }
                return (state.open, state.hasNew)
            }
            queries.removeAll(keepingCapacity: true)
            queries.append(pollfd(fd: pipe.reader, events: Int16(POLLIN), revents: 0))
            for webSocket in webSockets {
                queries.append(pollfd(fd: webSocket.socket, events: Int16(POLLIN) | (webSocket.wantsToWrite ? Int16(POLLOUT) : 0), revents: 0))
            }
            poll(&queries, nfds_t(queries.count), hasNew ? 0 : webSockets.isEmpty ? -1 : 500)
            if queries[0].revents != 0 { pipe.drain() }
            serve(webSockets, queries)
        }
    }

    private func serve(_ webSockets: [WebSocketConnection], _ queries: [pollfd]) {
        let now = SystemClock().monotonicNanos()
        var over: [WebSocketConnection] = []
        for (index, webSocket) in webSockets.enumerated() {
            if !webSocket.turn(readable: queries[index + 1].revents & ~Int16(POLLOUT) != 0, now: now) { over.append(webSocket) }
        }
        guard !over.isEmpty else { return }
        state.withLock { state in state.open.removeAll { candidate in over.contains { $0 === candidate } } }
        for webSocket in over { webSocket.release() }
    }
}
