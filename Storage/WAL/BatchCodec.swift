// Batches as log bytes, for writes that came without a faithful request: scrapes, rules, translated protocols, redacted requests.
//
// Columns one after the other, each with its count, the whole zstd-compressed: a scrape repeats its label names ten thousand times.

package import ObsCore
internal import ObsDisk
internal import ObsCompress
internal import ObsEncoding

package enum BatchCodec {
    private static let version: UInt8 = 1
    /// Of batches of metrics with histograms or starts, which come behind the other columns.
    private static let histogramsVersion: UInt8 = 2
    private static let level = 1

    package static func encode(_ batch: MetricBatch) -> [UInt8] {
        var out = ColumnWriter()
        out.bytes(batch.bytes)
        out.column(batch.series.map(\.labels.offset))
        out.column(batch.series.map(\.labels.count))
        out.column(batch.series.map(\.firstSample))
        out.column(batch.series.map(\.sampleCount))
        out.column(batch.timesMillis)
        out.column(batch.values.map(\.bitPattern))
        out.column(batch.exemplars.map(\.series))
        out.ranges(batch.exemplars.map(\.labels))
        out.column(batch.exemplars.map(\.value.bitPattern))
        out.column(batch.exemplars.map(\.timeMillis))
        out.ranges(batch.metadata.map(\.family))
        out.column(batch.metadata.map(\.type.rawValue))
        out.ranges(batch.metadata.map(\.help))
        out.ranges(batch.metadata.map(\.unit))
        guard !batch.histograms.isEmpty || !batch.startsMillis.isEmpty else { return pack(out.output, kind: 1) }
        out.column(batch.startsMillis)
        out.column(batch.histogramSeries)
        appendHistograms(batch.histograms, to: &out.output)
        return pack(out.output, kind: 1, version: histogramsVersion)
    }

    /// `varint layouts · layout × n · (varint rows · rows) until the end`.
    private static func appendHistograms(_ histograms: HistogramColumns, to output: inout [UInt8]) {
        output.appendVarint(UInt64(histograms.layouts.count))
        for layout in histograms.layouts { HistogramCodec.append(layout, to: &output) }
        for rows in HistogramCodec.runs(histograms) {
            output.appendVarint(UInt64(rows.count))
            HistogramCodec.append(histograms, rows: rows, layouts: histograms.layouts.indices.map { Int64($0) }, to: &output)
        }
    }

    private static func decodeHistograms(_ bytes: [UInt8]) throws(ObsError) -> HistogramColumns {
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> HistogramColumns in
            var layouts: [HistogramLayout] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) { layouts.append(try HistogramCodec.decodeLayout(&cursor)) }
            var histograms = HistogramColumns()
            while !cursor.isAtEnd {
                let rows = try cursor.count(max: HistogramCodec.rowsMax)
                try HistogramCodec.decode(&cursor, count: rows, layouts: layouts, into: &histograms)
            }
            return histograms
        }
    }

    package static func encode(_ batch: LogBatch) -> [UInt8] {
        var out = ColumnWriter()
        out.bytes(batch.bytes)
        out.ranges(batch.streams)
        out.ranges(batch.resources)
        out.ranges(batch.scopes)
        out.column(batch.stream)
        out.column(batch.timeNanos)
        out.column(batch.severity)
        out.ranges(batch.line)
        out.ranges(batch.attributes)
        out.column(batch.traceID.map(\.high))
        out.column(batch.traceID.map(\.low))
        out.column(batch.spanID)
        out.column(batch.resource)
        out.column(batch.scope)
        out.column(batch.flags.map(\.rawValue))
        return pack(out.output, kind: 2)
    }

    package static func encode(_ batch: SpanBatch) -> [UInt8] {
        var out = ColumnWriter()
        out.bytes(batch.bytes)
        out.ranges(batch.resources)
        out.ranges(batch.services)
        out.ranges(batch.scopes)
        out.column(batch.traceID.map(\.high))
        out.column(batch.traceID.map(\.low))
        out.column(batch.spanID)
        out.column(batch.parentID)
        out.column(batch.startNanos)
        out.column(batch.durationNanos)
        out.column(batch.kind)
        out.column(batch.status)
        out.column(batch.flags)
        for ranges in [batch.name, batch.statusMessage, batch.traceState, batch.attributes, batch.events, batch.links, batch.dropped] { out.ranges(ranges) }
        out.column(batch.resource)
        out.column(batch.scope)
        return pack(out.output, kind: 3)
    }

    package static func decodeMetrics(_ bytes: [UInt8]) throws(ObsError) -> MetricBatch {
        var input = try ColumnReader(unpack(bytes, kind: 1, knownVersion: histogramsVersion))
        let hasHistograms = bytes[1] == histogramsVersion
        var batch = MetricBatch()
        batch.bytes = try input.bytes()
        let offsets = try input.column(UInt32.self)
        let counts = try input.column(UInt32.self)
        let first = try input.column(UInt32.self)
        let samples = try input.column(UInt32.self)
        batch.timesMillis = try input.column(Int64.self)
        batch.values = try input.column(UInt64.self).map { Double(bitPattern: $0) }
        try check(offsets.count == counts.count && counts.count == first.count && first.count == samples.count && batch.values.count == batch.timesMillis.count)
        for index in offsets.indices {
            let labels = ByteRange(offset: offsets[index], count: counts[index])
            try check(lies(labels, in: batch.bytes) && Int(first[index]) + Int(samples[index]) <= batch.timesMillis.count)
            batch.series.append(MetricBatch.Series(labels: labels, firstSample: first[index], sampleCount: samples[index]))
        }
        let exemplarSeries = try input.column(UInt32.self)
        let exemplarLabels = try input.ranges(in: batch.bytes)
        let exemplarValues = try input.column(UInt64.self)
        let exemplarTimes = try input.column(Int64.self)
        try check(exemplarSeries.count == exemplarLabels.count && exemplarLabels.count == exemplarValues.count && exemplarValues.count == exemplarTimes.count)
        for index in exemplarSeries.indices {
            try check(Int(exemplarSeries[index]) < batch.series.count)
            batch.exemplars.append(
                MetricBatch.Exemplar(
                    series: exemplarSeries[index], labels: exemplarLabels[index], value: Double(bitPattern: exemplarValues[index]),
                    timeMillis: exemplarTimes[index]))
        }
        let families = try input.ranges(in: batch.bytes)
        let types = try input.column(UInt8.self)
        let helps = try input.ranges(in: batch.bytes)
        let units = try input.ranges(in: batch.bytes)
        try check(families.count == types.count && types.count == helps.count && helps.count == units.count)
        for index in families.indices {
            batch.metadata.append(
                MetricBatch.Metadata(family: families[index], type: MetricType(rawValue: types[index]) ?? .unknown, help: helps[index], unit: units[index]))
        }
        guard hasHistograms else { return batch }
        batch.startsMillis = try input.column(Int64.self)
        batch.histogramSeries = try input.column(UInt32.self)
        batch.histograms = try decodeHistograms(input.rest())
        try check(batch.startsMillis.isEmpty || batch.startsMillis.count == batch.timesMillis.count)
        try check(batch.histogramSeries.count == batch.histograms.count && isBelow(batch.histogramSeries, batch.series.count))
        return batch
    }

    package static func decodeLogs(_ bytes: [UInt8]) throws(ObsError) -> LogBatch {
        var input = try ColumnReader(unpack(bytes, kind: 2))
        var batch = LogBatch()
        batch.bytes = try input.bytes()
        batch.streams = try input.ranges(in: batch.bytes)
        batch.resources = try input.ranges(in: batch.bytes)
        batch.scopes = try input.ranges(in: batch.bytes)
        batch.stream = try input.column(UInt32.self)
        batch.timeNanos = try input.column(Int64.self)
        batch.severity = try input.column(UInt8.self)
        batch.line = try input.ranges(in: batch.bytes)
        batch.attributes = try input.ranges(in: batch.bytes)
        let high = try input.column(UInt64.self)
        let low = try input.column(UInt64.self)
        batch.spanID = try input.column(UInt64.self)
        batch.resource = try input.column(UInt32.self)
        batch.scope = try input.column(UInt32.self)
        batch.flags = try input.column(UInt8.self).map { LogBatch.RowFlags(rawValue: $0) }
        let counts = [
            batch.stream.count, batch.severity.count, batch.line.count, batch.attributes.count, high.count, low.count, batch.spanID.count,
            batch.resource.count, batch.scope.count, batch.flags.count,
        ]
        try check(counts.allSatisfy { $0 == batch.count })
        try check(isBelow(batch.stream, batch.streams.count) && isBelow(batch.resource, batch.resources.count) && isBelow(batch.scope, batch.scopes.count))
        batch.traceID = high.indices.map { TraceID(high: high[$0], low: low[$0]) }
        return batch
    }

    package static func decodeSpans(_ bytes: [UInt8]) throws(ObsError) -> SpanBatch {
        var input = try ColumnReader(unpack(bytes, kind: 3))
        var batch = SpanBatch()
        batch.bytes = try input.bytes()
        batch.resources = try input.ranges(in: batch.bytes)
        batch.services = try input.ranges(in: batch.bytes)
        batch.scopes = try input.ranges(in: batch.bytes)
        let high = try input.column(UInt64.self)
        let low = try input.column(UInt64.self)
        batch.spanID = try input.column(UInt64.self)
        batch.parentID = try input.column(UInt64.self)
        batch.startNanos = try input.column(Int64.self)
        batch.durationNanos = try input.column(Int64.self)
        batch.kind = try input.column(UInt8.self)
        batch.status = try input.column(UInt8.self)
        batch.flags = try input.column(UInt32.self)
        batch.name = try input.ranges(in: batch.bytes)
        batch.statusMessage = try input.ranges(in: batch.bytes)
        batch.traceState = try input.ranges(in: batch.bytes)
        batch.attributes = try input.ranges(in: batch.bytes)
        batch.events = try input.ranges(in: batch.bytes)
        batch.links = try input.ranges(in: batch.bytes)
        batch.dropped = try input.ranges(in: batch.bytes)
        batch.resource = try input.column(UInt32.self)
        batch.scope = try input.column(UInt32.self)
        let texts = [batch.name, batch.statusMessage, batch.traceState, batch.attributes, batch.events, batch.links, batch.dropped].map(\.count)
        let numbers = [
            low.count, batch.spanID.count, batch.parentID.count, batch.startNanos.count, batch.durationNanos.count, batch.kind.count, batch.status.count,
            batch.flags.count, batch.resource.count, batch.scope.count,
        ]
        try check((texts + numbers).allSatisfy { $0 == high.count } && batch.services.count == batch.resources.count)
        try check(isBelow(batch.resource, batch.resources.count) && isBelow(batch.scope, batch.scopes.count))
        batch.traceID = high.indices.map { TraceID(high: high[$0], low: low[$0]) }
        return batch
    }

    /// kind 1 · version 1 · varint raw size · zstd frame.
    private static func pack(_ raw: [UInt8], kind: UInt8, version: UInt8 = version) -> [UInt8] {
        var packed: [UInt8] = [kind, version]
        packed.appendVarint(UInt64(raw.count))
        packed.append(contentsOf: zstdCompress(raw, level: level))
        return packed
    }

    private static func unpack(_ packed: [UInt8], kind: UInt8, knownVersion: UInt8 = version) throws(ObsError) -> [UInt8] {
        var at = 2
        let size = packed.withUnsafeBytes { readVarint($0, &at) }
        try check(packed.count >= 2 && packed[0] == kind)
        guard packed[1] <= knownVersion else { throw newerFormat("logged batch", Int(packed[1]), known: Int(knownVersion)) }
        try check(packed[1] >= version)
        guard let size, size <= rawBytesMax else { throw damaged }
        return try zstdDecompress([UInt8](packed[at...]), exactly: Int(size))
    }

    /// Past any batch the decoders' limits let through: a size above it is damage.
    private static let rawBytesMax: UInt64 = 4 << 30
    fileprivate static let damaged = ObsError(.corrupt, "logged batch is not one")

    private static func check(_ condition: Bool) throws(ObsError) { if !condition { throw damaged } }
    private static func isBelow(_ indices: [UInt32], _ count: Int) -> Bool { indices.allSatisfy { Int($0) < count } }
    fileprivate static func lies(_ range: ByteRange, in bytes: [UInt8]) -> Bool { Int(range.offset) + Int(range.count) <= bytes.count }
}

/// Columns to bytes: `varint count · values little endian`.
private struct ColumnWriter {
    var output: [UInt8] = []

    mutating func bytes(_ column: [UInt8]) {
        output.appendVarint(UInt64(column.count))
        output.append(contentsOf: column)
    }

    mutating func column<T: FixedWidthInteger>(_ column: [T]) {
        output.appendVarint(UInt64(column.count))
        output.reserveCapacity(output.count + column.count * MemoryLayout<T>.size)
        for value in column { output.appendLittleEndian(value) }
    }

    mutating func ranges(_ column: [ByteRange]) {
        self.column(column.map(\.offset))
        self.column(column.map(\.count))
    }
}

private struct ColumnReader {
    private let input: [UInt8]
    private var at = 0

    init(_ input: [UInt8]) { self.input = input }

    mutating func bytes() throws(ObsError) -> [UInt8] {
        let range = try next(width: 1)
        return [UInt8](input[range])
    }

    mutating func column<T: FixedWidthInteger>(_ type: T.Type) throws(ObsError) -> [T] {
        let width = MemoryLayout<T>.size
        let range = try next(width: width)
        return input.withUnsafeBytes { raw in
            (0..<range.count / width).map { T(littleEndian: raw.loadUnaligned(fromByteOffset: range.lowerBound + $0 * width, as: T.self)) }
        }
    }

    mutating func ranges(in bytes: [UInt8]) throws(ObsError) -> [ByteRange] {
        let offsets = try column(UInt32.self)
        let counts = try column(UInt32.self)
        guard offsets.count == counts.count else { throw BatchCodec.damaged }
        let ranges = offsets.indices.map { ByteRange(offset: offsets[$0], count: counts[$0]) }
        guard ranges.allSatisfy({ BatchCodec.lies($0, in: bytes) }) else { throw BatchCodec.damaged }
        return ranges
    }

    /// What no column was read of.
    func rest() -> [UInt8] { Array(input[at...]) }

    private mutating func next(width: Int) throws(ObsError) -> Range<Int> {
        var position = at
        let count = input.withUnsafeBytes { readVarint($0, &position) }
        guard let count, count <= UInt64((input.count - position) / width) else { throw BatchCodec.damaged }
        let range = position..<position + Int(count) * width
        at = range.upperBound
        return range
    }
}
