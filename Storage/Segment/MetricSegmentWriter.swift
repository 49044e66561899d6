package import ObsCore
package import ObsDisk
internal import ObsEncoding
internal import ObsHash

/// Makes a segment of series. Samples go to disk as they come; labels and chunk places are kept until `finish` (some 8 bytes a label and 72 a chunk).
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class MetricSegmentWriter {
    private let file: SegmentFileWriter
    private var labels = LabelGatherer()
    private var table = ChunkTable()
    private var times = ChunkBlockBuilder()
    private var values = ChunkBlockBuilder()
    private var knownTimes = TimeColumnTable()
    private var lastLabels: [UInt8] = []
    private var rows: Int64 = 0
    private var minTime = Int64.max
    private var maxTime = Int64.min

    /// - Parameter path: of the finished segment; its folder is made.
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) {
        file = try SegmentFileWriter(fileSystem: fileSystem, path: path, signal: .metrics, draft: draft)
    }

    /// Adds a whole series. Series come in label order, each once; times (milliseconds) strictly ascend. A series without samples is left out.
    /// - Parameter labels: canonical.
    package func add(labels: UnsafeRawBufferPointer, times: UnsafeBufferPointer<Int64>, values: UnsafeBufferPointer<Double>) throws(ObsError) {
        precondition(times.count == values.count, "BUG: \(times.count) times for \(values.count) values")
        guard let first = times.first, let last = times.last else { return }
        let isInOrder = self.labels.ends.isEmpty || lastLabels.withUnsafeBytes { compareLabels($0, labels) } < 0
        precondition(isInOrder, "BUG: series written out of label order")
        precondition(strictlyAscends(times), "BUG: samples written out of time order")
        lastLabels.replaceSubrange(0..., with: labels)
        self.labels.append(labels)
        var start = 0
        while start < times.count {
            let range = start..<min(start + SegmentLimits.chunkSamplesMax, times.count)
            try addChunk(UnsafeBufferPointer(rebasing: times[range]), UnsafeBufferPointer(rebasing: values[range]))
            start = range.upperBound
        }
        table.ends.append(table.chunks.count)
        rows += Int64(times.count)
        minTime = min(minTime, first)
        maxTime = max(maxTime, last)
    }

    package func add(labels: Labels, times: [Int64], values: [Double]) throws(ObsError) {
        let result: Result<Void, ObsError> = labels.bytes.withUnsafeBytes { bytes in
            times.withUnsafeBufferPointer { times in
                values.withUnsafeBufferPointer { values in
                    do throws(ObsError) { return .success(try add(labels: bytes, times: times, values: values)) } catch { return .failure(error) }
                }
            }
        }
        try result.get()
    }

    package func finish() throws(ObsError) -> SegmentInfo {
        try times.flush(to: file)
        try values.flush(to: file)
        let ranked = RankedLabels(labels)
        labels = LabelGatherer()
        let series = try SeriesTableWriter(labels: ranked, table: table, file: file).write()
        let index = try LabelIndexWriter(labels: ranked, file: file).write()
        let blocks = try file.append(blockIndex())
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: metricNames(ranked), services: [],
            sections: [(.labelIndex, index), (.seriesTable, series), (.chunkBlocks, blocks)])
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    private func addChunk(_ chunkTimes: UnsafeBufferPointer<Int64>, _ chunkValues: UnsafeBufferPointer<Double>) throws(ObsError) {
        let hash = hash64(UnsafeRawBufferPointer(chunkTimes))
        let timesPlace: ColumnPlace
        if let known = knownTimes.find(chunkTimes, hash: hash) {
            timesPlace = known
        } else {
            timesPlace = try times.append(samples: chunkTimes.count, { IntegerCodec.append(chunkTimes, to: &$0) }, to: file)
            knownTimes.remember(chunkTimes, hash: hash, at: timesPlace)
        }
        let valuesPlace = try values.append(samples: chunkValues.count, { FloatCodec.append(chunkValues, to: &$0) }, to: file)
        table.chunks.append(
            Chunk(
                minTime: chunkTimes[0], maxTime: chunkTimes[chunkTimes.count - 1], samples: chunkTimes.count, times: timesPlace, values: valuesPlace))
    }

    /// `time blocks, then value blocks: varint count · offsets · lengths`.
    private func blockIndex() -> [UInt8] {
        var bytes: [UInt8] = []
        for places in [times.places, values.places] {
            bytes.appendVarint(UInt64(places.count))
            IntegerCodec.append(places.map { Int64($0.offset) }, to: &bytes)
            IntegerCodec.append(places.map { Int64($0.length) }, to: &bytes)
        }
        return bytes
    }

    private func metricNames(_ ranked: RankedLabels) -> [String] {
        guard let name = ranked.names.firstIndex(of: Array("__name__".utf8)), ranked.valueCount(name) <= SegmentLimits.namesMax else { return [] }
        // A series without a name would be missing from the list, so then there is none.
        let isEverywhere = (0..<ranked.seriesCount).allSatisfy { ranked.pairs($0).contains { ranked.pairNames[$0] == UInt32(name) } }
        return isEverywhere ? (0..<ranked.valueCount(name)).map { String(decoding: ranked.value(name, $0), as: UTF8.self) } : []
    }
}

private func strictlyAscends(_ times: UnsafeBufferPointer<Int64>) -> Bool {
    var index = 1
    while index < times.count {
        if times[index &- 1] >= times[index] { return false }
        index &+= 1
    }
    return true
}
