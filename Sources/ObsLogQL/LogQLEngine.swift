package import ObsCore
package import ObsStore

/// Answers LogQL over a store. Any number of queries at once, each on its caller's thread.
package final class LogQLEngine: Sendable {
    private let reader: any Reader

    package init(reader: any Reader) { self.reader = reader }

    /// A query over a range: start inclusive, for log queries end exclusive.
    /// - Parameters:
    ///   - stepNanos: distance of points of a metric query; nil for Loki's default, a 250th of the range but a second at least.
    ///   - intervalNanos: least distance of two entries of a log query; 0 for all.
    /// - Throws: `.badInput` with Loki's text; what the context throws.
    package func range(
        _ query: String, startNanos: Int64, endNanos: Int64, stepNanos: Int64?, intervalNanos: Int64, limit: Int, direction: LogSelection.Direction,
        context: QueryContext
    ) throws(ObsError) -> LogQLResult {
        switch try parseLogQL(query) {
        case .log(let query):
            return .streams(
                try streams(
                    query, startNanos: startNanos, endNanos: endNanos, intervalNanos: intervalNanos, limit: limit, direction: direction, context: context))
        case .metric(let expression):
            let grid = try grid(startNanos: startNanos, endNanos: endNanos, stepNanos: stepNanos, limits: context.limits)
            let evaluator = MetricEvaluator(reader: reader, grid: grid, context: context)
            switch try evaluator.evaluate(expression) {
            case .scalar(let value): return .matrix([series(Column(labels: .empty, values: Array(repeating: value, count: grid.count)), grid)])
            case .vector(let columns): return .matrix(columns.map { series($0, grid) }.filter { !$0.values.isEmpty }.sorted { $0.labels < $1.labels })
            }
        }
    }

    /// A metric query at one instant.
    package func instant(_ query: String, atNanos: Int64, limit: Int, direction: LogSelection.Direction, context: QueryContext) throws(ObsError) -> LogQLResult
    {
        guard case .metric(let expression) = try parseLogQL(query) else {
            throw ObsError(.badInput, "log queries are not supported as an instant query type, please change your query to a range query type")
        }
        let atNanos = bounded(atNanos)
        let grid = StepGrid(startNanos: atNanos, stepNanos: nanosPerSecond, count: 1)
        let evaluator = MetricEvaluator(reader: reader, grid: grid, context: context)
        switch try evaluator.evaluate(expression) {
        case .scalar(let value): return .scalar(value)
        case .vector(let columns):
            let samples = columns.filter { !Column.isAbsent($0.values[0]) }
                .map { LogSample(labels: $0.labels, timeMillis: floorDivide(atNanos, nanosPerMilli), value: $0.values[0]) }
            return .vector(expression.isOrdered ? samples : samples.sorted { $0.labels < $1.labels })
        }
    }

    private func streams(
        _ query: LogQuery, startNanos: Int64, endNanos: Int64, intervalNanos: Int64, limit: Int, direction: LogSelection.Direction, context: QueryContext
    ) throws(ObsError) -> [LogStream] {
        let pipeline = try Pipeline(query.stages)
        guard startNanos < endNanos, limit > 0 else { return [] }
        // Thinning wants all: which entries it leaves out is known at the end only.
        let kept = intervalNanos > 0 ? Int.max : limit
        let sink = EntrySink(pipeline, range: startNanos..<endNanos, limit: kept, direction: direction, context: context)
        let selection = LogSelection(
            matchers: query.matchers, startNanos: startNanos, endNanos: endNanos, direction: direction, lines: pipeline.storedLineFilters,
            limit: kept == .max ? nil : kept)
        try reader.scanLogs(selection, context: context, into: sink)
        return sink.streams(limit: limit, intervalNanos: intervalNanos)
    }

    /// Start and end are moved down to multiples of the step, so that a dashboard's refresh asks for the same points.
    private func grid(startNanos: Int64, endNanos: Int64, stepNanos: Int64?, limits: Limits) throws(ObsError) -> StepGrid {
        let startNanos = bounded(startNanos)
        let endNanos = bounded(endNanos)
        let span = endNanos - startNanos
        guard span >= 0 else { throw ObsError(.badInput, "end timestamp must not be before start time") }
        let step = min(stepNanos ?? max(span / 250 / nanosPerSecond * nanosPerSecond, nanosPerSecond), stepNanosBound)
        guard step > 0 else {
            throw ObsError(.badInput, "zero or negative query resolution step widths are not accepted. Try a positive integer")
        }
        guard span / step < limits.queryPointsMax else {
            throw ObsError(
                .badInput,
                "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter")
        }
        let start = floorDivide(startNanos, step) * step
        let end = floorDivide(endNanos, step) * step
        return StepGrid(startNanos: start, stepNanos: step, count: Int((end - start) / step) + 1)
    }

    private func series(_ column: Column, _ grid: StepGrid) -> LogSeries {
        var result = LogSeries(labels: column.labels, timesMillis: [], values: [])
        for step in 0..<grid.count where !Column.isAbsent(column.values[step]) {
            result.timesMillis.append(floorDivide(grid.nanos(step), nanosPerMilli))
            result.values.append(column.values[step])
        }
        return result
    }
}

/// The year 2096. Times further out are taken as this, so that window arithmetic cannot overflow.
private let timeNanosBound: Int64 = 4_000_000_000_000_000_000
/// 31 years, for the same reason: times move down to a multiple of the step.
private let stepNanosBound: Int64 = 1_000_000_000_000_000_000

private func bounded(_ nanos: Int64) -> Int64 { max(-timeNanosBound, min(nanos, timeNanosBound)) }

extension MetricExpression {
    /// Whether the order of an instant answer means something.
    fileprivate var isOrdered: Bool {
        guard case .vector(let aggregation) = self else { return false }
        switch aggregation.function {
        case .sort, .sortDesc, .topk, .bottomk, .approxTopk: return true
        default: return false
        }
    }
}
