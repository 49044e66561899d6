// The exposition format of protobuf messages, which is the one way to get native histograms by scraping: `MetricFamily` messages, the length before each.
//
// What comes out is what the texts give: `_count`, `_sum`, `_bucket{le}` and quantile series in the order of the reference's parser, and native histograms as
// columns beside them. A family is read twice: its name, type and help may stand behind its metrics.
package import ObsCore

package enum PrometheusProtobuf {
    /// - Returns: as `PrometheusText.parse`; histograms without a time of their own have `PrometheusText.noTime` too.
    /// - Throws: `.badInput` naming the family.
    package static func parse(_ body: [UInt8], options: ExpositionOptions = ExpositionOptions()) throws(ObsError) -> MetricBatch {
        var parser = FamilyParser(bytes: body.count, options: options)
        var failure: ObsError?
        body.withUnsafeBytes { bytes in
            do throws(ObsError) { try parser.parse(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        return try parser.finish()
    }
}

/// What is made of histograms.
package struct ExpositionOptions: Sendable, Equatable {
    /// Takes native histograms (`scrape_native_histograms`); without, their classic buckets only.
    package var nativeHistograms = false
    /// Makes classic histograms into native ones with their bounds (`convert_classic_histograms_to_nhcb`).
    package var convertsClassic = false
    /// Keeps the classic series of what is a native histogram, too (`always_scrape_classic_histograms`).
    package var keepsClassic = false

    package init(nativeHistograms: Bool = false, convertsClassic: Bool = false, keepsClassic: Bool = false) {
        self.nativeHistograms = nativeHistograms
        self.convertsClassic = convertsClassic
        self.keepsClassic = keepsClassic
    }
}

/// One parser for all formats.
package enum Exposition {
    package static func parse(_ body: [UInt8], format: ScrapeFormat, options: ExpositionOptions = ExpositionOptions()) throws(ObsError) -> MetricBatch {
        var batch =
            switch format {
            case .protobuf: try PrometheusProtobuf.parse(body, options: options)
            case .text, .openMetrics: try PrometheusText.parse(body, format: format)
            }
        if options.convertsClassic { batch.convertClassicHistograms(keepsClassic: options.keepsClassic) }
        return batch
    }
}

/// Raw values are the wire's.
private enum FamilyType: UInt64 {
    case counter = 0, gauge, summary, untyped, histogram, gaugeHistogram

    var metricType: MetricType {
        switch self {
        case .counter: .counter
        case .gauge: .gauge
        case .summary: .summary
        case .untyped: .unknown
        case .histogram: .histogram
        case .gaugeHistogram: .gaugeHistogram
        }
    }
}

private struct FamilyParser: ~Copyable {
    private var batch = MetricBatch()
    private var arena: ByteArena
    private let options: ExpositionOptions
    private var labels = LabelSetBuilder()
    private var row = HistogramRow()
    private var name = UnsafeRawBufferPointer.nothing
    private var type = FamilyType.counter

    /// Of the metric at hand: its `LabelPair` messages, its time.
    private var pairs: [UnsafeRawBufferPointer] = []
    private var timeMillis = PrometheusText.noTime
    private var startMillis: Int64 = 0
    private var bounds: [(value: Double, count: Double, exemplar: UnsafeRawBufferPointer)] = []
    private var exemplars: [UnsafeRawBufferPointer] = []

    init(bytes: Int, options: ExpositionOptions) {
        arena = ByteArena(capacity: bytes * 2)
        self.options = options
    }

    consuming func finish() throws(ObsError) -> MetricBatch {
        guard arena.fitsRanges else { throw ObsError(.tooLarge, "the scrape takes more than 4 GiB") }
        batch.bytes = arena.array()
        if !batch.startsMillis.isEmpty { batch.startsMillis += [Int64](repeating: 0, count: batch.timesMillis.count - batch.startsMillis.count) }
        return batch
    }

    mutating func parse(_ body: UnsafeRawBufferPointer) throws(ObsError) {
        var reader = ProtobufReader(body)
        while !reader.isAtEnd {
            let family = reader.message()
            guard !reader.failed else { throw ObsError(.badInput, "a metric family is longer than the body") }
            try parseFamily(family)
        }
    }

    // MARK: - families

    private func failure(_ why: String) -> ObsError {
        ObsError(.badInput, "\(why) in metric family \(quoted(String(decoding: name.prefix(200), as: UTF8.self)))")
    }

    private mutating func parseFamily(_ message: ProtobufReader) throws(ObsError) {
        var reader = message
        var help = UnsafeRawBufferPointer.nothing
        var unit = UnsafeRawBufferPointer.nothing
        var rawType: UInt64 = 0
        var metricCount = 0
        name = .nothing
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): name = reader.bytes()
            case .field(2, .length): help = reader.bytes()
            case .field(3, .varint): rawType = reader.varint()
            case .field(4, .length):
                metricCount += 1
                reader.skip()
            case .field(5, .length): unit = reader.bytes()
            default: reader.skip()
            }
        }
        guard !reader.failed else { throw failure("malformed message") }
        if metricCount == 0 { return }
        guard !name.isEmpty, isValidUTF8(name) else { throw failure("invalid metric name") }
        guard isValidUTF8(help), isValidUTF8(unit) else { throw failure("invalid UTF-8") }
        guard let type = FamilyType(rawValue: rawType) else { throw failure("unknown metric type \(rawType)") }
        self.type = type
        batch.metadata.append(
            MetricBatch.Metadata(family: arena.intern(name), type: type.metricType, help: arena.intern(help), unit: arena.intern(unit)))
        reader = message
        while reader.next() {
            if reader.tag == .field(4, .length) { try parseMetric(reader.message()) } else { reader.skip() }
        }
    }

    private mutating func parseMetric(_ message: ProtobufReader) throws(ObsError) {
        var reader = message
        pairs.removeAll(keepingCapacity: true)
        timeMillis = PrometheusText.noTime
        startMillis = 0
        var value = UnsafeRawBufferPointer.nothing
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): pairs.append(reader.bytes())
            case .field(2, .length) where type == .gauge, .field(3, .length) where type == .counter, .field(4, .length) where type == .summary,
                .field(5, .length) where type == .untyped, .field(7, .length) where type == .histogram || type == .gaugeHistogram:
                value = reader.bytes()
            case .field(6, .varint):
                let time = Int64(bitPattern: reader.varint())
                if time != 0 { timeMillis = time }
            default: reader.skip()
            }
        }
        guard !reader.failed else { throw failure("malformed metric") }
        switch type {
        case .gauge, .untyped, .counter: try parseNumber(ProtobufReader(value))
        case .summary: try parseSummary(ProtobufReader(value))
        case .histogram, .gaugeHistogram: try parseHistogram(ProtobufReader(value))
        }
    }

    // MARK: - series

    /// Writes the metric's labels with a name and, where `extra` is one, another label; then its value.
    private mutating func emit(_ suffix: StaticString, extra: (name: StaticString, value: Double)? = nil, _ value: Double) throws(ObsError) {
        let labels = try writeLabels(suffix, extra)
        batch.series.append(.init(labels: labels, firstSample: UInt32(truncatingIfNeeded: batch.timesMillis.count), sampleCount: 1))
        batch.timesMillis.append(timeMillis)
        batch.values.append(value.isNaN ? SpecialValue.normalNaN : value)
        if startMillis != 0 { batch.setStarts(startMillis, from: batch.timesMillis.count - 1) }
    }

    private mutating func writeLabels(_ suffix: StaticString, _ extra: (name: StaticString, value: Double)?) throws(ObsError) -> ByteRange {
        labels.removeAll()
        labels.add(bytes(of: "__name__"), name)
        labels.appendToValue(bytes(of: suffix))
        guard addLabels(pairs) else { throw failure("malformed label") }
        if let extra {
            labels.beginPair(bytes(of: extra.name))
            [UInt8](formatOpenMetricsFloat(extra.value).utf8).withUnsafeBytes { labels.appendToValue($0) }
        }
        let start = arena.count
        guard labels.write(to: &arena) else { throw failure("a label name is repeated") }
        return arena.range(from: start)
    }

    private func bytes(of text: StaticString) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount) }

    /// False when one is malformed.
    private mutating func addLabels(_ pairs: [UnsafeRawBufferPointer]) -> Bool {
        for pair in pairs {
            var reader = ProtobufReader(pair)
            var name = UnsafeRawBufferPointer.nothing
            var value = UnsafeRawBufferPointer.nothing
            while reader.next() {
                switch reader.tag {
                case .field(1, .length): name = reader.bytes()
                case .field(2, .length): value = reader.bytes()
                default: reader.skip()
                }
            }
            guard !reader.failed, !name.isEmpty, isValidUTF8(name), isValidUTF8(value) else { return false }
            labels.add(name, value)
        }
        return true
    }

    private mutating func parseNumber(_ message: ProtobufReader) throws(ObsError) {
        var reader = message
        var value = 0.0
        var exemplar = UnsafeRawBufferPointer.nothing
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): value = reader.double()
            case .field(2, .length) where type == .counter: exemplar = reader.bytes()
            case .field(3, .length) where type == .counter: startMillis = reader.timestampMillis()
            default: reader.skip()
            }
        }
        guard !reader.failed else { throw failure("malformed value") }
        try emit("", value)
        try appendExemplar(exemplar)
    }

    private mutating func parseSummary(_ message: ProtobufReader) throws(ObsError) {
        var reader = message
        var count: UInt64 = 0
        var sum = 0.0
        var quantiles: [(quantile: Double, value: Double)] = []
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): count = reader.varint()
            case .field(2, .fixed64): sum = reader.double()
            case .field(3, .length):
                var part = reader.message()
                quantiles.append(Self.readPair(&part, 1, 2))
                reader.check(part)
            case .field(4, .length): startMillis = reader.timestampMillis()
            default: reader.skip()
            }
        }
        guard !reader.failed else { throw failure("malformed summary") }
        try emit("_count", Double(count))
        try emit("_sum", sum)
        for entry in quantiles { try emit("", extra: ("quantile", entry.quantile), entry.value) }
    }

    private static func readPair(_ reader: inout ProtobufReader, _ first: UInt32, _ second: UInt32) -> (quantile: Double, value: Double) {
        var pair = (quantile: 0.0, value: 0.0)
        while reader.next() {
            switch reader.tag {
            case .field(first, .fixed64): pair.quantile = reader.double()
            case .field(second, .fixed64): pair.value = reader.double()
            default: reader.skip()
            }
        }
        return pair
    }

    // MARK: - histograms

    private mutating func parseHistogram(_ message: ProtobufReader) throws(ObsError) {
        var reader = message
        row.removeAll()
        bounds.removeAll(keepingCapacity: true)
        exemplars.removeAll(keepingCapacity: true)
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): row.count = reader.varint()
            case .field(2, .fixed64): row.sum = reader.double()
            case .field(3, .length): readBucket(&reader)
            case .field(4, .fixed64): row.countFloat = reader.double()
            case .field(5, .varint): row.schema = reader.zigzag()
            case .field(6, .fixed64): row.zeroThreshold = reader.double()
            case .field(7, .varint): row.zeroCount = reader.varint()
            case .field(8, .fixed64): row.zeroCountFloat = reader.double()
            case .field(9, .length): row.negative.readSpan(&reader)
            case .field(10, .length): row.negative.readDeltas(&reader)
            case .field(10, .varint): row.negative.deltas.append(reader.zigzag())
            case .field(11, .length): row.negative.readCounts(&reader)
            case .field(11, .fixed64): row.negative.counts.append(reader.double())
            case .field(12, .length): row.positive.readSpan(&reader)
            case .field(13, .length): row.positive.readDeltas(&reader)
            case .field(13, .varint): row.positive.deltas.append(reader.zigzag())
            case .field(14, .length): row.positive.readCounts(&reader)
            case .field(14, .fixed64): row.positive.counts.append(reader.double())
            case .field(15, .length): startMillis = reader.timestampMillis()
            case .field(16, .length): exemplars.append(reader.bytes())
            default: reader.skip()
            }
        }
        guard !reader.failed else { throw failure("malformed histogram") }
        // A native histogram without observations has a span of no buckets to be known by.
        let isNative = !row.positive.spans.isEmpty || !row.negative.spans.isEmpty || row.zeroThreshold > 0 || row.zeroCount > 0
        if isNative, options.nativeHistograms {
            try emitNative()
            if options.keepsClassic, !bounds.isEmpty { try emitClassic() }
        } else {
            try emitClassic()
        }
    }

    private mutating func readBucket(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        var bucket = (value: 0.0, count: 0.0, exemplar: UnsafeRawBufferPointer.nothing)
        var count: UInt64 = 0
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): count = reader.varint()
            case .field(2, .fixed64): bucket.value = reader.double()
            case .field(3, .length): bucket.exemplar = reader.bytes()
            case .field(4, .fixed64): bucket.count = reader.double()
            default: reader.skip()
            }
        }
        parent.check(reader)
        if !(bucket.count > 0) { bucket.count = Double(count) }
        bounds.append(bucket)
    }

    private mutating func emitNative() throws(ObsError) {
        row.isFloat = row.countFloat > 0 || row.zeroCountFloat > 0
        row.timeMillis = timeMillis
        row.startMillis = startMillis
        if row.sum.isNaN { row.sum = SpecialValue.normalNaN }
        if type == .gaugeHistogram { row.reset = .gauge }
        let labels = try writeLabels("", nil)
        if let fault = row.append(to: &batch.histograms) { throw failure("invalid histogram (\(fault))") }
        batch.histogramSeries.append(UInt32(truncatingIfNeeded: batch.series.count))
        batch.series.append(.init(labels: labels, firstSample: UInt32(truncatingIfNeeded: batch.timesMillis.count), sampleCount: 0))
        // Exemplars of its own, or else those of its classic buckets.
        let messages = exemplars.isEmpty ? bounds.map(\.exemplar) : exemplars
        for message in messages { try appendExemplar(message, needsTime: true) }
    }

    private mutating func emitClassic() throws(ObsError) {
        let count = row.countFloat > 0 ? row.countFloat : Double(row.count)
        try emit("_count", count)
        try emit("_sum", row.sum)
        for bucket in bounds {
            try emit("_bucket", extra: ("le", bucket.value), bucket.count)
            try appendExemplar(bucket.exemplar)
            if bucket.value == .infinity { return }
        }
        try emit("_bucket", extra: ("le", .infinity), count)
    }

    // MARK: - exemplars

    /// Adds an exemplar of the series written last.
    private mutating func appendExemplar(_ message: UnsafeRawBufferPointer, needsTime: Bool = false) throws(ObsError) {
        guard !message.isEmpty else { return }
        var reader = ProtobufReader(message)
        var pairs: [UnsafeRawBufferPointer] = []
        var value = 0.0
        var time: Int64?
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): pairs.append(reader.bytes())
            case .field(2, .fixed64): value = reader.double()
            case .field(3, .length): time = reader.timestampMillis()
            default: reader.skip()
            }
        }
        labels.removeAll()
        guard !reader.failed, addLabels(pairs) else { throw failure("malformed exemplar") }
        if needsTime, time == nil { return }
        let start = arena.count
        guard labels.write(to: &arena) else { throw failure("an exemplar repeats a label name") }
        let range = arena.range(from: start)
        guard arena.exemplarCharacters(of: range) <= ByteArena.exemplarCharactersMax else { return arena.truncate(to: start) }
        batch.exemplars.append(
            .init(series: UInt32(truncatingIfNeeded: batch.series.count - 1), labels: range, value: value, timeMillis: time ?? PrometheusText.noTime))
    }
}
