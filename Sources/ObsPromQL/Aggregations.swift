// Aggregations fold the columns of a group into one (sum, avg, …), need a step's values together (quantile, count_values), or
// choose among the series of a group (topk, limitk, …). Groups are found once a series.
internal import Glibc
internal import ObsCore
internal import ObsStore

extension Evaluator {
    func aggregate(_ node: Aggregation, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        switch node.operation {
        case .topk, .bottomk, .limitk, .limitRatio: return try choose(node, timeline)
        case .countValues: return try countValues(node, timeline)
        case .quantile: return try quantile(node, timeline)
        default: return try fold(node, timeline)
        }
    }

    /// Series indices by group, groups in order of their first series.
    private func groups(_ matrix: StepMatrix, _ node: Aggregation) -> [(labels: Labels, members: [Int])] {
        let filter = node.without ? LabelFilter(on: false, node.grouping) : LabelFilter(keeping: node.grouping)
        var groups: [(labels: Labels, members: [Int])] = []
        var places: [Labels: Int] = [:]
        for index in matrix.series.indices {
            let labels = filter(matrix.series[index].labels)
            if let place = places[labels] {
                groups[place].members.append(index)
            } else {
                places[labels] = groups.count
                groups.append((labels, [index]))
            }
        }
        return groups
    }

    private func dropsName(_ members: [Int], _ matrix: StepMatrix) -> Bool { members.contains { matrix.series[$0].dropsName } }

    // MARK: folds

    /// Columns are folded as they come, so that a sum over many series holds one column a group, not one a series.
    private func fold(_ node: Aggregation, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        let filter = node.without ? LabelFilter(on: false, node.grouping) : LabelFilter(keeping: node.grouping)
        var groups: [FoldedGroup] = []
        var places: [Labels: Int] = [:]
        let isCount = node.operation == .count || node.operation == .group
        try forEachColumn(node.expression, timeline, isCount ? .presence : .value) { (series) throws(ObsError) in
            let labels = filter(series.labels)
            let place = places[labels] ?? groups.count
            if place == groups.count {
                places[labels] = place
                try charge(columns: 4, timeline)
                groups.append(FoldedGroup(labels, node, steps: timeline.count))
            }
            groups[place].add(series)
        }
        var result = StepMatrix()
        for group in groups {
            result.series.append(group.result)
            for annotation in group.annotations { note(annotation, at: node.expression.unwrapped.position) }
        }
        return result
    }

    // MARK: a step's values together

    private func quantile(_ node: Aggregation, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        guard let parameter = node.parameter else { return StepMatrix() }
        let ranks = try scalar(parameter, timeline)
        let matrix = try vector(node.expression, timeline)
        noteInvalidQuantiles(ranks, at: parameter.unwrapped.position)
        noteIgnored(matrix, node, at: node.expression.unwrapped.position)
        var result = StepMatrix()
        for group in groups(matrix, node) {
            try context.check()
            var column = [Double](repeating: missing, count: timeline.count)
            var values: [Double] = []
            for step in 0..<timeline.count {
                values.removeAll(keepingCapacity: true)
                for member in group.members where !isMissing(matrix.series[member].values[step]) { values.append(matrix.series[member].values[step]) }
                if !values.isEmpty { column[step] = quantileOf(&values, ranks[step]) }
            }
            result.series.append(StepSeries(labels: group.labels, values: column, dropsName: dropsName(group.members, matrix)))
        }
        return result
    }

    /// Tells of histograms that an aggregation of numbers leaves out.
    private func noteIgnored(_ matrix: StepMatrix, _ node: Aggregation, at position: Position) {
        if matrix.series.contains(where: { $0.histograms.map { !$0.isEmpty } ?? false }) {
            note(.ignoredInAggregation(node.operation.rawValue), at: position)
        }
    }

    private func countValues(_ node: Aggregation, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        guard let parameter = node.parameter, case .string(let literal) = parameter.unwrapped else { return StepMatrix() }
        guard !literal.bytes.isEmpty, String(validating: literal.bytes, as: UTF8.self) != nil else {
            throw ObsError(.unprocessable, "invalid label name \(goQuoted(literal.bytes))")
        }
        let matrix = try vector(node.expression, timeline)
        let filter = node.without ? LabelFilter(on: false, node.grouping) : LabelFilter(keeping: node.grouping)
        var counts: [Labels: [Double]] = [:]
        for series in matrix.series {
            try context.check()
            let labels = filter(series.labels)
            for step in 0..<timeline.count where series.isPresent(step) {
                var builder = LabelsBuilder(labels)
                builder.set(literal.value, series.histograms?[step]?.description ?? formatSampleValue(series.values[step]))
                let old = counts[builder.labels()]?[step] ?? missing
                counts[builder.labels(), default: [Double](repeating: missing, count: timeline.count)][step] = isMissing(old) ? 1 : old + 1
            }
        }
        return StepMatrix(series: counts.map { StepSeries(labels: $0.key, values: $0.value) }.sorted { $0.labels < $1.labels })
    }

    // MARK: choosing among series

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: series keep their labels; the parameter may differ from step to step.
    private func choose(_ node: Aggregation, _ timeline: Timeline) throws(ObsError) -> StepMatrix {
        guard let parameter = node.parameter else { return StepMatrix() }
        let limits = try scalar(parameter, timeline)
        if limits.contains(where: \.isNaN) {
            throw ObsError(.unprocessable, node.operation == .limitRatio ? "Ratio value is NaN" : "Parameter value is NaN")
        }
        let matrix = try vector(node.expression, timeline)
        if node.operation == .limitRatio { return limitRatio(matrix, limits, node, parameter.unwrapped.position) }
        if let huge = limits.first(where: { abs($0) >= 9.2e18 }) {
            throw ObsError(.unprocessable, "Scalar value \(formatSampleValue(huge)) overflows int64")
        }
        let ranks = node.operation == .topk || node.operation == .bottomk
        if ranks { noteIgnored(matrix, node, at: node.position) }
        var kept = matrix.series.map { series in
            var empty = series
            empty.values = [Double](repeating: missing, count: series.values.count)
            empty.histograms = nil
            return empty
        }
        var order: [Int] = []
        for group in groups(matrix, node) {
            try context.check()
            for step in 0..<timeline.count {
                let present = group.members.filter { ranks ? !isMissing(matrix.series[$0].values[step]) : matrix.series[$0].isPresent(step) }
                let count = Int(min(Double(present.count), max(0, limits[step])))
                guard count > 0 else { continue }
                let chosen = first(count, of: present, by: node.operation) { matrix.series[$0].values[step] }
                for member in chosen { kept[member][step] = matrix.series[member][step] }
                if timeline.count == 1 { order += chosen }
            }
        }
        var result = StepMatrix(isOrdered: timeline.count == 1 && node.operation != .limitk)
        for index in result.isOrdered ? order : Array(matrix.series.indices) {
            result.series.append(kept[index])
        }
        return result
    }

    /// The `count` members that come first; NaN comes last either way.
    private func first(_ count: Int, of members: [Int], by operation: AggregationOperator, _ value: (Int) -> Double) -> [Int] {
        if operation == .limitk { return Array(members.prefix(count)) }
        let top = operation == .topk
        func precedes(_ a: (Double, Int), _ b: (Double, Int)) -> Bool {
            if a.0.isNaN || b.0.isNaN { return !a.0.isNaN || (b.0.isNaN && a.1 < b.1) }
            return a.0 == b.0 ? a.1 < b.1 : (a.0 > b.0) == top
        }
        let ranked = members.enumerated().map { (value($0.element), $0.offset) }
        return ranked.sorted(by: precedes).prefix(count).map { members[$0.1] }
    }

    /// A share of all series, the same ones at every step: a series' hash says at which ratio it is in.
    private func limitRatio(_ matrix: StepMatrix, _ ratios: [Double], _ node: Aggregation, _ position: Position) -> StepMatrix {
        for ratio in ratios where abs(ratio) > 1 { note(.invalidRatio(bits: ratio.bitPattern, cappedTo: ratio > 0 ? 1 : -1), at: position) }
        var result = StepMatrix()
        for var series in matrix.series {
            let share = Double(prometheusHash(series.labels)) / Double(UInt64.max)
            for step in series.values.indices {
                let ratio = max(-1, min(1, ratios[step]))
                let isIn = ratio >= 0 ? share < ratio : share >= 1 + ratio
                if !isIn { series[step] = .nothing }
            }
            result.series.append(series)
        }
        return result
    }
}

/// Linear interpolation between the neighbours of the rank; NaN sorts below everything.
func quantileOf(_ values: inout [Double], _ rank: Double) -> Double {
    if values.isEmpty || rank.isNaN { return .nan }
    if rank < 0 { return -.infinity }
    if rank > 1 { return .infinity }
    values.sort { $0.isNaN ? !$1.isNaN : $0 < $1 }
    let position = rank * Double(values.count - 1)
    let lower = max(0, floor(position))
    let upper = min(Double(values.count - 1), lower + 1)
    let weight = position - floor(position)
    return values[Int(lower)] * (1 - weight) + values[Int(upper)] * weight
}
