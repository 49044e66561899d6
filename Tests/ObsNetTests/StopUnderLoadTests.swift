import Glibc
import ObsCore
import XCTest

@testable import ObsNet

/// Answers from other threads, streams, WebSockets and vanishing clients race with the end of the server; a wrong order would end the process.
final class StopUnderLoadTests: XCTestCase {
    func testStopUnderLoad() throws {
        for round in 0..<12 {
            let pool = WorkerPool(name: "answers", threads: 3, queueMax: 10_000)
            let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")) { request, responder in
                switch request.path {
                case "/now": responder.send(.text(200, "x"))
                case "/stream":
                    let stream = responder.stream(status: 200, headers: [])
                    _ = pool.submit { for _ in 0..<20 where stream.write([UInt8](repeating: 1, count: 1000)) { usleep(200) } }
                case "/ws":
                    responder.upgradeToWebSocket { webSocket in
                        _ = pool.submit { for _ in 0..<20 where webSocket.send(text: [65]) { usleep(200) } }
                    }
                default:
                    _ = pool.submit {
                        _ = request.clientGone()
                        usleep(useconds_t.random(in: 0...1500))
                        responder.send(.text(200, "late"))
                    }
                }
            }
            let port = server.port
            let running = Monitor(6)
            let stopping = Monitor(false)
            for _ in 0..<6 {
                startThread("load") {
                    while !stopping.read({ $0 }), let client = RawConnection(connectingTo: port) {
                        let path = ["/now", "/late", "/stream", "/ws", "/late"].randomElement() ?? "/"
                        client.send(
                            "GET \(path) HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
                        if Bool.random() { _ = client.receive() }
                    }
                    running.update { $0 -= 1 }
                }
            }
            usleep(useconds_t(20_000 + round * 3000))
            server.stop(drainMillis: round % 3 * 5)
            stopping.update { $0 = true }
            XCTAssertNotNil(running.wait(timeoutNanos: 60 * nanosPerSecond) { $0 == 0 ? () : nil })
            pool.stop()
            XCTAssertEqual(server.requestsInFlight, 0)
            XCTAssertEqual(server.connectionsOpen, 0)
        }
    }
}
