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
    private static let smallBytesMax = 512
    private static let planeBytesMin = 512
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

    /// - Parameter planes: of integers at the stream's end: each is compressed by itself.
    mutating func add(_ stream: UnsafeRawBufferPointer, planes: IntegerCodec.Planes = .init()) {
        count += 1
        add(stream, planes: planes, to: &streams)
    }

    private func add(_ stream: UnsafeRawBufferPointer, planes: IntegerCodec.Planes, to part: inout Part) {
        if stream.count <= Self.smallBytesMax {
            part.head.appendVarint(UInt64(stream.count) << 1 | 1)
            part.small.append(contentsOf: stream)
        } else {
            part.head.appendVarint(UInt64(stream.count) << 1)
            part.lengths.appendVarint(UInt64(frame(stream, planes: planes, to: &part.large)))
        }
    }

    /// - Returns: bytes appended.
    private func frame(_ raw: UnsafeRawBufferPointer, planes: IntegerCodec.Planes = .init(), to output: inout [UInt8]) -> Int {
        let start = output.count
        var from = 0
        // What is before the planes goes with the first of them; the last may be shorter, too short for a frame of its own.
        let end = planes.last == planes.each ? raw.count : raw.count - planes.last
        while from < raw.count {
            var to = raw.count
            if planes.each >= Self.planeBytesMin {
                to = from == 0 ? max(end - (end / planes.each - 1) * planes.each, 0) : min(from + planes.each, raw.count)
                if raw.count - to < Self.planeBytesMin { to = raw.count }
            }
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
        plan.withUnsafeBytes { add($0, planes: .init(), to: &first) }
        output.appendVarint(UInt64(count + 1))
        output.append(contentsOf: first.head)
        output.append(contentsOf: streams.head)
        output.append(contentsOf: first.lengths)
        output.append(contentsOf: streams.lengths)
        first.small.append(contentsOf: streams.small)
        var shared: [UInt8] = []
        output.appendVarint(UInt64(first.small.withUnsafeBytes { frame($0, to: &shared) }))
        output.append(contentsOf: shared)
        output.append(contentsOf: first.large)
        output.append(contentsOf: streams.large)
    }
}
