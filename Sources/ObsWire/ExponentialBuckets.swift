internal import Glibc
internal import ObsCore

/// The buckets of an exponential histogram as classic ones, for a store without native histograms.
///
/// Bucket `i` of scale `s` holds values up to 2^(2^-s · (i + 1)) (upper bounds are inclusive, counting starts at the offset). If there are more than `bucketsMax`
/// buckets, neighbours are merged in pairs, which lowers the scale by one and keeps all bounds powers of the coarser base: the bounds of one series stay
/// comparable over time. Negative values mirror the positive ones; what lies around zero has the zero threshold as its bound.
struct ExponentialBuckets {
    static let bucketsMax = 160

    struct Side {
        var offset = 0
        var counts: [UInt64] = []

        /// Merges neighbours: bucket i of scale s lies in bucket i >> 1 of scale s - 1.
        mutating func halve() {
            guard !counts.isEmpty else { return }
            let merged = offset >> 1
            var halved = [UInt64](repeating: 0, count: ((offset + counts.count - 1) >> 1) - merged + 1)
            for (index, count) in counts.enumerated() { halved[((offset + index) >> 1) - merged] &+= count }
            offset = merged
            counts = halved
        }

        /// Leaves out empty buckets at both ends.
        mutating func trim() {
            guard let first = counts.firstIndex(where: { $0 != 0 }), let last = counts.lastIndex(where: { $0 != 0 }) else {
                counts = []
                return
            }
            offset += first
            counts = Array(counts[first...last])
        }
    }

    var scale = 0
    var zeroCount: UInt64 = 0
    var zeroThreshold = 0.0
    var positive = Side()
    var negative = Side()

    /// Upper bound of bucket `index`.
    private func bound(_ index: Int) -> Double { exp2(scalbn(Double(index + 1), Int32(clamping: -scale))) }

    /// The same as a native histogram, of the finest schema there is; nil when it is coarser than the coarsest. Counts and sum are the caller's.
    func native() -> HistogramRow? {
        guard scale >= Int(HistogramLayout.exponentialSchemas.lowerBound) else { return nil }
        var buckets = self
        while buckets.scale > Int(HistogramLayout.exponentialSchemas.upperBound) {
            buckets.positive.halve()
            buckets.negative.halve()
            buckets.scale -= 1
            // Once all are one, or none, only the scale is left to lower.
            if buckets.positive.counts.count <= 1, buckets.negative.counts.count <= 1 {
                let steps = buckets.scale - Int(HistogramLayout.exponentialSchemas.upperBound)
                guard steps > 0 else { continue }
                buckets.positive.offset >>= min(steps, 62)
                buckets.negative.offset >>= min(steps, 62)
                buckets.scale -= steps
            }
        }
        var row = HistogramRow()
        row.schema = Int64(buckets.scale)
        row.zeroCount = zeroCount
        row.zeroThreshold = zeroThreshold > 0 ? zeroThreshold : Self.zeroThresholdDefault
        // Ours are counted by their upper bounds.
        row.positive.setDense(buckets.positive.counts, firstIndex: Int64(buckets.positive.offset) + 1)
        row.negative.setDense(buckets.negative.counts, firstIndex: Int64(buckets.negative.offset) + 1)
        return row
    }

    /// Prometheus' own.
    private static let zeroThresholdDefault = 1e-128

    /// Bounds, strictly ascending and finite, with the number of observations up to each.
    mutating func classic() -> (bounds: [Double], cumulative: [Double]) {
        positive.trim()
        negative.trim()
        while positive.counts.count + negative.counts.count > Self.bucketsMax {
            positive.halve()
            negative.halve()
            scale -= 1
        }
        var bounds: [Double] = []
        var cumulative: [Double] = []
        var total: UInt64 = 0
        func add(_ bound: Double) {
            guard bound.isFinite else { return }
            if let last = bounds.last, last >= bound {
                cumulative[cumulative.count - 1] = Double(total)
            } else {
                bounds.append(bound)
                cumulative.append(Double(total))
            }
        }
        // A negative bucket i holds [-bound(i), -bound(i - 1)): its upper bound is the inner one.
        for (index, count) in negative.counts.enumerated().reversed() {
            if index == negative.counts.count - 1 { add(-bound(negative.offset + index)) }
            total &+= count
            add(-bound(negative.offset + index - 1))
        }
        total &+= zeroCount
        if zeroCount > 0 || !negative.counts.isEmpty { add(zeroThreshold) }
        for (index, count) in positive.counts.enumerated() {
            // The lower bound of the first bucket tells interpolation where it begins.
            if index == 0 { add(bound(positive.offset - 1)) }
            total &+= count
            add(bound(positive.offset + index))
        }
        return (bounds, cumulative)
    }
}
