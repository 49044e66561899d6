package import ObsCore
package import ObsStore

/// A log query ready to be matched against records as they arrive (live tail). Safe to use from several threads.
package struct CompiledLogQuery: Sendable {
    /// All must hold on the stream labels: check once per stream of a batch.
    package let matchers: [LabelMatcher]
    private let pipeline: Pipeline

    /// - Throws: `.badInput` for what is not a log query, with Loki's text.
    package init(_ text: String) throws(ObsError) {
        guard case .log(let query) = try parseLogQL(text) else { throw parseError("only log queries are supported, not metric queries") }
        matchers = query.matchers
        pipeline = try Pipeline(query.stages)
    }

    /// Runs the pipeline over a row whose stream satisfies `matchers`; nil when it filters the row out. A row that the leading line
    /// filters refuse costs no allocation.
    package func process(_ batch: LogBatch, row index: Int) -> (stream: Labels, entry: LogEntry)? {
        batch.bytes.withUnsafeBytes { bytes in
            guard pipeline.linePasses(UnsafeRawBufferPointer(rebasing: bytes[batch.line[index].range])) else { return nil }
            let row = Row()
            row.load(batch, index, bytes: bytes, withLabels: true)
            guard pipeline.process(row) else { return nil }
            return (row.streamIsIntact ? batch.labels(ofStream: batch.stream[index]) : row.labels(.stream), makeEntry(row))
        }
    }
}
