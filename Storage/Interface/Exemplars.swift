package import ObsCore

/// One observation that stands for others: most often the trace in which it was made.
package struct Exemplar: Sendable, Equatable {
    /// The exemplar's own, not its series'.
    package var labels: Labels
    package var value: Double
    package var timeMillis: Int64

    package init(labels: Labels, value: Double, timeMillis: Int64) {
        self.labels = labels
        self.value = value
        self.timeMillis = timeMillis
    }

    /// Equal ones are one and the same: bits count, as of samples.
    package static func == (a: Exemplar, b: Exemplar) -> Bool {
        a.timeMillis == b.timeMillis && a.value.bitPattern == b.value.bitPattern && a.labels == b.labels
    }

    /// The order they are kept and given in: by time, then value, then labels.
    package static func precedes(_ a: Exemplar, _ b: Exemplar) -> Bool {
        if a.timeMillis != b.timeMillis { return a.timeMillis < b.timeMillis }
        if a.value.bitPattern != b.value.bitPattern { return a.value.isTotallyOrdered(belowOrEqualTo: b.value) }
        return Labels.compare(a.labels, b.labels) < 0
    }

    /// In order, each once.
    package static func merged(_ exemplars: [Exemplar]) -> [Exemplar] {
        var kept: [Exemplar] = []
        for exemplar in exemplars.sorted(by: precedes) where kept.last != exemplar { kept.append(exemplar) }
        return kept
    }
}

/// One series with its exemplars.
package struct SeriesExemplars: Sendable {
    package var labels: Labels
    /// Never empty; see `Exemplar.precedes` for their order.
    package var exemplars: [Exemplar]

    package init(labels: Labels, exemplars: [Exemplar]) {
        self.labels = labels
        self.exemplars = exemplars
    }
}
