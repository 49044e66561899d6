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
    /// What those samples come to; `read` grows by those that had to be read for it.
    func summary(_ parts: SummaryParts, read: inout Int) throws(ObsError) -> SampleSummary
    /// The same in pieces, in time order; they outlive `advance`.
    func pieces(_ parts: SummaryParts) throws(ObsError) -> [SamplePiece]
    func advance() throws(ObsError)
}

/// For a source that has nothing but samples.
extension SeriesSource {
    func summary(_ parts: SummaryParts, read: inout Int) throws(ObsError) -> SampleSummary {
        let samples = try samples()
        read += samples.times.count
        var summary = SampleSummary()
        summary.append(timesMillis: samples.times, values: samples.values)
        return summary
    }

    func pieces(_ parts: SummaryParts) throws(ObsError) -> [SamplePiece] {
        let samples = try samples()
        guard let first = samples.times.first, let last = samples.times.last else { return [] }
        return [SamplePiece(minTime: first, maxTime: last, summary: nil, samples: { () throws(ObsError) in samples })]
    }
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

    func nextSummary(_ parts: SummaryParts) throws(ObsError) -> SeriesSummary? {
        context.release(samples: givenSamples)
        givenSamples = 0
        while let labels = heap.first?.source.labels {
            var read = 0
            var summary = SampleSummary()
            if isAlone {
                try take(labels) { (source) throws(ObsError) in summary = try source.summary(parts, read: &read) }
            } else {
                var pieces: [(age: Int, piece: SamplePiece)] = []
                var age = 0
                try take(labels) { (source) throws(ObsError) in
                    for piece in try source.pieces(parts) { pieces.append((age, piece)) }
                    age += 1
                }
                summary = try summarize(pieces, read: &read)
            }
            try context.charge(samples: read)
            context.release(samples: read)
            if summary.isEmpty { continue }
            try context.charge(series: 1)
            try context.charge(bytes: labels.bytes.count + 64)
            return SeriesSummary(labels: labels, samples: summary)
        }
        return nil
    }

    /// Whether only one source has the series at the top: another one would be next to it.
    private var isAlone: Bool {
        for child in [1, 2] where child < heap.count && heap[child].source.labels == heap[0].source.labels { return false }
        return true
    }

    /// Puts pieces of several sources together. One that overlaps no other stands for its samples; those that overlap are read and merged.
    private func summarize(_ unsorted: [(age: Int, piece: SamplePiece)], read: inout Int) throws(ObsError) -> SampleSummary {
        let pieces = unsorted.sorted { ($0.piece.minTime, $0.age) < ($1.piece.minTime, $1.age) }
        var summary = SampleSummary()
        var start = 0
        while start < pieces.count {
            var end = start + 1
            var reached = pieces[start].piece.maxTime
            while end < pieces.count, pieces[end].piece.minTime <= reached {
                reached = max(reached, pieces[end].piece.maxTime)
                end += 1
            }
            if end == start + 1, let known = pieces[start].piece.summary {
                summary.append(known)
            } else {
                var merged: (times: [Int64], values: [Double]) = ([], [])
                for age in Set(pieces[start..<end].map(\.age)).sorted() {
                    var one: (times: [Int64], values: [Double]) = ([], [])
                    for (_, piece) in pieces[start..<end].filter({ $0.age == age }) {
                        let samples = try piece.samples()
                        one.times += samples.times
                        one.values += samples.values
                    }
                    read += one.times.count
                    merged = mergeSamples(merged, one)
                }
                summary.append(timesMillis: merged.times, values: merged.values)
            }
            start = end
        }
        return summary
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
