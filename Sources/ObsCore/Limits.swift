// Every bound of the daemon, with its unit and reason. A bound that can be set has a flag or configuration key of the same words.

package struct Limits: Sendable {
    /// Where what requests, queries and heads hold is counted, all within one ceiling.
    package var memory = MemoryBudget.unbounded
    /// Bytes of a request body as sent. 64 MiB: OTLP's recommended receive bound.
    package var requestBytesMax = 64 << 20
    /// Bytes of a request body after decompression: a bomb stops here.
    package var decodedBytesMax = 256 << 20
    /// Bytes of requests being decoded or waiting for their sync, over all connections; past it clients are told to come back (`Admission`).
    package var ingestBytesInFlightMax = 256 << 20
    /// Labels of one series or stream; far past what any sane exporter sends, low enough that one request cannot make a label set of megabytes.
    package var labelsMax = 256
    package var labelNameBytesMax = 1024
    package var labelValueBytesMax = 64 << 10
    /// Bytes of one log line: 5 MB stack dumps are real, bigger ones are an accident.
    package var lineBytesMax = 8 << 20
    /// Nesting of JSON and AnyValue; deeper input is refused before it can exhaust a stack.
    package var nestingMax = 64
    /// Samples a query may load (Prometheus' `--query.max-samples`).
    package var querySamplesMax = 50_000_000
    /// Bytes a query may hold.
    package var queryBytesMax = 1 << 30
    /// Series a query may select.
    package var querySeriesMax = 2_000_000
    /// Points of one series a range query may return (Prometheus' bound).
    package var queryPointsMax = 11_000
    /// Wall time of a query.
    package var queryTimeoutMillis: Int64 = 120_000
    /// Loki's `max_entries_limit_per_query`.
    package var logEntriesMax = 5000
    /// Queries that may run at once; more wait in a queue of `queryQueueMax`, then 503.
    package var queryConcurrency = 4
    package var queryQueueMax = 256
    /// Live tails at once.
    package var tailsMax = 500
    /// Records waiting for one slow tail client before the oldest are dropped and counted.
    package var tailQueueMax = 10_000
    /// And bytes of them: a tail of 5 MB lines must not hold what 10,000 of them would.
    package var tailQueueBytesMax = 8 << 20

    package init() {}
}
