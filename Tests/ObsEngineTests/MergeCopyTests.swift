internal import ObsCore
internal import ObsDisk
internal import ObsTestSupport
import XCTest

@testable import ObsEngine
@testable import ObsSegment

/// Blocks that no other input has rows between go from segment to segment as they are.
final class MergeCopyTests: XCTestCase {
    private let disk = MemoryFileSystem()

    private func file(_ name: String) -> String { "/d/1970-01-01/\(name).seg" }

    private struct Mask: RowMask {
        var isEmpty: Bool { false }
        var times: ClosedRange<Int64>
        func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] { [times] }
        func isDeleted(_ batch: SpanBatch, row: Int) -> Bool { times.contains(batch.startNanos[row]) }
    }

    private func merge<Head: MergeableHead>(_ head: Head.Type, _ names: [String], mask: any RowMask = NothingDeleted(), level: Int = 1) throws -> SegmentInfo? {
        let inputs = try names.map { MergeInput(info: try readSegmentInfo(disk, file($0)), path: file($0), mask: mask) }
        return try Head.merge(
            inputs, disk, path: file("out"), draft: SegmentDraft(id: "out", tenant: .default, level: level, replaces: names), check: {}, grow: { _ in }
        ).info
    }

    /// Half a kilobyte no compressor makes much smaller: of a thousand a big block.
    private func noise(_ seed: UInt64) -> String {
        var random = SplitMix(state: seed)
        return (0..<64).map { _ in String(random.next(), radix: 36) }.joined()
    }

    // MARK: Logs

    private typealias Line = (stream: [String: String], time: Int64, line: String)

    private func writeLogs(_ name: String, _ lines: [Line], identified: Bool = false) throws {
        var batch = logBatch(lines, identified: identified)
        batch.arrival = lines.indices.map { UInt64($0) }
        let writer = try LogSegmentWriter(fileSystem: disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default))
        try writer.add([batch], rows: lines.indices.map { RowPlace(source: 0, row: UInt32($0)) })
        _ = try writer.finish()
    }

    private func lines(_ stream: String, _ times: Range<Int64>, length: Int = 0) -> [Line] {
        times.map { (["app": stream], $0, "\(stream) \($0)" + (length > 0 ? String(repeating: "x", count: length) : noise(UInt64(bitPattern: $0)))) }
    }

    private func readLogs(_ name: String) throws -> [String] {
        let reader = try LogSegmentReader.open(disk, file(name))
        try verify(disk, file(name))
        var found: [String] = []
        for block in reader.blocks.indices {
            let batch = try reader.read(block: block)
            for row in 0..<batch.count {
                found.append("\(batch.labels(ofStream: batch.stream[row])) \(batch.timeNanos[row]) \(batch.bytes.string(batch.line[row]))")
            }
        }
        return found
    }

    private func logBlocks(_ name: String) throws -> [[UInt8]] {
        let reader = try LogSegmentReader.open(disk, file(name))
        return try reader.blocks.indices.map { try reader.frames(block: $0).bytes }
    }

    /// Streams have other numbers in the output, so the copied block's are not those of the segment it is in.
    func testLogBlocks() throws {
        try writeLogs("a", lines("b", 0..<100) + lines("d", 0..<1_500))
        try writeLogs("b", lines("a", 0..<10) + lines("c", 0..<1_000))
        try writeLogs("c", lines("e", 0..<1_000))
        try writeLogs("d", lines("e", 1_000..<2_000))
        let wanted = try ["a", "b", "c", "d"].flatMap { try readLogs($0) }.sorted()
        let info = try XCTUnwrap(merge(LogHead.self, ["a", "b", "c", "d"]))
        XCTAssertEqual(Int(info.rows), wanted.count)
        XCTAssertEqual(try readLogs("out").sorted(), wanted)
        let blocks = try logBlocks("out")
        // Blocks of "a" and "b" interleave, those of "c" and "d" follow each other within one stream.
        for name in ["c", "d"] { XCTAssertTrue(blocks.contains(try logBlocks(name)[0]), name) }
        XCTAssertFalse(blocks.contains(try logBlocks("a")[0]))
        // Copied blocks are copied again.
        try writeLogs("f", lines("0", 0..<10))
        disk.setContent(file("g"), try XCTUnwrap(disk.content(file("out"))))
        _ = try merge(LogHead.self, ["g", "f"], level: 2)
        XCTAssertEqual(try readLogs("out").sorted(), (wanted + (try readLogs("f"))).sorted())
        XCTAssertTrue(try logBlocks("out").contains(try logBlocks("d")[0]))
    }

    /// One deleted row: its block is written anew, the others stay.
    func testMaskedLogRow() throws {
        try writeLogs("a", lines("a", 0..<10, length: 1 << 20) + lines("b", 10..<26, length: 1 << 20))
        let before = try logBlocks("a")
        XCTAssertEqual(before.count, 4)
        _ = try merge(LogHead.self, ["a"], mask: Mask(times: 9...9))
        XCTAssertEqual(try readLogs("out"), try readLogs("a").filter { !$0.contains(" 9 ") })
        let after = try logBlocks("out")
        XCTAssertEqual(after.count, 4)
        XCTAssertEqual(after.indices.map { after[$0] == before[$0] }, [true, false, true, true])
    }

    /// What was sent twice is still found where a big block begins or ends.
    func testRepeatedLinesAtTheEdges() throws {
        let big = lines("a", 100..<1_400)
        for (other, rows) in [(lines("a", 0..<101), 1_400), (lines("a", 1_399..<1_410), 1_310), (lines("a", 0..<100), 1_400)] {
            for (name, lines) in [("a", other), ("b", big)] {
                var batch = logBatch(lines, identified: true)
                batch.arrival = lines.indices.map { UInt64($0) + (name == "b" ? 500 : 0) }
                let writer = try LogSegmentWriter(fileSystem: disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default))
                try writer.add([batch], rows: lines.indices.map { RowPlace(source: 0, row: UInt32($0)) })
                _ = try writer.finish()
            }
            XCTAssertEqual(try XCTUnwrap(merge(LogHead.self, ["a", "b"])).rows, Int64(rows))
            XCTAssertEqual(Set(try readLogs("out")).count, rows)
            // Of two equal rows that of the later block goes.
            XCTAssertEqual(try logBlocks("out").contains(try logBlocks("b")[0]), other.count != 101)
        }
    }

    private func logTimes(_ name: String) throws -> [ClosedRange<Int64>] {
        try LogSegmentReader.open(disk, file(name)).blocks.map { $0.minNanos...$0.maxNanos }
    }

    /// Merges two inputs of one stream and says which of their blocks are in the output.
    private func copied(_ a: [Line], _ b: [Line], identified: Bool = false, rows: Int? = nil, line: UInt = #line) throws -> [Bool] {
        for (name, lines) in [("a", a), ("b", b)] { try writeLogs(name, lines, identified: identified) }
        let info = try XCTUnwrap(merge(LogHead.self, ["a", "b"]))
        XCTAssertEqual(Int(info.rows), rows ?? a.count + b.count, line: line)
        let wanted = try readLogs("a") + readLogs("b")
        XCTAssertEqual(try readLogs("out").sorted(), identified ? Set(wanted).sorted() : wanted.sorted(), line: line)
        let output = try logBlocks("out")
        return try ["a", "b"].flatMap { try logBlocks($0) }.map(output.contains)
    }

    func testLogBlocksThatOverlapALittleAreCopied() throws {
        XCTAssertEqual(try copied(lines("a", 0..<3_000, length: 1), lines("a", 2_500..<5_500, length: 1)), [true, true])
        XCTAssertEqual(try logTimes("out"), [0...2_999, 2_500...5_499])
        // The output is an input again: blocks of one segment may overlap.
        disk.setContent(file("c"), try XCTUnwrap(disk.content(file("out"))))
        let wanted = try readLogs("c")
        try writeLogs("d", lines("a", 5_000..<8_000, length: 1))
        _ = try merge(LogHead.self, ["c", "d"], level: 2)
        XCTAssertEqual(try readLogs("out").sorted(), (wanted + (try readLogs("d"))).sorted())
        XCTAssertEqual(try logTimes("out"), [0...2_999, 2_500...5_499, 5_000...7_999])
        _ = try merge(LogHead.self, ["c"], mask: Mask(times: 2_700...2_700), level: 2)
        XCTAssertEqual(try readLogs("out").sorted(), wanted.filter { !$0.contains(" 2700 ") }.sorted())
    }

    func testOneStragglerIsNoReasonToRewrite() throws {
        XCTAssertEqual(try copied(lines("a", 0..<9_000, length: 1), [(["app": "a"], 7, "late")] + lines("a", 9_000..<12_000, length: 1)), [true, true])
    }

    /// What was loaded in no order ends in blocks one after the other.
    func testBlocksThatLieAcrossEachOtherAreInterleaved() throws {
        let all = lines("a", 0..<18_000, length: 1)
        let parts = [0, 1].map { part in all.enumerated().filter { $0.offset % 2 == part }.map(\.element) }
        XCTAssertEqual(try copied(parts[0], parts[1]), [false, false])
        let times = try logTimes("out")
        XCTAssertGreaterThan(times.count, 1)
        for (first, second) in zip(times, times.dropFirst()) { XCTAssertLessThan(first.upperBound, second.lowerBound) }
    }

    func testRepeatedLinesInTheOverlap() throws {
        // A tenth of the rows twice: only the later block is written anew.
        XCTAssertEqual(try copied(lines("a", 0..<3_000), lines("a", 2_700..<5_700), identified: true, rows: 5_700), [true, false])
        // The times alone are equal.
        let others = (2_700..<5_700 as Range<Int64>).map { (stream: ["app": "a"], time: $0, line: "other \($0)") }
        XCTAssertEqual(try copied(lines("a", 0..<3_000), others, identified: true), [true, true])
        XCTAssertEqual(try copied(lines("a", 0..<3_000), lines("a", 2_700..<5_700)), [true, true], "meant twice")
        XCTAssertEqual(try copied(lines("a", 0..<3_000), lines("b", 0..<3_000), identified: true), [true, true], "another stream")
    }

    /// Rows that are in three inputs are there once, whichever blocks are copied.
    func testRepeatedThrice() throws {
        try writeLogs("a", lines("a", 0..<3_000), identified: true)
        try writeLogs("b", lines("a", 2_990..<3_000), identified: true)
        try writeLogs("c", lines("a", 2_995..<6_000), identified: true)
        XCTAssertEqual(try XCTUnwrap(merge(LogHead.self, ["a", "b", "c"])).rows, 6_000)
        XCTAssertEqual(Set(try readLogs("out")).count, 6_000)
    }

    /// A small stream is read with fewer blocks where its rows are joined.
    func testBlocksOfManySmallStreamsAreJoined() throws {
        let streams = (100..<130).map { "s\($0)" }
        let blocks = try copied(streams.flatMap { lines($0, 0..<200, length: 1) }, streams.flatMap { lines($0, 200..<400, length: 1) })
        XCTAssertFalse(blocks.contains(true))
        let reader = try LogSegmentReader.open(disk, file("out"))
        for (first, second) in zip(reader.blocks, reader.blocks.dropFirst()) { XCTAssertLessThanOrEqual(first.lastStream, second.firstStream) }
    }

    /// Random rows, streams, times, duplicates and deletions: what comes out is what went in.
    func testAnyInputs() throws {
        for seed in 0..<12 as Range<UInt64> {
            var random = SplitMix(state: seed)
            var wanted: Set<String> = []
            var names: [String] = []
            for input in 0..<Int.random(in: 1...5, using: &random) {
                var rows: Set<Int64> = []
                var all: [Line] = []
                for stream in 0..<Int.random(in: 1...4, using: &random) {
                    let count = [3, 400, 2_500, 9_000].randomElement(using: &random) ?? 0
                    let start = Int64(input) * Int64.random(in: 0...3_000, using: &random)
                    rows = Set((0..<count).map { _ in start + Int64.random(in: 0..<Int64(2 * count), using: &random) })
                    all += rows.sorted().map { (["app": "s\(stream)"], $0, "\(stream) \($0)") }
                }
                names.append("i\(input)")
                try writeLogs(names[input], all, identified: true)
                wanted.formUnion(try readLogs(names[input]))
            }
            let isMasked = seed % 3 == 0
            let hidden = (1_000...1_050 as ClosedRange<Int64>)
            let info = try XCTUnwrap(merge(LogHead.self, names, mask: isMasked ? Mask(times: hidden) : NothingDeleted()))
            if isMasked { wanted = wanted.filter { line in !hidden.contains(Int64(line.split(separator: " ").dropFirst().first ?? "") ?? 0) } }
            let found = try readLogs("out")
            XCTAssertEqual(found.sorted(), wanted.sorted(), "seed \(seed)")
            XCTAssertEqual(Int(info.rows), wanted.count)
        }
    }

    // MARK: Spans

    private func writeSpans(_ name: String, _ traces: Range<UInt64>, service: String = "s", padding: Int = 0) throws {
        let writer = try SpanSegmentWriter(fileSystem: disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default))
        let batch = spanBatch(traces.map { ($0, $0, service, "GET /\($0)" + (padding > 0 ? String(repeating: "x", count: padding) : noise($0)), Int64($0), 5) })
        try writer.add([batch], rows: (0..<batch.count).map { RowPlace(source: 0, row: UInt32($0)) })
        _ = try writer.finish()
    }

    private func readSpans(_ name: String) throws -> [String] {
        let reader = try SpanSegmentReader.open(disk, file(name))
        try verify(disk, file(name))
        var found: [String] = []
        for block in reader.blocks.indices {
            let batch = try reader.read(block: block)
            for row in 0..<batch.count {
                let service = batch.bytes.string(batch.services[Int(batch.resource[row])])
                found.append("\(batch.traceID[row].low) \(batch.spanID[row]) \(service) \(batch.bytes.string(batch.name[row]))")
            }
        }
        return found
    }

    private func spanBlocks(_ name: String) throws -> [[UInt8]] {
        let reader = try SpanSegmentReader.open(disk, file(name))
        return try reader.blocks.indices.map { try reader.frames(block: $0).bytes }
    }

    func testSpanBlocks() throws {
        try writeSpans("a", 0..<1_000, service: "x")
        try writeSpans("b", 1_000..<2_000, service: "y")
        try writeSpans("c", 1_500..<1_510, service: "z")
        let wanted = try ["a", "b", "c"].flatMap { try readSpans($0) }.sorted()
        let info = try XCTUnwrap(merge(SpanHead.self, ["a", "b", "c"]))
        XCTAssertEqual(try readSpans("out").sorted(), wanted)
        XCTAssertEqual(info.services, ["x", "y", "z"])
        XCTAssertEqual(info.maxTime, 1_999)
        XCTAssertEqual(try spanBlocks("out")[0], try spanBlocks("a")[0])
        XCTAssertEqual(try ["b", "c"].map { try spanBlocks("out").contains(try spanBlocks($0)[0]) }, [true, false])
        let reader = try SpanSegmentReader.open(disk, file("out"))
        for trace in [0, 999, 1_505, 1_999] as [UInt64] { XCTAssertTrue(try reader.mayContain(TraceID(high: 0, low: trace))) }
    }

    func testMaskedSpan() throws {
        try writeSpans("a", 0..<24, padding: 1 << 20)
        let before = try spanBlocks("a")
        XCTAssertEqual(before.count, 3)
        _ = try merge(SpanHead.self, ["a"], mask: Mask(times: 12...13))
        XCTAssertEqual(try readSpans("out"), try readSpans("a").filter { !["12 ", "13 "].contains(where: $0.hasPrefix) })
        let after = try spanBlocks("out")
        XCTAssertEqual(after.indices.map { after[$0] == before[$0] }, [true, false, true])
    }

    // MARK: Order and repetitions of spans

    private typealias Span = (trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)

    /// Traces that begin at these times, of three spans 40 apart.
    private func spans(_ starts: Range<Int64>, by step: Int64 = 1, seed: UInt64 = 1) -> [Span] {
        stride(from: starts.lowerBound, to: starts.upperBound, by: Int(step)).flatMap { start in
            let trace = UInt64(bitPattern: start) &* 0x9e37_79b9_7f4a_7c15
            return (0..<3 as Range<Int64>).map { (number: Int64) -> Span in
                (trace, trace &+ UInt64(number) &* seed, "s", "op \(number)", start + 40 * number, 5)
            }
        }
    }

    private func writeSpans(_ name: String, _ spans: [Span]) throws {
        let writer = try SpanSegmentWriter(fileSystem: disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default))
        let batch = spanBatch(spans)
        try writer.add([batch], rows: (0..<batch.count).map { RowPlace(source: 0, row: UInt32($0)) })
        _ = try writer.finish()
    }

    private func copied(_ a: [Span], _ b: [Span], rows: Int? = nil, line: UInt = #line) throws -> [Bool] {
        try writeSpans("a", a)
        try writeSpans("b", b)
        let info = try XCTUnwrap(merge(SpanHead.self, ["a", "b"]))
        XCTAssertEqual(Int(info.rows), rows ?? a.count + b.count, line: line)
        XCTAssertEqual(try readSpans("out").sorted(), Set(try readSpans("a") + readSpans("b")).sorted(), line: line)
        let reader = try SpanSegmentReader.open(disk, file("out"))
        for span in [a[0], a[a.count / 2], b[0], b[b.count - 1]] {
            let id = TraceID(high: 0, low: span.trace)
            let found = try reader.blocks(mayContaining: id).contains { try reader.read(block: $0).traceID.contains(id) }
            XCTAssertTrue(found, line: line)
        }
        let output = try spanBlocks("out")
        return try ["a", "b"].flatMap { try spanBlocks($0) }.map(output.contains)
    }

    func testSpanBlocksThatOverlapALittleAreCopied() throws {
        XCTAssertEqual(
            try copied(spans(0..<2_000), spans(1_990..<4_000, seed: 2), rows: 12_030 - 10), [true, false], "the first span of ten traces is there twice")
        XCTAssertEqual(try copied(spans(0..<2_000), spans(2_000..<4_000)), [true, true])
    }

    func testSpanBlocksThatLieAcrossEachOtherAreInterleaved() throws {
        XCTAssertEqual(try copied(spans(0..<4_000, by: 2), spans(1..<4_001, by: 2)), [false, false])
        let blocks = try SpanSegmentReader.open(disk, file("out")).blocks
        XCTAssertGreaterThan(blocks.count, 1)
        for (first, second) in zip(blocks, blocks.dropFirst()) { XCTAssertLessThan(first.maxStartNanos, second.minStartNanos + 81) }
    }

    /// The same trace in two inputs, some spans of it twice, others of equal ids but not equal.
    func testRepeatedSpansOfATraceAcrossInputs() throws {
        let all = spans(0..<2_000)
        let late = [all[5_997], all[5_998], (all[5_999].trace, all[5_999].span, "s", "another name", all[5_999].start, 5)] + spans(2_100..<4_000)
        XCTAssertEqual(try copied(all, late, rows: all.count + late.count - 2), [true, false])
    }
}
