// Series side by side. The store hands series out one after the other; what is made of each is made by several threads, a batch at a time, and handed on in
// label order by the query's own thread. So sums and annotations come out the same however many threads there are.
internal import ObsCore
internal import ObsStore

/// Samples a batch holds before it is worked on: some hundred microseconds of work, and bounded memory.
private let batchSamplesMax = 1 << 16
private let batchSeriesMax = 256
/// Values of all steps of its columns.
private let batchValuesMax = 1 << 18
/// Less than so many samples and steps are not worth waking another thread for.
private let costMin = 4096

extension Evaluator {
    var evaluation: SeriesEvaluation { SeriesEvaluation(context: context, options: options, lookbackMillis: lookbackMillis) }

    /// - Parameters:
    ///   - steps: how many each series is evaluated at.
    ///   - work: makes something of a series, on any thread; its annotations are noted.
    ///   - body: takes it, on this thread and in the order of the set.
    func inBatches<R: Sendable>(
        _ set: any SeriesSet, steps: Int, _ work: @escaping @Sendable (SeriesSamples) throws(ObsError) -> (R, Annotations),
        _ body: (R, Annotations) throws(ObsError) -> Void
    ) throws(ObsError) {
        func take(_ result: (R, Annotations)) throws(ObsError) {
            merge(result.1)
            try body(result.0, result.1)
        }
        guard workers.helps else {
            while let series = try set.next() {
                try context.check()
                try take(work(series))
            }
            return
        }
        var batch: [SeriesSamples] = []
        var samples = 0
        var isDone = false
        while !isDone {
            try context.check()
            if let series = try set.next() {
                batch.append(series)
                samples += series.sampleCount
            } else {
                isDone = true
            }
            guard isDone || samples >= batchSamplesMax || batch.count >= batchSeriesMax || batch.count * steps >= batchValuesMax else { continue }
            // The store counts samples until the next series is asked for; these are kept longer, and so is what is made of them.
            let bytes = samples * 16 + batch.count * steps * 8
            try context.charge(bytes: bytes)
            for result in try worked(batch, cost: samples + batch.count * steps, work) { try take(result) }
            context.release(bytes: bytes)
            (batch, samples) = ([], 0)
        }
    }

    private func worked<R: Sendable>(
        _ batch: [SeriesSamples], cost: Int, _ work: @escaping @Sendable (SeriesSamples) throws(ObsError) -> (R, Annotations)
    ) throws(ObsError) -> [(R, Annotations)] {
        // Several portions a thread, so that none waits long for the last.
        let portions = cost < costMin ? 1 : min(batch.count, workers.threadCount * 4)
        guard portions > 1 else { return try Self.worked(batch[...], context, work) }
        let context = context
        let size = (batch.count + portions - 1) / portions
        return try workers.map(portions) { (index) throws(ObsError) in
            let first = min(index * size, batch.count)
            return try Self.worked(batch[first..<min(first + size, batch.count)], context, work)
        }.flatMap { $0 }
    }

    private static func worked<R: Sendable>(
        _ batch: ArraySlice<SeriesSamples>, _ context: QueryContext, _ work: @Sendable (SeriesSamples) throws(ObsError) -> (R, Annotations)
    ) throws(ObsError) -> [(R, Annotations)] {
        var results: [(R, Annotations)] = []
        results.reserveCapacity(batch.count)
        for series in batch {
            try context.check()
            results.append(try work(series))
        }
        return results
    }
}

extension SeriesSamples {
    fileprivate var sampleCount: Int { timesMillis.count + (histograms.map { $0.byteSize / 16 } ?? 0) }
}
