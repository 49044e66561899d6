// Deleting rows, and forgetting a deletion once nothing of what it hid is left.

internal import ObsCore
internal import ObsDisk
internal import ObsSegment
internal import ObsStore

extension SignalStore {
    /// Hides rows that are there now; later ones are not concerned. Flushes first, see Tombstone.swift.
    func delete(_ tenant: TenantID, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) {
        try Tombstone.check(selectors, Head.signal)
        try flush()
        try shared.tombstones.add(
            try Tombstone(
                tenant: tenant, signal: Head.signal, createdNanos: shared.clock.nowNanos(), through: flushedThrough, range: range, selectors: selectors))
    }

    /// Takes a deletion back.
    func cancelDeletion(_ tenant: TenantID, id: String, force: Bool) throws(ObsError) {
        guard let number = UInt64(id, radix: 16) else { throw ObsError(.notFound, "could not find delete request with given id") }
        try shared.tombstones.cancel(number, tenant, Head.signal, force: force)
        DiagnosticLog.info("deletion cancelled", [("signal", Head.signal.rawValue), ("tenant", tenant.name)])
    }

    /// Removes tombstones that no longer hide anything.
    func removeSpentTombstones() throws(ObsError) {
        for (number, tombstone) in shared.tombstones.all(Head.signal) where try !isNeeded(number, tombstone) {
            try shared.tombstones.remove(number)
            DiagnosticLog.info("deletion completed", [("signal", Head.signal.rawValue), ("tenant", tombstone.tenant.name)])
        }
    }

    /// The next segment to be written again without rows that were deleted that long ago: no merge came by for them.
    /// - Parameters:
    ///   - segments: that may be merged, by tenant.
    ///   - patienceMillis: 0 also when the disk has no room to spare.
    func nextDeleted(_ segments: [[Segment]], patienceMillis: Int64) throws(ObsError) -> Segment? {
        let last = shared.clock.nowNanos() - patienceMillis * nanosPerMilli
        let tombstones = shared.tombstones.all(Head.signal).filter { $0.tombstone.createdNanos <= last }
        if tombstones.isEmpty { return nil }
        for segment in segments.joined() where patienceMillis == 0 || shared.gate.hasRoom(segment.info.bytes) {
            for (number, tombstone) in tombstones where tombstone.concerns(segment.info) {
                if try holds(segment, number, tombstone) { return segment }
            }
        }
        return nil
    }

    /// Whether a segment has rows that the deletion hides. Segments do not change: it is read once.
    private func holds(_ segment: Segment, _ number: UInt64, _ tombstone: Tombstone) throws(ObsError) -> Bool {
        if shared.tombstones.isClean(number, segment.path) { return false }
        let reader = try segment.reader()
        if try segment.reading({ () throws(ObsError) in try Head.holds(reader, tombstone) }) { return true }
        shared.tombstones.noteClean(number, segment.path)
        return false
    }

    /// Whether a row it hides is left, in a segment in use or in a file that a power cut could bring back.
    private func isNeeded(_ number: UInt64, _ tombstone: Tombstone) throws(ObsError) -> Bool {
        let segments = segments(of: tombstone.tenant)
        // Segments do not change: one that held such a row holds it as long as it is there.
        if let path = shared.tombstones.holder(number), segments.contains(where: { $0.path == path }) { return true }
        for segment in segments where tombstone.concerns(segment.info) {
            guard try holds(segment, number, tombstone) else { continue }
            shared.tombstones.setHolder(number, segment.path)
            return true
        }
        let paths = Set(segments.map(\.path))
        let folder = shared.layout.signalFolder(tombstone.tenant, Head.signal)
        guard shared.fileSystem.isDirectory(folder) else { return false }
        for day in try shared.fileSystem.list(folder) {
            let partition = "\(folder)/\(day)"
            // A segment flushed or merged meanwhile is a reason to look again later, no more.
            for file in try shared.fileSystem.list(partition) where DiskLayout.segmentID(file) != nil && !paths.contains("\(partition)/\(file)") { return true }
            try shared.fileSystem.syncDirectory(partition)
        }
        try shared.fileSystem.syncDirectory(folder)
        return false
    }
}

extension MetricHead {
    static func holds(_ reader: MetricSegmentReader, _ tombstone: Tombstone) throws(ObsError) -> Bool {
        for matchers in tombstone.selectors {
            for ordinal in try reader.select(matchers) where try !reader.samples(ordinal, range: tombstone.range).times.isEmpty { return true }
        }
        return false
    }
}

extension LogHead {
    static func holds(_ reader: LogSegmentReader, _ tombstone: Tombstone) throws(ObsError) -> Bool {
        let matching = reader.streams.map { labels in labels.bytes.withUnsafeBytes { tombstone.concerns(labels: $0) } }
        guard matching.contains(true) else { return false }
        for (index, block) in reader.blocks.enumerated()
        where block.minNanos <= tombstone.range.upperBound && block.maxNanos >= tombstone.range.lowerBound
            && matching[block.firstStream...block.lastStream].contains(true)
        {
            let batch = try reader.read(block: index, columns: tombstone.readsLines ? [.line] : [])
            let isHeld = batch.bytes.withUnsafeBytes { bytes in
                let hidden = batch.streams.map { tombstone.rows(labels: UnsafeRawBufferPointer(rebasing: bytes[$0.range])) }
                return (0..<batch.count).contains { hidden[Int(batch.stream[$0])].contains(batch.timeNanos[$0], line: batch.line[$0], in: bytes) }
            }
            if isHeld { return true }
        }
        return false
    }
}

extension SpanHead {
    static func holds(_ reader: SpanSegmentReader, _ tombstone: Tombstone) throws(ObsError) -> Bool {
        var mayHold = false
        for matchers in tombstone.selectors where !mayHold {
            mayHold = true
            for matcher in matchers where matcher.name == SpanLabel.traceID && matcher.operation == .equal {
                mayHold = try TraceID(hex: matcher.value).map { id throws(ObsError) in try reader.mayContain(id) } ?? false
            }
        }
        guard mayHold else { return false }
        for (index, block) in reader.blocks.enumerated()
        where block.minStartNanos <= tombstone.range.upperBound && block.maxStartNanos >= tombstone.range.lowerBound {
            let batch = try reader.read(block: index, columns: [.name, .resource])
            for row in 0..<batch.count where tombstone.matches(batch, row: row) { return true }
        }
        return false
    }
}
