// One target's scrapes, as a value: what a scrape answered goes in, a batch to append comes out. No network, no clock.
//
// A scraped series takes the way parse → target labels (`honor_labels`) → `metric_relabel_configs` → limits once; after that a cache knows its final labels by a
// hash of the scraped ones. `series` holds every final label set with what staleness needs to know: a stale marker is written (a) for a series the last
// successful scrape had and this one has not, (b) for all when a scrape fails, (c) for all and the synthetic ones when the target goes away. Series with
// timestamps of their own get none, unless `track_timestamps_staleness`. Contract prometheus.md §2; upstream's `scrape/scrape.go`.
internal import ObsCore
internal import ObsHash
internal import ObsWire

struct ScrapeLoop: Sendable {
    private struct Series: Sendable {
        /// Canonical final labels.
        var labels: [UInt8]
        /// Scrape that saw it last.
        var round = -1
        /// Successful scrape that saw it last.
        var goodRound = -1
        /// Whether its last sample was one without a timestamp of its own: it gets a stale marker when it is missed.
        var isLive = false
        /// Whether its last sample was a native histogram, and a marker must be one.
        var isHistogram = false
    }

    struct Metadata: Sendable, Equatable {
        var type: MetricType
        var help: String
        var unit: String
    }

    let targetLabels: Labels
    private(set) var configuration: ScrapeConfiguration
    /// By hash of the scraped labels: index into `series`; nil for what relabeling drops.
    private var cache: [Hash128: Int?] = [:]
    private var byFinalLabels: [Hash128: Int] = [:]
    private var series: [Series] = []
    private var round = 0
    private var lastGoodRound = -2
    private(set) var metadata: [String: Metadata] = [:]
    /// Samples that repeated a series within one scrape, and ones too far in the future.
    private(set) var duplicates = 0
    private(set) var tooFarAhead = 0
    private var hasReported = false
    private let hashKey: UInt64

    private static let futureMillisMax: Int64 = 600_000
    private static let syntheticNames = [
        "up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added",
    ]
    private static let extraNames = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"]

    init(targetLabels: Labels, configuration: ScrapeConfiguration, hashKey: UInt64 = .random(in: .min ... .max)) {
        self.targetLabels = targetLabels
        self.configuration = configuration
        self.hashKey = hashKey
    }

    /// Goes on under a changed configuration: what was alive is remembered, how labels came to be is not.
    mutating func reconfigure(_ configuration: ScrapeConfiguration) {
        self.configuration = configuration
        cache = [:]
    }

    /// The counts of samples left out, which begin anew.
    mutating func takeDropped() -> (duplicates: Int, tooFarAhead: Int) {
        defer { (duplicates, tooFarAhead) = (0, 0) }
        return (duplicates, tooFarAhead)
    }

    // MARK: - Outcomes of a scrape

    /// The counts of the synthetic series.
    private struct Counts {
        var scraped = 0
        var kept = 0
        var added = 0
    }

    /// What the synthetic series say of a scrape besides its samples.
    struct Report: Sendable {
        /// Of the scrape: its samples' time, unless they have one.
        var timeMillis: Int64
        var durationSeconds: Double
        var timeoutMillis: Int64 = 0
        /// Uncompressed; 0 without an answer, -1 for one past `body_size_limit`.
        var bodyBytes = 0
    }

    /// Takes what a scrape answered. `failure` tells when a limit made it a failed scrape after all; the batch is to be appended in any case.
    mutating func success(_ scraped: MetricBatch, _ report: Report) -> (batch: MetricBatch, failure: ObsError?) {
        var counts = Counts()
        do throws(ObsError) {
            var batch = try take(scraped, report.timeMillis, &counts)
            markMissing(&batch, report.timeMillis)
            compact()
            appendSynthetic(&batch, report, up: 1, counts)
            return (batch, nil)
        } catch {
            return (failed(report, counts), error)
        }
    }

    /// A scrape without a usable answer.
    mutating func failure(_ report: Report) -> MetricBatch { failed(report, Counts()) }

    /// The target is gone: everything ends at the first scrape that did not happen. Nothing ends where nothing began.
    mutating func end(atMillis now: Int64) -> MetricBatch {
        var batch = MetricBatch()
        guard hasReported else { return batch }
        markAll(&batch, now)
        for name in Self.syntheticNames + (configuration.hasExtraMetrics ? Self.extraNames : []) {
            batch.append(syntheticLabels(name), timeMillis: now, value: SpecialValue.stale)
        }
        return batch
    }

    private mutating func failed(_ report: Report, _ counts: Counts) -> MetricBatch {
        var batch = MetricBatch()
        markAll(&batch, report.timeMillis)
        appendSynthetic(&batch, report, up: 0, counts)
        return batch
    }

    private func syntheticLabels(_ name: String) -> Labels {
        var builder = LabelsBuilder(targetLabels)
        builder.set("__name__", name)
        return builder.labels()
    }

    private mutating func appendSynthetic(_ batch: inout MetricBatch, _ report: Report, up: Double, _ counts: Counts) {
        hasReported = true
        let values = [up, report.durationSeconds, Double(counts.scraped), Double(counts.kept), Double(counts.added)]
        for (name, value) in zip(Self.syntheticNames, values) { batch.append(syntheticLabels(name), timeMillis: report.timeMillis, value: value) }
        if configuration.hasExtraMetrics {
            let extra = [Double(report.timeoutMillis) / 1000, Double(configuration.limits.samplesMax), Double(report.bodyBytes)]
            for (name, value) in zip(Self.extraNames, extra) { batch.append(syntheticLabels(name), timeMillis: report.timeMillis, value: value) }
        }
        batch.setStarts(0, from: batch.timesMillis.count)
    }

    // MARK: - Samples

    /// - Throws: when a limit is passed; nothing but the cache has changed then.
    private mutating func take(_ scraped: MetricBatch, _ now: Int64, _ counts: inout Counts) throws(ObsError) -> MetricBatch {
        round += 1
        var batch = MetricBatch()
        batch.bytes.reserveCapacity(scraped.bytes.count)
        var seen: [(series: Int, isLive: Bool)] = []
        seen.reserveCapacity(scraped.series.count)
        var outputs = [UInt32?](repeating: nil, count: scraped.exemplars.isEmpty ? 0 : scraped.series.count)
        let rows = histogramRows(scraped)
        var taken = 0
        var excess: ObsError?
        for (position, entry) in scraped.series.enumerated() {
            counts.scraped += 1
            guard let index = try seriesIndex(scraped, entry) else { continue }
            counts.kept += 1
            let row = rows.isEmpty ? -1 : rows[position]
            let time = row >= 0 ? scraped.histograms.timesMillis[row] : scraped.timesMillis[Int(entry.firstSample)]
            let own = configuration.honorTimestamps && time != PrometheusText.noTime ? time : nil
            if series[index].round == round, own == nil {
                duplicates += 1
                continue
            }
            taken += 1
            if configuration.limits.samplesMax > 0, taken > configuration.limits.samplesMax {
                // The rest is counted all the same, as upstream does.
                excess = excess ?? ObsError(.limitExceeded, "sample limit exceeded (sample_limit is \(configuration.limits.samplesMax))")
                continue
            }
            if let own, own > now + Self.futureMillisMax {
                tooFarAhead += 1
                continue
            }
            let output = UInt32(batch.series.count)
            if row >= 0 {
                if let fault = append(series[index].labels, own ?? now, scraped.histograms, row, to: &batch) {
                    excess = excess ?? fault
                    continue
                }
            } else {
                append(series[index].labels, own ?? now, scraped.values[Int(entry.firstSample)], to: &batch)
                if !scraped.startsMillis.isEmpty { batch.setStarts(scraped.startsMillis[Int(entry.firstSample)], from: batch.timesMillis.count - 1) }
            }
            if series[index].round != round, series[index].goodRound != lastGoodRound, excess == nil { counts.added += 1 }
            series[index].round = round
            series[index].isHistogram = row >= 0
            seen.append((index, own == nil || configuration.trackTimestampsStaleness))
            if !outputs.isEmpty { outputs[position] = output }
        }
        if let excess { throw excess }
        lastGoodRound = round
        for entry in seen {
            series[entry.series].goodRound = round
            if entry.isLive { series[entry.series].isLive = true }
        }
        copyExemplars(scraped, outputs, now, &batch)
        takeMetadata(scraped, &batch)
        return batch
    }

    /// For each series the row of its histogram, -1 where it has none; empty when none has.
    private func histogramRows(_ scraped: MetricBatch) -> [Int] {
        guard !scraped.histogramSeries.isEmpty else { return [] }
        var rows = [Int](repeating: -1, count: scraped.series.count)
        for (row, series) in scraped.histogramSeries.enumerated() { rows[Int(series)] = row }
        return rows
    }

    private func append(_ labels: [UInt8], _ time: Int64, _ value: Double, to batch: inout MetricBatch) {
        batch.series.append(
            MetricBatch.Series(labels: batch.bytes.intern(labels), firstSample: UInt32(batch.timesMillis.count), sampleCount: 1))
        batch.timesMillis.append(time)
        batch.values.append(value)
    }

    /// Adds a histogram, made coarser where a limit wants it so. Gives back why it cannot be.
    private func append(_ labels: [UInt8], _ time: Int64, _ source: HistogramColumns, _ row: Int, to batch: inout MetricBatch) -> ObsError? {
        var shape = HistogramResolution(source, row: row)
        let limits = configuration.limits
        guard shape.keep(schemaMax: limits.histogramSchemaMax, bucketsMax: limits.histogramBucketsMax) else {
            return ObsError(.limitExceeded, "histogram bucket limit exceeded (native_histogram_bucket_limit is \(limits.histogramBucketsMax))")
        }
        batch.histograms.append(
            timeMillis: time, startMillis: source.startsMillis[row], layout: batch.histograms.intern(shape.layout), reset: source.resets[row],
            count: source.counts[row], zeroCount: source.zeroCounts[row], sum: source.sums[row], buckets: shape.buckets)
        addHistogramSeries(labels, &batch)
        return nil
    }

    /// The entry of the histogram added last.
    private func addHistogramSeries(_ labels: [UInt8], _ batch: inout MetricBatch) {
        batch.histogramSeries.append(UInt32(batch.series.count))
        batch.series.append(
            MetricBatch.Series(labels: batch.bytes.intern(labels), firstSample: UInt32(batch.timesMillis.count), sampleCount: 0))
    }

    private func copyExemplars(_ scraped: MetricBatch, _ outputs: [UInt32?], _ now: Int64, _ batch: inout MetricBatch) {
        for exemplar in scraped.exemplars {
            guard let series = outputs[Int(exemplar.series)] else { continue }
            batch.exemplars.append(
                MetricBatch.Exemplar(
                    series: series, labels: batch.bytes.intern(scraped.bytes[exemplar.labels.range]), value: exemplar.value,
                    timeMillis: exemplar.timeMillis == PrometheusText.noTime ? now : exemplar.timeMillis))
        }
    }

    /// Only what is new or changed is written again.
    private mutating func takeMetadata(_ scraped: MetricBatch, _ batch: inout MetricBatch) {
        for entry in scraped.metadata {
            let family = scraped.bytes.string(entry.family)
            let known = Metadata(type: entry.type, help: scraped.bytes.string(entry.help), unit: scraped.bytes.string(entry.unit))
            if metadata.updateValue(known, forKey: family) == known { continue }
            batch.metadata.append(
                MetricBatch.Metadata(
                    family: batch.bytes.intern(scraped.bytes[entry.family.range]), type: entry.type, help: batch.bytes.intern(scraped.bytes[entry.help.range]),
                    unit: batch.bytes.intern(scraped.bytes[entry.unit.range])))
        }
    }

    // MARK: - Staleness

    private mutating func markMissing(_ batch: inout MetricBatch, _ now: Int64) {
        for index in series.indices where series[index].isLive && series[index].goodRound != round { mark(index, &batch, now) }
    }

    private mutating func markAll(_ batch: inout MetricBatch, _ now: Int64) {
        for index in series.indices where series[index].isLive { mark(index, &batch, now) }
    }

    private mutating func mark(_ index: Int, _ batch: inout MetricBatch, _ now: Int64) {
        series[index].isLive = false
        guard series[index].isHistogram else { return append(series[index].labels, now, SpecialValue.stale, to: &batch) }
        batch.histograms.append(
            timeMillis: now, layout: batch.histograms.intern(HistogramLayout()), count: 0, zeroCount: 0, sum: SpecialValue.stale, buckets: [])
        addHistogramSeries(series[index].labels, &batch)
    }

    /// Forgets series of the past once they outnumber the present: churn must not grow a target for ever.
    private mutating func compact() {
        let present = series.count { $0.goodRound == round }
        guard series.count > 2 * present + 1000 || cache.count > 2 * present + 1000 else { return }
        series = series.filter { $0.goodRound == round }
        cache = [:]
        byFinalLabels = [:]
        for index in series.indices { byFinalLabels[hash(series[index].labels)] = index }
    }

    // MARK: - Labels

    private func hash(_ bytes: [UInt8]) -> Hash128 { bytes.withUnsafeBytes { hash128($0, key: hashKey) } }

    /// Index of a scraped series by its final labels; nil when relabeling drops it.
    private mutating func seriesIndex(_ batch: MetricBatch, _ entry: MetricBatch.Series) throws(ObsError) -> Int? {
        let key = batch.bytes.withUnsafeBytes { hash128(UnsafeRawBufferPointer(rebasing: $0[entry.labels.range]), key: hashKey) }
        if let known = cache[key] { return known }
        guard let labels = try finalLabels(batch.labels(of: entry)) else {
            cache.updateValue(nil, forKey: key)
            return nil
        }
        let finalKey = hash(labels.bytes)
        let index = byFinalLabels[finalKey] ?? series.count
        if index == series.count {
            series.append(Series(labels: labels.bytes))
            byFinalLabels[finalKey] = index
        }
        cache.updateValue(index, forKey: key)
        return index
    }

    private func finalLabels(_ scraped: Labels) throws(ObsError) -> Labels? {
        var builder = LabelsBuilder(scraped)
        attachTarget(&builder)
        guard configuration.metricRelabeling.apply(to: &builder) else { return nil }
        let labels = builder.labels()
        if labels.isEmpty { return nil }
        guard labels["__name__"] != nil else { throw ObsError(.badInput, "a series has no name after metric_relabel_configs: \(labels)") }
        if configuration.hasLegacyNames, !labels.hasLegacyNames { throw ObsError(.badInput, "invalid metric name or label names: \(labels)") }
        try checkLimits(labels)
        return labels
    }

    private func attachTarget(_ builder: inout LabelsBuilder) {
        var clashes: [(name: String, value: String)] = []
        for pair in targetLabels.pairs {
            if let scraped = builder[pair.name] {
                if configuration.honorLabels { continue }
                clashes.append((pair.name, scraped))
            }
            builder.set(pair.name, pair.value)
        }
        // Shorter names first, so that `exported_a` of an `a` is found taken by nobody but who had it before.
        for clash in clashes.sorted(by: { $0.name.utf8.count < $1.name.utf8.count }) {
            var name = "exported_" + clash.name
            while builder[name] != nil { name = "exported_" + name }
            builder.set(name, clash.value)
        }
    }

    private func checkLimits(_ labels: Labels) throws(ObsError) {
        let limits = configuration.limits
        guard limits.labelsMax > 0 || limits.labelNameBytesMax > 0 || limits.labelValueBytesMax > 0 else { return }
        let pairs = labels.pairs
        let name = quoted(labels["__name__"] ?? "")
        if limits.labelsMax > 0, pairs.count > limits.labelsMax {
            throw ObsError(.limitExceeded, "label_limit exceeded (metric: \(name), number of labels: \(pairs.count), limit: \(limits.labelsMax))")
        }
        for pair in pairs {
            if limits.labelNameBytesMax > 0, pair.name.utf8.count > limits.labelNameBytesMax {
                throw ObsError(
                    .limitExceeded,
                    "label_name_length_limit exceeded (metric: \(name), label name: \(quoted(pair.name)), length: \(pair.name.utf8.count), limit: \(limits.labelNameBytesMax))"
                )
            }
            if limits.labelValueBytesMax > 0, pair.value.utf8.count > limits.labelValueBytesMax {
                throw ObsError(
                    .limitExceeded,
                    "label_value_length_limit exceeded (metric: \(name), label name: \(quoted(pair.name)), length: \(pair.value.utf8.count), limit: \(limits.labelValueBytesMax))"
                )
            }
        }
    }
}

extension Labels {
    /// Whether metric and label names are what Prometheus took before it took any UTF-8.
    fileprivate var hasLegacyNames: Bool {
        func isLegacy(_ text: UnsafeRawBufferPointer, withColons: Bool) -> Bool {
            guard let first = text.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else { return false }
            return text.allSatisfy { byte in
                (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte &- UInt8(ascii: "0") < 10 || byte == UInt8(ascii: "_")
                    || withColons && byte == UInt8(ascii: ":")
            }
        }
        var isLegacyOnly = true
        forEach { name, value in
            let isName = name.elementsEqual("__name__".utf8)
            isLegacyOnly = isLegacyOnly && isLegacy(name, withColons: false) && (!isName || isLegacy(value, withColons: true))
        }
        return isLegacyOnly
    }
}
