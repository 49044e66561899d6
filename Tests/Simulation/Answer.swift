internal import ObsCore
internal import ObsStore

/// All that a tenant has, as the engine tells it.
struct Answer {
    var samples: [Labels: [Int64: UInt64]] = [:]
    var events: [Signal: [EventKey: Int]] = [:]
    /// What no answer may be: out of order, a sample twice.
    var faults: [String] = []

    init(_ reader: any Reader, _ tenant: TenantID, _ signals: [Signal] = Signal.allCases) throws(ObsError) {
        for signal in signals {
            let context = QueryContext(tenant: tenant)
            switch signal {
            case .metrics: try readSamples(reader.series([], range: .min ... .max, context: context))
            case .logs:
                let sink = Events()
                try reader.scanLogs(LogSelection(matchers: [], startNanos: .min, endNanos: .max), context: context, into: sink)
                events[.logs] = sink.found
            case .traces:
                let sink = Events()
                try reader.scanSpans(SpanSelection(), context: context, into: sink)
                events[.traces] = sink.found
            }
        }
    }

    private mutating func readSamples(_ set: any SeriesSet) throws(ObsError) {
        var last: Labels?
        while let series = try set.next() {
            if let last, Labels.compare(last, series.labels) >= 0 { faults.append("series out of order: \(series.labels) after \(last)") }
            last = series.labels
            for (time, next) in zip(series.timesMillis, series.timesMillis.dropFirst()) where time >= next {
                faults.append("\(series.labels): samples out of order at \(next)")
            }
            samples[series.labels] = Dictionary(zip(series.timesMillis, series.values.map(\.bitPattern)), uniquingKeysWith: { first, _ in first })
        }
    }

    private final class Events: LogSink, SpanSink {
        var wantedNanos: Range<Int64> { .min ..< .max }
        var found: [EventKey: Int] = [:]
        func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) { for row in rows { found[.log(batch, row), default: 0] += 1 } }
        func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) { for row in rows { found[.span(batch, row), default: 0] += 1 } }
    }
}
