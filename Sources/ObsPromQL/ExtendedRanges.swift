// `anchored` and `smoothed`: changes between the edges of a window instead of between the samples within it.
//
// An anchored window begins with the newest sample at or before its left edge (not older than the lookback) and ends with its last sample; nothing is guessed. A
// smoothed one draws lines from sample to sample and takes the values where the lines cross its edges, which needs the sample after the right edge. Where a
// counter began anew, its line rises from 0. A smoothed instant vector is the value of the line at each step.
internal import ObsCore
internal import ObsStore

package enum RangeExtension: String, Sendable {
    case anchored, smoothed
}

private struct Edges {
    /// The samples nearest to the left and right edge.
    var first: Int
    var last: Int

    /// Nil where no sample has anything to say of the window.
    init?(_ count: Int, _ window: Window, _ rangeExtension: RangeExtension, _ time: (Int) -> Int64) {
        guard count > 0 else { return nil }
        last = count - 1
        first = max(0, ((0..<last).first { time($0) > window.start } ?? last) - 1)
        if rangeExtension == .smoothed { last = (0..<last).first { time($0) >= window.end } ?? last }
        if time(last) <= window.start || (rangeExtension == .smoothed && time(first) > window.end) { return nil }
    }
}

func changeBetweenEdges(
    _ window: Window, _ notes: inout WindowNotes, isCounter: Bool, isRate: Bool, _ rangeExtension: RangeExtension
) -> StepValue {
    if window.isMixed { return refuseMix(&notes) }
    let seconds = isRate ? window.rangeSeconds : 1
    if window.histograms.isEmpty {
        guard let change = numberChange(window, isCounter: isCounter, rangeExtension) else { return .nothing }
        return .number(change / seconds)
    }
    guard var change = histogramChange(window, &notes, isCounter: isCounter, rangeExtension) else { return .nothing }
    if isRate { change.divide(by: seconds) }
    change.reset = .gauge
    return .histogram(change.compacted())
}

// MARK: numbers

private func numberChange(_ window: Window, isCounter: Bool, _ rangeExtension: RangeExtension) -> Double? {
    guard let edges = Edges(window.count, window, rangeExtension, { window.times[$0] }) else { return nil }
    let (left, right) = valuesAtEdges(window, edges, isCounter: isCounter, rangeExtension)
    guard isCounter else { return right - left }
    // What lies on an edge is in the values there already.
    let first = window.times[edges.first] <= window.start ? edges.first + 1 : edges.first
    let last = window.times[edges.last] >= window.end ? edges.last - 1 : edges.last
    var change = right - left
    var previous = left
    for index in stride(from: first, through: last, by: 1) {
        if window.values[index] < previous { change += previous }
        previous = window.values[index]
    }
    if right < previous { change += previous }
    return change
}

private func valuesAtEdges(_ window: Window, _ edges: Edges, isCounter: Bool, _ rangeExtension: RangeExtension) -> (left: Double, right: Double) {
    var left = window.values[edges.first]
    var right = window.values[edges.last]
    guard rangeExtension == .smoothed else { return (left, right) }
    if window.times[edges.first] < window.start, edges.first + 1 < window.count {
        left = line(window, edges.first, edges.first + 1, at: window.start, isCounter: isCounter)
    }
    if edges.last > 0, window.times[edges.last] > window.end {
        right = line(window, edges.last - 1, edges.last, at: window.end, isCounter: isCounter)
    }
    return (left, right)
}

private func line(_ window: Window, _ first: Int, _ second: Int, at time: Int64, isCounter: Bool) -> Double {
    interpolated(
        (window.times[first], window.values[first]), (window.times[second], window.values[second]), at: time, isCounter: isCounter)
}

private func interpolated(_ first: (time: Int64, value: Double), _ second: (time: Int64, value: Double), at time: Int64, isCounter: Bool) -> Double {
    let base = isCounter && second.value < first.value ? 0 : first.value
    return base + (second.value - base) * Double(time - first.time) / Double(second.time - first.time)
}

// MARK: histograms

private func histogramChange(
    _ window: Window, _ notes: inout WindowNotes, isCounter: Bool, _ rangeExtension: RangeExtension
) -> FloatHistogram? {
    let points = window.histograms
    guard let edges = Edges(points.count, window, rangeExtension, { points[$0].timeMillis }) else { return nil }
    let seen = points[edges.first...edges.last]
    guard seen.allSatisfy({ $0.histogram.isCompatible(with: points[edges.first].histogram) }) else {
        notes.note(.mixedBounds(metric: notes.metric))
        return nil
    }
    if isCounter, seen.contains(where: { $0.histogram.reset == .gauge }) { notes.note(.notCounter(metric: notes.metric)) }
    let isSmoothed = rangeExtension == .smoothed
    var left = points[edges.first].histogram
    var right = points[edges.last].histogram
    if isSmoothed, points[edges.first].timeMillis < window.start, edges.first + 1 < points.count {
        guard let line = interpolated(points[edges.first], points[edges.first + 1], at: window.start, isCounter: isCounter, &notes) else { return nil }
        left = line
    }
    if isSmoothed, edges.last > 0, points[edges.last].timeMillis > window.end {
        guard let line = interpolated(points[edges.last - 1], points[edges.last], at: window.end, isCounter: isCounter, &notes) else { return nil }
        right = line
    }
    if !isCounter, left.reset != .gauge || right.reset != .gauge { notes.note(.notGauge(metric: notes.metric)) }
    var change: FloatHistogram? = right
    guard combine(&change, left, sign: -1, &notes) else { return nil }
    guard isCounter else { return change }
    for lost in countedBeforeResets(points, edges, left, right, window, isSmoothed) {
        guard combine(&change, lost, sign: 1, &notes) else { return nil }
    }
    return change
}

/// What a counter had counted each time it began anew within the window.
private func countedBeforeResets(
    _ points: UnsafeBufferPointer<HistogramPoint>, _ edges: Edges, _ left: FloatHistogram, _ right: FloatHistogram, _ window: Window, _ isSmoothed: Bool
) -> [FloatHistogram] {
    var first = edges.first + 1
    var previous = left
    if isSmoothed, points[edges.first].timeMillis < window.start, first < points.count,
        points[first].histogram.isReset(after: points[edges.first].histogram)
    {
        // The line to the left edge has taken this reset into account; the next is seen from the sample after it.
        previous = points[first].histogram
        first += 1
    }
    // The last sample, or the line to it, is `right`.
    guard first <= edges.last else { return [] }
    var lost: [FloatHistogram] = []
    for point in points[first..<edges.last] {
        if point.histogram.isReset(after: previous) { lost.append(previous) }
        previous = point.histogram
    }
    if right.isReset(after: previous) { lost.append(previous) }
    return lost
}

private func combine(_ sum: inout FloatHistogram?, _ other: FloatHistogram, sign: Double, _ notes: inout WindowNotes) -> Bool {
    guard let blend = sum?.combine(other, sign: sign) else {
        notes.note(.mixedBounds(metric: notes.metric))
        return false
    }
    if blend.boundsDiffered { notes.note(.boundsDiffered(sign < 0 ? .subtraction : .addition)) }
    return true
}

private func interpolated(
    _ first: HistogramPoint, _ second: HistogramPoint, at time: Int64, isCounter: Bool, _ notes: inout WindowNotes
) -> FloatHistogram? {
    if time == first.timeMillis { return first.histogram }
    if time == second.timeMillis { return second.histogram }
    let share = Double(time - first.timeMillis) / Double(second.timeMillis - first.timeMillis)
    if isCounter, second.histogram.isReset(after: first.histogram) { return second.histogram.multiplied(by: share) }
    var line: FloatHistogram? = second.histogram
    guard combine(&line, first.histogram, sign: -1, &notes) else { return nil }
    line?.multiply(by: share)
    guard combine(&line, first.histogram, sign: 1, &notes) else { return nil }
    return line
}

// MARK: instant vectors and raw samples

extension SeriesEvaluation {
    /// The value of the line through a series' samples at each step; after its last sample that one's, for as long as the lookback.
    func smoothedColumn(_ series: RangeSeries, _ references: Timeline, _ position: Position) throws(ObsError) -> (StepSeries, Annotations) {
        var notes = WindowNotes(metric: series.labels["__name__"] ?? "", position: position)
        let frame = Frame(references: references, rangeMillis: 0, beforeMillis: lookbackMillis, afterMillis: lookbackMillis)
        let column = try slideMixed(series, frame, references, nil, nil, &notes) { window, _, _, notes throws(ObsError) in
            if window.isMixed { return refuseMix(&notes) }
            return window.histograms.isEmpty ? smoothedNumber(window) : smoothedHistogram(window, &notes)
        }
        return (column, notes.annotations)
    }
}

extension Evaluator {
    /// The samples of an extended window as an answer: those within, with values at both edges.
    func extended(_ series: RangeSeries, _ frame: Frame, _ rangeExtension: RangeExtension) throws(ObsError) -> RangeSeries {
        guard series.histograms.isEmpty else { throw ObsError(.unprocessable, "\(rangeExtension.rawValue) modifier is not supported with histograms") }
        let end = frame.references.last
        let start = end &- frame.rangeMillis
        var result = RangeSeries(labels: series.labels, dropsName: series.dropsName)
        series.timesMillis.withUnsafeBufferPointer { times in
            series.values.withUnsafeBufferPointer { values in
                let window = Window(times: times, values: values, start: start, end: end, evaluationMillis: end)
                guard let edges = Edges(window.count, window, rangeExtension, { times[$0] }) else { return }
                let (left, right) = valuesAtEdges(window, edges, isCounter: false, rangeExtension)
                let within = (edges.first...edges.last).filter { times[$0] > start && times[$0] < end }
                result.timesMillis = [start] + within.map { times[$0] } + [end]
                result.values = [left] + within.map { values[$0] } + [right]
            }
        }
        return result
    }
}

private func smoothedNumber(_ window: Window) -> StepValue {
    let next = window.times.firstIndex { $0 >= window.end } ?? window.count
    if next < window.count, window.times[next] == window.end { return .number(window.values[next]) }
    guard next > 0 else { return .nothing }
    return .number(next < window.count ? line(window, next - 1, next, at: window.end, isCounter: false) : window.values[next - 1])
}

private func smoothedHistogram(_ window: Window, _ notes: inout WindowNotes) -> StepValue {
    let points = window.histograms
    let next = points.firstIndex { $0.timeMillis >= window.end } ?? points.count
    if next < points.count, points[next].timeMillis == window.end { return .histogram(points[next].histogram) }
    guard next > 0 else { return .nothing }
    if next == points.count {
        var last = points[next - 1].histogram
        last.reset = .unknown
        return .histogram(last)
    }
    guard points[next].histogram.isCompatible(with: points[next - 1].histogram) else { return refuseBounds(&notes) }
    let isCounter = points[next - 1].histogram.reset != .gauge || points[next].histogram.reset != .gauge
    return interpolated(points[next - 1], points[next], at: window.end, isCounter: isCounter, &notes).map { .histogram($0) } ?? .nothing
}
