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
    private var head: [UInt8] = []
    private var count = 0
    private var lengths: [UInt8] = []
    private var small: [UInt8] = []
    private var large: [UInt8] = []

    init(level: Int) { self.level = level }

    /// - Parameter planeBytes: of the planes of integers at the stream's end, which have little in common: each is compressed by itself.
    mutating func add(_ stream: [UInt8], planeBytes: Int = 0) {
        count += 1
        if stream.count <= Self.smallBytesMax {
            head.appendVarint(UInt64(stream.count) << 1 | 1)
            small.append(contentsOf: stream)
        } else {
            head.appendVarint(UInt64(stream.count) << 1)
            large.append(contentsOf: frame(stream, planeBytes: planeBytes))
        }
    }

    private mutating func frame(_ raw: [UInt8], planeBytes: Int = 0) -> [UInt8] {
        // What is before the planes goes with the first of them.
        let pieceBytes = planeBytes >= Self.planeBytesMin ? planeBytes : max(raw.count, 1)
        var packed: [UInt8] = []
        raw.withUnsafeBytes { raw in
            var from = 0
            while from < raw.count {
                let to = from == 0 ? raw.count - (raw.count / pieceBytes - 1) * pieceBytes : from + pieceBytes
                packed.append(contentsOf: zstdCompress(UnsafeRawBufferPointer(rebasing: raw[from..<to]), level: level))
                from = to
            }
        }
        let stored = packed.count < raw.count ? packed : raw
        lengths.appendVarint(UInt64(stored.count))
        return stored
    }

    consuming func finish(into output: inout [UInt8]) {
        output.appendVarint(UInt64(count))
        output.append(contentsOf: head)
        // Its length comes last.
        let shared = frame(small)
        output.append(contentsOf: lengths)
        output.append(contentsOf: shared)
        output.append(contentsOf: large)
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
