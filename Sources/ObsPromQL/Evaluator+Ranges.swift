// Range vectors: windows that slide over a series' samples as the store hands it out. Windows are open at the left: (t - range, t].
internal import ObsCore
internal import ObsStore

/// The samples of a range vector that one step sees.
struct Window {
    let times: UnsafeBufferPointer<Int64>
    let values: UnsafeBufferPointer<Double>
    /// For each of `values`; empty when not known or not asked for.
    var starts = UnsafeBufferPointer<Int64>(start: nil, count: 0)
    var histograms = UnsafeBufferPointer<HistogramPoint>(start: nil, count: 0)
    /// Milliseconds; the left edge is outside. Only windows of `anchored` and `smoothed` selectors hold samples beyond their edges.
    let start: Int64
    let end: Int64
    /// The step's own time, which `offset` and `@` do not move.
    let evaluationMillis: Int64

    var count: Int { values.count }
    var edges: WindowEdges { WindowEdges(start: start, end: end) }
    var rangeSeconds: Double { edges.rangeSeconds }
}

/// Where a window begins and ends, milliseconds; the left edge is outside.
struct WindowEdges: Sendable {
    let start: Int64
    let end: Int64
    var rangeSeconds: Double { Double(end - start) / 1000 }
}

/// What a function computes from the numbers of a window and up to two scalar parameters; `missing` for nothing.
typealias WindowFunction = @Sendable (_ window: Window, _ first: Double, _ second: Double) throws(ObsError) -> Double

/// The same of a window that has histograms, or start timestamps, or samples beyond its edges.
typealias MixedWindowFunction =
    @Sendable (
        _ window: Window, _ first: Double, _ second: Double, _ notes: inout WindowNotes
    ) throws(ObsError) -> StepValue

/// What is to be told of a series' windows.
struct WindowNotes {
    let metric: String
    let position: Position
    var annotations = Annotations()

    mutating func note(_ annotation: Annotation) { annotations.note(annotation, at: position) }
}

/// A series of a range vector, gaps and stale markers left out.
struct RangeSeries: Sendable {
    var labels: Labels
    var timesMillis: [Int64] = []
    var values: [Double] = []
    /// For each of `values`, or empty.
    var startsMillis: [Int64] = []
    var histograms: [HistogramPoint] = []
    var dropsName = false

    var isEmpty: Bool { timesMillis.isEmpty && histograms.isEmpty }
}

/// Where a range vector's windows end, and how long they are.
struct Frame: Sendable {
    var references: Timeline
    var rangeMillis: Int64
    /// How far beyond its edges a window sees.
    var beforeMillis: Int64 = 0
    var afterMillis: Int64 = 0
}

extension Evaluator {
    /// What a range vector of a selector reads, and its windows.
    func frame(_ range: RangeSelector, _ timeline: Timeline) throws(ObsError) -> (frame: Frame, read: ClosedRange<Int64>)? {
        let selector = range.selector
        var frame = Frame(
            references: try references(timeline, at: selector.at, offset: selector.offset), rangeMillis: try positiveMillis(range.range))
        if selector.rangeExtension != nil { frame.beforeMillis = lookbackMillis }
        if selector.rangeExtension == .smoothed { frame.afterMillis = lookbackMillis }
        let first = frame.references.start &- frame.rangeMillis &- frame.beforeMillis &+ 1
        let last = frame.references.last &+ frame.afterMillis
        return first <= last ? (frame, first...last) : nil
    }

    /// Turns each series of a range vector into something, on any thread, and calls `body` with that, in order.
    func forEachSeries<R: Sendable>(
        _ expression: Expression, _ timeline: Timeline, _ work: @escaping @Sendable (Frame, RangeSeries) throws(ObsError) -> R,
        _ body: (R) throws(ObsError) -> Void
    ) throws(ObsError) {
        switch expression.unwrapped {
        case .range(let range):
            guard let (frame, read) = try frame(range, timeline) else { return }
            let set = try reader.series(range.selector.matchers, range: read, context: context)
            let (evaluation, selector) = (evaluation, range.selector)
            try inBatches(
                set, steps: timeline.count,
                { series throws(ObsError) -> (R?, Annotations) in
                    let samples = try evaluation.rangeSeries(series, selector)
                    return (samples.isEmpty ? nil : try work(frame, samples), Annotations())
                },
                { (result, _) throws(ObsError) in if let result { try body(result) } })
        case .subquery(let subquery): try forEachSeries(subquery, timeline, work, body)
        default: throw ObsError(.internalError, "expected a range vector at \(expression.position)")
        }
    }

    /// A subquery is its expression evaluated at all multiples of its step that some window covers.
    private func forEachSeries<R: Sendable>(
        _ subquery: Subquery, _ timeline: Timeline, _ work: @escaping @Sendable (Frame, RangeSeries) throws(ObsError) -> R,
        _ body: (R) throws(ObsError) -> Void
    ) throws(ObsError) {
        let frame = Frame(
            references: try references(timeline, at: subquery.at, offset: subquery.offset), rangeMillis: try positiveMillis(subquery.range))
        var step = options.subqueryStepMillis
        if let given = subquery.step { step = try positiveMillis(given) }
        let before = frame.references.start &- frame.rangeMillis
        let first = (floorDivide(before, step) &+ 1) &* step
        guard first <= frame.references.last else { return }
        let inner = Timeline(start: first, step: step, count: Int((frame.references.last - first) / step) + 1)
        try context.charge(samples: inner.count)
        for series in try vector(subquery.expression, inner).series {
            try context.check()
            let samples = rangeSeries(series, inner)
            if !samples.isEmpty { try body(work(frame, samples)) }
        }
    }

    /// Samples of a subquery. A histogram that says whether counting began anew says it of the sample before it in the store, which need not be here.
    private func rangeSeries(_ series: StepSeries, _ timeline: Timeline) -> RangeSeries {
        let samples = presentNumbers(series, timeline)
        var range = RangeSeries(labels: series.labels, timesMillis: samples.timesMillis, values: samples.values, dropsName: series.dropsName)
        guard let histograms = series.histograms else { return range }
        for step in 0..<timeline.count {
            guard var histogram = histograms[step] else { continue }
            if histogram.reset != .gauge { histogram.reset = .unknown }
            range.histograms.append(HistogramPoint(timeMillis: timeline[step], histogram: histogram))
        }
        return range
    }

    /// A range vector as the answer of an instant query: its samples as stored.
    func rawSeries(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> [SeriesSamples] {
        var result: [SeriesSamples] = []
        var rangeExtension: RangeExtension?
        if case .range(let node) = expression.unwrapped { rangeExtension = node.selector.rangeExtension }
        try forEachSeries(
            expression, timeline, { frame, series throws(ObsError) in (frame, series) },
            { (frame, series) throws(ObsError) in
                let kept = try samples(of: series, within: frame, rangeExtension)
                // The store counts a series' samples only until the next one.
                try context.charge(bytes: kept.timesMillis.count * 16 + (kept.histograms?.byteSize ?? 0))
                if !kept.timesMillis.isEmpty || kept.histograms != nil { result.append(kept) }
            })
        return result.sorted { $0.labels < $1.labels }
    }

    private func samples(of series: RangeSeries, within frame: Frame, _ rangeExtension: RangeExtension?) throws(ObsError) -> SeriesSamples {
        var series = series
        if let rangeExtension { series = try extended(series, frame, rangeExtension) }
        var kept = SeriesSamples(labels: series.dropsName ? LabelFilter.withoutName(series.labels) : series.labels, timesMillis: [], values: [])
        let end = frame.references.last
        let start = end &- frame.rangeMillis
        // An extended window has a value at its left edge.
        func isInside(_ time: Int64) -> Bool { time <= end && (time > start || (rangeExtension != nil && time == start)) }
        for (time, value) in zip(series.timesMillis, series.values) where isInside(time) {
            kept.timesMillis.append(time)
            kept.values.append(value)
        }
        var columns = HistogramColumns()
        for point in series.histograms where isInside(point.timeMillis) { columns.append(point.histogram, timeMillis: point.timeMillis) }
        if !columns.isEmpty { kept.histograms = columns }
        return kept
    }
}

extension SeriesEvaluation {
    func rangeSeries(_ series: SeriesSamples, _ selector: VectorSelector) throws(ObsError) -> RangeSeries {
        var range = RangeSeries(labels: series.labels, timesMillis: series.timesMillis, values: series.values)
        if options.usesStartTimestamps, series.startsMillis.count == series.values.count { range.startsMillis = series.startsMillis }
        if series.values.contains(where: isMissing) {
            let kept = series.values.indices.filter { !isMissing(series.values[$0]) }
            range.timesMillis = kept.map { series.timesMillis[$0] }
            range.values = kept.map { series.values[$0] }
            if !range.startsMillis.isEmpty { range.startsMillis = kept.map { series.startsMillis[$0] } }
        }
        if series.histograms != nil { range.histograms = try histogramPoints(series, selector).filter { !isMissing($0.histogram.sum) } }
        return range
    }

    /// The column of a function over the windows of a series without histograms.
    func slide(
        _ samples: RangeSeries, _ frame: Frame, _ timeline: Timeline, _ first: [Double]?, _ second: [Double]?, _ function: WindowFunction
    ) throws(ObsError) -> [Double] {
        try samples.timesMillis.withUnsafeBufferPointer { (times) throws(ObsError) -> [Double] in
            try samples.values.withUnsafeBufferPointer { (values) throws(ObsError) -> [Double] in
                var column = [Double](repeating: missing, count: timeline.count)
                var lower = 0
                var upper = 0
                for step in 0..<timeline.count {
                    let end = frame.references[step]
                    let start = end &- frame.rangeMillis
                    while upper < times.count, times[upper] <= end { upper += 1 }
                    while lower < upper, times[lower] <= start { lower += 1 }
                    guard lower < upper else { continue }
                    let window = Window(
                        times: UnsafeBufferPointer(rebasing: times[lower..<upper]), values: UnsafeBufferPointer(rebasing: values[lower..<upper]), start: start,
                        end: end, evaluationMillis: timeline[step])
                    column[step] = try function(window, first?[step] ?? 0, second?[step] ?? 0)
                    if step & 1023 == 1023 { try context.check() }
                }
                return column
            }
        }
    }

    /// The columns of a function over windows of any kind.
    func slideMixed(
        _ samples: RangeSeries, _ frame: Frame, _ timeline: Timeline, _ first: [Double]?, _ second: [Double]?, _ notes: inout WindowNotes,
        _ function: MixedWindowFunction
    ) throws(ObsError) -> StepSeries {
        var column = StepSeries(labels: samples.labels, values: [Double](repeating: missing, count: timeline.count))
        var numbers = 0..<0
        var points = 0..<0
        for step in 0..<timeline.count {
            let end = frame.references[step]
            let start = end &- frame.rangeMillis
            let (from, to) = (start &- frame.beforeMillis, end &+ frame.afterMillis)
            numbers = window(numbers, samples.timesMillis.count, from, to) { samples.timesMillis[$0] }
            points = window(points, samples.histograms.count, from, to) { samples.histograms[$0].timeMillis }
            if numbers.isEmpty, points.isEmpty { continue }
            column[step] = try samples.withWindow(numbers, points, start: start, end: end, evaluationMillis: timeline[step]) { (window) throws(ObsError) in
                try function(window, first?[step] ?? 0, second?[step] ?? 0, &notes)
            }
            if step & 255 == 255 { try context.check() }
        }
        return column
    }

    /// The rows with times in (from, to], which move on from those of the step before.
    private func window(_ rows: Range<Int>, _ count: Int, _ from: Int64, _ to: Int64, _ time: (Int) -> Int64) -> Range<Int> {
        var (lower, upper) = (rows.lowerBound, rows.upperBound)
        while upper < count, time(upper) <= to { upper += 1 }
        while lower < upper, time(lower) <= from { lower += 1 }
        return lower..<upper
    }
}

extension RangeSeries {
    fileprivate func withWindow(
        _ numbers: Range<Int>, _ points: Range<Int>, start: Int64, end: Int64, evaluationMillis: Int64, _ body: (Window) throws(ObsError) -> StepValue
    ) throws(ObsError) -> StepValue {
        try timesMillis.withUnsafeBufferPointer { (times) throws(ObsError) in
            try values.withUnsafeBufferPointer { (values) throws(ObsError) in
                try startsMillis.withUnsafeBufferPointer { (starts) throws(ObsError) in
                    try histograms.withUnsafeBufferPointer { (histograms) throws(ObsError) in
                        let window = Window(
                            times: UnsafeBufferPointer(rebasing: times[numbers]), values: UnsafeBufferPointer(rebasing: values[numbers]),
                            starts: starts.isEmpty ? starts : UnsafeBufferPointer(rebasing: starts[numbers]),
                            histograms: UnsafeBufferPointer(rebasing: histograms[points]), start: start, end: end, evaluationMillis: evaluationMillis)
                        return try body(window)
                    }
                }
            }
        }
    }
}
