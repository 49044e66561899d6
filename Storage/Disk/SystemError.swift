internal import Glibc
internal import ObsCore

/// The one place where errno becomes words.
///
/// - Parameters:
///   - action: what was tried, as in "cannot <action> <path>".
///   - place: `path:offset` where one is known.
func systemError(_ action: String, _ path: String, place: String? = nil, errno code: Int32 = errno) -> ObsError {
    let what = "cannot \(action) \(path): \(errnoText(code))"
    switch code {
    case ENOSPC, EDQUOT: return ObsError(.overloaded, what + "; free disk space or lower the retention", retryAfterSeconds: 30)
    case ENOENT: return ObsError(.notFound, what)
    case EMFILE, ENFILE: return ObsError(.overloaded, what + "; raise the limit of open files (LimitNOFILE, ulimit -n)", retryAfterSeconds: 5)
    case EACCES, EPERM, EROFS: return ObsError(.unavailable, what + "; obsd must be able to write its data folder")
    default: return ObsError(.internalError, what, place: place)
    }
}

private func errnoText(_ code: Int32) -> String {
    switch code {
    case ENOSPC: return "no space left on device"
    case EDQUOT: return "disk quota exceeded"
    case ENOENT: return "no such file or directory"
    case EACCES: return "permission denied"
    case EIO: return "input/output error"
    case EROFS: return "read-only file system"
    case EXDEV: return "files lie on different file systems"
    default:
        guard let text = strerror(code) else { return "error \(code)" }
        return String(cString: text).lowercased() + " (errno \(code))"
    }
}
