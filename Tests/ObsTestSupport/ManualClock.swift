internal import Synchronization
internal import ObsCore

/// A clock that moves only when told to.
package final class ManualClock: Clock {
    private let nanos: Atomic<Int64>

    /// - Parameter nowMillis: milliseconds since the epoch at first.
    package init(nowMillis: Int64 = 1_700_000_000_000) { nanos = Atomic(nowMillis * 1_000_000) }

    package func advance(millis: Int64) { nanos.wrappingAdd(millis * 1_000_000, ordering: .relaxed) }
    package func nowNanos() -> Int64 { nanos.load(ordering: .relaxed) }
    package func monotonicNanos() -> Int64 { nanos.load(ordering: .relaxed) }
}
