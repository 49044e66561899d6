// Evaluation goes series by series over columns, not step by step over maps. A selector reads each of its series once and turns
// it into a column aligned to the steps of the query; a function of a range vector slides a window over the samples as they
// are read; aggregations fold columns group by group; binary operators pair series once a query and then walk the steps.
// Labels are touched once a series, never once a step. An instant query is the same with one step.
//
// Parts of a query that every step sees alike (all selectors pinned by `@`) are evaluated for one step and repeated.
internal import ObsCore
internal import ObsStore

/// One evaluation of one query; used by one thread.
final class Evaluator {
    let reader: any Reader
    let context: QueryContext
    let lookbackMillis: Int64
    let options: PromQLOptions
    /// Of the whole query: what `@ start()`, `step()` and `range()` mean, also within subqueries.
    let queryStartMillis: Int64
    var queryEndMillis: Int64
    let queryStepMillis: Int64
    let isRange: Bool
    let workers: ScanWorkers
    private var annotations = Annotations()
    private var chargedBytes = 0

    init(reader: any Reader, context: QueryContext, timeline: Timeline, lookbackMillis: Int64, options: PromQLOptions, isRange: Bool, workers: ScanWorkers) {
        self.reader = reader
        self.context = context
        self.lookbackMillis = lookbackMillis
        self.options = options
        queryStartMillis = timeline.start
        queryEndMillis = timeline.last
        queryStepMillis = timeline.step
        self.isRange = isRange
        self.workers = workers
    }

    // MARK: annotations and memory

    func note(_ annotation: Annotation, at position: Position) { annotations.note(annotation, at: position) }
    func noteRepair(_ repair: MonotonicityRepair, metric: String, at position: Position) { annotations.noteRepair(repair, metric: metric, at: position) }
    func merge(_ other: Annotations) { if !other.isEmpty { annotations.merge(other) } }

    func result(_ value: PromQLValue) -> PromQLResult {
        PromQLResult(value: value, warnings: annotations.texts(warnings: true), infos: annotations.texts(warnings: false))
    }

    /// Accounts for columns made from the store; held until the query ends.
    func charge(columns count: Int, _ timeline: Timeline) throws(ObsError) {
        chargedBytes += count * timeline.count * 8
        try context.charge(bytes: count * timeline.count * 8)
    }

    func charge(_ histograms: HistogramSteps?) throws(ObsError) {
        guard let histograms else { return }
        chargedBytes += histograms.byteSize
        try context.charge(bytes: histograms.byteSize)
    }

    func releaseMemory() {
        context.release(bytes: chargedBytes)
        chargedBytes = 0
    }

    // MARK: expressions

    /// The value of the whole query: names that were to be removed late go now.
    func answer(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> Value {
        let value = try evaluate(expression, timeline)
        guard case .vector(let matrix) = value, matrix.series.contains(where: \.dropsName) else { return value }
        var builder = MatrixBuilder(capacity: matrix.series.count)
        for series in matrix.series {
            var series = series
            if series.dropsName { series.labels = LabelFilter.withoutName(series.labels) }
            series.dropsName = false
            try builder.add(series)
        }
        var result = builder.matrix
        result.isOrdered = matrix.isOrdered
        return .vector(result)
    }

    /// A series whose values are no longer its metric's.
    func nameless(_ labels: Labels, _ values: [Double], _ histograms: HistogramSteps? = nil) -> StepSeries {
        options.removesNamesLate
            ? StepSeries(labels: labels, values: values, histograms: histograms, dropsName: true)
            : StepSeries(labels: LabelFilter.withoutName(labels), values: values, histograms: histograms)
    }

    /// The name an annotation tells of a series of an instant vector: where names go early, it is gone.
    func annotatedName(_ labels: Labels) -> String { options.removesNamesLate ? labels["__name__"] ?? "" : "" }

    func evaluate(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> Value {
        try context.check()
        if timeline.count > 1, isStepInvariant(expression) {
            let once = try evaluateEach(expression, Timeline(start: timeline.start, step: 0, count: 1))
            return repeated(once, timeline.count)
        }
        return try evaluateEach(expression, timeline)
    }

    private func evaluateEach(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> Value {
        switch expression {
        case .number(let literal):
            try charge(columns: 1, timeline)
            return .scalar([Double](repeating: literal.value, count: timeline.count))
        case .string(let literal): return .string(literal.value)
        case .parentheses(let inner, _): return try evaluate(inner, timeline)
        case .selector(let selector): return .vector(try select(selector, timeline))
        case .range, .subquery: throw ObsError(.unprocessable, "a range vector has no value at one instant; apply a function to it")
        case .call(let call): return try self.call(call, timeline)
        case .aggregation(let aggregation): return .vector(try aggregate(aggregation, timeline))
        case .binary(let operation): return try binary(operation, timeline)
        case .unary(let operation): return try unary(operation, timeline)
        }
    }

    func vector(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        guard case .vector(let matrix) = try evaluate(expression, timeline) else {
            throw ObsError(.internalError, "expected an instant vector at \(expression.position)")
        }
        return matrix
    }

    func scalar(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> [Double] {
        guard case .scalar(let column) = try evaluate(expression, timeline) else {
            throw ObsError(.internalError, "expected a scalar at \(expression.position)")
        }
        return column
    }

    private func unary(_ operation: UnaryOperation, _ timeline: Timeline) throws(ObsError) -> Value {
        let value = try evaluate(operation.operand, timeline)
        guard operation.negates else { return value }
        switch value {
        case .scalar(let column): return .scalar(column.map { -$0 })
        case .vector(let matrix): return .vector(try negated(matrix))
        case .string: return value
        }
    }

    private func negated(_ matrix: StepMatrix) throws(ObsError) -> StepMatrix {
        var builder = MatrixBuilder(capacity: matrix.series.count)
        for series in matrix.series {
            let values = series.values.map { isMissing($0) ? $0 : -$0 }
            try builder.add(nameless(series.labels, values, series.histograms?.mapped { $0.multiplied(by: -1) }))
        }
        return builder.matrix
    }

    /// Every number through `body`, the metric name dropped; histograms are left out.
    func mapped(_ matrix: StepMatrix, _ body: (Double) -> Double) throws(ObsError) -> StepMatrix {
        var builder = MatrixBuilder(capacity: matrix.series.count)
        for series in matrix.series {
            var values = series.values
            for step in values.indices where !isMissing(values[step]) { values[step] = body(values[step]) }
            try builder.add(nameless(series.labels, values))
        }
        return builder.matrix
    }

    private func repeated(_ value: Value, _ count: Int) -> Value {
        switch value {
        case .scalar(let column): return .scalar([Double](repeating: column[0], count: count))
        case .string: return value
        case .vector(var matrix):
            for index in matrix.series.indices {
                matrix.series[index].values = [Double](repeating: matrix.series[index].values[0], count: count)
                if let histograms = matrix.series[index].histograms { matrix.series[index].histograms = HistogramSteps(repeating: histograms[0], count: count) }
            }
            return .vector(matrix)
        }
    }

    /// Whether every step of a query gets the same value.
    private func isStepInvariant(_ expression: Expression) -> Bool {
        switch expression {
        case .number, .string: true
        case .parentheses(let inner, _): isStepInvariant(inner)
        case .selector(let selector): selector.at != nil
        case .range(let range): range.selector.at != nil
        case .subquery(let subquery): subquery.at != nil
        case .call(let call): isStepInvariant(call)
        case .aggregation(let node): isStepInvariant(node.expression) && node.parameter.map(isStepInvariant) ?? true
        case .binary(let node): isStepInvariant(node.left) && isStepInvariant(node.right)
        case .unary(let node): isStepInvariant(node.operand)
        }
    }

    private func isStepInvariant(_ call: Call) -> Bool {
        if call.function.name == "timestamp", let argument = call.arguments.first, case .selector = argument.unwrapped { return isStepInvariant(argument) }
        return !call.function.usesEvaluationTime && call.arguments.allSatisfy(isStepInvariant)
    }

    // MARK: durations

    func millis(_ duration: DurationExpression) throws(ObsError) -> Int64 {
        let seconds = duration.seconds(step: Double(queryStepMillis) / 1000, range: Double(queryEndMillis - queryStartMillis) / 1000)
        guard seconds.isFinite, abs(seconds) <= durationSecondsMax else { throw ObsError(.badInput, "duration out of range") }
        return Int64((seconds * 1000).rounded())
    }

    func positiveMillis(_ duration: DurationExpression) throws(ObsError) -> Int64 {
        let millis = try millis(duration)
        guard millis > 0 else { throw ObsError(.badInput, "duration must be greater than 0") }
        return millis
    }

    /// The instants a selector really looks at, given its `@` and `offset`.
    func references(_ timeline: Timeline, at: AtModifier?, offset: DurationExpression?) throws(ObsError) -> Timeline {
        let back = try offset.map { (duration: DurationExpression) throws(ObsError) -> Int64 in try millis(duration) } ?? 0
        let pinned: Int64
        switch at {
        case nil: return timeline.shifted(by: 0 &- back)
        case .time(let millis): pinned = millis
        case .start: pinned = queryStartMillis
        case .end: pinned = queryEndMillis
        }
        return Timeline(start: pinned &- back, step: 0, count: timeline.count)
    }
}
