// One signal's keeping: the head generations, the log they are written ahead to, the segments they become.
//
// One lock orders everything. `append` decides, applies to the head and hands the record to the log under it, so that head and log have the same order and replay
// repeats it. Readers take a snapshot under it. A flush swaps a generation for its segments under it, so that no reader sees a record twice or not at all.

internal import ObsCore
internal import ObsHash
internal import ObsStore

final class SignalStore<Head: SignalHead>: @unchecked Sendable {  // all mutable state is inside `state`
    struct State {
        var active: Generation<Head>
        /// Generations being flushed, oldest first.
        var sealed: [Generation<Head>] = []
        var isStopping = false
    }

    let state: Monitor<State>
    private let configuration: EngineConfiguration
    private let clock: any Clock
    private let secret: UInt64

    init(_ configuration: EngineConfiguration, clock: any Clock, secret: UInt64) {
        self.configuration = configuration
        self.clock = clock
        self.secret = secret
        state = Monitor(State(active: Generation(firstSequence: 1, createdNanos: clock.monotonicNanos())))
    }

    func append(_ batch: Head.Batch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        let prepared = Head.prepare(batch, secret: secret)
        let floor = floor(receivedAtNanos: origin.receivedAtNanos)
        let result: Result<AppendOutcome, ObsError> = state.read { state in
            if state.isStopping { return .failure(ObsError(.unavailable, "store is stopping", retryAfterSeconds: 5)) }
            let sequence = state.active.endSequence
            let outcome = state.active.head(origin.tenant).append(
                batch, prepared: prepared, sequence: sequence, floor: floor, limits: configuration.limits)
            state.active.endSequence += 1
            return .success(outcome)
        }
        completion(result)
    }

    /// The oldest time (in the signal's unit) a record received then may have.
    private func floor(receivedAtNanos: Int64) -> Int64 {
        guard let retention = configuration.retentionMillis else { return .min }
        let millis = floorDivide(receivedAtNanos, nanosPerMilli).subtractingReportingOverflow(retention)
        let ticks = millis.partialValue.multipliedReportingOverflow(by: Head.ticksPerMilli)
        return millis.overflow || ticks.overflow ? .min : ticks.partialValue
    }

    /// Heads of a tenant, oldest generation first.
    func heads(_ tenant: TenantID, _ body: (Head) -> Void) {
        state.read { state in
            for generation in state.sealed + [state.active] {
                if let head = generation.heads[tenant] { body(head) }
            }
        }
    }

    func locked(_ body: () -> Void) { state.read { _ in body() } }

    func status() -> StoreStatus.SignalStatus {
        state.read { state in
            var status = StoreStatus.SignalStatus(signal: Head.signal)
            for generation in state.sealed + [state.active] {
                status.headRows += Int64(generation.rowCount)
                status.headBytes += Int64(generation.usedBytes)
                status.headSeries += generation.seriesCount
                status.walBytes += Int64(generation.walBytes)
            }
            return status
        }
    }
}
