// Instant vectors: samples to columns. The lookback is open at the left: (t - lookback, t], as Prometheus 3 has it.
internal import ObsCore
internal import ObsStore

/// What of a sample goes into a column.
enum SampleAspect {
    case value
    /// Its own time, its start, in seconds.
    case time, start
    /// The time of a number, where histograms have no place.
    case numberTime
    /// 1.
    case presence
}

extension Evaluator {
    func select(_ selector: VectorSelector, _ timeline: Timeline, _ aspect: SampleAspect = .value) throws(ObsError) -> StepMatrix {
        var matrix = StepMatrix()
        try forEachSelected(selector, timeline, aspect) { (series) throws(ObsError) in
            try charge(columns: 1, timeline)
            try charge(series.histograms)
            matrix.series.append(series)
        }
        return matrix
    }

    func forEachSelected(
        _ selector: VectorSelector, _ timeline: Timeline, _ aspect: SampleAspect = .value, _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        let references = try references(timeline, at: selector.at, offset: selector.offset)
        let isSmoothed = selector.rangeExtension == .smoothed
        let first = references.start &- lookbackMillis &+ 1
        let last = isSmoothed ? references.last &+ lookbackMillis : references.last
        guard first <= last else { return }
        let set = try reader.series(selector.matchers, range: first...last, context: context)
        if references.count == 1, !isSmoothed, let parts = aspect.summaryParts {
            return try forEachSummedUp(set, selector, references, aspect, parts, body)
        }
        let evaluation = evaluation
        try inBatches(
            set, steps: references.count,
            { series throws(ObsError) in
                if isSmoothed { return try evaluation.smoothedColumn(evaluation.rangeSeries(series, selector), references, selector.position) }
                return (try evaluation.column(series, selector, references, aspect), Annotations())
            },
            { (column, _) throws(ObsError) in if !column.isEmpty { try body(column) } })
    }

    /// One step sees the last sample of what is read: the store knows that mostly without reading the others.
    private func forEachSummedUp(
        _ set: any SeriesSet, _ selector: VectorSelector, _ references: Timeline, _ aspect: SampleAspect, _ parts: SummaryParts,
        _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        while let summary = try set.nextSummary(parts) {
            try context.check()
            if let whole = summary.whole {
                let column = try evaluation.column(whole, selector, references, aspect)
                if !column.isEmpty { try body(column) }
                continue
            }
            let samples = summary.samples
            if samples.endsStale || samples.count == 0 { continue }
            let value = aspect == .value ? samples.last : aspect == .presence ? 1 : Double(samples.lastMillis) / 1000
            try body(StepSeries(labels: summary.labels, values: [value]))
        }
    }
}

extension SampleAspect {
    /// What of the last sample a summary must tell; nil where it cannot.
    fileprivate var summaryParts: SummaryParts? {
        switch self {
        case .value: [.newest, .values]
        case .time, .numberTime, .presence: .newest
        case .start: nil
        }
    }
}

/// What is done to one series at a time, on any thread.
struct SeriesEvaluation: Sendable {
    let context: QueryContext
    let options: PromQLOptions
    let lookbackMillis: Int64

    func column(_ series: SeriesSamples, _ selector: VectorSelector, _ references: Timeline, _ aspect: SampleAspect) throws(ObsError) -> StepSeries {
        if series.histograms != nil { return try mixedColumn(series, selector, references, aspect) }
        return StepSeries(labels: series.labels, values: numberColumn(series, references, aspect))
    }

    /// At each reference the newest sample within the lookback, unless it is a stale marker.
    private func numberColumn(_ series: SeriesSamples, _ references: Timeline, _ aspect: SampleAspect) -> [Double] {
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
                            value = aspect == .value ? samples[next - 1] : number(series, next - 1, aspect)
                        }
                        values[step] = value
                    }
                    written = references.count
                }
            }
        }
    }

    private func number(_ series: SeriesSamples, _ row: Int, _ aspect: SampleAspect) -> Double {
        if aspect == .presence { return 1 }
        let isStart = aspect == .start
        let millis = !isStart ? series.timesMillis[row] : row < series.startsMillis.count ? series.startsMillis[row] : 0
        return Double(millis) / 1000
    }

    /// The same of a series that has histograms, too.
    private func mixedColumn(
        _ series: SeriesSamples, _ selector: VectorSelector, _ references: Timeline, _ aspect: SampleAspect
    ) throws(ObsError) -> StepSeries {
        let points = try histogramPoints(series, selector)
        var column = StepSeries(labels: series.labels, values: [Double](repeating: missing, count: references.count))
        var (nextNumber, nextPoint) = (0, 0)
        for step in 0..<references.count {
            let reference = references[step]
            while nextNumber < series.timesMillis.count, series.timesMillis[nextNumber] <= reference { nextNumber += 1 }
            while nextPoint < points.count, points[nextPoint].timeMillis <= reference { nextPoint += 1 }
            let numberTime = nextNumber > 0 ? series.timesMillis[nextNumber - 1] : .min
            let pointTime = nextPoint > 0 ? points[nextPoint - 1].timeMillis : .min
            guard max(numberTime, pointTime) > reference &- lookbackMillis else { continue }
            if numberTime > pointTime {
                let value = series.values[nextNumber - 1]
                if isMissing(value) { continue }
                column.values[step] = aspect == .value ? value : number(series, nextNumber - 1, aspect)
            } else {
                let point = points[nextPoint - 1]
                if isMissing(point.histogram.sum) { continue }
                switch aspect {
                case .value: column[step] = .histogram(point.histogram)
                case .time: column.values[step] = Double(point.timeMillis) / 1000
                case .start: column.values[step] = Double(point.startMillis) / 1000
                case .presence: column.values[step] = 1
                case .numberTime: throw ObsError(.unprocessable, "this should be an info metric, with float samples: \(series.labels)")
                }
            }
            if step & 1023 == 1023 { try context.check() }
        }
        return column
    }

    /// A series' histograms, stale markers among them, taken out of their columns.
    func histogramPoints(_ series: SeriesSamples, _ selector: VectorSelector) throws(ObsError) -> [HistogramPoint] {
        guard let columns = series.histograms else { return [] }
        var decoder = HistogramDecoder(columns)
        var points: [HistogramPoint] = []
        points.reserveCapacity(columns.count)
        for row in 0..<columns.count {
            var point = HistogramPoint(
                timeMillis: columns.timesMillis[row], startMillis: options.usesStartTimestamps ? columns.startsMillis[row] : 0,
                histogram: decoder.histogram(row))
            // That counting began anew shows where a histogram is put beside the one before it; who only has this one must not take it for one in two.
            if point.histogram.reset == .reset { point.histogram.reset = .unknown }
            if selector.tellsResets, point.histogram.reset == .unknown, let previous = points.last?.histogram, !isMissing(previous.sum) {
                point.histogram.reset = point.histogram.isReset(after: previous) ? .reset : .noReset
            }
            points.append(point)
            if row & 1023 == 1023 { try context.check() }
        }
        return points
    }
}
