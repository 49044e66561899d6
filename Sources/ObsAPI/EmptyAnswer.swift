// Why a query's answer is empty, said in `infos`, which Grafana shows: the name that was never there, the matcher that leaves nothing, when there was something last.
// Asked only when the answer is empty; every look-up is bounded, and one that fails or takes too long ends the telling, not the query.
internal import ObsCore
internal import ObsPromQL
internal import ObsStore

struct EmptyAnswer {
    /// Selectors that are looked into.
    private static let selectorsMax = 4
    /// Names that are compared with one that is not there.
    private static let namesMax = 20_000
    private static let nearestMax = 3
    private static let valuesShown = 5
    /// Selectors of more series are not looked through for their last sample.
    private static let seriesMax = 1000
    private static let allTimes: ClosedRange<Int64> = -9_000_000_000_000_000...9_000_000_000_000_000

    let reader: any Reader
    let context: QueryContext
    let nowMillis: Int64
    /// Nil: everything is kept.
    let retentionMillis: Int64?

    func reasons(_ windows: [SelectorWindow]) -> [String] {
        var reasons: [String] = []
        var seen: Set<String> = []
        for window in windows where seen.insert(window.selector.description).inserted && seen.count <= Self.selectorsMax {
            do throws(ObsError) {
                try context.check()
                reasons.append("no answer from \(window.selector): \(try reason(window))")
            } catch { break }
        }
        return reasons
    }

    private func reason(_ window: SelectorWindow) throws(ObsError) -> String {
        let matchers = window.selector.matchers
        if let retentionMillis, window.range.upperBound < nowMillis - retentionMillis {
            return "the range ends before what is kept begins (retention is \(formatDuration(millis: retentionMillis)))"
        }
        if try exists(matchers, window.range) {
            return "its series have samples in the range, of which nothing is left: they ended, or operators and functions leave none"
        }
        if try exists(matchers, Self.allTimes) { return try elsewhere(window) }
        guard let name = matchers.first(where: { $0.name == "__name__" && $0.operation == .equal }) else { return try guilty(matchers, named: nil) }
        if try exists([name], Self.allTimes) { return try guilty(matchers, named: name) }
        let near = try nearest(to: name.value)
        return "no metric of that name was ever stored" + (near.isEmpty ? "" : "; near it are \(near.joined(separator: ", "))")
    }

    private func exists(_ matchers: [LabelMatcher], _ range: ClosedRange<Int64>) throws(ObsError) -> Bool {
        try !reader.labelSets(.metrics, [matchers], range: range, limit: 1, context: context).isEmpty
    }

    // MARK: Other times

    private func elsewhere(_ window: SelectorWindow) throws(ObsError) -> String {
        let matchers = window.selector.matchers
        let lookback = window.lookbackMillis.map { ", further back than the lookback of \(formatDuration(millis: $0))" } ?? ""
        let before = Self.allTimes.lowerBound...window.range.lowerBound
        if try exists(matchers, before) {
            guard let last = try last(matchers, before) else { return "its series have samples only at other times" }
            let ago = formatDuration(millis: (window.range.upperBound - last) / 1000 * 1000)
            return "last seen at \(rfc3339(nanos: last * nanosPerMilli)), \(ago) before the end of the range\(lookback)"
        }
        return "its series have samples only after the range"
    }

    /// Nil when that would take long.
    private func last(_ matchers: [LabelMatcher], _ range: ClosedRange<Int64>) throws(ObsError) -> Int64? {
        let count = try reader.labelSets(.metrics, [matchers], range: range, limit: Self.seriesMax + 1, context: context).count
        return count > Self.seriesMax ? nil : try reader.estimate(matchers, range: range, context: context).times?.upperBound
    }

    // MARK: Matchers

    /// The matcher that leaves nothing, alone or after those before it.
    private func guilty(_ matchers: [LabelMatcher], named name: LabelMatcher?) throws(ObsError) -> String {
        let base = name.map { [$0] } ?? []
        let whose = name.map { "no series of \($0.value)" } ?? "no series"
        let others = matchers.filter { $0.name != "__name__" || $0.operation != .equal || $0.value != name?.value }
        for matcher in others where try !exists(base + [matcher], Self.allTimes) {
            return "\(whose) has \(text(matcher))" + (try values(matcher.name, base))
        }
        var kept = base
        for matcher in others {
            guard try exists(kept + [matcher], Self.allTimes) else {
                let given = kept.dropFirst(base.count).map(text).joined(separator: ", ")
                return "\(whose) with \(given) has \(text(matcher))" + (try values(matcher.name, kept))
            }
            kept.append(matcher)
        }
        return "\(whose) satisfies all matchers"
    }

    private func values(_ label: String, _ matchers: [LabelMatcher]) throws(ObsError) -> String {
        let selectors = matchers.isEmpty ? [] : [matchers]
        let values = try reader.labelValues(.metrics, label, selectors, range: Self.allTimes, limit: Self.valuesShown + 1, context: context)
        guard !values.isEmpty else { return "; there is no label \(label)" }
        let shown = values.prefix(Self.valuesShown).map { quoted($0) }.joined(separator: ", ")
        return "; \(label) is \(shown)" + (values.count > Self.valuesShown ? ", …" : "")
    }

    private func text(_ matcher: LabelMatcher) -> String {
        let operation =
            switch matcher.operation {
            case .equal: "="
            case .notEqual: "!="
            case .matches: "=~"
            case .matchesNot: "!~"
            }
        return "\(matcher.name)\(operation)\(quoted(matcher.value))"
    }

    // MARK: Names

    private func nearest(to name: String) throws(ObsError) -> [String] {
        let names = try reader.labelValues(.metrics, "__name__", [], range: Self.allTimes, limit: Self.namesMax, context: context)
        let wanted = Array(name.utf8)
        let distanceMax = max(2, min(8, wanted.count / 3))
        var near: [(name: String, distance: Int)] = []
        for (index, candidate) in names.enumerated() {
            if index & 255 == 0 { try context.check() }
            let bytes = Array(candidate.utf8)
            guard bytes.count <= 512, abs(bytes.count - wanted.count) <= distanceMax else { continue }
            let distance = editDistance(wanted, bytes, atMost: distanceMax)
            if distance <= distanceMax { near.append((candidate, distance)) }
        }
        near.sort { ($0.distance, $0.name) < ($1.distance, $1.name) }
        return near.prefix(Self.nearestMax).map(\.name)
    }
}

/// Levenshtein distance; some number past `limit` when it is past that.
func editDistance(_ a: [UInt8], _ b: [UInt8], atMost limit: Int) -> Int {
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        var least = row[0]
        for (j, y) in b.enumerated() {
            let next = min(row[j] + 1, row[j + 1] + 1, diagonal + (x == y ? 0 : 1))
            diagonal = row[j + 1]
            row[j + 1] = next
            least = min(least, next)
        }
        if least > limit { return least }
    }
    return row[b.count]
}
