// What an aggregation keeps of a group while its series pass: a state for each step. The loops are generic and specialised for
// each state, so that a column costs one dynamic call.
internal import ObsCore

protocol ColumnFold: AnyObject {
    func add(_ column: [Double])
    /// The result; missing where no series had a value.
    var column: [Double] { get }
}

func columnFold(_ operation: AggregationOperator, steps: Int) -> any ColumnFold {
    switch operation {
    case .sum: StateFold<CompensatedSum>(steps)
    case .avg: StateFold<CompensatedMean>(steps)
    case .count: StateFold<Count>(steps)
    case .min: StateFold<Least>(steps)
    case .max: StateFold<Most>(steps)
    case .stddev: StateFold<Deviation>(steps)
    case .stdvar: StateFold<Variance>(steps)
    default: StateFold<Presence>(steps)
    }
}

private protocol StepState {
    init()
    mutating func add(_ value: Double)
    var value: Double { get }
}

private final class StateFold<State: StepState>: ColumnFold {
    private var states: [State]
    private var seen: [Bool]

    init(_ steps: Int) {
        states = [State](repeating: State(), count: steps)
        seen = [Bool](repeating: false, count: steps)
    }

    func add(_ column: [Double]) {
        for step in 0..<min(column.count, states.count) where !isMissing(column[step]) {
            states[step].add(column[step])
            seen[step] = true
        }
    }

    var column: [Double] { states.indices.map { seen[$0] ? states[$0].value : missing } }
}

extension CompensatedSum: StepState {}
extension CompensatedMean: StepState {}

private struct Count: StepState {
    var value = 0.0
    mutating func add(_ value: Double) { self.value += 1 }
}

private struct Presence: StepState {
    var value: Double { 1 }
    mutating func add(_ value: Double) {}
}

/// NaN only when nothing else is there.
private struct Least: StepState {
    var value = Double.nan
    mutating func add(_ value: Double) { if value < self.value || self.value.isNaN { self.value = value } }
}

private struct Most: StepState {
    var value = Double.nan
    mutating func add(_ value: Double) { if value > self.value || self.value.isNaN { self.value = value } }
}

/// Of the population, step by step (Welford).
private struct Variance: StepState {
    private var count = 0.0
    private var mean = 0.0
    private var sum = 0.0

    mutating func add(_ value: Double) {
        count += 1
        if count == 1 {
            mean = value
            sum = value.isFinite ? 0 : .nan
            return
        }
        let delta = value - mean
        mean += delta / count
        sum += delta * (value - mean)
    }

    var value: Double { sum / count }
}

private struct Deviation: StepState {
    private var variance = Variance()
    mutating func add(_ value: Double) { variance.add(value) }
    var value: Double { variance.value.squareRoot() }
}
