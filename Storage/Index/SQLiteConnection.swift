internal import CSQLite
internal import Glibc
internal import ObsCore

/// One SQLite database, open. One thread at a time.
final class SQLiteConnection {
    private let handle: OpaquePointer
    private let path: String
    private var prepared: [String: OpaquePointer] = [:]

    init(_ path: String, readOnly: Bool = false) throws(ObsError) {
        var opened: OpaquePointer?
        let access = readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
        let status = sqlite3_open_v2(path, &opened, access | SQLITE_OPEN_NOMUTEX, nil)
        guard status == SQLITE_OK, let opened else {
            sqlite3_close_v2(opened)
            throw ObsError(.internalError, "cannot open \(path): \(String(cString: sqlite3_errstr(status)))")
        }
        // A file without write permission is opened for reading without a word.
        guard readOnly || sqlite3_db_readonly(opened, "main") != 1 else {
            sqlite3_close_v2(opened)
            throw ObsError(.unavailable, "\(path) cannot be written")
        }
        handle = opened
        self.path = path
        sqlite3_busy_timeout(handle, 5000)
    }

    deinit {
        for statement in prepared.values { sqlite3_finalize(statement) }
        sqlite3_close_v2(handle)
    }

    /// Runs statements that take and give nothing.
    func execute(_ sql: String) throws(ObsError) { try check(sqlite3_exec(handle, sql, nil, nil, nil)) }

    /// Runs all of `body` or nothing.
    func transaction(_ body: () throws(ObsError) -> Void) throws(ObsError) {
        try execute("BEGIN IMMEDIATE")
        do throws(ObsError) {
            try body()
            try execute("COMMIT")
        } catch {
            try? execute("ROLLBACK")
            throw error
        }
    }

    /// Runs a prepared statement, kept for the next time, once per result row.
    func run(_ sql: String, _ arguments: [SQLiteValue] = [], row: (SQLiteRow) throws(ObsError) -> Void = { _ in }) throws(ObsError) {
        let statement = try prepare(sql)
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, argument) in arguments.enumerated() { try bind(statement, Int32(index + 1), argument) }
        while true {
            switch sqlite3_step(statement) {
            case SQLITE_ROW: try row(SQLiteRow(statement: statement))
            case SQLITE_DONE: return
            case let status: try check(status)
            }
        }
    }

    private func prepare(_ sql: String) throws(ObsError) -> OpaquePointer {
        if let statement = prepared[sql] { return statement }
        var statement: OpaquePointer?
        try check(sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil))
        guard let statement else { throw ObsError(.internalError, "empty statement on \(path)") }
        prepared[sql] = statement
        return statement
    }

    private func bind(_ statement: OpaquePointer, _ index: Int32, _ value: SQLiteValue) throws(ObsError) {
        switch value {
        case .integer(let number): try check(sqlite3_bind_int64(statement, index, number))
        case .text(let text):
            // SQLITE_TRANSIENT: SQLite copies the bytes.
            try check(sqlite3_bind_text(statement, index, text, Int32(text.utf8.count), unsafeBitCast(-1, to: sqlite3_destructor_type.self)))
        }
    }

    private func check(_ status: Int32) throws(ObsError) {
        guard status != SQLITE_OK else { return }
        let message = "\(path): \(String(cString: sqlite3_errmsg(handle)))"
        switch status & 0xff {
        case SQLITE_CORRUPT, SQLITE_NOTADB: throw ObsError(.corrupt, message, place: path)
        case SQLITE_FULL: throw ObsError(.overloaded, message)
        default: throw ObsError(.internalError, message)
        }
    }
}

enum SQLiteValue {
    case integer(Int64)
    case text(String)
}

/// The present row of a running statement; valid until the statement goes on.
struct SQLiteRow {
    fileprivate let statement: OpaquePointer

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }

    func text(_ column: Int32) -> String {
        guard let bytes = sqlite3_column_text(statement, column) else { return "" }
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: Int(sqlite3_column_bytes(statement, column))), as: UTF8.self)
    }
}
