// Running sums and means of histograms.
internal import ObsCore

/// A sum that carries the rounding error of every count along, as `CompensatedSum` does for one number.
struct HistogramSum {
    private(set) var value: FloatHistogram
    /// What `value` lacks of the exact sum, in the same buckets; nil until something was added.
    private var lost: FloatHistogram?

    init(_ first: FloatHistogram) { value = first }

    /// - Returns: nil, and nothing done, where powers meet custom bounds.
    mutating func add(_ addend: FloatHistogram) -> FloatHistogram.Blend? {
        guard value.isCompatible(with: addend) else { return nil }
        var addend = addend
        var lost = self.lost ?? value.emptied
        self.lost = nil
        var blend = FloatHistogram.Blend(resetsCollide: value.adoptReset(of: addend))
        blend.boundsDiffered = value.reconcile(with: &addend)
        lost.follow(value)
        compensate(addend.zeroCount, &value.zeroCount, &lost.zeroCount)
        compensate(addend.count, &value.count, &lost.count)
        compensate(addend.sum, &value.sum, &lost.sum)
        value.positive.add(addend.positive, lost: &lost.positive)
        value.negative.add(addend.negative, lost: &lost.negative)
        self.lost = lost
        return blend
    }

    mutating func multiply(by factor: Double) {
        value.multiply(by: factor)
        lost?.multiply(by: factor)
    }

    mutating func divide(by divisor: Double) {
        value.divide(by: divisor)
        lost?.divide(by: divisor)
    }

    var total: FloatHistogram {
        guard var lost else { return value }
        lost.reset = value.reset
        var total = value
        total.combine(lost, sign: 1)
        return total
    }
}

/// A mean, as `CompensatedMean`: sum by count, until the sum overflows.
struct HistogramMean {
    private var sum: HistogramSum
    private var count = 1.0
    private var isIncremental = false

    init(_ first: FloatHistogram) { sum = HistogramSum(first) }

    mutating func add(_ addend: FloatHistogram) -> FloatHistogram.Blend? {
        count += 1
        if !isIncremental {
            var next = sum
            guard let blend = next.add(addend) else { return nil }
            if !next.value.hasOverflow {
                sum = next
                return blend
            }
            isIncremental = true
            sum.divide(by: count - 1)
        }
        sum.multiply(by: (count - 1) / count)
        return sum.add(addend.divided(by: count))
    }

    var mean: FloatHistogram {
        if isIncremental { return sum.total }
        var sum = sum
        sum.divide(by: count)
        return sum.total
    }
}

@inline(__always) private func compensate(_ value: Double, _ sum: inout Double, _ lost: inout Double) {
    var total = CompensatedSum(sum: sum, compensation: lost)
    total.add(value)
    (sum, lost) = (total.sum, total.compensation)
}

extension FloatHistogram {
    /// The same buckets, nothing in them.
    fileprivate var emptied: FloatHistogram {
        var copy = self
        (copy.zeroCount, copy.count, copy.sum) = (0, 0, 0)
        copy.positive.counts = [Double](repeating: 0, count: positive.counts.count)
        copy.negative.counts = [Double](repeating: 0, count: negative.counts.count)
        return copy
    }

    /// Takes on the layout that another, which had the same buckets, has since.
    fileprivate mutating func follow(_ leader: FloatHistogram) {
        if zeroThreshold != leader.zeroThreshold { widenZero(to: leader.zeroThreshold) }
        reduce(toSchema: leader.schema)
        if hasCustomBounds, bounds != leader.bounds { rebound(leader.bounds) }
    }
}

extension BucketCounts {
    fileprivate mutating func add(_ other: BucketCounts, lost: inout BucketCounts) {
        let other = meet(other)
        lost.widen(to: indices)
        for place in counts.indices { compensate(other.counts[place], &counts[place], &lost.counts[place]) }
    }
}
