internal import Glibc

/// Threads that help a query with its blocks or series. The query's own thread works too, so a query never waits for another's work to be done first; of a store whose
/// schedule is its test's, nobody helps.
package final class ScanWorkers: Sendable {
    private let pool: WorkerPool?
    private let helpers: Int

    /// - Parameter threads: beside the query's own.
    package init(threads: Int) {
        helpers = threads
        pool = threads > 0 ? WorkerPool(name: "scan", threads: threads, queueMax: 4096) : nil
    }

    /// One fewer than there are processors.
    package static var threadsDefault: Int { max(0, min(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 32) - 1) }

    /// Whether anybody helps.
    package var helps: Bool { helpers > 0 }
    /// Threads at work on one query, its own among them.
    package var threadCount: Int { helpers + 1 }

    package func stop() { pool?.stop() }

    private struct State {
        var next = 0
        var running = 0
        var failure: ObsError?
    }

    /// Calls `body` with 0..<count, on any thread and in any order; ends when all are done. The first error ends it early and is thrown.
    package func forEach(_ count: Int, _ body: @escaping @Sendable (Int) throws(ObsError) -> Void) throws(ObsError) {
        let state = Monitor(State())
        @Sendable func work() {
            while let index = state.read({ Self.take(&$0, of: count) }) {
                var failure: ObsError?
                do throws(ObsError) { try body(index) } catch { failure = error }
                state.update { state in
                    state.running -= 1
                    if let failure, state.failure == nil { state.failure = failure }
                }
            }
        }
        // A helper that comes too late finds nothing to do.
        for _ in 0..<min(helpers, count - 1) { _ = pool?.submit { work() } }
        work()
        let failure: ObsError? = state.wait { $0.running == 0 ? .some($0.failure) : nil } ?? nil
        if let failure { throw failure }
    }

    /// The results of `body` for 0..<count.
    package func map<R: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) throws(ObsError) -> R) throws(ObsError) -> [R] {
        if count == 1 { return [try body(0)] }
        let results = Monitor([R?](repeating: nil, count: count))
        try forEach(count) { index throws(ObsError) in
            let result = try body(index)
            results.read { $0[index] = result }
        }
        return results.read { $0.compactMap { $0 } }
    }

    private static func take(_ state: inout State, of count: Int) -> Int? {
        guard state.failure == nil, state.next < count else { return nil }
        state.next += 1
        state.running += 1
        return state.next - 1
    }
}
