internal import ObsCore

extension FloatHistogram {
    /// Whether a counter began anew between `previous` and this: some count is smaller, or the layout is one that a running counter cannot get to. Where the
    /// histogram says itself, that holds.
    func isReset(after previous: FloatHistogram) -> Bool {
        switch reset {
        case .reset: return true
        case .noReset: return false
        case .unknown, .gauge: break
        }
        if count < previous.count { return true }
        if hasCustomBounds {
            if !previous.hasCustomBounds { return true }
            if bounds != previous.bounds { return isSmallerByCommonBounds(previous) }
        }
        // Resolution grows, and the zero bucket shrinks, only with a new start.
        if schema > previous.schema || zeroThreshold < previous.zeroThreshold { return true }
        if previous.zeroThreshold(atLeast: zeroThreshold) != zeroThreshold { return true }
        if zeroCount < previous.zeroCount(within: zeroThreshold) { return true }
        var before = previous
        before.reduce(toSchema: schema)
        return lacks(before.positive, positive) || lacks(before.negative, negative)
    }

    /// Whether some bucket outside the zero bucket counts less than before.
    private func lacks(_ before: BucketCounts, _ now: BucketCounts) -> Bool {
        var at = 0
        var isBeforeEdge = zeroThreshold > 0 && !hasCustomBounds
        for place in before.counts.indices {
            let index = before.indices[place]
            if isBeforeEdge {
                if bound(index) <= zeroThreshold { continue }
                isBeforeEdge = false
            }
            while at < now.indices.count, now.indices[at] < index { at += 1 }
            let isThere = at < now.indices.count && now.indices[at] == index
            if isThere ? now.counts[at] < before.counts[place] : before.counts[place] != 0 { return true }
        }
        return false
    }

    private func isSmallerByCommonBounds(_ previous: FloatHistogram) -> Bool {
        let common = Self.commonBounds(bounds, previous.bounds)
        return lacks(previous.rebounded(previous.positive, common), rebounded(positive, common))
    }
}
