// What is written here goes on to other servers: each `remote_write` entry has a queue on disk and a sender.
//
// A request is forwarded after it is stored and before it is answered: a sender that gets no answer sends it again. What nobody would send again (scrapes, outputs
// of rules) is put into the queues before it is stored: a kill in between then sends on what this server lost, and not the other way round.
package import ObsCore
internal import ObsHash
internal import ObsNet
package import ObsStore
internal import ObsWire
internal import Synchronization

/// Where queues are; the keeping side's, see `BatchQueue`.
package protocol BatchQueues: Sendable {
    /// Opens the queue of a receiver, or makes it.
    /// - Parameter receiver: a name that folders can have.
    func open(_ receiver: String) throws(ObsError) -> any BatchQueue
    /// Removes the queues of all others, which nobody sends any more.
    func keep(only receivers: Set<String>) throws(ObsError)
}

package final class Forwarding: Sendable {
    private struct Receiver {
        var sender: RemoteWriteSender
        var series: ForwardedSeries
    }

    private struct State {
        var receivers: [Receiver] = []
        var isStopping = false
        var isSyncing = false
    }

    private let queues: any BatchQueues
    private let clock: any Clock
    private let userAgent: String
    private let families = ForwardedFamilies()
    private let state = Monitor(State())
    /// One request after the other, in the order of their answers.
    private let hand = WorkerPool(name: "forward", threads: 1, queueMax: 1_000_000, stackBytes: 1 << 20)
    private let loop: HTTPClientLoop

    private static let syncMillis: Int64 = 1000

    package init(queues: any BatchQueues, clock: any Clock = SystemClock(), userAgent: String = "obsd") {
        self.queues = queues
        self.clock = clock
        self.userAgent = userAgent
        loop = HTTPClientLoop(name: "forward-net")
    }

    // MARK: - Configuration

    /// Puts entries in force. One that did not change goes on; of one that did, the queue stays. Queues of entries that are gone are removed.
    /// - Parameter queueAgeMillis: batches that waited longer are not sent any more; 0 sends all.
    /// - Throws: when a queue cannot be opened; its entry is left out then, and the others are in force.
    package func apply(_ entries: [RemoteWriteConfiguration], queueAgeMillis: Int64 = 0) throws(ObsError) {
        var failure: ObsError?
        let former = state.read { $0.receivers }
        let kept = former.filter { old in
            entries.contains { $0.identity == old.sender.configuration.identity && $0.fingerprint == old.sender.configuration.fingerprint }
        }
        let ended = former.filter { old in !kept.contains { $0.sender === old.sender } }
        state.update { $0.receivers = kept }
        for receiver in ended { receiver.sender.interrupt() }
        for receiver in ended { receiver.sender.join() }
        for entry in entries where !kept.contains(where: { $0.sender.configuration.identity == entry.identity }) {
            do throws(ObsError) {
                // A queue is opened once: batches may be on their way into it.
                let known = ended.first { $0.sender.configuration.identity == entry.identity }?.sender.queue
                let queue: any BatchQueue
                if let known { queue = known } else { queue = try queues.open(Self.folderName(entry)) }
                let sender = RemoteWriteSender(
                    entry, queue: queue, queueAgeMillis: queueAgeMillis, families: families, loop: loop, clock: clock,
                    userAgent: userAgent)
                state.update { $0.receivers.append(Receiver(sender: sender, series: ForwardedSeries(entry))) }
            } catch {
                failure = error
            }
        }
        do throws(ObsError) { try queues.keep(only: Set(entries.map { Self.folderName($0) })) } catch {
            DiagnosticLog.warn("remote write: queues of former receivers are not removed", [("error", error.description)])
        }
        startSyncing()
        if let failure { throw failure }
    }

    /// The same for the same entry, whatever characters its name has.
    private static func folderName(_ entry: RemoteWriteConfiguration) -> String {
        hexString([UInt8](Digest.md5.hash(entry.identity.utf8).prefix(8)))
    }

    private func startSyncing() {
        let starts = state.read { state in
            defer { state.isSyncing = true }
            return !state.isSyncing && !state.receivers.isEmpty
        }
        guard starts else { return state.read { if $0.receivers.isEmpty { $0.isSyncing = false } } }
        startThread("forward-sync") { [self] in
            while state.wait(timeoutNanos: Self.syncMillis * nanosPerMilli, until: { $0.isStopping ? () : nil }) == nil {
                let queues = state.read { $0.receivers.map(\.sender.queue) }
                for queue in queues { sync(queue) }
            }
        }
    }

    private func sync(_ queue: any BatchQueue) {
        do throws(ObsError) { try queue.sync() } catch {
            DiagnosticLog.error("remote write: a queue cannot be synced", [("error", error.description)])
        }
    }

    /// Stops sending; what is queued is sent after the next start.
    package func stop() {
        state.update { $0.isStopping = true }
        hand.stop()
        let receivers = state.read { $0.receivers }
        for receiver in receivers { receiver.sender.interrupt() }
        for receiver in receivers { receiver.sender.join() }
        loop.stop()
        for receiver in receivers { sync(receiver.sender.queue) }
    }

    // MARK: - Batches

    package var isActive: Bool { state.read { !$0.receivers.isEmpty } }

    /// Puts a batch into all queues, now.
    package func take(_ batch: MetricBatch) {
        let receivers = state.read { $0.receivers }
        guard !receivers.isEmpty else { return }
        families.take(batch)
        let now = clock.nowMillis()
        for receiver in receivers {
            let wanted = receiver.series.take(batch)
            guard wanted.sampleCount > 0 else { continue }
            do throws(ObsError) {
                try receiver.sender.queue.append(wanted, nowMillis: now)
                receiver.sender.counts.queued(newestMillis: max(wanted.timesMillis.max() ?? 0, wanted.histograms.timesMillis.max() ?? 0))
            } catch {
                receiver.sender.counts.dropped(wanted.sampleCount, .queueFailed)
                DiagnosticLog.error("remote write: samples are not queued", [("receiver", receiver.sender.configuration.title), ("error", error.description)])
            }
        }
    }

    /// Puts a batch into all queues on another thread, and then runs `completion`.
    package func take(_ batch: MetricBatch, completion: @escaping @Sendable () -> Void) {
        guard isActive,
            hand.submit({ [self] in
                take(batch); completion()
            })
        else { return completion() }
    }

    /// What tests ask.
    var receivers: [RemoteWriteSender] { state.read { $0.receivers.map(\.sender) } }
}

/// Type, help and unit of the families that came by, for receivers.
final class ForwardedFamilies: Sendable {
    private let known = Mutex<[[UInt8]: RemoteWriteFamily]>([:])

    /// More are not remembered: families are few, unless somebody makes them up.
    private static let familiesMax = 100_000

    func take(_ batch: MetricBatch) {
        guard !batch.metadata.isEmpty else { return }
        known.withLock { known in
            for entry in batch.metadata {
                let name = Array(batch.bytes[entry.family.range])
                if known[name] == nil, known.count >= Self.familiesMax { continue }
                known[name] = RemoteWriteFamily(type: entry.type, help: Array(batch.bytes[entry.help.range]), unit: Array(batch.bytes[entry.unit.range]))
            }
        }
    }

    func all() -> [(name: [UInt8], family: RemoteWriteFamily)] {
        known.withLock { $0.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { (name: $0.key, family: $0.value) } }
    }

    /// Of the family itself, or the one a series is a part of (`_bucket`, `_sum`, `_count`, and `_total` of OpenMetrics).
    func family(ofSeries name: [UInt8]) -> RemoteWriteFamily? {
        known.withLock { known in
            if let own = known[name] { return own }
            guard let underscore = name.lastIndex(of: UInt8(ascii: "_")) else { return nil }
            let suffix = name[underscore...]
            guard ["_bucket", "_sum", "_count", "_total"].contains(where: { suffix.elementsEqual($0.utf8) }) else { return nil }
            return known[Array(name[..<underscore])]
        }
    }
}
