import Foundation
import ObsCore
import ObsNet
import ObsYAML
import Synchronization
import XCTest

@testable import ObsIngest

/// A token server and a target in one.
private final class Authority: Sendable {
    struct State {
        /// What came for a token: header and form.
        var asked: [String] = []
        /// What targets were shown.
        var shown: [String] = []
        var refusesHeader = false
        var expires = 3600
        var refused: Set<String> = []
        var status = 200
    }

    let state = Mutex(State())

    func handle(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let answer = state.withLock { state -> HTTPResponse in
            let authorization = request.header("authorization") ?? ""
            if request.path == "/token" {
                state.asked.append("\(authorization)|\(String(decoding: request.body, as: UTF8.self))")
                if state.refusesHeader, !authorization.isEmpty { return .text(401, "no") }
                if state.status != 200 { return .text(state.status, "no") }
                return .json(
                    200, Array(#"{"access_token":"t\#(state.asked.count)","token_type":"bearer","expires_in":\#(state.expires)}"#.utf8))
            }
            state.shown.append(authorization)
            return state.refused.contains(authorization) ? .text(401, "old") : .text(200, "m 1")
        }
        responder.send(answer)
    }
}

final class OAuth2TokensTests: XCTestCase {
    private func run(_ authority: Authority, _ body: (_ ask: () throws -> HTTPClientResponse) throws -> Void) throws {
        let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: { authority.handle($0, $1) })
        let map = try YAMLMapping(
            YAMLNode.parse(
                """
                oauth2: {client_id: 'me+', client_secret: 's e', scopes: [a, b], token_url: 'http://\(server.address)/token', endpoint_params: {audience: x&y}}
                """))
        let settings = try HTTPClientSettings(map, directory: ".")
        let loop = HTTPClientLoop(name: "test-loop")
        try body {
            let box = Monitor<Result<HTTPClientResponse, ObsError>?>(nil)
            settings.send(try settings.request(url: "http://\(server.address)/metrics"), loop, clock: SystemClock()) { result in box.update { $0 = result } }
            return try XCTUnwrap(box.wait(timeoutNanos: 20 * nanosPerSecond) { $0 }).get()
        }
        loop.stop()
        server.stop(drainMillis: 100)
    }

    func testATokenIsAskedForOnce() throws {
        let authority = Authority()
        try run(authority) { ask in
            for _ in 0..<5 { XCTAssertEqual(try ask().status, 200) }
        }
        let state = authority.state.withLock { $0 }
        // Basic authorization has them encoded as in a form.
        XCTAssertEqual(state.asked, ["Basic \(Data("me%2B:s%20e".utf8).base64EncodedString())|grant_type=client_credentials&scope=a%20b&audience=x%26y"])
        XCTAssertEqual(state.shown, [String](repeating: "Bearer t1", count: 5))
    }

    func testServersThatWantThemInTheBody() throws {
        let authority = Authority()
        authority.state.withLock { $0.refusesHeader = true }
        try run(authority) { ask in XCTAssertEqual(try ask().status, 200) }
        let asked = authority.state.withLock { $0.asked }
        XCTAssertEqual(asked.last, "|grant_type=client_credentials&scope=a%20b&audience=x%26y&client_id=me%2B&client_secret=s%20e")
        XCTAssertEqual(asked.count, 2)
    }

    func testTokensAreRenewed() throws {
        let authority = Authority()
        // Within the last seconds of its life a token is not used any more.
        authority.state.withLock { $0.expires = 5 }
        try run(authority) { ask in
            XCTAssertEqual(try ask().status, 200)
            XCTAssertEqual(try ask().status, 200)
            XCTAssertEqual(authority.state.withLock { $0.shown }, ["Bearer t1", "Bearer t2"])
            authority.state.withLock {
                $0.expires = 3600
                $0.refused = ["Bearer t3"]
            }
            XCTAssertEqual(try ask().status, 401)
            XCTAssertEqual(try ask().status, 200)
            XCTAssertEqual(authority.state.withLock { $0.shown.last }, "Bearer t4")
        }
    }

    func testNoTokenIsNoRequest() throws {
        let authority = Authority()
        authority.state.withLock { $0.status = 503 }
        try run(authority) { ask in
            XCTAssertThrowsError(try ask()) {
                XCTAssertEqual(($0 as? ObsError)?.message, "no OAuth 2 token: the token server answered HTTP status 503 Service Unavailable")
            }
            authority.state.withLock { $0.status = 200 }
            XCTAssertEqual(try ask().status, 200)
        }
        XCTAssertEqual(authority.state.withLock { $0.shown.count }, 1)
    }
}
