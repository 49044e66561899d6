// The guard against a label whose values never end (a user id, a trace id, a path with numbers in it).
//
// Per metric and label it knows which values there were lately, exactly, up to a budget. A value beyond the budget is folded: its series are stored under
// `__overflow__` as that label's value, all other labels kept. Values that were there before go on untouched, so that dashboards keep working while somebody looks for
// the culprit; the log of obsd and `/api/v1/cardinality` name it. What is folded is folded for good: samples of many series cannot share one, so of an overflow series
// one sample a second is kept, whichever came first, and its value says only that something is there.
//
// "Lately" is one to two windows: values are kept in two sets, the present window's and the one's before, and what was seen in neither makes room. The same turn
// forgets which series are known to be within their budgets, so that values that are still sent come into the present set.
//
// Decisions depend on what came before, so the log keeps the folded batch instead of the request: replay repeats them without asking. After a start the values that
// the store has are read once before anything is folded.

internal import Glibc
package import ObsCore
internal import ObsHash
package import ObsStore
internal import Synchronization

/// How many values labels may have.
package struct CardinalityBudget: Sendable, Equatable {
    package struct Override: Sendable, Equatable {
        /// Nil: any.
        package var metric: String?
        package var label: String?
        /// Nil: no bound.
        package var valuesMax: Int?

        package init(metric: String?, label: String?, valuesMax: Int?) {
            self.metric = metric
            self.label = label
            self.valuesMax = valuesMax
        }
    }

    /// Values of one label of one metric; nil: no bound.
    package var valuesMax: Int?
    /// How long a value that is no longer sent counts, at least; twice that at most.
    package var windowMillis: Int64 = 12 * 3_600_000
    /// The first that fits decides.
    package var overrides: [Override] = []

    package init() {}

    /// Whether there is any bound at all.
    var isOn: Bool { valuesMax != nil || overrides.contains { $0.valuesMax != nil } }

    func valuesMax(metric: UnsafeRawBufferPointer, label: UnsafeRawBufferPointer) -> Int? {
        for override in overrides {
            if let name = override.metric, !equals(metric, name) { continue }
            if let name = override.label, !equals(label, name) { continue }
            return override.valuesMax
        }
        return valuesMax
    }

    private func equals(_ bytes: UnsafeRawBufferPointer, _ text: String) -> Bool { bytes.elementsEqual(text.utf8) }
}

/// A label past its budget.
package struct LabelOverflow: Sendable {
    package var metric: String
    package var label: String
    /// Values within the last one to two windows, those folded not among them.
    package var values: Int
    package var valuesMax: Int
    /// Samples that went to overflow series or were left out beside one.
    package var foldedSamples = 0
    package var sinceMillis: Int64
    /// `job` and `instance` of the first series that was folded.
    package var source: Labels
}

package final class CardinalityGuard: Sendable {
    /// What stands for values beyond the budget.
    package static let overflow = "__overflow__"
    /// Values counted over all labels: 16 bytes each and some. Labels met when they are used up are not guarded.
    private static let valuesTrackedMax = 4 << 20
    private static let seriesKnownMax = 1 << 20
    private static let overflowSeriesMax = 100_000
    private static let overflowStepMillis: Int64 = 1000
    fileprivate static let eventEachMillis: Int64 = 3_600_000
    /// Folding these would fold metrics, or break histograms.
    private static let exempt = ["__name__", "le", "quantile"].map { Array($0.utf8) }

    fileprivate struct Values {
        var present: Set<UInt64> = []
        var former: Set<UInt64> = []
        var overflow: LabelOverflow?
        var eventMillis = Int64.min

        func contains(_ value: UInt64) -> Bool { present.contains(value) || former.contains(value) }
        /// Those of both sets.
        var count: Int { former.isEmpty ? present.count : present.count + former.count { !present.contains($0) } }
    }

    private struct Tenant {
        /// By a hash of metric and label.
        var labels: [UInt64: Values] = [:]
        var tracked = 0
        /// Hashes of label sets all of whose values are within their budgets.
        var known: Set<UInt64> = []
        /// Time of the last sample kept of each overflow series.
        var overflowMillis: [UInt64: Int64] = [:]
        var turnMillis = Int64.min
        /// Whether values of the store are in the sets.
        var isSeeded = false
        var hasGivenUp = false
    }

    private struct State {
        var budget = CardinalityBudget()
        var tenants: [TenantID: Tenant] = [:]
    }

    private let state = Mutex(State())
    private let isOn = Atomic<Bool>(false)
    private let clock: any Clock
    /// Reads what a tenant has since a time, label set by label set; false when it could not.
    private let stored: @Sendable (TenantID, Int64, (Labels) -> Void) -> Bool
    private let folded = SelfMetrics.counter("obs_cardinality_folded_samples_total", help: "Samples whose label went past its budget of values.")

    /// - Parameter stored: nil starts with nothing known.
    package init(clock: any Clock, stored: (@Sendable (TenantID, Int64, (Labels) -> Void) -> Bool)? = nil) {
        self.clock = clock
        self.stored = stored ?? { _, _, _ in true }
        SelfMetrics.gauge("obs_cardinality_labels_over_budget", help: "Labels of metrics whose new values are folded.") { [weak self] in
            self?.state.withLock { Double($0.tenants.values.reduce(0) { $0 + $1.labels.values.count { $0.overflow != nil } }) } ?? 0
        }
    }

    package func set(_ budget: CardinalityBudget) {
        state.withLock { state in
            guard state.budget != budget else { return }
            // What was folded under the former budget may be within this one.
            state.budget = budget
            state.tenants = [:]
        }
        isOn.store(budget.isOn, ordering: .relaxed)
    }

    /// Folds what is beyond the budgets. True when the batch was changed.
    func fold(_ batch: inout MetricBatch, _ tenant: TenantID) -> Bool {
        guard isOn.load(ordering: .relaxed), !batch.series.isEmpty else { return false }
        let hashes = batch.bytes.withUnsafeBytes { bytes in batch.series.map { hash64(UnsafeRawBufferPointer(rebasing: bytes[$0.labels.range])) } }
        let now = clock.nowMillis()
        var events: [LabelOverflow] = []
        var needsSeed = false
        let plan: [Int: Labels] = state.withLock { state in
            var known = state.tenants[tenant] ?? Tenant()
            defer { state.tenants[tenant] = known }
            state.tenants[tenant] = nil
            if known.turnMillis == .min {
                needsSeed = true
                known.turnMillis = now
            }
            Self.turn(&known, now, state.budget.windowMillis)
            var plan: [Int: Labels] = [:]
            batch.bytes.withUnsafeBytes { bytes in
                for (index, hash) in hashes.enumerated() where !known.known.contains(hash) {
                    let labels = UnsafeRawBufferPointer(rebasing: bytes[batch.series[index].labels.range])
                    if let folded = Self.take(labels, hash, samples: Int(batch.series[index].sampleCount), state.budget, &known, now, &events) {
                        plan[index] = folded
                    }
                }
            }
            return plan
        }
        if needsSeed { seed(tenant, now) }
        for event in events { Self.tell(event, tenant) }
        guard !plan.isEmpty else { return false }
        batch = rebuilt(batch, plan, tenant)
        return true
    }

    /// Labels past their budgets, those with most samples folded first.
    package func overflows(_ tenant: TenantID) -> [LabelOverflow] {
        let found = state.withLock { state in
            (state.tenants[tenant]?.labels.values).map { all in
                all.compactMap { values -> LabelOverflow? in
                    var overflow = values.overflow
                    overflow?.values = values.count
                    return overflow
                }
            } ?? []
        }
        return found.sorted { ($0.foldedSamples, $1.metric, $1.label) > ($1.foldedSamples, $0.metric, $0.label) }
    }

    // MARK: Deciding

    private static func turn(_ tenant: inout Tenant, _ now: Int64, _ windowMillis: Int64) {
        guard now - tenant.turnMillis >= windowMillis else { return }
        tenant.turnMillis = now
        tenant.known = []
        tenant.hasGivenUp = false
        tenant.tracked = 0
        for (key, values) in tenant.labels {
            var values = values
            values.former = values.present
            values.present = []
            // Nothing of it in a whole window: forgotten.
            tenant.labels[key] = values.former.isEmpty ? nil : values
            tenant.tracked += values.former.count
        }
    }

    /// The label set to store instead, nil to leave the series as it is.
    private static func take(
        _ labels: UnsafeRawBufferPointer, _ hash: UInt64, samples: Int, _ budget: CardinalityBudget, _ tenant: inout Tenant, _ now: Int64,
        _ events: inout [LabelOverflow]
    ) -> Labels? {
        let metric = metricName(labels)
        var foldedLabels: [[UInt8]] = []
        forEachLabel(labels) { name, value in
            guard !exempt.contains(where: { name.elementsEqual($0) }), let valuesMax = budget.valuesMax(metric: metric, label: name) else { return }
            let key = hash64(name, seed: hash64(metric))
            let number = hash64(value)
            if tenant.labels[key]?.present.contains(number) ?? false { return }
            let isOld = tenant.labels[key]?.former.contains(number) ?? false
            if !isOld, tenant.isSeeded, tenant.labels[key]?.count ?? 0 >= valuesMax, !value.elementsEqual(overflow.utf8) {
                foldedLabels.append(Array(name))
                tenant.labels[key]?.note(metric, name, labels, samples: samples, valuesMax: valuesMax, now, &events)
                return
            }
            guard tenant.tracked < valuesTrackedMax else {
                if !tenant.hasGivenUp {
                    DiagnosticLog.warn("more values of labels than are counted; further ones are not guarded", [("values", "\(valuesTrackedMax)")])
                }
                return tenant.hasGivenUp = true
            }
            tenant.labels[key, default: Values()].present.insert(number)
            tenant.tracked += 1
        }
        guard !foldedLabels.isEmpty else {
            if tenant.known.count >= seriesKnownMax { tenant.known = [] }
            tenant.known.insert(hash)
            return nil
        }
        var builder = LabelsBuilder(Labels(canonical: Array(labels)))
        for name in foldedLabels { builder.set(name, Array(overflow.utf8)) }
        return builder.labels()
    }

    private static func metricName(_ labels: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        "__name__".utf8.withContiguousStorageIfAvailable { name in
            find(UnsafeRawBufferPointer(name), in: labels).map { UnsafeRawBufferPointer(rebasing: labels[$0]) }
        }?.flatMap { $0 } ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    private static func tell(_ event: LabelOverflow, _ tenant: TenantID) {
        DiagnosticLog.warn(
            "a label goes past its budget of values; new ones are folded into \(overflow)",
            [
                ("metric", event.metric), ("label", event.label), ("values_max", "\(event.valuesMax)"), ("folded_samples", "\(event.foldedSamples)"),
                ("tenant", tenant.description), ("source", event.source.description),
            ])
    }

    // MARK: Folding

    /// The batch with planned series under their new labels, thinned to what can be stored.
    private func rebuilt(_ batch: MetricBatch, _ plan: [Int: Labels], _ tenant: TenantID) -> MetricBatch {
        var result = MetricBatch()
        result.bytes = batch.bytes
        result.metadata = batch.metadata
        var newIndex = [UInt32?](repeating: nil, count: batch.series.count)
        var lost = 0
        state.withLock { state in
            var last = state.tenants[tenant]?.overflowMillis ?? [:]
            if last.count > Self.overflowSeriesMax { last = [:] }
            for (index, series) in batch.series.enumerated() {
                let samples = Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)
                var kept = Array(samples)
                var labels = series.labels
                if let folded = plan[index] {
                    let key = folded.bytes.withUnsafeBytes { hash64($0) }
                    kept = samples.filter { sample in
                        // That one of them ended is no end of all.
                        guard !SpecialValue.isStale(batch.values[sample]), isLater(batch.timesMillis[sample], than: last[key])
                        else { return false }
                        last[key] = batch.timesMillis[sample]
                        return true
                    }
                    lost += samples.count
                    if kept.isEmpty { continue }
                    labels = result.bytes.intern(folded.bytes)
                }
                if plan[index] == nil { newIndex[index] = UInt32(result.series.count) }
                result.series.append(MetricBatch.Series(labels: labels, firstSample: UInt32(result.timesMillis.count), sampleCount: UInt32(kept.count)))
                for sample in kept {
                    result.timesMillis.append(batch.timesMillis[sample])
                    result.values.append(batch.values[sample])
                    if !batch.startsMillis.isEmpty { result.startsMillis.append(batch.startsMillis[sample]) }
                }
            }
            state.tenants[tenant]?.overflowMillis = last
        }
        // Histograms and exemplars of folded series say nothing under other labels.
        for (row, series) in batch.histogramSeries.enumerated() {
            guard let index = newIndex[Int(series)] else {
                lost += 1
                continue
            }
            result.histograms.append(batch.histograms, row: row)
            result.histogramSeries.append(index)
        }
        for var exemplar in batch.exemplars {
            guard let index = newIndex[Int(exemplar.series)] else { continue }
            exemplar.series = index
            result.exemplars.append(exemplar)
        }
        folded.add(lost)
        return result
    }

    private func isLater(_ time: Int64, than last: Int64?) -> Bool { last.map { clampedDifference(time, $0) >= Self.overflowStepMillis } ?? true }

    // MARK: Start

    /// Reads what there is of a tenant, on a thread of its own; until then nothing of it is folded.
    private func seed(_ tenant: TenantID, _ now: Int64) {
        startThread("cardinality") { [weak self, stored] in
            while true {
                guard let window = self?.state.withLock({ $0.budget.windowMillis }) else { return }
                if stored(tenant, now - window, { labels in self?.add(labels, tenant) }) { break }
                usleep(1_000_000)
            }
            self?.state.withLock { $0.tenants[tenant]?.isSeeded = true }
        }
    }

    /// Whether folding has begun for a tenant.
    func isSeeded(_ tenant: TenantID) -> Bool { state.withLock { $0.tenants[tenant]?.isSeeded ?? false } }

    private func add(_ labels: Labels, _ tenant: TenantID) {
        let hash = labels.bytes.withUnsafeBytes { hash64($0) }
        state.withLock { state in
            guard var known = state.tenants.removeValue(forKey: tenant) else { return }
            defer { state.tenants[tenant] = known }
            var events: [LabelOverflow] = []
            labels.bytes.withUnsafeBytes { _ = Self.take($0, hash, samples: 0, state.budget, &known, 0, &events) }
        }
    }
}

extension CardinalityGuard.Values {
    fileprivate mutating func note(
        _ metric: UnsafeRawBufferPointer, _ label: UnsafeRawBufferPointer, _ labels: UnsafeRawBufferPointer, samples: Int, valuesMax: Int, _ now: Int64,
        _ events: inout [LabelOverflow]
    ) {
        if overflow == nil {
            let all = Labels(canonical: Array(labels))
            let source = ["job", "instance"].compactMap { name in all[name].map { (name: name, value: $0) } }
            overflow = LabelOverflow(
                metric: String(decoding: metric, as: UTF8.self), label: String(decoding: label, as: UTF8.self), values: count, valuesMax: valuesMax,
                sinceMillis: now, source: Labels(source))
        }
        overflow?.foldedSamples += samples
        guard eventMillis == .min || now - eventMillis >= CardinalityGuard.eventEachMillis, let overflow else { return }
        eventMillis = now
        events.append(overflow)
    }
}
