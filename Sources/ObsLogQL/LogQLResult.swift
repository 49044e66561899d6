package import ObsCore

/// What a LogQL query gives.
package enum LogQLResult: Sendable {
    /// Answer of a log query; entries of each stream in the order of the query's direction, streams in label order.
    case streams([LogStream])
    /// Answer of a metric query over a range, in label order.
    case matrix([LogSeries])
    /// Answer of a metric query at an instant; in label order unless the query sorts.
    case vector([LogSample])
    case scalar(Double)
}

/// Records that share their stream labels.
package struct LogStream: Sendable {
    /// Stream labels, as the pipeline left them.
    package var labels: Labels
    package var entries: [LogEntry]

    package init(labels: Labels, entries: [LogEntry]) {
        self.labels = labels
        self.entries = entries
    }
}

/// One record of a log query's answer. Label groups stay apart so that an API can encode them categorised or merged.
package struct LogEntry: Sendable {
    package var timeNanos: Int64
    package var line: [UInt8]
    package var structuredMetadata: Labels
    /// Labels made by the pipeline (parsers, `label_format`, errors). Unlike other `Labels` they may hold empty values: Loki shows `e=""`.
    package var parsed: Labels

    package init(timeNanos: Int64, line: [UInt8], structuredMetadata: Labels, parsed: Labels) {
        self.timeNanos = timeNanos
        self.line = line
        self.structuredMetadata = structuredMetadata
        self.parsed = parsed
    }
}

/// One series of a metric query's answer; steps without a value are left out.
package struct LogSeries: Sendable {
    package var labels: Labels
    package var timesMillis: [Int64]
    package var values: [Double]

    package init(labels: Labels, timesMillis: [Int64], values: [Double]) {
        self.labels = labels
        self.timesMillis = timesMillis
        self.values = values
    }
}

package struct LogSample: Sendable {
    package var labels: Labels
    package var timeMillis: Int64
    package var value: Double

    package init(labels: Labels, timeMillis: Int64, value: Double) {
        self.labels = labels
        self.timeMillis = timeMillis
        self.value = value
    }
}

/// Groups entries by their full label set (stream, structured metadata and parsed labels together): the encoding of clients that did not
/// ask for categorised labels. The label groups of the entries given back are empty.
package func mergeLabelGroups(_ streams: [LogStream]) -> [LogStream] {
    var places: [Labels: Int] = [:]
    var result: [LogStream] = []
    for stream in streams {
        for entry in stream.entries {
            var labels = stream.labels
            if !entry.structuredMetadata.isEmpty || !entry.parsed.isEmpty {
                labels = merged([stream.labels, entry.structuredMetadata, entry.parsed])
            }
            let bare = LogEntry(timeNanos: entry.timeNanos, line: entry.line, structuredMetadata: .empty, parsed: .empty)
            if let place = places[labels] {
                result[place].entries.append(bare)
            } else {
                places[labels] = result.count
                result.append(LogStream(labels: labels, entries: [bare]))
            }
        }
    }
    return result.sorted { $0.labels < $1.labels }
}

/// One set of several; a name in a later one wins. Empty values stay.
private func merged(_ groups: [Labels]) -> Labels {
    var pairs: [(name: [UInt8], value: [UInt8])] = []
    for group in groups {
        group.forEach { name, value in
            let name = [UInt8](name)
            if let at = pairs.firstIndex(where: { $0.name == name }) { pairs[at].value = [UInt8](value) } else { pairs.append((name, [UInt8](value))) }
        }
    }
    pairs.sort { $0.name.lexicographicallyPrecedes($1.name) }
    var bytes: [UInt8] = []
    for pair in pairs { appendLabel(&bytes, pair.name, pair.value) }
    return Labels(canonical: bytes)
}
