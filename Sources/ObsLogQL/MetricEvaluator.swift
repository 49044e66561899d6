internal import Glibc
internal import ObsCore
internal import ObsRegex
internal import ObsStore

/// What a metric expression is at every step of the grid.
enum MetricValue {
    case scalar(Double)
    /// Label sets are unique.
    case vector([Column])
}

/// Evaluates metric expressions for all steps at once: labels are matched once, values are columns.
struct MetricEvaluator {
    let reader: any Reader
    let grid: StepGrid
    let context: QueryContext

    func evaluate(_ expression: MetricExpression) throws(ObsError) -> MetricValue {
        try context.check()
        switch expression {
        case .number(let value): return .scalar(value)
        case .constantVector(let value): return .vector([Column(labels: .empty, values: Array(repeating: value, count: grid.count))])
        case .range(let range): return .vector(try columns(range, grouping: range.grouping))
        case .vector(let aggregation): return .vector(try aggregate(aggregation))
        case .binary(let binary): return try combine(binary)
        case .labelReplace(let replace): return .vector(try labelReplace(replace))
        }
    }

    private func vector(_ expression: MetricExpression) throws(ObsError) -> [Column] {
        switch try evaluate(expression) {
        case .vector(let columns): return columns
        case .scalar(let value): return [Column(labels: .empty, values: Array(repeating: value, count: grid.count))]
        }
    }

    // MARK: Reading

    private func columns(_ range: RangeAggregation, grouping: Grouping?) throws(ObsError) -> [Column] {
        var stages = range.query.stages
        // Parsers whose labels nobody looks at are not run, so they cannot fail either (contract loki.md §4).
        if let grouping, !grouping.without, grouping.labels.isEmpty, Self.needNoParsedLabels(stages) { stages.removeAll { Self.isParser($0) } }
        let pipeline = try Pipeline(stages)
        let sink = SampleSink(range, pipeline, grouping: grouping, grid: grid, context: context)
        let selection = LogSelection(
            matchers: range.query.matchers, startNanos: sink.wantedNanos.lowerBound, endNanos: sink.wantedNanos.upperBound, direction: .forward,
            lines: pipeline.storedLineFilters, columns: sink.columnsWanted)
        try reader.scanLogs(selection, context: context, into: sink)
        return try sink.columns()
    }

    private static func isParser(_ stage: StageExpression) -> Bool {
        switch stage {
        case .json, .logfmt, .regexp, .pattern: true
        default: false
        }
    }

    private static func needNoParsedLabels(_ stages: [StageExpression]) -> Bool {
        stages.allSatisfy { stage in
            switch stage {
            case .json, .logfmt, .regexp, .pattern, .lineFilter, .decolorize, .drop, .keep: true
            default: false
            }
        }
    }

    // MARK: Aggregating

    private func aggregate(_ aggregation: VectorAggregation) throws(ObsError) -> [Column] {
        let input: [Column]
        // A sum of sums needs no series in between: the store's rows are grouped as they come.
        if aggregation.function == .sum, case .range(let range) = aggregation.operand, range.grouping == nil, Self.sumsUp(range.function) {
            input = try columns(range, grouping: aggregation.grouping ?? Grouping(without: false, labels: []))
        } else {
            input = try vector(aggregation.operand)
        }
        switch aggregation.function {
        case .sort, .sortDesc: return sorted(input, descending: aggregation.function == .sortDesc)
        case .topk, .bottomk, .approxTopk: return try best(aggregation, input)
        default: break
        }
        var groups: [Labels: [Int]] = [:]
        for (index, column) in input.enumerated() { groups[group(column.labels, aggregation.grouping), default: []].append(index) }
        var result: [Column] = []
        for (labels, members) in groups.sorted(by: { $0.key < $1.key }) {
            try context.check()
            var values = [Double](repeating: Column.absent, count: grid.count)
            var present: [Double] = []
            for step in 0..<grid.count {
                present.removeAll(keepingCapacity: true)
                for index in members where !Column.isAbsent(input[index].values[step]) { present.append(input[index].values[step]) }
                if !present.isEmpty { values[step] = reduce(aggregation.function, present) }
            }
            result.append(Column(labels: labels, values: values))
        }
        return result
    }

    private static func sumsUp(_ function: RangeAggregation.Function) -> Bool {
        switch function {
        case .countOverTime, .rate, .bytesOverTime, .bytesRate, .sumOverTime: true
        default: false
        }
    }

    private func reduce(_ function: VectorAggregation.Function, _ values: [Double]) -> Double {
        switch function {
        case .sum: values.reduce(0, +)
        case .avg: mean(values)
        case .min: values.reduce(.nan) { $0.isNaN || $1 < $0 ? $1 : $0 }
        case .max: values.reduce(.nan) { $0.isNaN || $1 > $0 ? $1 : $0 }
        case .count: Double(values.count)
        case .stddev: variance(values).squareRoot()
        case .stdvar: variance(values)
        case .topk, .bottomk, .approxTopk, .sort, .sortDesc: .nan
        }
    }

    private func group(_ labels: Labels, _ grouping: Grouping?) -> Labels {
        guard let grouping else { return .empty }
        return labels.filtered { grouping.labels.contains($0) != grouping.without }
    }

    private func best(_ aggregation: VectorAggregation, _ input: [Column]) throws(ObsError) -> [Column] {
        let count = aggregation.parameter ?? 1
        let smallest = aggregation.function == .bottomk
        var groups: [Labels: [Int]] = [:]
        for (index, column) in input.enumerated() { groups[group(column.labels, aggregation.grouping), default: []].append(index) }
        var result = input.map { Column(labels: $0.labels, values: Array(repeating: Column.absent, count: grid.count)) }
        for members in groups.values {
            try context.check()
            for step in 0..<grid.count {
                var present = members.filter { !Column.isAbsent(input[$0].values[step]) }
                if present.count > count { present.sort { comesFirst(input[$0].values[step], input[$1].values[step], $0, $1, smallest: smallest) } }
                for index in present.prefix(count) { result[index].values[step] = input[index].values[step] }
            }
        }
        result.removeAll { $0.values.allSatisfy { Column.isAbsent($0) } }
        return grid.count == 1 ? sorted(result, descending: !smallest) : result
    }

    /// NaN comes last; equal values in label order.
    private func comesFirst(_ a: Double, _ b: Double, _ x: Int, _ y: Int, smallest: Bool) -> Bool {
        if a.isNaN || b.isNaN { return a.isNaN == b.isNaN ? x < y : b.isNaN }
        return a == b ? x < y : smallest ? a < b : a > b
    }

    private func sorted(_ input: [Column], descending: Bool) -> [Column] {
        guard grid.count == 1 else { return input }
        let order = input.indices.sorted { comesFirst(input[$0].values[0], input[$1].values[0], $0, $1, smallest: !descending) }
        return order.map { input[$0] }
    }

    // MARK: Relabelling

    private func labelReplace(_ replace: LabelReplace) throws(ObsError) -> [Column] {
        let regex = try Regex("^(?:\(goGroups(replace.pattern)))$")
        guard let first = replace.destination.utf8.first, isLetter(first), replace.destination.utf8.allSatisfy({ isLetter($0) || isDigit($0) }) else {
            throw parseError("invalid destination label name in label_replace(): \(replace.destination)")
        }
        var seen: Set<Labels> = []
        var result = try vector(replace.operand)
        for index in result.indices {
            let source = Array((result[index].labels[replace.source] ?? "").utf8)
            if let groups = source.withUnsafeBytes({ regex.captures(in: $0, anchored: true) }) {
                var value: [UInt8] = []
                expandReplacement(Array(replace.replacement.utf8), groups, regex.groupNames, source, into: &value)
                var builder = LabelsBuilder(result[index].labels)
                builder.set(Array(replace.destination.utf8), value)
                result[index].labels = builder.labels()
            }
            guard seen.insert(result[index].labels).inserted else { throw ObsError(.badInput, "vector cannot contain metrics with the same labelset") }
        }
        return result
    }
}

extension Labels {
    func filtered(_ keep: (String) -> Bool) -> Labels {
        var builder = LabelsBuilder(self)
        builder.filter(keep)
        return builder.labels()
    }
}
