import Glibc
import XCTest

@testable import ObsNet

/// A client that sends exactly the bytes it is told to.
final class RawConnection {
    let socket: Int32

    init(port: UInt16) {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        XCTAssert(connect(port), String(cString: strerror(errno)))
    }

    /// Nil when nobody listens.
    init?(connectingTo port: UInt16) {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard connect(port) else { return nil }
    }

    private func connect(_ port: UInt16) -> Bool {
        var timeout = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    deinit { close(socket) }

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(socket, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    func shutdownWriting() { shutdown(socket, Int32(SHUT_WR)) }

    /// What comes next; empty at the end, on an error or after 20 s of silence.
    func receive(_ bytesMax: Int = 65536) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: bytesMax)
        let count = recv(socket, &buffer, bytesMax, 0)
        return Array(buffer.prefix(max(0, count)))
    }

    /// Reads until `text` has come (it is part of the result) or the connection ends.
    func receive(until text: String) -> String {
        var all = ""
        while !all.contains(text) {
            let next = receive()
            if next.isEmpty { break }
            all += String(decoding: next, as: UTF8.self)
        }
        return all
    }

    /// How many of that many bytes came.
    func receiveToEnd(untilBytes wanted: Int) -> Int {
        var got = 0
        while got < wanted {
            let piece = receive(min(1 << 20, wanted - got))
            if piece.isEmpty { break }
            got += piece.count
        }
        return got
    }

    func receiveToEnd() -> String {
        var all: [UInt8] = []
        while true {
            let next = receive()
            if next.isEmpty { return String(decoding: all, as: UTF8.self) }
            all += next
        }
    }
}
