internal import ObsCore
internal import ObsStore

/// First pass of a search: which traces have a candidate span, and how new it is.
final class CandidateSink: SpanSink {
    private let accepts: (SpanPlace) -> Bool
    /// Whether every candidate is an answer: then only the newest `limit` need be remembered.
    private let isExact: Bool
    private let limit: Int
    private let context: QueryContext
    /// Trace to the newest start of a candidate span.
    private var newest: [TraceID: Int64] = [:]
    /// Starts before this cannot be among the answers any more.
    private var floorNanos = Int64.min

    init(isExact: Bool, limit: Int, context: QueryContext, accepts: @escaping (SpanPlace) -> Bool) {
        self.accepts = accepts
        self.isExact = isExact
        self.limit = min(limit, 1_000_000)
        self.context = context
    }

    func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) {
        try context.check()
        context.count(rows: rows.count)
        let source = SpanSource(batch)
        let before = newest.count
        batch.bytes.withUnsafeBytes { bytes in
            for row in rows {
                let start = batch.startNanos[row]
                guard start >= floorNanos, start > newest[batch.traceID[row]] ?? .min || newest[batch.traceID[row]] == nil else { continue }
                if accepts(SpanPlace(batch: source, bytes: bytes, row: row, trace: nil)) { newest[batch.traceID[row]] = start }
            }
        }
        try context.charge(bytes: max(0, newest.count - before) * 64)
        if isExact, newest.count > max(10_000, limit * 20) { prune() }
    }

    private func prune() {
        let kept = newestFirst().prefix(limit * 2)
        guard let oldest = kept.last, let start = newest[oldest] else { return }
        floorNanos = start
        newest = newest.filter { $0.value >= start }
    }

    func newestFirst() -> [TraceID] {
        newest.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key < $1.key }.map(\.key)
    }
}

/// Second pass: reads whole traces, newest candidates first, until enough match.
struct TraceSearch {
    let reader: any Reader
    let context: QueryContext
    let limit: Int
    let spansPerSet: Int

    /// - Parameter sets: span sets of a trace that matches (empty for tag searches), nil for one that does not.
    func summaries(
        of candidates: [TraceID], attributes: [AttributeName], selected: [AttributeName],
        sets: (SpansetEvaluator) -> [SpansetEvaluator.Spanset]?
    ) throws(ObsError) -> [TraceSummary] {
        var result: [TraceSummary] = []
        var rest = candidates[...]
        while !rest.isEmpty, result.count < limit {
            // As many as still missing and a few more: those that fail need not cost another read.
            let chunk = rest.prefix(max(16, limit - result.count))
            rest = rest.dropFirst(chunk.count)
            let collector = TraceCollector(context: context)
            try reader.scanSpans(SpanSelection(traceIDs: Set(chunk)), context: context, into: collector)
            let traces = collector.take()
            for id in chunk {
                try context.check()
                guard result.count < limit, let batch = traces[id] else { continue }
                if let summary = summary(id, batch, attributes, selected, sets) { result.append(summary) }
            }
        }
        return result.sorted { $0.startNanos != $1.startNanos ? $0.startNanos > $1.startNanos : $0.traceID < $1.traceID }
    }

    private func summary(
        _ id: TraceID, _ batch: SpanBatch, _ attributes: [AttributeName], _ selected: [AttributeName],
        _ sets: (SpansetEvaluator) -> [SpansetEvaluator.Spanset]?
    ) -> TraceSummary? {
        let shape = TraceShape(batch)
        let source = SpanSource(batch)
        return batch.bytes.withUnsafeBytes { bytes in
            let evaluator = SpansetEvaluator(source: source, bytes: bytes, shape: shape)
            guard let found = sets(evaluator) else { return nil }
            let spanSets = found.map { set in
                SpanSet(
                    matched: set.rows.count,
                    spans: set.rows.prefix(spansPerSet).map { matched(evaluator.place($0), attributes, selected) },
                    attributes: set.attributes)
            }
            return TraceSummary(
                traceID: id,
                rootServiceName: shape.root.map { batch.bytes.string(batch.services[Int(batch.resource[$0])]) } ?? TraceSummary.missingRoot,
                rootTraceName: shape.root.map { batch.bytes.string(batch.name[$0]) } ?? "", startNanos: shape.startNanos,
                durationNanos: shape.endNanos &- shape.startNanos, spanSets: spanSets, serviceStats: statistics(batch))
        }
    }

    private func matched(_ place: SpanPlace, _ attributes: [AttributeName], _ selected: [AttributeName]) -> MatchedSpan {
        let batch = place.batch.batch
        var shown: [(key: String, value: AttributeValue)] = []
        for name in attributes where !shown.contains(where: { $0.key == name.key }) {
            // The span's own fields have places of their own in the answer.
            if case .intrinsic(let intrinsic) = name, intrinsic == .name || intrinsic == .duration || intrinsic == .spanID { continue }
            if let value = place.value(name).attribute {
                shown.append((name.key, value))
            } else if selected.contains(name) {
                shown.append((name.key, .string("nil")))
            }
        }
        return MatchedSpan(
            spanID: batch.spanID[place.row], name: batch.bytes.string(batch.name[place.row]), startNanos: batch.startNanos[place.row],
            durationNanos: batch.durationNanos[place.row], attributes: shown)
    }

    private func statistics(_ batch: SpanBatch) -> [TraceSummary.ServiceStatistics] {
        var result: [TraceSummary.ServiceStatistics] = []
        var places: [String: Int] = [:]
        for row in 0..<batch.count {
            let service = batch.bytes.string(batch.services[Int(batch.resource[row])])
            let place = places[service] ?? result.count
            if place == result.count {
                places[service] = place
                result.append(.init(service: service, spanCount: 0, errorCount: 0))
            }
            result[place].spanCount += 1
            if batch.status[row] == 2 { result[place].errorCount += 1 }
        }
        return result.sorted { $0.service < $1.service }
    }
}

extension TraceQuery {
    /// Attributes a matched span shows: those the query names, then those it selects.
    var shownAttributes: (all: [AttributeName], selected: [AttributeName]) {
        var all: [AttributeName] = []
        var selected: [AttributeName] = []
        func walk(_ expression: SpansetExpression) {
            switch expression {
            case .filter(let field): field?.collectAttributes(&all)
            case .combined(_, let left, let right):
                walk(left)
                walk(right)
            case .pipeline(let query): walk(query)
            }
        }
        func walk(_ query: TraceQuery) {
            walk(query.first)
            for stage in query.stages {
                switch stage {
                case .spanset(let expression): walk(expression)
                case .select(let fields): for field in fields { field.collectAttributes(&selected) }
                case .by(let field): field.collectAttributes(&all)
                case .coalesce, .scalarFilter: break
                }
            }
        }
        walk(self)
        return (all + selected.filter { !all.contains($0) }, selected)
    }
}
