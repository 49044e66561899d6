package import ObsCore

/// A trace found by a search.
package struct TraceSummary: Sendable {
    package static let missingRoot = "<root span not yet received>"

    package var traceID: TraceID
    /// `missingRoot` when the root span is not there.
    package var rootServiceName: String
    /// Empty when the root span is not there.
    package var rootTraceName: String
    package var startNanos: Int64
    package var durationNanos: Int64
    /// Empty for a search by tags.
    package var spanSets: [SpanSet]
    package var serviceStats: [ServiceStatistics]

    package struct ServiceStatistics: Sendable {
        package var service: String
        package var spanCount: Int
        package var errorCount: Int
    }
}

extension TraceSummary {
    /// Count of all spans of the first set; 0 for a search by tags.
    package var matched: Int { spanSets.first?.matched ?? 0 }
    /// Spans of the first set.
    package var spans: [MatchedSpan] { spanSets.first?.spans ?? [] }
}

/// Spans of a trace that a query selected together.
package struct SpanSet: Sendable {
    /// Count of all that matched.
    package var matched: Int
    /// The first of them in start order, at most `spansPerSet`.
    package var spans: [MatchedSpan]
    /// What `by()` and aggregates attached: `by(resource.service.name)`, `count()`.
    package var attributes: [(key: String, value: AttributeValue)]
}

/// A span that matched, with the attributes its query names or selects.
package struct MatchedSpan: Sendable {
    package var spanID: SpanID
    package var name: String
    package var startNanos: Int64
    package var durationNanos: Int64
    package var attributes: [(key: String, value: AttributeValue)]
}

/// Where a tag lives, in the words of Tempo's API.
package enum TagScope: String, Sendable, CaseIterable {
    case resource, span, event, link, instrumentation, intrinsic
}

package struct TagValue: Sendable, Hashable {
    /// `string int float bool duration keyword`
    package var type: String
    package var text: String
}

package struct SpanOperation: Sendable, Hashable {
    package var name: String
    /// As in `SpanBatch.kind`.
    package var kind: UInt8

    package init(name: String, kind: UInt8) {
        self.name = name
        self.kind = kind
    }
}
