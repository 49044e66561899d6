import ObsCore
import XCTest

@testable import ObsNet

final class ListenAddressTests: XCTestCase {
    func testParsing() throws {
        func check(_ text: String, _ host: String, _ port: UInt16, loopback: Bool, line: UInt = #line) throws {
            let address = try ListenAddress(parsing: text)
            XCTAssertEqual(address, ListenAddress(host: host, port: port), line: line)
            XCTAssertEqual(address.isLoopback, loopback, line: line)
            XCTAssertEqual(address.description, text, line: line)
        }
        try check("127.0.0.1:4319", "127.0.0.1", 4319, loopback: true)
        try check("127.8.9.1:0", "127.8.9.1", 0, loopback: true)
        try check("localhost:0", "localhost", 0, loopback: true)
        try check("[::1]:4319", "::1", 4319, loopback: true)
        try check(":4319", "", 4319, loopback: false)
        try check("0.0.0.0:80", "0.0.0.0", 80, loopback: false)
        try check("[::]:80", "::", 80, loopback: false)
        try check("obs.example.org:65535", "obs.example.org", 65535, loopback: false)
        try check("127.0.0.1.example.org:1", "127.0.0.1.example.org", 1, loopback: false)
    }

    func testBad() {
        for text in ["", "4319", "host", "host:", "host:x", "host:65536", "host:-1", "::1:4319"] {
            XCTAssertThrowsError(try ListenAddress(parsing: text), text)
            XCTAssertFalse(isLoopback(text))
        }
    }

    func testListening() throws {
        for text in ["localhost:0", ":0", "127.0.0.1:0"] {
            let server = try HTTPServer(HTTPServerConfiguration(name: "t", address: text), handle: { $1.send(.text(200, $0.peer)) })
            XCTAssertNotEqual(server.port, 0)
            let answer = try HTTPClient().perform(HTTPClientRequest(url: "http://127.0.0.1:\(server.port)/"))
            XCTAssert(String(decoding: answer.body, as: UTF8.self).hasPrefix("127.0.0.1:"), text)
            server.stop(drainMillis: 100)
        }
        XCTAssertThrowsError(try HTTPServer(HTTPServerConfiguration(name: "t", address: "192.0.2.1:0"), handle: { _, _ in })) {
            XCTAssertEqual("\($0)", "cannot listen on 192.0.2.1:0: no interface has this address")
        }
    }
}
