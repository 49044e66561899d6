// Functions of histograms, native ones and classic ones. Series that share all labels but `le` are the buckets of one classic histogram; quantiles and fractions
// take either kind, but not both of one name and labels at one step.
internal import Glibc
internal import ObsCore
internal import ObsStore

let histogramFunctions: [Function] = [
    Function("histogram_quantile", [.scalar, .vector], .whole(histogramQuantile)),
    Function("histogram_quantiles", [.vector, .string, .scalar, .scalar], variadic: 9, .whole(histogramQuantiles)),
    Function("histogram_fraction", [.scalar, .scalar, .vector], .whole(histogramFraction)),
    statistic("histogram_count") { $0.count }, statistic("histogram_sum") { $0.sum }, statistic("histogram_avg") { $0.sum / $0.count },
    statistic("histogram_stdvar") { $0.variance }, statistic("histogram_stddev") { $0.variance.squareRoot() },
]

/// A number of each native histogram; samples that are numbers are left out.
private func statistic(_ name: String, _ body: @escaping @Sendable (FloatHistogram) -> Double) -> Function {
    Function(
        name, [.vector],
        .whole { (evaluator, call, timeline) throws(ObsError) in
            var builder = MatrixBuilder()
            for series in try evaluator.vector(call.arguments[0], timeline).series {
                guard let histograms = series.histograms else { continue }
                try evaluator.context.check()
                let column = (0..<timeline.count).map { step in histograms[step].map(body) ?? missing }
                try builder.add(evaluator.nameless(series.labels, column))
            }
            return .vector(builder.matrix)
        })
}

private let histogramQuantile: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let ranks = try evaluator.scalar(call.arguments[0], timeline)
    let matrix = try evaluator.vector(call.arguments[1], timeline)
    evaluator.noteInvalidQuantiles(ranks, at: call.arguments[0].unwrapped.position)
    let histograms = Histograms(evaluator, matrix, call.arguments[1].unwrapped.position, timeline)
    var builder = MatrixBuilder()
    try histograms.forEachQuantile(ranks) { (labels, column) throws(ObsError) in try builder.add(evaluator.nameless(labels, column)) }
    return .vector(builder.matrix)
}

/// Several quantiles at once, told apart by a label.
private let histogramQuantiles: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    guard case .string(let label) = call.arguments[1].unwrapped else { return .vector(StepMatrix()) }
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    let histograms = Histograms(evaluator, matrix, call.arguments[0].unwrapped.position, timeline)
    var builder = MatrixBuilder()
    for argument in call.arguments.dropFirst(2) {
        let ranks = try evaluator.scalar(argument, timeline)
        evaluator.noteInvalidQuantiles(ranks, at: argument.unwrapped.position)
        try histograms.forEachQuantile(ranks) { (labels, column) throws(ObsError) in
            // A rank that changes from step to step names a series for each of its values.
            for value in Set(ranks.map(\.bitPattern)) {
                var values = column
                for step in values.indices where ranks[step].bitPattern != value { values[step] = missing }
                var named = LabelsBuilder(labels)
                named.set(label.value, openMetricsNumber(Double(bitPattern: value)))
                try builder.add(evaluator.nameless(named.labels(), values))
            }
        }
    }
    return .vector(builder.matrix)
}

/// Whole numbers with a decimal, as OpenMetrics writes the label `quantile`.
private func openMetricsNumber(_ value: Double) -> String {
    let text = formatSampleValue(value)
    return text.contains(".") || text.contains("e") || !value.isFinite ? text : text + ".0"
}

private let histogramFraction: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let lower = try evaluator.scalar(call.arguments[0], timeline)
    let upper = try evaluator.scalar(call.arguments[1], timeline)
    let matrix = try evaluator.vector(call.arguments[2], timeline)
    let histograms = Histograms(evaluator, matrix, call.arguments[2].unwrapped.position, timeline)
    var builder = MatrixBuilder()
    try histograms.forEachNative { (labels, step, histogram) in
        let estimate = histogram.fraction(from: lower[step], to: upper[step])
        if estimate.note != nil { evaluator.note(.fractionLeavesOutNaN(metric: evaluator.annotatedName(labels)), at: histograms.position) }
        return estimate.value
    } _: { (labels, column) throws(ObsError) in
        try builder.add(evaluator.nameless(labels, column))
    }
    try histograms.forEachClassic { (_, step, buckets) in
        fraction(&buckets, lower[step], upper[step])
    } _: { (labels, column) throws(ObsError) in
        try builder.add(evaluator.nameless(labels, column))
    }
    return .vector(builder.matrix)
}

extension Evaluator {
    func noteInvalidQuantiles(_ ranks: [Double], at position: Position) {
        for rank in ranks where !(rank >= 0 && rank <= 1) { noteQuantile(rank, at: position) }
    }

    func noteQuantile(_ rank: Double, at position: Position) {
        note(.invalidQuantile(bits: rank.isNaN ? Double.nan.bitPattern : rank.bitPattern), at: position)
    }
}

private struct Bucket {
    var upperBound: Double
    var count: Double
}

/// The series of one classic histogram, by upper bound.
private struct BucketSeries {
    var labels: Labels
    var members: [(upperBound: Double, index: Int)] = []
}

/// The histograms of an instant vector.
private struct Histograms {
    let evaluator: Evaluator
    let matrix: StepMatrix
    let position: Position
    let timeline: Timeline
    private var classic: [BucketSeries] = []
    private var places: [Labels: Int] = [:]
    private var native: [Int] = []
    /// By labels, steps at which there is a histogram of either kind: neither counts.
    private var conflicts: [Labels: [Bool]] = [:]

    init(_ evaluator: Evaluator, _ matrix: StepMatrix, _ position: Position, _ timeline: Timeline) {
        self.evaluator = evaluator
        self.matrix = matrix
        self.position = position
        self.timeline = timeline
        native = matrix.series.indices.filter { matrix.series[$0].histograms != nil }
        collectClassic()
        for index in native { findConflicts(matrix.series[index]) }
    }

    private mutating func collectClassic() {
        let filter = LabelFilter(removing: ["le"])
        for (index, series) in matrix.series.enumerated() where series.values.contains(where: { !isMissing($0) }) {
            let text = series.labels["le"] ?? ""
            guard let bound = parseBound(text) else {
                evaluator.note(.badBucketLabel(metric: evaluator.annotatedName(series.labels), value: text), at: position)
                continue
            }
            let labels = filter(series.labels)
            let place = places[labels] ?? classic.count
            if place == classic.count {
                places[labels] = place
                classic.append(BucketSeries(labels: labels))
            }
            classic[place].members.append((bound, index))
        }
        for index in classic.indices { classic[index].members.sort { $0.upperBound < $1.upperBound } }
    }

    private mutating func findConflicts(_ series: StepSeries) {
        guard let place = places[series.labels] else { return }
        let histogram = classic[place]
        let both = (0..<timeline.count).map { step in
            series.histograms?[step] != nil && histogram.members.contains { !isMissing(matrix.series[$0.index].values[step]) }
        }
        guard both.contains(true) else { return }
        conflicts[series.labels] = both
        evaluator.note(.mixedHistogramKinds(metric: evaluator.annotatedName(series.labels)), at: position)
    }

    private func isRefused(_ labels: Labels, _ step: Int) -> Bool { conflicts[labels]?[step] ?? false }

    func forEachNative(
        _ value: (Labels, _ step: Int, FloatHistogram) -> Double, _ body: (Labels, [Double]) throws(ObsError) -> Void
    ) throws(ObsError) {
        for index in native {
            try evaluator.context.check()
            let series = matrix.series[index]
            var column = [Double](repeating: missing, count: timeline.count)
            for step in 0..<timeline.count {
                guard let histogram = series.histograms?[step], !isRefused(series.labels, step) else { continue }
                column[step] = value(series.labels, step, histogram)
            }
            try body(series.labels, column)
        }
    }

    func forEachClassic(
        _ value: (Labels, _ step: Int, inout [Bucket]) -> Double, _ body: (Labels, [Double]) throws(ObsError) -> Void
    ) throws(ObsError) {
        var buckets: [Bucket] = []
        for histogram in classic {
            try evaluator.context.check()
            var column = [Double](repeating: missing, count: timeline.count)
            for step in 0..<timeline.count where !isRefused(histogram.labels, step) {
                buckets.removeAll(keepingCapacity: true)
                for member in histogram.members where !isMissing(matrix.series[member.index].values[step]) {
                    buckets.append(Bucket(upperBound: member.upperBound, count: matrix.series[member.index].values[step]))
                }
                if !buckets.isEmpty { column[step] = value(histogram.labels, step, &buckets) }
            }
            // Histograms of two metrics stay two, and clash when their names go.
            try body(histogram.labels, column)
        }
    }

    func forEachQuantile(_ ranks: [Double], _ body: (Labels, [Double]) throws(ObsError) -> Void) throws(ObsError) {
        try forEachNative(
            { labels, step, histogram in
                let estimate = histogram.quantile(ranks[step])
                if let note = estimate.note {
                    let name = evaluator.annotatedName(labels)
                    evaluator.note(note == .isNaN ? .quantileIsNaN(metric: name) : .quantileIsSkewed(metric: name), at: position)
                }
                return estimate.value
            }, body)
        try forEachClassic(
            { labels, step, buckets in
                var result = quantile(&buckets, ranks[step])
                if result.repair != nil {
                    result.repair?.firstMillis = timeline[step]
                    result.repair?.lastMillis = timeline[step]
                    evaluator.noteRepair(result.repair ?? MonotonicityRepair(), metric: evaluator.annotatedName(labels), at: position)
                }
                return result.value
            }, body)
    }
}

private func parseBound(_ text: String) -> Double? {
    switch text.lowercased() {
    case "+inf", "inf", "infinity", "+infinity": return .infinity
    case "-inf", "-infinity": return -.infinity
    default:
        guard !text.isEmpty, !text.lowercased().contains("x"), let value = Double(text), !value.isNaN else { return nil }
        return value
    }
}

/// Merges equal bounds; false without a +Inf bucket.
private func merge(_ buckets: inout [Bucket]) -> Bool {
    guard let last = buckets.last, last.upperBound == .infinity else { return false }
    var merged: [Bucket] = []
    for bucket in buckets {
        if let previous = merged.last, previous.upperBound == bucket.upperBound {
            merged[merged.count - 1].count += bucket.count
        } else {
            merged.append(bucket)
        }
    }
    buckets = merged
    return true
}

/// Makes counts rise; differences that are rounding are ignored. Returns what more than that had to be changed.
private func makeMonotonic(_ buckets: inout [Bucket]) -> MonotonicityRepair? {
    var repair: MonotonicityRepair?
    var previous = buckets[0].count
    for index in 1..<buckets.count {
        let current = buckets[index].count
        if current == previous { continue }
        if isAlmostEqual(previous, current, 1e-12) {
            buckets[index].count = previous
        } else if current < previous {
            buckets[index].count = previous
            let bound = buckets[index].upperBound
            let fall = MonotonicityRepair(lowestBound: bound, highestBound: bound, greatestFall: previous - current)
            if repair == nil { repair = fall } else { repair?.merge(fall) }
        } else {
            previous = current
        }
    }
    repair?.samples = 1
    return repair
}

private func isAlmostEqual(_ a: Double, _ b: Double, _ epsilon: Double) -> Bool {
    if a == b { return true }
    let difference = abs(a - b)
    let total = abs(a) + abs(b)
    if a == 0 || b == 0 || total < .leastNormalMagnitude { return difference < epsilon * .leastNormalMagnitude }
    return difference / min(total, .greatestFiniteMagnitude) < epsilon
}

private func quantile(_ buckets: inout [Bucket], _ rank: Double) -> (value: Double, repair: MonotonicityRepair?) {
    if rank.isNaN { return (.nan, nil) }
    if rank < 0 { return (-.infinity, nil) }
    if rank > 1 { return (.infinity, nil) }
    guard merge(&buckets) else { return (.nan, nil) }
    let repair = makeMonotonic(&buckets)
    if buckets.count < 2 { return (.nan, repair) }
    let observations = buckets[buckets.count - 1].count
    if observations == 0 || observations.isNaN { return (.nan, repair) }
    var wanted = rank * observations
    let index = buckets.dropLast().firstIndex { $0.count >= wanted } ?? buckets.count - 1
    if index == buckets.count - 1 { return (buckets[index - 1].upperBound, repair) }
    if index == 0, buckets[0].upperBound <= 0 { return (buckets[0].upperBound, repair) }
    var start = 0.0
    let end = buckets[index].upperBound
    var count = buckets[index].count
    if index > 0 {
        start = buckets[index - 1].upperBound
        count -= buckets[index - 1].count
        wanted -= buckets[index - 1].count
    }
    return (start + (end - start) * (wanted / count), repair)
}

/// Share of observations between two values, interpolated linearly within buckets.
private func fraction(_ buckets: inout [Bucket], _ lower: Double, _ upper: Double) -> Double {
    guard merge(&buckets) else { return .nan }
    let observations = buckets[buckets.count - 1].count
    if observations == 0 || observations.isNaN || lower.isNaN || upper.isNaN { return .nan }
    if lower >= upper { return 0 }
    return (rank(of: upper, buckets) - rank(of: lower, buckets)) / observations
}

private func rank(of value: Double, _ buckets: [Bucket]) -> Double {
    if value == .infinity { return buckets[buckets.count - 1].count }
    if value == -.infinity { return 0 }
    var start = buckets[0].upperBound > 0 ? 0.0 : -Double.infinity
    var below = 0.0
    for bucket in buckets {
        if value <= bucket.upperBound {
            if value <= start { return below }
            // Within an endless bucket nothing can be interpolated: all of the first lies below, all of the last above.
            if start.isInfinite { return bucket.count }
            if bucket.upperBound.isInfinite { return below }
            return below + (bucket.count - below) * (value - start) / (bucket.upperBound - start)
        }
        start = bucket.upperBound
        below = bucket.count
    }
    return below
}
