internal import ObsCore

/// Keeps or removes named labels, working on the canonical bytes. Made once an operator, applied once a series.
struct LabelFilter {
    private let names: [[UInt8]]
    private let keeps: Bool

    /// A result is no sample of its metric: name, type and unit go.
    static let withoutName = LabelFilter(removing: ["__name__", "__type__", "__unit__"])

    init(keeping names: [String]) {
        self.names = names.map { Array($0.utf8) }
        keeps = true
    }

    init(removing names: [String]) {
        self.names = names.map { Array($0.utf8) }
        keeps = false
    }

    /// `on(…)` or `ignoring(…)`; the latter, like aggregation `without`, ignores the metric name as well.
    init(on: Bool, _ labels: [String]) { self = on ? LabelFilter(keeping: labels) : LabelFilter(removing: labels + ["__name__"]) }

    func callAsFunction(_ labels: Labels) -> Labels {
        var kept: [UInt8] = []
        kept.reserveCapacity(labels.bytes.count)
        labels.forEach { name, value in
            let named = names.contains { candidate in candidate.withUnsafeBytes { compareBytes($0, name) == 0 } }
            if named == keeps { appendLabel(&kept, name, value) }
        }
        return Labels(canonical: kept)
    }
}
