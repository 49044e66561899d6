// Every function of the language: name, types, how it is carried out. The parser checks calls against this table and the
// evaluator looks nothing else up.
internal import Glibc
internal import ObsCore
internal import ObsStore

package struct Function: Sendable {
    package let name: String
    package let arguments: [ValueType]
    /// How many times the last argument may be given beyond leaving it out; -1: any number. 0: all arguments, exactly.
    package let variadic: Int
    package let returns: ValueType
    /// The result depends on the step's time even if every argument is pinned by `@`.
    let usesEvaluationTime: Bool
    let body: FunctionBody

    init(
        _ name: String, _ arguments: [ValueType], variadic: Int = 0, returns: ValueType = .vector, usesEvaluationTime: Bool = false, _ body: FunctionBody
    ) {
        self.name = name
        self.arguments = arguments
        self.variadic = variadic
        self.returns = returns
        self.usesEvaluationTime = usesEvaluationTime
        self.body = body
    }
}

enum FunctionBody: Sendable {
    /// Each value of an instant vector by itself.
    case elementwise(@Sendable (Double) -> Double)
    /// A calendar field of each value as a Unix time; of the step's time without an argument.
    case calendar(@Sendable (CalendarTime) -> Double)
    /// A window of one range vector, with scalar parameters.
    case window(RangeFunction)
    case whole(@Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value)
}

let functionTable: [String: Function] = {
    var table: [String: Function] = [:]
    for function in elementwiseFunctions + calendarFunctions + vectorFunctions + labelFunctions + histogramFunctions { table[function.name] = function }
    for function in rangeFunctions {
        var arguments = [ValueType.matrix] + [ValueType](repeating: .scalar, count: function.parameters)
        if function.name == "quantile_over_time" { arguments.reverse() }
        table[function.name] = Function(function.name, arguments, usesEvaluationTime: function.name == "predict_linear", .window(function))
    }
    return table
}()

private let elementwiseFunctions: [Function] = {
    let bodies: [(String, @Sendable (Double) -> Double)] = [
        ("abs", { abs($0) }), ("ceil", { ceil($0) }), ("floor", { floor($0) }), ("sqrt", { $0.squareRoot() }), ("exp", { exp($0) }), ("ln", { log($0) }),
        ("log2", { log2($0) }), ("log10", { log10($0) }), ("sgn", { $0 < 0 ? -1 : $0 > 0 ? 1 : $0 }), ("sin", { sin($0) }), ("cos", { cos($0) }),
        ("tan", { tan($0) }), ("asin", { asin($0) }), ("acos", { acos($0) }), ("atan", { atan($0) }), ("sinh", { sinh($0) }), ("cosh", { cosh($0) }),
        ("tanh", { tanh($0) }), ("asinh", { asinh($0) }), ("acosh", { acosh($0) }), ("atanh", { atanh($0) }), ("deg", { $0 * 180 / .pi }),
        ("rad", { $0 * .pi / 180 }),
    ]
    return bodies.map { Function($0.0, [.vector], .elementwise($0.1)) }
}()

/// A Unix time in UTC, taken apart.
struct CalendarTime: Sendable {
    let days: Int
    let secondOfDay: Int
    let year: Int
    let month: Int
    let day: Int

    /// Nil for what is no time: NaN, infinities, numbers past any calendar.
    init?(seconds: Double) {
        guard seconds.isFinite, abs(seconds) < 1e14 else { return nil }
        let whole = Int64(seconds)
        days = Int(floorDivide(whole, 86_400))
        secondOfDay = Int(whole) - days * 86_400
        (year, month, day) = civilFromDays(days)
    }

    var dayOfYear: Int { days - daysFromCivil(year: year, month: 1, day: 1) + 1 }
    /// Sunday is 0.
    var dayOfWeek: Int { ((days + 4) % 7 + 7) % 7 }
    var daysInMonth: Int {
        (month == 12 ? daysFromCivil(year: year + 1, month: 1, day: 1) : daysFromCivil(year: year, month: month + 1, day: 1))
            - daysFromCivil(year: year, month: month, day: 1)
    }
}

private let calendarFunctions: [Function] = {
    let bodies: [(String, @Sendable (CalendarTime) -> Double)] = [
        ("minute", { Double($0.secondOfDay / 60 % 60) }), ("hour", { Double($0.secondOfDay / 3600) }), ("day_of_week", { Double($0.dayOfWeek) }),
        ("day_of_month", { Double($0.day) }), ("day_of_year", { Double($0.dayOfYear) }), ("days_in_month", { Double($0.daysInMonth) }),
        ("month", { Double($0.month) }), ("year", { Double($0.year) }),
    ]
    return bodies.map { Function($0.0, [.vector], variadic: 1, usesEvaluationTime: true, .calendar($0.1)) }
}()

extension Evaluator {
    func call(_ call: Call, _ timeline: Timeline) throws(ObsError) -> Value {
        switch call.function.body {
        case .elementwise(let body): return .vector(try mapped(try vector(call.arguments[0], timeline), body))
        case .calendar(let body): return .vector(try calendar(call, timeline, body))
        case .window(let function): return .vector(try window(call, timeline, function))
        case .whole(let body): return try body(self, call, timeline)
        }
    }

    private func calendar(_ call: Call, _ timeline: Timeline, _ body: (CalendarTime) -> Double) throws(ObsError) -> StepMatrix {
        func field(_ seconds: Double) -> Double { CalendarTime(seconds: seconds).map(body) ?? .nan }
        guard let argument = call.arguments.first else {
            return StepMatrix(series: [StepSeries(labels: .empty, values: timesInSeconds(timeline).map(field))])
        }
        return try mapped(try vector(argument, timeline), field)
    }

    private func window(_ call: Call, _ timeline: Timeline, _ function: RangeFunction) throws(ObsError) -> StepMatrix {
        var builder = MatrixBuilder()
        try forEachWindowed(call, timeline, function) { (series) throws(ObsError) in
            try charge(columns: 1, timeline)
            try charge(series.histograms)
            try builder.add(series)
        }
        return builder.matrix
    }

    /// Slides the window over each series of the range vector as the store hands it out.
    private func forEachWindowed(
        _ call: Call, _ timeline: Timeline, _ function: RangeFunction, _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        guard let range = call.arguments.first(where: { $0.type == .matrix }) else { return }
        let extended = try extendedBody(function, range)
        var parameters: [[Double]] = []
        for argument in call.arguments where argument.type == .scalar { parameters.append(try scalar(argument, timeline)) }
        let (first, second) = (parameters.first, parameters.count > 1 ? parameters[1] : nil)
        let wantsCounter = function.name == "rate" || function.name == "increase"
        // Prometheus notes where its first argument stands, whichever that is.
        let position = call.arguments[0].unwrapped.position
        func finish(_ column: StepSeries) throws(ObsError) {
            if column.isEmpty { return }
            if wantsCounter, column.values.contains(where: { !isMissing($0) }) { noteIfNoCounter(column.labels, position) }
            if function.name == "quantile_over_time", let first { noteInvalidRanks(first, column, position) }
            try body(function.keepsName ? column : nameless(column.labels, column.values, column.histograms))
        }
        if let summary = function.summary, timeline.count == 1, extended == nil, !(function.looksAtStarts && options.usesStartTimestamps),
            case .range(let node) = range.unwrapped
        {
            return try forEachSummedUp(node, timeline, function, summary, position, finish)
        }
        let evaluation = evaluation
        try forEachSeries(
            range, timeline,
            { frame, samples throws(ObsError) in try evaluation.windowed(samples, frame, timeline, function, extended, first, second, position) },
            { (result) throws(ObsError) in
                merge(result.annotations)
                try finish(result.column)
            })
    }

    /// One window that is all of what is read: the store knows what its samples come to, mostly without reading them.
    private func forEachSummedUp(
        _ node: RangeSelector, _ timeline: Timeline, _ function: RangeFunction, _ summary: RangeSummary, _ position: Position,
        _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        guard let (frame, read) = try frame(node, timeline) else { return }
        let set = try reader.series(node.selector.matchers, range: read, context: context)
        let edges = WindowEdges(start: frame.references.start &- frame.rangeMillis, end: frame.references.start)
        while let series = try set.nextSummary(summary.parts) {
            try context.check()
            if series.whole == nil, !hasOverflow(series.samples) {
                if series.samples.count > 0 { try body(StepSeries(labels: series.labels, values: [summary.body(series.samples, edges)])) }
                continue
            }
            var whole = series.whole
            if whole == nil { whole = try wholeSeries(series.labels, read) }
            guard let whole else { continue }
            let samples = try evaluation.rangeSeries(whole, node.selector)
            if samples.isEmpty { continue }
            let result = try evaluation.windowed(samples, frame, timeline, function, nil, nil, nil, position)
            merge(result.annotations)
            try body(result.column)
        }
    }

    /// A sum past what a double holds, of samples that are not: their mean is to be had all the same, but not from it.
    private func hasOverflow(_ samples: SampleSummary) -> Bool { samples.sum.isInfinite && samples.smallest.isFinite && samples.greatest.isFinite }

    private func wholeSeries(_ labels: Labels, _ range: ClosedRange<Int64>) throws(ObsError) -> SeriesSamples? {
        let set = try reader.series(labels.pairs.map { LabelMatcher(equal: $0.name, $0.value) }, range: range, context: context)
        while let series = try set.next() { if series.labels == labels { return series } }
        return nil
    }

    /// What computes the function of an `anchored` or `smoothed` range vector; nil for others.
    private func extendedBody(_ function: RangeFunction, _ range: Expression) throws(ObsError) -> MixedWindowFunction? {
        guard case .range(let node) = range.unwrapped, let rangeExtension = node.selector.rangeExtension else { return nil }
        let body = rangeExtension == .anchored ? function.anchored : function.smoothed
        if let body { return body }
        let able = rangeFunctions.filter { (rangeExtension == .anchored ? $0.anchored : $0.smoothed) != nil }.map(\.name).sorted().joined(separator: ", ")
        throw ObsError(.unprocessable, "\(rangeExtension.rawValue) modifier can only be used with: \(able) - not with \(function.name)")
    }

    /// Each series of an instant vector, without holding them all where that can be: for a selector, and a window function over a selector
    /// of one metric (of several, series could become equal once their names are gone, and someone has to notice).
    /// - Parameter aspect: `.presence` where the values do not matter.
    func forEachColumn(
        _ expression: Expression, _ timeline: Timeline, _ aspect: SampleAspect, _ body: (StepSeries) throws(ObsError) -> Void
    ) throws(ObsError) {
        switch expression.unwrapped {
        case .selector(let selector) where selector.at == nil: return try forEachSelected(selector, timeline, aspect, body)
        case .call(let call):
            guard case .window(let function) = call.function.body, let range = call.arguments.first(where: { $0.type == .matrix }),
                case .range(let node) = range.unwrapped, node.selector.name != nil, node.selector.at == nil
            else { break }
            return try forEachWindowed(call, timeline, function, body)
        default: break
        }
        for series in try vector(expression, timeline).series { try body(series) }
    }

    private func noteIfNoCounter(_ labels: Labels, _ position: Position) {
        guard let name = labels["__name__"], !name.isEmpty else { return }
        if options.hasTypeAndUnitLabels {
            let type = labels["__type__"] ?? ""
            if type != "counter", type != "histogram" { note(.maybeNoCounterByType(metric: name, type: type), at: position) }
        } else if !["_total", "_sum", "_count", "_bucket"].contains(where: name.hasSuffix) {
            note(.maybeNoCounter(metric: name), at: position)
        }
    }

    private func noteInvalidRanks(_ ranks: [Double], _ column: StepSeries, _ position: Position) {
        for step in ranks.indices where !(ranks[step] >= 0 && ranks[step] <= 1) && column.isPresent(step) { noteQuantile(ranks[step], at: position) }
    }

    func timesInSeconds(_ timeline: Timeline) -> [Double] { (0..<timeline.count).map { Double(timeline[$0]) / 1000 } }
}

extension SeriesEvaluation {
    /// The column of a function over the windows of a series.
    func windowed(
        _ samples: RangeSeries, _ frame: Frame, _ timeline: Timeline, _ function: RangeFunction, _ extended: MixedWindowFunction?, _ first: [Double]?,
        _ second: [Double]?, _ position: Position
    ) throws(ObsError) -> (column: StepSeries, annotations: Annotations) {
        var notes = WindowNotes(metric: "", position: position)
        var column: StepSeries
        if extended == nil, samples.histograms.isEmpty, samples.startsMillis.isEmpty {
            column = StepSeries(labels: samples.labels, values: [])
            if let rate = function.rate {
                column.values = try slideRates(samples, frame, timeline, rate)
            } else {
                column.values = try slide(samples, frame, timeline, first, second, function.body)
            }
        } else {
            notes = WindowNotes(metric: samples.labels["__name__"] ?? "", position: position)
            column = try slideMixed(samples, frame, timeline, first, second, &notes, extended ?? function.mixed)
        }
        column.dropsName = samples.dropsName
        return (column, notes.annotations)
    }
}
