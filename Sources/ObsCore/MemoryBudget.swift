// One ceiling for the memory of the process, and who may hold how much of it.
//
// A process that takes what it is sent is killed by the system sooner or later, and with it goes everything it did for everyone else. So what grows with
// input is entered in an account before it is taken, and what finds no room is refused with an answer that says which bound it met. Bounds are shares of one
// number, `--memory` (`MemoryShares`), so that nobody needs to add up settings.
//
// Two bounds hold at every reservation: the account's own, and the total's. The cache is the only account whose bytes anybody else may have: before a reservation
// fails on the total, the caches are emptied. So shares may add up to more than the whole, by the cache's.
//
// Accounts count what is asked for, not what the allocator takes: a part of the ceiling stays out of all shares for fragmentation, stacks and code.
internal import Synchronization

package final class MemoryBudget: Sendable {
    /// The ceiling of the process, from which all shares come.
    package let ceilingBytes: Int
    /// Data not yet in segments.
    package let head: MemoryAccount
    /// Decoded blocks of segments, given back under pressure.
    package let cache: MemoryAccount
    /// What running queries hold.
    package let queries: MemoryAccount
    /// Request bodies from their first byte to their answer, and what decoding makes of them.
    package let ingest: MemoryAccount
    /// What writing segments takes beside the rows themselves: flushes and merges.
    package let segments: MemoryAccount
    private let pool: MemoryPool

    package init(_ shares: MemoryShares) {
        ceilingBytes = shares.ceilingBytes
        pool = MemoryPool(bytesMax: shares.accountedBytesMax)
        head = MemoryAccount("head", bytesMax: shares.headBytesMax, ceilingBytes, pool)
        cache = MemoryAccount("cache", bytesMax: shares.cacheBytesMax, ceilingBytes, pool)
        queries = MemoryAccount("queries", bytesMax: shares.queriesBytesMax, ceilingBytes, pool)
        ingest = MemoryAccount("ingest", bytesMax: shares.ingestBytesMax, ceilingBytes, pool)
        segments = MemoryAccount("segments", bytesMax: shares.segmentsBytesMax, ceilingBytes, pool)
    }

    /// For parts of the program that run alone, in tests and tools: accounts that refuse nothing.
    package static let unbounded = MemoryBudget(MemoryShares(ceilingBytes: 1 << 60))

    package var accounts: [MemoryAccount] { [head, cache, queries, ingest, segments] }
    /// Bytes in all accounts.
    package var usedBytes: Int { pool.usedBytes }

    /// Adds what gives memory back when there is too little; called from whichever thread is short of it, without any lock of ours.
    package func onPressure(_ giveBack: @escaping @Sendable () -> Void) { pool.onPressure(giveBack) }

    /// Shows the accounts at `/metrics`.
    package func registerMetrics() {
        SelfMetrics.gauge("obsd_memory_limit_bytes", help: "Ceiling of the process's memory (memory).") { [ceilingBytes] in Double(ceilingBytes) }
        for account in accounts {
            let labels = Labels([("account", account.name)])
            SelfMetrics.gauge("obsd_memory_used_bytes", help: "Memory in use, by account.", labels: labels) { Double(account.usedBytes) }
            SelfMetrics.gauge("obsd_memory_account_limit_bytes", help: "Most memory an account may have.", labels: labels) { Double(account.bytesMax) }
            SelfMetrics.counter("obsd_memory_refusals_total", help: "Times an account had no room.", labels: labels) { Double(account.refusals) }
        }
    }
}

/// The bytes of all accounts together.
final class MemoryPool: Sendable {
    private let bytesMax: Int
    private let used = Atomic<Int>(0)
    private let givers = Mutex<[@Sendable () -> Void]>([])

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    var usedBytes: Int { used.load(ordering: .relaxed) }

    func onPressure(_ giveBack: @escaping @Sendable () -> Void) { givers.withLock { $0.append(giveBack) } }

    func hold(_ bytes: Int) { used.wrappingAdd(bytes, ordering: .relaxed) }

    /// False when there is no room even after caches were emptied; then nothing is held.
    func reserve(_ bytes: Int) -> Bool {
        if used.wrappingAdd(bytes, ordering: .relaxed).newValue <= bytesMax { return true }
        for giveBack in givers.withLock({ $0 }) { giveBack() }
        if usedBytes <= bytesMax { return true }
        hold(-bytes)
        return false
    }
}

/// One purpose's share of a `MemoryBudget`. All members are atomic.
package final class MemoryAccount: Sendable {
    package let name: String
    package let bytesMax: Int
    private let ceilingBytes: Int
    private let pool: MemoryPool
    private let used = Atomic<Int>(0)
    private let refused = Atomic<Int>(0)

    init(_ name: String, bytesMax: Int, _ ceilingBytes: Int, _ pool: MemoryPool) {
        self.name = name
        self.bytesMax = bytesMax
        self.ceilingBytes = ceilingBytes
        self.pool = pool
    }

    package var usedBytes: Int { used.load(ordering: .relaxed) }
    /// Reservations that failed.
    package var refusals: Int { refused.load(ordering: .relaxed) }

    /// Takes bytes if there is room; give the same number back with `release`. A failure is counted.
    package func reserve(_ bytes: Int) -> Bool {
        guard bytes > 0 else { return true }
        if bytes <= bytesMax {
            if used.wrappingAdd(bytes, ordering: .relaxed).newValue <= bytesMax, pool.reserve(bytes) { return true }
            used.wrappingSubtract(bytes, ordering: .relaxed)
        }
        countRefusal()
        return false
    }

    /// Takes bytes past this account's own bound when as many are left to all others besides: for work that must go on and cannot be made smaller.
    package func borrow(_ bytes: Int) -> Bool {
        guard pool.reserve(2 * bytes) else { return false }
        pool.hold(-bytes)
        used.wrappingAdd(bytes, ordering: .relaxed)
        return true
    }

    /// Whether `bytes` more would be within this account's own bound now.
    package func hasRoom(for bytes: Int) -> Bool { bytes <= bytesMax - usedBytes }

    /// Enters bytes that are held already and cannot be refused.
    package func hold(_ bytes: Int) {
        used.wrappingAdd(bytes, ordering: .relaxed)
        pool.hold(bytes)
    }

    package func release(_ bytes: Int) { hold(-bytes) }

    package func countRefusal() { refused.wrappingAdd(1, ordering: .relaxed) }

    /// Why `bytes` more were refused, for the answer: limit, value and setting.
    package func refusalReason(_ bytes: Int) -> String {
        "\(bytes) bytes more are over the memory for \(name): \(usedBytes) of \(bytesMax) bytes are in use (a share of memory, \(ceilingBytes) bytes)"
    }
}

/// What one request or task holds of an account; all of it goes back at `end`, or when the reservation is dropped.
package final class MemoryReservation: Sendable {
    private let account: MemoryAccount
    private let held = Atomic<Int>(0)

    package init(_ account: MemoryAccount) { self.account = account }

    deinit { end() }

    package var heldBytes: Int { held.load(ordering: .relaxed) }

    /// - Throws: `.throttled` when the account is full; nothing is taken then.
    package func grow(_ bytes: Int) throws(ObsError) {
        guard account.reserve(bytes) else { throw ObsError(.throttled, "\(account.refusalReason(bytes)); retry later", retryAfterSeconds: 1) }
        held.wrappingAdd(bytes, ordering: .relaxed)
    }

    package func end() { account.release(held.exchange(0, ordering: .relaxed)) }
}
