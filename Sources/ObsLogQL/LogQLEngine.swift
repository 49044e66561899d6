package import ObsCore
package import ObsStore

/// Answers LogQL over a store. Any number of queries at once, each on its caller's thread.
package final class LogQLEngine: Sendable {
    private let reader: any Reader

    package init(reader: any Reader) { self.reader = reader }

    /// - Parameters:
    ///   - stepNanos: distance of points of a metric query; nil for Loki's default.
    ///   - intervalNanos: least distance of two entries of a log query; 0 for all.
    /// - Throws: `.badInput` with Loki's text; what the context throws.
    package func range(
        _ query: String, startNanos: Int64, endNanos: Int64, stepNanos: Int64?, intervalNanos: Int64, limit: Int, direction: LogSelection.Direction,
        context: QueryContext
    ) throws(ObsError) -> LogQLResult {
        throw ObsError(.unprocessable, "not yet")
    }

    package func instant(_ query: String, atNanos: Int64, limit: Int, direction: LogSelection.Direction, context: QueryContext) throws(ObsError) -> LogQLResult
    {
        throw ObsError(.unprocessable, "not yet")
    }
}

/// A log query ready to be matched against records as they arrive (live tail). Safe to use from several threads.
package struct CompiledLogQuery: Sendable {
    /// All must hold on the stream labels: check once per stream of a batch.
    package let matchers: [LabelMatcher]

    package init(_ text: String) throws(ObsError) { matchers = [] }

    /// Runs the pipeline over a row whose stream satisfies `matchers`; nil when it filters the row out.
    package func process(_ batch: LogBatch, row: Int) -> (stream: Labels, entry: LogEntry)? { nil }
}

package struct LogQLExpression: Sendable, CustomStringConvertible {
    package var isMetricQuery: Bool { false }
    /// Matchers of the (first) stream selector.
    package var matchers: [LabelMatcher] { [] }
    /// Canonical text, what `format_query` answers.
    package var description: String { "" }
}

package func parseLogQL(_ text: String) throws(ObsError) -> LogQLExpression { LogQLExpression() }

/// Parses a stream selector alone (`match[]`, `query` of label calls).
package func parseLogSelector(_ text: String) throws(ObsError) -> [LabelMatcher] { [] }
