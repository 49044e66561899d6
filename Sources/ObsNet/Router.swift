// Routes: which handler answers which method and path.
//
// Patterns are segments: literal, `:name` (one segment), `*name` (the rest, last only). Literal segments win over `:name`, `:name` over `*name`, so that the order
// in which routes are added does not matter. Matching is done on the path as sent, each segment decoded by itself: an encoded slash stays within its segment.
internal import ObsCore

package struct Router: Sendable {
    private struct Route: Sendable {
        var handlers: [String: HTTPHandler] = [:]
        /// Of the `:name` and `*name` segments, in order. Two patterns of the same shape share one route, and the first one's names.
        var names: [String]
    }

    private final class Node: Sendable {
        let literals: [String: Node]
        let parameter: Node?
        let rest: Route?
        let route: Route?

        init(literals: [String: Node] = [:], parameter: Node? = nil, rest: Route? = nil, route: Route? = nil) {
            self.literals = literals
            self.parameter = parameter
            self.rest = rest
            self.route = route
        }
    }

    private var root = Node()

    package init() {}

    /// Adds a route. A `GET` route answers `HEAD` too. A later route of the same method and shape replaces an earlier one.
    package mutating func add(_ methods: [String], _ pattern: String, _ handler: @escaping HTTPHandler) {
        let segments = pattern.split(separator: "/").map(String.init)
        let names = segments.filter { $0.hasPrefix(":") || $0.hasPrefix("*") }.map { String($0.dropFirst()) }
        root = Self.adding(root, segments[...]) { route in
            var route = route ?? Route(names: names)
            for method in methods { route.handlers[method] = handler }
            return route
        }
    }

    private static func adding(_ node: Node?, _ segments: ArraySlice<String>, _ change: (Route?) -> Route) -> Node {
        let node = node ?? Node()
        guard let first = segments.first else {
            return Node(literals: node.literals, parameter: node.parameter, rest: node.rest, route: change(node.route))
        }
        if first.hasPrefix("*") {
            precondition(segments.count == 1, "BUG: \(first) must be the last segment of its pattern")
            return Node(literals: node.literals, parameter: node.parameter, rest: change(node.rest), route: node.route)
        }
        if first.hasPrefix(":") {
            return Node(
                literals: node.literals, parameter: adding(node.parameter, segments.dropFirst(), change), rest: node.rest, route: node.route)
        }
        var literals = node.literals
        literals[first] = adding(literals[first], segments.dropFirst(), change)
        return Node(literals: literals, parameter: node.parameter, rest: node.rest, route: node.route)
    }

    /// Every method and path that is answered, for a listing.
    package var patterns: [(methods: [String], pattern: String)] {
        var found: [(methods: [String], pattern: String)] = []
        func visit(_ node: Node, _ prefix: String, _ names: Int) {
            if let route = node.route { found.append((route.handlers.keys.sorted(), prefix.isEmpty ? "/" : named(prefix, route.names))) }
            if let route = node.rest { found.append((route.handlers.keys.sorted(), named(prefix + "/*", route.names))) }
            for (literal, next) in node.literals.sorted(by: { $0.key < $1.key }) { visit(next, prefix + "/" + literal, names) }
            if let next = node.parameter { visit(next, prefix + "/:", names + 1) }
        }
        visit(root, "", 0)
        return found
    }

    private func named(_ pattern: String, _ names: [String]) -> String {
        var next = 0
        return pattern.split(separator: "/").map { segment in
            guard segment == ":" || segment == "*", next < names.count else { return "/" + segment }
            defer { next += 1 }
            return "/" + segment + names[next]
        }.joined()
    }

    /// Calls the handler of a request's route, with `pathParameters` filled; answers 404, 405 and OPTIONS itself.
    package func dispatch(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let segments = request.rawPath.utf8.split(separator: UInt8(ascii: "/")).map { percentDecode($0) }
        var values: [String] = []
        guard let route = Self.find(root, segments[...], &values, method: request.method) else {
            responder.send(.text(404, "404 page not found\n"))
            return
        }
        guard let handler = route.handlers[request.method] ?? (request.method == "HEAD" ? route.handlers["GET"] : nil) else {
            responder.send(Self.withoutHandler(request, route))
            return
        }
        guard !route.names.isEmpty else { return handler(request, responder) }
        var filled = request
        filled.pathParameters = Dictionary(zip(route.names, values)) { _, last in last }
        handler(filled, responder)
    }

    /// The best route for the segments; one that has the method is preferred over a more literal one that has not.
    private static func find(_ node: Node, _ segments: ArraySlice<String>, _ values: inout [String], method: String) -> Route? {
        var fallback: (route: Route, values: [String])?
        let mark = values.count
        func consider(_ route: Route?) -> Route? {
            guard let route else { return nil }
            if route.handlers[method] != nil || method == "HEAD" && route.handlers["GET"] != nil { return route }
            if fallback == nil { fallback = (route, values) }
            return nil
        }
        if let first = segments.first {
            if let next = node.literals[first], let route = consider(find(next, segments.dropFirst(), &values, method: method)) { return route }
            values.removeSubrange(mark...)
            if let next = node.parameter {
                values.append(first)
                if let route = consider(find(next, segments.dropFirst(), &values, method: method)) { return route }
                values.removeSubrange(mark...)
            }
        } else if let route = consider(node.route) {
            return route
        }
        values.append(segments.joined(separator: "/"))
        if let route = consider(node.rest) { return route }
        values = fallback?.values ?? Array(values.prefix(mark))
        return fallback?.route
    }

    private static func withoutHandler(_ request: HTTPRequest, _ route: Route) -> HTTPResponse {
        var methods = Set(route.handlers.keys).union(["OPTIONS"])
        if methods.contains("GET") { methods.insert("HEAD") }
        let allowed = methods.sorted().joined(separator: ", ")
        guard request.method == "OPTIONS" else {
            var response = HTTPResponse.text(405, "method \(request.method) is not allowed here, use \(allowed)\n")
            response.headers.append(("Allow", allowed))
            return response
        }
        return HTTPResponse(
            status: 204,
            headers: [
                ("Allow", allowed), ("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", allowed),
                ("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Content-Encoding, Origin, X-Scope-OrgID"),
                ("Access-Control-Expose-Headers", "Date"), ("Access-Control-Max-Age", "86400"),
            ])
    }
}
