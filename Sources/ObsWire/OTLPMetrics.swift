package import ObsCore

// Decodes `ExportMetricsServiceRequest` into Prometheus series, as Prometheus' own OTLP receiver names and labels them.
//
// The walk is resource → scope → metric → point. A resource gives `job`, `instance`, promoted labels and `target_info`; a scope its `otel_scope_*` labels; a metric the
// name. `SeriesLabels` holds the labels of the point at hand, and `emit` writes one sample of one of its series: into the batch, or into the deltas, or as a
// stale marker when the point says that nothing was recorded. Histograms are native or classic ones, as the options say: `ExponentialBuckets` makes either of
// exponential ones.

package enum OTLPMetrics {
    package static func decodeProtobuf(
        _ body: [UInt8], receivedAtNanos: Int64, limits: Limits, options: OTLPMetricOptions = OTLPMetricOptions()
    ) throws(ObsError) -> OTLPMetricsResult {
        var decoder = MetricDecoder(bytes: body.count, receivedAtNanos: receivedAtNanos, limits: limits, options: options)
        let valid = body.withUnsafeBytes { decoder.decode(ProtobufReader($0)) }
        return try decoder.finish(valid)
    }
}

struct MetricDecoder: ~Copyable {
    var result = OTLPMetricsResult()
    private var arena: ByteArena
    private var deltaArena: ByteArena
    private let options: OTLPMetricOptions
    private let receivedAtNanos: Int64
    /// A histogram's labels are written once for each bucket: the bound on what a small request may become.
    private let bytesMax: Int
    private var isTooLarge = false

    private var resource: OTLPMetricResource
    private var labels: SeriesLabels
    private var families: Set<[UInt8]> = []
    private var targetInfoTimes: [Labels: Set<Int64>] = [:]
    private var boundTexts: [UInt64: [UInt8]] = [:]

    // The metric at hand.
    private var name: [UInt8] = []
    private var isDelta = false
    /// Whether it counts from some time on.
    private var accumulates = false

    // The point at hand.
    private var startMillis: Int64 = 0
    private var timeMillis: Int64 = 0
    private var isStale = false
    private var extraName: StaticString = ""
    private var exemplars: [UnsafeRawBufferPointer] = []
    private var counts: [UInt64] = []
    private var bounds: [Double] = []

    init(bytes: Int, receivedAtNanos: Int64, limits: Limits, options: OTLPMetricOptions) {
        arena = ByteArena(capacity: bytes)
        deltaArena = ByteArena(capacity: 64)
        self.options = options
        self.receivedAtNanos = receivedAtNanos
        bytesMax = max(limits.decodedBytesMax, bytes) * 2
        resource = OTLPMetricResource(nestingMax: limits.nestingMax)
        labels = SeriesLabels(nestingMax: limits.nestingMax, naming: options.seriesNaming)
    }

    mutating func decode(_ request: ProtobufReader) -> Bool {
        var reader = request
        while reader.next() {
            if reader.tag == .field(1, .length) {
                var group = reader.message()
                decodeResourceMetrics(&group)
                reader.check(group)
            } else {
                reader.skip()
            }
        }
        return !reader.failed
    }

    consuming func finish(_ valid: Bool) throws(ObsError) -> OTLPMetricsResult {
        guard !isTooLarge, arena.fitsRanges, deltaArena.fitsRanges else {
            throw ObsError(.tooLarge, "the series of one request take more than \(bytesMax) bytes once histograms are expanded; send smaller batches")
        }
        guard valid else { throw .malformedOTLP("ExportMetricsServiceRequest") }
        result.batch.bytes = arena.array()
        result.batch.setStarts(0, from: result.batch.timesMillis.count)
        result.deltas.bytes = deltaArena.array()
        return result
    }

    private mutating func reject(_ count: Int, _ why: String) {
        result.rejected += count
        if result.reason == nil, count > 0 { result.reason = why }
    }

    // MARK: - resource, scope

    private mutating func decodeResourceMetrics(_ reader: inout ProtobufReader) {
        guard resource.read(OTLPGroup(reader).head, options) else {
            reader.fail()
            return
        }
        while reader.next() {
            if reader.tag == .field(2, .length) {
                var group = reader.message()
                decodeScopeMetrics(&group)
                reader.check(group)
            } else {
                reader.skip()
            }
        }
        if !reader.failed { appendTargetInfo() }
    }

    private mutating func decodeScopeMetrics(_ reader: inout ProtobufReader) {
        labels.beginBase()
        for label in resource.promoted { labels.addBase(label.name, label.value, .promoted) }
        if !resource.job.isEmpty { labels.addBase([UInt8]("job".utf8), resource.job, .dictated) }
        if !resource.instance.isEmpty { labels.addBase([UInt8]("instance".utf8), resource.instance, .dictated) }
        if options.scopeLabels {
            guard let scope = scopeLabels(OTLPGroup(reader), options, nestingMax: resource.nestingMax) else {
                reader.fail()
                return
            }
            for label in scope { labels.addBase(label.name, label.value, .dictated) }
        }
        while reader.next() {
            if reader.tag == .field(2, .length) {
                var metric = reader.message()
                decodeMetric(&metric)
                reader.check(metric)
            } else {
                reader.skip()
            }
        }
    }

    private mutating func appendTargetInfo() {
        guard options.targetInfo, let info = resource.targetInfo, let first = resource.firstMillis, let last = resource.lastMillis else { return }
        let step = max(1, options.lookbackMillis / 2)
        var times: [Int64] = []
        // Points years apart are a sender's mistake, not a reason to fill the years.
        if (last - first) / step <= 1000 { times = Array(stride(from: first, to: last, by: Int(step))) }
        times.append(last)
        let seen = targetInfoTimes[info] ?? []
        times.removeAll { seen.contains($0) }
        guard !times.isEmpty else { return }
        targetInfoTimes[info] = seen.union(times)
        if families.insert(Array("target_info".utf8)).inserted {
            let texts = ["target_info", "Target metadata"].map { text in [UInt8](text.utf8).withUnsafeBytes { arena.intern($0) } }
            result.batch.metadata.append(MetricBatch.Metadata(family: texts[0], type: .gauge, help: texts[1], unit: .empty))
        }
        let range = info.bytes.withUnsafeBytes { arena.intern($0) }
        result.batch.series.append(
            MetricBatch.Series(labels: range, firstSample: UInt32(result.batch.timesMillis.count), sampleCount: UInt32(times.count)))
        result.batch.timesMillis += times
        result.batch.values += [Double](repeating: 1, count: times.count)
    }

    // MARK: - metric

    private mutating func decodeMetric(_ reader: inout ProtobufReader) {
        let metric = OTLPMetric(&reader)
        guard !reader.failed else { return }
        guard let kind = metric.kind else { return }
        let data = metric.data
        let title = String(decoding: metric.name, as: UTF8.self)
        let unit = String(decoding: metric.unit, as: UTF8.self)
        let translated = PrometheusNames.metric(title, unit: unit, shape: metric.shape, naming: options.naming)
        guard !translated.isEmpty else { return reject(data.pointCount, "metric name \(quoted(title)) holds no letter or digit") }
        if kind.hasTemporality, data.temporality == 0 {
            return reject(data.pointCount, "metric \(quoted(title)) has no aggregation temporality")
        }
        name = [UInt8](translated.utf8)
        isDelta = kind.hasTemporality && data.temporality == 1
        accumulates = kind == .sum ? data.isMonotonic : kind != .gauge
        appendMetadata(metric, unit)
        var points = data.reader
        while points.next() {
            guard points.tag == .field(1, .length) else {
                points.skip()
                continue
            }
            var point = points.message()
            beginPoint()
            switch kind {
            case .gauge, .sum: decodeNumber(&point)
            case .histogram: decodeHistogram(&point)
            case .exponentialHistogram: decodeExponential(&point)
            case .summary: decodeSummary(&point)
            }
            points.check(point)
        }
        reader.check(points)
    }

    private mutating func appendMetadata(_ metric: OTLPMetric, _ unit: String) {
        guard families.insert(name).inserted else { return }
        let family = name.withUnsafeBytes { arena.intern($0) }
        let words = [UInt8](PrometheusNames.unit(unit).utf8)
        result.batch.metadata.append(
            MetricBatch.Metadata(
                family: family, type: metric.type, help: arena.intern(metric.description), unit: words.withUnsafeBytes { arena.intern($0) }))
    }

    // MARK: - points

    private mutating func beginPoint() {
        labels.beginPoint()
        startMillis = 0
        timeMillis = receivedAtNanos / nanosPerMilli
        isStale = false
        exemplars.removeAll(keepingCapacity: true)
        counts.removeAll(keepingCapacity: true)
        bounds.removeAll(keepingCapacity: true)
    }

    /// Sorts the labels; from here on `emit` may be called. `extra` is the label the point's buckets or quantiles have.
    private mutating func beginSeries(extra: StaticString) {
        extraName = extra
        labels.encode(extra: extra)
        resource.include(timeMillis)
    }

    private mutating func setTime(_ raw: UInt64) {
        if raw != 0 { timeMillis = otlpNanos(raw) / nanosPerMilli }
    }

    /// Writes one sample of the series `name` + `suffix`.
    private mutating func emit(_ suffix: StaticString, extra: [UInt8] = [], _ value: Double) {
        guard !isTooLarge else { return }
        let writesDelta = isDelta && !isStale
        let range =
            writesDelta
            ? labels.write(name, suffix, extraName: extraName, extra: extra, to: &deltaArena)
            : labels.write(name, suffix, extraName: extraName, extra: extra, to: &arena)
        if writesDelta {
            result.deltas.labels.append(range)
            result.deltas.startsMillis.append(startMillis)
            result.deltas.timesMillis.append(timeMillis)
            result.deltas.increments.append(value)
        } else {
            result.batch.series.append(MetricBatch.Series(labels: range, firstSample: UInt32(result.batch.values.count), sampleCount: 1))
            result.batch.timesMillis.append(timeMillis)
            result.batch.values.append(isStale ? SpecialValue.stale : value)
            if accumulates, startMillis != 0 { result.batch.setStarts(startMillis, from: result.batch.values.count - 1) }
        }
        if arena.count + deltaArena.count > bytesMax { isTooLarge = true }
    }

    /// Index the next emitted sample's series will have, in the batch or in the deltas.
    private var nextSeries: Int { isDelta && !isStale ? result.deltas.count : result.batch.series.count }

    private mutating func decodeNumber(_ reader: inout ProtobufReader) {
        var value: Double?
        while reader.next() {
            switch reader.tag {
            case .field(2, .fixed64): startMillis = otlpNanos(reader.fixed64()) / nanosPerMilli
            case .field(3, .fixed64): setTime(reader.fixed64())
            case .field(4, .fixed64): value = reader.double()
            case .field(5, .length): exemplars.append(reader.bytes())
            case .field(6, .fixed64): value = Double(Int64(bitPattern: reader.fixed64()))
            case .field(7, .length): labels.add(&reader)
            case .field(8, .varint): isStale = reader.varint() & 1 != 0
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        guard value != nil || isStale else { return reject(1, "metric \(quoted(String(decoding: name, as: UTF8.self))): data point without a value") }
        beginSeries(extra: "")
        let series = nextSeries
        emit("", value ?? 0)
        appendExemplars(&reader) { _ in series }
    }

    private mutating func decodeHistogram(_ reader: inout ProtobufReader) {
        var count: UInt64 = 0
        var sum: Double?
        while reader.next() {
            switch reader.tag {
            case .field(2, .fixed64): startMillis = otlpNanos(reader.fixed64()) / nanosPerMilli
            case .field(3, .fixed64): setTime(reader.fixed64())
            case .field(4, .fixed64): count = reader.fixed64()
            case .field(5, .fixed64): sum = reader.double()
            case .field(6, .fixed64): counts.append(reader.fixed64())
            case .field(6, .length):
                var packed = reader.message()
                while !packed.isAtEnd { counts.append(packed.fixed64()) }
                reader.check(packed)
            case .field(7, .fixed64): bounds.append(reader.double())
            case .field(7, .length):
                var packed = reader.message()
                while !packed.isAtEnd { bounds.append(packed.double()) }
                reader.check(packed)
            case .field(8, .length): exemplars.append(reader.bytes())
            case .field(9, .length): labels.add(&reader)
            case .field(10, .varint): isStale = reader.varint() & 1 != 0
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        if let fault = histogramFault() {
            return reject(1, "histogram \(quoted(String(decoding: name, as: UTF8.self))): \(fault)")
        }
        if options.nativeBounds {
            var row = HistogramRow()
            row.schema = Int64(HistogramLayout.customSchema)
            row.customBounds = bounds.last == .infinity ? bounds.dropLast() : bounds
            // The bucket past all bounds is the last one, whether it has a bound or not.
            var present = counts.isEmpty ? [count] : counts
            if bounds.last == .infinity, let past = present.popLast(), !present.isEmpty { present[present.count - 1] &+= past }
            row.positive.setDense(present, firstIndex: 0)
            row.count = count
            row.sum = sum ?? 0
            return emitNative(&reader, row)
        }
        var cumulative: [Double] = []
        var total: UInt64 = 0
        for index in bounds.indices {
            total &+= index < counts.count ? counts[index] : 0
            cumulative.append(Double(total))
        }
        emitHistogram(&reader, count: count, sum: sum, cumulative)
    }

    private func histogramFault() -> String? {
        // A point without a recording may leave out its counts.
        let matches = counts.isEmpty ? (bounds.isEmpty || isStale) : counts.count == bounds.count + 1
        if !matches { return "\(counts.count) bucket counts for \(bounds.count) bounds" }
        for index in bounds.indices.dropFirst() where !(bounds[index - 1] < bounds[index]) { return "bounds are not ascending" }
        return bounds.contains { $0.isNaN } ? "a bound is NaN" : nil
    }

    /// Writes buckets, sum and count of the point whose bounds are in `bounds`.
    private mutating func emitHistogram(_ reader: inout ProtobufReader, count: UInt64, sum: Double?, _ cumulative: [Double]) {
        beginSeries(extra: "le")
        let first = nextSeries
        var finiteBounds = 0
        for index in bounds.indices where bounds[index].isFinite {
            emit("_bucket", extra: boundText(bounds[index]), cumulative[index])
            finiteBounds += 1
        }
        emit("_bucket", extra: boundText(.infinity), Double(count))
        if let sum = sum ?? (isStale ? 0 : nil) { emit("_sum", sum) }
        emit("_count", Double(count))
        let finite = bounds.filter { $0.isFinite }
        appendExemplars(&reader) { value in first + (finite.firstIndex { $0 >= value } ?? finiteBounds) }
    }

    private mutating func decodeExponential(_ reader: inout ProtobufReader) {
        var buckets = ExponentialBuckets()
        var count: UInt64 = 0
        var sum: Double?
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): labels.add(&reader)
            case .field(2, .fixed64): startMillis = otlpNanos(reader.fixed64()) / nanosPerMilli
            case .field(3, .fixed64): setTime(reader.fixed64())
            case .field(4, .fixed64): count = reader.fixed64()
            case .field(5, .fixed64): sum = reader.double()
            case .field(6, .varint): buckets.scale = Int(Int32(truncatingIfNeeded: reader.zigzag()))
            case .field(7, .fixed64): buckets.zeroCount = reader.fixed64()
            case .field(8, .length): buckets.positive = ExponentialBuckets.Side(&reader)
            case .field(9, .length): buckets.negative = ExponentialBuckets.Side(&reader)
            case .field(10, .varint): isStale = reader.varint() & 1 != 0
            case .field(11, .length): exemplars.append(reader.bytes())
            case .field(14, .fixed64): buckets.zeroThreshold = reader.double()
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        if let fault = buckets.fault { return reject(1, "histogram \(quoted(String(decoding: name, as: UTF8.self))): \(fault)") }
        if options.nativeHistograms {
            guard var row = buckets.native() else {
                return reject(1, "histogram \(quoted(String(decoding: name, as: UTF8.self))): scale \(buckets.scale) is coarser than -4")
            }
            row.count = count
            row.sum = sum ?? 0
            return emitNative(&reader, row)
        }
        let classic = buckets.classic()
        bounds = classic.bounds
        emitHistogram(&reader, count: count, sum: sum, classic.cumulative)
    }

    /// Writes the point as one native histogram.
    private mutating func emitNative(_ reader: inout ProtobufReader, _ given: HistogramRow) {
        var row = given
        beginSeries(extra: "")
        row.timeMillis = timeMillis
        row.startMillis = startMillis
        if isStale { row.sum = SpecialValue.stale }
        let writesDelta = isDelta && !isStale
        let fault = writesDelta ? row.append(to: &result.deltas.histograms) : row.append(to: &result.batch.histograms)
        if let fault { return reject(1, "histogram \(quoted(String(decoding: name, as: UTF8.self))): \(fault)") }
        if writesDelta {
            result.deltas.histogramLabels.append(labels.write(name, "", extraName: "", extra: [], to: &deltaArena))
            let index = result.deltas.histogramLabels.count - 1
            appendExemplars(&reader, toHistograms: true) { _ in index }
        } else {
            let index = result.batch.series.count
            result.batch.histogramSeries.append(UInt32(index))
            result.batch.series.append(
                MetricBatch.Series(
                    labels: labels.write(name, "", extraName: "", extra: [], to: &arena), firstSample: UInt32(result.batch.values.count), sampleCount: 0))
            appendExemplars(&reader) { _ in index }
        }
        if arena.count + deltaArena.count > bytesMax { isTooLarge = true }
    }

    private mutating func decodeSummary(_ reader: inout ProtobufReader) {
        var count: UInt64 = 0
        var sum = 0.0
        var quantiles: [(quantile: Double, value: Double)] = []
        while reader.next() {
            switch reader.tag {
            case .field(2, .fixed64): startMillis = otlpNanos(reader.fixed64()) / nanosPerMilli
            case .field(3, .fixed64): setTime(reader.fixed64())
            case .field(4, .fixed64): count = reader.fixed64()
            case .field(5, .fixed64): sum = reader.double()
            case .field(6, .length): quantiles.append(readQuantile(&reader))
            case .field(7, .length): labels.add(&reader)
            case .field(8, .varint): isStale = reader.varint() & 1 != 0
            default: reader.skip()
            }
        }
        guard !reader.failed else { return }
        beginSeries(extra: "quantile")
        for entry in quantiles { emit("", extra: boundText(entry.quantile), entry.value) }
        emit("_sum", sum)
        emit("_count", Double(count))
    }

    private func readQuantile(_ parent: inout ProtobufReader) -> (quantile: Double, value: Double) {
        var reader = parent.message()
        var result = (quantile: 0.0, value: 0.0)
        while reader.next() {
            switch reader.tag {
            case .field(1, .fixed64): result.quantile = reader.double()
            case .field(2, .fixed64): result.value = reader.double()
            default: reader.skip()
            }
        }
        parent.check(reader)
        return result
    }

    private mutating func boundText(_ bound: Double) -> [UInt8] {
        if let known = boundTexts[bound.bitPattern] { return known }
        let text = [UInt8](formatOpenMetricsFloat(bound).utf8)
        boundTexts[bound.bitPattern] = text
        return text
    }

    // MARK: - exemplars

    /// Appends the point's exemplars; `series` tells where one of a given value belongs.
    private mutating func appendExemplars(_ reader: inout ProtobufReader, toHistograms: Bool = false, _ series: (Double) -> Int) {
        guard !exemplars.isEmpty, !isStale else { return }
        for message in exemplars {
            guard let exemplar = OTLPExemplar(message, options, nestingMax: resource.nestingMax) else {
                reader.fail()
                return
            }
            let time = exemplar.time == 0 ? timeMillis : otlpNanos(exemplar.time) / nanosPerMilli
            let index = UInt32(series(exemplar.value))
            exemplar.labels.bytes.withUnsafeBytes {
                if isDelta, toHistograms {
                    result.deltas.histogramExemplars.append(.init(series: index, labels: deltaArena.intern($0), value: exemplar.value, timeMillis: time))
                } else if isDelta {
                    result.deltas.exemplars.append(.init(series: index, labels: deltaArena.intern($0), value: exemplar.value, timeMillis: time))
                } else {
                    result.batch.exemplars.append(.init(series: index, labels: arena.intern($0), value: exemplar.value, timeMillis: time))
                }
            }
        }
    }
}
