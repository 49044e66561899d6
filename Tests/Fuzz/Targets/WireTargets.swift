// What clients send, through the door they send it to: decompress, decode, apply the limits.
import ObsCompress
import ObsCore
import ObsIngest
import ObsStore
import ObsWire

/// Ordinary limits with a bound on the decompressed size that an allocation past the fuzzer's can be told from.
let fuzzLimits: Limits = {
    var limits = Limits()
    limits.decodedBytesMax = 16 << 20
    return limits
}()

let wireTargets: [FuzzTarget] = [
    FuzzTarget("remote-write") { try decode(.remoteWrite1, $0) },
    FuzzTarget("remote-write-2") { try decode(.remoteWrite2, $0) },
    FuzzTarget("otlp-metrics-protobuf") { try decode(.otlpMetricsProtobuf, $0) },
    FuzzTarget("otlp-metrics-json") { try decode(.otlpMetricsJSON, $0) },
    FuzzTarget("otlp-logs-protobuf") { try decode(.otlpLogsProtobuf, $0) },
    FuzzTarget("otlp-logs-json") { try decode(.otlpLogsJSON, $0) },
    FuzzTarget("otlp-traces-protobuf") { try decode(.otlpTracesProtobuf, $0) },
    FuzzTarget("otlp-traces-json") { try decode(.otlpTracesJSON, $0) },
    FuzzTarget("loki-json") { try decode(.lokiJSON, $0) },
    FuzzTarget("loki-protobuf") { try decode(.lokiProtobuf, $0) },
    FuzzTarget("json-lines") { try decode(.jsonLines, $0) },
    FuzzTarget("json-lines-fields") { bytes in
        // The first line is the query string.
        let end = bytes.firstIndex(of: 0x0a) ?? bytes.endIndex
        let parameters = String(decoding: bytes[..<end], as: UTF8.self)
        try decode(.jsonLines, Array(bytes[end...]), parameters: parameters)
    },
    FuzzTarget("prometheus-text") { touch(try PrometheusText.parse($0, format: .text, limits: fuzzLimits)) },
    FuzzTarget("open-metrics") { touch(try PrometheusText.parse($0, format: .openMetrics, limits: fuzzLimits)) },
    FuzzTarget("prometheus-protobuf") { bytes in
        let options = ExpositionOptions(nativeHistograms: true, convertsClassic: true, keepsClassic: true)
        touch(try Exposition.parse(bytes, format: .protobuf, options: options))
    },
    FuzzTarget("gzip") { try decompressed($0, .gzip) },
    FuzzTarget("deflate") { try decompressed($0, .deflate) },
    FuzzTarget("zstd") { try decompressed($0, .zstd) },
    FuzzTarget("snappy") { try decompressed($0, .snappy) },
    FuzzTarget("json-document") { bytes in
        for repairing in [false, true] {
            guard let document = try? JSONDocument.parse(bytes, repairing: repairing) else { continue }
            var text: [UInt8] = []
            document.root.appendJSON(to: &text)
            var again: [UInt8] = []
            required { try JSONDocument.parse(text, nestingMax: 1000) }.root.appendJSON(to: &again)
            precondition(again == text)
            walk(document.root)
        }
    },
    FuzzTarget("json-scanner") { bytes in
        try bytes.withUnsafeBytes { raw in
            var scanner = JSONScanner(raw)
            try scan(&scanner)
            try scanner.end()
        }
    },
    FuzzTarget("numbers-and-times") { bytes in
        bytes.withUnsafeBytes { raw in
            _ = parseFloat(raw)
            _ = parseEpoch(raw)
            _ = parseRFC3339(raw)
            _ = LevelDetection.severity(line: raw)
            _ = LevelDetection.severity(labels: raw)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        _ = parseDurationMillis(text)
        _ = parseGoDuration(text)
        _ = decodeBase64(bytes)
        _ = attributeList(bytes)
    },
]

func touch(_ batch: DecodedBatch) {
    switch batch {
    case .metrics(let batch): touch(batch)
    case .logs(let batch): touch(batch)
    case .spans(let batch): touch(batch)
    }
}

private func decode(_ format: WireFormat, _ body: [UInt8], parameters: String = "") throws {
    let request = RawRequest(format: format, compression: .none, parameters: parameters, body: body)
    let decoded = try WireDecoder(limits: fuzzLimits).decodeRequest(request, receivedAtNanos: 1_700_000_000_000_000_000)
    touch(decoded.batch)
    for point in 0..<decoded.deltas.count { _ = decoded.deltas.labels(ofPoint: point).pairs }
}

private func decompressed(_ body: [UInt8], _ compression: BodyCompression) throws {
    let bound = 1 << 20
    let decoded = try decompress(body, compression, decodedBytesMax: bound)
    precondition(decoded.count <= bound)
}

private func walk(_ value: JSONValue) {
    _ = (value.kind, value.int64, value.uint64, value.double, value.bool, value.string, value.count)
    value.forEachMember { _, member in walk(member) }
    value.forEachElement { walk($0) }
}

private func scan(_ scanner: inout JSONScanner) throws(ObsError) {
    switch scanner.peek() {
    case .object:
        try scanner.enterObject()
        while let key = try scanner.nextKey() {
            var name: [UInt8] = []
            unescapeJSON(scanner.bytes(key), into: &name)
            try scan(&scanner)
        }
    case .array:
        try scanner.enterArray()
        while try scanner.nextElement() { try scan(&scanner) }
    default:
        let token = try scanner.value()
        var text: [UInt8] = []
        if token.kind == .string { unescapeJSON(scanner.bytes(token), into: &text) }
    }
}
