// Quantiles and fractions of classic histograms: series that share all labels but `le` are the buckets of one histogram.
internal import Glibc
internal import ObsCore
internal import ObsStore

private struct Bucket {
    var upperBound: Double
    var count: Double
}

/// The series of one histogram, by upper bound.
private struct BucketSeries {
    var labels: Labels
    var members: [(upperBound: Double, index: Int)] = []
}

let histogramQuantile: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let ranks = try evaluator.scalar(call.arguments[0], timeline)
    let matrix = try evaluator.vector(call.arguments[1], timeline)
    for rank in ranks where !(rank >= 0 && rank <= 1) { evaluator.warnQuantile(rank, at: call.arguments[0].position) }
    let position = call.arguments[1].position
    return try eachHistogram(evaluator, matrix, position, timeline) { buckets, step, name in
        let result = quantile(&buckets, ranks[step])
        if result.forced {
            evaluator.inform(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"\(name)\"",
                at: position)
        }
        return result.value
    }
}

/// Several quantiles at once, told apart by a label.
let histogramQuantiles: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    guard case .string(let label) = call.arguments[1].unwrapped else { return .vector(StepMatrix()) }
    var builder = MatrixBuilder()
    for argument in call.arguments.dropFirst(2) {
        var single = call
        single.arguments = [argument, call.arguments[0]]
        let rank = try evaluator.scalar(argument, timeline)
        guard case .vector(let matrix) = try histogramQuantile(evaluator, single, timeline) else { continue }
        // A rank that changes from step to step names a series for each of its values.
        for value in Set(rank.map(\.bitPattern)) {
            for var series in matrix.series {
                if let present = series.labels[label.value] { throw duplicateQuantile(label.value, present) }
                for step in series.values.indices where rank[step].bitPattern != value { series.values[step] = missing }
                var labels = LabelsBuilder(series.labels)
                labels.set(label.value, openMetricsNumber(Double(bitPattern: value)))
                series.labels = labels.labels()
                try builder.add(series)
            }
        }
    }
    return .vector(builder.matrix)
}

private func duplicateQuantile(_ label: String, _ value: String) -> ObsError {
    ObsError(.unprocessable, "label \"\(label)\" of histogram_quantiles() is there already, as \"\(value)\"")
}

/// Whole numbers with a decimal, as OpenMetrics writes the label `quantile`.
private func openMetricsNumber(_ value: Double) -> String {
    let text = formatSampleValue(value)
    return text.contains(".") || text.contains("e") || !value.isFinite ? text : text + ".0"
}

let histogramFraction: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let lower = try evaluator.scalar(call.arguments[0], timeline)
    let upper = try evaluator.scalar(call.arguments[1], timeline)
    let matrix = try evaluator.vector(call.arguments[2], timeline)
    return try eachHistogram(evaluator, matrix, call.arguments[2].position, timeline) { buckets, step, _ in
        fraction(&buckets, lower[step], upper[step])
    }
}

/// Functions of native histograms: samples that are numbers are left out of their answers.
let nativeHistogramFunctions: [Function] = ["avg", "count", "sum", "stddev", "stdvar"].map { statistic in
    Function(
        "histogram_\(statistic)", [.vector],
        .whole { (evaluator, call, timeline) throws(ObsError) in
            _ = try evaluator.vector(call.arguments[0], timeline)
            return .vector(StepMatrix())
        })
}

private func eachHistogram(
    _ evaluator: Evaluator, _ matrix: StepMatrix, _ position: Position, _ timeline: Timeline,
    _ body: (inout [Bucket], _ step: Int, _ name: String) -> Double
) throws(ObsError) -> Value {
    var builder = MatrixBuilder()
    var buckets: [Bucket] = []
    for histogram in histograms(evaluator, matrix, position) {
        try evaluator.context.check()
        var column = [Double](repeating: missing, count: timeline.count)
        let name = matrix.series[histogram.members[0].index].labels["__name__"] ?? ""
        for step in 0..<timeline.count {
            buckets.removeAll(keepingCapacity: true)
            for member in histogram.members where !isMissing(matrix.series[member.index].values[step]) {
                buckets.append(Bucket(upperBound: member.upperBound, count: matrix.series[member.index].values[step]))
            }
            if !buckets.isEmpty { column[step] = body(&buckets, step, name) }
        }
        // Histograms of two metrics stay two, and clash when their names go.
        try builder.add(evaluator.nameless(histogram.labels, column))
    }
    return .vector(builder.matrix)
}

private func histograms(_ evaluator: Evaluator, _ matrix: StepMatrix, _ position: Position) -> [BucketSeries] {
    let filter = LabelFilter(removing: ["le"])
    var histograms: [BucketSeries] = []
    var places: [Labels: Int] = [:]
    for (index, series) in matrix.series.enumerated() {
        let text = series.labels["le"] ?? ""
        guard let bound = parseBound(text) else {
            let name = series.labels["__name__"] ?? ""
            evaluator.warn(
                "bucket label \"le\" is missing or has a malformed value of \"\(text)\"\(name.isEmpty ? "" : " for metric name \"\(name)\"")", at: position)
            continue
        }
        let labels = filter(series.labels)
        let place = places[labels] ?? histograms.count
        if place == histograms.count {
            places[labels] = place
            histograms.append(BucketSeries(labels: labels))
        }
        histograms[place].members.append((bound, index))
    }
    for index in histograms.indices { histograms[index].members.sort { $0.upperBound < $1.upperBound } }
    return histograms
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

/// Makes counts rise; differences that are rounding are ignored. Returns whether more than that had to be changed.
private func makeMonotonic(_ buckets: inout [Bucket]) -> Bool {
    var forced = false
    var previous = buckets[0].count
    for index in 1..<buckets.count {
        let current = buckets[index].count
        if current == previous { continue }
        if isAlmostEqual(previous, current, 1e-12) {
            buckets[index].count = previous
        } else if current < previous {
            buckets[index].count = previous
            forced = true
        } else {
            previous = current
        }
    }
    return forced
}

private func isAlmostEqual(_ a: Double, _ b: Double, _ epsilon: Double) -> Bool {
    if a == b { return true }
    let difference = abs(a - b)
    let total = abs(a) + abs(b)
    if a == 0 || b == 0 || total < .leastNormalMagnitude { return difference < epsilon * .leastNormalMagnitude }
    return difference / min(total, .greatestFiniteMagnitude) < epsilon
}

private func quantile(_ buckets: inout [Bucket], _ rank: Double) -> (value: Double, forced: Bool) {
    if rank.isNaN { return (.nan, false) }
    if rank < 0 { return (-.infinity, false) }
    if rank > 1 { return (.infinity, false) }
    guard merge(&buckets) else { return (.nan, false) }
    let forced = makeMonotonic(&buckets)
    if buckets.count < 2 { return (.nan, forced) }
    let observations = buckets[buckets.count - 1].count
    if observations == 0 || observations.isNaN { return (.nan, forced) }
    var wanted = rank * observations
    let index = buckets.dropLast().firstIndex { $0.count >= wanted } ?? buckets.count - 1
    if index == buckets.count - 1 { return (buckets[index - 1].upperBound, forced) }
    if index == 0, buckets[0].upperBound <= 0 { return (buckets[0].upperBound, forced) }
    var start = 0.0
    let end = buckets[index].upperBound
    var count = buckets[index].count
    if index > 0 {
        start = buckets[index - 1].upperBound
        count -= buckets[index - 1].count
        wanted -= buckets[index - 1].count
    }
    return (start + (end - start) * (wanted / count), forced)
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
