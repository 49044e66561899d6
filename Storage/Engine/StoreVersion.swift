internal import ObsCore
internal import ObsDisk

/// The file VERSION: which format the store has, and its secret.
///
/// ```
/// obs store 1
/// secret 0123456789abcdef
/// ```
struct StoreVersion {
    private static let format = 1
    /// Keys the hashes by which label sets are told apart, so that nobody outside can craft two that collide.
    var secret: UInt64

    /// Reads the file, making it for a new store.
    static func load(_ fileSystem: any FileSystem, _ layout: DiskLayout) throws(ObsError) -> StoreVersion {
        guard fileSystem.exists(layout.version) else {
            let version = StoreVersion(secret: .random(in: .min ... .max))
            try fileSystem.writeAtomically(layout.version, [UInt8]("obs store \(format)\nsecret \(hexString(version.secret))\n".utf8))
            return version
        }
        let lines = String(decoding: try fileSystem.readAll(layout.version), as: UTF8.self).split(separator: "\n")
        guard let first = lines.first, first.hasPrefix("obs store "), let format = Int(first.dropFirst(10)) else {
            throw ObsError(.corrupt, "not the version file of a store", place: "\(layout.version):0")
        }
        guard format <= Self.format else {
            throw newerFormat("store format", format, known: Self.format, place: "\(layout.version):0")
        }
        guard let line = lines.first(where: { $0.hasPrefix("secret ") }), let secret = UInt64(line.dropFirst(7), radix: 16) else {
            throw ObsError(.corrupt, "the version file holds no secret", place: "\(layout.version):0")
        }
        // The start that made it may have ended before its name was durable.
        try fileSystem.syncDirectory(DiskLayout.folder(of: layout.version))
        return StoreVersion(secret: secret)
    }
}
