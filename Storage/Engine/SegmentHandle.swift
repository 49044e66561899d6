internal import ObsCore
internal import ObsDisk
internal import ObsSegment

/// One segment of the store. Whoever reads it holds the handle; a segment that retention or a merge dropped is unlinked when the last holder lets go.
final class SegmentHandle<Reader: AnyObject & Sendable>: Sendable {
    let info: SegmentInfo
    let path: String
    private let fileSystem: any FileSystem
    private struct State {
        var reader: Reader?
        var isUnlinked = false
        /// Called when the file is gone; nil unless dropped.
        var removed: (@Sendable () -> Void)?
    }
    private let state = Monitor(State())
    private let open: @Sendable (any FileSystem, String) throws(ObsError) -> Reader
    /// Told when the segment turns out to be damaged, and whether it opens all the same.
    private let damaged: @Sendable (ObsError, _ opens: Bool) -> Void

    init(
        info: SegmentInfo, path: String, fileSystem: any FileSystem, open: @escaping @Sendable (any FileSystem, String) throws(ObsError) -> Reader,
        damaged: @escaping @Sendable (ObsError, _ opens: Bool) -> Void
    ) {
        self.info = info
        self.path = path
        self.fileSystem = fileSystem
        self.open = open
        self.damaged = damaged
    }

    deinit {
        guard let removed = state.read({ $0.removed }) else { return }
        defer { removed() }
        do throws(ObsError) {
            try fileSystem.remove(path)
            // The last segment of a day takes the folder with it; a folder that is not empty stays.
            try? fileSystem.removeDirectory(DiskLayout.folder(of: path))
        } catch {
            DiagnosticLog.error("cannot remove a dropped segment; it comes back at the next start and is dropped again", [("error", error.description)])
        }
    }

    /// The file goes when nobody reads it any more; `removed` is called then.
    func drop(removed: @escaping @Sendable () -> Void = {}) { state.read { $0.removed = removed } }

    /// Removes the file now; who holds the handle reads on through the open file.
    func unlink() throws(ObsError) {
        let result: Result<Void, ObsError> = state.read { state in
            if state.reader == nil { state.reader = try? open(fileSystem, path) }
            state.isUnlinked = true
            do throws(ObsError) { return .success(try fileSystem.remove(path)) } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Opens the segment at first use and keeps it open until `close`.
    func reader() throws(ObsError) -> Reader {
        let result: Result<Reader, ObsError> = state.read { state in
            if let reader = state.reader { return .success(reader) }
            do throws(ObsError) {
                let reader = try open(fileSystem, path)
                state.reader = reader
                return .success(reader)
            } catch { return .failure(error) }
        }
        do throws(ObsError) { return try result.get() } catch {
            if error.code == .corrupt { damaged(error, false) }
            throw Self.hinted(error)
        }
    }

    /// Runs a read of the open segment. Damage it meets fails it, and is reported so that the segment gets salvaged.
    func reading<R>(_ body: () throws(ObsError) -> R) throws(ObsError) -> R {
        do throws(ObsError) { return try body() } catch {
            if error.code == .corrupt { damaged(error, true) }
            throw Self.hinted(error)
        }
    }

    /// What there is to do about damage, said to whoever asked.
    private static func hinted(_ error: ObsError) -> ObsError {
        guard error.code == .corrupt else { return error }
        var error = error
        error.message += "; what can be read of the segment is saved within seconds, `obsd fsck --repair` does the same to a stopped store"
        return error
    }

    var isOpen: Bool { state.read { $0.reader != nil } }

    /// Gives the file descriptor back; the next reader opens the segment again.
    func close() { state.read { if !$0.isUnlinked { $0.reader = nil } } }

    func overlaps(_ range: ClosedRange<Int64>) -> Bool { info.minTime <= range.upperBound && info.maxTime >= range.lowerBound }

    var firstSequence: UInt64 { info.firstSequence }
}
