internal import CRoaring
package import ObsCore

/// Sets of unsigned integers in Roaring's portable form (github.com/RoaringBitmap/RoaringFormatSpec), runs as runs: small where neighbours are in the set
/// together, and as quick to read as it is small.
///
/// Written by CRoaring, read by the lines below: they set bits where the bytes lie, without a bitmap in between, and believe nothing. CRoaring 0.2.66 has a
/// "safe" deserialiser that checks lengths only; of a run that leaves its container it then writes past the container's end (docs/adr/004-postings.md).
package enum RoaringCodec {
    private static let cookieWithoutRuns: UInt32 = 12346
    private static let cookie: UInt32 = 12347
    /// With runs, fewer containers than this have no offsets.
    private static let containersWithOffsets = 4
    private static let arrayMax = 4096
    private static let bitmapBytes = 8192

    /// Appends a set, unless it would take more than `bytesMax` bytes.
    /// - Parameter values: ascending, each once.
    /// - Returns: whether it was appended.
    package static func append(_ values: UnsafeBufferPointer<UInt32>, bytesMax: Int, to output: inout [UInt8]) -> Bool {
        guard let start = values.baseAddress else { return false }
        let bytes = [UInt8](unsafeUninitializedCapacity: max(bytesMax, 0)) { buffer, written in
            let size = obs_roaring_serialize(start, values.count, buffer.baseAddress, buffer.count)
            written = size <= buffer.count ? size : 0
        }
        output.append(contentsOf: bytes)
        return !bytes.isEmpty
    }

    /// Takes a set and adds it to a set of bits.
    /// - Parameter count: of bits in `words`; all values must be below.
    /// - Throws: `.corrupt` for anything that is not such a set; some bits may be set then.
    package static func insert(_ cursor: inout ByteCursor, into words: inout [UInt64], count: Int) throws(ObsError) {
        let containers = try Container.list(&cursor)
        for container in containers {
            let base = container.key << 16
            guard base < count else { throw ObsError(.corrupt, "value \(base) in a set of values below \(count)") }
            // Past this there is nothing in the container.
            let end = min(count - base, 1 << 16)
            if container.isRuns {
                try insertRuns(&cursor, container, end: end, into: &words)
            } else if container.count <= arrayMax {
                try insertArray(&cursor, container, end: end, into: &words)
            } else {
                try insertBitmap(&cursor, container, end: end, into: &words)
            }
        }
    }

    private struct Container {
        var key: Int
        var count: Int
        var isRuns: Bool

        static func list(_ cursor: inout ByteCursor) throws(ObsError) -> [Container] {
            let first = try cursor.u32()
            let hasRuns = first & 0xffff == cookie
            guard hasRuns || first == cookieWithoutRuns else { throw ObsError(.corrupt, "not a Roaring set") }
            let size = hasRuns ? Int(first >> 16) + 1 : Int(try cursor.u32())
            guard size <= cursor.remaining / 4 else { throw ObsError(.corrupt, "a Roaring set of \(size) containers in \(cursor.remaining) bytes") }
            let runs = hasRuns ? try cursor.take((size + 7) / 8) : UnsafeRawBufferPointer(start: nil, count: 0)
            var containers: [Container] = []
            containers.reserveCapacity(size)
            for index in 0..<size {
                let key = Int(try cursor.u16())
                if let last = containers.last, last.key >= key { throw ObsError(.corrupt, "containers of a Roaring set out of order") }
                let isRuns = hasRuns && runs[index >> 3] >> UInt8(index & 7) & 1 == 1
                containers.append(Container(key: key, count: Int(try cursor.u16()) + 1, isRuns: isRuns))
            }
            // Containers lie in order and without gaps, so where they begin is known.
            if !hasRuns || size >= containersWithOffsets { _ = try cursor.take(size * 4) }
            return containers
        }
    }

    private static func insertRuns(_ cursor: inout ByteCursor, _ container: Container, end: Int, into words: inout [UInt64]) throws(ObsError) {
        let base = container.key << 16
        var next = 0
        var left = container.count
        for _ in 0..<(try cursor.u16()) {
            let start = Int(try cursor.u16())
            let length = Int(try cursor.u16()) + 1
            guard start >= next, start + length <= end, length <= left else { throw ObsError(.corrupt, "run of \(length) from \(start) in a Roaring set") }
            setBits(base + start..<base + start + length, in: &words)
            next = start + length
            left -= length
        }
        if left != 0 { throw wrongCount() }
    }

    private static func insertArray(_ cursor: inout ByteCursor, _ container: Container, end: Int, into words: inout [UInt64]) throws(ObsError) {
        let base = container.key << 16
        let array = try cursor.take(container.count * 2)
        var next = 0
        for index in 0..<container.count {
            let value = Int(UInt16(littleEndian: array.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
            guard value >= next, value < end else { throw ObsError(.corrupt, "value \(value) out of order in a Roaring set") }
            words[(base + value) >> 6] |= 1 << UInt64(value & 63)
            next = value + 1
        }
    }

    private static func insertBitmap(_ cursor: inout ByteCursor, _ container: Container, end: Int, into words: inout [UInt64]) throws(ObsError) {
        let bitmap = try cursor.take(bitmapBytes)
        let first = container.key << 10
        var found = 0
        for index in 0..<bitmapBytes / 8 {
            let word = UInt64(littleEndian: bitmap.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
            if word == 0 { continue }
            guard index * 64 + 63 - word.leadingZeroBitCount < end else { throw ObsError(.corrupt, "value past the bound of a Roaring set") }
            words[first + index] |= word
            found += word.nonzeroBitCount
        }
        if found != container.count { throw wrongCount() }
    }

    private static func setBits(_ range: Range<Int>, in words: inout [UInt64]) {
        var at = range.lowerBound
        while at < range.upperBound {
            let bits = min(64 - (at & 63), range.upperBound - at)
            let ones: UInt64 = bits == 64 ? .max : (1 << UInt64(bits)) - 1
            words[at >> 6] |= ones << UInt64(at & 63)
            at += bits
        }
    }

    private static func wrongCount() -> ObsError { ObsError(.corrupt, "a container of a Roaring set has more or fewer values than it says") }
}
