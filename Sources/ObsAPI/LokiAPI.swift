internal import ObsCore
internal import ObsLogQL
internal import ObsNet
internal import ObsStore
internal import ObsWire

/// `/loki/api/v1` as Loki serves it (contract loki.md §2). Errors are plain text.
struct LokiAPI: Sendable {
    let services: Services

    func queryRange(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let text = try parameters.required("query")
            let (start, end) = try range(parameters, defaultNanos: 3600 * nanosPerSecond)
            let step = try parameters.goDuration("step")
            if let step, step <= 0 { throw ObsError(.badInput, "zero or negative query resolution step widths are not accepted. Try a positive integer") }
            let effective = step ?? max((end - start) / 250 / nanosPerSecond * nanosPerSecond, nanosPerSecond)
            if (end - start) / effective > Int64(services.limits.queryPointsMax) {
                throw ObsError(.badInput, "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter")
            }
            let interval = try parameters.goDuration("interval") ?? 0
            if interval < 0 { throw ObsError(.badInput, "interval must be >= 0") }
            let result = try services.logQL.range(
                text, startNanos: start, endNanos: end, stepNanos: effective, intervalNanos: interval, limit: try limit(parameters),
                direction: try direction(parameters), context: context)
            return try answer(result, request, context, timeNanos: end)
        }
    }

    func query(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let text = try parameters.required("query")
            let time = try parameters.lokiTime("time") ?? services.clock.nowNanos()
            let result = try services.logQL.instant(text, atNanos: time, limit: try limit(parameters), direction: try direction(parameters), context: context)
            return try answer(result, request, context, timeNanos: time)
        }
    }

    func labels(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let range = try closedRange(parameters)
            return strings(try services.reader.labelNames(.logs, try selectors(parameters), range: range, context: context))
        }
    }

    func labelValues(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let range = try closedRange(parameters)
            let name = request.pathParameters["name"] ?? ""
            return strings(try services.reader.labelValues(.logs, name, try selectors(parameters), range: range, context: context))
        }
    }

    func series(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            var selectors: [[LabelMatcher]] = []
            for text in parameters.all("match[]") + parameters.all("match") { selectors.append(try parseLogSelector(text)) }
            let sets = try services.reader.labelSets(.logs, selectors, range: try closedRange(parameters), context: context)
            return success { writer in
                writer.beginArray()
                for set in sets { writer.labels(set) }
                writer.endArray()
            }
        }
    }

    func formatQuery(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, _ throws(ObsError) in
            let text = try parameters.required("query")
            do throws(ObsError) {
                let expression = try parseLogQL(text)
                return success { $0.string("\(expression)") }
            } catch {
                var writer = JSONWriter()
                writer.beginObject()
                writer.member("status", "invalid-query")
                writer.member("error", error.description)
                writer.endObject()
                return .json(400, writer.bytes)
            }
        }
    }

    func buildInfo(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        var writer = JSONWriter()
        services.writeBuildInfo(&writer)
        responder.send(.json(200, writer.bytes))
    }

    // MARK: Parts

    private func run(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ body: @escaping @Sendable (Parameters, QueryContext) throws(ObsError) -> HTTPResponse
    ) {
        let parameters = request.parameters
        services.query(request, responder, .loki) { context throws(ObsError) in try body(parameters, context) }
    }

    private func range(_ parameters: Parameters, defaultNanos: Int64) throws(ObsError) -> (start: Int64, end: Int64) {
        let end = try parameters.lokiTime("end") ?? services.clock.nowNanos()
        let since = try parameters.goDuration("since") ?? defaultNanos
        let (before, overflows) = end.subtractingReportingOverflow(since)
        if overflows { throw parameters.invalid("since", "out of range") }
        let start = try parameters.lokiTime("start") ?? before
        if end <= start { throw ObsError(.badInput, "end timestamp must not be before or equal to start time") }
        return (start, end)
    }

    private func closedRange(_ parameters: Parameters) throws(ObsError) -> ClosedRange<Int64> {
        let (start, end) = try range(parameters, defaultNanos: 6 * 3600 * nanosPerSecond)
        return start...(end - 1)
    }

    private func limit(_ parameters: Parameters) throws(ObsError) -> Int {
        let limit = try parameters.int("limit") ?? 100
        if limit <= 0 { throw ObsError(.badInput, "limit must be a positive value") }
        if limit > services.limits.logEntriesMax {
            throw ObsError(.badInput, "max entries limit per query exceeded, limit > max_entries_limit_per_query (\(limit) > \(services.limits.logEntriesMax))")
        }
        return limit
    }

    private func direction(_ parameters: Parameters) throws(ObsError) -> LogSelection.Direction {
        switch (parameters["direction"] ?? "").lowercased() {
        case "", "backward": return .backward
        case "forward": return .forward
        case let other: throw ObsError(.badInput, "invalid direction \(quoted(other)), must be either forward or backward")
        }
    }

    private func selectors(_ parameters: Parameters) throws(ObsError) -> [[LabelMatcher]] {
        guard let text = parameters["query"], !text.isEmpty else { return [] }
        return [try parseLogSelector(text)]
    }

    private func strings(_ values: [String]) -> HTTPResponse {
        success { writer in
            writer.strings(values)
        }
    }

    private func success(_ data: (inout JSONWriter) -> Void) -> HTTPResponse {
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.member("status", "success")
        writer.key("data")
        data(&writer)
        writer.endObject()
        return .json(200, writer.bytes)
    }

    private func answer(_ result: LogQLResult, _ request: HTTPRequest, _ context: QueryContext, timeNanos: Int64) throws(ObsError) -> HTTPResponse {
        // About what a matrix takes as text; entries are few.
        if case .matrix(let series) = result { try context.charge(bytes: series.reduce(0) { $0 + $1.values.count * 64 }) }
        let categorize = request.header("x-loki-response-encoding-flags")?.contains("categorize-labels") ?? false
        return success { writer in
            writer.beginObject()
            switch result {
            case .streams(let streams):
                writer.member("resultType", "streams")
                if categorize { writeEncodingFlags(&writer) }
                writer.key("result")
                LogStreamEncoding(categorize: categorize).write(streams, &writer)
            case .matrix(let series):
                writer.member("resultType", "matrix")
                writer.key("result")
                writer.beginArray()
                for one in series { writer.series(one.labels, one.timesMillis, one.values) }
                writer.endArray()
            case .vector(let samples):
                writer.member("resultType", "vector")
                writer.key("result")
                writer.beginArray()
                for sample in samples { writer.sample(sample.labels, sample.timeMillis, sample.value) }
                writer.endArray()
            case .scalar(let value):
                writer.member("resultType", "scalar")
                writer.key("result")
                writer.point(floorDivide(timeNanos, nanosPerMilli), formatSampleValue(value))
            }
            writeStatistics(context, entries: result.entryCount, &writer)
            writer.endObject()
        }
    }

    /// The members clients show; the rest of Loki's statistics describe parts we do not have.
    private func writeStatistics(_ context: QueryContext, entries: Int, _ writer: inout JSONWriter) {
        let statistics = context.statistics
        let seconds = Double(context.elapsedNanos) / 1e9
        func perSecond(_ count: Int) -> Int64 { seconds > 0 ? Int64(exactly: (Double(count) / seconds).rounded()) ?? 0 : 0 }
        writer.key("stats")
        writer.beginObject()
        writer.key("summary")
        writer.beginObject()
        writer.member("bytesProcessedPerSecond", int: perSecond(statistics.bytesRead))
        writer.member("linesProcessedPerSecond", int: perSecond(statistics.rows))
        writer.member("totalBytesProcessed", int: statistics.bytesRead)
        writer.member("totalLinesProcessed", int: statistics.rows)
        writer.member("totalEntriesReturned", int: entries)
        writer.key("execTime")
        writer.double(seconds)
        writer.member("queueTime", int: 0)
        writer.endObject()
        writer.endObject()
    }
}

extension LogQLResult {
    /// Log lines, or series of a metric query.
    fileprivate var entryCount: Int {
        switch self {
        case .streams(let streams): streams.reduce(0) { $0 + $1.entries.count }
        case .matrix(let series): series.count
        case .vector(let samples): samples.count
        case .scalar: 1
        }
    }
}

private func writeEncodingFlags(_ writer: inout JSONWriter) {
    writer.key("encodingFlags")
    writer.beginArray()
    writer.string("categorize-labels")
    writer.endArray()
}

/// Loki's `streams` result: entries grouped by their full label set, or by stream labels only with the rest beside each line.
struct LogStreamEncoding {
    var categorize: Bool

    func write(_ streams: [LogStream], _ writer: inout JSONWriter) {
        writer.beginArray()
        for stream in categorize ? streams : mergeLabelGroups(streams) {
            writer.beginObject()
            writer.key("stream")
            writer.labels(stream.labels)
            writer.key("values")
            writer.beginArray()
            for entry in stream.entries { write(entry, &writer) }
            writer.endArray()
            writer.endObject()
        }
        writer.endArray()
    }

    private func write(_ entry: LogEntry, _ writer: inout JSONWriter) {
        writer.beginArray()
        writer.string(String(entry.timeNanos))
        entry.line.withUnsafeBytes { writer.string($0) }
        if categorize {
            writer.beginObject()
            for (name, labels) in [("structuredMetadata", entry.structuredMetadata), ("parsed", entry.parsed)] where !labels.isEmpty {
                writer.key(name)
                writer.labels(labels)
            }
            writer.endObject()
        }
        writer.endArray()
    }
}
