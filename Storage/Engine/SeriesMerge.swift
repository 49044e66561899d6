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
    func samples() throws(ObsError) -> SampleColumns
    /// False when the present series has nothing but floats within the range: then what follows may be asked for.
    var mayHaveHistograms: Bool { get throws(ObsError) }
    /// What those samples come to; `read` grows by those that had to be read for it.
    func summary(_ parts: SummaryParts, read: inout Int) throws(ObsError) -> SampleSummary
    /// The same in pieces, in time order.
    func pieces(_ parts: SummaryParts) throws(ObsError) -> [SamplePiece]
    /// Samples of a piece of the present series.
    func samples(_ piece: SamplePiece) throws(ObsError) -> (times: [Int64], values: [Double])
    func advance() throws(ObsError)
}

/// For a source that has nothing but samples.
extension SeriesSource {
    var mayHaveHistograms: Bool { false }

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
        return [SamplePiece(minTime: first, maxTime: last)]
    }

    func samples(_ piece: SamplePiece) throws(ObsError) -> (times: [Int64], values: [Double]) {
        let samples = try samples()
        return (samples.times, samples.values)
    }
}

final class MergedSeriesSet: SeriesSet {
    /// Oldest first.
    private let sources: [any SeriesSource]
    /// What each stands at; empty and not in the heap at its end.
    private var labels: [Labels]
    /// A binary heap of sources by (labels, age).
    private var heap: [Int] = []
    /// Those that have the series in hand, oldest first; not in the heap.
    private var group: [Int] = []
    private let context: QueryContext
    private var untilCheck = 0
    /// Samples of the series given out last: its reader is done with them when it asks for the next.
    private var givenSamples = 0

    init(_ sources: [any SeriesSource], context: QueryContext) {
        self.context = context
        self.sources = sources
        labels = sources.map { $0.labels ?? .empty }
        for index in sources.indices where sources[index].labels != nil { push(index) }
    }

    func next() throws(ObsError) -> SeriesSamples? {
        context.release(samples: givenSamples)
        givenSamples = 0
        while let labels = try take() {
            let merged = try mergedSamples()
            try putBack()
            if merged.isEmpty { continue }
            return try give(labels, merged)
        }
        return nil
    }

    private func mergedSamples() throws(ObsError) -> SampleColumns {
        var merged = try sources[group[0]].samples()
        for index in group.dropFirst() { merged = .merged(merged, try sources[index].samples()) }
        return merged
    }

    /// Charges for a series that is handed out.
    private func give(_ labels: Labels, _ samples: SampleColumns) throws(ObsError) -> SeriesSamples {
        try context.charge(series: 1)
        try context.charge(bytes: labels.bytes.count + 64)
        givenSamples = samples.sampleCount
        try context.charge(samples: givenSamples)
        return SeriesSamples(
            labels: labels, timesMillis: samples.times, values: samples.values, startsMillis: samples.starts.contains { $0 != 0 } ? samples.starts : [],
            histograms: samples.histograms)
    }

    func nextSummary(_ parts: SummaryParts) throws(ObsError) -> SeriesSummary? {
        context.release(samples: givenSamples)
        givenSamples = 0
        while let labels = try take() {
            if try mayHaveHistograms() {
                let merged = try mergedSamples()
                try putBack()
                if merged.isEmpty { continue }
                var summary = SampleSummary()
                summary.append(timesMillis: merged.times, values: merged.values)
                let whole = try give(labels, merged)
                return SeriesSummary(labels: labels, samples: summary, whole: merged.histograms == nil ? nil : whole)
            }
            var read = 0
            let summary = group.count == 1 ? try sources[group[0]].summary(parts, read: &read) : try summarize(parts, read: &read)
            try putBack()
            try context.charge(samples: read)
            context.release(samples: read)
            if summary.isEmpty { continue }
            try context.charge(series: 1)
            try context.charge(bytes: labels.bytes.count + 64)
            return SeriesSummary(labels: labels, samples: summary)
        }
        return nil
    }

    private func mayHaveHistograms() throws(ObsError) -> Bool {
        for index in group where try sources[index].mayHaveHistograms { return true }
        return false
    }

    /// Puts pieces of several sources together. One that overlaps no other stands for its samples; those that overlap are read and merged.
    private func summarize(_ parts: SummaryParts, read: inout Int) throws(ObsError) -> SampleSummary {
        var pieces: [(source: Int, piece: SamplePiece)] = []
        for index in group {
            for piece in try sources[index].pieces(parts) { pieces.append((index, piece)) }
        }
        pieces.sort { ($0.piece.minTime, $0.source) < ($1.piece.minTime, $1.source) }
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
                let merged = try merge(pieces[start..<end])
                read += merged.times.count
                summary.append(timesMillis: merged.times, values: merged.values)
            }
            start = end
        }
        return summary
    }

    /// Samples of pieces that overlap; those of one source do not, and come in time order.
    private func merge(_ pieces: ArraySlice<(source: Int, piece: SamplePiece)>) throws(ObsError) -> (times: [Int64], values: [Double]) {
        var merged: (times: [Int64], values: [Double]) = ([], [])
        for index in group {
            var one: (times: [Int64], values: [Double]) = ([], [])
            for (owner, piece) in pieces where owner == index {
                let samples = try sources[index].samples(piece)
                one.times += samples.times
                one.values += samples.values
            }
            merged = mergeSamples(merged, one)
        }
        return merged
    }

    /// The next label set alone; no sample is read.
    func nextLabels() throws(ObsError) -> Labels? {
        guard let labels = try take() else { return nil }
        try putBack()
        try context.charge(bytes: labels.bytes.count + 64)
        return labels
    }

    /// Takes the sources of the next series off the heap.
    private func take() throws(ObsError) -> Labels? {
        if untilCheck == 0 {
            try context.check()
            untilCheck = 64
        }
        untilCheck -= 1
        guard let first = heap.first else { return nil }
        let labels = labels[first]
        group.removeAll(keepingCapacity: true)
        repeat { group.append(removeTop()) } while !heap.isEmpty && self.labels[heap[0]] == labels
        return labels
    }

    /// Moves them on, and puts those that are not at their end back.
    private func putBack() throws(ObsError) {
        for index in group {
            try sources[index].advance()
            guard let next = sources[index].labels else { continue }
            labels[index] = next
            push(index)
        }
        group.removeAll(keepingCapacity: true)
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        // Sources that have the same series stand there together: then it is known without looking at a label.
        if labels[a] == labels[b] { return a < b }
        return Labels.compare(labels[a], labels[b]) < 0
    }

    private func push(_ index: Int) {
        heap.append(index)
        var at = heap.count - 1
        while at > 0, precedes(heap[at], heap[(at - 1) / 2]) {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    private func removeTop() -> Int {
        heap.swapAt(0, heap.count - 1)
        let top = heap.removeLast()
        var at = 0
        while true {
            var least = at
            for child in 2 * at + 1...2 * at + 2 where child < heap.count && precedes(heap[child], heap[least]) { least = child }
            if least == at { return top }
            heap.swapAt(at, least)
            at = least
        }
    }
}
