import Glibc
import ObsCore
import Synchronization
import XCTest

@testable import ObsNet

final class HTTPServerTests: XCTestCase {
    private func start(
        _ change: (inout HTTPServerConfiguration) -> Void = { _ in }, admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil },
        _ handle: @escaping HTTPHandler
    ) throws -> HTTPServer {
        var configuration = HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")
        change(&configuration)
        return try HTTPServer(configuration, admit: admit, handle: handle)
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
}
