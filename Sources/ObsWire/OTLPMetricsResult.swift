package import ObsCore

/// What a metrics request became.
package struct OTLPMetricsResult: Sendable {
    /// Gauges and cumulative points as Prometheus series, metadata, exemplars.
    package var batch = MetricBatch()
    /// Points of delta temporality: someone with a memory adds them up (see `DeltaPoints`).
    package var deltas = DeltaPoints()
    /// Data points left out as invalid.
    package var rejected = 0
    /// Why the first of them was left out.
    package var reason: String?

    package init() {}
}

/// Increments of series whose sender reports what happened since its last report.
///
/// Histograms are expanded: each bucket's increment counts all observations up to its bound, so that adding up the increments of a series gives the cumulative
/// series Prometheus would have scraped. All columns have the same count.
package struct DeltaPoints: Sendable {
    package var bytes: [UInt8] = []
    /// Canonical label set in `bytes`, `__name__` included.
    package var labels: [ByteRange] = []
    /// Begin of the interval the increment belongs to; 0 when the sender does not say.
    package var startsMillis: [Int64] = []
    /// End of the interval: the time of the sample to write.
    package var timesMillis: [Int64] = []
    package var increments: [Double] = []
    /// `series` is an index of these points; labels are in these `bytes`.
    package var exemplars: [MetricBatch.Exemplar] = []
    /// Native histograms that are increments, with their times.
    package var histograms = HistogramColumns()
    /// For each of `histograms` its label set, in `bytes`, and its exemplars, as `exemplars` has them with `series` an index of these.
    package var histogramLabels: [ByteRange] = []
    package var histogramExemplars: [MetricBatch.Exemplar] = []

    package init() {}

    package var count: Int { labels.count }
    package var isEmpty: Bool { labels.isEmpty && histograms.isEmpty }
    package func labels(ofPoint index: Int) -> Labels { Labels(canonical: Array(bytes[labels[index].range])) }
}

/// Choices of the translation to Prometheus series: what `otlp` of a Prometheus configuration says.
package struct OTLPMetricOptions: Sendable, Equatable {
    package var naming = MetricNaming.suffixes
    package var labels = LabelNaming()
    /// Resource attributes that become labels of every series; one `*` stands for any text. A data point's attribute of the same name wins.
    package var promotedAttributes = [
        "service.name", "service.namespace", "service.instance.id", "k8s.*.name", "deployment.environment", "deployment.environment.name", "cloud.region",
        "host.name",
    ]
    /// Of a list that would promote all (`*`), what is left out.
    package var ignoredAttributes: [String] = []
    /// `otel_scope_*` labels: without them equal metrics of two scopes collide.
    package var scopeLabels = true
    /// A series `target_info` that holds a resource's other attributes.
    package var targetInfo = true
    /// `target_info` has `service.name` and the like, too.
    package var keepsIdentity = false
    /// Exponential histograms are native ones; else classic ones.
    package var nativeHistograms = false
    /// Histograms with bounds are native ones with these bounds; else classic ones.
    package var nativeBounds = false
    /// PromQL's lookback: `target_info` is repeated often enough for no gap to show.
    package var lookbackMillis: Int64 = 300_000

    package init() {}

    func labelName(_ key: String) -> [UInt8] {
        var naming = labels
        naming.isUnchanged = self.naming.keepsUTF8
        return [UInt8](key.utf8).withUnsafeBytes { naming.name($0) }
    }

    var seriesNaming: LabelNaming {
        var naming = labels
        naming.isUnchanged = self.naming.keepsUTF8
        return naming
    }

    func promotes(_ key: String) -> Bool { promotedAttributes.contains { matches($0, key) } && !ignoredAttributes.contains(key) }

    private func matches(_ pattern: String, _ key: String) -> Bool {
        guard let star = pattern.firstIndex(of: "*") else { return pattern == key }
        let head = pattern[..<star]
        let tail = pattern[pattern.index(after: star)...]
        return key.utf8.count >= head.utf8.count + tail.utf8.count && key.hasPrefix(head) && key.hasSuffix(tail)
    }
}
