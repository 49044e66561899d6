package import ObsCore
package import ObsDisk
internal import ObsEncoding
internal import ObsHash
package import ObsStore

/// Makes a segment of series. Samples and chunk places go to disk as they come; labels are kept as numbers until `finish`, see `SeriesLabels`.
///
/// One thread. After an error only `abandon` makes sense. A writer that goes without `finish` leaves nothing behind.
package final class MetricSegmentWriter {
    private let file: SegmentFileWriter
    private let gathered = SeriesLabels()
    private var series = 0
    private var table = SeriesTableWriter()
    private var times = ChunkBlockBuilder()
    private var values = ChunkBlockBuilder()
    private var knownTimes = TimeColumnTable()
    /// Of the series in work.
    private var seriesChunks = 0
    /// What is known of metric families; set before `finish`.
    package var families = MetricFamilies()
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
        guard !times.isEmpty else { return }
        let isInOrder = gathered.count == 0 || lastLabels.withUnsafeBytes { compareLabels($0, labels) } < 0
        precondition(isInOrder, "BUG: series written out of label order")
        lastLabels.replaceSubrange(0..., with: labels)
        gathered.append(labels, stays: false)
        try add(times: times, values: values)
    }

    /// Adds the samples of a series whose labels come with `finish(_:)`. At least one sample; else as `add(labels:times:values:)`.
    package func add(times: UnsafeBufferPointer<Int64>, values: UnsafeBufferPointer<Double>) throws(ObsError) {
        precondition(times.count == values.count, "BUG: \(times.count) times for \(values.count) values")
        guard !times.isEmpty else { return }
        precondition(strictlyAscends(times), "BUG: samples written out of time order")
        var start = 0
        while start < times.count {
            let range = start..<min(start + SegmentLimits.chunkSamplesMax, times.count)
            try addChunk(UnsafeBufferPointer(rebasing: times[range]), UnsafeBufferPointer(rebasing: values[range]))
            start = range.upperBound
        }
        _ = try endSeries()
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
        gathered.rank(isOrdered: true)
        return try finish(gathered)
    }

    /// - Parameter labels: ranked, of the series added without, which came in its order.
    package func finish(_ labels: SeriesLabels) throws(ObsError) -> SegmentInfo {
        precondition(labels.count == series, "BUG: labels of \(labels.count) series for samples of \(series)")
        try times.flush(to: file)
        try values.flush(to: file)
        let tablePlace = try table.write(labels, file)
        var index = LabelIndexWriter(labels: labels, file: file)
        let indexPlace = try index.write()
        let blocks = try file.append(blockIndex())
        var sections: [(SectionKind, FramePlace)] = [(.labelIndex, indexPlace), (.seriesTable, tablePlace), (.chunkBlocks, blocks)]
        if !families.isEmpty { sections.append((.metadata, try file.append(MetadataSection.encode(families)))) }
        return try file.finish(
            minTime: minTime, maxTime: maxTime, rows: rows, names: metricNames(labels), services: [], sections: sections)
    }

    /// Removes what was written.
    package func abandon() { file.abandon() }

    // MARK: A series chunk by chunk; its labels come with `finish(_:)`

    /// A chunk whose columns are there already.
    func add(_ chunk: Chunk, _ summary: SampleSummary) {
        table.append(chunk, summary)
        seriesChunks += 1
        rows += Int64(chunk.samples)
        minTime = min(minTime, chunk.minTime)
        maxTime = max(maxTime, chunk.maxTime)
    }

    /// False for a series without chunks, which is left out.
    func endSeries() throws(ObsError) -> Bool {
        guard seriesChunks > 0 else { return false }
        try table.endSeries(file)
        series += 1
        seriesChunks = 0
        return true
    }

    func addChunk(_ chunkTimes: UnsafeBufferPointer<Int64>, _ chunkValues: UnsafeBufferPointer<Double>) throws(ObsError) {
        let hash = hash64(UnsafeRawBufferPointer(chunkTimes))
        let timesPlace: ColumnPlace
        if let known = knownTimes.find(chunkTimes, hash: hash) {
            timesPlace = known
        } else {
            timesPlace = try times.append(samples: chunkTimes.count, { IntegerCodec.append(chunkTimes, to: &$0) }, to: file)
            knownTimes.remember(chunkTimes, hash: hash, at: timesPlace)
        }
        let valuesPlace = try values.append(samples: chunkValues.count, { FloatCodec.append(chunkValues, to: &$0) }, to: file)
        let chunk = Chunk(
            minTime: chunkTimes[0], maxTime: chunkTimes[chunkTimes.count - 1], samples: chunkTimes.count, times: timesPlace, values: valuesPlace)
        add(chunk, ChunkStatistics.make(chunkTimes, chunkValues))
    }

    // MARK: What another segment has, as it is encoded there

    /// Takes a block over, its bytes as they are; returns its number.
    func copyTimeBlock(_ frames: (bytes: [UInt8], checksums: [UInt64])) throws(ObsError) -> Int { try times.copy(frames, to: file) }
    func copyValueBlock(_ frames: (bytes: [UInt8], checksums: [UInt64])) throws(ObsError) -> Int { try values.copy(frames, to: file) }

    func copyTimes(_ column: [UInt8], samples: Int) throws(ObsError) -> ColumnPlace {
        try times.append(samples: samples, { $0.append(contentsOf: column) }, to: file)
    }

    func copyValues(_ column: [UInt8], samples: Int) throws(ObsError) -> ColumnPlace {
        try values.append(samples: samples, { $0.append(contentsOf: column) }, to: file)
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

    private func metricNames(_ labels: SeriesLabels) -> [String] {
        guard let name = labels.names.firstIndex(of: Array("__name__".utf8)), labels.ranks(name).count <= SegmentLimits.namesMax else { return [] }
        // A series without a name would be missing from the list, so then there is none.
        let named = labels.ranks(name).reduce(0) { $0 + Int(labels.seriesCounts[$1]) }
        return named == labels.count ? labels.ranks(name).map { String(decoding: labels.value($0), as: UTF8.self) } : []
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
