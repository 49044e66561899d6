internal import CCurl
internal import Glibc
package import ObsCore

/// A WebSocket from the client's side, for reading a live tail. libcurl connects (and does TLS), the handshake and the frames are ours. One thread at a time.
package final class WebSocketClient {
    private static let messageBytesMax = 64 << 20

    private let handle: CurlHandle
    private let request: HTTPClientRequest
    private var reader = WebSocketFrameReader(isMasked: false, payloadBytesMax: messageBytesMax)
    private var message: [UInt8] = []
    private var isOpen = true

    /// Connects and upgrades. The scheme may be `ws`, `wss`, `http` or `https`; headers, credentials and TLS options are used, the rest of the request is not.
    ///
    /// - Throws: `.unavailable` without a connection; when the server refuses the upgrade, the error its status stands for, with the answer's text.
    package static func connect(_ request: HTTPClientRequest) throws(ObsError) -> WebSocketClient {
        var request = request
        if request.url.hasPrefix("ws://") || request.url.hasPrefix("wss://") { request.url = "http" + request.url.dropFirst(2) }
        let client = try WebSocketClient(request)
        try client.upgrade()
        return client
    }

    private init(_ request: HTTPClientRequest) throws(ObsError) {
        self.request = request
        handle = try CurlHandle()
        handle.setUp(request)
        obs_curl_set_number(handle.curl, CURLOPT_CONNECT_ONLY, 1)
        obs_curl_set_number(handle.curl, CURLOPT_SSL_ENABLE_ALPN, 0)
        let code = curl_easy_perform(handle.curl)
        if code != CURLE_OK { throw curlError(code, words: "", request) }
    }

    /// The next message, text or binary; nil once the server has closed.
    ///
    /// - Throws: `.timeout` when none comes in time (the connection stays usable), `.unavailable` when the connection breaks.
    package func receive(timeoutMillis: Int? = nil) throws(ObsError) -> [UInt8]? {
        let deadline = timeoutMillis.map { SystemClock().monotonicNanos() + Int64($0) * nanosPerMilli }
        while isOpen {
            let frame: WebSocketFrame?
            do throws(WebSocketFrameReader.Violation) { frame = try reader.next() } catch {
                try? sendFrame(.close(error.code, error.reason))
                isOpen = false
                throw ObsError(.unavailable, "\(request.url): server broke the WebSocket protocol: \(error.reason)")
            }
            guard let frame else {
                try fill(deadline)
                continue
            }
            if let whole = try take(frame) { return whole }
        }
        return nil
    }

    package func send(text: [UInt8]) throws(ObsError) { try sendFrame(WebSocketFrame(opcode: .text, payload: text)) }

    /// Says good-bye; what the server still sends is not read.
    package func close() {
        guard isOpen else { return }
        isOpen = false
        try? sendFrame(.close(1000, ""))
    }

    /// A frame that completes a message gives it.
    private func take(_ frame: WebSocketFrame) throws(ObsError) -> [UInt8]? {
        switch frame.opcode {
        case .ping: try sendFrame(WebSocketFrame(opcode: .pong, payload: frame.payload))
        case .pong: break
        case .close:
            try? sendFrame(WebSocketFrame(opcode: .close, payload: Array(frame.payload.prefix(2))))
            isOpen = false
        case .text, .binary, .continuation:
            if frame.opcode != .continuation { message = [] }
            guard message.count + frame.payload.count <= Self.messageBytesMax else {
                isOpen = false
                throw ObsError(.tooLarge, "\(request.url): message is larger than \(Self.messageBytesMax) bytes")
            }
            message += frame.payload
            guard frame.isFinal else { break }
            defer { message = [] }
            return message
        }
        return nil
    }

    // MARK: The handshake

    private func upgrade() throws(ObsError) {
        let key = base64((0..<16).map { _ in UInt8.random(in: 0...255) })
        let url = request.url
        guard let colon = url.firstIndex(of: ":"), url[colon...].hasPrefix("://") else { throw ObsError(.badInput, "bad URL \(quoted(url))") }
        let rest = url[url.index(colon, offsetBy: 3)...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        var target = rest.dropFirst(authority.count)
        if !target.hasPrefix("/") { target = "/" + target }
        let host = authority.split(separator: "@").last ?? authority
        var head = "GET \(target) HTTP/1.1\r\nHost: \(host)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \(key)\r\n"
        if let (user, password) = request.basicAuth {
            head += "Authorization: Basic \(base64(Array("\(user):\(password)".utf8)))\r\n"
        } else if let bearer = request.bearer, isHeaderSafe(bearer) {
            head += "Authorization: Bearer \(bearer)\r\n"
        }
        for (name, value) in request.headers where isHeaderSafe(name) && isHeaderSafe(value) { head += "\(name): \(value)\r\n" }
        guard isHeaderSafe(String(target)), isHeaderSafe(String(host)), !target.contains(" ") else { throw ObsError(.badInput, "bad URL \(quoted(url))") }
        try write(Array((head + "\r\n").utf8))
        try readAnswer(key)
    }

    private func readAnswer(_ key: String) throws(ObsError) {
        let deadline = SystemClock().monotonicNanos() + Int64(request.connectTimeoutMillis) * nanosPerMilli
        var bytes: [UInt8] = []
        var end: Int?
        while end == nil {
            guard bytes.count < 64 << 10, let more = try read(deadline) else {
                throw ObsError(.unavailable, "\(request.url): no answer to the WebSocket upgrade")
            }
            bytes += more
            end = endOfHead(bytes)
        }
        let headEnd = end ?? bytes.count
        let lines = String(decoding: bytes[..<headEnd], as: UTF8.self).split(separator: "\r\n")
        let status = lines.first.flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) } ?? 0
        func header(_ name: String) -> String? {
            lines.dropFirst().first { $0.lowercased().hasPrefix(name + ":") }.map { $0.dropFirst(name.count + 1).trimmed }
        }
        guard status == 101 else {
            while bytes.count < headEnd + 4096, bytes.count < headEnd + (header("content-length").flatMap { Int($0) } ?? 0), let more = try read(deadline) {
                bytes += more
            }
            throw refusal(status, String(decoding: bytes[headEnd...], as: UTF8.self).prefix(500))
        }
        guard header("sec-websocket-accept") == webSocketAccept(key) else {
            throw ObsError(.unavailable, "\(request.url): answered 101 without proof of speaking WebSocket")
        }
        bytes.withUnsafeBytes { reader.append(UnsafeRawBufferPointer(rebasing: $0[headEnd...])) }
    }

    private func refusal(_ status: Int, _ text: Substring) -> ObsError {
        let code: ObsError.Code =
            switch status {
            case 401: .unauthenticated
            case 403: .forbidden
            case 404: .notFound
            case 429, 503: .overloaded
            case 400..<500: .badInput
            default: .unavailable
            }
        return ObsError(code, "\(request.url): HTTP \(status): \(text.split(whereSeparator: \.isNewline).joined(separator: " "))")
    }

    // MARK: Bytes

    private func sendFrame(_ frame: WebSocketFrame) throws(ObsError) { try write(frame.encoded(mask: UInt32.random(in: .min ... .max))) }

    private func write(_ bytes: [UInt8]) throws(ObsError) {
        var sent = 0
        while sent < bytes.count {
            var count = 0
            let code = bytes.withUnsafeBytes { curl_easy_send(handle.curl, $0.baseAddress.map { $0 + sent }, bytes.count - sent, &count) }
            if code == CURLE_AGAIN {
                _ = try wait(Int16(POLLOUT), SystemClock().monotonicNanos() + 10 * nanosPerSecond)
            } else if code != CURLE_OK {
                isOpen = false
                throw curlError(code, words: "", request)
            }
            sent += count
        }
    }

    private func fill(_ deadline: Int64?) throws(ObsError) {
        guard let bytes = try read(deadline) else {
            isOpen = false
            throw ObsError(.unavailable, "\(request.url): connection lost")
        }
        bytes.withUnsafeBytes { reader.append($0) }
    }

    /// Nil at the end of the connection.
    private func read(_ deadline: Int64?) throws(ObsError) -> [UInt8]? {
        while true {
            var count = 0
            var code = CURLE_OK
            let bytes = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, filled in
                code = curl_easy_recv(handle.curl, buffer.baseAddress, buffer.count, &count)
                filled = code == CURLE_OK ? count : 0
            }
            if code == CURLE_OK { return bytes.isEmpty ? nil : bytes }
            guard code == CURLE_AGAIN else {
                isOpen = false
                throw curlError(code, words: "", request)
            }
            guard try wait(Int16(POLLIN), deadline) else { throw ObsError(.timeout, "\(request.url): nothing came in time") }
        }
    }

    private func wait(_ events: Int16, _ deadline: Int64?) throws(ObsError) -> Bool {
        var query = pollfd(fd: obs_curl_active_socket(handle.curl), events: events, revents: 0)
        guard query.fd >= 0 else { throw ObsError(.unavailable, "\(request.url): connection lost") }
        guard let deadline else { return poll(&query, 1, -1) >= 0 }
        let left = max(0, deadline - SystemClock().monotonicNanos())
        return poll(&query, 1, Int32(clamping: (left + nanosPerMilli - 1) / nanosPerMilli)) != 0
    }
}

/// Where the body begins.
private func endOfHead(_ bytes: [UInt8]) -> Int? {
    guard bytes.count >= 4 else { return nil }
    for index in 3..<bytes.count where bytes[index] == 0x0a && bytes[index - 1] == 0x0d && bytes[index - 2] == 0x0a && bytes[index - 3] == 0x0d {
        return index + 1
    }
    return nil
}
