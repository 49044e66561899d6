internal import CSystem
package import ObsCore

/// Questions to the system's resolver that `getaddrinfo` cannot ask.
package enum DNSQuery {
    private static let answerBytesMax = 64 << 10

    /// Records of a name, in the order of the answer; none when the name or the records do not exist. Blocks as long as the resolver's settings say.
    /// - Parameter port: of a server on this machine to be asked instead, for tests; 0 for none.
    /// - Throws: `.unavailable` when no server gave an answer, `.badInput` for a malformed one.
    package static func records(_ name: String, _ kind: DNSRecord.Kind, port: UInt16 = 0) throws(ObsError) -> [DNSRecord] {
        var answer = [UInt8](repeating: 0, count: answerBytesMax)
        let length = Int(obs_dns_search(name, Int32(kind.rawValue), port, &answer, Int32(answerBytesMax)))
        if length == OBS_DNS_NO_RECORDS { return [] }
        guard length >= 0 else { throw ObsError(.unavailable, "could not resolve \(quoted(name)): no server gave an answer") }
        return try DNSMessage.records(Array(answer.prefix(length)), kind)
    }
}
