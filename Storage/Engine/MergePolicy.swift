// Which segments become one. Pure: segments in, choice out.
//
// Segments of one *lane* and one level are merged when there are enough of them: a day with much data is a lane, and all small segments and those that
// span days share another, whatever days they hold, so that late data over fifty years does not make twenty thousand files. The level of a segment is how
// often its rows were merged, so levels bound what is written for each byte that came in: metrics twice, events once. Only crumbs are merged further: what
// that costs is small, and without it a trickle would never stop making files.

internal import ObsCore
internal import ObsSegment

package struct MergePolicy: Sendable {
    /// Size of the inputs of one merge, together.
    package var bytesMax: Int64 = 512 << 20
    /// Segments of this size and up are merged only up to the level of their signal.
    package var crumbBytesMax: Int64 = 4 << 20
    /// Inputs of one merge at most: each holds a block in memory and a file descriptor.
    package var inputsMax = 16
    /// How long hidden rows may wait for a merge that leaves them out on the way; then their segment is written again for them.
    package var patienceMillis: Int64 = millisPerDay
    /// Merges of so many segments are worth it, whatever else is said: a test wants them early.
    package var fanInMax = Int.max
    /// A single day with less than this shares its segments with other days.
    package var dayBytesMin: Int64 = 1 << 20

    package init() {}

    /// How many segments of a level make a merge worth it, and whether only crumbs count.
    private func fanIn(_ signal: Signal, level: Int) -> (count: Int, isCrumbsOnly: Bool) {
        switch (signal, level) {
        case (.metrics, 0...1): (min(4, fanInMax), false)
        case (_, 0): (min(8, fanInMax), false)
        default: (min(16, fanInMax), true)
        }
    }

    private struct Lane: Hashable {
        /// Nil for the shared one.
        var day: Int?
        var level: Int
    }

    /// The next merge.
    /// - Parameter segments: of one tenant and signal, oldest first.
    /// - Returns: indices of the segments, ascending; nil when nothing is due.
    func next(_ segments: [SegmentInfo]) -> [Int]? {
        var lanes: [Lane: [Int]] = [:]
        for (index, segment) in segments.enumerated() { lanes[lane(segment), default: []].append(index) }
        // Lower levels first: they are the most files. Then by day, so that the choice does not depend on the order of a dictionary.
        for lane in lanes.keys.sorted(by: { ($0.level, $0.day ?? .min) < ($1.level, $1.day ?? .min) }) {
            if let choice = choose(lanes[lane] ?? [], level: lane.level, segments) { return choice }
        }
        return nil
    }

    private func lane(_ segment: SegmentInfo) -> Lane {
        let unit = segment.signal == .metrics ? millisPerDay : nanosPerDay
        func day(_ time: Int64) -> Int { Int(time / unit) - (time % unit < 0 ? 1 : 0) }
        let isShared = day(segment.minTime) != day(segment.maxTime) || segment.bytes < dayBytesMin
        return Lane(day: isShared ? nil : day(segment.minTime), level: segment.level)
    }

    /// The oldest run of a lane that is long enough and not too big.
    private func choose(_ lane: [Int], level: Int, _ segments: [SegmentInfo]) -> [Int]? {
        guard let first = lane.first else { return nil }
        let (count, isCrumbsOnly) = fanIn(segments[first].signal, level: level)
        let fitting = isCrumbsOnly ? lane.filter { segments[$0].bytes < crumbBytesMax } : lane
        guard fitting.count >= count else { return nil }
        for start in 0...(fitting.count - count) {
            var run: [Int] = []
            var bytes: Int64 = 0
            for index in fitting[start...] {
                guard run.count < min(inputsMax, 2 * count), bytes + segments[index].bytes <= bytesMax else { break }
                run.append(index)
                bytes += segments[index].bytes
            }
            // A long run may reach over what a short one leaves alone.
            for length in [run.count, count] where run.count >= length && length >= count {
                if let choice = closed(Array(run.prefix(length)), segments) { return choice }
            }
        }
        return nil
    }

    /// The run and the segments that must go with it, nil when these are too many.
    ///
    /// Of two samples for one instant the older segment's is read, and a merged segment is as old as its oldest input. A segment between the ages of two inputs
    /// would become younger than the younger of them: where their times overlap it has to be merged too. Events that are equal are equal in every way.
    private func closed(_ run: [Int], _ segments: [SegmentInfo]) -> [Int]? {
        guard segments[run[0]].signal == .metrics else { return run }
        var members = Set(run)
        while true {
            let oldest = members.map { segments[$0].firstSequence }.min() ?? 0
            let caught = segments.indices.filter { other in
                let age = segments[other].firstSequence
                return !members.contains(other) && oldest <= age
                    && members.contains { segments[$0].firstSequence > age && overlap(segments[$0], segments[other]) }
            }
            if caught.isEmpty { return members.sorted() }
            members.formUnion(caught)
            guard members.count <= inputsMax, members.reduce(0, { $0 + segments[$1].bytes }) <= bytesMax else { return nil }
        }
    }

    private func overlap(_ a: SegmentInfo, _ b: SegmentInfo) -> Bool { a.minTime <= b.maxTime && b.minTime <= a.maxTime }
}

extension SegmentInfo {
    /// The first log record it may hold: segments ordered by it are ordered by age.
    var firstSequence: UInt64 { walRanges.map(\.first).min() ?? 0 }
}
