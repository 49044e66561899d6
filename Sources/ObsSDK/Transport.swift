internal import Glibc

/// What a receiver said to a request.
enum Delivery: Sendable, Equatable {
    case accepted
    /// Try again, not before so many seconds.
    case retry(afterSeconds: Double)
    /// It will never be taken.
    case refused
}

/// Posts a body to an `http://` URL over one kept connection. Used by the exporter's thread alone.
///
/// Plain sockets, so that a service that uses the SDK needs no package and no 50 MB of Foundation. Where TLS is wanted, a local collector or proxy speaks it.
final class Transport {
    private struct Endpoint: Equatable {
        var host: String
        var port: String
        var path: String
    }

    private var connection: Int32 = -1
    private var connectedTo: Endpoint?
    private let timeoutMillis: Int

    init(timeoutMillis: Int) { self.timeoutMillis = timeoutMillis }

    deinit { disconnect() }

    func post(_ body: [UInt8], to url: String, headers: [(name: String, value: String)]) -> Delivery {
        guard let endpoint = Self.endpoint(of: url) else { return .refused }
        // A kept connection may have been closed by the other side: then once more on a fresh one.
        for attempt in 0..<2 {
            let fresh = connect(endpoint)
            guard connection >= 0 else { return .retry(afterSeconds: 0) }
            if let delivery = exchange(body, endpoint, headers) { return delivery }
            disconnect()
            if fresh || attempt == 1 { break }
        }
        return .retry(afterSeconds: 0)
    }

    static func isSupported(_ url: String) -> Bool { endpoint(of: url) != nil }

    private static func endpoint(of url: String) -> Endpoint? {
        guard url.hasPrefix("http://") else { return nil }
        let rest = url.dropFirst(7)
        let slash = rest.firstIndex(of: "/")
        let authority = slash.map { rest[..<$0] } ?? rest
        let path = slash.map { String(rest[$0...]) } ?? "/"
        var host = authority
        var port = Substring("80")
        if let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        return host.isEmpty ? nil : Endpoint(host: String(host), port: String(port), path: path)
    }

    /// True when a new connection had to be made.
    private func connect(_ endpoint: Endpoint) -> Bool {
        if connection >= 0, connectedTo?.host == endpoint.host, connectedTo?.port == endpoint.port { return false }
        disconnect()
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(endpoint.host, endpoint.port, &hints, &list) == 0 else { return true }
        defer { freeaddrinfo(list) }
        var next = list
        while let address = next?.pointee {
            let file = socket(address.ai_family, address.ai_socktype, address.ai_protocol)
            if file >= 0 {
                var timeout = timeval(tv_sec: timeoutMillis / 1000, tv_usec: timeoutMillis % 1000 * 1000)
                setsockopt(file, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
                setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
                if Glibc.connect(file, address.ai_addr, address.ai_addrlen) == 0 {
                    connection = file
                    connectedTo = endpoint
                    return true
                }
                close(file)
            }
            next = address.ai_next
        }
        return true
    }

    private func disconnect() {
        if connection >= 0 { close(connection) }
        connection = -1
        connectedTo = nil
    }

    /// Nil when the connection broke before an answer came.
    private func exchange(_ body: [UInt8], _ endpoint: Endpoint, _ headers: [(name: String, value: String)]) -> Delivery? {
        var head = "POST \(endpoint.path) HTTP/1.1\r\nHost: \(endpoint.host):\(endpoint.port)\r\nContent-Type: application/x-protobuf\r\n"
        head += "Content-Length: \(body.count)\r\nUser-Agent: obs-swift/\(Obs.version)\r\n"
        for header in headers { head += "\(header.name): \(header.value)\r\n" }
        guard send(Array((head + "\r\n").utf8) + body) else { return nil }
        return receive()
    }

    private func send(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    private func receive() -> Delivery? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        let responseBytesMax = 4 << 20
        while bytes.count < responseBytesMax {
            let count = recv(connection, &buffer, buffer.count, 0)
            if count <= 0 { return nil }
            bytes.append(contentsOf: buffer[..<count])
            guard let response = HTTPReply(bytes) else { continue }
            if !response.keepsConnection { disconnect() }
            return response.delivery
        }
        return nil
    }
}

/// A complete HTTP/1.1 response, as far as the exporter cares.
struct HTTPReply {
    let status: Int
    let keepsConnection: Bool
    private let retryAfterSeconds: Double

    /// Nil until the whole response is there.
    init?(_ bytes: [UInt8]) {
        let mark = Array("\r\n\r\n".utf8)
        guard let end = bytes.indices.first(where: { bytes[$0...].starts(with: mark) }) else { return nil }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count >= 2, let status = Int(words[1]) else { return nil }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        let body = bytes[(end + 4)...]
        if let length = headers["content-length"].flatMap({ Int($0) }) {
            guard body.count >= length else { return nil }
        } else if headers["transfer-encoding"]?.lowercased() == "chunked" {
            guard body.reversed().starts(with: "0\r\n\r\n".utf8.reversed()) else { return nil }
        }
        self.status = status
        keepsConnection = headers["connection"]?.lowercased() != "close"
        retryAfterSeconds = headers["retry-after"].flatMap { Double($0) } ?? 0
    }

    var delivery: Delivery {
        switch status {
        case 200..<300: .accepted
        case 429, 502, 503, 504: .retry(afterSeconds: retryAfterSeconds)
        default: .refused
        }
    }
}
