// Functions of a window of samples: one pure function each, `missing` when a window has no answer.
internal import Glibc
internal import ObsCore
internal import ObsStore

/// What `rate`, `increase` and `delta` differ in.
struct RateKind: Sendable {
    /// A fall is a new start from 0.
    var isCounter: Bool
    /// Per second.
    var isRate: Bool
}

extension SeriesEvaluation {
    /// Prometheus' extrapolation: the change seen within the window is scaled to the whole window, unless the series seems to begin
    /// or end in it; then by half an average interval past its samples. A counter is never extrapolated below zero.
    ///
    /// Only the first and last sample of a window matter, and the samples at which a counter fell: those are looked for once a series.
    func slideRates(_ samples: RangeSeries, _ frame: Frame, _ timeline: Timeline, _ kind: RateKind) throws(ObsError) -> [Double] {
        try context.check()
        return samples.timesMillis.withUnsafeBufferPointer { times in
            samples.values.withUnsafeBufferPointer { values in rates(times, values, frame, timeline, kind) }
        }
    }

    private func rates(
        _ times: UnsafeBufferPointer<Int64>, _ values: UnsafeBufferPointer<Double>, _ frame: Frame, _ timeline: Timeline, _ kind: RateKind
    ) -> [Double] {
        // Indices of samples after a fall.
        var falls: [Int] = []
        if kind.isCounter { for index in values.indices.dropFirst() where values[index] < values[index - 1] { falls.append(index) } }
        return [Double](unsafeUninitializedCapacity: timeline.count) { column, written in
            var (lower, upper, fall) = (0, 0, 0)
            for step in 0..<timeline.count {
                let edges = WindowEdges(start: frame.references[step] &- frame.rangeMillis, end: frame.references[step])
                while upper < times.count, times[upper] <= edges.end { upper &+= 1 }
                while lower < upper, times[lower] <= edges.start { lower &+= 1 }
                column[step] = missing
                guard upper - lower > 1 else { continue }
                let first = values[lower]
                var change = values[upper - 1] - first
                while fall < falls.count, falls[fall] <= lower { fall &+= 1 }
                var next = fall
                while next < falls.count, falls[next] < upper {
                    change += values[falls[next] - 1]
                    next &+= 1
                }
                let scale = Extrapolation(first: times[lower], last: times[upper - 1], count: upper - lower)
                column[step] = change * scale.factor(edges, isRate: kind.isRate, counter: kind.isCounter ? (first, change) : nil)
            }
            written = timeline.count
        }
    }
}

/// Where the samples of a window lie.
struct Extrapolation {
    var first: Int64
    var last: Int64
    var count: Int
    /// Where a counter is known to have been 0, within the window and before its first sample: then nothing is guessed on that side.
    var zeroMillis: Int64?

    /// By how much the change from first to last sample is to be multiplied.
    /// - Parameter counter: of a counter its first value and the change.
    @inline(__always)
    func factor(_ edges: WindowEdges, isRate: Bool, counter: (first: Double, change: Double)?) -> Double {
        var toStart = Double(first - edges.start) / 1000
        var toEnd = Double(edges.end - last) / 1000
        var sampled = Double(last - first) / 1000
        let average = count > 1 ? sampled / Double(count - 1) : 0
        let threshold = average * 1.1
        if let zeroMillis {
            toStart = 0
            sampled = Double(last - zeroMillis) / 1000
        } else {
            if toStart >= threshold { toStart = average / 2 }
            if let counter, counter.change > 0, counter.first >= 0 { toStart = min(toStart, sampled * (counter.first / counter.change)) }
        }
        if toEnd >= threshold { toEnd = average / 2 }
        let factor = sampled == 0 ? 1 : (sampled + toStart + toEnd) / sampled
        return isRate ? factor / edges.rangeSeconds : factor
    }
}

/// Change between the last two samples.
private func instantChange(_ window: Window, isRate: Bool) -> Double {
    let count = window.count
    guard count > 1 else { return missing }
    let (previous, last) = (window.values[count - 2], window.values[count - 1])
    let change = isRate && last < previous ? last : last - previous
    guard isRate else { return change }
    let interval = window.times[count - 1] - window.times[count - 2]
    return interval == 0 ? missing : change / (Double(interval) / 1000)
}

/// Least squares through the samples; the intercept is at `origin`.
private func regression(_ window: Window, origin: Int64) -> (slope: Double, intercept: Double) {
    var (sumX, sumY, sumXY, sumXX) = (CompensatedSum(), CompensatedSum(), CompensatedSum(), CompensatedSum())
    let first = window.values[0]
    if window.values.allSatisfy({ $0 == first }) { return first.isInfinite ? (.nan, .nan) : (0, first) }
    for index in 0..<window.count {
        let x = Double(window.times[index] - origin) / 1000
        sumX.add(x)
        sumY.add(window.values[index])
        sumXY.add(x * window.values[index])
        sumXX.add(x * x)
    }
    let n = Double(window.count)
    let covariance = sumXY.value - sumX.value * sumY.value / n
    let variance = sumXX.value - sumX.value * sumX.value / n
    let slope = covariance / variance
    return (slope, sumY.value / n - slope * sumX.value / n)
}

private func variance(_ window: Window) -> Double {
    var count = 0.0
    var mean = CompensatedSum()
    var sum = CompensatedSum()
    for value in window.values {
        count += 1
        let delta = value - (mean.sum + mean.compensation)
        mean.add(delta / count)
        sum.add(delta * (value - (mean.sum + mean.compensation)))
    }
    return (sum.sum + sum.compensation) / count
}

private func smoothed(_ window: Window, _ smoothing: Double, _ trendFactor: Double) throws(ObsError) -> Double {
    guard smoothing > 0, smoothing < 1 else {
        throw ObsError(.unprocessable, "invalid smoothing factor. Expected: 0 < sf < 1, got: \(formatSampleValue(smoothing))")
    }
    guard trendFactor > 0, trendFactor < 1 else {
        throw ObsError(.unprocessable, "invalid trend factor. Expected: 0 < tf < 1, got: \(formatSampleValue(trendFactor))")
    }
    guard window.count > 1 else { return missing }
    var previous = 0.0
    var level = window.values[0]
    var trend = window.values[1] - window.values[0]
    for index in 1..<window.count {
        if index > 1 { trend = trendFactor * (level - previous) + (1 - trendFactor) * trend }
        (previous, level) = (level, smoothing * window.values[index] + (1 - smoothing) * (level + trend))
    }
    return level
}

private func extreme(_ window: Window, _ isBetter: (Double, Double) -> Bool) -> Int {
    var best = 0
    for index in 1..<window.count where isBetter(window.values[index], window.values[best]) || window.values[best].isNaN { best = index }
    return best
}

func changes(_ window: Window, _ counts: (Double, Double) -> Bool) -> Double {
    var count = 0.0
    for index in 1..<window.count where counts(window.values[index - 1], window.values[index]) { count += 1 }
    return count
}

func sum(_ values: UnsafeBufferPointer<Double>) -> Double {
    var sum = CompensatedSum()
    for value in values { sum.add(value) }
    return sum.value
}

func mean(_ values: UnsafeBufferPointer<Double>) -> Double {
    var mean = CompensatedMean()
    for value in values { mean.add(value) }
    return mean.value
}

private func medianDeviation(_ window: Window) -> Double {
    if window.values.contains(where: \.isNaN) { return .nan }
    var values = Array(window.values)
    let median = quantileOf(&values, 0.5)
    for index in values.indices { values[index] = abs(values[index] - median) }
    return quantileOf(&values, 0.5)
}

/// What a function computes from what the samples of a window come to, at least one; `missing` for nothing.
struct RangeSummary: Sendable {
    let parts: SummaryParts
    let body: @Sendable (SampleSummary, WindowEdges) -> Double

    init(_ parts: SummaryParts, _ body: @escaping @Sendable (SampleSummary, WindowEdges) -> Double) {
        self.parts = parts
        self.body = body
    }
}

/// A function of a window.
struct RangeFunction: Sendable {
    let name: String
    /// Scalars beside the range vector.
    let parameters: Int
    let keepsName: Bool
    let body: WindowFunction
    let mixed: MixedWindowFunction
    /// For `anchored` and `smoothed` windows; nil where such have no meaning.
    let anchored: MixedWindowFunction?
    let smoothed: MixedWindowFunction?
    /// Of those that extrapolate: then `body` is not asked.
    let rate: RateKind?
    /// For windows without histograms of which only a summary is known.
    let summary: RangeSummary?
    /// Whether start timestamps matter.
    var looksAtStarts: Bool { ["rate", "increase", "irate", "resets"].contains(name) }

    /// - Parameters:
    ///   - mixed: for windows with histograms; without it those are left out, and that is told.
    init(
        _ name: String, parameters: Int = 0, keepsName: Bool = false, mixed: MixedWindowFunction? = nil, anchored: MixedWindowFunction? = nil,
        smoothed: MixedWindowFunction? = nil, rate: RateKind? = nil, summary: RangeSummary? = nil, body: @escaping WindowFunction
    ) {
        self.name = name
        self.parameters = parameters
        self.keepsName = keepsName
        self.body = body
        self.mixed = mixed ?? ignoringHistograms(body)
        self.anchored = anchored
        self.smoothed = smoothed
        self.rate = rate
        self.summary = summary
    }
}

private func extrapolated(_ samples: SampleSummary, _ edges: WindowEdges, isCounter: Bool, isRate: Bool) -> Double {
    guard samples.count > 1 else { return missing }
    let change = samples.last - samples.first + (isCounter ? samples.resetDrop : 0)
    let scale = Extrapolation(first: samples.firstMillis, last: samples.lastMillis, count: samples.count)
    return change * scale.factor(edges, isRate: isRate, counter: isCounter ? (samples.first, change) : nil)
}

private func ignoringHistograms(_ body: @escaping WindowFunction) -> MixedWindowFunction {
    { window, first, second, notes throws(ObsError) in
        if window.count == 0 { return .nothing }
        if !window.histograms.isEmpty { notes.note(.ignoredInRange(metric: notes.metric)) }
        let value = try body(window, first, second)
        return isMissing(value) ? .nothing : .number(value)
    }
}

private func rate(_ name: String, isCounter: Bool, isRate: Bool) -> RangeFunction {
    RangeFunction(
        name, mixed: { window, _, _, notes throws(ObsError) in extrapolatedMixed(window, &notes, isCounter: isCounter, isRate: isRate) },
        anchored: { window, _, _, notes throws(ObsError) in changeBetweenEdges(window, &notes, isCounter: isCounter, isRate: isRate, .anchored) },
        smoothed: { window, _, _, notes throws(ObsError) in changeBetweenEdges(window, &notes, isCounter: isCounter, isRate: isRate, .smoothed) },
        rate: RateKind(isCounter: isCounter, isRate: isRate),
        summary: RangeSummary(isCounter ? .all : .values) { extrapolated($0, $1, isCounter: isCounter, isRate: isRate) },
        body: { _, _, _ in missing })
}

private func instantRate(_ name: String, isRate: Bool) -> RangeFunction {
    RangeFunction(
        name, mixed: { window, _, _, notes throws(ObsError) in instantChangeMixed(window, &notes, isRate: isRate) },
        body: { window, _, _ throws(ObsError) in instantChange(window, isRate: isRate) })
}

private func transitions(_ name: String, _ kind: Transition, _ body: @escaping @Sendable (Double, Double) -> Bool) -> RangeFunction {
    RangeFunction(
        name, mixed: { window, _, _, _ throws(ObsError) in countTransitions(window, kind) },
        anchored: { window, _, _, _ throws(ObsError) in countTransitionsFromAnchor(window, kind) },
        body: { window, _, _ throws(ObsError) in changes(window, body) })
}

let rangeFunctions: [RangeFunction] = [
    rate("rate", isCounter: true, isRate: true), rate("increase", isCounter: true, isRate: false), rate("delta", isCounter: false, isRate: false),
    instantRate("irate", isRate: true), instantRate("idelta", isRate: false),
    transitions("resets", .reset) { $1 < $0 }, transitions("changes", .change) { $0 != $1 && !($0.isNaN && $1.isNaN) },
    RangeFunction(
        "avg_over_time", mixed: { window, _, _, notes throws(ObsError) in meanOverTime(window, &notes) },
        summary: RangeSummary(.values) { samples, _ in samples.total / Double(samples.count) },
        body: { window, _, _ throws(ObsError) in mean(window.values) }),
    RangeFunction(
        "sum_over_time", mixed: { window, _, _, notes throws(ObsError) in sumOverTime(window, &notes) },
        summary: RangeSummary(.values) { samples, _ in samples.total },
        body: { window, _, _ throws(ObsError) in sum(window.values) }),
    RangeFunction(
        "count_over_time", mixed: { window, _, _, _ throws(ObsError) in .number(Double(window.count + window.histograms.count)) },
        summary: RangeSummary([]) { samples, _ in Double(samples.count) },
        body: { window, _, _ throws(ObsError) in Double(window.count) }),
    RangeFunction(
        "present_over_time", mixed: { _, _, _, _ throws(ObsError) in .number(1) }, summary: RangeSummary([]) { _, _ in 1 },
        body: { _, _, _ throws(ObsError) in 1 }),
    RangeFunction(
        "last_over_time", keepsName: true, mixed: { window, _, _, _ throws(ObsError) in lastOf(window).value },
        summary: RangeSummary(.values) { samples, _ in samples.last },
        body: { window, _, _ throws(ObsError) in window.values[window.count - 1] }),
    RangeFunction(
        "first_over_time", keepsName: true, mixed: { window, _, _, _ throws(ObsError) in firstOf(window).value },
        summary: RangeSummary(.values) { samples, _ in samples.first },
        body: { window, _, _ throws(ObsError) in window.values[0] }),
    RangeFunction(
        "ts_of_first_over_time", mixed: { window, _, _, _ throws(ObsError) in .number(Double(firstOf(window).timeMillis) / 1000) },
        summary: RangeSummary([]) { samples, _ in Double(samples.firstMillis) / 1000 },
        body: { window, _, _ throws(ObsError) in Double(window.times[0]) / 1000 }),
    RangeFunction(
        "ts_of_last_over_time", mixed: { window, _, _, _ throws(ObsError) in .number(Double(lastOf(window).timeMillis) / 1000) },
        summary: RangeSummary([]) { samples, _ in Double(samples.lastMillis) / 1000 },
        body: { window, _, _ throws(ObsError) in Double(window.times[window.count - 1]) / 1000 }),
    RangeFunction(
        "min_over_time", summary: RangeSummary(.values) { samples, _ in samples.smallest },
        body: { window, _, _ throws(ObsError) in window.values[extreme(window, <)] }),
    RangeFunction(
        "max_over_time", summary: RangeSummary(.values) { samples, _ in samples.greatest },
        body: { window, _, _ throws(ObsError) in window.values[extreme(window, >)] }),
    RangeFunction("ts_of_min_over_time") { window, _, _ throws(ObsError) in Double(window.times[extreme(window, <=)]) / 1000 },
    RangeFunction("ts_of_max_over_time") { window, _, _ throws(ObsError) in Double(window.times[extreme(window, >=)]) / 1000 },
    RangeFunction("stdvar_over_time") { window, _, _ throws(ObsError) in variance(window) },
    RangeFunction("stddev_over_time") { window, _, _ throws(ObsError) in variance(window).squareRoot() },
    RangeFunction("mad_over_time") { window, _, _ throws(ObsError) in medianDeviation(window) },
    RangeFunction("deriv") { window, _, _ throws(ObsError) in window.count < 2 ? missing : regression(window, origin: window.times[0]).slope },
    RangeFunction("predict_linear", parameters: 1) { window, seconds, _ throws(ObsError) in
        guard window.count > 1 else { return missing }
        let line = regression(window, origin: window.evaluationMillis)
        return line.slope * seconds + line.intercept
    },
    RangeFunction("double_exponential_smoothing", parameters: 2) { window, smoothing, trend throws(ObsError) in try smoothed(window, smoothing, trend) },
    RangeFunction("holt_winters", parameters: 2) { window, smoothing, trend throws(ObsError) in try smoothed(window, smoothing, trend) },
    // Its scalar comes first; the table says so.
    RangeFunction("quantile_over_time", parameters: 1) { window, rank, _ throws(ObsError) in
        var values = Array(window.values)
        return quantileOf(&values, rank)
    },
]
