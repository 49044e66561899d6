internal import Glibc
internal import ObsCore

/// A bucket with its bounds.
package struct HistogramBucket: Sendable {
    package var lower = 0.0
    package var upper = 0.0
    package var count = 0.0
    package var includesLower = false
    package var includesUpper = false

    /// How far into the bucket a value lies: between its bounds, or between their logarithms, where the buckets of an exponential schema are equally wide.
    func fraction(below value: Double, linear: Bool) -> Double {
        if linear { return (value - lower) / (upper - lower) }
        let (low, high, at) = (log2(abs(lower)), log2(abs(upper)), log2(abs(value)))
        return value > 0 ? (at - low) / (high - low) : 1 - (at - high) / (low - high)
    }
}

/// 2^(i / 2^schema) for the buckets between 1 and 2, schemas 0…8.
private let boundsFromOneToTwo: [[Double]] = (0...8).map { schema in
    (0..<(1 << schema)).map { exp2(Double($0) / Double(1 << schema)) }
}

/// Where a bucket of an exponential schema ends. The last one of numbers ends at the greatest of them, so that the one after it is that of infinity.
func exponentialBound(_ index: Int32, _ schema: Int8) -> Double {
    guard schema >= 0 else {
        let exponent = Int64(index) << Int64(min(10, -Int64(schema)))
        return exponent == 1024 ? .greatestFiniteMagnitude : scalbn(1, Int32(clamping: exponent))
    }
    let shift = min(Int(schema), 8)
    let exponent = index >> Int32(shift)
    let within = Int(index) & ((1 << shift) - 1)
    return exponent == 1024 && within == 0 ? .greatestFiniteMagnitude : scalbn(boundsFromOneToTwo[shift][within], exponent)
}

extension FloatHistogram {
    /// Where a bucket of the positive side ends.
    func bound(_ index: Int32) -> Double {
        guard hasCustomBounds else { return exponentialBound(index, schema) }
        return index < 0 ? -.infinity : Int(index) < bounds.count ? bounds[Int(index)] : .infinity
    }

    func positiveBucket(_ place: Int) -> HistogramBucket {
        let index = positive.indices[place]
        let lower = bound(index &- 1)
        return HistogramBucket(
            lower: lower, upper: bound(index), count: positive.counts[place], includesLower: hasCustomBounds ? index == 0 : lower < 0, includesUpper: true)
    }

    func negativeBucket(_ place: Int) -> HistogramBucket {
        let index = negative.indices[place]
        let upper = -bound(index &- 1)
        return HistogramBucket(
            lower: -bound(index), upper: upper, count: negative.counts[place], includesLower: true, includesUpper: upper > 0)
    }

    var zeroBucket: HistogramBucket {
        HistogramBucket(lower: -zeroThreshold, upper: zeroThreshold, count: zeroCount, includesLower: true, includesUpper: true)
    }

    /// All buckets in ascending order, the zero bucket if it is populated; a neighbour that it overlaps begins at its edge.
    package var buckets: [HistogramBucket] {
        var buckets: [HistogramBucket] = []
        buckets.reserveCapacity(positive.counts.count + negative.counts.count + 1)
        for place in negative.counts.indices.reversed() { buckets.append(besideZero(negativeBucket(place))) }
        if zeroCount > 0 { buckets.append(zeroBucket) }
        for place in positive.counts.indices { buckets.append(besideZero(positiveBucket(place))) }
        return buckets
    }

    private func besideZero(_ bucket: HistogramBucket) -> HistogramBucket {
        var bucket = bucket
        if bucket.upper < 0, bucket.upper > -zeroThreshold {
            bucket.upper = -zeroThreshold
        } else if bucket.lower > 0, bucket.lower < zeroThreshold {
            bucket.lower = zeroThreshold
        }
        return bucket
    }
}

extension BucketCounts {
    mutating func compact() {
        guard counts.contains(0) else { return }
        keep { _, count in count != 0 }
    }

    mutating func keep(where isKept: (_ index: Int32, _ count: Double) -> Bool) {
        var kept = BucketCounts()
        for (index, count) in zip(indices, counts) where isKept(index, count) {
            kept.indices.append(index)
            kept.counts.append(count)
        }
        self = kept
    }
}
