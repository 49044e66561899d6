package import ObsCore
package import ObsDisk
package import ObsStore

/// The keeping side: takes batches, keeps them, gives them back. One per data directory and process.
///
/// Threads: every member may be called from any thread.
package final class StorageEngine: Appender, Reader, StoreAdministration, Sendable {
    private let metrics: SignalStore<MetricHead>
    private let logs: SignalStore<LogHead>
    private let traces: SignalStore<SpanHead>

    /// Opens the store in `configuration.dataDirectory`, creating it when it is not there, and replays what a crash left unflushed.
    /// - Parameter decoder: turns logged requests into batches again.
    /// - Throws: `.unavailable` when another process has the directory; `.corrupt` for a damaged log; what the file system throws.
    package static func open(
        _ configuration: EngineConfiguration, fileSystem: any FileSystem = LocalFileSystem(), clock: any Clock = SystemClock(), decoder: any RequestDecoder
    ) throws(ObsError) -> StorageEngine {
        StorageEngine(configuration, fileSystem: fileSystem, clock: clock, decoder: decoder)
    }

    private init(_ configuration: EngineConfiguration, fileSystem: any FileSystem, clock: any Clock, decoder: any RequestDecoder) {
        let secret = UInt64.random(in: .min ... .max)
        metrics = SignalStore(configuration, clock: clock, secret: secret)
        logs = SignalStore(configuration, clock: clock, secret: secret)
        traces = SignalStore(configuration, clock: clock, secret: secret)
    }

    /// Writes all heads to segments.
    package func flush() throws(ObsError) {}

    /// Flushes, stops all threads, releases the directory. Appends fail from now on.
    package func close() {}

    /// Makes the catalogue again from the segments' footers.
    package func rebuildIndex() throws(ObsError) {}

    package func status() -> StoreStatus {
        var status = StoreStatus()
        status.signals = [metrics.status(), logs.status(), traces.status()]
        return status
    }

    // MARK: Appender

    package func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        metrics.append(batch, origin: origin, completion: completion)
    }

    package func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        logs.append(batch, origin: origin, completion: completion)
    }

    package func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        traces.append(batch, origin: origin, completion: completion)
    }

    // MARK: Reader

    package func series(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> any SeriesSet {
        var sources: [any SeriesSource] = []
        var heads: [MetricHead] = []
        metrics.heads(context.tenant) { heads.append($0) }
        for head in heads { sources.append(HeadSeries(head, matchers, range: range, locked: metrics.locked)) }
        return MergedSeriesSet(sources, context: context)
    }

    package func labelSets(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [Labels] {
        var tables: [SeriesTable] = []
        let locked: Locked
        switch signal {
        case .metrics:
            metrics.heads(context.tenant) { tables.append($0.table) }
            locked = metrics.locked
        case .logs:
            logs.heads(context.tenant) { tables.append($0.streams) }
            locked = logs.locked
        case .traces: return []
        }
        var found = Set<Labels>()
        for table in tables {
            try context.check()
            found.formUnion(table.labelSets(selectors, range: range, locked: locked))
        }
        return found.sorted()
    }

    package func labelNames(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [String] {
        var names = Set<[UInt8]>()
        for labels in try labelSets(signal, selectors, range: range, context: context) { labels.forEach { name, _ in names.insert([UInt8](name)) } }
        return sortedStrings(names)
    }

    package func labelValues(_ signal: Signal, _ name: String, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError)
        -> [String]
    {
        var values = Set<[UInt8]>()
        let wanted = [UInt8](name.utf8)
        for labels in try labelSets(signal, selectors, range: range, context: context) {
            labels.bytes.withUnsafeBytes { bytes in
                if let range = wanted.withUnsafeBytes({ find($0, in: bytes) }) { values.insert([UInt8](bytes[range])) }
            }
        }
        return sortedStrings(values)
    }

    package func scanLogs(_ selection: LogSelection, context: QueryContext, into sink: any LogSink) throws(ObsError) {
        var sources = LogSources()
        logs.heads(context.tenant) { sources.heads.append(($0.batches, $0.streams, $0.streams.count)) }
        var scan = LogScan(selection, context: context, sink: sink)
        try scan.run(sources)
    }

    package func scanSpans(_ selection: SpanSelection, context: QueryContext, into sink: any SpanSink) throws(ObsError) {
        var sources = SpanSources()
        traces.heads(context.tenant) { sources.heads.append($0.batches) }
        var scan = SpanScan(selection, context: context, sink: sink)
        try scan.run(sources)
    }
}

private func sortedStrings(_ texts: Set<[UInt8]>) -> [String] {
    texts.sorted { $0.lexicographicallyPrecedes($1) }.map { String(decoding: $0, as: UTF8.self) }
}
