import ObsCore
import ObsDisk
import ObsSegment
import XCTest

/// xorshift64*: the same numbers in every run.
struct Random: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

let draft = SegmentDraft(id: "0000000000000001-0", tenant: .default, level: 0, walRanges: [WALRange(first: 1, last: 3), WALRange(first: 7, last: 7)])
let path = "/data/tenants/default/x/1970-01-01/0000000000000001-0.seg"

struct Series: Equatable {
    var labels: Labels
    var times: [Int64]
    var values: [Double]

    static func == (a: Series, b: Series) -> Bool {
        a.labels == b.labels && a.times == b.times && a.values.map(\.bitPattern) == b.values.map(\.bitPattern)
    }
}

func writeMetrics(_ series: [Series], _ disk: any FileSystem, draft: SegmentDraft = draft) throws -> SegmentInfo {
    let writer = try MetricSegmentWriter(fileSystem: disk, path: path, draft: draft)
    for one in series { try writer.add(labels: one.labels, times: one.times, values: one.values) }
    return try writer.finish()
}

func readMetrics(_ disk: any FileSystem) throws -> [Series] {
    let reader = try MetricSegmentReader.open(disk, path)
    return try (0..<reader.seriesCount).map { ordinal in
        let samples = try reader.samples(ordinal, range: .min ... .max)
        return Series(labels: try reader.labels(ordinal), times: samples.times, values: samples.values)
    }
}

/// A record with everything spelled out: what a batch row means, whatever tables it came with.
struct LogRow: Equatable {
    var labels = Labels([("service_name", "shop"), ("env", "test")])
    var time: Int64 = 0
    var severity: UInt8 = 0
    var line: [UInt8] = []
    var attributes: [UInt8] = []
    var traceID = TraceID.none
    var spanID: SpanID = 0
    var resource: [UInt8] = []
    var scope: [UInt8] = []
    var flags: UInt8 = 0
    var arrival: UInt64 = 0
}

func batch(_ rows: [LogRow]) -> LogBatch {
    var batch = LogBatch()
    var streams: [Labels: UInt32] = [:]
    for row in rows {
        let stream =
            streams[row.labels]
            ?? {
                batch.streams.append(batch.bytes.intern(row.labels.bytes))
                streams[row.labels] = UInt32(batch.streams.count - 1)
                return UInt32(batch.streams.count - 1)
            }()
        if !row.resource.isEmpty { batch.resources.append(batch.bytes.intern(row.resource)) }
        if !row.scope.isEmpty { batch.scopes.append(batch.bytes.intern(row.scope)) }
        batch.appendRow(
            stream: stream, timeNanos: row.time, severity: row.severity, line: batch.bytes.intern(row.line), attributes: batch.bytes.intern(row.attributes),
            traceID: row.traceID, spanID: row.spanID, resource: row.resource.isEmpty ? 0 : UInt32(batch.resources.count - 1),
            scope: row.scope.isEmpty ? 0 : UInt32(batch.scopes.count - 1), flags: .init(rawValue: row.flags))
        batch.arrival.append(row.arrival)
    }
    return batch
}

func rows(_ batch: LogBatch) -> [LogRow] {
    func text(_ range: ByteRange) -> [UInt8] { Array(batch.bytes[range.range]) }
    return (0..<batch.count).map { row in
        LogRow(
            labels: batch.labels(ofStream: batch.stream[row]), time: batch.timeNanos[row], severity: batch.severity[row], line: text(batch.line[row]),
            attributes: text(batch.attributes[row]), traceID: batch.traceID[row], spanID: batch.spanID[row],
            resource: text(batch.resources[Int(batch.resource[row])]), scope: text(batch.scopes[Int(batch.scope[row])]), flags: batch.flags[row].rawValue,
            arrival: batch.arrival[row])
    }
}

@discardableResult
func writeLogs(_ rows: [LogRow], _ disk: any FileSystem, draft: SegmentDraft = draft) throws -> SegmentInfo {
    let writer = try LogSegmentWriter(fileSystem: disk, path: path, draft: draft)
    let all = batch(rows)
    try writer.add([all], rows: (0..<all.count).map { RowPlace(source: 0, row: UInt32($0)) })
    return try writer.finish()
}

func readLogs(_ disk: any FileSystem) throws -> [LogRow] {
    let reader = try LogSegmentReader.open(disk, path)
    return try reader.blocks.indices.flatMap { rows(try reader.read(block: $0)) }
}

struct SpanRow: Equatable {
    var traceID = TraceID(high: 1, low: 1)
    var spanID: SpanID = 1
    var parentID: SpanID = 0
    var start: Int64 = 0
    var duration: Int64 = 0
    var kind: UInt8 = 0
    var status: UInt8 = 0
    var flags: UInt32 = 0
    var texts: [[UInt8]] = [[UInt8]](repeating: [], count: 7)  // name, status message, trace state, attributes, events, links, dropped
    var resource: [UInt8] = []
    var service = "unknown_service"
    var scope: [UInt8] = []
}

func batch(_ rows: [SpanRow]) -> SpanBatch {
    var batch = SpanBatch()
    batch.services[0] = batch.bytes.intern(Array("unknown_service".utf8))
    for row in rows {
        if !row.resource.isEmpty {
            batch.resources.append(batch.bytes.intern(row.resource))
            batch.services.append(batch.bytes.intern(Array(row.service.utf8)))
        }
        if !row.scope.isEmpty { batch.scopes.append(batch.bytes.intern(row.scope)) }
        let texts = row.texts.map { batch.bytes.intern($0) }
        batch.appendRow(
            traceID: row.traceID, spanID: row.spanID, parentID: row.parentID, startNanos: row.start, durationNanos: row.duration, kind: row.kind,
            status: row.status, flags: row.flags, name: texts[0], statusMessage: texts[1], traceState: texts[2], attributes: texts[3], events: texts[4],
            links: texts[5], dropped: texts[6], resource: row.resource.isEmpty ? 0 : UInt32(batch.resources.count - 1),
            scope: row.scope.isEmpty ? 0 : UInt32(batch.scopes.count - 1))
    }
    return batch
}

func rows(_ batch: SpanBatch) -> [SpanRow] {
    func text(_ range: ByteRange) -> [UInt8] { Array(batch.bytes[range.range]) }
    return (0..<batch.count).map { row in
        SpanRow(
            traceID: batch.traceID[row], spanID: batch.spanID[row], parentID: batch.parentID[row], start: batch.startNanos[row],
            duration: batch.durationNanos[row], kind: batch.kind[row], status: batch.status[row], flags: batch.flags[row],
            texts: [
                batch.name[row], batch.statusMessage[row], batch.traceState[row], batch.attributes[row], batch.events[row], batch.links[row],
                batch.dropped[row],
            ].map(text), resource: text(batch.resources[Int(batch.resource[row])]), service: batch.bytes.string(batch.services[Int(batch.resource[row])]),
            scope: text(batch.scopes[Int(batch.scope[row])]))
    }
}

@discardableResult
func writeSpans(_ rows: [SpanRow], _ disk: any FileSystem, draft: SegmentDraft = draft) throws -> SegmentInfo {
    let writer = try SpanSegmentWriter(fileSystem: disk, path: path, draft: draft)
    let all = batch(rows)
    try writer.add([all], rows: (0..<all.count).map { RowPlace(source: 0, row: UInt32($0)) })
    return try writer.finish()
}

func readSpans(_ disk: any FileSystem) throws -> [SpanRow] {
    let reader = try SpanSegmentReader.open(disk, path)
    return try reader.blocks.indices.flatMap { rows(try reader.read(block: $0)) }
}

/// Flips every bit and cuts at every byte: each damaged file must be refused or read as the undamaged one. `read` reads all there is.
func checkDamage<T: Equatable>(_ disk: MemoryFileSystem, _ read: () throws -> T, file: StaticString = #filePath, line: UInt = #line) throws {
    let original = try XCTUnwrap(disk.content(path))
    let expected = try read()
    try verify(disk, path)
    var refused = 0
    for offset in original.indices {
        for bit in [0, 3, 7] {
            var damaged = original
            damaged[offset] ^= 1 << UInt8(bit)
            disk.setContent(path, damaged)
            XCTAssertThrowsError(try verify(disk, path), "byte \(offset) bit \(bit) was not noticed", file: file, line: line) { error in
                XCTAssertEqual((error as? ObsError)?.code, .corrupt)
                XCTAssertNotNil((error as? ObsError)?.place)
            }
            do {
                let data = try read()
                XCTAssertEqual(data, expected, "byte \(offset) bit \(bit) changed the data", file: file, line: line)
            } catch let error as ObsError {
                XCTAssertEqual(error.code, .corrupt, "\(error)", file: file, line: line)
                refused += 1
            }
        }
    }
    XCTAssertGreaterThan(refused, 0, file: file, line: line)
    for length in original.indices {
        disk.setContent(path, Array(original.prefix(length)))
        XCTAssertThrowsError(try read(), "cut at \(length) was not noticed", file: file, line: line)
        XCTAssertThrowsError(try readSegmentInfo(disk, path), file: file, line: line)
    }
    disk.setContent(path, original)
}
