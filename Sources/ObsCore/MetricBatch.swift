/// Samples of many series, as columns: what decoders make, the pipeline filters, the head takes and the WAL can keep.
///
/// A series may appear more than once in a batch. Samples of one entry are contiguous. Histograms, exemplars and starts are columns of their own, empty in most batches.
package struct MetricBatch: Sendable {
    package struct Series: Sendable {
        /// Canonical label set (see `Labels`) in `bytes`, `__name__` included.
        package var labels: ByteRange
        package var firstSample: UInt32
        package var sampleCount: UInt32

        package init(labels: ByteRange, firstSample: UInt32, sampleCount: UInt32) {
            self.labels = labels
            self.firstSample = firstSample
            self.sampleCount = sampleCount
        }
    }

    package struct Exemplar: Sendable {
        /// Index into `series`.
        package var series: UInt32
        /// Canonical label set in `bytes`.
        package var labels: ByteRange
        package var value: Double
        package var timeMillis: Int64

        package init(series: UInt32, labels: ByteRange, value: Double, timeMillis: Int64) {
            self.series = series
            self.labels = labels
            self.value = value
            self.timeMillis = timeMillis
        }
    }

    package struct Metadata: Sendable {
        package var family: ByteRange
        package var type: MetricType
        package var help: ByteRange
        package var unit: ByteRange

        package init(family: ByteRange, type: MetricType, help: ByteRange, unit: ByteRange) {
            self.family = family
            self.type = type
            self.help = help
            self.unit = unit
        }
    }

    package var bytes: [UInt8] = []
    package var series: [Series] = []
    /// Milliseconds since the epoch.
    package var timesMillis: [Int64] = []
    /// Bit patterns matter: stale markers and NaN payloads are data.
    package var values: [Double] = []
    /// When counting began (milliseconds, 0 unknown), for each of `values`; empty when no sample says.
    package var startsMillis: [Int64] = []
    /// Samples that are native histograms; of a series that has none and no other samples `sampleCount` is 0.
    package var histograms = HistogramColumns()
    /// For each of `histograms` its index into `series`.
    package var histogramSeries: [UInt32] = []
    package var exemplars: [Exemplar] = []
    package var metadata: [Metadata] = []

    package init() {}

    package var isEmpty: Bool { series.isEmpty && metadata.isEmpty }
    package var sampleCount: Int { timesMillis.count + histograms.count }

    /// Says of the samples from `first` on when counting began; of those before that say nothing it is not known.
    package mutating func setStarts(_ startMillis: Int64, from first: Int) {
        guard startMillis != 0 || !startsMillis.isEmpty else { return }
        startsMillis.append(contentsOf: repeatElement(0, count: max(0, first - startsMillis.count)))
        startsMillis.append(contentsOf: repeatElement(startMillis, count: max(0, timesMillis.count - startsMillis.count)))
    }

    /// Adds one sample of a series; for producers of few (rules, synthetic series). Decoders fill the columns themselves.
    package mutating func append(_ labels: Labels, timeMillis: Int64, value: Double) {
        series.append(Series(labels: bytes.intern(labels.bytes), firstSample: UInt32(timesMillis.count), sampleCount: 1))
        timesMillis.append(timeMillis)
        values.append(value)
    }

    /// Adds one sample of a series that is a native histogram.
    package mutating func append(_ labels: Labels, _ histograms: HistogramColumns, row: Int) {
        series.append(Series(labels: bytes.intern(labels.bytes), firstSample: UInt32(timesMillis.count), sampleCount: 0))
        self.histograms.append(histograms, row: row)
        histogramSeries.append(UInt32(series.count - 1))
    }

    package func labels(of series: Series) -> Labels { Labels(canonical: Array(bytes[series.labels.range])) }
}

/// Type of a metric family; raw values are remote write's.
package enum MetricType: UInt8, Sendable {
    case unknown = 0, counter, gauge, histogram, gaugeHistogram, summary, info, stateSet

    /// The word of the exposition formats and `/api/v1/metadata`.
    package var word: String {
        switch self {
        case .unknown: "unknown"
        case .counter: "counter"
        case .gauge: "gauge"
        case .histogram: "histogram"
        case .gaugeHistogram: "gaugehistogram"
        case .summary: "summary"
        case .info: "info"
        case .stateSet: "stateset"
        }
    }
}

/// NaNs with a meaning, told apart by their bits only.
package enum SpecialValue {
    /// "This series ended here" (Prometheus `value.StaleNaN`).
    package static let staleBits: UInt64 = 0x7ff0_0000_0000_0002
    /// What every other NaN read from a scrape becomes.
    package static let normalNaNBits: UInt64 = 0x7ff8_0000_0000_0001
    package static let stale = Double(bitPattern: staleBits)
    package static let normalNaN = Double(bitPattern: normalNaNBits)
    package static func isStale(_ value: Double) -> Bool { value.bitPattern == 0x7ff0_0000_0000_0002 }
}
