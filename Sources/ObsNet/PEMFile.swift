internal import CSystem
internal import Synchronization

/// Certificates and keys that were given as text, under a path that libcurl can read. A text keeps its path as long as the process lives: connections are
/// reused only between requests that name the same files.
enum PEMFile {
    private static let paths = Mutex<[String: String]>([:])

    /// Nil when the system gives no file.
    static func path(of text: String) -> String? {
        paths.withLock { paths in
            if let known = paths[text] { return known }
            let file = [UInt8](text.utf8).withUnsafeBytes { obs_memory_file($0.baseAddress, $0.count) }
            guard file >= 0 else { return nil }
            paths[text] = "/proc/self/fd/\(file)"
            return paths[text]
        }
    }
}
