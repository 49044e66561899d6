import ObsCore
import ObsEngine
import ObsStore

/// Lookups of traces, and searches for spans.
func scanTraces(_ engine: StorageEngine) throws(ObsError) {
    final class Spans: SpanSink {
        var count = 0
        var ids: [TraceID] = []
        func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) {
            count += rows.count
            if ids.count < 8, let row = rows.randomElement() { ids.append(batch.traceID[row]) }
        }
    }
    func scan(_ selection: SpanSelection) throws(ObsError) -> (spans: Spans, blocks: Int) {
        let spans = Spans()
        let context = QueryContext(tenant: .default, limits: unbounded)
        try engine.scanSpans(selection, context: context, into: spans)
        return (spans, context.statistics.blocks)
    }
    let slow = try scan(SpanSelection(durationNanosMin: 1_000_000_000))
    for id in slow.spans.ids {
        try time("trace \(id)") { () throws(ObsError) in
            let found = try scan(SpanSelection(traceIDs: [id]))
            return "\(found.spans.count) spans, \(found.blocks) blocks read"
        }
    }
    try time("absent trace") { () throws(ObsError) in "\(try scan(SpanSelection(traceIDs: [TraceID(high: 1, low: 2)])).spans.count) spans" }
    try time("spans of a second and more", rounds: 3) { () throws(ObsError) in "\(try scan(SpanSelection(durationNanosMin: 1_000_000_000)).spans.count) spans" }
    try time("all spans", rounds: 3) { () throws(ObsError) in "\(try scan(SpanSelection()).spans.count) spans" }
}
