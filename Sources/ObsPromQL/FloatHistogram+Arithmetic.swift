// Sums and differences of histograms. Two layouts are reconciled by giving up what only one of them can tell: the finer schema, the narrower zero bucket, custom
// bounds that the other has not. What cannot be reconciled are powers and custom bounds.
//
// A running sum keeps with each count what rounding has lost of it so far (Kahan, Neumaier), in a second array beside the first.
internal import ObsCore

extension FloatHistogram {
    /// What was noticed while two histograms were put together.
    package struct Blend {
        /// One began anew and the other says it did not.
        var resetsCollide = false
        /// Custom bounds differed; those in common are left.
        var boundsDiffered = false
    }

    func isCompatible(with other: FloatHistogram) -> Bool { hasCustomBounds == other.hasCustomBounds }

    /// Adds another histogram, or takes it off (`sign` -1).
    /// - Returns: nil, and nothing done, where powers meet custom bounds.
    @discardableResult
    package mutating func combine(_ other: FloatHistogram, sign: Double) -> Blend? {
        guard isCompatible(with: other) else { return nil }
        var blend = Blend(resetsCollide: adoptReset(of: other))
        var other = other
        blend.boundsDiffered = reconcile(with: &other)
        zeroCount += sign * other.zeroCount
        count += sign * other.count
        sum += sign * other.sum
        positive.add(other.positive, sign)
        negative.add(other.negative, sign)
        return blend
    }

    /// Neighbours are joined until the schema is a lower one; finer ones cannot be had.
    mutating func reduce(toSchema target: Int8) {
        guard target < schema, !hasCustomBounds, HistogramLayout.exponentialSchemas.contains(target) else { return }
        let shift = Int32(schema) - Int32(target)
        positive.join(shift)
        negative.join(shift)
        schema = target
    }

    /// Brings two histograms to one layout, but for the buckets that are populated.
    /// - Returns: whether custom bounds had to go.
    mutating func reconcile(with other: inout FloatHistogram) -> Bool {
        if hasCustomBounds {
            guard bounds != other.bounds else { return false }
            let common = Self.commonBounds(bounds, other.bounds)
            rebound(common)
            other.rebound(common)
            return true
        }
        reconcileZeroBuckets(with: &other)
        reduce(toSchema: other.schema)
        other.reduce(toSchema: schema)
        other.dropBucketsWithinZero()
        return false
    }

    /// What a sum says of counter resets: the same if both say so, a gauge once either is one, else nothing.
    /// - Returns: whether they contradict each other.
    mutating func adoptReset(of other: FloatHistogram) -> Bool {
        if other.reset == reset || reset == .gauge { return false }
        let collide = other.reset != .gauge && reset != .unknown && other.reset != .unknown
        reset = other.reset == .gauge ? .gauge : .unknown
        return collide
    }

    // MARK: zero buckets

    /// Widens the narrower zero bucket until both are equally wide and cut through no populated bucket of either.
    private mutating func reconcileZeroBuckets(with other: inout FloatHistogram) {
        while zeroThreshold != other.zeroThreshold {
            if zeroThreshold > other.zeroThreshold {
                other.widenZero(to: other.zeroThreshold(atLeast: zeroThreshold))
            } else if other.zeroThreshold > zeroThreshold {
                widenZero(to: zeroThreshold(atLeast: other.zeroThreshold))
            } else {
                // NaN is no width.
                return
            }
        }
    }

    /// Counts what lies before an edge, which cuts no populated bucket, in the zero bucket.
    mutating func widenZero(to threshold: Double) {
        zeroCount = zeroCount(within: threshold)
        zeroThreshold = threshold
        dropBucketsWithinZero()
    }

    private mutating func dropBucketsWithinZero() {
        guard zeroThreshold > 0 else { return }
        let (edge, histogram) = (zeroThreshold, self)
        func isOutside(_ index: Int32) -> Bool { histogram.bound(index &- 1) >= edge }
        if let first = positive.indices.first, !isOutside(first) { positive.keep { index, _ in isOutside(index) } }
        if let first = negative.indices.first, !isOutside(first) { negative.keep { index, _ in isOutside(index) } }
    }

    /// What a zero bucket with an edge further out counts.
    func zeroCount(within threshold: Double) -> Double {
        if threshold == zeroThreshold { return zeroCount }
        var total = CompensatedSum(sum: zeroCount)
        for side in [positive, negative] {
            for place in side.counts.indices {
                guard bound(side.indices[place] &- 1) < threshold else { break }
                total.add(side.counts[place])
            }
        }
        return total.value
    }

    /// The nearest edge, from `wanted` outwards, of a zero bucket that cuts no populated bucket.
    func zeroThreshold(atLeast wanted: Double) -> Double {
        var edge = wanted
        while let moved = edgeOfBucketCut(at: edge) { edge = moved }
        return edge
    }

    private func edgeOfBucketCut(at edge: Double) -> Double? {
        for side in [positive, negative] {
            for place in side.counts.indices where side.counts[place] != 0 {
                guard bound(side.indices[place] &- 1) < edge else { break }
                let upper = bound(side.indices[place])
                if upper > edge { return upper }
            }
        }
        return nil
    }

    // MARK: custom bounds

    static func commonBounds(_ a: [Double], _ b: [Double]) -> [Double] {
        var common: [Double] = []
        var (i, j) = (0, 0)
        while i < a.count, j < b.count {
            if a[i] == b[j] {
                common.append(a[i])
                (i, j) = (i + 1, j + 1)
            } else if a[i] < b[j] {
                i += 1
            } else {
                j += 1
            }
        }
        return common
    }

    /// Counts by some of the bounds; each bucket goes to the first one that holds all of it.
    mutating func rebound(_ common: [Double]) {
        positive = rebounded(positive, common)
        bounds = common
    }

    func rebounded(_ side: BucketCounts, _ common: [Double]) -> BucketCounts {
        var result = BucketCounts()
        var target = 0
        for place in side.counts.indices {
            let upper = bound(side.indices[place])
            while target < common.count, common[target] < upper { target += 1 }
            if result.indices.last == Int32(target) {
                result.counts[result.counts.count - 1] += side.counts[place]
            } else {
                result.indices.append(Int32(target))
                result.counts.append(side.counts[place])
            }
        }
        return result
    }
}

extension BucketCounts {
    mutating func add(_ other: BucketCounts, _ sign: Double) {
        let other = meet(other)
        for place in counts.indices { counts[place] += sign * other.counts[place] }
    }

    /// Makes room for the buckets of another, with counts of 0, and gives the other's counts at the same places.
    mutating func meet(_ other: BucketCounts) -> BucketCounts {
        if indices == other.indices { return other }
        if other.isEmpty { return BucketCounts(indices: indices, counts: [Double](repeating: 0, count: counts.count)) }
        let union = Self.union(indices, other.indices)
        widen(to: union)
        var wide = other
        wide.widen(to: union)
        return wide
    }

    /// - Parameter union: among others all indices that are here.
    mutating func widen(to union: [Int32]) {
        guard union.count > indices.count else { return }
        var wide = [Double](repeating: 0, count: union.count)
        var at = 0
        for place in indices.indices {
            while union[at] != indices[place] { at += 1 }
            wide[at] = counts[place]
        }
        (indices, counts) = (union, wide)
    }

    static func union(_ a: [Int32], _ b: [Int32]) -> [Int32] {
        var union: [Int32] = []
        union.reserveCapacity(a.count + b.count)
        var (i, j) = (0, 0)
        while i < a.count || j < b.count {
            let next = j == b.count || (i < a.count && a[i] <= b[j]) ? a[i] : b[j]
            union.append(next)
            if i < a.count, a[i] == next { i += 1 }
            if j < b.count, b[j] == next { j += 1 }
        }
        return union
    }

    /// Joins neighbours: buckets of a schema lower by `shift`.
    mutating func join(_ shift: Int32) {
        var joined = BucketCounts()
        for place in counts.indices {
            let index = ((indices[place] &- 1) >> shift) &+ 1
            if joined.indices.last == index {
                joined.counts[joined.counts.count - 1] += counts[place]
            } else {
                joined.indices.append(index)
                joined.counts.append(counts[place])
            }
        }
        self = joined
    }
}
