internal import Glibc

/// How much memory there is for us: the container's limit or the machine's size.
package enum SystemMemory {
    /// The default ceiling: 60 % of what there is, the rest being the page cache's, which reads live on, and of others. At most 4 GiB: that is enough for what one
    /// process takes in, and a machine of 256 GiB has not been given to us whole. More is used when it is asked for.
    package static func defaultCeilingBytes(read: (String) -> String? = readSmallFile) -> Int {
        guard let available = availableBytes(read: read) else { return 1 << 30 }
        return max(MemoryShares.ceilingBytesMin, min(4 << 30, available / 10 * 6))
    }

    /// The least of the cgroup's limits and the machine's memory; nil when the system tells neither.
    package static func availableBytes(read: (String) -> String? = readSmallFile) -> Int? {
        [cgroupLimitBytes(read: read), read("/proc/meminfo").flatMap(totalBytes)].compactMap { $0 }.min()
    }

    /// The least limit of this process's cgroups and of those above them: version 2's `memory.max`, version 1's `memory.limit_in_bytes`.
    package static func cgroupLimitBytes(read: (String) -> String?) -> Int? {
        var limits: [Int] = []
        for line in (read("/proc/self/cgroup") ?? "").split(separator: "\n") {
            // hierarchy:controllers:path; version 2 is hierarchy 0 without controllers.
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            if fields[0] == "0", fields[1].isEmpty {
                for folder in folders(fields[2], under: "/sys/fs/cgroup") { limits += limit(read("\(folder)/memory.max")) }
            } else if fields[1].split(separator: ",").contains("memory") {
                for folder in folders(fields[2], under: "/sys/fs/cgroup/memory") { limits += limit(read("\(folder)/memory.limit_in_bytes")) }
            }
        }
        return limits.min()
    }

    /// A cgroup's folder and all above it. In a container the path may be one of outside: then only the root is there, and it is ours.
    private static func folders(_ path: Substring, under root: String) -> [String] {
        var folders = [root]
        for name in path.split(separator: "/") where name != ".." { folders.append("\(folders[folders.count - 1])/\(name)") }
        return folders
    }

    /// `max`, and version 1's page-rounded maximum of an Int, are no limits.
    private static func limit(_ text: String?) -> [Int] {
        guard let text, let bytes = Int(text.prefix { $0.isASCII && $0.isNumber }), bytes > 0, bytes < 1 << 60 else { return [] }
        return [bytes]
    }

    /// `MemTotal` of /proc/meminfo.
    private static func totalBytes(_ text: String) -> Int? {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemTotal:") }) else { return nil }
        let fields = line.split(separator: " ")
        guard fields.count > 1, let kibibytes = Int(fields[1]), kibibytes > 0, kibibytes < 1 << 50 else { return nil }
        return kibibytes << 10
    }

    /// A file of /proc or /sys, up to 64 KiB of it.
    package static func readSmallFile(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while text.count < 64 << 10 {
            let count = Glibc.read(file, &buffer, buffer.count)
            guard count > 0 else { break }
            text += buffer[..<count]
        }
        return String(decoding: text, as: UTF8.self)
    }
}
