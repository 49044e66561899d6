// What the samples of each chunk come to, so that who asks for counts, last values, extremes, sums or increases reads no chunk that lies wholly in his range.
//
// A page beside the chunks page, read only when asked for. It must cost next to nothing: a chunk of a hundred samples takes about as many bytes, so a summary
// of eight doubles would be half of it. Therefore
//
// - what follows is not stored. All values equal: first is last, smallest, greatest, and the sum is the count times it (exactly: a product's error is a double).
//   Never falling (most counters): first is smallest, last is greatest, there is no reset.
// - decimal values are integers (see FloatCodec), and each column is what is surprising in it: last less first, greatest less the greater of the two, sum less
//   what the mean of those would make of so many samples.
// - the sum is what the integers say, and a correction in units of 2^-15 of its last place: 0 where values are integers, two bytes elsewhere.
// - resets are counted up to `resetsMax`: what falls more often is no counter.
// - a chunk of fewer than `samplesMin` samples, with a NaN or an infinity, or of stale markers alone, has none. It is only said whether a stale marker is
//   among them: if not, the chunk's number of samples is the count.
//
// FORMAT.md, "Statistics page", has the bytes.

internal import ObsCore
internal import ObsEncoding
internal import ObsStore

enum ChunkStatistics {
    /// Samples below which a chunk is as quickly decoded.
    static let samplesMin = 16
    private static let resetsMax = 3
    /// Units of a sum's correction in one unit of its last place.
    private static let correctionUnits = 32_768.0

    /// On disk: never renumber.
    private enum Shape: Int64 {
        case unknown = 0
        /// No stale marker; nothing else is known.
        case counted
        case constant
        case rising
        case any
    }
    private static let shapeMask: Int64 = 7
    private static let withResets: Int64 = 8
    private static let withStale: Int64 = 16
    private static let isDecimal: Int64 = 32

    /// What is stored for a chunk. `known` says what of it may be used; without `.values` and with a count of 0 nothing may.
    static func make(_ times: UnsafeBufferPointer<Int64>, _ values: UnsafeBufferPointer<Double>) -> SampleSummary {
        var summary = SampleSummary()
        if values.count >= samplesMin {
            summary.append(times, values)
            if summary.count > 0, summary.smallest.isFinite, summary.greatest.isFinite, summary.sum.isFinite {
                (summary.sum, summary.sumRest) = twoSum(summary.sum, summary.sumRest)
                if summary.resets > resetsMax { summary.known.remove(.resets) }
                return summary
            }
        }
        let isCounted = !values.contains { $0.bitPattern == SpecialValue.staleBits }
        return isCounted ? counted(times.first ?? 0, times.last ?? 0, values.count) : unknown
    }

    static var unknown: SampleSummary {
        var summary = SampleSummary()
        summary.known = []
        return summary
    }

    private static func counted(_ first: Int64, _ last: Int64, _ count: Int) -> SampleSummary {
        var summary = unknown
        (summary.firstMillis, summary.lastMillis, summary.count) = (first, last, count)
        return summary
    }

    // MARK: Writing

    /// Columns of a page in the making.
    private struct Columns {
        var shapes: [Int64] = []
        var integers = [[Int64]](repeating: [], count: IntegerColumn.allCases.count)
        var floats = [[Double]](repeating: [], count: FloatColumn.allCases.count)

        subscript(_ column: IntegerColumn) -> [Int64] {
            get { integers[column.rawValue] }
            _modify { yield &integers[column.rawValue] }
        }
        subscript(_ column: FloatColumn) -> [Double] {
            get { floats[column.rawValue] }
            _modify { yield &floats[column.rawValue] }
        }
    }

    /// In the order they lie in.
    private enum IntegerColumn: Int, CaseIterable { case exponent, first, rise, above, below, sum, correction, stale, staleBefore, staleAfter, resets }
    private enum FloatColumn: Int, CaseIterable { case first, last, greatest, smallest, sum, drop }

    static func append(_ chunks: [Chunk], _ statistics: [SampleSummary], to bytes: inout [UInt8]) {
        var columns = Columns()
        for (chunk, summary) in zip(chunks, statistics) { add(chunk, summary, &columns) }
        IntegerCodec.append(columns.shapes, to: &bytes)
        for column in columns.integers { IntegerCodec.append(column, to: &bytes) }
        for column in columns.floats { FloatCodec.append(column, to: &bytes) }
    }

    private static func add(_ chunk: Chunk, _ summary: SampleSummary, _ columns: inout Columns) {
        guard summary.known.contains(.values), summary.count > 0 else {
            columns.shapes.append(summary.count == chunk.samples ? Shape.counted.rawValue : Shape.unknown.rawValue)
            return
        }
        var shape = shape(summary)
        if summary.staleCount > 0 {
            shape |= withStale
            columns[.stale].append(Int64(summary.staleCount))
            columns[.staleBefore].append(summary.firstMillis &- chunk.minTime)
            columns[.staleAfter].append(chunk.maxTime &- summary.lastMillis)
        }
        if shape & shapeMask == Shape.any.rawValue, summary.known.contains(.resets) {
            shape |= withResets
            columns[.resets].append(Int64(summary.resets))
            columns[.drop].append(summary.resetDrop)
        }
        if let decimal = Decimal(summary, isConstant: shape & shapeMask == Shape.constant.rawValue) {
            shape |= isDecimal
            columns[.exponent].append(Int64(decimal.exponent))
            columns[.first].append(decimal.first)
            if shape & shapeMask != Shape.constant.rawValue {
                columns[.rise].append(decimal.last &- decimal.first)
                columns[.sum].append(decimal.sum &- decimal.expectedSum(summary.count))
                columns[.correction].append(decimal.correction)
            }
            if shape & shapeMask == Shape.any.rawValue {
                columns[.above].append(decimal.greatest &- max(decimal.first, decimal.last))
                columns[.below].append(min(decimal.first, decimal.last) &- decimal.smallest)
            }
        } else {
            columns[.first].append(summary.first)
            if shape & shapeMask != Shape.constant.rawValue {
                columns[.last].append(summary.last)
                columns[.sum].append(summary.sum)
                columns[.correction].append(correction(summary.sumRest, of: summary.sum) ?? 0)
            }
            if shape & shapeMask == Shape.any.rawValue {
                columns[.greatest].append(summary.greatest)
                columns[.smallest].append(summary.smallest)
            }
        }
        columns.shapes.append(shape)
    }

    private static func shape(_ summary: SampleSummary) -> Int64 {
        guard summary.known.contains(.resets), summary.resets == 0 else { return Shape.any.rawValue }
        // Equal, but -0 and +0, which is first and last to who asks for them.
        let isConstant = summary.first == summary.last && summary.first.bitPattern == summary.last.bitPattern
        return isConstant && summary.first != 0 || isConstant && summary.sum.bitPattern == summary.first.bitPattern
            ? Shape.constant.rawValue : Shape.rising.rawValue
    }

    /// Units of 2^-15 of the sum's last place; nil when they do not fit.
    private static func correction(_ rest: Double, of sum: Double) -> Int64? {
        let units = (rest / sum.ulp * correctionUnits).rounded()
        return units.magnitude < Double(1 << 40) ? Int64(units) : nil
    }

    private static func corrected(_ sum: Double, _ correction: Int64) -> (sum: Double, error: Double) {
        twoSum(sum, Double(correction) / correctionUnits * sum.ulp)
    }

    /// A summary whose values are all integers over one power of ten.
    private struct Decimal {
        var exponent: Int
        var first: Int64
        var last: Int64
        var smallest: Int64
        var greatest: Int64
        var sum: Int64
        var correction: Int64

        init?(_ summary: SampleSummary, isConstant: Bool) {
            for exponent in 0...FloatCodec.exponentMax {
                guard let first = FloatCodec.integer(summary.first, exponent) else { continue }
                guard let last = FloatCodec.integer(summary.last, exponent), let smallest = FloatCodec.integer(summary.smallest, exponent),
                    let greatest = FloatCodec.integer(summary.greatest, exponent)
                else { continue }
                (self.exponent, self.first, self.last, self.smallest, self.greatest, sum, correction) = (exponent, first, last, smallest, greatest, 0, 0)
                if isConstant { return }
                let scaled = (summary.sum * FloatCodec.power(exponent)).rounded()
                guard scaled.magnitude < 0x1p62 else { return nil }
                sum = Int64(scaled)
                let (guess, rest) = twoSum(summary.sum - FloatCodec.value(sum, exponent), summary.sumRest)
                // When the values between have more digits the difference is large: they are not decimals of this exponent.
                if let units = ChunkStatistics.correction(guess + rest, of: FloatCodec.value(sum, exponent)), units.magnitude < 1 << 24 {
                    correction = units
                    return
                }
            }
            return nil
        }

        init(exponent: Int, first: Int64, last: Int64, smallest: Int64, greatest: Int64) {
            (self.exponent, self.first, self.last, self.smallest, self.greatest, sum, correction) = (exponent, first, last, smallest, greatest, 0, 0)
        }

        /// What so many samples spread about the four values would sum up to.
        func expectedSum(_ count: Int) -> Int64 {
            let mean = (first &+ last &+ smallest &+ greatest) / 4
            return mean &* Int64(count)
        }
    }
}

// MARK: Reading

extension ChunkStatistics {
    /// - Parameter chunks: of the page.
    static func decode(_ cursor: inout ByteCursor, _ chunks: [Chunk]) throws(ObsError) -> [SampleSummary] {
        var reading = Reading(shapes: try IntegerCodec.decode(&cursor, count: chunks.count))
        for column in IntegerColumn.allCases {
            let count = reading.shapes.reduce(0) { $0 + (has(column, $1) ? 1 : 0) }
            reading.columns[column] = try IntegerCodec.decode(&cursor, count: count)
        }
        for column in FloatColumn.allCases {
            let count = reading.shapes.reduce(0) { $0 + (has(column, $1) ? 1 : 0) }
            reading.columns[column] = try FloatCodec.decode(&cursor, count: count)
        }
        var summaries: [SampleSummary] = []
        summaries.reserveCapacity(chunks.count)
        for (chunk, shape) in zip(chunks, reading.shapes) { summaries.append(try reading.next(chunk, shape)) }
        return summaries
    }

    /// Whether a chunk of that shape has a value in a column.
    private static func has(_ column: IntegerColumn, _ bits: Int64) -> Bool {
        let shape = bits & shapeMask
        guard shape >= Shape.constant.rawValue else { return false }
        let isDecimal = bits & isDecimal != 0
        switch column {
        case .exponent, .first: return isDecimal
        case .rise, .sum: return isDecimal && shape != Shape.constant.rawValue
        case .above, .below: return isDecimal && shape == Shape.any.rawValue
        case .correction: return shape != Shape.constant.rawValue
        case .stale, .staleBefore, .staleAfter: return bits & withStale != 0
        case .resets: return bits & withResets != 0
        }
    }

    private static func has(_ column: FloatColumn, _ bits: Int64) -> Bool {
        let shape = bits & shapeMask
        guard shape >= Shape.constant.rawValue else { return false }
        let isDecimal = bits & isDecimal != 0
        switch column {
        case .first: return !isDecimal
        case .last, .sum: return !isDecimal && shape != Shape.constant.rawValue
        case .greatest, .smallest: return !isDecimal && shape == Shape.any.rawValue
        case .drop: return bits & withResets != 0
        }
    }

    /// Decoded columns and how far each is used up.
    private struct Reading {
        var shapes: [Int64]
        var columns = Columns()
        private var integersUsed = [Int](repeating: 0, count: IntegerColumn.allCases.count)
        private var floatsUsed = [Int](repeating: 0, count: FloatColumn.allCases.count)

        init(shapes: [Int64]) { self.shapes = shapes }

        private mutating func take(_ column: IntegerColumn) -> Int64 {
            defer { integersUsed[column.rawValue] += 1 }
            return columns.integers[column.rawValue][integersUsed[column.rawValue]]
        }

        private mutating func take(_ column: FloatColumn) -> Double {
            defer { floatsUsed[column.rawValue] += 1 }
            return columns.floats[column.rawValue][floatsUsed[column.rawValue]]
        }

        mutating func next(_ chunk: Chunk, _ bits: Int64) throws(ObsError) -> SampleSummary {
            guard bits >= 0, bits < 64, let shape = Shape(rawValue: bits & shapeMask) else {
                throw ObsError(.corrupt, "statistics of the unknown shape \(bits)")
            }
            if shape == .unknown { return unknown }
            var summary = counted(chunk.minTime, chunk.maxTime, chunk.samples)
            if shape == .counted { return summary }
            summary.known = .values
            if bits & withStale != 0 { try takeStale(chunk, &summary) }
            if shape == .any, bits & withResets != 0 {
                let resets = take(.resets)
                guard (1...resetsMax).contains(Int(truncatingIfNeeded: resets)) else { throw ObsError(.corrupt, "statistics with \(resets) resets") }
                (summary.resets, summary.resetDrop) = (Int(resets), take(.drop))
            }
            if shape != .any || bits & withResets != 0 { summary.known.insert(.resets) }
            if bits & isDecimal != 0 { try takeDecimal(shape, &summary) } else { takeFloats(shape, &summary) }
            if shape == .constant {
                let count = Double(summary.count)
                summary.sum = count * summary.first
                summary.sumRest = (-summary.sum).addingProduct(count, summary.first)
            }
            return summary
        }

        private mutating func takeStale(_ chunk: Chunk, _ summary: inout SampleSummary) throws(ObsError) {
            let (stale, before, after) = (take(.stale), take(.staleBefore), take(.staleAfter))
            // Not negative, but possibly past Int64.max.
            let span = UInt64(bitPattern: chunk.maxTime &- chunk.minTime)
            guard stale > 0, stale < chunk.samples, before >= 0, after >= 0, UInt64(before) + UInt64(after) <= span else {
                throw ObsError(.corrupt, "statistics with \(stale) stale markers of \(chunk.samples) samples")
            }
            summary.count -= Int(stale)
            summary.staleCount = Int(stale)
            summary.firstMillis += before
            summary.lastMillis -= after
            summary.endsStale = after > 0
        }

        private mutating func takeDecimal(_ shape: Shape, _ summary: inout SampleSummary) throws(ObsError) {
            let exponent = take(.exponent)
            guard (0...FloatCodec.exponentMax).contains(Int(truncatingIfNeeded: exponent)) else { throw ObsError(.corrupt, "decimal exponent \(exponent)") }
            let first: Int64 = take(.first)
            var decimal = Decimal(exponent: Int(exponent), first: first, last: first, smallest: first, greatest: first)
            if shape != .constant {
                decimal.last = first &+ take(.rise)
                (decimal.smallest, decimal.greatest) = (Swift.min(first, decimal.last), Swift.max(first, decimal.last))
            }
            if shape == .any {
                decimal.smallest &-= take(.below)
                decimal.greatest &+= take(.above)
            }
            func value(_ integer: Int64) -> Double { FloatCodec.value(integer, decimal.exponent) }
            (summary.first, summary.last) = (value(first), value(decimal.last))
            (summary.smallest, summary.greatest) = (value(decimal.smallest), value(decimal.greatest))
            guard shape != .constant else { return }
            decimal.sum = decimal.expectedSum(summary.count) &+ take(.sum)
            (summary.sum, summary.sumRest) = corrected(value(decimal.sum), take(.correction))
        }

        private mutating func takeFloats(_ shape: Shape, _ summary: inout SampleSummary) {
            summary.first = take(.first)
            summary.last = shape == .constant ? summary.first : take(.last)
            (summary.smallest, summary.greatest) = (summary.first, summary.last)
            if shape == .any { (summary.greatest, summary.smallest) = (take(.greatest), take(.smallest)) }
            if shape != .constant { (summary.sum, summary.sumRest) = corrected(take(.sum), take(.correction)) }
        }
    }
}
