// Functions of a window of samples: one pure function each, `missing` when a window has no answer.
internal import Glibc
internal import ObsCore

/// Prometheus' extrapolation: the change seen within the window is scaled to the whole window, unless the series seems to begin
/// or end in it; then by half an average interval past its samples. A counter is never extrapolated below zero.
private func extrapolated(_ window: Window, isCounter: Bool, isRate: Bool) -> Double {
    let count = window.count
    guard count > 1 else { return missing }
    let (values, times) = (window.values, window.times)
    let first = values[0]
    var change = values[count - 1] - first
    if isCounter {
        var previous = first
        for index in 1..<count {
            if values[index] < previous { change += previous }
            previous = values[index]
        }
    }
    var toStart = Double(times[0] - window.start) / 1000
    var toEnd = Double(window.end - times[count - 1]) / 1000
    let sampled = Double(times[count - 1] - times[0]) / 1000
    let average = sampled / Double(count - 1)
    let threshold = average * 1.1
    if toStart >= threshold { toStart = average / 2 }
    if isCounter, change > 0, first >= 0 { toStart = min(toStart, sampled * (first / change)) }
    if toEnd >= threshold { toEnd = average / 2 }
    var factor = (sampled + toStart + toEnd) / sampled
    if isRate { factor /= window.rangeSeconds }
    return change * factor
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

private func changes(_ window: Window, _ counts: (Double, Double) -> Bool) -> Double {
    var count = 0.0
    for index in 1..<window.count where counts(window.values[index - 1], window.values[index]) { count += 1 }
    return count
}

private func medianDeviation(_ window: Window) -> Double {
    if window.values.contains(where: \.isNaN) { return .nan }
    var values = Array(window.values)
    let median = quantileOf(&values, 0.5)
    for index in values.indices { values[index] = abs(values[index] - median) }
    return quantileOf(&values, 0.5)
}

let windowFunctions: [(name: String, parameters: Int, keepsName: Bool, body: WindowFunction)] = [
    ("rate", 0, false, { window, _, _ in extrapolated(window, isCounter: true, isRate: true) }),
    ("increase", 0, false, { window, _, _ in extrapolated(window, isCounter: true, isRate: false) }),
    ("delta", 0, false, { window, _, _ in extrapolated(window, isCounter: false, isRate: false) }),
    ("irate", 0, false, { window, _, _ in instantChange(window, isRate: true) }),
    ("idelta", 0, false, { window, _, _ in instantChange(window, isRate: false) }),
    ("deriv", 0, false, { window, _, _ in window.count < 2 ? missing : regression(window, origin: window.times[0]).slope }),
    ("resets", 0, false, { window, _, _ in changes(window) { $1 < $0 } }),
    ("changes", 0, false, { window, _, _ in changes(window) { $0 != $1 && !($0.isNaN && $1.isNaN) } }),
    (
        "avg_over_time", 0, false,
        { window, _, _ in
            var mean = CompensatedMean()
            for value in window.values { mean.add(value) }
            return mean.value
        }
    ),
    (
        "sum_over_time", 0, false,
        { window, _, _ in
            var sum = CompensatedSum()
            for value in window.values { sum.add(value) }
            return sum.value
        }
    ),
    ("min_over_time", 0, false, { window, _, _ in window.values[extreme(window, <)] }),
    ("max_over_time", 0, false, { window, _, _ in window.values[extreme(window, >)] }),
    ("count_over_time", 0, false, { window, _, _ in Double(window.count) }),
    ("last_over_time", 0, true, { window, _, _ in window.values[window.count - 1] }),
    ("first_over_time", 0, true, { window, _, _ in window.values[0] }),
    ("present_over_time", 0, false, { _, _, _ in 1 }),
    ("stdvar_over_time", 0, false, { window, _, _ in variance(window) }),
    ("stddev_over_time", 0, false, { window, _, _ in variance(window).squareRoot() }),
    ("mad_over_time", 0, false, { window, _, _ in medianDeviation(window) }),
    ("ts_of_first_over_time", 0, false, { window, _, _ in Double(window.times[0]) / 1000 }),
    ("ts_of_last_over_time", 0, false, { window, _, _ in Double(window.times[window.count - 1]) / 1000 }),
    ("ts_of_min_over_time", 0, false, { window, _, _ in Double(window.times[extreme(window, <=)]) / 1000 }),
    ("ts_of_max_over_time", 0, false, { window, _, _ in Double(window.times[extreme(window, >=)]) / 1000 }),
    (
        "predict_linear", 1, false,
        { window, seconds, _ in
            guard window.count > 1 else { return missing }
            let line = regression(window, origin: window.evaluationMillis)
            return line.slope * seconds + line.intercept
        }
    ),
    ("double_exponential_smoothing", 2, false, { window, smoothing, trend throws(ObsError) in try smoothed(window, smoothing, trend) }),
    ("holt_winters", 2, false, { window, smoothing, trend throws(ObsError) in try smoothed(window, smoothing, trend) }),
    // Its scalar comes first; the table says so.
    (
        "quantile_over_time", 1, false,
        { window, rank, _ in
            var values = Array(window.values)
            return quantileOf(&values, rank)
        }
    ),
]
