internal import ObsCore
internal import ObsPromQL
internal import ObsStore
internal import ObsWire

/// The parts of answers that Prometheus and Loki share: `{"metric":{…},"value":[seconds,"text"]}`.
extension JSONWriter {
    mutating func point(_ timeMillis: Int64, _ text: String) {
        beginArray()
        seconds(millis: timeMillis)
        string(text)
        endArray()
    }

    /// A row of a vector.
    mutating func sample(_ metric: Labels, _ timeMillis: Int64, _ value: Double) {
        beginObject()
        key("metric")
        labels(metric)
        key("value")
        point(timeMillis, formatSampleValue(value))
        endObject()
    }

    /// A row of a matrix.
    mutating func series(_ metric: Labels, _ timesMillis: [Int64], _ values: [Double]) {
        beginObject()
        key("metric")
        labels(metric)
        key("values")
        beginArray()
        for (time, value) in zip(timesMillis, values) { point(time, formatSampleValue(value)) }
        endArray()
        endObject()
    }

    /// A row of a vector of PromQL: a number or a histogram.
    mutating func sample(_ sample: VectorSample) {
        guard let histogram = sample.histogram else { return self.sample(sample.labels, sample.timeMillis, sample.value) }
        beginObject()
        key("metric")
        labels(sample.labels)
        key("histogram")
        point(sample.timeMillis, histogram)
        endObject()
    }

    /// A row of a matrix of PromQL: numbers, histograms, or both.
    mutating func series(_ series: SeriesSamples) {
        guard let histograms = series.histograms, !histograms.isEmpty else { return self.series(series.labels, series.timesMillis, series.values) }
        beginObject()
        key("metric")
        labels(series.labels)
        if !series.values.isEmpty {
            key("values")
            beginArray()
            for (time, value) in zip(series.timesMillis, series.values) { point(time, formatSampleValue(value)) }
            endArray()
        }
        key("histograms")
        beginArray()
        var decoder = HistogramDecoder(histograms)
        for row in 0..<histograms.count { point(histograms.timesMillis[row], decoder.histogram(row)) }
        endArray()
        endObject()
    }

    private mutating func point(_ timeMillis: Int64, _ histogram: FloatHistogram) {
        beginArray()
        seconds(millis: timeMillis)
        self.histogram(histogram)
        endArray()
    }

    /// Count, sum, and the buckets that are populated as `[rule, lower, upper, count]`; the rule says which bounds belong to the bucket: 0 the upper one,
    /// 1 the lower one, 2 none, 3 both.
    private mutating func histogram(_ histogram: FloatHistogram) {
        beginObject()
        member("count", formatSampleValue(histogram.count))
        member("sum", formatSampleValue(histogram.sum))
        let buckets = histogram.buckets.filter { $0.count != 0 }
        if !buckets.isEmpty {
            key("buckets")
            beginArray()
            for bucket in buckets {
                beginArray()
                int(bucket.includesLower ? (bucket.includesUpper ? 3 : 1) : bucket.includesUpper ? 0 : 2)
                for value in [bucket.lower, bucket.upper, bucket.count] { string(formatSampleValue(value)) }
                endArray()
            }
            endArray()
        }
        endObject()
    }

    mutating func strings(_ texts: some Sequence<String>) {
        beginArray()
        for text in texts { string(text) }
        endArray()
    }
}
