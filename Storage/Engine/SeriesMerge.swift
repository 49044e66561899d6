// Series of several sources (segments, head generations) as one, in label order, samples merged. Sources are ordered by age: of two samples for one
// instant the older source's wins, since it was written first.

internal import ObsCore
internal import ObsSegment
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
