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
    /// What the shared account has given to this query, in steps: not every row can go there.
    private let granted = Atomic<Int>(0)
    private let granting = Mutex(())
    private static let grantBytes = 256 << 10
    /// A sample is a time and a value.
    private static let sampleBytes = 16

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

    /// The end of a query, however it came about, is the end of its context: what it held is free again.
    deinit { limits.memory.queries.release(granted.load(ordering: .relaxed)) }

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

    /// Counts samples taken into memory, with the bytes they take.
    /// - Throws: as `charge(bytes:)`.
    package func charge(samples count: Int) throws(ObsError) {
        if samples.wrappingAdd(count, ordering: .relaxed).newValue > limits.querySamplesMax {
            throw ObsError(
                .limitExceeded, "query processing would load too many samples into memory in query execution (query.max-samples is \(limits.querySamplesMax))")
        }
        try charge(bytes: count &* Self.sampleBytes)
    }

    /// Gives the memory of samples back that the query no longer holds; as samples they stay counted.
    package func release(samples count: Int) { release(bytes: count &* Self.sampleBytes) }

    package func charge(series count: Int) throws(ObsError) {
        if series.wrappingAdd(count, ordering: .relaxed).newValue > limits.querySeriesMax {
            throw ObsError(.limitExceeded, "query selects more than \(limits.querySeriesMax) series (query.max-series)")
        }
    }

    /// Counts bytes this query holds until `release` or its end.
    /// - Throws: `.limitExceeded` naming this query's limit; `.overloaded` when all queries together have no memory left.
    package func charge(bytes count: Int) throws(ObsError) {
        let total = bytes.wrappingAdd(count, ordering: .relaxed).newValue
        if total > limits.queryBytesMax {
            limits.memory.queries.countRefusal()
            let value = "\(total) bytes of memory, more than \(limits.queryBytesMax) (query.max-bytes, a share of memory, \(limits.memory.ceilingBytes) bytes)"
            throw ObsError(.limitExceeded, "query needs \(value); narrow its range or its selectors")
        }
        if total > granted.load(ordering: .relaxed) { try grant(total) }
    }

    private func grant(_ total: Int) throws(ObsError) {
        let account = limits.memory.queries
        let missing = granting.withLock { _ in
            let missing = total - granted.load(ordering: .relaxed)
            if missing <= 0 { return 0 }
            for step in missing < Self.grantBytes ? [Self.grantBytes, missing] : [missing] where account.reserve(step) {
                granted.wrappingAdd(step, ordering: .relaxed)
                return 0
            }
            return missing
        }
        if missing > 0 { throw ObsError(.overloaded, "\(account.refusalReason(missing)); retry when other queries are done", retryAfterSeconds: 2) }
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
