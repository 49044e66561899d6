package import ObsCore
package import ObsStore

package struct PromQLOptions: Sendable {
    /// How far an instant selector looks back for a sample (Prometheus' `--query.lookback-delta`).
    package var lookbackMillis: Int64 = 300_000
    /// Step of a subquery that names none (Prometheus: the global evaluation interval).
    package var subqueryStepMillis: Int64 = 60_000
    /// Keeps metric names until the end of a query, so that `label_replace(rate(…), …, "__name__", …)` still sees them
    /// (Prometheus' `promql-delayed-name-removal`, off there too).
    package var removesNamesLate = false
    /// Whether `anchored`, `smoothed` and arithmetic with durations are understood (flag `--promql.experimental`, as the two below).
    package var isExperimental = false
    /// Whether a counter is known by its label `__type__` instead of by its name.
    package var hasTypeAndUnitLabels = false
    /// Whether start timestamps of samples say where counters began anew, and where they were 0.
    package var usesStartTimestamps = false

    package init() {}

    /// With everything that is experimental.
    package static var experimental: PromQLOptions {
        var options = PromQLOptions()
        (options.isExperimental, options.hasTypeAndUnitLabels, options.usesStartTimestamps) = (true, true, true)
        return options
    }
}

/// One sample of an instant query's answer.
package struct VectorSample: Sendable, Equatable {
    package var labels: Labels
    package var timeMillis: Int64
    /// NaN where the sample is a histogram.
    package var value: Double
    package var histogram: FloatHistogram?

    package init(labels: Labels, timeMillis: Int64, value: Double, histogram: FloatHistogram? = nil) {
        self.labels = labels
        self.timeMillis = timeMillis
        self.value = value
        self.histogram = histogram
    }
}

package enum PromQLValue: Sendable {
    case scalar(timeMillis: Int64, Double)
    case string(timeMillis: Int64, String)
    /// In the order `sort` or `topk` gave it, else by labels.
    case vector([VectorSample])
    /// Sorted by labels.
    case matrix([SeriesSamples])
}

package struct PromQLResult: Sendable {
    package var value: PromQLValue
    /// As Prometheus words them: `PromQL warning: …`.
    package var warnings: [String]
    package var infos: [String]
}

/// Evaluates queries against a store. Stateless: any number of queries at once, each on its caller's thread.
package final class PromQLEngine: Sendable {
    private let reader: any Reader
    private let options: PromQLOptions
    private let workers: ScanWorkers

    /// How far an instant selector looks back unless told otherwise.
    package var lookbackMillis: Int64 { options.lookbackMillis }

    /// - Parameter threads: how many help a query beside the one that asks.
    package init(reader: any Reader, options: PromQLOptions = PromQLOptions(), threads: Int = 0) {
        self.reader = reader
        self.options = options
        workers = ScanWorkers(threads: threads)
    }

    deinit { workers.stop() }

    /// Parses a query as this engine's options have it.
    /// - Throws: `.badInput`.
    package func parse(_ query: String) throws(ObsError) -> Expression { try parsePromQL(query, experimental: options.isExperimental) }

    /// Parses and evaluates at one instant.
    /// - Throws: `.badInput` for a query that does not parse, `.unprocessable` for one that cannot be evaluated (clashing series), what the reader and the context throw.
    package func instant(_ query: String, atMillis: Int64, lookbackMillis: Int64? = nil, context: QueryContext) throws(ObsError) -> PromQLResult {
        try instant(parse(query), atMillis: atMillis, lookbackMillis: lookbackMillis, context: context)
    }

    /// Parses and evaluates at `startMillis`, `startMillis + stepMillis`, … up to `endMillis`. How many steps are too many is the caller's to say.
    package func range(
        _ query: String, startMillis: Int64, endMillis: Int64, stepMillis: Int64, lookbackMillis: Int64? = nil, context: QueryContext
    ) throws(ObsError) -> PromQLResult {
        try range(parse(query), startMillis: startMillis, endMillis: endMillis, stepMillis: stepMillis, lookbackMillis: lookbackMillis, context: context)
    }

    /// Evaluates what was parsed before (rules do it for days).
    package func instant(_ expression: Expression, atMillis: Int64, lookbackMillis: Int64? = nil, context: QueryContext) throws(ObsError) -> PromQLResult {
        try checkInstant(atMillis)
        let timeline = Timeline(start: atMillis, step: 0, count: 1)
        let evaluator = evaluator(timeline, lookbackMillis, isRange: false, context)
        defer { evaluator.releaseMemory() }
        let value: PromQLValue
        switch expression.type {
        case .matrix: value = .matrix(try evaluator.rawSeries(expression, timeline))
        default: value = instantValue(try evaluator.answer(expression, timeline), atMillis)
        }
        return evaluator.result(value)
    }

    package func range(
        _ expression: Expression, startMillis: Int64, endMillis: Int64, stepMillis: Int64, lookbackMillis: Int64? = nil, context: QueryContext
    ) throws(ObsError) -> PromQLResult {
        guard expression.type == .scalar || expression.type == .vector else {
            throw ObsError(.badInput, "invalid expression type \"\(expression.type.documented)\" for range query, must be Scalar or instant Vector")
        }
        guard stepMillis > 0 else { throw ObsError(.badInput, "zero or negative query resolution step widths are not accepted") }
        try checkInstant(startMillis)
        try checkInstant(endMillis)
        let length = clampedDifference(endMillis, startMillis)
        guard length >= 0 else { throw ObsError(.badInput, "end timestamp must not be before start time") }
        let timeline = Timeline(start: startMillis, step: stepMillis, count: Int(length / stepMillis) + 1)
        let evaluator = evaluator(timeline, lookbackMillis, isRange: true, context)
        evaluator.queryEndMillis = endMillis
        defer { evaluator.releaseMemory() }
        let value = try evaluator.answer(expression, timeline)
        return evaluator.result(.matrix(rangeSeries(value, timeline)))
    }

    private func evaluator(_ timeline: Timeline, _ lookbackMillis: Int64?, isRange: Bool, _ context: QueryContext) -> Evaluator {
        let lookback = lookbackMillis ?? options.lookbackMillis
        return Evaluator(
            reader: reader, context: context, timeline: timeline, lookbackMillis: lookback > 0 ? lookback : options.lookbackMillis,
            options: options, isRange: isRange, workers: workers)
    }
}

private func checkInstant(_ millis: Int64) throws(ObsError) {
    guard abs(Double(millis)) < secondsMax * 1000 else { throw ObsError(.badInput, "timestamp out of range") }
}

private func instantValue(_ value: Value, _ timeMillis: Int64) -> PromQLValue {
    switch value {
    case .scalar(let column): return .scalar(timeMillis: timeMillis, column[0])
    case .string(let text): return .string(timeMillis: timeMillis, text)
    case .vector(let matrix):
        var samples: [VectorSample] = []
        for series in matrix.series where series.isPresent(0) {
            let histogram = series.histograms?[0]
            samples.append(VectorSample(labels: series.labels, timeMillis: timeMillis, value: histogram == nil ? series.values[0] : .nan, histogram: histogram))
        }
        if !matrix.isOrdered { samples.sort { $0.labels < $1.labels } }
        return .vector(samples)
    }
}

private func rangeSeries(_ value: Value, _ timeline: Timeline) -> [SeriesSamples] {
    switch value {
    case .string: return []
    case .scalar(let column): return [presentSamples(StepSeries(labels: .empty, values: column), timeline)]
    case .vector(let matrix):
        return matrix.series.map { presentSamples($0, timeline) }.filter { !$0.timesMillis.isEmpty || $0.histograms != nil }.sorted { $0.labels < $1.labels }
    }
}

/// A series' columns without their gaps.
private func presentSamples(_ series: StepSeries, _ timeline: Timeline) -> SeriesSamples {
    var samples = presentNumbers(series, timeline)
    guard let histograms = series.histograms else { return samples }
    var columns = HistogramColumns()
    for step in 0..<timeline.count { if let histogram = histograms[step] { columns.append(histogram, timeMillis: timeline[step]) } }
    if !columns.isEmpty { samples.histograms = columns }
    return samples
}

func presentNumbers(_ series: StepSeries, _ timeline: Timeline) -> SeriesSamples {
    var samples = SeriesSamples(labels: series.labels, timesMillis: [], values: [])
    samples.timesMillis.reserveCapacity(timeline.count)
    samples.values.reserveCapacity(timeline.count)
    for step in 0..<timeline.count where !isMissing(series.values[step]) {
        samples.timesMillis.append(timeline[step])
        samples.values.append(series.values[step])
    }
    return samples
}
