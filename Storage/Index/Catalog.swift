// Which segments there are, so that a start need not open them all.
//
// The catalogue is never the truth. Whatever is wrong with its file (not a database, another schema, cut short) it is thrown away, and the engine fills it again
// from the segments' footers; a row whose file is gone and a file without a row are found by comparing with the folder listing at start.

package import ObsCore
internal import CSQLite
internal import Glibc

/// A segment as the catalogue knows it. The engine translates from and to the segment's footer.
package struct CatalogRow: Sendable, Equatable {
    /// Relative to the data folder.
    package var path: String
    package var id: String
    package var tenant: String
    package var signal: Signal
    package var level: Int
    package var day: Int
    package var minTime: Int64
    package var maxTime: Int64
    package var rows: Int64
    package var bytes: Int64
    package var checksum: UInt64
    /// Log ranges covered, first and last inclusive.
    package var walRanges: [ClosedRange<UInt64>]
    package var names: [String]
    package var services: [String]

    package init(
        path: String, id: String, tenant: String, signal: Signal, level: Int, day: Int, minTime: Int64, maxTime: Int64, rows: Int64, bytes: Int64,
        checksum: UInt64, walRanges: [ClosedRange<UInt64>], names: [String], services: [String]
    ) {
        self.path = path
        self.id = id
        self.tenant = tenant
        self.signal = signal
        self.level = level
        self.day = day
        self.minTime = minTime
        self.maxTime = maxTime
        self.rows = rows
        self.bytes = bytes
        self.checksum = checksum
        self.walRanges = walRanges
        self.names = names
        self.services = services
    }
}

package final class Catalog: @unchecked Sendable {  // the connection is used under `lock` only
    private let connection: SQLiteConnection
    private let lock = Monitor(0)

    /// Opens the catalogue file, making it when it is not there. One that cannot be read or written is removed and made anew, empty; in memory where the disk
    /// takes none.
    package static func open(_ path: String) throws(ObsError) -> Catalog {
        // The companions of a file someone deleted would be taken for news about its successor.
        if access(path, F_OK) != 0 { remove(path) }
        do throws(ObsError) { return try Catalog(path) } catch {
            DiagnosticLog.warn("catalogue unreadable, made again from the segments", [("error", error.description)])
            remove(path)
        }
        do throws(ObsError) { return try Catalog(path) } catch {
            DiagnosticLog.warn("catalogue cannot be written, kept in memory; the next start reads all footers", [("error", error.description)])
            return try Catalog(":memory:")
        }
    }

    /// The rows of the file as it is; changes nothing and makes nothing.
    /// - Throws: `.notFound` without a file, `.corrupt` for one that cannot be read or is of another schema.
    package static func inspect(_ path: String) throws(ObsError) -> [CatalogRow] {
        guard access(path, F_OK) == 0 else { throw ObsError(.notFound, "there is no catalogue", place: path) }
        return try Catalog(inspecting: path).rows()
    }

    private init(inspecting path: String) throws(ObsError) {
        connection = try SQLiteConnection(path, readOnly: true)
        try check(path)
    }

    /// Deletes the catalogue's files.
    package static func remove(_ path: String) {
        for suffix in ["", "-wal", "-shm", "-journal"] { unlink(path + suffix) }
    }

    private init(_ path: String) throws(ObsError) {
        connection = try SQLiteConnection(path)
        // WAL mode: one write per commit. NORMAL: a power cut may lose the last rows, which the next start finds by listing.
        try connection.execute("PRAGMA journal_mode = WAL")
        try connection.execute("PRAGMA synchronous = NORMAL")
        if try schemaVersion() == 0 { try connection.execute("BEGIN; " + CatalogSchema.statements + " COMMIT;") }
        try check(path)
    }

    private func schemaVersion() throws(ObsError) -> Int64 {
        var version: Int64 = 0
        try connection.run("PRAGMA user_version") { version = $0.integer(0) }
        return version
    }

    private func check(_ path: String) throws(ObsError) {
        let version = try schemaVersion()
        if version != CatalogSchema.version {
            throw ObsError(.corrupt, "catalogue has schema version \(version), this program knows \(CatalogSchema.version)", place: path)
        }
        var state = ""
        try connection.run("PRAGMA quick_check(1)") { state = $0.text(0) }
        if state != "ok" { throw ObsError(.corrupt, "catalogue fails its check: \(state)", place: path) }
    }

    /// All rows, in path order.
    package func rows() throws(ObsError) -> [CatalogRow] {
        try locked { () throws(ObsError) in
            var found: [CatalogRow] = []
            try connection.run(
                """
                SELECT path, id, tenant, signal, level, day, min_time, max_time, rows, bytes, checksum, wal, names, services FROM segments ORDER BY path
                """
            ) { (row) throws(ObsError) in
                guard let signal = Signal(rawValue: row.text(3)), let ranges = parseRanges(row.text(11)), let names = parseNames(row.text(12)),
                    let services = parseNames(row.text(13))
                else { throw ObsError(.corrupt, "catalogue row of \(row.text(0)) cannot be read") }
                found.append(
                    CatalogRow(
                        path: row.text(0), id: row.text(1), tenant: row.text(2), signal: signal, level: Int(row.integer(4)), day: Int(row.integer(5)),
                        minTime: row.integer(6), maxTime: row.integer(7), rows: row.integer(8), bytes: row.integer(9),
                        checksum: UInt64(bitPattern: row.integer(10)), walRanges: ranges, names: names, services: services))
            }
            return found
        }
    }

    /// All rows; none, and the catalogue emptied, when one of them cannot be read.
    package func readableRows() -> [CatalogRow] {
        do throws(ObsError) { return try rows() } catch {
            DiagnosticLog.warn("catalogue unreadable, made again from the segments", [("error", error.description)])
            try? locked { () throws(ObsError) in try connection.execute("DELETE FROM segments") }
            return []
        }
    }

    /// As `replace`. A failure is logged: what the catalogue misses, the next start finds.
    package func tell(removing paths: [String] = [], adding rows: [CatalogRow] = []) {
        do throws(ObsError) { try replace(removing: paths, adding: rows) } catch {
            DiagnosticLog.warn("catalogue not told of segments", [("error", error.description)])
        }
    }

    /// Takes rows away and puts rows in, all or nothing.
    package func replace(removing paths: [String] = [], adding rows: [CatalogRow] = []) throws(ObsError) {
        try locked { () throws(ObsError) in
            try connection.transaction { () throws(ObsError) in
                for path in paths { try connection.run("DELETE FROM segments WHERE path = ?", [.text(path)]) }
                for row in rows { try insert(row) }
            }
        }
    }

    private func insert(_ row: CatalogRow) throws(ObsError) {
        try connection.run(
            """
            INSERT OR REPLACE INTO segments (path, id, tenant, signal, level, day, min_time, max_time, rows, bytes, checksum, wal, names, services)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                .text(row.path), .text(row.id), .text(row.tenant), .text(row.signal.rawValue), .integer(Int64(row.level)), .integer(Int64(row.day)),
                .integer(row.minTime), .integer(row.maxTime), .integer(row.rows), .integer(row.bytes), .integer(Int64(bitPattern: row.checksum)),
                .text(row.walRanges.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")), .text(nameList(row.names)),
                .text(nameList(row.services)),
            ])
    }

    private func locked<R>(_ body: () throws(ObsError) -> R) throws(ObsError) -> R {
        let result: Result<R, ObsError> = lock.read { _ in
            do throws(ObsError) { return .success(try body()) } catch { return .failure(error) }
        }
        return try result.get()
    }
}

private func parseRanges(_ text: String) -> [ClosedRange<UInt64>]? {
    var ranges: [ClosedRange<UInt64>] = []
    for part in text.split(separator: ",") {
        let ends = part.split(separator: "-").compactMap { UInt64($0) }
        guard ends.count == 2, ends[0] <= ends[1] else { return nil }
        ranges.append(ends[0]...ends[1])
    }
    return ranges
}

/// Names as a JSON array, for people with a `sqlite3` at hand; quotes, backslashes and control characters escaped.
private func nameList(_ names: [String]) -> String {
    var text = "["
    for (index, name) in names.enumerated() {
        text += index == 0 ? "\"" : ",\""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "\"", "\\": text += "\\\(scalar)"
            case _ where scalar.value < 0x20: text += "\\u00" + hexString([UInt8(scalar.value)])
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
    return text + "]"
}

/// The way back from `nameList`; nil for anything it did not write.
private func parseNames(_ text: String) -> [String]? {
    let bytes = [UInt8](text.utf8)
    guard bytes.count >= 2, bytes.first == UInt8(ascii: "["), bytes.last == UInt8(ascii: "]") else { return nil }
    var names: [String] = []
    var at = 1
    while at < bytes.count - 1 {
        if !names.isEmpty {
            guard bytes[at] == UInt8(ascii: ",") else { return nil }
            at += 1
        }
        guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { return nil }
        at += 1
        var name: [UInt8] = []
        while true {
            guard at < bytes.count else { return nil }
            let byte = bytes[at]
            at += 1
            if byte == UInt8(ascii: "\"") { break }
            guard byte == UInt8(ascii: "\\") else {
                name.append(byte)
                continue
            }
            guard at < bytes.count else { return nil }
            if bytes[at] == UInt8(ascii: "u") {
                guard at + 4 < bytes.count, let high = hexValue(bytes[at + 3]), let low = hexValue(bytes[at + 4]) else { return nil }
                name.append(high << 4 | low)
                at += 5
            } else {
                name.append(bytes[at])
                at += 1
            }
        }
        names.append(String(decoding: name, as: UTF8.self))
    }
    return names
}
