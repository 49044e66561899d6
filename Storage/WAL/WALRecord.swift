package import ObsCore
internal import ObsHash

/// One append, as the log keeps it. See Storage/FORMAT.md, "Write-ahead log", for the bytes.
package struct WALRecord: Sendable, Equatable {
    package enum Payload: Sendable, Equatable {
        /// A request body as sent. `format` is the raw value of the contract's wire format.
        case request(format: UInt8, compression: BodyCompression, parameters: String, body: [UInt8])
        /// A batch by `BatchCodec`, where there was no faithful request.
        case batch([UInt8])
    }

    /// Counts up by one per record of a signal, over restarts too; gaps are records that could not be written.
    package var sequence: UInt64
    package var tenant: TenantID
    package var receivedAtNanos: Int64
    /// Rows before this time (in the signal's unit) were refused as too old: replay refuses the same.
    package var floor: Int64
    /// Which configuration decided; for reading old logs under a changed one.
    package var configurationEpoch: UInt32 = 0
    package var accepted = 0
    package var duplicates = 0
    package var rejected = 0
    package var payload: Payload

    package init(sequence: UInt64, tenant: TenantID, receivedAtNanos: Int64, floor: Int64 = .min, payload: Payload) {
        self.sequence = sequence
        self.tenant = tenant
        self.receivedAtNanos = receivedAtNanos
        self.floor = floor
        self.payload = payload
    }

    /// About what the record takes in the log.
    package var byteSize: Int { payload.byteSize + 96 }
}

extension WALRecord.Payload {
    package var byteSize: Int {
        switch self {
        case .request(_, _, let parameters, let body): parameters.utf8.count + body.count
        case .batch(let bytes): bytes.count
        }
    }
}

/// The bytes of a log file: constants and the two directions, pure.
package enum WALFormat {
    package static let version = 1
    package static let magic = [UInt8]("OBSWAL01".utf8)
    /// magic 8 · first sequence 8 · signal 1 · reserved 7 · checksum 8.
    package static let headerBytes = 32
    /// length 4 · checksum 8.
    package static let frameBytes = 12
    /// Content of a record before its variable parts: type 1 · sequence 8 · synced offset 8 · received at 8 · floor 8 · epoch 4.
    package static let contentBytesMin = 37
    /// Content of one record; more is damage, not a length.
    package static let contentBytesMax = 1 << 30

    /// No file of that size holds more records: the smallest has a frame, the fixed fields and four bytes more.
    package static func recordsMax(fileBytes: Int) -> UInt64 { UInt64(max(0, fileBytes - headerBytes) / (frameBytes + contentBytesMin)) }

    package static func header(signal: Signal, firstSequence: UInt64) -> [UInt8] {
        var bytes = magic
        bytes.appendLittleEndian(firstSequence)
        bytes.append(signalByte(signal))
        bytes.append(contentsOf: [0, 0, 0, 0, 0, 0, 0])
        bytes.appendLittleEndian(bytes.withUnsafeBytes { hash64($0) })
        return bytes
    }

    /// The first sequence number a header names; nil when it is not a header of that signal.
    package static func parseHeader(_ bytes: [UInt8], signal: Signal) -> UInt64? {
        guard bytes.count == headerBytes else { return nil }
        return bytes.withUnsafeBytes { raw in
            let checksum = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
            guard raw.prefix(8).elementsEqual(magic), raw[16] == signalByte(signal),
                checksum == hash64(UnsafeRawBufferPointer(rebasing: raw[..<24]))
            else { return nil }
            return UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    /// The version of a whole header of a newer program; nil for anything else, a damaged header of ours included: its checksum does not match.
    static func newerVersion(_ bytes: [UInt8]) -> Int? {
        guard bytes.count == headerBytes, bytes.prefix(6) == magic.prefix(6), bytes[6...7].allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        let version = Int(bytes[6] - 0x30) * 10 + Int(bytes[7] - 0x30)
        return bytes.withUnsafeBytes { raw in
            let checksum = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
            return version > Self.version && checksum == hash64(UnsafeRawBufferPointer(rebasing: raw[..<24])) ? version : nil
        }
    }

    private static func signalByte(_ signal: Signal) -> UInt8 {
        switch signal {
        case .metrics: 1
        case .logs: 2
        case .traces: 3
        }
    }

    /// Appends a record's frame and content.
    /// - Parameters:
    ///   - syncedOffset: bytes of the file that were on the device when this record was written: damage before it lost acknowledged data, damage after it is a torn tail.
    ///   - seed: the file's first sequence number, so that a stale piece of another file is not taken for a record.
    package static func append(_ record: WALRecord, syncedOffset: Int, seed: UInt64, to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes.append(contentsOf: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        switch record.payload {
        case .request: bytes.append(1)
        case .batch: bytes.append(2)
        }
        bytes.appendLittleEndian(record.sequence)
        bytes.appendLittleEndian(UInt64(syncedOffset))
        bytes.appendLittleEndian(record.receivedAtNanos)
        bytes.appendLittleEndian(record.floor)
        bytes.appendLittleEndian(record.configurationEpoch)
        bytes.appendVarint(UInt64(record.accepted))
        bytes.appendVarint(UInt64(record.duplicates))
        bytes.appendVarint(UInt64(record.rejected))
        appendText(record.tenant.name, to: &bytes)
        switch record.payload {
        case .request(let format, let compression, let parameters, let body):
            bytes.append(format)
            bytes.append(compression.rawValue)
            appendText(parameters, to: &bytes)
            bytes.append(contentsOf: body)
        case .batch(let batch):
            bytes.append(contentsOf: batch)
        }
        seal(start, seed: seed, &bytes)
    }

    /// Appends a mark: no record, but what a record says of how far the file was synced.
    static func appendMark(nextSequence: UInt64, syncedOffset: Int, seed: UInt64, to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes.append(contentsOf: [UInt8](repeating: 0, count: frameBytes))
        bytes.append(markType)
        bytes.appendLittleEndian(nextSequence)
        bytes.appendLittleEndian(UInt64(syncedOffset))
        bytes.append(contentsOf: [UInt8](repeating: 0, count: contentBytesMin - (bytes.count - start - frameBytes)))
        seal(start, seed: seed, &bytes)
    }

    static let markType: UInt8 = 3

    /// Fills in the frame of the content that begins behind it.
    private static func seal(_ start: Int, seed: UInt64, _ bytes: inout [UInt8]) {
        let content = start + frameBytes
        let length = UInt32(bytes.count - content)
        bytes.withUnsafeMutableBytes { raw in
            let checksum = hash64(UnsafeRawBufferPointer(rebasing: raw[content...]), seed: seed)
            raw.storeBytes(of: length.littleEndian, toByteOffset: start, as: UInt32.self)
            raw.storeBytes(of: checksum.littleEndian, toByteOffset: start + 4, as: UInt64.self)
        }
    }

    private static func appendText(_ text: String, to bytes: inout [UInt8]) {
        bytes.appendVarint(UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    /// Length and checksum of a frame.
    static func parseFrame(_ bytes: UnsafeRawBufferPointer) -> (length: Int, checksum: UInt64)? {
        guard bytes.count >= frameBytes else { return nil }
        let length = Int(UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
        guard length >= contentBytesMin, length <= contentBytesMax else { return nil }
        return (length, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt64.self)))
    }

    /// A record from its content, checksum already verified; nil when the content is not one.
    static func parse(_ content: UnsafeRawBufferPointer) -> (record: WALRecord, syncedOffset: Int)? {
        guard content.count >= contentBytesMin else { return nil }
        func number<T: FixedWidthInteger>(_ offset: Int, _ type: T.Type) -> T { T(littleEndian: content.loadUnaligned(fromByteOffset: offset, as: type)) }
        var at = contentBytesMin
        guard let accepted = readVarint(content, &at), let duplicates = readVarint(content, &at), let rejected = readVarint(content, &at),
            let tenantRange = readLabelPart(content, &at), let tenant = try? TenantID(String(decoding: content[tenantRange], as: UTF8.self))
        else { return nil }
        let payload: WALRecord.Payload
        switch content[0] {
        case 1:
            guard at + 2 <= content.count, let compression = BodyCompression(rawValue: content[at + 1]) else { return nil }
            let format = content[at]
            at += 2
            guard let parameters = readLabelPart(content, &at) else { return nil }
            payload = .request(
                format: format, compression: compression, parameters: String(decoding: content[parameters], as: UTF8.self), body: [UInt8](content[at...]))
        case 2: payload = .batch([UInt8](content[at...]))
        default: return nil
        }
        var record = WALRecord(
            sequence: number(1, UInt64.self), tenant: tenant, receivedAtNanos: number(17, Int64.self), floor: number(25, Int64.self), payload: payload)
        record.configurationEpoch = number(33, UInt32.self)
        record.accepted = Int(clamping: accepted)
        record.duplicates = Int(clamping: duplicates)
        record.rejected = Int(clamping: rejected)
        return (record, Int(clamping: number(9, UInt64.self)))
    }

    /// The offset up to which the file was synced, from a record's content.
    static func syncedOffset(_ content: UnsafeRawBufferPointer) -> Int {
        Int(clamping: UInt64(littleEndian: content.loadUnaligned(fromByteOffset: 9, as: UInt64.self)))
    }
}
