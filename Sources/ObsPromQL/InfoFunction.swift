// `info(v, {…})`: each series of `v` with the labels of the info series (`target_info`, unless the selector names others) of the same `instance` and `job`.
// Which info series that is may change from step to step, and with it the labels: a series of `v` then becomes several.
internal import ObsCore
internal import ObsStore

private let identifyingLabels = ["instance", "job"]
/// With more values than this a regular expression of them costs more than it saves.
private let alternativesMax = 200

let info: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let base = try evaluator.vector(call.arguments[0], timeline)
    var selector = InfoSelector()
    if call.arguments.count > 1, case .selector(let node) = call.arguments[1].unwrapped { selector = InfoSelector(node.matchers) }
    var join = InfoJoin(selector: selector, steps: timeline.count)
    let references = try evaluator.infoReferences(call.arguments[0], timeline)
    try join.collect(selector.matchers(for: base), references, evaluator)
    return .vector(try join.run(base, evaluator))
}

/// What an info series must be like, and which of its labels are wanted.
private struct InfoSelector {
    /// On the name: at least one that says what it is.
    private(set) var names = [LabelMatcher(equal: "__name__", "target_info")]
    /// On other labels: those alone are taken over; all, if there are none.
    private(set) var data: [LabelMatcher] = []

    init() {}

    init(_ matchers: [LabelMatcher]) {
        data = matchers.filter { $0.name != "__name__" }
        let given = matchers.filter { $0.name == "__name__" }
        if given.isEmpty { return }
        let saysWhat = given.contains { $0.operation == .equal || $0.operation == .matches }
        names = (saysWhat ? [] : [allInfoMetrics].compactMap { $0 }) + given
    }

    func isInfo(_ labels: Labels) -> Bool { names.allSatisfy { $0.matches(labels["__name__"] ?? "") } }

    func wants(_ label: String) -> Bool { data.isEmpty || data.contains { $0.name == label } }

    /// Nil where no series has anything that identifies a target.
    func matchers(for base: StepMatrix) -> [LabelMatcher]? {
        var identifying: [LabelMatcher] = []
        var isIdentified = false
        for label in identifyingLabels {
            let values = Set(base.series.filter { !isInfo($0.labels) }.compactMap { $0.labels[label] })
            if values.isEmpty { continue }
            isIdentified = true
            guard values.count <= alternativesMax else { continue }
            let pattern = values.sorted().map(quotedForRegex).joined(separator: "|")
            if let matcher = try? LabelMatcher(label, .matches, pattern) { identifying.append(matcher) }
        }
        return isIdentified ? identifying + data + names : nil
    }
}

private let allInfoMetrics = try? LabelMatcher("__name__", .matches, ".+_info")

private func quotedForRegex(_ text: String) -> String {
    var result = ""
    for character in text {
        if "\\.+*?()|[]{}^$".contains(character) { result.append("\\") }
        result.append(character)
    }
    return result
}

private struct InfoJoin {
    private struct InfoSeries {
        var labels: Labels
        /// Seconds; the newer of two counts.
        var times: [Double]
    }
    let selector: InfoSelector
    let steps: Int
    /// By metric name, then by identifying labels.
    private var series: [String: [Labels: [InfoSeries]]] = [:]
    private let identity = LabelFilter(keeping: identifyingLabels)

    init(selector: InfoSelector, steps: Int) {
        self.selector = selector
        self.steps = steps
    }

    mutating func collect(_ matchers: [LabelMatcher]?, _ references: Timeline, _ evaluator: Evaluator) throws(ObsError) {
        guard let matchers else { return }
        let node = VectorSelector(name: nil, matchers: matchers, offset: nil, at: nil, position: Position(line: 1, column: 1))
        for one in try evaluator.select(node, references, .numberTime).series {
            series[one.labels["__name__"] ?? "", default: [:]][identity(one.labels), default: []].append(InfoSeries(labels: one.labels, times: one.values))
        }
    }

    func run(_ base: StepMatrix, _ evaluator: Evaluator) throws(ObsError) -> StepMatrix {
        var builder = MatrixBuilder(capacity: base.series.count)
        for one in base.series {
            try evaluator.context.check()
            if selector.isInfo(one.labels) {
                try builder.add(one)
                continue
            }
            for enriched in try enriched(one) { try builder.add(enriched) }
        }
        return builder.matrix
    }

    private func enriched(_ base: StepSeries) throws(ObsError) -> [StepSeries] {
        let key = identity(base.labels)
        let candidates = series.keys.sorted().compactMap { series[$0]?[key] }
        var results: [StepSeries] = []
        var places: [Labels: Int] = [:]
        for step in 0..<steps where base.isPresent(step) {
            let infos = try candidates.map { (rivals) throws(ObsError) in try newest(rivals, step) }.compactMap { $0 }
            // A selector that asks for a label asks for a series that has it.
            if infos.isEmpty, !selector.data.allSatisfy(\.matchesEmpty) { continue }
            let labels = try merged(base.labels, infos)
            if places[labels] == nil {
                places[labels] = results.count
                var empty = base
                empty.labels = labels
                empty.values = [Double](repeating: missing, count: steps)
                empty.histograms = nil
                results.append(empty)
            }
            if let place = places[labels] { results[place][step] = base[step] }
        }
        return results
    }

    private func newest(_ rivals: [InfoSeries], _ step: Int) throws(ObsError) -> Labels? {
        var best: InfoSeries?
        for rival in rivals where !isMissing(rival.times[step]) {
            guard let known = best else {
                best = rival
                continue
            }
            if known.times[step] == rival.times[step] {
                let millis = Int64((known.times[step] * 1000).rounded())
                throw ObsError(
                    .unprocessable, "found duplicate series for info metric: existing \(known.labels) @ \(millis), new \(rival.labels) @ \(millis)")
            }
            if rival.times[step] > known.times[step] { best = rival }
        }
        return best?.labels
    }

    private func merged(_ base: Labels, _ infos: [Labels]) throws(ObsError) -> Labels {
        var added = LabelsBuilder()
        for info in infos {
            for (name, value) in info.pairs where name != "__name__" && selector.wants(name) {
                if let known = added[name], known != value { throw ObsError(.unprocessable, "conflicting label: \(name)") }
                if base[name] == nil { added.set(name, value) }
            }
        }
        var result = LabelsBuilder(base)
        for (name, value) in added.labels().pairs { result.set(name, value) }
        return result.labels()
    }
}

extension Evaluator {
    /// The instants at which info series are looked up: those of the first selector of the expression, moved by its `@` and `offset` and by those of the
    /// subqueries around it, up to the first `@`.
    fileprivate func infoReferences(_ expression: Expression, _ timeline: Timeline) throws(ObsError) -> Timeline {
        guard let path = firstSelector(expression) else { return timeline }
        var back: Int64 = 0
        for (at, offset) in path {
            if let offset { back += try millis(offset) }
            if at != nil { return try references(timeline, at: at, offset: nil).shifted(by: 0 &- back) }
        }
        return timeline.shifted(by: 0 &- back)
    }

    /// `@` and `offset` of the first selector and the subqueries around it, from the inside out.
    private func firstSelector(_ expression: Expression) -> [(AtModifier?, DurationExpression?)]? {
        switch expression {
        case .number, .string: nil
        case .selector(let node): [(node.at, node.offset)]
        case .range(let node): [(node.selector.at, node.selector.offset)]
        case .subquery(let node): firstSelector(node.expression).map { $0 + [(node.at, node.offset)] }
        case .call(let node): node.arguments.lazy.compactMap(firstSelector).first
        case .aggregation(let node): firstSelector(node.expression) ?? node.parameter.flatMap(firstSelector)
        case .binary(let node): firstSelector(node.left) ?? firstSelector(node.right)
        case .unary(let node): firstSelector(node.operand)
        case .parentheses(let inner, _): firstSelector(inner)
        }
    }
}
