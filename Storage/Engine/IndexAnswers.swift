// What the store says of series from its indexes alone, sample blocks unread.

package import ObsCore
internal import ObsSegment
package import ObsStore

extension StorageEngine {
    package func forEachLabelSet(
        _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext, _ body: (Labels) throws(ObsError) -> Void
    ) throws(ObsError) {
        try lookup(signal, selectors, range, .max, context)?.forEachSet(body)
    }

    package func estimate(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) -> ReadEstimate {
        var estimate = ReadEstimate()
        var heads: [MetricHead] = []
        for segment in try metrics.snapshot(context.tenant, { heads.append($0) }) where segment.overlaps(range) && segment.mayHold(matchers) {
            try context.check()
            let part = try segment.reading { () throws(ObsError) -> ReadEstimate in
                let reader = try segment.reader()
                // Deleted series are left out; what is deleted of others counts.
                let mask = shared.tombstones.deletions(context.tenant, .metrics).mask(of: segment.info)
                let ordinals = try segment.ordinals([matchers], range: range, mask: mask)
                return try reader.estimate(ordinals ?? Array(0..<reader.seriesCount), range: range)
            }
            estimate.add(part)
        }
        let expiry = shared.tombstones.deletions(context.tenant, .metrics).expiry
        for head in heads {
            try context.check()
            estimate.add(head.estimate(matchers, range: range, expiry: expiry, locked: metrics.locked))
        }
        var series = 0
        try lookup(.metrics, [matchers], range, .max, context)?.forEachSet { _ in series += 1 }
        estimate.series = series
        return estimate
    }
}

extension LabelLookup {
    /// Gives the label sets in order, one at a time.
    func forEachSet(_ body: (Labels) throws(ObsError) -> Void) throws(ObsError) {
        var cursors: [any SeriesSource] = []
        for source in sources {
            try question.context.check()
            cursors.append(try source.sets())
        }
        let merged = MergedSeriesSet(cursors, context: question.context)
        while let labels = try merged.nextLabels() {
            // Nobody keeps it.
            question.context.release(bytes: labels.bytes.count + 64)
            try body(labels)
        }
    }
}

extension MetricHead {
    /// Records looked at under the lock at once: writers never wait long.
    private static var recordsAtOnce: Int { 1024 }

    func estimate(_ matchers: [LabelMatcher], range: ClosedRange<Int64>, expiry: Expiry, locked: Locked) -> ReadEstimate {
        var estimate = ReadEstimate()
        let ids = table.inReach(range, expiry, of: table.select(any: [matchers], locked: locked), locked: locked)
        var start = 0
        while start < ids.count {
            let end = min(start + Self.recordsAtOnce, ids.count)
            locked {
                for id in ids[start..<end] { add(table[id], range, to: &estimate) }
            }
            start = end
        }
        estimate.bytes = estimate.samples * Int64(MemoryLayout<Sample>.stride)
        return estimate
    }

    private func add(_ record: UnsafeMutablePointer<SeriesRecord>, _ range: ClosedRange<Int64>, to estimate: inout ReadEstimate) {
        let times = record.pointee.minTime...record.pointee.maxTime
        estimate.add(times.clamped(to: range))
        var floats = 0
        var next = record.pointee.tail
        while let chunk = next {
            floats += Int(chunk.pointee.count)
            if chunk.pointee.minTime <= range.upperBound, chunk.pointee.maxTime >= range.lowerBound {
                estimate.blocks += 1
                estimate.samples += Int64(chunk.pointee.count)
            }
            next = chunk.pointee.previous
        }
        // What is no float is a histogram; those have no chunks.
        estimate.samples += Int64(max(0, Int(record.pointee.count) - floats))
    }
}
