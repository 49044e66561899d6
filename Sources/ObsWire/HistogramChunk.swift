// Chunks of native histograms in Prometheus' TSDB encoding (2: counts are whole numbers, 3: floats). After the count of samples and a byte on counter resets come the
// layout, once, and then the samples:
//
//                  time      count, zero count    sum    buckets (each the difference from the one before it; floats as they are)
//     first        varbit    varbit · 64 bits     64     varbit · 64 bits
//     further      change of the difference from the sample before, as varbit; the sum, and all of floats, as XOR
//
// Whoever reads a chunk takes it that no counter was reset within: a sample that counts less than the one before begins the next chunk.
package import ObsCore

enum HistogramChunk {
    static let integers: UInt64 = 2
    static let floats: UInt64 = 3

    /// The end of the run of rows from `first` on that fit in one chunk.
    static func end(of first: Int, in rows: HistogramColumns) -> Int {
        var end = first + 1
        while end < rows.count, end - first < XORChunk.samplesMax, continues(end, rows) { end += 1 }
        return end
    }

    private static func continues(_ row: Int, _ rows: HistogramColumns) -> Bool {
        let isGauge = rows.resets[row] == .gauge
        guard rows.layout[row] == rows.layout[row - 1], !rows.isStale(row), !rows.isStale(row - 1), rows.resets[row] != .reset,
            isGauge == (rows.resets[row - 1] == .gauge)
        else { return false }
        if isGauge { return true }
        let isFloat = rows.layout(ofRow: row).isFloat
        func grows(_ new: UInt64, _ old: UInt64) -> Bool { isFloat ? Double(bitPattern: new) >= Double(bitPattern: old) : new >= old }
        return grows(rows.counts[row], rows.counts[row - 1]) && grows(rows.zeroCounts[row], rows.zeroCounts[row - 1])
            && zip(rows.buckets[rows.bucketRange(row)], rows.buckets[rows.bucketRange(row - 1)]).allSatisfy(grows)
    }

    static func encode(_ rows: HistogramColumns, _ range: Range<Int>) -> [UInt8] {
        // A stale marker has no buckets.
        let layout = rows.isStale(range.lowerBound) ? HistogramLayout() : rows.layout(ofRow: range.lowerBound)
        let isFloat = rows.layout(ofRow: range.lowerBound).isFloat
        var bits = BitWriter()
        bits.bits(UInt64(range.count), 16)
        bits.bits(header(rows.resets[range.lowerBound]), 8)
        bits.layout(layout)
        if isFloat { encodeFloats(rows, range, &bits) } else { encodeIntegers(rows, range, layout, &bits) }
        return bits.bytes
    }

    private static func header(_ reset: CounterReset) -> UInt64 {
        switch reset {
        case .unknown: 0
        case .reset: 0x80
        case .noReset: 0x40
        case .gauge: 0xc0
        }
    }

    /// A number whose changes of difference are written.
    private struct Difference {
        private var last: Int64 = 0
        private var lastDelta: Int64 = 0
        mutating func first(_ value: Int64) { last = value }
        mutating func next(_ value: Int64, to bits: inout BitWriter) {
            let delta = value &- last
            bits.varbit(delta &- lastDelta)
            last = value
            lastDelta = delta
        }
    }

    private static func encodeIntegers(_ rows: HistogramColumns, _ range: Range<Int>, _ layout: HistogramLayout, _ bits: inout BitWriter) {
        var time = Difference()
        var count = Difference()
        var zeroCount = Difference()
        var sum = XORColumn()
        var buckets = [Difference](repeating: Difference(), count: layout.bucketCount)
        for row in range {
            let isStale = rows.isStale(row)
            let counts = isStale ? [] : deltas(rows.buckets[rows.bucketRange(row)], layout.positiveCount)
            let total = isStale ? 0 : Int64(bitPattern: rows.counts[row])
            let zeros = isStale ? 0 : Int64(bitPattern: rows.zeroCounts[row])
            if row == range.lowerBound {
                bits.varbit(rows.timesMillis[row])
                bits.varbit(unsigned: UInt64(bitPattern: total))
                bits.varbit(unsigned: UInt64(bitPattern: zeros))
                time.first(rows.timesMillis[row])
                count.first(total)
                zeroCount.first(zeros)
            } else {
                time.next(rows.timesMillis[row], to: &bits)
                count.next(total, to: &bits)
                zeroCount.next(zeros, to: &bits)
            }
            sum.append(rows.sums[row].bitPattern, to: &bits)
            for (index, delta) in counts.enumerated() {
                if row == range.lowerBound {
                    bits.varbit(delta)
                    buckets[index].first(delta)
                } else {
                    buckets[index].next(delta, to: &bits)
                }
            }
        }
    }

    /// Of positive and negative buckets each the difference from the one before, the first ones as they are.
    private static func deltas(_ counts: ArraySlice<UInt64>, _ positiveCount: Int) -> [Int64] {
        var last: Int64 = 0
        return counts.enumerated().map { index, bits in
            if index == positiveCount { last = 0 }
            defer { last = Int64(bitPattern: bits) }
            return Int64(bitPattern: bits) &- last
        }
    }

    private static func encodeFloats(_ rows: HistogramColumns, _ range: Range<Int>, _ bits: inout BitWriter) {
        var time = Difference()
        var columns = [XORColumn](repeating: XORColumn(), count: 3 + rows.bucketRange(range.lowerBound).count)
        for row in range {
            if row == range.lowerBound {
                bits.varbit(rows.timesMillis[row])
                time.first(rows.timesMillis[row])
            } else {
                time.next(rows.timesMillis[row], to: &bits)
            }
            let isStale = rows.isStale(row)
            let numbers = isStale ? [0, 0, rows.sums[row].bitPattern] : [rows.counts[row], rows.zeroCounts[row], rows.sums[row].bitPattern]
            for (index, number) in numbers.enumerated() { columns[index].append(number, to: &bits) }
            if isStale { continue }
            for (index, number) in rows.buckets[rows.bucketRange(row)].enumerated() { columns[3 + index].append(number, to: &bits) }
        }
    }
}

extension BitWriter {
    mutating func varbit(_ value: Int64) {
        if value == 0 { return bit(false) }
        for (ones, width) in Self.varbitWidths where value >= -((1 << Int64(width - 1)) - 1) && value <= 1 << Int64(width - 1) {
            prefix(ones)
            return bits(UInt64(bitPattern: value), width)
        }
        bits(0xff, 8)
        bits(UInt64(bitPattern: value), 64)
    }

    mutating func varbit(unsigned value: UInt64) {
        if value == 0 { return bit(false) }
        for (ones, width) in Self.varbitWidths where value >> UInt64(width) == 0 {
            prefix(ones)
            return bits(value, width)
        }
        bits(0xff, 8)
        bits(value, 64)
    }

    /// Ones before the zero, and bits after it.
    private static let varbitWidths = [(1, 3), (2, 6), (3, 9), (4, 12), (5, 18), (6, 25), (7, 56)]

    private mutating func prefix(_ ones: Int) { bits(((1 << UInt64(ones)) - 1) << 1, ones + 1) }

    fileprivate mutating func layout(_ layout: HistogramLayout) {
        zeroThreshold(layout.zeroThreshold)
        varbit(Int64(layout.schema))
        for spans in [layout.positive, layout.negative] {
            varbit(unsigned: UInt64(spans.count))
            for span in spans {
                varbit(unsigned: UInt64(span.length))
                varbit(Int64(span.offset))
            }
        }
        guard layout.schema == HistogramLayout.customSchema else { return }
        varbit(unsigned: UInt64(layout.customBoundsBits.count))
        for bound in layout.customBounds { customBound(bound) }
    }

    /// Powers of two, which thresholds mostly are, take a byte: their exponent.
    private mutating func zeroThreshold(_ width: Double) {
        if width == 0 { return bits(0, 8) }
        if width.significand == 1, (-243...10).contains(width.exponent) { return bits(UInt64(width.exponent + 1 + 243), 8) }
        bits(255, 8)
        bits(width.bitPattern, 64)
    }

    /// Bounds of whole thousandths are small numbers.
    private mutating func customBound(_ bound: Double) {
        let thousandths = bound * 1000
        guard thousandths >= 0, thousandths <= 33_554_430, (bound * 1000).rounded() / 1000 == bound else {
            bit(false)
            return bits(bound.bitPattern, 64)
        }
        varbit(unsigned: UInt64(thousandths.rounded()) + 1)
    }
}

/// A piece of a series as remote read streams it.
package struct SeriesChunk: Sendable {
    package var minTime: Int64
    package var maxTime: Int64
    /// Prometheus' number of it.
    package var encoding: UInt64
    package var data: [UInt8]
}

/// A series cut into chunks, in the order of their first times.
package struct ChunkCutter {
    private let times: [Int64]
    private let values: [Double]
    private let histograms: HistogramColumns
    private var nextSample = 0
    private var nextHistogram = 0

    package init(times: [Int64], values: [Double], histograms: HistogramColumns?) {
        self.times = times
        self.values = values
        self.histograms = histograms ?? HistogramColumns()
    }

    package mutating func next() -> SeriesChunk? {
        let hasSamples = nextSample < times.count
        guard nextHistogram < histograms.count else { return hasSamples ? samples(before: .max) : nil }
        if hasSamples, times[nextSample] < histograms.timesMillis[nextHistogram] { return samples(before: histograms.timesMillis[nextHistogram]) }
        var end = HistogramChunk.end(of: nextHistogram, in: histograms)
        while hasSamples, end > nextHistogram + 1, histograms.timesMillis[end - 1] > times[nextSample] { end -= 1 }
        let rows = nextHistogram..<end
        nextHistogram = end
        let isFloat = histograms.layout(ofRow: rows.lowerBound).isFloat
        return SeriesChunk(
            minTime: histograms.timesMillis[rows.lowerBound], maxTime: histograms.timesMillis[end - 1],
            encoding: isFloat ? HistogramChunk.floats : HistogramChunk.integers, data: HistogramChunk.encode(histograms, rows))
    }

    private mutating func samples(before time: Int64) -> SeriesChunk {
        var end = min(nextSample + XORChunk.samplesMax, times.count)
        while end > nextSample + 1, times[end - 1] >= time { end -= 1 }
        let range = nextSample..<end
        nextSample = end
        return SeriesChunk(
            minTime: times[range.lowerBound], maxTime: times[end - 1], encoding: XORChunk.encoding,
            data: XORChunk.encode(times: times[range], values: values[range]))
    }
}

extension ProtobufWriter {
    /// A `Chunk` message.
    package mutating func chunk(_ field: UInt32, _ chunk: SeriesChunk) {
        message(field) { (message: inout ProtobufWriter) in
            message.int(1, chunk.minTime)
            message.int(2, chunk.maxTime)
            message.varint(3, chunk.encoding)
            message.bytes(4, chunk.data)
        }
    }
}
