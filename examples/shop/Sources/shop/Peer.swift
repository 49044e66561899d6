import ObsSDK

/// Another service as its callers see it: every call is a client span, and the callee's spans become that span's children.
struct Peer: Sendable {
    let name: String
    let port: UInt16
    let obs: Obs
    private let duration: ObsHistogram

    init(_ name: String, port: UInt16, obs: Obs) {
        self.name = name
        self.port = port
        self.obs = obs
        duration = obs.histogram("http.client.request.duration", unit: "s", help: "Duration of calls to other services.")
    }

    /// - Throws: `Failure`: 503 nobody listens, 504 no answer in time, else the peer's own status where it is an error.
    func call(_ method: String, _ target: String, timeoutMillis: Int = 3000) throws -> Response {
        let attributes: ObsAttributes = ["http.request.method": .string(method), "server.address": .string(name)]
        return try obs.span("\(method) \(name)", kind: .client, attributes.adding(["url.path": .string(target)])) { span in
            let start = ContinuousClock.now
            var status = 0
            defer {
                span.set("http.response.status_code", .int(status))
                duration.record(ContinuousClock.now - start, attributes.adding(["http.response.status_code": .int(status)]))
            }
            let response: Response
            do {
                response = try exchange(method, target, timeoutMillis)
            } catch let failure as Failure {
                status = failure.status
                throw failure
            }
            status = response.status
            if status >= 400 { throw Failure(status, "\(name): \(response.reason)") }
            return response
        }
    }

    private func exchange(_ method: String, _ target: String, _ timeoutMillis: Int) throws -> Response {
        guard let connection = Connection.to(port: port, timeoutMillis: timeoutMillis) else { throw Failure(503, "\(name) cannot be reached") }
        var text = "\(method) \(target) HTTP/1.1\r\nHost: \(name)\r\nConnection: close\r\nContent-Length: 0\r\n"
        for header in obs.propagationHeaders() { text += "\(header.name): \(header.value)\r\n" }
        guard connection.send(text + "\r\n"), let (head, body) = connection.receive(), head.words.count >= 2, let status = Int(head.words[1]) else {
            throw Failure(504, "\(name) did not answer within \(timeoutMillis) ms")
        }
        return Response(status: status, body: String(decoding: body, as: UTF8.self))
    }
}
