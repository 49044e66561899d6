internal import Glibc
internal import ObsCore
internal import ObsStore

extension MetricEvaluator {
    func combine(_ binary: BinaryOperation) throws(ObsError) -> MetricValue {
        let left = try evaluate(binary.left)
        let right = try evaluate(binary.right)
        switch (left, right) {
        case (.scalar(let a), .scalar(let b)):
            if let comparison = binary.operation.comparison { return .scalar(comparison.holds(a, b) ? 1 : 0) }
            return .scalar(arithmetic(binary.operation, a, b))
        case (.vector(let columns), .scalar(let value)): return .vector(map(columns, binary) { ($0, value) })
        case (.scalar(let value), .vector(let columns)): return .vector(map(columns, binary) { (value, $0) })
        case (.vector(let a), .vector(let b)): return .vector(binary.operation.isSet ? combineSets(binary, a, b) : try match(binary, a, b))
        }
    }

    private func arithmetic(_ operation: BinaryOperation.Operator, _ a: Double, _ b: Double) -> Double {
        switch operation {
        case .add: a + b
        case .subtract: a - b
        case .multiply: a * b
        case .divide: a / b
        case .modulo: fmod(a, b)
        case .power: pow(a, b)
        default: .nan
        }
    }

    /// Value of one pair; absent when a comparison filters it out. `kept` is what a filtering comparison leaves.
    private func value(_ binary: BinaryOperation, _ a: Double, _ b: Double, kept: Double) -> Double {
        guard let comparison = binary.operation.comparison else { return arithmetic(binary.operation, a, b) }
        let holds = comparison.holds(a, b)
        return binary.returnsBool ? (holds ? 1 : 0) : holds ? kept : Column.absent
    }

    private func map(_ columns: [Column], _ binary: BinaryOperation, _ pair: (Double) -> (Double, Double)) -> [Column] {
        columns.map { column in
            Column(
                labels: column.labels,
                values: column.values.map { sample in
                    guard !Column.isAbsent(sample) else { return Column.absent }
                    let (a, b) = pair(sample)
                    return value(binary, a, b, kept: sample)
                })
        }
    }

    /// The labels two sides are matched by.
    private func signature(_ labels: Labels, _ matching: BinaryOperation.Matching?) -> Labels {
        guard let matching else { return labels }
        return labels.filtered { matching.labels.contains($0) == matching.on }
    }

    private func combineSets(_ binary: BinaryOperation, _ left: [Column], _ right: [Column]) -> [Column] {
        /// Whether some series of a signature has a sample, step by step.
        func presence(_ columns: [Column]) -> [Labels: [Bool]] {
            var result: [Labels: [Bool]] = [:]
            for column in columns {
                let key = signature(column.labels, binary.matching)
                var steps = result[key] ?? Array(repeating: false, count: grid.count)
                for step in 0..<grid.count where !Column.isAbsent(column.values[step]) { steps[step] = true }
                result[key] = steps
            }
            return result
        }
        func kept(_ columns: [Column], by other: [Labels: [Bool]], wherePresent: Bool) -> [Column] {
            columns.map { column in
                let steps = other[signature(column.labels, binary.matching)]
                var column = column
                for step in 0..<grid.count where (steps?[step] ?? false) != wherePresent { column.values[step] = Column.absent }
                return column
            }
        }
        switch binary.operation {
        case .and: return kept(left, by: presence(right), wherePresent: true)
        case .unless: return kept(left, by: presence(right), wherePresent: false)
        default:
            var result = left
            var places: [Labels: Int] = [:]
            for (index, column) in left.enumerated() { places[column.labels] = index }
            for column in kept(right, by: presence(left), wherePresent: false) {
                guard let place = places[column.labels] else {
                    result.append(column)
                    continue
                }
                for step in 0..<grid.count where !Column.isAbsent(column.values[step]) { result[place].values[step] = column.values[step] }
            }
            return result
        }
    }

    private func match(_ binary: BinaryOperation, _ left: [Column], _ right: [Column]) throws(ObsError) -> [Column] {
        let cardinality = binary.matching?.cardinality ?? .oneToOne
        // The "one" side is looked up, the "many" side walked.
        let swapped = cardinality == .oneToMany
        let many = swapped ? right : left
        let one = swapped ? left : right
        var candidates: [Labels: [Int]] = [:]
        for (index, column) in one.enumerated() { candidates[signature(column.labels, binary.matching), default: []].append(index) }
        var result: [Column] = []
        var places: [Labels: Int] = [:]
        for column in many {
            try context.check()
            let key = signature(column.labels, binary.matching)
            for index in candidates[key] ?? [] {
                let other = one[index]
                let labels = resultLabels(binary, column.labels, other.labels)
                let place: Int
                if let known = places[labels] {
                    place = known
                } else {
                    place = result.count
                    places[labels] = place
                    result.append(Column(labels: labels, values: Array(repeating: Column.absent, count: grid.count)))
                }
                for step in 0..<grid.count where !Column.isAbsent(column.values[step]) && !Column.isAbsent(other.values[step]) {
                    let pair = swapped ? (other.values[step], column.values[step]) : (column.values[step], other.values[step])
                    let outcome = value(binary, pair.0, pair.1, kept: pair.0)
                    if Column.isAbsent(outcome) { continue }
                    guard Column.isAbsent(result[place].values[step]) else {
                        throw ObsError(
                            .badInput,
                            cardinality == .oneToOne
                                ? "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                                : "multiple matches for labels: grouping labels must ensure unique matches")
                    }
                    result[place].values[step] = outcome
                }
            }
        }
        return result
    }

    private func resultLabels(_ binary: BinaryOperation, _ many: Labels, _ one: Labels) -> Labels {
        guard let matching = binary.matching else { return many }
        switch matching.cardinality {
        case .oneToOne: return signature(many, matching)
        case .manyToOne, .oneToMany:
            guard !matching.include.isEmpty else { return many }
            var builder = LabelsBuilder(many)
            for name in matching.include { builder.set(name, one[name] ?? "") }
            return builder.labels()
        }
    }
}
