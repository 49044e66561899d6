internal import ObsCore
internal import ObsStore

/// The points in time a metric query is evaluated at.
struct StepGrid {
    var startNanos: Int64
    var stepNanos: Int64
    var count: Int

    func nanos(_ step: Int) -> Int64 { startNanos + Int64(step) * stepNanos }
    var endNanos: Int64 { nanos(count - 1) }

    /// Steps s whose window (s - range, s] holds the time; empty when none does. The time is already moved by the offset.
    func steps(holding timeNanos: Int64, rangeNanos: Int64) -> Range<Int> {
        let first = timeNanos <= startNanos ? 0 : Int((timeNanos - startNanos - 1) / stepNanos) + 1
        let lastBound = clampedSum(timeNanos - startNanos, rangeNanos - 1)
        guard lastBound >= 0, first < count else { return 0..<0 }
        let last = min(count - 1, Int(lastBound / stepNanos))
        return first <= last ? first..<last + 1 : 0..<0
    }
}

/// One series at every step of a grid; steps without a value hold `absent`.
struct Column {
    /// No sample: a NaN no arithmetic makes.
    static let absent = SpecialValue.stale
    static func isAbsent(_ value: Double) -> Bool { SpecialValue.isStale(value) }

    var labels: Labels
    var values: [Double]
}

/// Gathers the samples of a range aggregation, series by series.
///
/// Counts and byte sums keep no row: each sample adds to the difference array of its series (plus at the first step whose window
/// holds it, minus behind the last), which sums up to the value of every step at the end. All are whole numbers below 2^53, so this is exact.
/// Unwrapped values are kept as (series, time, value) columns, charged to the query's budget, and aggregated window by window.
final class SampleSink: LogSink {
    private let range: RangeAggregation
    private let pipeline: Pipeline
    private let grid: StepGrid
    private let context: QueryContext
    private let row = Row()
    /// Labels of the series: nil for all, else only these or all but these.
    private let grouping: Grouping?
    private let groupNames: [[UInt8]]
    private let needsLabels: Bool
    private let needsValues: Bool
    private let measuresBytes: Bool
    private var except: [[UInt8]] = []

    private var places: [[UInt8]: Int] = [:]
    private var series: [[UInt8]] = []
    private var differences: [Double] = []
    private var sampleSeries: [UInt32] = []
    private var sampleTimes: [Int64] = []
    private var sampleValues: [Double] = []
    private var key: [UInt8] = []

    let wantedNanos: Range<Int64>

    /// What it looks at.
    var columnsWanted: LogColumns {
        if !pipeline.stages.isEmpty { return .all }
        var wanted: LogColumns = needsLabels ? .all : []
        wanted.remove(.line)
        return measuresBytes ? wanted.union(.line) : wanted
    }

    init(_ range: RangeAggregation, _ pipeline: Pipeline, grouping: Grouping?, grid: StepGrid, context: QueryContext) {
        self.range = range
        self.pipeline = pipeline
        self.grouping = grouping
        self.grid = grid
        self.context = context
        groupNames = (grouping?.labels ?? []).map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
        needsLabels = !pipeline.stages.isEmpty || grouping == nil || grouping?.without == true || !groupNames.isEmpty
        needsValues = range.unwraps
        measuresBytes = range.function == .bytesRate || range.function == .bytesOverTime
        for stage in range.query.stages {
            if case .unwrap(let label, _) = stage { except.append(Array(label.utf8)) }
        }
        if grouping?.without == true { except += groupNames }
        let low = (grid.startNanos - range.offsetNanos).subtractingReportingOverflow(range.rangeNanos)
        wantedNanos = (low.overflow ? .min : low.partialValue + 1)..<max(grid.endNanos - range.offsetNanos, low.partialValue) + 1
    }

    func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
        try context.check()
        context.count(rows: rows.count)
        row.startBatch()
        var failure: ObsError?
        batch.bytes.withUnsafeBytes { bytes in
            do throws(ObsError) {
                for index in rows { try consume(batch, index, bytes) }
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func consume(_ batch: LogBatch, _ index: Int, _ bytes: UnsafeRawBufferPointer) throws(ObsError) {
        let time = batch.timeNanos[index]
        guard wantedNanos.contains(time) else { return }
        let steps = grid.steps(holding: time + range.offsetNanos, rangeNanos: range.rangeNanos)
        guard !steps.isEmpty else { return }
        row.load(batch, index, bytes: bytes, withLabels: needsLabels)
        guard pipeline.process(row) else { return }
        if row.hasError { throw pipelineError() }
        let place = try seriesPlace()
        if needsValues {
            try context.charge(samples: 1)
            sampleSeries.append(UInt32(truncatingIfNeeded: place))
            sampleTimes.append(time + range.offsetNanos)
            sampleValues.append(row.sample)
        } else {
            let amount = measuresBytes ? Double(row.line.count) : 1
            // One place more than steps, for what ends behind the last.
            let base = place * (grid.count + 1)
            differences[base + steps.lowerBound] += amount
            differences[base + steps.upperBound] -= amount
            if measuresBytes, amount == 0 { zeroSeen.insert(place) }
        }
    }

    /// Series with empty lines: their byte sums may be 0 and yet be there.
    private var zeroSeen: Set<Int> = []

    private func seriesPlace() throws(ObsError) -> Int {
        key.removeAll(keepingCapacity: true)
        if needsLabels {
            if let grouping, !grouping.without {
                row.appendLabels(only: groupNames, to: &key)
            } else {
                row.appendLabels(nil, except: except, keepingEmpty: false, to: &key)
            }
        }
        if let place = places[key] { return place }
        try context.charge(series: 1)
        try context.charge(bytes: key.count * 2 + 128 + (needsValues ? 0 : (grid.count + 1) * 8))
        let place = series.count
        places[key] = place
        series.append(key)
        if !needsValues { differences.append(contentsOf: repeatElement(0, count: grid.count + 1)) }
        return place
    }

    private func pipelineError() -> ObsError {
        let kind = String(decoding: row.value(errorName) ?? [], as: UTF8.self)
        return ObsError(
            .badInput,
            """
            pipeline error: '\(kind)' for series: '\(row.labels(nil))'.
            Use a label filter to intentionally skip this error. (e.g | __error__!="\(kind)").
            To skip all potential errors you can match empty errors.(e.g __error__="")
            The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__="" )

            """)
    }

    // MARK: Answer

    /// Values of every series at every step, in label order.
    func columns() throws(ObsError) -> [Column] {
        if range.function == .absentOverTime { return [absentColumn()] }
        let result = needsValues ? try unwrappedColumns() : countedColumns()
        return result.sorted { $0.labels < $1.labels }
    }

    private var rangeSeconds: Double { Double(range.rangeNanos) / 1e9 }

    private func countedColumns() -> [Column] {
        let perSecond = range.function == .rate || range.function == .bytesRate
        return series.indices.map { place in
            var values = [Double](repeating: Column.absent, count: grid.count)
            var sum = 0.0
            let base = place * (grid.count + 1)
            for step in 0..<grid.count {
                sum += differences[base + step]
                if sum > 0 || (zeroSeen.contains(place) && measuresBytes && sum == 0) { values[step] = perSecond ? sum / rangeSeconds : sum }
            }
            return Column(labels: Labels(canonical: series[place]), values: values)
        }
    }

    private func absentColumn() -> Column {
        var seen = [Bool](repeating: false, count: grid.count)
        if needsValues {
            for time in sampleTimes { for step in grid.steps(holding: time, rangeNanos: range.rangeNanos) { seen[step] = true } }
        } else {
            for column in countedColumns() { for step in 0..<grid.count where !Column.isAbsent(column.values[step]) { seen[step] = true } }
        }
        var pairs: [(name: String, value: String)] = []
        for matcher in range.query.matchers where matcher.operation == .equal {
            if range.query.matchers.filter({ $0.name == matcher.name }).count == 1 { pairs.append((matcher.name, matcher.value)) }
        }
        return Column(labels: Labels(pairs), values: seen.map { $0 ? Column.absent : 1 })
    }

    private func unwrappedColumns() throws(ObsError) -> [Column] {
        // Order of arrival breaks ties of time.
        let order = sampleTimes.indices.sorted {
            sampleSeries[$0] != sampleSeries[$1]
                ? sampleSeries[$0] < sampleSeries[$1] : sampleTimes[$0] != sampleTimes[$1] ? sampleTimes[$0] < sampleTimes[$1] : $0 < $1
        }
        var result: [Column] = []
        var at = 0
        while at < order.count {
            try context.check()
            let place = sampleSeries[order[at]]
            var end = at
            while end < order.count, sampleSeries[order[end]] == place { end += 1 }
            let times = order[at..<end].map { sampleTimes[$0] }
            let values = order[at..<end].map { sampleValues[$0] }
            result.append(Column(labels: Labels(canonical: series[Int(place)]), values: windows(times, values)))
            at = end
        }
        return result
    }

    private func windows(_ times: [Int64], _ values: [Double]) -> [Double] {
        var result = [Double](repeating: Column.absent, count: grid.count)
        var low = 0
        var high = 0
        for step in 0..<grid.count {
            let end = grid.nanos(step)
            while high < times.count, times[high] <= end { high += 1 }
            while low < high, times[low] <= end - range.rangeNanos { low += 1 }
            if low < high { result[step] = aggregate(times[low..<high], values[low..<high], endNanos: end) }
        }
        return result
    }

    private func aggregate(_ times: ArraySlice<Int64>, _ values: ArraySlice<Double>, endNanos: Int64) -> Double {
        switch range.function {
        case .sumOverTime: values.reduce(0, +)
        case .rate: values.reduce(0, +) / rangeSeconds
        case .avgOverTime: mean(values)
        case .maxOverTime: values.reduce(-.infinity) { $0.isNaN || $1 > $0 ? $1 : $0 }
        case .minOverTime: values.reduce(.infinity) { $0.isNaN || $1 < $0 ? $1 : $0 }
        case .firstOverTime: values.first ?? .nan
        case .lastOverTime: values.last ?? .nan
        case .stdvarOverTime: variance(values)
        case .stddevOverTime: variance(values).squareRoot()
        case .quantileOverTime: quantile(range.parameter ?? .nan, Array(values))
        case .rateCounter: counterRate(times, values, endNanos: endNanos)
        case .countOverTime, .bytesOverTime, .bytesRate, .absentOverTime: Double(values.count)
        }
    }

    /// Prometheus' `rate`: resets undone, extrapolated to the ends of the window.
    private func counterRate(_ times: ArraySlice<Int64>, _ values: ArraySlice<Double>, endNanos: Int64) -> Double {
        guard let firstTime = times.first, let lastTime = times.last, let first = values.first, let last = values.last, times.count > 1, lastTime > firstTime
        else {
            return Column.absent
        }
        var increase = last - first
        var previous = first
        for value in values.dropFirst() {
            if value < previous { increase += previous }
            previous = value
        }
        let sampled = Double(lastTime - firstTime) / 1e9
        let average = sampled / Double(times.count - 1)
        var toStart = Double(firstTime - (endNanos - range.rangeNanos)) / 1e9
        var toEnd = Double(endNanos - lastTime) / 1e9
        if increase > 0, first >= 0 { toStart = min(toStart, sampled * (first / increase)) }
        if toStart >= average * 1.1 { toStart = average / 2 }
        if toEnd >= average * 1.1 { toEnd = average / 2 }
        return increase * ((sampled + toStart + toEnd) / sampled) / rangeSeconds
    }
}

func mean(_ values: some Collection<Double>) -> Double {
    // Running mean: no overflow, infinities stay.
    var result = 0.0
    var count = 0.0
    for value in values {
        count += 1
        if result.isInfinite, value.isInfinite, (result > 0) == (value > 0) { continue }
        if result.isInfinite, value.isFinite { continue }
        result += value / count - result / count
    }
    return result
}

func variance(_ values: some Collection<Double>) -> Double {
    var average = 0.0
    var sum = 0.0
    var count = 0.0
    for value in values {
        count += 1
        let delta = value - average
        average += delta / count
        sum += delta * (value - average)
    }
    return sum / count
}

/// Prometheus' quantile: linear between the two nearest ranks.
func quantile(_ q: Double, _ values: [Double]) -> Double {
    if values.isEmpty || q.isNaN { return .nan }
    if q < 0 { return -.infinity }
    if q > 1 { return .infinity }
    let sorted = values.sorted { $0.isNaN ? !$1.isNaN : $0 < $1 }
    let rank = q * Double(sorted.count - 1)
    let lower = max(0, min(Int(rank), sorted.count - 1))
    let upper = min(sorted.count - 1, lower + 1)
    let weight = rank - Double(lower)
    return sorted[lower] * (1 - weight) + sorted[upper] * weight
}
