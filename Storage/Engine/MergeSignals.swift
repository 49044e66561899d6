// What a merge does with each kind of segment: reads the inputs in their common order and feeds the segment writer of the signal.

internal import ObsCore
internal import ObsDisk
internal import ObsSegment

/// One of the segments to be merged.
struct MergeInput {
    var info: SegmentInfo
    var path: String
    var mask: any RowMask
}

/// A head whose segments can be merged.
protocol MergeableHead: FlushableHead {
    /// Writes the rows of the inputs, oldest first, as one segment; nil when none is left.
    /// - Parameter check: called now and then; throws when the merge is to end.
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void
    ) throws(ObsError) -> SegmentInfo?
}

/// Decoded blocks of one input: enough for the one it is at, and nothing is taken from the queries' cache.
private let inputCacheBytes = 4 << 20

extension MetricHead: MergeableHead {
    /// Series of one input, in label order.
    private final class Cursor {
        let input: MergeInput
        private let reader: MetricSegmentReader
        private var ordinal = -1
        private(set) var labels: Labels?

        init(_ input: MergeInput, _ fileSystem: any FileSystem) throws(ObsError) {
            self.input = input
            reader = try MetricSegmentReader.open(fileSystem, input.path, cache: BlockCache(bytesMax: inputCacheBytes))
            try advance()
        }

        func advance() throws(ObsError) {
            ordinal += 1
            let before = labels
            labels = ordinal < reader.seriesCount ? try reader.labels(ordinal) : nil
            if let before, let labels, Labels.compare(before, labels) >= 0 {
                throw ObsError(.corrupt, "series of a segment are out of order", place: "\(input.path):0")
            }
        }

        /// Without the deleted ones.
        func samples() throws(ObsError) -> (times: [Int64], values: [Double]) {
            let samples = try reader.samples(ordinal, range: .min ... .max)
            guard !input.mask.isEmpty, let deleted = labels?.bytes.withUnsafeBytes({ input.mask.deletedTimes(labels: $0) }), !deleted.isEmpty else {
                return samples
            }
            var kept: (times: [Int64], values: [Double]) = ([], [])
            for (time, value) in zip(samples.times, samples.values) where !deleted.contains(where: { $0.contains(time) }) {
                kept.times.append(time)
                kept.values.append(value)
            }
            return kept
        }
    }

    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void
    ) throws(ObsError) -> SegmentInfo? {
        var cursors: [Cursor] = []
        for input in inputs { cursors.append(try Cursor(input, fileSystem)) }
        let writer = try MetricSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var isEmpty = true
            while let labels = cursors.compactMap(\.labels).min(by: { Labels.compare($0, $1) < 0 }) {
                try check()
                var merged: (times: [Int64], values: [Double]) = ([], [])
                for cursor in cursors where cursor.labels == labels {
                    merged = mergeSamples(merged, try cursor.samples())
                    try cursor.advance()
                }
                if merged.times.isEmpty { continue }
                try writer.add(labels: labels, times: merged.times, values: merged.values)
                isEmpty = false
            }
            guard !isEmpty else {
                writer.abandon()
                return nil
            }
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }
}

extension LogHead: MergeableHead {
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void
    ) throws(ObsError) -> SegmentInfo? {
        var readers: [LogSegmentReader] = []
        for input in inputs { readers.append(try LogSegmentReader.open(fileSystem, input.path)) }
        let ranks = try ranks(readers, inputs)
        let cursors = inputs.indices.map { LogCursor(inputs[$0], readers[$0], ranks: ranks[$0]) }
        let writer = try LogSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var merge = EventMerge(cursors, check: check) { (batches: [LogBatch], rows: [RowPlace]) throws(ObsError) in try writer.add(batches, rows: rows) }
            if try merge.run() > 0 { return try writer.finish() }
            writer.abandon()
            return nil
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Of each input's streams, their positions among the streams of all.
    private static func ranks(_ readers: [LogSegmentReader], _ inputs: [MergeInput]) throws(ObsError) -> [[UInt32]] {
        var ranks: [[UInt32]] = readers.map { _ in [] }
        var count: UInt32 = 0
        while true {
            var least: Labels?
            for (input, reader) in readers.enumerated() where ranks[input].count < reader.streams.count {
                let labels = reader.streams[ranks[input].count]
                if least.map({ Labels.compare(labels, $0) < 0 }) ?? true { least = labels }
            }
            guard let least else { return ranks }
            for (input, reader) in readers.enumerated() where ranks[input].count < reader.streams.count {
                let at = ranks[input].count
                guard reader.streams[at] == least else { continue }
                ranks[input].append(count)
                if at + 1 < reader.streams.count, Labels.compare(least, reader.streams[at + 1]) >= 0 {
                    throw ObsError(.corrupt, "streams of a segment are out of order", place: "\(inputs[input].path):0")
                }
            }
            count += 1
        }
    }
}

extension SpanHead: MergeableHead {
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void
    ) throws(ObsError) -> SegmentInfo? {
        var cursors: [SpanCursor] = []
        for input in inputs { cursors.append(SpanCursor(input, try SpanSegmentReader.open(fileSystem, input.path, cache: BlockCache(bytesMax: 0)))) }
        let writer = try SpanSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var merge = EventMerge(cursors, check: check) { (batches: [SpanBatch], rows: [RowPlace]) throws(ObsError) in try writer.add(batches, rows: rows) }
            if try merge.run() > 0 { return try writer.finish() }
            writer.abandon()
            return nil
        } catch {
            writer.abandon()
            throw error
        }
    }
}
