package import ObsCore

/// The compression an HTTP `Content-Encoding` names; absent, empty and `identity` are none.
/// - Throws: `.unsupportedType` for an encoding we do not speak, a list of several included.
package func bodyCompression(contentEncoding: String?) throws(ObsError) -> BodyCompression {
    guard let contentEncoding else { return .none }
    let name = contentEncoding.utf8.filter { $0 != 0x20 && $0 != 0x09 }.map { $0 >= 0x41 && $0 <= 0x5a ? $0 | 0x20 : $0 }
    switch String(decoding: name, as: UTF8.self) {
    case "", "identity": return .none
    case "gzip", "x-gzip": return .gzip
    case "deflate": return .deflate
    case "zstd": return .zstd
    case "snappy": return .snappy
    default: throw ObsError(.unsupportedType, "unsupported content encoding \(quoted(contentEncoding)), use gzip, zstd, deflate, snappy or identity")
    }
}
