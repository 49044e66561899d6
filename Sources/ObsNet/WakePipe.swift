internal import CMicrohttpd  // the first to include <sys/socket.h>, which makes it the module of its names
internal import Glibc
internal import Synchronization

/// Wakes a thread that waits in `poll`.
final class WakePipe: Sendable {
    /// To be polled for reading.
    let reader: Int32
    private let writer: Int32
    /// Whether a wake-up is under way already; saves the write for most wake-ups of a burst.
    private let isAwake = Atomic<Bool>(false)

    init() {
        var pair: [Int32] = [0, 0]
        precondition(pipe(&pair) == 0, "FATAL: cannot create a pipe: \(String(cString: strerror(errno)))")
        for end in pair {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        (reader, writer) = (pair[0], pair[1])
    }

    deinit {
        close(reader)
        close(writer)
    }

    func wake() {
        guard !isAwake.exchange(true, ordering: .acquiringAndReleasing) else { return }
        var byte: UInt8 = 0
        _ = write(writer, &byte, 1)
    }

    /// Makes ready for the next wake-up. What was to be done is looked for after this, or it may be missed.
    func drain() {
        var bytes = [UInt8](repeating: 0, count: 64)
        while read(reader, &bytes, bytes.count) > 0 {}
        isAwake.store(false, ordering: .releasing)
    }
}
