package import ObsCore

/// One complete request: head and body. Values only; nothing of the connection but `clientGone`.
package struct HTTPRequest: Sendable {
    /// Upper case as sent: `GET`, `POST`, …
    package var method: String
    /// Percent-decoded path without query, e.g. `/api/v1/label/job/values`.
    package var path: String
    /// The path as sent, for routes whose segments may hold encoded slashes.
    package var rawPath: String
    /// The query string as sent, without `?`.
    package var rawQuery: String
    /// In the order they came; names lower-cased.
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]
    /// `address:port` of the peer.
    package var peer: String
    /// Which listener it came through, as named in its configuration.
    package var listener: String
    /// Asked by long work now and then: true once the client has closed the connection.
    package var clientGone: @Sendable () -> Bool
    /// Filled by the router: values of `:name` segments, percent-decoded.
    package var pathParameters: [String: String] = [:]
    /// Filled by the authenticator.
    package var tenant: TenantID = .default

    package init(
        method: String, path: String, rawPath: String = "", rawQuery: String = "", headers: [(name: String, value: String)] = [], body: [UInt8] = [],
        peer: String = "", listener: String = "", clientGone: @escaping @Sendable () -> Bool = { false }
    ) {
        self.method = method
        self.path = path
        self.rawPath = rawPath.isEmpty ? path : rawPath
        self.rawQuery = rawQuery
        self.headers = headers
        self.body = body
        self.peer = peer
        self.listener = listener
        self.clientGone = clientGone
    }

    /// First header of that name (give it lower-cased).
    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

    /// Media type of Content-Type, lower-cased, parameters cut off; empty when absent.
    package var mediaType: String {
        guard let type = header("content-type") else { return "" }
        return type.prefix { $0 != ";" }.trimmed.lowercased()
    }

    /// Parameters of a form body (`application/x-www-form-urlencoded`) followed by those of the query (Go's order), percent-decoded, `+` as space.
    package var parameters: Parameters {
        let form = mediaType == "application/x-www-form-urlencoded" ? parseForm(body) : []
        return Parameters(pairs: form + parseForm(rawQuery.utf8))
    }
}

/// Query and form parameters; a name may repeat.
package struct Parameters: Sendable {
    package var pairs: [(name: String, value: String)]
    package init(pairs: [(name: String, value: String)]) { self.pairs = pairs }
    /// The first value of a name.
    package subscript(_ name: String) -> String? { pairs.first { $0.name == name }?.value }
    package func all(_ name: String) -> [String] { pairs.filter { $0.name == name }.map(\.value) }
}

extension Substring {
    package var trimmed: String {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return String(text)
    }
}

package func parseForm(_ bytes: some Collection<UInt8>) -> [(name: String, value: String)] {
    bytes.split(separator: UInt8(ascii: "&")).map { pair in
        let equals = pair.firstIndex(of: UInt8(ascii: "="))
        let name = equals.map { pair[pair.startIndex..<$0] } ?? pair
        let value = equals.map { pair[pair.index(after: $0)...] } ?? pair[pair.endIndex...]
        return (percentDecode(name, plusIsSpace: true), percentDecode(value, plusIsSpace: true))
    }
}

/// Percent-decoding; a `%` without two hex digits is kept as it is.
package func percentDecode(_ text: some Collection<UInt8>, plusIsSpace: Bool = false) -> String {
    let bytes = Array(text)
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
        let byte = bytes[at]
        if byte == UInt8(ascii: "%"), at + 2 < bytes.count, let high = hexValue(bytes[at + 1]), let low = hexValue(bytes[at + 2]) {
            result.append(high << 4 | low)
            at += 3
        } else {
            result.append(plusIsSpace && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
            at += 1
        }
    }
    return String(decoding: result, as: UTF8.self)
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
package func percentEncode(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            result += "%" + hexString([byte]).uppercased()
        }
    }
    return result
}

/// A complete answer.
package struct HTTPResponse: Sendable {
    package var status: Int
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]

    package init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    package static func text(_ status: Int, _ text: String) -> HTTPResponse {
        HTTPResponse(status: status, headers: [("Content-Type", "text/plain; charset=utf-8")], body: Array(text.utf8))
    }

    package static func json(_ status: Int, _ body: [UInt8]) -> HTTPResponse {
        HTTPResponse(status: status, headers: [("Content-Type", "application/json")], body: body)
    }
}

/// Where the answer goes. Exactly one of `send`, `stream`, `upgrade` is called, once, from any thread; the connection waits without holding a thread.
/// A responder that is dropped unanswered answers 500.
package protocol HTTPResponder: AnyObject, Sendable {
    func send(_ response: HTTPResponse)
    /// Starts a chunked answer. Used for server-sent events and answers of unknown size.
    func stream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream
    /// Answers a WebSocket upgrade (RFC 6455). The socket is handed over once the client has the 101.
    /// A request that is no valid upgrade is answered 400 with `Sec-WebSocket-Version: 13`, and `opened` is not called.
    func upgradeToWebSocket(opened: @escaping @Sendable (any WebSocket) -> Void)
}

package protocol HTTPStream: AnyObject, Sendable {
    /// Queues bytes. False once the client is gone or `queuedBytesMax` wait unsent; then nothing of these bytes was queued.
    func write(_ bytes: [UInt8]) -> Bool
    func finish()
}

/// A server's end of a WebSocket. Client messages are read and dropped; pings are answered; a close frame or lost connection closes it.
package protocol WebSocket: AnyObject, Sendable {
    /// Queues a text frame. False once closed, or when the client is too slow and the queue bound is reached (the message is then not queued).
    func send(text: [UInt8]) -> Bool
    /// Messages queued and not yet written.
    var queued: Int { get }
    func close(code: UInt16, reason: String)
    var isClosed: Bool { get }
    /// Called once when it is closed by either side.
    func onClose(_ body: @escaping @Sendable () -> Void)
}

package typealias HTTPHandler = @Sendable (HTTPRequest, any HTTPResponder) -> Void
