internal import ObsCore
internal import ObsStore

/// Keeps the best `limit` entries of a log query by (time, arrival), and tells the scan which times can still matter.
///
/// Batches overlap in time, so what is kept is sorted and cut whenever it has grown past twice the limit; the last entry of a full set is
/// the bound new ones must beat.
final class EntrySink: LogSink {
    private struct Kept {
        var timeNanos: Int64
        var arrival: UInt64
        var stream: Labels
        var entry: LogEntry
    }

    private let pipeline: Pipeline
    private let limit: Int
    private let direction: LogSelection.Direction
    private let context: QueryContext
    private let row = Row()
    private var kept: [Kept] = []
    private var isFull = false
    private(set) var wantedNanos: Range<Int64>

    /// - Parameter limit: `.max` keeps all (for thinning afterwards).
    init(_ pipeline: Pipeline, range: Range<Int64>, limit: Int, direction: LogSelection.Direction, context: QueryContext) {
        self.pipeline = pipeline
        self.limit = limit
        self.direction = direction
        self.context = context
        wantedNanos = range
    }

    func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
        try context.check()
        context.count(rows: rows.count)
        row.startBatch()
        let needsLabels = true
        var streamLabels: [UInt32: Labels] = [:]
        var heldBytes = 0
        var before = kept.count
        batch.bytes.withUnsafeBytes { bytes in
            for place in rows.indices {
                let index = rows[direction == .backward ? rows.count - 1 - place : place]
                let time = batch.timeNanos[index]
                guard wantedNanos.contains(time) else { continue }
                row.load(batch, index, bytes: bytes, withLabels: needsLabels)
                guard pipeline.process(row) else { continue }
                let stream: Labels
                if row.streamIsIntact {
                    let number = batch.stream[index]
                    if let known = streamLabels[number] {
                        stream = known
                    } else {
                        stream = batch.labels(ofStream: number)
                        streamLabels[number] = stream
                    }
                } else {
                    stream = row.labels(.stream)
                }
                let entry = makeEntry(row)
                heldBytes += entry.line.count + entry.structuredMetadata.bytes.count + entry.parsed.bytes.count + 128
                kept.append(Kept(timeNanos: time, arrival: index < batch.arrival.count ? batch.arrival[index] : UInt64(index), stream: stream, entry: entry))
                if limit < Int.max / 4, kept.count >= 2 * limit + 1000 {
                    prune()
                    before = min(before, kept.count)
                }
            }
        }
        try context.charge(bytes: heldBytes)
        if kept.count > before, kept.count >= limit { prune() }
    }

    private func isBetter(_ a: Kept, _ b: Kept) -> Bool {
        if a.timeNanos != b.timeNanos { return direction == .backward ? a.timeNanos > b.timeNanos : a.timeNanos < b.timeNanos }
        return direction == .backward ? a.arrival > b.arrival : a.arrival < b.arrival
    }

    private func prune() {
        kept.sort(by: isBetter)
        guard kept.count >= limit, limit > 0 else { return }
        var dropped = 0
        for index in limit..<kept.count {
            dropped += kept[index].entry.line.count + kept[index].entry.structuredMetadata.bytes.count + kept[index].entry.parsed.bytes.count + 128
        }
        kept.removeSubrange(limit...)
        context.release(bytes: dropped)
        // Equal times may still win by arrival.
        let worst = kept[limit - 1].timeNanos
        if direction == .backward {
            wantedNanos = min(worst, wantedNanos.upperBound)..<wantedNanos.upperBound
        } else {
            wantedNanos = wantedNanos.lowerBound..<max(wantedNanos.lowerBound, worst == .max ? worst : worst + 1)
        }
    }

    /// The answer: at most `limit` entries, `intervalNanos` apart at least, grouped by stream labels.
    func streams(limit: Int, intervalNanos: Int64) -> [LogStream] {
        kept.sort(by: isBetter)
        var result: [LogStream] = []
        var places: [Labels: Int] = [:]
        var taken = 0
        var last: Int64?
        for item in kept {
            if taken == limit { break }
            if intervalNanos > 0, let last {
                let (distance, overflow) = item.timeNanos.subtractingReportingOverflow(last)
                if !overflow, abs(distance) < intervalNanos { continue }
            }
            last = item.timeNanos
            taken += 1
            if let place = places[item.stream] {
                result[place].entries.append(item.entry)
            } else {
                places[item.stream] = result.count
                result.append(LogStream(labels: item.stream, entries: [item.entry]))
            }
        }
        return result.sorted { $0.labels < $1.labels }
    }
}

func makeEntry(_ row: Row) -> LogEntry {
    LogEntry(
        timeNanos: row.timeNanos, line: Array(row.line), structuredMetadata: row.labels(.metadata), parsed: row.labels(.parsed, keepingEmpty: true))
}
