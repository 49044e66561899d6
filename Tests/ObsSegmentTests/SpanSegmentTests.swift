import ObsCore
import ObsDisk
import ObsSegment
import XCTest

final class SpanSegmentTests: XCTestCase {
    private func traces(_ count: Int, spans: Int) -> [SpanRow] {
        var random = Random(5)
        return (0..<count).flatMap { _ -> [SpanRow] in
            let id = TraceID(high: random.next(), low: random.next())
            let ids = (0..<spans).map { _ in random.next() }
            return (0..<spans).map { span in
                SpanRow(
                    traceID: id, spanID: ids[span], parentID: span == 0 ? 0 : random.below(5) == 0 ? random.next() : ids[random.below(spans)],
                    start: 1_700_000_000_000_000_000 + Int64(span), duration: Int64(random.below(1_000_000)), kind: UInt8(random.below(6)),
                    status: UInt8(random.below(3)), flags: UInt32(random.below(2) * 0x101),
                    texts: (0..<7).map { column in random.below(2) == 0 ? [] : Array("text \(column) \(random.below(4))".utf8) },
                    resource: Array("resource \(span % 3)".utf8), service: "service-\(span % 3)", scope: random.below(2) == 0 ? [] : [1, 2])
            }
        }.sorted { ($0.traceID, $0.start) < ($1.traceID, $1.start) }
    }

    private func checkRoundtrip(_ rows: [SpanRow], line: UInt = #line) throws {
        let disk = MemoryFileSystem()
        let info = try writeSpans(rows, disk)
        let read = try readSpans(disk)
        XCTAssertTrue(read == rows, "rows differ", line: line)
        XCTAssertEqual(try readSegmentInfo(disk, path), info, line: line)
        XCTAssertEqual(info.services, Set(rows.map(\.service)).sorted(), line: line)
        XCTAssertNoThrow(try verify(disk, path), line: line)
    }

    func testRoundtrip() throws {
        try checkRoundtrip([SpanRow()])
        try checkRoundtrip([SpanRow(traceID: .none, spanID: 0)])
        try checkRoundtrip([SpanRow(start: .min, duration: .max), SpanRow(start: .max, duration: .max)])
        try checkRoundtrip([SpanRow(spanID: 7, parentID: 7), SpanRow(spanID: 7, parentID: 8)])
        try checkRoundtrip([SpanRow(spanID: .max, parentID: .max - 1, start: 0), SpanRow(spanID: 1, parentID: .max, start: 1)])
        try checkRoundtrip(traces(50, spans: 1))
        try checkRoundtrip(traces(30, spans: 20))
        try checkRoundtrip(traces(1, spans: 5000))
    }

    func testBlocksAreCutWithinATrace() throws {
        let (most, least) = (SegmentLimits.blockRowsMax, SegmentLimits.blockRowsMin)
        // A rest that would make a small block goes along.
        for (count, wanted) in [(most + least - 1, [most + least - 1]), (most + least, [most, least]), (3 * most, [most, most, most])] {
            let rows = (0..<count).map {
                SpanRow(spanID: UInt64($0) + 1, parentID: UInt64($0), start: Int64($0), resource: [UInt8($0 % 5), 1, 1], service: "s\($0 % 5)")
            }
            let disk = MemoryFileSystem()
            try writeSpans(rows, disk)
            XCTAssertEqual(try SpanSegmentReader.open(disk, path).blocks.map(\.rows), wanted)
            XCTAssertTrue(try readSpans(disk) == rows)
        }
    }

    func testBlocksEndWithATrace() throws {
        var rows = traces(1000, spans: 30)
        for row in rows.indices { rows[row].texts = (0..<7).map { _ in [] } }
        let disk = MemoryFileSystem()
        try writeSpans(rows, disk)
        let reader = try SpanSegmentReader.open(disk, path)
        XCTAssertEqual(reader.blocks.count, 4)
        var seen: Set<TraceID> = []
        for block in reader.blocks.indices {
            let ids = try Set(reader.read(block: block, columns: []).traceID)
            XCTAssertTrue(seen.isDisjoint(with: ids))
            XCTAssertGreaterThan(reader.blocks[block].rows, SegmentLimits.blockRowsMax / 8 * 7 - 1)
            seen.formUnion(ids)
            for id in ids.prefix(20) { XCTAssertTrue(try reader.blocks(mayContaining: id).contains(block)) }
        }
    }

    func testBlockInfo() throws {
        let rows = traces(4, spans: 3)
        let disk = MemoryFileSystem()
        try writeSpans(rows, disk)
        let block = try XCTUnwrap(SpanSegmentReader.open(disk, path).blocks.first)
        XCTAssertEqual(block.services, ["service-0", "service-1", "service-2"])
        XCTAssertEqual(block.minStartNanos...block.maxStartNanos, rows[0].start...rows[2].start)
    }

    func testUnwantedColumnsComeAsDefaults() throws {
        let rows = traces(4, spans: 3)
        let disk = MemoryFileSystem()
        try writeSpans(rows, disk)
        let lean = try SpanSegmentReader.open(disk, path).read(block: 0, columns: [.resource])
        XCTAssertEqual(lean.spanID, rows.map(\.spanID))
        XCTAssertEqual(lean.parentID, rows.map(\.parentID))
        XCTAssertEqual((0..<12).map { lean.bytes.string(lean.services[Int(lean.resource[$0])]) }, rows.map(\.service))
        XCTAssertTrue(lean.name.allSatisfy(\.isEmpty) && lean.attributes.allSatisfy(\.isEmpty) && lean.flags.allSatisfy { $0 == 0 })
    }

    func testTraceFilter() throws {
        let rows = traces(2000, spans: 1)
        let disk = MemoryFileSystem()
        try writeSpans(rows, disk)
        let reader = try SpanSegmentReader.open(disk, path)
        for row in rows { XCTAssertTrue(try reader.mayContain(row.traceID)) }
        var random = Random(99)
        var wrong = 0
        for _ in 0..<20_000 where try reader.mayContain(TraceID(high: random.next(), low: random.next())) { wrong += 1 }
        XCTAssertLessThan(wrong, 200)
        XCTAssertEqual(try reader.blocks(mayContaining: rows[77].traceID), [0])
    }

    func testDamageIsNoticed() throws {
        let disk = MemoryFileSystem()
        try writeSpans(traces(2, spans: 3), disk)
        try checkDamage(disk) { try readSpans(disk) }
    }
}
