// What a record may be is a setting, and settings change between runs. A log record names the epoch whose bounds decided about its rows, so that replay decides
// the same whatever the bounds are now: nothing acknowledged is refused later, nothing refused comes up.
//
// The file `wal/epochs` has a line for each epoch that log files may name. It is on disk before the first record of its newest epoch.

internal import ObsCore
internal import ObsDisk
internal import ObsHash
internal import ObsWAL

struct Epochs: Sendable {
    /// The bounds that decide whether a row is taken. Bounds on whole requests are none of them: a request over one was never logged.
    struct Bounds: Sendable, Equatable {
        var labels: Int
        var labelNameBytes: Int
        var labelValueBytes: Int
        var lineBytes: Int
        var nesting: Int

        init(_ limits: Limits) {
            labels = limits.labelsMax
            labelNameBytes = limits.labelNameBytesMax
            labelValueBytes = limits.labelValueBytesMax
            lineBytes = limits.lineBytesMax
            nesting = limits.nestingMax
        }
    }

    private static let version = 1
    private static let title = "obs epochs "
    private var known: [UInt32: Bounds] = [:]
    private let present: Limits
    /// What records written now name; never 0.
    private(set) var current: UInt32 = 1
    /// Whether the file could not be read and was set aside.
    private(set) var wasDamaged = false

    /// Reads the file and enters the present limits when the newest epoch has others. Lines no log file can name any more are left out then.
    static func load(_ fileSystem: any FileSystem, _ layout: DiskLayout, _ present: Limits, nowSeconds seconds: Int64) throws(ObsError) -> Epochs {
        var epochs = Epochs(present: present)
        if fileSystem.exists(layout.epochs) {
            if let read = try parse(try fileSystem.readAll(layout.epochs), layout.epochs) {
                epochs.known = read
            } else {
                try epochs.setAside(fileSystem, layout)
                // Numbers that records may name must not be given again: past all that counting up by one can have reached.
                epochs.current = UInt32(clamping: max(1, seconds))
            }
        }
        let newest = epochs.known.keys.max()
        if let newest, epochs.known[newest] == Bounds(present) {
            epochs.current = newest
            // An earlier start may have renamed the file and failed before that was durable; records will count on it.
            try fileSystem.syncDirectory(layout.walRoot)
            return epochs
        }
        if let newest { epochs.current = newest == .max ? 1 : newest + 1 }
        if try isLogEmpty(fileSystem, layout) { epochs.known = [:] }
        epochs.known[epochs.current] = Bounds(present)
        try fileSystem.makeDirectories(layout.walRoot)
        try fileSystem.writeAtomically(layout.epochs, epochs.text)
        return epochs
    }

    /// What the file says of a store that only is looked at; nothing is written. A damaged file knows no epoch.
    static func inspect(_ fileSystem: any FileSystem, _ layout: DiskLayout) throws(ObsError) -> Epochs {
        var epochs = Epochs(present: Limits())
        epochs.current = 0
        guard fileSystem.exists(layout.epochs) else { return epochs }
        if let read = try parse(try fileSystem.readAll(layout.epochs), layout.epochs) { epochs.known = read } else { epochs.wasDamaged = true }
        return epochs
    }

    private init(present: Limits) { self.present = present }

    /// The limits a record was decided by; those of the present when its epoch is not known (0: written by a program without epochs).
    func limits(of epoch: UInt32) -> Limits {
        guard epoch != current, let bounds = known[epoch] else { return present }
        var limits = present
        limits.labelsMax = bounds.labels
        limits.labelNameBytesMax = bounds.labelNameBytes
        limits.labelValueBytesMax = bounds.labelValueBytes
        limits.lineBytesMax = bounds.lineBytes
        limits.nestingMax = bounds.nesting
        return limits
    }

    private mutating func setAside(_ fileSystem: any FileSystem, _ layout: DiskLayout) throws(ObsError) {
        wasDamaged = true
        DiagnosticLog.error("file of configuration epochs is damaged and set aside; the log is replayed by the present limits", [("path", layout.epochs)])
        try fileSystem.makeDirectories(layout.quarantine)
        try fileSystem.rename(layout.epochs, to: layout.quarantined(layout.epochs))
    }

    private static func isLogEmpty(_ fileSystem: any FileSystem, _ layout: DiskLayout) throws(ObsError) -> Bool {
        for signal in Signal.allCases {
            for file in try WALFile.list(fileSystem, layout, signal) where try fileSystem.size(file.path) > WALFormat.headerBytes { return false }
        }
        return true
    }

    // MARK: The file

    private var text: [UInt8] {
        var lines = "\(Self.title)\(Self.version)\n"
        for (number, bounds) in known.sorted(by: { $0.key < $1.key }) {
            lines += "\(number) \(bounds.labels) \(bounds.labelNameBytes) \(bounds.labelValueBytes) \(bounds.lineBytes) \(bounds.nesting)\n"
        }
        return [UInt8]("\(lines)checksum \(Self.checksum(lines))\n".utf8)
    }

    private static func checksum(_ lines: String) -> String { hexString([UInt8](lines.utf8).withUnsafeBytes { hash64($0) }) }

    /// Nil for a damaged file.
    /// - Throws: `.unprocessable` for a whole one of a newer version.
    private static func parse(_ bytes: [UInt8], _ path: String) throws(ObsError) -> [UInt32: Bounds]? {
        let text = String(decoding: bytes, as: UTF8.self)
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard text.hasSuffix("\n"), lines.popLast() == "", let last = lines.popLast(), let first = lines.first, first.hasPrefix(title) else { return nil }
        guard last == "checksum \(checksum(lines.joined(separator: "\n") + "\n"))", let version = Int(first.dropFirst(title.count)) else { return nil }
        guard version <= Self.version else { throw newerFormat("epochs format", version, known: Self.version, place: "\(path):0") }
        var known: [UInt32: Bounds] = [:]
        for line in lines.dropFirst() {
            let numbers = line.split(separator: " ").compactMap { Int($0) }
            guard numbers.count == 6, let number = UInt32(exactly: numbers[0]) else { return nil }
            var bounds = Bounds(Limits())
            (bounds.labels, bounds.labelNameBytes, bounds.labelValueBytes, bounds.lineBytes, bounds.nesting) = (
                numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
            )
            known[number] = bounds
        }
        return known.isEmpty ? nil : known
    }
}
