import ObsCore
import ObsDisk
import ObsEncoding
import ObsSegment
import ObsStore
import XCTest

final class LogSegmentTests: XCTestCase {
    private func attributes(_ pairs: [(String, AttributeValue)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for pair in pairs { bytes.appendAttribute(Array(pair.0.utf8), pair.1) }
        return bytes
    }

    private func streams(_ count: Int, rows: Int) -> [LogRow] {
        var random = Random(11)
        return (0..<count).flatMap { stream in
            (0..<rows).map { row in
                LogRow(
                    labels: Labels([("service_name", "svc-\(100 + stream)")]), time: 1_700_000_000_000_000_000 + Int64(row) * 1_000_000,
                    severity: UInt8(random.below(25)), line: Array("request \(random.below(1000)) took \(random.below(100)) ms".utf8),
                    attributes: attributes([("status", .int(Int64(200 + random.below(4) * 100))), ("path", .string("/api/\(random.below(5))"))]),
                    traceID: random.below(3) == 0 ? .none : TraceID(high: random.next(), low: random.next()), spanID: random.next(),
                    resource: attributes([("host", .string("h\(random.below(3))"))]), scope: random.below(2) == 0 ? [] : attributes([("name", .string("s"))]),
                    flags: UInt8(random.below(2)), arrival: UInt64(row * count + stream))
            }
        }
    }

    private func checkRoundtrip(_ rows: [LogRow], line: UInt = #line) throws {
        let disk = MemoryFileSystem()
        let info = try writeLogs(rows, disk)
        let read = try readLogs(disk)
        XCTAssertTrue(read == rows, "rows differ", line: line)
        XCTAssertEqual(try readSegmentInfo(disk, path), info, line: line)
        XCTAssertEqual(info.rows, Int64(rows.count), line: line)
        XCTAssertEqual(info.minTime, rows.map(\.time).min(), line: line)
        XCTAssertEqual(info.maxTime, rows.map(\.time).max(), line: line)
        XCTAssertNoThrow(try verify(disk, path), line: line)
    }

    func testRoundtrip() throws {
        try checkRoundtrip([LogRow()])
        try checkRoundtrip([LogRow(labels: .empty)])
        try checkRoundtrip([LogRow(time: .min), LogRow(time: .max)])
        try checkRoundtrip([[], [0], [0, 0], [0xff, 0xfe], Array("\0x\0".utf8), [0xc3, 0x28]].map { LogRow(line: $0) })
        try checkRoundtrip([LogRow(line: Random(1).lines(5 << 20)), LogRow(time: 1, line: [1]), LogRow(time: 2, line: Random(2).lines(5 << 20))])
        try checkRoundtrip(streams(7, rows: 100))
        try checkRoundtrip((0..<1000).map { LogRow(time: 5, line: [UInt8(truncatingIfNeeded: $0)], arrival: UInt64($0)) })
    }

    func testBlocksAreCutByRows() throws {
        let disk = MemoryFileSystem()
        // A rest that would make a small block goes along.
        let rows = (0..<3 * SegmentLimits.blockRowsMax + 1).map {
            LogRow(time: Int64($0) * 1000, line: [UInt8(truncatingIfNeeded: $0)], resource: [1, UInt8($0 % 3), 2, 0], arrival: UInt64($0))
        }
        try writeLogs(rows, disk)
        let reader = try LogSegmentReader.open(disk, path)
        XCTAssertEqual(reader.blocks.map(\.rows), [SegmentLimits.blockRowsMax, SegmentLimits.blockRowsMax, SegmentLimits.blockRowsMax + 1])
        XCTAssertTrue(try readLogs(disk) == rows)
    }

    func testBigBlocksEndWithTheirStream() throws {
        let disk = MemoryFileSystem()
        let least = SegmentLimits.blockRowsMin
        let counts = [least + 5, least - 1, 10, least, 3]
        var rows: [LogRow] = []
        for (stream, count) in counts.enumerated() {
            for row in 0..<count { rows.append(LogRow(labels: Labels([("service_name", "s\(stream)")]), time: Int64(row), line: [1])) }
        }
        try writeLogs(rows, disk)
        let reader = try LogSegmentReader.open(disk, path)
        XCTAssertEqual(reader.blocks.map(\.rows), [least + 5, least - 1 + 10, least + 3])
        XCTAssertEqual(reader.blocks.map(\.firstStream), [0, 1, 3])
        XCTAssertTrue(try readLogs(disk) == rows)
    }

    func testBlocksAreCutByBytes() throws {
        let disk = MemoryFileSystem()
        try writeLogs((0..<5).map { LogRow(time: Int64($0), line: Random(UInt64($0 + 1)).lines(5 << 20)) }, disk)
        XCTAssertEqual(try LogSegmentReader.open(disk, path).blocks.map(\.rows), [2, 2, 1])
    }

    func testBlockInfo() throws {
        let disk = MemoryFileSystem()
        let rows = streams(3, rows: 10)
        let info = try writeLogs(rows, disk)
        XCTAssertEqual(info.services, ["svc-100", "svc-101", "svc-102"])
        let reader = try LogSegmentReader.open(disk, path)
        XCTAssertEqual(reader.streams, (0..<3).map { Labels([("service_name", "svc-\(100 + $0)")]) })
        let block = try XCTUnwrap(reader.blocks.first)
        XCTAssertEqual([block.firstStream, block.lastStream, block.rows], [0, 2, 30])
        XCTAssertEqual(block.minNanos, rows[0].time)
        XCTAssertEqual(block.maxNanos, rows[9].time)
    }

    func testUnwantedColumnsComeAsDefaults() throws {
        let disk = MemoryFileSystem()
        let rows = streams(2, rows: 10)
        try writeLogs(rows, disk)
        let reader = try LogSegmentReader.open(disk, path)
        let lean = try reader.read(block: 0, columns: [.line])
        XCTAssertEqual((0..<20).map { lean.bytes.string(lean.line[$0]) }, rows.map { String(decoding: $0.line, as: UTF8.self) })
        XCTAssertEqual(lean.timeNanos, rows.map(\.time))
        XCTAssertEqual(lean.arrival, rows.map(\.arrival))
        XCTAssertEqual(lean.severity, [UInt8](repeating: 0, count: 20))
        XCTAssertTrue(lean.traceID.allSatisfy(\.isNone) && lean.attributes.allSatisfy(\.isEmpty) && lean.resource.allSatisfy { $0 == 0 })
    }

    /// Lines that say their trace and span at any place, at none, in other letters, and more than once.
    private func traced(_ count: Int) -> [LogRow] {
        var random = Random(17)
        return (0..<count).map { row in
            let trace = TraceID(high: random.next(), low: random.next() >> UInt64(random.below(64)))
            let span = random.next() >> UInt64(random.below(64))
            let (id, digits) = ("\(trace)", hexString(span))
            let line =
                switch random.below(8) {
                case 0: id
                case 1: "no trace of anything \(row)"
                case 2: id.uppercased()
                case 3: String(id.dropLast())
                case 4: "\(digits)\(id)\(digits)"
                case 5: String(repeating: "x", count: random.below(40)) + id
                case 6: ""
                default: "{\"n\":\(row),\"trace_id\":\"\(id)\",\"span_id\":\"\(digits)\"}"
                }
            return LogRow(
                time: Int64(row), line: Array(line.utf8), traceID: random.below(5) == 0 ? .none : trace, spanID: random.below(5) == 0 ? 0 : span,
                arrival: UInt64(row))
        }
    }

    func testIdentifiersThatStandInLines() throws {
        let rows = traced(2000)
        try checkRoundtrip(rows)
        let disk = MemoryFileSystem()
        try writeLogs(rows, disk)
        let reader = try LogSegmentReader.open(disk, path)
        let lean = try reader.read(block: 0, columns: [.identifiers])
        XCTAssertEqual(lean.traceID, rows.map(\.traceID))
        XCTAssertEqual(lean.spanID, rows.map(\.spanID))
        var some = RowSet(count: rows.count)
        for row in stride(from: 3, to: rows.count, by: 7) { some.insert(row) }
        for columns in [LogColumns.identifiers, [.identifiers, .line]] {
            let batch = try reader.block(0).batch(of: some, columns: columns)
            XCTAssertEqual(batch.traceID, some.rows.map { rows[$0].traceID })
            XCTAssertEqual(batch.spanID, some.rows.map { rows[$0].spanID })
        }
    }

    func testIdentifiersThatStandInLinesAreNotKeptTwice() throws {
        let rows = traced(2000).map { row in
            var row = row
            row.spanID = 0
            row.line = Array("{\"n\":\(row.time),\"trace_id\":\"\(row.traceID)\"}".utf8)
            return row
        }
        let disk = MemoryFileSystem()
        try writeLogs(rows, disk)
        let withIDs = try disk.size(path)
        try writeLogs(
            rows.map { row in
                var row = row
                row.traceID = .none
                return row
            }, disk)
        XCTAssertLessThan(withIDs, try disk.size(path) + 2000)
    }

    func testServicesAreListedOnlyWhenAllHaveOne() throws {
        let disk = MemoryFileSystem()
        let info = try writeLogs([LogRow(labels: Labels([("app", "x")])), LogRow()].sorted { $0.labels < $1.labels }, disk)
        XCTAssertEqual(info.services, [])
    }

    func testDamageIsNoticed() throws {
        let disk = MemoryFileSystem()
        try writeLogs(streams(2, rows: 4), disk)
        try checkDamage(disk) { try readLogs(disk) }
    }
}

extension Random {
    /// Text that neither repeats nor looks random.
    func lines(_ count: Int) -> [UInt8] {
        var copy = self
        let piece = (0..<50_000).map { _ in UInt8(32 + copy.below(90)) }
        var text: [UInt8] = []
        while text.count < count { text.append(contentsOf: piece) }
        return Array(text.prefix(count))
    }
}
