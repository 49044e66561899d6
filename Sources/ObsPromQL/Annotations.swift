// What a query tells beside its answer, in Prometheus' words. An annotation is noted as often as it comes up and told once; some gather details on the way.
internal import ObsCore

/// Something to be told; the text is made at the end.
enum Annotation: Hashable, Sendable {
    // Warnings: the answer may be wrong or lacks something.
    case invalidQuantile(bits: UInt64)
    case invalidRatio(bits: UInt64, cappedTo: Int)
    case badBucketLabel(metric: String, value: String)
    case mixedSamples(metric: String)
    case mixedSamplesInAggregation
    case mixedHistogramKinds(metric: String)
    case notCounter(metric: String)
    case notGauge(metric: String)
    case mixedBounds(metric: String)
    case incompatibleBounds(operation: String)
    case sortInRange
    case resetsCollide(HistogramOperation)
    case startsOverlap(metric: String)
    // Infos: the query may not mean what it says.
    case maybeNoCounter(metric: String)
    case maybeNoCounterByType(metric: String, type: String)
    case madeMonotonic(metric: String)
    case incompatibleSamples(operation: String, left: String, right: String)
    case ignoredInAggregation(String)
    case ignoredInRange(metric: String)
    case quantileIsNaN(metric: String)
    case quantileIsSkewed(metric: String)
    case fractionLeavesOutNaN(metric: String)
    case boundsDiffered(HistogramOperation)

    enum HistogramOperation: String, Sendable {
        case addition, subtraction, aggregation
    }

    var isWarning: Bool {
        switch self {
        case .invalidQuantile, .invalidRatio, .badBucketLabel, .mixedSamples, .mixedSamplesInAggregation, .mixedHistogramKinds, .notCounter, .notGauge,
            .mixedBounds, .incompatibleBounds, .sortInRange, .resetsCollide, .startsOverlap:
            true
        default: false
        }
    }

    var text: String {
        switch self {
        case .invalidQuantile(let bits): "quantile value should be between 0 and 1, got \(formatGeneral(Double(bitPattern: bits)))"
        case .invalidRatio(let bits, let cap):
            "ratio value should be between -1 and 1, got \(formatGeneral(Double(bitPattern: bits))), capping to \(cap)"
        case .badBucketLabel(let metric, let value): named("bucket label \"le\" is missing or has a malformed value of \(quotedName(value))", metric)
        case .mixedSamples(let metric): "encountered a mix of histograms and floats for metric name \(quotedName(metric))"
        case .mixedSamplesInAggregation: "encountered a mix of histograms and floats for aggregation"
        case .mixedHistogramKinds(let metric): named("vector contains a mix of classic and native histograms", metric)
        case .notCounter(let metric): "this native histogram metric is not a counter: \(quotedName(metric))"
        case .notGauge(let metric): "this native histogram metric is not a gauge: \(quotedName(metric))"
        case .mixedBounds(let metric):
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name \(quotedName(metric))"
        case .incompatibleBounds(let operation): "incompatible bucket layout encountered for binary operator \(operation)"
        case .sortInRange: "sort is ineffective for range queries since results are always ordered by labels"
        case .resetsCollide(let operation): "conflicting counter resets during histogram \(operation.rawValue)"
        case .startsOverlap(let metric): "sample has start time that overlaps with previous sample timestamp for metric \(quotedName(metric))"
        case .maybeNoCounter(let metric): "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \(quotedName(metric))"
        case .maybeNoCounterByType(let metric, let type):
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got \(quotedName(type)): \(quotedName(metric))"
        case .madeMonotonic(let metric):
            named(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                metric)
        case .incompatibleSamples(let operation, let left, let right):
            "incompatible sample types encountered for binary operator \"\(operation)\": \(left) \(operation) \(right)"
        case .ignoredInAggregation(let name): "ignored histogram in \(name) aggregation"
        case .ignoredInRange(let metric): "ignored histograms in a range containing both floats and histograms for metric name \(quotedName(metric))"
        case .quantileIsNaN(let metric): named("input to histogram_quantile has NaN observations, result is NaN", metric)
        case .quantileIsSkewed(let metric): named("input to histogram_quantile has NaN observations, result is skewed higher", metric)
        case .fractionLeavesOutNaN(let metric):
            named("input to histogram_fraction has NaN observations, which are excluded from all fractions", metric)
        case .boundsDiffered(let operation): "mismatched custom buckets were reconciled during \(operation.rawValue)"
        }
    }
}

private func quotedName(_ text: String) -> String { goQuoted(Array(text.utf8)) }
private func named(_ text: String, _ metric: String) -> String { metric.isEmpty ? text : "\(text) for metric name \(quotedName(metric))" }

/// To the second.
private func instant(_ millis: Int64) -> String { rfc3339(nanos: millis / 1000 &* 1_000_000_000) }

/// Where counts of a classic histogram fell from one bucket to the next.
struct MonotonicityRepair: Sendable {
    var lowestBound = Double.infinity
    var highestBound = -Double.infinity
    var greatestFall = 0.0
    var samples = 1
    var firstMillis: Int64 = 0
    var lastMillis: Int64 = 0

    mutating func merge(_ other: MonotonicityRepair) {
        lowestBound = min(lowestBound, other.lowestBound)
        highestBound = max(highestBound, other.highestBound)
        greatestFall = max(greatestFall, other.greatestFall)
        samples += other.samples
        firstMillis = min(firstMillis, other.firstMillis)
        lastMillis = max(lastMillis, other.lastMillis)
    }

    var text: String {
        "from buckets \(formatGeneral(lowestBound)) to \(formatGeneral(highestBound)), with a max diff of \(formatGeneral(greatestFall, digits: 2)), "
            + "over \(samples) samples from \(instant(firstMillis)) to \(instant(lastMillis))"
    }
}

/// The annotations of a query, or of a part of it.
struct Annotations: Sendable {
    private struct Placed: Hashable, Sendable {
        var annotation: Annotation
        var position: Position
    }
    /// Of each kind; what comes after is only counted by whoever shows them.
    private static let notesMax = 200
    private var order: [Placed] = []
    private var counts: [Placed: Int] = [:]
    private var repairs: [Placed: MonotonicityRepair] = [:]

    var isEmpty: Bool { order.isEmpty }

    mutating func note(_ annotation: Annotation, at position: Position) { note(Placed(annotation: annotation, position: position), times: 1) }

    mutating func noteRepair(_ repair: MonotonicityRepair, metric: String, at position: Position) {
        let placed = Placed(annotation: .madeMonotonic(metric: metric), position: position)
        note(placed, times: 1)
        note(placed, repair)
    }

    private mutating func note(_ placed: Placed, times: Int) {
        if let count = counts[placed] {
            counts[placed] = count + times
        } else if order.count < Self.notesMax {
            order.append(placed)
            counts[placed] = times
        }
    }

    private mutating func note(_ placed: Placed, _ repair: MonotonicityRepair) {
        guard counts[placed] != nil else { return }
        if repairs[placed] == nil { repairs[placed] = repair } else { repairs[placed]?.merge(repair) }
    }

    mutating func merge(_ other: Annotations) {
        for placed in other.order { note(placed, times: other.counts[placed] ?? 1) }
        for (placed, repair) in other.repairs { note(placed, repair) }
    }

    /// As the API tells them, in the order they came up.
    func texts(warnings: Bool) -> [String] {
        order.filter { $0.annotation.isWarning == warnings }.map { placed in
            var text = placed.annotation.text
            if let repair = repairs[placed] { text += ", " + repair.text }
            if case .startsOverlap = placed.annotation, let count = counts[placed], count > 1 { text += " (\(count) occurrences)" }
            return "PromQL \(warnings ? "warning" : "info"): \(text) (\(placed.position))"
        }
    }
}
