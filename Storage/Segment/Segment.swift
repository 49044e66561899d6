package import ObsCore
package import ObsDisk
package import ObsStore

// Signatures first; the bodies follow file by file.
private let missing = ObsError(.unavailable, "not written yet")

package final class MetricSegmentWriter {
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) { throw missing }
    package func add(labels: UnsafeRawBufferPointer, times: UnsafeBufferPointer<Int64>, values: UnsafeBufferPointer<Double>) throws(ObsError) { throw missing }
    package func finish() throws(ObsError) -> SegmentInfo { throw missing }
    package func abandon() {}
}

package final class MetricSegmentReader: Sendable {
    package let info: SegmentInfo
    package var seriesCount: Int { 0 }
    package static func open(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> MetricSegmentReader { throw missing }
    private init() throws(ObsError) { throw missing }
    package func select(_ matchers: [LabelMatcher]) throws(ObsError) -> [Int] { throw missing }
    package func labels(_ ordinal: Int) throws(ObsError) -> Labels { throw missing }
    package func timeRange(_ ordinal: Int) throws(ObsError) -> ClosedRange<Int64> { throw missing }
    package func samples(_ ordinal: Int, range: ClosedRange<Int64>) throws(ObsError) -> (times: [Int64], values: [Double]) { throw missing }
    package func labelNames() throws(ObsError) -> [String] { throw missing }
    package func labelValues(_ name: String) throws(ObsError) -> [String] { throw missing }
}

/// Columns of an event block a reader wants; what is not read comes as defaults. Stream, time, flags and arrival are always read.
package struct LogColumns: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let severity = LogColumns(rawValue: 1)
    package static let line = LogColumns(rawValue: 2)
    package static let attributes = LogColumns(rawValue: 4)
    package static let identifiers = LogColumns(rawValue: 8)
    package static let resource = LogColumns(rawValue: 16)
    package static let scope = LogColumns(rawValue: 32)
    package static let all: LogColumns = [.severity, .line, .attributes, .identifiers, .resource, .scope]
}

package struct LogBlockInfo: Sendable {
    package var rows: Int
    package var minNanos: Int64
    package var maxNanos: Int64
    /// Indices into the segment's `streams`.
    package var firstStream: Int
    package var lastStream: Int
    package var bytes: Int
}

package final class LogSegmentWriter {
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) { throw missing }
    package func add(_ batch: LogBatch, rows: [Int]) throws(ObsError) { throw missing }
    package func finish() throws(ObsError) -> SegmentInfo { throw missing }
    package func abandon() {}
}

package final class LogSegmentReader: Sendable {
    package let info: SegmentInfo
    package let streams: [Labels]
    package let blocks: [LogBlockInfo]
    package static func open(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> LogSegmentReader { throw missing }
    private init() throws(ObsError) { throw missing }
    package func read(block: Int, columns: LogColumns = .all) throws(ObsError) -> LogBatch { throw missing }
}

package struct SpanColumns: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let name = SpanColumns(rawValue: 1)
    package static let attributes = SpanColumns(rawValue: 2)
    package static let events = SpanColumns(rawValue: 4)
    package static let links = SpanColumns(rawValue: 8)
    /// Status message, trace state, dropped counts, flags.
    package static let rest = SpanColumns(rawValue: 16)
    package static let resource = SpanColumns(rawValue: 32)
    package static let scope = SpanColumns(rawValue: 64)
    package static let all: SpanColumns = [.name, .attributes, .events, .links, .rest, .resource, .scope]
}

package struct SpanBlockInfo: Sendable {
    package var rows: Int
    package var minStartNanos: Int64
    package var maxStartNanos: Int64
    package var minTraceID: TraceID
    package var maxTraceID: TraceID
    /// Sorted; empty when there are more than `SegmentLimits.namesMax`: then any may be inside.
    package var services: [String]
    package var bytes: Int
}

package final class SpanSegmentWriter {
    package init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError) { throw missing }
    package func add(_ batch: SpanBatch, rows: [Int]) throws(ObsError) { throw missing }
    package func finish() throws(ObsError) -> SegmentInfo { throw missing }
    package func abandon() {}
}

package final class SpanSegmentReader: Sendable {
    package let info: SegmentInfo
    package let blocks: [SpanBlockInfo]
    package static func open(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> SpanSegmentReader { throw missing }
    private init() throws(ObsError) { throw missing }
    package func mayContain(_ id: TraceID) throws(ObsError) -> Bool { throw missing }
    package func read(block: Int, columns: SpanColumns = .all) throws(ObsError) -> SpanBatch { throw missing }
}

/// Reads the footer only; what recovery and `index rebuild` do with every file.
package func readSegmentInfo(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> SegmentInfo { throw missing }

/// Checks every checksum of the file.
/// - Throws: `.corrupt` with place `file:offset`.
package func verify(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) { throw missing }
