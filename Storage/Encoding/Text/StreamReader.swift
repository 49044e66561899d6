internal import ObsCompress
internal import ObsCore

/// Memory that stays where it is as long as the object lives; written before anyone else sees it.
final class TextMemory: @unchecked Sendable {
    /// Behind the bytes there is room to read past the end, for copies of a fixed length.
    static let slack = 32
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) {
        bytes = UnsafeMutableRawBufferPointer(
            start: UnsafeMutableRawPointer.allocate(byteCount: count + Self.slack, alignment: 8), count: count)
    }

    deinit { bytes.baseAddress?.deallocate() }
}

/// Memory for one call: all of it goes when the call ends.
final class TextArena {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit { for block in blocks { block.deallocate() } }

    func array<T: BitwiseCopyable>(of type: T.Type, count: Int) -> UnsafeMutableBufferPointer<T> {
        let block = UnsafeMutableRawPointer.allocate(byteCount: count * MemoryLayout<T>.stride + TextMemory.slack, alignment: 8)
        blocks.append(block)
        return UnsafeMutableBufferPointer(start: block.bindMemory(to: T.self, capacity: count), count: count)
    }
}

/// Gives streams back, each decompressed when it is asked for first, and kept.
final class StreamReader: @unchecked Sendable {  // memory is written before it is shared; what is shared later is behind monitors
    private struct Place {
        var offset: Int
        var stored: Int
        var raw: Int
        var isSmall: Bool
    }
    private static let streamsMax = 1 << 20
    private let column: TextMemory
    private let places: [Place]
    private let small: TextMemory
    private let kept: Monitor<[TextMemory?]>
    /// Of all streams.
    let rawBytes: Int

    init(_ bytes: UnsafeRawBufferPointer, rawBytesMax: Int) throws(ObsError) {
        column = TextMemory(count: bytes.count)
        column.bytes.copyMemory(from: bytes)
        var places: [Place] = []
        var cursor = ByteCursor(UnsafeRawBufferPointer(column.bytes))
        let count = try cursor.count(max: min(Self.streamsMax, bytes.count))
        var smallBytes = 0
        var rawBytes = 0
        places.reserveCapacity(count)
        for _ in 0..<count {
            let tagged = try cursor.varint()
            guard tagged >> 1 <= UInt64(rawBytesMax) else { throw ObsError(.corrupt, "stream of \(tagged >> 1) bytes") }
            let raw = Int(tagged >> 1)
            rawBytes += raw
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
        self.places = places
        self.rawBytes = rawBytes
        kept = Monitor([TextMemory?](repeating: nil, count: places.count))
    }

    var count: Int { places.count }

    /// Memory when all streams were asked for.
    var byteSize: Int { column.bytes.count + rawBytes + places.count * 48 }

    /// Lives as long as the reader.
    func stream(_ index: Int) throws(ObsError) -> UnsafeRawBufferPointer {
        guard index < places.count else { throw ObsError(.corrupt, "stream \(index) of \(places.count)") }
        let place = places[index]
        if place.isSmall { return UnsafeRawBufferPointer(rebasing: small.bytes[place.offset..<place.offset + place.raw]) }
        let stored = UnsafeRawBufferPointer(rebasing: column.bytes[place.offset..<place.offset + place.stored])
        if place.stored == place.raw { return stored }
        if let known = kept.read({ $0[index] }) { return UnsafeRawBufferPointer(known.bytes) }
        let fresh = try Self.frame(stored, raw: place.raw)
        // Another thread may have been quicker: what it gave away must stay.
        let memory = kept.read { kept in
            if let known = kept[index] { return known }
            kept[index] = fresh
            return fresh
        }
        return UnsafeRawBufferPointer(memory.bytes)
    }

    private static func frame(_ stored: UnsafeRawBufferPointer, raw: Int) throws(ObsError) -> TextMemory {
        // No block is denser than four bytes for 128 KiB: a forged size does not become an allocation.
        guard raw <= (stored.count / 4 + 1) << 17 else { throw ObsError(.corrupt, "stream of \(raw) bytes in \(stored.count)") }
        let memory = TextMemory(count: raw)
        if stored.count == raw {
            memory.bytes.copyMemory(from: stored)
            return memory
        }
        guard ZstdContext.borrow({ $0.decompress(stored, into: memory.bytes) }) == raw else {
            throw ObsError(.corrupt, "invalid zstd data: not of \(raw) bytes")
        }
        return memory
    }
}
