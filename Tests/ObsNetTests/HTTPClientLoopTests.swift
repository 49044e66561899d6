import Foundation
import ObsCore
import Synchronization
import XCTest

@testable import ObsNet

final class HTTPClientLoopTests: XCTestCase {
    private func start(_ handle: @escaping HTTPHandler) throws -> HTTPServer {
        try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: handle)
    }

    func testManyAtOnceAndNobodyWaitsForTheSilent() throws {
        let held = Mutex<[any HTTPResponder]>([])
        let server = try start { request, responder in
            if request.path == "/never" { return held.withLock { $0.append(responder) } }
            responder.send(.text(200, request.path))
        }
        let loop = HTTPClientLoop(name: "test-loop")
        let answers = Monitor<[String: Result<HTTPClientResponse, ObsError>]>([:])
        func submit(_ path: String) {
            var request = HTTPClientRequest(url: "http://\(server.address)\(path)")
            request.timeoutMillis = 60_000
            loop.submit(request) { result in answers.update { $0[path] = result } }
        }
        for index in 0..<50 { submit("/never?\(index)") }
        for index in 0..<200 { submit("/\(index)") }
        let good = answers.wait(timeoutNanos: 60 * nanosPerSecond) { $0.count >= 200 ? $0 : nil }
        XCTAssertEqual(good?.count, 200)
        for (path, result) in good ?? [:] {
            XCTAssertEqual(try? String(decoding: result.get().body, as: UTF8.self), path)
        }
        loop.stop()
        let all = answers.read { $0 }
        XCTAssertEqual(all.count, 250)
        for (path, result) in all where path.hasPrefix("/never") {
            guard case .failure(let error) = result else { return XCTFail("an answer to \(path)") }
            XCTAssertEqual(error.code, .cancelled)
        }
        loop.submit(HTTPClientRequest(url: "http://\(server.address)/late")) { result in answers.update { $0["late"] = result } }
        guard case .failure(let late)? = answers.read({ $0["late"] }) else { return XCTFail("an answer after the end") }
        XCTAssertEqual(late.code, .unavailable)
        for responder in held.withLock({ $0 }) { responder.send(.text(200, "")) }
        server.stop(drainMillis: 100)
    }

    func testWhatGoesWrong() throws {
        let held = Mutex<[any HTTPResponder]>([])
        let server = try start { request, responder in
            if request.path == "/hang" { return held.withLock { $0.append(responder) } }
            if request.path == "/post" { return responder.send(HTTPResponse(status: 200, body: request.body)) }
            if request.path == "/none" { return responder.send(.text(404, "no")) }
            if request.path == "/large" { responder.send(HTTPResponse(status: 200, body: [UInt8](repeating: 1, count: 100_000))) }
        }
        let loop = HTTPClientLoop(name: "test-loop")
        func code(_ path: String, _ change: (inout HTTPClientRequest) -> Void) -> ObsError.Code? {
            var request = HTTPClientRequest(url: path.hasPrefix("/") ? "http://\(server.address)\(path)" : path)
            change(&request)
            do { _ = try loop.perform(request) } catch { return (error as? ObsError)?.code }
            return nil
        }
        XCTAssertEqual(code("/hang") { $0.timeoutMillis = 200 }, .timeout)
        XCTAssertEqual(code("/large") { $0.responseBytesMax = 1000 }, .tooLarge)
        XCTAssertNil(code("/large") { $0.responseBytesMax = 100_000 })
        XCTAssertEqual(code("http://127.0.0.1:1/") { _ in }, .unavailable)
        XCTAssertEqual(code("gopher://x/") { _ in }, .badInput)
        let memory = MemoryBudget(MemoryShares(ceilingBytes: 64 << 20)).ingest
        XCTAssertTrue(memory.reserve(memory.bytesMax))
        XCTAssertEqual(code("/large") { $0.memory = MemoryReservation(memory) }, .throttled)
        var post = HTTPClientRequest(url: "http://\(server.address)/post", method: "POST", body: [UInt8](repeating: 7, count: 50_000))
        post.timeoutMillis = 60_000
        XCTAssertEqual(try loop.perform(post).body, post.body)
        let missing = try loop.perform(HTTPClientRequest(url: "http://\(server.address)/none"))
        XCTAssertEqual(missing.status, 404)
        XCTAssertEqual(missing.reason, "Not Found")
        loop.stop()
        for responder in held.withLock({ $0 }) { responder.send(.text(200, "")) }
        server.stop(drainMillis: 100)
    }
}
