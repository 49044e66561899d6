// Live tails. A committed batch is handed to one thread of the hub's, which matches it against every tail and pushes what matches into the tail's own bounded
// queue: neither an expensive query nor a slow client can hold up ingest. With no tail open a batch costs one atomic load.
// What a queue cannot hold is dropped from its old end and counted, and the client is told.
package import ObsCore
package import ObsLogQL
internal import ObsStore
internal import Synchronization

/// What a tail lets through. Used by one thread at a time.
package protocol TailFilter: Sendable {
    /// Whether any line of a stream can pass, by its labels (canonical form); asked once a batch and stream.
    func wantsStream(_ labels: UnsafeRawBufferPointer) -> Bool
    /// The row as the query's pipeline leaves it; nil when it does not pass.
    func entry(_ batch: LogBatch, row: Int) -> TailEntry?
}

/// A line for a tail's client.
package struct TailEntry: Sendable {
    /// Stream labels as the query's pipeline left them.
    package var stream: Labels
    package var entry: LogEntry

    package init(stream: Labels, entry: LogEntry) {
        self.stream = stream
        self.entry = entry
    }

    fileprivate static let gone = TailEntry(stream: Labels([]), entry: LogEntry(timeNanos: 0, line: [], structuredMetadata: Labels([]), parsed: Labels([])))

    /// What it holds: its text, and the objects around that.
    fileprivate var byteSize: Int { stream.bytes.count + entry.line.count + entry.structuredMetadata.bytes.count + entry.parsed.bytes.count + 192 }
}

extension CompiledLogQuery: TailFilter {
    package func wantsStream(_ labels: UnsafeRawBufferPointer) -> Bool { matchers.match(labels) }

    package func entry(_ batch: LogBatch, row: Int) -> TailEntry? { process(batch, row: row).map { TailEntry(stream: $0.stream, entry: $0.entry) } }
}

/// One client's queue. Pushing never waits; the reader takes what is there when `onReady` has told it so.
package final class TailSubscription: Sendable {
    /// What the client missed; `entries` names the first few, as Loki's `dropped_entries` does.
    package struct Dropped: Sendable {
        package var count = 0
        package var entries: [(timeNanos: Int64, labels: Labels)] = []
        package init() {}
    }

    private struct State {
        /// From `first` on; what is before it was dropped.
        var queue: [TailEntry] = []
        var first = 0
        var bytes = 0
        var dropped = Dropped()
        var cancelled = false
    }

    let tenant: TenantID
    let filter: any TailFilter
    private let queueMax: Int
    private let queueBytesMax: Int
    private let memory: MemoryAccount
    private let onReady: @Sendable () -> Void
    private let state = Mutex(State())
    private static let droppedNamesMax = 1000

    init(
        tenant: TenantID, filter: any TailFilter, queueMax: Int, queueBytesMax: Int, memory: MemoryAccount, onReady: @escaping @Sendable () -> Void
    ) {
        self.tenant = tenant
        self.filter = filter
        self.queueMax = max(1, queueMax)
        self.queueBytesMax = queueBytesMax
        self.memory = memory
        self.onReady = onReady
    }

    deinit { cancel() }

    /// Everything that waits, oldest first, and what was dropped since the last call.
    package func take() -> (entries: [TailEntry], dropped: Dropped) {
        state.withLock { state in
            let entries = Array(state.queue[state.first...])
            let dropped = state.dropped
            empty(&state)
            state.dropped = Dropped()
            return (entries, dropped)
        }
    }

    func push(_ entries: [TailEntry]) {
        let wake = state.withLock { state in
            guard !state.cancelled, !entries.isEmpty else { return false }
            let wasEmpty = state.queue.isEmpty
            for entry in entries { append(entry, &state) }
            return wasEmpty
        }
        if wake { onReady() }
    }

    /// The oldest make room: what is new says more about what goes on. One entry of any size may wait alone, when there is memory for it.
    private func append(_ entry: TailEntry, _ state: inout State) {
        let bytes = entry.byteSize
        while state.queue.count > state.first, state.queue.count - state.first >= queueMax || state.bytes + bytes > queueBytesMax { dropOldest(&state) }
        guard memory.reserve(bytes) else { return drop(entry, &state) }
        state.bytes += bytes
        state.queue.append(entry)
    }

    private func dropOldest(_ state: inout State) {
        let bytes = state.queue[state.first].byteSize
        drop(state.queue[state.first], &state)
        state.queue[state.first] = TailEntry.gone
        state.first += 1
        state.bytes -= bytes
        memory.release(bytes)
        guard state.first * 2 > state.queue.count else { return }
        state.queue.removeFirst(state.first)
        state.first = 0
    }

    private func drop(_ entry: TailEntry, _ state: inout State) {
        state.dropped.count += 1
        if state.dropped.entries.count < Self.droppedNamesMax { state.dropped.entries.append((entry.entry.timeNanos, entry.stream)) }
    }

    private func empty(_ state: inout State) {
        memory.release(state.bytes)
        state.bytes = 0
        state.queue = []
        state.first = 0
    }

    /// Counts records that never reached the queue.
    package func miss(_ count: Int) { state.withLock { $0.dropped.count += count } }

    func cancel() {
        state.withLock {
            $0.cancelled = true
            empty(&$0)
        }
    }
}

package final class TailHub: Sendable {
    private struct State {
        var tails: [TailSubscription] = []
        var queue: [(batch: LogBatch, tenant: TenantID)] = []
        var queueBytes = 0
        var stopping = false
        var threadRunning = false
        /// Batches taken off the queue and not yet matched.
        var matching = 0
    }

    private let state = Monitor(State())
    private let open = Atomic<Int>(0)
    private let limits: Limits
    private let queueBytesMax: Int
    private let missed = SelfMetrics.counter("obs_tail_missed_records_total", help: "Records not offered to live tails because matching fell behind.")

    /// - Parameter queueBytesMax: bytes of committed batches that may wait to be matched; past it batches are not offered to tails, and counted.
    package init(_ limits: Limits = Limits(), queueBytesMax: Int = 64 << 20) {
        self.limits = limits
        self.queueBytesMax = min(queueBytesMax, limits.memory.ingest.bytesMax / 8)
    }

    /// Opens a tail. `onReady` runs on the hub's thread when an empty queue got entries: it hands over and returns.
    /// - Throws: `.overloaded` when `Limits.tailsMax` are open.
    package func subscribe(_ filter: any TailFilter, tenant: TenantID, queueMax: Int, onReady: @escaping @Sendable () -> Void) throws(ObsError)
        -> TailSubscription
    {
        let tail = TailSubscription(
            tenant: tenant, filter: filter, queueMax: queueMax, queueBytesMax: limits.tailQueueBytesMax, memory: limits.memory.queries, onReady: onReady)
        let (added, start) = state.update { state -> (Bool, Bool) in
            guard state.tails.count < limits.tailsMax, !state.stopping else { return (false, false) }
            state.tails.append(tail)
            let start = !state.threadRunning
            state.threadRunning = true
            return (true, start)
        }
        guard added else { throw ObsError(.overloaded, "\(limits.tailsMax) live tails are open (tail.max)", retryAfterSeconds: 10) }
        open.wrappingAdd(1, ordering: .relaxed)
        if start { startThread("tail") { [self] in run() } }
        return tail
    }

    package func unsubscribe(_ tail: TailSubscription) {
        tail.cancel()
        let removed = state.update { state in
            guard let at = state.tails.firstIndex(where: { $0 === tail }) else { return false }
            state.tails.remove(at: at)
            return true
        }
        if removed { open.wrappingSubtract(1, ordering: .relaxed) }
    }

    package var count: Int { open.load(ordering: .relaxed) }

    /// Offers a committed batch to the tails; never waits.
    package func publish(_ batch: LogBatch, tenant: TenantID) {
        guard open.load(ordering: .relaxed) > 0 else { return }
        let late = state.update { state -> [TailSubscription] in
            let tails = state.tails.filter { $0.tenant == tenant }
            if tails.isEmpty { return [] }
            guard state.queueBytes == 0 || state.queueBytes + batch.byteSize <= queueBytesMax, limits.memory.ingest.reserve(batch.byteSize) else {
                return tails
            }
            state.queue.append((batch, tenant))
            state.queueBytes += batch.byteSize
            return []
        }
        if late.isEmpty { return }
        missed.add(batch.count)
        for tail in late { tail.miss(batch.count) }
    }

    /// Waits until everything published so far is matched.
    package func drain() { _ = state.wait(until: { $0.queue.isEmpty && $0.matching == 0 ? () : nil }) }

    package func stop() {
        state.update { $0.stopping = true }
        _ = state.wait(until: { $0.threadRunning ? nil : () })
    }

    private func run() {
        while let work = state.wait(until: { Self.next(&$0) }), !work.batches.isEmpty {
            for item in work.batches { Self.match(item.batch, work.tails.filter { $0.tenant == item.tenant }) }
            limits.memory.ingest.release(work.bytes)
            state.update { $0.matching = 0 }
        }
        state.update { $0.threadRunning = false }
    }

    /// Nil while there is nothing to do; no batches once the hub stops.
    private static func next(_ state: inout State) -> (batches: [(batch: LogBatch, tenant: TenantID)], bytes: Int, tails: [TailSubscription])? {
        guard !state.queue.isEmpty || state.stopping else { return nil }
        let work = (batches: state.queue, bytes: state.queueBytes, tails: state.tails)
        state.matching = state.queue.count
        state.queue = []
        state.queueBytes = 0
        return work
    }

    private static func match(_ batch: LogBatch, _ tails: [TailSubscription]) {
        for tail in tails {
            let wanted = batch.bytes.withUnsafeBytes { bytes in batch.streams.map { tail.filter.wantsStream(UnsafeRawBufferPointer(rebasing: bytes[$0.range])) }
            }
            guard wanted.contains(true) else { continue }
            var entries: [TailEntry] = []
            for row in 0..<batch.count where wanted[Int(batch.stream[row])] {
                if let entry = tail.filter.entry(batch, row: row) { entries.append(entry) }
            }
            tail.push(entries)
        }
    }
}
