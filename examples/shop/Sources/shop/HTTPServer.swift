import Glibc

/// A small HTTP/1.1 server: a thread a connection, connections are kept. Enough for a demo, and nothing hidden in it.
struct HTTPServer: Sendable {
    let answer: @Sendable (Request) -> Response

    /// Accepts until the process ends.
    /// - Throws: when the port cannot be listened on.
    func listen(port: UInt16) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var on: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        guard listener >= 0, withLoopback(port, { bind(listener, $0, $1) }) == 0, Glibc.listen(listener, 64) == 0 else {
            throw Failure(500, "cannot listen on 127.0.0.1:\(port): \(String(cString: strerror(errno)))")
        }
        startThread {
            while true {
                let file = accept(listener, nil, nil)
                if file >= 0 { startThread { serve(Connection(file: file, timeoutMillis: 30_000)) } } else { pause(millis: 10) }
            }
        }
    }

    private func serve(_ connection: Connection) {
        while let (head, _) = connection.receive(), let request = Request(head) {
            let response = answer(request)
            let keep = head.headers["connection"]?.lowercased() != "close"
            var text = "HTTP/1.1 \(response.status) \(Response.reasons[response.status] ?? "")\r\nContent-Type: application/json\r\n"
            text += "Content-Length: \(response.body.utf8.count)\r\nConnection: \(keep ? "keep-alive" : "close")\r\n"
            for header in response.headers { text += "\(header.name): \(header.value)\r\n" }
            guard connection.send(text + "\r\n" + response.body), keep else { return }
        }
    }
}

extension Request {
    /// Nil when the head is not a request's.
    init?(_ head: MessageHead) {
        guard head.words.count == 3, head.words[1].hasPrefix("/") else { return nil }
        let parts = head.words[1].split(separator: "?", maxSplits: 1)
        self.init(method: head.words[0], path: parts.first.map(String.init) ?? "/", headers: head.headers)
        for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let sides = pair.split(separator: "=", maxSplits: 1)
            query[String(sides[0])] = sides.count > 1 ? String(sides[1]) : ""
        }
    }
}
