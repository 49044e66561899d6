/// A request as a service sees it. Arguments travel in the query: the shop has no bodies to parse.
struct Request: Sendable {
    var method: String
    var path: String
    var query: [String: String] = [:]
    /// Names in lower case.
    var headers: [String: String] = [:]
    /// What stood in the places of the route: `sku` of `/products/{sku}`.
    var parameters: [String: String] = [:]

    /// The argument of that name, from the path or the query.
    subscript(name: String) -> String? { parameters[name] ?? query[name] }
}

struct Response: Sendable {
    var status = 200
    var headers: [(name: String, value: String)] = []
    /// JSON.
    var body = "{}"

    /// The answer to a request that failed.
    init(_ failure: Failure) {
        self.init(status: failure.status, body: "{\"error\":\"\(failure.description.filter { $0 != "\"" && $0 != "\\" })\"}")
    }

    init(status: Int = 200, body: String = "{}") {
        self.status = status
        self.body = body
    }

    /// What the answer to a failed request says.
    var reason: String { body.hasPrefix("{\"error\":\"") ? String(body.dropFirst(10).dropLast(2)) : "status \(status)" }

    static let reasons = [
        200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 402: "Payment Required", 404: "Not Found", 409: "Conflict",
        500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    ]
}

/// What a handler throws: the status that is answered, and why.
struct Failure: Error, CustomStringConvertible {
    var status: Int
    var description: String

    init(_ status: Int, _ description: String) {
        self.status = status
        self.description = description
    }
}

/// The head of a message, read from its text: the first line's words and the headers.
struct MessageHead {
    var words: [String]
    var headers: [String: String] = [:]

    init(_ text: String) {
        let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
        words = (lines.first ?? "").split(separator: " ", maxSplits: 2).map(String.init)
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
    }

    var bodyBytes: Int { headers["content-length"].flatMap { Int($0) } ?? 0 }
}
