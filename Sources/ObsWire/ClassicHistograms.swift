// Classic histograms, which are a series for each bucket, made into native ones that keep their bounds ("custom buckets"): one series for all.
//
// The series of a histogram stand together in an exposition. They are collected as long as family and labels (but `le`) stay the same, and then either are
// one row of the batch's histograms, or stay what they were: where there is a native histogram of those labels already, or where their counts make none
// (buckets that do not add up). The rules are those of the reference's `nhcbparse`.
internal import ObsCore

extension MetricBatch {
    /// Converts the classic histograms of families whose type is known.
    /// - Parameter keepsClassic: the classic series stay beside the new ones.
    package mutating func convertClassicHistograms(keepsClassic: Bool) {
        let families = histogramFamilies()
        guard !families.isEmpty else { return }
        var conversion = ClassicConversion(self, families: families, keepsClassic: keepsClassic)
        self = conversion.run()
    }

    /// Names of the families that are histograms, and whether they are gauges.
    private func histogramFamilies() -> [[UInt8]: Bool] {
        var families: [[UInt8]: Bool] = [:]
        for entry in metadata where entry.type == .histogram || entry.type == .gaugeHistogram {
            families[Array(bytes[entry.family.range])] = entry.type == .gaugeHistogram
        }
        return families
    }
}

private struct ClassicConversion {
    private enum Part {
        case bucket(upperBound: Double)
        case sum, count
    }

    /// The series of one histogram.
    private struct Group {
        var labels = Labels.empty
        var isGauge = false
        var members: [Int] = []
        var buckets: [(upperBound: Double, count: Double)] = []
        var sum = 0.0
        var count: Double?
        var isBroken = false
    }

    private let source: MetricBatch
    private let families: [[UInt8]: Bool]
    private let keepsClassic: Bool
    private let native: Set<Labels>
    private var output = MetricBatch()
    private var group = Group()
    private var exemplarsOf: [UInt32: [Int]] = [:]
    private var rowsOf: [UInt32: [Int]] = [:]

    init(_ source: MetricBatch, families: [[UInt8]: Bool], keepsClassic: Bool) {
        self.source = source
        self.families = families
        self.keepsClassic = keepsClassic
        native = Set(source.histogramSeries.map { source.labels(of: source.series[Int($0)]) })
        for (index, exemplar) in source.exemplars.enumerated() { exemplarsOf[exemplar.series, default: []].append(index) }
        for (row, series) in source.histogramSeries.enumerated() { rowsOf[series, default: []].append(row) }
        output.bytes = source.bytes
        output.metadata = source.metadata
    }

    mutating func run() -> MetricBatch {
        for index in source.series.indices {
            guard let (labels, part, isGauge) = member(index) else {
                flush()
                copy(index)
                continue
            }
            if labels != group.labels { flush() }
            group.labels = labels
            group.isGauge = isGauge
            group.members.append(index)
            take(part, source.values[Int(source.series[index].firstSample)])
        }
        flush()
        if !output.startsMillis.isEmpty { output.setStarts(0, from: output.timesMillis.count) }
        return output
    }

    /// What a series is of a histogram, and the labels the whole has; nil for any other series.
    private func member(_ index: Int) -> (labels: Labels, part: Part, isGauge: Bool)? {
        let series = source.series[index]
        guard series.sampleCount == 1 else { return nil }
        var builder = LabelsBuilder(source.labels(of: series))
        guard let name = builder["__name__"], let underscore = name.utf8.lastIndex(of: UInt8(ascii: "_")) else { return nil }
        let family = String(name[..<underscore])
        guard let isGauge = families[[UInt8](family.utf8)] else { return nil }
        let part: Part
        switch name[underscore...] {
        case "_sum": part = .sum
        case "_count": part = .count
        case "_bucket":
            guard let text = builder["le"], let bound = [UInt8](text.utf8).withUnsafeBytes({ parseFloat($0) }), !bound.isNaN else { return nil }
            part = .bucket(upperBound: bound)
            builder.remove("le")
        default: return nil
        }
        builder.set("__name__", family)
        let labels = builder.labels()
        return native.contains(labels) ? nil : (labels, part, isGauge)
    }

    private mutating func take(_ part: Part, _ value: Double) {
        switch part {
        case .sum: group.sum = value
        case .count:
            group.count = value
            if !(value >= 0) { group.isBroken = true }
        case .bucket(let bound):
            if !(value >= 0) { group.isBroken = true }
            // A bucket that comes twice counts once.
            let at = group.buckets.firstIndex { $0.upperBound >= bound } ?? group.buckets.count
            if at == group.buckets.count || group.buckets[at].upperBound != bound { group.buckets.insert((bound, value), at: at) }
        }
    }

    private mutating func flush() {
        defer { group = Group() }
        guard !group.members.isEmpty else { return }
        let isConverted = convert()
        if keepsClassic || !isConverted { for index in group.members { copy(index) } }
    }

    /// False when the counts make no histogram.
    private mutating func convert() -> Bool {
        guard let total = group.count ?? group.buckets.last?.count else { return false }
        if group.buckets.last?.upperBound != .infinity { group.buckets.append((.infinity, total)) }
        guard !group.isBroken, group.buckets.last?.count == total, zip(group.buckets, group.buckets.dropFirst()).allSatisfy({ $0.count <= $1.count })
        else { return false }
        var row = HistogramRow()
        row.schema = Int64(HistogramLayout.customSchema)
        row.sum = group.sum
        row.customBounds = group.buckets.dropLast().map(\.upperBound)
        row.positive.spans = [BucketSpan(offset: 0, length: UInt32(group.buckets.count))]
        row.isFloat = !group.buckets.allSatisfy { Int64(exactly: $0.count) != nil }
        if row.isFloat {
            row.countFloat = total
            row.positive.counts = group.buckets.indices.map { $0 == 0 ? group.buckets[0].count : group.buckets[$0].count - group.buckets[$0 - 1].count }
        } else {
            row.count = UInt64(total)
            let counts = group.buckets.indices.map { Int64(group.buckets[$0].count) - ($0 == 0 ? 0 : Int64(group.buckets[$0 - 1].count)) }
            row.positive.deltas = counts.indices.map { counts[$0] - ($0 == 0 ? 0 : counts[$0 - 1]) }
        }
        if group.isGauge { row.reset = .gauge }
        let first = Int(source.series[group.members[0]].firstSample)
        row.timeMillis = source.timesMillis[first]
        if !source.startsMillis.isEmpty { row.startMillis = source.startsMillis[first] }
        guard row.append(to: &output.histograms) == nil else { return false }
        let index = UInt32(output.series.count)
        output.histogramSeries.append(index)
        output.series.append(
            .init(labels: output.bytes.intern(group.labels.bytes), firstSample: UInt32(output.timesMillis.count), sampleCount: 0))
        // Exemplars of a native histogram have a time of their own, or nobody could tell a repeated one from a new one.
        for member in group.members {
            copyExemplars(of: member, to: index) { $0.timeMillis != PrometheusText.noTime }
        }
        return true
    }

    private mutating func copy(_ index: Int) {
        var series = source.series[index]
        let samples = Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)
        series.firstSample = UInt32(output.timesMillis.count)
        let target = UInt32(output.series.count)
        output.series.append(series)
        for sample in samples {
            output.timesMillis.append(source.timesMillis[sample])
            output.values.append(source.values[sample])
            if !source.startsMillis.isEmpty { output.setStarts(source.startsMillis[sample], from: output.timesMillis.count - 1) }
        }
        for row in rowsOf[UInt32(index)] ?? [] {
            output.histograms.append(source.histograms, row: row)
            output.histogramSeries.append(target)
        }
        copyExemplars(of: index, to: target) { _ in true }
    }

    private mutating func copyExemplars(of index: Int, to target: UInt32, where isWanted: (MetricBatch.Exemplar) -> Bool) {
        for position in exemplarsOf[UInt32(index)] ?? [] where isWanted(source.exemplars[position]) {
            var exemplar = source.exemplars[position]
            exemplar.series = target
            output.exemplars.append(exemplar)
        }
    }
}
