internal import Glibc
internal import ObsCore
internal import ObsStore

/// The daemon's figures about itself that are read when scraped: the process, under the names every exporter uses, and what the store holds.
enum ProcessMetrics {
    static func register(store: any StoreAdministration, build: String) {
        let startedSeconds = Double(SystemClock().nowNanos()) / 1e9
        SelfMetrics.gauge("process_start_time_seconds", help: "Start of the process, Unix time.") { startedSeconds }
        SelfMetrics.gauge("process_resident_memory_bytes", help: "Resident memory.") { residentBytes() }
        SelfMetrics.counter("process_cpu_seconds_total", help: "Processor time, user and system.") { processorSeconds() }
        SelfMetrics.gauge("obs_build_info", help: "The version, as a label.", labels: Labels([("version", build)])) { 1 }
        SelfMetrics.gauge("obs_quarantined_segments", help: "Files set aside because they were damaged.") { Double(store.status().quarantined) }
        for signal in Signal.allCases { register(signal, store) }
        for signal in [Signal.logs, .traces] { registerMergedRows(signal, store) }
    }

    private static func register(_ signal: Signal, _ store: any StoreAdministration) {
        let figures: [(String, String, @Sendable (StoreStatus.SignalStatus) -> Double)] = [
            ("obs_segments", "Segment files.", { Double($0.segments) }),
            ("obs_segment_bytes", "Bytes of segment files.", { Double($0.segmentBytes) }),
            ("obs_segment_rows", "Samples, lines or spans in segment files.", { Double($0.segmentRows) }),
            ("obs_head_rows", "Samples, lines or spans in memory.", { Double($0.headRows) }),
            ("obs_head_bytes", "Memory of what is not in segments yet.", { Double($0.headBytes) }),
            ("obs_wal_bytes", "Bytes of write-ahead logs.", { Double($0.walBytes) }),
            ("obs_pending_deletions", "Deletions of which something is on disk yet.", { Double($0.pendingDeletions) }),
        ]
        for (name, help, value) in figures {
            SelfMetrics.gauge(name, help: help, labels: Labels([("signal", signal.rawValue)])) {
                store.status().signals.first { $0.signal == signal }.map(value) ?? 0
            }
        }
        let counts: [(String, String, @Sendable (StoreStatus.SignalStatus) -> Double)] = [
            ("obs_flushed_bytes_total", "Bytes of segment files written from memory.", { Double($0.flushedBytes) }),
            ("obs_merged_bytes_total", "Bytes of segment files written by merging others.", { Double($0.mergedBytes) }),
            ("obs_merges_total", "Merges of segment files.", { Double($0.merges) }),
            ("obs_merge_cpu_seconds_total", "Processor time of merges.", { Double($0.mergeNanos) / 1e9 }),
            ("obs_dropped_bytes_total", "Bytes of segment files dropped past the retention or for room on the disk.", { Double($0.droppedBytes) }),
        ]
        for (name, help, value) in counts {
            SelfMetrics.counter(name, help: help, labels: Labels([("signal", signal.rawValue)])) {
                store.status().signals.first { $0.signal == signal }.map(value) ?? 0
            }
        }
    }

    private static func registerMergedRows(_ signal: Signal, _ store: any StoreAdministration) {
        let ways: [(String, @Sendable (StoreStatus.SignalStatus) -> Int64)] = [("copied", \.copiedRows), ("rewritten", { $0.mergedRows - $0.copiedRows })]
        for (how, value) in ways {
            SelfMetrics.counter(
                "obs_merge_rows_total", help: "Rows written by merges of events, in blocks that went over as they were or one by one.",
                labels: Labels([("how", how), ("signal", signal.rawValue)])
            ) { Double(store.status().signals.first { $0.signal == signal }.map(value) ?? 0) }
        }
    }

    private static func residentBytes() -> Double {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? (Double(fields[1]) ?? 0) * Double(sysconf(Int32(_SC_PAGESIZE))) : 0
    }

    private static func processorSeconds() -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }
}
