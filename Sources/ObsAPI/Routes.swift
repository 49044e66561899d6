package import ObsCore
package import ObsNet

/// One line of the table: what is served where, to whom, and how it answers errors.
struct Route {
    var methods: [String]
    var pattern: String
    var scope: Scope
    var shape: ErrorShape
    var handler: HTTPHandler

    init(_ methods: [String], _ pattern: String, _ scope: Scope, _ shape: ErrorShape, _ handler: @escaping HTTPHandler) {
        self.methods = methods
        self.pattern = pattern
        self.scope = scope
        self.shape = shape
        self.handler = handler
    }
}

private let get = ["GET"]
private let post = ["POST"]
private let getOrPost = ["GET", "POST"]

/// Everything obsd serves, in one place. Where two originals claim a path, contract auth.md §5 decides: the root belongs to Prometheus, Loki, Tempo and OTLP;
/// others live under a prefix.
package struct Routes: Sendable {
    private let services: Services
    /// How each POST path answers errors, for `admit`.
    private var postShapes: [String: ErrorShape] = [:]

    package init(_ services: Services) {
        self.services = services
        for route in all where route.methods.contains("POST") { postShapes[route.pattern] = route.shape }
    }

    /// The router of the main listener.
    package func main() -> Router { router(all) }

    private var all: [Route] { page + administration + prometheus + loki + tempo + jaeger + ingest + otlp }

    /// The router of the OTLP/HTTP listener (4318).
    package func otlpListener() -> Router { router(otlp + administration) }

    private var page: [Route] {
        let page = PageAPI()
        return [
            Route(get, "/", .open, .text, page.index),
            Route(get, "/ui/:file", .open, .text, page.asset),
        ]
    }

    private var administration: [Route] {
        let admin = AdminAPI(services: services)
        let deletion = DeletionAPI(services: services)
        return [
            Route(get, "/-/healthy", .open, .text, admin.healthy),
            Route(get, "/-/ready", .open, .text, admin.ready),
            Route(get, "/ready", .open, .text, admin.ready),
            Route(["POST", "PUT"], "/-/reload", .admin, .text, admin.reload),
            Route(["POST", "PUT"], "/-/flush", .admin, .text, admin.flush),
            Route(get, "/metrics", .query, .text, admin.metrics),
            Route(get, "/api/status", .query, .native, admin.status),
            Route(["POST", "PUT"], "/api/v1/admin/traces/delete", .admin, .prometheus, deletion.deleteSpans),
            Route(get, "/api/v1/admin/traces/delete", .admin, .prometheus, deletion.spanDeletions),
            Route(["DELETE"], "/api/v1/admin/traces/delete", .admin, .prometheus, deletion.cancelSpanDeletion),
        ]
    }

    private var prometheus: [Route] {
        let api = PrometheusAPI(services: services)
        let state = RuntimeStateAPI(services: services)
        let status = StatusAPI(services: services)
        let cardinality = CardinalityAPI(services: services)
        return [
            Route(getOrPost, "/api/v1/query", .query, .prometheus, api.query),
            Route(getOrPost, "/api/v1/query_range", .query, .prometheus, api.queryRange),
            Route(getOrPost, "/api/v1/query_exemplars", .query, .prometheus, api.queryExemplars),
            Route(getOrPost, "/api/v1/series", .query, .prometheus, api.series),
            Route(getOrPost, "/api/v1/labels", .query, .prometheus, api.labels),
            Route(get, "/api/v1/label/:name/values", .query, .prometheus, api.labelValues),
            Route(getOrPost, "/api/v1/format_query", .query, .prometheus, api.formatQuery),
            Route(getOrPost, "/api/v1/parse_query", .query, .prometheus, api.parseQuery),
            Route(get, "/api/v1/metadata", .query, .prometheus, state.metadata),
            Route(get, "/api/v1/status/buildinfo", .query, .prometheus, status.buildInfo),
            Route(get, "/api/v1/status/runtimeinfo", .query, .prometheus, status.runtimeInfo),
            Route(get, "/api/v1/status/walreplay", .query, .prometheus, status.walReplay),
            Route(get, "/api/v1/status/config", .admin, .prometheus, status.configuration),
            Route(get, "/api/v1/status/flags", .admin, .prometheus, status.flags),
            Route(get, "/api/v1/status/tsdb", .query, .prometheus, cardinality.headStatistics),
            Route(get, "/api/v1/cardinality", .query, .prometheus, cardinality.explore),
            Route(post, "/api/v1/read", .query, .text, RemoteReadAPI(services: services).read),
            Route(get, "/federate", .query, .text, FederationAPI(services: services).federate),
            Route(["POST", "PUT"], "/api/v1/admin/tsdb/delete_series", .admin, .prometheus, api.deleteSeries),
            Route(["POST", "PUT"], "/api/v1/admin/tsdb/snapshot", .admin, .prometheus, api.snapshot),
            Route(["POST", "PUT"], "/api/v1/admin/tsdb/clean_tombstones", .admin, .prometheus, api.cleanTombstones),
            Route(get, "/api/v1/targets", .query, .prometheus, state.targets),
            Route(get, "/api/v1/targets/metadata", .query, .prometheus, state.targetMetadata),
            Route(get, "/api/v1/targets/relabel_steps", .query, .prometheus, state.relabelSteps),
            Route(get, "/api/v1/alertmanagers", .query, .prometheus, state.alertmanagers),
            Route(get, "/api/v1/scrape_pools", .query, .prometheus, state.scrapePools),
            Route(get, "/api/v1/rules", .query, .prometheus, state.rules),
            Route(get, "/api/v1/alerts", .query, .prometheus, state.alerts),
        ]
    }

    private var loki: [Route] {
        let api = LokiAPI(services: services)
        let deletion = DeletionAPI(services: services)
        return [
            Route(getOrPost, "/loki/api/v1/query_range", .query, .loki, api.queryRange),
            Route(getOrPost, "/loki/api/v1/query", .query, .loki, api.query),
            Route(getOrPost, "/loki/api/v1/labels", .query, .loki, api.labels),
            Route(getOrPost, "/loki/api/v1/label", .query, .loki, api.labels),
            Route(getOrPost, "/loki/api/v1/label/:name/values", .query, .loki, api.labelValues),
            Route(getOrPost, "/loki/api/v1/series", .query, .loki, api.series),
            Route(getOrPost, "/loki/api/v1/format_query", .query, .loki, api.formatQuery),
            Route(get, "/loki/api/v1/status/buildinfo", .query, .loki, api.buildInfo),
            Route(get, "/loki/api/v1/tail", .query, .loki, TailAPI(services: services).tail),
            Route(["POST", "PUT"], "/loki/api/v1/delete", .admin, .loki, deletion.deleteLogs),
            Route(get, "/loki/api/v1/delete", .admin, .loki, deletion.logDeletions),
            Route(["DELETE"], "/loki/api/v1/delete", .admin, .loki, deletion.cancelLogDeletion),
        ]
    }

    private var tempo: [Route] { tempo(under: "") + tempo(under: "/tempo") }

    private func tempo(under prefix: String) -> [Route] {
        let api = TracesAPI(services: services)
        return [
            Route(get, "\(prefix)/api/echo", .open, .text, api.echo),
            Route(get, "\(prefix)/api/traces/:id", .query, .text, api.tempoTrace),
            Route(get, "\(prefix)/api/v2/traces/:id", .query, .text, api.tempoTraceV2),
            Route(get, "\(prefix)/api/search", .query, .text, api.tempoSearch),
            Route(get, "\(prefix)/api/search/tags", .query, .text, api.tempoTagNames),
            Route(get, "\(prefix)/api/search/tag/:tag/values", .query, .text, api.tempoTagValues),
            Route(get, "\(prefix)/api/v2/search/tags", .query, .text, api.tempoTagNamesV2),
            Route(get, "\(prefix)/api/v2/search/tag/:tag/values", .query, .text, api.tempoTagValuesV2),
            Route(get, "\(prefix)/api/status/buildinfo", .query, .text, api.buildInfo),
        ]
    }

    private var jaeger: [Route] {
        let api = TracesAPI(services: services)
        return [
            Route(get, "/jaeger/api/services", .query, .jaeger, api.jaegerServices),
            Route(get, "/jaeger/api/services/:service/operations", .query, .jaeger, api.jaegerOperationNames),
            Route(get, "/jaeger/api/operations", .query, .jaeger, api.jaegerOperations),
            Route(get, "/jaeger/api/traces", .query, .jaeger, api.jaegerSearch),
            Route(get, "/jaeger/api/traces/:id", .query, .jaeger, api.jaegerTrace),
        ]
    }

    private var ingest: [Route] {
        let api = IngestAPI(services: services)
        return [
            Route(post, "/api/v1/write", .ingest, .text, api.remoteWrite),
            Route(post, "/loki/api/v1/push", .ingest, .loki, api.lokiPush),
            Route(post, "/insert/jsonline", .ingest, .native, api.jsonLines),
        ]
    }

    /// Clients append `/v1/<signal>` to a base, so each habitual base is served.
    private var otlp: [Route] {
        let api = IngestAPI(services: services)
        let bases = ["", "/otlp", "/api/v1/otlp"]
        return bases.flatMap { base in Signal.allCases.map { Route(post, "\(base)/v1/\($0.rawValue)", .ingest, .otlp(json: false), api.otlp($0)) } }
    }

    private func router(_ routes: [Route]) -> Router {
        var router = Router()
        for route in routes { router.add(route.methods, route.pattern, guarded(route)) }
        return router
    }

    /// Lets a request through to its handler with its tenant, or answers 401 or 403 in the route's own shape.
    private func guarded(_ route: Route) -> HTTPHandler {
        let authenticator = services.authenticator
        return { request, responder in
            if route.scope == .open { return route.handler(request, responder) }
            do throws(ObsError) {
                let principal = try authenticator.principal(of: request)
                guard principal.may(route.scope) else {
                    throw ObsError(.forbidden, "token \(quoted(principal.name)) lacks the scope \(route.scope.rawValue)")
                }
                var request = request
                request.tenant = try authenticator.tenant(of: request, principal)
                route.handler(request, responder)
            } catch {
                responder.send(HTTPResponse(error, Self.shape(route.shape, of: request)))
            }
        }
    }

    /// OTLP answers in the request's encoding, also before it is decoded.
    private static func shape(_ shape: ErrorShape, of request: HTTPRequest) -> ErrorShape {
        if case .otlp = shape { return .otlp(of: request) }
        return shape
    }

    /// Of queries, which are many paths with one shape.
    private static func shape(under path: String) -> ErrorShape {
        for (prefix, shape) in [("/api/v1/", ErrorShape.prometheus), ("/loki/", .loki), ("/jaeger/", .jaeger)] where path.hasPrefix(prefix) { return shape }
        return .text
    }

    /// Asked when a request's head is there, before its body is read: a client without a valid credential cannot make us read one.
    package func admit(_ request: HTTPRequest) -> HTTPResponse? {
        if request.method != "POST" { return nil }
        do throws(ObsError) {
            _ = try services.authenticator.principal(of: request)
            return nil
        } catch {
            return refuse(request, error)
        }
    }

    /// The answer to a request that is refused before it reaches its handler, in its route's shape.
    package func refuse(_ request: HTTPRequest, _ error: ObsError) -> HTTPResponse {
        let path = "/" + request.path.split(separator: "/").joined(separator: "/")
        return HTTPResponse(error, Self.shape(postShapes[path] ?? Self.shape(under: path), of: request))
    }
}
