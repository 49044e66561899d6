// What obsd reads from its own disk. Checksums would stop nearly every mutation, so each reader has two targets: one gets the bytes as they are, the
// other (`…-sealed`) gets them with every checksum made right again, as if a forger or a bug of the writer had made them.
import ObsCore
import ObsDisk
import ObsEncoding
@testable import ObsEngine
import ObsHash
import ObsIngest
import ObsQueue
@testable import ObsSegment
import ObsStore
@testable import ObsWAL

let diskTargets: [FuzzTarget] = [
    FuzzTarget("wal") { try readWAL($0) },
    FuzzTarget("wal-sealed") { try readWAL(sealedWAL($0)) },
    FuzzTarget("segment-metrics") { try readMetricSegment($0) },
    FuzzTarget("segment-logs") { try readLogSegment($0) },
    FuzzTarget("segment-spans") { try readSpanSegment($0) },
    FuzzTarget("segment-metrics-sealed") { try readMetricSegment(sealedSegment($0)) },
    FuzzTarget("segment-logs-sealed") { try readLogSegment(sealedSegment($0)) },
    FuzzTarget("segment-spans-sealed") { try readSpanSegment(sealedSegment($0)) },
    FuzzTarget("batch-metrics") { bytes in
        let batch = try BatchCodec.decodeMetrics(bytes)
        touch(batch)
        let encoded = BatchCodec.encode(batch)
        precondition(BatchCodec.encode(required { try BatchCodec.decodeMetrics(encoded) }) == encoded)
    },
    FuzzTarget("batch-logs") { bytes in
        let batch = try BatchCodec.decodeLogs(bytes)
        touch(batch)
        let encoded = BatchCodec.encode(batch)
        precondition(BatchCodec.encode(required { try BatchCodec.decodeLogs(encoded) }) == encoded)
    },
    FuzzTarget("batch-spans") { bytes in
        let batch = try BatchCodec.decodeSpans(bytes)
        touch(batch)
        let encoded = BatchCodec.encode(batch)
        precondition(BatchCodec.encode(required { try BatchCodec.decodeSpans(encoded) }) == encoded)
    },
    FuzzTarget("batch-queue") { bytes in
        let disk = MemoryFileSystem()
        try disk.makeDirectories("q")
        try disk.create(DiskLayout.queueFile("q", number: 1)).append(bytes)
        try disk.create(DiskLayout.queueRemoved("q")).append(Array(bytes.suffix(60)))
        let queue = try DiskBatchQueue(disk, folder: "q", bytesMax: 1 << 20)
        let read = try queue.read(from: 0, samplesMax: .max)
        for batch in read.batches { touch(batch.batch) }
        // It goes on, whatever it found.
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "m")]), timeMillis: 1, value: 1)
        try queue.append(batch, nowMillis: 1)
        let last = try queue.read(from: queue.status.nextNumber - 1, samplesMax: 1)
        precondition(last.batches.count == 1)
    },
    FuzzTarget("tombstone") { try readTombstone($0) },
    FuzzTarget("tombstone-sealed") { bytes in
        var file = Array("OBSDEL01".utf8)
        try Frame.append(bytes, level: 1, to: &file)
        try readTombstone(file)
    },
    FuzzTarget("epochs") { try readEpochs($0) },
    FuzzTarget("epochs-sealed") { bytes in
        let lines = bytes + [UInt8(ascii: "\n")]
        try readEpochs(lines + Array("checksum \(hexString(lines.withUnsafeBytes { hash64($0) }))\n".utf8))
    },
    FuzzTarget("store-version") { bytes in _ = try StoreVersion.load(disk(layout.version, bytes), layout) },
]

private let layout = DiskLayout(root: "/d")

private func readTombstone(_ bytes: [UInt8]) throws {
    let tombstone = try Tombstone(decoding: bytes, path: "t")
    for labels in [Labels([("app", "x")]), .empty] { _ = labels.bytes.withUnsafeBytes { tombstone.rows(labels: $0) } }
    _ = tombstone.queries
    let encoded = required { try tombstone.encoded() }
    precondition(required { try Tombstone(decoding: encoded, path: "t").encoded() } == encoded)
}

private func readEpochs(_ bytes: [UInt8]) throws {
    let disk = disk(layout.epochs, bytes)
    let epochs = try Epochs.inspect(disk, layout)
    for number in 0..<5 { _ = epochs.limits(of: UInt32(number)) }
    // What a start makes of it is a file that reads.
    _ = try Epochs.load(disk, layout, Limits(), nowSeconds: 1_700_000_000)
    precondition(required { try Epochs.inspect(disk, layout) }.wasDamaged == false)
}

private let segmentPath = "/s.seg"

private func disk(_ path: String, _ bytes: [UInt8]) -> MemoryFileSystem {
    let disk = MemoryFileSystem()
    disk.setContent(path, bytes)
    return disk
}

// MARK: - Log

private func readWAL(_ bytes: [UInt8]) throws {
    let disk = disk("/w.wal", bytes)
    let first = bytes.count >= 16 ? bytes[8..<16].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) } : 1
    for isLast in [true, false] {
        do {
            let reader = try WALReader(disk, WALFile(firstSequence: first, path: "/w.wal"), signal: .logs, isLast: isLast)
            while true {
                do throws(ObsError) {
                    guard let record = try reader.next() else { break }
                    try? replay(record)
                } catch { guard try reader.skipDamage() else { break } }
            }
            precondition(reader.position + reader.tornBytes <= bytes.count)
        } catch {}
    }
}

/// What replay does with a record, with an ordinary bound on what it may decompress to.
private func replay(_ record: WALRecord) throws {
    switch record.payload {
    case .batch(let batch): touch(try BatchCodec.decodeLogs(batch))
    case .request(let format, let compression, let parameters, let body):
        guard let format = WireFormat(rawValue: format) else { return }
        let request = RawRequest(format: format, compression: compression, parameters: parameters, body: body)
        touch(try WireDecoder(limits: fuzzLimits).decodeRequest(request, receivedAtNanos: record.receivedAtNanos).batch)
    }
}

/// Header and checksums as they should be; lengths stay as they are.
private func sealedWAL(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count >= WALFormat.headerBytes else { return bytes }
    var sealed = WALFormat.header(signal: .logs, firstSequence: 1) + bytes[WALFormat.headerBytes...]
    var at = WALFormat.headerBytes
    while sealed.count - at >= WALFormat.frameBytes {
        let length = Int(sealed[at]) | Int(sealed[at + 1]) << 8 | Int(sealed[at + 2]) << 16 | Int(sealed[at + 3]) << 24
        let content = at + WALFormat.frameBytes
        guard length <= sealed.count - content else { break }
        let checksum = sealed.withUnsafeBytes { hash64(UnsafeRawBufferPointer(rebasing: $0[content..<content + length]), seed: 1) }
        sealed.store(checksum, at: at + 4)
        at = content + length
    }
    return sealed
}

// MARK: - Segments

private func readMetricSegment(_ bytes: [UInt8]) throws {
    let disk = disk(segmentPath, bytes)
    try? verify(disk, segmentPath)
    let reader = try MetricSegmentReader.open(disk, segmentPath)
    for matcher in [LabelMatcher(equal: "__name__", "up"), try LabelMatcher("job", .notEqual, "a"), try LabelMatcher("job", .matches, "a|b.*|")] {
        _ = try? reader.select([matcher])
    }
    for name in (try? reader.labelNames()) ?? [] { _ = try? reader.labelValues(name) }
    for ordinal in 0..<min(reader.seriesCount, 64) {
        _ = try? reader.labels(ordinal)
        _ = try? reader.timeRange(ordinal)
        _ = try? reader.sampleCount(ordinal)
        if let all = try? reader.samples(ordinal, range: .min ... .max) { precondition(all.times.count == all.values.count) }
        _ = try? reader.samples(ordinal, range: 5...1_700_000_000_000)
        for range in [.min ... .max, 5...1_700_000_000_000] as [ClosedRange<Int64>] {
            var scan = SeriesScan(reader, range: range)
            var read = 0
            _ = try? scan.labels(ordinal)
            if let all = try? scan.samples(ordinal) { precondition(all.times.count == all.values.count) }
            if let summary = try? scan.summary(ordinal, .all, deleted: [0...7], read: &read) { precondition(summary.count >= 0 && summary.staleCount >= 0) }
            for piece in (try? scan.pieces(ordinal, .values, deleted: [])) ?? [] { _ = try? scan.samples(ordinal, piece, deleted: []) }
        }
    }
}

private func readLogSegment(_ bytes: [UInt8]) throws {
    let disk = disk(segmentPath, bytes)
    try? verify(disk, segmentPath)
    let reader = try LogSegmentReader.open(disk, segmentPath)
    for block in reader.blocks.indices.prefix(16) {
        if let batch = try? reader.read(block: block) { touch(batch) }
        if let batch = try? reader.read(block: block, columns: [.line]) { touch(batch) }
    }
}

private func readSpanSegment(_ bytes: [UInt8]) throws {
    let disk = disk(segmentPath, bytes)
    try? verify(disk, segmentPath)
    let reader = try SpanSegmentReader.open(disk, segmentPath)
    _ = try? reader.mayContain(TraceID(high: 1, low: 0xabc))
    for block in reader.blocks.indices.prefix(16) {
        if let batch = try? reader.read(block: block) { touch(batch) }
        if let batch = try? reader.read(block: block, columns: [.name]) { touch(batch) }
    }
}

/// Frames walked from the start, their checksums made right; then the footer's frame, whatever its length has become, and the trailer.
private func sealedSegment(_ bytes: [UInt8]) -> [UInt8] {
    let trailer = bytes.count - SegmentLayout.trailerBytes
    guard trailer >= SegmentLayout.headerBytes else { return bytes }
    let header = SegmentLayout.header((1...SegmentLayout.version).contains(UInt16(bytes[6])) ? UInt16(bytes[6]) : SegmentLayout.version)
    var sealed = header + bytes[SegmentLayout.headerBytes..<trailer]
    var footer = Int(truncatingIfNeeded: bytes[trailer..<trailer + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    if footer < SegmentLayout.headerBytes || footer > trailer { footer = trailer }
    var at = SegmentLayout.headerBytes
    while at < footer, let length = sealFrame(&sealed, at: at, end: footer) { at += length }
    if footer < trailer, let length = sealFrame(&sealed, at: footer, end: trailer) { sealed.removeLast(trailer - footer - length) }
    let end = sealed.count
    sealed.appendLittleEndian(UInt64(footer))
    sealed.appendLittleEndian(UInt64(end - footer))
    sealed.appendLittleEndian(sealed.withUnsafeBytes { hash64(UnsafeRawBufferPointer(rebasing: $0[footer...])) })
    return sealed + header
}

/// Length of the frame; nil when it is none.
private func sealFrame(_ bytes: inout [UInt8], at: Int, end: Int) -> Int? {
    let length = bytes.withUnsafeBytes { try? Frame.length(head: UnsafeRawBufferPointer(rebasing: $0[at..<min(at + Frame.headerBytesMax, end)])) }
    guard let length, length >= 8, length <= end - at else { return nil }
    bytes.store(bytes.withUnsafeBytes { hash64(UnsafeRawBufferPointer(rebasing: $0[at + 8..<at + length])) }, at: at)
    return length
}

extension [UInt8] {
    fileprivate mutating func store(_ number: UInt64, at offset: Int) {
        withUnsafeMutableBytes { $0.storeBytes(of: number.littleEndian, toByteOffset: offset, as: UInt64.self) }
    }
}
