import ObsCore
import ObsEncoding
import XCTest

final class RoaringCodecTests: XCTestCase {
    private func encoded(_ values: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        XCTAssertTrue(values.withUnsafeBufferPointer { RoaringCodec.append($0, bytesMax: 1 << 20, to: &bytes) })
        return bytes
    }

    private func decoded(_ bytes: [UInt8], count: Int) throws -> [UInt32] {
        var words = [UInt64](repeating: 0, count: (count + 63) / 64)
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in
            try RoaringCodec.insert(&cursor, into: &words, count: count)
            try cursor.expectEnd()
        }
        return (0..<UInt32(count)).filter { words[Int($0 >> 6)] >> UInt64($0 & 63) & 1 == 1 }
    }

    /// Arrays, bitmaps and runs, few containers and many, at the edges of each.
    private let sets: [[UInt32]] = [
        [0], [65_535], [65_536], [0, 65_535, 65_536, 131_071, 131_072], Array(0..<1), Array(0..<100_000), Array(65_530..<65_545),
        Array(stride(from: 0, to: 60_000, by: 7)), Array(stride(from: 1, to: 300_000, by: 3)), (0..<300_000).filter { $0 / 1000 % 3 != 1 },
        (0..<4096).map { $0 * 2 }, (0..<4097).map { $0 * 2 }, Array(0..<10) + (0..<9000).map { 70_000 + $0 * 2 } + Array(200_000..<260_000) + [299_999],
        Array(stride(from: 0, to: 300_000, by: 50_000)),
    ]

    func testRoundtrip() throws {
        for values in sets {
            let count = Int(values.last ?? 0) + 1
            XCTAssertEqual(try decoded(encoded(values), count: count), values)
            XCTAssertEqual(try decoded(encoded(values), count: count + 100_000), values)
            if count > 1 { XCTAssertThrowsError(try decoded(encoded(values), count: count - 1), "past the bound") }
        }
    }

    /// The example of the specification's own words: 12347, one container less one, its run flag, key and count less one, then runs.
    func testBytesAreThoseOfTheSpecification() throws {
        XCTAssertEqual(encoded(Array(10...29)), [0x3b, 0x30, 0, 0, 1, 0, 0, 19, 0, 1, 0, 10, 0, 19, 0])
        XCTAssertEqual(encoded([1, 9, 65_541]), [0x3a, 0x30, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 24, 0, 0, 0, 28, 0, 0, 0, 1, 0, 9, 0, 5, 0])
    }

    func testNoRoom() {
        for room in [-5, 0, 14] {
            var bytes: [UInt8] = [7]
            XCTAssertFalse(Array(10...29).withUnsafeBufferPointer { RoaringCodec.append($0, bytesMax: room, to: &bytes) })
            XCTAssertEqual(bytes, [7])
        }
    }

    func testForged() {
        let cases: [(String, [UInt8])] = [
            ("nothing", []), ("another cookie", [0x3c, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
            ("a run that leaves its container", [0x3b, 0x30, 0, 0, 1, 0, 0, 0xff, 0xff, 1, 0, 0x60, 0xea, 0xff, 0xff]),
            ("runs that overlap", [0x3b, 0x30, 0, 0, 1, 0, 0, 5, 0, 2, 0, 1, 0, 2, 0, 2, 0, 2, 0]),
            ("fewer than said", [0x3b, 0x30, 0, 0, 1, 0, 0, 20, 0, 1, 0, 10, 0, 19, 0]),
            ("array out of order", [0x3a, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 16, 0, 0, 0, 9, 0, 9, 0]),
            ("containers out of order", [0x3a, 0x30, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 24, 0, 0, 0, 26, 0, 0, 0, 1, 0, 5, 0]),
            ("four thousand million containers", [0x3a, 0x30, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            ("a bitmap that is short", [0x3a, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 16, 0, 0, 0, 1, 2, 3]),
        ]
        for (name, bytes) in cases {
            XCTAssertThrowsError(try decoded(bytes, count: 200_000), name) { XCTAssertEqual(($0 as? ObsError)?.code, .corrupt, name) }
        }
    }

    /// Cut and flipped bytes are refused or are another set within the bound.
    func testMutationsNeverLeaveTheBound() {
        var state: UInt64 = 5
        func below(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        for values in sets {
            let good = encoded(values)
            let count = Int(values.last ?? 0) + 1
            for length in Set((0..<40).map { min($0, good.count - 1) } + [good.count - 1]) {
                XCTAssertThrowsError(try decoded(Array(good.prefix(length)), count: count))
            }
            for _ in 0..<30 {
                var bad = good
                for _ in 0...below(3) { bad[below(min(bad.count, 64))] ^= UInt8(1 << below(8)) }
                _ = try? decoded(bad, count: count)
            }
        }
    }
}
