internal import ObsCore
internal import ObsIngest
internal import ObsNet
internal import ObsPromQL
internal import ObsRules
internal import ObsStore
internal import ObsWire

/// `/api/v1` as Prometheus serves it (contract prometheus.md §3).
struct PrometheusAPI: Sendable {
    let services: Services

    func query(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            let limit = try limitParameter(parameters)
            let time = try optionalTime("time", in: parameters) ?? services.clock.nowMillis()
            let lookback = try lookback(parameters)
            let expression = try expression(parameters)
            let lookBack = lookback ?? services.promQL.lookbackMillis
            let windows = expression.windows(startMillis: time, endMillis: time, stepMillis: 0, lookbackMillis: lookBack)
            if try explained(windows, parameters, context, answer) { return }
            services.queried.note(expression, context.tenant, atMillis: services.clock.nowMillis())
            let queuedNanos = context.elapsedNanos
            let result = try locating {
                () throws(ObsError) in try services.promQL.instant(expression, atMillis: time, lookbackMillis: lookback, context: context)
            }
            try write(result, windows, limit, parameters, queuedNanos, context, answer)
        }
    }

    func queryRange(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            let limit = try limitParameter(parameters)
            guard let start = try parameters.prometheusTime("start") else { throw parameters.invalid("start", "cannot parse \"\" to a valid timestamp") }
            guard let end = try parameters.prometheusTime("end") else { throw parameters.invalid("end", "cannot parse \"\" to a valid timestamp") }
            if end < start { throw parameters.invalid("end", "end timestamp must not be before start time") }
            guard let step = try parameters.prometheusDuration("step") else { throw parameters.invalid("step", "cannot parse \"\" to a valid duration") }
            if step <= 0 {
                throw parameters.invalid("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
            }
            if (end - start) / step > Int64(services.limits.queryPointsMax) {
                throw ObsError(
                    .badInput,
                    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
            }
            let lookback = try lookback(parameters)
            let expression = try expression(parameters)
            let lookBack = lookback ?? services.promQL.lookbackMillis
            let windows = expression.windows(startMillis: start, endMillis: end, stepMillis: step, lookbackMillis: lookBack)
            if try explained(windows, parameters, context, answer) { return }
            services.queried.note(expression, context.tenant, atMillis: services.clock.nowMillis())
            let queuedNanos = context.elapsedNanos
            let result = try locating {
                () throws(ObsError) in
                try services.promQL.range(
                    expression, startMillis: start, endMillis: end, stepMillis: step, lookbackMillis: lookback, context: context)
            }
            try write(result, windows, limit, parameters, queuedNanos, context, answer)
        }
    }

    /// Answers `explain=1`: what the query would look at. False when it is to be run.
    private func explained(
        _ windows: [SelectorWindow], _ parameters: Parameters, _ context: QueryContext, _ answer: AnswerStream
    ) throws(ObsError) -> Bool {
        guard ["1", "true"].contains(parameters["explain"]) else { return false }
        let explanation = try QueryExplanation(windows, services.reader, context)
        answer.beginSuccess()
        explanation.write(&answer.json)
        try answer.endSuccess()
        return true
    }

    func series(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            if parameters.all("match[]").isEmpty { throw ObsError(.badInput, "no match[] parameter provided") }
            let limit = try limitParameter(parameters)
            guard let range = try range(parameters) else { return try list([Labels](), limit, answer) { $0.labels($1) } }
            let selectors = try namedSelectors(parameters)
            let sets = try services.reader.labelSets(.metrics, selectors, range: range, limit: past(limit), context: context)
            try list(sets, limit, answer) { $0.labels($1) }
        }
    }

    func labels(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            let limit = try limitParameter(parameters)
            let range = try range(parameters)
            let selectors = try selectors(parameters)
            guard let range else { return try list([String](), limit, answer) { $0.string($1) } }
            let names = try services.reader.labelNames(.metrics, selectors, range: range, limit: past(limit), context: context)
            try list(names, limit, answer) { $0.string($1) }
        }
    }

    func labelValues(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            let name = unescapedLabelName(request.pathParameters["name"] ?? "")
            if name.isEmpty { throw ObsError(.badInput, "invalid label name: \(quoted(name))") }
            let limit = try limitParameter(parameters)
            let range = try range(parameters)
            let selectors = try selectors(parameters)
            guard let range else { return try list([String](), limit, answer) { $0.string($1) } }
            let values = try services.reader.labelValues(.metrics, name, selectors, range: range, limit: past(limit), context: context)
            try list(values, limit, answer) { $0.string($1) }
        }
    }

    func formatQuery(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, _ throws(ObsError) in
            let expression = try expression(parameters)
            return .success { $0.string(expression.formatted) }
        }
    }

    func parseQuery(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, _ throws(ObsError) in
            let expression = try expression(parameters)
            return .success { $0.expression(expression) }
        }
    }

    func queryExemplars(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        stream(request, responder) { parameters, context, answer throws(ObsError) in
            let start = try optionalTime("start", in: parameters) ?? -9_000_000_000_000_000
            let end = try optionalTime("end", in: parameters) ?? 9_000_000_000_000_000
            if end < start { throw ObsError(.badInput, "end timestamp must not be before start timestamp") }
            let selectors = try expression(parameters).selectors.map(\.matchers)
            let found = selectors.isEmpty ? [] : try services.reader.exemplars(selectors, range: start...end, context: context)
            try list(found, 0, answer) { $0.exemplars($1) }
        }
    }

    // MARK: Parts

    func deleteSeries(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.operate(responder, .prometheus) { () throws(ObsError) in
            let selectors = try namedSelectors(parameters)
            if selectors.isEmpty { throw ObsError(.badInput, "no match[] parameter provided") }
            guard let range = try range(parameters) else { throw parameters.invalid("end", "end timestamp must not be before start time") }
            try services.store.delete(request.tenant, .metrics, selectors, range: range)
            return HTTPResponse(status: 204)
        }
    }

    func cleanTombstones(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.operate(responder, .prometheus) { () throws(ObsError) in
            try services.store.cleanTombstones()
            return HTTPResponse(status: 204)
        }
    }

    func snapshot(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.operate(responder, .prometheus) { () throws(ObsError) in
            let name = try services.store.snapshot()
            return .success { writer in
                writer.beginObject()
                writer.member("name", name)
                writer.endObject()
            }
        }
    }

    private func run(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ body: @escaping @Sendable (Parameters, QueryContext) throws(ObsError) -> HTTPResponse
    ) {
        let parameters = request.parameters
        do throws(ObsError) {
            let timeout = try parameters.prometheusDuration("timeout")
            services.query(request, responder, .prometheus, timeoutMillis: timeout) { context throws(ObsError) in try body(parameters, context) }
        } catch {
            responder.send(HTTPResponse(error, .prometheus))
        }
    }

    /// The same for an answer that may be large.
    private func stream(
        _ request: HTTPRequest, _ responder: any HTTPResponder,
        _ body: @escaping @Sendable (Parameters, QueryContext, AnswerStream) throws(ObsError) -> Void
    ) {
        let parameters = request.parameters
        do throws(ObsError) {
            let timeout = try parameters.prometheusDuration("timeout")
            services.stream(request, responder, .prometheus, timeoutMillis: timeout) { context, answer throws(ObsError) in
                try body(parameters, context, answer)
            }
        } catch {
            responder.send(HTTPResponse(error, .prometheus))
        }
    }

    private func expression(_ parameters: Parameters) throws(ObsError) -> Expression {
        // Prometheus' words for an empty expression.
        guard let text = parameters["query"], !text.isEmpty else {
            throw parameters.invalid("query", "unknown position: parse error: no expression found in input")
        }
        return try locating { () throws(ObsError) in try services.promQL.parse(text) }
    }

    /// Prometheus prefixes what is wrong with an expression by the parameter it came in.
    private func locating<R>(_ body: () throws(ObsError) -> R) throws(ObsError) -> R {
        do throws(ObsError) { return try body() } catch {
            guard error.code == .badInput, !error.message.hasPrefix("invalid parameter") else { throw error }
            throw ObsError(.badInput, "invalid parameter \"query\": \(error.description)")
        }
    }

    private func selectors(_ parameters: Parameters) throws(ObsError) -> [[LabelMatcher]] {
        var result: [[LabelMatcher]] = []
        for text in parameters.all("match[]") {
            do throws(ObsError) { result.append(try parseSelector(text)) } catch {
                // What is wrong with an expression is to Prometheus something else here.
                guard error.description.hasSuffix("vector selector must contain at least one non-empty matcher") else { throw error }
                throw ObsError(.badInput, "match[] must contain at least one non-empty matcher")
            }
        }
        return result
    }

    /// The same where errors name their parameter.
    private func namedSelectors(_ parameters: Parameters) throws(ObsError) -> [[LabelMatcher]] {
        do throws(ObsError) { return try selectors(parameters) } catch { throw parameters.invalid("match[]", error.description) }
    }

    /// Nil when the end comes before the start: then there is nothing.
    private func range(_ parameters: Parameters) throws(ObsError) -> ClosedRange<Int64>? {
        let start = try optionalTime("start", in: parameters) ?? -9_000_000_000_000_000
        let end = try optionalTime("end", in: parameters) ?? 9_000_000_000_000_000
        return start <= end ? start...end : nil
    }

    /// A time that may be left out, for which Prometheus has a wording of its own.
    private func optionalTime(_ name: String, in parameters: Parameters) throws(ObsError) -> Int64? {
        do throws(ObsError) { return try parameters.prometheusTime(name) } catch {
            throw parameters.invalid(name, "invalid time value for '\(name)': cannot parse \(quoted(parameters[name] ?? "")) to a valid timestamp")
        }
    }

    private func lookback(_ parameters: Parameters) throws(ObsError) -> Int64? {
        do throws(ObsError) { return try parameters.prometheusDuration("lookback_delta") } catch {
            throw ObsError(
                .badInput, "error parsing lookback delta duration: cannot parse \(quoted(parameters["lookback_delta"] ?? "")) to a valid duration")
        }
    }

    /// 0: all.
    private func limitParameter(_ parameters: Parameters) throws(ObsError) -> Int {
        if let text = parameters["limit"], !text.isEmpty, Int(text) == nil {
            throw parameters.invalid("limit", "strconv.Atoi: parsing \(quoted(text)): invalid syntax")
        }
        return try parameters.count("limit") ?? 0
    }

    /// How many items to ask the store for: one past what is answered, so that it shows whether there are more.
    private func past(_ limit: Int) -> Int { limit > 0 ? limit + 1 : .max }

    // MARK: Answers

    private func list<Item>(_ items: [Item], _ limit: Int, _ answer: AnswerStream, _ write: (inout JSONWriter, Item) -> Void) throws(ObsError) {
        let isTruncated = limit > 0 && items.count > limit
        answer.beginSuccess()
        answer.json.beginArray()
        for item in isTruncated ? items[..<limit] : items[...] {
            write(&answer.json, item)
            try answer.flushIfLarge()
        }
        answer.json.endArray()
        try answer.endSuccess(warnings: isTruncated ? [Self.truncated] : [])
    }

    private static let truncated = "results truncated due to limit"

    private func write(
        _ result: PromQLResult, _ windows: [SelectorWindow], _ limit: Int, _ parameters: Parameters, _ queuedNanos: Int64, _ context: QueryContext,
        _ answer: AnswerStream
    ) throws(ObsError) {
        var warnings = result.warnings
        var value = result.value
        if limit > 0 {
            switch value {
            case .vector(let samples) where samples.count > limit:
                value = .vector(Array(samples.prefix(limit)))
                warnings.append(Self.truncated)
            case .matrix(let series) where series.count > limit:
                value = .matrix(Array(series.prefix(limit)))
                warnings.append(Self.truncated)
            default: break
            }
        }
        let statistics = parameters["stats"] ?? ""
        if !["", "true", "all"].contains(statistics) {
            warnings.append(
                "value \(quoted(statistics)) for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"")
        }
        let evaluatedNanos = context.elapsedNanos
        answer.beginSuccess()
        answer.json.beginObject()
        try answer.value(value)
        if !statistics.isEmpty { answer.json.statistics(context.statistics, queuedNanos: queuedNanos, evaluatedNanos: evaluatedNanos) }
        answer.json.endObject()
        var infos = result.infos
        if isEmpty(value) {
            let empty = EmptyAnswer(
                reader: services.reader, context: context, nowMillis: services.clock.nowMillis(),
                retentionMillis: services.lifecycle.runtime().retentionMillis)
            infos += empty.reasons(windows)
        }
        try answer.endSuccess(warnings: warnings, infos: infos)
    }

    private func isEmpty(_ value: PromQLValue) -> Bool {
        switch value {
        case .scalar, .string: false
        case .vector(let samples): samples.isEmpty
        case .matrix(let series): series.isEmpty
        }
    }
}

/// Undoes the `U__` escaping of label names in paths: `_2e_` is `.`, `__` is `_`. Other names are returned as they are.
func unescapedLabelName(_ name: String) -> String {
    guard name.hasPrefix("U__") else { return name }
    var result = String.UnicodeScalarView()
    var rest = name.unicodeScalars.dropFirst(3)
    while let scalar = rest.popFirst() {
        guard scalar == "_" else {
            result.append(scalar)
            continue
        }
        if rest.first == "_" {
            rest.removeFirst()
            result.append("_")
            continue
        }
        guard let end = rest.firstIndex(of: "_"), let code = UInt32(String(rest[..<end]), radix: 16), let decoded = Unicode.Scalar(code) else { return name }
        result.append(decoded)
        rest = rest[rest.index(after: end)...]
    }
    return String(result)
}
