// The same text as schema/sqlite/0001_catalog.sql, without its comments; CatalogTests compares the two.
enum CatalogSchema {
    static let version: Int64 = 1
    static let statements = """
        CREATE TABLE segments (
            path     TEXT PRIMARY KEY,
            id       TEXT NOT NULL,
            tenant   TEXT NOT NULL,
            signal   TEXT NOT NULL,
            level    INTEGER NOT NULL,
            day      INTEGER NOT NULL,
            min_time INTEGER NOT NULL,
            max_time INTEGER NOT NULL,
            rows     INTEGER NOT NULL,
            bytes    INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            wal      TEXT NOT NULL,
            names    TEXT NOT NULL,
            services TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX segments_by_time ON segments (tenant, signal, min_time, max_time);
        PRAGMA user_version = 1;
        """
}
