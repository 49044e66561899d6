// Heads to segments: each head says into which segments it divides, and writes one of them, sorted as its kind of segment wants it.

internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsSegment

/// A head that can be written as segments. The generation is sealed: nothing changes it any more.
protocol FlushableHead: SignalHead {
    associatedtype Reader: AnyObject & Sendable
    static func openSegment(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache) throws(ObsError) -> Reader

    /// Whether a segment has rows that the deletion hides.
    static func holds(_ reader: Reader, _ tombstone: Tombstone) throws(ObsError) -> Bool
    /// How much of a segment is past.
    static func pastShare(_ reader: Reader, _ info: SegmentInfo, _ expiry: Expiry) throws(ObsError) -> PastShare

    /// Days of each segment to be written; none when there is nothing to keep.
    func partitions(_ sizes: PartitionSizes) -> [ClosedRange<Int>]
    /// Writes the rows of those days; `draft` and `path` as its segment writer takes them.
    func writeSegment(_ days: ClosedRange<Int>, _ fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) -> SegmentInfo
}

extension FlushableHead {
    static var ticksPerDay: Int64 { millisPerDay * ticksPerMilli }

    static func day(_ time: Int64) -> Int { Int(floorDivide(time, ticksPerDay)) }

    /// Times of those days; clamped, since the first and last day of all of time are not whole.
    static func times(_ days: ClosedRange<Int>) -> ClosedRange<Int64> {
        let first = Int64(days.lowerBound).multipliedReportingOverflow(by: ticksPerDay)
        let end = Int64(days.upperBound + 1).multipliedReportingOverflow(by: ticksPerDay)
        return (first.overflow ? .min : first.partialValue)...(end.overflow ? .max : end.partialValue - 1)
    }
}

extension MetricHead: FlushableHead {
    static func openSegment(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache) throws(ObsError) -> MetricSegmentReader {
        try MetricSegmentReader.open(fileSystem, path, cache: cache)
    }

    func partitions(_ sizes: PartitionSizes) -> [ClosedRange<Int>] {
        guard sampleCount > 0 else { return [] }
        let firstDay = Self.day(minTime)
        if firstDay == Self.day(maxTime) { return [firstDay...firstDay] }
        var days: [Int: Int] = [:]
        for id in 0..<table.count {
            var next = table[id].pointee.tail
            while let chunk = next {
                let first = Self.day(chunk.pointee.minTime)
                if first == Self.day(chunk.pointee.maxTime) {
                    days[first, default: 0] += Int(chunk.pointee.count)
                } else {
                    for index in 0..<Int(chunk.pointee.count) { days[Self.day(chunk.samples[index].timeMillis), default: 0] += 1 }
                }
                next = chunk.pointee.previous
            }
        }
        // Two bytes a sample is a careful guess of what blocks make of it.
        return partitionDays(days, bytesPerRow: 2, sizes)
    }

    func writeSegment(_ days: ClosedRange<Int>, _ fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) -> SegmentInfo {
        let writer = try MetricSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            let range = Self.times(days)
            let labels = SeriesLabels()
            labels.reserve(table.count)
            var ids: [UInt32] = []
            ids.reserveCapacity(table.count)
            for id in 0..<table.count where hasSamples(id, range) {
                labels.append(table[id].pointee.labelBytes, stays: true)
                ids.append(UInt32(id))
            }
            labels.rank(isOrdered: false)
            var times: [Int64] = []
            var values: [Double] = []
            for ordinal in 0..<labels.count {
                times.removeAll(keepingCapacity: true)
                values.removeAll(keepingCapacity: true)
                samples(of: Int(ids[labels.number(ordinal)]), range: range, times: &times, values: &values)
                try add(times, values, to: writer)
            }
            writer.families = families
            return try writer.finish(labels)
        } catch {
            writer.abandon()
            throw error
        }
    }

    private func add(_ times: [Int64], _ values: [Double], to writer: MetricSegmentWriter) throws(ObsError) {
        var failure: ObsError?
        times.withUnsafeBufferPointer { times in
            values.withUnsafeBufferPointer { values in
                do throws(ObsError) { try writer.add(times: times, values: values) } catch { failure = error }
            }
        }
        if let failure { throw failure }
    }
}

extension LogHead: FlushableHead {
    static func openSegment(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache) throws(ObsError) -> LogSegmentReader {
        try LogSegmentReader.open(fileSystem, path, cache: cache)
    }

    func partitions(_ sizes: PartitionSizes) -> [ClosedRange<Int>] {
        var days: [Int: Int] = [:]
        batches.forEach { entry in countDays(entry, entry.batch.timeNanos, &days) }
        return partitionDays(days, bytesPerRow: max(1, usedBytes / max(rowCount, 1) / 8), sizes)
    }

    private struct Row {
        var time: Int64
        var arrival: UInt64
        var place: RowPlace
    }

    func writeSegment(_ days: ClosedRange<Int>, _ fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) -> SegmentInfo {
        let writer = try LogSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var sources: [LogBatch] = []
            let rows = sortedRows(Self.times(days), &sources)
            try writer.add(sources, rows: rows)
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Rows of a time range by stream, time, arrival (big streams by origin first), records that came twice once.
    private func sortedRows(_ range: ClosedRange<Int64>, _ sources: inout [LogBatch]) -> [RowPlace] {
        let order = (0..<streams.count).sorted { compareLabels(streams[$0].pointee.labelBytes, streams[$1].pointee.labelBytes) < 0 }
        var entries: [HeadBatch<LogBatch>] = []
        batches.forEach { if $0.minTime <= range.upperBound, $0.maxTime >= range.lowerBound { entries.append($0) } }
        sources = entries.map(\.batch)
        var counts = [Int](repeating: 0, count: streams.count)
        forEachRow(entries, range) { stream, _, _, _ in counts[stream] += 1 }
        var ends = counts
        var start = 0
        for stream in order {
            ends[stream] = start
            start += counts[stream]
        }
        var rows = [Row](repeating: Row(time: 0, arrival: 0, place: RowPlace(source: 0, row: 0)), count: start)
        forEachRow(entries, range) { stream, source, row, batch in
            rows[ends[stream]] = Row(
                time: batch.timeNanos[row], arrival: batch.arrival[row], place: RowPlace(source: UInt32(source), row: UInt32(row)))
            ends[stream] += 1
        }
        for stream in order {
            sort(&rows, (ends[stream] - counts[stream])..<ends[stream]) { $0.time != $1.time ? $0.time < $1.time : $0.arrival < $1.arrival }
        }
        var kept: [RowPlace] = []
        kept.reserveCapacity(rows.count)
        let origins = RowOrigins(sources)
        for stream in order {
            let first = kept.count
            appendUnrepeated(
                rows[(ends[stream] - counts[stream])..<ends[stream]], place: \.place, areNeighbours: { $0.time == $1.time },
                isNew: { isNew($0, sources, &$1) }, to: &kept)
            origins?.divide(&kept, first..<kept.count)
        }
        return kept
    }

    /// Rows of a time range, with the ids of their streams, as they came.
    private func forEachRow(_ entries: [HeadBatch<LogBatch>], _ range: ClosedRange<Int64>, _ body: (Int, Int, Int, LogBatch) -> Void) {
        for (source, entry) in entries.enumerated() {
            let isWhole = entry.minTime >= range.lowerBound && entry.maxTime <= range.upperBound
            for row in 0..<entry.batch.count where isWhole || range.contains(entry.batch.timeNanos[row]) {
                body(Int(entry.streamIDs[Int(entry.batch.stream[row])]), source, row, entry.batch)
            }
        }
    }

    private func isNew(_ row: Row, _ sources: [LogBatch], _ seen: inout SeenRows) -> Bool {
        let batch = sources[Int(row.place.source)]
        guard batch.flags[Int(row.place.row)].contains(.identified) else { return true }
        return seen.insert(batch.bytes.withUnsafeBytes { RowIdentity.log(batch, row: Int(row.place.row), bytes: $0) })
    }
}

extension SpanHead: FlushableHead {
    static func openSegment(_ fileSystem: any FileSystem, _ path: String, cache: BlockCache) throws(ObsError) -> SpanSegmentReader {
        try SpanSegmentReader.open(fileSystem, path)
    }

    func partitions(_ sizes: PartitionSizes) -> [ClosedRange<Int>] {
        var days: [Int: Int] = [:]
        batches.forEach { entry in countDays(entry, entry.batch.startNanos, &days) }
        return partitionDays(days, bytesPerRow: max(1, usedBytes / max(rowCount, 1) / 8), sizes)
    }

    private struct Row {
        var start: Int64
        var place: RowPlace
    }

    func writeSegment(_ days: ClosedRange<Int>, _ fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) -> SegmentInfo {
        let writer = try SpanSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var sources: [SpanBatch] = []
            let rows = sortedRows(Self.times(days), &sources)
            try writer.add(sources, rows: rows)
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    private func isNew(_ row: Row, _ sources: [SpanBatch], _ seen: inout SeenRows) -> Bool {
        let batch = sources[Int(row.place.source)]
        return seen.insert(batch.bytes.withUnsafeBytes { RowIdentity.span(batch, row: Int(row.place.row), bytes: $0) })
    }

    /// Rows of a time range by trace and start, spans that came twice once. Traces come in the order of their first starts, so that what is over one moment
    /// lies together, and segments of one time after the other hardly overlap: merges copy their blocks.
    private func sortedRows(_ range: ClosedRange<Int64>, _ sources: inout [SpanBatch]) -> [RowPlace] {
        var found: [SpanBatch] = []
        batches.forEach { if $0.minTime <= range.upperBound, $0.maxTime >= range.lowerBound { found.append($0.batch) } }
        sources = found
        var numbers: [TraceID: Int] = [:]
        var traces: [(start: Int64, id: TraceID, count: Int)] = []
        /// Of each row in the range.
        var traceOfRow: [UInt32] = []
        var (last, number) = (TraceID.none, -1)
        for batch in found {
            for row in 0..<batch.count where range.contains(batch.startNanos[row]) {
                let id = batch.traceID[row]
                if id != last || number < 0 {
                    number = numbers[id] ?? traces.count
                    if number == traces.count {
                        numbers[id] = number
                        traces.append((.max, id, 0))
                    }
                    last = id
                }
                traces[number].start = min(traces[number].start, batch.startNanos[row])
                traces[number].count += 1
                traceOfRow.append(UInt32(number))
            }
        }
        numbers = [:]
        let order = traces.indices.sorted { (traces[$0].start, traces[$0].id) < (traces[$1].start, traces[$1].id) }
        var ends = [Int](repeating: 0, count: traces.count)
        var start = 0
        for trace in order {
            ends[trace] = start
            start += traces[trace].count
        }
        var rows = [Row](repeating: Row(start: 0, place: RowPlace(source: 0, row: 0)), count: start)
        var next = 0
        for (source, batch) in found.enumerated() {
            for row in 0..<batch.count where range.contains(batch.startNanos[row]) {
                let trace = Int(traceOfRow[next])
                next += 1
                rows[ends[trace]] = Row(start: batch.startNanos[row], place: RowPlace(source: UInt32(source), row: UInt32(row)))
                ends[trace] += 1
            }
        }
        traceOfRow = []
        var kept: [RowPlace] = []
        kept.reserveCapacity(rows.count)
        for trace in order {
            let own = (ends[trace] - traces[trace].count)..<ends[trace]
            sort(&rows, own) { ($0.start, $0.place.source, $0.place.row) < ($1.start, $1.place.source, $1.place.row) }
            appendUnrepeated(rows[own], place: \.place, areNeighbours: { $0.start == $1.start }, isNew: { isNew($0, found, &$1) }, to: &kept)
        }
        return kept
    }
}

/// Sorts a range of rows, unless it comes sorted.
private func sort<Row>(_ rows: inout [Row], _ range: Range<Int>, by areInOrder: (Row, Row) -> Bool) {
    for row in range.dropFirst() where areInOrder(rows[row], rows[row - 1]) {
        rows[range].sort(by: areInOrder)
        return
    }
}

/// Places of sorted rows without those that are equal to an earlier one. Equal rows are neighbours, and most rows have none: they are not hashed.
private func appendUnrepeated<Row>(
    _ rows: ArraySlice<Row>, place: (Row) -> RowPlace, areNeighbours: (Row, Row) -> Bool, isNew: (Row, inout SeenRows) -> Bool, to kept: inout [RowPlace]
) {
    var start = rows.startIndex
    while start < rows.endIndex {
        var end = start + 1
        while end < rows.endIndex, areNeighbours(rows[start], rows[end]) { end += 1 }
        if end == start + 1 {
            kept.append(place(rows[start]))
        } else {
            var seen = SeenRows()
            for row in rows[start..<end] where isNew(row, &seen) { kept.append(place(row)) }
        }
        start = end
    }
}

extension FlushableHead {
    /// Counts a batch's rows by day.
    fileprivate func countDays<B: Sendable>(_ entry: HeadBatch<B>, _ times: [Int64], _ days: inout [Int: Int]) {
        let first = Self.day(entry.minTime)
        if first == Self.day(entry.maxTime) {
            days[first, default: 0] += times.count
        } else {
            for time in times { days[Self.day(time), default: 0] += 1 }
        }
    }
}
