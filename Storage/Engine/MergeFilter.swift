internal import ObsCore
internal import ObsSegment
internal import ObsStore

/// Deleted rows of one segment, as whoever rewrites or reads it asks for them.
protocol RowMask: Sendable {
    /// Whether nothing of the segment is deleted: then nobody asks further.
    var isEmpty: Bool { get }
    /// Deleted times of a series or stream, in the signal's unit, both ends inclusive.
    /// - Parameter labels: canonical.
    func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>]
    /// Rows of a stream of logs.
    func rows(labels: UnsafeRawBufferPointer) -> HiddenRows
    func isDeleted(_ batch: SpanBatch, row: Int) -> Bool
}

extension RowMask {
    func rows(labels: UnsafeRawBufferPointer) -> HiddenRows { HiddenRows(times: deletedTimes(labels: labels)) }
}

/// Rows of one series or stream that are not to be seen.
struct HiddenRows: Sendable {
    /// All within these.
    var times: [ClosedRange<Int64>] = []
    /// Within a range those whose line satisfies all matchers.
    var lines: [(range: ClosedRange<Int64>, matchers: [LabelMatcher])] = []

    var isEmpty: Bool { times.isEmpty && lines.isEmpty }

    func contains(_ time: Int64, line: ByteRange, in bytes: UnsafeRawBufferPointer) -> Bool {
        if times.contains(where: { $0.contains(time) }) { return true }
        return lines.contains { range, matchers in
            range.contains(time) && matchers.allSatisfy { $0.matches(UnsafeRawBufferPointer(rebasing: bytes[line.range])) }
        }
    }
}

/// What was deleted in the store; rows it names are left out when segments are merged.
protocol MergeFilter: Sendable {
    /// What is deleted of this segment now. Later deletions do not change the mask.
    func mask(of segment: SegmentInfo) -> any RowMask
    /// Changes with every deletion in the tenant. A merge that ends under another number than it began is thrown away and done again.
    /// Called under the signal's lock: must not take it.
    func version(_ tenant: TenantID, _ signal: Signal) -> UInt64
}

struct NothingDeleted: RowMask, MergeFilter {
    var isEmpty: Bool { true }
    func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] { [] }
    func isDeleted(_ batch: SpanBatch, row: Int) -> Bool { false }
    func mask(of segment: SegmentInfo) -> any RowMask { NothingDeleted() }
    func version(_ tenant: TenantID, _ signal: Signal) -> UInt64 { 0 }
}
