internal import ObsCore
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

    mutating func strings(_ texts: some Sequence<String>) {
        beginArray()
        for text in texts { string(text) }
        endArray()
    }
}
