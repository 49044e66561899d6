// What a head has of a series beside floats. Most series have nothing of it, so their records say only where in a table of its own it is: a store of floats pays
// neither bytes nor time for histograms, exemplars and starts.

internal import ObsCore
internal import ObsSegment
internal import ObsStore

struct SeriesExtras {
    /// Place among the head's histograms; -1 when the series has none.
    var histograms: Int32 = -1
    var starts = SampleStarts()
    /// In the order of `Exemplar.precedes`.
    var exemplars: [HeadExemplar] = []
}

/// When the counting of each float began, by the order in which they came. One start holds for many samples: until a process starts anew.
struct SampleStarts {
    /// Of the samples from the first on; 0 where nobody said.
    private(set) var first: Int64 = 0
    private(set) var changes: [(sample: Int, startMillis: Int64)] = []

    var isEmpty: Bool { first == 0 && changes.isEmpty }

    /// Says it of a sample later than all before.
    mutating func note(_ startMillis: Int64, sample: Int) {
        guard startMillis != changes.last?.startMillis ?? first else { return }
        if sample == 0 { first = startMillis } else { changes.append((sample, startMillis)) }
    }
}

struct HeadExemplar {
    /// Senders repeat an exemplar for as long as there is no newer one. What is older than its sample by more was seen before, or is too old to be looked for there:
    /// readers look for exemplars in segments that end so much before, or begin so much after, the asked range.
    static let reachMillis: Int64 = 60 * 60_000
    /// Of names and values together: OpenMetrics' bound.
    static let charactersMax = 128

    var timeMillis: Int64
    var value: Double
    /// The newest sample of its series when it came: it is written beside that one.
    var sampleMillis: Int64
    /// Canonical, in the table's arena.
    var labels: UnsafeRawBufferPointer

    var exemplar: Exemplar { Exemplar(labels: Labels(canonical: [UInt8](labels)), value: value, timeMillis: timeMillis) }

    /// Less than 0 when it comes before the other, 0 when both are the same.
    func compare(_ labels: UnsafeRawBufferPointer, _ value: Double, _ timeMillis: Int64) -> Int {
        if self.timeMillis != timeMillis { return self.timeMillis < timeMillis ? -1 : 1 }
        if self.value.bitPattern != value.bitPattern { return self.value.isTotallyOrdered(belowOrEqualTo: value) ? -1 : 1 }
        return compareLabels(self.labels, labels)
    }

    /// Whether names and values are short enough together.
    static func fits(_ labels: UnsafeRawBufferPointer) -> Bool {
        // A character has a byte at least.
        if labels.count <= charactersMax { return true }
        var characters = 0
        forEachLabel(labels) { name, value in characters += scalars(name) + scalars(value) }
        return characters <= charactersMax
    }

    private static func scalars(_ text: UnsafeRawBufferPointer) -> Int { text.reduce(0) { $0 + ($1 & 0xc0 == 0x80 ? 0 : 1) } }
}

extension MetricHead {
    /// Floats, when their counting began and histograms of a series within `range`, in time order. To be called under the lock; what it gives may be used without.
    func content(of id: Int, range: ClosedRange<Int64>) -> HeadSamples {
        var samples = HeadSamples()
        guard let place = table[id].pointee.extras else {
            self.samples(of: id, range: range, times: &samples.times, values: &samples.values)
            return samples
        }
        let extras = extras[place]
        if extras.histograms >= 0 { samples.histograms = histograms[Int(extras.histograms)] }
        if extras.starts.isEmpty {
            self.samples(of: id, range: range, times: &samples.times, values: &samples.values)
        } else {
            addSamples(of: id, extras.starts, range, to: &samples)
        }
        return samples
    }

    private func addSamples(of id: Int, _ starts: SampleStarts, _ range: ClosedRange<Int64>, to samples: inout HeadSamples) {
        var chunks: [UnsafeMutablePointer<SampleChunk>] = []
        var next = table[id].pointee.tail
        while let chunk = next {
            chunks.append(chunk)
            next = chunk.pointee.previous
        }
        var rows: [(sample: Sample, startMillis: Int64)] = []
        var start = starts.first
        var change = 0
        var number = 0
        for chunk in chunks.reversed() {
            for index in 0..<Int(chunk.pointee.count) {
                if change < starts.changes.count, starts.changes[change].sample == number {
                    start = starts.changes[change].startMillis
                    change += 1
                }
                if range.contains(chunk.samples[index].timeMillis) { rows.append((chunk.samples[index], start)) }
                number += 1
            }
        }
        if table[id].pointee.isUnordered { rows.sort { $0.sample.timeMillis < $1.sample.timeMillis } }
        samples.times = rows.map(\.sample.timeMillis)
        samples.values = rows.map { Double(bitPattern: $0.sample.bits) }
        samples.starts = rows.map(\.startMillis)
    }

    /// Exemplars of a series that came with a sample within `range`, in order.
    func exemplars(of id: Int, samples range: ClosedRange<Int64>) -> [Exemplar] {
        guard let place = table[id].pointee.extras else { return [] }
        return extras[place].exemplars.filter { range.contains($0.sampleMillis) }.map(\.exemplar)
    }
}

/// Samples of one series, as copied from the head.
struct HeadSamples {
    var times: [Int64] = []
    var values: [Double] = []
    var starts: [Int64] = []
    /// All there are: whoever reads them takes those in range, without the lock.
    var histograms: HeadHistograms?

    func columns(_ range: ClosedRange<Int64>) -> SampleColumns {
        let rows = histograms.map { $0.rows(range) }
        return SampleColumns(
            times: times, values: values, starts: starts.contains { $0 != 0 } ? starts : [], histograms: rows?.isEmpty == false ? rows : nil)
    }
}
