// A head generation becomes several segments (tenants, days), and renames are one at a time: a crash may leave some of them. So the segments of a generation carry
// which of how many they are in their id, and count only when all are there. A group is known to be whole for good once its log files are gone:
// later its members go their own ways, by retention, merge or quarantine.

internal import ObsCore

/// Which segment of which flush: `m-0000000000000001-0002-0010` is the third of ten that hold the metrics from log record 1 on.
struct FlushGroup: Hashable {
    var signal: Signal
    var firstSequence: UInt64
    var index: Int
    var count: Int

    var id: String { "\(Self.letter(signal))-\(hexString(firstSequence))-\(padded(index, 4))-\(padded(count, 4))" }

    init(signal: Signal, firstSequence: UInt64, index: Int, count: Int) {
        self.signal = signal
        self.firstSequence = firstSequence
        self.index = index
        self.count = count
    }

    /// Nil for the id of a merged segment, or anything else.
    init?(id: String) {
        let parts = id.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 4, let signal = Signal.allCases.first(where: { Self.letter($0) == parts[0] }), parts[1].utf8.count == 16,
            let first = UInt64(parts[1], radix: 16), let index = Int(parts[2]), let count = Int(parts[3]), index >= 0, index < count
        else { return nil }
        self.init(signal: signal, firstSequence: first, index: index, count: count)
    }

    private static func letter(_ signal: Signal) -> String {
        switch signal {
        case .metrics: "m"
        case .logs: "l"
        case .traces: "t"
        }
    }
}

/// What segments of a flush hold: days since the epoch, both ends inclusive.
///
/// A day with much data has a segment of its own; neighbours with little share one, so that a backfill of fifty years does not make twenty thousand files.
func partitionDays(_ days: [Int: Int], bytesPerRow: Int, _ sizes: PartitionSizes) -> [ClosedRange<Int>] {
    var partitions: [ClosedRange<Int>] = []
    var open: (days: ClosedRange<Int>, bytes: Int)?
    for (day, rows) in days.sorted(by: { $0.key < $1.key }) {
        let bytes = rows * bytesPerRow
        if let group = open, bytes < sizes.dayBytesMin, group.bytes + bytes <= sizes.sharedBytesMax {
            open = (group.days.lowerBound...day, group.bytes + bytes)
            continue
        }
        if let group = open { partitions.append(group.days) }
        if bytes >= sizes.dayBytesMin {
            partitions.append(day...day)
            open = nil
        } else {
            open = (day...day, bytes)
        }
    }
    if let group = open { partitions.append(group.days) }
    return partitions
}

/// When days share a segment.
package struct PartitionSizes: Sendable {
    /// A day expected to fill this much of a segment gets its own.
    package var dayBytesMin = 1 << 20
    /// What days that share a segment may fill together.
    package var sharedBytesMax = 8 << 20
}
