// How the chunks of one series in several segments become those of the merged one. A chunk that is big enough, overlaps no other and has no deleted sample stays
// as it is, encoded; only what is small, overlaps or is partly deleted is decoded and cut anew. So however often a segment is merged, a sample is encoded again
// a few times in its life, until its chunk is big.

internal import ObsCore
internal import ObsStore

/// A chunk of one of several segments.
struct SourceChunk {
    var input: Int
    var chunk: Chunk
    /// Whether a sample of it may be deleted.
    var isMasked: Bool
    /// What its samples come to; unknown in the first of a merge's walks.
    var summary: SampleSummary
}

/// Filled with all chunks of a series, then `make`; used again for the next.
struct ChunkPlan {
    /// Chunks of half the size and up are not made bigger.
    static let samplesMin = SegmentLimits.chunkSamplesMax / 2

    private(set) var chunks: [SourceChunk] = []
    /// Runs of `chunks`, in time order: one that is a single chunk is copied unless it is masked, the others are made one.
    private(set) var runs: [Range<Int>] = []

    mutating func removeAll() {
        chunks.removeAll(keepingCapacity: true)
        runs.removeAll(keepingCapacity: true)
    }

    /// Chunks of one segment, which must be in time order and disjoint. Segments come oldest first.
    /// - Parameter summaries: of the chunks, or none.
    mutating func add(
        _ input: Int, _ added: ArraySlice<Chunk>, _ summaries: ArraySlice<SampleSummary>, deleted: [ClosedRange<Int64>], path: String
    ) throws(ObsError) {
        var last: Int64?
        for (offset, chunk) in added.enumerated() {
            if let last, chunk.minTime <= last { throw ObsError(.corrupt, "chunks of a series are out of order", place: "\(path):0") }
            last = chunk.maxTime
            guard chunk.times.block >= 0, chunk.values.block >= 0, (0..<SegmentLimits.blockChunksMax).contains(chunk.times.index) else {
                throw ObsError(.corrupt, "a chunk has no place", place: "\(path):0")
            }
            let isMasked = deleted.contains { $0.lowerBound <= chunk.maxTime && $0.upperBound >= chunk.minTime }
            let summary = summaries.isEmpty ? ChunkStatistics.unknown : summaries[summaries.startIndex + offset]
            chunks.append(SourceChunk(input: input, chunk: chunk, isMasked: isMasked, summary: summary))
        }
    }

    func isCopied(_ run: Range<Int>) -> Bool { run.count == 1 && !chunks[run.lowerBound].isMasked }

    mutating func make() {
        if let first = chunks.first, chunks.contains(where: { $0.input != first.input }) {
            chunks.sort { ($0.chunk.minTime, $0.input) < ($1.chunk.minTime, $1.input) }
        }
        var start = 0
        var samples = 0
        var cluster = 0
        while cluster < chunks.count {
            let end = clusterEnd(cluster)
            let count = chunks[cluster..<end].reduce(0) { $0 + $1.chunk.samples }
            let isWhole = isCopied(cluster..<end) && count >= Self.samplesMin
            if start < cluster, samples >= Self.samplesMin, isWhole || samples + count > SegmentLimits.chunkSamplesMax {
                runs.append(start..<cluster)
                start = cluster
                samples = 0
            }
            samples += count
            if start == cluster, isWhole {
                runs.append(start..<end)
                start = end
                samples = 0
            }
            cluster = end
        }
        if start < chunks.count { runs.append(start..<chunks.count) }
    }

    /// End of the chunks that overlap each other, from one on.
    func clusterEnd(_ start: Int) -> Int {
        var end = start + 1
        var reached = chunks[start].chunk.maxTime
        while end < chunks.count, chunks[end].chunk.minTime <= reached {
            reached = max(reached, chunks[end].chunk.maxTime)
            end += 1
        }
        return end
    }
}

/// What becomes of the blocks of one kind, of one segment: one all of whose chunks are copied is copied whole, its bytes as they are.
struct BlockUse {
    private struct Block {
        var chunks: Int32 = 0
        var copied: Int32 = 0
        var columns: Int32 = 0
        var samples: Int32 = 0
        /// In the output; -1 not yet.
        var number: Int32 = -1
    }
    private var blocks: [Block]

    init(count: Int) { blocks = [Block](repeating: Block(), count: count) }

    mutating func note(_ place: ColumnPlace, samples: Int, isCopied: Bool) {
        // Reading says what is wrong with a block that does not exist.
        guard blocks.indices.contains(place.block) else { return }
        blocks[place.block].chunks &+= 1
        if isCopied { blocks[place.block].copied &+= 1 }
        // Columns are used in order for the first time, shared ones again later.
        if place.index >= Int(blocks[place.block].columns) {
            blocks[place.block].columns = Int32(truncatingIfNeeded: place.index &+ 1)
            blocks[place.block].samples &+= Int32(samples)
        }
    }

    /// - Parameter isAlone: whether there is nothing to join a small block with.
    func isWhole(_ block: Int, isAlone: Bool) -> Bool {
        guard blocks.indices.contains(block) else { return false }
        let use = blocks[block]
        let isBig = Int(use.samples) >= SegmentLimits.blockSamplesMax / 2 || Int(use.columns) >= SegmentLimits.blockChunksMax / 2
        return use.chunks == use.copied && (isBig || isAlone)
    }

    func number(_ block: Int) -> Int? { blocks[block].number < 0 ? nil : Int(blocks[block].number) }
    mutating func set(_ block: Int, number: Int) { blocks[block].number = Int32(number) }
}
