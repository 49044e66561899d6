internal import ObsCore
internal import ObsNet
internal import ObsYAML

/// How to reach another server and who to say one is: Prometheus' HTTP client settings, which scrape jobs, discoveries and remote writes have in common.
struct HTTPClientSettings: Sendable {
    /// A word that stands in the configuration or in a file; files are read each time, so that secrets can be rotated.
    struct Secret: Sendable {
        var text = ""
        var file: String?

        func value() throws(ObsError) -> String {
            guard let file else { return text }
            var text = String(decoding: try ConfigurationFile.read(file, bytesMax: 1 << 20), as: UTF8.self)
            while let last = text.unicodeScalars.last, last.properties.isWhitespace { text.unicodeScalars.removeLast() }
            return text
        }
    }

    var user: Secret?
    var password = Secret()
    /// `Bearer` unless configured.
    var authorizationType = "Bearer"
    var credentials: Secret?
    /// Whose token is the credentials; shared by all copies, so that one token serves all targets of a job.
    var oauth2: OAuth2Tokens?
    var followRedirects = true
    var http2 = true
    var proxyURL: String?
    var noProxy: String?
    var proxyFromEnvironment = false
    var proxyHeaders: [(name: String, value: Secret)] = []
    var tls = TLSClientOptions()
    var headers: [(name: String, value: Secret)] = []

    /// A request with all of it but OAuth 2, see `send`.
    /// - Throws: `.badInput` when a file cannot be read.
    func request(url: String) throws(ObsError) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: url)
        for header in headers { request.headers.append((header.name, try header.value.value())) }
        request.followRedirects = followRedirects
        request.http2 = http2
        request.proxyURL = proxyURL
        request.noProxy = noProxy
        request.proxyFromEnvironment = proxyFromEnvironment
        for header in proxyHeaders { request.proxyHeaders.append((header.name, try header.value.value())) }
        request.tls = tls
        if let user { request.basicAuth = (try user.value(), try password.value()) }
        if let credentials { request.headers.append(("Authorization", "\(authorizationType) \(try credentials.value())")) }
        return request
    }

    /// Sends a request of these settings, after having got a token where one is needed. `completion` runs on the loop's thread, or at once on this one.
    func send(_ request: HTTPClientRequest, _ loop: HTTPClientLoop, clock: any Clock, completion: @escaping HTTPClientLoop.Completion) {
        guard let oauth2 else { return loop.submit(request, completion: completion) }
        oauth2.token(loop, monotonicNanos: clock.monotonicNanos()) { result in
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let token):
                var request = request
                request.headers.append(("Authorization", "\(token.type) \(token.text)"))
                loop.submit(request) { result in
                    // A server that takes a token no more says so: the next request gets a new one.
                    if case .success(let answer) = result, answer.status == 401 { oauth2.forget(token) }
                    completion(result)
                }
            }
        }
    }
}

// MARK: - Configuration

extension HTTPClientSettings {
    /// Reads the settings out of a mapping that has others as well.
    /// - Parameter directory: of the configuration file, for relative paths.
    init(_ map: YAMLMapping, directory: String, http2 http2Default: Bool = true) throws(ObsError) {
        try readCredentials(map, directory)
        followRedirects = try map.bool("follow_redirects", default: true)
        http2 = try map.bool("enable_http2", default: http2Default)
        try readConnection(map, directory)
        if let headers = try map.mapping("http_headers") { self.headers = try Self.headers(headers, directory) }
    }

    private mutating func readCredentials(_ map: YAMLMapping, _ directory: String) throws(ObsError) {
        var given: [String] = []
        if let basic = try map.mapping("basic_auth") {
            given.append("basic_auth")
            user = try Self.secret(basic, "username", "username_file", directory) ?? Secret()
            password = try Self.secret(basic, "password", "password_file", directory) ?? Secret()
            try basic.finish()
        }
        if let authorization = try map.mapping("authorization") {
            given.append("authorization")
            authorizationType = try authorization.string("type", default: "Bearer")
            if authorizationType.lowercased() == "basic", let node = authorization.optional("type") { throw node.error("use basic_auth for type \"basic\"") }
            credentials = try Self.secret(authorization, "credentials", "credentials_file", directory)
            try authorization.finish()
        }
        if let bearer = try Self.secret(map, "bearer_token", "bearer_token_file", directory) {
            given.append("bearer_token")
            credentials = bearer
        }
        if let settings = try map.mapping("oauth2") {
            given.append("oauth2")
            oauth2 = OAuth2Tokens(try OAuth2Settings(settings, directory: directory))
        }
        if given.count > 1, let node = map.optional(given[1]) { throw node.error("at most one of \(given.joined(separator: ", ")) can be configured") }
    }

    /// TLS and proxy, which a token's server has, too.
    mutating func readConnection(_ map: YAMLMapping, _ directory: String) throws(ObsError) {
        proxyURL = try map.optional("proxy_url")?.string()
        noProxy = try map.optional("no_proxy")?.string()
        proxyFromEnvironment = try map.bool("proxy_from_environment", default: false)
        if proxyFromEnvironment, proxyURL != nil || noProxy != nil, let node = map.optional("proxy_from_environment") {
            throw node.error("cannot be combined with proxy_url and no_proxy")
        }
        if let headers = try map.mapping("proxy_connect_header") {
            for name in headers.keys { for value in try headers.strings(name) { proxyHeaders.append((name, Secret(text: value))) } }
        }
        if let tls = try map.mapping("tls_config") { self.tls = try TLSClientOptions(tls, directory: directory) }
    }

    private static func headers(_ map: YAMLMapping, _ directory: String) throws(ObsError) -> [(name: String, value: Secret)] {
        var result: [(name: String, value: Secret)] = []
        for name in map.keys {
            guard let header = try map.mapping(name) else { continue }
            for value in try header.strings("values") + header.strings("secrets") { result.append((name, Secret(text: value))) }
            for file in try header.strings("files") { result.append((name, Secret(file: ConfigurationFile.resolve(file, in: directory)))) }
            try header.finish()
        }
        return result
    }

    /// What `text` says or the file `file` names; an error when both do.
    static func secret(_ map: YAMLMapping, _ text: String, _ file: String, _ directory: String) throws(ObsError) -> Secret? {
        let path = try map.optional(file)?.string()
        guard let node = map.optional(text) else { return path.map { Secret(file: ConfigurationFile.resolve($0, in: directory)) } }
        if path != nil { throw node.error("at most one of \(text) and \(file) can be configured") }
        return Secret(text: try node.string())
    }
}

extension TLSClientOptions {
    init(_ map: YAMLMapping, directory: String) throws(ObsError) {
        self.init()
        func place(_ name: String, _ text: inout String?, _ file: inout String?) throws(ObsError) {
            let secret = try HTTPClientSettings.secret(map, name, name + "_file", directory)
            file = secret?.file
            text = secret?.file == nil ? secret?.text : nil
        }
        try place("ca", &caPEM, &caFile)
        try place("cert", &certPEM, &certFile)
        try place("key", &keyPEM, &keyFile)
        let hasCertificate = certPEM != nil || certFile != nil
        guard hasCertificate == (keyPEM != nil || keyFile != nil) else { throw map.node.error("a client certificate (cert) and its key belong together") }
        serverName = try map.optional("server_name")?.string()
        insecureSkipVerify = try map.bool("insecure_skip_verify", default: false)
        minVersion = try Self.version(map, "min_version")
        maxVersion = try Self.version(map, "max_version")
        try map.finish()
    }

    private static func version(_ map: YAMLMapping, _ key: String) throws(ObsError) -> Version? {
        guard let node = map.optional(key) else { return nil }
        switch try node.string() {
        case "TLS10": return .tls10
        case "TLS11": return .tls11
        case "TLS12": return .tls12
        case "TLS13": return .tls13
        case let other: throw node.error("unknown TLS version \(quoted(other)); known are TLS10, TLS11, TLS12, TLS13")
        }
    }
}
