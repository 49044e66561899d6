import ObsCore
import ObsTestSupport
import Dispatch
import XCTest

@testable import ObsEncoding

final class TextViewTests: XCTestCase {
    private func view(_ texts: [[UInt8]], _ content: TextColumn.Content = .lines, _ times: [Int64] = []) throws -> TextView {
        var filter: [UInt8] = []
        return try TextView(packed(texts, content, times, filter: &filter), count: texts.count, times: times, bytesMax: 64 << 20)
    }

    private func check(_ name: String, _ view: TextView, _ texts: [[UInt8]], _ needle: [UInt8], among: RowSet? = nil) throws {
        for ignoringCase in [false, true] {
            let wanted = ignoringCase ? needle.map(lowerCased) : needle
            let among = among ?? RowSet(all: texts.count)
            let found = try view.rows(containing: wanted, ignoringCase: ignoringCase, among: among)
            let right = texts.indices.filter { among.contains($0) && naive(texts[$0], wanted, ignoringCase: ignoringCase) }
            guard found.rows != right else { continue }
            let wrong = Set(found.rows).symmetricDifference(right).min() ?? 0
            XCTFail(
                "\(name): \(String(decoding: wanted, as: UTF8.self).debugDescription) in row \(wrong), \(String(decoding: texts[wrong], as: UTF8.self).debugDescription)"
            )
        }
    }

    func testRowsContaining() throws {
        for seed in 1...2 as ClosedRange<UInt64> {
            var samples = TextSamples(seed: seed)
            for (name, texts, content, times) in samples.all(300) {
                let view = try view(texts, content, times)
                for _ in 0..<40 { try check(name, view, texts, samples.needle(texts)) }
                var some = RowSet(count: texts.count)
                for row in texts.indices where samples.number(4) == 0 { some.insert(row) }
                for _ in 0..<20 { try check(name, view, texts, samples.needle(texts), among: some) }
                for needle in ["", "error", "absent-word", "\"level\":\"error\"", "0", "status\":500", " ", "00:00", "2026-11-23T"] {
                    if !needle.isEmpty { try check(name, view, texts, Array(needle.utf8)) }
                }
            }
        }
    }

    /// Few texts of few bytes, every needle of up to three.
    func testEveryNeedle() throws {
        let alphabet = Array("a1 -.\"".utf8)
        var samples = TextSamples(seed: 77)
        for round in 0..<6 {
            let texts = (0..<60).map { _ in (0..<samples.number(9)).map { _ in samples.one(of: alphabet) } }
            let view = try view(texts, round % 2 == 0 ? .lines : .attributes)
            for a in alphabet {
                try check("one", view, texts, [a])
                for b in alphabet {
                    try check("two", view, texts, [a, b])
                    for c in alphabet { try check("three", view, texts, [a, b, c]) }
                }
            }
        }
    }

    func testTextsOfSomeRows() throws {
        var samples = TextSamples(seed: 5)
        for (name, texts, content, times) in samples.all(400) {
            let view = try view(texts, content, times)
            for share in [1, 2, 30, 500] {
                var some = RowSet(count: texts.count)
                for row in texts.indices where samples.number(share) == 0 { some.insert(row) }
                var bytes = Array("before".utf8)
                let ranges = try view.texts(of: some, into: &bytes)
                XCTAssertEqual(ranges.map { Array(bytes[$0.range]) }, some.rows.map { texts[$0] }, name)
                let odd = try view.rows(among: some) { $0.count % 2 == 1 }
                XCTAssertEqual(odd.rows, some.rows.filter { texts[$0].count % 2 == 1 }, name)
            }
        }
        XCTAssertEqual(try view([]).texts(of: nil, into: &samples.nothing), [])
    }

    func testManyThreads() throws {
        var samples = TextSamples(seed: 6)
        let texts = samples.json(500)
        let view = try view(texts)
        let needles = (0..<40).map { _ in samples.needle(texts) }
        let right = needles.map { needle in texts.indices.filter { naive(texts[$0], needle, ignoringCase: false) } }
        DispatchQueue.concurrentPerform(iterations: 80) { index in
            let found = try? view.rows(containing: needles[index % 40], ignoringCase: false, among: RowSet(all: texts.count))
            XCTAssertEqual(found?.rows, right[index % 40])
        }
    }

    /// Texts made so that a needle can be cut in ever so many ways.
    func testManyWaysToCut() throws {
        let texts = (0..<64).map { row in Array((0..<100).map { "a\(($0 * row) % 2)" }.joined(separator: " ").utf8) }
        let view = try view(texts)
        for needle in ["a1 a0 a1 a0 a1 a0 a1 a0 a1", "a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a0 b", "0 a0 a0 a0 a0 a0 a0 a0 a0 a0 a"] {
            try check("cuts", view, texts, Array(needle.utf8))
        }
    }

    func testDamageThrows() throws {
        var samples = TextSamples(seed: 8)
        for (_, texts, content, times) in samples.all(200) {
            var filter: [UInt8] = []
            let packed = packed(texts, content, times, filter: &filter)
            for _ in 0..<150 {
                var damaged = packed
                for _ in 0...samples.number(3) { damaged[samples.number(damaged.count)] = UInt8(truncatingIfNeeded: samples.random.next()) }
                if samples.number(4) == 0 { damaged.removeLast(samples.number(damaged.count)) }
                guard let view = try? TextView(damaged, count: texts.count, times: times, bytesMax: 1 << 22) else { continue }
                for _ in 0..<3 { _ = try? view.rows(containing: samples.needle(texts), ignoringCase: samples.number(2) == 0, among: RowSet(all: texts.count)) }
                var some = RowSet(count: texts.count)
                some.insert(3..<50)
                var bytes: [UInt8] = []
                _ = try? view.texts(of: some, into: &bytes)
            }
        }
    }
}

extension TextSamples {
    fileprivate var nothing: [UInt8] {
        get { [] }
        set {}
    }
}
