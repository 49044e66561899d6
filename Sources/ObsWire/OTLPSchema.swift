// The messages of OTLP requests as data, for the JSON encoding: JSON name, field number and type of every field.

struct OTLPField: Sendable {
    enum FieldType: Sendable {
        case string, bool, double
        /// Base64 in JSON.
        case bytes
        /// Trace and span ids: hexadecimal in JSON, unlike any other bytes.
        case id
        /// int64, uint64, int32, uint32: numbers or decimal text in JSON.
        case varint
        case zigzag
        case fixed32, fixed64
        /// A number, or tolerated a name: `prefix` and one of `words`.
        case enumeration(OTLPEnumeration)
        case message(OTLPMessage)
        case messages(OTLPMessage)
        case packedFixed64, packedDouble, packedVarint
    }

    let name: StaticString
    let number: UInt32
    let type: FieldType

    init(_ name: StaticString, _ number: UInt32, _ type: FieldType) {
        self.name = name
        self.number = number
        self.type = type
    }
}

struct OTLPEnumeration: Sendable {
    let prefix: String
    /// Names by number, prefix left off.
    let words: [String]

    static let spanKind = OTLPEnumeration(prefix: "SPAN_KIND_", words: ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"])
    static let statusCode = OTLPEnumeration(prefix: "STATUS_CODE_", words: ["UNSET", "OK", "ERROR"])
    static let temporality = OTLPEnumeration(prefix: "AGGREGATION_TEMPORALITY_", words: ["UNSPECIFIED", "DELTA", "CUMULATIVE"])
    static let severity = OTLPEnumeration(
        prefix: "SEVERITY_NUMBER_",
        words: ["UNSPECIFIED"] + ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].flatMap { word in ["", "2", "3", "4"].map { word + $0 } })

    func number(_ name: String) -> Int? { name.hasPrefix(prefix) ? words.firstIndex(of: String(name.dropFirst(prefix.count))) : nil }
}

enum OTLPMessage: Sendable {
    case tracesRequest, resourceSpans, scopeSpans, span, event, link, status
    case logsRequest, resourceLogs, scopeLogs, logRecord
    case metricsRequest, resourceMetrics, scopeMetrics, metric, gauge, sum, histogram, exponentialHistogram, summary
    case numberPoint, histogramPoint, exponentialPoint, buckets, summaryPoint, quantile, exemplar
    case resource, scope, keyValue, anyValue, array, map

    var fields: [OTLPField] {
        switch self {
        case .tracesRequest: Self.tracesRequestFields
        case .resourceSpans: Self.resourceSpansFields
        case .scopeSpans: Self.scopeSpansFields
        case .span: Self.spanFields
        case .event: Self.eventFields
        case .link: Self.linkFields
        case .status: Self.statusFields
        case .logsRequest: Self.logsRequestFields
        case .resourceLogs: Self.resourceLogsFields
        case .scopeLogs: Self.scopeLogsFields
        case .logRecord: Self.logRecordFields
        case .metricsRequest: Self.metricsRequestFields
        case .resourceMetrics: Self.resourceMetricsFields
        case .scopeMetrics: Self.scopeMetricsFields
        case .metric: Self.metricFields
        case .gauge, .sum: Self.numberDataFields
        case .histogram: Self.histogramFields
        case .exponentialHistogram: Self.exponentialFields
        case .summary: Self.summaryFields
        case .numberPoint: Self.numberPointFields
        case .histogramPoint: Self.histogramPointFields
        case .exponentialPoint: Self.exponentialPointFields
        case .buckets: Self.bucketsFields
        case .summaryPoint: Self.summaryPointFields
        case .quantile: Self.quantileFields
        case .exemplar: Self.exemplarFields
        case .resource: Self.resourceFields
        case .scope: Self.scopeFields
        case .keyValue: Self.keyValueFields
        case .anyValue: Self.anyValueFields
        case .array: Self.arrayFields
        case .map: Self.mapFields
        }
    }

    // Traces
    private static let tracesRequestFields = [OTLPField("resourceSpans", 1, .messages(.resourceSpans))]
    private static let resourceSpansFields = group(head: .resource, "resource", records: .scopeSpans, "scopeSpans")
    private static let scopeSpansFields = group(head: .scope, "scope", records: .span, "spans")
    private static let spanFields: [OTLPField] = [
        OTLPField("traceId", 1, .id), OTLPField("spanId", 2, .id), OTLPField("traceState", 3, .string), OTLPField("parentSpanId", 4, .id),
        OTLPField("name", 5, .string), OTLPField("kind", 6, .enumeration(.spanKind)), OTLPField("startTimeUnixNano", 7, .fixed64),
        OTLPField("endTimeUnixNano", 8, .fixed64), OTLPField("attributes", 9, .messages(.keyValue)), OTLPField("droppedAttributesCount", 10, .varint),
        OTLPField("events", 11, .messages(.event)), OTLPField("droppedEventsCount", 12, .varint), OTLPField("links", 13, .messages(.link)),
        OTLPField("droppedLinksCount", 14, .varint), OTLPField("status", 15, .message(.status)), OTLPField("flags", 16, .fixed32),
    ]
    private static let eventFields: [OTLPField] = [
        OTLPField("timeUnixNano", 1, .fixed64), OTLPField("name", 2, .string), OTLPField("attributes", 3, .messages(.keyValue)),
        OTLPField("droppedAttributesCount", 4, .varint),
    ]
    private static let linkFields: [OTLPField] = [
        OTLPField("traceId", 1, .id), OTLPField("spanId", 2, .id), OTLPField("traceState", 3, .string), OTLPField("attributes", 4, .messages(.keyValue)),
        OTLPField("droppedAttributesCount", 5, .varint), OTLPField("flags", 6, .fixed32),
    ]
    private static let statusFields: [OTLPField] = [OTLPField("message", 2, .string), OTLPField("code", 3, .enumeration(.statusCode))]

    // Logs
    private static let logsRequestFields = [OTLPField("resourceLogs", 1, .messages(.resourceLogs))]
    private static let resourceLogsFields = group(head: .resource, "resource", records: .scopeLogs, "scopeLogs")
    private static let scopeLogsFields = group(head: .scope, "scope", records: .logRecord, "logRecords")
    private static let logRecordFields: [OTLPField] = [
        OTLPField("timeUnixNano", 1, .fixed64), OTLPField("severityNumber", 2, .enumeration(.severity)), OTLPField("severityText", 3, .string),
        OTLPField("body", 5, .message(.anyValue)), OTLPField("attributes", 6, .messages(.keyValue)), OTLPField("droppedAttributesCount", 7, .varint),
        OTLPField("flags", 8, .fixed32), OTLPField("traceId", 9, .id), OTLPField("spanId", 10, .id), OTLPField("observedTimeUnixNano", 11, .fixed64),
        OTLPField("eventName", 12, .string),
    ]

    // Metrics
    private static let metricsRequestFields = [OTLPField("resourceMetrics", 1, .messages(.resourceMetrics))]
    private static let resourceMetricsFields = group(head: .resource, "resource", records: .scopeMetrics, "scopeMetrics")
    private static let scopeMetricsFields = group(head: .scope, "scope", records: .metric, "metrics")
    private static let metricFields: [OTLPField] = [
        OTLPField("name", 1, .string), OTLPField("description", 2, .string), OTLPField("unit", 3, .string), OTLPField("gauge", 5, .message(.gauge)),
        OTLPField("sum", 7, .message(.sum)), OTLPField("histogram", 9, .message(.histogram)),
        OTLPField("exponentialHistogram", 10, .message(.exponentialHistogram)), OTLPField("summary", 11, .message(.summary)),
    ]
    private static let numberDataFields: [OTLPField] = [
        OTLPField("dataPoints", 1, .messages(.numberPoint)), OTLPField("aggregationTemporality", 2, .enumeration(.temporality)),
        OTLPField("isMonotonic", 3, .bool),
    ]
    private static let histogramFields: [OTLPField] = [
        OTLPField("dataPoints", 1, .messages(.histogramPoint)), OTLPField("aggregationTemporality", 2, .enumeration(.temporality)),
    ]
    private static let exponentialFields: [OTLPField] = [
        OTLPField("dataPoints", 1, .messages(.exponentialPoint)), OTLPField("aggregationTemporality", 2, .enumeration(.temporality)),
    ]
    private static let summaryFields = [OTLPField("dataPoints", 1, .messages(.summaryPoint))]
    private static let numberPointFields: [OTLPField] = [
        OTLPField("startTimeUnixNano", 2, .fixed64), OTLPField("timeUnixNano", 3, .fixed64), OTLPField("asDouble", 4, .double),
        OTLPField("exemplars", 5, .messages(.exemplar)), OTLPField("asInt", 6, .fixed64), OTLPField("attributes", 7, .messages(.keyValue)),
        OTLPField("flags", 8, .varint),
    ]
    private static let histogramPointFields: [OTLPField] = [
        OTLPField("startTimeUnixNano", 2, .fixed64), OTLPField("timeUnixNano", 3, .fixed64), OTLPField("count", 4, .fixed64), OTLPField("sum", 5, .double),
        OTLPField("bucketCounts", 6, .packedFixed64), OTLPField("explicitBounds", 7, .packedDouble), OTLPField("exemplars", 8, .messages(.exemplar)),
        OTLPField("attributes", 9, .messages(.keyValue)), OTLPField("flags", 10, .varint), OTLPField("min", 11, .double), OTLPField("max", 12, .double),
    ]
    private static let exponentialPointFields: [OTLPField] = [
        OTLPField("attributes", 1, .messages(.keyValue)), OTLPField("startTimeUnixNano", 2, .fixed64), OTLPField("timeUnixNano", 3, .fixed64),
        OTLPField("count", 4, .fixed64), OTLPField("sum", 5, .double), OTLPField("scale", 6, .zigzag), OTLPField("zeroCount", 7, .fixed64),
        OTLPField("positive", 8, .message(.buckets)), OTLPField("negative", 9, .message(.buckets)), OTLPField("flags", 10, .varint),
        OTLPField("exemplars", 11, .messages(.exemplar)), OTLPField("min", 12, .double), OTLPField("max", 13, .double),
        OTLPField("zeroThreshold", 14, .double),
    ]
    private static let bucketsFields: [OTLPField] = [OTLPField("offset", 1, .zigzag), OTLPField("bucketCounts", 2, .packedVarint)]
    private static let summaryPointFields: [OTLPField] = [
        OTLPField("startTimeUnixNano", 2, .fixed64), OTLPField("timeUnixNano", 3, .fixed64), OTLPField("count", 4, .fixed64), OTLPField("sum", 5, .double),
        OTLPField("quantileValues", 6, .messages(.quantile)), OTLPField("attributes", 7, .messages(.keyValue)), OTLPField("flags", 8, .varint),
    ]
    private static let quantileFields: [OTLPField] = [OTLPField("quantile", 1, .double), OTLPField("value", 2, .double)]
    private static let exemplarFields: [OTLPField] = [
        OTLPField("timeUnixNano", 2, .fixed64), OTLPField("asDouble", 3, .double), OTLPField("spanId", 4, .id), OTLPField("traceId", 5, .id),
        OTLPField("asInt", 6, .fixed64), OTLPField("filteredAttributes", 7, .messages(.keyValue)),
    ]

    // Common
    private static let resourceFields: [OTLPField] = [
        OTLPField("attributes", 1, .messages(.keyValue)), OTLPField("droppedAttributesCount", 2, .varint),
    ]
    private static let scopeFields: [OTLPField] = [
        OTLPField("name", 1, .string), OTLPField("version", 2, .string), OTLPField("attributes", 3, .messages(.keyValue)),
        OTLPField("droppedAttributesCount", 4, .varint),
    ]
    private static let keyValueFields: [OTLPField] = [OTLPField("key", 1, .string), OTLPField("value", 2, .message(.anyValue))]
    private static let anyValueFields: [OTLPField] = [
        OTLPField("stringValue", 1, .string), OTLPField("boolValue", 2, .bool), OTLPField("intValue", 3, .varint), OTLPField("doubleValue", 4, .double),
        OTLPField("arrayValue", 5, .message(.array)), OTLPField("kvlistValue", 6, .message(.map)), OTLPField("bytesValue", 7, .bytes),
    ]
    private static let arrayFields = [OTLPField("values", 1, .messages(.anyValue))]
    private static let mapFields = [OTLPField("values", 1, .messages(.keyValue))]

    private static func group(head: OTLPMessage, _ headName: StaticString, records: OTLPMessage, _ recordsName: StaticString) -> [OTLPField] {
        [OTLPField(headName, 1, .message(head)), OTLPField(recordsName, 2, .messages(records)), OTLPField("schemaUrl", 3, .string)]
    }
}
