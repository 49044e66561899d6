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
        var isDropped = false
        var isQuarantined = false
    }
    private let state = Monitor(State())

    init(info: SegmentInfo, path: String, fileSystem: any FileSystem) {
        self.info = info
        self.path = path
        self.fileSystem = fileSystem
    }

    deinit {
        guard state.read({ $0.isDropped }) else { return }
        do throws(ObsError) { try fileSystem.remove(path) } catch {
            DiagnosticLog.error("cannot remove a dropped segment; it comes back at the next start and is dropped again", [("error", error.description)])
        }
    }

    /// The file goes when nobody reads it any more.
    func drop() { state.read { $0.isDropped = true } }

    /// Opens the segment at first use and keeps it open until `close`.
    func reader(_ open: (any FileSystem, String) throws(ObsError) -> Reader) throws(ObsError) -> Reader {
        var failure: ObsError?
        let reader: Reader? = state.read { state in
            if let reader = state.reader { return reader }
            do throws(ObsError) { state.reader = try open(fileSystem, path) } catch { failure = error }
            return state.reader
        }
        guard let reader else { throw failure ?? ObsError(.internalError, "segment \(path) did not open") }
        return reader
    }

    var isOpen: Bool { state.read { $0.reader != nil } }

    /// Gives the file descriptor back; the next reader opens the segment again.
    func close() { state.read { $0.reader = nil } }

    func overlaps(_ range: ClosedRange<Int64>) -> Bool { info.minTime <= range.upperBound && info.maxTime >= range.lowerBound }
}
