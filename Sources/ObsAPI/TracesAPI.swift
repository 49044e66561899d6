internal import ObsCore
internal import ObsNet
internal import ObsStore
internal import ObsTraceQL
internal import ObsWire

/// Traces as Tempo and Jaeger serve them (contract traces.md §1, §4). Tempo's errors are plain text.
struct TracesAPI: Sendable {
    let services: Services

    // MARK: Tempo

    func echo(_ request: HTTPRequest, _ responder: any HTTPResponder) { responder.send(.text(200, "echo")) }

    /// v1: `{"batches":[…]}` or a protobuf Trace; an unknown id is 404 with an empty body.
    func tempoTrace(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let protobuf = wantsProtobuf(request)
        services.query(request, responder, .text) { context throws(ObsError) in
            guard let trace = try services.traceQL.trace(try id(request), context: context) else { return HTTPResponse(status: 404) }
            let rows = Array(0..<trace.count)
            return protobuf ? protobufAnswer(TempoEncoding.traceProtobuf(trace, rows: rows)) : .json(200, TempoEncoding.traceJSON(trace, rows: rows))
        }
    }

    /// v2: `{"trace":{…},"metrics":{}}`; an unknown id is 200 with an empty trace.
    func tempoTraceV2(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let protobuf = wantsProtobuf(request)
        services.query(request, responder, .text) { context throws(ObsError) in
            let trace = try services.traceQL.trace(try id(request), context: context) ?? SpanBatch()
            let rows = Array(0..<trace.count)
            return protobuf ? protobufAnswer(TempoEncoding.traceByIDProtobuf(trace, rows: rows)) : .json(200, TempoEncoding.traceByIDJSON(trace, rows: rows))
        }
    }

    func tempoSearch(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.query(request, responder, .text) { context throws(ObsError) in
            let (start, end) = try tempoRange(parameters)
            let limit = try parameters.positiveCount("limit") ?? 20
            let found: [TraceSummary]
            if let query = parameters["q"], !query.isEmpty {
                found = try services.traceQL.search(
                    query, startNanos: start, endNanos: end, limit: limit, spansPerSet: try parameters.count("spss") ?? 3, context: context)
            } else {
                found = try services.traceQL.search(
                    tags: try logfmtTags(parameters["tags"] ?? ""), durationNanosMin: try parameters.goDuration("minDuration"),
                    durationNanosMax: try parameters.goDuration("maxDuration"), startNanos: start, endNanos: end, limit: limit, context: context)
            }
            return .json(200, searchBody(found, context.statistics))
        }
    }

    func tempoTagNames(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        tagNames(request, responder) { writer, scopes in
            writer.key("tagNames")
            writer.strings(Set(scopes.flatMap(\.names)).sorted())
        }
    }

    func tempoTagNamesV2(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        tagNames(request, responder) { writer, scopes in
            writer.key("scopes")
            writer.beginArray()
            for scope in scopes {
                writer.beginObject()
                writer.member("name", scope.scope.rawValue)
                writer.key("tags")
                writer.strings(scope.names)
                writer.endObject()
            }
            writer.endArray()
        }
    }

    func tempoTagValues(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        tagValues(request, responder) { writer, value in writer.string(value.text) }
    }

    func tempoTagValuesV2(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        tagValues(request, responder) { writer, value in
            writer.beginObject()
            writer.member("type", value.type)
            writer.member("value", value.text)
            writer.endObject()
        }
    }

    func buildInfo(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        var writer = JSONWriter()
        services.writeBuildInfo(&writer)
        responder.send(.json(200, writer.bytes))
    }

    // MARK: Jaeger

    func jaegerServices(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.query(request, responder, .jaeger) { context throws(ObsError) in
            let names = try services.traceQL.services(startNanos: .min, endNanos: .max, context: context)
            return jaeger(total: names.count) { writer in
                writer.strings(names)
            }
        }
    }

    func jaegerOperationNames(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.query(request, responder, .jaeger) { context throws(ObsError) in
            let service = request.pathParameters["service"] ?? ""
            let names = Set(try services.traceQL.operations(service: service, startNanos: .min, endNanos: .max, context: context).map(\.name)).sorted()
            return jaeger(total: names.count) { writer in
                writer.strings(names)
            }
        }
    }

    func jaegerOperations(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.query(request, responder, .jaeger) { context throws(ObsError) in
            let kind = parameters["spanKind"] ?? ""
            let found = try services.traceQL.operations(service: try parameters.required("service"), startNanos: .min, endNanos: .max, context: context)
                .filter { kind.isEmpty || SpanKind.word($0.kind) == kind }
            return jaeger(total: found.count) { writer in
                writer.beginArray()
                for operation in found {
                    writer.beginObject()
                    writer.member("name", operation.name)
                    writer.member("spanKind", SpanKind.word(operation.kind))
                    writer.endObject()
                }
                writer.endArray()
            }
        }
    }

    func jaegerTrace(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.query(request, responder, .jaeger) { context throws(ObsError) in
            guard let trace = try services.traceQL.trace(try id(request), context: context) else { throw ObsError(.notFound, "trace not found") }
            return jaeger(total: 0) { writer in
                writer.beginArray()
                JaegerEncoding.writeTrace(trace, rows: Array(0..<trace.count), to: &writer)
                writer.endArray()
            }
        }
    }

    func jaegerSearch(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.query(request, responder, .jaeger) { context throws(ObsError) in
            let ids = try jaegerTraceIDs(parameters, context)
            var traces: [SpanBatch] = []
            for id in ids {
                if let trace = try services.traceQL.trace(id, context: context) { traces.append(trace) }
            }
            return jaeger(total: 0) { writer in
                writer.beginArray()
                for trace in traces { JaegerEncoding.writeTrace(trace, rows: Array(0..<trace.count), to: &writer) }
                writer.endArray()
            }
        }
    }

    // MARK: Parts

    private func id(_ request: HTTPRequest) throws(ObsError) -> TraceID {
        let text = request.pathParameters["id"] ?? ""
        guard let id = TraceID(hex: text) else { throw ObsError(.badInput, "trace IDs can only contain hex characters: \(quoted(text))") }
        return id
    }

    private func wantsProtobuf(_ request: HTTPRequest) -> Bool { request.header("accept")?.contains("application/protobuf") ?? false }

    private func protobufAnswer(_ body: [UInt8]) -> HTTPResponse {
        HTTPResponse(status: 200, headers: [("Content-Type", "application/protobuf")], body: body)
    }

    /// Without a range a search looks at everything kept: spans of seconds ago must be found.
    private func tempoRange(_ parameters: Parameters) throws(ObsError) -> (start: Int64, end: Int64) {
        let start = try parameters.tempoTime("start") ?? .min
        let end = try parameters.tempoTime("end") ?? .max
        if end <= start { throw parameters.invalid("end", "must be after start") }
        return (start, end)
    }

    private func tagNames(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ write: @escaping @Sendable (inout JSONWriter, [(scope: TagScope, names: [String])]) -> Void
    ) {
        let parameters = request.parameters
        services.query(request, responder, .text) { context throws(ObsError) in
            var scope: TagScope?
            if let word = parameters["scope"], !word.isEmpty, word != "none" {
                guard let known = TagScope(rawValue: word) else { throw parameters.invalid("scope", "unknown scope \(quoted(word))") }
                scope = known
            }
            let (start, end) = try tempoRange(parameters)
            let scopes = try services.traceQL.tagNames(
                scope: scope, filter: parameters["q"], startNanos: start, endNanos: end, limit: try parameters.count("limit") ?? 5000, context: context)
            var writer = JSONWriter()
            writer.beginObject()
            write(&writer, scopes)
            writeMetrics(context.statistics, &writer)
            writer.endObject()
            return .json(200, writer.bytes)
        }
    }

    private func tagValues(_ request: HTTPRequest, _ responder: any HTTPResponder, _ write: @escaping @Sendable (inout JSONWriter, TagValue) -> Void) {
        let parameters = request.parameters
        services.query(request, responder, .text) { context throws(ObsError) in
            let (start, end) = try tempoRange(parameters)
            let values = try services.traceQL.tagValues(
                request.pathParameters["tag"] ?? "", filter: parameters["q"], startNanos: start, endNanos: end, limit: try parameters.count("limit") ?? 5000,
                context: context)
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("tagValues")
            writer.beginArray()
            for value in values { write(&writer, value) }
            writer.endArray()
            writeMetrics(context.statistics, &writer)
            writer.endObject()
            return .json(200, writer.bytes)
        }
    }

    private func writeMetrics(_ statistics: QueryContext.Statistics, _ writer: inout JSONWriter) {
        writer.key("metrics")
        writer.beginObject()
        if statistics.bytesRead > 0 { writer.member("inspectedBytes", String(statistics.bytesRead)) }
        writer.endObject()
    }

    private func searchBody(_ traces: [TraceSummary], _ statistics: QueryContext.Statistics) -> [UInt8] {
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.key("traces")
        writer.beginArray()
        for trace in traces { write(trace, &writer) }
        writer.endArray()
        writer.key("metrics")
        writer.beginObject()
        writer.member("inspectedTraces", int: traces.count)
        writer.member("inspectedBytes", String(statistics.bytesRead))
        writer.endObject()
        writer.endObject()
        return writer.bytes
    }

    private func write(_ trace: TraceSummary, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("traceID", trace.traceID.description)
        writer.member("rootServiceName", trace.rootServiceName)
        writer.member("rootTraceName", trace.rootTraceName)
        writer.member("startTimeUnixNano", String(trace.startNanos))
        writer.member("durationMs", int: trace.durationNanos / nanosPerMilli)
        if trace.matched > 0 {
            writer.key("spanSet")
            writeSpanSet(trace, &writer)
            writer.key("spanSets")
            writer.beginArray()
            writeSpanSet(trace, &writer)
            writer.endArray()
        }
        writer.key("serviceStats")
        writer.beginObject()
        for one in trace.serviceStats {
            writer.key(one.service)
            writer.beginObject()
            writer.member("spanCount", int: one.spanCount)
            if one.errorCount > 0 { writer.member("errorCount", int: one.errorCount) }
            writer.endObject()
        }
        writer.endObject()
        writer.endObject()
    }

    private func writeSpanSet(_ trace: TraceSummary, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("spans")
        writer.beginArray()
        for span in trace.spans {
            writer.beginObject()
            writer.member("spanID", hexString(span.spanID))
            writer.member("name", span.name)
            writer.member("startTimeUnixNano", String(span.startNanos))
            writer.member("durationNanos", String(span.durationNanos))
            TempoEncoding.writeAttributes(span.attributes, to: &writer)
            writer.endObject()
        }
        writer.endArray()
        writer.member("matched", int: trace.matched)
        writer.endObject()
    }

    private func jaeger(total: Int, _ data: (inout JSONWriter) -> Void) -> HTTPResponse {
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.key("data")
        data(&writer)
        writer.member("total", int: total)
        writer.member("limit", int: 0)
        writer.member("offset", int: 0)
        writer.key("errors")
        writer.null()
        writer.endObject()
        return .json(200, writer.bytes)
    }

    private func jaegerTraceIDs(_ parameters: Parameters, _ context: QueryContext) throws(ObsError) -> [TraceID] {
        var ids: [TraceID] = []
        for text in parameters.all("traceID") {
            guard let id = TraceID(hex: text) else { throw parameters.invalid("traceID", "\(quoted(text)) is no trace id") }
            ids.append(id)
        }
        if !ids.isEmpty { return ids }
        let service = try parameters.required("service")
        var conditions = ["resource.service.name=\(traceQLString(service))"]
        if let operation = parameters["operation"], !operation.isEmpty { conditions.append("name=\(traceQLString(operation))") }
        if let nanos = try parameters.goDuration("minDuration") { conditions.append("duration>=\(nanos)ns") }
        if let nanos = try parameters.goDuration("maxDuration") { conditions.append("duration<=\(nanos)ns") }
        let start = try parameters.jaegerTime("start") ?? .min
        let end = try parameters.jaegerTime("end").map { $0 + 1 } ?? .max
        let tags = try jaegerTags(parameters)
        let limit = try parameters.positiveCount("limit") ?? 20
        let found = try services.traceQL.search(
            "{ \(conditions.joined(separator: " && ")) }", startNanos: start, endNanos: end, limit: tags.isEmpty ? limit : .max / 4, spansPerSet: 1,
            context: context)
        if tags.isEmpty { return found.map(\.traceID) }
        // Jaeger's tags are texts that must match attributes of any type, so they are looked for as Tempo's tag search does, among the traces found.
        let tagged = Set(
            try services.traceQL.search(
                tags: tags + [("service.name", service)], durationNanosMin: nil, durationNanosMax: nil, startNanos: start, endNanos: end, limit: .max / 4,
                context: context
            ).map(\.traceID))
        return Array(found.map(\.traceID).filter(tagged.contains).prefix(limit))
    }

    private func jaegerTags(_ parameters: Parameters) throws(ObsError) -> [(key: String, value: String)] {
        var tags: [(key: String, value: String)] = []
        for text in parameters.all("tag") {
            guard let colon = text.firstIndex(of: ":") else { throw parameters.invalid("tag", "\(quoted(text)) is not key:value") }
            tags.append((String(text[..<colon]), String(text[text.index(after: colon)...])))
        }
        for text in parameters.all("tags") where !text.isEmpty {
            let document = try JSONDocument.parse(Array(text.utf8), nestingMax: 2)
            document.root.forEachMember { key, value in tags.append((String(decoding: key, as: UTF8.self), value.string ?? jsonText(value))) }
        }
        return tags
    }
}

private func jsonText(_ value: JSONValue) -> String {
    var bytes: [UInt8] = []
    value.appendJSON(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
}

/// A TraceQL string literal.
func traceQLString(_ text: String) -> String { "\"\(escapedForQuotes(text))\"" }

/// Tempo's `tags` parameter: logfmt pairs, values bare or quoted.
func logfmtTags(_ text: String) throws(ObsError) -> [(key: String, value: String)] {
    var result: [(key: String, value: String)] = []
    var rest = Substring(text)
    while true {
        rest = rest.drop { $0 == " " }
        if rest.isEmpty { return result }
        guard let equals = rest.firstIndex(of: "=") else { throw ObsError(.badInput, "invalid tags: \(quoted(rest)) is not key=value") }
        let key = String(rest[..<equals])
        rest = rest[rest.index(after: equals)...]
        var value = ""
        if rest.first == "\"" {
            rest.removeFirst()
            while let character = rest.popFirst(), character != "\"" { value.append(character == "\\" ? rest.popFirst() ?? "\\" : character) }
        } else {
            value = String(rest.prefix { $0 != " " })
            rest = rest.dropFirst(value.count)
        }
        result.append((key, value))
    }
}
