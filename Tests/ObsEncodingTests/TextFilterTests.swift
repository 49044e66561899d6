import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

final class TextFilterTests: XCTestCase {
    private func filter(_ texts: [[UInt8]], _ content: TextColumn.Content, _ times: [Int64]) throws -> (filter: TextFilter, bytes: [UInt8]) {
        var bytes: [UInt8] = []
        _ = packed(texts, content, times, filter: &bytes)
        return (try TextFilter(bytes), bytes)
    }

    /// Whatever is in a row may be, however the needle is cut out of it.
    func testNeverNoWrongly() throws {
        for seed in 11...16 as ClosedRange<UInt64> {
            var samples = TextSamples(seed: seed)
            for (name, texts, content, times) in samples.all(400) where content == .lines {
                let filter = try filter(texts, content, times).filter
                for _ in 0..<2000 {
                    let text = samples.one(of: texts)
                    guard !text.isEmpty else { continue }
                    let from = samples.number(text.count)
                    let needle = Array(text[from..<min(text.count, from + 1 + samples.number(40))])
                    for ignoringCase in [false, true] {
                        let wanted = ignoringCase ? needle.map(lowerCased) : needle
                        guard !filter.mayContain(wanted, ignoringCase: ignoringCase) else { continue }
                        XCTFail(
                            "\(name): \(String(decoding: wanted, as: UTF8.self).debugDescription) is in \(String(decoding: text, as: UTF8.self).debugDescription)"
                        )
                    }
                }
            }
        }
    }

    func testValuesOfAttributes() throws {
        var samples = TextSamples(seed: 21)
        for texts in [samples.attributes(500), samples.mangled(samples.attributes(500))] {
            let filter = try filter(texts, .attributes, []).filter
            for text in texts.prefix(200) {
                for method in ["GET", "POST"] where naive(text, Array(method.utf8), ignoringCase: false) {
                    XCTAssertTrue(filter.mayContain(Array(method.utf8), ignoringCase: false))
                }
                for start in text.indices where text[start...].starts(with: Array("/users/".utf8)) {
                    let url = text[start...].prefix { $0 > 32 && $0 < 127 }.prefix(13)
                    XCTAssertTrue(filter.mayContain(Array(url), ignoringCase: false))
                }
            }
        }
        XCTAssertFalse(try filter(samples.attributes(500), .attributes, []).filter.mayContain(Array("absentvalue".utf8), ignoringCase: false))
    }

    func testSaysNo() throws {
        var samples = TextSamples(seed: 31)
        let texts = samples.json(4000)
        let (filter, bytes) = try filter(texts, .lines, TextSamples.times(4000))
        XCTAssertLessThan(bytes.count, 4000 * 9 / 4)
        for text in texts {
            for start in text.indices.dropLast(40) where text[start...].starts(with: Array("_id\":\"".utf8)) {
                let id = Array(text[(start + 6)...].prefix { $0 != UInt8(ascii: "\"") })
                for from in 0...id.count - 16 {
                    XCTAssertTrue(filter.mayContain(Array(id[from..<from + 16]), ignoringCase: false))
                    XCTAssertTrue(filter.mayContain(Array(id[from...]), ignoringCase: false))
                }
            }
        }
        for absent in ["absentword", "\"level\":\"fatal\"", "DataNode", "zebra"] {
            XCTAssertFalse(filter.mayContain(Array(absent.utf8), ignoringCase: false), absent)
        }
        var wrong = 0
        for _ in 0..<4000 where filter.mayContain(Array(samples.hex(8).utf8), ignoringCase: false) { wrong += 1 }
        print("of 4000 request ids that are not there, \(wrong) may be; \(Double(bytes.count) / 4000) bytes a line")
        XCTAssertLessThan(wrong, 300)
        wrong = 0
        for _ in 0..<4000 where filter.mayContain(Array(samples.hex(16).utf8), ignoringCase: false) { wrong += 1 }
        XCTAssertLessThan(wrong, 60)
    }

    func testOfNothing() throws {
        XCTAssertTrue(try TextFilter([]).mayContain(Array("anything".utf8), ignoringCase: false))
        let (filter, _) = try filter([], .lines, [])
        XCTAssertFalse(filter.mayContain(Array("anything".utf8), ignoringCase: false))
        XCTAssertTrue(filter.mayContain([], ignoringCase: false))
    }

    func testDamageThrows() throws {
        var samples = TextSamples(seed: 41)
        let (_, bytes) = try filter(samples.json(300), .lines, [])
        for count in 1..<bytes.count where count < 200 || count % 37 == 0 { XCTAssertThrowsError(try TextFilter(Array(bytes[..<count])), "\(count)") }
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0...samples.number(3) {
                damaged[samples.number(samples.number(2) == 0 ? 12 : damaged.count)] = UInt8(truncatingIfNeeded: samples.random.next())
            }
            _ = try? TextFilter(damaged).mayContain(Array("somethingelse1234".utf8), ignoringCase: false)
        }
    }

    // MARK: Fuse filters

    func testFuseFilters() throws {
        var random = SplitMix(state: 2)
        for count in [0, 1, 2, 3, 4, 5, 7, 10, 33, 100, 1000, 9999, 50_000] {
            let keys = (0..<count).map { _ in random.next() }
            var bytes: [UInt8] = []
            XCTAssertTrue(FuseFilter.append(keys + keys.prefix(10), to: &bytes))
            let filter = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> FuseFilter in
                let filter = try FuseFilter(&cursor)
                try cursor.expectEnd()
                return filter
            }
            XCTAssertTrue(keys.allSatisfy(filter.mayContain), "\(count)")
            let wrong = (0..<100_000).count { _ in filter.mayContain(random.next()) }
            XCTAssertLessThan(wrong, 600, "\(count)")
            if count >= 1000 { XCTAssertLessThan(Double(bytes.count) / Double(count), 1.5) }
        }
        // Keys that are near each other are no worse.
        var bytes: [UInt8] = []
        XCTAssertTrue(FuseFilter.append((0..<5000).map { UInt64($0) }, to: &bytes))
        XCTAssertFalse(FuseFilter.append((0...FuseFilter.keysMax).map { UInt64($0) }, to: &bytes))
    }
}
