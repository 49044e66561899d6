// A segment with a damaged block is made again from what can still be read of it.
//
// A block that fails its checksum fails every query that needs it. Left alone, a dashboard over that day would never work again; set aside whole, a day of good
// records would be gone for one bad sector. So the readable blocks are written to a segment of the same id, level and log ranges, which takes the damaged
// file's name in one rename, and the damaged file stays in quarantine/ under a second name, given before. A crash in between leaves the damaged file where it was.
//
// A read that the device refuses (EIO) is no damage: nothing is changed for it.

internal import ObsCore
internal import ObsDisk
internal import ObsSegment
internal import ObsStore

/// What became of a segment in which damage was met.
enum SalvageOutcome {
    /// Every byte is as it was written; what the read met has passed.
    case undamaged
    /// Made again with what was readable.
    case salvaged(SegmentInfo)
    /// Nothing could be read: the caller sets the file aside whole.
    case unreadable(ObsError)
}

struct Salvage {
    let fileSystem: any FileSystem
    let layout: DiskLayout

    /// - Parameter met: what a read ended with.
    /// - Throws: what the file system throws; then nothing has changed.
    func run(_ info: SegmentInfo, _ met: ObsError) throws(ObsError) -> SalvageOutcome {
        let path = layout.segment(info.tenant, info.signal, day: info.day, id: info.id)
        let damage = try firstDamage(path)
        let contents: any ReadableContents
        do throws(ObsError) {
            switch info.signal {
            case .metrics: contents = try ReadableSeries(fileSystem, path)
            case .logs:
                let reader = try LogSegmentReader.open(fileSystem, path)
                contents = try ReadableEvents(LogSegmentWriter.self, blocks: reader.blocks.map { $0.minNanos...$0.maxNanos }, times: \.timeNanos) {
                    (number) throws(ObsError) in try reader.read(block: number)
                }
            case .traces:
                let reader = try SpanSegmentReader.open(fileSystem, path)
                contents = try ReadableEvents(SpanSegmentWriter.self, blocks: reader.blocks.map { $0.minStartNanos...$0.maxStartNanos }, times: \.startNanos) {
                    (number) throws(ObsError) in try reader.read(block: number)
                }
            }
        } catch {
            guard error.code == .corrupt else { throw error }
            return .unreadable(error)
        }
        if damage == nil, contents.lost == nil { return .undamaged }
        guard let first = contents.minTime else { return .unreadable(damage ?? met) }
        let day = segmentDay(of: first, info.signal)
        let target = layout.segment(info.tenant, info.signal, day: day, id: info.id)
        try keepDamaged(path)
        if target != path { try fileSystem.makeDirectories(layout.partition(info.tenant, info.signal, day: day)) }
        let replaces = try ifReadable { () throws(ObsError) in try readReplaced(fileSystem, path) }
        let draft = SegmentDraft(id: info.id, tenant: info.tenant, level: info.level, walRanges: info.walRanges, replaces: replaces ?? [])
        let written = try contents.write(fileSystem, target, draft)
        if target != path {
            try fileSystem.remove(path)
            try fileSystem.syncDirectory(DiskLayout.folder(of: path))
        }
        DiagnosticLog.error(
            "damaged segment made again from its readable blocks; the damaged file is kept",
            [
                ("path", path), ("error", (damage ?? met).description), ("rows_kept", "\(written.rows)"), ("rows_lost", "\(info.rows - written.rows)"),
                ("first_lost", contents.lost.map { "\($0.lowerBound)" } ?? ""), ("last_lost", contents.lost.map { "\($0.upperBound)" } ?? ""),
                ("kept_as", layout.quarantined(path)),
            ])
        return .salvaged(written)
    }

    /// The first checksum of the file that does not match; nil when all do.
    private func firstDamage(_ path: String) throws(ObsError) -> ObsError? {
        do throws(ObsError) {
            try verify(fileSystem, path)
            return nil
        } catch {
            guard error.code == .corrupt else { throw error }
            return error
        }
    }

    private func keepDamaged(_ path: String) throws(ObsError) {
        let copy = layout.quarantined(path)
        try fileSystem.makeDirectories(layout.quarantine)
        if !fileSystem.exists(copy) { try fileSystem.hardLink(path, to: copy) }
        try fileSystem.syncDirectory(layout.quarantine)
    }
}

/// What can be read of a damaged segment.
private protocol ReadableContents {
    /// Of all readable rows; nil when there are none.
    var minTime: Int64? { get }
    /// Times between which rows may be lost; nil when none are.
    var lost: ClosedRange<Int64>? { get }
    func write(_ fileSystem: any FileSystem, _ path: String, _ draft: SegmentDraft) throws(ObsError) -> SegmentInfo
}

/// What `body` gives; nil when it meets damage.
private func ifReadable<R>(_ body: () throws(ObsError) -> R) throws(ObsError) -> R? {
    do throws(ObsError) { return try body() } catch {
        guard error.code == .corrupt else { throw error }
        return nil
    }
}

private func union(_ range: ClosedRange<Int64>?, _ other: ClosedRange<Int64>) -> ClosedRange<Int64> {
    range.map { min($0.lowerBound, other.lowerBound)...max($0.upperBound, other.upperBound) } ?? other
}

/// What the writers of logs and of spans have in common.
private protocol EventWriter: AnyObject {
    associatedtype Batch
    init(fileSystem: any FileSystem, path: String, draft: SegmentDraft) throws(ObsError)
    func add(_ sources: [Batch], rows places: [RowPlace]) throws(ObsError)
    func finish() throws(ObsError) -> SegmentInfo
    func abandon()
}

extension LogSegmentWriter: EventWriter {}
extension SpanSegmentWriter: EventWriter {}

/// Blocks of logs or spans that can be read.
private struct ReadableEvents<Writer: EventWriter>: ReadableContents {
    private let times: (Writer.Batch) -> [Int64]
    private let read: (Int) throws(ObsError) -> Writer.Batch
    private var blocks: [Int] = []
    var minTime: Int64?
    var lost: ClosedRange<Int64>?

    /// - Parameter blocks: of each, between which times its rows lie.
    init(
        _: Writer.Type, blocks: [ClosedRange<Int64>], times: @escaping (Writer.Batch) -> [Int64], read: @escaping (Int) throws(ObsError) -> Writer.Batch
    ) throws(ObsError) {
        self.times = times
        self.read = read
        for (number, range) in blocks.enumerated() {
            if let batch = try ifReadable({ () throws(ObsError) in try read(number) }) {
                self.blocks.append(number)
                minTime = min(minTime ?? .max, times(batch).min() ?? .max)
            } else {
                lost = union(lost, range)
            }
        }
    }

    func write(_ fileSystem: any FileSystem, _ path: String, _ draft: SegmentDraft) throws(ObsError) -> SegmentInfo {
        let writer = try Writer(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            for number in blocks {
                let batch = try read(number)
                try writer.add([batch], rows: (0..<times(batch).count).map { RowPlace(source: 0, row: UInt32($0)) })
            }
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }
}

/// Series whose labels and chunk list can be read, each with the chunks that can.
private struct ReadableSeries: ReadableContents {
    private let reader: MetricSegmentReader
    private var ordinals: [Int] = []
    var minTime: Int64?
    var lost: ClosedRange<Int64>?

    init(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) {
        reader = try MetricSegmentReader.open(fileSystem, path)
        for ordinal in 0..<reader.seriesCount {
            guard try ifReadable({ () throws(ObsError) in try reader.labels(ordinal) }) != nil,
                let range = try ifReadable({ () throws(ObsError) in try reader.timeRange(ordinal) })
            else {
                // Nothing says when; the segment's times are the bound.
                lost = union(lost, reader.info.minTime...reader.info.maxTime)
                continue
            }
            let (times, _, isWhole) = try reader.readableSamples(ordinal)
            if !isWhole { lost = union(lost, range) }
            guard let first = times.first else { continue }
            ordinals.append(ordinal)
            minTime = min(minTime ?? .max, first)
        }
    }

    func write(_ fileSystem: any FileSystem, _ path: String, _ draft: SegmentDraft) throws(ObsError) -> SegmentInfo {
        let writer = try MetricSegmentWriter(fileSystem: fileSystem, path: path, draft: draft)
        do throws(ObsError) {
            for ordinal in ordinals {
                let (times, values, _) = try reader.readableSamples(ordinal)
                try writer.add(labels: try reader.labels(ordinal), times: times, values: values)
            }
            writer.families = try ifReadable { () throws(ObsError) in try reader.families() } ?? MetricFamilies()
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }
}
