// Counts of log records by stream and bucket. A block that lies in one bucket, wholly wanted and undeleted, is counted from the block index; one that is not is asked
// for its streams and times, and for its lines when there are conditions on them. Where sources overlap in time, a row may be there twice (a sender's retry): rows whose
// stream and time another source has too are read and compared, before anything is counted.

internal import ObsCore
internal import ObsEncoding
internal import ObsSegment
internal import ObsStore

struct LogCount {
    private let selection: LogSelection
    private let grid: LogCountGrid
    private let context: QueryContext
    private let workers: ScanWorkers
    private let tally: Monitor<Tally>
    /// Where values of a field are counted instead of streams.
    private let fields: FieldCount?

    private struct Tally {
        var counts: [Labels: [Int]] = [:]
        var seen = SeenRows()
        var keys = SharedKeys()
    }

    init(_ selection: LogSelection, grid: LogCountGrid, fields: FieldCount? = nil, context: QueryContext, workers: ScanWorkers) {
        self.fields = fields
        self.selection = selection
        self.grid = grid
        self.context = context
        self.workers = workers
        tally = Monitor(Tally())
    }

    /// A block to be counted, and what of its streams matches.
    private struct Work: Sendable {
        var segment: LogSegment
        var block: LogBlockView
        var matching: ArraySlice<Bool>
        var mask: DeletedRows
        /// Of the segment among the sources.
        var source: Int
    }

    func run(_ sources: LogSources) throws(ObsError) -> [LogCounts] {
        guard selection.startNanos < selection.endNanos else { return [] }
        let range = selection.startNanos...(selection.endNanos - 1)
        var ranges: [ClosedRange<Int64>] = []
        var entries: [HeadBatch<LogBatch>] = []
        for head in sources.heads {
            head.batches.forEach { entry in
                guard entry.minTime <= range.upperBound, entry.maxTime >= range.lowerBound else { return }
                entries.append(entry)
                ranges.append(entry.minTime...entry.maxTime)
                if entry.mayRepeat { ranges.append(entry.minTime...entry.maxTime) }
            }
        }
        var work: [Work] = []
        for (number, segment) in sources.segments.enumerated() where segment.overlaps(range) {
            try context.check()
            ranges.append(segment.info.minTime...segment.info.maxTime)
            work += try blocks(of: segment, number, range, sources.deletions)
        }
        let zones = OverlapZones(ranges)
        let suspected = try workers.map(work.count) { [self, work] index throws(ObsError) -> [Suspect] in
            try work[index].segment.reading { () throws(ObsError) in try suspects(in: work[index], zones) }
        }
        for (number, entry) in entries.enumerated() { noteKeys(entry, number + sources.segments.count, zones) }
        let keys = tally.read { $0.keys }
        // What a key takes in a dictionary, about.
        try context.charge(bytes: keys.count * 48)
        defer { context.release(bytes: keys.count * 48) }
        for entry in entries {
            try context.check()
            try count(entry.batch, DeletedRows(expiry: sources.deletions.expiry.concerning(entry.minTime)), zones, keys)
        }
        let hasShared = keys.hasShared
        try workers.forEach(work.count) { [self, work] index throws(ObsError) in
            try context.check()
            var repeated = RowSet(count: work[index].block.rows)
            if hasShared { for suspect in suspected[index] where keys.isShared(suspect.key) { repeated.insert(suspect.row) } }
            try work[index].segment.reading { () throws(ObsError) in try count(work[index], repeated) }
        }
        return tally.read { $0.counts }.sorted { $0.key < $1.key }.map { LogCounts(labels: $0.key, counts: $0.value) }
    }

    private func blocks(of segment: LogSegment, _ source: Int, _ range: ClosedRange<Int64>, _ deletions: Deletions) throws(ObsError) -> [Work] {
        let reader = try segment.reader()
        context.count(segments: 1)
        let matching = reader.streams.map { selection.matchers.match($0) }
        let mask = deletions.mask(of: segment.info)
        var work: [Work] = []
        for (number, info) in reader.blocks.enumerated()
        where info.minNanos <= range.upperBound && info.maxNanos >= range.lowerBound && matching[info.firstStream...info.lastStream].contains(true) {
            work.append(Work(segment: segment, block: reader.block(number), matching: matching[info.firstStream...info.lastStream], mask: mask, source: source))
        }
        return work
    }

    // MARK: Blocks

    /// A row whose time lies where sources overlap.
    private struct Suspect: Sendable {
        var row: Int
        var key: UInt64
    }

    private func suspects(in work: Work, _ zones: OverlapZones) throws(ObsError) -> [Suspect] {
        let zones = zones.within(work.block.info.minNanos...work.block.info.maxNanos)
        if zones.isEmpty { return [] }
        try context.check()
        // Of a row that is not counted no twin is either.
        if try selection.excludes(work.block) { return [] }
        let times = try work.block.times()
        let streams = work.block.streams.count > 1 ? try work.block.streamNumbers() : []
        let hashes = work.block.streams.map { $0.bytes.withUnsafeBytes { SharedKeys.stream($0) } }
        var found: [Suspect] = []
        for row in 0..<work.block.rows {
            let time = times[row]
            guard zones.contains(where: { $0.contains(time) }) else { continue }
            found.append(Suspect(row: row, key: SharedKeys.key(hashes[streams.isEmpty ? 0 : Int(streams[row])], time)))
        }
        tally.read { tally in for suspect in found { tally.keys.add(suspect.key, source: work.source) } }
        return found
    }

    /// - Parameter repeated: rows that may be there twice.
    private func count(_ work: Work, _ repeated: RowSet) throws(ObsError) {
        let info = work.block.info
        let isWhole = info.minNanos >= selection.startNanos && info.maxNanos < selection.endNanos
        if let fields, isWhole, repeated.isEmpty, selection.lines.isEmpty, work.mask.isEmpty, !work.matching.contains(false),
            try fields.add(work.block, selection.fields)
        {
            return
        }
        let bucket = isWhole && grid.bucket(info.minNanos) == grid.bucket(info.maxNanos) ? grid.bucket(info.minNanos) : nil
        if let bucket, fields == nil, repeated.isEmpty, selection.lines.isEmpty, selection.fields.isEmpty, work.mask.isEmpty, let counts = info.counts {
            return try add(bucket, work.block.streams, counts.streams, work.matching)
        }
        if try selection.excludes(work.block) { return }
        let hidden = work.mask.isEmpty ? [] : work.block.streams.map { work.mask.rows($0) }
        let wanted = selection.startNanos..<selection.endNanos
        var rows = try selection.rows(of: work.block, matching: work.matching, times: wanted, hidden: hidden)
        context.count(blocks: 1, bytesRead: info.bytes, rows: info.rows)
        try removeRepeated(work.block, repeated.intersection(rows), from: &rows)
        if rows.isEmpty { return }
        if let fields { return try fields.add(work.block, rows) }
        if let bucket, work.block.streams.count == 1 { return try add(bucket, work.block.streams, [UInt32(rows.population)], [true]) }
        try add(work.block, rows, bucket)
    }

    private func add(_ bucket: Int, _ streams: ArraySlice<Labels>, _ counts: [UInt32], _ matching: ArraySlice<Bool>) throws(ObsError) {
        for (offset, labels) in streams.enumerated() where matching[matching.startIndex + offset] && counts[offset] > 0 {
            try add(labels) { $0[bucket] += Int(counts[offset]) }
        }
    }

    private func add(_ block: LogBlockView, _ rows: RowSet, _ bucket: Int?) throws(ObsError) {
        let streams = block.streams.count > 1 ? try block.streamNumbers() : [UInt32](repeating: 0, count: block.rows)
        let times = bucket == nil ? try block.times() : []
        var counts = [Int](repeating: 0, count: block.streams.count * grid.count)
        rows.forEach { row in
            if let bucket = bucket ?? grid.bucket(times[row]) { counts[Int(streams[row]) * grid.count + bucket] += 1 }
        }
        for (number, labels) in block.streams.enumerated() {
            let own = counts[number * grid.count..<(number + 1) * grid.count]
            guard own.contains(where: { $0 > 0 }) else { continue }
            try add(labels) { all in for (bucket, count) in own.enumerated() { all[bucket] += count } }
        }
    }

    /// Leaves rows out that were counted already.
    private func removeRepeated(_ block: LogBlockView, _ suspects: RowSet, from rows: inout RowSet) throws(ObsError) {
        if suspects.isEmpty { return }
        let batch = try block.batch(of: suspects, columns: [.line, .attributes, .identifiers])
        try context.charge(bytes: batch.byteSize)
        defer { context.release(bytes: batch.byteSize) }
        for (index, row) in suspects.rows.enumerated() where !isNew(batch, index) { rows.remove(row) }
    }

    private func isNew(_ batch: LogBatch, _ row: Int) -> Bool {
        guard batch.flags[row].contains(.identified) else { return true }
        let identity = batch.bytes.withUnsafeBytes { RowIdentity.log(batch, row: row, bytes: $0) }
        return tally.read { $0.seen.insert(identity) }
    }

    // MARK: Heads

    private func noteKeys(_ entry: HeadBatch<LogBatch>, _ source: Int, _ zones: OverlapZones) {
        let zones = zones.within(entry.minTime...entry.maxTime)
        if zones.isEmpty { return }
        let batch = entry.batch
        let hashes = streamHashes(batch)
        tally.read { tally in
            for row in 0..<batch.count where zones.contains(where: { $0.contains(batch.timeNanos[row]) }) {
                tally.keys.add(SharedKeys.key(hashes[Int(batch.stream[row])], batch.timeNanos[row]), source: entry.mayRepeat ? nil : source)
            }
        }
    }

    private func streamHashes(_ batch: LogBatch) -> [UInt64] {
        batch.bytes.withUnsafeBytes { bytes in batch.streams.map { SharedKeys.stream(UnsafeRawBufferPointer(rebasing: bytes[$0.range])) } }
    }

    private func count(_ batch: LogBatch, _ past: DeletedRows, _ zones: OverlapZones, _ keys: SharedKeys) throws(ObsError) {
        let labels = batch.streams.indices.map { batch.labels(ofStream: UInt32($0)) }
        let matching = labels.map { selection.matchers.match($0) }
        guard matching.contains(true) else { return }
        let hidden = past.isEmpty ? [] : labels.map { past.rows($0) }
        let hashes = streamHashes(batch)
        var counts = [Int](repeating: 0, count: labels.count * grid.count)
        var rows: [Int] = []
        batch.bytes.withUnsafeBytes { bytes in
            for row in 0..<batch.count {
                let time = batch.timeNanos[row]
                let stream = Int(batch.stream[row])
                guard time >= selection.startNanos, time < selection.endNanos, matching[stream], let bucket = grid.bucket(time) else { continue }
                let line = UnsafeRawBufferPointer(rebasing: bytes[batch.line[row].range])
                guard selection.lines.allSatisfy({ $0.passes(line) }),
                    selection.fields.pass(line: batch.line[row], attributes: batch.attributes[row], in: bytes)
                else { continue }
                if !hidden.isEmpty, hidden[stream].contains(time, line: batch.line[row], in: bytes) { continue }
                if zones.contains(time), keys.isShared(SharedKeys.key(hashes[stream], time)), !isNew(batch, row) { continue }
                if fields == nil { counts[stream * grid.count + bucket] += 1 } else { rows.append(row) }
            }
        }
        context.count(rows: batch.count)
        if let fields { return try fields.add(batch, rows, labels) }
        for (stream, labels) in labels.enumerated() {
            let own = counts[stream * grid.count..<(stream + 1) * grid.count]
            if own.contains(where: { $0 > 0 }) { try add(labels) { all in for (bucket, count) in own.enumerated() { all[bucket] += count } } }
        }
    }

    /// Adds to a stream's counts.
    private func add(_ labels: Labels, _ change: (inout [Int]) -> Void) throws(ObsError) {
        let isNew = tally.read { tally in
            let isNew = tally.counts[labels] == nil
            change(&tally.counts[labels, default: [Int](repeating: 0, count: grid.count)])
            return isNew
        }
        if isNew { try context.charge(bytes: grid.count * 8 + labels.bytes.count + 64) }
    }
}
