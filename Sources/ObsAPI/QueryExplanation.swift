internal import ObsCore
internal import ObsPromQL
internal import ObsStore
internal import ObsWire

/// What a query would look at, from indexes alone: the answer to `explain=1`, which runs nothing.
struct QueryExplanation {
    private let parts: [(window: SelectorWindow, estimate: ReadEstimate)]
    private let limits: Limits

    init(_ windows: [SelectorWindow], _ reader: any Reader, _ context: QueryContext) throws(ObsError) {
        var parts: [(window: SelectorWindow, estimate: ReadEstimate)] = []
        for window in windows { parts.append((window, try reader.estimate(window.selector.matchers, range: window.range, context: context))) }
        self.parts = parts
        limits = context.limits
    }

    func write(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("explain")
        writer.beginObject()
        var all = ReadEstimate()
        writer.key("selectors")
        writer.beginArray()
        for part in parts {
            all.series += part.estimate.series
            all.add(part.estimate)
            writer.beginObject()
            writer.member("selector", part.window.selector.description)
            writer.key("start")
            writer.seconds(millis: part.window.range.lowerBound)
            writer.key("end")
            writer.seconds(millis: part.window.range.upperBound)
            figures(part.estimate, &writer)
            writer.endObject()
        }
        writer.endArray()
        figures(all, &writer)
        writer.member("samplesMax", int: limits.querySamplesMax)
        writer.member("seriesMax", int: limits.querySeriesMax)
        writer.endObject()
        writer.endObject()
    }

    private func figures(_ estimate: ReadEstimate, _ writer: inout JSONWriter) {
        writer.member("series", int: estimate.series)
        writer.member("samples", int: estimate.samples)
        writer.member("blocks", int: estimate.blocks)
        writer.member("bytes", int: estimate.bytes)
        writer.member("segments", int: estimate.segments)
    }
}
