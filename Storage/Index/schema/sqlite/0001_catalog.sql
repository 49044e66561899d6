-- The catalogue: which segment can answer. Derived from the segments' footers; delete the file and it is made again.
-- Rows grow with segments, never with series, values or trace ids. Kept in step with CatalogSchema.swift, which is what the daemon runs.
CREATE TABLE segments (
    path     TEXT PRIMARY KEY,  -- relative to the data folder
    id       TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    signal   TEXT NOT NULL,     -- metrics, logs, traces
    level    INTEGER NOT NULL,
    day      INTEGER NOT NULL,  -- days since 1970-01-01 of min_time
    min_time INTEGER NOT NULL,  -- milliseconds for metrics, nanoseconds for logs and traces; inclusive
    max_time INTEGER NOT NULL,
    rows     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    checksum INTEGER NOT NULL,  -- XXH3 of the footer, its 64 bits as a signed number
    wal      TEXT NOT NULL,     -- log ranges covered: first-last,first-last
    names    TEXT NOT NULL,     -- JSON array: metric names
    services TEXT NOT NULL      -- JSON array: service names
) WITHOUT ROWID;
CREATE INDEX segments_by_time ON segments (tenant, signal, min_time, max_time);
PRAGMA user_version = 1;
