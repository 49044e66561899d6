internal import Glibc

/// Memory handed out in pieces that never move, given back whole: what a head generation keeps its label sets and samples in.
///
/// Pages come from `mmap`, not `malloc`: when a generation has been flushed, its memory really goes back to the system.
final class Arena {
    private static let blockBytes = 1 << 20
    private var blocks: [UnsafeMutableRawBufferPointer] = []
    private var next: UnsafeMutableRawPointer?
    private var left = 0
    /// Bytes handed out.
    private(set) var usedBytes = 0

    deinit {
        for block in blocks { munmap(block.baseAddress, block.count) }
    }

    /// Zeroed memory at an address that is a multiple of 8.
    func allocate(_ count: Int) -> UnsafeMutableRawPointer {
        let size = (count + 7) & ~7
        usedBytes += size
        if size <= left, let piece = next {
            next = piece + size
            left -= size
            return piece
        }
        let block = Self.map(max(size, Self.blockBytes))
        blocks.append(UnsafeMutableRawBufferPointer(start: block, count: max(size, Self.blockBytes)))
        // A piece bigger than a block has a mapping of its own; the rest of the present block stays in use.
        if size <= Self.blockBytes {
            next = block + size
            left = Self.blockBytes - size
        }
        return block
    }

    private static func map(_ count: Int) -> UnsafeMutableRawPointer {
        guard let memory = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), memory != MAP_FAILED else {
            fatalError("FATAL: out of memory: cannot map \(count) bytes for the head, error \(errno)")
        }
        return memory
    }
}
