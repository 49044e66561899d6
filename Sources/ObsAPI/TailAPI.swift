internal import ObsCore
internal import ObsHash
internal import ObsIngest
internal import ObsLogQL
internal import ObsNet
internal import ObsStore
internal import ObsWire
internal import Synchronization

/// Loki's tail: a WebSocket that first gives the newest entries since `start`, then lines as they are acknowledged (contract loki.md §2).
///
/// The subscription is opened before the past is read, so nothing falls between the two; what both saw is sent once.
struct TailAPI: Sendable {
    let services: Services

    func tail(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        do throws(ObsError) {
            let text = try parameters.required("query")
            if try parseLogQL(text).isMetricQuery { throw ObsError(.badInput, "only log queries can be tailed") }
            let query = try CompiledLogQuery(text)
            let limit = try parameters.int("limit") ?? 100
            let start = try parameters.lokiTime("start") ?? services.clock.nowNanos() - 3600 * nanosPerSecond
            guard limit >= 0, limit <= services.limits.logEntriesMax else {
                throw parameters.invalid("limit", "must be between 0 and \(services.limits.logEntriesMax)")
            }
            let session = TailSession(services: services, text: text, tenant: request.tenant)
            // Before the upgrade: what is acknowledged after the client has its 101 is not missed.
            try session.subscribe(query)
            responder.upgradeToWebSocket { socket in session.open(socket, startNanos: start, limit: limit) }
        } catch {
            responder.send(HTTPResponse(error, .loki))
        }
    }
}

/// A line as it is sent: all its labels together.
private struct TailLine {
    var labels: Labels
    var timeNanos: Int64
    var line: [UInt8]

    init(_ entry: TailEntry) {
        labels = mergeLabelGroups([LogStream(labels: entry.stream, entries: [entry.entry])]).first?.labels ?? entry.stream
        timeNanos = entry.entry.timeNanos
        line = entry.entry.line
    }

    init(labels: Labels, _ entry: LogEntry) {
        self.labels = labels
        timeNanos = entry.timeNanos
        line = entry.line
    }

    /// Tells lines that the past and the live part both have.
    var identity: Hash128 {
        var bytes = labels.bytes
        bytes.appendLittleEndian(timeNanos)
        bytes.append(contentsOf: line)
        return bytes.withUnsafeBytes { hash128($0, key: 0) }
    }
}

/// One client's tail: subscription, past, then live. Lives as long as its socket; a request that never becomes one ends it too.
private final class TailSession: Sendable {
    private let services: Services
    private let text: String
    private let tenant: TenantID
    private struct State {
        var subscription: TailSubscription?
        var socket: (any WebSocket)?
        /// Set while the past is read: live entries wait in their queue.
        var readingPast = true
        /// Entries of the past, to be left out of the first live ones.
        var sent = Set<Hash128>()
        /// Lines that a full socket refused and that the client has not been told of.
        var missed = 0
    }
    private let state = Monitor(State())

    init(services: Services, text: String, tenant: TenantID) {
        self.services = services
        self.text = text
        self.tenant = tenant
    }

    deinit { if let subscription = state.read({ $0.subscription }) { services.tails.unsubscribe(subscription) } }

    /// - Throws: `.overloaded` when too many tails are open.
    func subscribe(_ query: CompiledLogQuery) throws(ObsError) {
        let subscription = try services.tails.subscribe(query, tenant: tenant, queueMax: services.limits.tailQueueMax) { [weak self] in self?.forward() }
        state.update { $0.subscription = subscription }
    }

    func open(_ socket: any WebSocket, startNanos: Int64, limit: Int) {
        let subscription = state.update { state in
            state.socket = socket
            return state.subscription
        }
        // The socket keeps this session until it is closed.
        socket.onClose { [self] in if let subscription { services.tails.unsubscribe(subscription) } }
        guard limit > 0 else { return live() }
        let submitted = services.queries.submit { [self] in
            do throws(ObsError) { try sendPast(to: socket, startNanos: startNanos, limit: limit) } catch {
                return socket.close(code: 1011, reason: String(error.description.prefix(120)))
            }
            live()
        }
        if !submitted { socket.close(code: 1013, reason: "too many queries wait; try again") }
    }

    private func sendPast(to socket: any WebSocket, startNanos: Int64, limit: Int) throws(ObsError) {
        let context = QueryContext(tenant: tenant, limits: services.limits, clock: services.clock)
        let end = max(services.clock.nowNanos() + 60 * nanosPerSecond, startNanos + 1)
        guard
            case .streams(let streams) = try services.logQL.range(
                text, startNanos: startNanos, endNanos: end, stepNanos: nil, intervalNanos: 0, limit: limit, direction: .backward, context: context)
        else { return }
        var lines: [TailLine] = []
        for stream in mergeLabelGroups(streams) { lines += stream.entries.reversed().map { TailLine(labels: stream.labels, $0) } }
        // A stable sort keeps the order of arrival among equal times of a stream.
        let order = lines.indices.sorted { (lines[$0].timeNanos, $0) < (lines[$1].timeNanos, $1) }
        let ordered = order.map { lines[$0] }
        state.update { state in for line in ordered { state.sent.insert(line.identity) } }
        if !ordered.isEmpty { _ = socket.send(text: frame(ordered)) }
    }

    private func live() {
        state.update { $0.readingPast = false }
        forward()
    }

    /// Sends what waits; runs on the hub's thread or, once, on the thread that read the past.
    private func forward() {
        state.update { state in
            guard !state.readingPast, let subscription = state.subscription, let socket = state.socket else { return }
            let taken = subscription.take()
            var lines = taken.entries.map { TailLine($0) }
            if !state.sent.isEmpty { lines.removeAll { state.sent.remove($0.identity) != nil } }
            let missed = taken.dropped.count + state.missed
            if lines.isEmpty, missed == 0 { return }
            if socket.send(text: frame(lines, dropped: taken.dropped.entries, missed: missed)) {
                state.missed = 0
            } else {
                state.missed = missed + lines.count
            }
        }
    }

    private func frame(_ lines: [TailLine], dropped: [(timeNanos: Int64, labels: Labels)] = [], missed: Int = 0) -> [UInt8] {
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.key("streams")
        writer.beginArray()
        // Lines keep their order: a new stream object begins wherever the labels change.
        var at = 0
        while at < lines.count {
            let labels = lines[at].labels
            writer.beginObject()
            writer.key("stream")
            writer.labels(labels)
            writer.key("values")
            writer.beginArray()
            while at < lines.count, lines[at].labels == labels {
                writer.beginArray()
                writer.string(String(lines[at].timeNanos))
                lines[at].line.withUnsafeBytes { writer.string($0) }
                writer.endArray()
                at += 1
            }
            writer.endArray()
            writer.endObject()
        }
        writer.endArray()
        if missed > 0 { write(dropped, missed, &writer) }
        writer.endObject()
        return writer.bytes
    }

    /// Loki names what was dropped; the total is ours.
    private func write(_ dropped: [(timeNanos: Int64, labels: Labels)], _ missed: Int, _ writer: inout JSONWriter) {
        writer.key("dropped_entries")
        writer.beginArray()
        for entry in dropped {
            writer.beginObject()
            writer.member("timestamp", String(entry.timeNanos))
            writer.key("labels")
            writer.labels(entry.labels)
            writer.endObject()
        }
        writer.endArray()
        writer.member("dropped_total", int: missed)
    }
}
