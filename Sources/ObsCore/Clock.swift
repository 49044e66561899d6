internal import Glibc

/// Time as a parameter: the engine, the scraper and the rules read it only through this, so that a test can own it.
package protocol Clock: Sendable {
    /// Wall clock, nanoseconds since the epoch.
    func nowNanos() -> Int64
    /// Monotonic nanoseconds, for deadlines and durations.
    func monotonicNanos() -> Int64
}

extension Clock {
    package func nowMillis() -> Int64 { nowNanos() / 1_000_000 }
}

package struct SystemClock: Clock {
    package init() {}
    package func nowNanos() -> Int64 { read(CLOCK_REALTIME) }
    package func monotonicNanos() -> Int64 { read(CLOCK_MONOTONIC) }

    private func read(_ id: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(id, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
