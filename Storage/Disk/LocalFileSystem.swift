internal import Glibc
package import ObsCore

/// The operating system's files.
package struct LocalFileSystem: FileSystem {
    package init() {}

    package func open(_ path: String) throws(ObsError) -> any ReadableFile { try LocalReadableFile(path) }

    package func create(_ path: String) throws(ObsError) -> any WritableFile { try LocalWritableFile(path) }

    package func rename(_ from: String, to: String) throws(ObsError) {
        if Glibc.rename(from, to) != 0 { throw systemError("rename to \(to) the file", from) }
    }

    package func remove(_ path: String) throws(ObsError) {
        if unlink(path) != 0 { throw systemError("remove", path) }
    }

    package func removeDirectory(_ path: String) throws(ObsError) {
        if rmdir(path) != 0 { throw systemError("remove folder", path) }
    }

    package func list(_ path: String) throws(ObsError) -> [String] {
        guard let folder = opendir(path) else {
            if errno == ENOENT { return [] }
            throw systemError("list", path)
        }
        defer { closedir(folder) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
            errno = 0
        }
        if errno != 0 { throw systemError("list", path) }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    package func makeDirectories(_ path: String) throws(ObsError) {
        if isDirectory(path) { return }
        let parent = DiskLayout.folder(of: path)
        if parent != path, parent != ".", parent != "/" { try makeDirectories(parent) }
        if mkdir(path, 0o750) != 0 {
            if errno == EEXIST, isDirectory(path) { return }
            throw systemError("make folder", path)
        }
        try syncDirectory(parent)
    }

    package func syncDirectory(_ path: String) throws(ObsError) {
        let file = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard file >= 0 else { throw systemError("open folder", path) }
        defer { Glibc.close(file) }
        if fsync(file) != 0 { throw systemError("sync folder", path) }
    }

    package func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    package func size(_ path: String) throws(ObsError) -> Int {
        var status = stat()
        if stat(path, &status) != 0 { throw systemError("read the size of", path) }
        return Int(status.st_size)
    }

    package func truncate(_ path: String, to size: Int) throws(ObsError) {
        let file = Glibc.open(path, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { throw systemError("open", path) }
        defer { Glibc.close(file) }
        if ftruncate(file, off_t(size)) != 0 { throw systemError("truncate", path) }
        if fsync(file) != 0 { throw systemError("sync", path) }
    }

    package func hardLink(_ from: String, to: String) throws(ObsError) {
        if link(from, to) != 0 { throw systemError("link to \(to) the file", from) }
    }

    package func freeBytes(_ path: String) throws(ObsError) -> Int64 {
        var status = statvfs()
        if statvfs(path, &status) != 0 { throw systemError("read free space of", path) }
        return Int64(clamping: UInt64(status.f_bavail) &* UInt64(status.f_frsize))
    }

    package func totalBytes(_ path: String) throws(ObsError) -> Int64 {
        var status = statvfs()
        if statvfs(path, &status) != 0 { throw systemError("read size of the file system of", path) }
        return Int64(clamping: UInt64(status.f_blocks) &* UInt64(status.f_frsize))
    }

    package func lock(_ path: String) throws(ObsError) -> any FileLock { try LocalFileLock(path) }
}

/// Read by pread: no shared position, no mapping, an I/O error is an error.
final class LocalReadableFile: ReadableFile {
    let path: String
    let size: Int
    private let descriptor: Int32

    init(_ path: String) throws(ObsError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemError("open", path) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            Glibc.close(descriptor)
            throw systemError("open as a file", path, errno: EISDIR)
        }
        self.path = path
        self.descriptor = descriptor
        size = Int(status.st_size)
    }

    deinit { Glibc.close(descriptor) }

    func read(at offset: Int, count: Int) throws(ObsError) -> [UInt8] {
        // A length from damaged bytes must not become an allocation: what lies past the end is known before.
        guard offset >= 0, count >= 0, offset <= size, count <= size - offset else { throw shortFile(offset) }
        var failure: ObsError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(ObsError) {
                try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer))
                filled = count
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ObsError) {
        guard let base = buffer.baseAddress else { return }
        guard offset >= 0 else { throw shortFile(offset) }
        var done = 0
        while done < buffer.count {
            let got = pread(descriptor, base + done, buffer.count - done, off_t(offset + done))
            if got > 0 {
                done += got
            } else if got == 0 {
                throw shortFile(offset + done)
            } else if errno != EINTR {
                throw systemError("read", path, place: "\(path):\(offset + done)")
            }
        }
    }

    private func shortFile(_ offset: Int) -> ObsError {
        ObsError(.corrupt, "file ends early, it has \(size) bytes", place: "\(path):\(offset)")
    }
}

final class LocalWritableFile: WritableFile, @unchecked Sendable {  // one caller at a time, see WritableFile
    let path: String
    private(set) var size = 0
    private var descriptor: Int32

    init(_ path: String) throws(ObsError) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw systemError("create", path) }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

    func append(_ bytes: UnsafeRawBufferPointer) throws(ObsError) {
        guard let base = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            let wrote = write(descriptor, base + done, bytes.count - done)
            if wrote >= 0 {
                done += wrote
                size += wrote
            } else if errno != EINTR {
                throw systemError("write", path)
            }
        }
    }

    func sync() throws(ObsError) {
        if fdatasync(descriptor) != 0 { throw systemError("sync", path) }
    }

    func close() throws(ObsError) {
        guard descriptor >= 0 else { return }
        let status = Glibc.close(descriptor)
        descriptor = -1
        if status != 0, errno != EINTR { throw systemError("close", path) }
    }
}

final class LocalFileLock: FileLock, @unchecked Sendable {  // released once, by its owner
    private var descriptor: Int32

    init(_ path: String) throws(ObsError) {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw systemError("open", path) }
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            Glibc.close(descriptor)
            if code == EWOULDBLOCK { throw ObsError(.unavailable, "\(path) is locked by another process; stop the obsd that uses this data folder") }
            throw systemError("lock", path, errno: code)
        }
        self.descriptor = descriptor
    }

    deinit { release() }

    func release() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }
}
