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
            inputs, disk, path: file("out"), draft: SegmentDraft(id: "out", tenant: .default, level: level, replaces: names), check: {}, grow: { _ in })
    }

    /// Half a kilobyte no compressor makes much smaller: of a thousand a big block.
    private func noise(_ seed: UInt64) -> String {
        var random = SplitMix(state: seed)
        return (0..<64).map { _ in String(random.next(), radix: 36) }.joined()
    }

    // MARK: Logs

    private typealias Line = (stream: [String: String], time: Int64, line: String)

    private func writeLogs(_ name: String, _ lines: [Line]) throws {
        var batch = logBatch(lines)
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
            XCTAssertEqual(try logBlocks("out").contains(try logBlocks("b")[0]), other.count == 100)
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
        XCTAssertFalse(try spanBlocks("out").contains(try spanBlocks("b")[0]))
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
}
