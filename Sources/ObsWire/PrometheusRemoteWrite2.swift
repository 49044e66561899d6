// Remote write 2.0 into columns: texts come once, in a table of symbols, and series refer to them by number. Every series is taken or refused on its own, since a
// sender learns from the answer's headers how much of its request was written.
package import ObsCore

package enum PrometheusRemoteWrite2 {
    /// - Parameter body: the message, snappy already undone.
    /// - Returns: the batch; `rejected` counts samples and histograms of series that are none, with the first reason.
    /// - Throws: `.badInput` when the bytes are no such message, `.tooLarge` when references repeat texts past the bound on decoded bytes.
    package static func decode(_ body: [UInt8], limits: Limits) throws(ObsError) -> Decoded<MetricBatch> {
        var decoder = RemoteWrite2Decoder(bytes: body.count, limits: limits)
        let valid = body.withUnsafeBytes { decoder.decode($0) }
        guard valid else { throw ObsError(.badInput, "invalid remote write body: not an io.prometheus.write.v2.Request message") }
        return try decoder.finish()
    }
}

extension HistogramRow {
    /// Reads remote write's `Histogram` message. Failure is the reader's.
    mutating func read(_ reader: inout ProtobufReader) {
        removeAll()
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): count = reader.varint()
            case .field(2, .fixed64):
                countFloat = reader.double()
                isFloat = true
            case .field(3, .fixed64): sum = reader.double()
            case .field(4, .varint): schema = reader.zigzag()
            case .field(5, .fixed64): zeroThreshold = reader.double()
            case .field(6, .varint): zeroCount = reader.varint()
            case .field(7, .fixed64): zeroCountFloat = reader.double()
            case .field(8, .length): negative.readSpan(&reader)
            case .field(9, .length): negative.readDeltas(&reader)
            case .field(9, .varint): negative.deltas.append(reader.zigzag())
            case .field(10, .length): negative.readCounts(&reader)
            case .field(10, .fixed64): negative.counts.append(reader.double())
            case .field(11, .length): positive.readSpan(&reader)
            case .field(12, .length): positive.readDeltas(&reader)
            case .field(12, .varint): positive.deltas.append(reader.zigzag())
            case .field(13, .length): positive.readCounts(&reader)
            case .field(13, .fixed64): positive.counts.append(reader.double())
            case .field(14, .varint): reset = CounterReset(rawValue: UInt8(clamping: reader.varint())) ?? .unknown
            case .field(15, .varint): timeMillis = Int64(bitPattern: reader.varint())
            case .field(16, .length): reader.readDoubles(into: &customBounds)
            case .field(16, .fixed64): customBounds.append(reader.double())
            case .field(17, .varint): startMillis = Int64(bitPattern: reader.varint())
            default: reader.skip()
            }
        }
    }
}

private struct RemoteWrite2Decoder: ~Copyable {
    private var result = Decoded(batch: MetricBatch())
    private var arena: ByteArena
    private var builder = LabelSetBuilder()
    private var row = HistogramRow()
    private var symbols: [UnsafeRawBufferPointer] = []
    private var families: Set<[UInt8]> = []
    private var references: [UInt64] = []
    private let bytesMax: Int

    init(bytes: Int, limits: Limits) {
        arena = ByteArena(capacity: bytes * 2)
        bytesMax = min(limits.decodedBytesMax + bytes, Int(UInt32.max))
    }

    mutating func decode(_ body: UnsafeRawBufferPointer) -> Bool {
        var reader = ProtobufReader(body)
        while reader.next() {
            if reader.tag == .field(4, .length) { symbols.append(reader.bytes()) } else { reader.skip() }
        }
        guard !reader.failed, symbols.first?.isEmpty ?? true else { return false }
        reader = ProtobufReader(body)
        while reader.next(), arena.count <= bytesMax {
            if reader.tag == .field(5, .length) {
                var series = reader.message()
                decodeSeries(&series)
                reader.check(series)
            } else {
                reader.skip()
            }
        }
        return !reader.failed
    }

    consuming func finish() throws(ObsError) -> Decoded<MetricBatch> {
        guard arena.count <= bytesMax else { throw ObsError(.tooLarge, "the labels of one request expand past \(bytesMax) bytes") }
        result.batch.bytes = arena.array()
        result.batch.setStarts(0, from: result.batch.timesMillis.count)
        return result
    }

    // MARK: - series

    private mutating func decodeSeries(_ reader: inout ProtobufReader) {
        let whole = reader
        references.removeAll(keepingCapacity: true)
        var count = 0
        var exemplarCount = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .length), .field(1, .varint): readReferences(&reader)
            case .field(2, .length), .field(3, .length):
                count += 1
                reader.skip()
            case .field(4, .length):
                exemplarCount += 1
                reader.skip()
            default: reader.skip()
            }
        }
        if reader.failed { return }
        let start = arena.count
        guard let name = writeLabels() else {
            arena.truncate(to: start)
            return result.reject(max(1, count), "a series has no metric name, repeats a label name, or refers to texts that are not there or not UTF-8")
        }
        let labels = arena.range(from: start)
        guard count > 0 else {
            arena.truncate(to: start)
            return result.reject(1, "a series has neither samples nor histograms")
        }
        decodeSamples(whole, labels, name)
        if exemplarCount > 0 { decodeExemplars(whole) }
    }

    private mutating func readReferences(_ reader: inout ProtobufReader) {
        if reader.tag == .field(1, .varint) { return references.append(reader.varint()) }
        var packed = reader.message()
        while !packed.isAtEnd { references.append(packed.varint()) }
        reader.check(packed)
    }

    /// Writes the set that `references` name; nil when they name none that a series can have.
    private mutating func writeLabels(needsName: Bool = true) -> [UInt8]? {
        guard references.count % 2 == 0 else { return nil }
        builder.removeAll()
        var metricName: [UInt8] = []
        for at in stride(from: 0, to: references.count, by: 2) {
            guard let name = symbol(references[at]), let value = symbol(references[at + 1]), !name.isEmpty else { return nil }
            guard isASCII(name) || isValidUTF8(name), isASCII(value) || isValidUTF8(value) else { return nil }
            builder.add(name, value)
            if equals(name, "__name__") { metricName = [UInt8](value) }
        }
        if needsName, metricName.isEmpty { return nil }
        return builder.write(to: &arena) ? metricName : nil
    }

    private func symbol(_ number: UInt64) -> UnsafeRawBufferPointer? { number < UInt64(symbols.count) ? symbols[Int(number)] : nil }

    private mutating func decodeSamples(_ series: ProtobufReader, _ labels: ByteRange, _ name: [UInt8]) {
        var reader = series
        let index = UInt32(truncatingIfNeeded: result.batch.series.count)
        let first = result.batch.timesMillis.count
        var metadata: ProtobufReader?
        while reader.next() {
            switch reader.tag {
            case .field(2, .length): decodeSample(reader.message())
            case .field(3, .length):
                var message = reader.message()
                row.read(&message)
                if message.failed {
                    result.reject(1, "a native histogram is malformed")
                } else if let fault = row.append(to: &result.batch.histograms) {
                    result.reject(1, "a native histogram is none: \(fault)")
                } else {
                    result.batch.histogramSeries.append(index)
                }
            case .field(5, .length): metadata = reader.message()
            default: reader.skip()
            }
        }
        result.batch.series.append(
            .init(
                labels: labels, firstSample: UInt32(truncatingIfNeeded: first), sampleCount: UInt32(truncatingIfNeeded: result.batch.timesMillis.count - first))
        )
        if let metadata { decodeMetadata(metadata, name) }
    }

    private mutating func decodeSample(_ message: ProtobufReader) {
        var reader = message
        var value = 0.0
        var time: UInt64 = 0
        var start: UInt64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): value = reader.double()
            case .field(2, .varint): time = reader.varint()
            case .field(3, .varint): start = reader.varint()
            default: reader.skip()
            }
        }
        guard !reader.failed else { return result.reject(1, "a sample is malformed") }
        result.batch.timesMillis.append(Int64(bitPattern: time))
        result.batch.values.append(value)
        if start != 0 { result.batch.setStarts(Int64(bitPattern: start), from: result.batch.timesMillis.count - 1) }
    }

    private mutating func decodeExemplars(_ series: ProtobufReader) {
        var reader = series
        let index = UInt32(truncatingIfNeeded: result.batch.series.count - 1)
        while reader.next() {
            guard reader.tag == .field(4, .length) else {
                reader.skip()
                continue
            }
            var message = reader.message()
            references.removeAll(keepingCapacity: true)
            var value = 0.0
            var time: UInt64 = 0
            while message.next() {
                switch message.tag {
                case .field(1, .length), .field(1, .varint): readReferences(&message)
                case .field(2, .fixed64): value = message.double()
                case .field(3, .varint): time = message.varint()
                default: message.skip()
                }
            }
            let start = arena.count
            guard !message.failed, writeLabels(needsName: false) != nil else {
                arena.truncate(to: start)
                continue
            }
            result.batch.exemplars.append(.init(series: index, labels: arena.range(from: start), value: value, timeMillis: Int64(bitPattern: time)))
        }
    }

    /// What 2.0 says of a series is kept for its family, once a request.
    private mutating func decodeMetadata(_ message: ProtobufReader, _ name: [UInt8]) {
        var reader = message
        var metadata = MetricBatch.Metadata(family: .empty, type: .unknown, help: .empty, unit: .empty)
        var help: UInt64 = 0
        var unit: UInt64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): metadata.type = MetricType(rawValue: UInt8(clamping: reader.varint())) ?? .unknown
            case .field(3, .varint): help = reader.varint()
            case .field(4, .varint): unit = reader.varint()
            default: reader.skip()
            }
        }
        guard !reader.failed, let help = symbol(help), let unit = symbol(unit) else { return }
        guard metadata.type != .unknown || !help.isEmpty || !unit.isEmpty else { return }
        let family = metadata.type.family(ofSeries: name)
        guard families.insert(family).inserted else { return }
        metadata.family = family.withUnsafeBytes { arena.intern($0) }
        metadata.help = arena.intern(help)
        metadata.unit = arena.intern(unit)
        result.batch.metadata.append(metadata)
    }
}

extension MetricType {
    /// The family of a series of this type, by the series' name.
    package func family(ofSeries name: [UInt8]) -> [UInt8] {
        let suffixes: [StaticString]
        switch self {
        case .histogram: suffixes = ["_bucket", "_sum", "_count"]
        case .gaugeHistogram: suffixes = ["_bucket", "_gsum", "_gcount"]
        case .summary: suffixes = ["_sum", "_count"]
        default: return name
        }
        for suffix in suffixes {
            let bytes = UnsafeBufferPointer(start: suffix.utf8Start, count: suffix.utf8CodeUnitCount)
            if name.count > bytes.count, name.suffix(bytes.count).elementsEqual(bytes) { return Array(name.dropLast(bytes.count)) }
        }
        return name
    }
}
