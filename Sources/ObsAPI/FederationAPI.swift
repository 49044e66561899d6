internal import ObsCore
internal import ObsNet
internal import ObsPromQL
internal import ObsStore
internal import ObsWire

/// `/federate`: the newest sample of each selected series, for another Prometheus to scrape (contract prometheus.md §4).
struct FederationAPI: Sendable {
    let services: Services

    private struct Row {
        var labels: Labels
        var timeMillis: Int64
        var value: Double
        /// A histogram with bounds of its own, which the text format can say as a classic one.
        var histogram: HistogramColumns?
    }

    func federate(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        // Names that are not plain are quoted for who says that it can read that, else their odd characters become underscores.
        let quotes = request.header("accept")?.contains("escaping=allow-utf-8") ?? false
        let type = quotes ? "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8" : "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        services.stream(request, responder, .text, type: type) { context, answer throws(ObsError) in
            var rows: [Row] = []
            for text in parameters.all("match[]") { try select(try parseSelector(text), context, &rows) }
            rows.sort { precedes($0.labels, $1.labels) }
            try write(rows, quotes: quotes, to: answer)
        }
    }

    /// By name, so that families are together.
    private func precedes(_ a: Labels, _ b: Labels) -> Bool {
        let (first, second) = (a["__name__"] ?? "", b["__name__"] ?? "")
        return first == second ? a < b : first.utf8.lexicographicallyPrecedes(second.utf8)
    }

    private func select(_ matchers: [LabelMatcher], _ context: QueryContext, _ rows: inout [Row]) throws(ObsError) {
        let now = services.clock.nowMillis()
        services.queried.note([matchers], context.tenant, atMillis: now)
        let set = try services.reader.series(matchers, range: now - services.promQL.lookbackMillis...now, context: context)
        while let series = try set.next() {
            guard let row = newest(series) else { continue }
            try context.charge(bytes: series.labels.bytes.count + 96)
            rows.append(row)
        }
    }

    /// Nil for a series that has ended, and for a histogram that the text format cannot say.
    private func newest(_ series: SeriesSamples) -> Row? {
        let last = series.timesMillis.indices.last
        if let histograms = series.histograms, let row = histograms.timesMillis.indices.last,
            last.map({ series.timesMillis[$0] < histograms.timesMillis[row] }) ?? true
        {
            guard !histograms.isStale(row), histograms.layout(ofRow: row).schema == HistogramLayout.customSchema else { return nil }
            return Row(labels: series.labels, timeMillis: histograms.timesMillis[row], value: 0, histogram: histograms.keeping([row]))
        }
        guard let last, !SpecialValue.isStale(series.values[last]) else { return nil }
        return Row(labels: series.labels, timeMillis: series.timesMillis[last], value: series.values[last])
    }

    private func write(_ rows: [Row], quotes: Bool, to answer: AnswerStream) throws(ObsError) {
        var external = LabelsBuilder(services.lifecycle.externalLabels())
        let givesInstance = external["instance"] == nil
        external.remove("__name__")
        let added = external.labels().pairs
        var writer = PrometheusTextWriter()
        var family: (name: String, isHistogram: Bool)?
        var last: Labels?
        for row in rows where row.labels != last {
            last = row.labels
            var pairs = row.labels.pairs
            guard let at = pairs.firstIndex(where: { $0.name == "__name__" }) else { continue }
            let name = quotes ? pairs[at].value : underscored(pairs[at].value, allowsColon: true)
            pairs.remove(at: at)
            for pair in added where !pairs.contains(where: { $0.name == pair.name }) { pairs.append(pair) }
            // Keeps the label of the one who scrapes us out.
            if givesInstance, !pairs.contains(where: { $0.name == "instance" }) { pairs.append(("instance", "")) }
            let labels = pairs.map { (quotes ? $0.name : underscored($0.name, allowsColon: false), $0.value) }
            let isHistogram = row.histogram != nil
            if family.map({ $0 != (name, isHistogram) }) ?? true {
                writer.family(name, type: isHistogram ? .histogram : .unknown)
                family = (name, isHistogram)
            }
            if let histogram = row.histogram {
                write(histogram, name, labels, &writer)
            } else {
                writer.sample(name, labels, row.value, timeMillis: row.timeMillis)
            }
            if writer.bytes.count >= AnswerStream.pieceBytes {
                try answer.send(writer.bytes)
                writer = PrometheusTextWriter()
            }
        }
        answer.json.raw(writer.bytes)
        try answer.finish()
    }

    private func write(_ histogram: HistogramColumns, _ name: String, _ labels: [(String, String)], _ writer: inout PrometheusTextWriter) {
        let layout = histogram.layout(ofRow: 0)
        let time = histogram.timesMillis[0]
        func number(_ bits: UInt64) -> Double { layout.isFloat ? Double(bitPattern: bits) : Double(bits) }
        var counts: [Int64: Double] = [:]
        var place = 0
        layout.forEachBucket { _, index in
            counts[index] = number(histogram.buckets[place])
            place += 1
        }
        var total = 0.0
        for (index, bound) in layout.customBounds.enumerated() {
            total += counts[Int64(index)] ?? 0
            writer.sample(name + "_bucket", labels + [("le", formatOpenMetricsFloat(bound))], total, timeMillis: time)
        }
        writer.sample(name + "_bucket", labels + [("le", "+Inf")], number(histogram.counts[0]), timeMillis: time)
        writer.sample(name + "_sum", labels, histogram.sums[0], timeMillis: time)
        writer.sample(name + "_count", labels, number(histogram.counts[0]), timeMillis: time)
    }

    /// A name as readers of old take it.
    private func underscored(_ name: String, allowsColon: Bool) -> String {
        var result = ""
        for (at, scalar) in name.unicodeScalars.enumerated() {
            let isPlain =
                switch scalar {
                case "a"..."z", "A"..."Z", "_": true
                case ":": allowsColon
                case "0"..."9": at > 0
                default: false
                }
            result.unicodeScalars.append(isPlain ? scalar : "_")
        }
        return result
    }
}
