package import ObsCore

/// Samples of one series. Times of each kind ascend; no time is in both.
package struct SampleColumns: Sendable {
    package var times: [Int64]
    package var values: [Double]
    /// When the counting of each float began, 0 where nobody said; empty when nobody did of any.
    package var starts: [Int64]
    package var histograms: HistogramColumns?

    package init(times: [Int64] = [], values: [Double] = [], starts: [Int64] = [], histograms: HistogramColumns? = nil) {
        self.times = times
        self.values = values
        self.starts = starts
        self.histograms = histograms
    }

    package var isEmpty: Bool { times.isEmpty && histograms == nil }

    /// What they count for where samples are counted: a histogram stands for as many floats as take its room.
    package var sampleCount: Int { times.count + (histograms.map { $0.byteSize / 16 } ?? 0) }

    /// Samples that are in none of the ranges.
    package func leaving(out deleted: [ClosedRange<Int64>]) -> SampleColumns {
        if deleted.isEmpty { return self }
        func isKept(_ time: Int64) -> Bool { !deleted.contains { $0.contains(time) } }
        return keeping(times.indices.filter { isKept(times[$0]) }, histograms.map { rows in (0..<rows.count).filter { isKept(rows.timesMillis[$0]) } } ?? [])
    }

    private func keeping(_ floats: [Int], _ rows: [Int]) -> SampleColumns {
        var kept = self
        if floats.count < times.count {
            kept.times = floats.map { times[$0] }
            kept.values = floats.map { values[$0] }
            if !starts.isEmpty { kept.starts = floats.map { starts[$0] } }
        }
        if let histograms, rows.count < histograms.count { kept.histograms = rows.isEmpty ? nil : histograms.keeping(rows) }
        return kept
    }

    /// Samples of one series from two sources as one; of equal instants the older's stays, whatever its kind.
    package static func merged(_ older: SampleColumns, _ newer: SampleColumns) -> SampleColumns {
        if older.histograms == nil, newer.histograms == nil, older.starts.isEmpty, newer.starts.isEmpty {
            let floats = mergeSamples((older.times, older.values), (newer.times, newer.values))
            return SampleColumns(times: floats.times, values: floats.values)
        }
        let newer = newer.without(older)
        var merged = SampleColumns()
        (merged.times, merged.values) = mergeSamples((older.times, older.values), (newer.times, newer.values))
        if !older.starts.isEmpty || !newer.starts.isEmpty {
            func bits(_ source: SampleColumns) -> [Double] {
                source.times.indices.map { Double(bitPattern: source.starts.isEmpty ? 0 : UInt64(bitPattern: source.starts[$0])) }
            }
            merged.starts = mergeSamples((older.times, bits(older)), (newer.times, bits(newer))).values.map { Int64(bitPattern: $0.bitPattern) }
        }
        switch (older.histograms, newer.histograms) {
        case (let a?, let b?): merged.histograms = .merged(a, b)
        case (let a, let b): merged.histograms = a ?? b
        }
        return merged
    }

    /// Samples at whose instants another has none of the other kind.
    private func without(_ other: SampleColumns) -> SampleColumns {
        let floats = times.indices.filter { index in !(other.histograms?.timesMillis.containsSorted(times[index]) ?? false) }
        let rows = histograms.map { rows in (0..<rows.count).filter { !other.times.containsSorted(rows.timesMillis[$0]) } } ?? []
        return keeping(floats, rows)
    }
}

extension [Int64] {
    /// Whether an element of an ascending array.
    func containsSorted(_ time: Int64) -> Bool {
        let place = lowerBound(self, time)
        return place < count && self[place] == time
    }
}
