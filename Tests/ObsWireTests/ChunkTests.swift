import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsWire

final class ChunkTests: XCTestCase {
    private func check(_ times: [Int64], _ values: [Double], line: UInt = #line) {
        var reader = ChunkReader(XORChunk.encode(times: times[...], values: values[...]))
        let read = reader.samples()
        XCTAssertEqual(read.times, times, line: line)
        XCTAssertEqual(read.values.map(\.bitPattern), values.map(\.bitPattern), line: line)
    }

    /// The bytes Prometheus' own appender makes of these samples.
    func testKnownBytes() {
        XCTAssertEqual(XORChunk.encode(times: [], values: []), [0, 0])
        // Zigzag of 1000 is 2000.
        XCTAssertEqual(XORChunk.encode(times: [1000], values: [1]), [0, 1, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0])
        // Then a difference of 15, no change of value (one bit), no change of difference, no change of value.
        XCTAssertEqual(XORChunk.encode(times: [1000, 1015, 1030], values: [1, 1, 1]), [0, 3, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 15, 0])
    }

    func testSamplesComeBack() {
        check([1_700_000_000_123], [.nan])
        check([-5, -1, 7], [0, -0.0, 1])
        check([0, 15_000, 30_000, 45_001, 59_999, 1_000_000, 100_000_000_000], [1, 2, 2.5, -2.5, .infinity, SpecialValue.stale, 1e-300])
        // At the borders of the widths of changes.
        for change in [8191, 8192, 8193, 65_535, 65_536, 65_537, 524_287, 524_288, 524_289, 1 << 40] as [Int64] {
            check([0, 1_000_000, 2_000_000 + change, 3_000_000 + change * 3], [1, 1, 1, 1])
            check([0, 1 << 50, 1 << 51 - change, 1 << 52], [1, 2, 3, 4])
        }
        var random = SplitMix(state: 7)
        var times: [Int64] = [1_700_000_000_000]
        var values: [Double] = [3]
        for _ in 1..<120 {
            times.append(times[times.count - 1] + 15_000 + Int64(random.next() % 40) - 20)
            values.append(random.next() % 3 == 0 ? Double(bitPattern: random.next()) : values[values.count - 1] + 1)
        }
        check(times, values)
    }

    private func layout(isFloat: Bool) -> HistogramLayout {
        HistogramLayout(
            schema: 3, isFloat: isFloat, zeroThreshold: 0x1p-128, positive: [BucketSpan(offset: -3, length: 2), BucketSpan(offset: 4, length: 1)],
            negative: [BucketSpan(offset: 0, length: 2)])
    }

    private func read(_ cutter: ChunkCutter) -> (samples: [Int64], histograms: HistogramColumns, chunks: Int) {
        var cutter = cutter
        var samples: [Int64] = []
        var rows = HistogramColumns()
        var chunks = 0
        var last = Int64.min
        while let chunk = cutter.next() {
            XCTAssertGreaterThanOrEqual(chunk.minTime, last)
            last = chunk.minTime
            chunks += 1
            var reader = ChunkReader(chunk.data)
            if chunk.encoding == 1 {
                samples += reader.samples().times
            } else {
                let found = reader.histograms(isFloat: chunk.encoding == 3)
                XCTAssertEqual(found.timesMillis.first, chunk.minTime)
                XCTAssertEqual(found.timesMillis.last, chunk.maxTime)
                rows.append(found, rows: 0..<found.count)
            }
        }
        return (samples, rows, chunks)
    }

    func testHistogramsComeBack() {
        var rows = HistogramColumns()
        let integers = rows.intern(layout(isFloat: false))
        let floats = rows.intern(layout(isFloat: true))
        let custom = rows.intern(
            HistogramLayout(
                schema: HistogramLayout.customSchema, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 1, length: 2)], negative: [],
                customBounds: [0.005, 1, 2.5, 1e9, .pi * 1e7]))
        let odd = rows.intern(
            HistogramLayout(schema: -4, isFloat: false, zeroThreshold: 0.001, positive: [BucketSpan(offset: 100_000, length: 1)], negative: []))
        func bits(_ values: [Double]) -> [UInt64] { values.map(\.bitPattern) }
        rows.append(timeMillis: 1000, layout: integers, reset: .unknown, count: 21, zeroCount: 1, sum: 5.5, buckets: [1, 2, 3, 4, 10])
        rows.append(timeMillis: 16_000, layout: integers, reset: .noReset, count: 26, zeroCount: 2, sum: 6.5, buckets: [1, 4, 3, 4, 12])
        rows.append(timeMillis: 31_001, layout: integers, reset: .noReset, count: 1_000_031, zeroCount: 2, sum: 1e9, buckets: [5, 4, 3, 1_000_004, 13])
        // Counted anew.
        rows.append(timeMillis: 46_000, layout: integers, reset: .unknown, count: 1, zeroCount: 0, sum: 0.5, buckets: [0, 0, 0, 0, 1])
        rows.append(timeMillis: 61_000, layout: custom, reset: .unknown, count: 3, zeroCount: 0, sum: 3, buckets: [1, 2])
        rows.append(timeMillis: 76_000, layout: odd, reset: .gauge, count: 7, zeroCount: 0, sum: -3, buckets: [7])
        rows.append(timeMillis: 91_000, layout: odd, reset: .gauge, count: 4, zeroCount: 0, sum: .nan, buckets: [4])
        rows.append(
            timeMillis: 106_000, layout: floats, reset: .unknown, count: 6.5.bitPattern, zeroCount: 0, sum: 1, buckets: bits([0.5, 1, 2, 3, 0]))
        rows.append(
            timeMillis: 121_000, layout: floats, reset: .noReset, count: 8.25.bitPattern, zeroCount: 0.25.bitPattern, sum: 2,
            buckets: bits([0.5, 1, 2.5, 3, 1]))
        let read = read(ChunkCutter(times: [], values: [], histograms: rows))
        XCTAssertEqual(read.chunks, 5)
        XCTAssertEqual(read.histograms, rows)
    }

    func testAStaleMarkerHasNoBuckets() {
        var rows = HistogramColumns()
        let layout = rows.intern(layout(isFloat: false))
        rows.append(timeMillis: 1, layout: layout, count: 1, zeroCount: 0, sum: 1, buckets: [1, 0, 0, 0, 0])
        rows.append(timeMillis: 2, layout: layout, count: 0, zeroCount: 0, sum: SpecialValue.stale, buckets: [0, 0, 0, 0, 0])
        rows.append(timeMillis: 3, layout: layout, count: 2, zeroCount: 0, sum: 1, buckets: [2, 0, 0, 0, 0])
        let read = read(ChunkCutter(times: [], values: [], histograms: rows))
        XCTAssertEqual(read.chunks, 3)
        XCTAssertEqual(read.histograms.timesMillis, [1, 2, 3])
        XCTAssertTrue(read.histograms.isStale(1))
        XCTAssertEqual(read.histograms.layout(ofRow: 1).bucketCount, 0)
    }

    func testSamplesAndHistogramsAreCutWhereTheyMeet() {
        var rows = HistogramColumns()
        let layout = rows.intern(HistogramLayout())
        for time in [100, 200, 300, 900] as [Int64] { rows.append(timeMillis: time, layout: layout, count: 1, zeroCount: 1, sum: 0, buckets: []) }
        let times: [Int64] = [1, 2, 250, 400, 500]
        let read = read(ChunkCutter(times: times, values: times.map(Double.init), histograms: rows))
        XCTAssertEqual(read.samples, times)
        XCTAssertEqual(read.histograms.timesMillis, [100, 200, 300, 900])
        XCTAssertEqual(read.chunks, 6)
        let many = (0..<250).map(Int64.init)
        XCTAssertEqual(self.read(ChunkCutter(times: many, values: many.map(Double.init), histograms: nil)).chunks, 3)
    }
}
