import CProtobufs
import ObsCore
import ObsWire
import XCTest

// Our streaming decoders against protobuf-c: random messages, written field by field in any order with unknown fields between, must be read by both, and both must see the same.

/// The same numbers for the same seed.
struct Seeded {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
    mutating func text() -> String { ["", "a", "service.name", "x\"y\n", "é温", "key.\(below(5))", String(repeating: "z", count: below(200))][below(7)] }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
    mutating func id(_ count: Int) -> [UInt8] { chance(90) ? bytes(count) : [[], [UInt8](repeating: 0, count: count), bytes(count - 1)][below(3)] }
    mutating func nanos() -> UInt64 { chance(20) ? 0 : 1_700_000_000_000_000_000 + next() % 1_000_000_000_000 }
}

/// Writes random OTLP messages.
struct RandomOTLP {
    var random: Seeded

    typealias Field = (inout RandomOTLP, inout ProtobufWriter) -> Void

    /// Writes each field with some likelihood, in any order, repeated ones up to `count` times, and unknown fields of every wire type.
    mutating func write(_ writer: inout ProtobufWriter, _ fields: [Field], repeated: [Field] = []) {
        var all = fields.filter { _ in random.chance(80) }
        for field in repeated { all += [Field](repeating: field, count: random.below(4)) }
        if random.chance(15) {
            all.append { me, writer in
                writer.varint(1000, me.random.next())
                writer.fixed32(1001, 1)
                writer.fixed64(1002, 2)
                writer.string(1003, "unknown")
            }
        }
        for at in all.indices.reversed() where random.chance(30) { all.swapAt(at, random.below(at + 1)) }
        for field in all { field(&self, &writer) }
    }

    mutating func anyValue(_ writer: inout ProtobufWriter, depth: Int = 3) {
        switch random.below(depth > 0 ? 8 : 6) {
        case 0: break
        case 1: writer.bool(2, random.chance(50))
        case 2: writer.int(3, Int64(bitPattern: random.next()))
        case 3: writer.double(4, Double(random.below(1_000_000)) / 64)
        case 4: writer.bytes(7, random.bytes(random.below(9)))
        case 5: writer.string(1, random.text())
        case 6: writer.message(5) { list in for _ in 0..<random.below(4) { list.message(1) { anyValue(&$0, depth: depth - 1) } } }
        default: writer.message(6) { map in for _ in 0..<random.below(4) { map.message(1) { keyValue(&$0, depth: depth - 1) } } }
        }
    }

    mutating func keyValue(_ writer: inout ProtobufWriter, depth: Int = 3) {
        write(&writer, [{ $1.string(1, $0.random.text()) }, { me, writer in writer.message(2) { me.anyValue(&$0, depth: depth) } }])
    }

    static func attributes(_ field: UInt32) -> Field { { me, writer in writer.message(field) { me.keyValue(&$0) } } }

    mutating func resource(_ writer: inout ProtobufWriter) { write(&writer, [{ $1.varint(2, UInt64($0.random.below(3))) }], repeated: [Self.attributes(1)]) }

    mutating func scope(_ writer: inout ProtobufWriter) {
        write(
            &writer, [{ $1.string(1, $0.random.text()) }, { $1.string(2, $0.random.text()) }, { $1.varint(4, UInt64($0.random.below(3))) }],
            repeated: [Self.attributes(3)])
    }

    /// A request of any signal: resource groups of scope groups of `record`s.
    mutating func request(_ record: @escaping Field) -> [UInt8] {
        var writer = ProtobufWriter()
        let scopeGroup: Field = { me, writer in
            writer.message(2) { writer in
                me.write(
                    &writer, [{ me, w in w.message(1) { me.scope(&$0) } }, { $1.string(3, $0.random.text()) }],
                    repeated: [{ me, w in w.message(2) { record(&me, &$0) } }])
            }
        }
        let group: Field = { me, writer in
            writer.message(1) { writer in
                me.write(&writer, [{ me, w in w.message(1) { me.resource(&$0) } }, { $1.string(3, $0.random.text()) }], repeated: [scopeGroup])
            }
        }
        write(&writer, [], repeated: [group])
        return writer.bytes
    }

    mutating func traces() -> [UInt8] {
        let event: Field = { me, writer in
            writer.message(11) { writer in
                me.write(
                    &writer, [{ $1.fixed64(1, $0.random.nanos()) }, { $1.string(2, $0.random.text()) }, { $1.varint(4, UInt64($0.random.below(300))) }],
                    repeated: [Self.attributes(3)])
            }
        }
        let link: Field = { me, writer in
            writer.message(13) { writer in
                writer.bytes(1, me.random.bytes(16))
                writer.bytes(2, me.random.bytes(8))
                me.write(&writer, [{ $1.string(3, $0.random.text()) }, { $1.varint(5, 7) }, { $1.fixed32(6, 0x301) }], repeated: [Self.attributes(4)])
            }
        }
        return request { me, writer in
            me.write(
                &writer,
                [
                    { $1.bytes(1, $0.random.id(16)) }, { $1.bytes(2, $0.random.id(8)) }, { $1.string(3, $0.random.text()) }, { $1.bytes(4, $0.random.id(8)) },
                    { $1.string(5, $0.random.text()) }, { $1.varint(6, UInt64($0.random.below(7))) }, { $1.fixed64(7, $0.random.nanos()) },
                    { $1.fixed64(8, $0.random.nanos()) },
                    { $1.varint(10, UInt64($0.random.below(2))) }, { $1.varint(12, UInt64($0.random.below(2))) }, { $1.varint(14, UInt64($0.random.below(2))) },
                    { me, w in w.message(15) { me.write(&$0, [{ $1.string(2, $0.random.text()) }, { $1.varint(3, UInt64($0.random.below(4))) }]) } },
                    { $1.fixed32(16, 0x101) },
                ], repeated: [Self.attributes(9), event, link])
        }
    }

    mutating func logs() -> [UInt8] {
        request { me, writer in
            me.write(
                &writer,
                [
                    { $1.fixed64(1, $0.random.nanos()) }, { $1.varint(2, UInt64($0.random.below(26))) }, { $1.string(3, $0.random.text()) },
                    { me, w in w.message(5) { me.anyValue(&$0) } }, { $1.varint(7, UInt64($0.random.below(2))) }, { $1.fixed32(8, UInt32($0.random.below(2))) },
                    { $1.bytes(9, $0.random.id(16)) }, { $1.bytes(10, $0.random.id(8)) }, { $1.fixed64(11, $0.random.nanos()) },
                    { $1.string(12, $0.random.text()) },
                ], repeated: [Self.attributes(6)])
        }
    }

    mutating func metrics() -> [UInt8] {
        let exemplar: (UInt32) -> Field = { field in
            { me, writer in
                writer.message(field) { writer in
                    me.write(
                        &writer,
                        [
                            { $1.fixed64(2, $0.random.nanos()) }, { $1.double(3, Double($0.random.below(9))) }, { $1.bytes(4, $0.random.id(8)) },
                            { $1.bytes(5, $0.random.id(16)) },
                        ],
                        repeated: [Self.attributes(7)])
                }
            }
        }
        let times: [Field] = [{ $1.fixed64(2, $0.random.nanos()) }, { $1.fixed64(3, $0.random.nanos()) }]
        let number: Field = { me, writer in
            writer.message(1) { writer in
                let value: Field = { me, w in
                    if me.random.chance(50) { w.double(4, Double(me.random.below(100))) } else { w.fixed64(6, me.random.next()) }
                }
                me.write(&writer, times + [value, { $1.varint(8, UInt64($0.random.below(2))) }], repeated: [Self.attributes(7), exemplar(5)])
            }
        }
        let histogram: Field = { me, writer in
            writer.message(1) { writer in
                let buckets: Field = { me, w in
                    let count = me.random.below(5)
                    if me.random.chance(50) {
                        w.message(6) { for _ in 0...count { $0.packed(fixed64: me.random.next() % 100) } }
                        w.message(7) { for index in 0..<count { $0.packed(fixed64: Double(index).bitPattern) } }
                    } else {
                        for _ in 0...count { w.fixed64(6, me.random.next() % 100) }
                        for index in 0..<count { w.double(7, Double(index)) }
                    }
                }
                me.write(
                    &writer,
                    times + [
                        buckets, { $1.fixed64(4, $0.random.next() % 1000) }, { $1.double(5, 1.5) }, { $1.varint(10, UInt64($0.random.below(2))) },
                        { $1.double(11, 1) },
                    ],
                    repeated: [Self.attributes(9), exemplar(8)])
            }
        }
        let side: (UInt32) -> Field = { field in
            { me, w in
                w.message(field) { writer in
                    writer.zigzag(1, Int64(me.random.below(40) - 20))
                    writer.message(2) { for _ in 0..<me.random.below(300) { $0.packed(varint: me.random.next() % 1000) } }
                }
            }
        }
        let exponential: Field = { me, writer in
            writer.message(1) { writer in
                me.write(
                    &writer,
                    times + [
                        side(8), side(9), { $1.zigzag(6, Int64($0.random.below(12) - 4)) }, { $1.fixed64(7, 3) }, { $1.fixed64(4, 1000) },
                        { $1.double(14, 0.001) },
                    ],
                    repeated: [Self.attributes(1), exemplar(11)])
            }
        }
        let quantile: Field = { me, w in
            w.message(6) {
                $0.double(1, 0.25)
                $0.double(2, 7)
            }
        }
        let summary: Field = { me, writer in
            writer.message(1) { writer in me.write(&writer, times + [{ $1.fixed64(4, 9) }, { $1.double(5, 2) }], repeated: [Self.attributes(7), quantile]) }
        }
        return request { me, writer in
            let (field, point): (UInt32, Field) = [(5, number), (7, number), (9, histogram), (10, exponential), (11, summary)][me.random.below(5)]
            writer.string(1, me.random.text())
            writer.string(3, ["", "s", "By", "1"][me.random.below(4)])
            writer.message(field) { writer in
                me.write(&writer, [{ $1.varint(2, UInt64($0.random.below(3))) }, { $1.bool(3, $0.random.chance(50)) }], repeated: [point])
            }
        }
    }
}

final class OTLPOracleTests: XCTestCase {
    private let seeds: ClosedRange<UInt64> = 1...300

    func testTracesAsProtobufCReadsThem() throws {
        for seed in seeds {
            var source = RandomOTLP(random: Seeded(state: seed))
            let body = source.traces()
            guard let request = obs__export_trace_service_request__unpack(nil, body.count, body) else { return XCTFail("protobuf-c refuses seed \(seed)") }
            defer { obs__export_trace_service_request__free_unpacked(request, nil) }
            var expected: [String] = []
            var refused = 0
            for group in list(request.pointee.resource_spans, request.pointee.n_resource_spans) {
                let resource = oracleResource(group.pointee.resource)
                for scopeGroup in list(group.pointee.scope_spans, group.pointee.n_scope_spans) {
                    let scope = oracleScope(scopeGroup.pointee.scope, scopeGroup.pointee.schema_url, group.pointee.schema_url)
                    for span in list(scopeGroup.pointee.spans, scopeGroup.pointee.n_spans) {
                        if let text = oracleSpan(span.pointee) { expected.append("\(text) \(resource) scope=[\(scope)]") } else { refused += 1 }
                    }
                }
            }
            let decoded = try OTLPTraces.decodeProtobuf(body, receivedAtNanos: receivedAt, limits: Limits())
            XCTAssertEqual(spanTexts(decoded.batch), expected, "seed \(seed)")
            XCTAssertEqual(decoded.rejected, refused, "seed \(seed)")
        }
    }

    func testLogsAsProtobufCReadsThem() throws {
        for seed in seeds {
            var source = RandomOTLP(random: Seeded(state: seed))
            let body = source.logs()
            guard let request = obs__export_logs_service_request__unpack(nil, body.count, body) else { return XCTFail("protobuf-c refuses seed \(seed)") }
            defer { obs__export_logs_service_request__free_unpacked(request, nil) }
            var expected: [String] = []
            for group in list(request.pointee.resource_logs, request.pointee.n_resource_logs) {
                for scopeGroup in list(group.pointee.scope_logs, group.pointee.n_scope_logs) {
                    for record in list(scopeGroup.pointee.log_records, scopeGroup.pointee.n_log_records) { expected.append(oracleRecord(record.pointee)) }
                }
            }
            let batch = try OTLPLogs.decodeProtobuf(body, receivedAtNanos: receivedAt, limits: Limits()).batch
            let got = (0..<batch.count).map { row in
                "\(batch.timeNanos[row]) \(batch.traceID[row]) \(hexString(batch.spanID[row])) \(batch.bytes.string(batch.line[row]))"
            }
            XCTAssertEqual(got, expected, "seed \(seed)")
        }
    }

    /// Encoding what protobuf-c read gives the canonical form: fields in order, packed, without unknown ones. It must mean the same to us.
    func testMetricsAsProtobufCWritesThem() throws {
        for seed in seeds {
            var source = RandomOTLP(random: Seeded(state: seed))
            let body = source.metrics()
            guard let request = obs__export_metrics_service_request__unpack(nil, body.count, body) else { return XCTFail("protobuf-c refuses seed \(seed)") }
            defer { obs__export_metrics_service_request__free_unpacked(request, nil) }
            var canonical = [UInt8](repeating: 0, count: obs__export_metrics_service_request__get_packed_size(request))
            obs__export_metrics_service_request__pack(request, &canonical)
            let a = try OTLPMetrics.decodeProtobuf(body, receivedAtNanos: receivedAt, limits: Limits())
            let b = try OTLPMetrics.decodeProtobuf(canonical, receivedAtNanos: receivedAt, limits: Limits())
            XCTAssertEqual(sampleTexts(a.batch), sampleTexts(b.batch), "seed \(seed)")
            XCTAssertEqual(deltaTexts(a.deltas), deltaTexts(b.deltas), "seed \(seed)")
            XCTAssertEqual(exemplarTexts(a.batch), exemplarTexts(b.batch), "seed \(seed)")
            XCTAssertEqual(a.rejected, b.rejected, "seed \(seed)")
        }
    }

    func testMutatedRequestsNeverCrash() {
        var source = RandomOTLP(random: Seeded(state: 42))
        var traces: [UInt8] = []
        var logs: [UInt8] = []
        var metrics: [UInt8] = []
        while traces.count < 1500 { traces = source.traces() }
        while logs.count < 1500 { logs = source.logs() }
        while metrics.count < 1500 { metrics = source.metrics() }
        withMutations(of: Array(traces.prefix(6000)), count: 1500) { body in
            guard let decoded = try? OTLPTraces.decodeProtobuf(body, receivedAtNanos: 1, limits: Limits()) else { return }
            XCTAssertEqual(spanTexts(decoded.batch).count, decoded.batch.count)
        }
        withMutations(of: Array(logs.prefix(6000)), count: 1500) { body in
            guard let decoded = try? OTLPLogs.decodeProtobuf(body, receivedAtNanos: 1, limits: Limits()) else { return }
            XCTAssertEqual(logTexts(decoded.batch).count, decoded.batch.count)
        }
        withMutations(of: Array(metrics.prefix(6000)), count: 1500) { body in
            guard let result = try? OTLPMetrics.decodeProtobuf(body, receivedAtNanos: 1, limits: Limits()) else { return }
            XCTAssertEqual(sampleTexts(result.batch).count, result.batch.sampleCount)
            XCTAssertEqual(deltaTexts(result.deltas).count, result.deltas.count)
            _ = exemplarTexts(result.batch)
        }
    }

    func testMutatedJSONNeverCrashes() {
        let body = #"""
            {"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{"doubleValue":"NaN"}]}}}]},"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"a1a2a3a4a5a6a7a8","kind":2,"events":[{"timeUnixNano":"1"}]}]}]}],
             "resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"scale":3,"positive":{"offset":-4,"bucketCounts":["1","2"]}}]}}]}]}],
             "resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"AQI="},"severityNumber":9}]}]}]}
            """#
        withMutations(of: Array(body.utf8), count: 2000) { body in
            _ = try? OTLPTraces.decodeJSON(body, receivedAtNanos: 1, limits: Limits())
            _ = try? OTLPLogs.decodeJSON(body, receivedAtNanos: 1, limits: Limits())
            _ = try? OTLPMetrics.decodeJSON(body, receivedAtNanos: 1, limits: Limits())
        }
    }
}

// MARK: - what protobuf-c read, as text

private func list<T>(_ items: UnsafeMutablePointer<UnsafeMutablePointer<T>?>?, _ count: Int) -> [UnsafeMutablePointer<T>] {
    (0..<count).compactMap { items?[$0] }
}

private func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }
private func data(_ data: ProtobufCBinaryData) -> [UInt8] { Array(UnsafeBufferPointer(start: data.data, count: data.len)) }
private func traceID(_ bytes: [UInt8]) -> TraceID { bytes.withUnsafeBytes { TraceID(bytes: $0) } ?? .none }
private func spanID(_ bytes: [UInt8]) -> SpanID { bytes.count == 8 ? bytes.reduce(0) { $0 << 8 | UInt64($1) } : 0 }

private func oracleValue(_ value: Obs__AnyValue?) -> AttributeValue {
    guard let value else { return .string("") }
    switch value.value_case {
    case OBS__ANY_VALUE__VALUE_STRING_VALUE: return .string(text(value.string_value))
    case OBS__ANY_VALUE__VALUE_BOOL_VALUE: return .bool(value.bool_value != 0)
    case OBS__ANY_VALUE__VALUE_INT_VALUE: return .int(value.int_value)
    case OBS__ANY_VALUE__VALUE_DOUBLE_VALUE: return .double(value.double_value)
    case OBS__ANY_VALUE__VALUE_BYTES_VALUE: return .bytes(data(value.bytes_value))
    case OBS__ANY_VALUE__VALUE_ARRAY_VALUE: return .list(oracleJSON(value))
    case OBS__ANY_VALUE__VALUE_KVLIST_VALUE: return .map(oracleJSON(value))
    default: return .string("")
    }
}

private func oracleJSON(_ value: Obs__AnyValue?) -> String {
    guard let value, value.value_case != OBS__ANY_VALUE__VALUE__NOT_SET else { return "null" }
    func quoted(_ text: String) -> String {
        var writer = JSONWriter()
        writer.string(text)
        return String(decoding: writer.bytes, as: UTF8.self)
    }
    switch value.value_case {
    case OBS__ANY_VALUE__VALUE_ARRAY_VALUE:
        let array = value.array_value.pointee
        return "[" + list(array.values, array.n_values).map { oracleJSON($0.pointee) }.joined(separator: ",") + "]"
    case OBS__ANY_VALUE__VALUE_KVLIST_VALUE:
        let map = value.kvlist_value.pointee
        return "{" + list(map.values, map.n_values).map { "\(quoted(text($0.pointee.key))):\(oracleJSON($0.pointee.value?.pointee))" }.joined(separator: ",")
            + "}"
    case OBS__ANY_VALUE__VALUE_DOUBLE_VALUE: return formatSampleValue(value.double_value)
    case OBS__ANY_VALUE__VALUE_STRING_VALUE, OBS__ANY_VALUE__VALUE_BYTES_VALUE: return quoted(oracleValue(value).text)
    default: return oracleValue(value).text
    }
}

private func oracleAttributes(_ items: UnsafeMutablePointer<UnsafeMutablePointer<Obs__KeyValue>?>?, _ count: Int, prefix: String = "") -> [String] {
    var seen: Set<String> = []
    return list(items, count).compactMap { item in
        let key = text(item.pointee.key)
        guard !key.isEmpty || !prefix.isEmpty, seen.insert(key).inserted else { return nil }
        return "\(prefix)\(key)=\(typed(oracleValue(item.pointee.value?.pointee)))"
    }
}

private func oracleResource(_ resource: UnsafeMutablePointer<Obs__Resource>?) -> String {
    guard let resource else { return "service=unknown_service resource=[]" }
    var service = ""
    for item in list(resource.pointee.attributes, resource.pointee.n_attributes) where text(item.pointee.key) == "service.name" {
        if case .string(let name) = oracleValue(item.pointee.value?.pointee) { service = name }
        break
    }
    let attributes = oracleAttributes(resource.pointee.attributes, resource.pointee.n_attributes).joined(separator: " ")
    return "service=\(service.isEmpty ? "unknown_service" : service) resource=[\(attributes)]"
}

private func oracleScope(
    _ scope: UnsafeMutablePointer<Obs__InstrumentationScope>?, _ schemaURL: UnsafeMutablePointer<CChar>?, _ resourceSchemaURL: UnsafeMutablePointer<CChar>?
) -> String {
    var parts: [String] = []
    func add(_ key: String, _ value: String) {
        if !value.isEmpty { parts.append("\(key)=\(typed(.string(value)))") }
    }
    add("name", text(scope?.pointee.name))
    add("version", text(scope?.pointee.version))
    add("schema_url", text(schemaURL))
    add("resource_schema_url", text(resourceSchemaURL))
    guard let scope else { return parts.joined(separator: " ") }
    if scope.pointee.dropped_attributes_count != 0 { parts.append("dropped_attributes_count=\(scope.pointee.dropped_attributes_count)") }
    return (parts + oracleAttributes(scope.pointee.attributes, scope.pointee.n_attributes, prefix: "attr.")).joined(separator: " ")
}

/// Nil when the span must be refused.
private func oracleSpan(_ span: Obs__Span) -> String? {
    let trace = traceID(data(span.trace_id))
    let id = spanID(data(span.span_id))
    guard !trace.isNone, id != 0 else { return nil }
    let start = span.start_time_unix_nano != 0 ? span.start_time_unix_nano : span.end_time_unix_nano != 0 ? span.end_time_unix_nano : UInt64(receivedAt)
    let duration = span.end_time_unix_nano > start ? span.end_time_unix_nano - start : 0
    let status = span.status?.pointee
    var parts = [
        trace.description, hexString(id), "parent=\(hexString(spanID(data(span.parent_span_id))))", "name=\(text(span.name))",
        "kind=\(SpanKind.word(UInt8(span.kind)))",
        "start=\(start)", "duration=\(duration)", "status=\(SpanStatus.word(UInt8(status?.code ?? 0)))", "message=\(text(status?.message))",
        "state=\(text(span.trace_state))",
        "flags=\(span.flags)",
        "dropped=(attributes: \(span.dropped_attributes_count), events: \(span.dropped_events_count), links: \(span.dropped_links_count))",
        "attributes=[\(oracleAttributes(span.attributes, span.n_attributes).joined(separator: " "))]",
    ]
    for event in list(span.events, span.n_events).map(\.pointee) {
        let attributes = oracleAttributes(event.attributes, event.n_attributes).joined(separator: " ")
        parts.append("event(\(event.time_unix_nano) \(text(event.name)) [\(attributes)] \(event.dropped_attributes_count))")
    }
    for link in list(span.links, span.n_links).map(\.pointee) {
        let attributes = oracleAttributes(link.attributes, link.n_attributes).joined(separator: " ")
        parts.append(
            "link(\(traceID(data(link.trace_id))) \(hexString(spanID(data(link.span_id)))) \(text(link.trace_state)) [\(attributes)] \(link.dropped_attributes_count) \(link.flags))"
        )
    }
    return parts.joined(separator: " ")
}

private func oracleRecord(_ record: Obs__LogRecord) -> String {
    let time = record.time_unix_nano != 0 ? record.time_unix_nano : record.observed_time_unix_nano != 0 ? record.observed_time_unix_nano : UInt64(receivedAt)
    return "\(time) \(traceID(data(record.trace_id))) \(hexString(spanID(data(record.span_id)))) \(oracleValue(record.body?.pointee).text)"
}
