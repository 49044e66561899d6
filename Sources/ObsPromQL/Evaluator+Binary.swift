// Binary operators. Series are told apart by the labels they match on, once a query: each side's series fall into match
// groups, and within a group the steps are walked. What Prometheus decides step by step (a group has two candidates, a
// result twice) is therefore decided step by step here too, with its messages.
internal import ObsCore
internal import ObsStore

extension Evaluator {
    func binary(_ node: BinaryOperation, _ timeline: Timeline) throws(ObsError) -> Value {
        let left = try evaluate(node.left, timeline)
        let right = try evaluate(node.right, timeline)
        let operation = node.operation
        switch (left, right) {
        case (.scalar(var column), .scalar(let other)):
            if operation.isTrim { throw ObsError(.unprocessable, "operator \"\(operation.rawValue)\" not allowed for Scalar operations") }
            for step in column.indices { column[step] = operation.arithmetic(column[step], other[step]) }
            return .scalar(column)
        case (.vector(let matrix), .scalar(let column)): return .vector(try combine(matrix, column, node, swapped: false))
        case (.scalar(let column), .vector(let matrix)): return .vector(try combine(matrix, column, node, swapped: true))
        case (.vector(let left), .vector(let right)):
            let matching = node.matching ?? VectorMatching()
            if operation.isSet { return .vector(try combineSets(left, right, operation, matching, timeline)) }
            var join = VectorJoin(node: node, matching: matching, steps: timeline.count)
            let result = try join.run(left, right, context)
            for annotation in join.annotations.told { note(annotation, at: node.left.position) }
            return .vector(result)
        default: throw ObsError(.internalError, "unexpected string operand")
        }
    }

    /// Vector and scalar. A comparison without `bool` filters: it keeps the vector's values and names.
    private func combine(_ matrix: StepMatrix, _ column: [Double], _ node: BinaryOperation, swapped: Bool) throws(ObsError) -> StepMatrix {
        let operation = node.operation
        let filters = operation.isComparison && !node.returnsBool
        var builder = MatrixBuilder(capacity: matrix.series.count)
        var annotations = StepAnnotations()
        for series in matrix.series {
            var result = series
            if series.histograms != nil || operation.isTrim {
                for step in series.values.indices where series.isPresent(step) {
                    result[step] = combine(series[step], column[step], node, swapped: swapped) { annotations.note($0, at: step) }
                }
            } else {
                combine(&result.values, column, operation, swapped: swapped, filters: filters)
            }
            try builder.add(filters || operation.isTrim ? result : nameless(series.labels, result.values, result.histograms))
        }
        for annotation in annotations.told { note(annotation, at: node.left.position) }
        return builder.matrix
    }

    private func combine(_ values: inout [Double], _ column: [Double], _ operation: BinaryOperator, swapped: Bool, filters: Bool) {
        for step in values.indices where !isMissing(values[step]) {
            let (left, right) = swapped ? (column[step], values[step]) : (values[step], column[step])
            if filters {
                if !operation.compares(left, right) { values[step] = missing }
            } else {
                values[step] = operation.arithmetic(left, right)
            }
        }
    }

    /// A comparison gives the vector's sample, on whichever side it is.
    private func combine(_ sample: StepValue, _ scalar: Double, _ node: BinaryOperation, swapped: Bool, _ note: (Annotation) -> Void) -> StepValue {
        let result = swapped ? node.operation.result(.number(scalar), sample) : node.operation.result(sample, .number(scalar))
        if let annotation = result.annotation { note(annotation) }
        guard node.operation.isComparison, case .number = result.value else { return result.value }
        if node.returnsBool { return .number(result.holds ? 1 : 0) }
        return result.holds ? sample : .nothing
    }

    /// `and`, `or`, `unless`: a series stays where the other side's match group has (or has not) any value.
    private func combineSets(
        _ left: StepMatrix, _ right: StepMatrix, _ operation: BinaryOperator, _ matching: VectorMatching, _ timeline: Timeline
    ) throws(ObsError) -> StepMatrix {
        let signature = LabelFilter(on: matching.on, matching.labels)
        let (guards, filtered) = operation == .or ? (left, right) : (right, left)
        var groups: [Labels: [Bool]] = [:]
        for series in guards.series {
            var present = groups.removeValue(forKey: signature(series.labels)) ?? [Bool](repeating: false, count: timeline.count)
            for step in 0..<timeline.count where series.isPresent(step) { present[step] = true }
            groups[signature(series.labels)] = present
        }
        var builder = MatrixBuilder(capacity: left.series.count)
        if operation == .or { for series in left.series { try builder.add(series) } }
        for var series in filtered.series {
            let present = groups[signature(series.labels)]
            for step in 0..<timeline.count where (present?[step] ?? false) != (operation == .and) { series[step] = .nothing }
            try builder.add(series)
        }
        return builder.matrix
    }
}

/// Annotations of an operator. Of all that come up at one step Prometheus tells the last.
struct StepAnnotations {
    private var last: [Int: Annotation] = [:]

    mutating func note(_ annotation: Annotation, at step: Int) { last[step] = annotation }

    var told: [Annotation] { last.sorted { $0.key < $1.key }.map(\.value) }
}

/// Arithmetic or comparison of two vectors. "One" is the side whose match groups may have one series a step, "many" the other.
private struct VectorJoin {
    /// Series of both sides with the same matching labels.
    struct Group {
        var labels: Labels
        var many: [Int] = []
        var one: [Int] = []
    }

    let node: BinaryOperation
    let matching: VectorMatching
    let steps: Int
    private var results: [StepSeries] = []
    /// Steps at which a result was computed, even if a comparison dropped it.
    private var computed: [[Bool]] = []
    private var places: [Labels: Int] = [:]
    private(set) var annotations = StepAnnotations()

    init(node: BinaryOperation, matching: VectorMatching, steps: Int) {
        self.node = node
        self.matching = matching
        self.steps = steps
    }

    private var swapped: Bool { matching.cardinality == .oneToMany }
    /// Prometheus swaps the sides of `group_right` before it fills: its `fill_left` stands in for the "many" side, too.
    private var fillMany: Double? { matching.fillLeft }
    private var fillOne: Double? { matching.fillRight }
    private var filters: Bool { node.operation.isComparison && !node.returnsBool }

    mutating func run(_ left: StepMatrix, _ right: StepMatrix, _ context: QueryContext) throws(ObsError) -> StepMatrix {
        let (many, one) = swapped ? (right.series, left.series) : (left.series, right.series)
        let occupied = fillMany == nil && fillOne == nil ? occupiedSteps(many) : nil
        for group in groups(many, one) {
            try context.check()
            if group.many.isEmpty, fillMany == nil, group.one.count < 2 { continue }
            if group.one.isEmpty, fillOne == nil { continue }
            try join(group, many, one, occupied)
        }
        // Series of different groups may get the same labels, but not at the same step.
        return StepMatrix(series: results.filter { !$0.isEmpty })
    }

    /// Steps at which the "many" side has any value: elsewhere Prometheus looks for no duplicates.
    private func occupiedSteps(_ many: [StepSeries]) -> [Bool] {
        var occupied = [Bool](repeating: false, count: steps)
        for series in many {
            for step in 0..<steps where series.isPresent(step) { occupied[step] = true }
        }
        return occupied
    }

    private func groups(_ many: [StepSeries], _ one: [StepSeries]) -> [Group] {
        let signature = LabelFilter(on: matching.on, matching.labels)
        var groups: [Group] = []
        var places: [Labels: Int] = [:]
        func place(_ labels: Labels) -> Int {
            let key = signature(labels)
            if let place = places[key] { return place }
            places[key] = groups.count
            groups.append(Group(labels: key))
            return groups.count - 1
        }
        for index in many.indices { groups[place(many[index].labels)].many.append(index) }
        for index in one.indices { groups[place(one[index].labels)].one.append(index) }
        return groups
    }

    private mutating func join(_ group: Group, _ many: [StepSeries], _ one: [StepSeries], _ occupied: [Bool]?) throws(ObsError) {
        let partner = try partners(group, one, occupied)
        var matched = [Bool](repeating: false, count: steps)
        for index in group.many {
            var place = -1
            var placedFor = -2
            for step in 0..<steps where many[index].isPresent(step) {
                let other = partner[step]
                guard other >= 0 || fillOne != nil else { continue }
                if other != placedFor {
                    place = self.place(result(many[index].labels, other >= 0 ? one[other].labels : group.labels))
                    placedFor = other
                }
                if many[index].histograms == nil, other < 0 || one[other].histograms == nil, !node.operation.isTrim {
                    try claim(step, &matched)
                    try store(many[index].values[step], other >= 0 ? one[other].values[step] : fillOne ?? 0, at: step, in: place)
                } else if let result = apply(many[index][step], other >= 0 ? one[other][step] : .number(fillOne ?? 0), at: step) {
                    try claim(step, &matched)
                    try store(result, at: step, in: place)
                }
            }
        }
        guard let fillMany else { return }
        for step in 0..<steps where partner[step] >= 0 && !matched[step] {
            let place = self.place(result(group.labels, one[partner[step]].labels))
            if let result = apply(.number(fillMany), one[partner[step]][step], at: step) { try store(result, at: step, in: place) }
        }
    }

    /// For each step the group's series of the "one" side that has a value; -1 for none.
    private func partners(_ group: Group, _ one: [StepSeries], _ occupied: [Bool]?) throws(ObsError) -> [Int] {
        var partner = [Int](repeating: -1, count: steps)
        for index in group.one {
            for step in 0..<steps where one[index].isPresent(step) {
                if partner[step] >= 0, occupied?[step] ?? true {
                    let pair = [one[partner[step]].labels, one[index].labels].sorted()
                    throw ObsError(
                        .unprocessable,
                        "found duplicate series for the match group \(group.labels) on the \(swapped ? "left" : "right") hand-side of the operation: "
                            + "[\(pair[0]), \(pair[1])];many-to-many matching not allowed: matching labels must be unique on one side")
                }
                partner[step] = index
            }
        }
        return partner
    }

    private func claim(_ step: Int, _ matched: inout [Bool]) throws(ObsError) {
        if matching.cardinality == .oneToOne, matched[step] {
            throw ObsError(.unprocessable, "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
        }
        matched[step] = true
    }

    /// Nil where the two samples do not go together.
    private mutating func apply(_ many: StepValue, _ one: StepValue, at step: Int) -> OperatorResult? {
        let result = swapped ? node.operation.result(one, many) : node.operation.result(many, one)
        if let annotation = result.annotation { annotations.note(annotation, at: step) }
        if case .nothing = result.value { return nil }
        return result
    }

    private mutating func store(_ result: OperatorResult, at step: Int, in place: Int) throws(ObsError) {
        try compute(step, place)
        if node.returnsBool {
            results[place].values[step] = result.holds ? 1 : 0
        } else if result.holds {
            results[place][step] = result.value
        }
    }

    private mutating func store(_ many: Double, _ one: Double, at step: Int, in place: Int) throws(ObsError) {
        let (left, right) = swapped ? (one, many) : (many, one)
        try compute(step, place)
        if filters {
            if node.operation.compares(left, right) { results[place].values[step] = left }
        } else {
            results[place].values[step] = node.operation.arithmetic(left, right)
        }
    }

    private mutating func compute(_ step: Int, _ place: Int) throws(ObsError) {
        if computed[place][step] {
            throw ObsError(.unprocessable, "multiple matches for labels: grouping labels must ensure unique matches")
        }
        computed[place][step] = true
    }

    private mutating func place(_ labels: Labels) -> Int {
        if let place = places[labels] { return place }
        places[labels] = results.count
        results.append(StepSeries(labels: labels, values: [Double](repeating: missing, count: steps)))
        computed.append([Bool](repeating: false, count: steps))
        return results.count - 1
    }

    /// Labels of a result: the "many" side's, without the name unless a filter keeps it, with those `group_left` takes over.
    private func result(_ many: Labels, _ one: Labels) -> Labels {
        var labels = filters || node.operation.isTrim ? many : LabelFilter.withoutName(many)
        if matching.cardinality == .oneToOne {
            labels = matching.on ? LabelFilter(keeping: matching.labels)(labels) : LabelFilter(removing: matching.labels)(labels)
        }
        if !matching.include.isEmpty {
            var builder = LabelsBuilder(labels)
            for name in matching.include { builder.set(name, one[name] ?? "") }
            labels = builder.labels()
        }
        return labels
    }
}
