package import ObsCore

/// Write-ahead log files of the segment's signal whose records the segment holds whole, `first` and `last` included (sequence numbers).
package struct WALRange: Sendable, Hashable {
    package var first: UInt64
    package var last: UInt64

    package init(first: UInt64, last: UInt64) {
        self.first = first
        self.last = last
    }
}

/// What a writer is told about the segment it makes; the rest it sees for itself.
package struct SegmentDraft: Sendable {
    /// Unique in the store; also the file's name, see `DiskLayout.segment`.
    package var id: String
    package var tenant: TenantID
    /// 0 fresh from a head, higher by merges.
    package var level: Int
    package var walRanges: [WALRange]
    /// Ids of the segments whose rows this one takes over: once it is there, they count for nothing. Empty for a flush.
    package var replaces: [String]

    package init(id: String, tenant: TenantID, level: Int = 0, walRanges: [WALRange] = [], replaces: [String] = []) {
        self.id = id
        self.tenant = tenant
        self.level = level
        self.walRanges = walRanges
        self.replaces = replaces
    }
}

/// A segment as its footer describes it: a row of the catalogue, made again from the file when the catalogue is lost.
package struct SegmentInfo: Sendable, Equatable {
    package var id: String
    package var tenant: TenantID
    package var signal: Signal
    package var level: Int
    /// Days since the epoch of `minTime`; a level-0 segment may span days.
    package var day: Int
    /// Milliseconds for metrics, nanoseconds (of a span: its start) for events. Inclusive, as is `maxTime`.
    package var minTime: Int64
    package var maxTime: Int64
    /// Samples, records or spans.
    package var rows: Int64
    /// Size of the file.
    package var bytes: Int64
    package var walRanges: [WALRange]
    /// XXH3 of the footer, which holds the checksums of everything else: equal checksums, equal files.
    package var checksum: UInt64
    /// Sorted metric names; empty when there are more than `SegmentLimits.namesMax`: then any name may be inside.
    package var names: [String]
    /// Sorted service names (`service_name` of streams, services of spans); empty for metrics and when there are more than `SegmentLimits.namesMax`.
    package var services: [String]

    package init(
        id: String, tenant: TenantID, signal: Signal, level: Int, day: Int, minTime: Int64, maxTime: Int64, rows: Int64, bytes: Int64,
        walRanges: [WALRange], checksum: UInt64, names: [String], services: [String]
    ) {
        self.id = id
        self.tenant = tenant
        self.signal = signal
        self.level = level
        self.day = day
        self.minTime = minTime
        self.maxTime = maxTime
        self.rows = rows
        self.bytes = bytes
        self.walRanges = walRanges
        self.checksum = checksum
        self.names = names
        self.services = services
    }
}
