// Functions that need more than one value at a time.
internal import Glibc
internal import ObsCore
internal import ObsStore

let vectorFunctions: [Function] = [
    Function("absent", [.vector], .whole(absent)),
    Function("absent_over_time", [.matrix], .whole(absentOverTime)),
    Function("clamp", [.vector, .scalar, .scalar], .whole(clamp)),
    Function("clamp_min", [.vector, .scalar], .whole { (evaluator, call, timeline) throws(ObsError) in try bounded(evaluator, call, timeline, fmaxNaN) }),
    Function("clamp_max", [.vector, .scalar], .whole { (evaluator, call, timeline) throws(ObsError) in try bounded(evaluator, call, timeline, fminNaN) }),
    Function("info", [.vector, .vector], variadic: 1, .whole(info)),
    Function("pi", [], returns: .scalar, .whole { (_, _, timeline) in .scalar([Double](repeating: .pi, count: timeline.count)) }),
    Function("round", [.vector, .scalar], variadic: 1, .whole(round)),
    Function("scalar", [.vector], returns: .scalar, .whole(scalarOf)),
    Function("sort", [.vector], .whole { (evaluator, call, timeline) throws(ObsError) in try sort(evaluator, call, timeline, descending: false) }),
    Function("sort_desc", [.vector], .whole { (evaluator, call, timeline) throws(ObsError) in try sort(evaluator, call, timeline, descending: true) }),
    Function(
        "time", [], returns: .scalar, usesEvaluationTime: true, .whole { (evaluator, _, timeline) in .scalar(evaluator.timesInSeconds(timeline)) }),
    Function("timestamp", [.vector], usesEvaluationTime: true, .whole(timestamp)),
    Function("start_timestamp", [.vector], .whole(startTimestamp)),
    Function("vector", [.scalar], .whole(vectorOf)),
    Function("start", [], returns: .scalar, .whole { (evaluator, _, timeline) in constant(evaluator.queryStartMillis, timeline) }),
    Function("end", [], returns: .scalar, .whole { (evaluator, _, timeline) in constant(evaluator.queryEndMillis, timeline) }),
    Function(
        "max_of", [.scalar, .scalar], returns: .scalar,
        .whole { (evaluator, call, timeline) throws(ObsError) in try extremeOf(evaluator, call, timeline, fmaxNaN) }),
    Function(
        "min_of", [.scalar, .scalar], returns: .scalar,
        .whole { (evaluator, call, timeline) throws(ObsError) in try extremeOf(evaluator, call, timeline, fminNaN) }),
    Function("step", [], returns: .scalar, .whole { (evaluator, _, timeline) in constant(evaluator.queryStepMillis, timeline) }),
    Function("range", [], returns: .scalar, .whole { (evaluator, _, timeline) in constant(evaluator.queryEndMillis - evaluator.queryStartMillis, timeline) }),
]

private func constant(_ millis: Int64, _ timeline: Timeline) -> Value { .scalar([Double](repeating: Double(millis) / 1000, count: timeline.count)) }

/// Go's math.Max and Min: NaN wins over everything but (for Max) +Inf, (for Min) -Inf.
private func fmaxNaN(_ a: Double, _ b: Double) -> Double { a == .infinity || b == .infinity ? .infinity : a.isNaN || b.isNaN ? .nan : max(a, b) }
private func fminNaN(_ a: Double, _ b: Double) -> Double { a == -.infinity || b == -.infinity ? -.infinity : a.isNaN || b.isNaN ? .nan : min(a, b) }

private func extremeOf(_ evaluator: Evaluator, _ call: Call, _ timeline: Timeline, _ body: (Double, Double) -> Double) throws(ObsError) -> Value {
    var column = try evaluator.scalar(call.arguments[0], timeline)
    let other = try evaluator.scalar(call.arguments[1], timeline)
    for step in column.indices { column[step] = body(column[step], other[step]) }
    return .scalar(column)
}

/// Each value with the step's scalar, the name dropped.
private func combined(
    _ evaluator: Evaluator, _ matrix: StepMatrix, _ body: (_ value: Double, _ step: Int) -> Double
) throws(ObsError) -> Value {
    var builder = MatrixBuilder(capacity: matrix.series.count)
    for series in matrix.series {
        var values = series.values
        for step in values.indices where !isMissing(values[step]) { values[step] = body(values[step], step) }
        try builder.add(evaluator.nameless(series.labels, values))
    }
    return .vector(builder.matrix)
}

private func bounded(_ evaluator: Evaluator, _ call: Call, _ timeline: Timeline, _ body: (Double, Double) -> Double) throws(ObsError) -> Value {
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    let bounds = try evaluator.scalar(call.arguments[1], timeline)
    return try combined(evaluator, matrix) { body($0, bounds[$1]) }
}

private let clamp: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    let lower = try evaluator.scalar(call.arguments[1], timeline)
    let upper = try evaluator.scalar(call.arguments[2], timeline)
    return try combined(evaluator, matrix) { value, step in upper[step] < lower[step] ? missing : fmaxNaN(lower[step], fminNaN(upper[step], value)) }
}

private let round: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    guard call.arguments.count > 1 else { return try combined(evaluator, matrix) { value, _ in floor(value + 0.5) } }
    // Multiplying by the inverse is what Prometheus does for the precision's sake.
    let inverse = try evaluator.scalar(call.arguments[1], timeline).map { 1 / $0 }
    return try combined(evaluator, matrix) { floor($0 * inverse[$1] + 0.5) / inverse[$1] }
}

private let scalarOf: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    var column = [Double](repeating: .nan, count: timeline.count)
    var counts = [Int](repeating: 0, count: timeline.count)
    for series in try evaluator.vector(call.arguments[0], timeline).series {
        for step in 0..<timeline.count where !isMissing(series.values[step]) {
            counts[step] += 1
            column[step] = counts[step] == 1 ? series.values[step] : .nan
        }
    }
    return .scalar(column)
}

private let vectorOf: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    .vector(StepMatrix(series: [StepSeries(labels: .empty, values: try evaluator.scalar(call.arguments[0], timeline))]))
}

/// Of a selector the samples' own times, of anything else the step's.
private let timestamp: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    if case .selector(let selector) = call.arguments[0].unwrapped {
        return try combined(evaluator, try evaluator.select(selector, timeline, .time)) { value, _ in value }
    }
    let times = evaluator.timesInSeconds(timeline)
    var builder = MatrixBuilder()
    for series in try evaluator.vector(call.arguments[0], timeline).series {
        let column = (0..<timeline.count).map { series.isPresent($0) ? times[$0] : missing }
        try builder.add(evaluator.nameless(series.labels, column))
    }
    return .vector(builder.matrix)
}

/// When counting of a selector's samples began; what is computed has no start.
private let startTimestamp: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    guard evaluator.options.usesStartTimestamps, case .selector(let selector) = call.arguments[0].unwrapped else { return .vector(StepMatrix()) }
    return try combined(evaluator, try evaluator.select(selector, timeline, .start)) { value, _ in value }
}

private func sort(_ evaluator: Evaluator, _ call: Call, _ timeline: Timeline, descending: Bool) throws(ObsError) -> Value {
    noteSortInRange(evaluator, call, timeline)
    var matrix = try evaluator.vector(call.arguments[0], timeline)
    for index in matrix.series.indices { matrix.series[index].histograms = nil }
    guard timeline.count == 1, !evaluator.isRange else { return .vector(matrix) }
    // NaN comes last in either order.
    matrix.series.sort { first, second in
        let (a, b) = (first.values[0], second.values[0])
        if a.isNaN || b.isNaN { return !a.isNaN || (b.isNaN && first.labels < second.labels) }
        return a == b ? first.labels < second.labels : (a < b) != descending
    }
    matrix.isOrdered = true
    return .vector(matrix)
}

func noteSortInRange(_ evaluator: Evaluator, _ call: Call, _ timeline: Timeline) {
    if timeline.count > 1 { evaluator.note(.sortInRange, at: call.position) }
}

// MARK: absence

private let absent: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    var column = [Double](repeating: 1, count: timeline.count)
    for series in try evaluator.vector(call.arguments[0], timeline).series {
        for step in 0..<timeline.count where series.isPresent(step) { column[step] = missing }
    }
    return .vector(StepMatrix(series: [StepSeries(labels: labelsOfAbsent(call.arguments[0]), values: column)]))
}

private let absentOverTime: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    var column = [Double](repeating: 1, count: timeline.count)
    let evaluation = evaluator.evaluation
    try evaluator.forEachSeries(
        call.arguments[0], timeline,
        { frame, samples throws(ObsError) in
            var notes = WindowNotes(metric: "", position: call.position)
            return try evaluation.slideMixed(samples, frame, timeline, nil, nil, &notes) { _, _, _, _ throws(ObsError) in .number(1) }
        },
        { (present) throws(ObsError) in
            for step in 0..<timeline.count where !isMissing(present.values[step]) { column[step] = missing }
        })
    return .vector(StepMatrix(series: [StepSeries(labels: labelsOfAbsent(call.arguments[0]), values: column)]))
}

/// What a selector says its series would have had: labels it asks to equal something, once.
private func labelsOfAbsent(_ expression: Expression) -> Labels {
    let matchers: [LabelMatcher]
    switch expression.unwrapped {
    case .selector(let selector): matchers = selector.matchers
    case .range(let range): matchers = range.selector.matchers
    default: return .empty
    }
    var builder = LabelsBuilder()
    for matcher in matchers where matcher.name != "__name__" {
        let isOnly = matchers.filter { $0.name == matcher.name }.count == 1
        if isOnly, matcher.operation == .equal { builder.set(matcher.name, matcher.value) }
    }
    return builder.labels()
}
