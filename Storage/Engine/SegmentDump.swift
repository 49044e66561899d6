package import ObsCore
package import ObsDisk
package import ObsSegment

/// One row of a segment, for people: names and values in the order of the columns.
package struct SegmentRow: Sendable {
    package enum Value: Sendable {
        case time(nanos: Int64)
        case integer(Int64)
        case number(Double)
        case text([UInt8])
        case labels(Labels)
    }
    package var fields: [(name: String, value: Value)] = []
}

/// The first rows of a segment in the order they lie in it.
package func firstRows(_ path: String, count: Int, fileSystem: any FileSystem = LocalFileSystem()) throws(ObsError) -> [SegmentRow] {
    switch try readSegmentInfo(fileSystem, path).signal {
    case .metrics: return try firstSamples(try MetricSegmentReader.open(fileSystem, path), count)
    case .logs:
        let reader = try LogSegmentReader.open(fileSystem, path)
        return try firstEvents(
            reader.blocks.indices, count, read: { (number) throws(ObsError) in try reader.read(block: number) }, rows: \.count, fields: record)
    case .traces:
        let reader = try SpanSegmentReader.open(fileSystem, path)
        return try firstEvents(
            reader.blocks.indices, count, read: { (number) throws(ObsError) in try reader.read(block: number) }, rows: \.count, fields: span)
    }
}

private func firstSamples(_ reader: MetricSegmentReader, _ count: Int) throws(ObsError) -> [SegmentRow] {
    var rows: [SegmentRow] = []
    for ordinal in 0..<reader.seriesCount where rows.count < count {
        let labels = try reader.labels(ordinal)
        let (times, values) = try reader.samples(ordinal, range: .min ... .max)
        for (time, value) in zip(times, values).prefix(count - rows.count) {
            rows.append(SegmentRow(fields: [("labels", .labels(labels)), ("timeMillis", .integer(time)), ("value", .number(value))]))
        }
    }
    return rows
}

/// The first rows of the blocks of logs or spans.
private func firstEvents<Batch>(
    _ blocks: Range<Int>, _ count: Int, read: (Int) throws(ObsError) -> Batch, rows: (Batch) -> Int, fields: (Batch, Int) -> [(String, SegmentRow.Value)]
) throws(ObsError) -> [SegmentRow] {
    var found: [SegmentRow] = []
    for number in blocks where found.count < count {
        let batch = try read(number)
        for row in 0..<min(rows(batch), count - found.count) { found.append(SegmentRow(fields: fields(batch, row))) }
    }
    return found
}

private func record(_ batch: LogBatch, _ row: Int) -> [(String, SegmentRow.Value)] {
    [
        ("stream", .labels(batch.labels(ofStream: batch.stream[row]))), ("time", .time(nanos: batch.timeNanos[row])),
        ("severity", .integer(Int64(batch.severity[row]))), ("line", .text(text(batch.bytes, batch.line[row]))),
        ("attributes", .text(attributesText(batch.bytes, batch.attributes[row]))),
        ("traceID", .text(Array(batch.traceID[row].isNone ? "".utf8 : batch.traceID[row].description.utf8))),
        ("arrival", .integer(Int64(bitPattern: batch.arrival[row]))),
    ]
}

private func span(_ batch: SpanBatch, _ row: Int) -> [(String, SegmentRow.Value)] {
    [
        ("traceID", .text(Array(batch.traceID[row].description.utf8))), ("spanID", .text(Array(hexString(batch.spanID[row]).utf8))),
        ("parentID", .text(Array(batch.parentID[row] == 0 ? "".utf8 : hexString(batch.parentID[row]).utf8))),
        ("service", .text(text(batch.bytes, batch.services[Int(batch.resource[row])]))), ("name", .text(text(batch.bytes, batch.name[row]))),
        ("start", .time(nanos: batch.startNanos[row])), ("durationNanos", .integer(batch.durationNanos[row])),
        ("attributes", .text(attributesText(batch.bytes, batch.attributes[row]))),
    ]
}

private func text(_ bytes: [UInt8], _ range: ByteRange) -> [UInt8] { Array(bytes[range.range]) }

private func attributesText(_ bytes: [UInt8], _ range: ByteRange) -> [UInt8] {
    Array(attributeList(bytes[range.range]).map { "\($0.key)=\($0.value.text)" }.joined(separator: " ").utf8)
}
