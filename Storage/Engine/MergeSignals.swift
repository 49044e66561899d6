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

/// What came of a merge.
struct MergeOutput {
    /// Nil when no row is left.
    var info: SegmentInfo?
    /// Of its rows, those in blocks that went over as they were.
    var copiedRows: Int64 = 0
}

/// A head whose segments can be merged.
protocol MergeableHead: FlushableHead {
    /// Writes the rows of the inputs, oldest first, as one segment.
    /// - Parameters:
    ///   - check: called now and then; throws when the merge is to end.
    ///   - grow: told of memory before it is taken; throws when there is none.
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void,
        grow: @escaping (Int) throws(ObsError) -> Void
    ) throws(ObsError) -> MergeOutput
}

extension MetricHead: MergeableHead {
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void,
        grow: @escaping (Int) throws(ObsError) -> Void
    ) throws(ObsError) -> MergeOutput {
        let deleted = inputs.map { input -> MetricSegmentMerge.Deleted? in input.mask.isEmpty ? nil : { input.mask.deletedTimes(labels: $0) } }
        let merge = try MetricSegmentMerge(inputs.map(\.path), fileSystem, deleted: deleted, check: check, grow: grow)
        return MergeOutput(info: try merge.write(fileSystem, path: path, draft: draft))
    }
}

/// A block of events in the making, and its columns while they are encoded.
private func eventOutputBytes(_ inputs: [MergeInput]) -> Int { Int(min(Int64(4 * SegmentLimits.blockBytesMax), inputs.reduce(0) { $0 + $1.info.bytes } * 16)) }

extension LogHead: MergeableHead {
    static func merge(
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void,
        grow: @escaping (Int) throws(ObsError) -> Void
    ) throws(ObsError) -> MergeOutput {
        var readers: [LogSegmentReader] = []
        try grow(eventOutputBytes(inputs))
        for input in inputs {
            readers.append(try LogSegmentReader.open(fileSystem, input.path))
            try grow(readers[readers.count - 1].streams.reduce(0) { $0 + $1.bytes.count + 48 })
        }
        let ranks = try ranks(readers, inputs)
        let memory = BlockMemory(grow)
        let blocks = inputs.indices.flatMap { LogInput(inputs[$0], readers[$0], position: $0, ranks: ranks[$0], memory: memory).blocks }
        let writer = try LogSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var merge = try EventMerge(
                blocks, inputs: inputs.count, check: check,
                write: { (batches: [LogBatch], rows: [RowPlace]) throws(ObsError) in try writer.add(batches, rows: rows) },
                copy: { (block: LogBlock) throws(ObsError) in try writer.copy(block: block.number, of: block.reader) })
            try merge.run()
            if merge.merged.rows > 0 { return MergeOutput(info: try writer.finish(), copiedRows: merge.merged.copied) }
            writer.abandon()
            return MergeOutput()
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
        _ inputs: [MergeInput], _ fileSystem: any FileSystem, path: String, draft: SegmentDraft, check: @escaping () throws(ObsError) -> Void,
        grow: @escaping (Int) throws(ObsError) -> Void
    ) throws(ObsError) -> MergeOutput {
        try grow(eventOutputBytes(inputs))
        let memory = BlockMemory(grow)
        var blocks: [SpanBlock] = []
        for (position, input) in inputs.enumerated() {
            let reader = try SpanSegmentReader.open(fileSystem, input.path, cache: BlockCache(bytesMax: 0))
            blocks += SpanInput(input, reader, position: position, memory: memory).blocks
        }
        let writer = try SpanSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            var merge = try EventMerge(
                blocks, inputs: inputs.count, check: check,
                write: { (batches: [SpanBatch], rows: [RowPlace]) throws(ObsError) in try writer.add(batches, rows: rows) },
                copy: { (block: SpanBlock) throws(ObsError) in try writer.copy(block: block.number, of: block.reader) })
            try merge.run()
            if merge.merged.rows > 0 { return MergeOutput(info: try writer.finish(), copiedRows: merge.merged.copied) }
            writer.abandon()
            return MergeOutput()
        } catch {
            writer.abandon()
            throw error
        }
    }
}
