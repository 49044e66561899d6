// The one door to XXH3.
internal import CXXHash

/// A 128-bit hash. Two byte strings with equal keyed hashes are taken for equal where a store's secret keys the hash.
package struct Hash128: Hashable, Sendable {
    package var low: UInt64
    package var high: UInt64

    package init(low: UInt64, high: UInt64) {
        self.low = low
        self.high = high
    }
}

/// XXH3, 64 bits: checksums of pages and footers.
package func hash64(_ bytes: UnsafeRawBufferPointer) -> UInt64 { obs_xxh3_64(bytes.baseAddress, bytes.count) }

package func hash64(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 { obs_xxh3_64_seeded(bytes.baseAddress, bytes.count, seed) }

/// XXH3, 128 bits, keyed: identity of label sets. The key is a secret of the store, so that clients cannot craft collisions.
package func hash128(_ bytes: UnsafeRawBufferPointer, key: UInt64) -> Hash128 {
    let hash = obs_xxh3_128_seeded(bytes.baseAddress, bytes.count, key)
    return Hash128(low: hash.low, high: hash.high)
}
