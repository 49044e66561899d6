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
    case .logs: return try firstRecords(try LogSegmentReader.open(fileSystem, path), count)
    case .traces: return try firstSpans(try SpanSegmentReader.open(fileSystem, path), count)
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

private func firstRecords(_ reader: LogSegmentReader, _ count: Int) throws(ObsError) -> [SegmentRow] {
    var rows: [SegmentRow] = []
    for number in reader.blocks.indices where rows.count < count {
        let batch = try reader.read(block: number)
        for row in 0..<min(batch.count, count - rows.count) {
            rows.append(
                SegmentRow(fields: [
                    ("stream", .labels(batch.labels(ofStream: batch.stream[row]))), ("time", .time(nanos: batch.timeNanos[row])),
                    ("severity", .integer(Int64(batch.severity[row]))), ("line", .text(text(batch.bytes, batch.line[row]))),
                    ("attributes", .text(attributesText(batch.bytes, batch.attributes[row]))),
                    ("traceID", .text(Array(batch.traceID[row].isNone ? "".utf8 : batch.traceID[row].description.utf8))),
                    ("arrival", .integer(Int64(bitPattern: batch.arrival[row]))),
                ]))
        }
    }
    return rows
}

private func firstSpans(_ reader: SpanSegmentReader, _ count: Int) throws(ObsError) -> [SegmentRow] {
    var rows: [SegmentRow] = []
    for number in reader.blocks.indices where rows.count < count {
        let batch = try reader.read(block: number)
        for row in 0..<min(batch.count, count - rows.count) {
            rows.append(
                SegmentRow(fields: [
                    ("traceID", .text(Array(batch.traceID[row].description.utf8))), ("spanID", .text(Array(hexString(batch.spanID[row]).utf8))),
                    ("parentID", .text(Array(batch.parentID[row] == 0 ? "".utf8 : hexString(batch.parentID[row]).utf8))),
                    ("service", .text(text(batch.bytes, batch.services[Int(batch.resource[row])]))), ("name", .text(text(batch.bytes, batch.name[row]))),
                    ("start", .time(nanos: batch.startNanos[row])), ("durationNanos", .integer(batch.durationNanos[row])),
                    ("attributes", .text(attributesText(batch.bytes, batch.attributes[row]))),
                ]))
        }
    }
    return rows
}

private func text(_ bytes: [UInt8], _ range: ByteRange) -> [UInt8] { Array(bytes[range.range]) }

private func attributesText(_ bytes: [UInt8], _ range: ByteRange) -> [UInt8] {
    Array(attributeList(bytes[range.range]).map { "\($0.key)=\($0.value.text)" }.joined(separator: " ").utf8)
}
