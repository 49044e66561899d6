package import ObsCore
package import ObsStore

/// A naive store: lists of what was appended, read by scanning. The model the engine is checked against, and what the query languages are tested on.
package final class InMemoryStore: Appender, Reader, @unchecked Sendable {  // all state is inside `state`
    private struct State {
        var series: [Labels: [Int64: Sample]] = [:]
        var exemplars: [Labels: [Exemplar]] = [:]
        var families = MetricFamilies()
        var logs: [LogBatch] = []
        var spans: [SpanBatch] = []
        var arrivals: UInt64 = 0
    }
    /// A float, or a histogram of one row.
    private struct Sample {
        var value = 0.0
        var startMillis: Int64 = 0
        var histogram: HistogramColumns?

        func isSame(_ other: Sample) -> Bool {
            guard let histogram, let others = other.histogram else {
                return self.histogram == nil && other.histogram == nil && value.bitPattern == other.value.bitPattern
            }
            return histogram.isEqual(0, to: others, row: 0)
        }
    }
    private let state = Monitor<[TenantID: State]>([:])

    package init() {}

    package func clear() { state.update { $0 = [:] } }

    // MARK: Appender

    package func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        var outcome = AppendOutcome()
        state.update { tenants in
            var state = tenants[origin.tenant, default: State()]
            tenants[origin.tenant] = nil
            state.families.add(batch)
            func add(_ sample: Sample, _ labels: Labels, _ timeMillis: Int64) {
                if let old = state.series[labels]?[timeMillis] {
                    if old.isSame(sample) { outcome.duplicates += 1 } else { outcome.rejected += 1 }
                    if old.isSame(sample), sample.histogram != nil { outcome.histograms += 1 }
                } else {
                    state.series[labels, default: [:]][timeMillis] = sample
                    outcome.accepted += 1
                    if sample.histogram != nil { outcome.histograms += 1 }
                }
            }
            for series in batch.series {
                let labels = batch.labels(of: series)
                for row in Int(series.firstSample)..<Int(series.firstSample + series.sampleCount) {
                    let start = batch.startsMillis.isEmpty ? 0 : batch.startsMillis[row]
                    add(Sample(value: batch.values[row], startMillis: start), labels, batch.timesMillis[row])
                }
            }
            for row in 0..<batch.histograms.count {
                let sample = Sample(histogram: batch.histograms.keeping([row]))
                add(sample, batch.labels(of: batch.series[Int(batch.histogramSeries[row])]), batch.histograms.timesMillis[row])
            }
            for exemplar in batch.exemplars {
                let labels = Labels(canonical: Array(batch.bytes[exemplar.labels.range]))
                state.exemplars[batch.labels(of: batch.series[Int(exemplar.series)]), default: []].append(
                    Exemplar(labels: labels, value: exemplar.value, timeMillis: exemplar.timeMillis))
                outcome.exemplars += 1
            }
            tenants[origin.tenant] = state
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
            if !samples.isEmpty { found.append(series(labels, samples)) }
        }
        return List(found, context)
    }

    private func series(_ labels: Labels, _ samples: [(key: Int64, value: Sample)]) -> SeriesSamples {
        let floats = samples.filter { $0.value.histogram == nil }
        let starts = floats.map(\.value.startMillis)
        var histograms = HistogramColumns()
        for sample in samples { if let histogram = sample.value.histogram { histograms.append(histogram, row: 0) } }
        return SeriesSamples(
            labels: labels, timesMillis: floats.map(\.key), values: floats.map(\.value.value), startsMillis: starts.contains { $0 != 0 } ? starts : [],
            histograms: histograms.isEmpty ? nil : histograms)
    }

    package func exemplars(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [SeriesExemplars] {
        let all = tenant(context).exemplars
        return all.keys.sorted().compactMap { labels in
            guard selectors.isEmpty || selectors.contains(where: { $0.match(labels) }) else { return nil }
            let found = Exemplar.merged((all[labels] ?? []).filter { range.contains($0.timeMillis) })
            return found.isEmpty ? nil : SeriesExemplars(labels: labels, exemplars: found)
        }
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
            givenSamples = first.values.count + (first.histograms.map { $0.byteSize / 16 } ?? 0)
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

    package func countFieldValues(
        _ selection: LogSelection, _ source: FieldSource, _ paths: [FieldPath], isByStream: Bool, context: QueryContext
    ) throws(ObsError) -> [FieldValueCount] {
        struct Key: Hashable {
            var value: [UInt8]
            var labels: Labels?
        }
        var counts: [Key: Int] = [:]
        for batch in tenant(context).logs {
            for row in selection.rows(of: batch) {
                let text = Array(batch.bytes[(source == .line ? batch.line[row] : batch.attributes[row]).range])
                let value = text.withUnsafeBytes { text -> [UInt8]? in
                    let path = paths.first { FieldTest.exists.passes($0, in: text, source) }
                    return path?.withValue(in: text, source) { $0.text($1) }
                }
                if let value { counts[Key(value: value, labels: isByStream ? batch.labels(ofStream: batch.stream[row]) : nil), default: 0] += 1 }
            }
        }
        return counts.map { FieldValueCount(value: $0.key.value, labels: $0.key.labels, count: $0.value) }.sorted {
            ($0.value.lexicographicallyPrecedes($1.value)) || $0.value == $1.value && $0.labels ?? .empty < $1.labels ?? .empty
        }
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
                    && batch.bytes.withUnsafeBytes { bytes in selection.attributes.allSatisfy { $0.passes(batch, row: row, bytes: bytes) } }
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
                && batch.bytes.withUnsafeBytes { bytes in
                    lines.allSatisfy { $0.passes(UnsafeRawBufferPointer(rebasing: bytes[batch.line[row].range])) }
                        && fields.pass(line: batch.line[row], attributes: batch.attributes[row], in: bytes)
                }
        }
    }
}
