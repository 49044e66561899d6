// Which segments become one. Pure: segments in, choice out.
//
// Segments of one *lane* and one level are merged when there are enough of them: a day with much data is a lane, and all small segments and those that
// span days share another, whatever days they hold, so that late data over fifty years does not make twenty thousand files. The level of a segment is how
// often its rows were merged, so levels bound what is written for each byte that came in: metrics twice, events once. Only crumbs are merged further: what
// that costs is small, and without it a trickle would never stop making files.
//
// A day that is over gets a last merge of what levels allow to be written again, so that it ends as few segments as their size allows. For events, which are
// written again once, that is all of it unless there is much: a day waits for its end or for as many segments as one merge takes.

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
    /// How long after its end a day is over: until then its last data is in memory or comes late.
    package var latenessMillis: Int64 = 3 * 3_600_000
    /// A single day with less than this shares its segments with other days.
    package var dayBytesMin: Int64 = 1 << 20

    package init() {}

    /// How often what came in is written again: up to here segments are merged whatever their size.
    private static func levelMax(_ signal: Signal) -> Int { signal == .metrics ? 2 : 1 }

    /// How many segments of a lane make a merge worth it, and whether only crumbs count.
    private func fanIn(_ signal: Signal, _ lane: Lane) -> (count: Int, isCrumbsOnly: Bool) {
        guard lane.level < Self.levelMax(signal) else { return (min(16, fanInMax), true) }
        return (min(signal == .metrics ? 4 : lane.day == nil ? 8 : 16, fanInMax), false)
    }

    private struct Lane: Hashable {
        /// Nil for the shared one.
        var day: Int?
        var level: Int
    }

    /// The next merge.
    /// - Parameters:
    ///   - segments: of one tenant and signal, oldest first.
    ///   - nowNanos: wall clock; nil when no day is over.
    /// - Returns: indices of the segments, ascending; nil when nothing is due.
    func next(_ segments: [SegmentInfo], nowNanos: Int64? = nil) -> [Int]? {
        var lanes: [Lane: [Int]] = [:]
        for (index, segment) in segments.enumerated() { lanes[lane(segment), default: []].append(index) }
        // Lower levels first: they are the most files. Then by day, so that the choice does not depend on the order of a dictionary.
        for lane in lanes.keys.sorted(by: { ($0.level, $0.day ?? .min) < ($1.level, $1.day ?? .min) }) {
            let indices = lanes[lane] ?? []
            guard let first = indices.first else { continue }
            let (count, isCrumbsOnly) = fanIn(segments[first].signal, lane)
            let fitting = isCrumbsOnly ? indices.filter { segments[$0].bytes < crumbBytesMax } : indices
            if let choice = choose(fitting, from: count, to: 2 * count, segments) { return choice }
        }
        return nowNanos.flatMap { last(lanes, segments, nowNanos: $0) }
    }

    /// The last merge of a day that is over.
    private func last(_ lanes: [Lane: [Int]], _ segments: [SegmentInfo], nowNanos: Int64) -> [Int]? {
        let today = Int(floorDivide(nowNanos / nanosPerMilli - latenessMillis, millisPerDay))
        var days: [Int: [Int]] = [:]
        for (lane, indices) in lanes {
            guard let day = lane.day, day < today, lane.level < Self.levelMax(segments[indices[0]].signal) else { continue }
            days[day, default: []] += indices
        }
        for day in days.keys.sorted() {
            if let choice = choose((days[day] ?? []).sorted(), from: 2, to: inputsMax, segments) { return choice }
        }
        return nil
    }

    /// A part of a choice, when there is no memory for all of it; nil when it has no parts.
    func part(of choice: [Int], _ segments: [SegmentInfo]) -> [Int]? {
        var length = choice.count / 2
        while length >= 2 {
            if let part = closed(Array(choice.prefix(length)), segments), part.count < choice.count { return part }
            length /= 2
        }
        return nil
    }

    private func lane(_ segment: SegmentInfo) -> Lane {
        let unit = segment.signal == .metrics ? millisPerDay : nanosPerDay
        func day(_ time: Int64) -> Int { Int(time / unit) - (time % unit < 0 ? 1 : 0) }
        let isShared = day(segment.minTime) != day(segment.maxTime) || segment.bytes < dayBytesMin
        return Lane(day: isShared ? nil : day(segment.minTime), level: segment.level)
    }

    /// The oldest run that is long enough and not too big.
    private func choose(_ fitting: [Int], from count: Int, to countMax: Int, _ segments: [SegmentInfo]) -> [Int]? {
        guard fitting.count >= count else { return nil }
        for start in 0...(fitting.count - count) {
            var run: [Int] = []
            var bytes: Int64 = 0
            for index in fitting[start...] {
                guard run.count < min(inputsMax, countMax), bytes + segments[index].bytes <= bytesMax else { break }
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
