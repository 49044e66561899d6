internal import ObsCore
internal import ObsLogQL
internal import ObsNet
internal import ObsStore
internal import ObsTraceQL
internal import ObsWire

/// Deletion of log records as Loki has it, and of spans, for which nobody has an API: the shape of Prometheus' admin API.
struct DeletionAPI: Sendable {
    let services: Services

    // MARK: Loki's `/loki/api/v1/delete`

    func deleteLogs(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.operate(responder, .loki) { () throws(ObsError) in
            guard let query = parameters["query"], !query.isEmpty else { throw ObsError(.badInput, "query not set") }
            let matchers = try parseLogDeletion(query)
            guard let start = try time("start", parameters) else { throw ObsError(.badInput, "start time not set") }
            let now = services.clock.nowNanos()
            let end = try time("end", parameters) ?? now
            if end > now { throw ObsError(.badInput, "deletes in the future are not allowed") }
            if start > end { throw ObsError(.badInput, "start time can't be greater than end time") }
            try services.store.delete(request.tenant, .logs, [matchers], range: start...end)
            return HTTPResponse(status: 204)
        }
    }

    private func time(_ name: String, _ parameters: Parameters) throws(ObsError) -> Int64? {
        // Milliseconds or microseconds would pass for nanoseconds of 1970, and more would be deleted than is meant.
        let isWhole = parameters[name].map { Int64($0) != nil && (11..<19).contains($0.utf8.count) } ?? false
        if !isWhole, let time = try? parameters.lokiTime(name) { return time }
        if parameters[name]?.isEmpty ?? true { return nil }
        throw ObsError(.badInput, "invalid \(name) time: require unix seconds or RFC3339 format")
    }

    func logDeletions(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        var writer = JSONWriter()
        write(services.store.deletions(request.tenant, .logs), &writer)
        responder.send(.json(200, writer.bytes))
    }

    func cancelLogDeletion(_ request: HTTPRequest, _ responder: any HTTPResponder) { cancel(.logs, .loki, request, responder) }

    // MARK: Spans

    /// `match[]`: TraceQL's `{ resource.service.name = "x" && name =~ "y" }`; `trace_id`; `start` and `end` as Prometheus' API takes them.
    func deleteSpans(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.operate(responder, .prometheus) { () throws(ObsError) in
            var selectors: [[LabelMatcher]] = []
            for text in parameters.all("match[]") {
                do throws(ObsError) { selectors.append(try parseSpanSelector(text)) } catch { throw parameters.invalid("match[]", error.description) }
                if selectors.last?.isEmpty ?? true { throw parameters.invalid("match[]", "{} would delete every span") }
            }
            for text in parameters.all("trace_id") {
                guard let id = TraceID(hex: text) else { throw parameters.invalid("trace_id", "\(quoted(text)) is not 1 to 32 hexadecimal digits") }
                selectors.append([LabelMatcher(equal: "trace_id", id.description)])
            }
            if selectors.isEmpty { throw ObsError(.badInput, "no match[] or trace_id parameter provided") }
            let start = try parameters.prometheusTime("start")
            let end = try parameters.prometheusTime("end")
            if let start, let end, end < start { throw parameters.invalid("end", "end timestamp must not be before start time") }
            let first = nanos(start) ?? .min
            // The end is a millisecond, all of it.
            let last = (nanos(end) ?? .max).addingReportingOverflow(nanosPerMilli - 1)
            try services.store.delete(request.tenant, .traces, selectors, range: first...max(first, last.overflow ? .max : last.partialValue))
            return HTTPResponse(status: 204)
        }
    }

    private func nanos(_ millis: Int64?) -> Int64? {
        guard let millis else { return nil }
        let nanos = millis.multipliedReportingOverflow(by: nanosPerMilli)
        return nanos.overflow ? (millis < 0 ? .min : .max) : nanos.partialValue
    }

    func spanDeletions(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("status", "success")
        writer.key("data")
        write(services.store.deletions(request.tenant, .traces), &writer)
        writer.endObject()
        responder.send(.json(200, writer.bytes))
    }

    func cancelSpanDeletion(_ request: HTTPRequest, _ responder: any HTTPResponder) { cancel(.traces, .prometheus, request, responder) }

    // MARK: Parts

    private func cancel(_ signal: Signal, _ shape: ErrorShape, _ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        services.operate(responder, shape) { () throws(ObsError) in
            guard let id = parameters["request_id"], !id.isEmpty else { throw ObsError(.badInput, "request_id not set") }
            try services.store.cancelDeletion(request.tenant, signal, id: id, force: parameters["force"] == "true")
            return HTTPResponse(status: 204)
        }
    }

    private func write(_ deletions: [DeletionRequest], _ writer: inout JSONWriter) {
        writer.beginArray()
        for deletion in deletions {
            writer.beginObject()
            writer.member("request_id", deletion.id)
            for (name, nanos) in [("start_time", deletion.range.lowerBound), ("end_time", deletion.range.upperBound)] {
                writer.key(name)
                writer.seconds(millis: floorDivide(nanos, nanosPerMilli))
            }
            writer.member("query", deletion.queries.joined(separator: " or "))
            writer.member("status", deletion.isCompleted ? "processed" : "received")
            writer.key("created_at")
            writer.seconds(millis: floorDivide(deletion.createdNanos, nanosPerMilli))
            writer.endObject()
        }
        writer.endArray()
    }
}
