import Glibc
import ObsCore
import Synchronization
import XCTest

@testable import ObsNet

final class WebSocketTests: XCTestCase {
    private let upgrade =
        "GET /tail HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

    private final class Sockets: Sendable {
        let open = Monitor<[any WebSocket]>([])
        let closes = Monitor(0)

        var first: any WebSocket {
            get throws { try XCTUnwrap(open.wait(timeoutNanos: 20 * nanosPerSecond) { $0.first }) }
        }

        func waitForClose() -> Bool { closes.wait(timeoutNanos: 20 * nanosPerSecond, until: { $0 > 0 ? () : nil }) != nil }
    }

    private func start(_ sockets: Sockets, _ change: (inout HTTPServerConfiguration) -> Void = { _ in }) throws -> HTTPServer {
        var configuration = HTTPServerConfiguration(name: "test", address: "127.0.0.1:0")
        change(&configuration)
        return try HTTPServer(configuration) { _, responder in
            responder.upgradeToWebSocket { webSocket in
                webSocket.onClose { sockets.closes.update { $0 += 1 } }
                sockets.open.update { $0.append(webSocket) }
            }
        }
    }

    func testFramesRoundTrip() throws {
        for size in [0, 1, 125, 126, 127, 65535, 65536, 100_000] {
            for mask in [nil, 0, 0x1234_5678] as [UInt32?] {
                let frame = WebSocketFrame(opcode: .binary, isFinal: size % 2 == 0, payload: (0..<size).map { UInt8(truncatingIfNeeded: $0) })
                let bytes = frame.encoded(mask: mask)
                var reader = WebSocketFrameReader(isMasked: mask != nil, payloadBytesMax: 100_000)
                let cut = size % 7
                bytes[..<cut.clamped(bytes.count)].withUnsafeBytes { reader.append($0) }
                XCTAssertNil(try reader.next().flatMap { $0.payload.count < size ? $0 : nil })
                bytes[cut.clamped(bytes.count)...].withUnsafeBytes { reader.append($0) }
                if size > 6 { XCTAssertEqual(try reader.next(), frame) }
            }
        }
    }

    func testFrameViolations() {
        func check(_ bytes: [UInt8], _ code: UInt16, line: UInt = #line) {
            var reader = WebSocketFrameReader(isMasked: true, payloadBytesMax: 1000)
            bytes.withUnsafeBytes { reader.append($0) }
            XCTAssertThrowsError(try reader.next(), line: line) { XCTAssertEqual(($0 as? WebSocketFrameReader.Violation)?.code, code, line: line) }
        }
        check([0x81, 0x01, 0x41], 1002)  // not masked
        check([0xc1, 0x80, 0, 0, 0, 0], 1002)  // reserved bit
        check([0x83, 0x80, 0, 0, 0, 0], 1002)  // unknown opcode
        check([0x09, 0x80, 0, 0, 0, 0], 1002)  // fragmented ping
        check([0x89, 0xfe, 0, 200, 0, 0, 0, 0], 1002)  // long ping
        check([0x81, 0xfe, 0x10, 0], 1009)
        check([0x81, 0xff] + [UInt8](repeating: 0xff, count: 8), 1009)
    }

    func testRandomBytesDoNotCrash() {
        var random = SeededGenerator(7)
        for _ in 0..<3000 {
            var reader = WebSocketFrameReader(isMasked: Bool.random(using: &random), payloadBytesMax: 1000)
            for _ in 0..<4 {
                let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                bytes.withUnsafeBytes { reader.append($0) }
                do { while try reader.next() != nil {} } catch { break }
            }
        }
    }

    func testHandshakeMessagesPingAndClose() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        let client = RawConnection(port: server.port)
        client.send(upgrade)
        let head = client.receive(until: "\r\n\r\n")
        XCTAssert(head.hasPrefix("HTTP/1.1 101"), head)
        XCTAssert(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), head)
        let webSocket = try sockets.first
        XCTAssert(webSocket.send(text: Array("hi".utf8)))
        XCTAssertEqual(client.receive(), [0x81, 2] + Array("hi".utf8))
        client.send(WebSocketFrame(opcode: .text, payload: Array("ignored".utf8)).encoded(mask: 99))
        client.send(WebSocketFrame(opcode: .ping, payload: [1, 2, 3]).encoded(mask: 0xdead_beef))
        XCTAssertEqual(client.receive(), [0x8a, 3, 1, 2, 3])
        client.send(WebSocketFrame.close(1000, "bye").encoded(mask: 5))
        XCTAssertEqual(client.receive(), [0x88, 2, 0x03, 0xe8])
        XCTAssertEqual(client.receive(), [], "the server closes the connection")
        XCTAssert(sockets.waitForClose())
        XCTAssert(webSocket.isClosed)
        XCTAssertFalse(webSocket.send(text: [65]))
        server.stop(drainMillis: 100)
        XCTAssertEqual(sockets.closes.read { $0 }, 1)
    }

    func testNoUpgrade() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        for request in [
            "GET /tail HTTP/1.1\r\nHost: h\r\n\r\n", upgrade.replacing("Version: 13", with: "Version: 8"), upgrade.replacing("GET", with: "POST"),
            upgrade.replacing("dGhlIHNhbXBsZSBub25jZQ==", with: "short"), upgrade.replacing("keep-alive, Upgrade", with: "keep-alive"),
        ] {
            let client = RawConnection(port: server.port)
            client.send(request)
            let answer = client.receive(until: "\r\n\r\n")
            XCTAssert(answer.hasPrefix("HTTP/1.1 400"), answer)
            XCTAssert(answer.contains("Sec-WebSocket-Version: 13"))
        }
        server.stop(drainMillis: 100)
        XCTAssertEqual(sockets.open.read { $0.count }, 0)
    }

    func testClientThatDisappears() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        var client: RawConnection? = RawConnection(port: server.port)
        client?.send(upgrade)
        _ = client?.receive(until: "\r\n\r\n")
        _ = try sockets.first
        client = nil
        XCTAssert(sockets.waitForClose())
        server.stop(drainMillis: 100)
    }

    func testProtocolViolationCloses() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        let client = RawConnection(port: server.port)
        client.send(Array(upgrade.utf8) + [0x81, 0x01, 0x41])  // not masked, and sent together with the head
        XCTAssert(client.receiveToEnd().contains("frame is not masked"))
        XCTAssert(sockets.waitForClose())
        server.stop(drainMillis: 100)
    }

    func testSlowClientIsBounded() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        let client = RawConnection(port: server.port)
        client.send(upgrade)
        _ = client.receive(until: "\r\n\r\n")
        let webSocket = try sockets.first
        let message = [UInt8](repeating: 65, count: 100_000)
        var sent = 0
        while sent < 10_000, webSocket.send(text: message) { sent += 1 }
        XCTAssertLessThan(sent, 10_000)
        XCTAssertGreaterThan(webSocket.queued, 0)
        XCTAssertFalse(webSocket.isClosed)
        // Once it reads again, everything that was accepted arrives.
        var received = 0
        while received < sent * (message.count + 10) {
            let next = client.receive(1 << 20).count
            if next == 0 { break }
            received += next
        }
        XCTAssertEqual(received, sent * (message.count + 10))
        XCTAssert(webSocket.send(text: [65]))
        server.stop(drainMillis: 100)
    }

    func testClientOfOurs() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        let client = try WebSocketClient.connect(HTTPClientRequest(url: "ws://\(server.address)/tail?q=1"))
        let webSocket = try sockets.first
        for size in [0, 5, 200, 70_000] { XCTAssert(webSocket.send(text: [UInt8](repeating: 66, count: size))) }
        for size in [0, 5, 200, 70_000] { XCTAssertEqual(try client.receive()?.count, size) }
        XCTAssertThrowsError(try client.receive(timeoutMillis: 20)) { XCTAssertEqual(($0 as? ObsError)?.code, .timeout) }
        webSocket.close(code: 1000, reason: "done")
        XCTAssertNil(try client.receive())
        XCTAssert(sockets.waitForClose())
        server.stop(drainMillis: 100)
    }

    func testClientIsToldWhyItIsRefused() throws {
        let server = try HTTPServer(HTTPServerConfiguration(name: "t", address: "127.0.0.1:0")) { $1.send(.text(400, "parse error\nat 1:1")) }
        XCTAssertThrowsError(try WebSocketClient.connect(HTTPClientRequest(url: "ws://\(server.address)/x"))) {
            XCTAssertEqual(($0 as? ObsError)?.code, .badInput)
            XCTAssert("\($0)".hasSuffix("HTTP 400: parse error at 1:1"), "\($0)")
        }
        let url = "ws://\(server.address)/x"
        server.stop(drainMillis: 100)
        XCTAssertThrowsError(try WebSocketClient.connect(HTTPClientRequest(url: url))) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
    }

    func testStoppingTheServerClosesWithHandshake() throws {
        let sockets = Sockets()
        let server = try start(sockets)
        let client = try WebSocketClient.connect(HTTPClientRequest(url: "http://\(server.address)/"))
        let deaf = RawConnection(port: server.port)
        deaf.send(upgrade)
        XCTAssertNotNil(sockets.open.wait(timeoutNanos: 20 * nanosPerSecond) { $0.count == 2 ? () : nil })
        startThread("stop") { server.stop(drainMillis: 300) }
        XCTAssertNil(try client.receive())
        XCTAssert(deaf.receiveToEnd().contains("server is stopping"))
        XCTAssertNotNil(sockets.closes.wait(timeoutNanos: 20 * nanosPerSecond) { $0 == 2 ? () : nil })
    }
}

extension Int {
    fileprivate func clamped(_ limit: Int) -> Int { Swift.min(self, limit) }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
