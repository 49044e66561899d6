// The bytes of a text column are many streams: statics, indices, numbers, strings. Each is compressed by itself, since bytes of one kind compress best among
// themselves, and can be left unread; small ones share one frame, since each frame costs its header and tables.
//
// ```
// varint streams · (varint raw << 1 | is small) × streams · varint stored bytes × large streams · varint stored bytes of the shared frame
// shared frame: the small streams back to back · frames of the large ones
// ```
// A frame whose stored bytes are its raw bytes is not compressed, else it is one or more zstd frames back to back.

internal import ObsCompress
internal import ObsCore

/// Collects streams.
struct StreamWriter {
    /// Streams up to this share a frame.
    private static let smallBytesMax = 2048
    private static let planeBytesMin = 1024
    private let level: Int
    private let zstd: ZstdContext
    private var count = 0
    /// Of the streams but the plan.
    private var streams = Part()

    private struct Part {
        var head: [UInt8] = []
        var lengths: [UInt8] = []
        var small: [UInt8] = []
        var large: [UInt8] = []
    }

    init(level: Int, _ zstd: ZstdContext) {
        self.level = level
        self.zstd = zstd
    }

    /// - Parameter planeBytes: of the planes of integers at the stream's end, which have little in common: each is compressed by itself.
    mutating func add(_ stream: UnsafeRawBufferPointer, planeBytes: Int = 0) {
        count += 1
        add(stream, planeBytes: planeBytes, to: &streams)
    }

    private func add(_ stream: UnsafeRawBufferPointer, planeBytes: Int, to part: inout Part) {
        if stream.count <= Self.smallBytesMax {
            part.head.appendVarint(UInt64(stream.count) << 1 | 1)
            part.small.append(contentsOf: stream)
        } else {
            part.head.appendVarint(UInt64(stream.count) << 1)
            part.lengths.appendVarint(UInt64(frame(stream, planeBytes: planeBytes, to: &part.large)))
        }
    }

    /// - Returns: bytes appended.
    private func frame(_ raw: UnsafeRawBufferPointer, planeBytes: Int, to output: inout [UInt8]) -> Int {
        // What is before the planes goes with the first of them.
        let pieceBytes = planeBytes >= Self.planeBytesMin ? planeBytes : max(raw.count, 1)
        let start = output.count
        var from = 0
        while from < raw.count {
            let to = from == 0 ? raw.count - (raw.count / pieceBytes - 1) * pieceBytes : from + pieceBytes
            let piece = UnsafeRawBufferPointer(rebasing: raw[from..<to])
            withUnsafeTemporaryAllocation(byteCount: ZstdContext.bound(piece.count), alignment: 1) { target in
                guard let written = zstd.compress(piece, into: target, level: level) else { fatalError("BUG: zstd refused to compress \(piece.count) bytes") }
                output.append(contentsOf: UnsafeRawBufferPointer(rebasing: target[..<written]))
            }
            from = to
        }
        if output.count - start >= raw.count {
            output.removeLast(output.count - start)
            output.append(contentsOf: raw)
        }
        return output.count - start
    }

    /// The plan is known last and stands first.
    consuming func finish(plan: [UInt8], into output: inout [UInt8]) {
        var first = Part()
        plan.withUnsafeBytes { add($0, planeBytes: 0, to: &first) }
        output.appendVarint(UInt64(count + 1))
        output.append(contentsOf: first.head)
        output.append(contentsOf: streams.head)
        output.append(contentsOf: first.lengths)
        output.append(contentsOf: streams.lengths)
        first.small.append(contentsOf: streams.small)
        var shared: [UInt8] = []
        output.appendVarint(UInt64(first.small.withUnsafeBytes { frame($0, planeBytes: 0, to: &shared) }))
        output.append(contentsOf: shared)
        output.append(contentsOf: first.large)
        output.append(contentsOf: streams.large)
    }
}

/// Gives streams back, each decompressed when it is asked for.
struct StreamReader {
    private struct Place {
        var offset: Int
        var stored: Int
        var raw: Int
        var isSmall: Bool
    }
    private static let streamsMax = 1 << 20
    private let bytes: UnsafeRawBufferPointer
    private var places: [Place] = []
    private let small: [UInt8]

    /// - Parameter bytes: borrowed for the reader's life.
    init(_ bytes: UnsafeRawBufferPointer, rawBytesMax: Int) throws(ObsError) {
        self.bytes = bytes
        var cursor = ByteCursor(bytes)
        let count = try cursor.count(max: min(Self.streamsMax, bytes.count))
        var smallBytes = 0
        places.reserveCapacity(count)
        for _ in 0..<count {
            let tagged = try cursor.varint()
            guard tagged >> 1 <= UInt64(rawBytesMax) else { throw ObsError(.corrupt, "stream of \(tagged >> 1) bytes") }
            let raw = Int(tagged >> 1)
            if tagged & 1 == 1 {
                places.append(Place(offset: smallBytes, stored: raw, raw: raw, isSmall: true))
                smallBytes += raw
                guard smallBytes <= rawBytesMax else { throw ObsError(.corrupt, "small streams of \(smallBytes) bytes") }
            } else {
                places.append(Place(offset: 0, stored: 0, raw: raw, isSmall: false))
            }
        }
        for index in places.indices where !places[index].isSmall { places[index].stored = try cursor.count(max: bytes.count) }
        let shared = try cursor.count(max: bytes.count)
        small = try Self.frame(try cursor.take(shared), raw: smallBytes)
        var offset = cursor.position
        for index in places.indices where !places[index].isSmall {
            places[index].offset = offset
            offset += places[index].stored
            guard offset <= bytes.count else { throw ObsError(.corrupt, "streams end early") }
        }
        guard offset == bytes.count else { throw ObsError(.corrupt, "\(bytes.count - offset) bytes too many") }
    }

    var count: Int { places.count }

    func stream(_ index: Int) throws(ObsError) -> [UInt8] {
        guard index < places.count else { throw ObsError(.corrupt, "stream \(index) of \(places.count)") }
        let place = places[index]
        if place.isSmall { return Array(small[place.offset..<place.offset + place.raw]) }
        return try Self.frame(UnsafeRawBufferPointer(rebasing: bytes[place.offset..<place.offset + place.stored]), raw: place.raw)
    }

    private static func frame(_ stored: UnsafeRawBufferPointer, raw: Int) throws(ObsError) -> [UInt8] {
        if stored.count == raw { return Array(stored) }
        do { return try zstdDecompress(stored, exactly: raw) } catch { throw ObsError(.corrupt, error.message) }
    }
}
