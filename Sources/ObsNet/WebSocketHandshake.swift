internal import ObsCore
internal import ObsHash

/// The key of a valid upgrade request (RFC 6455 §4.2.1); nil for any other request.
func webSocketKeyOf(_ request: HTTPRequest) -> String? {
    guard request.method == "GET", hasToken(request, "upgrade", "websocket"), hasToken(request, "connection", "upgrade"),
        request.header("sec-websocket-version") == "13", let key = request.header("sec-websocket-key"), decodeBase64(key.utf8)?.count == 16
    else { return nil }
    return key
}

/// What the server answers to a key: proof that it speaks the protocol.
func webSocketAccept(_ key: String) -> String {
    base64(Digest.sha1.hash((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
}

/// Whether a comma-separated header holds a token, case aside.
private func hasToken(_ request: HTTPRequest, _ header: String, _ token: String) -> Bool {
    request.headers.contains { name, value in
        name == header && value.split(separator: ",").contains { $0.trimmed.lowercased() == token }
    }
}
