internal import CCurl
internal import ObsCore

let isCurlReady: Bool = obs_curl_global() == CURLE_OK

/// One of libcurl's easy handles: a request at a time, connections kept in between.
final class CurlHandle: @unchecked Sendable {  // held by one caller at a time
    let curl: UnsafeMutableRawPointer
    private var lists: [UnsafeMutablePointer<curl_slist>] = []
    /// What the server is called where the URL says something else.
    private var hostHeader: String?
    private let words = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

    init() throws(ObsError) {
        guard isCurlReady, let curl = curl_easy_init() else { throw ObsError(.internalError, "libcurl cannot be initialised") }
        self.curl = curl
    }

    deinit {
        curl_easy_cleanup(curl)
        freeLists()
        words.deallocate()
    }

    func perform(_ request: HTTPClientRequest, _ transfer: CurlTransfer) throws(ObsError) -> HTTPClientResponse {
        defer { forget() }
        prepare(request, transfer)
        let code = request.body.withUnsafeBytes { body in
            if hasBody(request) {
                obs_curl_set_size(curl, CURLOPT_POSTFIELDSIZE_LARGE, Int64(body.count))
                obs_curl_set_pointer(curl, CURLOPT_POSTFIELDS, body.baseAddress ?? UnsafeRawPointer(words))
            }
            return curl_easy_perform(curl)
        }
        return try result(code, request, transfer)
    }

    /// Sets the handle up for a request that somebody else drives; `result` and `forget` end it. The transfer must live until then.
    func begin(_ request: HTTPClientRequest, _ transfer: CurlTransfer) {
        prepare(request, transfer)
        guard hasBody(request) else { return }
        request.body.withUnsafeBytes { body in
            obs_curl_set_size(curl, CURLOPT_POSTFIELDSIZE_LARGE, Int64(body.count))
            obs_curl_set_pointer(curl, CURLOPT_COPYPOSTFIELDS, body.baseAddress ?? UnsafeRawPointer(words))
        }
    }

    func result(_ code: CURLcode, _ request: HTTPClientRequest, _ transfer: CurlTransfer) throws(ObsError) -> HTTPClientResponse {
        let duration = SystemClock().monotonicNanos() - transfer.beganNanos
        try transfer.check(code, words: String(cString: words), request)
        var response = HTTPClientResponse(status: Int(obs_curl_status(curl)), headers: transfer.headers, body: transfer.body, durationNanos: duration)
        response.reason = transfer.reason
        return response
    }

    /// Forgets every option, the pointers among them, and keeps connections and TLS sessions.
    func forget() {
        curl_easy_reset(curl)
        freeLists()
    }

    private func prepare(_ request: HTTPClientRequest, _ transfer: CurlTransfer) {
        words.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        setUp(request)
        setMethod(request)
        obs_curl_set_pointer(curl, CURLOPT_ERRORBUFFER, words)
        let context = Unmanaged.passUnretained(transfer).toOpaque()
        obs_curl_set_bytes(curl, CURLOPT_WRITEFUNCTION, receiveBody)
        obs_curl_set_pointer(curl, CURLOPT_WRITEDATA, context)
        obs_curl_set_bytes(curl, CURLOPT_HEADERFUNCTION, receiveHeader)
        obs_curl_set_pointer(curl, CURLOPT_HEADERDATA, context)
        if transfer.isCancelled != nil {
            obs_curl_set_number(curl, CURLOPT_NOPROGRESS, 0)
            obs_curl_set_progress(curl, askCancelled)
            obs_curl_set_pointer(curl, CURLOPT_XFERINFODATA, context)
        }
        transfer.curl = curl
        transfer.beganNanos = SystemClock().monotonicNanos()
    }

    /// What requests and WebSockets have in common.
    func setUp(_ request: HTTPClientRequest) {
        obs_curl_set_text(curl, CURLOPT_URL, request.url)
        obs_curl_set_text(curl, CURLOPT_PROTOCOLS_STR, "http,https")
        obs_curl_set_text(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https")
        obs_curl_set_number(curl, CURLOPT_NOSIGNAL, 1)
        obs_curl_set_number(curl, CURLOPT_TCP_KEEPALIVE, 1)
        obs_curl_set_number(curl, CURLOPT_MAXCONNECTS, 4)
        obs_curl_set_number(curl, CURLOPT_TIMEOUT_MS, Int(request.timeoutMillis))
        obs_curl_set_number(curl, CURLOPT_CONNECTTIMEOUT_MS, Int(request.connectTimeoutMillis))
        if !request.http2 { obs_curl_set_number(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) }
        setProxy(request)
        setTLS(request)
    }

    private func setProxy(_ request: HTTPClientRequest) {
        if !request.proxyFromEnvironment { obs_curl_set_text(curl, CURLOPT_PROXY, request.proxyURL ?? "") }
        if let hosts = request.noProxy { obs_curl_set_text(curl, CURLOPT_NOPROXY, hosts) }
        let lines = request.proxyHeaders.filter { isHeaderSafe($0.name) && isHeaderSafe($0.value) }.map { "\($0.name): \($0.value)" }
        guard !lines.isEmpty else { return }
        obs_curl_set_number(curl, CURLOPT_HEADEROPT, Int(curlHeaderSeparate))
        obs_curl_set_list(curl, CURLOPT_PROXYHEADER, list(lines))
    }

    private func setTLS(_ request: HTTPClientRequest) {
        let tls = request.tls
        if let path = tls.caFile ?? tls.caPEM.flatMap(PEMFile.path) { obs_curl_set_text(curl, CURLOPT_CAINFO, path) }
        if let path = tls.certFile ?? tls.certPEM.flatMap(PEMFile.path) { obs_curl_set_text(curl, CURLOPT_SSLCERT, path) }
        if let path = tls.keyFile ?? tls.keyPEM.flatMap(PEMFile.path) { obs_curl_set_text(curl, CURLOPT_SSLKEY, path) }
        if tls.minVersion != nil || tls.maxVersion != nil {
            obs_curl_set_number(curl, CURLOPT_SSLVERSION, (tls.minVersion?.curlNumber ?? 0) | (tls.maxVersion?.curlNumber ?? 0) << 16)
        }
        if tls.insecureSkipVerify {
            obs_curl_set_number(curl, CURLOPT_SSL_VERIFYPEER, 0)
            obs_curl_set_number(curl, CURLOPT_SSL_VERIFYHOST, 0)
        }
        if let name = tls.serverName { setServerName(name, request) }
    }

    /// libcurl asks for, and verifies, the name in the URL: so the URL gets it, and a mapping leads to where the URL led.
    private func setServerName(_ name: String, _ request: HTTPClientRequest) {
        guard !name.isEmpty, request.url.hasPrefix("https://") else { return }
        let rest = request.url.dropFirst("https://".count)
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        let authority = rest[..<end]
        let at = authority.lastIndex(of: "@")
        let host = at.map { authority[authority.index(after: $0)...] } ?? authority
        let user = at.map { authority[...$0] } ?? ""
        let colon = host.last == "]" ? nil : host.lastIndex(of: ":")
        let port = colon.map { String(host[host.index(after: $0)...]) } ?? "443"
        let bare = colon.map { host[..<$0] } ?? host
        obs_curl_set_text(curl, CURLOPT_URL, "https://\(user)\(name):\(port)\(rest[end...])")
        obs_curl_set_list(curl, CURLOPT_CONNECT_TO, list(["\(name):\(port):\(bare):\(port)"]))
        hostHeader = String(host)
    }

    private func setMethod(_ request: HTTPClientRequest) {
        if request.followRedirects {
            obs_curl_set_number(curl, CURLOPT_FOLLOWLOCATION, 1)
            obs_curl_set_number(curl, CURLOPT_MAXREDIRS, 10)
        }
        if request.acceptGzip { obs_curl_set_text(curl, CURLOPT_ACCEPT_ENCODING, "gzip") }
        switch request.method {
        case "GET" where request.body.isEmpty: obs_curl_set_number(curl, CURLOPT_HTTPGET, 1)
        case "HEAD": obs_curl_set_number(curl, CURLOPT_NOBODY, 1)
        case "POST": obs_curl_set_number(curl, CURLOPT_POST, 1)
        default:
            if hasBody(request) { obs_curl_set_number(curl, CURLOPT_POST, 1) }
            obs_curl_set_text(curl, CURLOPT_CUSTOMREQUEST, request.method)
        }
        // libcurl's own credentials are not sent on to another host after a redirect.
        if let (user, password) = request.basicAuth {
            obs_curl_set_number(curl, CURLOPT_HTTPAUTH, Int(curlAuthBasic))
            obs_curl_set_text(curl, CURLOPT_USERNAME, user)
            obs_curl_set_text(curl, CURLOPT_PASSWORD, password)
        } else if let bearer = request.bearer {
            obs_curl_set_number(curl, CURLOPT_HTTPAUTH, Int(curlAuthBearer))
            obs_curl_set_text(curl, CURLOPT_XOAUTH2_BEARER, bearer)
        }
        // An empty value takes away what libcurl would send by itself: a form's content type, and a wait of a second for servers that ignore Expect.
        var lines = ["Expect:"]
        if request.header("content-type") == nil { lines.append("Content-Type:") }
        if request.header("user-agent") == nil { lines.append("User-Agent: obs") }
        if let hostHeader, request.header("host") == nil { lines.append("Host: \(hostHeader)") }
        for (name, value) in request.headers where isHeaderSafe(name) && isHeaderSafe(value) {
            lines.append(value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        setHeaders(lines)
    }

    private func setHeaders(_ lines: [String]) { obs_curl_set_list(curl, CURLOPT_HTTPHEADER, list(lines)) }

    /// A list that lives until the request is forgotten.
    private func list(_ lines: [String]) -> UnsafeMutablePointer<curl_slist>? {
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines { list = curl_slist_append(list, line) ?? list }
        if let list { lists.append(list) }
        return list
    }

    private func freeLists() {
        for list in lists { curl_slist_free_all(list) }
        lists = []
        hostHeader = nil
    }

    private func hasBody(_ request: HTTPClientRequest) -> Bool { request.method == "POST" || (request.method != "HEAD" && !request.body.isEmpty) }
}

extension TLSClientOptions.Version {
    fileprivate var curlNumber: Int {
        switch self {
        case .tls10: CURL_SSLVERSION_TLSv1_0
        case .tls11: CURL_SSLVERSION_TLSv1_1
        case .tls12: CURL_SSLVERSION_TLSv1_2
        case .tls13: CURL_SSLVERSION_TLSv1_3
        }
    }
}

// CURLAUTH_* are cast macros, which Swift does not see.
private let curlAuthBasic = 1
private let curlAuthBearer = 1 << 6
private let curlHeaderSeparate = 1

/// A line break in a header would begin another one.
func isHeaderSafe(_ text: String) -> Bool { !text.utf8.contains { $0 == 0x0a || $0 == 0x0d || $0 == 0 } }

extension HTTPClientRequest {
    /// First header of that name (give it lower-cased).
    func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }
}

/// What libcurl's callbacks fill while a request runs.
final class CurlTransfer {
    let bytesMax: Int
    let isCancelled: (@Sendable () -> Bool)?
    private var onHead: ((HTTPClientResponse) -> Void)?
    private var onBytes: ((UnsafeRawBufferPointer) -> Bool)?
    private var received = 0
    private var isTooLarge = false
    private var isEnded = false
    private var wasCancelled = false
    private var refusal: ObsError?
    var memory: MemoryReservation?
    var curl: UnsafeMutableRawPointer?
    var headers: [(name: String, value: String)] = []
    /// The words behind the status.
    var reason = ""
    var body: [UInt8] = []
    var beganNanos: Int64 = 0

    init(bytesMax: Int, isCancelled: (@Sendable () -> Bool)?, onHead: ((HTTPClientResponse) -> Void)?, onBytes: ((UnsafeRawBufferPointer) -> Bool)?) {
        self.bytesMax = bytesMax
        self.isCancelled = isCancelled
        self.onHead = onHead
        self.onBytes = onBytes
    }

    /// The closures are borrowed for the length of a call.
    func forgetBodies() {
        onHead = nil
        onBytes = nil
    }

    fileprivate func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        received &+= bytes.count
        if bytesMax > 0, received > bytesMax {
            isTooLarge = true
            return false
        }
        guard let onBytes else {
            // Twice: the buffer grows by doubling.
            do throws(ObsError) { try memory?.grow(bytes.count * 2) } catch {
                refusal = error
                return false
            }
            body.append(contentsOf: bytes)
            return true
        }
        announce()
        isEnded = !onBytes(bytes)
        return !isEnded
    }

    private func announce() {
        guard let onHead, let curl else { return }
        onHead(HTTPClientResponse(status: Int(obs_curl_status(curl)), headers: headers))
        self.onHead = nil
    }

    fileprivate func receive(headerLine line: Substring) {
        if line.hasPrefix("HTTP/") {
            // Another answer begins: after a redirect, a 100, a proxy's.
            headers = []
            reason = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: true).dropFirst(2).first?.trimmed ?? ""
        } else if let colon = line.firstIndex(of: ":") {
            headers.append((line[..<colon].lowercased(), line[line.index(after: colon)...].trimmed))
        }
    }

    fileprivate func askCancelled() -> Bool {
        if !wasCancelled { wasCancelled = isCancelled?() ?? false }
        return wasCancelled
    }

    /// Turns libcurl's result into ours.
    func check(_ code: CURLcode, words: String, _ request: HTTPClientRequest) throws(ObsError) {
        if code == CURLE_OK { return announce() }
        if isEnded { return }
        if let refusal { throw refusal }
        if isTooLarge { throw ObsError(.tooLarge, "answer of \(request.url) is larger than the limit of \(bytesMax) bytes") }
        if wasCancelled { throw ObsError(.cancelled, "request to \(request.url) was cancelled") }
        throw curlError(code, words: words, request)
    }
}

func curlError(_ code: CURLcode, words: String, _ request: HTTPClientRequest) -> ObsError {
    var words = words.isEmpty ? String(cString: curl_easy_strerror(code)) : words
    while let last = words.last, last.isNewline || last == "." { words.removeLast() }
    switch code {
    case CURLE_OPERATION_TIMEDOUT: return ObsError(.timeout, "\(request.url): \(words)")
    case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL: return ObsError(.badInput, "bad URL \(quoted(request.url)): \(words)")
    default: return ObsError(.unavailable, "\(request.url): \(words)")
    }
}

// libcurl's callbacks; `context` is the CurlTransfer, alive while its request runs.

private func receiveBody(bytes: UnsafeMutablePointer<CChar>?, size: Int, count: Int, context: UnsafeMutableRawPointer?) -> Int {
    guard let context else { return 0 }
    let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
    return transfer.receive(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
}

private func receiveHeader(bytes: UnsafeMutablePointer<CChar>?, size: Int, count: Int, context: UnsafeMutableRawPointer?) -> Int {
    guard let context else { return 0 }
    var line = Substring(String(decoding: UnsafeRawBufferPointer(start: bytes, count: size * count), as: UTF8.self))
    while let last = line.last, last.isNewline { line.removeLast() }
    Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().receive(headerLine: line)
    return size * count
}

private func askCancelled(context: UnsafeMutableRawPointer?, total: Int, now: Int, uploadTotal: Int, uploadNow: Int) -> Int32 {
    guard let context else { return 1 }
    return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().askCancelled() ? 1 : 0
}
