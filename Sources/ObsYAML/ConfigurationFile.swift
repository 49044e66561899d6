// Files that people write: read whole, bounded, found by globs, watched by their stamps.
internal import Glibc
package import ObsCore

package enum ConfigurationFile {
    /// The bytes of a file.
    /// - Throws: `.badInput` with the system's reason, `.tooLarge`.
    package static func read(_ path: String, bytesMax: Int = 64 << 20) throws(ObsError) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure("read", path) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(file, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("read", path)
            }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= bytesMax else { throw ObsError(.tooLarge, "\(quoted(path)) is larger than \(bytesMax) bytes") }
        }
    }

    private static func failure(_ verb: String, _ path: String) -> ObsError {
        ObsError(.badInput, "cannot \(verb) \(quoted(path)): \(String(cString: strerror(errno)))")
    }

    /// Paths a shell pattern matches, sorted; the pattern itself when it holds no wildcard and nothing matches, so that reading it names what is missing.
    package static func paths(matching pattern: String) -> [String] {
        var result = glob_t()
        defer { globfree(&result) }
        guard glob(pattern, 0, nil, &result) == 0, let paths = result.gl_pathv else {
            return pattern.contains { "*?[".contains($0) } ? [] : [pattern]
        }
        return (0..<Int(result.gl_pathc)).compactMap { index in paths[index].map { String(cString: $0) } }
    }

    /// What changes when a file's content is replaced: inode, size and time of change. Nil when there is no such file.
    package static func stamp(_ path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return "\(status.st_ino) \(status.st_size) \(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
    }

    /// A path as written in a file of `directory`.
    package static func resolve(_ path: String, in directory: String) -> String {
        path.hasPrefix("/") || directory.isEmpty || directory == "." ? path : "\(directory)/\(path)"
    }
}
