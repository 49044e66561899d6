// What expressions evaluate to between selector and answer: columns over the steps of the query, one a series. A step without
// a value holds the stale marker's bits: no result can be that NaN, since stale samples never leave a selector, and
// arithmetic never makes it (it is a signalling NaN). So a column is one array of doubles, with no bitmap beside it. Only series
// that have native histograms have a second column, of those; at a step there is a number, a histogram, or neither.
internal import ObsCore

/// The instants an expression is evaluated at, milliseconds: `start`, `start + step`, … A step of 0 repeats one instant.
struct Timeline: Sendable {
    var start: Int64
    var step: Int64
    var count: Int

    var last: Int64 { self[count - 1] }
    subscript(_ index: Int) -> Int64 { start &+ Int64(index) &* step }
    func shifted(by millis: Int64) -> Timeline { Timeline(start: start &+ millis, step: step, count: count) }
}

let missing = Double(bitPattern: 0x7ff0_0000_0000_0002)
@inline(__always) func isMissing(_ value: Double) -> Bool { value.bitPattern == 0x7ff0_0000_0000_0002 }

struct StepSeries: Sendable {
    var labels: Labels
    /// One value a step, or `missing`.
    var values: [Double]
    /// Nil in a series that has none.
    var histograms: HistogramSteps?
    /// The metric name has lost its meaning and goes before the query answers; only where names are removed late (`PromQLOptions.removesNamesLate`).
    var dropsName = false

    /// Whether a step has a number or a histogram.
    @inline(__always) func isPresent(_ step: Int) -> Bool { !isMissing(values[step]) || histograms?[step] != nil }

    var isEmpty: Bool { !values.contains { !isMissing($0) } && histograms?.isEmpty ?? true }

    subscript(_ step: Int) -> StepValue {
        get {
            if let histogram = histograms?[step] { return .histogram(histogram) }
            return isMissing(values[step]) ? .nothing : .number(values[step])
        }
        set {
            values[step] = missing
            histograms?[step] = nil
            switch newValue {
            case .nothing: break
            case .number(let value): values[step] = value
            case .histogram(let histogram):
                if histograms == nil { histograms = HistogramSteps(count: values.count) }
                histograms?[step] = histogram
            }
        }
    }
}

/// What a series has at a step.
enum StepValue: Sendable {
    case nothing
    case number(Double)
    case histogram(FloatHistogram)
}

/// The histograms of a series, one a step, or none.
struct HistogramSteps: Sendable {
    private var steps: [FloatHistogram?]

    init(count: Int) { steps = [FloatHistogram?](repeating: nil, count: count) }
    init(repeating histogram: FloatHistogram?, count: Int) { steps = [FloatHistogram?](repeating: histogram, count: count) }

    subscript(_ step: Int) -> FloatHistogram? {
        get { steps[step] }
        set { steps[step] = newValue }
    }

    var isEmpty: Bool { steps.allSatisfy { $0 == nil } }

    /// About what it takes in memory.
    var byteSize: Int { steps.reduce(0) { $0 + ($1?.byteSize ?? 96) } }

    /// Every histogram through `body`.
    func mapped(_ body: (FloatHistogram) -> FloatHistogram?) -> HistogramSteps {
        var result = self
        for step in steps.indices { if let histogram = steps[step] { result.steps[step] = body(histogram) } }
        return result
    }
}

struct StepMatrix {
    var series: [StepSeries] = []
    /// The order of `series` means something (`sort`, `topk`) and is kept in an instant query's answer.
    var isOrdered = false
}

enum Value {
    case scalar([Double])
    case string(String)
    case vector(StepMatrix)
}

/// Collects series whose labels an operation changed: equal label sets become one series, unless both have a value at the same step.
struct MatrixBuilder {
    private(set) var matrix = StepMatrix()
    private var places: [Labels: Int] = [:]

    init(capacity: Int = 0) {
        matrix.series.reserveCapacity(capacity)
        places.reserveCapacity(capacity)
    }

    /// - Throws: `.unprocessable` when two series clash.
    mutating func add(_ series: StepSeries) throws(ObsError) {
        guard let place = places[series.labels] else {
            places[series.labels] = matrix.series.count
            matrix.series.append(series)
            return
        }
        for step in series.values.indices where series.isPresent(step) {
            if matrix.series[place].isPresent(step) { throw duplicateLabelset }
            matrix.series[place][step] = series[step]
        }
        if series.dropsName { matrix.series[place].dropsName = true }
    }
}

let duplicateLabelset = ObsError(.unprocessable, "vector cannot contain metrics with the same labelset")
