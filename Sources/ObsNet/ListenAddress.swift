internal import CMicrohttpd  // the first to include <sys/socket.h>, which makes it the module of its names
internal import Glibc
package import ObsCore

/// Where to listen: `host:port`, `:port` (every address), `[::1]:port`, `localhost:0` (a free port).
package struct ListenAddress: Sendable, Equatable {
    /// Empty means every address.
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package init(parsing text: String) throws(ObsError) {
        guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")), let port = UInt16(text[text.index(after: colon)...]) else {
            throw ObsError(.badInput, "listen address \(quoted(text)) must be host:port, with a port of 0 to 65535")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw ObsError(.badInput, "listen address \(quoted(text)): an IPv6 address needs brackets, as in [::1]:\(port)")
        }
        self.init(host: host, port: port)
    }

    /// As given on a command line or in a URL.
    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Whether only this machine can reach it. `localhost` counts; every other name does not, whatever it resolves to today.
    package var isLoopback: Bool {
        if host.lowercased() == "localhost" || host == "::1" { return true }
        var v4 = in_addr()
        return inet_pton(AF_INET, host, &v4) == 1 && UInt32(bigEndian: v4.s_addr) >> 24 == 127
    }
}

/// Whether an address as configured can be reached from this machine only; false for one that cannot be parsed.
package func isLoopback(_ address: String) -> Bool {
    do throws(ObsError) { return try ListenAddress(parsing: address).isLoopback } catch { return false }
}

/// A bound, listening, non-blocking TCP socket and the address it got.
func openListener(_ address: ListenAddress) throws(ObsError) -> (socket: Int32, bound: ListenAddress) {
    var hints = addrinfo()
    hints.ai_family = address.host.isEmpty ? AF_INET6 : AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    let host: String? = address.host.isEmpty ? nil : address.host
    let status = getaddrinfo(host, String(address.port), &hints, &found)
    guard status == 0, let first = found else {
        throw ObsError(.badInput, "cannot listen on \(address.description): \(String(cString: gai_strerror(status)))")
    }
    defer { freeaddrinfo(found) }
    // localhost names both families; IPv4 is what clients and documents say, so it is preferred.
    var chosen = first.pointee
    var next: UnsafeMutablePointer<addrinfo>? = first
    while let entry = next {
        if entry.pointee.ai_family == AF_INET {
            chosen = entry.pointee
            break
        }
        next = entry.pointee.ai_next
    }
    do throws(ObsError) {
        return try bindListener(chosen, address)
    } catch  where address.host.isEmpty && error.code == .unavailable {
        // No IPv6 on this machine: every IPv4 address then.
        return try openListener(ListenAddress(host: "0.0.0.0", port: address.port))
    }
}

private func bindListener(_ entry: addrinfo, _ address: ListenAddress) throws(ObsError) -> (socket: Int32, bound: ListenAddress) {
    let descriptor = socket(entry.ai_family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else {
        throw ObsError(.unavailable, "cannot listen on \(address.description): \(String(cString: strerror(errno)))")
    }
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    if entry.ai_family == AF_INET6 {
        // A named IPv6 address is that address alone; "every address" takes IPv4 too.
        var only: Int32 = address.host.isEmpty ? 0 : 1
        setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &only, socklen_t(MemoryLayout<Int32>.size))
    }
    guard bind(descriptor, entry.ai_addr, entry.ai_addrlen) == 0, listen(descriptor, 1024) == 0 else {
        let reason = errno
        close(descriptor)
        let words =
            switch reason {
            case EADDRINUSE: "address already in use"
            case EACCES: "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
            case EADDRNOTAVAIL: "no interface has this address"
            default: String(cString: strerror(reason))
            }
        throw ObsError(reason == EADDRNOTAVAIL && address.host.isEmpty ? .unavailable : .badInput, "cannot listen on \(address.description): \(words)")
    }
    return (descriptor, ListenAddress(host: address.host, port: boundPort(descriptor) ?? address.port))
}

private func boundPort(_ descriptor: Int32) -> UInt16? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutableBytes(of: &storage) { bytes in
        guard let base = bytes.baseAddress else { return nil }
        guard getsockname(descriptor, base.assumingMemoryBound(to: sockaddr.self), &length) == 0 else { return nil }
        return socketAddressPort(UnsafeRawPointer(base))
    }
}

/// The port lies at the same place in IPv4 and IPv6 addresses.
private func socketAddressPort(_ address: UnsafeRawPointer) -> UInt16 {
    UInt16(bigEndian: address.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
}

/// `address:port` of a peer.
func describe(_ address: UnsafePointer<sockaddr>?) -> String {
    guard let address else { return "" }
    let raw = UnsafeRawPointer(address)
    var text = [CChar](repeating: 0, count: 64)
    switch Int32(address.pointee.sa_family) {
    case AF_INET:
        guard inet_ntop(AF_INET, raw + 4, &text, socklen_t(text.count)) != nil else { return "" }
        return "\(stringOf(text)):\(socketAddressPort(raw))"
    case AF_INET6:
        guard inet_ntop(AF_INET6, raw + 8, &text, socklen_t(text.count)) != nil else { return "" }
        let host = stringOf(text)
        // IPv4 clients of a socket for every address.
        if host.hasPrefix("::ffff:"), host.contains(".") { return "\(host.dropFirst(7)):\(socketAddressPort(raw))" }
        return "[\(host)]:\(socketAddressPort(raw))"
    default: return ""
    }
}

private func stringOf(_ text: [CChar]) -> String {
    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
