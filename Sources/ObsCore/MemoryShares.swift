/// Every bound on memory as a share of one ceiling. The one place where memory is divided; the table in docs/operating.md says the same.
package struct MemoryShares: Sendable, Equatable {
    /// Below this nothing useful fits beside the program itself.
    package static let ceilingBytesMin = 64 << 20

    /// Memory of the whole process.
    package let ceilingBytes: Int

    package init(ceilingBytes: Int) { self.ceilingBytes = ceilingBytes }

    /// All accounts together. The rest is code, stacks, connections and what the allocator loses: 24 MiB and an eighth.
    package var accountedBytesMax: Int { max(ceilingBytes - ceilingBytes / 8 - (24 << 20), 16 << 20) }

    /// Data not yet in segments: a quarter. A signal's part is flushed at a quarter of that.
    package var headBytesMax: Int { accountedBytesMax / 4 }
    /// Requests from the first byte to the answer: a quarter.
    package var ingestBytesMax: Int { accountedBytesMax / 4 }
    /// All queries together: three eighths, of which one is the cache's while they do not need it.
    package var queriesBytesMax: Int { accountedBytesMax / 8 * 3 }
    /// Decoded blocks of segments: an eighth, given back under pressure.
    package var cacheBytesMax: Int { accountedBytesMax / 8 }
    /// Flushes and merges: an eighth.
    package var segmentsBytesMax: Int { accountedBytesMax / 8 }

    /// One query: half of what all may have, so that one cannot starve the rest.
    package var queryBytesMax: Int { queriesBytesMax / 2 }
    /// One body as sent, and decompressed. Decoding holds up to `decodingFactor` times the decompressed size for a moment: the biggest request fits an idle account.
    package var requestBytesMax: Int { ingestBytesMax / 8 }
    package var decodedBytesMax: Int { (ingestBytesMax - requestBytesMax) / Self.decodingFactor }
    /// The text, what the parser makes of it, the batch.
    package static let decodingFactor = 3
    /// Log records of one signal waiting for the disk. They are bodies of requests and counted there, so this bounds how long a stall is, not memory.
    package var walQueueBytesMax: Int { min(64 << 20, ingestBytesMax / 4) }
    /// Connections of a listener: each has 64 KiB for its head and the blocks of its body.
    package var connectionsMax: Int { min(4096, max(64, ceilingBytes / (512 << 10))) }

    /// Free memory the allocator may keep per arena, size from which a piece is a mapping of its own, and arenas. See `keepFreedMemory` in obsd.
    package var trimThresholdBytes: Int { min(16 << 20, ceilingBytes / 128) }
    package var mappingThresholdBytes: Int { min(4 << 20, max(256 << 10, ceilingBytes / 256)) }
    package var arenasMax: Int { ceilingBytes < 1 << 30 ? 2 : 8 }

    /// Bounds of requests and queries within the shares. A bound that was set lower stays.
    package func apply(to limits: inout Limits) {
        limits.memory = MemoryBudget(self)
        limits.requestBytesMax = min(limits.requestBytesMax, requestBytesMax)
        limits.decodedBytesMax = min(limits.decodedBytesMax, decodedBytesMax)
        limits.ingestBytesInFlightMax = ingestBytesMax
        limits.queryBytesMax = min(limits.queryBytesMax, queryBytesMax)
        // A line comes in a body and is copied while it is read.
        limits.lineBytesMax = min(limits.lineBytesMax, decodedBytesMax / 2)
    }
}
