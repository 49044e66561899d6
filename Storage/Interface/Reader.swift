package import ObsCore

/// The way out. Implemented by the engine (and in memory by ObsTestSupport); the query languages see the store only through it.
///
/// **Consistency**: a read sees every write acknowledged before it began.
/// **Ownership**: batches and series handed out are the receiver's to keep; they are copies or immutable.
/// **Threads**: any number of reads at once, each on its caller's thread.
/// **Errors**: what the `QueryContext` throws, `.corrupt` with file and offset for a damaged block of the selected range.
package protocol Reader: Sendable {
    /// Series of the metrics signal that satisfy all matchers and have samples in `range` (milliseconds, both ends inclusive), in label order.
    /// Samples of a series come in time order without duplicates, head and segments merged; only those within `range`.
    func series(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> any SeriesSet

    /// Label sets (series or streams) with data in `range`, in label order, each satisfying all matchers of at least one of `selectors` (none given: all).
    /// Range is in milliseconds for metrics, nanoseconds for logs.
    /// - Parameter limit: the first so many; what they cost does not grow with those left out.
    func labelSets(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext) throws(ObsError) -> [Labels]

    /// Sorted, unique names of labels of those label sets; the first `limit`.
    func labelNames(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext) throws(ObsError) -> [String]

    /// Sorted, unique values of one label in those label sets; the first `limit`.
    func labelValues(
        _ signal: Signal, _ name: String, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, limit: Int, context: QueryContext
    ) throws(ObsError) -> [String]

    /// Exemplars of the metrics signal within `range` (milliseconds, both ends inclusive) of the series that satisfy all matchers of at least one of `selectors`
    /// (none given: all), series in label order. What a sender repeats comes once.
    func exemplars(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [SeriesExemplars]

    /// Label sets as `labelSets` gives them, one at a time, however many: nothing is kept of those given.
    func forEachLabelSet(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext, _ body: (Labels) throws(ObsError) -> Void
    ) throws(ObsError)

    /// What `series` of these would have to look at, from indexes alone.
    func estimate(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> ReadEstimate

    /// Type, unit and help of the tenant's metric families, as last said.
    func metricFamilies(context: QueryContext) throws(ObsError) -> MetricFamilies

    /// Feeds log records to the sink, a batch at a time. Batches come newest first for `.backward`, oldest first for `.forward`, but may overlap in time
    /// (streams and segments do): the sink orders what it keeps by (time, arrival). Rows identified by their protocol come once.
    func scanLogs(_ selection: LogSelection, context: QueryContext, into sink: any LogSink) throws(ObsError)

    /// Counts the log records of a selection, stream by stream and in the buckets of a grid, in label order; streams without any are left out. Where nothing else
    /// is asked of rows than their stream and a bucket holds their whole block, none is read. `direction`, `columns` and `limit` do not matter.
    func countLogs(_ selection: LogSelection, grid: LogCountGrid, context: QueryContext) throws(ObsError) -> [LogCounts]

    /// Counts the log records of a selection by the value of a field, the first of the paths that a record has, and by stream if asked for; in the order of the
    /// values' bytes, then of labels. Records without the field, or where it is an object or an array, are not counted. Where the field has few values no block is read
    /// that all of the selection's times and streams are of. `direction`, `columns` and `limit` do not matter. Charges for each value.
    func countFieldValues(
        _ selection: LogSelection, _ source: FieldSource, _ paths: [FieldPath], isByStream: Bool, context: QueryContext
    ) throws(ObsError) -> [FieldValueCount]

    /// Feeds spans to the sink, a batch at a time, in no particular order; equal spans come once.
    func scanSpans(_ selection: SpanSelection, context: QueryContext, into sink: any SpanSink) throws(ObsError)
}

extension Reader {
    package func labelSets(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [Labels] {
        try labelSets(signal, selectors, range: range, limit: .max, context: context)
    }

    package func labelNames(_ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> [String] {
        try labelNames(signal, selectors, range: range, limit: .max, context: context)
    }

    package func labelValues(
        _ signal: Signal, _ name: String, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext
    ) throws(ObsError) -> [String] {
        try labelValues(signal, name, selectors, range: range, limit: .max, context: context)
    }
}

/// One series with its samples, as columns.
package struct SeriesSamples: Sendable {
    package var labels: Labels
    package var timesMillis: [Int64]
    package var values: [Double]
    /// When counting began (0 where unknown), for each of `values`; empty when no sample says.
    package var startsMillis: [Int64] = []
    /// Samples that are native histograms, in time order; nil in a series that has none. No time is in both `timesMillis` and here.
    package var histograms: HistogramColumns?

    package init(labels: Labels, timesMillis: [Int64], values: [Double], startsMillis: [Int64] = [], histograms: HistogramColumns? = nil) {
        self.labels = labels
        self.timesMillis = timesMillis
        self.values = values
        self.startsMillis = startsMillis
        self.histograms = histograms
    }
}

/// Series one after the other; not thread-safe, one consumer.
package protocol SeriesSet: AnyObject {
    /// The next series, nil at the end. Charges the context for the samples it hands out, until the next call: who keeps them charges for them itself.
    func next() throws(ObsError) -> SeriesSamples?

    /// The next series, summed up: what `next` would give, without its samples, and most often without reading them. For who does not look at each sample;
    /// the two may be mixed. Charges for the series and for samples that had to be read. A series with native histograms in the range is not summed up: it comes
    /// whole beside the summary of its floats, and is charged for as by `next`.
    func nextSummary(_ parts: SummaryParts) throws(ObsError) -> SeriesSummary?
}

extension SeriesSet {
    package func nextSummary(_ parts: SummaryParts) throws(ObsError) -> SeriesSummary? {
        guard let series = try next() else { return nil }
        var samples = SampleSummary()
        samples.append(timesMillis: series.timesMillis, values: series.values)
        return SeriesSummary(labels: series.labels, samples: samples, whole: series.histograms == nil ? nil : series)
    }
}

/// A condition on an attribute of a span, or of its resource.
package struct SpanAttributeFilter: Sendable {
    package enum Scope: Sendable { case span, resource }
    package var scope: Scope
    package var filter: FieldFilter

    package init(_ scope: Scope, _ key: String, _ test: FieldTest, isNegated: Bool = false) {
        self.scope = scope
        filter = FieldFilter(.attributes, FieldPath(key), test, isNegated: isNegated)
    }

    /// Whether a row of a batch passes.
    package func passes(_ batch: SpanBatch, row: Int, bytes: UnsafeRawBufferPointer) -> Bool {
        let list = scope == .span ? batch.attributes[row] : batch.resources[Int(batch.resource[row])]
        return filter.passes(UnsafeRawBufferPointer(rebasing: bytes[list.range]))
    }
}

package struct SpanSelection: Sendable {
    /// Only spans of these traces; nil for any. With ids the time range may be all of time: segments know which ids they hold.
    package var traceIDs: Set<TraceID>?
    package var startNanos: Int64
    /// Exclusive; a span belongs to the range its start lies in.
    package var endNanos: Int64
    /// Only spans of these services; nil for any.
    package var services: Set<String>?
    /// Only spans of these names; nil for any.
    package var names: Set<String>?
    package var durationNanosMin: Int64
    /// All must hold.
    package var attributes: [SpanAttributeFilter]

    package init(
        traceIDs: Set<TraceID>? = nil, startNanos: Int64 = .min, endNanos: Int64 = .max, services: Set<String>? = nil, names: Set<String>? = nil,
        durationNanosMin: Int64 = 0, attributes: [SpanAttributeFilter] = []
    ) {
        self.attributes = attributes
        self.traceIDs = traceIDs
        self.startNanos = startNanos
        self.endNanos = endNanos
        self.services = services
        self.names = names
        self.durationNanosMin = durationNanosMin
    }
}

package protocol SpanSink: AnyObject {
    func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError)
}

/// What operators ask of the store, beside reading and writing.
package protocol StoreAdministration: Sendable {
    func status() -> StoreStatus
    /// Writes all that is in memory to segments and deletes the log that held it; waits for the disk.
    func flush() throws(ObsError)
    /// Hides rows that are there now and satisfy all matchers of one of the selectors; rows written later are not concerned. They are gone from disk after merges.
    /// Matchers are on labels for metrics and logs, for logs also on the line (`LabelMatcher.line`), on `service`, `name` and `trace_id` for spans.
    /// Waits for the disk; lasting on return.
    /// - Parameter range: milliseconds for metrics, nanoseconds for events, both ends inclusive.
    /// - Throws: `.badInput` when there is no matcher.
    func delete(_ tenant: TenantID, _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError)
    /// Deletions that hide something yet, and those completed since the start, oldest first.
    func deletions(_ tenant: TenantID, _ signal: Signal) -> [DeletionRequest]
    /// Takes a deletion back: what merges have not left out is seen again. Waits for the disk; lasting on return.
    /// - Parameter force: also when merges may have left some of it out.
    /// - Throws: `.notFound`, `.badInput` when it is completed, or begun and not forced.
    func cancelDeletion(_ tenant: TenantID, _ signal: Signal, id: String, force: Bool) throws(ObsError)
    /// Makes a copy of the store as of now, beside it and by hard links; waits for the disk. The copy is a data folder of its own.
    /// - Returns: its name in `snapshots/`.
    func snapshot() throws(ObsError) -> String
    /// Takes deleted rows off the disk now.
    func cleanTombstones() throws(ObsError)
}

/// A deletion as asked for.
package struct DeletionRequest: Sendable, Equatable {
    package var id: String
    package var createdNanos: Int64
    /// In the signal's unit, both ends inclusive.
    package var range: ClosedRange<Int64>
    /// What it is on, a selector each, as a query in the signal's language.
    package var queries: [String]
    /// Whether nothing of what it hides is on disk any more.
    package var isCompleted: Bool

    package init(id: String, createdNanos: Int64, range: ClosedRange<Int64>, queries: [String], isCompleted: Bool) {
        self.id = id
        self.createdNanos = createdNanos
        self.range = range
        self.queries = queries
        self.isCompleted = isCompleted
    }
}

/// How far the reading of the log at a start has come.
package struct ReplayProgress: Sendable, Equatable {
    package var bytesDone: Int64
    package var bytesTotal: Int64

    package init(bytesDone: Int64, bytesTotal: Int64) {
        self.bytesDone = bytesDone
        self.bytesTotal = bytesTotal
    }

    /// 0...1.
    package var share: Double { bytesTotal > 0 ? min(1, Double(bytesDone) / Double(bytesTotal)) : 1 }
}

package struct StoreStatus: Sendable {
    package struct SignalStatus: Sendable {
        package var signal: Signal
        package var segments = 0
        package var segmentBytes: Int64 = 0
        package var segmentRows: Int64 = 0
        package var headRows: Int64 = 0
        package var headBytes: Int64 = 0
        package var headSeries = 0
        package var walBytes: Int64 = 0
        /// Since the start: bytes of segments written by flushes, and by merges of segments. Their sum by the first is the write amplification.
        package var flushedBytes: Int64 = 0
        package var mergedBytes: Int64 = 0
        package var merges = 0
        /// Since the start: rows that merges wrote, those in blocks that went over as they were among them (events alone), and the processor time merges took.
        package var mergedRows: Int64 = 0
        package var copiedRows: Int64 = 0
        package var mergeNanos: Int64 = 0
        /// Since the start: bytes of segments dropped past the retention or for room on the disk.
        package var droppedBytes: Int64 = 0
        /// Deletions of which something is on disk yet.
        package var pendingDeletions = 0
        /// Nil once the signal's log is replayed.
        package var replay: ReplayProgress?
        package init(signal: Signal) { self.signal = signal }
    }

    package var signals: [SignalStatus] = []
    /// Nil once all logs are replayed; until then reads are refused.
    package var replay: ReplayProgress? {
        let parts = signals.compactMap(\.replay)
        guard !parts.isEmpty else { return nil }
        return ReplayProgress(bytesDone: parts.reduce(0) { $0 + $1.bytesDone }, bytesTotal: parts.reduce(0) { $0 + $1.bytesTotal })
    }
    /// Segments set aside because they failed their checksums.
    package var quarantined = 0
    package init() {}
}
