import Glibc

/// A TCP connection that reads HTTP/1.1 messages and writes bytes; closed with its last reference.
final class Connection {
    private let file: Int32
    private var received: [UInt8] = []
    private static let headBytesMax = 64 << 10

    init(file: Int32, timeoutMillis: Int) {
        self.file = file
        var timeout = timeval(tv_sec: timeoutMillis / 1000, tv_usec: timeoutMillis % 1000 * 1000)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(file, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var on: Int32 = 1
        setsockopt(file, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(file) }

    /// Connects to a port of this machine; nil when nobody listens there.
    static func to(port: UInt16, timeoutMillis: Int) -> Connection? {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard file >= 0 else { return nil }
        let connection = Connection(file: file, timeoutMillis: timeoutMillis)
        let status = withLoopback(port) { connect(file, $0, $1) }
        return status == 0 ? connection : nil
    }

    /// The next message's head and body. Nil when the other side closed, stayed silent too long, or sent something else.
    func receive() -> (head: MessageHead, body: [UInt8])? {
        var scanned = 0
        while true {
            while scanned + 4 <= received.count {
                if received[scanned..<scanned + 4].elementsEqual("\r\n\r\n".utf8) { return receiveBody(headBytes: scanned + 4) }
                scanned += 1
            }
            guard received.count < Self.headBytesMax, fill() else { return nil }
        }
    }

    private func receiveBody(headBytes: Int) -> (head: MessageHead, body: [UInt8])? {
        let head = MessageHead(String(decoding: received[..<(headBytes - 4)], as: UTF8.self))
        let total = headBytes + min(max(0, head.bodyBytes), 1 << 20)
        while received.count < total { guard fill() else { return nil } }
        let body = Array(received[headBytes..<total])
        received.removeFirst(total)
        return (head, body)
    }

    private func fill() -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(file, &buffer, buffer.count, 0)
        guard count > 0 else { return false }
        received.append(contentsOf: buffer[..<count])
        return true
    }

    func send(_ text: String) -> Bool {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

/// Calls `body` with the address of a port on 127.0.0.1.
func withLoopback<Result>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}

func pause(millis: Double) { usleep(UInt32(max(0, millis) * 1000)) }

/// Runs `body` on a thread of its own.
func startThread(_ body: @escaping @Sendable () -> Void) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let status = pthread_create(
        &thread, nil,
        { context in
            guard let context else { return nil }
            Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(Box(body)).toOpaque())
    if status == 0 { pthread_detach(thread) }
}
