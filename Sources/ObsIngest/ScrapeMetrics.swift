internal import ObsCore
internal import Synchronization

/// What the scrape manager tells of itself at `/metrics`.
final class ScrapeMetrics: Sendable {
    private let good = ScrapeMetrics.outcome("ok")
    private let failed = ScrapeMetrics.outcome("failed")
    /// Ticks left out because the scrape before still ran.
    let skipped = ScrapeMetrics.outcome("skipped")
    private let limited = SelfMetrics.counter("obs_scrape_limit_exceeded_total", help: "Scrapes that failed because a limit of their job was passed.")
    let targetLimit = SelfMetrics.counter("obs_scrape_target_limit_exceeded_total", help: "Times a job had more targets than its target_limit.")
    private let duplicates = ScrapeMetrics.dropped("duplicate")
    private let tooFarAhead = ScrapeMetrics.dropped("too_far_ahead")
    private let lateMillis = Atomic<Int>(0)
    private let lateMillisMax = Atomic<Int>(0)

    init() {
        SelfMetrics.counter("obs_scrape_lateness_seconds_total", help: "How late scrapes began, all together.") { [self] in
            Double(lateMillis.load(ordering: .relaxed)) / 1000
        }
        SelfMetrics.gauge("obs_scrape_lateness_seconds_max", help: "How late a scrape began at most.") { [self] in
            Double(lateMillisMax.load(ordering: .relaxed)) / 1000
        }
    }

    private static func outcome(_ name: String) -> SelfMetrics.Counter {
        SelfMetrics.counter("obs_scrapes_total", help: "Scrapes by their outcome.", labels: Labels([("outcome", name)]))
    }

    private static func dropped(_ reason: String) -> SelfMetrics.Counter {
        SelfMetrics.counter("obs_scrape_samples_dropped_total", help: "Scraped samples that were left out.", labels: Labels([("reason", reason)]))
    }

    func began(lateMillis late: Int64) {
        lateMillis.wrappingAdd(Int(late), ordering: .relaxed)
        lateMillisMax.max(Int(late), ordering: .relaxed)
    }

    func ended(_ failure: ObsError?, dropped: (duplicates: Int, tooFarAhead: Int)) {
        (failure == nil ? good : failed).add()
        if failure?.code == .limitExceeded { limited.add() }
        duplicates.add(dropped.duplicates)
        tooFarAhead.add(dropped.tooFarAhead)
    }
}
