/// Log records as columns. Decoders make batches, the head keeps them as they are, event blocks encode and give them back:
/// one form from the wire to the answer.
///
/// All row columns have the same count. Text is ranges into `bytes`; tables (`streams`, `resources`, `scopes`) are shared by rows.
package struct LogBatch: Sendable {
    package var bytes: [UInt8] = []

    // Tables
    /// Canonical label sets (see `Labels`) of the streams.
    package var streams: [ByteRange] = []
    /// Attribute lists of resources. Entry 0 is always the empty one.
    package var resources: [ByteRange] = [.empty]
    /// Instrumentation scopes as attribute lists: `name`, `version`, `schema_url`, `resource_schema_url` (texts) and `dropped_attributes_count` (int)
    /// first where present, then the scope's own attributes under `attr.<key>`. Entry 0 is empty.
    package var scopes: [ByteRange] = [.empty]

    // Rows
    package var stream: [UInt32] = []
    /// Nanoseconds since the epoch.
    package var timeNanos: [Int64] = []
    /// OpenTelemetry severity number 1–24; 0 unknown. Detected from level fields or the line where the protocol has none (contract loki.md §3).
    package var severity: [UInt8] = []
    package var line: [ByteRange] = []
    /// Attribute list: Loki's structured metadata, OTLP's log attributes. Trace and span id are columns of their own, not repeated here.
    package var attributes: [ByteRange] = []
    package var traceID: [TraceID] = []
    package var spanID: [SpanID] = []
    package var resource: [UInt32] = []
    package var scope: [UInt32] = []
    package var flags: [RowFlags] = []
    /// Given by the head; orders equal timestamps. Empty until then.
    package var arrival: [UInt64] = []

    package struct RowFlags: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The protocol identifies a record by (stream, time, line, attributes): a second equal one is the same record (Loki push).
        package static let identified = RowFlags(rawValue: 1)
    }

    package init() {}

    package var count: Int { timeNanos.count }
    package var isEmpty: Bool { timeNanos.isEmpty }

    /// Appends a row whose texts are already in `bytes`.
    package mutating func appendRow(
        stream: UInt32, timeNanos: Int64, severity: UInt8, line: ByteRange, attributes: ByteRange = .empty, traceID: TraceID = .none,
        spanID: SpanID = 0, resource: UInt32 = 0, scope: UInt32 = 0, flags: RowFlags = []
    ) {
        self.stream.append(stream)
        self.timeNanos.append(timeNanos)
        self.severity.append(severity)
        self.line.append(line)
        self.attributes.append(attributes)
        self.traceID.append(traceID)
        self.spanID.append(spanID)
        self.resource.append(resource)
        self.scope.append(scope)
        self.flags.append(flags)
    }

    package func labels(ofStream index: UInt32) -> Labels { Labels(canonical: Array(bytes[streams[Int(index)].range])) }

    /// Exact number of bytes the columns hold; what a memory budget is charged.
    package var byteSize: Int { bytes.count + count * 66 + (streams.count + resources.count + scopes.count) * 8 }
}

/// Words for OpenTelemetry severity numbers.
package enum Severity {
    /// `trace debug info warn error fatal`; `unknown` for 0. Number 21 and up is fatal; Loki's `critical` is stored as 20 (ERROR4).
    package static func word(_ number: UInt8) -> String {
        switch number {
        case 1...4: "trace"
        case 5...8: "debug"
        case 9...12: "info"
        case 13...16: "warn"
        case 17...19: "error"
        case 20: "critical"
        case 21...24: "fatal"
        default: "unknown"
        }
    }

    /// Severity number of a level word of any common spelling and case; 0 when it is none.
    package static func number(_ word: some Collection<UInt8>) -> UInt8 {
        guard (3...11).contains(word.count) else { return 0 }
        let wanted = pack(word)
        for (packed, number) in numbers where packed == wanted { return number }
        return 0
    }

    private static let numbers: [(word: Packed, number: UInt8)] = [
        ("info", 9), ("error", 17), ("warn", 13), ("debug", 5), ("warning", 13), ("err", 17), ("trace", 1), ("fatal", 21), ("critical", 20), ("notice", 9),
        ("information", 9), ("inf", 9), ("wrn", 13), ("dbg", 5), ("trc", 1), ("crit", 20), ("panic", 21), ("emerg", 21), ("alert", 21),
    ].map { (pack($0.0.utf8), $0.1) }

    /// Up to sixteen bytes as two numbers, capitals as small letters: this runs for every record, where making a String costs more than the rest.
    private typealias Packed = SIMD2<UInt64>
    private static func pack(_ word: some Collection<UInt8>) -> Packed {
        var packed = Packed(0, 0)
        for byte in word {
            packed.y = packed.y << 8 | packed.x >> 56
            packed.x = packed.x << 8 | UInt64(byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte)
        }
        return packed
    }
}
