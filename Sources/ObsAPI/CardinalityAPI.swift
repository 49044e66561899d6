internal import ObsCore
internal import ObsIngest
internal import ObsNet
internal import ObsPromQL
internal import ObsRules
internal import ObsStore
internal import ObsWire

/// Where series come from: `/api/v1/status/tsdb` as Prometheus has it, and `/api/v1/cardinality`, which looks at any range, compares with an earlier one, and tells
/// who sends, who asks, and what the guard folds.
struct CardinalityAPI: Sendable {
    let services: Services

    /// Prometheus' head reaches back so far; ours, which segments empty as they please, is not what people ask about.
    private static let recentMillis: Int64 = 3 * 3_600_000
    private static let limitMax = 10_000

    // MARK: status/tsdb

    func headStatistics(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.query(request, responder, .prometheus) { context throws(ObsError) in
            let limit = try limit(parameters)
            let now = services.clock.nowMillis()
            let recent = (now - Self.recentMillis)...(now + Self.recentMillis)
            let tally = try CardinalityTally(services.reader, [], range: recent, context: context)
            let estimate = try services.reader.estimate([], range: recent, context: context)
            return .success { writer in
                writer.beginObject()
                writer.key("headStats")
                writer.beginObject()
                writer.member("numSeries", int: tally.series)
                writer.member("numLabelPairs", int: tally.labels.values.reduce(0) { $0 + $1.values.count })
                writer.member("chunkCount", int: estimate.blocks)
                // As of an empty head.
                writer.member("minTime", int: estimate.times?.lowerBound ?? .max)
                writer.member("maxTime", int: estimate.times?.upperBound ?? .min)
                writer.endObject()
                writer.sizes("seriesCountByMetricName", tally.metrics.top(limit))
                writer.sizes("labelValueCountByLabelName", tally.topLabels(limit, by: \.values.count).map { (Array($0.name.utf8), $0.label.values.count) })
                writer.sizes("memoryInBytesByLabelName", tally.topLabels(limit, by: \.bytes).map { (Array($0.name.utf8), $0.label.bytes) })
                writer.sizes("seriesCountByLabelValuePair", tally.pairs.top(limit))
                writer.endObject()
            }
        }
    }

    private func limit(_ parameters: Parameters) throws(ObsError) -> Int {
        guard let text = parameters["limit"], !text.isEmpty else { return 10 }
        guard let limit = Int(text), limit >= 1 else { throw ObsError(.badInput, "limit must be a positive number") }
        guard limit <= Self.limitMax else { throw ObsError(.badInput, "limit must not exceed \(Self.limitMax)") }
        return limit
    }

    // MARK: cardinality

    func explore(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.query(request, responder, .prometheus) { context throws(ObsError) in
            let limit = try limit(parameters)
            let now = services.clock.nowMillis()
            let end = try parameters.prometheusTime("end") ?? now
            let start = try parameters.prometheusTime("start") ?? end - Self.recentMillis
            if end < start { throw parameters.invalid("end", "end timestamp must not be before start time") }
            var selectors: [[LabelMatcher]] = []
            for text in parameters.all("match[]") {
                do throws(ObsError) { selectors.append(try parseSelector(text)) } catch { throw parameters.invalid("match[]", error.description) }
            }
            let tally = try CardinalityTally(services.reader, selectors, range: start...end, context: context)
            var earlier: CardinalityTally?
            if let since = try parameters.prometheusTime("since") {
                earlier = try CardinalityTally(services.reader, selectors, range: (since - (end - start))...since, context: context)
            }
            let answer = CardinalityAnswer(tally: tally, earlier: earlier, limit: limit, tenant: context.tenant, services: services)
            return .success { writer in answer.write(start...end, &writer) }
        }
    }
}

/// The explorer's answer.
private struct CardinalityAnswer {
    let tally: CardinalityTally
    let earlier: CardinalityTally?
    let limit: Int
    let tenant: TenantID
    let services: Services

    func write(_ range: ClosedRange<Int64>, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("start")
        writer.seconds(millis: range.lowerBound)
        writer.key("end")
        writer.seconds(millis: range.upperBound)
        writer.member("series", int: tally.series)
        growth(tally.series, earlier?.series, &writer)
        // What counts may lack after more texts than are kept apart.
        writer.member("countsMissAtMost", int: max(tally.metrics.missedMax, tally.pairs.missedMax, tally.sources.missedMax))
        metrics(&writer)
        labels(&writer)
        pairs(&writer)
        sources(&writer)
        overflows(&writer)
        writer.endObject()
    }

    private func growth(_ now: Int, _ before: Int?, _ writer: inout JSONWriter) {
        if let before { writer.member("growth", int: now - before) }
    }

    private func rows<Row>(_ name: String, _ rows: [Row], _ writer: inout JSONWriter, _ body: (Row, inout JSONWriter) -> Void) {
        writer.key(name)
        writer.beginArray()
        for row in rows {
            writer.beginObject()
            body(row, &writer)
            writer.endObject()
        }
        writer.endArray()
    }

    private func metrics(_ writer: inout JSONWriter) {
        let ruled = namesInRules()
        rows("metrics", tally.metrics.top(limit), &writer) { row, writer in
            let name = String(decoding: row.text, as: UTF8.self)
            writer.member("name", name)
            writer.member("series", int: row.count)
            growth(row.count, earlier?.metrics.count(of: row.text), &writer)
            writer.key("lastQueried")
            if let millis = services.queried.lastMillis(name, tenant) { writer.seconds(millis: millis) } else { writer.null() }
            writer.member("inRules", bool: ruled.contains(name))
        }
    }

    /// Names that rules select by.
    private func namesInRules() -> Set<String> {
        var names: Set<String> = []
        for rule in services.rules.status().flatMap(\.rules) {
            guard let expression = try? services.promQL.parse(rule.definition.expression) else { continue }
            for matcher in expression.selectors.flatMap(\.matchers) where matcher.name == "__name__" && matcher.operation == .equal {
                names.insert(matcher.value)
            }
        }
        return names
    }

    private func labels(_ writer: inout JSONWriter) {
        rows("labels", tally.topLabels(limit, by: \.values.count), &writer) { row, writer in
            writer.member("name", row.name)
            writer.member("values", int: row.label.values.count)
            writer.member("isExact", bool: row.label.values.isExact)
            writer.member("series", int: row.label.series)
            if let earlier { growth(row.label.values.count, earlier.labels[Array(row.name.utf8)]?.values.count ?? 0, &writer) }
        }
    }

    private func pairs(_ writer: inout JSONWriter) {
        rows("pairs", tally.pairs.top(limit), &writer) { row, writer in
            let parts = row.text.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            writer.member("label", String(decoding: parts[0], as: UTF8.self))
            writer.member("value", parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : "")
            writer.member("series", int: row.count)
            growth(row.count, earlier?.pairs.count(of: row.text), &writer)
        }
    }

    private func sources(_ writer: inout JSONWriter) {
        rows("sources", tally.sources.top(limit), &writer) { row, writer in
            let labels = Labels(canonical: row.text)
            writer.member("job", labels["job"] ?? "")
            writer.member("instance", labels["instance"] ?? "")
            writer.member("series", int: row.count)
            growth(row.count, earlier?.sources.count(of: row.text), &writer)
        }
    }

    private func overflows(_ writer: inout JSONWriter) {
        rows("overflows", services.pipeline.cardinality.overflows(tenant), &writer) { row, writer in
            writer.member("metric", row.metric)
            writer.member("label", row.label)
            writer.member("values", int: row.values)
            writer.member("valuesMax", int: row.valuesMax)
            writer.member("foldedSamples", int: row.foldedSamples)
            writer.key("since")
            writer.seconds(millis: row.sinceMillis)
            writer.key("source")
            writer.labels(row.source)
        }
    }
}

extension JSONWriter {
    /// `"key":[{"name":…,"value":…},…]`
    fileprivate mutating func sizes(_ key: String, _ sizes: [(text: [UInt8], count: Int)]) {
        self.key(key)
        beginArray()
        for size in sizes {
            beginObject()
            member("name", String(decoding: size.text, as: UTF8.self))
            member("value", int: size.count)
            endObject()
        }
        endArray()
    }
}
