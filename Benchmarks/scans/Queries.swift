import ObsCore
import ObsEngine
import ObsPromQL
import ObsStore

/// PromQL over a folder of its own making: an hour of 500 hosts, scraped each 15 s, with 64 series of processor time and 12 buckets of a histogram each. An empty folder
/// is filled first.
func askPromQL(_ engine: StorageEngine) throws(ObsError) {
    let end: Int64 = 1_700_003_600_000
    let start = end - 3_600_000
    if try engine.labelSets(.metrics, [], range: .min ... .max, limit: 1, context: QueryContext(tenant: .default)).isEmpty { try fill(engine, from: start) }
    let promQL = PromQLEngine(reader: engine, threads: 1)
    let cpu = "sum by (mode) (rate(node_cpu_seconds_total[5m]))"
    let latency = "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))"
    for query in [
        "node_cpu_seconds_total{instance=\"host7\", cpu=\"1\", mode=\"user\"}", cpu, latency, "count({__name__=~\".+\"})",
        "count by (__name__) ({__name__=~\".+\"})",
        "sum(count_over_time({__name__=~\".+\"}[25m]))", "sum(sum_over_time({__name__=~\".+\"}[1h]))", "sum(rate({__name__=~\".+\"}[1h]))",
    ] {
        try time("instant \(query)") { () throws(ObsError) in
            let context = QueryContext(tenant: .default, limits: unbounded)
            return shown(try promQL.instant(query, atMillis: end, context: context), context)
        }
    }
    for query in [
        "node_cpu_seconds_total{instance=\"host7\", cpu=\"1\", mode=\"user\"}", cpu, latency, "sum(node_cpu_seconds_total)",
        "topk(5, sum by (instance) (rate(node_cpu_seconds_total{mode=\"user\"}[5m])))",
        "max(quantile_over_time(0.9, node_cpu_seconds_total{mode=\"user\"}[5m]))",
        "node_cpu_seconds_total{mode=\"user\", cpu=\"1\"} / on (instance) node_cpu_seconds_total{mode=\"idle\", cpu=\"1\"}",
    ] {
        try time("range of 240 steps \(query)") { () throws(ObsError) in
            let context = QueryContext(tenant: .default, limits: unbounded)
            return shown(try promQL.range(query, startMillis: start, endMillis: end, stepMillis: 15_000, context: context), context)
        }
    }
}

private func shown(_ result: PromQLResult, _ context: QueryContext) -> String {
    let samples = "\(context.statistics.samples) samples read"
    switch result.value {
    case .vector(let vector): return "\(vector.count) samples, first \(vector.first?.value ?? .nan), \(samples)"
    case .matrix(let series): return "\(series.count) series, first ends with \(series.first?.values.last ?? .nan), \(samples)"
    case .scalar, .string: return samples
    }
}

private func fill(_ engine: StorageEngine, from start: Int64) throws(ObsError) {
    let modes = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"]
    let bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
    for host in 0..<500 {
        var batch = MetricBatch()
        var seed = UInt64(host) &* 0x9e37_79b9_7f4a_7c15 | 1
        func random() -> Double {
            seed ^= seed << 13
            seed ^= seed >> 7
            seed ^= seed << 17
            return Double(seed >> 40) / Double(1 << 24)
        }
        func add(_ labels: [(name: String, value: String)], step: () -> Double) {
            let first = batch.timesMillis.count
            var value = 0.0
            for scrape in 0..<240 {
                value += step()
                batch.timesMillis.append(start + Int64(scrape + 1) * 15_000 + Int64(host % 15) * 7 - 15_000)
                batch.values.append((value * 100).rounded() / 100)
            }
            let bytes = Labels(labels + [("instance", "host\(host)"), ("job", "node")]).bytes
            batch.series.append(.init(labels: batch.bytes.intern(bytes), firstSample: UInt32(first), sampleCount: 240))
        }
        for cpu in 0..<8 {
            for mode in modes { add([("__name__", "node_cpu_seconds_total"), ("cpu", "\(cpu)"), ("mode", mode)]) { random() * 4 } }
        }
        for (index, bound) in bounds.enumerated() {
            add([("__name__", "latency_seconds_bucket"), ("le", bound)]) { Double(index + 1) + (random() * 3).rounded(.down) }
        }
        _ = try engine.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }
    try engine.flush()
}
