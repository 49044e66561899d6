// Remote write 1.0 straight into columns. This is where most samples come in, so nothing is allocated per series or sample: a sender's labels
// are sorted already, and are then copied into the batch as they are read; only a set that turns out unsorted, or has an empty value, is read a second time,
// through a builder.
//
// What the reference skips silently is skipped here and counted as rejected: series without a name, with a repeated label name, or with labels that are not UTF-8.

package import ObsCore

/// Decodes Prometheus `WriteRequest` messages.
package enum PrometheusRemoteWrite {
    /// - Parameters:
    ///   - body: the message, snappy already undone.
    ///   - nativeHistograms: keeps native histograms as they are; else they become classic ones.
    /// - Returns: the batch; `rejected` counts the samples of skipped series (the reference answers 204 all the same).
    /// - Throws: `.badInput` when the bytes are no such message, `.tooLarge` when native histograms expand past `decodedBytesMax`.
    package static func decode(_ body: [UInt8], limits: Limits, nativeHistograms: Bool = false) throws(ObsError) -> Decoded<MetricBatch> {
        var decoder = RemoteWriteDecoder(bytes: body.count, limits: limits, nativeHistograms: nativeHistograms)
        let valid = body.withUnsafeBytes { decoder.decode($0) }
        guard valid else { throw ObsError(.badInput, "invalid remote write body: not a prometheus.WriteRequest message") }
        return try decoder.finish()
    }
}

private struct RemoteWriteDecoder: ~Copyable {
    private var result = Decoded(batch: MetricBatch())
    private var timesMillis: [Int64] = []
    private var values: [Double] = []
    private var arena: ByteArena
    private var builder = LabelSetBuilder()
    private var row = HistogramRow()
    private let bytesMax: Int
    private let nativeHistograms: Bool

    init(bytes: Int, limits: Limits, nativeHistograms: Bool) {
        self.nativeHistograms = nativeHistograms
        arena = ByteArena(capacity: bytes)
        bytesMax = min(limits.decodedBytesMax + bytes, Int(UInt32.max))
        result.batch.series.reserveCapacity(bytes / 160)
        // A sample takes 18 bytes: enough for any body; what stays unused is never touched.
        timesMillis.reserveCapacity(bytes / 18)
        values.reserveCapacity(bytes / 18)
    }

    mutating func decode(_ body: UnsafeRawBufferPointer) -> Bool {
        var reader = ProtobufReader(body)
        while reader.next(), arena.count <= bytesMax {
            switch reader.tag {
            case .field(1, .length):
                var series = reader.message()
                decodeSeries(&series)
                reader.check(series)
            case .field(3, .length):
                var metadata = reader.message()
                decodeMetadata(&metadata)
                reader.check(metadata)
            default: reader.skip()
            }
        }
        return !reader.failed
    }

    consuming func finish() throws(ObsError) -> Decoded<MetricBatch> {
        guard arena.count <= bytesMax else { throw ObsError(.tooLarge, "the native histograms of one request expand past \(bytesMax) bytes") }
        result.batch.bytes = arena.array()
        result.batch.timesMillis = timesMillis
        result.batch.values = values
        return result
    }

    // MARK: - series

    private mutating func decodeSeries(_ reader: inout ProtobufReader) {
        let whole = reader
        let labels = arena.count
        let firstSample = timesMillis.count
        var order = LabelOrder()
        var hasMore = false
        while reader.next() {
            switch reader.tag {
            case .field(1, .length):
                let label = Label(&reader)
                order.take(label)
                arena.appendLabel(label.name, label.value)
            case .field(2, .length): decodeSample(&reader)
            case .field(3, .length), .field(4, .length):
                hasMore = true
                reader.skip()
            default: reader.skip()
            }
        }
        if reader.failed { return }
        let sampleCount = timesMillis.count - firstSample
        guard order.isCanonical || rewriteLabels(whole, from: labels), order.hasName, holdsUTF8(from: labels) else {
            skipSeries(labels, sampleCount, hasName: order.hasName)
            return
        }
        let range = arena.range(from: labels)
        if sampleCount > 0 {
            result.batch.series.append(
                .init(labels: range, firstSample: UInt32(truncatingIfNeeded: firstSample), sampleCount: UInt32(truncatingIfNeeded: sampleCount)))
        }
        if hasMore {
            if nativeHistograms { decodeNative(whole, range, hasEntry: sampleCount > 0) } else { decodeHistograms(whole, range) }
            decodeExemplars(whole)
        }
    }

    private mutating func decodeSample(_ parent: inout ProtobufReader) {
        let message = parent.bytes()
        // `09 double 10 varint` is how every sender writes it.
        if message.count > 10, message.count <= 20, message[0] == 0x09, message[9] == 0x10 {
            var end = 10
            if let time = readVarint(message, &end), end == message.count {
                timesMillis.append(Int64(bitPattern: time))
                values.append(Double(bitPattern: UInt64(littleEndian: message.loadUnaligned(fromByteOffset: 1, as: UInt64.self))))
                return
            }
        }
        var reader = ProtobufReader(message)
        var value = 0.0
        var time: UInt64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): value = reader.double()
            case .field(2, .varint): time = reader.varint()
            default: reader.skip()
            }
        }
        parent.check(reader)
        timesMillis.append(Int64(bitPattern: time))
        values.append(value)
    }

    private mutating func skipSeries(_ labels: Int, _ sampleCount: Int, hasName: Bool) {
        arena.truncate(to: labels)
        timesMillis.removeLast(sampleCount)
        values.removeLast(sampleCount)
        result.reject(max(1, sampleCount), hasName ? "a series repeats a label name or has labels that are not UTF-8" : "a series has no metric name")
    }

    /// Reads the labels again, through the builder, where their order or an empty value keeps them from being copied as they are.
    private mutating func rewriteLabels(_ series: ProtobufReader, from start: Int) -> Bool {
        arena.truncate(to: start)
        return writeLabels(series)
    }

    private mutating func writeLabels(_ message: ProtobufReader) -> Bool {
        var reader = message
        builder.removeAll()
        while reader.next() {
            guard reader.tag == .field(1, .length) else {
                reader.skip()
                continue
            }
            let label = Label(&reader)
            if label.name.isEmpty { return false }
            builder.add(label.name, label.value)
        }
        return builder.write(to: &arena)
    }

    private func holdsUTF8(from start: Int) -> Bool {
        let bytes = arena.slice(start..<arena.count)
        if isASCII(bytes) { return true }
        var valid = true
        forEachLabel(bytes) { name, value in valid = valid && isValidUTF8(name) && isValidUTF8(value) }
        return valid
    }

    // MARK: - exemplars, metadata

    /// Exemplars belong to the series added last: the samples' own, or the `+Inf` bucket of a native histogram.
    private mutating func decodeExemplars(_ series: ProtobufReader) {
        guard !result.batch.series.isEmpty else { return }
        let index = UInt32(result.batch.series.count - 1)
        var reader = series
        while reader.next() {
            guard reader.tag == .field(3, .length) else {
                reader.skip()
                continue
            }
            let message = reader.message()
            var fields = message
            var value = 0.0
            var time: UInt64 = 0
            while fields.next() {
                switch fields.tag {
                case .field(2, .fixed64): value = fields.double()
                case .field(3, .varint): time = fields.varint()
                default: fields.skip()
                }
            }
            let start = arena.count
            guard !fields.failed, writeLabels(message), holdsUTF8(from: start) else {
                arena.truncate(to: start)
                continue
            }
            result.batch.exemplars.append(.init(series: index, labels: arena.range(from: start), value: value, timeMillis: Int64(bitPattern: time)))
        }
    }

    private mutating func decodeMetadata(_ reader: inout ProtobufReader) {
        var metadata = MetricBatch.Metadata(family: .empty, type: .unknown, help: .empty, unit: .empty)
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): metadata.type = MetricType(rawValue: UInt8(clamping: reader.varint())) ?? .unknown
            case .field(2, .length): metadata.family = arena.intern(reader.bytes())
            case .field(4, .length): metadata.help = arena.intern(reader.bytes())
            case .field(5, .length): metadata.unit = arena.intern(reader.bytes())
            default: reader.skip()
            }
        }
        if !reader.failed, !metadata.family.isEmpty { result.batch.metadata.append(metadata) }
    }

    // MARK: - native histograms

    private mutating func decodeNative(_ series: ProtobufReader, _ labels: ByteRange, hasEntry: Bool) {
        var reader = series
        var hasEntry = hasEntry
        while reader.next() {
            guard reader.tag == .field(4, .length) else {
                reader.skip()
                continue
            }
            var message = reader.message()
            row.read(&message)
            // 1.0 has no start times.
            row.startMillis = 0
            if message.failed {
                result.reject(1, "a native histogram is malformed")
            } else if let fault = row.append(to: &result.batch.histograms) {
                result.reject(1, "a native histogram is none: \(fault)")
            } else {
                if !hasEntry {
                    result.batch.series.append(.init(labels: labels, firstSample: UInt32(truncatingIfNeeded: timesMillis.count), sampleCount: 0))
                    hasEntry = true
                }
                result.batch.histogramSeries.append(UInt32(result.batch.series.count - 1))
            }
        }
    }

    private mutating func decodeHistograms(_ series: ProtobufReader, _ labels: ByteRange) {
        var reader = series
        while reader.next(), arena.count <= bytesMax {
            if reader.tag == .field(4, .length) {
                let histogram = NativeHistogram(reader.message())
                if histogram.isValid { expand(histogram, labels) } else { result.reject(1, "a native histogram is malformed") }
            } else {
                reader.skip()
            }
        }
    }

    /// Writes a native histogram as the classic series it stands for: `_count`, `_sum` and cumulative `_bucket{le}`, the `+Inf` bucket last.
    /// A stale one ends `_count`, `_sum` and the `+Inf` bucket only: it does not say which buckets there were.
    private mutating func expand(_ histogram: NativeHistogram, _ labels: ByteRange) {
        add("_count", histogram.isStale ? SpecialValue.stale : histogram.count, le: nil, labels, histogram.timeMillis)
        add("_sum", histogram.sum, le: nil, labels, histogram.timeMillis)
        if !histogram.isStale {
            for bucket in histogram.cumulativeBuckets() where bucket.upperBound.isFinite {
                add("_bucket", bucket.count, le: formatOpenMetricsFloat(bucket.upperBound), labels, histogram.timeMillis)
            }
        }
        add("_bucket", histogram.isStale ? SpecialValue.stale : histogram.count, le: "+Inf", labels, histogram.timeMillis)
    }

    private mutating func add(_ suffix: StaticString, _ value: Double, le: String?, _ labels: ByteRange, _ timeMillis: Int64) {
        guard arena.count <= bytesMax else { return }
        builder.removeAll()
        forEachLabel(arena.slice(labels)) { name, value in
            let isName = equals(name, "__name__")
            if le != nil, equals(name, "le") { return }
            builder.add(name, value)
            if isName { builder.appendToValue(UnsafeRawBufferPointer(start: suffix.utf8Start, count: suffix.utf8CodeUnitCount)) }
        }
        if let le { builder.add([UInt8]("le".utf8), [UInt8](le.utf8)) }
        let start = arena.count
        guard builder.write(to: &arena) else { return }
        result.batch.series.append(
            .init(labels: arena.range(from: start), firstSample: UInt32(truncatingIfNeeded: timesMillis.count), sampleCount: 1))
        timesMillis.append(timeMillis)
        values.append(value)
    }
}

private struct Label {
    var name = UnsafeRawBufferPointer(start: nil, count: 0)
    var value = UnsafeRawBufferPointer(start: nil, count: 0)

    /// Reads the message the reader stands at.
    init(_ parent: inout ProtobufReader) {
        let message = parent.bytes()
        // `0a length name 12 length value`, both short, is what nearly every label is.
        if message.count >= 4, message[0] == 0x0a, message[1] < 0x80 {
            let afterName = 2 + Int(message[1])
            if afterName + 1 < message.count, message[afterName] == 0x12, message[afterName + 1] < 0x80,
                afterName + 2 + Int(message[afterName + 1]) == message.count
            {
                name = UnsafeRawBufferPointer(rebasing: message[2..<afterName])
                value = UnsafeRawBufferPointer(rebasing: message[(afterName + 2)...])
                return
            }
        }
        var reader = ProtobufReader(message)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): name = reader.bytes()
            case .field(2, .length): value = reader.bytes()
            default: reader.skip()
            }
        }
        parent.check(reader)
    }
}

/// Watches labels go by: whether they come in canonical form, and whether the metric name is among them.
private struct LabelOrder {
    private(set) var isCanonical = true
    private(set) var hasName = false
    private var last = UnsafeRawBufferPointer(start: nil, count: 0)

    mutating func take(_ label: Label) {
        // The first name is compared with the empty one, which is no name.
        if label.value.isEmpty || compareBytes(last, label.name) >= 0 { isCanonical = false }
        if !hasName, !label.value.isEmpty { hasName = equals(label.name, "__name__") }
        last = label.name
    }
}

/// Whether no byte has its high bit set.
func isASCII(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var seen: UInt64 = 0
    var at = 0
    while at + 8 <= bytes.count {
        seen |= bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        at += 8
    }
    while at < bytes.count {
        seen |= UInt64(bytes[at])
        at += 1
    }
    return seen & 0x8080_8080_8080_8080 == 0
}
