internal import ObsCore

/// A record of an answer, of the types that lead to targets.
package struct DNSRecord: Sendable, Equatable {
    package enum Kind: UInt16, Sendable {
        case a = 1
        case ns = 2
        case mx = 15
        case aaaa = 28
        case srv = 33
    }

    package var kind: Kind
    /// An address as text, or a name with its final dot.
    package var target: String
    /// Of SRV records.
    package var port: UInt16

    package init(kind: Kind, target: String, port: UInt16 = 0) {
        self.kind = kind
        self.target = target
        self.port = port
    }
}

/// Reads the answer section of a DNS message (RFC 1035 §4; SRV: RFC 2782). Names may point back into the message, a bounded number of times.
struct DNSMessage {
    private let bytes: [UInt8]
    private var position = 0

    private static let nameBytesMax = 255

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Records of the wanted kind; others (a CNAME on the way to an address) are passed over.
    /// - Throws: `.badInput` for a message that is cut or is none.
    static func records(_ bytes: [UInt8], _ kind: DNSRecord.Kind) throws(ObsError) -> [DNSRecord] {
        var message = DNSMessage(bytes)
        return try message.records(kind)
    }

    private mutating func records(_ kind: DNSRecord.Kind) throws(ObsError) -> [DNSRecord] {
        position = 4
        let questions = try number()
        let answers = try number()
        position = 12
        for _ in 0..<questions {
            _ = try name()
            position += 4
        }
        var records: [DNSRecord] = []
        for _ in 0..<answers {
            _ = try name()
            let type = try number()
            position += 6
            let length = Int(try number())
            let next = position + length
            guard next <= bytes.count else { throw Self.malformed }
            if type == kind.rawValue { records.append(try record(kind, length)) }
            position = next
        }
        return records
    }

    private mutating func record(_ kind: DNSRecord.Kind, _ length: Int) throws(ObsError) -> DNSRecord {
        switch kind {
        case .a:
            guard length == 4 else { throw Self.malformed }
            return DNSRecord(kind: kind, target: bytes[position..<position + 4].map { String($0) }.joined(separator: "."))
        case .aaaa:
            guard length == 16 else { throw Self.malformed }
            return DNSRecord(kind: kind, target: Self.address6(bytes[position..<position + 16]))
        case .ns: return DNSRecord(kind: kind, target: try name())
        case .mx:
            _ = try number()
            return DNSRecord(kind: kind, target: try name())
        case .srv:
            position += 4
            let port = try number()
            return DNSRecord(kind: kind, target: try name(), port: port)
        }
    }

    private static let malformed = ObsError(.badInput, "malformed DNS answer")

    private mutating func number() throws(ObsError) -> UInt16 {
        guard position >= 0, position + 2 <= bytes.count else { throw Self.malformed }
        defer { position += 2 }
        return UInt16(bytes[position]) << 8 | UInt16(bytes[position + 1])
    }

    /// The name at hand, with its final dot.
    private mutating func name() throws(ObsError) -> String {
        var text: [UInt8] = []
        var at = position
        var end: Int?
        var jumps = 0
        while true {
            guard at < bytes.count else { throw Self.malformed }
            let length = Int(bytes[at])
            if length == 0 {
                position = end ?? at + 1
                return text.isEmpty ? "." : String(decoding: text, as: UTF8.self)
            }
            if length & 0xc0 == 0xc0 {
                guard at + 1 < bytes.count, jumps < 32 else { throw Self.malformed }
                if end == nil { end = at + 2 }
                at = (length & 0x3f) << 8 | Int(bytes[at + 1])
                jumps += 1
                continue
            }
            guard length < 64, at + 1 + length <= bytes.count, text.count + length < Self.nameBytesMax else { throw Self.malformed }
            text += bytes[at + 1...at + length]
            text.append(UInt8(ascii: "."))
            at += 1 + length
        }
    }

    /// As RFC 5952 writes it: the longest run of two or more zero groups is `::`.
    private static func address6(_ bytes: ArraySlice<UInt8>) -> String {
        let octets = Array(bytes)
        let groups = (0..<8).map { UInt16(octets[$0 * 2]) << 8 | UInt16(octets[$0 * 2 + 1]) }
        var best = 0..<0
        var at = 0
        while at < 8 {
            let end = groups[at...].firstIndex { $0 != 0 } ?? 8
            if end - at > max(best.count, 1) { best = at..<end }
            at = max(end, at + 1)
        }
        func joined(_ part: ArraySlice<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
        return best.isEmpty ? joined(groups[...]) : joined(groups[..<best.lowerBound]) + "::" + joined(groups[best.upperBound...])
    }
}
