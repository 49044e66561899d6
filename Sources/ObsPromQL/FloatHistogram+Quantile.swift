// Quantiles, fractions and the variance of what a histogram has observed. Within a bucket observations are taken to lie evenly: between its bounds where bounds
// are custom and in the zero bucket, between the logarithms of its bounds elsewhere. Observations of NaN are counted, but are in no bucket.
internal import Glibc
internal import ObsCore

/// What is to be told about an estimate.
enum EstimateNote {
    /// NaN was observed; the quantile lies among them, or is too high because of them, or they are in no fraction.
    case isNaN, isSkewed, leavesOutNaN
}

extension FloatHistogram {
    func quantile(_ rank: Double) -> (value: Double, note: EstimateNote?) {
        if rank < 0 { return (-.infinity, nil) }
        if rank > 1 { return (.infinity, nil) }
        if count == 0 || rank.isNaN { return (.nan, nil) }
        // From the nearer end, but from below with NaN about: that end alone is sure.
        let ascending = sum.isNaN || rank < 0.5
        let buckets = ascending ? buckets : buckets.reversed()
        let wanted = ascending ? rank * count : (1 - rank) * count
        var bucket = HistogramBucket()
        var seen = 0.0
        var rest = buckets[...]
        while let next = rest.popFirst() {
            bucket = next
            if next.count == 0 { continue }
            seen += next.count
            if seen >= wanted { break }
        }
        if !hasCustomBounds, bucket.lower < 0, bucket.upper > 0 {
            halve(&bucket)
        } else if hasCustomBounds {
            if bucket.lower == -.infinity {
                if bucket.upper <= 0 { return (bucket.upper, nil) }
                bucket.lower = 0
            } else if bucket.upper == .infinity {
                return (bucket.lower, nil)
            }
        }
        seen = min(seen, count)
        if seen < wanted { return sum.isNaN ? (.nan, .isNaN) : (bucket.upper, nil) }
        let within = ascending ? wanted - (seen - bucket.count) : seen - wanted
        var note: EstimateNote?
        if sum.isNaN, rest.reduce(seen, { $0 + $1.count }) < count { note = .isSkewed }
        return (interpolate(bucket, within / bucket.count), note)
    }

    /// A zero bucket that observations of one sign surround holds observations of that sign.
    private func halve(_ bucket: inout HistogramBucket) {
        if negative.isEmpty, !positive.isEmpty { bucket.lower = 0 } else if positive.isEmpty, !negative.isEmpty { bucket.upper = 0 }
    }

    private func interpolate(_ bucket: HistogramBucket, _ fraction: Double) -> Double {
        if hasCustomBounds || (bucket.lower <= 0 && bucket.upper >= 0) { return bucket.lower + (bucket.upper - bucket.lower) * fraction }
        let (low, high) = (log2(abs(bucket.lower)), log2(abs(bucket.upper)))
        return bucket.lower > 0 ? exp2(low + (high - low) * fraction) : -exp2(high + (low - high) * (1 - fraction))
    }

    /// Share of the observations between two values.
    func fraction(from lower: Double, to upper: Double) -> (value: Double, note: EstimateNote?) {
        if count == 0 || lower.isNaN || upper.isNaN { return (.nan, nil) }
        if lower >= upper { return (0, nil) }
        var below = RankSearch(value: lower)
        var above = RankSearch(value: upper)
        var rank = 0.0
        var counted = 0.0
        for bucket in buckets {
            var bucket = bucket
            counted += bucket.count
            if below.rank != nil, above.rank != nil { continue }
            let holdsZero = bucket.lower <= 0 && bucket.upper >= 0
            if holdsZero { halve(&bucket) }
            below.look(at: bucket, rank, linear: hasCustomBounds || holdsZero)
            above.look(at: bucket, rank, linear: hasCustomBounds || holdsZero)
            rank += bucket.count
        }
        let note: EstimateNote? = sum.isNaN && counted < count ? .leavesOutNaN : nil
        let total = sum.isNaN ? counted : count
        return ((above.rank(atMost: total) - below.rank(atMost: total)) / count, note)
    }

    /// How many observations lie below a value.
    private struct RankSearch {
        let value: Double
        private(set) var rank: Double?

        init(value: Double) { self.value = value }

        mutating func look(at bucket: HistogramBucket, _ before: Double, linear: Bool) {
            guard rank == nil else { return }
            if bucket.lower >= value {
                rank = before
            } else if bucket.upper > value {
                // Nothing is known of where in an endless bucket its observations lie.
                rank = linear && bucket.lower == -.infinity ? bucket.count : before + bucket.count * bucket.fraction(below: value, linear: linear)
            }
        }

        func rank(atMost total: Double) -> Double { min(rank ?? total, total) }
    }

    /// About the mean, each bucket's observations taken to lie in its middle.
    var variance: Double {
        let mean = sum / count
        var total = CompensatedSum()
        for bucket in buckets where bucket.count != 0 {
            let distance = middle(of: bucket) - mean
            total.add(bucket.count * distance * distance)
        }
        return (total.sum + total.compensation) / count
    }

    private func middle(of bucket: HistogramBucket) -> Double {
        if hasCustomBounds { return (bucket.upper + bucket.lower) / 2 }
        if bucket.lower <= 0, bucket.upper >= 0 { return 0 }
        let middle = (bucket.upper * bucket.lower).squareRoot()
        return bucket.upper < 0 ? -middle : middle
    }
}
