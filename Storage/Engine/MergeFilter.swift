internal import ObsCore
internal import ObsSegment

/// Deleted rows of one segment, as whoever rewrites or reads it asks for them.
protocol RowMask: Sendable {
    /// Whether nothing of the segment is deleted: then nobody asks further.
    var isEmpty: Bool { get }
    /// Deleted times of a series or stream, in the signal's unit, both ends inclusive.
    /// - Parameter labels: canonical.
    func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>]
    func isDeleted(_ batch: SpanBatch, row: Int) -> Bool
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
