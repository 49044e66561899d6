// The HTTP client, over libcurl's blocking interface: scrapes, webhooks and obsq each have a thread of their own to wait on.
internal import CCurl
package import ObsCore
internal import Synchronization

package struct HTTPClientRequest: Sendable {
    package var url: String
    package var method = "GET"
    package var headers: [(name: String, value: String)] = []
    package var body: [UInt8] = []
    /// From start to end; 0 means no bound, which is what an endless stream needs.
    package var timeoutMillis = 30_000
    package var connectTimeoutMillis = 10_000
    package var followRedirects = true
    /// Bytes of the answer's body, decoded; more is a `.tooLarge` error. 0 means no bound.
    package var responseBytesMax = 0
    /// Where the answer's body is counted while it is received; the caller's until the caller is done with it.
    package var memory: MemoryReservation?
    /// Asks for gzip; the answer's body is decoded then.
    package var acceptGzip = false
    package var basicAuth: (user: String, password: String)?
    package var bearer: String?
    package var tls = TLSClientOptions()
    /// `http://host:port`. The environment's proxy is not used: what is asked for is asked directly.
    package var proxyURL: String?
    /// Hosts asked directly all the same: names, addresses, networks, with commas between.
    package var noProxy: String?
    /// Follows `http_proxy`, `https_proxy` and `no_proxy` of the environment instead.
    package var proxyFromEnvironment = false
    /// Sent to the proxy with CONNECT.
    package var proxyHeaders: [(name: String, value: String)] = []
    /// Offers HTTP/2 over TLS.
    package var http2 = true
    /// Asked about once a second; true ends the request with `.cancelled`.
    package var isCancelled: (@Sendable () -> Bool)?

    package init(url: String, method: String = "GET", headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
        self.url = url
        self.method = method
        self.headers = headers
        self.body = body
    }
}

/// Paths of PEM files, or the texts themselves where there is no path. Without an authority the system's are trusted.
package struct TLSClientOptions: Sendable, Equatable {
    package enum Version: Sendable { case tls10, tls11, tls12, tls13 }

    package var caFile: String?
    package var certFile: String?
    package var keyFile: String?
    package var caPEM: String?
    package var certPEM: String?
    package var keyPEM: String?
    /// The name the server's certificate must have, where it is not the URL's.
    package var serverName: String?
    package var minVersion: Version?
    package var maxVersion: Version?
    package var insecureSkipVerify = false

    package init(caFile: String? = nil, certFile: String? = nil, keyFile: String? = nil, insecureSkipVerify: Bool = false) {
        self.caFile = caFile
        self.certFile = certFile
        self.keyFile = keyFile
        self.insecureSkipVerify = insecureSkipVerify
    }
}

package struct HTTPClientResponse: Sendable {
    package var status: Int
    /// The server's words for the status; empty over HTTP/2.
    package var reason = ""
    /// Of the last answer when redirects were followed; names lower-cased.
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]
    package var durationNanos: Int64

    package init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = [], durationNanos: Int64 = 0) {
        self.status = status
        self.headers = headers
        self.body = body
        self.durationNanos = durationNanos
    }

    /// First header of that name (give it lower-cased).
    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// Keeps connections for the next request. Any thread may use it; each call holds one handle, and handles are reused, last used for the same origin first.
package final class HTTPClient: Sendable {
    private struct Idle {
        var handle: CurlHandle
        var origin: Substring
    }
    private let idle = Mutex<[Idle]>([])
    private let idleMax: Int

    /// - Parameter idleMax: handles, each with its last connections, kept between requests.
    package init(idleMax: Int = 16) { self.idleMax = idleMax }

    /// Any complete answer is a result, whatever its status.
    ///
    /// - Throws: `.unavailable` when there is no answer (in curl's words), `.timeout`, `.tooLarge`, `.cancelled`, `.badInput` for a URL that is none,
    ///   `.throttled` when `memory` has no room.
    package func perform(_ request: HTTPClientRequest) throws(ObsError) -> HTTPClientResponse {
        let transfer = CurlTransfer(bytesMax: request.responseBytesMax, isCancelled: request.isCancelled, onHead: nil, onBytes: nil)
        transfer.memory = request.memory
        return try run(request, transfer)
    }

    /// Hands the answer's body over as it comes; `onBytes` returns false to end the request, which is no error. The response's body stays empty.
    ///
    /// - Parameter onHead: called once, before the first bytes, with the status and headers of the answer that will be streamed.
    package func performStreaming(
        _ request: HTTPClientRequest, onHead: ((HTTPClientResponse) -> Void)? = nil, onBytes: (UnsafeRawBufferPointer) -> Bool
    ) throws(ObsError) -> HTTPClientResponse {
        var result = Result<HTTPClientResponse, ObsError>.failure(ObsError(.internalError, "request was not run"))
        withoutActuallyEscaping(onBytes) { onBytes in
            do throws(ObsError) {
                let transfer = CurlTransfer(bytesMax: request.responseBytesMax, isCancelled: request.isCancelled, onHead: onHead, onBytes: onBytes)
                defer { transfer.forgetBodies() }
                result = .success(try run(request, transfer))
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    private func run(_ request: HTTPClientRequest, _ transfer: CurlTransfer) throws(ObsError) -> HTTPClientResponse {
        let origin = originOf(request.url)
        let handle = try take(origin)
        defer { give(Idle(handle: handle, origin: origin)) }
        return try handle.perform(request, transfer)
    }

    private func take(_ origin: Substring) throws(ObsError) -> CurlHandle {
        let found = idle.withLock { idle -> CurlHandle? in
            if let index = idle.lastIndex(where: { $0.origin == origin }) { return idle.remove(at: index).handle }
            return idle.count >= idleMax ? idle.removeFirst().handle : nil
        }
        if let found { return found }
        return try CurlHandle()
    }

    private func give(_ entry: Idle) {
        idle.withLock { idle in
            if idle.count < idleMax { idle.append(entry) }
        }
    }
}

/// `scheme://authority` of a URL.
private func originOf(_ url: String) -> Substring {
    var slashes = 0
    return url.prefix { character in
        if character == "/" { slashes += 1 }
        return slashes < 3 && character != "?"
    }
}
