// Samples to columns. Windows and lookback are open at the left: (t - range, t], as Prometheus 3 has it.
internal import ObsCore
internal import ObsStore

/// The samples of a range vector that one step sees.
struct Window {
    let times: UnsafeBufferPointer<Int64>
    let values: UnsafeBufferPointer<Double>
    /// Milliseconds; the left edge is outside.
    let start: Int64
    let end: Int64
    /// The step's own time, which `offset` and `@` do not move.
    let evaluationMillis: Int64

    var count: Int { values.count }
    var rangeSeconds: Double { Double(end - start) / 1000 }
}

/// What a function computes from a window and up to two scalar parameters; `missing` for nothing.
typealias WindowFunction = @Sendable (_ window: Window, _ first: Double, _ second: Double) throws(ObsError) -> Double

extension Evaluator {
    // MARK: instant vectors

    /// - Parameter timestamps: give each sample's own time in seconds instead of its value.
    func select(_ selector: VectorSelector, _ timeline: Timeline, timestamps: Bool = false) throws(ObsError) -> StepMatrix {
        var matrix = StepMatrix()
        try forEachSelected(selector, timeline, timestamps: timestamps) { (series) throws(ObsError) in
            try charge(columns: 1, timeline)
            matrix.series.append(series)
        }
        return matrix
    }

    func forEachSelected(
        _ selector: VectorSelector, _ timeline: Timeline, timestamps: Bool = false, _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        let references = try references(timeline, at: selector.at, offset: selector.offset)
        let first = references.start &- lookbackMillis &+ 1
        guard first <= references.last else { return }
        let set = try reader.series(selector.matchers, range: first...references.last, context: context)
        while let series = try set.next() {
            try context.check()
            let values = column(series, references, timestamps: timestamps)
            guard values.contains(where: { !isMissing($0) }) else { continue }
            try body(StepSeries(labels: series.labels, values: values))
        }
    }

    /// At each reference the newest sample within the lookback, unless it is a stale marker.
    private func column(_ series: SeriesSamples, _ references: Timeline, timestamps: Bool) -> [Double] {
        let count = min(series.timesMillis.count, series.values.count)
        let lookback = lookbackMillis
        return series.timesMillis.withUnsafeBufferPointer { times in
            series.values.withUnsafeBufferPointer { samples in
                [Double](unsafeUninitializedCapacity: references.count) { values, written in
                    var next = 0
                    for step in 0..<references.count {
                        let reference = references[step]
                        while next < count, times[next] <= reference { next += 1 }
                        var value = missing
                        if next > 0, times[next - 1] > reference &- lookback, !isMissing(samples[next - 1]) {
                            value = timestamps ? Double(times[next - 1]) / 1000 : samples[next - 1]
                        }
                        values[step] = value
                    }
                    written = references.count
                }
            }
        }
    }

    // MARK: range vectors

    /// Where a range vector's windows end, and how long they are.
    struct Frame {
        var references: Timeline
        var rangeMillis: Int64
    }

    /// Calls `body` with each series of a range vector, gaps and stale markers left out.
    func forEachSeries(
        _ expression: Expression, _ timeline: Timeline, _ body: (Frame, SeriesSamples, _ dropsName: Bool) throws(ObsError) -> Void
    ) throws(ObsError) {
        switch expression.unwrapped {
        case .range(let range):
            let selector = range.selector
            let frame = Frame(
                references: try references(timeline, at: selector.at, offset: selector.offset), rangeMillis: try positiveMillis(range.range))
            let first = frame.references.start &- frame.rangeMillis &+ 1
            guard first <= frame.references.last else { return }
            let set = try reader.series(selector.matchers, range: first...frame.references.last, context: context)
            while let series = try set.next() {
                try context.check()
                let samples = withoutStale(series)
                if !samples.timesMillis.isEmpty { try body(frame, samples, false) }
            }
        case .subquery(let subquery): try forEachSeries(subquery, timeline, body)
        default: throw ObsError(.internalError, "expected a range vector at \(expression.position)")
        }
    }

    /// A subquery is its expression evaluated at all multiples of its step that some window covers.
    private func forEachSeries(
        _ subquery: Subquery, _ timeline: Timeline, _ body: (Frame, SeriesSamples, _ dropsName: Bool) throws(ObsError) -> Void
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
            let samples = presentSamples(series, inner)
            if !samples.timesMillis.isEmpty { try body(frame, samples, series.dropsName) }
        }
    }

    private func withoutStale(_ series: SeriesSamples) -> SeriesSamples {
        guard series.values.contains(where: isMissing) else { return series }
        var kept = SeriesSamples(labels: series.labels, timesMillis: [], values: [])
        for (time, value) in zip(series.timesMillis, series.values) where !isMissing(value) {
            kept.timesMillis.append(time)
            kept.values.append(value)
        }
        return kept
    }

    /// The column of a window function over one series.
    func slide(
        _ samples: SeriesSamples, _ frame: Frame, _ timeline: Timeline, _ first: [Double]?, _ second: [Double]?, _ function: WindowFunction
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

    /// A range vector as the answer of an instant query: its samples as stored.
    func rawSeries(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> [SeriesSamples] {
        var result: [SeriesSamples] = []
        try forEachSeries(expression, timeline) { (frame, series, dropsName) throws(ObsError) in
            var kept = SeriesSamples(labels: dropsName ? LabelFilter.withoutName(series.labels) : series.labels, timesMillis: [], values: [])
            let end = frame.references.last
            for (time, value) in zip(series.timesMillis, series.values) where time <= end && time > end &- frame.rangeMillis {
                kept.timesMillis.append(time)
                kept.values.append(value)
            }
            // The store counts a series' samples only until the next one.
            try context.charge(bytes: kept.timesMillis.count * 16)
            if !kept.timesMillis.isEmpty { result.append(kept) }
        }
        return result.sorted { $0.labels < $1.labels }
    }
}
