internal import ObsCore

// The messages around OTLP data points, in place or small.

/// A `Metric` without its points.
struct OTLPMetric {
    enum Kind {
        case gauge, sum, histogram, exponentialHistogram, summary

        var hasTemporality: Bool { self == .sum || self == .histogram || self == .exponentialHistogram }
    }

    var name = UnsafeRawBufferPointer.nothing
    var description = UnsafeRawBufferPointer.nothing
    var unit = UnsafeRawBufferPointer.nothing
    /// Nil when the metric has no data, or data of a kind yet unknown.
    var kind: Kind?
    var data = OTLPMetricData()

    /// Failure is the reader's.
    init(_ reader: inout ProtobufReader) {
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): name = reader.bytes()
            case .field(2, .length): description = reader.bytes()
            case .field(3, .length): unit = reader.bytes()
            case .field(5, .length): setData(.gauge, &reader)
            case .field(7, .length): setData(.sum, &reader)
            case .field(9, .length): setData(.histogram, &reader)
            case .field(10, .length): setData(.exponentialHistogram, &reader)
            case .field(11, .length): setData(.summary, &reader)
            default: reader.skip()
            }
        }
    }

    private mutating func setData(_ kind: Kind, _ reader: inout ProtobufReader) {
        self.kind = kind
        data = OTLPMetricData(&reader)
    }

    private var isMonotonicSum: Bool { kind == .sum && data.isMonotonic }

    var shape: PrometheusNames.MetricShape { isMonotonicSum ? .monotonicSum : kind == .gauge ? .gauge : .other }

    var type: MetricType {
        switch kind {
        case .gauge: .gauge
        case .sum: isMonotonicSum ? .counter : .gauge
        case .histogram, .exponentialHistogram: .histogram
        case .summary: .summary
        case nil: .unknown
        }
    }
}

/// `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` or `Summary`: field 1 their points, 2 the temporality, 3 (Sum) whether it is monotonic.
struct OTLPMetricData {
    var reader = ProtobufReader(.nothing)
    var pointCount = 0
    /// 0 unspecified, 1 delta, 2 cumulative.
    var temporality: UInt64 = 0
    var isMonotonic = false

    init() {}

    init(_ parent: inout ProtobufReader) {
        reader = parent.message()
        var scan = reader
        while scan.next() {
            switch scan.tag {
            case .field(1, .length):
                _ = scan.bytes()
                pointCount += 1
            case .field(2, .varint): temporality = scan.varint()
            case .field(3, .varint): isMonotonic = scan.varint() != 0
            default: scan.skip()
            }
        }
        // Values this version of the protocol does not know say nothing.
        if temporality > 2 { temporality = 0 }
        parent.check(scan)
    }
}

/// What a `Resource` gives to the series of its metrics.
struct OTLPMetricResource {
    struct Label {
        var name: [UInt8]
        var value: [UInt8]
    }

    let nestingMax: Int
    private(set) var job: [UInt8] = []
    private(set) var instance: [UInt8] = []
    private(set) var promoted: [Label] = []
    /// Labels of `target_info`; nil when the resource has nothing but its identity, or no identity.
    private(set) var targetInfo: Labels?
    /// Range of the data points' times seen under this resource.
    private(set) var firstMillis: Int64?
    private(set) var lastMillis: Int64?

    init(nestingMax: Int) { self.nestingMax = nestingMax }

    mutating func include(_ millis: Int64) {
        firstMillis = min(firstMillis ?? millis, millis)
        lastMillis = max(lastMillis ?? millis, millis)
    }

    /// False when the message is malformed.
    mutating func read(_ message: UnsafeRawBufferPointer, _ options: OTLPMetricOptions) -> Bool {
        self = OTLPMetricResource(nestingMax: nestingMax)
        guard let attributes = readAttributes(message, field: 1, nestingMax: nestingMax) else { return false }
        var name = ""
        var namespace = ""
        var others: [(key: String, value: AttributeValue)] = []
        var kept: [(key: String, value: AttributeValue)] = []
        for attribute in attributes {
            switch attribute.key {
            case "service.name": name = attribute.value.text
            case "service.namespace": namespace = attribute.value.text
            case "service.instance.id": instance = [UInt8](attribute.value.text.utf8)
            default: others.append(attribute)
            }
            if options.keepsIdentity, Self.identity.contains(attribute.key) { kept.append(attribute) }
            if options.promotes(attribute.key) { promoted.append(Label(name: options.labelName(attribute.key), value: [UInt8](attribute.value.text.utf8))) }
        }
        if !name.isEmpty { job = [UInt8]((namespace.isEmpty ? name : "\(namespace)/\(name)").utf8) }
        if !others.isEmpty, !job.isEmpty || !instance.isEmpty { targetInfo = targetInfo(others + kept, options) }
        return true
    }

    private static let identity: Set<String> = ["service.name", "service.namespace", "service.instance.id"]

    private func targetInfo(_ attributes: [(key: String, value: AttributeValue)], _ options: OTLPMetricOptions) -> Labels {
        var builder = LabelsBuilder()
        for attribute in attributes.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            let name = String(decoding: options.labelName(attribute.key), as: UTF8.self)
            let text = attribute.value.text
            builder.set(name, builder[name].map { "\($0);\(text)" } ?? text)
        }
        builder.set([UInt8]("job".utf8), job)
        builder.set([UInt8]("instance".utf8), instance)
        builder.set("__name__", "target_info")
        return builder.labels()
    }

}

/// The `otel_scope_*` labels of a scope; nil when it is malformed.
func scopeLabels(_ group: OTLPGroup, _ options: OTLPMetricOptions, nestingMax: Int) -> [OTLPMetricResource.Label]? {
    guard let scope = OTLPScope(group.head), let attributes = readAttributes(group.head, field: 3, nestingMax: nestingMax) else { return nil }
    var labels: [OTLPMetricResource.Label] = []
    func add(_ suffix: String, _ value: [UInt8]) {
        var name = [UInt8]("otel_scope_".utf8)
        if options.naming.keepsUTF8 { name += Array(suffix.utf8) } else { [UInt8](suffix.utf8).withUnsafeBytes { appendSanitized($0, to: &name) } }
        if !value.isEmpty, !labels.contains(where: { $0.name == name }) { labels.append(OTLPMetricResource.Label(name: name, value: value)) }
    }
    add("name", [UInt8](scope.name))
    add("version", [UInt8](scope.version))
    add("schema_url", [UInt8](group.schemaURL))
    for attribute in attributes { add(attribute.key, [UInt8](attribute.value.text.utf8)) }
    return labels
}

/// The attributes in field `field` of a message, first entries of repeated keys only; nil when malformed.
private func readAttributes(_ message: UnsafeRawBufferPointer, field: UInt32, nestingMax: Int) -> [(key: String, value: AttributeValue)]? {
    var arena = ByteArena(capacity: message.count)
    var list = AttributeListBuilder(flattensMaps: false, nestingMax: nestingMax)
    list.begin(arena)
    var reader = ProtobufReader(message)
    while reader.next() {
        if reader.tag == .field(field, .length) { list.append(&reader, to: &arena) } else { reader.skip() }
    }
    return reader.failed ? nil : attributeList(arena.array())
}

/// An `Exemplar` with its labels: trace and span id, then filtered attributes while all names and values together stay within OpenMetrics' 128 characters.
struct OTLPExemplar {
    private static let charactersMax = 128
    private(set) var time: UInt64 = 0
    private(set) var value = 0.0
    private(set) var labels = Labels.empty

    /// Nil when the message is malformed.
    init?(_ message: UnsafeRawBufferPointer, _ options: OTLPMetricOptions, nestingMax: Int) {
        var reader = ProtobufReader(message)
        var traceID = TraceID.none
        var spanID: SpanID = 0
        while reader.next() {
            switch reader.tag {
            case .field(2, .fixed64): time = reader.fixed64()
            case .field(3, .fixed64): value = reader.double()
            case .field(4, .length): spanID = SpanID(spanBytes: reader.bytes()) ?? 0
            case .field(5, .length): traceID = TraceID(bytes: reader.bytes()) ?? .none
            case .field(6, .fixed64): value = Double(Int64(bitPattern: reader.fixed64()))
            default: reader.skip()
            }
        }
        guard !reader.failed, let attributes = readAttributes(message, field: 7, nestingMax: nestingMax) else { return nil }
        var builder = LabelsBuilder()
        var characters = 0
        func add(_ name: String, _ text: String) {
            let size = name.unicodeScalars.count + text.unicodeScalars.count
            guard builder[name] == nil, characters + size <= Self.charactersMax else { return }
            characters += size
            builder.set(name, text)
        }
        if !traceID.isNone { add("trace_id", traceID.description) }
        if spanID != 0 { add("span_id", hexString(spanID)) }
        for attribute in attributes {
            add(String(decoding: options.labelName(attribute.key), as: UTF8.self), attribute.value.text)
        }
        labels = builder.labels()
    }
}

extension ExponentialBuckets {
    /// Far past any SDK's 160; a bound on what packed zeros may expand to.
    static let countsMax = 65_536

    /// Why the point cannot be taken; nil when it can.
    var fault: String? {
        let count = max(positive.counts.count, negative.counts.count)
        if count > Self.countsMax { return "more than \(Self.countsMax) buckets" }
        return zeroThreshold.isFinite && zeroThreshold >= 0 ? nil : "zero threshold \(zeroThreshold) is no width"
    }
}

extension ExponentialBuckets.Side {
    /// Reads the `Buckets` message the reader stands at. Failure is the reader's.
    init(_ parent: inout ProtobufReader) {
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): offset = Int(Int32(truncatingIfNeeded: reader.zigzag()))
            case .field(2, .varint): add(reader.varint())
            case .field(2, .length):
                var packed = reader.message()
                while !packed.isAtEnd { add(packed.varint()) }
                reader.check(packed)
            default: reader.skip()
            }
        }
        parent.check(reader)
    }

    /// Counts past the bound are not kept: one more than allowed is enough to see the fault.
    private mutating func add(_ count: UInt64) {
        if counts.count <= ExponentialBuckets.countsMax { counts.append(count) }
    }
}
