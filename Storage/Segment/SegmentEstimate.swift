package import ObsCore
package import ObsStore

extension MetricSegmentReader {
    /// What a read of these series within `range` would look at.
    /// - Parameter ordinals: ascending.
    package func estimate(_ ordinals: [Int], range: ClosedRange<Int64>) throws(ObsError) -> ReadEstimate {
        var estimate = ReadEstimate()
        estimate.segments = 1
        var timeBlocksRead = [Bool](repeating: false, count: timeBlocks.count)
        var valueBlocksRead = [Bool](repeating: false, count: valueBlocks.count)
        for ordinal in ordinals {
            for chunk in try table.chunks(ordinal) where chunk.maxTime >= range.lowerBound && chunk.minTime <= range.upperBound {
                guard timeBlocksRead.indices.contains(chunk.times.block), valueBlocksRead.indices.contains(chunk.values.block) else {
                    throw ObsError(.corrupt, "series \(ordinal) has a chunk in no block", place: file.path)
                }
                estimate.samples += Int64(chunk.samples)
                estimate.add((chunk.minTime...max(chunk.minTime, chunk.maxTime)).clamped(to: range))
                timeBlocksRead[chunk.times.block] = true
                valueBlocksRead[chunk.values.block] = true
            }
        }
        for (places, isRead) in [(timeBlocks, timeBlocksRead), (valueBlocks, valueBlocksRead)] {
            for (place, isRead) in zip(places, isRead) where isRead {
                estimate.blocks += 1
                estimate.bytes += Int64(place.length)
            }
        }
        return estimate
    }
}
