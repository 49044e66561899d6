// How long what is stored is kept: bounds on bytes, and rules that keep some rows for a shorter time than the rest.
//
// A rule is a deletion that moves with the clock: rows it governs are hidden from the moment they are older than it keeps, in segments and heads. They
// leave the disk with the merges that come by, and at the latest when the newest row of their segment is that old: then the segment is dropped if nothing of it
// is left, else written once more without them. So a rule costs one rewriting of a segment at most, whatever share of it the rule governs. A segment of more than two
// days (small ones are, and one with a row of a wrong time) does not wait that long: it is looked at when a day of it is past, then two, four, eight. A segment
// that no merge has taken yet is given another day: its merge may do it for nothing.

package import ObsCore
internal import ObsSegment
package import ObsStore

/// Rows of a signal that are kept for a shorter time than the rest.
package struct RetentionRule: Sendable {
    package var signal: Signal
    /// Nil for every tenant.
    package var tenant: TenantID?
    /// All must hold; none governs every row. On labels of series and streams; on `service`, `name` and `trace_id` of spans.
    package var matchers: [LabelMatcher]
    package var keepMillis: Int64
    /// Of the rules that a row satisfies the one of the highest priority governs it; of several, the one that keeps it for the shortest time.
    package var priority: Int

    /// - Throws: `.badInput` for a rule on labels that spans do not have, or one that keeps nothing.
    package init(_ signal: Signal, tenant: TenantID? = nil, _ matchers: [LabelMatcher], keepMillis: Int64, priority: Int = 0) throws(ObsError) {
        guard keepMillis > 0 else { throw ObsError(.badInput, "rows must be kept for some time") }
        if signal == .traces { try SpanLabel.check(matchers) }
        self.signal = signal
        self.tenant = tenant
        self.matchers = matchers
        self.keepMillis = keepMillis
        self.priority = priority
    }
}

/// What is kept beside the bound on age. May be changed while the engine runs.
package struct RetentionBounds: Sendable {
    /// Bytes of segments, all tenants and signals together; nil for no bound. The log comes on top.
    package var bytes: Int64?
    /// The same for single signals.
    package var bytesBySignal: [Signal: Int64] = [:]
    /// The same for single tenants.
    package var bytesByTenant: [TenantID: Int64] = [:]
    /// The same for each tenant that `bytesByTenant` does not name.
    package var bytesEachTenant: Int64?
    package var rules: [RetentionRule] = []

    package init() {}
}

/// The bounds in force, and what their rules say now.
final class Retention: Sendable {
    private struct State {
        var bounds: RetentionBounds
        /// Changes with the rules.
        var version: UInt64 = 0
    }

    private let clock: any Clock
    private let state: Monitor<State>

    init(_ bounds: RetentionBounds, _ clock: any Clock) {
        self.clock = clock
        state = Monitor(State(bounds: Self.ordered(bounds)))
    }

    var bounds: RetentionBounds { state.read { $0.bounds } }
    var version: UInt64 { state.read { $0.version } }

    func set(_ bounds: RetentionBounds) {
        state.read { state in
            state.bounds = Self.ordered(bounds)
            state.version += 1
        }
    }

    private static func ordered(_ bounds: RetentionBounds) -> RetentionBounds {
        var bounds = bounds
        bounds.rules.sort { ($1.priority, $0.keepMillis) < ($0.priority, $1.keepMillis) }
        return bounds
    }

    func bytesMax(of tenant: TenantID) -> Int64? { state.read { $0.bounds.bytesByTenant[tenant] ?? $0.bounds.bytesEachTenant } }

    /// What is past in a tenant at this moment.
    func expiry(_ tenant: TenantID, _ signal: Signal) -> Expiry {
        let rules = state.read { state in state.bounds.rules.filter { $0.signal == signal && ($0.tenant ?? tenant) == tenant } }
        guard !rules.isEmpty else { return Expiry() }
        let now = clock.nowNanos()
        return Expiry(
            rules: rules.map { rule in
                let keep = rule.keepMillis.multipliedReportingOverflow(by: nanosPerMilli)
                let cutoff = keep.overflow ? (Int64.min, true) : now.subtractingReportingOverflow(keep.partialValue)
                let nanos = cutoff.1 ? Int64.min : cutoff.0
                return Expiry.Rule(matchers: rule.matchers, cutoff: signal == .metrics ? floorDivide(nanos, nanosPerMilli) : nanos)
            })
    }
}

/// What the rules of one tenant and signal say at one moment.
struct Expiry: Sendable {
    struct Rule: Sendable {
        var matchers: [LabelMatcher]
        /// Rows before it are past. In the signal's unit.
        var cutoff: Int64
    }

    /// The first that a row satisfies governs it.
    var rules: [Rule] = []

    /// What the label set's rows must not be older than; all of time when no rule governs them.
    func cutoff(labels: UnsafeRawBufferPointer) -> Int64 { rules.first { $0.matchers.match(labels) }?.cutoff ?? .min }

    func cutoff(_ batch: SpanBatch, row: Int) -> Int64 { rules.first { SpanLabel.match($0.matchers, batch, row: row) }?.cutoff ?? .min }

    /// Whether rows that old may be past.
    func mayConcern(_ minTime: Int64) -> Bool { rules.contains { minTime < $0.cutoff } }

    /// This, or nothing when no row is old enough to be past.
    func concerning(_ minTime: Int64) -> Expiry { mayConcern(minTime) ? self : Expiry() }

    /// What is older is past whatever its labels: where a rule governs all that the ones before it leave.
    var cutoffOfAll: Int64 {
        guard let last = rules.firstIndex(where: { $0.matchers.isEmpty }) else { return .min }
        return rules[...last].map(\.cutoff).min() ?? .min
    }

    /// How many rules would leave nothing of rows that end at that time.
    func ripe(_ maxTime: Int64) -> Int { rules.count { maxTime < $0.cutoff } }

    /// Grows when it is worth looking at a segment of those times: with each rule that would leave nothing of it, and by doublings where it is long.
    func stage(_ minTime: Int64, _ maxTime: Int64, day: Int64) -> Int {
        let span = maxTime.subtractingReportingOverflow(minTime)
        let isLong = span.overflow || span.partialValue >= 2 * day
        return rules.reduce(0) { sum, rule in
            if maxTime < rule.cutoff { return sum + 65 }
            guard isLong, minTime < rule.cutoff else { return sum }
            let past = rule.cutoff.subtractingReportingOverflow(minTime)
            return sum + (past.overflow ? 64 : Int64.bitWidth - (past.partialValue / day).leadingZeroBitCount)
        }
    }
}

/// How much of a segment is past.
enum PastShare {
    case none, some, all

    init(past: Bool, rest: Bool) { self = past ? (rest ? .some : .all) : .none }
}

/// Which segments were looked at for rows that are past.
struct ExpiryWatch: Sendable {
    /// What must change before it is worth looking again.
    struct Look: Equatable {
        /// Of the rules.
        var version: UInt64
        /// Rules that all is past by, if they govern all: then the segment is dropped.
        var ripe: Int
        /// See `Expiry.stage`; 0 while its merge may come yet.
        var stage: Int
    }

    private var looks: [String: Look] = [:]

    func isNew(_ path: String, _ look: Look) -> Bool { looks[path] != look }

    mutating func note(_ path: String, _ look: Look) { looks[path] = look }

    mutating func forget(except present: () -> Set<String>, count: Int) {
        guard looks.count > 2 * count + 100 else { return }
        let present = present()
        looks = looks.filter { present.contains($0.key) }
    }
}

extension SignalStore {
    /// Drops segments all of whose rows are past, as their footers tell.
    func dropPast() {
        var cutoffs: [TenantID: Int64] = [:]
        let global = shared.configuration.retentionMillis == nil ? .min : floor(receivedAtNanos: shared.clock.nowNanos())
        for tenant in tenants { cutoffs[tenant] = max(global, shared.retention.expiry(tenant, Head.signal).cutoffOfAll) }
        guard cutoffs.values.contains(where: { $0 > .min }) else { return }
        drop("past the retention") { $0.maxTime < cutoffs[$0.tenant] ?? .min }
    }

    /// The next segment to be written again without the rows that are past. Drops those of which nothing is left.
    /// - Parameters:
    ///   - segments: that may be merged, by tenant.
    ///   - patienceMillis: how long a segment that a flush wrote may wait for its merge; 0 for all rows that are past, also when the disk has no room to spare.
    func nextPast(_ segments: [[Segment]], patienceMillis: Int64) throws(ObsError) -> Segment? {
        for ofTenant in segments {
            guard let tenant = ofTenant.first?.info.tenant else { continue }
            let version = shared.retention.version
            let expiry = shared.retention.expiry(tenant, Head.signal)
            if expiry.rules.isEmpty { continue }
            for segment in ofTenant {
                let info = segment.info
                let shift = info.level == 0 ? patienceMillis * Head.ticksPerMilli : 0
                var look = ExpiryWatch.Look(version: version, ripe: expiry.ripe(info.maxTime), stage: 0)
                if patienceMillis > 0 {
                    look.stage = expiry.stage(clampedSum(info.minTime, shift), clampedSum(info.maxTime, shift), day: Head.ticksPerDay)
                    guard look.ripe + look.stage > 0, expiryWatch.read({ $0.isNew(segment.path, look) }) else { continue }
                } else if !expiry.mayConcern(info.minTime) {
                    continue
                }
                let reader = try segment.reader()
                switch try segment.reading({ () throws(ObsError) in try Head.pastShare(reader, info, expiry) }) {
                case .none: break
                case .all: drop("past the retention") { $0.id == info.id && $0.tenant == tenant }
                case .some:
                    if patienceMillis == 0 { return segment }
                    if look.stage == 0 { break }
                    guard shared.gate.hasRoom(info.bytes) else { continue }
                    return segment
                }
                if patienceMillis > 0 { expiryWatch.read { $0.note(segment.path, look) } }
            }
        }
        expiryWatch.read { $0.forget(except: { Set(segments.joined().map(\.path)) }, count: segments.reduce(0) { $0 + $1.count }) }
        return nil
    }
}

extension MetricHead {
    static func pastShare(_ reader: MetricSegmentReader, _ info: SegmentInfo, _ expiry: Expiry) throws(ObsError) -> PastShare {
        var past = false
        for rule in expiry.rules where info.minTime < rule.cutoff && !past { past = try !reader.select(rule.matchers).isEmpty }
        guard past else { return .none }
        past = false
        var rest = false
        for ordinal in 0..<reader.seriesCount where !(past && rest) {
            let cutoff = try reader.labels(ordinal).bytes.withUnsafeBytes { expiry.cutoff(labels: $0) }
            let times = try reader.timeRange(ordinal)
            if times.lowerBound < cutoff { past = true }
            if times.upperBound >= cutoff { rest = true }
        }
        return PastShare(past: past, rest: rest)
    }
}

extension LogHead {
    static func pastShare(_ reader: LogSegmentReader, _ info: SegmentInfo, _ expiry: Expiry) throws(ObsError) -> PastShare {
        let cutoffs = reader.streams.map { $0.bytes.withUnsafeBytes { expiry.cutoff(labels: $0) } }
        var past = cutoffs.contains { $0 > info.maxTime }
        var rest = cutoffs.contains { $0 <= info.minTime }
        // Of the other streams the rows tell.
        for (index, block) in reader.blocks.enumerated() where !(past && rest) {
            guard cutoffs[block.firstStream...block.lastStream].contains(where: { $0 > info.minTime && $0 <= info.maxTime }) else { continue }
            let batch = try reader.read(block: index, columns: [])
            let ofStream = batch.streams.indices.map { stream in batch.labels(ofStream: UInt32(stream)).bytes.withUnsafeBytes { expiry.cutoff(labels: $0) } }
            for row in 0..<batch.count { if batch.timeNanos[row] < ofStream[Int(batch.stream[row])] { past = true } else { rest = true } }
        }
        return PastShare(past: past, rest: rest)
    }
}

extension SpanHead {
    static func pastShare(_ reader: SpanSegmentReader, _ info: SegmentInfo, _ expiry: Expiry) throws(ObsError) -> PastShare {
        let services = info.services
        let isWorthwhile = expiry.rules.contains { rule in
            info.minTime < rule.cutoff
                && (services.isEmpty || rule.matchers.allSatisfy { $0.name != SpanLabel.service || services.contains(where: $0.matches) })
        }
        guard isWorthwhile else { return .none }
        var past = false
        var rest = false
        for block in reader.blocks.indices where !(past && rest) {
            let batch = try reader.read(block: block, columns: [.name, .resource])
            for row in 0..<batch.count { if batch.startNanos[row] < expiry.cutoff(batch, row: row) { past = true } else { rest = true } }
        }
        return PastShare(past: past, rest: rest)
    }
}
