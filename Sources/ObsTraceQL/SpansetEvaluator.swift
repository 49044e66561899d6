internal import ObsCore

/// Evaluates a query's pipeline over one whole trace.
struct SpansetEvaluator {
    let source: SpanSource
    let bytes: UnsafeRawBufferPointer
    let shape: TraceShape

    /// Some spans of the trace, rows in start order, with what `by()` and the aggregates attached to them.
    struct Spanset {
        var rows: [Int]
        var attributes: [(key: String, value: AttributeValue)] = []
    }

    func place(_ row: Int) -> SpanPlace { SpanPlace(batch: source, bytes: bytes, row: row, trace: shape) }

    /// Sets that survive all stages; none when the trace does not match.
    func evaluate(_ query: TraceQuery) -> [Spanset] {
        let all = Array(0..<source.batch.count)
        let first = rows(query.first, within: all)
        var sets = first.isEmpty ? [] : [Spanset(rows: first)]
        for stage in query.stages { sets = apply(stage, sets) }
        return sets
    }

    private func apply(_ stage: PipelineStage, _ sets: [Spanset]) -> [Spanset] {
        switch stage {
        case .select: return sets
        case .spanset(let expression):
            return sets.compactMap { set in
                var set = set
                set.rows = rows(expression, within: set.rows)
                return set.rows.isEmpty ? nil : set
            }
        case .coalesce: return sets.isEmpty ? [] : [Spanset(rows: Set(sets.flatMap(\.rows)).sorted())]
        case .by(let field): return sets.flatMap { split($0, by: field) }
        case .scalarFilter(let left, let comparison, let right):
            return sets.compactMap { set in
                var set = set
                let a = scalar(left, &set)
                let b = scalar(right, &set)
                return compare(comparison, a, b) ? set : nil
            }
        }
    }

    private func split(_ set: Spanset, by field: FieldExpression) -> [Spanset] {
        var order: [String] = []
        var groups: [String: Spanset] = [:]
        for row in set.rows {
            let value = field.value(place(row)).attribute ?? .string("nil")
            let key = "\(value)"
            if groups[key] == nil {
                order.append(key)
                groups[key] = Spanset(rows: [], attributes: set.attributes + [("by(\(field.text))", value)])
            }
            groups[key]?.rows.append(row)
        }
        return order.compactMap { groups[$0] }
    }

    /// The scalar's value; aggregates are noted among the set's attributes.
    private func scalar(_ expression: ScalarExpression, _ set: inout Spanset) -> Value {
        switch expression {
        case .literal(let value): return Value(value)
        case .count:
            note("count()", .int(Int64(set.rows.count)), &set)
            return .int(Int64(set.rows.count))
        case .arithmetic(let operation, let a, let b):
            let left = scalar(a, &set)
            return arithmetic(operation, left, scalar(b, &set))
        case .aggregate(let aggregate, let field):
            let values = set.rows.map { field.value(place($0)) }.filter { $0.number != nil }
            guard var result = values.first else { return .missing }
            for value in values.dropFirst() {
                switch aggregate {
                case .min: if compare(.less, value, result) { result = value }
                case .max: if compare(.greater, value, result) { result = value }
                case .avg, .sum: result = arithmetic(.add, result, value)
                }
            }
            if aggregate == .avg {
                if case .int(let sum) = result { result = .float(Double(sum)) }
                result = arithmetic(.divide, result, .float(Double(values.count)))
            }
            if let shown = result.attribute { note("\(aggregate.rawValue)(\(field.text))", shown, &set) }
            return result
        }
    }

    private func note(_ key: String, _ value: AttributeValue, _ set: inout Spanset) {
        if !set.attributes.contains(where: { $0.key == key }) { set.attributes.append((key, value)) }
    }

    // MARK: Span sets

    private func rows(_ expression: SpansetExpression, within rows: [Int]) -> [Int] {
        switch expression {
        case .filter(nil): return rows
        case .filter(.some(let field)): return rows.filter { field.isTrue(place($0)) }
        case .pipeline(let query):
            var sets = [Spanset(rows: self.rows(query.first, within: rows))].filter { !$0.rows.isEmpty }
            for stage in query.stages { sets = apply(stage, sets) }
            return Set(sets.flatMap(\.rows)).sorted()
        case .combined(let operation, let left, let right):
            return combine(operation, self.rows(left, within: rows), self.rows(right, within: rows))
        }
    }

    private func combine(_ operation: SpansetOperator, _ left: [Int], _ right: [Int]) -> [Int] {
        switch operation.relation {
        case .and: return left.isEmpty || right.isEmpty ? [] : Set(left + right).sorted()
        case .or: return Set(left + right).sorted()
        default: break
        }
        let found = related(operation.relation, to: Set(left), right)
        if operation.isNegated { return right.filter { !found.contains($0) } }
        guard operation.keepsBoth else { return right.filter { found.contains($0) } }
        let others = related(Self.inverse(operation.relation), to: Set(right), left)
        return found.union(others).sorted()
    }

    private static func inverse(_ relation: SpansetOperator.Relation) -> SpansetOperator.Relation {
        switch relation {
        case .child: .parent
        case .parent: .child
        case .descendant: .ancestor
        case .ancestor: .descendant
        default: relation
        }
    }

    /// Those of `rows` that are `relation` (child, descendant, …) of some span of `others`.
    private func related(_ relation: SpansetOperator.Relation, to others: Set<Int>, _ rows: [Int]) -> Set<Int> {
        if others.isEmpty { return [] }
        switch relation {
        case .child: return Set(rows.filter { shape.parent[$0] >= 0 && others.contains(shape.parent[$0]) })
        case .parent:
            let parents = Set(others.map { shape.parent[$0] })
            return Set(rows.filter { parents.contains($0) })
        case .sibling:
            return Set(
                rows.filter { row in
                    let parent = shape.parent[row]
                    return parent >= 0 && shape.children[parent].contains { $0 != row && others.contains($0) }
                })
        case .descendant:
            // Nested intervals: a row is below another when its left number lies inside the other's.
            let marks = covered(others)
            return Set(rows.filter { marks[shape.left[$0]] })
        case .ancestor:
            var above: Set<Int> = []
            for other in others {
                var at = shape.parent[other]
                while at >= 0, above.insert(at).inserted { at = shape.parent[at] }
            }
            return Set(rows.filter { above.contains($0) })
        case .and, .or: return []
        }
    }

    /// By left number: whether it lies strictly inside the interval of one of the rows.
    private func covered(_ rows: Set<Int>) -> [Bool] {
        var change = [Int](repeating: 0, count: source.batch.count * 2 + 3)
        for row in rows {
            change[shape.left[row] + 1] += 1
            change[shape.right[row]] -= 1
        }
        var depth = 0
        return change.map { step in
            depth += step
            return depth > 0
        }
    }
}
