internal import ObsCore
internal import ObsDisk
internal import ObsEngine

/// A disk in memory that knows what a power cut would leave: synced bytes and names for certain, of the rest any part.
final class SimulatedDisk: FileSystem, @unchecked Sendable {  // all state is inside `state`
    final class Node {
        var content: [UInt8] = []
        var synced = 0
    }

    private struct State {
        var names: [String: Node] = [:]
        /// Names as last synced, by path.
        var durable: [String: Node] = [:]
        var folders: Set<String> = []
        var locked: Set<String> = []
        /// Bytes that may still be written; nil for no bound.
        var room: Int?
        var openError: ObsError?
    }
    private let state: Monitor<State>

    init() { state = Monitor(State()) }

    private init(_ state: State) { self.state = Monitor(state) }

    /// The disk as it would be found after a power cut now, under another root.
    func afterPowerCut(from root: String, to newRoot: String, using random: inout some RandomNumberGenerator) -> SimulatedDisk {
        let present = state.read { $0 }
        func moved(_ path: String) -> String { newRoot + path.dropFirst(root.count) }
        var survived = State()
        state.read { _ in
            survived.folders = Set(present.folders.map(moved))
            for path in Set(present.names.keys).union(present.durable.keys) {
                // A change of a name that was not synced may have reached the disk or not.
                let node = present.names[path] === present.durable[path] || Bool.random(using: &random) ? present.names[path] : present.durable[path]
                guard let node else { continue }
                let copy = Node()
                copy.content = Array(node.content.prefix(Int.random(in: node.synced...max(node.synced, node.content.count), using: &random)))
                copy.synced = copy.content.count
                survived.names[moved(path)] = copy
                survived.durable[moved(path)] = copy
            }
        }
        return SimulatedDisk(survived)
    }

    /// What opening a segment fails with from now on; nil for nothing.
    func setOpenError(_ error: ObsError?) { state.read { $0.openError = error } }

    func setRoom(_ bytes: Int?) { state.read { $0.room = bytes } }

    var paths: [String] { state.read { $0.names.keys.sorted() } }

    /// Changes a file behind the store's back.
    func damage(_ path: String, _ change: (inout [UInt8]) -> Void) {
        state.read { state in
            guard let node = state.names[path] else { return }
            change(&node.content)
            node.synced = node.content.count
        }
    }

    func erase(_ path: String) {
        state.read {
            $0.names[path] = nil
            $0.durable[path] = nil
        }
    }

    // MARK: FileSystem

    private func node(_ path: String) throws(ObsError) -> Node {
        guard let node = state.read({ $0.names[path] }) else { throw ObsError(.notFound, "cannot open \(path): no such file or directory") }
        return node
    }

    func open(_ path: String) throws(ObsError) -> any ReadableFile {
        if let error = state.read({ path.hasSuffix(".seg") ? $0.openError : nil }) { throw error }
        let node = try node(path)
        return SimulatedReadable(path, state.read { _ in node.content })
    }

    func create(_ path: String) throws(ObsError) -> any WritableFile {
        let node = Node()
        state.read { $0.names[path] = node }
        return SimulatedWritable(path, node, self)
    }

    func rename(_ from: String, to: String) throws(ObsError) {
        let node = try node(from)
        state.read {
            $0.names[from] = nil
            $0.names[to] = node
        }
    }

    func remove(_ path: String) throws(ObsError) {
        _ = try node(path)
        state.read { $0.names[path] = nil }
    }

    func removeDirectory(_ path: String) throws(ObsError) {
        guard try list(path).isEmpty else { throw ObsError(.internalError, "folder not empty") }
        state.read { _ = $0.folders.remove(path) }
    }

    func list(_ path: String) throws(ObsError) -> [String] {
        let prefix = path + "/"
        return state.read { state in
            let below = (Array(state.names.keys) + state.folders).filter { $0.hasPrefix(prefix) }
            return Set(below.map { String($0.dropFirst(prefix.count).prefix { $0 != "/" }) }).sorted()
        }
    }

    func makeDirectories(_ path: String) throws(ObsError) { state.read { _ = $0.folders.insert(path) } }

    func syncDirectory(_ path: String) throws(ObsError) {
        state.read { state in
            for name in Set(state.names.keys).union(state.durable.keys) where DiskLayout.folder(of: name) == path { state.durable[name] = state.names[name] }
        }
    }

    func exists(_ path: String) -> Bool { state.read { $0.names[path] != nil || $0.folders.contains(path) } }
    func isDirectory(_ path: String) -> Bool { state.read { $0.folders.contains(path) } }

    func size(_ path: String) throws(ObsError) -> Int {
        let node = try node(path)
        return state.read { _ in node.content.count }
    }

    func truncate(_ path: String, to size: Int) throws(ObsError) {
        let node = try node(path)
        state.read { _ in
            node.content.removeLast(node.content.count - size)
            node.synced = size
        }
    }

    func hardLink(_ from: String, to: String) throws(ObsError) {
        let node = try node(from)
        state.read { $0.names[to] = node }
    }

    func freeBytes(_ path: String) throws(ObsError) -> Int64 { state.read { $0.room.map { Int64($0) } ?? 1 << 40 } }

    func lock(_ path: String) throws(ObsError) -> any FileLock {
        guard state.read({ $0.locked.insert(path).inserted }) else { throw ObsError(.unavailable, "\(path) is locked") }
        return SimulatedLock { [weak self] in self?.state.read { _ = $0.locked.remove(path) } }
    }

    fileprivate func append(_ bytes: UnsafeRawBufferPointer, to node: Node, _ path: String) throws(ObsError) {
        let isFull = state.read { state in
            let fitting = min(bytes.count, state.room ?? bytes.count)
            if let room = state.room { state.room = room - fitting }
            node.content.append(contentsOf: bytes.prefix(fitting))
            return fitting < bytes.count
        }
        if isFull { throw ObsError(.overloaded, "cannot write \(path): no space left on device") }
    }

    fileprivate func sync(_ node: Node) { state.read { _ in node.synced = node.content.count } }
    fileprivate func size(of node: Node) -> Int { state.read { _ in node.content.count } }
}

private final class SimulatedReadable: ReadableFile {
    let path: String
    private let content: [UInt8]
    var size: Int { content.count }

    init(_ path: String, _ content: [UInt8]) {
        self.path = path
        self.content = content
    }

    func read(at offset: Int, count: Int) throws(ObsError) -> [UInt8] {
        guard offset >= 0, count >= 0, offset <= size, count <= size - offset else { throw ObsError(.corrupt, "file ends early", place: "\(path):\(offset)") }
        return Array(content[offset..<offset + count])
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ObsError) { buffer.copyBytes(from: try read(at: offset, count: buffer.count)) }
}

private final class SimulatedWritable: WritableFile, @unchecked Sendable {
    let path: String
    private let node: SimulatedDisk.Node
    private let disk: SimulatedDisk
    var size: Int { disk.size(of: node) }

    init(_ path: String, _ node: SimulatedDisk.Node, _ disk: SimulatedDisk) {
        self.path = path
        self.node = node
        self.disk = disk
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(ObsError) { try disk.append(bytes, to: node, path) }
    func sync() throws(ObsError) { disk.sync(node) }
    func close() throws(ObsError) {}
}

private final class SimulatedLock: FileLock {
    private let free: @Sendable () -> Void
    init(_ free: @escaping @Sendable () -> Void) { self.free = free }
    deinit { free() }
    func release() { free() }
}
