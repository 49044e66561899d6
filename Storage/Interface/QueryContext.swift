package import ObsCore
internal import Synchronization

/// What a query may use and what it has used: deadline, cancellation, budget, statistics. Every read takes one; there is no read without it.
///
/// One query, any number of threads: all members are atomic.
package final class QueryContext: Sendable {
    package let tenant: TenantID
    package let limits: Limits
    /// Monotonic nanoseconds.
    package let deadlineNanos: Int64
    private let startNanos: Int64
    private let clock: any Clock
    /// Asked now and then: whether the client has gone away.
    private let clientGone: @Sendable () -> Bool
    private let cancelled = Atomic<Bool>(false)
    private let samples = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let series = Atomic<Int>(0)
    private let blocksRead = Atomic<Int>(0)
    private let segmentsRead = Atomic<Int>(0)
    private let bytesRead = Atomic<Int>(0)
    private let rowsScanned = Atomic<Int>(0)

    package init(
        tenant: TenantID, limits: Limits = Limits(), timeoutMillis: Int64? = nil, clock: any Clock = SystemClock(),
        clientGone: @escaping @Sendable () -> Bool = { false }
    ) {
        self.tenant = tenant
        self.limits = limits
        self.clock = clock
        self.clientGone = clientGone
        startNanos = clock.monotonicNanos()
        deadlineNanos = startNanos &+ max(0, min(timeoutMillis ?? limits.queryTimeoutMillis, limits.queryTimeoutMillis)) &* 1_000_000
    }

    /// Nanoseconds since the query was taken in.
    package var elapsedNanos: Int64 { clock.monotonicNanos() &- startNanos }

    package func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// Called by every loop at least each 100 ms of work.
    /// - Throws: `.timeout` or `.cancelled`.
    package func check() throws(ObsError) {
        if cancelled.load(ordering: .relaxed) { throw ObsError(.cancelled, "query was canceled") }
        if clock.monotonicNanos() > deadlineNanos {
            throw ObsError(.timeout, "query timed out; narrow its range or raise query.timeout (\(formatDuration(millis: limits.queryTimeoutMillis)))")
        }
        if clientGone() {
            cancel()
            throw ObsError(.cancelled, "query was canceled: client went away")
        }
    }

    /// Counts samples taken into memory.
    /// - Throws: `.limitExceeded` naming the limit.
    package func charge(samples count: Int) throws(ObsError) {
        if samples.wrappingAdd(count, ordering: .relaxed).newValue > limits.querySamplesMax {
            throw ObsError(
                .limitExceeded, "query processing would load too many samples into memory in query execution (query.max-samples is \(limits.querySamplesMax))")
        }
    }

    package func charge(series count: Int) throws(ObsError) {
        if series.wrappingAdd(count, ordering: .relaxed).newValue > limits.querySeriesMax {
            throw ObsError(.limitExceeded, "query selects more than \(limits.querySeriesMax) series (query.max-series)")
        }
    }

    package func charge(bytes count: Int) throws(ObsError) {
        if bytes.wrappingAdd(count, ordering: .relaxed).newValue > limits.queryBytesMax {
            throw ObsError(.limitExceeded, "query needs more than \(limits.queryBytesMax) bytes of memory (query.max-bytes)")
        }
    }

    /// Gives bytes back that the query no longer holds.
    package func release(bytes count: Int) { bytes.wrappingSubtract(count, ordering: .relaxed) }

    package func count(segments: Int = 0, blocks: Int = 0, bytesRead count: Int = 0, rows: Int = 0) {
        if segments != 0 { segmentsRead.wrappingAdd(segments, ordering: .relaxed) }
        if blocks != 0 { blocksRead.wrappingAdd(blocks, ordering: .relaxed) }
        if count != 0 { bytesRead.wrappingAdd(count, ordering: .relaxed) }
        if rows != 0 { rowsScanned.wrappingAdd(rows, ordering: .relaxed) }
    }

    package struct Statistics: Sendable {
        package var samples = 0
        package var series = 0
        package var segments = 0
        package var blocks = 0
        package var bytesRead = 0
        package var rows = 0
    }

    package var statistics: Statistics {
        Statistics(
            samples: samples.load(ordering: .relaxed), series: series.load(ordering: .relaxed), segments: segmentsRead.load(ordering: .relaxed),
            blocks: blocksRead.load(ordering: .relaxed), bytesRead: bytesRead.load(ordering: .relaxed), rows: rowsScanned.load(ordering: .relaxed))
    }
}
