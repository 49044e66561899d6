package import ObsCore
package import ObsStore

package func logBatch(_ rows: [(stream: [String: String], time: Int64, line: String)], identified: Bool = false) -> LogBatch {
    var batch = LogBatch()
    var streams: [[String: String]: UInt32] = [:]
    for row in rows {
        let labels = Labels(row.stream.map { ($0.key, $0.value) })
        let stream: UInt32
        if let known = streams[row.stream] {
            stream = known
        } else {
            stream = UInt32(batch.streams.count)
            streams[row.stream] = stream
            batch.streams.append(batch.bytes.intern(labels.bytes))
        }
        batch.appendRow(stream: stream, timeNanos: row.time, severity: 9, line: batch.bytes.intern(row.line.utf8), flags: identified ? .identified : [])
    }
    return batch
}

package func spanBatch(_ rows: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)]) -> SpanBatch {
    var batch = SpanBatch()
    for row in rows {
        let service = batch.bytes.intern(row.service.utf8)
        var list: [UInt8] = []
        list.appendAttribute("service.name".utf8, .string(row.service))
        batch.resources.append(batch.bytes.intern(list))
        batch.services.append(service)
        batch.appendRow(
            traceID: TraceID(high: 0, low: row.trace), spanID: row.span, parentID: 0, startNanos: row.start, durationNanos: row.duration, kind: 2, status: 0,
            name: batch.bytes.intern(row.name.utf8), resource: UInt32(batch.resources.count - 1))
    }
    return batch
}

package final class LogCollector: LogSink {
    package var wantedNanos: Range<Int64> = .min ..< .max
    package var rows: [(labels: Labels, time: Int64, line: String, arrival: UInt64)] = []
    package var batches = 0

    package init() {}

    package func consume(_ batch: LogBatch, rows indices: [Int]) throws(ObsError) {
        batches += 1
        for row in indices {
            rows.append((batch.labels(ofStream: batch.stream[row]), batch.timeNanos[row], batch.bytes.string(batch.line[row]), batch.arrival[row]))
        }
    }
    package var lines: [String] { rows.sorted { ($0.time, $0.arrival) < ($1.time, $1.arrival) }.map(\.line) }
}

package final class SpanCollector: SpanSink {
    package var rows: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64)] = []

    package init() {}

    package func consume(_ batch: SpanBatch, rows indices: [Int]) throws(ObsError) {
        for row in indices {
            rows.append(
                (
                    batch.traceID[row].low, batch.spanID[row], batch.bytes.string(batch.services[Int(batch.resource[row])]),
                    batch.bytes.string(batch.name[row]), batch.startNanos[row]
                ))
        }
    }
    package var spans: [UInt64] { rows.map(\.span).sorted() }
}
