// Native histograms to bytes.
//
// A histogram of a series differs from the one before it by a few observations: of 160 buckets most counts stay, some grow by little. So a bucket's count is stored
// as the difference to the count of the same bucket (by its index, not by its place) in the row before, 0 where that row has no such bucket. This needs no runs of
// equal layout: a bucket that is hit for the first time costs its own count and shifts nothing. The differences of all rows are one column of integers, whose
// high byte planes are empty.
//
// What the rest costs: the count of observations is nearly always the sum of the buckets and the zero bucket, so what is stored is what it has more (0, a constant).
// Sums are floats. Times, starts, hints and layouts are integers, the last three mostly constant.
//
// Histograms whose counts are floats have columns of floats instead, and no differences: they are results of calculations, seldom alike.

package import ObsCore

package enum HistogramCodec {
    /// Counts that a run of rows may have: what one decoding may allocate. A writer cuts at `bucketsWritten`, which a last big row may pass.
    package static let bucketsMax = 1 << 18
    package static let bucketsWritten = 1 << 16
    /// Buckets of one layout: far past any sender's (160 by default), a bound on what a few bytes may stand for.
    package static let layoutBucketsMax = 1 << 16
    package static let rowsMax = 1024

    /// Cuts rows into runs of a size that `append` may be given.
    /// - Parameters:
    ///   - rows: of a run, at most.
    ///   - buckets: of a run of more than one row, at most.
    package static func runs(_ columns: HistogramColumns, rows: Int = rowsMax, buckets: Int = bucketsWritten) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        var start = 0
        while start < columns.count {
            let before = columns.bucketRange(start).lowerBound
            var end = start + 1
            while end < columns.count, end - start < rows, columns.bucketEnds[end] - before <= buckets { end += 1 }
            runs.append(start..<end)
            start = end
        }
        return runs
    }

    // MARK: Rows

    /// Appends a run of rows.
    /// - Parameter layouts: what each of the columns' layouts is called where the run is stored.
    package static func append(_ columns: HistogramColumns, rows: Range<Int>, layouts: [Int64], to output: inout [UInt8]) {
        IntegerCodec.append(rows.map { layouts[Int(columns.layout[$0])] }, to: &output)
        IntegerCodec.append(rows.map { columns.timesMillis[$0] }, to: &output)
        IntegerCodec.append(rows.map { columns.startsMillis[$0] }, to: &output)
        IntegerCodec.append(rows.map { Int64(columns.resets[$0].rawValue) }, to: &output)
        FloatCodec.append(rows.map { columns.sums[$0] }, to: &output)
        let whole = rows.filter { !columns.layout(ofRow: $0).isFloat }
        IntegerCodec.append(whole.map { Int64(bitPattern: columns.zeroCounts[$0]) }, to: &output)
        IntegerCodec.append(
            whole.map { row in Int64(bitPattern: columns.buckets[columns.bucketRange(row)].reduce(columns.counts[row] &- columns.zeroCounts[row], &-)) },
            to: &output)
        IntegerCodec.append(differences(columns, whole), to: &output)
        let floats = rows.filter { columns.layout(ofRow: $0).isFloat }
        FloatCodec.append(floats.map { Double(bitPattern: columns.zeroCounts[$0]) }, to: &output)
        FloatCodec.append(floats.map { Double(bitPattern: columns.counts[$0]) }, to: &output)
        FloatCodec.append(floats.flatMap { row in columns.buckets[columns.bucketRange(row)].map { Double(bitPattern: $0) } }, to: &output)
    }

    /// Decodes a run of rows and appends it.
    /// - Parameters:
    ///   - count: bounded by who read it.
    ///   - layouts: of the place the run is stored in.
    package static func decode(
        _ cursor: inout ByteCursor, count: Int, layouts: [HistogramLayout], into columns: inout HistogramColumns
    ) throws(ObsError) {
        let layout = try IntegerCodec.decode(&cursor, count: count)
        var bucketCount = 0
        for index in layout {
            guard index >= 0, index < Int64(layouts.count) else { throw ObsError(.corrupt, "layout \(index) of \(layouts.count)") }
            bucketCount += layouts[Int(index)].bucketCount
            guard bucketCount <= bucketsMax else { throw ObsError(.corrupt, "histograms have more than \(bucketsMax) buckets together") }
        }
        let times = try IntegerCodec.decode(&cursor, count: count)
        let starts = try IntegerCodec.decode(&cursor, count: count)
        var resets: [CounterReset] = []
        for number in try IntegerCodec.decode(&cursor, count: count) {
            guard let reset = UInt8(exactly: number).flatMap(CounterReset.init) else { throw ObsError(.corrupt, "unknown counter reset \(number)") }
            resets.append(reset)
        }
        let sums = try FloatCodec.decode(&cursor, count: count)
        let whole = layout.filter { !layouts[Int($0)].isFloat }
        let zeroCounts = try IntegerCodec.decode(&cursor, count: whole.count)
        let surplus = try IntegerCodec.decode(&cursor, count: whole.count)
        let wholeBuckets = whole.reduce(0) { $0 + layouts[Int($1)].bucketCount }
        let differences = try IntegerCodec.decode(&cursor, count: wholeBuckets)
        let zeroFloats = try FloatCodec.decode(&cursor, count: count - whole.count)
        let countFloats = try FloatCodec.decode(&cursor, count: count - whole.count)
        let floatBuckets = try FloatCodec.decode(&cursor, count: bucketCount - wholeBuckets)

        let names = layouts.map { columns.intern($0) }
        var before = CountsByBucket()
        var wholeRow = 0
        var wholeBucket = 0
        var floatRow = 0
        var floatBucket = 0
        for row in 0..<count {
            let index = Int(layout[row])
            let buckets = layouts[index].bucketCount
            var counts: [UInt64]
            let zeroCount: UInt64
            let total: UInt64
            if layouts[index].isFloat {
                counts = floatBuckets[floatBucket..<floatBucket + buckets].map(\.bitPattern)
                zeroCount = zeroFloats[floatRow].bitPattern
                total = countFloats[floatRow].bitPattern
                floatBucket += buckets
                floatRow += 1
            } else {
                counts = differences[wholeBucket..<wholeBucket + buckets].map { UInt64(bitPattern: $0) }
                before.setLayout(index, layouts[index])
                before.forEach { place, known in counts[place] = counts[place] &+ known }
                before.counts = counts
                zeroCount = UInt64(bitPattern: zeroCounts[wholeRow])
                total = counts.reduce(UInt64(bitPattern: surplus[wholeRow]) &+ zeroCount, &+)
                wholeBucket += buckets
                wholeRow += 1
            }
            columns.append(
                timeMillis: times[row], startMillis: starts[row], layout: names[index], reset: resets[row], count: total, zeroCount: zeroCount, sum: sums[row],
                buckets: counts)
        }
    }

    private static func differences(_ columns: HistogramColumns, _ rows: [Int]) -> [Int64] {
        var differences: [Int64] = []
        var before = CountsByBucket()
        for row in rows {
            let counts = columns.buckets[columns.bucketRange(row)]
            let start = differences.count
            for count in counts { differences.append(Int64(bitPattern: count)) }
            before.setLayout(Int(columns.layout[row]), columns.layout(ofRow: row))
            before.forEach { place, known in differences[start + place] = differences[start + place] &- Int64(bitPattern: known) }
            before.counts = Array(counts)
        }
        return differences
    }

    // MARK: Chunks

    /// Appends a run of rows with the layouts they have: `varint layouts · layout × n · rows`. It can be decoded, and copied, by itself.
    package static func appendChunk(_ columns: HistogramColumns, rows: Range<Int>, to output: inout [UInt8]) {
        var names = [Int64](repeating: -1, count: columns.layouts.count)
        var used: [Int] = []
        for row in rows where names[Int(columns.layout[row])] < 0 {
            names[Int(columns.layout[row])] = Int64(used.count)
            used.append(Int(columns.layout[row]))
        }
        output.appendVarint(UInt64(used.count))
        for layout in used { append(columns.layouts[layout], to: &output) }
        append(columns, rows: rows, layouts: names, to: &output)
    }

    /// Decodes a chunk and appends its rows.
    /// - Parameter count: of its rows.
    package static func decodeChunk(_ cursor: inout ByteCursor, count: Int, into columns: inout HistogramColumns) throws(ObsError) {
        var layouts: [HistogramLayout] = []
        for _ in 0..<(try cursor.count(max: min(cursor.remaining, count))) { layouts.append(try decodeLayout(&cursor)) }
        try decode(&cursor, count: count, layouts: layouts, into: &columns)
    }

    // MARK: Layouts

    package static func append(_ layout: HistogramLayout, to output: inout [UInt8]) {
        output.append(UInt8(bitPattern: layout.schema))
        output.append(layout.isFloat ? 1 : 0)
        output.appendLittleEndian(layout.zeroThresholdBits)
        for spans in [layout.positive, layout.negative] {
            output.appendVarint(UInt64(spans.count))
            for span in spans {
                output.appendZigzag(Int64(span.offset))
                output.appendVarint(UInt64(span.length))
            }
        }
        output.appendVarint(UInt64(layout.customBoundsBits.count))
        for bound in layout.customBoundsBits { output.appendLittleEndian(bound) }
    }

    package static func decodeLayout(_ cursor: inout ByteCursor) throws(ObsError) -> HistogramLayout {
        var layout = HistogramLayout()
        layout.schema = Int8(bitPattern: try cursor.u8())
        let kind = try cursor.u8()
        guard kind <= 1 else { throw ObsError(.corrupt, "unknown kind of histogram \(kind)") }
        layout.isFloat = kind == 1
        layout.zeroThresholdBits = try cursor.u64()
        var sides: [[BucketSpan]] = []
        var left = layoutBucketsMax
        for _ in 0..<2 {
            var spans: [BucketSpan] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                guard let offset = Int32(exactly: try cursor.zigzag()) else { throw ObsError(.corrupt, "bucket index out of range") }
                let length = try cursor.count(max: left)
                left -= length
                spans.append(BucketSpan(offset: offset, length: UInt32(length)))
            }
            sides.append(spans)
        }
        layout.setSpans(positive: sides[0], negative: sides[1])
        for _ in 0..<(try cursor.count(max: cursor.remaining / 8)) { layout.customBoundsBits.append(try cursor.u64()) }
        return layout
    }
}

/// Counts of the row before, to be found by the buckets of the next.
private struct CountsByBucket {
    var counts: [UInt64] = []
    private var layout = -1
    /// Of each count; ascending: positive buckets, then negative ones.
    private var keys: [Int64] = []
    /// Of the row at hand its place and of the row before its place, where both have a bucket; nil when they have the same.
    private var shared: [(place: Int, before: Int)]?

    /// Says what the row at hand has for buckets; `counts` are the row's before it still.
    mutating func setLayout(_ number: Int, _ layout: HistogramLayout) {
        guard number != self.layout else {
            shared = nil
            return
        }
        var next: [Int64] = []
        next.reserveCapacity(layout.bucketCount)
        layout.forEachBucket { isNegative, index in next.append(isNegative ? index &+ 1 << 40 : index) }
        var both: [(place: Int, before: Int)] = []
        var at = 0
        for (place, key) in next.enumerated() {
            while at < keys.count, keys[at] < key { at += 1 }
            if at < counts.count, at < keys.count, keys[at] == key { both.append((place, at)) }
        }
        shared = both
        keys = next
        self.layout = number
    }

    func forEach(_ body: (_ place: Int, _ count: UInt64) -> Void) {
        if let shared {
            for one in shared { body(one.place, counts[one.before]) }
        } else {
            for place in counts.indices { body(place, counts[place]) }
        }
    }
}
