import ObsCore
import ObsTestSupport
import XCTest

@testable import ObsEncoding

final class TextColumnTests: XCTestCase {
    /// Packs, unpacks, compares; gives the bytes packed.
    @discardableResult
    private func roundTrip(
        _ texts: [[UInt8]], as content: TextColumn.Content = .lines, times: [Int64] = [], file: StaticString = #filePath, line: UInt = #line
    ) throws -> [UInt8] {
        var bytes: [UInt8] = []
        let ranges = texts.map { text in text.withUnsafeBytes { bytes.intern($0) } }
        var packed: [UInt8] = []
        bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: 1, to: &packed) }
        let back = try decode(packed, texts.count, times)
        XCTAssertEqual(back.count, texts.count, file: file, line: line)
        for (text, got) in zip(texts, back) where text != got {
            XCTFail("\(String(decoding: text, as: UTF8.self)) came back as \(String(decoding: got, as: UTF8.self))", file: file, line: line)
        }
        return packed
    }

    @discardableResult
    private func roundTrip(_ texts: [String], times: [Int64] = [], file: StaticString = #filePath, line: UInt = #line) throws -> [UInt8] {
        try roundTrip(texts.map { Array($0.utf8) }, times: times, file: file, line: line)
    }

    private func decode(_ packed: [UInt8], _ count: Int, _ times: [Int64], bytesMax: Int = 64 << 20) throws -> [[UInt8]] {
        var bytes = Array("before".utf8)
        let ranges = try packed.withUnsafeBytes { try TextColumn.decode($0, count: count, times: times, bytesMax: bytesMax, into: &bytes) }
        return ranges.map { Array(bytes[$0.range]) }
    }

    func testNothingAndLittle() throws {
        try roundTrip([String]())
        try roundTrip([""])
        try roundTrip(["", "", ""])
        try roundTrip(["", "a", ""])
        try roundTrip(["{}", "{", "}", "\"", "{\"}", "{\"a\":}", "{\"a\":\"}", "{\"a\\\"}"])
    }

    /// Each of these prints otherwise than it is written, were it taken for a number.
    func testWhatLooksLikeANumber() throws {
        let odd = [
            "0", "-0", "00", "007", "-1", "+1", "1e3", "1.", ".5", "0.5", "-0.5", "-0.0", "0.0", "1.50", "1.05", "12345678901234567890", "999999999999999999",
            "-999999999999999999", "9223372036854775807", "9223372036854775808", "9999999999999999999", "18446744073709551615", "18446744073709551616",
            "99999999999999999999", "0999999999999999999", "1234567.", "12345678", "123456789", "1234567a", "-9223372036854775808", "1.2.3", "--1", "-", ".",
            "1-1", "0x1f", "deadbeef", "DEADBEEF", "DeadBeef",
            "",
        ]
        for first in odd {
            for second in odd { try roundTrip([first, second, first, "7", second]) }
            try roundTrip([String](repeating: first, count: 3) + ["x"])
        }
        try roundTrip(odd)
    }

    func testNumbersTakeFewBytes() throws {
        var random = SplitMix(state: 5)
        func bytesEach(_ make: (Int) -> String) throws -> Double { Double(try roundTrip((0..<4096).map(make)).count) / 4096 }
        XCTAssertLessThan(try bytesEach { "request \($0) done" }, 0.1)
        XCTAssertLessThan(try bytesEach { _ in "id \(random.next() | 1 << 63)" }, 8.2)
        XCTAssertLessThan(try bytesEach { _ in "id \(random.next() % 100_000)" }, 2.2)
        XCTAssertLessThan(try bytesEach { _ in "took \(random.next() % 1000) ms" }, 1.8)
        XCTAssertLessThan(try bytesEach { _ in "took \(Double(random.next() % 100_000) / 1000) ms" }, 2.4)
        XCTAssertLessThan(try bytesEach { _ in "took 0.\(String(random.next() % 900 + 100)) s" }, 1.75)
        XCTAssertLessThan(try bytesEach { _ in "id " + hexString((0..<8).map { _ in UInt8(truncatingIfNeeded: random.next()) }) }, 8.2)
        XCTAssertLessThan(try bytesEach { _ in "from 10.\(random.next() % 256).\(random.next() % 256).7:8080" }, 2.2)
        XCTAssertLessThan(try bytesEach { _ in ["GET", "PUT", "POST"][Int(random.next() % 3)] + " /" }, 0.3)
        XCTAssertLessThan(try bytesEach { _ in #"{"level":"info","user":"u-\#(random.next() % 1_000_000)","ok":true,"n":null}"# }, 2.8)
    }

    func testTimesOfTheRowCostNothing() throws {
        let times = (0..<3000).map { Int64(1_795_392_000_003_644_672) + Int64($0) * 12_345_678_901 }
        for digits in [0, 3, 6, 9] {
            let lines = times.map { nanos -> String in
                var text: [UInt8] = []
                let format = TimeText(digits: digits)
                format.append(format.number(ofNanos: nanos), to: &text)
                return #"{"ts":"\#(String(decoding: text, as: UTF8.self))","msg":"x"}"#
            }
            XCTAssertLessThan(try roundTrip(lines, times: times).count, 200, "\(digits)")
            XCTAssertTrue(lines[0].hasPrefix(#"{"ts":"2026-11-23T00:00:00"#), lines[0])
        }
        let odd = [
            "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
            "2026-01-01 00:00:00Z", "2026-01-01T00:00:00z", "aaaa-aa-aaTaa:aa:aaZ",
        ]
        for text in odd {
            let lines = [String](repeating: "", count: 8).indices.map { #"{"ts":"\#($0 % 2 == 0 ? text : "2026-01-01T00:00:00Z")"}"# }
            try roundTrip(lines, times: [Int64](repeating: .max, count: 8))
            try roundTrip(lines, times: [Int64](repeating: .min, count: 8))
        }
    }

    /// Dates of all formats: whatever is in them of the row's time is not stored.
    func testPartsOfTheTime() throws {
        func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        func padded(_ number: Int64, _ width: Int) -> String { String(String(number + 1_000_000_000).suffix(width)) }
        let times = (0..<3000).map { Int64(1_795_392_000_003_644_672) + Int64($0) * 12_345_678_901 }
        let formats: [(Int64, Int64) -> String] = [
            { second, nanos in "11-23 \(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60)).\(padded(nanos / 1_000_000, 3)) D x" },
            { second, _ in "[Mon Nov 23 \(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60)) 2026] x" },
            { second, nanos in "2026-11-23 \(two(second / 3600)):\(two(second / 60 % 60)):\(two(second % 60)),\(padded(nanos / 1_000_000, 3)) x" },
            { second, nanos in "20261123-\(second / 3600):\(second / 60 % 60):\(second % 60):\(padded(nanos / 1000, 6))|x" },
            { second, _ in "261123 \(two(second / 3600))\(two(second / 60 % 60))\(two(second % 60)) x" },
            { second, _ in "- \(1_795_392_000 + second) 2026-11-23-\(two(second / 3600)).\(two(second / 60 % 60)).\(two(second % 60)) x" },
            { second, _ in #"{"t":\#(1_795_392_000 + second),"at":"23/Nov/2026:\#(two(second / 3600)):\#(two(second / 60 % 60)):\#(two(second % 60)) +0000"}"#
            },
            { second, nanos in #"{"t":\#((1_795_392_000 + second) * 1000 + nanos / 1_000_000),"u":1795392000.\#(padded(nanos / 1000, 6))}"# },
            // Another zone.
            { second, _ in "\(two((second / 3600 + 5) % 24)):\(two(second / 60 % 60)) x" },
        ]
        for (number, format) in formats.enumerated() {
            let lines = times.map { format(($0 - 1_795_392_000_000_000_000) / 1_000_000_000, $0 % 1_000_000_000) }
            let odd = number == 7
            XCTAssertLessThan(try roundTrip(lines, times: times).count, odd ? 3000 * 5 : 300, lines[1])
            // Near a midnight, long ago and far ahead; nothing in the texts is of these times.
            try roundTrip(lines, times: times.map { $0 - 1_795_392_010_000_000_000 })
            try roundTrip(lines, times: [Int64](repeating: .min, count: 1500) + [Int64](repeating: .max, count: 1500))
        }
        let days = times.map { ($0 - 1_795_392_000_000_000_000) * 1000 - 5_000_000_000 }
        try roundTrip(days.map { "\($0 / 1_000_000_000) \(two(abs($0 / 3_600_000_000_000 % 24))) x" }, times: days)
    }

    // MARK: Lists

    private func list(_ entries: [(String, UInt8, [UInt8])]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (key, type, value) in entries {
            bytes.appendText(Array(key.utf8))
            bytes.append(type)
            if type == 2 || type == 3 || type == 4 { bytes.append(contentsOf: value) } else { bytes.appendText(value) }
        }
        return bytes
    }
    private func little(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(value)
        return bytes
    }

    func testEventsAndLinks() throws {
        var random = SplitMix(state: 17)
        let times = (0..<4000).map { Int64(1_795_392_000_003_644_672) + Int64($0) * 12_345_678_901 }
        var events: [[UInt8]] = []
        var links: [[UInt8]] = []
        for (row, time) in times.enumerated() {
            var bytes: [UInt8] = []
            for number in 0..<random.next() % 3 {
                bytes.appendLittleEndian(UInt64(time) + 1000 * (random.next() % 1000))
                bytes.appendText(Array(["exception", "cache.miss", "retry"][Int(number)].utf8))
                bytes.appendText(list([("message", 1, Array("timeout after \(random.next() % 1000) ms".utf8)), ("attempt", 3, little(number))]))
                bytes.appendVarint(row % 100 == 0 ? 300 : 0)
            }
            events.append(bytes)
            bytes = []
            for _ in 0..<(row % 5 == 0 ? 2 : 0) {
                for _ in 0..<3 { bytes.appendLittleEndian(random.next()) }
                bytes.appendText([])
                bytes.appendText(list([("kind", 1, Array("follows".utf8))]))
                bytes.appendVarint(0)
                bytes.appendLittleEndian(UInt32(1))
            }
            links.append(bytes)
        }
        // A random time and a random number an event, three random numbers a link.
        let packed = try roundTrip(events, as: .events, times: times).count
        XCTAssertLessThan(packed, 4000 * 5)
        var all: [UInt8] = []
        let ranges = events.map { text in text.withUnsafeBytes { all.intern($0) } }
        var strings: [UInt8] = []
        StringColumn.append(ranges, of: all, to: &strings)
        var frame: [UInt8] = []
        try Frame.append(strings, level: 1, to: &frame)
        XCTAssertLessThan(packed * 2, frame.count)
        XCTAssertLessThan(try roundTrip(links, as: .links, times: times).count, 4000 * 2 / 5 * 26)
        try roundTrip(events, as: .events)
        // What is none of them, or is cut off.
        try roundTrip(events, as: .links, times: times)
        try roundTrip(links + events, as: .events)
        try roundTrip((events + links).map { Array($0.dropLast(Int(random.next() % 40))) }, as: .events)
        try roundTrip((events + links).map { Array($0.dropLast(Int(random.next() % 40))) }, as: .links)
        try roundTrip((0..<3).map { count in (0..<count * 50).flatMap { _ in events.first { !$0.isEmpty } ?? [] } }, as: .events)
    }

    func testAttributeLists() throws {
        var random = SplitMix(state: 11)
        var lists: [[UInt8]] = []
        for row in 0..<5000 {
            var entries: [(String, UInt8, [UInt8])] = [
                ("http.method", 1, Array("GET".utf8)), ("http.status_code", 3, little(200 + random.next() % 3)), ("ratio", 4, little(Double(row).bitPattern)),
                ("cached", 2, [UInt8(row & 1)]), ("url", 1, Array("/users/\(random.next() % 500)?x=\(String(repeating: "y", count: row % 300))".utf8)),
            ]
            if row % 3 == 0 { entries.append(("stack", 6, Array("[1,2,\(row)]".utf8))) }
            if row % 7 == 0 { entries.swapAt(0, 3) }
            lists.append(list(entries))
        }
        XCTAssertLessThan(try roundTrip(lists, as: .attributes).count, 5000 * 8)
        // Lists that are none, or whose lengths are longer than they need be.
        try roundTrip(
            [list([("a", 1, [1])]), [1], [1, 97], [1, 97, 1], [1, 97, 3, 0], [1, 97, 1, 0x81, 0x00, 7], [1, 97, 1, 0x80, 0x00], []], as: .attributes)
        try roundTrip(
            [list((0..<300).map { ("k\($0)", 1, [UInt8](repeating: 65, count: $0)) }), list((0..<300).map { ("k\($0)", 3, little(UInt64($0))) })],
            as: .attributes)
    }

    func testManyKeysAndShapes() throws {
        // More keys than a column set has columns, more statements than rows repeat.
        try roundTrip((0..<3000).map { #"{"key\#($0)":"v\#($0)","common":\#($0)}"# })
        try roundTrip((0..<3000).map { row in (0..<row % 200).map { "w\(row * $0)" }.joined(separator: row % 2 == 0 ? " " : ", ") })
        try roundTrip(["{" + (0..<2000).map { #""k\#($0)":\#($0)"# }.joined(separator: ",") + "}", "{}"])
        try roundTrip([String(repeating: "1 ", count: 100_000), String(repeating: "[", count: 100_000), String(repeating: "9", count: 500_000)])
    }

    func testAnyBytes() throws {
        var random = SplitMix(state: 3)
        let seeds = [
            #"{"ts":"2026-11-23T00:00:00.003Z","level":"info","n":12.5,"s":"a \"q\" \u00e9","l":[1,2,3],"o":{"x":null}}"#,
            "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_38865049064139660 terminating", "", "\u{0}\u{0}", "é 1 ü2",
        ].map { Array($0.utf8) }
        for round in 0..<60 {
            var texts: [[UInt8]] = []
            for _ in 0..<random.next() % 200 {
                var text = seeds[Int(random.next() % UInt64(seeds.count))]
                for _ in 0..<random.next() % 4 where !text.isEmpty {
                    let at = Int(random.next() % UInt64(text.count))
                    switch random.next() % 4 {
                    case 0: text[at] = UInt8(truncatingIfNeeded: random.next())
                    case 1: text.remove(at: at)
                    case 2: text.insert(UInt8(ascii: "0") + UInt8(random.next() % 10), at: at)
                    default: text.append(contentsOf: text[at...].prefix(20))
                    }
                }
                texts.append(text)
            }
            try roundTrip(
                texts, as: [.attributes, .lines, .lines, .events, .lines, .links][round % 6], times: round % 2 == 0 ? [] : texts.indices.map { Int64($0) })
        }
    }

    // MARK: Damage

    func testDamagedColumnsThrow() throws {
        var random = SplitMix(state: 9)
        let times = (0..<400).map { Int64($0) * 1_000_000 }
        let lines = (0..<400).map { row in
            row % 3 == 0
                ? #"{"ts":"1970-01-01T00:00:00.\#(row + 100)Z","v":\#(Double(row) / 8),"id":"\#(hexString([UInt8(row & 255), 1, 2, 3]))"}"#
                : "user \(row % 5) from 10.0.0.\(row % 256) said \(String(repeating: "x", count: row % 9))"
        }
        let packed = try roundTrip(lines, times: times)
        for _ in 0..<2000 {
            var damaged = packed
            for _ in 0...random.next() % 3 { damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(truncatingIfNeeded: random.next()) }
            if random.next() % 4 == 0 { damaged.removeLast(Int(random.next() % UInt64(damaged.count))) }
            // Checksums are the frame's business: here it must only end well.
            _ = try? decode(damaged, lines.count, times)
        }
        for count in [0, 1, 399, 401, 100_000] { _ = try? decode(packed, count, times) }
        XCTAssertThrowsError(try decode(packed, lines.count, []))
    }

    /// A few bytes that would be gigabytes.
    func testBombsAreRefused() throws {
        let packed = try roundTrip((0..<11).map { String(repeating: "long", count: 5000) + " \($0)" })
        XCTAssertThrowsError(try decode(packed, 11, [], bytesMax: 100_000)) { XCTAssertEqual(($0 as? ObsError)?.code, .corrupt) }
    }
}
