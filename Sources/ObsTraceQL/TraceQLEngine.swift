package import ObsCore
package import ObsStore

/// Answers TraceQL over a store. Any number of queries at once, each on its caller's thread.
package final class TraceQLEngine: Sendable {
    private let reader: any Reader

    package init(reader: any Reader) { self.reader = reader }

    /// Traces with a span set the query selects, newest first. Times: start inclusive, end exclusive, nanoseconds.
    package func search(_ query: String, startNanos: Int64, endNanos: Int64, limit: Int, spansPerSet: Int, context: QueryContext) throws(ObsError)
        -> [TraceSummary]
    {
        throw ObsError(.unprocessable, "not yet")
    }

    /// Traces with a span that has all tags (value contained, case-insensitive, in span or resource attributes or `name`, `status`, `kind`) and whose
    /// trace lasts within the bounds.
    package func search(
        tags: [(key: String, value: String)], durationNanosMin: Int64?, durationNanosMax: Int64?, startNanos: Int64, endNanos: Int64, limit: Int,
        context: QueryContext
    ) throws(ObsError) -> [TraceSummary] {
        throw ObsError(.unprocessable, "not yet")
    }

    /// All spans of a trace, duplicates removed, in start order; nil when there are none.
    package func trace(_ id: TraceID, context: QueryContext) throws(ObsError) -> SpanBatch? { nil }

    /// Sorted names of services with spans in the range.
    package func services(startNanos: Int64, endNanos: Int64, context: QueryContext) throws(ObsError) -> [String] { [] }

    /// Sorted span names of a service.
    package func operations(service: String, startNanos: Int64, endNanos: Int64, context: QueryContext) throws(ObsError) -> [SpanOperation] { [] }

    /// Names of tags, by scope; nil for all scopes. `filter` is a TraceQL query; one that does not parse is ignored.
    package func tagNames(scope: TagScope?, filter: String?, startNanos: Int64, endNanos: Int64, limit: Int, context: QueryContext) throws(ObsError) -> [(
        scope: TagScope, names: [String]
    )] { [] }

    /// Sorted values of a tag named as in TraceQL (`resource.service.name`, `.service.name`, `status`) or, failing that, by its bare key.
    package func tagValues(_ name: String, filter: String?, startNanos: Int64, endNanos: Int64, limit: Int, context: QueryContext) throws(ObsError)
        -> [TagValue]
    {
        []
    }
}

/// A `{ … }` filter ready to be matched against spans as they arrive. Safe to use from several threads.
package struct CompiledSpanFilter: Sendable {
    package init(_ text: String) throws(ObsError) {}

    package func matches(_ batch: SpanBatch, row: Int) -> Bool { false }
}
