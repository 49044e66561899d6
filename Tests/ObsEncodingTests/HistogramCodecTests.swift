import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

final class HistogramCodecTests: XCTestCase {
    private func encode(_ columns: HistogramColumns) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendVarint(UInt64(columns.layouts.count))
        for layout in columns.layouts { HistogramCodec.append(layout, to: &bytes) }
        for run in HistogramCodec.runs(columns) {
            bytes.appendVarint(UInt64(run.count))
            HistogramCodec.append(columns, rows: run, layouts: columns.layouts.indices.map(Int64.init), to: &bytes)
        }
        return bytes
    }

    private func decode(_ bytes: [UInt8]) throws -> HistogramColumns {
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> HistogramColumns in
            var layouts: [HistogramLayout] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) { layouts.append(try HistogramCodec.decodeLayout(&cursor)) }
            var columns = HistogramColumns()
            while !cursor.isAtEnd {
                let rows = try cursor.count(max: HistogramCodec.rowsMax)
                try HistogramCodec.decode(&cursor, count: rows, layouts: layouts, into: &columns)
            }
            return columns
        }
    }

    /// Any histograms at all, of the right number of counts: what is stored need make no sense.
    private func random(_ random: inout SplitMix, rows: Int) -> HistogramColumns {
        let doubles = [0, -0.0, 1.5, .infinity, SpecialValue.stale, SpecialValue.normalNaN, 5e-324]
        func spans() -> [BucketSpan] {
            (0..<Int.random(in: 0...3, using: &random)).map { at in
                BucketSpan(
                    offset: at == 0 ? [.min, -3, 0, 9, .max].randomElement(using: &random) ?? 0 : .random(in: 0...3, using: &random),
                    length: .random(in: 0...5, using: &random))
            }
        }
        var columns = HistogramColumns()
        var layouts: [UInt32] = []
        for _ in 0..<5 {
            layouts.append(
                columns.intern(
                    HistogramLayout(
                        schema: [-53, -4, 0, 8].randomElement(using: &random) ?? 0, isFloat: .random(using: &random),
                        zeroThreshold: doubles.randomElement(using: &random) ?? 0, positive: spans(), negative: spans(),
                        customBounds: Array(doubles.prefix(.random(in: 0...3, using: &random))))))
        }
        for row in 0..<rows {
            let layout = layouts.randomElement(using: &random) ?? 0
            let isWild = Bool.random(using: &random)
            func number() -> UInt64 { isWild ? .random(in: 0 ... .max, using: &random) : .random(in: 0...9, using: &random) }
            columns.append(
                timeMillis: isWild ? Int64(bitPattern: number()) : Int64(row), startMillis: Int64(bitPattern: number()), layout: layout,
                reset: CounterReset(rawValue: .random(in: 0...3, using: &random)) ?? .unknown, count: number(), zeroCount: number(),
                sum: doubles.randomElement(using: &random) ?? 0, buckets: (0..<columns.layouts[Int(layout)].bucketCount).map { _ in number() })
        }
        return columns
    }

    func testEveryBitComesBack() throws {
        var seed = SplitMix(state: 5)
        for rows in [0, 1, 2, 7, 100, 1500] {
            for _ in 0..<20 {
                let columns = random(&seed, rows: rows)
                XCTAssertEqual(try decode(encode(columns)), columns)
            }
        }
    }

    func testOneFormOfSpans() {
        func spans(_ list: [(Int32, UInt32)]) -> [BucketSpan] { list.map { BucketSpan(offset: $0.0, length: $0.1) } }
        let plain = HistogramLayout(schema: 3, isFloat: false, zeroThreshold: 0, positive: spans([(-2, 3), (2, 1)]), negative: [])
        let spelled = HistogramLayout(schema: 3, isFloat: false, zeroThreshold: 0, positive: spans([(-4, 0), (2, 1), (0, 2), (1, 0), (1, 1)]), negative: [])
        XCTAssertEqual(plain, spelled)
        XCTAssertEqual(plain.bucketCount, 4)
        var indices: [Int64] = []
        plain.forEachBucket { indices.append($1) }
        XCTAssertEqual(indices, [-2, -1, 0, 3])
    }

    /// A latency histogram scraped for four hours: what a sample of 40 buckets costs once compressed.
    func testSizeOfASteadySeries() throws {
        var random = SplitMix(state: 3)
        var columns = HistogramColumns()
        var counts = [UInt64](repeating: 0, count: 40)
        var sum = 0.0
        for row in 0..<960 {
            for _ in 0..<30 {
                let bucket = min(39, (0..<6).reduce(0) { total, _ in total + Int.random(in: 0...6, using: &random) })
                counts[bucket] += 1
                sum += 0.001 * Double(bucket)
            }
            let first = counts.firstIndex { $0 > 0 } ?? 0
            let last = counts.lastIndex { $0 > 0 } ?? 0
            let layout = columns.intern(
                HistogramLayout(
                    schema: 2, isFloat: false, zeroThreshold: 1e-128, positive: [BucketSpan(offset: Int32(first), length: UInt32(last - first + 1))],
                    negative: []))
            columns.append(
                timeMillis: 1_700_000_000_000 + Int64(row) * 15_000, startMillis: 1_699_999_000_000, layout: layout, count: counts.reduce(0, +), zeroCount: 0,
                sum: sum, buckets: Array(counts[first...last]))
        }
        let bytes = encode(columns)
        XCTAssertEqual(try decode(bytes), columns)
        var frame: [UInt8] = []
        _ = try Frame.append(bytes, level: 3, to: &frame)
        XCTAssertLessThan(frame.count, 960 * 24, "a sample of 40 buckets takes \(frame.count / 960) bytes")
    }

    func testMutationsDoNotCrash() {
        var seed = SplitMix(state: 9)
        let bytes = encode(random(&seed, rows: 30))
        for _ in 0..<3000 {
            var damaged = bytes
            damaged[Int.random(in: 0..<damaged.count, using: &seed)] = .random(in: 0...255, using: &seed)
            if Bool.random(using: &seed) { damaged.removeLast(Int.random(in: 0..<damaged.count, using: &seed)) }
            _ = try? decode(damaged)
        }
    }

    func testFaults() {
        func fault(_ layout: HistogramLayout, count: UInt64 = 0, zero: UInt64 = 0, sum: Double = 0, _ buckets: [UInt64]) -> String? {
            var columns = HistogramColumns()
            columns.append(timeMillis: 1, layout: columns.intern(layout), count: count, zeroCount: zero, sum: sum, buckets: buckets)
            return columns.fault(ofRow: 0)
        }
        func layout(_ schema: Int8, _ positive: [(Int32, UInt32)], isFloat: Bool = false, negative: [(Int32, UInt32)] = [], bounds: [Double] = [])
            -> HistogramLayout
        {
            HistogramLayout(
                schema: schema, isFloat: isFloat, zeroThreshold: 0, positive: positive.map { BucketSpan(offset: $0.0, length: $0.1) },
                negative: negative.map { BucketSpan(offset: $0.0, length: $0.1) }, customBounds: bounds)
        }
        XCTAssertNil(fault(layout(0, [(-3, 2)]), count: 6, zero: 1, [2, 3]))
        XCTAssertNil(fault(layout(0, [(0, 1)]), count: 5, sum: .nan, [2]), "observations of NaN are in no bucket")
        XCTAssertNil(fault(layout(-53, [(0, 2)], bounds: [1]), count: 5, [2, 3]), "the last bucket has no bound")
        XCTAssertNil(fault(layout(0, [], isFloat: true), sum: SpecialValue.stale, []))
        XCTAssertNil(fault(layout(0, [(0, 1)], isFloat: true), count: (0.5).bitPattern, [(0.5).bitPattern]))
        XCTAssertNotNil(fault(layout(0, [(0, 1)]), count: 5, [2]))
        XCTAssertNotNil(fault(layout(0, [(0, 1)]), count: .max, [.max]))
        XCTAssertNotNil(fault(layout(0, [(0, 1)], isFloat: true), count: (1.0).bitPattern, [(-1.0).bitPattern]))
        XCTAssertNotNil(fault(layout(0, [(0, 1), (-1, 1)]), count: 4, [2, 2]))
        XCTAssertNotNil(fault(layout(9, []), []))
        XCTAssertNotNil(fault(layout(-5, []), []))
        XCTAssertNotNil(fault(layout(0, [], bounds: [1]), []))
        XCTAssertNotNil(fault(layout(-53, [(0, 3)], bounds: [1]), count: 3, [1, 1, 1]))
        XCTAssertNotNil(fault(layout(-53, [(-1, 1)], bounds: [1]), count: 1, [1]))
        XCTAssertNotNil(fault(layout(-53, [], negative: [(0, 1)], bounds: [1]), count: 1, [1]))
        XCTAssertNotNil(fault(layout(-53, [], bounds: [2, 1]), []))
        XCTAssertNotNil(fault(layout(-53, [], bounds: [1]), count: 1, zero: 1, []))
    }
}
