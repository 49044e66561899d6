package import ObsCore

/// The seam under every file operation of the store: the daemon passes `LocalFileSystem`, a simulation one that loses, tears and fails.
///
/// Paths are absolute or relative to the working directory, `/` between parts. All errors are `ObsError`s made in SystemError.swift:
/// `.overloaded` for a full disk or quota, `.notFound` for what is not there, `.corrupt` for a file shorter than what must be in it, else `.internalError`;
/// the path is in the message. Calls may come from any thread.
package protocol FileSystem: Sendable {
    func open(_ path: String) throws(ObsError) -> any ReadableFile
    /// Creates the file, emptied if it was there, for appending. Its name survives a power cut only after `syncDirectory` of its folder.
    func create(_ path: String) throws(ObsError) -> any WritableFile
    /// Replaces `to` if it exists, in one step. Durable after `syncDirectory`.
    func rename(_ from: String, to: String) throws(ObsError)
    /// - Throws: `.notFound` when there is no such file.
    func remove(_ path: String) throws(ObsError)
    /// Removes an empty folder.
    func removeDirectory(_ path: String) throws(ObsError)
    /// Names in a folder, sorted, without `.` and `..`; empty for a folder that does not exist.
    func list(_ path: String) throws(ObsError) -> [String]
    /// Creates a folder and the folders it lies in; no error when it is there. Each new name is synced into its parent.
    func makeDirectories(_ path: String) throws(ObsError)
    /// Makes creations, renames and removals in the folder durable.
    func syncDirectory(_ path: String) throws(ObsError)
    func exists(_ path: String) -> Bool
    func isDirectory(_ path: String) -> Bool
    /// Bytes.
    func size(_ path: String) throws(ObsError) -> Int
    /// Cuts a file to `size` bytes and syncs it: how a torn log tail is taken off.
    func truncate(_ path: String, to size: Int) throws(ObsError)
    func hardLink(_ from: String, to: String) throws(ObsError)
    /// Bytes an unprivileged process may still write to the file system that holds `path`.
    func freeBytes(_ path: String) throws(ObsError) -> Int64
    /// Size of the file system that holds `path`.
    func totalBytes(_ path: String) throws(ObsError) -> Int64
    /// Takes the exclusive lock on a file, creating it; held until the returned value goes.
    /// - Throws: `.unavailable` when another process has it.
    func lock(_ path: String) throws(ObsError) -> any FileLock
}

/// A file open for reading. Safe from several threads at once: reads carry their offset. Closed when the last reference goes.
package protocol ReadableFile: AnyObject, Sendable {
    var path: String { get }
    /// Bytes when it was opened. Files of the store do not change after they can be opened (the newest log file excepted, it only grows).
    var size: Int { get }
    /// Exactly `count` bytes from `offset`.
    /// - Throws: `.corrupt` with place `path:offset` when the file ends before.
    func read(at offset: Int, count: Int) throws(ObsError) -> [UInt8]
    /// Fills `buffer` from `offset`; the form without an allocation.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(ObsError)
}

/// A file open for appending. One caller at a time. After an error its content is unknown: abandon it. Closed without a sync when the last reference goes.
package protocol WritableFile: AnyObject, Sendable {
    var path: String { get }
    /// Bytes appended so far.
    var size: Int { get }
    /// Appends all bytes, however many calls the system needs for that.
    func append(_ bytes: UnsafeRawBufferPointer) throws(ObsError)
    /// Returns when content and size are on the device (fdatasync). After a failed sync the page cache no longer tells the truth: never retry.
    func sync() throws(ObsError)
    /// No call may follow. Idempotent.
    func close() throws(ObsError)
}

extension WritableFile {
    package func append(_ bytes: [UInt8]) throws(ObsError) {
        var failure: ObsError?
        bytes.withUnsafeBytes { raw in
            do throws(ObsError) { try append(raw) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// An exclusive lock; released by `release()` or when the last reference goes.
package protocol FileLock: AnyObject, Sendable {
    func release()
}

extension FileSystem {
    /// A whole small file.
    package func readAll(_ path: String) throws(ObsError) -> [UInt8] {
        let file = try open(path)
        return try file.read(at: 0, count: file.size)
    }

    /// Puts a small file in place of what was there, all or nothing, durable on return: temporary name, sync, rename, folder sync.
    package func writeAtomically(_ path: String, _ bytes: [UInt8]) throws(ObsError) {
        let temporary = path + DiskLayout.temporarySuffix
        let file = try create(temporary)
        try file.append(bytes)
        try file.sync()
        try file.close()
        try rename(temporary, to: path)
        try syncDirectory(DiskLayout.folder(of: path))
    }
}
