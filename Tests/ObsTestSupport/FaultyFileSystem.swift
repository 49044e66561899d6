package import ObsCore
package import ObsDisk

/// One call the store makes of its file system.
package struct DiskCall: Sendable, CustomStringConvertible {
    package enum Operation: String, Sendable {
        case open, read, list
        case create, append, sync, rename, remove, removeDirectory, makeDirectories, syncDirectory, truncate, hardLink

        /// Whether the call changes what a crash may leave.
        package var isChange: Bool {
            switch self {
            case .open, .read, .list: false
            default: true
            }
        }
    }

    package var operation: Operation
    package var path: String
    /// Of a read; bytes appended so far for an append.
    package var offset = 0

    package var description: String { "\(operation.rawValue) \(path)" }
}

/// How a call fails.
package enum DiskFault: Sendable {
    case inputOutput
    case noSpace
    /// An append writes some of its bytes and then fails; any other call fails at once.
    case short
    case other(ObsError)

    func error(_ call: DiskCall) -> ObsError {
        switch self {
        case .other(let error): error
        case .noSpace: ObsError(.overloaded, "cannot \(call.operation.rawValue) \(call.path): no space left on device", retryAfterSeconds: 30)
        case .inputOutput, .short:
            ObsError(
                .internalError, "cannot \(call.operation.rawValue) \(call.path): input/output error",
                place: call.operation == .read ? "\(call.path):\(call.offset)" : nil)
        }
    }
}

/// A disk in memory that fails where it is told to, and shows every call before it is made: a test may take a copy of `disk` there, which is how the store
/// is crashed at each of its calls without stopping it.
package final class FaultyFileSystem: FileSystem {
    package typealias Watcher = @Sendable (DiskCall) -> DiskFault?

    package let disk: MemoryFileSystem
    private let watcher = Monitor<Watcher?>(nil)

    package init(_ disk: MemoryFileSystem = MemoryFileSystem()) { self.disk = disk }

    /// Asked before each call, on the calling thread; nil for no faults.
    package func watch(_ watcher: Watcher?) { self.watcher.update { $0 = watcher } }

    fileprivate func fault(_ operation: DiskCall.Operation, _ path: String, _ offset: Int = 0) -> (fault: DiskFault, error: ObsError)? {
        guard let watcher = watcher.read({ $0 }) else { return nil }
        let call = DiskCall(operation: operation, path: path, offset: offset)
        return watcher(call).map { fault in (fault, fault.error(call)) }
    }

    fileprivate func pass(_ operation: DiskCall.Operation, _ path: String, _ offset: Int = 0) throws(ObsError) {
        if let (_, error) = fault(operation, path, offset) { throw error }
    }

    // MARK: What tests ask and do

    package var paths: [String] { disk.paths }
    package func erase(_ path: String) { disk.erase(path) }
    package func setRoom(_ bytes: Int?) { disk.setRoom(bytes) }

    /// Changes a file behind the store's back.
    package func damage(_ path: String, _ change: (inout [UInt8]) -> Void) {
        guard var bytes = disk.content(path) else { return }
        change(&bytes)
        disk.setContent(path, bytes)
    }

    /// What opening a segment fails with from now on; nil for nothing.
    package func setOpenError(_ error: ObsError?) {
        guard let error else { return watch(nil) }
        watch { call in call.operation == .open && call.path.hasSuffix(DiskLayout.segmentSuffix) ? .other(error) : nil }
    }

    package func afterPowerCut(from root: String, to newRoot: String, using random: inout some RandomNumberGenerator) -> FaultyFileSystem {
        FaultyFileSystem(disk.afterPowerCut(from: root, to: newRoot, using: &random))
    }

    // MARK: FileSystem

    package func open(_ path: String) throws(ObsError) -> any ReadableFile {
        try pass(.open, path)
        return FaultyReadableFile(try disk.open(path), self)
    }

    package func create(_ path: String) throws(ObsError) -> any WritableFile {
        try pass(.create, path)
        return FaultyWritableFile(try disk.create(path), self)
    }

    package func rename(_ from: String, to: String) throws(ObsError) {
        try pass(.rename, to)
        try disk.rename(from, to: to)
    }

    package func remove(_ path: String) throws(ObsError) {
        try pass(.remove, path)
        try disk.remove(path)
    }

    package func removeDirectory(_ path: String) throws(ObsError) {
        try pass(.removeDirectory, path)
        try disk.removeDirectory(path)
    }

    package func list(_ path: String) throws(ObsError) -> [String] {
        try pass(.list, path)
        return try disk.list(path)
    }

    package func makeDirectories(_ path: String) throws(ObsError) {
        if disk.isDirectory(path) { return }
        try pass(.makeDirectories, path)
        try disk.makeDirectories(path)
    }

    package func syncDirectory(_ path: String) throws(ObsError) {
        try pass(.syncDirectory, path)
        try disk.syncDirectory(path)
    }

    package func truncate(_ path: String, to size: Int) throws(ObsError) {
        try pass(.truncate, path)
        try disk.truncate(path, to: size)
    }

    package func hardLink(_ from: String, to: String) throws(ObsError) {
        try pass(.hardLink, to)
        try disk.hardLink(from, to: to)
    }

    package func exists(_ path: String) -> Bool { disk.exists(path) }
    package func isDirectory(_ path: String) -> Bool { disk.isDirectory(path) }
    package func size(_ path: String) throws(ObsError) -> Int { try disk.size(path) }
    package func freeBytes(_ path: String) throws(ObsError) -> Int64 { try disk.freeBytes(path) }
    package func totalBytes(_ path: String) throws(ObsError) -> Int64 { try disk.totalBytes(path) }
    package func lock(_ path: String) throws(ObsError) -> any FileLock { try disk.lock(path) }
}

private final class FaultyReadableFile: ReadableFile {
    private let file: any ReadableFile
    private let disk: FaultyFileSystem
    var path: String { file.path }
    var size: Int { file.size }

    init(_ file: any ReadableFile, _ disk: FaultyFileSystem) {
        self.file = file
        self.disk = disk
    }

    func read(at offset: Int, count: Int) throws(ObsError) -> [UInt8] {
        try disk.pass(.read, path, offset)
        return try file.read(at: offset, count: count)
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ObsError) {
        try disk.pass(.read, path, offset)
        try file.read(at: offset, into: buffer)
    }
}

private final class FaultyWritableFile: WritableFile {
    private let file: any WritableFile
    private let disk: FaultyFileSystem
    var path: String { file.path }
    var size: Int { file.size }

    init(_ file: any WritableFile, _ disk: FaultyFileSystem) {
        self.file = file
        self.disk = disk
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(ObsError) {
        guard let (fault, error) = disk.fault(.append, path, size) else { return try file.append(bytes) }
        if case .short = fault { try file.append(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2))) }
        throw error
    }

    func sync() throws(ObsError) {
        try disk.pass(.sync, path)
        try file.sync()
    }

    func close() throws(ObsError) { try file.close() }
}
