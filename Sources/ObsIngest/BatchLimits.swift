// Bounds on single records. A record past a bound is left out and counted, with the first one's reason; its batch goes on.
// Live ingest and replay both pass here (see WireDecoder), so that the log repeats the same decisions.
internal import ObsCore

/// What the limits took out of a batch.
struct LimitRejections {
    var count = 0
    var reason: String?

    mutating func add(_ count: Int, _ why: String) {
        self.count += count
        if reason == nil { reason = why }
    }

    mutating func add(_ other: LimitRejections) {
        count += other.count
        if reason == nil { reason = other.reason }
    }
}

extension Limits {
    /// Why a canonical label set is over a limit; nil when it is not.
    func violation(ofLabels labels: UnsafeRawBufferPointer) -> String? {
        // Short sets cannot violate anything: the common case costs one comparison.
        if labels.count <= min(labelsMax * 4, labelNameBytesMax, labelValueBytesMax) { return nil }
        var count = 0
        var reason: String?
        forEachLabel(labels) { name, value in
            count += 1
            guard reason == nil else { return }
            if name.count > labelNameBytesMax {
                reason = "label name \(shown(name)) of \(name.count) bytes is longer than \(labelNameBytesMax) (ingest.label-name-bytes-max)"
            } else if value.count > labelValueBytesMax {
                reason = "value of label \(shown(name)) of \(value.count) bytes is longer than \(labelValueBytesMax) (ingest.label-value-bytes-max)"
            }
        }
        if count > labelsMax { reason = "\(count) labels are more than \(labelsMax) (ingest.labels-max)" }
        return reason
    }

    private func shown(_ text: UnsafeRawBufferPointer) -> String { quoted(String(decoding: text.prefix(200), as: UTF8.self)) }

    func apply(to batch: inout MetricBatch) -> LimitRejections {
        var rejections = LimitRejections()
        var keep: [Bool] = []
        batch.bytes.withUnsafeBytes { bytes in
            for index in batch.series.indices {
                guard let reason = violation(ofLabels: UnsafeRawBufferPointer(rebasing: bytes[batch.series[index].labels.range])) else { continue }
                if keep.isEmpty { keep = [Bool](repeating: true, count: batch.series.count) }
                keep[index] = false
                rejections.add(Int(batch.series[index].sampleCount) + batch.histogramSeries.count { $0 == UInt32(index) }, reason)
            }
        }
        if !keep.isEmpty { batch.keepSeries(keep) }
        return rejections
    }

    func apply(to batch: inout LogBatch) -> LimitRejections {
        var rejections = LimitRejections()
        var badStreams: [UInt32: String] = [:]
        batch.bytes.withUnsafeBytes { bytes in
            for index in batch.streams.indices {
                if let reason = violation(ofLabels: UnsafeRawBufferPointer(rebasing: bytes[batch.streams[index].range])) { badStreams[UInt32(index)] = reason }
            }
        }
        let longest = batch.line.reduce(0) { max($0, $1.count) }
        guard !badStreams.isEmpty || Int(longest) > lineBytesMax else { return rejections }
        var keep: [Int] = []
        for row in 0..<batch.count {
            if let reason = badStreams[batch.stream[row]] {
                rejections.add(1, reason)
            } else if Int(batch.line[row].count) > lineBytesMax {
                rejections.add(1, "line of \(batch.line[row].count) bytes is longer than \(lineBytesMax) (ingest.line-bytes-max)")
            } else {
                keep.append(row)
            }
        }
        batch.keepRows(keep)
        return rejections
    }
}

extension MetricBatch {
    /// Keeps the marked series with their samples, histograms and exemplars.
    mutating func keepSeries(_ keep: [Bool]) {
        var kept = MetricBatch()
        kept.bytes = bytes
        kept.metadata = metadata
        var newIndex = [UInt32?](repeating: nil, count: series.count)
        for (index, entry) in series.enumerated() where keep[index] {
            newIndex[index] = UInt32(kept.series.count)
            let samples = Int(entry.firstSample)..<Int(entry.firstSample) + Int(entry.sampleCount)
            kept.series.append(Series(labels: entry.labels, firstSample: UInt32(kept.timesMillis.count), sampleCount: entry.sampleCount))
            kept.timesMillis += timesMillis[samples]
            kept.values += values[samples]
            if !startsMillis.isEmpty { kept.startsMillis += startsMillis[samples] }
        }
        for (row, entry) in histogramSeries.enumerated() {
            guard let index = newIndex[Int(entry)] else { continue }
            kept.histograms.append(histograms, row: row)
            kept.histogramSeries.append(index)
        }
        for exemplar in exemplars {
            guard let index = newIndex[Int(exemplar.series)] else { continue }
            kept.exemplars.append(Exemplar(series: index, labels: exemplar.labels, value: exemplar.value, timeMillis: exemplar.timeMillis))
        }
        self = kept
    }
}

extension LogBatch {
    /// Keeps the given rows, in ascending order.
    mutating func keepRows(_ rows: [Int]) {
        func kept<T>(_ column: [T]) -> [T] { rows.map { column[$0] } }
        stream = kept(stream)
        timeNanos = kept(timeNanos)
        severity = kept(severity)
        line = kept(line)
        attributes = kept(attributes)
        traceID = kept(traceID)
        spanID = kept(spanID)
        resource = kept(resource)
        scope = kept(scope)
        flags = kept(flags)
        if !arrival.isEmpty { arrival = kept(arrival) }
    }
}
