// Series of several sources (segments, head generations) as one, in label order, samples merged. Sources are ordered by age: of two samples for one
// instant the older source's wins, since it was written first.

internal import ObsCore
internal import ObsStore

/// Series of one source in label order.
protocol SeriesSource: AnyObject {
    /// Labels of the present series; nil at the end.
    var labels: Labels? { get }
    /// Samples of the present series within the asked range, in time order.
    func samples() throws(ObsError) -> (times: [Int64], values: [Double])
    func advance() throws(ObsError)
}

final class MergedSeriesSet: SeriesSet {
    /// A binary heap of sources by (labels, age).
    private var heap: [(age: Int, source: any SeriesSource)] = []
    private let context: QueryContext
    private var untilCheck = 0
    /// Samples of the series given out last: its reader is done with them when it asks for the next.
    private var givenSamples = 0

    init(_ sources: [any SeriesSource], context: QueryContext) {
        self.context = context
        for (age, source) in sources.enumerated() where source.labels != nil { push((age, source)) }
    }

    func next() throws(ObsError) -> SeriesSamples? {
        context.release(samples: givenSamples)
        givenSamples = 0
        while let labels = heap.first?.source.labels {
            var merged: (times: [Int64], values: [Double]) = ([], [])
            try take(labels) { (source) throws(ObsError) in
                let samples = try source.samples()
                merged = merged.times.isEmpty ? samples : mergeSamples(merged, samples)
            }
            if merged.times.isEmpty { continue }
            try context.charge(series: 1)
            try context.charge(bytes: labels.bytes.count + 64)
            givenSamples = merged.times.count
            try context.charge(samples: givenSamples)
            return SeriesSamples(labels: labels, timesMillis: merged.times, values: merged.values)
        }
        return nil
    }

    /// The next label set alone; no sample is read. Not to be mixed with `next`.
    func nextLabels() throws(ObsError) -> Labels? {
        guard let labels = heap.first?.source.labels else { return nil }
        try take(labels) { (_) throws(ObsError) in }
        try context.charge(bytes: labels.bytes.count + 64)
        return labels
    }

    /// Moves all sources past these labels, oldest first.
    private func take(_ labels: Labels, _ body: (any SeriesSource) throws(ObsError) -> Void) throws(ObsError) {
        if untilCheck == 0 {
            try context.check()
            untilCheck = 64
        }
        untilCheck -= 1
        while let top = heap.first, top.source.labels == labels {
            try body(top.source)
            try top.source.advance()
            if top.source.labels == nil { removeTop() } else { sink(0) }
        }
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        guard let x = heap[a].source.labels, let y = heap[b].source.labels else { return false }
        let order = Labels.compare(x, y)
        return order != 0 ? order < 0 : heap[a].age < heap[b].age
    }

    private func push(_ entry: (age: Int, source: any SeriesSource)) {
        heap.append(entry)
        var at = heap.count - 1
        while at > 0, precedes(at, (at - 1) / 2) {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    private func removeTop() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        sink(0)
    }

    private func sink(_ start: Int) {
        var at = start
        while true {
            var least = at
            for child in [2 * at + 1, 2 * at + 2] where child < heap.count && precedes(child, least) { least = child }
            if least == at { return }
            heap.swapAt(at, least)
            at = least
        }
    }
}

/// Two sample columns as one; of equal instants the first's stays.
func mergeSamples(_ a: (times: [Int64], values: [Double]), _ b: (times: [Int64], values: [Double])) -> (times: [Int64], values: [Double]) {
    guard let aFirst = a.times.first, let aLast = a.times.last else { return b }
    guard let bFirst = b.times.first, let bLast = b.times.last else { return a }
    if aLast < bFirst { return (a.times + b.times, a.values + b.values) }
    if bLast < aFirst { return (b.times + a.times, b.values + a.values) }
    var times: [Int64] = []
    var values: [Double] = []
    times.reserveCapacity(a.times.count + b.times.count)
    values.reserveCapacity(a.times.count + b.times.count)
    var x = 0
    var y = 0
    while x < a.times.count || y < b.times.count {
        if y == b.times.count || (x < a.times.count && a.times[x] <= b.times[y]) {
            if y < b.times.count, a.times[x] == b.times[y] { y += 1 }
            times.append(a.times[x])
            values.append(a.values[x])
            x += 1
        } else {
            times.append(b.times[y])
            values.append(b.values[y])
            y += 1
        }
    }
    return (times, values)
}
