package import ObsCore
package import ObsStore
extension SeriesScan {
    package mutating func columns(_ ordinal: Int) throws(ObsError) -> SampleColumns {
        let f = try samples(ordinal)
        return SampleColumns(times: f.times, values: f.values)
    }
    package func mayHaveHistograms(_ ordinal: Int) throws(ObsError) -> Bool { false }
}
extension MetricSegmentReader {
    // Until segments have sections for them.
    package func exemplars(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) -> [(labels: Labels, exemplars: [Exemplar])] { [] }
}
