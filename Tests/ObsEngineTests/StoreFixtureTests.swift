internal import ObsCompress
internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsStore
internal import ObsTestSupport
internal import ObsWire
import XCTest

/// A data folder as each version ever released leaves it after `kill -9`: VERSION, epochs, a tombstone, segments of three flushes, a log that was not flushed with
/// every form of record. `Fixtures/store/v1` was written with segments of version 1, `v2` with those of version 3, neither is ever written again; a new version adds a folder: run once with
/// OBS_WRITE_FIXTURES=v3, as for the segments.
final class StoreFixtureTests: EngineTestCase {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Fixtures/store"
    private static let startSeconds: Int64 = 1_700_000_000

    private func open(_ root: String, _ disk: any FileSystem, isWriting: Bool = false) throws -> StorageEngine {
        DiagnosticLog.threshold = .error
        var configuration = EngineConfiguration(dataDirectory: root, retentionMillis: nil)
        // A quiet log is marked only by an engine that minds itself.
        configuration.maintainsItself = isWriting
        if !isWriting { configuration.merge.fanInMax = 2 }
        return try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: WireDecoder(limits: configuration.limits))
    }

    // MARK: What is in it

    private func send(_ engine: StorageEngine, _ format: WireFormat, _ compression: BodyCompression, _ body: [UInt8], parameters: String = "") throws {
        let sent =
            switch compression {
            case .none: body
            case .gzip: gzipCompress(body)
            case .zstd: zstdCompress(body, level: 1)
            case .snappy: snappyCompress(body)
            case .deflate: deflateCompress(body)
            }
        let request = RawRequest(format: format, compression: compression, parameters: parameters, body: sent)
        switch try WireDecoder(limits: Limits()).decodeRequest(request, receivedAtNanos: clock.nowNanos()).batch {
        case .metrics(let batch): _ = try engine.appendAndWait(batch, origin: origin("default", request))
        case .logs(let batch): _ = try engine.appendAndWait(batch, origin: origin("default", request))
        case .spans(let batch): _ = try engine.appendAndWait(batch, origin: origin("default", request))
        }
    }

    private static func line(_ minute: Int64) -> String { #"{"app":"lines","at":"\#(startSeconds + minute * 60)000000002","text":"line \#(minute)"}"# }

    /// A minute's worth of records: requests in every compression, and batches, of every signal.
    private func fill(_ engine: StorageEngine, minute: Int64) throws {
        let seconds = Self.startSeconds + minute * 60
        func nanos(_ offset: Int) -> Int64 { seconds * 1_000_000_000 + Int64(offset) }
        var series = ProtobufWriter()
        series.message(1) { series in
            for (name, value) in [("__name__", "written"), ("job", "a")] {
                series.message(1) { label in
                    label.string(1, name)
                    label.string(2, value)
                }
            }
            series.message(2) { sample in
                sample.double(1, Double(minute) + 0.25)
                sample.int(2, seconds * 1000)
            }
        }
        try send(engine, .remoteWrite1, .snappy, series.bytes)
        let gauge =
            #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"gauge","gauge":{"dataPoints":[{"timeUnixNano":"\#(nanos(0))","asDouble":\#(minute).5}]}}]}]}]}"#
        try send(engine, .otlpMetricsJSON, .deflate, Array(gauge.utf8))
        try write(engine, [("scraped", seconds * 1000, Double(minute)), ("scraped", seconds * 1000 + 15_000, .infinity)])

        try send(engine, .lokiJSON, .gzip, Array(#"{"streams":[{"stream":{"app":"loki"},"values":[["\#(nanos(1))","loki \#(minute)"]]}]}"#.utf8))
        try send(engine, .jsonLines, .none, Array("\(Self.line(minute))\n".utf8), parameters: "_stream_fields=app&_time_field=at&_msg_field=text")
        let record =
            #"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"\#(nanos(3))","severityNumber":17,"body":{"stringValue":"otlp \#(minute)"}}]}]}]}"#
        try send(engine, .otlpLogsJSON, .zstd, Array(record.utf8))
        _ = try engine.appendAndWait(logBatch([(["app": "batch"], nanos(4), "batch \(minute)")]), origin: origin())
        _ = try engine.appendAndWait(logBatch([(["app": "batch"], nanos(5), "another tenant's \(minute)")]), origin: origin("acme"))

        let span =
            #"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000abc","spanId":"000000000000000\#(minute + 1)","name":"op","startTimeUnixNano":"\#(nanos(6))","endTimeUnixNano":"\#(nanos(9))"}]}]}]}"#
        try send(engine, .otlpTracesJSON, .none, Array(span.utf8))
        _ = try engine.appendAndWait(spanBatch([(0xdef, UInt64(minute + 10), "shop", "pay", nanos(7), 5)]), origin: origin())
    }

    func testWriteFixtures() throws {
        guard let version = ProcessInfo.processInfo.environment["OBS_WRITE_FIXTURES"] else { throw XCTSkip("writes only when asked") }
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk, isWriting: true)
        for minute in 0..<3 {
            try fill(engine, minute: Int64(minute))
            try engine.flush()
        }
        try engine.delete(.default, .logs, [[LabelMatcher(equal: "app", "loki")]], range: .min ... .max)
        try engine.delete(.default, .metrics, [[LabelMatcher("__name__", .matches, "scr.*")]], range: .min...Self.startSeconds * 1000 + 60_000)
        try fill(engine, minute: 3)
        // Long enough for the log to be marked as synced.
        sleep(2)
        for path in disk.paths where path.hasPrefix(root + "/") && !path.hasSuffix("/lock") {
            let copy = "\(Self.folder)/\(version)/\(path.dropFirst(root.count + 1))"
            try LocalFileSystem().makeDirectories(DiskLayout.folder(of: copy))
            try LocalFileSystem().writeAtomically(copy, try disk.readAll(path))
        }
        engine.close()
    }

    // MARK: Every version is read

    private func load(_ version: String, into root: String) throws -> FaultyFileSystem {
        let disk = FaultyFileSystem()
        let folder = "\(Self.folder)/\(version)"
        let names = try XCTUnwrap(FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String })
        for name in names.sorted() where !LocalFileSystem().isDirectory("\(folder)/\(name)") {
            try disk.makeDirectories(DiskLayout.folder(of: "\(root)/\(name)"))
            try disk.writeAtomically("\(root)/\(name)", try LocalFileSystem().readAll("\(folder)/\(name)"))
        }
        return disk
    }

    /// All that is to be seen, minute by minute.
    private func assertAnswers(_ engine: StorageEngine, _ when: String, line: UInt = #line) throws {
        func at(_ minute: Int64, _ seconds: Int64 = 0) -> Int64 { (Self.startSeconds + minute * 60 + seconds) * 1000 }
        let minutes: [Int64] = [0, 1, 2, 3]
        let metrics: [String: [Int64: Double]] = [
            "written": Dictionary(uniqueKeysWithValues: minutes.map { (at($0), Double($0) + 0.25) }),
            "gauge": Dictionary(uniqueKeysWithValues: minutes.map { (at($0), Double($0) + 0.5) }),
            // A deletion reaches to minute 1, both ends included.
            "scraped": [at(1, 15): .infinity, at(2): 2, at(2, 15): .infinity, at(3): 3, at(3, 15): .infinity],
        ]
        XCTAssertEqual(try read(engine), metrics, when, line: line)
        let lines = minutes.flatMap { ($0 == 3 ? ["loki 3"] : []) + [Self.line($0), "otlp \($0)", "batch \($0)"] }
        XCTAssertEqual(try readLogs(engine).lines, lines, when, line: line)
        XCTAssertEqual(try readLogs(engine, tenant: "acme").lines, minutes.map { "another tenant's \($0)" }, when, line: line)
        XCTAssertEqual(try readSpans(engine).spans, [1, 2, 3, 4, 10, 11, 12, 13], when, line: line)
        let trace = SpanSelection(traceIDs: [TraceID(high: 0, low: 0xabc)])
        XCTAssertEqual(try readSpans(engine, trace).spans, [1, 2, 3, 4], when, line: line)
        XCTAssertEqual(try engine.labelValues(.logs, "app", [], range: .min ... .max, context: context()), ["batch", "lines", "loki"], when, line: line)
    }

    private func assertReads(_ version: String) throws {
        let root = makeRoot()
        let disk = try load(version, into: root)
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk, decoder: WireDecoder(limits: Limits())).damage, 0)
        var engine = try open(root, disk)
        try assertAnswers(engine, "the log replayed")
        try engine.flush()
        try assertAnswers(engine, "the log in segments")
        let before = disk.paths.filter { $0.hasSuffix(".seg") }.count
        try engine.merge()
        XCTAssertLessThan(disk.paths.filter { $0.hasSuffix(".seg") }.count, before)
        try assertAnswers(engine, "segments of then and now merged")
        try engine.cleanTombstones()
        XCTAssertEqual(try disk.list(root + "/tombstones"), [])
        try assertAnswers(engine, "deleted rows gone")
        engine.close()
        engine = try open(root, disk)
        try assertAnswers(engine, "started again")
        XCTAssertEqual(engine.status().quarantined, 0)
        engine.close()
        XCTAssertEqual(try Fsck.check(root, fileSystem: disk, decoder: WireDecoder(limits: Limits())).findings, [])
    }

    func testVersion1() throws { try assertReads("v1") }
    /// With segments of version 3.
    func testVersion2() throws { try assertReads("v2") }
}
