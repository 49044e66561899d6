import Glibc
import ObsCore
import Synchronization
import XCTest

@testable import ObsNet

final class HTTPServerTests: XCTestCase {
    private func start(
        _ configuration: HTTPServerConfiguration = HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"),
        admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil }, _ handle: @escaping HTTPHandler
    ) throws -> HTTPServer { try HTTPServer(configuration, admit: admit, handle: handle) }

    private func configured(_ change: (inout HTTPServerConfiguration) -> Void) -> HTTPServerConfiguration {
        var configuration = HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")
        change(&configuration)
        return configuration
    }

    func testKeepAliveAndPipelining() throws {
        let server = try start { request, responder in responder.send(.text(200, "\(request.method) \(request.path) \(request.rawQuery)")) }
        let client = RawConnection(port: server.port)
        client.send("GET /a%20b/c?x=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        XCTAssert(client.receive(until: "GET /a b/c x=1").hasPrefix("HTTP/1.1 200 OK\r\n"))
        client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        let all = client.receiveToEnd()
        XCTAssertEqual(all.components(separatedBy: "HTTP/1.1 200 OK").count, 4)
        XCTAssert(all.contains("GET /1 ") && all.contains("GET /2 ") && all.hasSuffix("GET /3 "))
        server.stop(drainMillis: 1000)
    }

    func testLateAnswerFromAnotherThread() throws {
        let server = try start { request, responder in
            startThread("late") {
                usleep(30_000)
                responder.send(.text(200, "late \(request.body.count)"))
            }
        }
        let client = RawConnection(port: server.port)
        client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        XCTAssert(client.receive(until: "late 5").hasPrefix("HTTP/1.1 200 OK"))
        server.stop(drainMillis: 1000)
    }

    func testDroppedResponderAnswers500() throws {
        let server = try start { _, _ in }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        XCTAssert(client.receive(until: "not answered").hasPrefix("HTTP/1.1 500"))
        server.stop(drainMillis: 1000)
    }

    func testResponderDroppedLaterAnswers500() throws {
        let server = try start { _, responder in startThread("dropper") { withExtendedLifetime(responder) { _ = usleep(20_000) } } }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        XCTAssert(client.receive(until: "not answered").hasPrefix("HTTP/1.1 500"))
        server.stop(drainMillis: 1000)
    }

    func testSecondAnswerIsIgnored() throws {
        let server = try start { _, responder in
            responder.send(.text(200, "first"))
            responder.send(.text(500, "second"))
            XCTAssertFalse(responder.stream(status: 200, headers: []).write([1]))
        }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        XCTAssert(client.receiveToEnd().hasSuffix("first"))
        server.stop(drainMillis: 1000)
    }

    func testRequestIsSeenAsSent() throws {
        let seen = Mutex<HTTPRequest?>(nil)
        let server = try start { request, responder in
            seen.withLock { $0 = request }
            responder.send(HTTPResponse(status: 204))
        }
        let client = RawConnection(port: server.port)
        client.send(
            "POST http://example.org/a%2Fb/c+d?q=%7B%7D&x=a+b HTTP/1.1\r\nHost: h\r\nX-Many: 1\r\nx-many: 2\r\nEmpty:\r\nContent-Type: application/x-www-form-urlencoded; charset=x\r\nContent-Length: 7\r\nConnection: close\r\n\r\ny=1&y=2"
        )
        XCTAssert(client.receiveToEnd().hasPrefix("HTTP/1.1 204 "))
        let request = try XCTUnwrap(seen.withLock { $0 })
        XCTAssertEqual(request.path, "/a/b/c+d")
        XCTAssertEqual(request.rawPath, "/a%2Fb/c+d")
        XCTAssertEqual(request.rawQuery, "q=%7B%7D&x=a+b")
        XCTAssertEqual(request.headers.filter { $0.name == "x-many" }.map(\.value), ["1", "2"])
        XCTAssertEqual(request.header("empty"), "")
        XCTAssertEqual(request.mediaType, "application/x-www-form-urlencoded")
        XCTAssertEqual(request.parameters.pairs.map { "\($0.name)=\($0.value)" }, ["y=1", "y=2", "q={}", "x=a b"])
        XCTAssertEqual(request.listener, "test")
        XCTAssert(request.peer.hasPrefix("127.0.0.1:"))
        server.stop(drainMillis: 1000)
    }

    func testHead() throws {
        let server = try start { _, responder in responder.send(.text(200, "four")) }
        let client = RawConnection(port: server.port)
        client.send("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        let all = client.receiveToEnd()
        XCTAssert(all.contains("Content-Length: 4\r\n"))
        XCTAssert(all.hasSuffix("\r\n\r\n"))
        server.stop(drainMillis: 1000)
    }

    func testHeadOfStream() throws {
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [])
            _ = stream.write([1, 2, 3])
            stream.finish()
        }
        let client = RawConnection(port: server.port)
        client.send("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        XCTAssert(client.receiveToEnd().hasSuffix("\r\n\r\n"))
        server.stop(drainMillis: 1000)
    }

    // MARK: Bodies

    func testBodies() throws {
        let server = try start(configured { $0.bodyBytesMax = 3 << 20 }) { request, responder in
            let sum = request.body.reduce(into: UInt64(0)) { $0 = $0 &* 31 &+ UInt64($1) }
            responder.send(.text(200, "\(request.body.count) \(sum)"))
        }
        let client = HTTPClient()
        for size in [0, 1, 1000, 65_535, 65_536, 3 << 20] {
            let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let sum = body.reduce(into: UInt64(0)) { $0 = $0 &* 31 &+ UInt64($1) }
            let response = try client.perform(HTTPClientRequest(url: "http://\(server.address)/", method: "POST", body: body))
            XCTAssertEqual(String(decoding: response.body, as: UTF8.self), "\(size) \(sum)")
        }
        server.stop(drainMillis: 1000)
    }

    func testChunkedBodyByteByByte() throws {
        let server = try start { request, responder in responder.send(.text(200, "got " + String(decoding: request.body, as: UTF8.self))) }
        let client = RawConnection(port: server.port)
        let request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
        for byte in request.utf8 { client.send([byte]) }
        XCTAssert(client.receive(until: "got hello world").hasPrefix("HTTP/1.1 200"))
        server.stop(drainMillis: 1000)
    }

    func testDeclaredBodyOverTheLimitIs413() throws {
        let server = try start(configured { $0.bodyBytesMax = 1000 }) { _, responder in responder.send(.text(200, "never")) }
        let client = RawConnection(port: server.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n")
        // What is sent after the answer must not turn it into a reset.
        for _ in 0..<50 { client.send([UInt8](repeating: 1, count: 10_000)) }
        let all = client.receive(until: "limit of 1000 bytes")
        XCTAssert(all.hasPrefix("HTTP/1.1 413 "), all)
        XCTAssert(all.contains("limit of 1000 bytes"), all)
        XCTAssert(all.contains("Connection: close"), all)
        server.stop(drainMillis: 1000)
    }

    func testChunkedBodyOverTheLimitIs413() throws {
        let server = try start(configured { $0.bodyBytesMax = 1000 }) { _, responder in responder.send(.text(200, "never")) }
        let client = RawConnection(port: server.port)
        let chunk = "400\r\n" + String(repeating: "x", count: 1024) + "\r\n"
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + String(repeating: chunk, count: 20) + "0\r\n\r\n")
        XCTAssert(client.receive(until: "limit of 1000 bytes").hasPrefix("HTTP/1.1 413 "))
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        XCTAssert(client.receive(until: "never").hasPrefix("HTTP/1.1 200 "), "the connection lives on")
        server.stop(drainMillis: 1000)
    }

    func testEndlessChunkedBodyIsCutOff() throws {
        let server = try start(configured { $0.bodyBytesMax = 1000 }) { _, responder in responder.send(.text(200, "never")) }
        let client = RawConnection(port: server.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        let chunk = Array(("10000\r\n" + String(repeating: "x", count: 65536) + "\r\n").utf8)
        var sent = 0
        while sent < 200, client.send(chunk) { sent += 1 }
        XCTAssertLessThan(sent, 200)
        server.stop(drainMillis: 1000)
    }

    func testContinue() throws {
        let server = try start(configured { $0.bodyBytesMax = 100 }) { request, responder in responder.send(.text(200, "\(request.body.count) bytes")) }
        let client = RawConnection(port: server.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        XCTAssertEqual(client.receive(until: "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n")
        client.send("body")
        XCTAssert(client.receive(until: "4 bytes").hasPrefix("HTTP/1.1 200"))
        client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n")
        XCTAssert(client.receiveToEnd().hasPrefix("HTTP/1.1 413"), "refused before the body is asked for")
        server.stop(drainMillis: 1000)
    }

    func testAdmitRefusesBeforeTheBody() throws {
        let refusal: @Sendable (HTTPRequest) -> HTTPResponse? = { request in
            XCTAssert(request.body.isEmpty)
            return request.header("authorization") == nil ? HTTPResponse(status: 401, headers: [("WWW-Authenticate", "Basic")]) : nil
        }
        let server = try start(admit: refusal) { request, responder in responder.send(.text(200, "in")) }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        let refused = client.receive(until: "\r\n\r\n")
        XCTAssert(refused.hasPrefix("HTTP/1.1 401") && refused.contains("WWW-Authenticate: Basic"))
        client.send("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: x\r\n\r\n")
        XCTAssert(client.receive(until: "in").contains("200 OK"), "a refusal without a body keeps the connection")
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
        XCTAssert(client.receiveToEnd().hasPrefix("HTTP/1.1 401"), "answered without the body")
        server.stop(drainMillis: 1000)
    }

    func testAmbiguousFramingIsRefused() throws {
        let server = try start { _, responder in responder.send(.text(200, "never")) }
        for headers in [
            "Transfer-Encoding: chunked\r\nContent-Length: 3", "Content-Length: 3\r\nContent-Length: 4", "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity", "Content-Length: +3", "Content-Length: 3, 3", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length: 99999999999999999999999",
        ] {
            let client = RawConnection(port: server.port)
            client.send("POST / HTTP/1.1\r\nHost: h\r\n\(headers)\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            let answer = client.receive(until: "\r\n\r\n")
            XCTAssert(answer.hasPrefix("HTTP/1.1 4"), "\(headers): \(answer)")
        }
        server.stop(drainMillis: 1000)
    }

    // MARK: Hostile and broken clients

    func testTooLargeHeadAndGarbage() throws {
        let server = try start { _, responder in responder.send(.text(200, "alive")) }
        let long = String(repeating: "x", count: 200_000)
        for head in ["GET /\(long) HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX: \(long)\r\n\r\n"] {
            let client = RawConnection(port: server.port)
            client.send(head)
            let answer = client.receiveToEnd()
            XCTAssert(answer.isEmpty || answer.hasPrefix("HTTP/1.1 4"), String(answer.prefix(100)))
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<30 {
            let client = RawConnection(port: server.port)
            client.send((0..<500).map { _ in UInt8.random(in: 0...255, using: &random) } + Array("\r\n\r\n".utf8))
            client.shutdownWriting()
            let answer = client.receiveToEnd()
            XCTAssert(answer.isEmpty || !answer.contains("alive"))
        }
        let client = RawConnection(port: server.port)
        client.send("GET /\(String(repeating: "y", count: 16_000)) HTTP/1.1\r\nHost: h\r\nX: \(String(repeating: "z", count: 8_000))\r\n\r\n")
        XCTAssert(client.receive(until: "alive").hasPrefix("HTTP/1.1 200"))
        server.stop(drainMillis: 1000)
    }

    func testHeadSentTooSlowlyIsCutOff() throws {
        let server = try start(configured { $0.headerTimeoutSeconds = 1 }) { _, responder in responder.send(.text(200, "x")) }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        XCTAssert(client.receive(until: "x").contains("200"))
        client.send("GET / HTTP/1.1\r\n")
        var bytes = 0
        while bytes < 100, client.send("x") {
            bytes += 1
            usleep(100_000)
        }
        XCTAssertLessThan(bytes, 100)
        server.stop(drainMillis: 1000)
    }

    func testBodySentTooSlowlyIsCutOff() throws {
        let server = try start(configured { $0.bodyTimeoutSeconds = 1 }) { _, responder in responder.send(.text(200, "x")) }
        let client = RawConnection(port: server.port)
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
        var bytes = 0
        while bytes < 100, client.send("x") {
            bytes += 1
            usleep(100_000)
        }
        XCTAssertLessThan(bytes, 100)
        server.stop(drainMillis: 1000)
        XCTAssertEqual(server.connectionsOpen, 0)
    }

    func testOldAndHostlessClients() throws {
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [])
            _ = stream.write(Array("streamed".utf8))
            stream.finish()
        }
        let old = RawConnection(port: server.port)
        old.send("GET / HTTP/1.0\r\n\r\n")
        XCTAssert(old.receiveToEnd().hasSuffix("\r\n\r\nstreamed"), "no chunks for HTTP/1.0")
        let hostless = RawConnection(port: server.port)
        hostless.send("GET / HTTP/1.1\r\n\r\n")
        XCTAssert(hostless.receiveToEnd().hasPrefix("HTTP/1.1 400"))
        server.stop(drainMillis: 1000)
    }

    func testClientGoneIsSeen() throws {
        let gone = Monitor(false)
        let server = try start { request, responder in
            startThread("patient") {
                XCTAssertFalse(request.clientGone())
                for _ in 0..<1000 where !request.clientGone() { usleep(10_000) }
                gone.update { $0 = request.clientGone() }
                responder.send(.text(200, "nobody there"))
            }
        }
        var client: RawConnection? = RawConnection(port: server.port)
        client?.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        usleep(50_000)
        client = nil
        XCTAssertNotNil(gone.wait(timeoutNanos: 20 * nanosPerSecond) { $0 ? () : nil })
        server.stop(drainMillis: 1000)
    }

    func testManyConnectionsAtOnce() throws {
        let waiting = Mutex<[any HTTPResponder]>([])
        let server = try start { _, responder in waiting.withLock { $0.append(responder) } }
        let clients = (0..<200).map { _ in RawConnection(port: server.port) }
        for (index, client) in clients.enumerated() { client.send("GET /\(index) HTTP/1.1\r\nHost: h\r\n\r\n") }
        for _ in 0..<2000 where waiting.withLock({ $0.count }) < 200 { usleep(5000) }
        XCTAssertEqual(server.requestsInFlight, 200)
        let all = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        XCTAssertEqual(all.count, 200)
        for responder in all { responder.send(.text(200, "done")) }
        for client in clients { XCTAssert(client.receive(until: "done").hasPrefix("HTTP/1.1 200")) }
        server.stop(drainMillis: 1000)
        XCTAssertEqual(server.requestsInFlight, 0)
    }

    func testConnectionsOverTheLimitWait() throws {
        let server = try start(configured { $0.connectionsMax = 3 }) { _, responder in responder.send(.text(200, "served")) }
        var clients = (0..<5).map { _ in RawConnection(port: server.port) }
        for client in clients[..<3] {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            XCTAssert(client.receive(until: "served").hasPrefix("HTTP/1.1 200"))
        }
        clients[4].send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        usleep(100_000)
        XCTAssertEqual(server.connectionsOpen, 3)
        clients.removeFirst(3)
        XCTAssert(clients[1].receive(until: "served").hasPrefix("HTTP/1.1 200"), "served once others have gone")
        server.stop(drainMillis: 1000)
    }

    // MARK: Answers

    func testLargeAnswer() throws {
        let body = (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 3) }
        let server = try start { _, responder in responder.send(HTTPResponse(status: 200, body: body)) }
        let response = try HTTPClient().perform(HTTPClientRequest(url: "http://\(server.address)/"))
        XCTAssert(response.body == body)
        server.stop(drainMillis: 1000)
    }

    /// A client that reads nothing holds its answer; what others' answers would hold beside it is refused until it is gone.
    func testUnsentAnswersAreCounted() throws {
        let memory = MemoryBudget(MemoryShares(ceilingBytes: 64 << 20)).queries
        let body = [UInt8](repeating: 7, count: memory.bytesMax / 4 * 3)
        let server = try start(configured { $0.answerMemory = memory }) { _, responder in responder.send(HTTPResponse(status: 200, body: body)) }
        let slow = RawConnection(port: server.port)
        slow.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        let begun = slow.receive(until: "\r\n\r\n")
        XCTAssert(begun.hasPrefix("HTTP/1.1 200"))
        XCTAssertEqual(memory.usedBytes, body.count)
        let refused = try HTTPClient().perform(HTTPClientRequest(url: "http://\(server.address)/"))
        XCTAssertEqual(refused.status, 503)
        XCTAssert(String(decoding: refused.body, as: UTF8.self).contains("memory for queries"))
        // Some of the body may have come with the head.
        let rest = body.count - (begun.components(separatedBy: "\r\n\r\n").last?.utf8.count ?? 0)
        XCTAssertEqual(slow.receiveToEnd(untilBytes: rest), rest)
        // Released on the server's thread, after the last byte.
        for _ in 0..<1000 where memory.usedBytes != 0 { usleep(5000) }
        XCTAssertEqual(memory.usedBytes, 0)
        XCTAssertEqual(try HTTPClient().perform(HTTPClientRequest(url: "http://\(server.address)/")).body.count, body.count)
        server.stop(drainMillis: 1000)
    }

    func testCompressesWhatTheClientTakes() throws {
        let server = try start(configured { $0.compress = { _ in Array("packed".utf8) } }) { request, responder in
            responder.send(HTTPResponse(status: 200, headers: [("Content-Type", request.rawQuery)], body: [UInt8](repeating: 97, count: 2000)))
        }
        let client = HTTPClient()
        func length(_ type: String, _ accept: String) throws -> Int {
            try client.perform(HTTPClientRequest(url: "http://\(server.address)/?\(type)", headers: [("Accept-Encoding", accept)])).body.count
        }
        XCTAssertEqual(try length("application/json", "gzip, deflate"), 6)
        XCTAssertEqual(try length("text/plain", "gzip"), 6)
        XCTAssertEqual(try length("application/json", "deflate"), 2000)
        XCTAssertEqual(try length("application/json", "gzip;q=0"), 2000)
        XCTAssertEqual(try length("image/png", "gzip"), 2000)
        server.stop(drainMillis: 1000)
    }

    func testHeadersCannotBeInjected() throws {
        let server = try start { _, responder in
            responder.send(
                HTTPResponse(status: 200, headers: [("X-A", "1\r\nX-Injected: 1"), ("Content-Length", "99"), ("X-B", "2")], body: Array("body".utf8)))
        }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        let all = client.receiveToEnd()
        XCTAssert(all.contains("X-B: 2\r\n") && all.contains("Content-Length: 4\r\n") && !all.contains("Injected"))
        server.stop(drainMillis: 1000)
    }

    func testStream() throws {
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [("Content-Type", "text/event-stream")])
            startThread("events") {
                for index in 0..<50 {
                    XCTAssert(stream.write(Array("data: \(index)\n\n".utf8)))
                    if index % 10 == 0 { usleep(2000) }
                }
                stream.finish()
            }
        }
        let client = HTTPClient()
        for _ in 0..<3 {
            var events = ""
            var type: String?
            let keepType: (HTTPClientResponse) -> Void = { type = $0.header("content-type") }
            let response = try client.performStreaming(HTTPClientRequest(url: "http://\(server.address)/"), onHead: keepType) { bytes in
                events += String(decoding: bytes, as: UTF8.self)
                return true
            }
            XCTAssertEqual(response.status, 200)
            XCTAssertEqual(type, "text/event-stream")
            XCTAssertEqual(events, (0..<50).map { "data: \($0)\n\n" }.joined())
        }
        server.stop(drainMillis: 1000)
    }

    func testStreamToSlowClientIsBounded() throws {
        let refused = Monitor<Int?>(nil)
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [])
            startThread("flood") {
                var written = 0
                while written < 1000, stream.write([UInt8](repeating: 1, count: 100_000)) { written += 1 }
                refused.update { $0 = written }
            }
        }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        let written = try XCTUnwrap(refused.wait(timeoutNanos: 20 * nanosPerSecond) { $0 })
        XCTAssertLessThan(written, 1000)
        // Dropped unfinished: the connection is cut, so that half an answer is not taken for a whole one.
        XCTAssertFalse(client.receiveToEnd().hasSuffix("0\r\n\r\n"))
        server.stop(drainMillis: 1000)
    }

    func testStreamSeesClientGone() throws {
        let stopped = Monitor(false)
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [])
            startThread("ticks") {
                for _ in 0..<1000 where stream.write(Array("tick".utf8)) { usleep(10_000) }
                stopped.update { $0 = !stream.write([1]) }
            }
        }
        var client: RawConnection? = RawConnection(port: server.port)
        client?.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        _ = client?.receive(until: "tick")
        client = nil
        XCTAssertNotNil(stopped.wait(timeoutNanos: 20 * nanosPerSecond) { $0 ? () : nil })
        server.stop(drainMillis: 1000)
    }

    // MARK: Stopping

    func testStopLetsPendingAnswersFinish() throws {
        let started = Monitor(false)
        let server = try start { _, responder in
            started.update { $0 = true }
            startThread("slow") {
                usleep(150_000)
                responder.send(.text(200, "finished"))
            }
        }
        let client = RawConnection(port: server.port)
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        _ = started.wait { $0 ? () : nil }
        server.stop(drainMillis: 10_000)
        let all = client.receiveToEnd()
        XCTAssert(all.hasPrefix("HTTP/1.1 200") && all.hasSuffix("finished") && all.contains("Connection: close"), all)
    }

    func testStopEndsWhatDoesNotFinish() throws {
        let kept = Monitor<[any HTTPResponder]>([])
        let streams = Monitor<[any HTTPStream]>([])
        let server = try start { request, responder in
            if request.path == "/stream" {
                let stream = responder.stream(status: 200, headers: [])
                _ = stream.write(Array("begun".utf8))
                streams.update { $0.append(stream) }
            } else {
                kept.update { $0.append(responder) }
            }
        }
        let waiting = RawConnection(port: server.port)
        waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        let streaming = RawConnection(port: server.port)
        streaming.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        let idle = RawConnection(port: server.port)
        let halfway = RawConnection(port: server.port)
        halfway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123")
        _ = kept.wait { $0.isEmpty ? nil : () }
        XCTAssert(streaming.receive(until: "begun").hasSuffix("begun\r\n"))
        server.stop(drainMillis: 50)
        XCTAssert(waiting.receiveToEnd().hasPrefix("HTTP/1.1 503"))
        XCTAssertEqual(streaming.receiveToEnd(), "")
        XCTAssertEqual(idle.receiveToEnd(), "")
        XCTAssertEqual(halfway.receiveToEnd(), "")
        // Answers that come after the end go nowhere.
        kept.read { $0 }.forEach { $0.send(.text(200, "late")) }
        XCTAssertFalse(streams.read { $0 }[0].write([1]))
        server.stop(drainMillis: 0)
    }

    func testAddressInUse() throws {
        let server = try start { _, responder in responder.send(.text(200, "")) }
        do throws(ObsError) {
            _ = try HTTPServer(HTTPServerConfiguration(name: "second", address: server.address), handle: { _, _ in })
            XCTFail("two servers on one address")
        } catch {
            XCTAssertEqual(error.message, "cannot listen on \(server.address): address already in use")
        }
        server.stop(drainMillis: 0)
        let again = try HTTPServer(HTTPServerConfiguration(name: "again", address: server.address), handle: { _, _ in })
        XCTAssertEqual(again.port, server.port)
        again.stop(drainMillis: 0)
    }
}
