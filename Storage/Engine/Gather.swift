// Rows of many batches copied into one, in the order a segment wants them.

internal import ObsCore

/// Rows gathered before a segment writer gets them.
private let gatherRowsMax = 16_384
private let gatherBytesMax = 32 << 20

/// A table entry of a source batch.
private struct SourceEntry: Hashable {
    var source: UInt32
    var index: UInt32
}

struct LogGather {
    private(set) var batch = LogBatch()
    private var streams: [SourceEntry: UInt32] = [:]
    private var resources: [SourceEntry: UInt32] = [:]
    private var scopes: [SourceEntry: UInt32] = [:]

    var isFull: Bool { batch.count >= gatherRowsMax || batch.bytes.count >= gatherBytesMax }

    mutating func add(_ from: LogBatch, source: UInt32, row: Int) {
        let stream = stream(from, source, from.stream[row])
        let resource = resource(from, source, from.resource[row])
        let scope = scope(from, source, from.scope[row])
        let line = batch.bytes.intern(from.bytes[from.line[row].range])
        let attributes = batch.bytes.intern(from.bytes[from.attributes[row].range])
        batch.appendRow(
            stream: stream, timeNanos: from.timeNanos[row], severity: from.severity[row], line: line, attributes: attributes, traceID: from.traceID[row],
            spanID: from.spanID[row], resource: resource, scope: scope, flags: from.flags[row])
        batch.arrival.append(from.arrival[row])
    }

    private mutating func stream(_ from: LogBatch, _ source: UInt32, _ index: UInt32) -> UInt32 {
        let key = SourceEntry(source: source, index: index)
        if let known = streams[key] { return known }
        batch.streams.append(batch.bytes.intern(from.bytes[from.streams[Int(index)].range]))
        streams[key] = UInt32(batch.streams.count - 1)
        return UInt32(batch.streams.count - 1)
    }

    private mutating func resource(_ from: LogBatch, _ source: UInt32, _ index: UInt32) -> UInt32 {
        if index == 0 { return 0 }
        let key = SourceEntry(source: source, index: index)
        if let known = resources[key] { return known }
        batch.resources.append(batch.bytes.intern(from.bytes[from.resources[Int(index)].range]))
        resources[key] = UInt32(batch.resources.count - 1)
        return UInt32(batch.resources.count - 1)
    }

    private mutating func scope(_ from: LogBatch, _ source: UInt32, _ index: UInt32) -> UInt32 {
        if index == 0 { return 0 }
        let key = SourceEntry(source: source, index: index)
        if let known = scopes[key] { return known }
        batch.scopes.append(batch.bytes.intern(from.bytes[from.scopes[Int(index)].range]))
        scopes[key] = UInt32(batch.scopes.count - 1)
        return UInt32(batch.scopes.count - 1)
    }
}

struct SpanGather {
    private(set) var batch = SpanBatch()
    private var resources: [SourceEntry: UInt32] = [:]
    private var scopes: [SourceEntry: UInt32] = [:]

    var isFull: Bool { batch.count >= gatherRowsMax || batch.bytes.count >= gatherBytesMax }

    mutating func add(_ from: SpanBatch, source: UInt32, row: Int) {
        let resource = resource(from, source, from.resource[row])
        let scope = scope(from, source, from.scope[row])
        var bytes = batch.bytes
        batch.bytes = []  // so that `bytes` is the only owner and grows in place
        func copy(_ range: ByteRange) -> ByteRange { range.isEmpty ? .empty : bytes.intern(from.bytes[range.range]) }
        batch.appendRow(
            traceID: from.traceID[row], spanID: from.spanID[row], parentID: from.parentID[row], startNanos: from.startNanos[row],
            durationNanos: from.durationNanos[row], kind: from.kind[row], status: from.status[row], flags: from.flags[row], name: copy(from.name[row]),
            statusMessage: copy(from.statusMessage[row]), traceState: copy(from.traceState[row]), attributes: copy(from.attributes[row]),
            events: copy(from.events[row]), links: copy(from.links[row]), dropped: copy(from.dropped[row]), resource: resource, scope: scope)
        batch.bytes = bytes
    }

    private mutating func resource(_ from: SpanBatch, _ source: UInt32, _ index: UInt32) -> UInt32 {
        // Entry 0 is the empty resource in every batch, but its service name may differ from none.
        if index == 0, from.services[0].isEmpty { return 0 }
        let key = SourceEntry(source: source, index: index)
        if let known = resources[key] { return known }
        batch.resources.append(batch.bytes.intern(from.bytes[from.resources[Int(index)].range]))
        batch.services.append(batch.bytes.intern(from.bytes[from.services[Int(index)].range]))
        resources[key] = UInt32(batch.resources.count - 1)
        return UInt32(batch.resources.count - 1)
    }

    private mutating func scope(_ from: SpanBatch, _ source: UInt32, _ index: UInt32) -> UInt32 {
        if index == 0 { return 0 }
        let key = SourceEntry(source: source, index: index)
        if let known = scopes[key] { return known }
        batch.scopes.append(batch.bytes.intern(from.bytes[from.scopes[Int(index)].range]))
        scopes[key] = UInt32(batch.scopes.count - 1)
        return UInt32(batch.scopes.count - 1)
    }
}
