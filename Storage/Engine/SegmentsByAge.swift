// Which segments go when there are too many bytes of them: the oldest first, whatever their signal and tenant, never the newest of a signal.

internal import ObsCore
internal import ObsSegment

/// Segments, oldest first by their newest record.
struct SegmentsByAge {
    struct Key: Hashable {
        var tenant: TenantID
        var signal: Signal
        var id: String

        init(_ info: SegmentInfo) {
            tenant = info.tenant
            signal = info.signal
            id = info.id
        }
    }

    private let segments: [SegmentInfo]

    init(_ infos: [SegmentInfo]) { segments = infos.sorted { Self.maxNanos($0) < Self.maxNanos($1) } }

    /// Metrics count milliseconds, events nanoseconds.
    private static func maxNanos(_ info: SegmentInfo) -> Int64 {
        guard info.signal == .metrics else { return info.maxTime }
        let nanos = info.maxTime.multipliedReportingOverflow(by: nanosPerMilli)
        return nanos.overflow ? (info.maxTime < 0 ? .min : .max) : nanos.partialValue
    }

    /// The oldest ones that together have at least that many bytes; fewer when only each signal's newest is left.
    func oldest(_ bytes: Int64) -> Set<Key> {
        var left: [Signal: Int] = [:]
        for segment in segments { left[segment.signal, default: 0] += 1 }
        var chosen = Set<Key>()
        var rest = bytes
        for segment in segments where rest > 0 && left[segment.signal, default: 0] > 1 {
            left[segment.signal, default: 0] -= 1
            rest -= segment.bytes
            chosen.insert(Key(segment))
        }
        return chosen
    }

    /// The oldest ones without which the rest is within the bound.
    func excess(over bytesMax: Int64) -> Set<Key> { oldest(segments.reduce(0) { $0 + $1.bytes } - bytesMax) }
}
