internal import Glibc
internal import ObsCore
internal import ObsNet
internal import ObsWire

/// obsd as the terminal sees it: HTTP only.
struct Server {
    let address: String
    private let headers: [(name: String, value: String)]
    private let timeoutMillis: Int
    private let insecure: Bool
    private let client = HTTPClient()

    init(_ arguments: Arguments) throws(ObsError) {
        var address = arguments["addr"] ?? Self.environment("OBSQ_ADDR") ?? "http://127.0.0.1:4319"
        if !address.contains("://") { address = "http://" + address }
        while address.hasSuffix("/") { address.removeLast() }
        self.address = address
        var headers: [(name: String, value: String)] = []
        if let token = arguments["token"] ?? Self.environment("OBSQ_TOKEN") { headers.append(("Authorization", "Bearer \(token)")) }
        if let tenant = arguments["tenant"] ?? Self.environment("OBSQ_TENANT") { headers.append(("X-Scope-OrgID", tenant)) }
        self.headers = headers
        insecure = arguments.has("insecure")
        let timeout = arguments["timeout"] ?? "2m"
        guard let millis = parseDurationMillis(timeout), millis > 0 else { throw ObsError(.badInput, "--timeout: \(quoted(timeout)) is no duration") }
        timeoutMillis = Int(millis)
    }

    /// An empty variable counts as unset.
    static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } }

    /// The JSON answer to a GET.
    /// - Throws: `.unavailable` when the server cannot be reached, `.badInput` with the server's words for a refused query.
    func get(_ path: String, _ parameters: [(String, String)] = []) throws(ObsError) -> JSONDocument {
        try JSONDocument.parse(try send(request(path, parameters)).body)
    }

    func post(_ path: String, _ parameters: [(String, String)] = [], contentType: String, body: [UInt8]) throws(ObsError) -> HTTPClientResponse {
        var request = request(path, parameters)
        request.method = "POST"
        request.headers.append(("Content-Type", contentType))
        request.body = body
        return try send(request)
    }

    func webSocket(_ path: String, _ parameters: [(String, String)]) throws(ObsError) -> WebSocketClient {
        do throws(ObsError) { return try WebSocketClient.connect(request(path, parameters)) } catch {
            guard error.code == .unavailable || error.code == .timeout else { throw error }
            throw unreachable(error)
        }
    }

    private func unreachable(_ error: ObsError) -> ObsError {
        ObsError(error.code == .timeout ? .timeout : .unavailable, "cannot reach obsd at \(address): \(error.message)")
    }

    private func request(_ path: String, _ parameters: [(String, String)]) -> HTTPClientRequest {
        let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
        var request = HTTPClientRequest(url: address + path + (query.isEmpty ? "" : "?" + query), headers: headers)
        request.timeoutMillis = timeoutMillis
        request.tls.insecureSkipVerify = insecure
        return request
    }

    private func send(_ request: HTTPClientRequest) throws(ObsError) -> HTTPClientResponse {
        let response: HTTPClientResponse
        do throws(ObsError) { response = try client.perform(request) } catch { throw unreachable(error) }
        guard (200..<300).contains(response.status) else { throw Self.error(of: response) }
        return response
    }

    /// The server's own words, whichever shape they come in.
    private static func error(of response: HTTPClientResponse) -> ObsError {
        var text = String(decoding: response.body, as: UTF8.self)
        if let document = try? JSONDocument.parse(response.body) {
            let jaeger = document.root["errors"]?[0]?["msg"]
            for value in [document.root["error"], document.root["message"], jaeger] {
                if let words = value?.string { text = words }
            }
        }
        while text.hasSuffix("\n") { text.removeLast() }
        if text.isEmpty { text = "HTTP status \(response.status)" }
        switch response.status {
        case 401: return ObsError(.unauthenticated, "\(text) (set OBSQ_TOKEN or --token)")
        case 403: return ObsError(.forbidden, text)
        case 404: return ObsError(.notFound, text)
        // The server is there and asks for time.
        case 429, 502...504: return ObsError(.overloaded, text)
        case 500...: return ObsError(.internalError, text)
        default: return ObsError(.badInput, text)
        }
    }
}
