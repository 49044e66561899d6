// Digests that protocols prescribe, by GnuTLS: the daemon has one cryptographic library.
internal import CGnuTLS

package enum Digest: Sendable {
    /// WebSocket's handshake (RFC 6455 §4.2.2).
    case sha1
    /// Stored form of bearer tokens.
    case sha256
    /// Prometheus' `hashmod`.
    case md5

    package func hash(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        let algorithm =
            switch self {
            case .sha1: GNUTLS_DIG_SHA1
            case .sha256: GNUTLS_DIG_SHA256
            case .md5: GNUTLS_DIG_MD5
            }
        let input = Array(bytes)
        var output = [UInt8](repeating: 0, count: Int(gnutls_hash_get_len(algorithm)))
        let status = input.withUnsafeBytes { gnutls_hash_fast(algorithm, $0.baseAddress, $0.count, &output) }
        precondition(status == 0, "FATAL: GnuTLS refused a digest: \(status)")
        return output
    }
}

/// Random bytes fit for secrets.
package func secretBytes(count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    precondition(gnutls_rnd(GNUTLS_RND_KEY, &bytes, count) == 0, "FATAL: no randomness")
    return bytes
}
