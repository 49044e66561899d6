internal import ObsCore
internal import ObsStore

/// Gathers the spans of some traces, each trace into a batch of its own.
final class TraceCollector: SpanSink {
    private struct Key: Hashable {
        var span: SpanID
        var kind: UInt8
    }

    private struct Trace {
        var batch = SpanBatch()
        /// A span sent twice with a change (a retry) counts once; Zipkin's client and server half share an id but not a kind.
        var seen: Set<Key> = []
    }

    private let context: QueryContext
    private var traces: [TraceID: Trace] = [:]
    private var heldBytes = 0

    init(context: QueryContext) { self.context = context }

    func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) {
        try context.check()
        context.count(rows: rows.count)
        var before = 0
        var copiers: [TraceID: SpanCopier] = [:]
        for row in rows {
            let id = batch.traceID[row]
            if traces[id] == nil { traces[id] = Trace() }
            guard traces[id]?.seen.insert(Key(span: batch.spanID[row], kind: batch.kind[row])).inserted == true else { continue }
            var copier = copiers.removeValue(forKey: id) ?? SpanCopier()
            // In place: a copy of the batch each time would be quadratic.
            withTrace(id) { copier.copy(batch, row, into: &$0.batch) }
            copiers[id] = copier
            before += 122 + Int(batch.attributes[row].count) + Int(batch.events[row].count) + Int(batch.links[row].count)
        }
        heldBytes += before
        try context.charge(bytes: before)
    }

    private func withTrace(_ id: TraceID, _ body: (inout Trace) -> Void) { body(&traces[id, default: Trace()]) }

    /// The traces, each with its spans in start order. Empties the collector.
    func take() -> [TraceID: SpanBatch] {
        defer {
            traces = [:]
            context.release(bytes: heldBytes)
            heldBytes = 0
        }
        return traces.mapValues { sorted($0.batch) }
    }

    private func sorted(_ batch: SpanBatch) -> SpanBatch {
        let order = (0..<batch.count).sorted {
            batch.startNanos[$0] != batch.startNanos[$1] ? batch.startNanos[$0] < batch.startNanos[$1] : $0 < $1
        }
        if order.elementsEqual(0..<batch.count) { return batch }
        var result = batch
        func permute<T>(_ column: [T]) -> [T] { order.map { column[$0] } }
        result.traceID = permute(batch.traceID)
        result.spanID = permute(batch.spanID)
        result.parentID = permute(batch.parentID)
        result.startNanos = permute(batch.startNanos)
        result.durationNanos = permute(batch.durationNanos)
        result.kind = permute(batch.kind)
        result.status = permute(batch.status)
        result.flags = permute(batch.flags)
        result.name = permute(batch.name)
        result.statusMessage = permute(batch.statusMessage)
        result.traceState = permute(batch.traceState)
        result.attributes = permute(batch.attributes)
        result.events = permute(batch.events)
        result.links = permute(batch.links)
        result.dropped = permute(batch.dropped)
        result.resource = permute(batch.resource)
        result.scope = permute(batch.scope)
        return result
    }
}

/// Copies rows of one batch into another; tables are copied once.
private struct SpanCopier {
    private var resources: [UInt32: UInt32] = [0: 0]
    private var scopes: [UInt32: UInt32] = [0: 0]

    mutating func copy(_ from: SpanBatch, _ row: Int, into to: inout SpanBatch) {
        func text(_ range: ByteRange) -> ByteRange { range.isEmpty ? .empty : to.bytes.intern(from.bytes[range.range]) }
        let resource = from.resource[row]
        if resources[resource] == nil {
            resources[resource] = UInt32(to.resources.count)
            let attributes = text(from.resources[Int(resource)])
            to.resources.append(attributes)
            let service = text(from.services[Int(resource)])
            to.services.append(service)
        }
        let scope = from.scope[row]
        if scopes[scope] == nil {
            scopes[scope] = UInt32(to.scopes.count)
            let attributes = text(from.scopes[Int(scope)])
            to.scopes.append(attributes)
        }
        let texts = [
            from.name[row], from.statusMessage[row], from.traceState[row], from.attributes[row], from.events[row], from.links[row], from.dropped[row],
        ].map { text($0) }
        to.appendRow(
            traceID: from.traceID[row], spanID: from.spanID[row], parentID: from.parentID[row], startNanos: from.startNanos[row],
            durationNanos: from.durationNanos[row], kind: from.kind[row], status: from.status[row], flags: from.flags[row], name: texts[0],
            statusMessage: texts[1], traceState: texts[2], attributes: texts[3], events: texts[4], links: texts[5], dropped: texts[6],
            resource: resources[resource] ?? 0, scope: scopes[scope] ?? 0)
    }
}
