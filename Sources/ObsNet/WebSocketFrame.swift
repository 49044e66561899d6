// RFC 6455 §5: frames on the wire, as values.
//
//   byte 0   FIN, three reserved bits that must be 0, opcode (4 bits)
//   byte 1   MASK, length (7 bits): 0...125 itself; 126: two bytes follow; 127: eight bytes follow (big-endian)
//   4 bytes  masking key, when MASK is set: always from a client, never from a server
//   payload  XORed with the key when masked
internal import ObsCore

struct WebSocketFrame: Equatable {
    enum Opcode: UInt8 { case continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 }

    var opcode: Opcode
    var isFinal = true
    var payload: [UInt8]

    /// A close frame's payload: code and reason, cut to what a control frame holds.
    static func close(_ code: UInt16, _ reason: String) -> WebSocketFrame {
        var text = Substring(reason)
        while text.utf8.count > 123 { text.removeLast() }
        return WebSocketFrame(opcode: .close, payload: [UInt8(code >> 8), UInt8(truncatingIfNeeded: code)] + Array(text.utf8))
    }

    /// The bytes to send; a client gives a masking key.
    func encoded(mask: UInt32? = nil) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payload.count + 14)
        bytes.append((isFinal ? 0x80 : 0) | opcode.rawValue)
        let maskBit: UInt8 = mask == nil ? 0 : 0x80
        switch payload.count {
        case ...125: bytes.append(maskBit | UInt8(payload.count))
        case ...0xffff: bytes += [maskBit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
        default:
            bytes.append(maskBit | 127)
            for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: payload.count >> shift)) }
        }
        guard let mask else { return bytes + payload }
        let key = [
            UInt8(truncatingIfNeeded: mask >> 24), UInt8(truncatingIfNeeded: mask >> 16), UInt8(truncatingIfNeeded: mask >> 8), UInt8(truncatingIfNeeded: mask),
        ]
        bytes += key
        for (index, byte) in payload.enumerated() { bytes.append(byte ^ key[index & 3]) }
        return bytes
    }
}

/// Cuts received bytes into frames.
struct WebSocketFrameReader {
    /// What the other end did wrong, as the close code to answer with.
    struct Violation: Error, Equatable {
        var code: UInt16
        var reason: String
    }

    /// Clients mask, servers must not.
    let isMasked: Bool
    let payloadBytesMax: Int
    private var buffer: [UInt8] = []
    private var at = 0

    init(isMasked: Bool, payloadBytesMax: Int) {
        self.isMasked = isMasked
        self.payloadBytesMax = payloadBytesMax
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        if at > 0, at == buffer.count || at > 64 << 10 {
            buffer.removeFirst(at)
            at = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// The next frame; nil when more bytes are needed.
    mutating func next() throws(Violation) -> WebSocketFrame? {
        let available = buffer.count - at
        guard available >= 2 else { return nil }
        let first = buffer[at]
        let second = buffer[at + 1]
        guard first & 0x70 == 0, let opcode = WebSocketFrame.Opcode(rawValue: first & 0x0f) else {
            throw Violation(code: 1002, reason: "reserved bits or opcode")
        }
        guard (second & 0x80 != 0) == isMasked else { throw Violation(code: 1002, reason: isMasked ? "frame is not masked" : "frame is masked") }
        var head = 2
        var length = UInt64(second & 0x7f)
        if length >= 126 {
            let bytes = length == 126 ? 2 : 8
            guard available >= head + bytes else { return nil }
            length = 0
            for index in 0..<bytes { length = length << 8 | UInt64(buffer[at + head + index]) }
            head += bytes
        }
        if opcode.rawValue >= 8, length > 125 || first & 0x80 == 0 { throw Violation(code: 1002, reason: "control frame is long or fragmented") }
        guard length <= UInt64(payloadBytesMax) else { throw Violation(code: 1009, reason: "frame is larger than \(payloadBytesMax) bytes") }
        let keyAt = at + head
        if isMasked { head += 4 }
        guard available >= head + Int(length) else { return nil }
        let start = at + head
        var payload = Array(buffer[start..<start + Int(length)])
        if isMasked { for index in payload.indices { payload[index] ^= buffer[keyAt + (index & 3)] } }
        at = start + Int(length)
        return WebSocketFrame(opcode: opcode, isFinal: first & 0x80 != 0, payload: payload)
    }
}
