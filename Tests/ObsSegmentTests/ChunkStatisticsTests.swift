import ObsCore
import ObsDisk
import ObsStore
import XCTest

@testable import ObsEncoding
@testable import ObsSegment

final class ChunkStatisticsTests: XCTestCase {
    private func times(_ count: Int) -> [Int64] { (0..<count).map { Int64($0) * 15_000 + 1_700_000_000_000 } }

    private func made(_ times: [Int64], _ values: [Double]) -> SampleSummary {
        times.withUnsafeBufferPointer { times in values.withUnsafeBufferPointer { ChunkStatistics.make(times, $0) } }
    }

    private func chunk(_ times: [Int64]) -> Chunk {
        Chunk(
            minTime: times[0], maxTime: times[times.count - 1], samples: times.count, times: ColumnPlace(block: 0, index: 0),
            values: ColumnPlace(block: 0, index: 0))
    }

    /// Encodes columns of samples as one page.
    private func page(_ columns: [(times: [Int64], values: [Double])]) throws -> (bytes: Int, summaries: [SampleSummary]) {
        var bytes: [UInt8] = []
        let chunks = columns.map { chunk($0.times) }
        ChunkStatistics.append(chunks, columns.map { made($0.times, $0.values) }, to: &bytes)
        let summaries = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [SampleSummary] in
            let summaries = try ChunkStatistics.decode(&cursor, chunks)
            try cursor.expectEnd()
            return summaries
        }
        // A merge writes them again.
        var again: [UInt8] = []
        ChunkStatistics.append(chunks, summaries, to: &again)
        XCTAssertEqual(again, bytes)
        return (bytes.count, summaries)
    }

    func testWhatIsKnown() throws {
        let ramp = (0..<50).map { Double($0) }
        let gauge = (0..<50).map { Double($0 * 37 % 11) / 10 }
        let table: [(String, [Double], SummaryParts, count: Int)] = [
            ("constant", [Double](repeating: 0.1, count: 50), .all, 50), ("minus zero", [Double](repeating: -0.0, count: 50), .all, 50),
            ("counter", ramp, .all, 50),
            ("two resets", ramp + ramp + ramp, .all, 150), ("gauge", gauge, .values, 50), ("true doubles", ramp.map { 1 / ($0 + 3) }, .values, 50),
            ("one reset of doubles", ramp.map { ($0 + 1) / 3 } + [0.1], .all, 51), ("stale at the end", ramp + [SpecialValue.stale], .all, 50),
            ("stale at both ends", [SpecialValue.stale] + ramp + [SpecialValue.stale], .all, 50), ("few", [1, 2, 3], [], 3), ("one", [7], [], 1),
            ("few and stale", [1, SpecialValue.stale], [], 0), ("NaN", ramp + [.nan], [], 51), ("infinity", ramp + [.infinity], [], 51),
            ("overflow", [Double](repeating: 1e308, count: 20), [], 20), ("all stale", [Double](repeating: SpecialValue.stale, count: 20), [], 0),
            ("huge integers", ramp.map { 9e15 + $0 * 1e10 }, .all, 50), ("15 digits", ramp.map { 123_456_789.012345 + $0 / 1000 }, .all, 50),
            ("denormals", ramp.map { $0 * 5e-324 }, .all, 50),
        ]
        for (name, values, known, count) in table {
            let found = try page([(times(values.count), values)]).summaries[0]
            XCTAssertEqual(found.known, known, name)
            XCTAssertEqual(found.count, count, name)
            guard known.contains(.values) else { continue }
            let expected = made(times(values.count), values)
            XCTAssertEqual(
                [found.first, found.last, found.smallest, found.greatest], [expected.first, expected.last, expected.smallest, expected.greatest], name)
            XCTAssertEqual(found.total, expected.total, name)
            XCTAssertEqual(found.resets, known.contains(.resets) ? expected.resets : 0, name)
            XCTAssertEqual(found.resetDrop, known.contains(.resets) ? expected.resetDrop : 0, name)
            XCTAssertEqual([found.firstMillis, found.lastMillis], [expected.firstMillis, expected.lastMillis], name)
            XCTAssertEqual([found.staleCount, found.endsStale ? 1 : 0], [expected.staleCount, expected.endsStale ? 1 : 0], name)
        }
        let all = table.map { (times($0.1.count), $0.1) }
        let together = try page(all).summaries
        for (column, found) in zip(all, together) { XCTAssertEqual(found, try page([column]).summaries[0], "alone or in a page") }
    }

    func testArbitraryBits() throws {
        var random = Random(5)
        for _ in 0..<200 {
            let columns = (0..<1 + random.below(20)).map { _ in
                let mask = random.next() | random.next()
                let base = random.next()
                let values = (0..<1 + random.below(60)).map { _ in
                    random.below(40) == 0 ? SpecialValue.stale : Double(bitPattern: base & mask | random.next() & ~mask)
                }
                return (times: times(values.count), values: values)
            }
            for (column, found) in zip(columns, try page(columns).summaries) {
                let expected = made(column.times, column.values)
                XCTAssertEqual(found.known, expected.known.contains(.values) ? expected.known : [])
                XCTAssertEqual(found.count, expected.count)
                guard found.known.contains(.values) else { continue }
                XCTAssertEqual([found.first, found.last].map(\.bitPattern), [expected.first, expected.last].map(\.bitPattern))
                XCTAssertEqual([found.smallest, found.greatest], [expected.smallest, expected.greatest])
                XCTAssertEqual(found.total, expected.total)
            }
        }
    }

    /// A sum is the same double in whatever pieces it was made.
    func testSumsDoNotDependOnPieces() throws {
        var random = Random(11)
        for round in 0..<100 {
            let values = (0..<1500).map { _ in round % 2 == 0 ? Double(random.below(2_000_000)) / 1000 : Double(random.next() >> 11) * 0x1p-53 - 0.3 }
            let times = times(values.count)
            var whole = SampleSummary()
            whole.append(timesMillis: times, values: values)
            var pieces = SampleSummary()
            var start = 0
            while start < values.count {
                let end = min(values.count, start + 1 + random.below(300))
                let (pieceTimes, pieceValues) = (Array(times[start..<end]), Array(values[start..<end]))
                let stored = try page([(pieceTimes, pieceValues)]).summaries[0]
                if stored.known.contains(.values) { pieces.append(stored) } else { pieces.append(timesMillis: pieceTimes, values: pieceValues) }
                start = end
            }
            XCTAssertEqual(pieces.total, whole.total)
            XCTAssertEqual(pieces.count, whole.count)
            XCTAssertEqual([pieces.smallest, pieces.greatest], [whole.smallest, whole.greatest])
        }
    }

    /// Statistics of a hundred samples cost a few bytes, less once the frame is compressed.
    func testSize() throws {
        var random = Random(3)
        let columns = (0..<1024).map { series -> (times: [Int64], values: [Double]) in
            var value = Double(random.below(1000))
            return (
                times(100),
                (0..<100).map { _ in
                    switch series / 256 {
                    case 0: break
                    case 1: value += Double(random.below(10))
                    case 2: value = Double(random.below(100)) / 10
                    default: value += Double(random.below(1000)) / 100
                    }
                    return (value * 100).rounded() / 100
                }
            )
        }
        let bytes = try page(columns).bytes
        XCTAssertLessThan(bytes, 1024 * 16, "\(bytes)")
        let packed = try SegmentSizes.packed(columns.map { chunk($0.times) }, columns.map { made($0.times, $0.values) })
        XCTAssertLessThan(packed, 1024 * 8, "\(packed)")
    }

    func testDamageIsRefusedOrRead() throws {
        var bytes: [UInt8] = []
        let columns = (0..<20).map { number -> ([Int64], [Double]) in
            let values = (0..<40).map { index -> Double in
                switch number % 3 {
                case 0: return Double(number)
                case 1: return Double(index * number) / 10
                default: return index == 20 ? SpecialValue.stale : Double(index % 20)
                }
            }
            return (times(40), values)
        }
        let chunks = columns.map { chunk($0.0) }
        ChunkStatistics.append(chunks, columns.map { made($0.0, $0.1) }, to: &bytes)
        var random = Random(17)
        for _ in 0..<20_000 {
            var damaged = bytes
            for _ in 0..<1 + random.below(3) { damaged[random.below(damaged.count)] = UInt8(random.below(256)) }
            if random.below(4) == 0 { damaged.removeLast(random.below(damaged.count)) }
            _ = try? decoding(damaged) { (cursor: inout ByteCursor) throws(ObsError) in try ChunkStatistics.decode(&cursor, chunks) }
        }
    }
}

private enum SegmentSizes {
    /// Bytes of a statistics page in its frame.
    static func packed(_ chunks: [Chunk], _ summaries: [SampleSummary]) throws -> Int {
        var bytes: [UInt8] = []
        ChunkStatistics.append(chunks, summaries, to: &bytes)
        var frame: [UInt8] = []
        try Frame.append(bytes, level: 3, to: &frame)
        return frame.count
    }
}
