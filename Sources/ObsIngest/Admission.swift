internal import ObsCore
internal import Synchronization

/// How many bytes of requests may be on their way in at once. Past that a client is told to come back, instead of the process growing until it is killed:
/// a stalled disk shows here first, since requests wait for their sync.
final class Admission: Sendable {
    private let bytesMax: Int
    private let inFlight = Atomic<Int>(0)
    private let refused = SelfMetrics.counter(
        "obs_ingest_refused_total", help: "Requests refused because too many bytes were in flight (ingest.bytes-in-flight-max).")

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    /// Takes bytes from the allowance; give the same number back with `leave`. One request of any size may always enter an idle pipeline.
    /// - Throws: `.overloaded`.
    func enter(bytes: Int) throws(ObsError) {
        let (old, new) = inFlight.wrappingAdd(bytes, ordering: .relaxed)
        guard new <= bytesMax || old == 0 else {
            leave(bytes: bytes)
            refused.add()
            throw ObsError(
                .overloaded, "more than \(bytesMax) bytes of requests are in flight (ingest.bytes-in-flight-max); retry later", retryAfterSeconds: 1)
        }
    }

    func leave(bytes: Int) { inFlight.wrappingSubtract(bytes, ordering: .relaxed) }

    var bytesInFlight: Int { inFlight.load(ordering: .relaxed) }
}
