package import ObsCore
internal import Synchronization

/// A disk in memory that can be cut from power, filled and made to fail: what tests and the simulation run the store on.
///
/// It is as forgetful as a real one may be. Written bytes are lost at a power cut unless the file was synced after them; created, renamed and removed
/// names are as before unless their folder was synced.
package final class MemoryFileSystem: FileSystem {
    fileprivate final class Node: @unchecked Sendable {  // content is only touched under the disk's lock
        var bytes: [UInt8] = []
        /// Bytes from the beginning that are on the device for certain.
        var synced = 0

        init(_ bytes: [UInt8] = [], synced: Int = 0) {
            self.bytes = bytes
            self.synced = synced
        }
    }

    /// What a power cut took.
    package struct Losses: Sendable {
        /// Files whose last bytes were not synced and are not there, or not all.
        package var unsynced = 0
        /// Created, renamed or removed names that are as before.
        package var names = 0
        /// Sectors that hold something else than what was written.
        package var tornSectors = 0
    }

    fileprivate struct State {
        var losses = Losses()
        var names: [String: Node] = [:]
        var durableNames: [String: Node] = [:]
        var folders: Set<String> = []
        var locked: Set<String> = []
        var capacityBytes = Int.max
        var operationsLeft = Int.max
        var operations = 0
    }

    fileprivate let state = Mutex(State())

    package init() {}

    /// Bytes of all files together; writes past it fail as on a full disk. `.max` for no bound.
    package func setCapacity(bytes: Int) { state.withLock { $0.capacityBytes = bytes } }

    /// Bytes that still fit; nil for no bound.
    package func setRoom(_ bytes: Int?) { state.withLock { state in state.capacityBytes = bytes.map { state.usedBytes + $0 } ?? .max } }

    /// Lets that many further changes (creations, appends, syncs, renames, removals) pass; all after them fail.
    package func failChanges(after count: Int) { state.withLock { $0.operationsLeft = count } }

    /// Changes so far: what a test enumerates failures over.
    package var changes: Int { state.withLock { $0.operations } }

    /// What the power cut took that this disk is left from.
    package var losses: Losses { state.withLock { $0.losses } }

    /// Forgets what was not synced; ends injected failures and locks. Files that are open keep the old content and reach nothing durable.
    package func cutPower() {
        state.withLock { state in
            var nodes: [String: Node] = [:]
            state.losses = Losses()
            state.losses.unsynced = state.durableNames.values.count { $0.synced < $0.bytes.count }
            state.losses.names = Set(state.names.keys).union(state.durableNames.keys).count { state.names[$0] !== state.durableNames[$0] }
            for (name, node) in state.durableNames {
                nodes[name] = Node(Array(node.bytes.prefix(node.synced)), synced: node.synced)
            }
            state.names = nodes
            state.durableNames = nodes
            state.folders.formUnion(nodes.keys.map(DiskLayout.folder))
            state.locked = []
            state.operationsLeft = .max
        }
    }

    /// The content of a file, for tests that look or damage.
    package func content(_ path: String) -> [UInt8]? { state.withLock { $0.names[path]?.bytes } }

    package func setContent(_ path: String, _ bytes: [UInt8]) {
        state.withLock { state in
            let node = Node(bytes, synced: bytes.count)
            state.names[path] = node
            state.durableNames[path] = node
        }
    }

    /// Paths of all files, sorted.
    package var paths: [String] { state.withLock { $0.names.keys.sorted() } }

    /// Makes a file vanish behind the store's back.
    package func erase(_ path: String) {
        state.withLock {
            $0.names[path] = nil
            $0.durableNames[path] = nil
        }
    }

    /// The disk as a killed process leaves it at this moment, under another root: all that was written is there, synced or not. This one goes on undisturbed,
    /// so that a test may take a copy at any call and look at it later.
    package func afterKill(from root: String, to newRoot: String) -> MemoryFileSystem {
        survivors(from: root, to: newRoot) { names, durableNames in
            var copies: [ObjectIdentifier: Node] = [:]
            func copy(_ node: Node) -> Node {
                if let known = copies[ObjectIdentifier(node)] { return known }
                let fresh = Node(node.bytes, synced: node.synced)
                copies[ObjectIdentifier(node)] = fresh
                return fresh
            }
            return (names.mapValues(copy), durableNames.mapValues(copy))
        }
    }

    /// The disk as a power cut leaves it at this moment, under another root: what was synced is there, of the rest any part. Appended bytes may be lost from
    /// anywhere on, or any of their sectors may be zeros or what lay there before; a changed name may be old or new.
    package func afterPowerCut(from root: String, to newRoot: String, using random: inout some RandomNumberGenerator) -> MemoryFileSystem {
        var losses = Losses()
        let choices = state.withLock { state in
            var choices: [(path: String, node: Node)] = []
            for path in Set(state.names.keys).union(state.durableNames.keys).sorted() {
                let isNew = state.names[path] === state.durableNames[path] || Bool.random(using: &random)
                if !isNew { losses.names += 1 }
                guard let node = isNew ? state.names[path] : state.durableNames[path] else { continue }
                let bytes = node.bytes.prefix(node.synced) + torn(node.bytes, from: node.synced, &losses, &random)
                if bytes.count < node.bytes.count { losses.unsynced += 1 }
                choices.append((path, Node(Array(bytes), synced: bytes.count)))
            }
            return choices
        }
        let left = survivors(from: root, to: newRoot) { _, _ in
            let names = Dictionary(uniqueKeysWithValues: choices.map { ($0.path, $0.node) })
            return (names, names)
        }
        let taken = losses
        left.state.withLock { $0.losses = taken }
        return left
    }

    /// What is left of bytes that were written and not synced.
    private func torn(_ bytes: [UInt8], from start: Int, _ losses: inout Losses, _ random: inout some RandomNumberGenerator) -> [UInt8] {
        guard start < bytes.count, Int.random(in: 0..<4, using: &random) > 0 else { return [] }
        var rest = Array(bytes[start..<Int.random(in: start...bytes.count, using: &random)])
        guard Int.random(in: 0..<4, using: &random) > 0 else { return rest }
        // Sectors lie where they do from the file's beginning; one that is partly synced is whole.
        var sector = (start + 511) / 512 * 512 - start
        while sector < rest.count {
            let end = min(sector + 512, rest.count)
            let choice = Int.random(in: 0..<3, using: &random)
            if choice < 2 { losses.tornSectors += 1 }
            switch choice {
            case 0: for index in sector..<end { rest[index] = 0 }
            case 1: for index in sector..<end { rest[index] = .random(in: 0...255, using: &random) }
            default: break
            }
            sector = end
        }
        return rest
    }

    private func survivors(
        from root: String, to newRoot: String, _ pick: ([String: Node], [String: Node]) -> (names: [String: Node], durableNames: [String: Node])
    ) -> MemoryFileSystem {
        func moved(_ path: String) -> String { path.hasPrefix(root) ? newRoot + path.dropFirst(root.count) : path }
        func moved(_ nodes: [String: Node]) -> [String: Node] { Dictionary(uniqueKeysWithValues: nodes.map { (moved($0.key), $0.value) }) }
        let survived = MemoryFileSystem()
        state.withLock { present in
            let picked = pick(present.names, present.durableNames)
            // A removed folder comes back with a file in it.
            let folders = Set(present.folders.map(moved)).union(picked.names.keys.map { moved(DiskLayout.folder(of: $0)) })
            survived.state.withLock { state in
                state.names = moved(picked.names)
                state.durableNames = moved(picked.durableNames)
                state.folders = folders
            }
        }
        return survived
    }

    package func open(_ path: String) throws(ObsError) -> any ReadableFile {
        guard let bytes = content(path) else { throw missing(path) }
        return MemoryReadableFile(path: path, bytes: bytes)
    }

    package func create(_ path: String) throws(ObsError) -> any WritableFile {
        let node = Node()
        try change { $0.names[path] = node }
        return MemoryWritableFile(path: path, node: node, disk: self)
    }

    package func rename(_ from: String, to: String) throws(ObsError) {
        guard exists(from) else { throw missing(from) }
        try change { state in
            state.names[to] = state.names[from]
            state.names[from] = nil
        }
    }

    package func remove(_ path: String) throws(ObsError) {
        guard exists(path) else { throw missing(path) }
        try change { $0.names[path] = nil }
    }

    package func removeDirectory(_ path: String) throws(ObsError) {
        guard try list(path).isEmpty else { throw ObsError(.internalError, "cannot remove folder \(path): directory not empty") }
        try change { $0.folders.remove(path) }
    }

    package func list(_ path: String) throws(ObsError) -> [String] {
        let prefix = path + "/"
        return state.withLock { state in
            let below = Array(state.names.keys) + Array(state.folders)
            let names = below.filter { $0.hasPrefix(prefix) }.compactMap { $0.dropFirst(prefix.count).split(separator: "/").first.map(String.init) }
            return Set(names).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        }
    }

    package func makeDirectories(_ path: String) throws(ObsError) {
        if isDirectory(path) { return }
        try change { state in
            var folder = path
            while folder != ".", folder != "/", state.folders.insert(folder).inserted { folder = DiskLayout.folder(of: folder) }
        }
    }

    package func syncDirectory(_ path: String) throws(ObsError) {
        try change { state in
            for name in Set(state.names.keys).union(state.durableNames.keys) where name.hasPrefix(path + "/") {
                let folder = DiskLayout.folder(of: name)
                // With a folder that is gone for good, so is what was in it.
                if folder == path || state.names[name] == nil && !state.folders.contains(folder) { state.durableNames[name] = state.names[name] }
            }
        }
    }

    package func exists(_ path: String) -> Bool { state.withLock { $0.names[path] != nil || $0.folders.contains(path) } }

    /// A folder above a file that a power cut left is there, whether or not its own name was synced.
    package func isDirectory(_ path: String) -> Bool {
        state.withLock { state in state.folders.contains(path) || state.names.keys.contains { $0.hasPrefix(path + "/") } }
    }

    package func size(_ path: String) throws(ObsError) -> Int {
        guard let bytes = content(path) else { throw missing(path) }
        return bytes.count
    }

    package func truncate(_ path: String, to size: Int) throws(ObsError) {
        guard exists(path) else { throw missing(path) }
        try change { state in
            guard let node = state.names[path] else { return }
            node.bytes = Array(node.bytes.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - node.bytes.count))
            node.synced = node.bytes.count
        }
    }

    package func hardLink(_ from: String, to: String) throws(ObsError) {
        guard exists(from) else { throw missing(from) }
        try change { $0.names[to] = $0.names[from] }
    }

    package func freeBytes(_ path: String) throws(ObsError) -> Int64 {
        state.withLock { $0.capacityBytes == .max ? 1 << 40 : Int64(max(0, $0.capacityBytes - $0.usedBytes)) }
    }

    package func totalBytes(_ path: String) throws(ObsError) -> Int64 { state.withLock { $0.capacityBytes == .max ? 1 << 40 : Int64($0.capacityBytes) } }

    /// Bytes of all files together, a file of several names once.
    package var usedBytes: Int { state.withLock { $0.usedBytes } }

    package func lock(_ path: String) throws(ObsError) -> any FileLock {
        guard state.withLock({ $0.locked.insert(path).inserted }) else { throw ObsError(.unavailable, "\(path) is locked by another process") }
        return MemoryFileLock(path: path, disk: self)
    }

    /// Runs a change unless failures are due.
    fileprivate func change(_ body: (inout State) -> Void) throws(ObsError) {
        let passed = state.withLock { state -> Bool in
            guard state.operationsLeft > 0 else { return false }
            if state.operationsLeft != .max { state.operationsLeft -= 1 }
            state.operations += 1
            body(&state)
            return true
        }
        if !passed { throw ObsError(.internalError, "cannot write: input/output error (injected)") }
    }

    private func missing(_ path: String) -> ObsError { ObsError(.notFound, "cannot open \(path): no such file or directory") }
}

extension MemoryFileSystem.State {
    fileprivate var usedBytes: Int {
        var seen = Set<ObjectIdentifier>()
        return names.values.reduce(0) { seen.insert(ObjectIdentifier($1)).inserted ? $0 + $1.bytes.count : $0 }
    }
}

private final class MemoryReadableFile: ReadableFile {
    let path: String
    private let bytes: [UInt8]
    var size: Int { bytes.count }

    init(path: String, bytes: [UInt8]) {
        self.path = path
        self.bytes = bytes
    }

    func read(at offset: Int, count: Int) throws(ObsError) -> [UInt8] {
        guard offset >= 0, count >= 0, offset <= size, count <= size - offset else {
            throw ObsError(.corrupt, "file ends early, it has \(size) bytes", place: "\(path):\(offset)")
        }
        return Array(bytes[offset..<offset + count])
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ObsError) {
        buffer.copyBytes(from: try read(at: offset, count: buffer.count))
    }
}

private final class MemoryWritableFile: WritableFile, @unchecked Sendable {  // one caller at a time, see WritableFile
    let path: String
    private let node: MemoryFileSystem.Node
    private let disk: MemoryFileSystem
    private(set) var size = 0

    init(path: String, node: MemoryFileSystem.Node, disk: MemoryFileSystem) {
        self.path = path
        self.node = node
        self.disk = disk
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(ObsError) {
        var isFull = false
        try disk.change { state in
            // A full disk takes what still fits, as write(2) does.
            let room = state.capacityBytes == .max ? Int.max : max(0, state.capacityBytes - state.usedBytes)
            isFull = bytes.count > room
            node.bytes.append(contentsOf: bytes.prefix(room))
        }
        if isFull { throw ObsError(.overloaded, "cannot write \(path): no space left on device", retryAfterSeconds: 30) }
        size += bytes.count
    }

    func sync() throws(ObsError) { try disk.change { _ in node.synced = node.bytes.count } }

    func close() throws(ObsError) {}
}

private final class MemoryFileLock: FileLock {
    private let path: String
    private let disk: MemoryFileSystem

    init(path: String, disk: MemoryFileSystem) {
        self.path = path
        self.disk = disk
    }

    deinit { release() }

    func release() { _ = disk.state.withLock { $0.locked.remove(path) } }
}
