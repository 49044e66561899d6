/// Compression of a stored or received body. Raw values are on disk: never renumber.
package enum BodyCompression: UInt8, Sendable {
    case none = 0, gzip = 1, zstd = 2
    /// Snappy block format (Prometheus, Loki), not framed.
    case snappy = 3
    case deflate = 4
}
