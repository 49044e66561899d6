// A queue of batches as files: appended to at one end, read and forgotten at the other.
//
//     <folder>/<number of its first batch, 16 hexadecimal digits>.queue    … one after the other, some megabytes each
//     <folder>/removed                                                     numbers of the newest batches that are done with, and being sent
//
// A batch is a record: header and payload under a checksum (FORMAT.md). It is written through at once, so a killed process loses nothing; a power cut loses
// what was not synced yet, and a torn record at the end is cut off at the next start. A file goes when all of its batches are done with, so what is done with
// needs no marks, only a number. It is appended to `removed` before anything else is sent, and so is, before that, how far the sending goes: some receivers refuse
// a request whole for one sample they have, so after a kill what was under way is sent again alone.
//
// In memory there is a line for each batch (offset, samples, time), which the files give back at a start. The oldest file goes when all are too big.
internal import ObsEncoding
package import ObsCore
package import ObsDisk
internal import ObsHash
package import ObsStore
internal import ObsWAL

package final class DiskBatchQueue: BatchQueue {
    private struct Record {
        var offset: Int
        var bytes: Int
        var samples: Int
        var timeMillis: Int64
    }

    private struct File {
        var first: UInt64
        var path: String
        var size: Int
        var records: [Record] = []
        /// Of `records` those that are forgotten, at the beginning.
        var removed = 0

        var end: UInt64 { first + UInt64(records.count) }
    }

    private struct State {
        var files: [File] = []
        /// Appends to the last of `files`; nil when that is closed.
        var writer: (any WritableFile)?
        var nextNumber: UInt64 = 1
        var removedNumber: UInt64 = 0
        var sendingNumber: UInt64 = 0
        /// Appends to `removed`.
        var cursor: (any WritableFile)?
        var samples = 0
        var droppedSamples = 0
        var isWritten = false
        var isRemoved = false
        var interruptions = 0

        var bytes: Int { files.reduce(0) { $0 + $1.size } }
    }

    static let magic = [UInt8]("OBSQUEU1".utf8)
    static let headerBytes = 28

    private let fileSystem: any FileSystem
    private let folder: String
    private let bytesMax: Int
    private let fileBytesMax: Int
    private let state: Monitor<State>
    /// One sync at a time.
    private let syncing = Monitor<Void>(())

    /// Opens the queue of a folder, which is made if it is not there.
    /// - Parameters:
    ///   - bytesMax: of all files; past it the oldest go.
    ///   - fileBytesMax: of one file, about.
    package init(_ fileSystem: any FileSystem, folder: String, bytesMax: Int, fileBytesMax: Int = 8 << 20) throws(ObsError) {
        self.fileSystem = fileSystem
        self.folder = folder
        self.bytesMax = bytesMax
        self.fileBytesMax = max(1, min(fileBytesMax, bytesMax / 4))
        state = Monitor(State())
        try fileSystem.makeDirectories(folder)
        let files = try openFiles()
        let (removed, sending) = readCursor()
        let cursor = try appendedCursor(removed, sending)
        state.update { state in
            state.files = files
            state.removedNumber = removed
            state.sendingNumber = sending
            state.cursor = cursor
            state.nextNumber = max(files.last?.end ?? 1, removed + 1)
            state.samples = files.reduce(0) { $0 + $1.records.reduce(0) { $0 + $1.samples } }
            forget(through: removed, &state)
        }
    }

    // MARK: - What a former process left

    private func openFiles() throws(ObsError) -> [File] {
        var files: [File] = []
        for name in try fileSystem.list(folder) {
            let path = folder + "/" + name
            if DiskLayout.isTemporary(name) {
                try fileSystem.remove(path)
                continue
            }
            guard let first = DiskLayout.queueNumber(name) else { continue }
            if let file = try scan(path, first) { files.append(file) } else { try fileSystem.remove(path) }
        }
        return files.sorted { $0.first < $1.first }
    }

    /// The records of a file, up to the first that is not whole, which is cut off. Nil for a file without any.
    private func scan(_ path: String, _ first: UInt64) throws(ObsError) -> File? {
        let file = try fileSystem.open(path)
        guard file.size >= Self.magic.count, try file.read(at: 0, count: Self.magic.count) == Self.magic else { return nil }
        var found = File(first: first, path: path, size: Self.magic.count)
        while found.size + Self.headerBytes <= file.size {
            let header = try file.read(at: found.size, count: Self.headerBytes)
            guard let record = Self.record(header, at: found.size), record.offset + record.bytes <= file.size else { break }
            // Only the end can be torn: what is before it was read before, or will be checked when it is.
            let isLast = record.offset + record.bytes == file.size
            if isLast, try !Self.isWhole(header, file.read(at: record.offset + Self.headerBytes, count: record.bytes - Self.headerBytes)) { break }
            found.records.append(record)
            found.size = record.offset + record.bytes
        }
        if found.size < file.size {
            DiagnosticLog.warn("forwarding: a torn end of a queue is cut off", [("file", path), ("bytes", String(file.size - found.size))])
            try fileSystem.truncate(path, to: found.size)
        }
        return found.records.isEmpty ? nil : found
    }

    /// `checksum u64 of all that follows · payload bytes u32 · samples u32 · time i64 · version u32 · payload`
    private static func record(_ header: [UInt8], at offset: Int) -> Record? {
        var cursor = 8
        func u32() -> UInt32 {
            defer { cursor += 4 }
            return (0..<4).reduce(0) { $0 | UInt32(header[cursor + $1]) << UInt32($1 * 8) }
        }
        let payload = Int(u32())
        let samples = Int(u32())
        let low = UInt64(u32())
        let time = Int64(bitPattern: low | UInt64(u32()) << 32)
        guard u32() == 1, payload <= Frame.rawBytesMax else { return nil }
        return Record(offset: offset, bytes: headerBytes + payload, samples: samples, timeMillis: time)
    }

    private static func isWhole(_ header: [UInt8], _ payload: [UInt8]) -> Bool {
        let checksum = (0..<8).reduce(UInt64(0)) { $0 | UInt64(header[$1]) << UInt64($1 * 8) }
        return (header[8...] + payload).withUnsafeBytes { hash64($0) } == checksum
    }

    private static func encode(_ batch: MetricBatch, timeMillis: Int64) -> [UInt8] {
        let payload = BatchCodec.encode(batch)
        var content: [UInt8] = []
        content.reserveCapacity(headerBytes + payload.count)
        content.appendLittleEndian(UInt32(payload.count))
        content.appendLittleEndian(UInt32(clamping: batch.sampleCount))
        content.appendLittleEndian(UInt64(bitPattern: timeMillis))
        content.appendLittleEndian(UInt32(1))
        content += payload
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(content.withUnsafeBytes { hash64($0) })
        return bytes + content
    }

    // MARK: - Appending

    package func append(_ batch: MetricBatch, nowMillis: Int64) throws(ObsError) {
        let bytes = Self.encode(batch, timeMillis: nowMillis)
        let result = state.update { state -> ObsError? in
            do throws(ObsError) {
                let writer = try writer(&state)
                let record = Record(offset: writer.size, bytes: bytes.count, samples: batch.sampleCount, timeMillis: nowMillis)
                try writer.append(bytes)
                state.files[state.files.count - 1].records.append(record)
                state.files[state.files.count - 1].size = writer.size
                state.nextNumber += 1
                state.samples += record.samples
                state.isWritten = true
                dropOldest(&state)
                return nil
            } catch {
                // What the file holds now nobody knows: the next start finds its last whole record, and appends go to another.
                state.writer = nil
                return error
            }
        }
        if let result { throw result }
    }

    private func writer(_ state: inout State) throws(ObsError) -> any WritableFile {
        if let writer = state.writer, writer.size < fileBytesMax { return writer }
        if let full = state.writer {
            // Closed when the last reference goes: a sync may be under way.
            try full.sync()
            state.writer = nil
        }
        let path = DiskLayout.queueFile(folder, number: state.nextNumber)
        let writer = try fileSystem.create(path)
        try writer.append(Self.magic)
        // A file may not be there without the one before it.
        try fileSystem.syncDirectory(folder)
        state.files.removeAll { $0.path == path }
        state.files.append(File(first: state.nextNumber, path: path, size: writer.size))
        state.writer = writer
        return writer
    }

    private func dropOldest(_ state: inout State) {
        while state.bytes > bytesMax, state.files.count > 1 {
            let oldest = state.files[0]
            state.droppedSamples += oldest.records[oldest.removed...].reduce(0) { $0 + $1.samples }
            forget(through: oldest.end - 1, &state)
        }
    }

    // MARK: - Reading

    package func read(from first: UInt64, samplesMax: Int) throws(ObsError) -> (batches: [QueuedBatch], next: UInt64) {
        let places = state.read { state in self.places(from: first, samplesMax: samplesMax, state) }
        var batches: [QueuedBatch] = []
        for (path, records) in places {
            let file: any ReadableFile
            do throws(ObsError) { file = try fileSystem.open(path) } catch {
                // Dropped meanwhile: what follows it is there.
                if error.code == .notFound { continue }
                throw error
            }
            for (number, record) in records {
                guard let batch = try read(file, record) else { continue }
                batches.append(QueuedBatch(number: number, timeMillis: record.timeMillis, batch: batch))
            }
        }
        return (batches, (places.last?.records.last?.0).map { $0 + 1 } ?? first)
    }

    private func places(from first: UInt64, samplesMax: Int, _ state: State) -> [(path: String, records: [(UInt64, Record)])] {
        var places: [(path: String, records: [(UInt64, Record)])] = []
        var samples = 0
        for file in state.files where file.end > first && samples < samplesMax {
            var records: [(UInt64, Record)] = []
            for index in Int(max(first, file.first + UInt64(file.removed)) - file.first)..<file.records.count where samples < samplesMax {
                records.append((file.first + UInt64(index), file.records[index]))
                samples += max(1, file.records[index].samples)
            }
            places.append((file.path, records))
        }
        return places
    }

    private func read(_ file: any ReadableFile, _ record: Record) throws(ObsError) -> MetricBatch? {
        do throws(ObsError) {
            let header = try file.read(at: record.offset, count: Self.headerBytes)
            let payload = try file.read(at: record.offset + Self.headerBytes, count: record.bytes - Self.headerBytes)
            guard Self.isWhole(header, payload) else { throw ObsError(.corrupt, "checksum mismatch", place: "\(file.path):\(record.offset)") }
            return try BatchCodec.decodeMetrics(payload)
        } catch {
            guard error.code == .corrupt || error.code == .badInput else { throw error }
            DiagnosticLog.error("forwarding: a damaged batch is passed over", [("error", error.description)])
            state.read { $0.droppedSamples += record.samples }
            return nil
        }
    }

    // MARK: - Forgetting

    package func begin(through number: UInt64) throws(ObsError) { try move { $0.sendingNumber = max($0.sendingNumber, number) } }

    package func remove(through number: UInt64) throws(ObsError) { try move { self.forget(through: number, &$0) } }

    private func move(_ change: (inout State) -> Void) throws(ObsError) {
        let failure = state.update { state -> ObsError? in
            change(&state)
            do throws(ObsError) {
                if let cursor = state.cursor, cursor.size < Self.cursorBytesMax {
                    try cursor.append(Self.entry(state.removedNumber, state.sendingNumber))
                } else {
                    state.cursor = try appendedCursor(state.removedNumber, state.sendingNumber)
                }
                return nil
            } catch {
                state.cursor = nil
                return error
            }
        }
        if let failure { throw failure }
    }

    private func forget(through number: UInt64, _ state: inout State) {
        state.removedNumber = max(state.removedNumber, number)
        state.isRemoved = true
        for index in state.files.indices {
            let file = state.files[index]
            guard file.first <= number else { break }
            let removed = Int(min(number + 1, file.end) - file.first)
            guard removed > file.removed else { continue }
            state.samples -= file.records[file.removed..<removed].reduce(0) { $0 + $1.samples }
            state.files[index].removed = removed
        }
        while let oldest = state.files.first, oldest.removed == oldest.records.count, state.files.count > 1 || state.writer == nil {
            state.files.removeFirst()
            do throws(ObsError) { try fileSystem.remove(oldest.path) } catch {
                DiagnosticLog.warn("forwarding: a file of a queue cannot be removed", [("error", error.description)])
            }
        }
    }

    package func sync() throws(ObsError) {
        let failure = syncing.read { _ -> ObsError? in
            do throws(ObsError) {
                try syncAlone()
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }

    private func syncAlone() throws(ObsError) {
        let (writer, moved) = state.read { state in
            defer { (state.isWritten, state.isRemoved) = (false, false) }
            return (state.isWritten ? state.writer : nil, state.isRemoved ? (removed: state.removedNumber, sending: state.sendingNumber) : nil)
        }
        do throws(ObsError) { try writer?.sync() } catch {
            // What is on the device is not known any more: what comes goes to another file.
            state.read { if $0.writer === writer { $0.writer = nil } }
            throw error
        }
        guard moved != nil else { return }
        try state.read { $0.cursor }?.sync()
    }

    // MARK: - What is done with

    private static let cursorBytesMax = 1 << 20

    /// `removed u64 · sending u64 · checksum u64`
    private static func entry(_ removed: UInt64, _ sending: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendLittleEndian(removed)
        bytes.appendLittleEndian(sending)
        bytes.appendLittleEndian(bytes.withUnsafeBytes { hash64($0) })
        return bytes
    }

    /// A new file with one entry, in place of the one that was there, open for more.
    private func appendedCursor(_ removed: UInt64, _ sending: UInt64) throws(ObsError) -> any WritableFile {
        let path = DiskLayout.queueRemoved(folder)
        let file = try fileSystem.create(path + DiskLayout.temporarySuffix)
        try file.append(Self.entry(removed, sending))
        try file.sync()
        try fileSystem.rename(path + DiskLayout.temporarySuffix, to: path)
        try fileSystem.syncDirectory(folder)
        return file
    }

    /// The last whole entry; zeros where there is none: everything is sent again then.
    private func readCursor() -> (removed: UInt64, sending: UInt64) {
        guard let bytes = try? fileSystem.readAll(DiskLayout.queueRemoved(folder)) else { return (0, 0) }
        func u64(_ at: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64($1 * 8) } }
        var at = bytes.count / 24 * 24 - 24
        while at >= 0 {
            if bytes[at..<at + 16].withUnsafeBytes({ hash64($0) }) == u64(at + 16) { return (u64(at), u64(at + 8)) }
            at -= 24
        }
        return (0, 0)
    }

    // MARK: - Waiting

    package func wait(for first: UInt64, timeoutMillis: Int64) {
        let before = state.read { $0.interruptions }
        _ = state.wait(timeoutNanos: max(0, timeoutMillis) * nanosPerMilli) { $0.interruptions > before || $0.nextNumber > first ? () : nil }
    }

    package func interrupt() { state.update { $0.interruptions += 1 } }

    package var status: BatchQueueStatus {
        state.read { state in
            var status = BatchQueueStatus()
            let oldest = state.files.first { $0.removed < $0.records.count }
            status.firstNumber = oldest.map { $0.first + UInt64($0.removed) } ?? state.nextNumber
            status.nextNumber = state.nextNumber
            status.sendingNumber = state.sendingNumber
            status.samples = state.samples
            status.bytes = state.bytes
            status.oldestMillis = oldest.map { $0.records[$0.removed].timeMillis }
            status.droppedSamples = state.droppedSamples
            return status
        }
    }
}
