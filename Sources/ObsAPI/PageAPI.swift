internal import CDashboards
internal import ObsNet

/// The web page: plain files embedded in the binary (dashboards/).
struct PageAPI: Sendable {
    private static let types = [
        ("index.html", "text/html; charset=utf-8"), ("app.js", "text/javascript; charset=utf-8"), ("style.css", "text/css; charset=utf-8"),
    ]

    func index(_ request: HTTPRequest, _ responder: any HTTPResponder) { serve("index.html", responder) }

    func asset(_ request: HTTPRequest, _ responder: any HTTPResponder) { serve(request.pathParameters["file"] ?? "", responder) }

    private func serve(_ name: String, _ responder: any HTTPResponder) {
        guard let type = Self.types.first(where: { $0.0 == name })?.1, let bytes = Self.bytes(name) else {
            return responder.send(.text(404, "404 page not found\n"))
        }
        // What is embedded changes with the binary only, but a newer binary must show at once.
        responder.send(
            HTTPResponse(status: 200, headers: [("Content-Type", type), ("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")], body: bytes))
    }

    private static func bytes(_ name: String) -> [UInt8]? {
        var count = 0
        guard let start = obs_dashboard_file(name, &count) else { return nil }
        return Array(UnsafeRawBufferPointer(start: start, count: count))
    }
}
