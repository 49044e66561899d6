// The order of a big stream's rows within a flush.
//
// A stream is what its labels say, and they may say little: all hosts of a service, all loggers of a program, or, of senders that name no service, everything. What
// one source writes is like what it wrote before, and unlike what its neighbours in time wrote; a block of rows by time alone is then a sample of everything, in
// which each statement has few rows, and a third bigger than blocks of rows that belong together. So a stream that fills several blocks is divided by who wrote:
// rows lie by scope (the logger) and resource in parts of about a block's size at least, and by time within a part. A block ends where time steps back, so each part
// is blocks of its own, and what is promised of blocks holds (`LogSegmentWriter`). Readers visit blocks by their times anyway.
//
// It is done where rows become blocks first and no more: merges copy big blocks, and the parts of one flush are near each other in time, so that the newest lines of
// a stream are in the few blocks of its last flush.

internal import ObsCore
internal import ObsEncoding
internal import ObsSegment

/// Who wrote each row of some batches.
struct RowOrigins {
    private let sources: [LogBatch]
    /// Of each source its entries' places among all, in the order of their bytes.
    private let resources: (places: [[Int]], count: Int)
    private let scopes: (places: [[Int]], count: Int)

    /// More kinds of origin than this are not told apart.
    private static let countMax = 1 << 20

    /// Nil when all rows are of one origin, or of too many.
    init?(_ sources: [LogBatch]) {
        self.sources = sources
        resources = Self.places(sources, \.resources)
        scopes = Self.places(sources, \.scopes)
        let count = resources.count * scopes.count
        if count == 1 || count > Self.countMax { return nil }
    }

    private static func places(_ sources: [LogBatch], _ table: KeyPath<LogBatch, [ByteRange]>) -> (places: [[Int]], count: Int) {
        var interner = ByteInterner()
        let numbers = sources.map { source in
            source.bytes.withUnsafeBytes { bytes in
                source[keyPath: table].map { interner.intern(UnsafeRawBufferPointer(rebasing: bytes[$0.range])) }
            }
        }
        var places = [Int](repeating: 0, count: interner.count)
        for (place, number) in interner.sortedNumbers().enumerated() { places[number] = place }
        return (numbers.map { $0.map { places[$0] } }, interner.count)
    }

    private func origin(_ place: RowPlace) -> Int {
        let (source, row) = (Int(place.source), Int(place.row))
        return scopes.places[source][Int(sources[source].scope[row])] * resources.count + resources.places[source][Int(sources[source].resource[row])]
    }

    /// Divides a stream's rows, which are in order of time.
    /// - Parameter stream: its rows among all.
    func divide(_ rows: inout [RowPlace], _ stream: Range<Int>) {
        guard stream.count >= 2 * SegmentLimits.blockRowsMax else { return }
        let origins = rows[stream].map(origin)
        var counts = [Int](repeating: 0, count: resources.count * scopes.count)
        for origin in origins { counts[origin] += 1 }
        let (parts, starts) = Self.parts(counts, rows: stream.count)
        guard starts.count > 1 else { return }
        let ordered = Array(rows[stream])
        var next = starts.map { stream.lowerBound + $0 }
        for (row, origin) in zip(ordered, origins) {
            rows[next[parts[origin]]] = row
            next[parts[origin]] += 1
        }
    }

    /// The part of each origin, and where each part begins. A part is a full block at least; one that comes before or behind a full one may be less.
    private static func parts(_ counts: [Int], rows: Int) -> (parts: [Int], starts: [Int]) {
        var parts = [Int](repeating: 0, count: counts.count)
        var starts = [0]
        var end = 0
        for (origin, count) in counts.enumerated() where count > 0 {
            let least = count >= SegmentLimits.blockRowsMax ? SegmentLimits.blockRowsMin : SegmentLimits.blockRowsMax
            if end - starts[starts.count - 1] >= least, rows - end >= SegmentLimits.blockRowsMin { starts.append(end) }
            parts[origin] = starts.count - 1
            end += count
        }
        return (parts, starts)
    }
}
