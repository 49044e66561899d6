internal import ObsCore
internal import ObsNet
internal import ObsWire
internal import ObsYAML

/// Where tokens come from: OAuth 2.0, client credentials (RFC 6749 §4.4).
struct OAuth2Settings: Sendable {
    var clientID = ""
    var clientSecret = HTTPClientSettings.Secret()
    var scopes: [String] = []
    var tokenURL = ""
    var parameters: [(name: String, value: String)] = []
    /// TLS and proxy on the way to the token's server.
    var connection = HTTPClientSettings()

    init(_ map: YAMLMapping, directory: String) throws(ObsError) {
        clientID = try map.required("client_id").string()
        clientSecret = try HTTPClientSettings.secret(map, "client_secret", "client_secret_file", directory) ?? HTTPClientSettings.Secret()
        scopes = try map.strings("scopes")
        tokenURL = try map.required("token_url").string()
        parameters = try map.stringPairs("endpoint_params")
        try connection.readConnection(map, directory)
        try map.finish()
    }
}

/// The token of one configuration: asked for when first needed, kept until shortly before it expires. Whoever needs it while it is asked for waits without a
/// thread, so that a slow token server holds up only its own job.
final class OAuth2Tokens: Sendable {
    struct Token: Sendable, Equatable {
        var type = "Bearer"
        var text = ""
        /// Monotonic; nil for ever.
        var expiresNanos: Int64?
    }

    typealias Completion = @Sendable (Result<Token, ObsError>) -> Void

    private struct State {
        var token: Token?
        var waiting: [Completion] = []
        /// Credentials go into a header, unless the server once refused that and took them in the body.
        var sendsInBody = false
    }

    private let settings: OAuth2Settings
    private let state = Monitor(State())

    /// A token this close to its end may be refused by the time it arrives.
    private static let earlyNanos = 10 * nanosPerSecond
    private static let timeoutMillis = 10_000

    init(_ settings: OAuth2Settings) { self.settings = settings }

    /// Gives the token to `completion`, at once or on the loop's thread.
    func token(_ loop: HTTPClientLoop, monotonicNanos now: Int64, completion: @escaping Completion) {
        let (known, asks, inBody) = state.read { state -> (Token?, Bool, Bool) in
            if let token = state.token, token.expiresNanos.map({ now < $0 - Self.earlyNanos }) ?? true { return (token, false, false) }
            state.waiting.append(completion)
            return (nil, state.waiting.count == 1, state.sendsInBody)
        }
        if let known { return completion(.success(known)) }
        if asks { ask(loop, now, inBody: inBody, mayRepeat: !inBody) }
    }

    /// Takes a token that was refused out of use.
    func forget(_ token: Token) { state.read { if $0.token == token { $0.token = nil } } }

    private func ask(_ loop: HTTPClientLoop, _ now: Int64, inBody: Bool, mayRepeat: Bool) {
        let request: HTTPClientRequest
        do throws(ObsError) { request = try self.request(inBody: inBody) } catch { return finish(.failure(error), inBody: inBody) }
        loop.submit(request) { [self] result in
            do throws(ObsError) {
                let answer = try result.get()
                if (400..<500).contains(answer.status), mayRepeat { return ask(loop, now, inBody: true, mayRepeat: false) }
                finish(.success(try Self.token(answer, now)), inBody: inBody)
            } catch {
                finish(.failure(ObsError(.unavailable, "no OAuth 2 token: \(error.message)")), inBody: inBody)
            }
        }
    }

    private func finish(_ result: Result<Token, ObsError>, inBody: Bool) {
        let waiting = state.read { state in
            if case .success(let token) = result {
                state.token = token
                state.sendsInBody = inBody
            }
            defer { state.waiting = [] }
            return state.waiting
        }
        for completion in waiting { completion(result) }
    }

    private func request(inBody: Bool) throws(ObsError) -> HTTPClientRequest {
        var request = try settings.connection.request(url: settings.tokenURL)
        request.method = "POST"
        request.timeoutMillis = Self.timeoutMillis
        request.responseBytesMax = 1 << 20
        request.headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        request.headers.append(("Accept", "application/json"))
        let secret = try settings.clientSecret.value()
        var form: [(name: String, value: String)] = [("grant_type", "client_credentials")]
        if !settings.scopes.isEmpty { form.append(("scope", settings.scopes.joined(separator: " "))) }
        form += settings.parameters
        if inBody {
            form += [("client_id", settings.clientID), ("client_secret", secret)]
        } else {
            request.basicAuth = (percentEncode(settings.clientID), percentEncode(secret))
        }
        request.body = Array(form.map { "\(percentEncode($0.name))=\(percentEncode($0.value))" }.joined(separator: "&").utf8)
        return request
    }

    private static func token(_ answer: HTTPClientResponse, _ now: Int64) throws(ObsError) -> Token {
        guard answer.status == 200 else { throw ObsError(.unavailable, "the token server answered HTTP status \(answer.status) \(answer.reason)") }
        let document = try JSONDocument.parse(answer.body).root
        guard let text = document["access_token"]?.string, !text.isEmpty else { throw ObsError(.badInput, "the token server's answer has no access_token") }
        var token = Token(text: text)
        // The scheme's name is written as the standard has it, however the server spells it.
        if let type = document["token_type"]?.string, type.lowercased() != "bearer", !type.isEmpty { token.type = type }
        if let seconds = document["expires_in"]?.double, seconds > 0 { token.expiresNanos = now + Int64(min(seconds, 1e9) * 1e9) }
        return token
    }
}
