// Records that came twice (a sender's retry) and must be read once.
//
// Only rows that could have a twin are hashed: those whose time lies where two sources overlap, or in a batch that may repeat itself. A twin has the same
// time, so a row outside these zones has none.

internal import ObsCore
internal import ObsHash

/// Times in which two sources overlap, as sorted, disjoint, inclusive ranges.
struct OverlapZones {
    private var zones: [ClosedRange<Int64>] = []

    /// - Parameter ranges: time range of each source; one that may repeat itself is given twice.
    init(_ ranges: [ClosedRange<Int64>]) {
        var end: Int64?
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let reached = end, range.lowerBound <= reached { add(range.lowerBound...min(reached, range.upperBound)) }
            end = max(end ?? range.upperBound, range.upperBound)
        }
    }

    private mutating func add(_ zone: ClosedRange<Int64>) {
        if let last = zones.last, zone.lowerBound <= last.upperBound {
            zones[zones.count - 1] = last.lowerBound...max(last.upperBound, zone.upperBound)
        } else {
            zones.append(zone)
        }
    }

    func contains(_ time: Int64) -> Bool {
        var low = 0
        var high = zones.count
        while low < high {
            let middle = (low + high) / 2
            if zones[middle].upperBound < time { low = middle + 1 } else { high = middle }
        }
        return low < zones.count && zones[low].lowerBound <= time
    }

    func overlaps(_ range: ClosedRange<Int64>) -> Bool {
        zones.contains { $0.overlaps(range) }
    }

    /// The zones that have times in common with a range.
    func within(_ range: ClosedRange<Int64>) -> [ClosedRange<Int64>] { zones.filter { $0.overlaps(range) } }
}

/// Streams and times as 64-bit keys, and those that more than one source has: rows with any other key have no twin, and need not be read to know it.
struct SharedKeys {
    /// The source of each key; nil when it is there twice.
    private var sources: [UInt64: Int?] = [:]
    private(set) var count = 0

    /// - Parameter source: nil for one that may repeat itself.
    mutating func add(_ key: UInt64, source: Int?) {
        guard let known = sources[key] else {
            // One that may repeat itself counts as two.
            sources[key] = .some(source)
            count += 1
            return
        }
        if known != source { sources[key] = .some(nil) }
    }

    func isShared(_ key: UInt64) -> Bool {
        guard let source = sources[key] else { return false }
        return source == nil
    }

    var hasShared: Bool { sources.values.contains { $0 == nil } }

    static func key(_ stream: UInt64, _ timeNanos: Int64) -> UInt64 {
        var parts = (stream, timeNanos)
        return withUnsafeBytes(of: &parts) { hash64($0) }
    }

    static func stream(_ labels: UnsafeRawBufferPointer) -> UInt64 { hash64(labels) }
}

/// Identities seen in one scan.
struct SeenRows {
    private var seen: Set<Hash128> = []

    /// False when the identity was there already.
    mutating func insert(_ identity: Hash128) -> Bool { seen.insert(identity).inserted }
}

/// Rows as 128-bit identities: equal rows, equal identities.
enum RowIdentity {
    /// What makes two log records the same: stream, time, line, attributes (and the ids that are attributes on the wire).
    static func log(_ batch: LogBatch, row: Int, bytes: UnsafeRawBufferPointer) -> Hash128 {
        func hash(_ range: ByteRange) -> UInt64 { hash64(UnsafeRawBufferPointer(rebasing: bytes[range.range])) }
        var parts = (
            hash(batch.streams[Int(batch.stream[row])]), UInt64(bitPattern: batch.timeNanos[row]), hash(batch.line[row]), hash(batch.attributes[row]),
            batch.traceID[row].high ^ batch.spanID[row], batch.traceID[row].low
        )
        return withUnsafeBytes(of: &parts) { hash128($0, key: 0) }
    }

    /// All columns of a span.
    static func span(_ batch: SpanBatch, row: Int, bytes: UnsafeRawBufferPointer) -> Hash128 {
        func hash(_ range: ByteRange) -> UInt64 { hash64(UnsafeRawBufferPointer(rebasing: bytes[range.range])) }
        var ids = (
            batch.traceID[row].high, batch.traceID[row].low, batch.spanID[row], batch.parentID[row], UInt64(bitPattern: batch.startNanos[row]),
            UInt64(bitPattern: batch.durationNanos[row])
        )
        var texts = (
            hash(batch.name[row]), hash(batch.attributes[row]), hash(batch.events[row]), hash(batch.links[row]),
            hash(batch.resources[Int(batch.resource[row])]),
            hash(batch.scopes[Int(batch.scope[row])])
        )
        var rest = (
            hash(batch.statusMessage[row]), hash(batch.traceState[row]), hash(batch.dropped[row]),
            UInt64(batch.kind[row]) << 40 | UInt64(batch.status[row]) << 32 | UInt64(batch.flags[row])
        )
        let a = withUnsafeBytes(of: &ids) { hash128($0, key: 0) }
        let b = withUnsafeBytes(of: &texts) { hash128($0, key: a.low) }
        let c = withUnsafeBytes(of: &rest) { hash128($0, key: b.low) }
        return Hash128(low: c.low, high: a.high ^ b.high ^ c.high)
    }
}
