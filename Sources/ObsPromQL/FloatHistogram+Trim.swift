// `</` and `>/`: a histogram without its observations above, or below, a value. Buckets on the far side go; the one that holds the value keeps a share, estimated
// as quantiles are. If anything went, count and sum are made anew from what is left, each bucket's observations taken to lie in its middle.
internal import ObsCore

extension FloatHistogram {
    func trimmed(_ side: TrimmedSide, at value: Double) -> FloatHistogram {
        var trimmed = self
        var remainder = Remainder()
        let hasPositive = positive.isPopulated
        let hasNegative = negative.isPopulated
        for place in positive.counts.indices where positive.counts[place] != 0 {
            trimmed.positive.counts[place] = remainder.keep(positiveBucket(place), side, value, isPositive: true, linear: hasCustomBounds)
        }
        for place in negative.counts.indices where negative.counts[place] != 0 {
            trimmed.negative.counts[place] = remainder.keep(negativeBucket(place), side, value, isPositive: false, linear: hasCustomBounds)
        }
        if zeroCount > 0 {
            var zero = zeroBucket
            if hasPositive, !hasNegative { zero.lower = 0 }
            if hasNegative, !hasPositive { zero.upper = 0 }
            trimmed.zeroCount = remainder.keepZero(zero, side, value)
        }
        guard remainder.isLess else { return self }
        trimmed.count = remainder.count
        trimmed.sum = remainder.sum
        trimmed.compact()
        return trimmed
    }
}

enum TrimmedSide {
    case above, below
}

private struct Remainder {
    var count = 0.0
    var sum = 0.0
    /// Something was left out.
    var isLess = false

    mutating func keep(_ bucket: HistogramBucket, _ side: TrimmedSide, _ value: Double, isPositive: Bool, linear: Bool) -> Double {
        let isWhole = side == .above ? bucket.upper <= value : bucket.lower >= value
        let isCut = side == .above ? bucket.lower < value : bucket.upper > value
        if isWhole { return add(bucket.count, middle(bucket.lower, bucket.upper, isPositive, linear), of: bucket) }
        guard isCut else { return add(0, 0, of: bucket) }
        if bucket.lower == -.infinity || bucket.upper == .infinity {
            let (kept, middle) = endless(bucket, side, value)
            return add(kept, middle, of: bucket)
        }
        let below = value <= bucket.lower ? 0 : value >= bucket.upper ? bucket.count : bucket.count * bucket.fraction(below: value, linear: linear)
        return side == .above
            ? add(below, middle(bucket.lower, value, isPositive, linear), of: bucket)
            : add(bucket.count - below, middle(value, bucket.upper, isPositive, linear), of: bucket)
    }

    mutating func keepZero(_ zero: HistogramBucket, _ side: TrimmedSide, _ value: Double) -> Double {
        let width = zero.upper - zero.lower
        switch side {
        case .above:
            if value <= zero.lower { return add(0, 0, of: zero) }
            if value >= zero.upper { return add(zero.count, (zero.lower + zero.upper) / 2, of: zero) }
            return add(zero.count * ((value - zero.lower) / width), (zero.lower + value) / 2, of: zero)
        case .below:
            if value <= zero.lower { return add(zero.count, (zero.lower + zero.upper) / 2, of: zero) }
            if value >= zero.upper { return add(0, 0, of: zero) }
            return add(zero.count * ((zero.upper - value) / width), (value + zero.upper) / 2, of: zero)
        }
    }

    private mutating func add(_ kept: Double, _ middle: Double, of bucket: HistogramBucket) -> Double {
        count += kept
        sum += middle * kept
        if kept != bucket.count { isLess = true }
        return kept
    }

    /// Of a bucket without an end nothing is known but that end: what may be out goes altogether. A first bucket that ends above 0 is taken to begin there.
    private func endless(_ bucket: HistogramBucket, _ side: TrimmedSide, _ value: Double) -> (kept: Double, middle: Double) {
        func finite(_ bound: Double) -> Double { bound.isInfinite ? 0 : bound }
        let beginsAtZero = bucket.upper > 0 && bucket.upper != .infinity
        switch (side, bucket.lower == -.infinity) {
        case (.above, true):
            if value >= bucket.upper { return (bucket.count, 0) }
            if value > 0, beginsAtZero { return (bucket.count * value / bucket.upper, value / 2) }
            return bucket.upper <= 0 ? (bucket.count, value) : (0, finite(bucket.upper))
        case (.below, true):
            if value <= bucket.lower { return (bucket.count, 0) }
            if value >= 0, bucket.upper > value, beginsAtZero { return (bucket.count * (1 - value / bucket.upper), (value + bucket.upper) / 2) }
            return (0, finite(bucket.upper))
        case (.above, false): return (0, finite(bucket.lower))
        case (.below, false): return value >= bucket.lower ? (bucket.count, value) : (0, finite(bucket.lower))
        }
    }

    private func middle(_ lower: Double, _ upper: Double, _ isPositive: Bool, _ linear: Bool) -> Double {
        if lower.isInfinite { return upper.isInfinite ? 0 : upper > 0 ? upper / 2 : upper }
        if upper.isInfinite { return lower }
        if linear { return (lower + upper) / 2 }
        let middle = abs(lower * upper).squareRoot()
        return isPositive ? middle : -middle
    }
}
