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
        run(request, responder) { parameters, context throws(ObsError) in
            let expression = try required("query", in: parameters)
            let time = try parameters.prometheusTime("time") ?? services.clock.nowMillis()
            let result = try locating {
                () throws(ObsError) in
                try services.promQL.instant(expression, atMillis: time, lookbackMillis: try parameters.prometheusDuration("lookback_delta"), context: context)
            }
            return try answer(result, limit: parameters.count("limit"), context, withStatistics: parameters["stats"] != nil)
        }
    }

    func queryRange(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let expression = try required("query", in: parameters)
            guard let start = try parameters.prometheusTime("start") else { throw parameters.invalid("start", "cannot parse \"\" to a valid timestamp") }
            guard let end = try parameters.prometheusTime("end") else { throw parameters.invalid("end", "cannot parse \"\" to a valid timestamp") }
            guard let step = try parameters.prometheusDuration("step") else { throw parameters.invalid("step", "cannot parse \"\" to a valid duration") }
            if end < start { throw parameters.invalid("end", "end timestamp must not be before start time") }
            if step <= 0 {
                throw parameters.invalid("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
            }
            if (end - start) / step > Int64(services.limits.queryPointsMax) {
                throw ObsError(
                    .badInput,
                    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
            }
            let result = try locating {
                () throws(ObsError) in
                try services.promQL.range(
                    expression, startMillis: start, endMillis: end, stepMillis: step, lookbackMillis: try parameters.prometheusDuration("lookback_delta"),
                    context: context)
            }
            return try answer(result, limit: parameters.count("limit"), context, withStatistics: parameters["stats"] != nil)
        }
    }

    func series(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let selectors = try selectors(parameters)
            if selectors.isEmpty { throw ObsError(.badInput, "no match[] parameter provided") }
            let sets = try services.reader.labelSets(.metrics, selectors, range: try range(parameters), limit: try limit(parameters), context: context)
            return try list(sets, parameters, context, bytes: { $0.bytes.count * 2 + 16 }) { $0.labels($1) }
        }
    }

    func labels(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let names = try services.reader.labelNames(
                .metrics, try selectors(parameters), range: try range(parameters), limit: try limit(parameters), context: context)
            return try list(names, parameters, context, bytes: { $0.utf8.count + 4 }) { $0.string($1) }
        }
    }

    func labelValues(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, context throws(ObsError) in
            let name = unescapedLabelName(request.pathParameters["name"] ?? "")
            if name.isEmpty { throw ObsError(.badInput, "invalid label name: \(quoted(name))") }
            let values = try services.reader.labelValues(
                .metrics, name, try selectors(parameters), range: try range(parameters), limit: try limit(parameters), context: context)
            return try list(values, parameters, context, bytes: { $0.utf8.count + 4 }) { $0.string($1) }
        }
    }

    func formatQuery(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, _ throws(ObsError) in
            let text = try required("query", in: parameters)
            let expression = try locating { () throws(ObsError) in try services.promQL.parse(text) }
            return success { $0.string("\(expression)") }
        }
    }

    func queryExemplars(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        run(request, responder) { parameters, _ throws(ObsError) in
            let text = try required("query", in: parameters)
            _ = try locating { () throws(ObsError) in try services.promQL.parse(text) }
            return success {
                $0.beginArray()
                $0.endArray()
            }
        }
    }

    func buildInfo(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        responder.send(success { services.writeBuildInfo(&$0) })
    }

    func configuration(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        responder.send(
            success {
                $0.beginObject()
                $0.member("yaml", services.lifecycle.configuration())
                $0.endObject()
            })
    }

    // MARK: Parts

    func deleteSeries(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.operate(responder, .prometheus) { () throws(ObsError) in
            let selectors = try selectors(parameters)
            if selectors.isEmpty { throw ObsError(.badInput, "no match[] parameter provided") }
            try services.store.delete(request.tenant, .metrics, selectors, range: try range(parameters))
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
            return success { writer in
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

    private func required(_ name: String, in parameters: Parameters) throws(ObsError) -> String {
        // Prometheus' words for an empty expression.
        guard let text = parameters[name], !text.isEmpty else { throw parameters.invalid(name, "unknown position: parse error: no expression found in input") }
        return text
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
            do throws(ObsError) {
                result.append(try parseSelector(text))
            } catch {
                throw parameters.invalid("match[]", error.description)
            }
        }
        return result
    }

    private func range(_ parameters: Parameters) throws(ObsError) -> ClosedRange<Int64> {
        let start = try parameters.prometheusTime("start") ?? -9_000_000_000_000_000
        let end = try parameters.prometheusTime("end") ?? 9_000_000_000_000_000
        if end < start { throw parameters.invalid("end", "end timestamp must not be before start time") }
        return start...end
    }

    /// How many items to ask the store for: one past what is answered, so that it shows whether there are more.
    private func limit(_ parameters: Parameters) throws(ObsError) -> Int {
        let limit = try parameters.count("limit") ?? 0
        return limit > 0 && limit < .max ? limit + 1 : .max
    }

    /// - Parameter bytes: about what an item takes as text.
    private func list<Item>(
        _ items: [Item], _ parameters: Parameters, _ context: QueryContext, bytes: (Item) -> Int, _ write: (inout JSONWriter, Item) -> Void
    ) throws(ObsError) -> HTTPResponse {
        let limit = try parameters.count("limit") ?? 0
        let truncated = limit > 0 && items.count > limit
        try context.charge(bytes: items.reduce(0) { $0 + bytes($1) })
        return success(warnings: truncated ? ["results truncated due to limit"] : []) { writer in
            writer.beginArray()
            for item in truncated ? items[..<limit] : items[...] { write(&writer, item) }
            writer.endArray()
        }
    }

    private func answer(_ result: PromQLResult, limit: Int?, _ context: QueryContext, withStatistics: Bool) throws(ObsError) -> HTTPResponse {
        var warnings = result.warnings
        var value = result.value
        if let limit, limit > 0 {
            switch value {
            case .vector(let samples) where samples.count > limit:
                value = .vector(Array(samples.prefix(limit)))
                warnings.append("results truncated due to limit")
            case .matrix(let series) where series.count > limit:
                value = .matrix(Array(series.prefix(limit)))
                warnings.append("results truncated due to limit")
            default: break
            }
        }
        try context.charge(bytes: textBytes(of: value))
        return success(warnings: warnings, infos: result.infos) { writer in
            writer.beginObject()
            writePromQLValue(value, &writer)
            if withStatistics {
                writer.key("stats")
                writer.beginObject()
                writer.key("samples")
                writer.beginObject()
                writer.member("totalQueryableSamples", int: context.statistics.samples)
                writer.member("peakSamples", int: context.statistics.samples)
                writer.endObject()
                writer.endObject()
            }
            writer.endObject()
        }
    }

    func success(warnings: [String] = [], infos: [String] = [], _ data: (inout JSONWriter) -> Void) -> HTTPResponse {
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.member("status", "success")
        writer.key("data")
        data(&writer)
        for (name, texts) in [("warnings", warnings), ("infos", infos)] where !texts.isEmpty {
            writer.key(name)
            writer.strings(texts.prefix(10))
        }
        writer.endObject()
        return .json(200, writer.bytes)
    }
}

/// About how much memory a value takes as text, with the room its buffer grows by.
private func textBytes(of value: PromQLValue) -> Int {
    switch value {
    case .scalar, .string: 0
    case .vector(let samples): samples.reduce(0) { $0 + $1.labels.bytes.count * 2 + 128 + ($1.histogram?.bucketCount ?? 0) * 64 }
    case .matrix(let series):
        series.reduce(0) { $0 + $1.labels.bytes.count * 2 + $1.values.count * 64 + ($1.histograms.map { $0.buckets.count + $0.count * 2 } ?? 0) * 64 }
    }
}

/// `"resultType":…,"result":…` of a value.
func writePromQLValue(_ value: PromQLValue, _ writer: inout JSONWriter) {
    switch value {
    case .scalar(let time, let number):
        writer.member("resultType", "scalar")
        writer.key("result")
        writer.point(time, formatSampleValue(number))
    case .string(let time, let text):
        writer.member("resultType", "string")
        writer.key("result")
        writer.point(time, text)
    case .vector(let samples):
        writer.member("resultType", "vector")
        writer.key("result")
        writer.beginArray()
        for sample in samples { writer.sample(sample) }
        writer.endArray()
    case .matrix(let series):
        writer.member("resultType", "matrix")
        writer.key("result")
        writer.beginArray()
        for one in series { writer.series(one) }
        writer.endArray()
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

extension Services {
    func writeBuildInfo(_ writer: inout JSONWriter) {
        writer.beginObject()
        // A recent Prometheus version, so that clients use today's API; ours follows it.
        writer.member("version", "3.5.0+obs\(build.version)")
        writer.member("revision", build.revision)
        for name in ["branch", "buildUser", "buildDate"] { writer.member(name, "") }
        writer.member("goVersion", "")
        writer.endObject()
    }
}
