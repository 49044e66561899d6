package import ObsCore

/// What of a summary is asked for beside counts and times, which are always there.
package struct SummaryParts: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// First, last, smallest and greatest value, sum.
    package static let values = SummaryParts(rawValue: 1)
    /// How often the value fell, and from where: what `rate`, `increase` and `resets` of a counter need.
    package static let resets = SummaryParts(rawValue: 2)
    package static let all: SummaryParts = [.values, .resets]
    /// Only the newest sample is looked at: `lastMillis` and `endsStale`, with `.values` also `last`. The rest may then be of fewer samples, or of more than the range
    /// has; what is asked for is known of most chunks although the range cuts through them.
    package static let newest = SummaryParts(rawValue: 4)
}

/// What the samples of a stretch of time come to: enough for counts, last values, extremes, sums and the increase of a counter.
///
/// Rules, those of PromQL:
/// - A stale marker is no sample. It is counted apart, and `endsStale` says whether it came last.
/// - Any other NaN is a sample: it counts, may be first or last, makes the sum NaN, but is smallest or greatest only where there is no number.
/// - A reset is a value smaller than the one before it; NaN is not smaller than anything. The increase is `last - first + resetDrop`.
/// - -0 and +0 are one number to `smallest` and `greatest`.
///
/// The sum is a pair: the rounded sum, and what rounding has lost since (each addition's error is known exactly, Knuth's two-sum). Together they are the exact
/// sum to about 2^-68 of its size, so that `total` is the same double, but for one case in many thousands, however the samples lie in chunks
/// and segments and whether they were summed up one by one or from chunks' statistics; and the double that Neumaier's summation gives.
package struct SampleSummary: Sendable, Equatable {
    /// What is known; that of fewer parts stays 0.
    package var known: SummaryParts = .all
    /// Samples, without stale markers.
    package var count = 0
    package var staleCount = 0
    package var endsStale = false
    /// Of the first and the last sample; 0 when there is none.
    package var firstMillis: Int64 = 0
    package var lastMillis: Int64 = 0
    package var first = 0.0
    package var last = 0.0
    package var smallest = 0.0
    package var greatest = 0.0
    package var sum = 0.0
    /// What `sum` lacks of the exact sum.
    package var sumRest = 0.0
    package var resets = 0
    /// Sum of the values from which it fell.
    package var resetDrop = 0.0

    package init() {}

    package init(timesMillis: UnsafeBufferPointer<Int64>, values: UnsafeBufferPointer<Double>) { append(timesMillis, values) }

    package var isEmpty: Bool { count == 0 && staleCount == 0 }
    /// The sum as one number.
    package var total: Double { sum.isFinite ? sum + sumRest : sum }

    package mutating func append(timesMillis: [Int64], values: [Double]) {
        timesMillis.withUnsafeBufferPointer { times in values.withUnsafeBufferPointer { append(times, $0) } }
    }

    /// Adds samples that are later than all before; times ascend.
    package mutating func append(_ times: UnsafeBufferPointer<Int64>, _ values: UnsafeBufferPointer<Double>) {
        let end = min(times.count, values.count)
        var index = 0
        if count == 0 {
            while index < end, values[index].bitPattern == SpecialValue.staleBits { index &+= 1 }
            staleCount += index
            endsStale = endsStale || index > 0
            guard index < end else { return }
            begin(times[index], values[index])
            index &+= 1
        }
        let start = index
        var stale = 0
        var lastIndex = -1
        var (previous, smallest, greatest, sum, rest) = (last, smallest, greatest, sum, sumRest)
        var resets = resets
        var drop = resetDrop
        while index < end {
            let value = values[index]
            if value.bitPattern == SpecialValue.staleBits {
                stale &+= 1
                index &+= 1
                continue
            }
            if value < previous {
                resets &+= 1
                drop += previous
            }
            if value < smallest { smallest = value }
            if value > greatest { greatest = value }
            let next = sum + value
            let part = next - sum
            rest += (sum - (next - part)) + (value - part)
            sum = next
            previous = value
            lastIndex = index
            index &+= 1
        }
        if smallest.isNaN {
            // It began with NaN, which nothing is smaller than.
            for value in values.prefix(end) where !value.isNaN {
                (smallest, greatest) = smallest.isNaN ? (value, value) : (Swift.min(smallest, value), Swift.max(greatest, value))
            }
        }
        count += end - start - stale
        (self.last, self.smallest, self.greatest, self.sum, sumRest, self.resets, resetDrop) = (previous, smallest, greatest, sum, rest, resets, drop)
        staleCount += stale
        if lastIndex >= 0 { lastMillis = times[lastIndex] }
        endsStale = end > 0 ? values[end - 1].bitPattern == SpecialValue.staleBits : endsStale
    }

    private mutating func begin(_ time: Int64, _ value: Double) {
        (firstMillis, lastMillis, count, endsStale) = (time, time, 1, false)
        (first, last, smallest, greatest, sum, sumRest) = (value, value, value, value, value, 0)
        (resets, resetDrop) = (0, 0)
    }

    /// Adds what is later than all before; known is then what both know.
    package mutating func append(_ later: SampleSummary) {
        guard !later.isEmpty else { return }
        guard !isEmpty else {
            self = later
            return
        }
        known.formIntersection(later.known)
        staleCount += later.staleCount
        endsStale = later.endsStale
        guard later.count > 0 else { return }
        defer {
            count += later.count
            lastMillis = later.lastMillis
            last = later.last
        }
        guard count > 0 else {
            (firstMillis, first, smallest, greatest) = (later.firstMillis, later.first, later.smallest, later.greatest)
            (sum, sumRest, resets, resetDrop) = (later.sum, later.sumRest, later.resets, later.resetDrop)
            return
        }
        if later.first < last {
            resets += 1
            resetDrop += last
        }
        resets += later.resets
        resetDrop += later.resetDrop
        if later.smallest < smallest || smallest.isNaN { smallest = later.smallest }
        if later.greatest > greatest || greatest.isNaN { greatest = later.greatest }
        let (next, error) = twoSum(sum, later.sum)
        sum = next
        sumRest += error + later.sumRest
    }
}

/// The rounded sum, and what rounding lost, exactly (but for overflow).
package func twoSum(_ a: Double, _ b: Double) -> (sum: Double, error: Double) {
    let sum = a + b
    let part = sum - a
    return (sum, (a - (sum - part)) + (b - part))
}

/// One series' samples of a range, summed up.
package struct SeriesSummary: Sendable {
    package var labels: Labels
    /// Of the samples that are floats.
    package var samples: SampleSummary
    /// The series as `next` would have given it, if there are native histograms in the range: then `samples` is not all there is to know. Nil otherwise.
    package var whole: SeriesSamples?

    package init(labels: Labels, samples: SampleSummary, whole: SeriesSamples? = nil) {
        self.labels = labels
        self.samples = samples
        self.whole = whole
    }
}
