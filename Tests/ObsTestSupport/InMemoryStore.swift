package import ObsCore
package import ObsStore

/// A naive store: lists of what was appended, read by scanning. The model the engine is checked against, and what the query languages are tested on.
package final class InMemoryStore: Appender, Reader, @unchecked Sendable {  // all state is inside `state`
    private struct State {
        var series: [Labels: [Int64: Double]] = [:]
        var families = MetricFamilies()
        var logs: [LogBatch] = []
        var spans: [SpanBatch] = []
        var arrivals: UInt64 = 0
    }
    private let state = Monitor<[TenantID: State]>([:])

    package init() {}

    package func clear() { state.update { $0 = [:] } }

    // MARK: Appender

    package func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        var outcome = AppendOutcome()
        state.update { tenants in
            tenants[origin.tenant, default: State()].families.add(batch)
            for series in batch.series {
                let labels = batch.labels(of: series)
                for sample in Int(series.firstSample)..<Int(series.firstSample + series.sampleCount) {
                    let old = tenants[origin.tenant, default: State()].series[labels, default: [:]].updateValue(
                        batch.values[sample], forKey: batch.timesMillis[sample])
                    if let old {
                        tenants[origin.tenant]?.series[labels]?[batch.timesMillis[sample]] = old
                        if old.bitPattern == batch.values[sample].bitPattern { outcome.duplicates += 1 } else { outcome.rejected += 1 }
                    } else {
                        outcome.accepted += 1
                    }
                }
            }
        }
        completion(.success(outcome))
    }

    package func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        var batch = batch
        state.update { tenants in
            var state = tenants[origin.tenant, default: State()]
            batch.arrival = (0..<batch.count).map { state.arrivals + UInt64($0) }
            state.arrivals += UInt64(batch.count)
            state.logs.append(batch)
            tenants[origin.tenant] = state
        }
        completion(.success(AppendOutcome(accepted: batch.count)))
    }

    package func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        state.update { $0[origin.tenant, default: State()].spans.append(batch) }
        completion(.success(AppendOutcome(accepted: batch.count)))
    }

    // MARK: Reader

    package func series(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> any SeriesSet {
        let all = tenant(context).series
        var found: [SeriesSamples] = []
        for labels in all.keys.sorted() where matchers.match(labels) {
            let samples = (all[labels] ?? [:]).filter { range.contains($0.key) }.sorted { $0.key < $1.key }
            if !samples.isEmpty { found.append(SeriesSamples(labels: labels, timesMillis: samples.map(\.key), values: samples.map(\.value))) }
        }
        return List(found, context)
    }

    private final class List: SeriesSet {
        private var rest: ArraySlice<SeriesSamples>
        private let context: QueryContext
        private var givenSamples = 0
        init(_ list: [SeriesSamples], _ context: QueryContext) {
            rest = list[...]
            self.context = context
        }
        func next() throws(ObsError) -> SeriesSamples? {
            context.release(samples: givenSamples)
            givenSamples = 0
            guard let first = rest.popFirst() else { return nil }
            try context.charge(series: 1)
            givenSamples = first.values.count
            try context.charge(samples: givenSamples)
            return first
        }
    }

    package func metricFamilies(context: QueryContext) -> MetricFamilies { tenant(context).families }

    package func labelSets(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [Labels] {
        let state = tenant(context)
        var found = Set<Labels>()
        switch signal {
        case .metrics: for (labels, samples) in state.series where samples.keys.contains(where: { range.contains($0) }) { found.insert(labels) }
        case .logs:
            for batch in state.logs {
                for row in 0..<batch.count where range.contains(batch.timeNanos[row]) { found.insert(batch.labels(ofStream: batch.stream[row])) }
            }
        case .traces: break
        }
        return Array(found.filter { labels in selectors.isEmpty || selectors.contains { $0.match(labels) } }.sorted().prefix(limit))
    }

    package func labelNames(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [String] {
        first(limit, try labelSets(signal, selectors, range: range, context: context).flatMap { $0.pairs.map(\.name) })
    }

    package func labelValues(
        _ signal: Signal, _ name: String, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [String] {
        first(limit, try labelSets(signal, selectors, range: range, context: context).compactMap { $0[name] })
    }

    private func first(_ limit: Int, _ texts: [String]) -> [String] {
        Array(Set(texts).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.prefix(limit))
    }

    package func scanLogs(_ selection: LogSelection, context: QueryContext, into sink: any LogSink) throws(ObsError) {
        for batch in selection.direction == .backward ? tenant(context).logs.reversed() : tenant(context).logs {
            try context.check()
            let wanted = sink.wantedNanos
            let rows = selection.rows(of: batch).filter { wanted.contains(batch.timeNanos[$0]) }
            if !rows.isEmpty { try sink.consume(batch, rows: rows) }
        }
    }

    package func countLogs(_ selection: LogSelection, grid: LogCountGrid, context: QueryContext) throws(ObsError) -> [LogCounts] {
        var counts: [Labels: [Int]] = [:]
        for batch in tenant(context).logs {
            for row in selection.rows(of: batch) {
                guard let bucket = grid.bucket(batch.timeNanos[row]) else { continue }
                counts[batch.labels(ofStream: batch.stream[row]), default: Array(repeating: 0, count: grid.count)][bucket] += 1
            }
        }
        return counts.sorted { $0.key < $1.key }.map { LogCounts(labels: $0.key, counts: $0.value) }
    }

    package func scanSpans(_ selection: SpanSelection, context: QueryContext, into sink: any SpanSink) throws(ObsError) {
        for batch in tenant(context).spans {
            try context.check()
            let rows = (0..<batch.count).filter { row in
                batch.startNanos[row] >= selection.startNanos && batch.startNanos[row] < selection.endNanos
                    && batch.durationNanos[row] >= selection.durationNanosMin
                    && selection.traceIDs?.contains(batch.traceID[row]) ?? true
                    && selection.services?.contains(batch.bytes.string(batch.services[Int(batch.resource[row])])) ?? true
                    && selection.names?.contains(batch.bytes.string(batch.name[row])) ?? true
            }
            if !rows.isEmpty { try sink.consume(batch, rows: rows) }
        }
    }

    private func tenant(_ context: QueryContext) -> State { state.read { $0[context.tenant] ?? State() } }
}

extension LogSelection {
    /// Rows of a batch that satisfy all of it.
    fileprivate func rows(of batch: LogBatch) -> [Int] {
        (0..<batch.count).filter { row in
            batch.timeNanos[row] >= startNanos && batch.timeNanos[row] < endNanos && matchers.match(batch.labels(ofStream: batch.stream[row]))
                && batch.bytes.withUnsafeBytes { bytes in lines.allSatisfy { $0.passes(UnsafeRawBufferPointer(rebasing: bytes[batch.line[row].range])) } }
        }
    }
}
