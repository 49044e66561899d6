import Foundation
import ObsCore
import ObsDisk
import ObsSegment
import ObsStore
import XCTest

/// Files of every version ever released stay readable. `segments/v1` was written by version 1 from the contents below and is never written again;
/// a new version adds a folder: run once with OBS_WRITE_FIXTURES=v4.
final class FixtureTests: XCTestCase {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/segments"

    private static let series: [Series] = {
        var series: [Series] = []
        let times = (0..<40).map { Int64(1_700_000_000_000 + $0 * 15_000) }
        for host in 0..<3 {
            for (name, values) in [
                ("constant", times.map { _ in 1.5 }), ("counter", times.indices.map { Double($0 * 7 + host) }),
                ("decimal", times.indices.map { Double($0 * 37 % 100) / 100 }), ("double", times.indices.map { 1 / Double($0 + host + 3) }),
                ("stale", times.indices.map { $0 % 20 == 19 ? SpecialValue.stale : Double($0) }),
            ] {
                series.append(Series(labels: Labels([("__name__", name), ("instance", "host-\(host)")]), times: times, values: values))
            }
        }
        series.append(Series(labels: Labels([("__name__", "odd"), ("ünïcode", "värde")]), times: [.min, 0, .max], values: [-0.0, .infinity, .nan]))
        return series.sorted { $0.labels < $1.labels }
    }()

    /// More series, so that there are posting lists of both forms: of runs, and of gaps.
    private static let manySeries: [Series] = (0..<200).map { number in
        Series(
            labels: Labels([("__name__", "fleet_\(number / 80)"), ("host", "\(1000 + number)"), ("rack", "\(number * 37 % 11)")]),
            times: [0, Int64(number + 1)],
            values: [1, Double(number)])
    }

    private static let logs: [LogRow] = {
        var logs: [LogRow] = []
        for stream in 0..<2 {
            for row in 0..<50 {
                var attributes: [UInt8] = []
                attributes.appendAttribute(Array("status".utf8), .int(Int64(200 + row % 3 * 100)))
                var log = LogRow(labels: Labels([("service_name", "shop-\(stream)")]))
                log.time = 1_700_000_000_000_000_000 + Int64(row / 2) * 1_000_000
                log.severity = UInt8(9 + row % 2 * 8)
                log.line = row == 7 ? [0, 0xff, 0xc3, 0x28] : Array("request \(row) of stream \(stream)".utf8)
                if row % 4 != 0 { log.attributes = attributes }
                if row % 5 == 0 { log.traceID = TraceID(high: UInt64(row), low: 7) }
                if row % 5 == 0 { log.spanID = UInt64(row) }
                if stream == 1 { log.resource = attributes }
                if row % 2 != 0 { log.scope = attributes }
                log.flags = UInt8(row % 2)
                log.arrival = UInt64(row * 2 + stream)
                logs.append(log)
            }
        }
        return logs
    }()

    private static let spans: [SpanRow] = {
        var spans: [SpanRow] = []
        for trace in 1..<5 {
            for span in 0..<6 {
                var row = SpanRow()
                row.traceID = TraceID(high: UInt64(trace), low: 0xabc)
                row.spanID = UInt64(trace * 100 + span)
                row.parentID = span == 0 ? 0 : span == 5 ? 9 : UInt64(trace * 100)
                row.start = 1_700_000_000_000_000_000 + Int64(span) * 1000
                row.duration = Int64(span) * 500
                row.kind = UInt8(span)
                row.status = UInt8(span % 3)
                row.flags = UInt32(span % 2)
                if span % 2 != 0 { row.texts = (0..<7).map { Array("column \($0) of \(span)".utf8) } }
                if span != 3 {
                    row.resource = Array("resource \(span % 2)".utf8)
                    row.service = "service-\(span % 2)"
                }
                if span >= 3 { row.scope = [1, 2, 3] }
                spans.append(row)
            }
        }
        return spans
    }()

    func testWriteFixtures() throws {
        guard let version = ProcessInfo.processInfo.environment["OBS_WRITE_FIXTURES"] else { throw XCTSkip("writes only when asked") }
        try LocalFileSystem().makeDirectories("\(Self.folder)/\(version)")
        for (name, write) in [
            ("metrics", { _ = try writeMetrics((Self.series + Self.manySeries).sorted { $0.labels < $1.labels }, $0) }),
            ("logs", { try writeLogs(Self.logs, $0) }), ("traces", { try writeSpans(Self.spans, $0) }),
        ] as [(String, (MemoryFileSystem) throws -> Void)] {
            let disk = MemoryFileSystem()
            try write(disk)
            try LocalFileSystem().writeAtomically("\(Self.folder)/\(version)/\(name).seg", XCTUnwrap(disk.content(path)))
        }
    }

    /// The fixture as a file of the disk that the support functions read.
    private func disk(_ version: String, _ name: String) throws -> MemoryFileSystem {
        let disk = MemoryFileSystem()
        disk.setContent(path, try LocalFileSystem().readAll("\(Self.folder)/\(version)/\(name).seg"))
        try verify(disk, path)
        XCTAssertEqual(try readSegmentInfo(disk, path).walRanges, draft.walRanges)
        return disk
    }

    func testVersion1() throws {
        XCTAssertTrue(try readMetrics(disk("v1", "metrics")) == Self.series)
        XCTAssertTrue(try readLogs(disk("v1", "logs")) == Self.logs)
        XCTAssertTrue(try readSpans(disk("v1", "traces")) == Self.spans)
    }

    func testVersion2() throws { try assertReads("v2") }

    func testVersion3() throws {
        try assertReads("v3")
        let logs = try LogSegmentReader.open(try disk("v3", "logs"), path)
        for number in logs.blocks.indices { XCTAssertEqual(logs.blocks[number].counts, try counted(logs, number)) }
        // Older blocks do not say, and are counted when they are asked.
        let older = try LogSegmentReader.open(try disk("v2", "logs"), path)
        for number in older.blocks.indices {
            XCTAssertNil(older.blocks[number].counts)
            XCTAssertEqual(try older.counts(block: number), try counted(older, number))
        }
    }

    private func counted(_ reader: LogSegmentReader, _ block: Int) throws -> LogBlockCounts? {
        let batch = try reader.read(block: block)
        var counts = try reader.counts(block: block)
        counts.streams = batch.streams.indices.map { stream in UInt32(batch.stream.count { Int($0) == stream }) }
        counts.severities = Set(batch.severity).sorted().map { severity in (severity, UInt32(batch.severity.count { $0 == severity })) }
        return counts
    }

    private func assertReads(_ version: String) throws {
        XCTAssertTrue(try readLogs(disk(version, "logs")) == Self.logs)
        XCTAssertTrue(try readSpans(disk(version, "traces")) == Self.spans)
        let disk = try disk(version, "metrics")
        let series = (Self.series + Self.manySeries).sorted { $0.labels < $1.labels }
        XCTAssertTrue(try readMetrics(disk) == series)
        let reader = try MetricSegmentReader.open(disk, path)
        for matcher in try [LabelMatcher(equal: "__name__", "fleet_1"), LabelMatcher(equal: "rack", "7"), LabelMatcher("host", .matches, "1.5.")] {
            XCTAssertEqual(try reader.select([matcher]), series.indices.filter { [matcher].match(series[$0].labels) })
        }
    }
}
