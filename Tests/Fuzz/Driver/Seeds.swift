// Inputs to begin with: one valid one of each form, small, so that mutations hit something. What fuzzing adds is merged into Tests/Fuzz/corpus.
import ObsCompress
import ObsCore
import ObsDisk
import ObsEncoding
import ObsSegment
import ObsStore
@testable import ObsEngine
@testable import ObsWAL
import ObsWire

func writeSeeds(to folder: String) throws {
    let files = LocalFileSystem()
    for (target, inputs) in try seeds() {
        try files.makeDirectories("\(folder)/\(target)")
        for (number, input) in inputs.enumerated() { try files.writeAtomically("\(folder)/\(target)/seed-\(number)", input) }
    }
}

private func seeds() throws -> [String: [[UInt8]]] {
    var seeds = try diskSeeds()
    seeds.merge(columnSeeds()) { $1 }
    seeds.merge(protobufSeeds()) { $1 }
    let body = Array(#"{"a":1}"#.utf8) + [UInt8](repeating: 65, count: 90)
    seeds["gzip"] = [gzipCompress(body), gzipCompress([])]
    seeds["deflate"] = [deflateCompress(body)]
    seeds["zstd"] = [zstdCompress(body, level: 1), zstdCompress([], level: 1)]
    seeds["snappy"] = [body.withUnsafeBytes { snappyCompress($0) }]
    for (target, texts) in textSeeds { seeds[target] = texts.map { Array($0.utf8) } }
    let matchers = [LabelMatcher(equal: "app", "x"), try LabelMatcher("env", .matches, "a|b.*"), try LabelMatcher("job", .notEqual, "")]
    let tombstone = try Tombstone(
        tenant: .default, signal: .logs, createdNanos: 1_700_000_000_000_000_000, through: 7, range: 0...1_700_000_000_000_000_000,
        selectors: [matchers, [matchers[0]]]
    ).encoded()
    seeds["tombstone"] = [tombstone]
    seeds["tombstone-sealed"] = [try Frame.content(of: Array(tombstone.dropFirst(8)))]
    seeds["websocket"] = [
        [0x81, 0x03, 97, 98, 99], [0x81, 0x83, 1, 2, 3, 4, 97, 98, 99], [0x82, 0x7e, 0, 200] + [UInt8](repeating: 7, count: 200), [0x88, 0x02, 3, 232],
    ]
    for (key, value) in seeds { seeds[key] = value.filter { !$0.isEmpty } }
    return seeds
}

// MARK: - Disk

private func metricBatch() -> MetricBatch {
    var batch = MetricBatch()
    batch.append(Labels([("__name__", "up"), ("job", "a")]), timeMillis: 1_700_000_000_000, value: 1)
    batch.append(Labels([("__name__", "x"), ("job", "b")]), timeMillis: 1_700_000_000_500, value: 0.25)
    let label = batch.bytes.intern(Labels([("trace_id", "x")]).bytes)
    batch.exemplars = [MetricBatch.Exemplar(series: 1, labels: label, value: 3, timeMillis: 9)]
    batch.metadata = [MetricBatch.Metadata(family: label, type: .histogram, help: .empty, unit: label)]
    return batch
}

private func histogramBatch() -> MetricBatch {
    var batch = metricBatch()
    batch.setStarts(5, from: 1)
    let layout = batch.histograms.intern(
        HistogramLayout(schema: 3, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: -2, length: 2)], negative: []))
    for row in 0..<2 { batch.histograms.append(timeMillis: Int64(row), layout: layout, count: 3, zeroCount: 0, sum: 1, buckets: [1, 2]) }
    batch.histogramSeries = [0, 1]
    return batch
}

private func logBatch(rows: Int = 3) -> LogBatch {
    var batch = LogBatch()
    batch.streams = [batch.bytes.intern(Labels([("app", "x")]).bytes), batch.bytes.intern(Labels([("app", "y")]).bytes)]
    var attributes: [UInt8] = []
    attributes.appendAttribute("k".utf8, .int(5))
    let list = batch.bytes.intern(attributes)
    batch.resources.append(list)
    batch.scopes.append(list)
    for row in 0..<rows {
        batch.appendRow(
            stream: row < rows / 2 ? 0 : 1, timeNanos: 1_700_000_000_000_000_000 + Int64(row * row), severity: UInt8(row),
            line: batch.bytes.intern("l\(row)".utf8),
            attributes: row % 2 == 0 ? list : .empty, traceID: TraceID(high: 1, low: UInt64(row / 2)), spanID: UInt64(row), resource: UInt32(row % 2),
            scope: UInt32(row % 2), flags: row % 2 == 0 ? .identified : [])
        batch.arrival.append(UInt64(row))
    }
    return batch
}

private func spanBatch(rows: Int = 3) -> SpanBatch {
    var batch = SpanBatch()
    batch.services[0] = batch.bytes.intern("u".utf8)
    var attributes: [UInt8] = []
    attributes.appendAttribute("k".utf8, .string("v"))
    let list = batch.bytes.intern(attributes)
    batch.resources.append(list)
    batch.services.append(batch.bytes.intern("svc".utf8))
    batch.scopes.append(list)
    var events: [UInt8] = []
    var links: [UInt8] = []
    events.appendSpanEvent(timeNanos: 5, name: "e".utf8, attributeList: attributes, droppedAttributes: 1)
    links.appendSpanLink(traceID: TraceID(high: 1, low: 2), spanID: 3, traceState: "a=b".utf8, attributeList: attributes, droppedAttributes: 0, flags: 1)
    for row in 0..<rows {
        batch.appendRow(
            traceID: TraceID(high: 1, low: UInt64(row / 2)), spanID: UInt64(row + 1), parentID: UInt64(row), startNanos: 1_700_000_000_000_000_000 + Int64(row),
            durationNanos: Int64(row * 7), kind: UInt8(row), status: UInt8(row % 3), flags: UInt32(row), name: batch.bytes.intern("n\(row)".utf8),
            attributes: row == 0 ? list : .empty, events: row == 1 ? batch.bytes.intern(events) : .empty, links: row == 2 ? batch.bytes.intern(links) : .empty,
            resource: UInt32(row % 2), scope: UInt32(row % 2))
    }
    return batch
}

private func diskSeeds() throws -> [String: [[UInt8]]] {
    let disk = MemoryFileSystem()
    try disk.makeDirectories("/")
    func content(_ path: String) -> [UInt8] { disk.content(path) ?? [] }
    func draft() -> SegmentDraft { SegmentDraft(id: "1-0", tenant: .default, level: 0, walRanges: [WALRange(first: 1, last: 3)]) }

    var metrics: [[UInt8]] = []
    for samples in [1, 3, 40] {
        let path = "/m\(samples)"
        let writer = try MetricSegmentWriter(fileSystem: disk, path: path, draft: draft())
        let times = (0..<samples).map { 1_700_000_000_000 + Int64($0 * 15_000) }
        try writer.add(labels: Labels([("__name__", "up"), ("job", "a")]), times: times, values: times.indices.map { Double($0) * 0.25 })
        try writer.add(labels: Labels([("__name__", "up"), ("job", "b")]), times: times, values: times.map { _ in 1 })
        _ = try writer.finish()
        metrics.append(content(path))
    }
    var logs: [[UInt8]] = []
    var spans: [[UInt8]] = []
    for rows in [1, 3, 20] {
        let writer = try LogSegmentWriter(fileSystem: disk, path: "/l\(rows)", draft: draft())
        try writer.add([logBatch(rows: rows)], rows: (0..<rows).map { RowPlace(source: 0, row: UInt32($0)) })
        _ = try writer.finish()
        logs.append(content("/l\(rows)"))
        let spanWriter = try SpanSegmentWriter(fileSystem: disk, path: "/s\(rows)", draft: draft())
        try spanWriter.add([spanBatch(rows: rows)], rows: (0..<rows).map { RowPlace(source: 0, row: UInt32($0)) })
        _ = try spanWriter.finish()
        spans.append(content("/s\(rows)"))
    }

    var wal = WALFormat.header(signal: .logs, firstSequence: 1)
    let line = Array(#"{"msg":"hello","app":"x"}"#.utf8)
    let payloads: [WALRecord.Payload] = [
        .request(format: WireFormat.jsonLines.rawValue, compression: .none, parameters: "_msg_field=msg", body: line),
        .request(format: WireFormat.lokiJSON.rawValue, compression: .gzip, parameters: "", body: gzipCompress(line)),
        .batch(BatchCodec.encode(logBatch())),
    ]
    for (number, payload) in payloads.enumerated() {
        let record = WALRecord(sequence: UInt64(number + 1), tenant: .default, receivedAtNanos: 5, floor: -5, payload: payload)
        WALFormat.append(record, syncedOffset: 0, seed: 1, to: &wal)
    }
    return [
        "segment-metrics": metrics, "segment-metrics-sealed": metrics, "segment-logs": logs, "segment-logs-sealed": logs, "segment-spans": spans,
        "segment-spans-sealed": spans, "wal": [wal, Array(wal.prefix(32))], "wal-sealed": [wal],
        "batch-metrics": [BatchCodec.encode(metricBatch()), BatchCodec.encode(histogramBatch())],
        "batch-logs": [BatchCodec.encode(logBatch())], "batch-spans": [BatchCodec.encode(spanBatch())],
    ]
}

private func histogramSeed() -> [UInt8] {
    let histograms = histogramBatch().histograms
    var bytes: [UInt8] = [1]
    HistogramCodec.append(histograms.layouts[0], to: &bytes)
    bytes.append(UInt8(histograms.count))
    HistogramCodec.append(histograms, rows: 0..<histograms.count, layouts: [0], to: &bytes)
    return bytes
}

private func columnSeeds() -> [String: [[UInt8]]] {
    func encoded(_ count: UInt8, _ encode: (inout [UInt8]) -> Void) -> [UInt8] {
        var bytes = [count]
        encode(&bytes)
        return bytes
    }
    let text = Array("aaabbbcccaaa".utf8)
    let ranges = (0..<4).map { ByteRange($0 * 3..<$0 * 3 + 3) }
    var frame: [UInt8] = []
    _ = try? Frame.append([UInt8](repeating: 65, count: 90), level: 1, to: &frame)
    var stored: [UInt8] = []
    _ = try? Frame.append([1, 2, 3], level: 1, to: &stored)
    return [
        "column-integers": [[5, 5, 5], [1, 9, 2, 7], [1000, 2000, 3500], [1, 2, 4, 7, 11, 16], [.min, 0, .max]].map { (values: [Int64]) in
            encoded(UInt8(values.count)) { IntegerCodec.append(values, to: &$0) }
        },
        "column-floats": [[1, 1], [0.25, 0.5, 0.75], [1, 2, 3], [.nan, -0.0, .infinity], [1 / 3, 2 / 7, 0.1], [1e300, 12345, 0.01]].map { (values: [Double]) in
            encoded(UInt8(values.count)) { FloatCodec.append(values, to: &$0) }
        },
        "column-statistics": statisticsSeeds(),
        "column-histograms": [histogramSeed()],
        "column-strings": [
            encoded(4) { StringColumn.append(ranges, of: text, to: &$0) }, encoded(2) { StringColumn.append([ranges[0], ranges[3]], of: text, to: &$0) },
            encoded(8) { StringColumn.append([0, 1, 0, 1, 0, 1, 0, 1].map { ranges[$0] }, of: text, to: &$0) },
        ],
        "column-texts": [
            [4] + packedTexts(#"{"ts":"1970-01-01T00:00:00.001Z","n":1.5,"id":"00ff"}"#, 4), [9] + packedTexts("user # from 10.0.0.#: done in 0.# s", 9),
        ],
        "text-view": [
            [4, 9, 0x33] + packedTexts(#"{"ts":"1970-01-01T00:00:00.001Z","n":1.5,"id":"00ff"}"#, 4), [9, 1, 0x12] + packedTexts("user # from 10.0.0.#", 9),
        ],
        "text-filter": [textFilter("user # from 10.0.0.# 0123456789abcdef"), textFilter("")],
        "texts": [
            "\u{0}{\"ts\":\"1970-01-01T00:00:00.001Z\",\"n\":1.50,\"l\":[1,-2],\"s\":\"a \\\" b\",\"h\":\"DEADBEEF\"}\nuser 17 from 10.0.0.7\n007 -0 1. .5 1e3",
            "\u{2}GET /a/17?x=0.10 200\nGET /a/18?x=0.20 404\n",
        ].map { Array($0.utf8) } + [[1, 1, 97, 1, 2, 98, 99, 1, 98, 3, 1, 2, 3, 4, 5, 6, 7, 8, 1, 99, 2, 1, 10, 1, 97, 1, 0]],
        "column-trace-ids": [encoded(4) { TraceIDColumn.append([1, 1, 0, 2].map { TraceID(high: $0, low: $0) }, to: &$0) }],
        "front-coded": [[3, 0, 2, 97, 98, 1, 1, 99, 0, 1, 100]], "chunk-block": [[0, 2, 3, 2, 0, 2, 2, 0, 4]], "posting-list": [[3, 0, 1, 250, 1]],
        "frame": [frame, stored],
    ]
}

private func textFilter(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    var packed: [UInt8] = []
    var filter: [UInt8] = []
    bytes.withUnsafeBytes { TextColumn.append([ByteRange(0..<bytes.count)], of: $0, level: 1, to: &packed, filter: &filter) }
    return filter
}

// MARK: - Protobuf

private func protobufSeeds() -> [String: [[UInt8]]] {
    let now: UInt64 = 1_700_000_000_000_000_000
    func label(_ writer: inout ProtobufWriter, _ name: String, _ value: String) {
        writer.message(1) {
            $0.string(1, name)
            $0.string(2, value)
        }
    }
    func attribute(_ writer: inout ProtobufWriter, _ field: UInt32, _ kind: UInt32) {
        writer.message(field) {
            $0.string(1, "service.name")
            $0.message(2) {
                switch kind {
                case 1: $0.string(1, "v")
                case 2: $0.bool(2, true)
                case 3: $0.varint(3, 7)
                case 4: $0.double(4, 1.5)
                case 5: $0.message(5) { $0.message(1) { $0.string(1, "e") } }
                case 6: $0.message(6) { attribute(&$0, 1, 1) }
                default: $0.bytes(7, [1, 2])
                }
            }
        }
    }
    var write = ProtobufWriter()
    write.message(1) {
        label(&$0, "__name__", "up")
        label(&$0, "job", "a")
        $0.message(2) {
            $0.double(1, 1)
            $0.varint(2, now / 1_000_000)
        }
        $0.message(3) {
            label(&$0, "trace_id", "x")
            $0.double(2, 1)
            $0.varint(3, 5)
        }
        $0.message(4) {
            $0.varint(1, 3)
            $0.double(3, 1)
            $0.zigzag(4, 1)
            $0.double(5, 0.001)
            $0.message(11) {
                $0.zigzag(1, 1)
                $0.varint(2, 2)
            }
            $0.zigzag(12, 1)
            $0.zigzag(12, 1)
            $0.varint(15, now / 1_000_000)
        }
    }
    write.message(3) {
        $0.varint(1, 1)
        $0.string(2, "up")
        $0.string(4, "h")
    }

    func otlp(_ scope: (inout ProtobufWriter) -> Void) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.message(1) {
            $0.message(1) { for kind in 1...7 as ClosedRange<UInt32> { attribute(&$0, 1, kind) } }
            $0.message(2) {
                $0.message(1) {
                    $0.string(1, "scope")
                    $0.string(2, "1")
                    attribute(&$0, 3, 1)
                }
                scope(&$0)
            }
        }
        return writer.bytes
    }
    func point(_ writer: inout ProtobufWriter, _ body: (inout ProtobufWriter) -> Void) {
        writer.message(1) {
            $0.fixed64(2, now - 1_000_000_000)
            $0.fixed64(3, now)
            body(&$0)
        }
    }
    let metrics = (0..<6).map { kind in
        otlp {
            $0.message(2) {
                $0.string(1, "requests")
                $0.string(2, "d")
                $0.string(3, "s")
                switch kind {
                case 0: $0.message(5) { point(&$0) { $0.double(4, 1.5) } }
                case 1, 2:
                    $0.message(7) {
                        point(&$0) { $0.fixed64(6, 5) }
                        $0.varint(2, UInt64(3 - kind))
                        $0.bool(3, true)
                    }
                case 3:
                    $0.message(9) {
                        point(&$0) {
                            $0.fixed64(4, 3)
                            $0.double(5, 2)
                            for count in [1, 2] as [UInt64] { $0.fixed64(6, count) }
                            $0.double(7, 0.5)
                            $0.message(8) {
                                $0.fixed64(2, now)
                                $0.double(3, 1)
                                $0.bytes(4, [1, 2, 3, 4, 5, 6, 7, 8])
                            }
                        }
                        $0.varint(2, 2)
                    }
                case 4:
                    $0.message(10) {
                        point(&$0) {
                            $0.fixed64(4, 3)
                            $0.double(5, 2)
                            $0.zigzag(6, 1)
                            $0.fixed64(7, 1)
                            $0.message(8) {
                                $0.zigzag(1, 1)
                                $0.varint(2, 2)
                            }
                            $0.message(9) { $0.varint(2, 1) }
                        }
                        $0.varint(2, 2)
                    }
                default:
                    $0.message(11) {
                        point(&$0) {
                            $0.fixed64(4, 3)
                            $0.double(5, 2)
                            $0.message(6) {
                                $0.double(1, 0.5)
                                $0.double(2, 1)
                            }
                        }
                    }
                }
            }
        }
    }
    let logs = otlp {
        $0.message(2) {
            $0.fixed64(1, now)
            $0.fixed64(11, now)
            $0.varint(2, 9)
            $0.string(3, "INFO")
            $0.message(5) { $0.string(1, "hello") }
            attribute(&$0, 6, 6)
            $0.fixed32(8, 1)
            $0.bytes(9, [UInt8](repeating: 1, count: 16))
            $0.bytes(10, [UInt8](repeating: 2, count: 8))
        }
    }
    let traces = otlp {
        $0.message(2) {
            $0.bytes(1, [UInt8](repeating: 1, count: 16))
            $0.bytes(2, [UInt8](repeating: 2, count: 8))
            $0.string(3, "a=b")
            $0.bytes(4, [UInt8](repeating: 3, count: 8))
            $0.string(5, "GET /")
            $0.varint(6, 2)
            $0.fixed64(7, now)
            $0.fixed64(8, now + 5)
            attribute(&$0, 9, 5)
            $0.message(11) {
                $0.fixed64(1, now)
                $0.string(2, "e")
                attribute(&$0, 3, 3)
            }
            $0.message(13) {
                $0.bytes(1, [UInt8](repeating: 1, count: 16))
                $0.bytes(2, [UInt8](repeating: 2, count: 8))
            }
            $0.message(15) {
                $0.string(2, "m")
                $0.varint(3, 2)
            }
        }
    }
    var loki = ProtobufWriter()
    loki.message(1) {
        $0.string(1, #"{app="x", level="info"}"#)
        $0.message(2) {
            $0.message(1) {
                $0.varint(1, 1_700_000_000)
                $0.varint(2, 5)
            }
            $0.string(2, "hello")
            $0.message(3) {
                $0.string(1, "k")
                $0.string(2, "v")
            }
        }
    }
    return [
        "remote-write": [write.bytes], "otlp-metrics-protobuf": metrics, "otlp-logs-protobuf": [logs], "otlp-traces-protobuf": [traces],
        "loki-protobuf": [loki.bytes],
    ]
}

/// A column of a text with each `#` replaced by the row's number.
private func packedTexts(_ text: String, _ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    let ranges = (0..<count).map { row in
        Array(text.utf8).flatMap { $0 == UInt8(ascii: "#") ? Array(String(row).utf8) : [$0] }.withUnsafeBytes { bytes.intern($0) }
    }
    var packed: [UInt8] = []
    bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, times: (0..<count).map { Int64($0) * 1_000_000 }, level: 1, to: &packed) }
    return packed
}
