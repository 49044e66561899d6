// What an aggregation keeps of a group while its series pass: a state for each step.
internal import ObsCore

/// A group while its series pass.
struct FoldedGroup {
    let labels: Labels
    private let operation: AggregationOperator
    private let fold: ColumnFold
    /// Of a sum or a mean, once there is a histogram.
    private var histograms: HistogramFold?
    private let steps: Int
    private var ignoresHistograms = false
    private var dropsName = false

    init(_ labels: Labels, _ node: Aggregation, steps: Int) {
        self.labels = labels
        self.steps = steps
        operation = node.operation
        fold = ColumnFold(node.operation, steps: steps)
    }

    mutating func add(_ series: StepSeries) {
        fold.add(series.values)
        if series.dropsName { dropsName = true }
        guard let added = series.histograms else { return }
        switch operation {
        case .sum, .avg:
            if histograms == nil { histograms = HistogramFold(steps: steps, isMean: operation == .avg) }
            histograms?.add(added, metric: series.labels["__name__"] ?? "")
        case .count, .group: fold.add((0..<steps).map { added[$0] == nil ? missing : 1 })
        default: if !added.isEmpty { ignoresHistograms = true }
        }
    }

    /// Numbers and histograms at one step have no sum.
    private func isMixed(_ step: Int, _ column: [Double]) -> Bool { !isMissing(column[step]) && histograms?.isSeen(step) ?? false }

    var result: StepSeries {
        var column = fold.column
        guard let histograms else { return StepSeries(labels: labels, values: column, dropsName: dropsName) }
        var sums = histograms.column
        for step in 0..<steps where isMixed(step, column) { (column[step], sums[step]) = (missing, nil) }
        return StepSeries(labels: labels, values: column, histograms: sums, dropsName: dropsName)
    }

    var annotations: [Annotation] {
        if ignoresHistograms { return [.ignoredInAggregation(operation.rawValue)] }
        guard let histograms else { return [] }
        let column = fold.column
        return histograms.annotations + ((0..<steps).contains { isMixed($0, column) } ? [.mixedSamplesInAggregation] : [])
    }
}

/// The histograms of a group: a running sum or mean for each step.
private struct HistogramFold {
    private enum State {
        case none
        case sum(HistogramSum)
        case mean(HistogramMean)
        /// Powers and custom bounds at one step.
        case incompatible
    }
    private let isMean: Bool
    private var states: [State]
    private var blends: [BlendNotes]
    private var incompatible: [String] = []

    init(steps: Int, isMean: Bool) {
        self.isMean = isMean
        states = [State](repeating: .none, count: steps)
        blends = [BlendNotes](repeating: BlendNotes(), count: steps)
    }

    mutating func add(_ histograms: HistogramSteps, metric: String) {
        for step in states.indices {
            guard let histogram = histograms[step] else { continue }
            let state = states[step]
            // What is held twice would be copied with each addition.
            states[step] = .none
            states[step] = add(histogram, to: state, step, metric)
        }
    }

    private mutating func add(_ histogram: FloatHistogram, to state: State, _ step: Int, _ metric: String) -> State {
        let blend: FloatHistogram.Blend?
        let next: State
        switch state {
        case .incompatible: return state
        case .none:
            blends[step].look(at: histogram)
            return isMean ? .mean(HistogramMean(histogram)) : .sum(HistogramSum(histogram))
        case .sum(var sum):
            blend = sum.add(histogram)
            next = .sum(sum)
        case .mean(var mean):
            blend = mean.add(histogram)
            next = .mean(mean)
        }
        guard let blend else {
            if !incompatible.contains(metric) { incompatible.append(metric) }
            return .incompatible
        }
        blends[step].look(at: histogram)
        blends[step].look(at: blend)
        return next
    }

    func isSeen(_ step: Int) -> Bool {
        switch states[step] {
        case .none, .incompatible: false
        case .sum, .mean: true
        }
    }

    var column: HistogramSteps {
        var column = HistogramSteps(count: states.count)
        for step in states.indices {
            switch states[step] {
            case .none, .incompatible: break
            case .sum(let sum): column[step] = sum.total.compacted()
            case .mean(let mean): column[step] = mean.mean.compacted()
            }
        }
        return column
    }

    var annotations: [Annotation] {
        incompatible.map { .mixedBounds(metric: $0) } + blends.flatMap(\.annotations)
    }
}

/// What an aggregation keeps of a group's numbers: a state for each step. Which states is said once a column, so that the loop over the steps is made for each kind.
private enum ColumnFold {
    case sum(StepStates<CompensatedSum>)
    case mean(StepStates<CompensatedMean>)
    case count(StepStates<Count>)
    case least(StepStates<Least>)
    case most(StepStates<Most>)
    case deviation(StepStates<Deviation>)
    case variance(StepStates<Variance>)
    case presence(StepStates<Presence>)

    init(_ operation: AggregationOperator, steps: Int) {
        switch operation {
        case .sum: self = .sum(StepStates(steps))
        case .avg: self = .mean(StepStates(steps))
        case .count: self = .count(StepStates(steps))
        case .min: self = .least(StepStates(steps))
        case .max: self = .most(StepStates(steps))
        case .stddev: self = .deviation(StepStates(steps))
        case .stdvar: self = .variance(StepStates(steps))
        default: self = .presence(StepStates(steps))
        }
    }

    func add(_ column: [Double]) {
        switch self {
        case .sum(let states): states.add(column)
        case .mean(let states): states.add(column)
        case .count(let states): states.add(column)
        case .least(let states): states.add(column)
        case .most(let states): states.add(column)
        case .deviation(let states): states.add(column)
        case .variance(let states): states.add(column)
        case .presence(let states): states.add(column)
        }
    }

    /// The result; missing where no series had a value.
    var column: [Double] {
        switch self {
        case .sum(let states): states.column
        case .mean(let states): states.column
        case .count(let states): states.column
        case .least(let states): states.column
        case .most(let states): states.column
        case .deviation(let states): states.column
        case .variance(let states): states.column
        case .presence(let states): states.column
        }
    }
}

private protocol StepState {
    init()
    mutating func add(_ value: Double)
    var value: Double { get }
}

private final class StepStates<State: StepState> {
    private let states: UnsafeMutableBufferPointer<State>
    private let seen: UnsafeMutableBufferPointer<Bool>

    @inline(__always) init(_ steps: Int) {
        states = .allocate(capacity: steps)
        states.initialize(repeating: State())
        seen = .allocate(capacity: steps)
        seen.initialize(repeating: false)
    }

    deinit {
        states.deinitialize().deallocate()
        seen.deinitialize().deallocate()
    }

    @inline(__always) func add(_ column: [Double]) {
        let (states, seen) = (states, seen)
        column.withUnsafeBufferPointer { values in
            for step in 0..<min(values.count, states.count) where !isMissing(values[step]) {
                states[step].add(values[step])
                seen[step] = true
            }
        }
    }

    @inline(__always) var column: [Double] { states.indices.map { seen[$0] ? states[$0].value : missing } }
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
