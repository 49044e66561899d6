package import ObsCore

/// Decoded blocks and footer pages of any number of segments, within one bound of bytes: the engine makes one and hands it to every reader.
///
/// Second chance: what was asked for since the last sweep stays, the rest goes, oldest first.
package final class BlockCache: Sendable {
    struct Key: Hashable, Sendable {
        var file: UInt64
        var offset: Int
    }

    private struct Entry {
        var value: any AnyObject & Sendable
        var bytes: Int
        var wasUsed: Bool
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var order: [Key] = []
        var head = 0
        var bytes = 0
        var hits = 0
        var misses = 0
    }

    package let bytesMax: Int
    /// Not a Mutex: the thread sanitizer does not see one lock.
    private let state = Monitor(State())
    private let account: MemoryAccount?

    /// - Parameters:
    ///   - bytesMax: 0 keeps nothing.
    ///   - account: where the bytes are counted.
    package init(bytesMax: Int, account: MemoryAccount? = nil) {
        self.bytesMax = bytesMax
        self.account = account
    }

    /// What is held now, and how often asking found it.
    package var statistics: (bytes: Int, hits: Int, misses: Int) { state.read { ($0.bytes, $0.hits, $0.misses) } }

    /// Gives everything back: memory pressure.
    package func removeAll() {
        state.read { state in
            account?.release(state.bytes)
            state.entries = [:]
            state.order = []
            state.head = 0
            state.bytes = 0
        }
    }

    func find(_ key: Key) -> (any AnyObject & Sendable)? {
        state.read { state in
            guard let index = state.entries.index(forKey: key) else {
                state.misses += 1
                return nil
            }
            state.hits += 1
            state.entries.values[index].wasUsed = true
            return state.entries.values[index].value
        }
    }

    func insert(_ key: Key, _ value: any AnyObject & Sendable, bytes: Int) {
        guard bytes <= bytesMax else { return }
        state.read { state in
            guard state.entries[key] == nil else { return }  // another thread decoded the same block meanwhile
            let before = state.bytes
            defer { account?.hold(state.bytes - before) }
            state.entries[key] = Entry(value: value, bytes: bytes, wasUsed: false)
            state.order.append(key)
            state.bytes += bytes
            while state.bytes > bytesMax { Self.evictOne(&state) }
            if state.head > 1024, state.head * 2 > state.order.count {
                state.order.removeFirst(state.head)
                state.head = 0
            }
        }
    }

    private static func evictOne(_ state: inout State) {
        let key = state.order[state.head]
        state.head += 1
        guard let index = state.entries.index(forKey: key) else { return }
        if state.entries.values[index].wasUsed {
            state.entries.values[index].wasUsed = false
            state.order.append(key)
        } else {
            state.bytes -= state.entries.values[index].bytes
            state.entries.remove(at: index)
        }
    }
}

/// Bytes a cache can hold.
final class Block: Sendable {
    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
}
