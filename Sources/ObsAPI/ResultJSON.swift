internal import ObsCore
internal import ObsNet
internal import ObsPromQL
internal import ObsStore
internal import ObsWire

/// The parts of answers that Prometheus and Loki share: `{"metric":{…},"value":[seconds,"text"]}`.
extension JSONWriter {
    mutating func point(_ timeMillis: Int64, _ value: Double) {
        beginArray()
        seconds(millis: timeMillis)
        sampleValue(value)
        endArray()
    }

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
        point(timeMillis, value)
        endObject()
    }

    /// A row of a matrix.
    mutating func series(_ metric: Labels, _ timesMillis: [Int64], _ values: [Double]) {
        beginObject()
        key("metric")
        labels(metric)
        key("values")
        beginArray()
        points(timesMillis[...], values[...])
        endArray()
        endObject()
    }

    mutating func points(_ timesMillis: ArraySlice<Int64>, _ values: ArraySlice<Double>) {
        for (time, value) in zip(timesMillis, values) { point(time, value) }
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

    /// A series with its exemplars.
    mutating func exemplars(_ series: SeriesExemplars) {
        beginObject()
        key("seriesLabels")
        labels(series.labels)
        key("exemplars")
        beginArray()
        for exemplar in series.exemplars {
            beginObject()
            key("labels")
            labels(exemplar.labels)
            key("value")
            sampleValue(exemplar.value)
            key("timestamp")
            seconds(millis: exemplar.timeMillis)
            endObject()
        }
        endArray()
        endObject()
    }

    mutating func strings(_ texts: some Sequence<String>) {
        beginArray()
        for text in texts { string(text) }
        endArray()
    }
}

extension HTTPResponse {
    /// Prometheus' envelope of a success.
    static func success(warnings: [String] = [], infos: [String] = [], _ data: (inout JSONWriter) -> Void) -> HTTPResponse {
        var writer = JSONWriter(reserving: 4096)
        writer.beginSuccess()
        data(&writer)
        writer.endSuccess(warnings: warnings, infos: infos)
        return .json(200, writer.bytes)
    }
}

extension JSONWriter {
    mutating func beginSuccess() {
        beginObject()
        member("status", "success")
        key("data")
    }

    mutating func endSuccess(warnings: [String], infos: [String]) {
        for (name, texts) in [("warnings", warnings), ("infos", infos)] where !texts.isEmpty {
            key(name)
            strings(texts.prefix(10))
        }
        endObject()
    }

    /// The member `stats` of a query's answer. What is read is counted once, however many steps see it, so all counts of samples are the same.
    mutating func statistics(_ statistics: QueryContext.Statistics, queuedNanos: Int64, evaluatedNanos: Int64) {
        func seconds(_ nanos: Int64) -> Double { Double(max(0, nanos)) / 1e9 }
        key("stats")
        beginObject()
        key("timings")
        beginObject()
        let evaluation = seconds(evaluatedNanos - queuedNanos)
        for (name, value) in [
            ("evalTotalTime", evaluation), ("resultSortTime", 0), ("queryPreparationTime", 0), ("innerEvalTime", evaluation),
            ("execQueueTime", seconds(queuedNanos)), ("execTotalTime", seconds(evaluatedNanos)),
        ] {
            key(name)
            double(value)
        }
        endObject()
        key("samples")
        beginObject()
        for name in ["totalQueryableSamples", "samplesRead", "peakSamples"] { member(name, int: statistics.samples) }
        endObject()
        endObject()
    }
}

extension AnswerStream {
    func beginSuccess() { json.beginSuccess() }

    func endSuccess(warnings: [String] = [], infos: [String] = []) throws(ObsError) {
        json.endSuccess(warnings: warnings, infos: infos)
        try finish()
    }

    func value(_ value: PromQLValue) throws(ObsError) {
        try json.value(value) { writer throws(ObsError) in try flushIfLarge(&writer) }
    }
}

/// A matrix's rows are written so many points at a time: one series may have more than a piece of an answer has room for.
private let pointsAtOnce = 512

extension JSONWriter {
    /// `"resultType":…,"result":…` of a value.
    /// - Parameter sent: called when there may be enough to send on.
    mutating func value(_ value: PromQLValue, sent: (inout JSONWriter) throws(ObsError) -> Void) throws(ObsError) {
        switch value {
        case .scalar(let time, let number):
            member("resultType", "scalar")
            key("result")
            point(time, number)
        case .string(let time, let text):
            member("resultType", "string")
            key("result")
            point(time, text)
        case .vector(let samples):
            member("resultType", "vector")
            key("result")
            beginArray()
            for one in samples {
                sample(one)
                try sent(&self)
            }
            endArray()
        case .matrix(let series):
            member("resultType", "matrix")
            key("result")
            beginArray()
            for one in series { try row(one, sent) }
            endArray()
        }
    }

    /// Numbers, histograms, or both.
    private mutating func row(_ series: SeriesSamples, _ sent: (inout JSONWriter) throws(ObsError) -> Void) throws(ObsError) {
        let histograms = series.histograms.flatMap { $0.isEmpty ? nil : $0 }
        beginObject()
        key("metric")
        labels(series.labels)
        if !series.values.isEmpty || histograms == nil {
            key("values")
            beginArray()
            var start = 0
            while start < series.values.count {
                let end = min(start + pointsAtOnce, series.values.count)
                points(series.timesMillis[start..<end], series.values[start..<end])
                try sent(&self)
                start = end
            }
            endArray()
        }
        if let histograms {
            key("histograms")
            beginArray()
            var decoder = HistogramDecoder(histograms)
            for row in 0..<histograms.count {
                point(histograms.timesMillis[row], decoder.histogram(row))
                try sent(&self)
            }
            endArray()
        }
        endObject()
    }
}
