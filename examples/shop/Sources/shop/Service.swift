import ObsSDK

/// One service: its routes, and what every request is observed by. Names are OpenTelemetry's semantic conventions for HTTP.
final class Service: Sendable {
    typealias Handler = @Sendable (Request) throws -> Response

    struct Route: Sendable {
        let method: String
        /// `/products/{sku}`: a piece in braces takes any text.
        let template: String
        let handler: Handler

        init(_ method: String, _ template: String, _ handler: @escaping Handler) {
            self.method = method
            self.template = template
            self.handler = handler
        }

        /// What stood in the braces; nil when the path is another's.
        func match(_ path: String) -> [String: String]? {
            let wanted = template.split(separator: "/")
            let given = path.split(separator: "/")
            guard wanted.count == given.count else { return nil }
            var parameters: [String: String] = [:]
            for (piece, text) in zip(wanted, given) {
                if piece.hasPrefix("{") { parameters[String(piece.dropFirst().dropLast())] = String(text) } else if piece != text { return nil }
            }
            return parameters
        }
    }

    private let obs: Obs
    private let log: ObsLogger
    private let routes: [Route]
    private let duration: ObsHistogram
    private let active: ObsUpDownCounter

    init(_ obs: Obs, _ routes: [Route]) {
        self.obs = obs
        self.routes = routes
        log = obs.logger("http")
        duration = obs.histogram("http.server.request.duration", unit: "s", help: "Duration of requests served.")
        active = obs.upDownCounter("http.server.active_requests", unit: "{request}", help: "Requests being served.")
    }

    /// Answers within a server span that continues the caller's trace.
    func answer(_ request: Request) -> Response {
        var request = request
        let method: ObsAttributes = ["http.request.method": .string(request.method)]
        guard let route = routes.first(where: { $0.method == request.method && $0.match(request.path) != nil }) else {
            log.warning("no such route", method.adding(["url.path": .string(request.path)]))
            return Response(Failure(404, "no such route"))
        }
        request.parameters = route.match(request.path) ?? [:]
        let caller = ObsSpanContext(traceparent: request.headers["traceparent"] ?? "", tracestate: request.headers["tracestate"] ?? "")
        active.add(1, method)
        defer { active.add(-1, method) }
        let start = ContinuousClock.now
        var attributes = method
        attributes["http.route"] = .string(route.template)
        let response = obs.span("\(request.method) \(route.template)", kind: .server, attributes, parent: caller) { span in
            span.set("url.path", .string(request.path))
            var response = respond(request, route, span)
            span.set("http.response.status_code", .int(response.status))
            response.headers.append(("X-Trace-Id", span.context.traceID))
            return response
        }
        attributes["http.response.status_code"] = .int(response.status)
        duration.record(ContinuousClock.now - start, attributes)
        return response
    }

    /// A failure of 500 and above is this service's error; one below is the caller's, and no error of the span.
    private func respond(_ request: Request, _ route: Route, _ span: ObsSpan) -> Response {
        do {
            return try route.handler(request)
        } catch {
            let failure = error as? Failure ?? Failure(500, "\(error)")
            let fields: ObsAttributes = ["http.route": .string(route.template), "http.response.status_code": .int(failure.status)]
            if failure.status >= 500 {
                span.recordError(failure)
                log.error("request failed", error: failure, fields)
            } else {
                log.warning("request refused", fields.adding(["reason": .string(failure.description)]))
            }
            return Response(failure)
        }
    }
}
