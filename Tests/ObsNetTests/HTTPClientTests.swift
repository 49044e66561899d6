import Foundation
import ObsCore
import Synchronization
import XCTest

@testable import ObsNet

final class HTTPClientTests: XCTestCase {
    private func start(_ handle: @escaping HTTPHandler) throws -> HTTPServer {
        try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: handle)
    }

    func testWhatIsSent() throws {
        let server = try start { request, responder in
            var lines = ["\(request.method) \(request.path) \(request.body.count)"]
            for name in ["authorization", "content-type", "x-a", "user-agent", "expect"] { lines.append(request.header(name) ?? "-") }
            responder.send(.text(200, lines.joined(separator: "|")))
        }
        let client = HTTPClient()
        func check(_ method: String, _ body: String, _ expected: String, line: UInt = #line, _ change: (inout HTTPClientRequest) -> Void = { _ in }) throws {
            var request = HTTPClientRequest(url: "http://\(server.address)/p", method: method, body: Array(body.utf8))
            change(&request)
            let response = try client.perform(request)
            XCTAssertEqual(String(decoding: response.body, as: UTF8.self), expected, line: line)
            XCTAssertEqual(response.header("content-type"), "text/plain; charset=utf-8")
        }
        try check("GET", "", "GET /p 0|-|-|-|obs|-")
        try check("POST", "", "POST /p 0|-|-|-|obs|-")
        try check("POST", "abc", "POST /p 3|-|-|-|obs|-")
        try check("PUT", "abc", "PUT /p 3|-|-|-|obs|-")
        try check("DELETE", "", "DELETE /p 0|-|-|-|obs|-")
        try check("POST", "abc", "POST /p 3|-|application/json|1|x|-") {
            $0.headers = [("Content-Type", "application/json"), ("X-A", "1"), ("User-Agent", "x"), ("X-Bad", "1\r\nX-A: 2")]
        }
        try check("GET", "", "GET /p 0|Basic dTpw|-|-|obs|-") { $0.basicAuth = ("u", "p") }
        try check("GET", "", "GET /p 0|Bearer token|-|-|obs|-") { $0.bearer = "token" }
        let head = try client.perform(HTTPClientRequest(url: "http://\(server.address)/p", method: "HEAD"))
        XCTAssertEqual(head.status, 200)
        XCTAssertEqual(head.body, [])
        server.stop(drainMillis: 100)
    }

    func testConnectionsAreKept() throws {
        let peers = Mutex<Set<String>>([])
        let server = try start { request, responder in
            peers.withLock { _ = $0.insert(request.peer) }
            responder.send(.text(200, ""))
        }
        let client = HTTPClient()
        for _ in 0..<10 { _ = try client.perform(HTTPClientRequest(url: "http://\(server.address)/", method: "POST", body: [1])) }
        XCTAssertEqual(peers.withLock { $0.count }, 1)
        server.stop(drainMillis: 100)
    }

    func testRedirects() throws {
        let server = try start { request, responder in
            guard request.path == "/from" else { return responder.send(.text(200, "arrived")) }
            responder.send(HTTPResponse(status: 302, headers: [("Location", "/to"), ("X-First", "1")]))
        }
        let client = HTTPClient()
        var request = HTTPClientRequest(url: "http://\(server.address)/from")
        let followed = try client.perform(request)
        XCTAssertEqual(String(decoding: followed.body, as: UTF8.self), "arrived")
        XCTAssertNil(followed.header("x-first"))
        request.followRedirects = false
        XCTAssertEqual(try client.perform(request).status, 302)
        server.stop(drainMillis: 100)
    }

    func testFailures() throws {
        let held = Mutex<[any HTTPResponder]>([])
        let server = try start { request, responder in
            if request.path == "/hang" { return held.withLock { $0.append(responder) } }
            responder.send(.text(200, String(repeating: "x", count: 100_000)))
        }
        let client = HTTPClient()
        func check(_ url: String, _ code: ObsError.Code, line: UInt = #line, _ change: (inout HTTPClientRequest) -> Void = { _ in }) {
            var request = HTTPClientRequest(url: url)
            change(&request)
            do throws(ObsError) {
                _ = try client.perform(request)
                XCTFail(url, line: line)
            } catch {
                XCTAssertEqual(error.code, code, error.message, line: line)
                XCTAssertFalse(error.message.hasSuffix("."), error.message, line: line)
            }
        }
        let base = "http://\(server.address)"
        check(base + "/hang", .timeout) { $0.timeoutMillis = 100 }
        check(base + "/hang", .cancelled) { $0.isCancelled = { true } }
        check(base + "/big", .tooLarge) { $0.responseBytesMax = 1000 }
        check("http://127.0.0.1:1/", .unavailable)
        check("http://name.invalid/", .unavailable)
        check("ftp://127.0.0.1/", .badInput)
        check("file:///etc/passwd", .badInput)
        check("http://", .badInput)
        XCTAssertEqual(try client.perform(HTTPClientRequest(url: base + "/big")).body.count, 100_000, "the handle is usable after failures")
        held.withLock { $0 = [] }
        server.stop(drainMillis: 100)
    }

    func testStreamingStopsWhenAsked() throws {
        let server = try start { _, responder in
            let stream = responder.stream(status: 200, headers: [])
            startThread("endless") { while stream.write(Array("more".utf8)) { usleep(1000) } }
        }
        var received = 0
        let response = try HTTPClient().performStreaming(HTTPClientRequest(url: "http://\(server.address)/")) { bytes in
            received += bytes.count
            return received < 100
        }
        XCTAssertEqual(response.status, 200)
        XCTAssertGreaterThanOrEqual(received, 100)
        server.stop(drainMillis: 2000)
    }

    func testManyThreads() throws {
        let server = try start { request, responder in responder.send(HTTPResponse(status: 200, body: request.body)) }
        let client = HTTPClient(idleMax: 3)
        let done = Monitor(0)
        for thread in 0..<8 {
            startThread("client") {
                for round in 0..<25 {
                    let body = Array("\(thread) \(round)".utf8)
                    XCTAssertEqual(try? client.perform(HTTPClientRequest(url: "http://\(server.address)/", method: "POST", body: body)).body, body)
                }
                done.update { $0 += 1 }
            }
        }
        XCTAssertNotNil(done.wait(timeoutNanos: 60 * nanosPerSecond) { $0 == 8 ? () : nil })
        server.stop(drainMillis: 100)
    }
}

final class TLSTests: XCTestCase {
    /// A self-signed certificate for localhost, made by the openssl program.
    private func makeIdentity() throws -> (folder: URL, identity: TLSIdentity) {
        let program = URL(fileURLWithPath: "/usr/bin/openssl")
        guard FileManager.default.isExecutableFile(atPath: program.path) else { throw XCTSkip("no openssl program") }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("obs-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = program
        process.currentDirectoryURL = folder
        process.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        let certificate = try Data(contentsOf: folder.appendingPathComponent("cert.pem"))
        let key = try Data(contentsOf: folder.appendingPathComponent("key.pem"))
        return (folder, TLSIdentity(certificatePEM: Array(certificate), keyPEM: Array(key)))
    }

    func testHTTPSAndWebSocket() throws {
        let (folder, identity) = try makeIdentity()
        defer { try? FileManager.default.removeItem(at: folder) }
        var configuration = HTTPServerConfiguration(name: "tls", address: "127.0.0.1:0")
        configuration.tls = identity
        let server = try HTTPServer(configuration) { request, responder in
            if request.path == "/ws" {
                return responder.upgradeToWebSocket { webSocket in
                    for index in 0..<100 { _ = webSocket.send(text: Array(String(repeating: "m", count: index * 100).utf8)) }
                    webSocket.close(code: 1000, reason: "")
                }
            }
            startThread("late") { responder.send(HTTPResponse(status: 200, body: request.body)) }
        }
        var request = HTTPClientRequest(url: "https://\(server.address)/", method: "POST", body: (0..<300_000).map { UInt8(truncatingIfNeeded: $0) })
        let client = HTTPClient()
        XCTAssertThrowsError(try client.perform(request)) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable, "\($0)") }
        request.tls.caFile = folder.appendingPathComponent("cert.pem").path
        for _ in 0..<3 { XCTAssertEqual(try client.perform(request).body, request.body) }
        request.tls = TLSClientOptions(insecureSkipVerify: true)
        XCTAssertEqual(try client.perform(request).body, request.body)
        request.tls = TLSClientOptions()
        request.tls.caPEM = String(decoding: identity.certificatePEM, as: UTF8.self)
        XCTAssertEqual(try client.perform(request).body, request.body)
        // The certificate speaks for localhost and 127.0.0.1 only.
        request.tls.serverName = "localhost"
        XCTAssertEqual(try client.perform(request).body, request.body)
        request.tls.serverName = "elsewhere.example"
        XCTAssertThrowsError(try client.perform(request)) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable, "\($0)") }
        request.tls.serverName = nil
        request.tls.minVersion = .tls12
        request.tls.maxVersion = .tls12
        XCTAssertEqual(try client.perform(request).body, request.body)

        var wss = HTTPClientRequest(url: "wss://\(server.address)/ws")
        wss.tls.insecureSkipVerify = true
        let webSocket = try WebSocketClient.connect(wss)
        for index in 0..<100 { XCTAssertEqual(try webSocket.receive(timeoutMillis: 20_000)?.count, index * 100) }
        XCTAssertNil(try webSocket.receive(timeoutMillis: 20_000))
        server.stop(drainMillis: 500)
    }

    func testStopWithOpenConnections() throws {
        let (folder, identity) = try makeIdentity()
        defer { try? FileManager.default.removeItem(at: folder) }
        for drainMillis in [0, 200] {
            var configuration = HTTPServerConfiguration(name: "tls", address: "127.0.0.1:0")
            configuration.tls = identity
            let waiting = Monitor<[any HTTPResponder]>([])
            let server = try HTTPServer(configuration) { request, responder in
                if request.path == "/ws" { responder.upgradeToWebSocket { _ in } } else { waiting.update { $0.append(responder) } }
            }
            var request = HTTPClientRequest(url: "wss://\(server.address)/ws")
            request.tls.insecureSkipVerify = true
            let webSocket = try WebSocketClient.connect(request)
            request.url = "https://\(server.address)/"
            let status = Monitor<Int?>(nil)
            startThread("asks") { [request] in
                let answer = try? HTTPClient().perform(request)
                status.update { $0 = answer?.status ?? 0 }
            }
            _ = waiting.wait { $0.isEmpty ? nil : () }
            server.stop(drainMillis: drainMillis)
            XCTAssertEqual(status.wait(timeoutNanos: 20 * nanosPerSecond) { $0 }, 503)
            XCTAssertNil(try webSocket.receive(timeoutMillis: 20_000))
            waiting.update { $0 = [] }
        }
    }

    func testBadIdentity() throws {
        var configuration = HTTPServerConfiguration(name: "tls", address: "127.0.0.1:0")
        configuration.tls = TLSIdentity(certificatePEM: Array("no certificate".utf8), keyPEM: Array("no key".utf8))
        XCTAssertThrowsError(try HTTPServer(configuration, handle: { _, _ in })) { XCTAssert("\($0)".contains("certificate and key PEM"), "\($0)") }
    }
}
