import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsPromQL

final class FloatHistogramTests: XCTestCase {
    private func exponential(
        _ schema: Int8 = 0, zero: Double = 0, width: Double = 0, _ counts: [Double] = [], from offset: Int32 = 0, negative: [Double] = [], sum: Double = 0
    ) -> FloatHistogram {
        FloatHistogram(
            schema: schema, zeroThreshold: width, zeroCount: zero, count: zero + counts.reduce(0, +) + negative.reduce(0, +), sum: sum,
            positive: BucketCounts(offset: offset, counts: counts), negative: BucketCounts(offset: offset, counts: negative))
    }

    func testBounds() {
        XCTAssertEqual((-2...3).map { exponentialBound($0, 0) }, [0.25, 0.5, 1, 2, 4, 8])
        XCTAssertEqual((0...2).map { exponentialBound($0, -1) }, [1, 4, 16])
        XCTAssertEqual(exponentialBound(1, 1), 2.0.squareRoot(), accuracy: 1e-15)
        XCTAssertEqual(exponentialBound(4, 2), 2)
        for schema: Int8 in -4...8 {
            let last = schema < 0 ? Int32(1024) >> Int32(-schema) : Int32(1024) << Int32(schema)
            XCTAssertEqual(exponentialBound(last, schema), .greatestFiniteMagnitude, "the last bucket of numbers, schema \(schema)")
            XCTAssertEqual(exponentialBound(last + 1, schema), .infinity)
            XCTAssertEqual(exponentialBound(.min, schema), 0)
        }
    }

    func testBucketsAscendAndStopAtTheZeroBucket() {
        let histogram = exponential(0, zero: 3, width: 0.75, [1, 2], negative: [4])
        XCTAssertEqual(histogram.buckets.map(\.lower), [-1, -0.75, 0.75, 1])
        XCTAssertEqual(histogram.buckets.map(\.upper), [-0.75, 0.75, 1, 2])
        XCTAssertEqual(histogram.buckets.map(\.count), [4, 3, 1, 2])
        XCTAssertEqual("\(histogram)", "{count:10, sum:0, [-1,-0.5):4, [-0.75,0.75]:3, (0.5,1]:1, (1,2]:2}")
    }

    func testColumnsAndBack() {
        var columns = HistogramColumns()
        let rows = [
            exponential(3, zero: 1.5, width: 0.01, [1, 0, 2.5], from: -7, negative: [3], sum: -4),
            FloatHistogram(schema: -53, reset: .gauge, count: 3, sum: 2, positive: BucketCounts(indices: [0, 2], counts: [1, 2]), bounds: [1, 5]),
            exponential(0, [1]).multiplied(by: -1), FloatHistogram(),
        ]
        for (time, row) in rows.enumerated() { columns.append(row, timeMillis: Int64(time), startMillis: 7) }
        var decoder = HistogramDecoder(columns)
        for (index, row) in rows.enumerated() {
            XCTAssertEqual(decoder.histogram(index), row)
            XCTAssertEqual(decoder.histogram(index).reset, row.reset)
        }
        XCTAssertEqual(columns.startsMillis, [7, 7, 7, 7])
    }

    func testWholeCountsAreRead() {
        var columns = HistogramColumns()
        let layout = columns.intern(
            HistogramLayout(
                schema: 1, isFloat: false, zeroThreshold: 0.5, positive: [BucketSpan(offset: 2, length: 2)], negative: [BucketSpan(offset: -1, length: 1)]))
        columns.append(timeMillis: 0, layout: layout, count: 10, zeroCount: 1, sum: 4, buckets: [2, 3, 4] as [UInt64])
        var decoder = HistogramDecoder(columns)
        XCTAssertEqual(
            decoder.histogram(0),
            FloatHistogram(
                schema: 1, zeroThreshold: 0.5, zeroCount: 1, count: 10, sum: 4, positive: BucketCounts(indices: [2, 3], counts: [2, 3]),
                negative: BucketCounts(indices: [-1], counts: [4])))
    }

    /// Nothing like it is taken in; if it were there, it must not bring a query down.
    func testBucketsThatDoNotAscendAreNotRead() {
        var columns = HistogramColumns()
        let layout = columns.intern(
            HistogramLayout(
                schema: 0, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 5, length: 2), BucketSpan(offset: -9, length: 2)], negative: []))
        columns.append(timeMillis: 0, layout: layout, count: 4, zeroCount: 0, sum: 4, buckets: [1, 1, 1, 1] as [UInt64])
        var decoder = HistogramDecoder(columns)
        var sum = HistogramSum(decoder.histogram(0))
        XCTAssertNotNil(sum.add(exponential(0, [1, 2])))
        XCTAssertEqual(sum.total.positive.counts, [1, 2])
    }

    func testLowerSchemasJoinNeighbours() {
        var histogram = exponential(1, [1, 2, 3, 4], from: -1)
        histogram.reduce(toSchema: 0)
        XCTAssertEqual(histogram.positive, BucketCounts(indices: [0, 1], counts: [3, 7]))
        histogram.reduce(toSchema: 2)
        XCTAssertEqual(histogram.schema, 0, "finer ones cannot be had")
        histogram.reduce(toSchema: -4)
        XCTAssertEqual(histogram.positive, BucketCounts(indices: [0, 1], counts: [3, 7]))
    }

    func testZeroBucketsGrowToTheEndOfWhatTheyCut() {
        var narrow = exponential(0, zero: 1, width: 0.25, [5, 7], from: 0, negative: [2])
        let wide = exponential(0, zero: 2, width: 0.75)
        XCTAssertEqual(narrow.zeroThreshold(atLeast: 0.75), 1)
        XCTAssertNotNil(narrow.combine(wide, sign: 1))
        XCTAssertEqual(narrow.zeroThreshold, 1)
        XCTAssertEqual(narrow.zeroCount, 10)
        XCTAssertEqual(narrow.positive, BucketCounts(indices: [1], counts: [7]))
        XCTAssertTrue(narrow.negative.isEmpty)
        var never = exponential(0, zero: 1, width: .nan)
        XCTAssertNotNil(never.combine(wide, sign: 1), "must end")
    }

    func testWhatIsSaidOfResets() {
        func sum(_ a: CounterReset, _ b: CounterReset) -> (CounterReset, Bool) {
            var (first, second) = (exponential(), exponential())
            (first.reset, second.reset) = (a, b)
            let blend = first.combine(second, sign: 1)
            return (first.reset, blend?.resetsCollide ?? false)
        }
        XCTAssertTrue(sum(.noReset, .noReset) == (.noReset, false))
        XCTAssertTrue(sum(.noReset, .gauge) == (.gauge, false))
        XCTAssertTrue(sum(.gauge, .reset) == (.gauge, false))
        XCTAssertTrue(sum(.unknown, .reset) == (.unknown, false))
        XCTAssertTrue(sum(.noReset, .unknown) == (.unknown, false))
        XCTAssertTrue(sum(.noReset, .reset) == (.unknown, true))
    }

    func testResets() {
        let before = exponential(0, zero: 1, width: 0.5, [1, 2, 3])
        func isReset(_ now: FloatHistogram) -> Bool { now.isReset(after: before) }
        XCTAssertFalse(isReset(before))
        XCTAssertFalse(isReset(exponential(0, zero: 1, width: 0.5, [1, 2, 3, 1])))
        XCTAssertTrue(isReset(exponential(0, zero: 1, width: 0.5, [1, 2, 2, 5])), "one bucket fell")
        XCTAssertTrue(isReset(exponential(0, zero: 0, width: 0.5, [2, 2, 4])), "the zero bucket fell")
        XCTAssertTrue(isReset(exponential(1, zero: 9, width: 0.5, [9, 9, 9, 9])), "a finer schema")
        XCTAssertFalse(isReset(exponential(-1, zero: 1, width: 0.5, [1, 6])), "a coarser one may hold all")
        XCTAssertTrue(isReset(exponential(0, zero: 1, width: 0.25, [9, 9, 9])), "a narrower zero bucket")
        XCTAssertFalse(isReset(exponential(0, zero: 2, width: 1, [2, 3], from: 1)), "a wider one that took a bucket in")
        XCTAssertTrue(isReset(exponential(0, zero: 9, width: 0.75, [9, 9, 9])), "one that cuts a bucket")
        var told = exponential()
        told.reset = .noReset
        XCTAssertFalse(isReset(told))
    }

    /// Sums of random histograms equal sums of their counts by bucket of the coarsest schema.
    func testSumsOfAnyLayouts() {
        var random = SplitMix(state: 17)
        for _ in 0..<300 {
            let parts = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                exponential(
                    Int8.random(in: -2...3, using: &random), zero: 1,
                    (0..<Int.random(in: 0...9, using: &random)).map { _ in Double(Int.random(in: 0...5, using: &random)) },
                    from: Int32.random(in: -20...20, using: &random), sum: 1)
            }
            let coarsest = parts.map(\.schema).min() ?? 0
            var expected: [Int32: Double] = [:]
            for part in parts {
                for (index, count) in zip(part.positive.indices, part.positive.counts) {
                    expected[((index - 1) >> Int32(part.schema - coarsest)) + 1, default: 0] += count
                }
            }
            var plain = parts[0]
            var careful = HistogramSum(parts[0])
            for part in parts.dropFirst() {
                XCTAssertNotNil(plain.combine(part, sign: 1))
                XCTAssertNotNil(careful.add(part))
            }
            for sum in [plain, careful.total] {
                XCTAssertEqual(sum.schema, coarsest)
                XCTAssertEqual(sum.zeroCount, Double(parts.count))
                let found = Dictionary(uniqueKeysWithValues: zip(sum.positive.indices, sum.positive.counts))
                XCTAssertEqual(found.filter { $0.value != 0 }, expected.filter { $0.value != 0 })
                XCTAssertEqual(sum.positive.indices, sum.positive.indices.sorted())
            }
            for part in parts { plain.combine(part, sign: -1) }
            XCTAssertEqual(plain.compacted().positive, BucketCounts())
        }
    }

    func testSumsCarryTheirRounding() {
        var sum = HistogramSum(exponential(0, [1e100, 1]))
        for counts in [[1, 1e100], [-1e100, 1], [0, -1e100]] as [[Double]] { XCTAssertNotNil(sum.add(exponential(0, counts))) }
        XCTAssertEqual(sum.total.positive.counts, [1, 2])
        var mean = HistogramMean(exponential(0, [.greatestFiniteMagnitude]))
        XCTAssertNotNil(mean.add(exponential(0, [.greatestFiniteMagnitude])))
        XCTAssertEqual(mean.mean.positive.counts, [.greatestFiniteMagnitude], "a sum that overflows is none")
    }

    func testQuantilesAndFractionsUndoEachOther() {
        var random = SplitMix(state: 5)
        for _ in 0..<200 {
            let histogram = exponential(
                Int8.random(in: 0...4, using: &random), (0..<8).map { _ in Double(Int.random(in: 1...9, using: &random)) }, from: -3, sum: 1)
            let rank = Double.random(in: 0.01...0.99, using: &random)
            let value = histogram.quantile(rank).value
            XCTAssertEqual(histogram.fraction(from: -.infinity, to: value).value, rank, accuracy: 1e-9)
            let (above, below) = (histogram.trimmed(.above, at: value), histogram.trimmed(.below, at: value))
            XCTAssertEqual(above.count + below.count, histogram.count, accuracy: 1e-9)
            XCTAssertEqual(above.count / histogram.count, rank, accuracy: 1e-9)
        }
    }

    func testNumbersInTexts() {
        let cases: [(Double, String)] = [
            (0, "0"), (1, "1"), (-2.5, "-2.5"), (100_000, "100000"), (1_000_000, "1e+06"), (1_234_567, "1.234567e+06"), (0.0001, "0.0001"),
            (0.00001, "1e-05"), (.infinity, "+Inf"), (.nan, "NaN"),
        ]
        for (value, text) in cases { XCTAssertEqual(formatGeneral(value), text) }
        let rounded: [(Double, String)] = [(1, "1"), (10, "10"), (99.6, "1e+02"), (0.126, "0.13"), (3.14159, "3.1"), (1e9, "1e+09")]
        for (value, text) in rounded { XCTAssertEqual(formatGeneral(value, digits: 2), text) }
    }
}
