// Samples of one tenant in one head generation.
//
// A series' samples lie in a chain of chunks in the table's arena, newest first, each chunk twice as big as the one before it up to 128 samples: a series of
// three samples costs 96 bytes, a long one 16 bytes a sample and next to nothing else. Samples lie as they came; a series whose samples came out of order is
// marked and sorted when it is read or flushed. A chunk knows its time range, so that looking for "was this instant written before?" opens few of them.
//
// Histograms, exemplars and starts lie apart (SeriesExtras.swift). A record's count and times are of its samples of both kinds.

internal import ObsCore
internal import ObsHash
internal import ObsStore

struct Sample {
    var timeMillis: Int64
    var bits: UInt64
}

/// Header of a chunk; its samples follow it directly.
struct SampleChunk {
    var previous: UnsafeMutablePointer<SampleChunk>?
    var minTime: Int64
    var maxTime: Int64
    var count: UInt32
    var capacity: UInt32
    static let firstCapacity = 4
    static let lastCapacity = 128
}

extension UnsafeMutablePointer<SampleChunk> {
    var samples: UnsafeMutablePointer<Sample> { UnsafeMutableRawPointer(self + 1).assumingMemoryBound(to: Sample.self) }
}

final class MetricHead {
    /// Years 1 to 9999: what has a calendar day to be stored under. Beyond lie only mistaken units.
    private static let possibleTimes: ClosedRange<Int64> = -62_135_596_800_000...253_402_300_799_999
    private static let tooOld = "sample is older than the retention allows (retention)"
    private static let duplicate = "duplicate sample for timestamp"
    let table = SeriesTable()
    private(set) var sampleCount = 0
    private(set) var minTime = Int64.max
    private(set) var maxTime = Int64.min

    /// What the batches say of metric families. A flush keeps it only beside samples: senders repeat it, and samples come with it.
    private(set) var families = MetricFamilies()

    /// What few series have; see `SeriesRecord.extras`.
    private(set) var extras: [SeriesExtras] = []
    private(set) var histograms: [HeadHistograms] = []
    private var extraBytes = 0

    var usedBytes: Int { table.usedBytes + families.byteSize + extraBytes }

    /// Applies a batch: decides sample by sample, the same way at replay.
    /// - Parameters:
    ///   - hashes: keyed hash of each series of the batch, made before the lock was taken.
    ///   - floorMillis: samples before it are too old.
    func append(_ batch: MetricBatch, hashes: [Hash128], floorMillis: Int64, limits: Limits) -> AppendOutcome {
        var outcome = AppendOutcome()
        let hasMore = !batch.histograms.isEmpty || !batch.exemplars.isEmpty
        var ids: [Int?] = []
        batch.bytes.withUnsafeBytes { bytes in
            batch.timesMillis.withUnsafeBufferPointer { times in
                batch.values.withUnsafeBufferPointer { values in
                    // Found first for all series: the loads of one pass do not wait for each other.
                    let found = hashes.map { table.find($0) }
                    for index in batch.series.indices {
                        let series = batch.series[index]
                        let labels = UnsafeRawBufferPointer(rebasing: bytes[series.labels.range])
                        let samples = Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)
                        let id = found[index] ?? intern(hashes[index], labels, limits, samples.count, &outcome)
                        if hasMore { ids.append(id) }
                        guard let id else { continue }
                        append(
                            table[id], times: times, values: values, starts: batch.startsMillis, samples: samples, floorMillis: floorMillis, &outcome)
                    }
                }
            }
        }
        if hasMore {
            for row in 0..<batch.histograms.count {
                append(batch.histograms, row: row, to: ids[Int(batch.histogramSeries[row])], floorMillis: floorMillis, &outcome)
            }
            for exemplar in batch.exemplars { append(exemplar, batch.bytes, to: ids[Int(exemplar.series)], floorMillis: floorMillis, &outcome) }
        }
        sampleCount += outcome.accepted
        if !batch.metadata.isEmpty { families.add(batch) }
        return outcome
    }

    /// The id of a label set new to this batch's first look; nil when it breaks a limit.
    private func intern(_ hash: Hash128, _ labels: UnsafeRawBufferPointer, _ limits: Limits, _ samples: Int, _ outcome: inout AppendOutcome) -> Int? {
        if let id = table.find(hash) { return id }
        if let reason = violation(of: limits, labels) {
            outcome.rejected += samples
            outcome.reason = outcome.reason ?? reason
            return nil
        }
        return table.insert(hash, labels: labels)
    }

    private func append(
        _ record: UnsafeMutablePointer<SeriesRecord>, times: UnsafeBufferPointer<Int64>, values: UnsafeBufferPointer<Double>, starts: [Int64],
        samples: Range<Int>, floorMillis: Int64, _ outcome: inout AppendOutcome
    ) {
        let hasStarts = !starts.isEmpty || record.pointee.extras != nil
        for sample in samples {
            let time = times[sample]
            let bits = values[sample].bitPattern
            if time < floorMillis || !Self.possibleTimes.contains(time) {
                outcome.rejected += 1
                outcome.reason = outcome.reason ?? refusal(time, floorMillis)
                continue
            }
            if time <= record.pointee.maxTime, record.pointee.count > 0 {
                if let isSame = isSame(record, time, bits) {
                    if isSame {
                        outcome.duplicates += 1
                    } else {
                        outcome.rejected += 1
                        outcome.reason = outcome.reason ?? Self.duplicate
                    }
                    continue
                }
                record.pointee.isUnordered = true
            } else {
                record.pointee.maxTime = time
                record.pointee.lastBits = bits
            }
            if hasStarts { noteStart(starts.isEmpty ? 0 : starts[sample], record) }
            push(record, Sample(timeMillis: time, bits: bits))
            outcome.accepted += 1
        }
    }

    private func refusal(_ time: Int64, _ floorMillis: Int64) -> String {
        time < floorMillis ? Self.tooOld : "timestamp is outside the years 1 to 9999: milliseconds are expected"
    }

    /// Whether what was written for an instant is this value; nil when nothing was.
    private func isSame(_ record: UnsafeMutablePointer<SeriesRecord>, _ time: Int64, _ bits: UInt64) -> Bool? {
        guard let place = record.pointee.extras, extras[place].histograms >= 0 else {
            return (time == record.pointee.maxTime ? record.pointee.lastBits : value(of: record, at: time)).map { $0 == bits }
        }
        if let isStale = histograms[Int(extras[place].histograms)].isStale(at: time) { return isStale && bits == SpecialValue.staleBits }
        return value(of: record, at: time).map { $0 == bits }
    }

    // MARK: Histograms, exemplars, starts

    /// Changes what there is beside floats, and counts the memory.
    private func withExtras(_ record: UnsafeMutablePointer<SeriesRecord>, _ body: (inout SeriesExtras) -> Void) {
        let place = record.pointee.extras ?? extras.count
        if place == extras.count {
            record.pointee.extras = place
            extras.append(SeriesExtras())
            extraBytes += MemoryLayout<SeriesExtras>.stride
        }
        body(&extras[place])
    }

    private func noteStart(_ startMillis: Int64, _ record: UnsafeMutablePointer<SeriesRecord>) {
        guard startMillis != 0 || record.pointee.extras != nil else { return }
        withExtras(record) { extras in
            let sample = Int(record.pointee.count) - (extras.histograms < 0 ? 0 : histograms[Int(extras.histograms)].count)
            let before = extras.starts.changes.count
            extras.starts.note(startMillis, sample: sample)
            extraBytes += (extras.starts.changes.count - before) * 16
        }
    }

    /// Segments have no place for native histograms yet. What a flush would lose is refused, not taken.
    private static let segmentsKeepHistograms = false

    private func append(_ batch: HistogramColumns, row: Int, to id: Int?, floorMillis: Int64, _ outcome: inout AppendOutcome) {
        guard Self.segmentsKeepHistograms else {
            outcome.rejected += 1
            outcome.reason = outcome.reason ?? "native histograms are not stored yet: send classic ones, or both"
            return
        }
        let time = batch.timesMillis[row]
        guard let id, time >= floorMillis, Self.possibleTimes.contains(time) else {
            outcome.rejected += 1
            outcome.reason = outcome.reason ?? refusal(time, floorMillis)
            return
        }
        if let fault = batch.fault(ofRow: row) {
            outcome.rejected += 1
            outcome.reason = outcome.reason ?? "invalid native histogram: \(fault)"
            return
        }
        let record = table[id]
        if time <= record.pointee.maxTime, record.pointee.count > 0, let isSame = isSame(record, batch, row) {
            if isSame {
                outcome.duplicates += 1
                outcome.histograms += 1
            } else {
                outcome.rejected += 1
                outcome.reason = outcome.reason ?? Self.duplicate
            }
            return
        }
        withExtras(record) { extras in
            if extras.histograms < 0 {
                extras.histograms = Int32(histograms.count)
                histograms.append(HeadHistograms())
            }
            let before = histograms[Int(extras.histograms)].usedBytes
            histograms[Int(extras.histograms)].append(batch, row: row)
            extraBytes += histograms[Int(extras.histograms)].usedBytes - before
        }
        note(time, record)
        if time > record.pointee.maxTime { record.pointee.maxTime = time }
        outcome.accepted += 1
        outcome.histograms += 1
    }

    private func isSame(_ record: UnsafeMutablePointer<SeriesRecord>, _ batch: HistogramColumns, _ row: Int) -> Bool? {
        if let place = record.pointee.extras, extras[place].histograms >= 0,
            let isEqual = histograms[Int(extras[place].histograms)].isEqual(to: batch, row: row)
        {
            return isEqual
        }
        return value(of: record, at: batch.timesMillis[row]).map { $0 == SpecialValue.staleBits && batch.isStale(row) }
    }

    /// Keeps an exemplar of a series that has samples; what is out of order, or none, is passed over in silence, as the original does.
    private func append(_ exemplar: MetricBatch.Exemplar, _ bytes: [UInt8], to id: Int?, floorMillis: Int64, _ outcome: inout AppendOutcome) {
        let time = exemplar.timeMillis
        guard let id, time >= floorMillis, Self.possibleTimes.contains(time) else { return }
        let record = table[id]
        let newest = record.pointee.maxTime
        guard record.pointee.count > 0, abs(newest - time) <= HeadExemplar.reachMillis else { return }
        bytes.withUnsafeBytes { bytes in
            let labels = UnsafeRawBufferPointer(rebasing: bytes[exemplar.labels.range])
            if let last = record.pointee.extras.flatMap({ extras[$0].exemplars.last }) {
                let order = last.compare(labels, exemplar.value, time)
                if order == 0 { outcome.exemplars += 1 }
                guard order < 0 else { return }
            }
            guard HeadExemplar.fits(labels) else { return }
            let copy = table.arena.allocate(max(labels.count, 1))
            if let source = labels.baseAddress { copy.copyMemory(from: source, byteCount: labels.count) }
            withExtras(record) { extras in
                extras.exemplars.append(
                    HeadExemplar(
                        timeMillis: time, value: exemplar.value, sampleMillis: newest, labels: UnsafeRawBufferPointer(start: copy, count: labels.count)))
                extraBytes += MemoryLayout<HeadExemplar>.stride * 3 / 2
            }
            outcome.exemplars += 1
        }
    }

    private func push(_ record: UnsafeMutablePointer<SeriesRecord>, _ sample: Sample) {
        var chunk = record.pointee.tail
        if chunk == nil || chunk.unsafelyUnwrapped.pointee.count == chunk.unsafelyUnwrapped.pointee.capacity {
            let capacity = chunk.map { min(Int($0.pointee.capacity) * 2, SampleChunk.lastCapacity) } ?? SampleChunk.firstCapacity
            let memory = table.arena.allocate(MemoryLayout<SampleChunk>.stride + capacity * MemoryLayout<Sample>.stride)
            let fresh = memory.bindMemory(to: SampleChunk.self, capacity: 1)
            fresh.initialize(to: SampleChunk(previous: chunk, minTime: .max, maxTime: .min, count: 0, capacity: UInt32(capacity)))
            record.pointee.tail = fresh
            chunk = fresh
        }
        guard let chunk else { return }
        chunk.samples[Int(chunk.pointee.count)] = sample
        chunk.pointee.count += 1
        if sample.timeMillis < chunk.pointee.minTime { chunk.pointee.minTime = sample.timeMillis }
        if sample.timeMillis > chunk.pointee.maxTime { chunk.pointee.maxTime = sample.timeMillis }
        note(sample.timeMillis, record)
    }

    /// Counts a sample in.
    private func note(_ time: Int64, _ record: UnsafeMutablePointer<SeriesRecord>) {
        if time < record.pointee.minTime { record.pointee.minTime = time }
        if time < minTime { minTime = time }
        if time > maxTime { maxTime = time }
        record.pointee.count += 1
    }

    /// Bits of the value written for an instant, nil when there is none.
    private func value(of record: UnsafeMutablePointer<SeriesRecord>, at time: Int64) -> UInt64? {
        guard time >= record.pointee.minTime else { return nil }
        var next = record.pointee.tail
        while let chunk = next {
            if time >= chunk.pointee.minTime, time <= chunk.pointee.maxTime {
                for index in 0..<Int(chunk.pointee.count) where chunk.samples[index].timeMillis == time { return chunk.samples[index].bits }
            }
            next = chunk.pointee.previous
        }
        return nil
    }

    func hasSamples(_ id: Int, _ range: ClosedRange<Int64>) -> Bool {
        let record = table[id]
        guard record.pointee.count > 0, record.pointee.minTime <= range.upperBound, record.pointee.maxTime >= range.lowerBound else { return false }
        // Histograms are not written to segments yet.
        if record.pointee.extras == nil, range.contains(record.pointee.minTime) || range.contains(record.pointee.maxTime) { return true }
        var next = record.pointee.tail
        while let chunk = next {
            if chunk.pointee.minTime <= range.upperBound, chunk.pointee.maxTime >= range.lowerBound {
                for index in 0..<Int(chunk.pointee.count) where range.contains(chunk.samples[index].timeMillis) { return true }
            }
            next = chunk.pointee.previous
        }
        return false
    }

    /// Copies the floats of a series within `range` in time order.
    func samples(of id: Int, range: ClosedRange<Int64>, times: inout [Int64], values: inout [Double]) {
        let record = table[id]
        guard record.pointee.count > 0, record.pointee.minTime <= range.upperBound, record.pointee.maxTime >= range.lowerBound else { return }
        var chunks: [UnsafeMutablePointer<SampleChunk>] = []
        var next = record.pointee.tail
        while let chunk = next {
            if chunk.pointee.minTime <= range.upperBound, chunk.pointee.maxTime >= range.lowerBound { chunks.append(chunk) }
            next = chunk.pointee.previous
        }
        if record.pointee.isUnordered {
            var sorted: [Sample] = []
            for chunk in chunks {
                for index in 0..<Int(chunk.pointee.count) where range.contains(chunk.samples[index].timeMillis) { sorted.append(chunk.samples[index]) }
            }
            sorted.sort { $0.timeMillis < $1.timeMillis }
            for sample in sorted {
                times.append(sample.timeMillis)
                values.append(Double(bitPattern: sample.bits))
            }
        } else {
            for chunk in chunks.reversed() {
                for index in 0..<Int(chunk.pointee.count) where range.contains(chunk.samples[index].timeMillis) {
                    times.append(chunk.samples[index].timeMillis)
                    values.append(Double(bitPattern: chunk.samples[index].bits))
                }
            }
        }
    }
}

/// Why a label set may not be stored; nil when it may.
func violation(of limits: Limits, _ labels: UnsafeRawBufferPointer) -> String? {
    var count = 0
    var reason: String?
    forEachLabel(labels) { name, value in
        count += 1
        if name.count > limits.labelNameBytesMax {
            reason = "label name \(quoted(String(decoding: name, as: UTF8.self))) is longer than \(limits.labelNameBytesMax) bytes (limits.label-name-bytes)"
        } else if value.count > limits.labelValueBytesMax {
            let label = quoted(String(decoding: name, as: UTF8.self))
            reason = "value of label \(label) is longer than \(limits.labelValueBytesMax) bytes (limits.label-value-bytes)"
        }
    }
    if count > limits.labelsMax { reason = "series has \(count) labels, more than \(limits.labelsMax) (limits.labels)" }
    return reason
}
