import ObsCore
import ObsEngine
import ObsStore

/// Sums of all samples, by reading them and by statistics.
func scanMetrics(_ engine: StorageEngine) throws(ObsError) {
    let everything: ClosedRange<Int64> = .min ... .max
    var last = Int64.min
    let summaries = try engine.series([], range: everything, context: QueryContext(tenant: .default, limits: unbounded))
    while let series = try summaries.nextSummary([]) { last = max(last, series.samples.lastMillis) }
    guard last > .min else { return print("no samples") }
    try time("all samples decoded") { () throws(ObsError) in
        let set = try engine.series([], range: everything, context: QueryContext(tenant: .default, limits: unbounded))
        var (series, samples, sum) = (0, 0, 0.0)
        while let next = try set.next() {
            series += 1
            samples += next.values.count
            for value in next.values { sum += value }
        }
        return "\(series) series, \(samples) samples, sum \(sum)"
    }
    for (name, range) in [("all", everything), ("all but the last 10 min", .min...(last - 600_000)), ("last 25 min", (last - 1_500_000)...last)]
        as [(String, ClosedRange<Int64>)]
    {
        for (asked, parts) in [("counts", []), ("sums", .values), ("increases", .all)] as [(String, SummaryParts)] {
            try time("\(name), \(asked)") { () throws(ObsError) in
                let context = QueryContext(tenant: .default, limits: unbounded)
                let set = try engine.series([], range: range, context: context)
                var summary = SampleSummary()
                var (series, count, sum) = (0, 0, 0.0)
                while let next = try set.nextSummary(parts) {
                    series += 1
                    count += next.samples.count
                    sum += next.samples.total
                    summary.resets += next.samples.resets
                }
                return "\(series) series, \(count) samples, sum \(sum), \(summary.resets) resets, \(context.statistics.samples) samples read"
            }
        }
    }
    try time("labels of all series") { () throws(ObsError) in
        "\(try engine.labelSets(.metrics, [], range: everything, context: QueryContext(tenant: .default, limits: unbounded)).count) label sets"
    }
}

let unbounded: Limits = {
    var limits = Limits()
    limits.querySamplesMax = .max
    limits.querySeriesMax = .max
    limits.queryBytesMax = .max
    return limits
}()
