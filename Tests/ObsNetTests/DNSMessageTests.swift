import Foundation
import ObsCore
import XCTest

@testable import ObsNet

final class DNSMessageTests: XCTestCase {
    private func name(_ text: String) -> [UInt8] {
        text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    private func number(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

    /// A message with one question for `host.example`, at offset 12, and these answers.
    private func message(_ answers: [(type: Int, data: [UInt8])], question: Int = 1) -> [UInt8] {
        var bytes: [UInt8] = [0, 1]
        bytes += [0x81, 0x80] + number(1) + number(answers.count) + number(0) + number(0)
        bytes += name("host.example") + number(question) + number(1)
        for answer in answers { bytes += [0xc0, 12] + number(answer.type) + number(1) + [0, 0, 0, 60] + number(answer.data.count) + answer.data }
        return bytes
    }

    func testRecords() throws {
        let answers: [(Int, [UInt8])] = [
            (5, name("alias.example")), (1, [10, 0, 0, 1]), (28, [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]),
            (33, number(1) + number(2) + number(9100) + [1, 97, 0xc0, 12]), (15, number(10) + name("mail.example")), (2, [0xc0, 17]),
        ]
        let bytes = message(answers.map { (type: $0.0, data: $0.1) })
        XCTAssertEqual(try DNSMessage.records(bytes, .a), [DNSRecord(kind: .a, target: "10.0.0.1")])
        XCTAssertEqual(try DNSMessage.records(bytes, .aaaa), [DNSRecord(kind: .aaaa, target: "2001:db8::1")])
        XCTAssertEqual(try DNSMessage.records(bytes, .srv), [DNSRecord(kind: .srv, target: "a.host.example.", port: 9100)])
        XCTAssertEqual(try DNSMessage.records(bytes, .mx), [DNSRecord(kind: .mx, target: "mail.example.")])
        XCTAssertEqual(try DNSMessage.records(bytes, .ns), [DNSRecord(kind: .ns, target: "example.")])
    }

    func testAddresses() throws {
        func shown(_ groups: [UInt16]) throws -> String {
            try DNSMessage.records(message([(28, groups.flatMap { number(Int($0)) })]), .aaaa)[0].target
        }
        XCTAssertEqual(try shown([0, 0, 0, 0, 0, 0, 0, 0]), "::")
        XCTAssertEqual(try shown([0, 0, 0, 0, 0, 0, 0, 1]), "::1")
        XCTAssertEqual(try shown([1, 0, 0, 2, 0, 0, 0, 3]), "1:0:0:2::3")
        XCTAssertEqual(try shown([1, 0, 2, 3, 4, 5, 6, 7]), "1:0:2:3:4:5:6:7")
        XCTAssertEqual(try shown([0xfe80, 0, 0, 0, 0, 0, 0, 0]), "fe80::")
    }

    func testMalformed() {
        XCTAssertThrowsError(try DNSMessage.records([], .a))
        XCTAssertThrowsError(try DNSMessage.records(message([(1, [1, 2, 3])]), .a))
        // A name that points at itself.
        XCTAssertThrowsError(try DNSMessage.records(message([(2, [0xc0, 42])]), .ns))
        let bytes = message([(33, number(1) + number(2) + number(9100) + [1, 97, 0xc0, 12]), (1, [10, 0, 0, 1])])
        var state: UInt64 = 1
        for round in 0..<20_000 {
            var copy = bytes
            for _ in 0...round % 3 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                copy[Int(state >> 33) % copy.count] = UInt8(truncatingIfNeeded: state >> 20)
            }
            for kind in [DNSRecord.Kind.a, .srv] { _ = try? DNSMessage.records(Array(copy.prefix(Int(state >> 40) % (copy.count + 1))), kind) }
        }
    }

    func testTheSystemsResolverIsAsked() throws {
        let socket = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        try withUnsafeMutableBytes(of: &address) { raw in
            let pointer = try XCTUnwrap(raw.baseAddress).assumingMemoryBound(to: sockaddr.self)
            XCTAssertEqual(bind(socket, pointer, length), 0)
            XCTAssertEqual(getsockname(socket, pointer, &length), 0)
        }
        let port = UInt16(bigEndian: address.sin_port)
        let rest = Array(message([(type: 33, data: number(0) + number(0) + number(9100) + name("a.example"))], question: 33).dropFirst(2))
        startThread("dns-test") {
            var buffer = [UInt8](repeating: 0, count: 512)
            var peer = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutableBytes(of: &peer) { raw in
                guard let pointer = raw.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return }
                let count = recvfrom(socket, &buffer, buffer.count, 0, pointer, &size)
                guard count > 12 else { return }
                let reply = buffer[0..<2] + rest
                _ = sendto(socket, Array(reply), reply.count, 0, pointer, size)
            }
        }
        XCTAssertEqual(try DNSQuery.records("host.example", .srv, port: port), [DNSRecord(kind: .srv, target: "a.example.", port: 9100)])
        // Nobody listens there any more.
        XCTAssertThrowsError(try DNSQuery.records("host.example", .a, port: 1)) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
    }
}
