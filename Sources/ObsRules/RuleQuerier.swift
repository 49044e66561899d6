package import ObsCore

/// What rules ask; PromQL answers it (see `PromQLQuerier`).
package protocol RuleQuerier: Sendable {
    /// An instant query; a scalar is one sample without labels.
    func vector(_ expression: String, atMillis: Int64) throws(ObsError) -> [RuleSample]
    /// What is wrong with an expression.
    func check(_ expression: String) throws(ObsError)
}

package struct RuleSample: Sendable, Equatable {
    package var labels: Labels
    package var value: Double
    /// One row, where the sample is a native histogram; `value` is then NaN.
    package var histogram: HistogramColumns?

    package init(labels: Labels, value: Double, histogram: HistogramColumns? = nil) {
        self.labels = labels
        self.value = value
        self.histogram = histogram
    }
}

/// Where outputs of rules go: the pipeline.
package protocol RuleSampleSink: Sendable {
    func write(_ batch: MetricBatch) throws(ObsError)
}
