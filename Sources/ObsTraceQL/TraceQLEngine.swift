package import ObsCore
package import ObsStore

/// Answers TraceQL over a store. Any number of queries at once, each on its caller's thread.
///
/// Times are nanoseconds, start inclusive, end exclusive; a trace is in a range when a span that matches starts in it.
package final class TraceQLEngine: Sendable {
    private let reader: any Reader

    package init(reader: any Reader) { self.reader = reader }

    /// Traces with span sets the query selects, newest first.
    package func search(_ query: String, startNanos: Int64, endNanos: Int64, limit: Int, spansPerSet: Int, context: QueryContext) throws(ObsError)
        -> [TraceSummary]
    {
        let query = try parseTraceQL(query)
        let filter = CandidateFilter(query)
        let candidates = CandidateSink(isExact: filter.isExact, limit: limit, context: context) { filter.accepts($0) }
        var selection = SpanSelection(startNanos: startNanos, endNanos: endNanos)
        filter.narrow(&selection)
        guard startNanos < endNanos, limit > 0 else { return [] }
        try reader.scanSpans(selection, context: context, into: candidates)
        let shown = query.shownAttributes
        return try TraceSearch(reader: reader, context: context, limit: limit, spansPerSet: spansPerSet)
            .summaries(of: candidates.newestFirst(), attributes: shown.all, selected: shown.selected) { evaluator in
                let sets = evaluator.evaluate(query)
                return sets.isEmpty ? nil : sets
            }
    }

    /// Traces with a span that has all tags (value contained, case-insensitive, in span or resource attributes or `name`, `status`, `kind`) and
    /// that last within the bounds, newest first.
    package func search(
        tags: [(key: String, value: String)], durationNanosMin: Int64?, durationNanosMax: Int64?, startNanos: Int64, endNanos: Int64, limit: Int,
        context: QueryContext
    ) throws(ObsError) -> [TraceSummary] {
        let filter = TagFilter(tags)
        let candidates = CandidateSink(isExact: durationNanosMin == nil && durationNanosMax == nil, limit: limit, context: context) { filter.accepts($0) }
        guard startNanos < endNanos, limit > 0 else { return [] }
        try reader.scanSpans(SpanSelection(startNanos: startNanos, endNanos: endNanos), context: context, into: candidates)
        return try TraceSearch(reader: reader, context: context, limit: limit, spansPerSet: 0)
            .summaries(of: candidates.newestFirst(), attributes: [], selected: []) { evaluator in
                let duration = evaluator.shape.endNanos &- evaluator.shape.startNanos
                return duration >= durationNanosMin ?? .min && duration <= durationNanosMax ?? .max ? [] : nil
            }
    }

    /// All spans of a trace, duplicates removed, in start order; nil when there are none.
    package func trace(_ id: TraceID, context: QueryContext) throws(ObsError) -> SpanBatch? {
        let collector = TraceCollector(context: context)
        try reader.scanSpans(SpanSelection(traceIDs: [id]), context: context, into: collector)
        return collector.take()[id]
    }

    /// Sorted names of services with spans in the range.
    package func services(startNanos: Int64, endNanos: Int64, context: QueryContext) throws(ObsError) -> [String] {
        var found: Set<String> = []
        var source: SpanSource?
        var seen: Set<UInt32> = []
        try visit(SpanSelection(startNanos: startNanos, endNanos: endNanos), context) { place in
            if source !== place.batch {
                source = place.batch
                seen = []
            }
            let batch = place.batch.batch
            let resource = batch.resource[place.row]
            if seen.insert(resource).inserted { found.insert(batch.bytes.string(batch.services[Int(resource)])) }
            return true
        }
        return sorted(found)
    }

    /// Span names of a service with their kinds, sorted.
    package func operations(service: String, startNanos: Int64, endNanos: Int64, context: QueryContext) throws(ObsError) -> [SpanOperation] {
        var found: Set<SpanOperation> = []
        try visit(SpanSelection(startNanos: startNanos, endNanos: endNanos, services: [service]), context) { place in
            let batch = place.batch.batch
            found.insert(SpanOperation(name: batch.bytes.string(batch.name[place.row]), kind: batch.kind[place.row]))
            return true
        }
        return found.sorted { $0.name != $1.name ? $0.name < $1.name : $0.kind < $1.kind }
    }

    /// Names of tags, by scope, sorted; nil for all scopes. `filter` is a TraceQL query; one that does not parse is ignored.
    /// - Parameter limit: most names of a scope; 0 for all.
    package func tagNames(scope: TagScope?, filter: String?, startNanos: Int64, endNanos: Int64, limit: Int, context: QueryContext) throws(ObsError) -> [(
        scope: TagScope, names: [String]
    )] {
        let wanted = TagScope.allCases.filter { scope == nil || $0 == scope }
        var names = TagNames()
        if wanted != [.intrinsic] {
            try visit(filter, startNanos, endNanos, context) { place in
                names.add(place) { wanted.contains($0) }
                return true
            }
        }
        return wanted.map { scope in
            let list = scope == .intrinsic ? TagScope.intrinsicNames : sorted(names.names[scope] ?? [])
            return (scope, limit > 0 ? Array(list.prefix(limit)) : list)
        }
    }

    /// Sorted values of a tag named as in TraceQL (`resource.service.name`, `.service.name`, `status`) or, failing that, by its bare key.
    /// - Parameter limit: most values; 0 for all.
    package func tagValues(_ name: String, filter: String?, startNanos: Int64, endNanos: Int64, limit: Int, context: QueryContext) throws(ObsError)
        -> [TagValue]
    {
        let attribute = Self.attributeName(name)
        switch attribute {
        case .intrinsic(.status): return SpanStatus.words.map { TagValue(type: "keyword", text: $0) }.sorted { $0.text < $1.text }
        case .intrinsic(.kind): return SpanKind.words.map { TagValue(type: "keyword", text: $0) }.sorted { $0.text < $1.text }
        default: break
        }
        var found: Set<TagValue> = []
        try visit(filter, startNanos, endNanos, context) { place in
            func add(_ value: Value) {
                if case .list(let list) = value { return list.forEach(add) }
                if let value = TagValue(value) { found.insert(value) }
            }
            switch attribute {
            case .intrinsic(.rootName), .intrinsic(.rootServiceName):
                let batch = place.batch.batch
                guard batch.parentID[place.row] == 0 else { break }
                add(
                    attribute == .intrinsic(.rootName)
                        ? place.value(.intrinsic(.name)) : .string(batch.bytes.string(batch.services[Int(batch.resource[place.row])])))
            default: add(place.value(attribute))
            }
            return limit == 0 || found.count < limit
        }
        return found.sorted { $0.text != $1.text ? $0.text.utf8.lexicographicallyPrecedes($1.text.utf8) : $0.type < $1.type }
    }

    private static func attributeName(_ text: String) -> AttributeName {
        if let intrinsic = Intrinsic(spelling: text) { return .intrinsic(intrinsic) }
        if let query = try? parseTraceQL("{ \(text) != nil }"), case .filter(.binary(_, .attribute(let name), _)) = query.first { return name }
        return .field(.none, text, ofParent: false)
    }

    // MARK: Scanning

    private func visit(_ selection: SpanSelection, _ context: QueryContext, _ body: @escaping (SpanPlace) throws(ObsError) -> Bool) throws(ObsError) {
        guard selection.startNanos < selection.endNanos else { return }
        try reader.scanSpans(selection, context: context, into: SpanVisitor(context: context, body))
    }

    private func visit(
        _ filter: String?, _ startNanos: Int64, _ endNanos: Int64, _ context: QueryContext, _ body: @escaping (SpanPlace) throws(ObsError) -> Bool
    ) throws(ObsError) {
        var selection = SpanSelection(startNanos: startNanos, endNanos: endNanos)
        guard let filter, !filter.isEmpty, let query = try? parseTraceQL(filter) else { return try visit(selection, context, body) }
        let candidates = CandidateFilter(query)
        candidates.narrow(&selection)
        try visit(selection, context) { place throws(ObsError) in
            guard candidates.accepts(place) else { return true }
            return try body(place)
        }
    }

    private func sorted(_ names: Set<String>) -> [String] { names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
}
