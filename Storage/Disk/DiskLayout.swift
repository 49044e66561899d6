package import ObsCore

/// Every name the store gives to a file or folder, and the way back from names. Nobody else joins or takes apart a path.
///
/// ```
/// <root>/LOCK  VERSION
///        wal/epochs   wal/<signal>/<sequence, 16 hexadecimal digits>.wal
///        tenants/<tenant>/<signal>/<yyyy-mm-dd>/<segment id>.seg
///        index/catalog.sqlite   tombstones/<number, 16 hexadecimal digits>.del   snapshots/<name>/   state/   quarantine/
///        state/remote-write/<receiver>/<number, 16 hexadecimal digits>.queue   state/remote-write/<receiver>/removed
/// ```
package struct DiskLayout: Sendable {
    package let root: String

    /// What a file is called until it is complete; found at start, such files are removed.
    package static let temporarySuffix = ".tmp"
    package static let walSuffix = ".wal"
    package static let segmentSuffix = ".seg"
    package static let tombstoneSuffix = ".del"
    package static let queueSuffix = ".queue"

    package init(root: String) { self.root = root }

    package var lock: String { root + "/LOCK" }
    package var version: String { root + "/VERSION" }
    package var walRoot: String { root + "/wal" }
    /// Which limits decided which log records.
    package var epochs: String { walRoot + "/epochs" }
    package var tenantsRoot: String { root + "/tenants" }
    package var indexFolder: String { root + "/index" }
    package var catalog: String { indexFolder + "/catalog.sqlite" }
    package var tombstones: String { root + "/tombstones" }
    package var snapshots: String { root + "/snapshots" }
    package func snapshot(_ name: String) -> String { "\(snapshots)/\(name)" }
    package func tombstone(_ number: UInt64) -> String { "\(tombstones)/\(hexString(number))\(Self.tombstoneSuffix)" }
    package var state: String { root + "/state" }
    /// Queues of remote write, a folder each.
    package var remoteWriteRoot: String { state + "/remote-write" }
    package func remoteWrite(_ receiver: String) -> String { "\(remoteWriteRoot)/\(receiver)" }
    package var quarantine: String { root + "/quarantine" }

    package func walFolder(_ signal: Signal) -> String { "\(walRoot)/\(signal.rawValue)" }
    package func wal(_ signal: Signal, sequence: UInt64) -> String { "\(walFolder(signal))/\(hexString(sequence))\(Self.walSuffix)" }
    package func tenantFolder(_ tenant: TenantID) -> String { "\(tenantsRoot)/\(tenant.name)" }
    package func signalFolder(_ tenant: TenantID, _ signal: Signal) -> String { "\(tenantFolder(tenant))/\(signal.rawValue)" }

    /// - Parameter day: days since 1970-01-01, UTC.
    package func partition(_ tenant: TenantID, _ signal: Signal, day: Int) -> String { "\(signalFolder(tenant, signal))/\(dayName(day))" }

    package func segment(_ tenant: TenantID, _ signal: Signal, day: Int, id: String) -> String {
        "\(partition(tenant, signal, day: day))/\(id)\(Self.segmentSuffix)"
    }

    /// Where a damaged file goes; its place in the tree stays readable in the name.
    package func quarantined(_ path: String) -> String {
        let prefix = root + "/"
        let relative = path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : path
        return quarantine + "/" + String(decoding: relative.utf8.map { $0 == UInt8(ascii: "/") ? UInt8(ascii: "~") : $0 }, as: UTF8.self)
    }

    /// A file of a queue's folder, by the number of its first batch.
    package static func queueFile(_ folder: String, number: UInt64) -> String { "\(folder)/\(hexString(number))\(queueSuffix)" }
    /// Which batches of a queue are done with.
    package static func queueRemoved(_ folder: String) -> String { folder + "/removed" }

    /// Number of the first batch in a file of a queue; nil for any other name.
    package static func queueNumber(_ name: String) -> UInt64? {
        guard let digits = stem(name, queueSuffix), digits.utf8.count == 16, digits.utf8.allSatisfy({ hexValue($0) != nil }) else { return nil }
        return UInt64(digits, radix: 16)
    }

    /// Sequence number of a log file's name; nil for any other name.
    package static func walSequence(_ name: String) -> UInt64? {
        guard let digits = stem(name, walSuffix), digits.utf8.count == 16, digits.utf8.allSatisfy({ hexValue($0) != nil }) else { return nil }
        return UInt64(digits, radix: 16)
    }

    /// Number of a tombstone file's name; nil for any other name.
    package static func tombstoneNumber(_ name: String) -> UInt64? {
        guard let digits = stem(name, tombstoneSuffix), digits.utf8.count == 16, digits.utf8.allSatisfy({ hexValue($0) != nil }) else { return nil }
        return UInt64(digits, radix: 16)
    }

    /// Id of a segment file's name; nil for any other name.
    package static func segmentID(_ name: String) -> String? {
        guard let id = stem(name, segmentSuffix), !id.isEmpty else { return nil }
        return id
    }

    /// Days since the epoch of a partition folder's name; nil for any other name.
    package static func partitionDay(_ name: String) -> Int? {
        let before = name.hasPrefix("-")
        let parts = name.dropFirst(before ? 1 : 0).split(separator: "-", omittingEmptySubsequences: false).compactMap { Int($0) }
        guard parts.count == 3, (1...12).contains(parts[1]), (1...31).contains(parts[2]), (0...300_000_000).contains(parts[0]) else { return nil }
        let day = daysFromCivil(year: before ? -parts[0] : parts[0], month: parts[1], day: parts[2])
        return dayName(day) == name ? day : nil
    }

    package static func isTemporary(_ name: String) -> Bool { name.hasSuffix(temporarySuffix) }

    /// The folder a path lies in; `.` for a bare name.
    package static func folder(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    package static func name(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
        return String(path[path.utf8.index(after: slash)...])
    }

    private static func stem(_ name: String, _ suffix: String) -> String? {
        name.hasSuffix(suffix) ? String(name.dropLast(suffix.count)) : nil
    }
}
