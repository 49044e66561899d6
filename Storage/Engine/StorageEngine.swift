internal import Glibc
package import ObsCore
package import ObsDisk
internal import ObsHash
internal import ObsIndex
internal import ObsSegment
package import ObsStore
internal import ObsWAL

/// The keeping side: takes batches, keeps them, gives them back. One per data directory and process.
///
/// Threads: every member may be called from any thread.
package final class StorageEngine: Appender, Reader, StoreAdministration, Sendable {
    let shared: EngineShared
    let metrics: SignalStore<MetricHead>
    private let logs: SignalStore<LogHead>
    private let traces: SignalStore<SpanHead>
    private let metricsMerger: SegmentMerger<MetricHead>
    private let logsMerger: SegmentMerger<LogHead>
    private let tracesMerger: SegmentMerger<SpanHead>
    /// Held by whoever rewrites or links segments. The number is for the thread sanitizer, which cannot tell an empty state from what lies behind it.
    private let turn = Monitor(0)
    private let lock: any FileLock
    private struct Threads {
        var isStopping = false
        var isStopped = false
        var isMergingStopped = false
        var isClosed = false
        /// Signals whose log is being replayed.
        var replaying = 0
    }
    private let threads = Monitor(Threads())

    /// Opens the store in `configuration.dataDirectory`, creating it when it is not there, and replays what a crash left unflushed.
    /// - Parameters:
    ///   - decoder: turns logged requests into batches again.
    ///   - waitForReplay: replays on this thread, one signal after the other, and throws what prevents it. Else each signal's log is replayed on a thread
    ///     of its own: appends are taken at once, reads are refused with `.unavailable` until it is done (`StoreStatus.replay`).
    /// - Throws: `.unavailable` when another process has the directory; `.unprocessable` when a newer program made it; what the file system throws.
    package static func open(
        _ configuration: EngineConfiguration, fileSystem: any FileSystem = LocalFileSystem(), clock: any Clock = SystemClock(), decoder: any RequestDecoder,
        waitForReplay: Bool = true
    ) throws(ObsError) -> StorageEngine {
        let layout = DiskLayout(root: configuration.dataDirectory)
        try fileSystem.makeDirectories(layout.root)
        let lock = try fileSystem.lock(layout.lock)
        let version = try StoreVersion.load(fileSystem, layout)
        let epochs = try Epochs.load(fileSystem, layout, configuration.limits, nowSeconds: clock.nowNanos() / nanosPerSecond)
        try fileSystem.makeDirectories(layout.indexFolder)
        let catalog = try Catalog.open(layout.catalog)
        let shared = EngineShared(configuration, fileSystem: fileSystem, clock: clock, secret: version.secret, epochs: epochs, catalog: catalog)
        try shared.tombstones.load(shared.gate)
        try Snapshot.removeUnfinished(fileSystem, layout)
        let engine = try StorageEngine(shared, catalog, lock, decoder)
        try engine.start(waitForReplay: waitForReplay)
        return engine
    }

    private init(_ shared: EngineShared, _ catalog: Catalog, _ lock: any FileLock, _ decoder: any RequestDecoder) throws(ObsError) {
        self.shared = shared
        self.lock = lock
        let began = shared.clock.monotonicNanos()
        let recovery = Recovery(shared: shared, decoder: decoder)
        let segments = try recovery.segments(catalog)
        metrics = try SignalStore(
            shared, recovery.log(segments, unwrap: { if case .metrics(let batch) = $0 { batch } else { nil } }))
        logs = try SignalStore(
            shared, recovery.log(segments, unwrap: { if case .logs(let batch) = $0 { batch } else { nil } }))
        traces = try SignalStore(
            shared, recovery.log(segments, unwrap: { if case .spans(let batch) = $0 { batch } else { nil } }))
        metricsMerger = SegmentMerger(metrics, shared, turn: turn, filter: shared.tombstones)
        logsMerger = SegmentMerger(logs, shared, turn: turn, filter: shared.tombstones)
        tracesMerger = SegmentMerger(traces, shared, turn: turn, filter: shared.tombstones)
        DiagnosticLog.info(
            "store open",
            [
                ("path", shared.layout.root), ("segments", "\(segments.count)"), ("log_bytes", "\(status().replay?.bytesTotal ?? 0)"),
                ("millis", "\((shared.clock.monotonicNanos() - began) / nanosPerMilli)"),
            ])
        shared.gate.checkDisk()
    }

    private func start(waitForReplay: Bool) throws(ObsError) {
        if waitForReplay {
            do throws(ObsError) {
                try metrics.replayLog()
                try logs.replayLog()
                try traces.replayLog()
            } catch {
                threads.update { threads in
                    threads.isStopped = true
                    threads.isMergingStopped = true
                }
                close()
                throw error
            }
        } else {
            for (signal, replay) in [(Signal.metrics, metrics.replayPatiently), (.logs, logs.replayPatiently), (.traces, traces.replayPatiently)] {
                threads.update { $0.replaying += 1 }
                startThread("replay-\(signal.rawValue)", stackBytes: 8 << 20) { [self] in
                    replay()
                    threads.update { $0.replaying -= 1 }
                }
            }
        }
        if shared.configuration.maintainsItself {
            startThread("maintenance", stackBytes: 8 << 20) { [self] in maintain() }
            startThread("merge", stackBytes: 8 << 20) { [self] in mergeInBackground() }
        } else {
            threads.update { threads in
                threads.isStopped = true
                threads.isMergingStopped = true
            }
        }
    }

    /// Waits until the log is replayed. False when the store was closed before.
    package func waitReplayed() -> Bool {
        _ = threads.wait(until: { $0.replaying == 0 ? () : nil })
        return status().replay == nil
    }

    /// Merges what is due, when nothing else wants the processor, and saves what is left of damaged segments: not in the maintenance thread, whose flushes would
    /// wait for a merge.
    private func mergeInBackground() {
        _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)  // of this thread: Linux counts threads as processes here
        while threads.wait(timeoutNanos: nanosPerSecond, until: { $0.isStopping ? () : nil }) == nil {
            salvageDamaged()
            metricsMerger.mergeIfDue()
            logsMerger.mergeIfDue()
            tracesMerger.mergeIfDue()
        }
        threads.update { $0.isMergingStopped = true }
    }

    /// Merges segments until nothing is due; done every second by itself.
    package func merge() throws(ObsError) {
        try metricsMerger.merge()
        try logsMerger.merge()
        try tracesMerger.merge()
    }

    /// Flushes what is due, drops what is old, watches the disk.
    private func maintain() {
        var rounds = 0
        while true {
            _ = shared.isFlushWanted.wait(
                timeoutNanos: 200 * nanosPerMilli,
                until: { isWanted in
                    defer { isWanted = false }
                    return isWanted ? () : nil
                })
            if threads.read({ $0.isStopping }) { break }
            rounds += 1
            metrics.flushIfDue()
            logs.flushIfDue()
            traces.flushIfDue()
            freeSpace()
            if rounds % 10 == 0 { enforceRetention() }
            if rounds % 300 == 0 {
                do throws(ObsError) { try removeSpentTombstones() } catch {
                    DiagnosticLog.warn("cannot tell whether deletions are completed", [("error", error.description)])
                }
            }
        }
        threads.update { $0.isStopped = true }
    }

    /// Drops segments past the retention, by age and by bytes; done every few seconds by itself.
    package func enforceRetention() {
        metrics.dropPast()
        logs.dropPast()
        traces.dropPast()
        enforceRetentionBytes()
    }

    private func enforceRetentionBytes() {
        let bounds = shared.retention.bounds
        for tenant in Set(metrics.tenants + logs.tenants + traces.tenants).sorted() {
            guard let bytesMax = shared.retention.bytesMax(of: tenant) else { continue }
            drop("past the retention by bytes of a tenant", SegmentsByAge(segmentInfos.filter { $0.tenant == tenant }).excess(over: bytesMax))
        }
        for (signal, bytesMax) in bounds.bytesBySignal {
            drop("past the retention by bytes of a signal", SegmentsByAge(segmentInfos.filter { $0.signal == signal }).excess(over: bytesMax))
        }
        if let bytesMax = bounds.bytes { drop("past the retention by bytes", SegmentsByAge(segmentInfos).excess(over: bytesMax)) }
    }

    /// Puts other bounds in force: rules hide rows from the moment this returns, or show again what no merge has left out yet.
    package func setRetention(_ bounds: RetentionBounds) { shared.retention.set(bounds) }

    /// Makes room on a disk that fills up: heads are written so that their log goes, and then the oldest segments go. Done several times a second by itself.
    package func freeSpace() {
        guard shared.gate.checkDisk() > 0 else { return }
        if shared.gate.isFlushWorthwhile {
            metrics.flushIfDue(early: true)
            logs.flushIfDue(early: true)
            traces.flushIfDue(early: true)
        }
        let needed = shared.gate.checkDisk()
        guard needed > 0 else { return }
        drop("to make room on a full disk", SegmentsByAge(segmentInfos).oldest(needed))
        shared.gate.checkDisk()
    }

    package func delete(_ tenant: TenantID, _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) {
        switch signal {
        case .metrics: try metrics.delete(tenant, selectors, range: range)
        case .logs: try logs.delete(tenant, selectors, range: range)
        case .traces: try traces.delete(tenant, selectors, range: range)
        }
    }

    package func deletions(_ tenant: TenantID, _ signal: Signal) -> [DeletionRequest] {
        shared.tombstones.requests(tenant, signal).map { number, tombstone, isCompleted in
            DeletionRequest(
                id: hexString(number), createdNanos: tombstone.createdNanos, range: tombstone.range, queries: tombstone.queries, isCompleted: isCompleted)
        }
    }

    package func cancelDeletion(_ tenant: TenantID, _ signal: Signal, id: String, force: Bool) throws(ObsError) {
        switch signal {
        case .metrics: try metrics.cancelDeletion(tenant, id: id, force: force)
        case .logs: try logs.cancelDeletion(tenant, id: id, force: force)
        case .traces: try traces.cancelDeletion(tenant, id: id, force: force)
        }
    }

    package func cleanTombstones() throws(ObsError) {
        try metricsMerger.rewriteDeleted()
        try logsMerger.rewriteDeleted()
        try tracesMerger.rewriteDeleted()
        try removeSpentTombstones()
    }

    package func snapshot() throws(ObsError) -> String {
        try flush()
        let second = rfc3339(nanos: shared.clock.nowNanos()).prefix(19).filter { $0 != "-" && $0 != ":" }
        let name = "\(second)Z-\(hexString(UInt64.random(in: .min ... .max)))"
        let snapshot = Snapshot(shared, name: name)
        // No merge takes a file away meanwhile, and dropped segments keep theirs while their handles are held.
        let result: Result<Void, ObsError> = turn.read { _ in
            do throws(ObsError) {
                try snapshot.linkTombstones()
                let handles = (metrics.allSegments, logs.allSegments, traces.allSegments)
                let infos = handles.0.map(\.info) + handles.1.map(\.info) + handles.2.map(\.info)
                let linked: Result<Void, ObsError> = withExtendedLifetime(handles) {
                    do throws(ObsError) { return .success(try snapshot.link(infos)) } catch { return .failure(error) }
                }
                try linked.get()
                return .success(try snapshot.finish())
            } catch { return .failure(error) }
        }
        try result.get()
        return name
    }

    private func removeSpentTombstones() throws(ObsError) {
        try metrics.removeSpentTombstones()
        try logs.removeSpentTombstones()
        try traces.removeSpentTombstones()
    }

    private func drop(_ reason: String, _ chosen: Set<SegmentsByAge.Key>) {
        guard !chosen.isEmpty else { return }
        metrics.drop(reason) { chosen.contains(SegmentsByAge.Key($0)) }
        logs.drop(reason) { chosen.contains(SegmentsByAge.Key($0)) }
        traces.drop(reason) { chosen.contains(SegmentsByAge.Key($0)) }
    }

    private var segmentInfos: [SegmentInfo] { metrics.segmentInfos + logs.segmentInfos + traces.segmentInfos }

    /// Makes segments in which a read met damage again from what can be read of them; done within a second by itself.
    package func salvageDamaged() {
        // Not beside a merge or a snapshot: both work with the files as they were listed.
        turn.read { _ in
            metrics.salvageDamaged()
            logs.salvageDamaged()
            traces.salvageDamaged()
        }
    }

    /// Writes all heads to segments.
    package func flush() throws(ObsError) {
        try metrics.flush()
        try logs.flush()
        try traces.flush()
    }

    /// Flushes, stops all threads, releases the directory. Appends fail from now on; reads of what was flushed still work. Idempotent.
    package func close() {
        let isFirst = threads.update { threads in
            threads.isStopping = true
            defer { threads.isClosed = true }
            return !threads.isClosed
        }
        guard isFirst else { return }
        shared.isFlushWanted.update { $0 = true }
        metrics.stop()
        logs.stop()
        traces.stop()
        metricsMerger.stop()
        logsMerger.stop()
        tracesMerger.stop()
        _ = threads.wait(until: { $0.isStopped && $0.isMergingStopped && $0.replaying == 0 ? () : nil })
        flushLast(metrics)
        flushLast(logs)
        flushLast(traces)
        metrics.closeLog()
        logs.closeLog()
        traces.closeLog()
        shared.workers.stop()
        lock.release()
    }

    private func flushLast<Head: FlushableHead>(_ store: SignalStore<Head>) {
        do throws(ObsError) { try store.flush() } catch {
            DiagnosticLog.warn("head not flushed at stop; its log is replayed at the next start", [("error", error.description)])
        }
    }

    /// Makes the catalogue again from the segments' footers.
    package func rebuildIndex() throws(ObsError) {
        var infos: [SegmentInfo] = []
        for info in segmentInfos {
            infos.append(try readSegmentInfo(shared.fileSystem, shared.path(of: info)))
        }
        try shared.rebuildCatalog(infos)
    }

    package func status() -> StoreStatus {
        var status = StoreStatus()
        status.signals = [metrics.status(), logs.status(), traces.status()]
        for (index, merged) in [metricsMerger.statistics, logsMerger.statistics, tracesMerger.statistics].enumerated() {
            status.signals[index].merges = merged.merges
            status.signals[index].mergedBytes = merged.writtenBytes
            status.signals[index].mergedRows = merged.rows
            status.signals[index].copiedRows = merged.copiedRows
            status.signals[index].mergeNanos = merged.processorNanos
        }
        status.quarantined = shared.gate.quarantined
        return status
    }

    // MARK: Appender

    package func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        metrics.append(batch, origin: origin, encode: BatchCodec.encode, completion: completion)
    }

    package func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        logs.append(batch, origin: origin, encode: BatchCodec.encode, completion: completion)
    }

    package func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
        traces.append(batch, origin: origin, encode: BatchCodec.encode, completion: completion)
    }

    // MARK: Reader

    package func series(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> any SeriesSet {
        let deletions = shared.tombstones.deletions(context.tenant, .metrics)
        var heads: [MetricHead] = []
        let segments = try metrics.snapshot(context.tenant) { heads.append($0) }
        var sources: [any SeriesSource] = []
        for segment in segments where segment.overlaps(range) && segment.mayHold(matchers) {
            try context.check()
            sources.append(try SegmentSeries(segment, [matchers], range: range, mask: deletions.mask(of: segment.info), context: context))
        }
        for head in heads {
            try context.check()
            sources.append(try HeadSeries(head, matchers, range: range, expiry: deletions.expiry, context: context, locked: metrics.locked))
        }
        return MergedSeriesSet(sources, context: context)
    }

    package func exemplars(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [SeriesExemplars] {
        let deletions = shared.tombstones.deletions(context.tenant, .metrics)
        var heads: [MetricHead] = []
        var scan = ExemplarScan(selectors, range: range, context: context)
        for segment in try metrics.snapshot(context.tenant, { heads.append($0) }) { try scan.add(segment, deletions.mask(of: segment.info)) }
        for head in heads { try scan.add(head, deletions.expiry, locked: metrics.locked) }
        return scan.series()
    }

    package func metricFamilies(context: QueryContext) throws(ObsError) -> MetricFamilies {
        var ofHeads = MetricFamilies()
        var families = MetricFamilies()
        for segment in try metrics.snapshot(context.tenant, { ofHeads.add($0.families) }) {
            try context.check()
            families.add(try segment.reading { () throws(ObsError) in try segment.reader().families() })
        }
        families.add(ofHeads)
        try context.charge(bytes: families.byteSize)
        return families
    }

    package func labelSets(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [Labels] {
        try lookup(signal, selectors, range, limit, context)?.sets() ?? []
    }

    package func labelNames(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [String] {
        try lookup(signal, selectors, range, limit, context)?.names() ?? []
    }

    package func labelValues(
        _ signal: Signal, _ name: String, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [String] {
        try lookup(signal, selectors, range, limit, context)?.values(name) ?? []
    }

    /// What there is of labels; spans have none.
    func lookup(
        _ signal: Signal, _ selectors: [[LabelMatcher]], _ range: ClosedRange<Int64>, _ limit: Int, _ context: QueryContext
    ) throws(ObsError) -> LabelLookup? {
        let question = LabelQuestion(selectors: selectors, range: range, limit: max(0, limit), context: context)
        let deletions = shared.tombstones.deletions(context.tenant, signal)
        var sources: [any LabelSource] = []
        switch signal {
        case .metrics:
            var heads: [MetricHead] = []
            for segment in try metrics.snapshot(context.tenant, { heads.append($0) }) where segment.overlaps(range) {
                sources.append(MetricSegmentLabels(segment: segment, question: question, mask: deletions.mask(of: segment.info)))
            }
            for head in heads { sources.append(HeadLabels(table: head.table, question: question, expiry: deletions.expiry, locked: metrics.locked)) }
        case .logs:
            var heads: [LogHead] = []
            for segment in try logs.snapshot(context.tenant, { heads.append($0) }) where segment.overlaps(range) {
                sources.append(LogSegmentLabels(segment: segment, question: question, mask: deletions.mask(of: segment.info)))
            }
            for head in heads { sources.append(HeadLabels(table: head.streams, question: question, expiry: deletions.expiry, locked: logs.locked)) }
        case .traces: return nil
        }
        return LabelLookup(question: question, sources: sources)
    }

    package func scanLogs(_ selection: LogSelection, context: QueryContext, into sink: any LogSink) throws(ObsError) {
        var sources = LogSources()
        sources.deletions = shared.tombstones.deletions(context.tenant, .logs)
        sources.segments = try logs.snapshot(context.tenant) { sources.heads.append(($0.batches, $0.streams, $0.streams.count)) }
        var scan = LogScan(selection, context: context, workers: shared.workers, sink: sink)
        try scan.run(sources)
    }

    package func countLogs(_ selection: LogSelection, grid: LogCountGrid, context: QueryContext) throws(ObsError) -> [LogCounts] {
        var sources = LogSources()
        sources.deletions = shared.tombstones.deletions(context.tenant, .logs)
        sources.segments = try logs.snapshot(context.tenant) { sources.heads.append(($0.batches, $0.streams, $0.streams.count)) }
        return try LogCount(selection, grid: grid, context: context, workers: shared.workers).run(sources)
    }

    package func countFieldValues(
        _ selection: LogSelection, _ source: FieldSource, _ paths: [FieldPath], isByStream: Bool, context: QueryContext
    ) throws(ObsError) -> [FieldValueCount] {
        var sources = LogSources()
        sources.deletions = shared.tombstones.deletions(context.tenant, .logs)
        sources.segments = try logs.snapshot(context.tenant) { sources.heads.append(($0.batches, $0.streams, $0.streams.count)) }
        let fields = FieldCount(source, paths, isByStream: isByStream, context: context)
        _ = try LogCount(selection, grid: .whole, fields: fields, context: context, workers: shared.workers).run(sources)
        return fields.result
    }

    package func scanSpans(_ selection: SpanSelection, context: QueryContext, into sink: any SpanSink) throws(ObsError) {
        var sources = SpanSources()
        sources.deletions = shared.tombstones.deletions(context.tenant, .traces)
        sources.segments = try traces.snapshot(context.tenant) { sources.heads.append($0.batches) }
        var scan = SpanScan(selection, context: context, sink: sink)
        try scan.run(sources)
    }
}
